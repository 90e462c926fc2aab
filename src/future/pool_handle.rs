//! The interface of a pool to the tasks that it accepted.
//!
//! Futures (`mod.rs`, `promise.rs`) and the results of maps (`task/results.rs`) call it, to cancel, to kill and
//! to wait; so does the detection of deadlocks. Thread pools (`thread/mod.rs`) and process pools
//! (`process/pool.rs`) implement it.

use std::task::Waker;

use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::state::{WatchKey, Watcher};
use crate::sync::ThreadId;
use crate::sync::deadline::Deadline;
use crate::unwind;

/// What a future asks the pool that accepted its task. Ids of tasks that the pool does not have are ignored.
pub(crate) trait PoolHandle: Send + Sync {
    /// The task was cancelled before it began: the pool removes it from its queues and counts it.
    fn on_cancelled(&self, id: FutureId);
    /// The outcomes of the items of a map with ids `first..=last` are not wanted any more: items that have
    /// not begun need not begin.
    fn cancel_range(&self, first: FutureId, last: FutureId);
    /// Stops the task if it runs. Returns whether it will end as cancelled.
    fn kill(&self, id: FutureId) -> bool;
    /// The task passed its time limit, and was settled without its worker, which goes on.
    fn on_timeout(&self, id: FutureId);
    /// The task was settled with this error, or with a value, and not by a thread that has run it, which reports
    /// to its worker. Called only for tasks of pools whose entry in the registry is
    /// [observed](crate::future::pool_registry::Registration::observed), just before any other thread sees the
    /// task done. `on_cancelled` and `on_timeout` stand in its place.
    fn on_settled(&self, id: FutureId, error: Option<&Error>) {
        let _ = (id, error);
    }
    /// Where the tasks `first..=last` are that have not ended, for the detection of deadlocks.
    fn place(&self, first: FutureId, last: FutureId) -> TaskLocation;
    /// The worker threads that must end before a shutdown of the pool returns, and that may wait for tasks.
    fn workers(&self) -> Vec<ThreadId> {
        Vec::new()
    }
    /// No worker will ever run the tasks `first..=last`: the pool settles one that is still queued as
    /// [`Error::Deadlock`](crate::Error::Deadlock).
    fn fail_deadlocked(&self, first: FutureId, last: FutureId);
    /// Runs those of the tasks `first..=last` that are queued on the calling thread, if it is a worker of the pool.
    fn run_queued(&self, first: FutureId, last: FutureId) {
        let _ = (first, last);
    }
    /// Takes the task back from the pull queue, where workers take tasks by themselves, unless a worker has
    /// claimed it.
    fn try_unqueue(&self, id: FutureId) -> Unqueue {
        let _ = id;
        Unqueue::NotHere
    }
    /// Whether a worker that took the task from the pull queue runs it.
    fn runs(&self, id: FutureId) -> bool {
        let _ = id;
        false
    }
    /// A listener is to be called as soon as the task is done: outcomes must not wait for a thread that asks
    /// for them.
    fn notify_on_completion(&self, id: FutureId) {
        let _ = id;
    }
    /// A listener is to be called as soon as items of a map, with ids `first..=last`, have outcomes.
    #[cfg(feature = "stream")]
    fn notify_on_arrival(&self, first: FutureId, last: FutureId) {
        let _ = (first, last);
    }
    /// Wakes an async task, on a thread that may run foreign code.
    fn wake(&self, waker: Waker) {
        unwind::call(|| waker.wake());
    }
    /// Collects outcomes that workers have left in shared memory, without blocking.
    fn poll_completions(&self) {}
    /// An outcome that was counted as a value cannot be decoded: the pool corrects its count.
    fn on_decode_failed(&self) {}
    /// Collects outcomes until the wait is over or the deadline has passed, or spins for a moment.
    fn drive_until(&self, wait: &dyn Waiter, deadline: Deadline) -> Drive {
        let _ = (wait, deadline);
        Drive::Park
    }
}

/// The answer to [`PoolHandle::try_unqueue`].
#[must_use]
pub(crate) enum Unqueue {
    /// No worker will take the task. The caller settles it, and then drops what is returned, which may hold
    /// user values.
    Removed(Box<dyn Send>),
    /// A worker has begun the task.
    Started,
    /// The task is not in the pull queue, or there is no such queue.
    NotHere,
}

/// The answer to [`PoolHandle::drive_until`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    /// The pool has waited: the caller checks its future again, and sleeps without spinning if there is no
    /// outcome.
    Recheck,
    /// The pool has not waited: the caller sleeps until another thread brings the outcome.
    Park,
}

/// A wait for one outcome, as pools see it.
pub(crate) trait Waiter {
    /// Whether there is an outcome, also one that another thread is just decoding.
    fn is_over(&self) -> bool;
    /// Calls `watcher` once there is an outcome. `false`: there is one already, and `watcher` is not called.
    fn watch(&self, key: WatchKey, watcher: Watcher) -> bool;
    fn unwatch(&self, key: WatchKey);
}

/// Where a task is, for the detection of deadlocks: which threads its end depends on.
#[derive(Debug)]
pub(crate) enum TaskLocation {
    /// In a queue, for one of these threads or one that is still to be started.
    Queued {
        /// The worker threads that exist.
        workers: Vec<ThreadId>,
        /// Whether the pool may start more.
        may_grow: bool,
    },
    /// Running on this thread.
    Running(ThreadId),
    /// Over once all of these threads have ended: what is awaited is the end of a pool.
    All(Vec<ThreadId>),
    /// Where its end does not depend on threads of pools; or it is over.
    Elsewhere,
}

/// A full pool of these workers, in which every task is queued.
#[cfg(test)]
pub(crate) struct FullPool(pub(crate) Vec<ThreadId>);

#[cfg(test)]
impl PoolHandle for FullPool {
    fn on_cancelled(&self, _: FutureId) {}
    fn cancel_range(&self, _: FutureId, _: FutureId) {}
    fn kill(&self, _: FutureId) -> bool {
        false
    }
    fn on_timeout(&self, _: FutureId) {}
    fn place(&self, _: FutureId, _: FutureId) -> TaskLocation {
        TaskLocation::Queued {
            workers: self.0.clone(),
            may_grow: false,
        }
    }
    fn workers(&self) -> Vec<ThreadId> {
        self.0.clone()
    }
    fn fail_deadlocked(&self, _: FutureId, _: FutureId) {}
}
