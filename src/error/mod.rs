//! [`Error`] and the data that its variants carry. All modules use it.

mod time_limit;
mod large_value;
mod report;

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::sys::child::ProcessEnd;
use crate::task_info::TaskInfo;
use crate::unwind::Panic;

pub use large_value::LargeValue;
pub use report::ErrorReport;
pub use time_limit::TimeLimit;

/// Why a task has no result, or why a pool or process could not be made.
///
/// Corresponds to the exceptions of `concurrent.futures` (`CancelledError`, `TimeoutError`, `BrokenExecutor`)
/// and to the exception that the function raised. A `Result` that the function itself returns is not an error
/// of this kind but a value: `Ok(Err(e))`.
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
///
/// let error = ThreadPoolExecutor::new(0).unwrap_err();
/// assert!(matches!(error, Error::InvalidConfig(_)));
/// assert_eq!(error.to_string(), "invalid configuration: max_workers is 0");
/// ```
///
/// Two errors are equal if they are of the same kind and say the same, stacks included, of tasks that were
/// submitted at the same place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task was cancelled before it began, or killed while it ran. (`CancelledError`)
    #[error("the task was cancelled")]
    Cancelled,
    /// The wait ended before the task did; the task goes on. (`TimeoutError`)
    #[error("the wait timed out")]
    Timeout,
    /// The task ran longer than its limit. A process was killed; a thread goes on, and its result is ignored.
    #[error("{} ran longer than its limit of {limit}{}", Subject(limit.task()), Attempt(limit.attempts()))]
    TaskTimeout {
        /// The limit that was set for the task, which derefs to a [`Duration`](std::time::Duration), and the
        /// task.
        limit: TimeLimit,
    },
    /// The value was already taken out of this future.
    #[error("the result was taken already")]
    Taken,
    /// The wait could never end. Either a callback waited for the future whose completion it is part of, or a
    /// task of a thread pool waited for a queued task that no worker is free to run, since all workers wait
    /// in this way. (a hang)
    #[error("waiting here would never end: what is awaited waits for what awaits it")]
    Deadlock,
    /// The task, or the serde code of its argument or result, panicked. (the exception raised)
    #[error(transparent)]
    Panicked(PanicInfo),
    /// The worker process died while it ran the task. (`BrokenProcessPool`)
    #[error(transparent)]
    WorkerDied(WorkerDeath),
    /// A task wrote to the wrong address in memory that the pool's processes share, and hit the data of this
    /// task: the outcome of this task is not known. (nothing in Python: a wrong value, or a hang)
    #[error(transparent)]
    MemoryCorrupted(MemoryCorruption),
    /// The pool can run no more tasks. (`BrokenExecutor`)
    #[error("the pool is broken: {0}")]
    BrokenPool(Reason),
    /// The executor was shut down before the task was submitted. (`RuntimeError`)
    #[error("the executor was shut down")]
    ShutDown,
    /// The argument or the result could not be encoded; the reason says which of them, and its type.
    /// (`PicklingError`)
    #[error("cannot encode: {0}")]
    Encode(Reason),
    /// The argument or the result could not be decoded; the reason says which of them, and its type.
    /// (`UnpicklingError`)
    #[error("cannot decode: {0}")]
    Decode(Reason),
    /// The encoded argument or result is larger than the pool's limit.
    #[error(transparent)]
    TooLarge(LargeValue),
    /// The program did not call [`init`](crate::init) as the first statement of `main`.
    #[error("`concurrent_futures::init()` must be the first statement of `main`")]
    NotInitialized,
    /// A builder or option was given an invalid value; or a task borrows a state that its worker does not have.
    /// (`ValueError`)
    #[error("invalid configuration: {0}")]
    InvalidConfig(Reason),
    /// A process or thread could not be started. (`OSError`)
    #[error("cannot start {0}")]
    Spawn(Reason),
    /// Not supported on this platform, or for this function.
    #[error("not supported: {0}")]
    Unsupported(Reason),
}

/// The subject of an error's sentence: the task, by all that is known of it.
struct Subject<'a>(Option<&'a TaskInfo>);

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(task) => write!(f, "{task}"),
            None => f.write_str("the task"),
        }
    }
}

