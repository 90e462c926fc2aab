//! The cell that a future and its promise share, and every move that it can make.
//!
//! ```text
//!            start             settle            publish
//!  PENDING ────────► RUNNING ────────► SETTLING ────────► DONE
//!     │  ▲              │                  ▲
//!     │  └──────────────┘ put back         │
//!     └────────────────────────────────────┘
//!                withdraw, settle
//! ```
//!
//! What another process has run arrives as bytes, by whichever thread finds them. They become a value
//! on the first thread that looks at this very future:
//!
//! ```text
//!                  arrive             look            publish
//!  PENDING, RUNNING ────► ARRIVED ──────► OPENING ─────────► DONE
//!                                           └► SETTLING ─────┘
//! ```
//! It is SETTLING where there are callbacks. What arrives as the outcome itself, an error say, is laid down
//! at once, and the cell is DONE; or, where there are callbacks, LAID, and published by who looks.
//!
//! Whoever makes the move into SETTLING owns the outcome until it publishes; from then on the
//! future's handle owns it. Nothing here calls user code: callbacks and wakers are handed to the
//! caller, to be run off the lock.

use std::task::Waker;
use std::time::Instant;

use crate::error::Error;
use crate::sync::{
    Condvar, Mutex, MutexGuard, ThreadToken, UnsafeCell, lock, mark_of_thread, sleep,
};

/// What a task came to.
pub(crate) type Outcome<T> = Result<T, Error>;

/// Run once the outcome is there, before the future is done for anyone else.
pub(crate) type Callback<T> = Box<dyn FnOnce(Result<&T, &Error>) + Send>;

/// What came of a task in another process, as it arrives.
pub(crate) enum Delivery<T> {
    /// What becomes the value, or the error that it cannot, once somebody looks.
    Encoded,
    /// The outcome itself.
    Outcome(Outcome<T>, Ending),
}

/// Run once the outcome is there. Ours, never a user's.
pub(crate) type Watcher = Box<dyn FnOnce() + Send>;

/// The shared cell of one task.
pub(crate) struct FutureState<T> {
    /// Where the task stands, and who wants to hear of it.
    inner: Mutex<Inner<T>>,
    /// Notified when the phase becomes `Done`.
    done: Condvar,
    /// The outcome. Written and read by the settler while SETTLING, afterwards by the one
    /// `Future` handle alone; `None` before, and once the handle has taken the value.
    outcome: UnsafeCell<Option<Outcome<T>>>,
}

// SAFETY: `outcome` is the one field that is not Sync by itself. It is reached by one thread at a
// time as its documentation says (the lock orders settler before handle), or by shared reference
// through a `Future` that is Sync only if `T: Send + Sync`; so the value is only moved between
// threads.
unsafe impl<T: Send> Sync for FutureState<T> {}

/// What the lock guards.
struct Inner<T> {
    /// Where the task stands.
    phase: Phase,
    /// Who opens or settles it, while it is OPENING or SETTLING.
    by: Option<ThreadToken>,
    /// Who wants to hear; `None`: nobody.
    listeners: Option<Box<Listeners<T>>>,
    /// How many threads sleep until it is done: without any, nobody is notified, which costs a
    /// system call.
    sleepers: u32,
}

/// Who wants to hear what comes of a task.
struct Listeners<T> {
    /// To be run by the settler, in this order.
    callbacks: Vec<Callback<T>>,
    /// To be run after publishing, each under the key that removes it.
    watchers: Vec<(WatchKey, Watcher)>,
    /// The async task that polls the future.
    waker: Option<Waker>,
}

/// Where a task stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Accepted, and not begun.
    Pending,
    /// A worker has begun it.
    Running,
    /// Something is there that becomes its value, and nobody has looked at it.
    Received,
    /// Its outcome is there, and its callbacks wait for somebody to look at it.
    Ready(Ending),
    /// Somebody looks at it: it becomes a value, on a thread.
    Opening(Ending),
    /// The outcome is there and its callbacks run, on a thread.
    Settling(Ending),
    /// The outcome is the handle's.
    Done(Ending),
}

