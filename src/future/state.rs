//! The shared state of a future and its promise, and all transitions of it.
//!
//! ```text
//!            start             settle            publish
//!  Pending ────────► Running ────────► Settling ────────► Done
//!     │  ▲              │                  ▲
//!     │  └──────────────┘ put back         │
//!     └────────────────────────────────────┘
//!                withdraw, settle
//! ```
//!
//! A result from another process arrives as bytes, stored by whichever thread receives them. The first thread
//! that inspects this very future (the result, a wait, a poll) decodes them to a value:
//!
//! ```text
//!                  arrive              look            publish
//!  Pending, Running ────► Received ─────► Decoding ─────────► Done
//!                                            └► Settling ─────┘
//! ```
//! With callbacks the state is `Settling` while they run. An outcome that needs no decoding, such as an
//! error, is stored at once: the state becomes `Done`, or `Ready` if callbacks are registered, in which case
//! the next thread that inspects the future runs them and publishes.
//!
//! The thread that makes the transition into `Settling` (the settler) owns the outcome until it publishes;
//! from then on the `Future` handle owns it. No user code is called here: callbacks and wakers are handed to
//! the caller, which runs them without the lock.

use std::task::Waker;

use crate::error::Error;
use crate::sync::deadline::Deadline;
use crate::sync::{
    Condvar, Mutex, MutexGuard, ThreadToken, UnsafeCell, lock, mark_of_thread, sleep_until,
};

/// The result of a task: its value, or the error that it ended with.
pub(crate) type Outcome<T> = Result<T, Error>;

/// A user's callback; run once the outcome is there, before the future is done for any other thread.
pub(crate) type Callback<T> = Box<dyn FnOnce(Result<&T, &Error>) + Send>;

/// What came of a task in another process, as it is received.
pub(crate) enum Delivery<T> {
    /// An encoded result: the first thread that inspects the future decodes it to the value, or to the error
    /// that it cannot be decoded.
    Encoded,
    /// The outcome itself, which needs no decoding, and how the task ended.
    Outcome(Outcome<T>, Ending),
}

/// Run once the outcome is there. Always code of this crate, never a user's.
pub(crate) type Watcher = Box<dyn FnOnce() + Send>;

/// The state that a future and its promise share; one for each task.
pub(crate) struct FutureState<T> {
    /// The phase of the task, and its listeners.
    inner: Mutex<Inner<T>>,
    /// Notified when the phase becomes `Done`, when an outcome arrives, and when callbacks begin during
    /// `Decoding`.
    done: Condvar,
    /// The outcome. `None` before there is one, and once the handle has taken the value. Written and read by
    /// the settler during `Settling` (or stored under the lock as it arrives), afterwards only by the one
    /// `Future` handle.
    outcome: UnsafeCell<Option<Outcome<T>>>,
}

// SAFETY: `outcome` is the one field that is not Sync by itself. One thread at a time reaches it, as its
// documentation says (the lock orders the settler before the handle), or threads reach it by shared reference
// through a `Future`, which is Sync only if `T: Send + Sync`. So the value is only moved between threads.
unsafe impl<T: Send> Sync for FutureState<T> {}

/// The fields that the lock guards.
struct Inner<T> {
    /// Where the task is in its life.
    phase: Phase,
    /// The thread that decodes or settles it, during `Decoding` or `Settling`.
    by: Option<ThreadToken>,
    /// Callbacks, watchers and waker; `None`: nothing was registered.
    listeners: Option<Box<Listeners<T>>>,
    /// The number of threads that sleep until the state is done. If it is 0, the condition variable is not
    /// notified, which saves a system call.
    sleepers: u32,
}

/// What is to be called when there is an outcome.
struct Listeners<T> {
    /// Users' callbacks, run by the settler in this order.
    callbacks: Vec<Callback<T>>,
    /// Watchers, run after publishing or as the outcome arrives, each under the key that removes it.
    watchers: Vec<(WatchKey, Watcher)>,
    /// The waker of the async task that polls the future; `None`: it is not polled.
    waker: Option<Waker>,
}

