//! [`ProcessPoolBuilder`]: the settings of a process pool. They become a [`WorkerConfig`] (how workers are
//! started) and [`Limits`] (of the worker pool).

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, PanicInfo};
use crate::pool::Limits;
use crate::pool::observer::Observer;
use crate::preparation::{AsCheckedState, AsState, Checked, Duty};
use crate::process::host::config::WorkerConfig;
use crate::process::host::lines::{LineFunction, WorkerLine};
use crate::process::host::stdio::WorkerStdio;
use crate::process::pool::ProcessPoolExecutor;
use crate::remote::codec;
use crate::remote::function::{self, FunctionRef};
use crate::remote::payload::Payload;
use crate::trace::PoolTracing;
use crate::transport::messages::StartCall;
use crate::unwind;

/// Settings of a [`ProcessPoolExecutor`]. (the arguments of `ProcessPoolExecutor()`)
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::builder()
///     .max_workers(2)
///     .env("LANGUAGE", "C")
///     .current_dir("/")
///     .initializer(|greeting: String| eprintln!("{greeting}"), "a worker is up".into())
///     .start_timeout(Duration::from_secs(5))
///     .build()?;
/// let language = pool.submit(|name: String| std::env::var(name).ok(), "LANGUAGE".into());
/// assert_eq!(language.result()?.as_deref(), Some("C"));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct ProcessPoolBuilder {
    /// The most worker processes; `None`: the available parallelism.
    max_workers: Option<usize>,
    /// The most tasks that may wait; `None`: no limit.
    max_pending: Option<usize>,
    /// How long a worker may be idle before it leaves; `None`: for ever.
    idle_timeout: Option<Duration>,
    /// How long a worker has between SIGTERM and SIGKILL.
    terminate_grace: Duration,
    /// Is told what workers do.
    observers: Vec<Arc<dyn Observer>>,
    /// What `tracing` is told of tasks and workers.
    tracing: PoolTracing,
    /// How workers are started.
    worker_config: WorkerConfig,
    /// The first invalid setting; `build` returns it.
    fault: Option<Error>,
}

impl ProcessPoolExecutor {
    /// A pool of at most `max_workers` processes. (`ProcessPoolExecutor(max_workers)`)
    ///
    /// # Errors
    /// [`Error::NotInitialized`] if the program did not call [`init`](crate::init),
    /// [`Error::Unsupported`] if it has more rights than the user that started it,
    /// [`Error::InvalidConfig`] if `max_workers` is 0.
    pub fn new(max_workers: usize) -> Result<Self, Error> {
        Self::builder().max_workers(max_workers).build()
    }

    /// The builder of a pool with settings.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder::new()
    }
}

