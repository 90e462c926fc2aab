//! The workers of one pool by index, the state of each, and the figures of the pool. Used by the pool under
//! its lock; takes the locks of workers' states and of the backlog, in this order.

use std::sync::Arc;

use crate::current_worker::Progress;
use crate::executor::counts::Counts;
use crate::executor::stats::Stats;
use crate::future::id::FutureId;
use crate::pool::backlog::Backlog;
use crate::pool::worker_state::{Status, WorkerState, WorkerStateInner};
use crate::sync::{JoinHandle, MutexGuard, ThreadId};
use crate::task::work_item::WorkItem;

/// The workers of one pool, and the counts of what they have done.
#[derive(Default)]
pub(crate) struct Workers {
    /// The entries; a worker's index is its position. `None`: the index is free.
    entries: Vec<Option<WorkerEntry>>,
    /// How tasks ended that had no worker, or whose worker has left.
    counts: Counts,
    /// Lost workers that were replaced so far.
    restarts: u64,
}

/// A worker of the pool.
pub(crate) struct WorkerEntry {
    /// The worker's state, shared with its thread.
    pub(crate) worker_state: Arc<WorkerState>,
    /// The handle by which the worker's thread is joined.
    pub(crate) thread: JoinHandle<()>,
    /// Whether the thread waits, in a task or callback, until the other workers are gone.
    pub(crate) waits_for_others: bool,
    /// What its tasks can see of the worker.
    pub(crate) progress: Arc<Progress>,
}

impl Workers {
    /// The lowest free index.
    pub(crate) fn free_index(&self) -> usize {
        let free = self.entries.iter().position(Option::is_none);
        free.unwrap_or(self.entries.len())
    }

