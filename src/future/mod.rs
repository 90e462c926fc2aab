//! The two ends of a task: the user's [`Future`] and the pool's [`Promise`], which share one [`TaskCell`].
//!
//! Called by users and by all pools; `task/` makes the pairs and fills in the body. The transitions and their
//! lock are in `state.rs`. The pool that accepted a task is reached through `pool_registry.rs` and the trait
//! of `pool_handle.rs`.

pub(crate) mod id;
pub(crate) mod pool_handle;
pub(crate) mod state;
pub(crate) mod pool_registry;
pub(crate) mod dyn_promise;
pub(crate) mod deadlock;
pub(crate) mod wait;

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::pool_handle::{Drive, PoolHandle, Unqueue, Waiter};
use crate::future::pool_registry::{AtomicPoolId, PoolId};
use crate::future::state::{
    Arrived, Callback, Delivery, Ending, FutureState, Look, Outcome, Publish, Register, Settling,
    Start, WaitEnd, Wakeups, WatchKey, Watcher, Withdraw,
};
use crate::sync::spin_then_yield;
use crate::unwind::{self, discard};

/// The future result of a task. (`concurrent.futures.Future`)
///
/// [`result`](Self::result) blocks for it; it can be awaited in any async runtime; and
/// [`add_done_callback`](Self::add_done_callback) calls a function with it. Dropping the future detaches the
/// task, which goes on; [`cancel_on_drop`](Self::cancel_on_drop) changes that.
///
/// `Send` if `T: Send`, `Sync` if `T: Send + Sync`.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let square = pool.submit(|x: u64| x * x, 12);
/// assert_eq!(square.result()?, 144);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "dropping a future detaches its task; call `result`, `.await` it, or keep it"]
pub struct Future<T> {
    /// The task cell, shared with the promise.
    task_cell: Arc<TaskCell<T>>,
    /// `&Future` lends `&T` to late callbacks, so `Sync` requires `T: Sync`.
    lends: PhantomData<T>,
}

/// The value is behind a pointer and never pinned in place.
impl<T> Unpin for Future<T> {}

/// The pool's end of a task. Dropping it settles the future as cancelled.
pub(crate) struct Promise<T, B: Body<T>> {
    /// The task cell, shared with the future; `None` once settled or given up.
    task_cell: Option<Arc<TaskCell<T, B>>>,
}

/// What future and promise share, all of a task in one allocation: what is to be done, and the outcome.
pub(crate) struct TaskCell<T, B: ?Sized = dyn Body<T>> {
    /// The id of the future, unique in this process.
    id: FutureId,
    /// The phase of the task, its listeners, and its outcome.
    cell: FutureState<T>,
    /// The pool that accepted the task.
    pool_handle: AtomicPoolId,
    /// What is to be done: function and argument, later the encoded result.
    body: B,
}

/// What is to be done by a task that returns a `T`.
pub(crate) trait Body<T>: Send + Sync {
    /// Drops what the function was not called with, which may be user values.
    ///
    /// # Safety
    /// The caller holds the task's one promise, or has given it up for this call.
    unsafe fn discard(&self);
    /// Decodes what has been received into the outcome.
    ///
    /// # Safety
    /// The caller is the one thread that won the transition to `Decoding`.
    unsafe fn open(&self) -> Outcome<T>;
}

/// What any holder of a task can do to it, with its types erased.
pub(crate) trait Settle: Send + Sync {
    /// The id of its future.
    fn id(&self) -> FutureId;
    /// Settles the task with this error, in place of running it.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this call.
    unsafe fn fail(self: Arc<Self>, error: Error, settled: &mut dyn FnMut(Verdict));
}

/// A future with an outcome that no thread has inspected, and with callbacks that wait for that.
pub(crate) trait DeferredCallbacks: Send + Sync {
    /// Inspects the future: decodes or publishes the outcome, and runs the callbacks.
    fn open(&self);
}

/// The listeners of an outcome that has arrived; `deliver` notifies them.
#[must_use]
pub(crate) struct Notifications {
    /// The watchers and the waker of the future.
    pub(crate) wakeups: Wakeups,
    /// The future, if it has callbacks, which are to be run.
    pub(crate) opens: Option<Arc<dyn DeferredCallbacks>>,
    /// What may hold user values, to be dropped without locks; `None`: nothing.
    pub(crate) remains: Option<Arc<dyn Any + Send + Sync>>,
}