/// Where a task is in its life.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Accepted, and not begun.
    Pending,
    /// A worker has begun it.
    Running,
    /// A result has been received, and no thread has inspected the future: the first one decodes the result.
    Received,
    /// The outcome is stored, and callbacks wait for the first thread that inspects the future, which runs
    /// them.
    Ready(Ending),
    /// A thread (`Inner::by`) decodes the result, or is about to publish the outcome of `Ready`.
    Decoding(Ending),
    /// The outcome is stored, and a thread (`Inner::by`) runs the callbacks.
    Settling(Ending),
    /// The outcome belongs to the `Future` handle.
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

/// The key of a watch, by which its watchers are removed; unique among all watches of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WatchKey(usize);

/// Proof that the phase is `Settling` or `Decoding`, that the holder is the settler, and that the outcome is
/// stored.
#[must_use = "a cell that is never published hangs its waiters"]
pub(crate) struct Settling<'a, T> {
    /// The state that is being settled.
    cell: &'a FutureState<T>,
    /// Whether no callbacks were registered when this was made.
    has_no_callbacks: bool,
}

/// Proof that the phase is `Decoding`, that the holder is the thread that decodes the result, and that the
/// outcome is still to be stored.
#[must_use = "a cell that is never published hangs its waiters"]
pub(crate) struct Opened<'a, T> {
    /// The state that is being opened.
    cell: &'a FutureState<T>,
    /// Whether no callbacks were registered when it was opened.
    has_no_callbacks: bool,
}

/// The answer to [`FutureState::look`].
#[must_use]
pub(crate) enum Look<'a, T> {
    /// The caller has nothing to do. How a wait would end now; `None`: it would go on.
    Stands(Option<WaitEnd>),
    /// The caller decodes what has been received into the outcome.
    Open(Opened<'a, T>),
    /// The caller publishes the outcome that is stored.
    Publish(Settling<'a, T>),
}

/// The answer to [`FutureState::arrive`].
#[must_use]
pub(crate) struct Arrived {
    /// The listeners to notify that the future can be inspected.
    pub(crate) wakeups: Wakeups,
    /// Whether callbacks wait for a thread to inspect the future.
    pub(crate) has_callbacks: bool,
}

/// The answer to [`FutureState::start`].
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The caller runs the task.
    Begun,
    /// The task is not to be run: it was cancelled, or has an outcome.
    Cancelled,
}

/// The answer to [`FutureState::withdraw`].
#[must_use]
pub(crate) enum Withdraw<'a, T> {
    /// The caller has cancelled the task, and settles it.
    Yours(Settling<'a, T>),
    /// It had been cancelled before it began.
    Already,
    /// It runs, or has ended in another way.
    TooLate,
}

/// The answer to [`Settling::publish`].
#[must_use]
pub(crate) enum Publish<'a, T> {
    /// The future is done; the caller delivers these.
    Done(Wakeups),
    /// Callbacks were registered meanwhile: the caller runs them and publishes again.
    More(Settling<'a, T>, Vec<Callback<T>>),
}

/// Watchers and waker, taken out to be called without the lock.
#[must_use]
pub(crate) struct Wakeups {
    /// Waits for one or many futures, each under its key.
    watchers: Vec<(WatchKey, Watcher)>,
    /// The waker of the async task that polls the future.
    waker: Option<Waker>,
}

/// How a wait for a future ends.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    /// The future is done.
    Done,
    /// The limit passed before the future was done.
    TimedOut,
    /// The calling thread decodes this future's result or runs its callbacks: it would wait for itself.
    Deadlock,
    /// The outcome is there; the first thread that inspects the future decodes or publishes it.
    Arrived,
}

/// The answer to the registration of a listener.
#[must_use]
pub(crate) enum Register<R> {
    /// The listener will be called.
    Registered,
    /// The future is done already: the listener is handed back.
    Done(R),
    /// An outcome is there, and the future is to be inspected first: the listener is handed back.
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

