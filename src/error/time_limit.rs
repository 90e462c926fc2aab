//! [`TimeLimit`]: what [`Error::TaskTimeout`](crate::Error::TaskTimeout) carries.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::task_info::TaskInfo;

/// The time limit that a task ran into, and the task. It derefs to the [`Duration`], is compared with one, and is
/// shown as one.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Error, Executor, TaskOptions, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// let options = TaskOptions::new().timeout(Duration::from_millis(5));
/// let late = pool.submit_with(options, std::thread::sleep, Duration::from_millis(50));
/// let Err(Error::TaskTimeout { limit }) = late.result() else { unreachable!() };
/// assert_eq!(limit, Duration::from_millis(5));
/// assert_eq!(format!("{limit:?}"), "5ms");
/// assert_eq!(limit.task().unwrap().location().file(), file!());
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TimeLimit(Arc<TimeoutReport>);

/// The data of a [`TimeLimit`].
#[derive(Clone, PartialEq, Eq)]
struct TimeoutReport {
    /// The limit.
    limit: Duration,
    /// The task that ran into it; `None`: not known yet.
    task: Option<TaskInfo>,
}

impl TimeLimit {
    /// The limit.
    #[must_use]
    pub fn get(&self) -> Duration {
        self.0.limit
    }

    /// The task that ran into the limit; `None` if the error was not the outcome of a task.
    #[must_use]
    pub fn task(&self) -> Option<&TaskInfo> {
        self.0.task.as_ref()
    }

    /// Sets the task, if none is set.
    pub(super) fn name_task(&mut self, task: impl FnOnce() -> TaskInfo) {
        if self.0.task.is_none() {
            Arc::make_mut(&mut self.0).task = Some(task());
        }
    }
}

impl Deref for TimeLimit {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0.limit
    }
}

impl From<Duration> for TimeLimit {
    fn from(limit: Duration) -> Self {
        Self(Arc::new(TimeoutReport { limit, task: None }))
    }
}

impl From<TimeLimit> for Duration {
    fn from(limit: TimeLimit) -> Self {
        limit.get()
    }
}

impl PartialEq<Duration> for TimeLimit {
    fn eq(&self, other: &Duration) -> bool {
        self.get() == *other
    }
}

impl PartialEq<TimeLimit> for Duration {
    fn eq(&self, other: &TimeLimit) -> bool {
        *self == other.get()
    }
}

impl PartialOrd<Duration> for TimeLimit {
    fn partial_cmp(&self, other: &Duration) -> Option<Ordering> {
        self.get().partial_cmp(other)
    }
}

impl PartialOrd<TimeLimit> for Duration {
    fn partial_cmp(&self, other: &TimeLimit) -> Option<Ordering> {
        self.partial_cmp(&other.get())
    }
}

/// The duration alone.
impl fmt::Debug for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.limit, f)
    }
}

/// The duration, as its `Debug` form shows it.
impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.limit, f)
    }
}
