//! [`Process`]: one function, run in a child process of its own.
//!
//! Uses the same handshake and connection as process pools (`process/host/`), but no queue and no arena. One
//! thread of the program for each child, its supervisor, sends the task, receives the outcome and settles the
//! future.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::panic::Location;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::error::Error;
use crate::future::Future;
use crate::future::state::Start;
use crate::options::TaskOptions;
use crate::process::host::child::{ChildProcess, SpawnOn};
use crate::process::host::config::WorkerConfig;
use crate::process::host::connection::{Connection, Disconnect, Response};
use crate::process::host::handshake::StartError;
use crate::process::host::pipeline::WorkerExit;
use crate::process::host::stdio::{Captured, WorkerStdio};
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::lease::NoStore;
use crate::remote::payload::Payload;
use crate::sync::deadline::Deadline;
use crate::sys::child::ProcessEnd;
use crate::sys::stack;
use crate::task::request::Request;
use crate::task::{RemoteForm, Task};
use crate::task_info::TaskInfo;
use crate::transport::fault::{Fault, error_of};

/// A function that is to run in a child process of its own. (`multiprocessing.Process`)
///
/// ```
/// use concurrent_futures::{Error, Process};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let child = Process::new(|n: u64| n * n, 12).name("squarer").start()?;
/// assert_ne!(child.pid(), std::process::id());
/// assert_eq!(child.join()?, 144);
/// # Ok(())
/// # }
/// ```
#[must_use = "a process does nothing unless started"]
pub struct Process<A, R> {
    /// The name given by the user; `None`: `start` names it `Process-N`.
    name: Option<String>,
    /// The function that the child runs.
    function: fn(A) -> R,
    /// The function's argument.
    argument: A,
    /// Where the user called `new`; errors report it.
    location: &'static Location<'static>,
    /// How long the function may run; `None`: without limit.
    timeout: Option<Duration>,
    /// How the child is started.
    worker_config: WorkerConfig,
    /// The first invalid setting; `start` returns it.
    fault: Option<Error>,
}

/// A child process that runs one function. (`multiprocessing.Process`, started)
///
/// Dropping it kills and reaps the process.
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Error, Process};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let mut child = Process::new(|()| -> u8 { loop { std::thread::park() } }, ()).start()?;
/// assert!(matches!(child.join_timeout(Duration::from_millis(5)), Err(Error::Timeout)));
/// assert!(child.is_alive());
/// assert_eq!(child.exit_code(), None);
/// child.kill();
/// let Err(Error::WorkerDied(death)) = child.join() else { unreachable!() };
/// assert_eq!(death.signal(), Some(9));
/// # Ok(())
/// # }
/// ```
pub struct RunningProcess<R> {
    /// The name given by the user, or `Process-N`.
    name: String,
    /// The process.
    process: Arc<ChildProcess>,
    /// The function's result; done once the process is reaped. `None` once `join` has taken it.
    future: Option<Future<R>>,
    /// The exit code that follows from the outcome that the child sent; not set until one has come.
    exit_code: Arc<OnceLock<i32>>,
    /// The thread that receives the result; `None` once joined.
    supervisor: Option<JoinHandle<()>>,
}

impl<A: Payload, R: Payload> Process<A, R> {
    /// A process that will run `f(arg)` in a child. (`Process(target, args)`)
    #[track_caller]
    pub fn new(f: fn(A) -> R, arg: A) -> Self {
        Self {
            name: None,
            function: f,
            argument: arg,
            location: Location::caller(),
            timeout: None,
            worker_config: WorkerConfig::new(),
            fault: None,
        }
    }

