//! The observer of a pool, for progress bars and tracing: the user's trait and its events. `observation.rs`
//! calls it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::promise::Verdict;
use crate::task_info::TaskInfo;

/// An observer of a pool: it is told of tasks and workers, as it happens.
///
/// | a task | what is told |
/// |---|---|
/// | is accepted by the pool | [`task_submitted`](Self::task_submitted), once |
/// | begins | [`task_started`](Self::task_started), for each attempt |
/// | is to begin anew, by its [`retries`](crate::TaskOptions::retries) or a [`Retry`](crate::Retry) | [`task_retried`](Self::task_retried), after each attempt but the last |
/// | ends after it has begun | [`task_finished`](Self::task_finished), once |
/// | ends without having begun | [`task_withdrawn`](Self::task_withdrawn), once |
///
/// So each task that was submitted ends in exactly one of the last two, whatever becomes of it, and a bar that
/// counts submitted minus finished minus withdrawn comes back to 0. An item of a map is a task: it is submitted
/// when the map has pulled it from its source and hands it to the pool.
///
/// The methods are called by several threads at a time, with no lock held: those of tasks that are submitted, on
/// the thread that submits; of tasks that begin or finish, on the worker's thread, which they hold up; of tasks
/// that are withdrawn, on the thread that cancels them, shuts the pool down or finds out that they cannot run. A
/// panic in a method is reported on stderr and harms nothing. Every method may be left out.
///
/// A pool without observers pays nothing for this. With one, a thread pool takes up to about twice as long for a
/// task that does nothing. A process pool sends each task over a connection, in place of shared memory, so that it
/// learns when the task begins: that costs a task about 10 microseconds, where it costs less than one without.
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::sync::Arc;
/// use concurrent_futures::{Executor, Observer, TaskEvent, TaskOutcome, ThreadPoolExecutor};
///
/// #[derive(Default)]
/// struct Count(AtomicUsize);
///
/// impl Observer for Count {
///     fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
///         println!("{} waited {:?}, ran {:?}: {outcome:?}", task.task(), task.queued(), task.elapsed());
///         if let Some(error) = task.error() {
///             println!("  {error}");
///         }
///         self.0.fetch_add(1, Ordering::Relaxed);
///     }
/// }
///
/// let count = Arc::new(Count::default());
/// let pool = ThreadPoolExecutor::builder().max_workers(2).observer(count.clone()).build()?;
/// pool.submit(|x: u8| x, 1).result()?;
/// assert_eq!(count.0.load(Ordering::Relaxed), 1);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub trait Observer: Send + Sync {
    /// A worker is ready for tasks.
    fn worker_started(&self, worker: &WorkerEvent) {
        let _ = worker;
    }

    /// A worker is gone.
    fn worker_ended(&self, worker: &WorkerEvent, reason: WorkerEnd) {
        let _ = (worker, reason);
    }

    /// The pool has accepted a task, and is about to queue it. Told on the thread that submits it.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicI64, Ordering};
    /// use std::sync::Arc;
    /// use concurrent_futures::{
    ///     Error, Executor, Observer, SubmitEvent, TaskEvent, TaskOutcome, ThreadPoolExecutor,
    /// };
    ///
    /// /// How many tasks are not over.
    /// #[derive(Default)]
    /// struct Open(AtomicI64);
    ///
    /// impl Observer for Open {
    ///     fn task_submitted(&self, _: &SubmitEvent) {
    ///         self.0.fetch_add(1, Ordering::Relaxed);
    ///     }
    ///     fn task_finished(&self, _: &TaskEvent, _: TaskOutcome) {
    ///         self.0.fetch_sub(1, Ordering::Relaxed);
    ///     }
    ///     fn task_withdrawn(&self, task: &SubmitEvent, error: &Error) {
    ///         println!("{} never began: {error}", task.task());
    ///         self.0.fetch_sub(1, Ordering::Relaxed);
    ///     }
    /// }
    ///
    /// let open = Arc::new(Open::default());
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).observer(open.clone()).build()?;
    /// let futures: Vec<_> = (0..9_u64).map(|n| pool.submit(|n: u64| n * n, n)).collect();
    /// futures.iter().for_each(|future| drop(future.cancel()));
    /// drop(pool);
    /// assert_eq!(open.0.load(Ordering::Relaxed), 0);
    /// # Ok::<(), Error>(())
    /// ```
    fn task_submitted(&self, task: &SubmitEvent) {
        let _ = task;
    }

    /// A worker begins a task.
    fn task_started(&self, task: &TaskEvent) {
        let _ = task;
    }

    /// A task that had begun has ended; its future will be done in a moment. [`TaskEvent::error`] tells why, if
    /// it has no value.
    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        let _ = (task, outcome);
    }

    /// A task that had begun is to begin anew, as its [`retries`](crate::TaskOptions::retries) or a
    /// [`Retry`](crate::Retry) say: its worker has died, or this attempt has failed. It is neither finished nor
    /// withdrawn by that.
    fn task_retried(&self, task: &TaskEvent) {
        let _ = task;
    }

    /// A task has ended, and no worker has begun it: it was cancelled, or its map was dropped
    /// ([`Error::Cancelled`]); it could not be sent to a worker; or the pool was shut down or broke.
    /// [`task_submitted`](Self::task_submitted) has an example.
    fn task_withdrawn(&self, task: &SubmitEvent, error: &Error) {
        let _ = (task, error);
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn worker_started(&self, worker: &WorkerEvent) {
        (**self).worker_started(worker);
    }

    fn worker_ended(&self, worker: &WorkerEvent, reason: WorkerEnd) {
        (**self).worker_ended(worker, reason);
    }

    fn task_submitted(&self, task: &SubmitEvent) {
        (**self).task_submitted(task);
    }

    fn task_started(&self, task: &TaskEvent) {
        (**self).task_started(task);
    }

    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        (**self).task_finished(task, outcome);
    }

    fn task_retried(&self, task: &TaskEvent) {
        (**self).task_retried(task);
    }

    fn task_withdrawn(&self, task: &SubmitEvent, error: &Error) {
        (**self).task_withdrawn(task, error);
    }
}