    // ---- transitions ------------------------------------------------------------------------

    /// Pending → Running.
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

    /// Running → Pending: the worker that had begun it was lost before the task was touched.
    pub(crate) fn put_back(&self) {
        let mut inner = lock(&self.inner);
        if inner.phase == Phase::Running {
            inner.phase = Phase::Pending;
        }
    }

    /// Pending → Settling, as cancelled.
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

    /// Pending or Running → Settling, with the outcome.
    ///
    /// # Errors
    /// The outcome is handed back if there was one before.
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
            | Phase::Decoding(_)
            | Phase::Settling(_)
            | Phase::Done(_) => Err(outcome),
        }
    }

    /// Pending or Running → Received, Ready or Done. `None`: there was an outcome before.
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

    /// Stores the outcome. The caller holds the lock, and is about to make the transition out of `Pending` or
    /// `Running`.
    fn lay_down(&self, outcome: Outcome<T>) {
        self.outcome.with_mut(|place| {
            // SAFETY: before the transition that makes the outcome available no thread reads or writes it,
            // and the lock, which is held, keeps all other threads from making a transition.
            unsafe { *place = Some(outcome) };
        });
    }

    /// Received or Ready → Decoding, for the first caller; all others learn how a wait would end now.
    pub(crate) fn look(&self) -> Look<'_, T> {
        let mut inner = lock(&self.inner);
        let has_no_callbacks = inner.has_no_callbacks();
        let cell = self;
        match inner.phase {
            Phase::Received => {
                inner.take_over(Phase::Decoding(Ending::Finished));
                Look::Open(Opened {
                    cell,
                    has_no_callbacks,
                })
            }
            Phase::Ready(ending) => {
                inner.take_over(Phase::Decoding(ending));
                Look::Publish(Settling {
                    cell,
                    has_no_callbacks,
                })
            }
            _ => Look::Stands(inner.end_of_wait()),
        }
    }

    /// Stores the outcome. The caller has just made the transition into `Settling`, or has opened the state.
    fn settling(&self, outcome: Outcome<T>, has_no_callbacks: bool) -> Settling<'_, T> {
        self.outcome.with_mut(|place| {
            // SAFETY: the transition into `Settling` or `Decoding` is made once and by the caller, so no other
            // thread reads or writes the outcome until the caller publishes.
            unsafe { *place = Some(outcome) };
        });
        let cell = self;
        Settling {
            cell,
            has_no_callbacks,
        }
    }

    // ---- queries ----------------------------------------------------------------------------

    pub(crate) fn is_running(&self) -> bool {
        lock(&self.inner).phase == Phase::Running
    }

    /// Whether there is no outcome yet, not even an encoded one.
    pub(crate) fn is_open(&self) -> bool {
        matches!(lock(&self.inner).phase, Phase::Pending | Phase::Running)
    }

    /// Whether a callback, watcher or waker is registered.
    pub(crate) fn has_listeners(&self) -> bool {
        lock(&self.inner).has_listeners()
    }

    /// Whether callbacks are registered that are still to run.
    pub(crate) fn has_callbacks(&self) -> bool {
        !lock(&self.inner).has_no_callbacks()
    }

    /// How a wait would end now; `None`: it would go on.
    pub(crate) fn end_of_wait(&self) -> Option<WaitEnd> {
        lock(&self.inner).end_of_wait()
    }

    /// How the task ended; `None` while it has not. Blocks while another thread decodes the result
    /// (`Decoding`), since that is about to end.
    pub(crate) fn ending(&self) -> Option<Ending> {
        let mut inner = lock(&self.inner);
        loop {
            match inner.phase {
                Phase::Done(ending) => return Some(ending),
                Phase::Decoding(_) if !inner.is_mine() => {
                    inner = self.sleep(inner, Deadline::never())
                }
                _ => return None,
            }
        }
    }

    /// The outcome; `None` once the value was taken.
    ///
    /// # Safety
    /// The state is done, and the caller is the future's handle, which lends the outcome out by a shared
    /// borrow of itself.
    pub(crate) unsafe fn outcome(&self) -> &Option<Outcome<T>> {
        // SAFETY: the settler, or `arrive`, wrote before the state was done, and the lock orders the write
        // before this read; afterwards only the handle writes, which is borrowed here.
        self.outcome.with(|place| unsafe { &*place })
    }

    /// The outcome, for writing.
    ///
    /// # Safety
    /// The state is done, and the caller is the future's handle, which lends the outcome out by an exclusive
    /// borrow of itself.
    #[allow(
        clippy::mut_from_ref,
        reason = "the borrow that counts is the handle's"
    )]
    pub(crate) unsafe fn outcome_mut(&self) -> &mut Option<Outcome<T>> {
        // SAFETY: as in `outcome`, and the handle lends the outcome to no other caller meanwhile.
        self.outcome.with_mut(|place| unsafe { &mut *place })
    }

    // ---- waiting ---------------------------------------------------------------------------

    /// Blocks until the future is done or can be inspected, or the deadline has passed.
    pub(crate) fn wait(&self, deadline: Deadline) -> WaitEnd {
        let mut inner = lock(&self.inner);
        loop {
            if let Some(end) = inner.end_of_wait() {
                return end;
            }
            if deadline.has_passed() {
                return WaitEnd::TimedOut;
            }
            inner = self.sleep(inner, deadline);
        }
    }

    fn sleep<'a>(
        &self,
        mut inner: MutexGuard<'a, Inner<T>>,
        deadline: Deadline,
    ) -> MutexGuard<'a, Inner<T>> {
        inner.sleepers += 1;
        inner = sleep_until(&self.done, inner, deadline);
        inner.sleepers -= 1;
        inner
    }

    /// Releases the lock, then wakes the threads that sleep, if there are any.
    fn notify(&self, inner: MutexGuard<'_, Inner<T>>) {
        let any = inner.sleepers > 0;
        drop(inner);
        if any {
            self.done.notify_all();
        }
    }

    // ---- listeners --------------------------------------------------------------------------

    /// Adds a callback; it is handed back if there is an outcome already.
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

    /// Adds a watcher. The caller's key is unique among all watches.
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

    /// Removes the watchers of this key.
    pub(crate) fn unwatch(&self, key: WatchKey) {
        if let Some(listeners) = &mut lock(&self.inner).listeners {
            listeners.watchers.retain(|(other, _)| *other != key);
        }
    }

    /// Makes `waker` the one waker that is woken, in place of an earlier one.
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
    /// Enters this phase, with the calling thread as the one that decodes or settles.
    fn take_over(&mut self, phase: Phase) {
        self.phase = phase;
        self.by = Some(mark_of_thread());
    }

    /// Whether the calling thread is the one that decodes or settles.
    fn is_mine(&self) -> bool {
        self.by == Some(mark_of_thread())
    }

    /// How a wait ends now; `None`: it goes on.
    fn end_of_wait(&self) -> Option<WaitEnd> {
        match self.phase {
            Phase::Done(_) => Some(WaitEnd::Done),
            Phase::Received | Phase::Ready(_) => Some(WaitEnd::Arrived),
            Phase::Decoding(_) | Phase::Settling(_) if self.is_mine() => Some(WaitEnd::Deadlock),
            _ => None,
        }
    }

    /// The answer to an async task that need not be woken any more; `None`: the task is to be woken.
    fn end_of_polls(&self) -> Option<Register<()>> {
        match self.phase {
            Phase::Done(_) => Some(Register::Done(())),
            Phase::Received | Phase::Ready(_) => Some(Register::Arrived(())),
            _ => None,
        }
    }

    /// The registered listeners, for adding to them.
    fn listeners(&mut self) -> &mut Listeners<T> {
        self.listeners.get_or_insert_with(|| {
            Box::new(Listeners {
                callbacks: Vec::new(),
                watchers: Vec::new(),
                waker: None,
            })
        })
    }

    /// Whether a callback, watcher or waker is registered.
    fn has_listeners(&self) -> bool {
        self.listeners.as_ref().is_some_and(|listeners| {
            !listeners.callbacks.is_empty()
                || !listeners.watchers.is_empty()
                || listeners.waker.is_some()
        })
    }

    /// Whether no callback is registered.
    fn has_no_callbacks(&self) -> bool {
        let listeners = self.listeners.as_ref();
        listeners.is_none_or(|listeners| listeners.callbacks.is_empty())
    }

    /// Takes out the watchers and the waker.
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
    /// Stores the decoded outcome; the state is then to be published.
    pub(crate) fn lay_down(self, outcome: Outcome<T>) -> Settling<'a, T> {
        self.cell.settling(outcome, self.has_no_callbacks)
    }
}