    /// Names the process; `Process-1`, `Process-2`… if not given. Errors of the function tell a given name.
    /// (`Process(name)`)
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Sets an environment variable for the child.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Process};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let child = Process::new(|name: String| std::env::var(name).ok(), "LANG".into());
    /// assert_eq!(child.env("LANG", "C").start()?.join()?.as_deref(), Some("C"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let set = self.worker_config.environment.set(key.into(), value.into());
        self.note(set);
        self
    }

    /// Sets environment variables for the child.
    pub fn envs<K: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        variables.fold(self, |process, (key, value)| process.env(key, value))
    }

    /// Removes an environment variable, which the child would inherit from the program or which was
    /// [set](Self::env) before.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        let removed = self.worker_config.environment.remove(key.into());
        self.note(removed);
        self
    }

    /// Removes all environment variables: the child inherits none, and those that were [set](Self::env)
    /// before are forgotten.
    pub fn env_clear(mut self) -> Self {
        self.worker_config.environment.clear();
        self
    }

    /// The current directory in which the child starts; that of the program if not given.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.worker_config.current_dir = Some(dir.into());
        self
    }

    /// The file, or the end of a pipe, that is the child's standard input; without it, the input is empty.
    ///
    /// ```
    /// # use std::fs::File;
    /// # use std::io::Read;
    /// # use concurrent_futures::{Error, Process};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # concurrent_futures::init();
    /// let count = |()| std::io::stdin().bytes().count();
    /// let child = Process::new(count, ()).stdin(File::open("Cargo.toml")?).start()?;
    /// assert!(child.join()? > 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdin(mut self, input: File) -> Self {
        self.worker_config.input = Some(Arc::new(input));
        self
    }

    /// Where the child's standard output goes; to the program's standard output if not given.
    pub fn stdout(mut self, policy: WorkerStdio) -> Self {
        self.worker_config.stdout = policy;
        self
    }

    /// Where the child's standard error goes; to the program's standard error if not given. With
    /// [`WorkerStdio::Capture`], the error of a function that panicked or died has the end of it.
    pub fn stderr(mut self, policy: WorkerStdio) -> Self {
        self.worker_config.stderr = policy;
        self
    }

    /// How long the function may run; without limit if not given. At the limit the child is killed, and
    /// [`join`](RunningProcess::join) returns [`Error::TaskTimeout`].
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use concurrent_futures::{Error, Process};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let endless = Process::new(|()| -> u8 { loop { std::thread::park() } }, ());
    /// let child = endless.timeout(Duration::from_millis(20)).start()?;
    /// assert!(matches!(child.join(), Err(Error::TaskTimeout { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// The most bytes of memory that the child may have of its own, as
    /// [`ProcessPoolBuilder::memory_limit`](crate::ProcessPoolBuilder::memory_limit) says; without limit if
    /// not given.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.worker_config.memory_limit = Some(bytes);
        if bytes == 0 {
            self.note(Err(Error::InvalidConfig("memory_limit is 0".into())));
        }
        self
    }

    /// Starts the child. It consumes `self`, so that a process is started at most once.
    /// (`Process.start`)
    ///
    /// # Errors
    /// [`Error::NotInitialized`] if the program did not call [`init`](crate::init);
    /// [`Error::Unsupported`] on another system than Linux, or if it has more rights than the user that
    /// started it; [`Error::InvalidConfig`] if a setting is invalid; [`Error::Encode`], [`Error::TooLarge`] or
    /// [`Error::Panicked`] if the argument cannot be encoded; [`Error::Spawn`] if the child cannot be
    /// started.
    pub fn start(self) -> Result<RunningProcess<R>, Error> {
        let worker_config = self.worker_config;
        worker_config.check()?;
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.name.as_ref().is_some_and(|name| name.contains('\0')) {
            let words = "the name of a process has a NUL character";
            return Err(Error::InvalidConfig(words.into()));
        }
        let mut options = TaskOptions::new();
        if let Some(name) = &self.name {
            options = options.name(name.clone());
        }
        if let Some(limit) = self.timeout {
            options = options.timeout(limit);
        }
        let (task, future) =
            Task::portable_from(self.location, options, self.function, self.argument);
        let outgoing = task.into_outgoing(worker_config.payload_limit, &NoStore, &mut |_| ());
        let RemoteForm::One(task) = outgoing else {
            return Err(future.exception().unwrap_or(Error::Cancelled));
        };
        let name = self.name.unwrap_or_else(next_name);
        let connection = worker_config
            .start(0, SpawnOn::WaitThread, |_| (), |_| ())
            .map_err(|f| spawn_error(f, &name))?;
        let process = Arc::clone(connection.process());
        let exit_code = Arc::default();
        let its_exit_code = Arc::clone(&exit_code);
        let supervisor = std::thread::Builder::new()
            .name(format!("cf-{name}")) // the system shows 15 bytes of it
            .stack_size(stack::size())
            .spawn(move || {
                attend(
                    connection,
                    &worker_config,
                    Request::new(task),
                    &its_exit_code,
                )
            })
            .map_err(|error| Error::spawn("a thread", &error))?;
        Ok(RunningProcess {
            name,
            process,
            future: Some(future),
            exit_code,
            supervisor: Some(supervisor),
        })
    }

    /// Keeps the first fault of a setting, for `start`.
    fn note(&mut self, setting: Result<(), Error>) {
        if let (None, Err(fault)) = (&self.fault, setting) {
            self.fault = Some(fault);
        }
    }
}

