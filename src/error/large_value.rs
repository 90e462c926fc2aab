//! [`LargeValue`]: what [`Error::TooLarge`](crate::Error::TooLarge) carries.

use std::fmt;
use std::sync::Arc;

use crate::task_info::TaskInfo;

/// An argument or a result that is larger, once encoded, than the limit.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::builder().max_workers(1).payload_limit(1000).build()?;
/// let long = pool.submit(|text: String| text.len(), "x".repeat(1001));
/// let Err(Error::TooLarge(value)) = long.result() else { unreachable!() };
/// assert_eq!((value.size(), value.limit()), (1001, 1000));
/// assert_eq!(value.value(), "the argument, of type `alloc::string::String`");
/// assert!(value.task().is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeValue(Arc<SizeReport>);

/// The data of a [`LargeValue`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct SizeReport {
    /// Which value it is, and its type.
    value: String,
    /// Its size once encoded, in bytes.
    size: u64,
    /// The limit, in bytes.
    limit: u64,
    /// The task that the value belongs to; `None`: none, or not known yet.
    task: Option<TaskInfo>,
}

impl LargeValue {
    pub(crate) fn new(value: impl Into<String>, size: u64, limit: u64) -> Self {
        Self(Arc::new(SizeReport {
            value: value.into(),
            size,
            limit,
            task: None,
        }))
    }

    /// Which value it is (the argument, the context of a map, or the result), and the name of its type.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.0.value
    }

    /// The size of the encoded value, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The limit that applied, in bytes.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.0.limit
    }

    /// The task whose argument or result it is; `None` for an initializer's argument.
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

impl std::error::Error for LargeValue {}

impl fmt::Display for LargeValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SizeReport {
            value,
            size,
            limit,
            task,
        } = &*self.0;
        write!(
            f,
            "{value}, has {size} bytes encoded, over the limit of {limit} bytes"
        )?;
        match task {
            Some(task) => write!(f, " (in {task})"),
            None => Ok(()),
        }
    }
}