/// A task with a time limit that may pass while it runs.
pub(crate) trait Expire: Send + Sync {
    /// Settles the task as timed out, unless it has an outcome.
    fn expire(&self, limit: Duration);
}

/// How a pool's statistics count an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A value.
    Completed,
    /// An error other than cancellation.
    Failed,
    /// The task was cancelled or killed.
    Cancelled,
    /// Not counted: the task had been settled, and counted, elsewhere.
    Late,
}

/// The future and the promise of a new task.
#[inline]
pub(crate) fn pair<T, B: Body<T> + 'static>(body: B) -> (Future<T>, Promise<T, B>) {
    let task_cell = Arc::new(TaskCell {
        id: FutureId::first_of(1),
        cell: FutureState::new(),
        pool_handle: AtomicPoolId::default(),
        body,
    });
    let promise = Promise {
        task_cell: Some(Arc::clone(&task_cell)),
    };
    let future = Future {
        task_cell,
        lends: PhantomData,
    };
    (future, promise)
}

impl<T> Future<T> {
    /// Blocks until the task is done, and takes its value. (`Future.result()`)
    ///
    /// # Errors
    /// The reason why the task has no value; [`Error::Taken`] if `poll` or `result_timeout` took the value
    /// before; [`Error::Deadlock`] in a callback of this same future.
    pub fn result(mut self) -> Result<T, Error> {
        match self.wait_without_limit() {
            WaitEnd::Done => self.take(),
            WaitEnd::Deadlock => Err(Error::Deadlock),
            WaitEnd::TimedOut | WaitEnd::Arrived => {
                unreachable!("a wait without a limit ends done")
            }
        }
    }

