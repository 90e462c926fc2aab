//! What can go wrong, and what is known when it has.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::task_info::TaskInfo;
use crate::unwind::Panic;

/// Why a task has no result, or why a pool or process could not be made.
///
/// Mirrors the exceptions of `concurrent.futures`: `CancelledError`, `TimeoutError`,
/// `BrokenExecutor`, and whatever the function raised. A function's own `Result` is no error of
/// this kind but a value: `Ok(Err(e))`.
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
///
/// let error = ThreadPoolExecutor::new(0).unwrap_err();
/// assert!(matches!(error, Error::InvalidConfig(_)));
/// assert_eq!(error.to_string(), "invalid configuration: max_workers is 0");
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The task was cancelled before it began, or killed while it ran. (`CancelledError`)
    #[error("the task was cancelled")]
    Cancelled,
    /// The wait ended before the task did; the task goes on. (`TimeoutError`)
    #[error("the wait timed out")]
    Timeout,
    /// The task ran longer than its limit: a process was killed, a thread goes on unheard.
    #[error("the task ran longer than its limit of {limit:?}")]
    TaskTimeout {
        /// The limit that it was given.
        limit: Duration,
    },
    /// The value was taken out of this future before.
    #[error("the result was taken already")]
    Taken,
    /// The wait could never end: a callback waited for the future whose completion it is part of,
    /// or a task of a thread pool for a queued one that no worker is free to run, each of them
    /// waiting in the same way. (a hang)
    #[error("waiting here would never end: what is awaited waits for what awaits it")]
    Deadlock,
    /// The task, or serde code of its argument or result, panicked. (the exception raised)
    #[error(transparent)]
    Panicked(PanicInfo),
    /// The worker process died while it ran the task. (`BrokenProcessPool`)
    #[error(transparent)]
    WorkerDied(WorkerDeath),
    /// A task wrote where it should not, into memory that the pool's processes share, and hit this one: what
    /// came of it is not known. (nothing in Python: a wrong value, or a hang)
    #[error(transparent)]
    MemoryCorrupted(MemoryCorruption),
    /// The pool can run no more tasks. (`BrokenExecutor`)
    #[error("the pool is broken: {0}")]
    BrokenPool(Reason),
    /// The executor was shut down before the task was submitted. (`RuntimeError`)
    #[error("the executor was shut down")]
    ShutDown,
    /// The argument or the result could not be encoded; the reason says which, and of what type it is.
    /// (`PicklingError`)
    #[error("cannot encode: {0}")]
    Encode(Reason),
    /// The argument or the result could not be decoded; the reason says which, and of what type it is.
    /// (`UnpicklingError`)
    #[error("cannot decode: {0}")]
    Decode(Reason),
    /// The encoded argument or result is over the pool's limit; both in bytes.
    #[error("a message of {size} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// The size of the encoded value.
        size: u64,
        /// The limit that applied.
        limit: u64,
    },
    /// The program did not call [`init`](crate::init) as the first statement of `main`.
    #[error("`concurrent_futures::init()` must be the first statement of `main`")]
    NotInitialized,
    /// A builder or option was given a value that makes no sense. (`ValueError`)
    #[error("invalid configuration: {0}")]
    InvalidConfig(Reason),
    /// A process or thread could not be started. (`OSError`)
    #[error("cannot start {0}")]
    Spawn(Reason),
    /// Not possible here: on this platform, or for this function.
    #[error("not supported: {0}")]
    Unsupported(Reason),
}

/// A reason in words.
///
/// ```
/// use concurrent_futures::{Error, ProcessPoolExecutor};
///
/// # concurrent_futures::init();
/// let Err(Error::InvalidConfig(reason)) = ProcessPoolExecutor::new(0) else { unreachable!() };
/// assert_eq!(reason.as_str(), "max_workers is 0");
/// ```
#[derive(Clone)]
pub struct Reason(Arc<String>);

impl Reason {
    /// The words.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<S: Into<String>> From<S> for Reason {
    fn from(words: S) -> Self {
        Self(Arc::new(words.into()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
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
#[derive(Debug, Clone)]
pub struct PanicInfo(Arc<PanicReport>);

/// What a [`PanicInfo`] points to.
#[derive(Debug)]
struct PanicReport {
    /// Message, location, stack.
    panic: Panic,
    /// The task that panicked, where it was one.
    task: Option<TaskInfo>,
    /// The index of the worker that ran it, where it was one.
    worker: Option<usize>,
    /// What it printed, where that was captured.
    output: Option<String>,
}

impl PanicInfo {
    pub(crate) fn new(panic: Panic, task: Option<TaskInfo>, worker: Option<usize>) -> Self {
        Self::with_output(panic, task, worker, None)
    }

    /// With what the task printed.
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
            output,
        }))
    }

    /// The end of what the task printed, where that is [captured](crate::WorkerStdio::Capture).
    #[must_use]
    pub fn output(&self) -> Option<&str> {
        self.0.output.as_deref()
    }