/// How a task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a value or an error.
    Finished,
    /// Cancelled before it began: it never ran and never will.
    Withdrawn,
    /// Cancelled while it ran, by killing its worker.
    Killed,
}

/// Names one watcher of one cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WatchKey(usize);

/// Possession proves that the cell is SETTLING and that this is its settler.
#[must_use = "a cell that is never published hangs its waiters"]
pub(crate) struct Settling<'a, T> {
    /// The cell.
    cell: &'a FutureState<T>,
    /// Whether it had no callbacks when it was made.
    has_no_callbacks: bool,
}

/// Possession proves that the cell is OPENING, that this is who opens it, and that the outcome is
/// still to be laid down.
#[must_use = "a cell that is never published hangs its waiters"]
pub(crate) struct Opened<'a, T> {
    /// The cell.
    cell: &'a FutureState<T>,
    /// Whether it had no callbacks when it was opened.
    has_no_callbacks: bool,
}

/// The answer to [`FutureState::look`].
#[must_use]
pub(crate) enum Look<'a, T> {
    /// There is nothing to be done about it, and a wait would end like this, or not.
    Stands(Option<WaitEnd>),
    /// The caller is the one who turns what has arrived into the outcome.
    Open(Opened<'a, T>),
    /// The caller is the one who publishes the outcome that has arrived.
    Publish(Settling<'a, T>),
}

/// The answer to [`FutureState::arrive`].
#[must_use]
pub(crate) struct Arrived {
    /// Who is to hear that there is something to look at.
    pub(crate) wakeups: Wakeups,
    /// Whether callbacks wait for somebody to look.
    pub(crate) has_callbacks: bool,
}

/// The answer to [`FutureState::start`].
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The caller runs the task.
    Begun,
    /// It was cancelled: leave it.
    Cancelled,
}

/// The answer to [`FutureState::withdraw`].
#[must_use]
pub(crate) enum Withdraw<'a, T> {
    /// The caller has cancelled it, and settles it.
    Yours(Settling<'a, T>),
    /// It had been cancelled before it began.
    Already,
    /// It runs, or has ended otherwise.
    TooLate,
}

/// The answer to [`Settling::publish`].
#[must_use]
pub(crate) enum Publish<'a, T> {
    /// Done; these are to be called now.
    Done(Wakeups),
    /// Callbacks were registered meanwhile: run them and publish again.
    More(Settling<'a, T>, Vec<Callback<T>>),
}

/// Who is to hear that a future is done.
#[must_use]
pub(crate) struct Wakeups {
    /// Waiters over many futures.
    watchers: Vec<(WatchKey, Watcher)>,
    /// The async task.
    waker: Option<Waker>,
}

/// The answer to a wait.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The future is done.
    Done,
    /// The limit passed first.
    TimedOut,
    /// The calling thread runs this future's callbacks: it would wait for itself.
    Deadlock,
    /// The outcome is there, to be opened by whoever looks.
    Arrived,
}

/// The answer to a registration.
#[must_use]
pub(crate) enum Register<R> {
    /// It will be called.
    Registered,
    /// The future is done already: here it is back.
    Done(R),
    /// The outcome is there, to be opened first: here it is back.
    Arrived(R),
}

