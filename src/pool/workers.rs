//! The workers of one pool, and what each is doing.

use std::sync::Arc;

use crate::current_worker::Progress;
use crate::executor::Stats;
use crate::future::id::FutureId;
use crate::pool::backlog::{Backlog, WorkItem};
use crate::pool::worker_state::{Counts, Status, WorkerState, WorkerStateInner};
use crate::sync::{JoinHandle, MutexGuard, ThreadId};

/// The workers of one pool, and what they have done.
#[derive(Default)]
pub(crate) struct Workers {
    /// A worker's index is its place.
    seats: Vec<Option<WorkerEntry>>,
    /// What came of tasks that ended without a worker, or whose worker has left.
    counts: Counts,
    /// Workers replaced.
    restarts: u64,
}

/// One worker.
pub(crate) struct WorkerEntry {
    /// What it is doing.
    pub(crate) worker_state: Arc<WorkerState>,
    /// Its thread.
    pub(crate) thread: JoinHandle<()>,
    /// Its thread waits, in a task or callback, for the others to be gone.
    pub(crate) waits_for_others: bool,
    /// What its tasks can see of it.
    pub(crate) progress: Arc<Progress>,
}

impl Workers {
    /// The lowest index that is free.
    pub(crate) fn free_index(&self) -> usize {
        let free = self.seats.iter().position(Option::is_none);
        free.unwrap_or(self.seats.len())
    }

    pub(crate) fn insert(&mut self, index: usize, worker: WorkerEntry) {
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, || None);
        }
        self.seats[index] = Some(worker);
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<WorkerEntry> {
        let worker = self.seats.get_mut(index)?.take()?;
        self.counts
            .add(std::mem::take(&mut worker.worker_state.lock().counts));
        Some(worker)
    }

    pub(crate) fn worker(&mut self, index: usize) -> Option<&mut WorkerEntry> {
        self.seats.get_mut(index)?.as_mut()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &WorkerEntry> {
        self.seats.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.workers().count()
    }

    /// The worker whose thread this is.
    pub(crate) fn by_thread(&mut self, id: ThreadId) -> Option<&mut WorkerEntry> {
        let mut workers = self.seats.iter_mut().flatten();
        workers.find(|worker| worker.thread.thread().id() == id)
    }

    /// Acts on the worker that runs this task, and its index, while it runs it.
    pub(crate) fn with_running<R>(
        &self,
        id: FutureId,
        act: impl FnOnce(usize, &WorkerEntry, &mut WorkerStateInner) -> R,
    ) -> Option<R> {
        for (index, worker) in self.seats() {
            let mut inner = worker.worker_state.lock();
            if inner.runs(id) {
                return Some(act(index, worker, &mut inner));
            }
        }
        None
    }

    /// A task that no longer waits was cancelled before it began: whoever has it in his chunk will
    /// not begin it.
    pub(crate) fn withdraw(&self, id: FutureId) {
        for (_, worker) in self.seats() {
            if let Status::Busy { rest, chunk, .. } = &mut worker.worker_state.lock().status {
                if (chunk.0..=chunk.1).contains(&id) {
                    *rest -= 1;
                }
            }
        }
    }

    /// Nobody wants what has not begun of tasks of these names, first and last: it does not count any
    /// more. Acts on the index of each worker that is at work on some of them.
    pub(crate) fn abandon(&self, first: FutureId, last: FutureId, act: &mut dyn FnMut(usize)) {
        for (index, worker) in self.seats() {
            let mut inner = worker.worker_state.lock();
            if let Status::Busy { rest, chunk, .. } = &mut inner.status {
                if first <= chunk.1 && chunk.0 <= last {
                    *rest = 0;
                    act(index);
                }
            }
        }
    }

    fn seats(&self) -> impl Iterator<Item = (usize, &WorkerEntry)> {
        let seats = self.seats.iter().enumerate();
        seats.filter_map(|(index, seat)| Some((index, seat.as_ref()?)))
    }

    /// Workers that will look for a task without being started.
    pub(crate) fn free(&self) -> usize {
        self.count_of(Status::is_free)
    }

    /// Workers that will look for a task without being started, and tasks in the backlog, both of one
    /// moment.
    pub(crate) fn free_and_waiting<W: WorkItem>(&self, backlog: &Backlog<W>) -> (usize, usize) {
        // Nobody takes work from the backlog meanwhile.
        let shifts: Vec<MutexGuard<'_, WorkerStateInner>> = self
            .workers()
            .map(|worker| worker.worker_state.lock())
            .collect();
        let free = shifts.iter().filter(|inner| inner.status.is_free());
        (free.count(), backlog.tasks())
    }

    /// Workers past their start.
    pub(crate) fn ready(&self) -> usize {
        self.count_of(|status| matches!(status, Status::Idle | Status::Busy { .. }))
    }

    fn count_of(&self, is_one: impl Fn(Status) -> bool) -> usize {
        let workers = self.workers();
        workers
            .filter(|worker| is_one(worker.worker_state.status()))
            .count()
    }

    /// What came of tasks that ended without a worker.
    pub(crate) fn counts(&mut self) -> &mut Counts {
        &mut self.counts
    }

    /// One of the values that were counted turned out to be an error; `false`: there is none.
    #[must_use]
    pub(crate) fn spoil(&mut self) -> bool {
        let mut workers = self.seats.iter().flatten();
        self.counts.spoil() || workers.any(|worker| worker.worker_state.lock().counts.spoil())
    }

    pub(crate) fn count_restart(&mut self) {
        self.restarts += 1;
    }

    /// The public figures, all of one moment.
    pub(crate) fn stats<W: WorkItem>(&self, backlog: &Backlog<W>) -> Stats {
        // Nobody takes work from the backlog meanwhile.
        let shifts: Vec<MutexGuard<'_, WorkerStateInner>> = self
            .workers()
            .map(|worker| worker.worker_state.lock())
            .collect();
        let mut stats = Stats {
            workers: shifts.len(),
            pending: backlog.tasks(),
            worker_restarts: self.restarts,
            ..Stats::default()
        };
        let mut counts = self.counts;
        for inner in shifts {
            counts.add(inner.counts);
            match inner.status {
                Status::Idle => stats.idle += 1,
                Status::Busy { task, rest, .. } => {
                    stats.running += usize::from(task.is_some());
                    stats.pending += usize::try_from(rest).unwrap_or(0);
                }
                Status::Starting | Status::ProcessLost => {}
            }
        }
        Stats {
            completed: counts.completed,
            failed: counts.failed,
            cancelled: counts.cancelled,
            ..stats
        }
    }
}
