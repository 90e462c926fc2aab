//! Where workers take tasks by themselves, as the crew sees it.

use std::time::Instant;

use crate::executor::Stats;
use crate::future::id::FutureId;
use crate::future::pool_handle::Unqueue;
use crate::pool::backlog::{Backlog, Withdrawn};
use crate::pool::worker_state::Counts;

/// Where workers take tasks by themselves, in order, before the backlog. Called under the crew's
/// lock, unless it says otherwise, so that it must not call the crew.
pub(crate) trait PullQueue<W>: Send + Sync {
    /// Puts work that was just submitted behind all that is there.
    ///
    /// # Errors
    /// The work, where there is no room for it.
    fn put(&self, work: W) -> Result<(), W>;
    /// Puts there what is in the backlog, as long as there is room.
    fn refill(&self, backlog: &Backlog<W>);
    /// Wakes a worker for what was put there, if need be. Off locks.
    fn announce(&self);
    /// What was said last of whether there is more in the backlog. Off locks.
    fn is_behind(&self) -> bool;
    /// Says whether there is more in the backlog.
    fn set_behind(&self, is_behind: bool);
    /// How many pieces of work there are at most that no worker has ended.
    fn occupied(&self) -> usize;
    /// What is there, and what came of the rest.
    fn load(&self) -> QueueLoad;
    /// Takes out all that no worker has begun.
    fn clear(&self) -> Vec<Box<dyn Withdrawn>>;
    /// Takes a task out, unless a worker has begun it.
    fn recall(&self, id: FutureId) -> Unqueue;
    /// Takes out what no worker has begun of a map's items of these names, first and last, and has
    /// workers not begin the rest.
    fn abandon(&self, first: FutureId, last: FutureId) -> Vec<Box<dyn Withdrawn>>;
    /// Lets workers leave that find nothing there.
    fn close(&self);
    /// Has workers wait that find nothing there.
    fn reopen(&self);
    /// All workers are gone: brings in what they have left, and lets its threads leave. Off locks.
    fn end(&self);
    /// Waits until they have; `false` at the deadline. Off locks.
    fn join(&self, deadline: Option<Instant>) -> bool;
}

/// What is on a shelf.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct QueueLoad {
    /// Pieces of work that no worker has taken.
    pub(crate) waiting: usize,
    /// Tasks in them, and in those that a worker is about to be told of.
    pub(crate) tasks: usize,
    /// Tasks that run.
    pub(crate) running: usize,
    /// Pieces of work that a worker is about to be told of.
    pub(crate) claimed: usize,
    /// What came of those that are gone.
    pub(crate) counts: Counts,
}

impl QueueLoad {
    /// The public figures, these included.
    pub(crate) fn added_to(self, stats: Stats) -> Stats {
        Stats {
            idle: stats.idle.saturating_sub(self.running),
            pending: stats.pending + self.tasks,
            running: stats.running + self.running,
            completed: stats.completed + self.counts.completed,
            failed: stats.failed + self.counts.failed,
            cancelled: stats.cancelled + self.counts.cancelled,
            ..stats
        }
    }
}