impl<T> FutureState<T> {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                phase: Phase::Pending,
                by: None,
                listeners: None,
                sleepers: 0,
            }),
            done: Condvar::new(),
            outcome: UnsafeCell::new(None),
        }
    }

    // ---- moves -----------------------------------------------------------------------------

    /// PENDING → RUNNING.
    pub(crate) fn start(&self) -> Start {
        let mut inner = lock(&self.inner);
        match inner.phase {
            Phase::Pending => {
                inner.phase = Phase::Running;
                Start::Begun
            }
            _ => Start::Cancelled,
        }
    }

    /// RUNNING → PENDING: the worker that had begun it was lost before the task was touched.
    pub(crate) fn put_back(&self) {
        let mut inner = lock(&self.inner);
        if inner.phase == Phase::Running {
            inner.phase = Phase::Pending;
        }
    }

    /// PENDING → SETTLING, as cancelled.
    pub(crate) fn withdraw(&self) -> Withdraw<'_, T> {
        let mut inner = lock(&self.inner);
        match inner.phase {
            Phase::Pending => {
                inner.take_over(Phase::Settling(Ending::Withdrawn));
                let has_no_callbacks = inner.has_no_callbacks();
                drop(inner);
                Withdraw::Yours(self.settling(Err(Error::Cancelled), has_no_callbacks))
            }
            Phase::Settling(Ending::Withdrawn) | Phase::Done(Ending::Withdrawn) => {
                Withdraw::Already
            }
            _ => Withdraw::TooLate,
        }
    }

    /// PENDING or RUNNING → SETTLING, with the outcome.
    ///
    /// # Errors
    /// The outcome back, if the cell was settled before.
    pub(crate) fn settle(
        &self,
        outcome: Outcome<T>,
        ending: Ending,
    ) -> Result<Settling<'_, T>, Outcome<T>> {
        let mut inner = lock(&self.inner);
        match inner.phase {
            Phase::Pending | Phase::Running => {
                inner.take_over(Phase::Settling(ending));
                let has_no_callbacks = inner.has_no_callbacks();
                drop(inner);
                Ok(self.settling(outcome, has_no_callbacks))
            }
            Phase::Received
            | Phase::Ready(_)
            | Phase::Opening(_)
            | Phase::Settling(_)
            | Phase::Done(_) => Err(outcome),
        }
    }

    /// PENDING or RUNNING → ARRIVED, LAID or DONE; `None`: it was settled before.
    pub(crate) fn arrive(&self, delivery: Delivery<T>) -> Option<Arrived> {
        let mut inner = lock(&self.inner);
        let (Phase::Pending | Phase::Running) = inner.phase else {
            drop(inner);
            return None;
        };
        inner.phase = match delivery {
            Delivery::Encoded => Phase::Received,
            Delivery::Outcome(outcome, ending) => {
                self.lay_down(outcome);
                match inner.has_no_callbacks() {
                    true => Phase::Done(ending),
                    false => Phase::Ready(ending),
                }
            }
        };
        let arrived = Arrived {
            wakeups: inner.wakeups(),
            has_callbacks: !inner.has_no_callbacks(),
        };
        self.notify(inner);
        Some(arrived)
    }

    /// Lays down the outcome; the caller is about to make the move out of PENDING or RUNNING, under the
    /// lock.
    fn lay_down(&self, outcome: Outcome<T>) {
        self.outcome.with_mut(|place| {
            // SAFETY: until it has arrived nobody reads or writes the outcome, and the lock, which is
            // held, keeps all others from moving the cell.
            unsafe { *place = Some(outcome) };
        });
    }

    /// ARRIVED → OPENING, to the one who is first; to all others, how it stands.
    pub(crate) fn look(&self) -> Look<'_, T> {
        let mut inner = lock(&self.inner);
        let has_no_callbacks = inner.has_no_callbacks();
        let cell = self;
        match inner.phase {
            Phase::Received => {
                inner.take_over(Phase::Opening(Ending::Finished));
                Look::Open(Opened {
                    cell,
                    has_no_callbacks,
                })
            }
            Phase::Ready(ending) => {
                inner.take_over(Phase::Opening(ending));
                Look::Publish(Settling {
                    cell,
                    has_no_callbacks,
                })
            }
            _ => Look::Stands(inner.end_of_wait()),
        }
    }

    /// Lays the outcome down; the caller has just made the move into SETTLING.
    fn settling(&self, outcome: Outcome<T>, has_no_callbacks: bool) -> Settling<'_, T> {
        self.outcome.with_mut(|place| {
            // SAFETY: the move into SETTLING is made once and by the caller, so nobody else reads
            // or writes the outcome until it publishes.
            unsafe { *place = Some(outcome) };
        });
        let cell = self;
        Settling {
            cell,
            has_no_callbacks,
        }
    }

    // ---- looks -----------------------------------------------------------------------------

    pub(crate) fn is_running(&self) -> bool {
        lock(&self.inner).phase == Phase::Running
    }

    /// Whether no outcome is there.
    pub(crate) fn is_open(&self) -> bool {
        matches!(lock(&self.inner).phase, Phase::Pending | Phase::Running)
    }

    /// Whether somebody is to hear when it is done.
    pub(crate) fn has_listeners(&self) -> bool {
        lock(&self.inner).has_listeners()
    }

    /// Whether there are callbacks to run when it is done.
    pub(crate) fn has_callbacks(&self) -> bool {
        !lock(&self.inner).has_no_callbacks()
    }

    /// Whether a wait would end now, and how.
    pub(crate) fn end_of_wait(&self) -> Option<WaitEnd> {
        lock(&self.inner).end_of_wait()
    }

    /// How it ended; `None` while it has not. Waits while another thread opens it, which is about to
    /// end it.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let mut inner = lock(&self.inner);
        loop {
            match inner.phase {
                Phase::Done(ending) => return Some(ending),
                Phase::Opening(_) if !inner.is_mine() => inner = self.sleep(inner),
                _ => return None,
            }
        }
    }

    /// The outcome.
    ///
    /// # Safety
    /// The cell is done, and the caller is the future's handle, by a shared borrow of which it is
    /// lent out.
    pub(crate) unsafe fn outcome(&self) -> &Option<Outcome<T>> {
        // SAFETY: the settler wrote before it published, which the lock orders; nobody but the
        // handle, borrowed here, writes afterwards.
        self.outcome.with(|place| unsafe { &*place })
    }

    /// The outcome's place.
    ///
    /// # Safety
    /// As `outcome`, by an exclusive borrow.
    #[allow(
        clippy::mut_from_ref,
        reason = "the borrow that counts is the handle's"
    )]
    pub(crate) unsafe fn outcome_mut(&self) -> &mut Option<Outcome<T>> {
        // SAFETY: as `outcome`, and the handle lends to nobody else.
        self.outcome.with_mut(|place| unsafe { &mut *place })
    }

    // ---- waiting ---------------------------------------------------------------------------

    /// Blocks until the cell is done.
    pub(crate) fn wait(&self) -> WaitEnd {
        let mut inner = lock(&self.inner);
        loop {
            if let Some(end) = inner.end_of_wait() {
                return end;
            }
            inner = self.sleep(inner);
        }
    }

    fn sleep<'a>(&self, mut inner: MutexGuard<'a, Inner<T>>) -> MutexGuard<'a, Inner<T>> {
        inner.sleepers += 1;
        inner = sleep(&self.done, inner);
        inner.sleepers -= 1;
        inner
    }

    /// Wakes those that sleep, off the lock.
    fn notify(&self, inner: MutexGuard<'_, Inner<T>>) {
        let any = inner.sleepers > 0;
        drop(inner);
        if any {
            self.done.notify_all();
        }
    }

    /// Blocks until the cell is done or the deadline has passed.
    pub(crate) fn wait_until(&self, deadline: Instant) -> WaitEnd {
        let mut inner = lock(&self.inner);
        loop {
            if let Some(end) = inner.end_of_wait() {
                return end;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return WaitEnd::TimedOut;
            }
            inner.sleepers += 1;
            inner = match self.done.wait_timeout(inner, left) {
                Ok((inner, _)) => inner,
                Err(poisoned) => poisoned.into_inner().0,
            };
            inner.sleepers -= 1;
        }
    }

    // ---- hooks -----------------------------------------------------------------------------

    /// Adds a callback; back it comes where the cell is done already.
    pub(crate) fn add_callback(&self, callback: Callback<T>) -> Register<Callback<T>> {
        let mut inner = lock(&self.inner);
        match inner.phase {
            Phase::Done(_) => Register::Done(callback),
            Phase::Received | Phase::Ready(_) => Register::Arrived(callback),
            _ => {
                inner.listeners().callbacks.push(callback);
                Register::Registered
            }
        }
    }

    /// Adds a watcher under a key that is unique among those that watch.
    pub(crate) fn watch(&self, key: WatchKey, watcher: Watcher) -> Register<()> {
        let mut inner = lock(&self.inner);
        match inner.phase {
            Phase::Done(_) => Register::Done(()),
            Phase::Received | Phase::Ready(_) => Register::Arrived(()),
            _ => {
                inner.listeners().watchers.push((key, watcher));
                Register::Registered
            }
        }
    }

    /// Removes the watchers of a key.
    pub(crate) fn unwatch(&self, key: WatchKey) {
        if let Some(listeners) = &mut lock(&self.inner).listeners {
            listeners.watchers.retain(|(other, _)| *other != key);
        }
    }

    /// Makes `waker` the one that is woken.
    pub(crate) fn set_waker(&self, waker: &Waker) -> Register<()> {
        let inner = lock(&self.inner);
        if let Some(over) = inner.end_of_polls() {
            return over;
        }
        let current = inner
            .listeners
            .as_ref()
            .and_then(|listeners| listeners.waker.as_ref());
        if current.is_some_and(|current| current.will_wake(waker)) {
            return Register::Registered;
        }
        // A waker's clone and drop are foreign code: neither runs under the lock.
        drop(inner);
        let fresh = waker.clone();
        let mut inner = lock(&self.inner);
        if let Some(over) = inner.end_of_polls() {
            return over;
        }
        let stale = inner.listeners().waker.replace(fresh);
        drop(inner);
        drop(stale);
        Register::Registered
    }
}