impl<R> RunningProcess<R> {
    /// The child's process id. (`Process.pid`)
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The child's name. (`Process.name`)
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What errors tell of the function: its name, the [name given to the process](Process::name), and where
    /// [`Process::new`] was called.
    #[must_use]
    pub fn task(&self) -> TaskInfo {
        match &self.future {
            Some(future) => future.task(),
            None => unreachable!("only `join`, which consumes, takes the future"),
        }
    }

    /// Whether the child still lives. (`Process.is_alive`)
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.process.end().is_none()
    }

    /// The child's exit code, or minus the signal that ended it; `None` while it lives. If the function
    /// panicked, the code is 1. (`Process.exitcode`)
    ///
    /// In a program that ignores SIGCHLD, or that reaps all children itself, the code is 0 or 1 once the
    /// function's outcome has come, and otherwise stays `None`, because the system reports no code.
    #[must_use]
    pub fn exit_code(&self) -> Option<i32> {
        match self.process.end()? {
            ProcessEnd::Exited(code) => Some(code),
            ProcessEnd::Signalled(signal) => Some(-signal),
            ProcessEnd::Unknown => self.exit_code.get().copied(),
        }
    }

    /// Asks the child to end, by SIGTERM. (`Process.terminate`) If the system refuses that signal, the child
    /// ends as by [`kill`](Self::kill).
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// Ends the child, and the processes that it started, by SIGKILL. (`Process.kill`)
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Waits for the child's end, and returns its function's result. (`Process.join`)
    ///
    /// # Errors
    /// How the function ended if it has no result: [`Error::Panicked`], [`Error::WorkerDied`],
    /// [`Error::Encode`], [`Error::Decode`], [`Error::TooLarge`], [`Error::TaskTimeout`].
    pub fn join(mut self) -> Result<R, Error> {
        let result = match self.future.take() {
            Some(future) => future.result(),
            None => unreachable!("only `join`, which consumes, takes the future"),
        };
        self.join_supervisor();
        result
    }

    /// Like [`join`](Self::join), but waits at most for `limit`. (`Process.join(timeout)`)
    ///
    /// # Errors
    /// [`Error::Timeout`] if the child did not end in time: it goes on, and `join_timeout` can be called
    /// again. [`Error::Taken`] once it has returned the result. Otherwise the errors of `join`.
    pub fn join_timeout(&mut self, limit: Duration) -> Result<R, Error> {
        match &mut self.future {
            Some(future) => future.result_timeout(limit),
            None => unreachable!("only `join`, which consumes, takes the future"),
        }
    }

    fn join_supervisor(&mut self) {
        if let Some(supervisor) = self.supervisor.take() {
            if supervisor.thread().id() == std::thread::current().id() {
                return; // the waker that it calls has dropped this: it ends by itself
            }
            // It cannot have panicked: all user code that it runs is caught.
            let _ = supervisor.join();
        }
    }
}