/// A worker, as an [`Observer`] is told of it.
///
/// ```
/// use concurrent_futures::{Observer, WorkerEnd, WorkerEvent};
///
/// struct Log;
///
/// impl Observer for Log {
///     fn worker_ended(&self, worker: &WorkerEvent, end: WorkerEnd) {
///         println!("worker {} (pid {}): {end:?} after {:?}", worker.worker(), worker.pid(), worker.elapsed());
///     }
/// }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct WorkerEvent {
    /// The worker's index in the pool.
    worker: usize,
    /// The id of the worker's process.
    pid: u32,
    /// When the worker became ready.
    since: Instant,
}

impl WorkerEvent {
    pub(crate) fn new(worker: usize, pid: u32) -> Self {
        let since = Instant::now();
        Self { worker, pid, since }
    }

    /// The worker's index in the pool.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The id of the worker's process; for a thread, that of the program.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The time since the worker became ready.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// A task that was submitted, as an [`Observer`] is told of it. [`Observer::task_submitted`] has an example.
#[derive(Debug, Clone)]
pub struct SubmitEvent {
    /// The id of the task's future.
    id: FutureId,
    /// Its name, its function, and where it was submitted.
    task: TaskInfo,
    /// When it was submitted.
    at: Instant,
}

impl SubmitEvent {
    pub(super) fn new(id: FutureId, task: TaskInfo, at: Instant) -> Self {
        Self { id, task, at }
    }

    /// The event of the start of this task on a worker, now.
    pub(super) fn started(&self, worker: usize) -> TaskEvent {
        let since = Instant::now();
        TaskEvent {
            worker,
            id: self.id,
            task: self.task.to_owned(),
            queued: since.saturating_duration_since(self.at),
            since,
            error: None,
        }
    }

    /// The id of the task's future.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.id
    }

    /// The task's name, its function, and where it was submitted.
    #[must_use]
    pub fn task(&self) -> &TaskInfo {
        &self.task
    }

    /// The time since the task was submitted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.at.elapsed()
    }
}

/// A task that has begun, as an [`Observer`] is told of it. [`Observer`] has an example.
#[derive(Debug, Clone)]
pub struct TaskEvent {
    /// The index of the worker that runs it.
    worker: usize,
    /// The id of the task's future.
    id: FutureId,
    /// Its name, its function, and where it was submitted.
    task: TaskInfo,
    /// How long it waited until the worker began it.
    queued: Duration,
    /// When the worker began the task.
    since: Instant,
    /// The error that it has ended with; `None`: it has a value, or has not ended.
    error: Option<Error>,
}

impl TaskEvent {
    /// The event of the end of this task.
    pub(super) fn ended(mut self, error: Option<&Error>) -> Self {
        self.error = error.map(|error| named(error, &self.task));
        self
    }

    /// The index of the worker that runs it.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The id of the task's future.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.id
    }

    /// The task's name, its function, and where it was submitted.
    #[must_use]
    pub fn task(&self) -> &TaskInfo {
        &self.task
    }

    /// How long the task waited: from its submission until the worker began it. The time that `submit` waited
    /// for room, before the pool accepted the task, is not counted. For an item of a map, from when the map had
    /// handed its chunk to the pool. For a task that runs again, until its last start.
    #[must_use]
    pub fn queued(&self) -> Duration {
        self.queued
    }

    /// The time since the task began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }

    /// The error that the task has ended with: that of its future. `None` in
    /// [`task_started`](Observer::task_started), and if the task has returned a value.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }
}

/// Why a worker is gone; [`WorkerEvent`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerEnd {
    /// The worker left: the pool is shut down, the worker was idle for too long, or it has run as many tasks
    /// as it may.
    Retired,
    /// The worker's process died, or was killed.
    Lost,
}

/// How a task ended; [`Observer`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskOutcome {
    /// The task returned a value.
    Completed,
    /// The task ended with an error.
    Failed,
    /// The task was killed.
    Cancelled,
    /// The task ended after its limit had passed and its future was done: a thread cannot be stopped.
    AfterTimeout,
}

/// A copy of the error of a task that tells which task that was.
pub(super) fn named(error: &Error, task: &TaskInfo) -> Error {
    let mut error = error.clone();
    error.name_task(|| task.to_owned());
    error
}

impl TaskOutcome {
    /// The outcome of a task that was settled with this error, or with a value.
    pub(super) fn of(error: Option<&Error>) -> Self {
        match error {
            None => Self::Completed,
            Some(Error::Cancelled) => Self::Cancelled,
            Some(_) => Self::Failed,
        }
    }

    /// The outcome of a task that its worker reports; `None`: it has none yet, and is to be run again.
    pub(super) fn of_report(verdict: Verdict) -> Option<Self> {
        match verdict {
            Verdict::Completed => Some(Self::Completed),
            Verdict::Failed => Some(Self::Failed),
            Verdict::Cancelled => Some(Self::Cancelled),
            Verdict::Late => Some(Self::AfterTimeout),
            Verdict::Retried => None,
        }
    }
}