impl<T> Inner<T> {
    /// The calling thread opens or settles it from now on.
    fn take_over(&mut self, phase: Phase) {
        self.phase = phase;
        self.by = Some(mark_of_thread());
    }

    /// Whether it is the calling thread that opens or settles it.
    fn is_mine(&self) -> bool {
        self.by == Some(mark_of_thread())
    }

    /// What a waiter is told now, if its wait is over.
    fn end_of_wait(&self) -> Option<WaitEnd> {
        match self.phase {
            Phase::Done(_) => Some(WaitEnd::Done),
            Phase::Received | Phase::Ready(_) => Some(WaitEnd::Arrived),
            Phase::Opening(_) | Phase::Settling(_) if self.is_mine() => Some(WaitEnd::Deadlock),
            _ => None,
        }
    }

    /// What an async task is told now, if it need not be woken any more.
    fn end_of_polls(&self) -> Option<Register<()>> {
        match self.phase {
            Phase::Done(_) => Some(Register::Done(())),
            Phase::Received | Phase::Ready(_) => Some(Register::Arrived(())),
            _ => None,
        }
    }

    /// Where those stand who want to hear.
    fn listeners(&mut self) -> &mut Listeners<T> {
        self.listeners.get_or_insert_with(|| {
            Box::new(Listeners {
                callbacks: Vec::new(),
                watchers: Vec::new(),
                waker: None,
            })
        })
    }

