//! The two ends of a task: the user's [`Future`], and the pool's [`Promise`](promise::Promise) (`promise.rs`),
//! which share one [`TaskCell`].
//!
//! Called by users and by all pools; `task/` makes the pairs and fills in the body. The transitions and their
//! lock are in `state.rs`. The pool that accepted a task is reached through `pool_registry.rs` and the trait
//! of `pool_handle.rs`.

pub(crate) mod id;
pub(crate) mod cancel_on_drop;
pub(crate) mod promise;
pub(crate) mod pool_handle;
pub(crate) mod state;
pub(crate) mod pool_registry;
pub(crate) mod dyn_promise;
pub(crate) mod deadlock;
pub(crate) mod bell;
pub(crate) mod wait;

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::Error;
use crate::future::cancel_on_drop::{AtDrop, CancelOnDrop};
use crate::future::id::FutureId;
use crate::future::pool_handle::{Unqueue, Waiter};
use crate::future::promise::{TaskCell, Waiting, complete};
use crate::future::state::{
    Callback, Ending, Outcome, Register, WaitEnd, WatchKey, Watcher, Withdraw,
};
use crate::sync::deadline::Deadline;
use crate::task_info::TaskInfo;
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
        self.wait_to(Deadline::after(limit))
    }

    fn wait_to(&self, deadline: Deadline) -> WaitEnd {
        if deadline.is_never() {
            return self.wait_without_limit();
        }
        self.task_cell.wait(deadline)
    }

    fn wait_without_limit(&self) -> WaitEnd {
        let looked_at = deadlock::is_worker() && !self.done();
        let _waiting = looked_at.then(|| deadlock::wait_for(vec![self.awaited()]));
        self.task_cell.wait(Deadline::never())
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
                complete(settling, |_| {
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
    /// `true`: the future is cancelled, or will be once the process is gone. A task with a
    /// [grace](crate::TaskOptions::grace) is asked to stop, and its process killed at the end of that; this
    /// returns at once all the same. A thread cannot be stopped:
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
        if self.cancel() {
            return true;
        }
        self.task_cell.body().give_up();
        (!self.done()
            && self
                .task_cell
                .pool_handle()
                .is_some_and(|o| o.kill(self.task_cell.id)))
            // An attempt may have failed before `give_up`, so that the task now waits for its next one. If it
            // does not wait yet, `WorkerContext::try_again` finds that it was given up.
            || self.cancel()
            || self.cancelled()
    }

    /// Returns a future that cancels the task when it is dropped, if the task has not begun.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop::new(self, AtDrop::Cancel)
    }

    /// Returns a future that [kills](Self::kill) the task when it is dropped, also if the task has begun:
    /// what a runtime's own time limit around the future needs.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::new(1)?;
    /// let endless = pool.submit(|()| -> u8 { loop { std::thread::park() } }, ()).kill_on_drop();
    /// drop(endless); // as `timeout(limit, endless).await` does at the limit
    /// assert_eq!(pool.submit(|x: u32| x + 1, 1).result()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop::new(self, AtDrop::Kill)
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

    /// The task, in whatever state: the name given to it, its function, and where it was submitted. It is
    /// known also where [`Error::task`] is not: of a task that was cancelled, or refused after a shutdown.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, Shutdown, TaskOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// pool.shutdown(Shutdown::wait());
    /// let refused = pool.submit_with(TaskOptions::new().name("halve"), |x: u32| x / 2, 8);
    /// let task = refused.task();
    /// let error = refused.result().unwrap_err();
    /// assert_eq!(task.name(), Some("halve"));
    /// println!("{task}: {error}"); // task `halve` … submitted at …: the executor was shut down
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn task(&self) -> TaskInfo {
        self.task_cell.body().info()
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

    /// Runs the task here, if this thread is a worker of the pool that the task is queued in.
    pub(crate) fn run_if_queued(&self) {
        if let (true, Some(pool_handle)) = (deadlock::is_worker(), self.task_cell.pool_handle()) {
            pool_handle.run_queued(self.id(), self.id());
        }
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

    /// Wakes `waker` once the future can be inspected, in place of an earlier one. `false`: it can be already,
    /// and `waker` is not woken.
    #[cfg(feature = "stream")]
    pub(crate) fn wake_when_done(&self, waker: &std::task::Waker) -> bool {
        match self.task_cell.cell.set_waker(waker) {
            Register::Registered => {
                self.task_cell.notify_on_completion();
                true
            }
            Register::Done(()) | Register::Arrived(()) => false,
        }
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
