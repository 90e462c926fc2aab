//! What a pool is to the tasks that it accepted.

use std::time::Instant;

use crate::future::id::FutureId;
use crate::future::state::{WatchKey, Watcher};
use crate::sync::ThreadId;

/// What a pool hears of the tasks that it accepted.
pub(crate) trait PoolHandle: Send + Sync {
    /// The task was cancelled before it began: forget it.
    fn on_cancelled(&self, id: FutureId);
    /// Nobody wants the outcomes of a map's items of these names, first and last: those that have
    /// not begun need not begin.
    fn cancel_range(&self, first: FutureId, last: FutureId);
    /// Stop the task if it runs; whether it will end as cancelled.
    fn kill(&self, id: FutureId) -> bool;
    /// The task ran into its limit, and is settled without its worker.
    fn on_timeout(&self, id: FutureId);
    /// Where the task is.
    fn place(&self, id: FutureId) -> TaskLocation;
    /// The threads that must end before the pool does, of those that wait for others.
    fn workers(&self) -> Vec<ThreadId> {
        Vec::new()
    }
    /// Nobody will ever run the task: settle it as [`Error::Deadlock`](crate::Error::Deadlock), if it is still queued.
    fn fail_deadlocked(&self, id: FutureId);
    /// Takes the task back from where workers take it by themselves, unless one has.
    fn try_unqueue(&self, id: FutureId) -> Unqueue {
        let _ = id;
        Unqueue::NotHere
    }
    /// Whether a worker that took the task by itself runs it.
    fn runs(&self, id: FutureId) -> bool {
        let _ = id;
        false
    }
    /// Somebody is to hear at once when the task is done.
    fn notify_on_completion(&self, id: FutureId) {
        let _ = id;
    }
    /// Brings in outcomes that wait to be collected.
    fn poll_completions(&self) {}
    /// What was counted as a value cannot be decoded.
    fn on_decode_failed(&self) {}
    /// Brings in outcomes until the wait is over or the deadline has passed.
    fn drive_until(&self, wait: &dyn Waiter, deadline: Option<Instant>) -> Drive {
        let _ = (wait, deadline);
        Drive::Park
    }
}

/// The answer to [`PoolHandle::try_unqueue`].
#[must_use]
pub(crate) enum Unqueue {
    /// No worker will take it; its remains are for the caller to drop, once it has settled it.
    Removed(Box<dyn Send>),
    /// A worker has begun it.
    Started,
    /// It is nowhere where workers take tasks by themselves.
    NotHere,
}

/// The answer to [`PoolHandle::drive_until`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drive {
    /// The wait is over, or its deadline has passed: look.
    Recheck,
    /// Sleep until somebody else brings the outcome.
    Park,
}

/// A wait for one future, as pools see it.
pub(crate) trait Waiter {
    /// Whether an outcome is there, be it that somebody else looks at it just now.
    fn is_over(&self) -> bool;
    /// Calls `watcher` once there is; `false`: there is already.
    fn watch(&self, key: WatchKey, watcher: Watcher) -> bool;
    fn unwatch(&self, key: WatchKey);
}

/// Where a task is, for who waits for it on a worker thread.
#[derive(Debug)]
pub(crate) enum TaskLocation {
    /// It waits for one of these threads, or one that is still to be started.
    Queued {
        /// Those that there are.
        workers: Vec<ThreadId>,
        /// Whether there may be more.
        may_grow: bool,
    },
    /// On this thread.
    Running(ThreadId),
    /// On all of these threads.
    All(Vec<ThreadId>),
    /// Where its end does not depend on threads of pools, or at its end.
    Elsewhere,
}

/// A full pool of these workers, in which whatever is asked for is queued.
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
    fn place(&self, _: FutureId) -> TaskLocation {
        TaskLocation::Queued {
            workers: self.0.clone(),
            may_grow: false,
        }
    }
    fn workers(&self) -> Vec<ThreadId> {
        self.0.clone()
    }
    fn fail_deadlocked(&self, _: FutureId) {}
}
