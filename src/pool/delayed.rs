//! Delayed work: tasks that failed and are to be run again, for the length of the pause before that. Part of the
//! pool's state, under its lock. The pool's timer ends each pause.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use super::WorkerPool;
use crate::future::id::FutureId;
use crate::future::promise::Expire;
use crate::task::timeout::TimeoutGuard;
use crate::task::work_item::WorkItem;

/// Single tasks that pause, by id.
pub(super) struct Delayed<W>(
    /// The tasks, each with its place in the timer's queue. `None`: its pause has no end but the pool's.
    BTreeMap<FutureId, (W, Option<TimeoutGuard>)>,
);

impl<W: WorkItem> Delayed<W> {
    pub(super) const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// Adds a task, whose pause ends as `guard` says.
    pub(super) fn insert(&mut self, work: W, guard: Option<TimeoutGuard>) {
        debug_assert_eq!(work.len(), 1, "only single tasks pause");
        self.0.insert(work.id(), (work, guard));
    }

    /// Takes out the task with this id; `None`: it is not here.
    pub(super) fn remove(&mut self, id: FutureId) -> Option<W> {
        self.0.remove(&id).map(|(work, _)| work)
    }

    /// Takes out all tasks.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = W> + use<W> {
        let all = std::mem::take(&mut self.0);
        all.into_values().map(|(work, _)| work)
    }

    /// The id of the first of the tasks `first..=last` that is here; `None`: none is.
    pub(super) fn first_between(&self, first: FutureId, last: FutureId) -> Option<FutureId> {
        self.0.range(first..=last).next().map(|(id, _)| *id)
    }

    /// The number of tasks.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The end of a task's pause, for the pool's timer.
pub(super) struct PauseEnd<W: WorkItem> {
    /// The pool that holds the task.
    pub(super) worker_pool: Weak<WorkerPool<W>>,
    /// The id of the task.
    pub(super) id: FutureId,
}

impl<W: WorkItem> Expire for PauseEnd<W> {
    fn expire(&self, _: Duration) {
        if let Some(worker_pool) = self.worker_pool.upgrade() {
            worker_pool.end_pause(self.id);
        }
    }
}
