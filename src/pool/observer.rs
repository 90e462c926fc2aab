//! The observer of a pool, for progress bars and tracing: the user's trait, its events, and the handle by
//! which a worker calls it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::future::id::FutureId;
use crate::future::promise::Verdict;
use crate::unwind;

/// An observer of a pool: it is told what the workers do, as it happens.
///
/// Its methods are called on threads of the pool, by several threads at a time, and hold up the worker that
/// they are told of. A panic in a method is reported on stderr and harms nothing. Every method may be left
/// out.
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

    /// A task has ended; its future will be done in a moment.
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

/// A task, as an [`Observer`] is told of it. [`Observer`] has an example.
#[derive(Debug, Clone, Copy)]
pub struct TaskEvent {
    /// The index of the worker that runs it.
    worker: usize,
    /// The id of the task's future.
    id: FutureId,
    /// When the worker began the task.
    since: Instant,
}

impl TaskEvent {
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

    /// The time since the task began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.since.elapsed()
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

/// The handle by which one worker calls the observer; it does nothing if there is none.
pub(crate) struct ObserverHandle {
    /// The user's observer; `None`: there is none.
    observer: Option<Arc<dyn Observer>>,
    /// The worker's index.
    index: usize,
    /// The event of the worker's start; `None`: it is not ready.
    worker: Option<WorkerEvent>,
    /// The task that the worker runs; `None`: it runs none.
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
                Verdict::Late => TaskOutcome::AfterTimeout,
            };
            unwind::call(|| observer.task_finished(&task, outcome));
        }
    }
}
