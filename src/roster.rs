//! The workers of one pool, and what each is doing.

use std::sync::Arc;

use crate::executor::Stats;
use crate::future::{FutureId, Verdict};
use crate::sync::{JoinHandle, ThreadId};
use crate::worker::Progress;

/// The workers of one pool, and what they have done.
#[derive(Default)]
pub(crate) struct Roster {
    /// A worker's index is its place.
    seats: Vec<Option<Worker>>,
    /// What came of the tasks so far.
    counts: Counts,
}

/// One worker.
pub(crate) struct Worker {
    /// What it is doing.
    pub(crate) status: Status,
    /// Its thread.
    pub(crate) thread: JoinHandle<()>,
    /// Its thread waits, in a task or callback, for the others to be gone.
    pub(crate) waits_for_others: bool,
    /// What its tasks can see of it.
    pub(crate) progress: Arc<Progress>,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Getting ready.
    Starting,
    /// Waiting for a task.
    Idle,
    /// Waiting, but its process has died: it is to leave.
    Bereft,
    /// At work on a chunk.
    Busy {
        /// What it runs now.
        task: Option<FutureId>,
        /// How many it has not begun, and will.
        rest: i64,
        /// The first and the last task of the chunk.
        chunk: (FutureId, FutureId),
        /// Somebody killed the task: its outcome no longer counts.
        killed: Killed,
    },
}

/// Whether a running task was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    /// It was.
    Yes,
    /// It was not.
    No,
}

/// What came of the tasks of a pool.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Values.
    pub(crate) completed: u64,
    /// Errors.
    pub(crate) failed: u64,
    /// Cancellations.
    pub(crate) cancelled: u64,
    /// Workers replaced.
    restarts: u64,
}

impl Roster {
    /// The lowest index that is free.
    pub(crate) fn vacancy(&self) -> usize {
        let free = self.seats.iter().position(Option::is_none);
        free.unwrap_or(self.seats.len())
    }

    pub(crate) fn seat(&mut self, index: usize, worker: Worker) {
        if self.seats.len() <= index {
            self.seats.resize_with(index + 1, || None);
        }
        self.seats[index] = Some(worker);
    }

    pub(crate) fn unseat(&mut self, index: usize) -> Option<Worker> {
        self.seats.get_mut(index)?.take()
    }

    pub(crate) fn worker(&mut self, index: usize) -> Option<&mut Worker> {
        self.seats.get_mut(index)?.as_mut()
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = &Worker> {
        self.seats.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.workers().count()
    }

    /// The worker whose thread this is.
    pub(crate) fn by_thread(&mut self, id: ThreadId) -> Option<&mut Worker> {
        let mut workers = self.seats.iter_mut().flatten();
        workers.find(|worker| worker.thread.thread().id() == id)
    }

    /// The worker that runs this task, and its index.
    pub(crate) fn running(&mut self, id: FutureId) -> Option<(usize, &mut Worker)> {
        let seats = self.seats.iter_mut().enumerate();
        seats
            .filter_map(|(index, seat)| Some((index, seat.as_mut()?)))
            .find(|(_, w)| matches!(w.status, Status::Busy { task, .. } if task == Some(id)))
    }

    /// A task that no longer waits was cancelled before it began: whoever has it in his chunk will
    /// not begin it.
    pub(crate) fn withdraw(&mut self, id: FutureId) {
        for worker in self.seats.iter_mut().flatten() {
            if let Status::Busy { rest, chunk, .. } = &mut worker.status {
                if (chunk.0..=chunk.1).contains(&id) {
                    *rest -= 1;
                }
            }
        }
    }

    /// Nobody wants what has not begun of tasks of these names, first and last: it does not count any
    /// more. Acts on the index of each worker that is at work on some of them.
    pub(crate) fn abandon(&mut self, first: FutureId, last: FutureId, act: &mut dyn FnMut(usize)) {
        for (index, seat) in self.seats.iter_mut().enumerate() {
            let Some(Worker {
                status: Status::Busy { rest, chunk, .. },
                ..
            }) = seat
            else {
                continue;
            };
            if first <= chunk.1 && chunk.0 <= last {
                *rest = 0;
                act(index);
            }
        }
    }

    /// Workers that will look for a task without being started.
    pub(crate) fn free(&self) -> usize {
        let looks = |w: &&Worker| matches!(w.status, Status::Idle | Status::Starting);
        self.workers().filter(looks).count()
    }

    pub(crate) fn idle(&self) -> usize {
        self.workers().filter(|w| w.status == Status::Idle).count()
    }

    /// Workers past their start.
    pub(crate) fn ready(&self) -> usize {
        let ready = |w: &&Worker| matches!(w.status, Status::Idle | Status::Busy { .. });
        self.workers().filter(ready).count()
    }

    pub(crate) fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Completed => &mut self.counts.completed,
            Verdict::Failed => &mut self.counts.failed,
            Verdict::Cancelled => &mut self.counts.cancelled,
            Verdict::Late => return,
        };
        *counter += 1;
    }

    pub(crate) fn count_restart(&mut self) {
        self.counts.restarts += 1;
    }

    /// The public figures; `waiting` tasks are in the backlog.
    pub(crate) fn stats(&self, waiting: usize) -> Stats {
        let busy = |w: &Worker| match w.status {
            Status::Busy { task, rest, .. } => {
                let rest = usize::try_from(rest).unwrap_or(0);
                (usize::from(task.is_some()), rest)
            }
            _ => (0, 0),
        };
        let (running, begun) = self
            .workers()
            .map(busy)
            .fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
        Stats {
            workers: self.len(),
            idle: self.idle(),
            pending: waiting + begun,
            running,
            completed: self.counts.completed,
            failed: self.counts.failed,
            cancelled: self.counts.cancelled,
            worker_restarts: self.counts.restarts,
        }
    }
}

impl Status {
    /// At work on so many tasks, of these names.
    pub(crate) fn busy_with(tasks: usize, chunk: (FutureId, FutureId)) -> Self {
        Self::Busy {
            task: None,
            rest: i64::try_from(tasks).unwrap_or(i64::MAX),
            chunk,
            killed: Killed::No,
        }
    }
}