    /// Like [`result`](Self::result), but waits for at most `limit`. (`Future.result(timeout)`)
    ///
    /// # Errors
    /// [`Error::Timeout`] if the task was not done in time: it goes on, and this can be called again.
    /// Otherwise the same as [`result`](Self::result).
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ThreadPoolExecutor};
    /// # use std::time::Duration;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let mut slow = pool.submit(|ms| std::thread::sleep(Duration::from_millis(ms)), 50);
    /// while let Err(Error::Timeout) = slow.result_timeout(Duration::from_millis(5)) {
    ///     println!("still waiting");
    /// }
    /// # Ok::<(), Error>(())
    /// ```
    pub fn result_timeout(&mut self, limit: Duration) -> Result<T, Error> {
        match self.wait_limited(limit) {
            WaitEnd::Done => self.take(),
            WaitEnd::Deadlock => Err(Error::Deadlock),
            WaitEnd::TimedOut => Err(Error::Timeout),
            WaitEnd::Arrived => unreachable!("what has arrived was opened"),
        }
    }

    /// Blocks until the task is done, and returns its error, or `None` after success. (`Future.exception()`)
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let future = pool.submit(|n: u32| 1 / n, 0);
    /// assert!(matches!(future.exception(), Some(Error::Panicked(_))));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        match self.wait_without_limit() {
            WaitEnd::Done => self.outcome().as_ref()?.as_ref().err().cloned(),
            WaitEnd::Deadlock => Some(Error::Deadlock),
            WaitEnd::TimedOut | WaitEnd::Arrived => {
                unreachable!("a wait without a limit ends done")
            }
        }
    }

    /// Blocks until the task is done. In a callback of this same future it returns at once.
    /// (`concurrent.futures.wait`, of one future)
    pub fn wait(&self) {
        let _ = self.wait_without_limit();
    }

    /// Blocks until the task is done, for at most `limit`. Returns whether it is done.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// # use std::time::Duration;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let future = pool.submit(|x: u32| x + 1, 1);
    /// while !future.wait_timeout(Duration::from_secs(1)) {
    ///     println!("still waiting");
    /// }
    /// assert!(future.done());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.wait_limited(limit) == WaitEnd::Done
    }

    fn wait_limited(&self, limit: Duration) -> WaitEnd {
        self.wait_to(Instant::now().checked_add(limit))
    }

    fn wait_to(&self, deadline: Option<Instant>) -> WaitEnd {
        match deadline {
            Some(_) => self.task_cell.wait(deadline),
            None => self.wait_without_limit(),
        }
    }

    fn wait_without_limit(&self) -> WaitEnd {
        let looked_at = deadlock::is_worker() && !self.done();
        let _waiting = looked_at.then(|| deadlock::wait_for(vec![self.awaited()]));
        self.task_cell.wait(None)
    }

    /// Cancels the task if it has not begun. (`Future.cancel()`)
    ///
    /// `true`: the task never ran and never will; another call returns the same. `false`: it runs or is over.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ThreadPoolExecutor};
    /// # use std::sync::mpsc::channel;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (release, gate) = channel::<()>();
    /// let busy = pool.spawn(move || gate.recv().is_err());
    /// let queued = pool.submit(|x: u32| x + 1, 1);
    /// assert!(queued.cancel());
    /// assert!(matches!(queued.result(), Err(Error::Cancelled)));
    /// drop(release);
    /// assert!(busy.result()?);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[allow(
        clippy::must_use_candidate,
        reason = "often called for its effect alone"
    )]
    pub fn cancel(&self) -> bool {
        let remains = match self.task_cell.recall() {
            Unqueue::Removed(remains) => Some(remains),
            Unqueue::NotHere => {
                // An executor that holds the task back may hand it to a process pool later, where no thread
                // reads the future's state before a worker runs the task.
                self.task_cell.pool_handle.cancel();
                None
            }
            Unqueue::Started => return false,
        };
        let cancelled = match self.task_cell.cell.withdraw() {
            Withdraw::Yours(settling) => {
                complete(settling, || {
                    if let Some(pool_handle) = self.task_cell.pool_handle() {
                        pool_handle.on_cancelled(self.task_cell.id);
                    }
                });
                true
            }
            Withdraw::Already => true,
            Withdraw::TooLate => false,
        };
        discard(remains);
        cancelled
    }

    /// Cancels the task even if it runs, by killing the worker process that runs it. The worker is replaced,
    /// and no other task is affected.
    ///
    /// `true`: the future is cancelled, or will be once the process is gone. A thread cannot be stopped:
    /// there it does the same as [`cancel`](Self::cancel), and a running task can see that it was asked to
    /// stop by [`WorkerInfo::cancel_requested`](crate::WorkerInfo::cancel_requested).
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::new(1)?;
    /// let endless = pool.submit(|()| -> u8 { loop { std::thread::park() } }, ());
    /// assert!(endless.kill());
    /// assert!(matches!(endless.result(), Err(Error::Cancelled)));
    /// assert_eq!(pool.submit(|x: u8| x + 1, 1).result()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    #[allow(
        clippy::must_use_candidate,
        reason = "often called for its effect alone"
    )]
    pub fn kill(&self) -> bool {
        self.cancel()
            || (!self.done()
                && self
                    .task_cell
                    .pool_handle()
                    .is_some_and(|o| o.kill(self.task_cell.id)))
            || self.cancelled()
    }

    /// Returns a future that cancels the task when it is dropped, if the task has not begun.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop(Some(self))
    }

    /// Whether the task was cancelled or killed. (`Future.cancelled()`)
    #[must_use]
    pub fn cancelled(&self) -> bool {
        matches!(
            self.task_cell.ending(),
            Some(Ending::Withdrawn | Ending::Killed)
        )
    }

    /// Whether a worker runs the task now. (`Future.running()`)
    #[must_use]
    pub fn running(&self) -> bool {
        let cell = &self.task_cell.cell;
        cell.is_running()
            || (cell.is_open()
                && self
                    .task_cell
                    .pool_handle()
                    .is_some_and(|o| o.runs(self.task_cell.id)))
    }

    /// Whether the task is over, in whichever way. (`Future.done()`)
    #[must_use]
    pub fn done(&self) -> bool {
        self.task_cell.ending().is_some()
    }

    /// The id of the future; [`FutureId`] has an example.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.task_cell.id
    }

    /// Calls `f` with the outcome. (`Future.add_done_callback()`)
    ///
    /// A callback registered before the task is done runs on the thread that completes the task, in the order
    /// of registration, before any other thread sees the future done. One registered afterwards runs at once
    /// in the caller. Once the value was taken, late callbacks see [`Error::Taken`]. A callback that panics
    /// is reported on stderr and harms nothing else. A callback may submit to the same executor, cancel, and
    /// shut it down; waiting in it for this same future is [`Error::Deadlock`].
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor};
    /// # use std::sync::mpsc::channel;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (sender, receiver) = channel();
    /// let future = pool.submit(|x: u32| x + 1, 1);
    /// future.add_done_callback(move |outcome| sender.send(outcome.copied().unwrap_or(0)).unwrap_or(()));
    /// assert_eq!(receiver.recv(), Ok(2));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn add_done_callback(&self, f: impl FnOnce(Result<&T, &Error>) + Send + 'static) {
        let mut f: Callback<T> = Box::new(f);
        f = loop {
            match self.task_cell.cell.add_callback(f) {
                Register::Registered => return self.task_cell.notify_on_completion(),
                Register::Done(f) => break f,
                Register::Arrived(again) => f = again,
            }
            let _ = self.task_cell.look();
        };
        let outcome = match self.outcome() {
            Some(outcome) => outcome.as_ref(),
            None => Err(&Error::Taken),
        };
        unwind::call(|| f(outcome));
    }

    /// A wait for this future, as the detection of deadlocks sees it.
    pub(crate) fn awaited(&self) -> deadlock::Awaited {
        deadlock::Awaited::Task(self.task_cell.pool_handle(), self.task_cell.id)
    }

    /// Calls `watcher` once the future can be inspected. `false`: it can be already, and `watcher` is not
    /// called.
    pub(crate) fn watch(&self, key: WatchKey, watcher: Watcher) -> bool {
        let is_watched = Waiting(&self.task_cell).watch(key, watcher);
        if is_watched {
            self.task_cell.notify_on_completion();
        }
        is_watched
    }

    pub(crate) fn unwatch(&self, key: WatchKey) {
        self.task_cell.cell.unwatch(key);
    }

    /// Whether the future is done with an error; `false` while it is not done, or if it was cancelled.
    pub(crate) fn failed(&self) -> bool {
        self.done() && !self.cancelled() && matches!(self.outcome(), Some(Err(_)))
    }

    /// The outcome of a future that is done; `None` once the value was taken.
    fn outcome(&self) -> &Option<Outcome<T>> {
        debug_assert!(self.done());
        // SAFETY: callers have seen the state done, and the borrow of `self`, the one handle, excludes
        // `take`.
        unsafe { self.task_cell.cell.outcome() }
    }

    /// Takes the value of a future that is done, or clones its error.
    fn take(&mut self) -> Result<T, Error> {
        debug_assert!(self.done());
        // SAFETY: callers have seen the state done, and `&mut self`, the one handle, lends the outcome to no
        // other caller meanwhile.
        let outcome = unsafe { self.task_cell.cell.outcome_mut() };
        match outcome.take() {
            Some(Err(error)) => {
                *outcome = Some(Err(error.clone()));
                Err(error)
            }
            Some(Ok(value)) => Ok(value),
            None => Err(Error::Taken),
        }
    }
}