/// Waits for the child's end without blocking a thread, and returns what [`join`](RunningProcess::join) does.
/// Dropping the future kills the child, so a runtime's own time limit around it does.
///
/// ```
/// # use concurrent_futures::{Error, Process};
/// # fn main() -> Result<(), Error> {
/// # concurrent_futures::init();
/// # fn block_on<F: Future>(future: F) -> F::Output {
/// #     let mut future = std::pin::pin!(future);
/// #     let mut context = std::task::Context::from_waker(std::task::Waker::noop());
/// #     loop {
/// #         if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) { return output; }
/// #         std::thread::yield_now();
/// #     }
/// # }
/// let squared = async { Process::new(|n: u64| n * n, 12).start()?.await };
/// assert_eq!(block_on(squared)?, 144);
/// # Ok(())
/// # }
/// ```
impl<R> std::future::Future for RunningProcess<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.future {
            Some(future) => Pin::new(future).poll(context),
            None => unreachable!("only `join`, which consumes, takes the future"),
        }
    }
}

impl<R> Drop for RunningProcess<R> {
    fn drop(&mut self) {
        if self.process.is_elsewhere() {
            // A forked copy of the program: neither the child nor the thread belongs to it.
            std::mem::forget(self.supervisor.take());
        } else if self.supervisor.is_some() {
            self.process.kill();
            self.join_supervisor();
        }
    }
}

impl<R> fmt::Debug for RunningProcess<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningProcess")
            .field("name", &self.name)
            .field("pid", &self.pid())
            .field("exit_code", &self.exit_code())
            .finish()
    }
}

impl<A, R> fmt::Debug for Process<A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn next_name() -> String {
    static STARTED: AtomicUsize = AtomicUsize::new(1);
    // ORDERING: Relaxed; only the uniqueness of the number matters.
    format!("Process-{}", STARTED.fetch_add(1, Ordering::Relaxed))
}

fn spawn_error(failure: StartError, name: &str) -> Error {
    let (StartError::Start(error)
    | StartError::Interrupted(error)
    | StartError::Initializer(error)) = failure;
    match error {
        Error::BrokenPool(reason) => Error::Spawn(format!("{name}: {reason}").into()),
        other => other,
    }
}

/// Main function of the supervisor thread: sends the child its task, and settles the outcome once the child
/// has ended.
fn attend(
    mut connection: Connection,
    worker_config: &WorkerConfig,
    request: Request,
    exit_code: &OnceLock<i32>,
) {
    if request.promise.start() == Start::Cancelled {
        return;
    }
    let info = request.promise.info();
    let limit = request.options.given_timeout();
    let outcome = match (converse(&mut connection, &request, limit), limit) {
        (Ok(outcome), _) => {
            // Set before the child ends: a thread that sees the end also sees the code.
            exit_code.get_or_init(|| i32::from(matches!(outcome, Err(Fault::Panicked(_)))));
            let printed = printed(&connection);
            connection.close();
            outcome.map_err(|fault| error_of(fault, info, 0, printed))
        }
        (Err(Disconnect::Late), Some(limit)) => {
            connection.kill_and_reap();
            let limit = limit.into();
            Err(Error::TaskTimeout { limit })
        }
        (Err(broken), _) => {
            let death = WorkerExit::of_worker(0, &mut connection, worker_config);
            Err(death.of(info, 1, broken, printed(&connection)))
        }
    };
    let promise = request.into_promise();
    match outcome {
        Ok(value) => {
            let news = promise.leave(Source::Owned(value), &mut |_| ());
            // Nobody else has the future, so it has no callbacks; it may have a waker.
            if let Some(news) = news {
                news.deliver();
            }
        }
        Err(error) => promise.fail(error, &mut |_| ()),
    }
}

/// Sends the task, and receives the child's answer.
fn converse(
    connection: &mut Connection,
    request: &Request,
    limit: Option<Duration>,
) -> Result<Result<Encoded, Fault>, Disconnect> {
    let deadline = Deadline::after_limit(limit);
    connection.send_within(limit, &[request]);
    Ok(match connection.receive(deadline)? {
        Response::Value(value) => Ok(value),
        Response::Stored(_) => {
            return Err(Disconnect::ProtocolViolation(
                "there is no place for its result",
            ));
        }
        Response::Fault(fault) => Err(fault),
    })
}

/// The end of what the child has printed; `None`: that is not captured.
fn printed(connection: &Connection) -> Option<String> {
    connection.output().and_then(Captured::take)
}