    /// Whether somebody wants to hear.
    fn has_listeners(&self) -> bool {
        self.listeners.as_ref().is_some_and(|listeners| {
            !listeners.callbacks.is_empty()
                || !listeners.watchers.is_empty()
                || listeners.waker.is_some()
        })
    }

    /// Whether there are no callbacks.
    fn has_no_callbacks(&self) -> bool {
        let listeners = self.listeners.as_ref();
        listeners.is_none_or(|listeners| listeners.callbacks.is_empty())
    }

    /// Those who are to hear of the outcome.
    fn wakeups(&mut self) -> Wakeups {
        let Some(listeners) = &mut self.listeners else {
            return Wakeups::none();
        };
        Wakeups {
            watchers: std::mem::take(&mut listeners.watchers),
            waker: listeners.waker.take(),
        }
    }
}

impl<'a, T> Opened<'a, T> {
    /// Lays the outcome down.
    pub(crate) fn lay_down(self, outcome: Outcome<T>) -> Settling<'a, T> {
        self.cell.settling(outcome, self.has_no_callbacks)
    }
}

impl<'a, T> Settling<'a, T> {
    /// The outcome, as callbacks see it.
    pub(crate) fn outcome(&self) -> Result<&T, &Error> {
        // SAFETY: while SETTLING only the settler, whose proof is `self`, reaches the outcome, and
        // it no longer writes.
        let outcome = self.cell.outcome.with(|place| unsafe { &*place });
        match outcome {
            Some(outcome) => outcome.as_ref(),
            None => unreachable!("a Settling is made after its outcome was laid down"),
        }
    }