impl ProcessPoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            max_workers: None,
            max_pending: None,
            idle_timeout: None,
            terminate_grace: Duration::from_secs(1),
            observers: Vec::new(),
            tracing: PoolTracing::default(),
            worker_config: WorkerConfig::new(),
            fault: None,
        }
    }

    /// The most worker processes; the available parallelism if not given. (`max_workers`)
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.max_workers = Some(max_workers);
        self
    }

    /// Each worker runs `f(arg)` before its first task; if `f` panics or the worker dies in it,
    /// the pool is broken. (`initializer`, `initargs`)
    ///
    /// During `f` the worker process has one thread, unless `f` starts others; while tasks run it has a
    /// second one, which waits for the end of the program. What needs a process with one thread belongs here.
    pub fn initializer<A: Payload>(mut self, f: fn(A), arg: A) -> Self {
        let call = function::function_ref(f);
        self.worker_config.initializer = self.prepared(Duty::Initializer, call, &arg);
        self
    }

    /// Like [`initializer`](Self::initializer), for a function that may fail: then the pool is broken, and its
    /// tasks end as [`Error::BrokenPool`] with the text of `f`'s error.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder()
    ///     .try_initializer(|dir: String| std::env::set_current_dir(dir), "/nowhere".into())
    ///     .build()?;
    /// let error = pool.submit(|x: u8| x, 1).result().unwrap_err();
    /// assert!(error.to_string().contains("the initializer failed: No such file or directory"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_initializer<A: Payload, E: fmt::Display + 'static>(
        mut self,
        f: fn(A) -> Result<(), E>,
        arg: A,
    ) -> Self {
        let call = function::function_ref_preparing::<Checked, _, _>(f);
        self.worker_config.initializer = self.prepared(Duty::Initializer, call, &arg);
        self
    }

    /// Each worker calls `f(arg)` before its first task, after the [initializer](Self::initializer), and keeps
    /// what it returns: its state, which tasks borrow by
    /// [`submit_with_state`](crate::Executor::submit_with_state). (`initializer` and a global)
    ///
    /// The state is made in its worker and stays there, so it need neither be `Send` nor known to serde: an
    /// interpreter, a model, a connection. A worker that takes the place of another makes its own. If `f` panics
    /// or the worker dies in it, the pool is broken.
    ///
    /// The state is dropped when its worker leaves: in a shutdown, after
    /// [`max_tasks_per_child`](Self::max_tasks_per_child) or [`idle_timeout`](Self::idle_timeout). `Drop` has
    /// 10 s then. A worker that is killed or crashes drops nothing. After a task that panicked the state is as
    /// that task has left it.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # use std::{cell::RefCell, rc::Rc};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// /// No process but its own could have it.
    /// struct Memory(Rc<RefCell<Vec<String>>>);
    ///
    /// let pool = ProcessPoolExecutor::builder()
    ///     .max_workers(1)
    ///     .state(|first: String| Memory(Rc::new(RefCell::new(vec![first]))), "tea".into())
    ///     .build()?;
    /// let add = |memory: &mut Memory, word: String| {
    ///     memory.0.borrow_mut().push(word);
    ///     memory.0.borrow().join(" ")
    /// };
    /// pool.submit_with_state(add, "and".into()).result()?;
    /// assert_eq!(pool.submit_with_state(add, "cake".into()).result()?, "tea and cake");
    /// # Ok(())
    /// # }
    /// ```
    pub fn state<S: 'static, A: Payload>(mut self, f: fn(A) -> S, arg: A) -> Self {
        let call = function::function_ref_preparing::<AsState, _, _>(f);
        self.worker_config.state = self.prepared(Duty::State, call, &arg);
        self
    }

    /// Like [`state`](Self::state), for a function that may fail: then the pool is broken, and its tasks end as
    /// [`Error::BrokenPool`] with the text of `f`'s error.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # use std::fs::File;
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder()
    ///     .try_state(|path: String| File::open(path), "/nowhere".into())
    ///     .build()?;
    /// let size = |file: &mut File, ()| file.metadata().unwrap().len();
    /// let error = pool.submit_with_state(size, ()).result().unwrap_err();
    /// assert!(error.to_string().contains("the state failed: No such file or directory"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_state<S: 'static, A: Payload, E: fmt::Display + 'static>(
        mut self,
        f: fn(A) -> Result<S, E>,
        arg: A,
    ) -> Self {
        let call = function::function_ref_preparing::<AsCheckedState, _, _>(f);
        self.worker_config.state = self.prepared(Duty::State, call, &arg);
        self
    }

    /// Sets an environment variable for the workers.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        let set = self.worker_config.environment.set(key.into(), value.into());
        self.note(set);
        self
    }

    /// Sets environment variables for the workers.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder()
    ///     .env_clear()
    ///     .envs([("LANG", "C"), ("TZ", "UTC")])
    ///     .build()?;
    /// let read = |name: String| std::env::var(name).ok();
    /// assert_eq!(pool.submit(read, "TZ".into()).result()?.as_deref(), Some("UTC"));
    /// assert_eq!(pool.submit(read, "PATH".into()).result()?, None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn envs<K: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let variables = variables.into_iter();
        variables.fold(self, |builder, (key, value)| builder.env(key, value))
    }

    /// Removes an environment variable, which workers would inherit from the program or which was
    /// [set](Self::env) before.
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        let removed = self.worker_config.environment.remove(key.into());
        self.note(removed);
        self
    }

    /// Removes all environment variables: workers inherit none, and those that were [set](Self::env) before
    /// are forgotten. [`envs`](Self::envs) has an example.
    pub fn env_clear(mut self) -> Self {
        self.worker_config.environment.clear();
        self
    }

    /// A command, with its arguments, that starts workers: `numactl --cpunodebind=0`, `valgrind`. The
    /// command is given this same program as its last arguments, and must execute it in its own process. A
    /// program that was started by `ld.so ./program` needs none. A worker obeys only root and its own user:
    /// a command that runs the worker as another user has to be started by root.
    ///
    /// The command must leave the environment and standard input as they are: otherwise the worker ends at
    /// once and reports why, and the pool breaks.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder().launcher(["nice", "-n", "5"]).build()?;
    /// assert_eq!(pool.submit(|x: u8| x + 1, 1).result()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn launcher<S: Into<OsString>>(mut self, command: impl IntoIterator<Item = S>) -> Self {
        self.worker_config.launcher = command.into_iter().map(Into::into).collect();
        self
    }

    /// Where the workers' standard output goes; to the program's standard output if not given.
    /// [`WorkerStdio`] has an example.
    pub fn stdout(mut self, policy: WorkerStdio) -> Self {
        self.worker_config.stdout = policy;
        self.worker_config.lines[0] = None;
        self
    }

    /// Has each line that a worker prints to its standard output told to a function, in place of where it would go:
    /// captured output of tasks that succeed, too. (`QueueHandler` and `QueueListener` of `logging`)
    ///
    /// The function is called on a thread of the pool, with no lock held, and by several threads at a time: each
    /// worker has one. All that a task has printed is told before its future is done, each line once, in their
    /// order. A slow function holds up the worker that has printed the line, and nothing else; a panic in it is
    /// reported on stderr and harms nothing. A line also ends where its task ends, and after 64 KiB; what a worker
    /// prints while it runs no task is told when it begins its next one, or leaves.
    ///
    /// The tasks of a chunk are sent one by one, each over a connection, as with
    /// [`Capture`](WorkerStdio::Capture). The last call of this and of [`stdout`](Self::stdout) counts.
    ///
    /// ```
    /// # use std::sync::mpsc::channel;
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let (sender, receiver) = channel();
    /// let pool = ProcessPoolExecutor::builder()
    ///     .max_workers(1)
    ///     .stdout_lines(move |line| {
    ///         let task = line.task().and_then(|task| task.name()).unwrap_or("-");
    ///         let _ = sender.send(format!("[{task}] {}", line.text()));
    ///     })
    ///     .build()?;
    /// let talk = |words: String| println!("{words}\nand that is all");
    /// pool.submit_with(TaskOptions::new().name("talk"), talk, "hello".to_owned()).result()?;
    /// assert!(receiver.try_iter().eq(["[talk] hello", "[talk] and that is all"]));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stdout_lines(mut self, f: impl Fn(&WorkerLine) + Send + Sync + 'static) -> Self {
        self.worker_config.lines[0] = Some(LineFunction::new(f));
        self
    }

    /// Where the workers' standard error goes; to the program's standard error if not given. What a worker
    /// prints before it is ready goes there in any case.
    pub fn stderr(mut self, policy: WorkerStdio) -> Self {
        self.worker_config.stderr = policy;
        self.worker_config.lines[1] = None;
        self
    }

    /// Has each line that a worker prints to its standard error told to a function, as
    /// [`stdout_lines`](Self::stdout_lines) does for the standard output: what panics say, and what loggers write.
    /// What a worker prints before it is ready goes to the program's own standard error in any case.
    ///
    /// ```
    /// # use std::sync::mpsc::channel;
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let (sender, receiver) = channel();
    /// let pool = ProcessPoolExecutor::builder()
    ///     .max_workers(1)
    ///     .stderr_lines(move |line| drop(sender.send((line.worker(), line.text().into_owned()))))
    ///     .build()?;
    /// pool.submit(|n: u32| eprintln!("{n} is a number"), 7).result()?;
    /// assert_eq!(receiver.try_recv(), Ok((0, "7 is a number".to_owned())));
    /// # Ok(())
    /// # }
    /// ```
    pub fn stderr_lines(mut self, f: impl Fn(&WorkerLine) + Send + Sync + 'static) -> Self {
        self.worker_config.lines[1] = Some(LineFunction::new(f));
        self
    }

    /// The current directory in which workers start; that of the program if not given.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.worker_config.current_dir = Some(dir.into());
        self
    }

    /// How long a worker may take until it is ready, including the initializer and the function that makes its
    /// state; 10 s if not given.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.worker_config.start_timeout = limit;
        self
    }

    /// The most tasks that may wait, besides one for each worker that is idle or may still be started,
    /// which begins it at once: there is room for `max_pending` + idle workers + workers to be
    /// started - pending tasks. Where there is no room, `submit` waits for some, except on a thread of
    /// the pool itself, and [`try_submit`](crate::Executor::try_submit) gives the argument back.
    /// Without limit if not given.
    /// See [`try_submit`](crate::Executor::try_submit) for an example.
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// A worker is replaced after this number of tasks; its replacement is ready before it leaves.
    /// (`max_tasks_per_child`)
    ///
    /// A worker that hangs in its exit is killed after 10 s, and does not delay the next ones; if eight of
    /// them hang at a time, the next one waits for the oldest.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder().max_workers(1).max_tasks_per_child(1).build()?;
    /// let [first, second] = [(); 2].map(|()| pool.submit(|()| std::process::id(), ()));
    /// assert_ne!(first.result()?, second.result()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_tasks_per_child(mut self, tasks: usize) -> Self {
        self.worker_config.max_tasks_per_child = Some(tasks as u64);
        self
    }

    /// The most bytes of memory that a worker may have of its own (`RLIMIT_DATA`: heap and private
    /// writable mappings); an allocation beyond it fails, which ends a Rust program by SIGABRT. The
    /// task's [`Error::WorkerDied`] then reports the limit and the most memory that the worker used; so it
    /// does of other deaths of a worker that used most of it.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder().max_workers(1).memory_limit(256 << 20).build()?;
    /// let greedy = pool.submit(|size: usize| vec![1_u8; size].len(), 1 << 30);
    /// let error = greedy.result().unwrap_err();
    /// assert!(error.to_string().contains("memory limit 256 MiB"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.worker_config.memory_limit = Some(bytes);
        self
    }

    /// A worker that had nothing to do for this time leaves; the next one starts on demand. Workers
    /// stay if not given.
    pub fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = Some(limit);
        self
    }

    /// How long [`terminate_workers`](ProcessPoolExecutor::terminate_workers) waits between SIGTERM and
    /// SIGKILL; 1 s if not given.
    pub fn terminate_grace(mut self, limit: Duration) -> Self {
        self.terminate_grace = limit;
        self
    }

    /// The time limit of a task that has no [limit of its own](crate::TaskOptions::timeout); none if not
    /// given.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # use std::time::Duration;
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let limit = Duration::from_millis(20);
    /// let pool = ProcessPoolExecutor::builder().max_workers(1).task_timeout(limit).build()?;
    /// let endless = pool.submit(|()| -> u8 { loop { std::thread::park() } }, ());
    /// assert!(matches!(endless.result(), Err(Error::TaskTimeout { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn task_timeout(mut self, limit: Duration) -> Self {
        self.worker_config.task_timeout = Some(limit);
        self
    }

    /// An observer, which is told of tasks and workers. [`Observer`] has an example, and says what it costs.
    /// Further observers are told after it.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// The most bytes that an encoded argument or result may have; 16 GiB if not given. Above it, the
    /// task ends with [`Error::TooLarge`].
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder().max_workers(1).payload_limit(1000).build()?;
    /// let long = pool.submit(|text: String| text.len(), "x".repeat(1001));
    /// let Err(Error::TooLarge(value)) = long.result() else { unreachable!() };
    /// assert_eq!((value.size(), value.limit()), (1001, 1000));
    /// # Ok(())
    /// # }
    /// ```
    pub fn payload_limit(mut self, bytes: u64) -> Self {
        self.worker_config.payload_limit = bytes;
        self
    }

    /// Builds the pool. No process starts before the first task.
    ///
    /// # Errors
    /// [`Error::NotInitialized`] if the program did not call [`init`](crate::init);
    /// [`Error::Unsupported`] on another system than Linux, or if it has more rights than the user that started it;
    /// [`Error::InvalidConfig`] if a setting is invalid; [`Error::Encode`] and the like if the
    /// initializer, the function that makes the state, or an argument of these cannot be sent to a worker.
    pub fn build(mut self) -> Result<ProcessPoolExecutor, Error> {
        self.worker_config.check()?;
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let max_workers = self.max_workers.unwrap_or_else(default_workers);
        if max_workers == 0 {
            return Err(Error::InvalidConfig("max_workers is 0".into()));
        }
        if self.worker_config.start_timeout.is_zero() {
            return Err(Error::InvalidConfig("start_timeout is 0".into()));
        }
        if self.worker_config.max_tasks_per_child == Some(0) {
            return Err(Error::InvalidConfig("max_tasks_per_child is 0".into()));
        }
        if self.worker_config.memory_limit == Some(0) {
            return Err(Error::InvalidConfig("memory_limit is 0".into()));
        }
        if self.max_pending == Some(0) {
            return Err(Error::InvalidConfig("max_pending is 0".into()));
        }
        let limits = Limits {
            max_workers,
            max_pending: self.max_pending,
            idle_timeout: self.idle_timeout,
        };
        self.worker_config.forwarding = self.tracing.forwarding();
        let grace = self.terminate_grace;
        let pool =
            ProcessPoolExecutor::with_config(limits, self.observers, self.worker_config, grace);
        Ok(pool)
    }

    /// A function that each worker runs before its first task, and its encoded argument; `None`, which `build`
    /// reports, if they cannot be sent to a worker.
    fn prepared<A: Payload>(
        &mut self,
        duty: Duty,
        call: Result<FunctionRef, Error>,
        arg: &A,
    ) -> Option<StartCall> {
        let encoded = unwind::catch(|| codec::encode(arg, self.worker_config.payload_limit))
            .unwrap_or_else(|panic| Err(Error::Panicked(PanicInfo::new(panic, None, None))));
        match call.and_then(|call| Ok((call, encoded?))) {
            Ok((call, mut argument)) => {
                let given = argument.take_attachments();
                self.worker_config.given.join(&given);
                let argument = argument.into();
                Some(StartCall {
                    duty,
                    call,
                    argument,
                })
            }
            Err(error) => {
                self.note(Err(error));
                None
            }
        }
    }

    /// Keeps the first fault of a setting, for `build`.
    fn note(&mut self, setting: Result<(), Error>) {
        if let (None, Err(fault)) = (&self.fault, setting) {
            self.fault = Some(fault);
        }
    }
}