impl<'a, T> Settling<'a, T> {
    /// The outcome, as callbacks see it.
    pub(crate) fn outcome(&self) -> Result<&T, &Error> {
        // SAFETY: until it publishes, only the settler reaches the outcome, of which `self` is the proof, and
        // it no longer writes.
        let outcome = self.cell.outcome.with(|place| unsafe { &*place });
        match outcome {
            Some(outcome) => outcome.as_ref(),
            None => unreachable!("a Settling is made after its outcome was laid down"),
        }
    }

    /// Settling or Decoding → Done, unless there are callbacks to run first.
    pub(crate) fn publish(self) -> Publish<'a, T> {
        let mut inner = lock(&self.cell.inner);
        if !inner.has_no_callbacks() {
            let callbacks = self.cell.begin_callbacks(&mut inner);
            drop(inner);
            return Publish::More(self, callbacks);
        }
        let ending = match inner.phase {
            Phase::Settling(ending) | Phase::Decoding(ending) => ending,
            _ => unreachable!("only the settler leaves SETTLING, by this move"),
        };
        inner.phase = Phase::Done(ending);
        let wakeups = inner.wakeups();
        self.cell.notify(inner);
        Publish::Done(wakeups)
    }

    /// Whether no callbacks were registered when this was made.
    pub(crate) fn has_no_callbacks(&self) -> bool {
        self.has_no_callbacks
    }

    /// Takes out the callbacks registered so far.
    pub(crate) fn take_callbacks(&self) -> Vec<Callback<T>> {
        self.cell.begin_callbacks(&mut lock(&self.cell.inner))
    }
}

