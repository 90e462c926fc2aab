//! The pull queue as the worker pool sees it: a queue outside the pool, from which workers take tasks by
//! themselves. Implemented by the process pool's in-flight table (`process/host/in_flight/`), over shared
//! memory.

use crate::executor::counts::Counts;
use crate::executor::stats::Stats;
use crate::future::id::FutureId;
use crate::future::pool_handle::Unqueue;
use crate::pool::backlog::Backlog;
use crate::sync::deadline::Deadline;
use crate::task::work_item::Withdrawn;

/// A queue from which workers take tasks by themselves, in order, before the backlog. Methods are called
/// under the pool's lock unless they say otherwise, so they must not call the pool.
pub(crate) trait PullQueue<W>: Send + Sync {
    /// Puts newly submitted work behind everything that is in the queue.
    ///
    /// # Errors
    /// The work is given back if there is no room for it.
    fn put(&self, work: W) -> Result<(), W>;
    /// Moves work from the backlog into the queue, as long as there is room.
    fn refill(&self, backlog: &Backlog<W>);
    /// Wakes a worker for work that was put there, if one sleeps. Called without locks.
    fn announce(&self);
    /// The last value of [`set_behind`](Self::set_behind). May be called without locks.
    fn is_behind(&self) -> bool;
    /// Says whether the backlog holds more work, which has to go before new work.
    fn set_behind(&self, is_behind: bool);
    /// An upper bound of the number of work items in the queue that no worker has ended.
    fn occupied(&self) -> usize;
    /// What is in the queue now, and how the tasks that left it have ended.
    fn load(&self) -> QueueLoad;
    /// Takes out all work that no worker has begun.
    fn clear(&self) -> Vec<Box<dyn Withdrawn>>;
    /// Takes a task out, unless a worker has begun it.
    fn recall(&self, id: FutureId) -> Unqueue;
    /// Takes out the items of a map with ids `first..=last` that no worker has begun, and keeps workers from
    /// beginning the rest.
    fn abandon(&self, first: FutureId, last: FutureId) -> Vec<Box<dyn Withdrawn>>;
    /// Closes the queue: a worker that finds it empty leaves.
    fn close(&self);
    /// Opens the queue again: a worker that finds it empty waits.
    fn reopen(&self);
    /// Called when all workers are gone: collects the outcomes that they have left, and lets the queue's own
    /// threads leave. Called without locks.
    fn end(&self);
    /// Whether the caller runs on one of those threads. Called without locks.
    fn includes_caller(&self) -> bool;
    /// Waits until those threads have left; `false`: the deadline has passed before. Called without locks.
    fn join(&self, deadline: Deadline) -> bool;
}

/// The contents of a pull queue at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueueLoad {
    /// Work items that no worker has taken.
    pub(crate) waiting: usize,
    /// Tasks that have not begun: those of `waiting` and `claimed` work items, and the rest of item batches
    /// that run.
    pub(crate) tasks: usize,
    /// Tasks that run.
    pub(crate) running: usize,
    /// Work items that a worker has claimed, but whose message it still has to ask for.
    pub(crate) claimed: usize,
    /// How the tasks that have left the queue ended.
    pub(crate) counts: Counts,
}

impl QueueLoad {
    /// The pool's statistics with this load added.
    pub(crate) fn added_to(self, stats: Stats) -> Stats {
        self.counts.added_to(Stats {
            idle: stats.idle.saturating_sub(self.running),
            pending: stats.pending + self.tasks,
            running: stats.running + self.running,
            ..stats
        })
    }
}
