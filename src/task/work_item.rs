//! What a queue of the worker pool (`pool/backlog.rs`) asks of its elements. Tasks on threads and the work of
//! process pools (`transport/work.rs`) implement it.

use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::promise::Verdict;

/// An element of the backlog: a task, or a chunk of tasks with ascending ids.
pub(crate) trait WorkItem: Send + 'static {
    /// The id of the first task.
    fn id(&self) -> FutureId;
    /// The id of the last task.
    fn last(&self) -> FutureId;
    /// The number of tasks; 0 only for work that is not queued.
    fn len(&self) -> usize;
    /// Whether the task with this id is in it.
    fn contains(&self, id: FutureId) -> bool;
    /// Takes out the task with this id; `None`: it is not in it.
    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>>;
    /// Makes a task that was begun pending again, because it is to be run again.
    fn put_back(&self);
    /// Whether it is a task that was killed, so that it is not to be run again.
    fn is_given_up(&self) -> bool {
        false
    }
    /// Settles all its tasks with this error; calls `settled` for each.
    fn fail(self, error: &Error, settled: &mut dyn FnMut(Verdict));
}

/// A task that was taken out of the backlog. It holds user values, so it must be dropped without any lock
/// held.
pub(crate) trait Withdrawn: Send {
    /// Settles the task with this error, unless it has settled.
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict));
}