#[cfg(feature = "tracing")]
impl ProcessPoolBuilder {
    /// Makes a `tracing` span named `task`, at level INFO, for each task, as
    /// [that of thread pools](crate::ThreadPoolBuilder::trace_tasks) does. No thread enters it: the task runs in
    /// another process. (feature `tracing`)
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::builder().max_workers(1).trace_tasks().build()?;
    /// let request = tracing::info_span!("request", path = "/").entered();
    /// let page = pool.submit(|words: String| words + "!", "hello".to_owned());
    /// drop(request); // the span of the task is in this one
    /// assert_eq!(page.result()?, "hello!");
    /// # Ok(())
    /// # }
    /// ```
    pub fn trace_tasks(mut self) -> Self {
        self.observers.extend(self.tracing.trace_tasks());
        self
    }

    /// Has the `tracing` events of workers told in the program, too: of tasks, of the initializer, and of crates
    /// that they call. (feature `tracing`; `logging.handlers.QueueHandler`)
    ///
    /// Each event goes to the program's global subscriber, with the level that it has in the worker, the target
    /// `concurrent_futures::worker`, and these fields: `message`; `worker`, its index; `task`, the name of the task
    /// that ran, or where it was submitted; `target`, `file` and `line`, where it was told in the worker; `fields`,
    /// its other fields as text. With [`trace_tasks`](Self::trace_tasks) its parent is the span of the task. Filters
    /// hold as if it had its own target. All events of a task are told before its future is done. One of more than
    /// about 4 KiB is cut; spans within the worker are left out.
    ///
    /// Workers send events up to the most verbose level that the program's subscriber wants when the worker starts,
    /// and none if it has no subscriber by then. So set that first, with `set_global_default` or what calls it
    /// (`init` of `tracing-subscriber`), after [`init`](crate::init): a worker has a global subscriber of this
    /// crate, beside which an initializer can set no other.
    ///
    /// The tasks of such a pool travel as with an [`Observer`], and cost as much.
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// concurrent_futures::init();
    /// // tracing_subscriber::fmt().init();
    /// let pool = ProcessPoolExecutor::builder().max_workers(2).trace_tasks().forward_tracing().build()?;
    /// let work = |n: u32| {
    ///     tracing::info!(n, "working"); // … INFO task{…}: working worker=0 task="…" target="…" fields="n=7"
    ///     n * n
    /// };
    /// assert_eq!(pool.submit(work, 7).result()?, 49);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forward_tracing(mut self) -> Self {
        self.tracing.forward_events();
        self
    }
}

/// A pool of the default size. (`ProcessPoolExecutor()`)
///
/// # Panics
/// Where [`build`](ProcessPoolBuilder::build) returns an error: if the program did not call
/// [`init`](crate::init), or if process pools are not supported.
impl Default for ProcessPoolExecutor {
    fn default() -> Self {
        match Self::builder().build() {
            Ok(pool) => pool,
            Err(error) => panic!("there can be no pool of processes: {error}"),
        }
    }
}

impl fmt::Debug for ProcessPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolBuilder")
            .field("max_workers", &self.max_workers)
            .field("launch", &self.worker_config)
            .finish_non_exhaustive()
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, Into::into)
}
