//! [`SerialExecutor`]: runs tasks in the caller. Implements the same traits as the pools: [`Executor`], and
//! [`WorkerHooks`] for its tasks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use crate::current_worker::{Progress, WorkerInfo};
use crate::error::Error;
use crate::executor::Executor;
use crate::executor::counts::Counts;
use crate::executor::feed::Feed;
use crate::executor::map::{Map, MapUnordered};
use crate::executor::stats::Stats;
use crate::future::Future;
use crate::future::id::FutureId;
use crate::future::promise::{Expire, Verdict};
use crate::options::{MapOptions, Shutdown, TaskOptions};
use crate::sync::lock;
use crate::task::Task;
use crate::task::run::WorkerHooks;
use crate::task::timeout::TimeoutGuard;

/// Runs each task inside `submit`, in the caller: for tests, for debugging, and for the serial row of a
/// comparison.
///
/// ```
/// use concurrent_futures::{Executor, SerialExecutor};
///
/// let future = SerialExecutor::new().submit(|x: i32| -x, 5);
/// assert!(future.done());
/// assert_eq!(future.result()?, -5);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// Clones are the same executor.
#[derive(Clone, Default)]
pub struct SerialExecutor {
    /// Whether tasks are accepted, and the figures of those that ended.
    state: Arc<Mutex<State>>,
    /// What tasks can see of the executor, through `current_worker`.
    progress: Arc<Progress>,
}

/// What the executor's lock guards.
#[derive(Default)]
struct State {
    /// Whether `shutdown` was called: no task is accepted any more.
    closed: bool,
    /// How many tasks run: more than one in several callers, or where a task submits another.
    running: usize,
    /// How the tasks that ran have ended.
    counts: Counts,
}

impl SerialExecutor {
    /// An executor that runs tasks in the caller.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `f(arg)` in the caller; `f` may capture. (`Executor.submit`)
    ///
    /// ```
    /// # use concurrent_futures::SerialExecutor;
    /// let factor = 3;
    /// let future = SerialExecutor::new().submit(move |x: i32| factor * x, 14);
    /// assert_eq!(future.result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    pub fn submit<F, A, R>(&self, f: F, arg: A) -> Future<R>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        self.submit_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit`](Self::submit), with options.
    #[track_caller]
    pub fn submit_with<F, A, R>(&self, options: TaskOptions, f: F, arg: A) -> Future<R>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (task, future) = Task::local(options, f, arg);
        self.execute(task);
        future
    }

    /// Runs `f()` in the caller; `f` may capture.
    #[track_caller]
    pub fn spawn<F, R>(&self, f: F) -> Future<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.submit(move |()| f(), ())
    }

    /// Runs `f`, which may capture, on every item; yields the results in the order of the items.
    /// (`Executor.map`)
    #[track_caller]
    pub fn map<F, A, R, I>(&self, f: F, items: I) -> Map<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_with(MapOptions::new(), f, items)
    }

    /// Like [`map`](Self::map), with options.
    #[track_caller]
    pub fn map_with<F, A, R, I>(
        &self,
        options: MapOptions,
        f: F,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        Map::new(Feed::local(self, options, f, items.into_iter()))
    }

    /// Like [`map`](Self::map), but yields `(index, result)` as items finish: here, in their order.
    #[track_caller]
    pub fn map_unordered<F, A, R, I>(&self, f: F, items: I) -> MapUnordered<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_unordered_with(MapOptions::new(), f, items)
    }

    /// Like [`map_unordered`](Self::map_unordered), with options.
    #[track_caller]
    pub fn map_unordered_with<F, A, R, I>(
        &self,
        options: MapOptions,
        f: F,
        items: I,
    ) -> MapUnordered<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        MapUnordered::new(Feed::local(self, options, f, items.into_iter()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&*self.state)
    }
}

impl Executor for SerialExecutor {
    fn max_workers(&self) -> usize {
        1
    }

    fn shutdown(&self, _how: Shutdown) {
        self.lock().closed = true;
    }

    fn stats(&self) -> Stats {
        let state = self.lock();
        state.counts.added_to(Stats {
            running: state.running,
            ..Stats::default()
        })
    }

    fn execute(&self, task: Task) {
        if self.lock().closed {
            return task.fail(Error::ShutDown);
        }
        let _guard = WorkerInfo::here(0, Arc::clone(&self.progress)).enter();
        task.run_on(self);
    }
}

impl WorkerHooks for SerialExecutor {
    fn task_starting(&self, _: FutureId) {
        self.progress.begin_task();
        self.lock().running += 1;
    }

    fn task_started(&self, _: FutureId) {}

    fn task_cancelled(&self) {
        self.lock().running -= 1;
    }

    fn cancels(&self) -> bool {
        false
    }

    fn drop_rest(&self) {}

    fn count(&self, _: Verdict) {}

    /// Returns `None`: no other thread could expire the task, so the limit is checked after it has returned.
    fn expire_after(&self, _: Arc<dyn Expire>, _: Duration) -> Option<TimeoutGuard> {
        None
    }

    fn task_done(&self, verdict: Verdict) {
        let mut state = self.lock();
        state.running -= 1;
        state.counts.count(verdict);
    }

    fn worker_index(&self) -> Option<usize> {
        Some(0)
    }
}

impl fmt::Debug for SerialExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialExecutor")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