    /// SETTLING → DONE, unless there are callbacks to run first.
    pub(crate) fn publish(self) -> Publish<'a, T> {
        let mut inner = lock(&self.cell.inner);
        if !inner.has_no_callbacks() {
            let callbacks = self.cell.begin_callbacks(&mut inner);
            drop(inner);
            return Publish::More(self, callbacks);
        }
        let ending = match inner.phase {
            Phase::Settling(ending) | Phase::Opening(ending) => ending,
            _ => unreachable!("only the settler leaves SETTLING, by this move"),
        };
        inner.phase = Phase::Done(ending);
        let wakeups = inner.wakeups();
        self.cell.notify(inner);
        Publish::Done(wakeups)
    }

    /// Whether it had no callbacks when it was made.
    pub(crate) fn has_no_callbacks(&self) -> bool {
        self.has_no_callbacks
    }

    /// The callbacks registered so far.
    pub(crate) fn take_callbacks(&self) -> Vec<Callback<T>> {
        self.cell.begin_callbacks(&mut lock(&self.cell.inner))
    }
}

impl<T> FutureState<T> {
    /// OPENING → SETTLING, if there are callbacks: who asks meanwhile is told that it is not done,
    /// rather than kept waiting.
    fn begin_callbacks(&self, inner: &mut Inner<T>) -> Vec<Callback<T>> {
        let Some(listeners) = &mut inner.listeners else {
            return Vec::new();
        };
        let callbacks = std::mem::take(&mut listeners.callbacks);
        if let (Phase::Opening(ending), false) = (inner.phase, callbacks.is_empty()) {
            inner.phase = Phase::Settling(ending);
            self.done.notify_all();
        }
        callbacks
    }
}

impl Wakeups {
    /// Nobody.
    pub(crate) const fn none() -> Self {
        Self {
            watchers: Vec::new(),
            waker: None,
        }
    }

    /// Whether that is nobody.
    pub(crate) fn is_none(&self) -> bool {
        self.watchers.is_empty() && self.waker.is_none()
    }

    /// Tells them.
    pub(crate) fn deliver(self) {
        if let Some(waker) = self.deliver_to_watchers() {
            waker.wake();
        }
    }

    /// Tells those that are ours; the waker, which runs foreign code, is the caller's to wake.
    pub(crate) fn deliver_to_watchers(self) -> Option<Waker> {
        for (_, watcher) in self.watchers {
            watcher();
        }
        self.waker
    }
}

impl WatchKey {
    /// A key that no other live watch has.
    pub(crate) fn fresh() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        // ORDERING: Relaxed; only the uniqueness of the number matters.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