    /// The text given to `panic!`.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.panic.message
    }

    /// Where it panicked, as `file:line:col`. `None` if the panic was passed on by `resume_unwind`, or if the task
    /// itself has set a panic hook. After a hook that keeps the one before it and does not call it, one panic has
    /// no location.
    #[must_use]
    pub fn location(&self) -> Option<&str> {
        self.0.panic.location.as_deref()
    }

    /// The stack as text, where `RUST_BACKTRACE` asked for it.
    #[must_use]
    pub fn backtrace(&self) -> Option<&str> {
        self.0.panic.backtrace.as_deref()
    }

    /// The task that panicked; `None` for an initializer.
    #[must_use]
    pub fn task(&self) -> Option<&TaskInfo> {
        self.0.task.as_ref()
    }

    /// The index of the worker that ran it; `None` if the panic was in the caller.
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
        write!(f, ": {}", self.message())
    }
}

/// The death of a worker process, and the task that it took along. (`BrokenProcessPool`)
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
#[derive(Debug, Clone)]
pub struct WorkerDeath(Arc<DeathReport>);

/// What a [`WorkerDeath`] points to.
#[derive(Debug)]
pub(crate) struct DeathReport {
    /// Index of the worker in its pool.
    pub(crate) worker: usize,
    /// Its process.
    pub(crate) pid: u32,
    /// How it ended.
    pub(crate) end: ProcessEnd,
    /// What it ran.
    pub(crate) task: TaskInfo,
    /// How often that was begun.
    pub(crate) attempts: u32,
    /// What it did before, where that explains the end.
    pub(crate) note: Option<String>,
    /// What the task printed, where that was captured.
    pub(crate) output: Option<String>,
}

/// A stray write into the memory that a pool's processes share, and the task that it hit.
///
/// Workers find their tasks, and the program finds outcomes, in shared memory. A task that writes past
/// the end of a buffer, or through a wild pointer, may hit what is there of other tasks before it crashes. What
/// was hit is found out by checksums: such a task ends with this error, and never with another value.
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
#[derive(Debug, Clone)]
pub struct MemoryCorruption(Arc<CorruptionReport>);

/// What a [`MemoryCorruption`] points to.
#[derive(Debug)]
struct CorruptionReport {
    /// The task that was hit.
    task: TaskInfo,
    /// The worker that is suspected, if one is.
    suspect: Option<Suspect>,
}

/// A worker that may have written where it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Suspect {
    /// Its index in its pool.
    pub(crate) worker: usize,
    /// Its process, and how that ended; `None`: it has not ended.
    pub(crate) death: Option<(u32, ProcessEnd)>,
}

impl MemoryCorruption {
    pub(crate) fn new(task: TaskInfo, suspect: Option<Suspect>) -> Self {
        Self(Arc::new(CorruptionReport { task, suspect }))
    }

    /// The task that was hit.
    #[must_use]
    pub fn task(&self) -> &TaskInfo {
        &self.0.task
    }

    /// The index of the worker that is suspected to have written there: the one that crashed last, or else
    /// the one whose own outcome was hit; `None` if there is none.
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        self.0.suspect.map(|suspect| suspect.worker)
    }

    /// The process of the worker that is suspected, if it has died.
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

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessEnd {
    /// It called `exit`, or returned from `main`.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It has ended, and nobody knows how: the system or another thread of the program has reaped it.
    Unknown,
}

impl WorkerDeath {
    pub(crate) fn new(report: DeathReport) -> Self {
        Self(Arc::new(report))
    }

    /// The process that died.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.pid
    }

    /// The index of the worker in its pool.
    #[must_use]
    pub fn worker(&self) -> usize {
        self.0.worker
    }

    /// Its exit code, if it exited.
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

    /// The signal that ended it, if one did.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match self.0.end {
            ProcessEnd::Signalled(signal) => Some(signal),
            ProcessEnd::Exited(_) | ProcessEnd::Unknown => None,
        }
    }

    /// The task that it ran.
    #[must_use]
    pub fn task(&self) -> &TaskInfo {
        &self.0.task
    }

    /// The end of what the task printed, where that is [captured](crate::WorkerStdio::Capture).
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
        write!(f, "worker {worker} (pid {pid}) {end} while it ran {task}")?;
        if *attempts > 1 {
            write!(f, " (attempt {attempts})")?;
        }
        if let Some(note) = note {
            write!(f, ": {note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => {
                write!(f, "was ended by signal {signal}")?;
                signal_name(signal).map_or(Ok(()), |name| write!(f, " ({name})"))
            }
            Self::Unknown => {
                f.write_str("ended in an unknown way (its exit status was taken by somebody else)")
            }
        }
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

impl Error {
    /// Why a process or thread named `what` could not be started.
    pub(crate) fn spawn(what: &str, cause: &io::Error) -> Self {
        Self::Spawn(format!("{what}: {cause}").into())
    }
}

#[cfg(test)]
mod tests {
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
            Error::TooLarge { size: 9, limit: 8 },
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
