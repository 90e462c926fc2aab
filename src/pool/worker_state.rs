//! What a worker is doing, under a lock of its own: a task begins and ends without its crew's.

use crate::future::Verdict;
use crate::future::id::FutureId;
use crate::pool::backlog::{Backlog, WorkItem};
use crate::sync::{Mutex, MutexGuard, lock};

/// What a worker is doing, and what came of what it did.
pub(crate) struct WorkerState(
    /// It. Nothing but the backlog's locks is taken under this one.
    Mutex<WorkerStateInner>,
);

/// What the lock guards.
pub(crate) struct WorkerStateInner {
    /// What the worker is doing.
    pub(crate) status: Status,
    /// What came of the tasks that it ended.
    pub(crate) counts: Counts,
}

/// What a worker is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Getting ready.
    Starting,
    /// Waiting for a task.
    Idle,
    /// Waiting, but its process has died: it is to leave.
    ProcessLost,
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

/// What came of tasks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Values.
    pub(crate) completed: u64,
    /// Errors.
    pub(crate) failed: u64,
    /// Cancellations.
    pub(crate) cancelled: u64,
}

/// The answer to [`WorkerState::take_from`].
#[must_use]
pub(crate) enum Dequeued<W> {
    /// The worker is at work on this.
    Work(W),
    /// There is nothing: the worker is idle.
    Empty,
    /// The worker is to leave.
    ProcessLost,
}

impl WorkerState {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(WorkerStateInner {
            status: Status::Starting,
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

    /// Takes the oldest work that waits. Nobody finds it neither there nor here.
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
    /// Whether it runs this task.
    pub(crate) fn runs(&self, id: FutureId) -> bool {
        matches!(self.status, Status::Busy { task, .. } if task == Some(id))
    }
}

impl Status {
    /// Whether the worker will look for a task without being started.
    pub(crate) fn is_free(self) -> bool {
        matches!(self, Self::Idle | Self::Starting)
    }

    /// At work on that.
    pub(crate) fn busy_with<W: WorkItem>(work: &W) -> Self {
        Self::Busy {
            task: None,
            rest: i64::try_from(work.len()).unwrap_or(i64::MAX),
            chunk: (work.id(), work.last()),
            killed: Killed::No,
        }
    }
}

impl Counts {
    pub(crate) fn count(&mut self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Completed => &mut self.completed,
            Verdict::Failed => &mut self.failed,
            Verdict::Cancelled => &mut self.cancelled,
            Verdict::Late => return,
        };
        *counter += 1;
    }

    /// One of the values turned out to be an error; `false`: there is none.
    #[must_use]
    pub(crate) fn spoil(&mut self) -> bool {
        let Some(completed) = self.completed.checked_sub(1) else {
            return false;
        };
        self.completed = completed;
        self.failed += 1;
        true
    }

    pub(crate) fn add(&mut self, others: Self) {
        self.completed += others.completed;
        self.failed += others.failed;
        self.cancelled += others.cancelled;
    }
}
