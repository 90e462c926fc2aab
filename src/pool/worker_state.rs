//! The state of one worker, under a lock of its own: a task begins and ends without the pool's lock. Written
//! by the worker, and read by the pool, which takes this lock after its own.

use crate::current_worker::Progress;
use crate::executor::counts::Counts;
use crate::future::id::FutureId;
use crate::pool::backlog::Backlog;
use crate::sync::{Mutex, MutexGuard, lock};
use crate::task::work_item::WorkItem;

/// The state of a worker, and how the tasks that it ended have ended.
pub(crate) struct WorkerState(
    /// The state. Under this lock the backlog's locks are taken, and the process table's.
    Mutex<WorkerStateInner>,
);

/// What the lock of a worker's state guards.
pub(crate) struct WorkerStateInner {
    /// What the worker is doing.
    pub(crate) status: Status,
    /// The work that the worker runs inside its current task, the innermost last.
    pub(crate) nested: Vec<NestedWork>,
    /// How the tasks that this worker ran have ended.
    pub(crate) counts: Counts,
}

/// Work that a worker runs inside a task of its own, which waits for that work.
pub(crate) struct NestedWork {
    /// What the worker is doing of it; always [`Status::Busy`].
    pub(crate) status: Status,
    /// Whether the task around it was asked to stop.
    pub(crate) is_outer_cancel_requested: bool,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Starting: not yet ready for tasks.
    Starting,
    /// Waiting for a task.
    Idle,
    /// Waiting, but its process has died, or it has waited for too long: the worker is to leave.
    ProcessLost,
    /// Running a chunk, or a single task.
    Busy {
        /// The task that runs now; `None`: between two tasks.
        task: Option<FutureId>,
        /// How many tasks of the chunk the worker has not begun, and will begin.
        rest: i64,
        /// The first and the last task id of the chunk.
        chunk: (FutureId, FutureId),
        /// Whether the running task was killed: its outcome no longer counts.
        killed: Killed,
    },
}

/// Whether a running task was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Killed {
    /// The task was killed.
    Yes,
    /// The task was not killed.
    No,
}

/// The answer to [`WorkerState::take_from`].
#[must_use]
pub(crate) enum Dequeued<W> {
    /// The worker has taken this work, and is busy with it.
    Work(W),
    /// The backlog is empty: the worker is idle.
    Empty,
    /// The worker is to leave.
    ProcessLost,
}

impl WorkerState {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(WorkerStateInner {
            status: Status::Starting,
            nested: Vec::new(),
            counts: Counts::default(),
        }))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, WorkerStateInner> {
        lock(&self.0)
    }

    pub(crate) fn status(&self) -> Status {
        self.lock().status
    }

    pub(crate) fn set(&self, status: Status) {
        self.lock().status = status;
    }

    /// Takes the oldest work from the backlog. A thread that takes this lock, then looks into the backlog,
    /// finds the work in one of the two places.
    pub(crate) fn take_from<W: WorkItem>(&self, backlog: &Backlog<W>) -> Dequeued<W> {
        let mut inner = self.lock();
        if inner.status == Status::ProcessLost {
            return Dequeued::ProcessLost;
        }
        match backlog.pop() {
            Some(work) => {
                inner.status = Status::busy_with(&work);
                Dequeued::Work(work)
            }
            None => {
                inner.status = Status::Idle;
                Dequeued::Empty
            }
        }
    }
}

impl WorkerStateInner {
    /// Whether the worker runs this task.
    pub(crate) fn runs(&self, id: FutureId) -> bool {
        self.status.runs(id)
    }

    /// What the worker is doing, on each level: in its task, and in the work inside it.
    pub(crate) fn levels(&self) -> impl Iterator<Item = Status> {
        let nested = self.nested.iter().map(|work| work.status);
        std::iter::once(self.status).chain(nested)
    }

    /// Like [`levels`](Self::levels), to change them.
    pub(crate) fn levels_mut(&mut self) -> impl Iterator<Item = &mut Status> {
        let nested = self.nested.iter_mut().map(|work| &mut work.status);
        std::iter::once(&mut self.status).chain(nested)
    }

    /// Asks this task to stop, if the worker runs it: at once if it is the innermost, else as soon as the work
    /// inside it has ended.
    pub(crate) fn request_cancel(&mut self, id: FutureId, progress: &Progress) {
        let Some(level) = self.levels().position(|status| status.runs(id)) else {
            return;
        };
        match self.nested.get_mut(level) {
            Some(inside) => inside.is_outer_cancel_requested = true,
            None => progress.request_cancel(),
        }
    }
}

impl Status {
    /// Whether the worker will look for a task without being started.
    pub(crate) fn is_free(self) -> bool {
        matches!(self, Self::Idle | Self::Starting)
    }

    /// Whether this task runs.
    fn runs(self, id: FutureId) -> bool {
        matches!(self, Self::Busy { task, .. } if task == Some(id))
    }

    /// Whether the work has some of the tasks `first..=last`, run or not.
    pub(crate) fn has_any_of(self, first: FutureId, last: FutureId) -> bool {
        matches!(self, Self::Busy { chunk, .. } if first <= chunk.1 && chunk.0 <= last)
    }

    /// The state of a worker that has taken this work, and has begun none of it.
    pub(crate) fn busy_with<W: WorkItem>(work: &W) -> Self {
        Self::Busy {
            task: None,
            rest: i64::try_from(work.len()).unwrap_or(i64::MAX),
            chunk: (work.id(), work.last()),
            killed: Killed::No,
        }
    }
}
