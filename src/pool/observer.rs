//! What progress bars and tracing hang on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::future::Verdict;
use crate::future::id::FutureId;
use crate::unwind;

/// Hears what the workers of a pool do, as it happens.
///
/// It is called on threads of the pool, by several at a time, and holds up the worker that it
/// hears of. A panic in it is reported on stderr and harms nothing. Every method may be left out.
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
///         println!("worker {}: {outcome:?} after {:?}", task.worker(), task.elapsed());
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

    /// A worker begins a task.
    fn task_started(&self, task: &TaskEvent) {
        let _ = task;
    }

    /// A task has ended; its future is about to be done.
    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        let _ = (task, outcome);
    }
}

impl<O: Observer + ?Sized> Observer for Arc<O> {
    fn worker_started(&self, worker: &WorkerEvent) {
        (**self).worker_started(worker);
    }

    fn worker_ended(&self, worker: &WorkerEvent, reason: WorkerEnd) {
        (**self).worker_ended(worker, reason);
    }

    fn task_started(&self, task: &TaskEvent) {
        (**self).task_started(task);
    }

    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        (**self).task_finished(task, outcome);
    }
}

/// A worker that an [`Observer`] hears of.
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
    /// Its index in the pool.
    worker: usize,
    /// Its process.
    pid: u32,
    /// When it was ready.
    since: Instant,
}

impl WorkerEvent {
    pub(crate) fn new(worker: usize, pid: u32) -> Self {
        let since = Instant::now();
        Self { worker, pid, since }
    }

    /// Its index in the pool.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Its process; that of the program, for a thread.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How long ago it was ready.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// A task that an [`Observer`] hears of. [`Observer`] has an example.
#[derive(Debug, Clone, Copy)]
pub struct TaskEvent {
    /// The index of its worker.
    worker: usize,
    /// Its future.
    id: FutureId,
    /// When it began.
    since: Instant,
}

impl TaskEvent {
    /// The index of the worker that runs it.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The name of its future.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.id
    }

    /// How long ago it began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}

/// Why a worker is gone; [`WorkerEvent`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerEnd {
    /// It was let go: the pool is shut down, the worker was idle for too long, or has run as many
    /// tasks as it may.
    Left,
    /// Its process died, or was killed.
    Lost,
}

/// How a task ended; [`Observer`] has an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskOutcome {
    /// With a value.
    Completed,
    /// With an error.
    Failed,
    /// Killed.
    Cancelled,
    /// After its limit had passed and its future was done: a thread cannot be stopped.
    Late,
}

/// An observer that may not be there, of one worker.
pub(crate) struct ObserverHandle {
    /// The user's.
    observer: Option<Arc<dyn Observer>>,
    /// The worker's index.
    index: usize,
    /// The worker, while it is ready.
    worker: Option<WorkerEvent>,
    /// What it runs.
    task: Option<TaskEvent>,
}

impl ObserverHandle {
    pub(crate) fn new(observer: Option<Arc<dyn Observer>>, index: usize) -> Self {
        Self {
            observer,
            index,
            worker: None,
            task: None,
        }
    }

    pub(crate) fn worker_started(&mut self, pid: u32) {
        let Some(observer) = &self.observer else {
            return;
        };
        let worker = WorkerEvent::new(self.index, pid);
        self.worker = Some(worker);
        unwind::call(|| observer.worker_started(&worker));
    }

    pub(crate) fn worker_ended(&mut self, reason: WorkerEnd) {
        if let (Some(observer), Some(worker)) = (&self.observer, self.worker.take()) {
            unwind::call(|| observer.worker_ended(&worker, reason));
        }
    }

    pub(crate) fn task_started(&mut self, id: FutureId) {
        let Some(observer) = &self.observer else {
            return;
        };
        let task = TaskEvent {
            worker: self.index,
            id,
            since: Instant::now(),
        };
        self.task = Some(task);
        unwind::call(|| observer.task_started(&task));
    }

    pub(crate) fn task_finished(&mut self, verdict: Verdict) {
        if let (Some(observer), Some(task)) = (&self.observer, self.task.take()) {
            let outcome = match verdict {
                Verdict::Completed => TaskOutcome::Completed,
                Verdict::Failed => TaskOutcome::Failed,
                Verdict::Cancelled => TaskOutcome::Cancelled,
                Verdict::Late => TaskOutcome::Late,
            };
            unwind::call(|| observer.task_finished(&task, outcome));
        }
    }
}