/// Which attempt at a task an error is of; nothing for the first one.
struct Attempt(u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 | 1 => Ok(()),
            attempt => write!(f, " (attempt {attempt})"),
        }
    }
}

/// The reason of an error, as text.
///
/// ```
/// use concurrent_futures::{Error, ProcessPoolExecutor};
///
/// # concurrent_futures::init();
/// let Err(Error::InvalidConfig(reason)) = ProcessPoolExecutor::new(0) else { unreachable!() };
/// assert_eq!(reason.as_str(), "max_workers is 0");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Reason(Arc<ReasonText>);

/// The data of a [`Reason`].
#[derive(Clone, PartialEq, Eq)]
struct ReasonText {
    /// The text of the reason.
    words: String,
    /// The task that has the error; `None`: not a task, or not known yet.
    task: Option<TaskInfo>,
}

impl Reason {
    /// The text of the reason, without the task.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0.words
    }

    /// Sets the task, if none is set.
    fn name_task(&mut self, task: impl FnOnce() -> TaskInfo) {
        if self.0.task.is_none() {
            Arc::make_mut(&mut self.0).task = Some(task());
        }
    }
}

impl<S: Into<String>> From<S> for Reason {
    fn from(words: S) -> Self {
        Self(Arc::new(ReasonText {
            words: words.into(),
            task: None,
        }))
    }
}

/// The text, and the task if it is of one.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.words)?;
        match &self.0.task {
            Some(task) => write!(f, " (in {task})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0.words, f)
    }
}

/// A panic of a task. (the exception raised)
///
/// ```
/// use concurrent_futures::{Error, Executor, SerialExecutor};
///
/// let future = SerialExecutor::new().submit(|n: usize| [1, 2, 3][n], 7);
/// let Err(Error::Panicked(panic)) = future.result() else { unreachable!() };
/// assert!(panic.message().contains("out of bounds"));
/// assert!(panic.location().is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PanicInfo(Arc<PanicReport>);

/// The data of a [`PanicInfo`].
#[derive(Debug, PartialEq, Eq)]
struct PanicReport {
    /// Message, location and stack.
    panic: Panic,
    /// The task that panicked; `None`: an initializer panicked.
    task: Option<TaskInfo>,
    /// The index of the worker that ran it; `None`: no worker ran it.
    worker: Option<usize>,
    /// How often the task was begun, this time included.
    attempts: u32,
    /// The end of the task's output; `None`: not captured.
    output: Option<String>,
}

impl PanicInfo {
    pub(crate) fn new(panic: Panic, task: Option<TaskInfo>, worker: Option<usize>) -> Self {
        Self::with_output(panic, task, worker, None)
    }

    /// Makes a panic that carries the captured output of the task, if any.
    pub(crate) fn with_output(
        panic: Panic,
        task: Option<TaskInfo>,
        worker: Option<usize>,
        output: Option<String>,
    ) -> Self {
        Self(Arc::new(PanicReport {
            panic,
            task,
            worker,
            attempts: 1,
            output,
        }))
    }

    /// The end of the task's output, if output is [captured](crate::WorkerStdio::Capture).
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        self.0.output.as_deref()
    }

    /// The text given to `panic!`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.panic.message
    }

    /// The location of the panic, as `file:line:col`. `None` if the panic was passed on by `resume_unwind`,
    /// or if the task itself has set a panic hook. After the program has set a hook that keeps the previous
    /// hook and does not call it, one panic has no location.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.0.panic.location.as_deref()
    }

    /// The stack as text, if `RUST_BACKTRACE` asked for it.
    #[must_use]
    pub fn backtrace(&self) -> Option<&str> {
        self.0.panic.backtrace.as_deref()
    }

    /// The task that panicked; `None` for an initializer.
    #[must_use]
    pub fn task(&self) -> Option<&TaskInfo> {
        self.0.task.as_ref()
    }

    /// How often the task was begun, this time included: more than once only for a task with a
    /// [`Retry`](crate::Retry).
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The index of the worker that ran the task; `None` if the panic was in the caller.
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        self.0.worker
    }
}

impl std::error::Error for PanicInfo {}

