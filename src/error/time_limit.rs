//! [`TimeLimit`]: what [`Error::TaskTimeout`](crate::Error::TaskTimeout) carries.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::ops::Deref;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use crate::sync::lock;
use crate::task_info::TaskInfo;

/// The time limit that a task ran into, and the task. It derefs to the [`Duration`], is compared with one, and is
/// shown as one.
///
/// It is `Copy`, as a duration is. So what is known of such tasks is kept as long as the program runs, each once;
/// from the 65 536th name on without the name, which [`Future::task`](crate::Future::task) still tells.
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
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TimeLimit {
    /// The limit.
    limit: Duration,
    /// The task that ran into it, one of [`KEPT_TASKS`]; `None`: not known yet.
    late: Option<&'static LateTask>,
}

/// A task that ran into its time limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LateTask {
    /// The task.
    info: TaskInfo,
    /// How often it was begun, this time included.
    attempts: u32,
}

/// All that ran into a time limit: each different task once, for each number of attempts. Its lock may be taken
/// under any; nothing is called under it.
static KEPT_TASKS: LazyLock<Mutex<HashSet<&'static LateTask>>> = LazyLock::new(Mutex::default);

/// From this number of tasks on, names are not kept: there is no end of names that are made as the program runs.
/// Places and functions are as many as the program has.
const MAX_NAMED: usize = 1 << 16;

impl TimeLimit {
    /// The limit.
    #[must_use]
    pub const fn get(&self) -> Duration {
        self.limit
    }

    /// The task that ran into the limit; `None` if the error was not the outcome of a task.
    #[must_use]
    pub fn task(&self) -> Option<&'static TaskInfo> {
        self.late.map(|late| &late.info)
    }

    /// How often the task was begun, this time included: more than once with a [`Retry`](crate::Retry).
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.late.map_or(1, |late| late.attempts)
    }

    /// Sets the task, which was begun so often, if none is set.
    pub(super) fn name_task(&mut self, attempts: u32, task: impl FnOnce() -> TaskInfo) {
        self.late = self.late.or_else(|| {
            let info = task();
            Some(kept(LateTask { info, attempts }, MAX_NAMED))
        });
    }
}

/// The task among [`KEPT_TASKS`], to which it is added if need be; without its name if `max_named` are there.
fn kept(late: LateTask, max_named: usize) -> &'static LateTask {
    let mut kept_tasks = lock(&*KEPT_TASKS);
    let late = match kept_tasks.contains(&late) || kept_tasks.len() < max_named {
        true => late,
        false => LateTask {
            info: late.info.without_name(),
            ..late
        },
    };
    if let Some(found) = kept_tasks.get(&late) {
        return found;
    }
    let late: &'static LateTask = Box::leak(Box::new(late));
    kept_tasks.insert(late);
    late
}

impl Deref for TimeLimit {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.limit
    }
}

impl From<Duration> for TimeLimit {
    fn from(limit: Duration) -> Self {
        Self { limit, late: None }
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
        fmt::Debug::fmt(&self.limit, f)
    }
}

/// The duration, as its `Debug` form shows it.
impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.limit, f)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::task_info::Function;
    use crate::task_name::TaskName;

    #[track_caller]
    fn task() -> LateTask {
        LateTask {
            info: TaskInfo::new(None, Location::caller(), Function::Type("f")),
            attempts: 1,
        }
    }

    #[test]
    fn a_task_is_kept_once() {
        let [one, other] = [task(), task()];
        let first = kept(one.clone(), usize::MAX);
        assert_eq!(first, &one);
        assert!(std::ptr::eq(first, kept(one, usize::MAX)));
        assert!(!std::ptr::eq(first, kept(other, usize::MAX)));
        let again = LateTask {
            attempts: 2,
            ..first.clone()
        };
        assert_eq!(kept(again, usize::MAX).attempts, 2);
    }

    #[test]
    fn of_too_many_tasks_no_names_are_kept() {
        let named = |name| {
            let (name, function) = (TaskName::Static(name), Function::Type("f"));
            LateTask {
                info: TaskInfo::new(Some(name), Location::caller(), function),
                attempts: 1,
            }
        };
        let known = kept(named("known"), usize::MAX);
        let [one, other] = ["one", "other"].map(|name| kept(named(name), 0));
        let names = (one.info.name(), known.info.name());
        assert_eq!(names, (None, Some("known")));
        assert!(std::ptr::eq(one, other));
        assert!(std::ptr::eq(known, kept(named("known"), 0)));
    }
}