    pub(crate) fn insert(&mut self, index: usize, worker: WorkerEntry) {
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        self.entries[index] = Some(worker);
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<WorkerEntry> {
        let worker = self.entries.get_mut(index)?.take()?;
        self.counts
            .add(std::mem::take(&mut worker.worker_state.lock().counts));
        Some(worker)
    }

    pub(crate) fn worker(&mut self, index: usize) -> Option<&mut WorkerEntry> {
        self.entries.get_mut(index)?.as_mut()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.entries.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.workers().count()
    }

    /// The worker with this thread id.
    pub(crate) fn by_thread(&mut self, id: ThreadId) -> Option<&mut WorkerEntry> {
        let mut workers = self.entries.iter_mut().flatten();
        workers.find(|worker| worker.thread.thread().id() == id)
    }

    /// Calls `act` with the worker that runs this task and its index, under the lock of the worker's state,
    /// so that it runs the task meanwhile; `None`: no worker runs it.
    pub(crate) fn with_running<R>(
        &self,
        id: FutureId,
        act: impl FnOnce(usize, &WorkerEntry, &mut WorkerStateInner) -> R,
    ) -> Option<R> {
        for (index, worker) in self.entries() {
            let mut inner = worker.worker_state.lock();
            if inner.runs(id) {
                return Some(act(index, worker, &mut inner));
            }
        }
        None
    }

    /// The worker whose thread has this id, and its index.
    pub(crate) fn find(&self, id: ThreadId) -> Option<(usize, &WorkerEntry)> {
        self.entries()
            .find(|(_, worker)| worker.thread.thread().id() == id)
    }

    /// The thread of the worker that has taken work with some of the tasks `first..=last`.
    pub(crate) fn thread_of(&self, first: FutureId, last: FutureId) -> Option<ThreadId> {
        let has_some = |worker: &&WorkerEntry| {
            let inner = worker.worker_state.lock();
            inner.levels().any(|status| status.has_any_of(first, last))
        };
        let worker = self.workers().find(has_some)?;
        Some(worker.thread.thread().id())
    }

    /// Asks the worker that runs this task to stop it; does nothing if none does.
    pub(crate) fn request_cancel(&self, id: FutureId) {
        for worker in self.workers() {
            // The worker's state is locked: the worker begins no other task meanwhile.
            let mut inner = worker.worker_state.lock();
            inner.request_cancel(id, &worker.progress);
        }
    }

    /// Takes a task that was cancelled before it began off the count of the worker that has it in its chunk;
    /// that worker will not begin it.
    pub(crate) fn withdraw(&self, id: FutureId) {
        for (_, worker) in self.entries() {
            for status in worker.worker_state.lock().levels_mut() {
                if let (true, Status::Busy { rest, .. }) = (status.has_any_of(id, id), status) {
                    *rest -= 1;
                }
            }
        }
    }

    /// Takes the tasks with ids `first..=last` that have not begun off the counts: their map was dropped.
    /// Calls `act` with the index of each worker whose chunk has some of them.
    pub(crate) fn abandon(&self, first: FutureId, last: FutureId, act: &mut dyn FnMut(usize)) {
        for (index, worker) in self.entries() {
            for status in worker.worker_state.lock().levels_mut() {
                if let (true, Status::Busy { rest, .. }) = (status.has_any_of(first, last), status)
                {
                    *rest = 0;
                    act(index);
                }
            }
        }
    }

    fn entries(&self) -> impl Iterator<Item = (usize, &WorkerEntry)> {
        let entries = self.entries.iter().enumerate();
        entries.filter_map(|(index, entry)| Some((index, entry.as_ref()?)))
    }

    /// The number of workers that will look for a task without being started.
    pub(crate) fn free(&self) -> usize {
        self.count_of(Status::is_free)
    }

    /// The number of workers that will look for a task without being started, and of tasks in the backlog,
    /// both at one moment.
    pub(crate) fn free_and_waiting<W: WorkItem>(&self, backlog: &Backlog<W>) -> (usize, usize) {
        // With all these locks held, no worker takes work from the backlog.
        let states: Vec<MutexGuard<'_, WorkerStateInner>> = self
            .workers()
            .map(|worker| worker.worker_state.lock())
            .collect();
        let free = states.iter().filter(|inner| inner.status.is_free());
        (free.count(), backlog.tasks())
    }

    /// The number of workers past their start.
    pub(crate) fn ready(&self) -> usize {
        self.count_of(|status| matches!(status, Status::Idle | Status::Busy { .. }))
    }

    fn count_of(&self, is_one: impl Fn(Status) -> bool) -> usize {
        let workers = self.workers();
        workers
            .filter(|worker| is_one(worker.worker_state.status()))
            .count()
    }

    /// The counts of tasks that ended without a worker.
    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// Counts one value as an error, because it could not be decoded; `false`: no value was counted.
    #[must_use]
    pub(crate) fn count_value_as_failed(&mut self) -> bool {
        let mut workers = self.entries.iter().flatten();
        self.counts.count_value_as_failed()
            || workers.any(|it| it.worker_state.lock().counts.count_value_as_failed())
    }

    pub(crate) fn count_restart(&mut self) {
        self.restarts += 1;
    }

    /// The public statistics, all of one moment.
    pub(crate) fn stats<W: WorkItem>(&self, backlog: &Backlog<W>) -> Stats {
        // With all these locks held, no worker takes work from the backlog.
        let states: Vec<MutexGuard<'_, WorkerStateInner>> = self
            .workers()
            .map(|worker| worker.worker_state.lock())
            .collect();
        let mut stats = Stats {
            workers: states.len(),
            pending: backlog.tasks(),
            worker_restarts: self.restarts,
            ..Stats::default()
        };
        let mut counts = self.counts;
        for inner in states {
            counts.add(inner.counts);
            for status in inner.levels() {
                match status {
                    Status::Idle => stats.idle += 1,
                    Status::Busy { task, rest, .. } => {
                        stats.running += usize::from(task.is_some());
                        stats.pending += usize::try_from(rest).unwrap_or(0);
                    }
                    Status::Starting | Status::ProcessLost => {}
                }
            }
        }
        counts.added_to(stats)
    }
}