impl fmt::Display for PanicInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.task() {
            Some(task) => write!(f, "{task} panicked")?,
            None => f.write_str("panicked")?,
        }
        if let Some(worker) = self.worker() {
            write!(f, " in worker {worker}")?;
        }
        if let Some(location) = self.location() {
            write!(f, " at {location}")?;
        }
        write!(f, "{}: {}", Attempt(self.attempts()), self.message())
    }
}

/// The death of a worker process, and the task that it ran. (`BrokenProcessPool`)
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let future = pool.submit(|()| -> u8 { std::process::abort() }, ());
/// let Err(Error::WorkerDied(death)) = future.result() else { unreachable!() };
/// assert_eq!(death.signal(), Some(6));
/// assert!(death.to_string().contains("SIGABRT"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerDeath(Arc<DeathReport>);

/// The data of a [`WorkerDeath`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DeathReport {
    /// The index of the worker in its pool.
    pub(crate) worker: usize,
    /// The id of its process.
    pub(crate) pid: u32,
    /// How the process ended.
    pub(crate) end: ProcessEnd,
    /// The task that it ran.
    pub(crate) task: TaskInfo,
    /// How often the task was begun, this time included.
    pub(crate) attempts: u32,
    /// Explains the death, for example by a protocol violation or the memory limit; `None`: no explanation is
    /// known.
    pub(crate) note: Option<String>,
    /// The end of the task's output; `None`: not captured.
    pub(crate) output: Option<String>,
}

/// A stray write into the memory that a pool's processes share, and the task that it hit.
///
/// Workers find their tasks, and the program finds results, in shared memory. A task that writes past the end
/// of a buffer, or through a wild pointer, may overwrite data of other tasks there before it crashes.
/// Checksums detect that: a task that was hit ends with this error, and never with a wrong value.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// match pool.submit(|n: u64| 2 * n, 21).result() {
///     Ok(value) => assert_eq!(value, 42),
///     // It may have run: to run it again is for the program to decide.
///     Err(Error::MemoryCorrupted(hit)) => eprintln!("{hit}; suspect: {:?}", hit.worker()),
///     Err(other) => return Err(other),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryCorruption(Arc<CorruptionReport>);

/// The data of a [`MemoryCorruption`].
#[derive(Debug, PartialEq, Eq)]
struct CorruptionReport {
    /// The task that the stray write hit.
    task: TaskInfo,
    /// The suspected worker; `None`: no worker is suspected.
    suspect: Option<Suspect>,
}

/// A worker that may have made a stray write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// The index of the worker in its pool.
    pub(crate) worker: usize,
    /// The id of its process, and how it ended; `None`: it has not ended.
    pub(crate) death: Option<(u32, ProcessEnd)>,
}

impl MemoryCorruption {
    pub(crate) fn new(task: TaskInfo, suspect: Option<Suspect>) -> Self {
        Self(Arc::new(CorruptionReport { task, suspect }))
    }

    /// The task that the stray write hit.
    #[must_use]
    pub fn task(&self) -> &TaskInfo {
        &self.0.task
    }

    /// The index of the worker that is suspected of the stray write: the worker that crashed last, or else
    /// the worker whose own result was hit; `None` if there is no such worker.
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        self.0.suspect.map(|suspect| suspect.worker)
    }

    /// The process id of the suspected worker, if it has died.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let death = self.0.suspect.and_then(|suspect| suspect.death);
        death.map(|(pid, _)| pid)
    }
}

impl std::error::Error for MemoryCorruption {}

impl fmt::Display for MemoryCorruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CorruptionReport { task, suspect } = &*self.0;
        write!(
            f,
            "memory corruption: what {task} had in shared memory was overwritten"
        )?;
        match suspect {
            None => f.write_str(", by a task that has not crashed"),
            Some(Suspect {
                worker,
                death: Some((pid, end)),
            }) => write!(f, "; suspected is worker {worker} (pid {pid}), which {end}"),
            Some(Suspect {
                worker,
                death: None,
            }) => write!(f, "; suspected is a task of worker {worker}"),
        }
    }
}

impl WorkerDeath {
    pub(crate) fn new(report: DeathReport) -> Self {
        Self(Arc::new(report))
    }