impl<T> std::future::Future for Future<T> {
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            match this.task_cell.cell.set_waker(context.waker()) {
                Register::Registered => {
                    this.task_cell.notify_on_completion();
                    return Poll::Pending;
                }
                Register::Done(()) => return Poll::Ready(this.take()),
                Register::Arrived(()) => {
                    let _ = this.task_cell.look();
                }
            }
            if let Some(WaitEnd::Deadlock) = this.task_cell.cell.end_of_wait() {
                return Poll::Ready(Err(Error::Deadlock)); // polled in the thread that decodes it
            }
        }
    }
}

impl<T> fmt::Debug for Future<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.task_cell.cell.ending() {
            Some(Ending::Finished) => "finished",
            Some(Ending::Withdrawn) => "cancelled",
            Some(Ending::Killed) => "killed",
            None if self.running() => "running",
            None => "pending",
        };
        f.debug_struct("Future")
            .field("id", &self.task_cell.id.number())
            .field("state", &format_args!("{state}"))
            .finish()
    }
}

/// A [`Future`] that cancels its task when it is dropped, if the task has not begun. Derefs to the
/// [`Future`].
///
/// ```
/// # use concurrent_futures::{Executor, ThreadPoolExecutor};
/// let pool = ThreadPoolExecutor::new(1)?;
/// let guarded = pool.submit(|x: u32| x + 1, 1).cancel_on_drop();
/// assert_eq!(guarded.result()?, 2);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it cancels the task"]
pub struct CancelOnDrop<T>(
    /// The future; `None` only once `result` has taken it.
    Option<Future<T>>,
);