impl<T> FutureState<T> {
    /// Takes out the callbacks. Decoding → Settling if there are any: a thread that calls `ending` meanwhile
    /// learns that the future is not done, rather than waiting for user code.
    fn begin_callbacks(&self, inner: &mut Inner<T>) -> Vec<Callback<T>> {
        let Some(listeners) = &mut inner.listeners else {
            return Vec::new();
        };
        let callbacks = std::mem::take(&mut listeners.callbacks);
        if let (Phase::Decoding(ending), false) = (inner.phase, callbacks.is_empty()) {
            inner.phase = Phase::Settling(ending);
            self.done.notify_all();
        }
        callbacks
    }
}

impl Wakeups {
    /// No listeners.
    pub(crate) const fn none() -> Self {
        Self {
            watchers: Vec::new(),
            waker: None,
        }
    }

    /// Whether there are no listeners.
    pub(crate) fn is_none(&self) -> bool {
        self.watchers.is_empty() && self.waker.is_none()
    }

    /// Calls the watchers, then wakes the waker, which is foreign code.
    pub(crate) fn deliver(self) {
        if let Some(waker) = self.deliver_to_watchers() {
            waker.wake();
        }
    }

    /// Calls the watchers, which are code of this crate. The caller wakes the returned waker, which is
    /// foreign code.
    pub(crate) fn deliver_to_watchers(self) -> Option<Waker> {
        for (_, watcher) in self.watchers {
            watcher();
        }
        self.waker
    }
}

impl WatchKey {
    /// A key that no other watch has.
    pub(crate) fn fresh() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        // ORDERING: Relaxed; only the uniqueness of the number matters.
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests;