    /// The id of the process that died.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The index of the worker in its pool.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.0.worker
    }

    /// The exit code of the process, if it exited.
    ///
    /// Neither this nor [`signal`](Self::signal) is known in a program that ignores SIGCHLD, or that
    /// reaps all children itself.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.0.end {
            ProcessEnd::Exited(code) => Some(code),
            ProcessEnd::Signalled(_) | ProcessEnd::Unknown => None,
        }
    }

    /// The number of the signal that ended the process, if a signal did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.0.end {
            ProcessEnd::Signalled(signal) => Some(signal),
            ProcessEnd::Exited(_) | ProcessEnd::Unknown => None,
        }
    }

    /// The task that the worker ran.
    #[must_use]
    pub fn task(&self) -> &TaskInfo {
        &self.0.task
    }

    /// The end of the task's output, if output is [captured](crate::WorkerStdio::Capture).
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        self.0.output.as_deref()
    }

    /// How often the task was begun, this time included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }
}

impl std::error::Error for WorkerDeath {}

impl fmt::Display for WorkerDeath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DeathReport {
            worker,
            pid,
            end,
            task,
            attempts,
            note,
            output: _,
        } = &*self.0;
        let attempt = Attempt(*attempts);
        write!(
            f,
            "worker {worker} (pid {pid}) {end} while it ran {task}{attempt}"
        )?;
        if let Some(note) = note {
            write!(f, ": {note}")?;
        }
        Ok(())
    }
}