impl<T> CancelOnDrop<T> {
    /// Blocks until the task is done, and takes its value, like [`Future::result`].
    ///
    /// # Errors
    /// The same as [`Future::result`].
    pub fn result(mut self) -> Result<T, Error> {
        match self.0.take() {
            Some(future) => future.result(),
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> Deref for CancelOnDrop<T> {
    type Target = Future<T>;

    fn deref(&self) -> &Future<T> {
        match &self.0 {
            Some(future) => future,
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> DerefMut for CancelOnDrop<T> {
    fn deref_mut(&mut self) -> &mut Future<T> {
        match &mut self.0 {
            Some(future) => future,
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(future) = &self.0 {
            future.cancel();
        }
    }
}

impl<T> std::future::Future for CancelOnDrop<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut **self).poll(context)
    }
}

impl<T, B: Body<T>> Promise<T, B> {
    /// The promise of a task, made again after it was given up for this call.
    pub(crate) fn of(task_cell: Arc<TaskCell<T, B>>) -> Self {
        let task_cell = Some(task_cell);
        Self { task_cell }
    }

    /// Gives the promise up for its task cell, of which the types can then be erased.
    pub(crate) fn into_task_cell(mut self) -> Arc<TaskCell<T, B>> {
        match self.task_cell.take() {
            Some(task_cell) => task_cell,
            None => unreachable!("settling consumes the promise"),
        }
    }

    /// A worker begins the task. [`Start::Cancelled`]: the worker leaves it.
    pub(crate) fn start(&self) -> Start {
        self.task_cell().start()
    }

    /// The task, for the timer that ends it at its time limit.
    pub(crate) fn expiring(&self) -> Arc<dyn Expire>
    where
        T: Send + 'static,
        B: 'static,
    {
        match &self.task_cell {
            Some(task_cell) => Arc::clone(task_cell) as Arc<dyn Expire>,
            None => unreachable!("settling consumes the promise"),
        }
    }

    /// Stores the outcome without running user code; the first thread that inspects the future decodes it.
    /// Returns the listeners to notify, if there are any.
    pub(crate) fn arrive(self, delivery: Delivery<T>) -> Option<Box<Notifications>>
    where
        T: Send + 'static,
        B: 'static,
    {
        let task_cell = self.into_task_cell();
        let Arrived {
            wakeups,
            has_callbacks,
        } = task_cell.cell.arrive(delivery)?;
        let has_no_callbacks = wakeups.is_none() && !has_callbacks;
        (!has_no_callbacks).then(|| {
            Box::new(Notifications {
                wakeups,
                opens: has_callbacks.then_some(task_cell as Arc<dyn DeferredCallbacks>),
                remains: None,
            })
        })
    }

    /// Settles the future with the outcome of the function. `before` is called once callbacks have run, just
    /// before any other thread sees the future done.
    pub(crate) fn settle(self, outcome: Outcome<T>, before: impl FnOnce(Verdict)) {
        let ending = match outcome {
            Err(Error::Cancelled) => self.task_cell().ending_if_cancelled(),
            _ => Ending::Finished,
        };
        self.settle_as(outcome, ending, before);
    }

    /// Settles the future as cancelled because its worker was killed.
    pub(crate) fn settle_killed(self, before: impl FnOnce(Verdict)) {
        self.settle_as(Err(Error::Cancelled), Ending::Killed, before);
    }

    fn settle_as(self, outcome: Outcome<T>, ending: Ending, before: impl FnOnce(Verdict)) {
        let task_cell = self.into_task_cell();
        task_cell.settle(outcome, ending, before);
        release(task_cell);
    }

    /// The task cell, shared with the future.
    pub(crate) fn task_cell(&self) -> &TaskCell<T, B> {
        match &self.task_cell {
            Some(task_cell) => task_cell,
            None => unreachable!("settling consumes the promise"),
        }
    }
}

impl<T, B: Body<T>> Deref for Promise<T, B> {
    type Target = B;

    /// What is to be done.
    fn deref(&self) -> &B {
        &self.task_cell().body
    }
}

impl<T, B: Body<T>> Drop for Promise<T, B> {
    fn drop(&mut self) {
        if let Some(task_cell) = self.task_cell.take() {
            // SAFETY: this was the task's one promise, and it is given up.
            unsafe { task_cell.body.discard() };
            let ending = task_cell.ending_if_cancelled();
            task_cell.settle(Err(Error::Cancelled), ending, |_| ());
            release(task_cell);
        }
    }
}

impl<T: Send + 'static, B: Body<T> + 'static> Settle for TaskCell<T, B> {
    fn id(&self) -> FutureId {
        self.id
    }

    unsafe fn fail(self: Arc<Self>, error: Error, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: the caller has given up the task's one promise, by this function's contract.
        unsafe { self.body.discard() };
        Promise::of(self).settle(Err(error), settled);
    }
}

impl<T, B: ?Sized> TaskCell<T, B> {
    /// What is to be done: function and argument, later the encoded result.
    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    /// Sets the pool that the future asks, to cancel, to wait, or for the state of the task.
    pub(crate) fn attach(&self, pool: PoolId) {
        // A task that is forwarded from pool to pool keeps its first pool.
        self.pool_handle.set(pool);
    }

    /// A worker begins the task. [`Start::Cancelled`]: the worker leaves it.
    pub(crate) fn start(&self) -> Start {
        self.cell.start()
    }

    /// Makes the task pending again: its worker was lost before it touched the task.
    pub(crate) fn put_back(&self) {
        self.cell.put_back();
    }

    /// Whether a callback, watcher or waker is to be called as soon as the task is done.
    pub(crate) fn has_listeners(&self) -> bool {
        self.cell.has_listeners()
    }

    /// Whether callbacks wait for the end of the task.
    pub(crate) fn has_callbacks(&self) -> bool {
        self.cell.has_callbacks()
    }

    /// Whether the task was cancelled, or is about to be, before it reached the pull queue.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.pool_handle.is_cancelled()
    }

    /// How the task ends if it is cancelled now: killed if it runs, else withdrawn.
    fn ending_if_cancelled(&self) -> Ending {
        if self.cell.is_running() {
            Ending::Killed
        } else {
            Ending::Withdrawn
        }
    }

    fn pool_handle(&self) -> Option<Arc<dyn PoolHandle>> {
        self.pool_handle.pool()
    }

    fn settle(&self, outcome: Outcome<T>, ending: Ending, before: impl FnOnce(Verdict)) {
        let verdict = Verdict::of(&outcome);
        match self.cell.settle(outcome, ending) {
            Ok(settling) => complete(settling, || before(verdict)),
            Err(late) => {
                before(Verdict::Late);
                discard(late);
            }
        }
    }
}

impl<T, B: ?Sized + Body<T>> TaskCell<T, B> {
    /// Decodes what has been received, or publishes what is stored, on this thread. Returns how a wait ends
    /// afterwards; `None`: it goes on.
    fn look(&self) -> Option<WaitEnd> {
        match self.cell.look() {
            Look::Stands(waited) => return waited,
            Look::Publish(settling) => complete(settling, || ()),
            Look::Open(opened) => {
                // SAFETY: `look` returns `Open` to one thread only, after the promise was given up.
                let outcome = unsafe { self.body.open() };
                let has_decode_failed = outcome.is_err();
                complete(opened.lay_down(outcome), || {
                    if let (true, Some(pool_handle)) = (has_decode_failed, self.pool_handle()) {
                        pool_handle.on_decode_failed();
                    }
                });
            }
        }
        Some(WaitEnd::Done)
    }
}

impl<T> TaskCell<T> {
    /// How the task ended; `None` while it has not. Collects outcomes from the pool first, and decodes what
    /// has been received.
    fn ending(&self) -> Option<Ending> {
        if self.cell.is_open() {
            self.pool_handle()?.poll_completions();
        }
        let _ = self.look();
        self.cell.ending()
    }

    /// Blocks until the future is done or the deadline has passed.
    fn wait(&self, deadline: Option<Instant>) -> WaitEnd {
        loop {
            match self.look() {
                Some(over) => return over,
                None => match self.sleep(deadline) {
                    WaitEnd::Arrived => {}
                    over => return over,
                },
            }
        }
    }

    /// Blocks until the future can be inspected or the deadline has passed.
    fn sleep(&self, deadline: Option<Instant>) -> WaitEnd {
        let wait = Waiting(self);
        let helped = self
            .pool_handle()
            .map(|pool_handle| pool_handle.drive_until(&wait, deadline));
        if helped != Some(Drive::Recheck) {
            spin_then_yield(|| self.cell.end_of_wait().is_some());
        }
        if let Some(over) = self.cell.end_of_wait() {
            return over;
        }
        match deadline {
            Some(deadline) => self.cell.wait_until(deadline),
            None => self.cell.wait(),
        }
    }

    /// Takes the task back from the pull queue, where workers take tasks by themselves.
    fn recall(&self) -> Unqueue {
        if !self.cell.is_open() {
            return Unqueue::NotHere;
        }
        let pool_handle = self.pool_handle();
        pool_handle.map_or(Unqueue::NotHere, |pool_handle| {
            pool_handle.try_unqueue(self.id)
        })
    }

    /// Tells the pool that a listener is to be called as soon as the task is done.
    fn notify_on_completion(&self) {
        if let Some(pool_handle) = self.pool_handle() {
            pool_handle.notify_on_completion(self.id);
        }
    }
}

/// A wait for one future, as the pool that accepted its task sees it.
struct Waiting<'a, T>(
    /// The task cell of the future.
    &'a TaskCell<T>,
);

impl<T> Waiter for Waiting<'_, T> {
    fn is_over(&self) -> bool {
        !self.0.cell.is_open()
    }

    fn watch(&self, key: WatchKey, watcher: Watcher) -> bool {
        let registered = self.0.cell.watch(key, watcher);
        matches!(registered, Register::Registered)
    }

    fn unwatch(&self, key: WatchKey) {
        self.0.cell.unwatch(key);
    }
}

impl<T: Send, B: Body<T>> DeferredCallbacks for TaskCell<T, B> {
    fn open(&self) {
        let _ = self.look();
    }
}

impl<T: Send, B: Body<T>> Expire for TaskCell<T, B> {
    fn expire(&self, limit: Duration) {
        self.settle(
            Err(Error::TaskTimeout { limit }),
            Ending::Finished,
            |verdict| {
                if let (Verdict::Failed, Some(pool_handle)) = (verdict, self.pool_handle()) {
                    pool_handle.on_timeout(self.id);
                }
            },
        );
    }
}

impl Notifications {
    /// Calls the listeners on this thread: runs user code.
    pub(crate) fn deliver(self) {
        unwind::call(|| self.wakeups.deliver());
        discard(self.remains);
        if let Some(future) = self.opens {
            future.open();
            discard(future); // may be the last owner of the value, whose drop is user code
        }
    }
}

impl Verdict {
    pub(crate) fn of<T>(outcome: &Outcome<T>) -> Self {
        match outcome {
            Ok(_) => Self::Completed,
            Err(Error::Cancelled) => Self::Cancelled,
            Err(_) => Self::Failed,
        }
    }
}

/// Runs the callbacks, then `before`, and publishes: Settling or Decoding → Done.
fn complete<T>(settling: Settling<'_, T>, before: impl FnOnce()) {
    if !settling.has_no_callbacks() {
        run_callbacks(&settling);
    }
    before();
    let mut settling = settling;
    let wakeups = loop {
        match settling.publish() {
            Publish::Done(wakeups) => break wakeups,
            Publish::More(again, callbacks) => {
                for callback in callbacks {
                    unwind::call(|| callback(again.outcome()));
                }
                settling = again;
            }
        }
    };
    if !wakeups.is_none() {
        unwind::call(|| wakeups.deliver());
    }
}

/// Runs the registered callbacks, and those that are registered meanwhile, in order.
fn run_callbacks<T>(settling: &Settling<'_, T>) {
    loop {
        let callbacks = settling.take_callbacks();
        if callbacks.is_empty() {
            return;
        }
        for callback in callbacks {
            unwind::call(|| callback(settling.outcome()));
        }
    }
}

/// Drops a task cell. The value of a detached future is dropped here, and its `Drop` is user code.
fn release<T, B: Body<T>>(task_cell: Arc<TaskCell<T, B>>) {
    discard(task_cell);
}
