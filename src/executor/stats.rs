//! [`Stats`]: the statistics of an executor. Worker pools count them (`pool/workers.rs`); so does
//! `SerialExecutor`.

/// What an executor is doing now, and how many tasks have ended.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// pool.submit(|x: u8| x, 1).result()?;
/// let stats = pool.stats();
/// assert_eq!((stats.workers, stats.idle, stats.completed), (1, 1, 1));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Workers that exist, including those that are starting.
    pub workers: usize,
    /// Workers that wait for a task.
    pub idle: usize,
    /// Tasks that were accepted and have not begun.
    pub pending: usize,
    /// Tasks that have begun and have not ended.
    pub running: usize,
    /// Tasks that returned a value.
    pub completed: u64,
    /// Tasks that ended with an error other than [`Error::Cancelled`](crate::Error::Cancelled).
    pub failed: u64,
    /// Tasks that were cancelled or killed.
    pub cancelled: u64,
    /// Workers started in place of one that was lost.
    pub worker_restarts: u64,
}