impl Error {
    /// The task that has the error: its name, its function, and where it was submitted. `None` for an error
    /// that is not of a task, such as that of a wait or of a pool's settings.
    ///
    /// [`Cancelled`](Self::Cancelled), [`ShutDown`](Self::ShutDown) and [`Deadlock`](Self::Deadlock) carry
    /// nothing, so for them it is `None`, too: there [`Future::task`](crate::Future::task) tells the task.
    ///
    /// ```
    /// use concurrent_futures::{Executor, TaskOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let options = TaskOptions::new().name("halve");
    /// let failed = pool.submit_with(options, |x: u32| 1 / x, 0).result().unwrap_err();
    /// assert_eq!(failed.task().and_then(|task| task.name()), Some("halve"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn task(&self) -> Option<&TaskInfo> {
        match self {
            Self::TaskTimeout { limit } => limit.task(),
            Self::TooLarge(value) => value.task(),
            Self::Panicked(panic) => panic.task(),
            Self::WorkerDied(death) => Some(death.task()),
            Self::MemoryCorrupted(hit) => Some(hit.task()),
            Self::Encode(reason)
            | Self::Decode(reason)
            | Self::BrokenPool(reason)
            | Self::InvalidConfig(reason)
            | Self::Unsupported(reason) => reason.0.task.as_ref(),
            _ => None,
        }
    }

    /// Has the error say which task has it, if it can and does not.
    pub(crate) fn name_task(&mut self, task: impl FnOnce() -> TaskInfo) {
        match self {
            Self::TaskTimeout { limit } => limit.name_task(1, task),
            Self::TooLarge(value) => value.name_task(task),
            Self::Encode(reason)
            | Self::Decode(reason)
            | Self::BrokenPool(reason)
            | Self::InvalidConfig(reason)
            | Self::Unsupported(reason) => reason.name_task(task),
            _ => {}
        }
    }

    /// What the error says, in a form that any serde format can store and send.
    ///
    /// ```
    /// use concurrent_futures::{Executor, TaskOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let options = TaskOptions::new().name("halve");
    /// let failed = pool.submit_with(options, |x: u32| 1 / x, 0).result().unwrap_err();
    /// let report = failed.report();
    /// assert_eq!((report.kind(), report.task_name()), ("panicked", Some("halve")));
    /// assert_eq!(report.message(), failed.to_string());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn report(&self) -> ErrorReport {
        self.into()
    }

    /// The kind of the error, for metrics and reports: the name of the variant in lower case, its words joined
    /// by `_`, such as `worker_died`. It stays the same in later versions.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use concurrent_futures::{Executor, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    /// for error in pool.map(|n: u32| 12 / n, [3, 0, 4, 0]).filter_map(Result::err) {
    ///     *failures.entry(error.kind()).or_default() += 1;
    /// }
    /// assert_eq!(failures, [("panicked", 2)].into());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::TaskTimeout { .. } => "task_timeout",
            Self::Taken => "taken",
            Self::Deadlock => "deadlock",
            Self::Panicked(_) => "panicked",
            Self::WorkerDied(_) => "worker_died",
            Self::MemoryCorrupted(_) => "memory_corrupted",
            Self::BrokenPool(_) => "broken_pool",
            Self::ShutDown => "shut_down",
            Self::Encode(_) => "encode",
            Self::Decode(_) => "decode",
            Self::TooLarge(_) => "too_large",
            Self::NotInitialized => "not_initialized",
            Self::InvalidConfig(_) => "invalid_config",
            Self::Spawn(_) => "spawn",
            Self::Unsupported(_) => "unsupported",
        }
    }

    /// How often the task was begun, this time included, if it panicked, ran into its time limit, or its worker
    /// died; `None` for other errors. It is more than once with [`retries`](crate::TaskOptions::retries) or a
    /// [`Retry`](crate::Retry).
    ///
    /// ```
    /// use concurrent_futures::{Executor, Retry, SerialExecutor};
    ///
    /// let retry = Retry::new(2).after_panic();
    /// let failed = SerialExecutor::new().submit_retrying(retry, |x: u32| 1 / x, 0).result();
    /// assert_eq!(failed.unwrap_err().attempts(), Some(3));
    /// ```
    #[must_use]
    pub fn attempts(&self) -> Option<u32> {
        match self {
            Self::Panicked(panic) => Some(panic.attempts()),
            Self::WorkerDied(death) => Some(death.attempts()),
            Self::TaskTimeout { limit } => Some(limit.attempts()),
            _ => None,
        }
    }

    /// The same error, which says which task has it, and how often that was begun, if it can.
    pub(crate) fn after_attempts(mut self, attempts: u32, task: impl FnOnce() -> TaskInfo) -> Self {
        match &mut self {
            Self::Panicked(PanicInfo(report)) => {
                // It was just made, so no other error shares the report.
                if let Some(report) = Arc::get_mut(report) {
                    report.attempts = attempts;
                }
            }
            Self::TaskTimeout { limit } => limit.name_task(attempts, task),
            other => other.name_task(task),
        }
        self
    }

    /// Whether the task was cancelled or killed. (`CancelledError`)
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether time ran out: for the wait ([`Timeout`](Self::Timeout)) or for the task itself
    /// ([`TaskTimeout`](Self::TaskTimeout)). (`TimeoutError`)
    ///
    /// ```
    /// use std::time::Duration;
    /// use concurrent_futures::{Executor, TaskOptions, ThreadPoolExecutor};
    ///
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let options = TaskOptions::new().timeout(Duration::from_millis(5));
    /// let late = pool.submit_with(options, std::thread::sleep, Duration::from_millis(50));
    /// assert!(late.result().unwrap_err().is_timeout());
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout | Self::TaskTimeout { .. })
    }

    /// Whether the task, or the serde code of its argument or result, panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }

    /// Whether the worker process died while it ran the task. (`BrokenProcessPool`)
    #[must_use]
    pub fn is_worker_death(&self) -> bool {
        matches!(self, Self::WorkerDied(_))
    }

    /// The error of a process or thread, described by `what`, that could not be started.
    pub(crate) fn spawn(what: &str, cause: &io::Error) -> Self {
        Self::Spawn(format!("{what}: {cause}").into())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_error_is_small_and_goes_everywhere() {
        fn everywhere<T: Send + Sync + 'static>() {}
        everywhere::<Error>();
        assert!(size_of::<Error>() <= 24, "{}", size_of::<Error>());
        assert!(size_of::<Result<u64, Error>>() <= 24);
    }

    #[test]
    fn messages_are_lower_case_without_a_full_stop() {
        let errors = [
            Error::Cancelled,
            Error::Timeout,
            Error::Taken,
            Error::Deadlock,
            Error::ShutDown,
            Error::NotInitialized,
            Error::TooLarge(LargeValue::new("the result, of type `u8`", 9, 8)),
            Error::TaskTimeout {
                limit: Duration::from_secs(1).into(),
            },
            Error::Encode("x".into()),
            Error::BrokenPool("x".into()),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.starts_with(char::is_uppercase), "{text}");
            assert!(!text.ends_with('.'), "{text}");
        }
    }
}
