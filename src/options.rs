//! Options of one task, of a map, and of a shutdown. Users build them; `task/`, `executor/` and the pools
//! read them.

use std::borrow::Cow;
use std::time::Duration;

use crate::task_name::{InlineName, TaskName};

/// Options of one task: name, time limit, grace, retries.
///
/// ```
/// use concurrent_futures::{Executor, TaskOptions, ThreadPoolExecutor};
///
/// const AGAIN: TaskOptions = TaskOptions::new().retries(2);
///
/// let pool = ThreadPoolExecutor::new(1)?;
/// for file in ["cat.png", "dog.png"].map(String::from) {
///     let resized = pool.submit_with(AGAIN.name(file.clone()), |file: String| file.len(), file);
///     println!("{}: {}", resized.task(), resized.result()?);
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// A time limit, here of a task in a process, which is killed:
///
/// ```
/// use std::time::Duration;
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let options = TaskOptions::new().timeout(Duration::from_millis(20)).retries(2);
/// let endless = pool.submit_with(options, |()| -> u8 { loop { std::thread::park() } }, ());
/// assert!(matches!(endless.result(), Err(Error::TaskTimeout { .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct TaskOptions {
    /// The task's name in errors and events, if any.
    name: Option<InlineName>,
    /// How the task is run.
    run: RunOptions,
}

/// Those options of a task that say how it is run: all but its name. It is passed on by value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunOptions {
    /// How long the task may run; `None`: no limit of its own.
    timeout: Option<Duration>,
    /// What the task gets before its process is killed; `None`: nothing.
    grace: Option<Grace>,
    /// How often the task is run again after its worker died.
    retries: u32,
}

impl TaskOptions {
    /// The default options: no name, no time limit, no retries.
    pub const fn new() -> Self {
        Self {
            name: None,
            run: RunOptions::new(),
        }
    }

    /// The name of the task, shown in errors: a `&'static str` of any length, or a `String`. As options are
    /// `Copy`, at most 120 bytes of a `String` are kept: of a longer one the end, behind `…`.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into().into());
        self
    }

    /// Like [`name`](Self::name), in a constant.
    ///
    /// ```
    /// # use concurrent_futures::TaskOptions;
    /// const RESIZE: TaskOptions = TaskOptions::new().static_name("resize");
    /// ```
    pub const fn static_name(mut self, name: &'static str) -> Self {
        self.name = Some(InlineName::Static(name));
        self
    }

    /// How long the task may run, counted on a monotonic clock from the moment that a worker
    /// begins it.
    ///
    /// A process that overruns the limit is killed, after the task's [grace](Self::grace) if it has one, and
    /// replaced, and the future gets [`Error::TaskTimeout`](crate::Error::TaskTimeout). A thread cannot be stopped: the future gets the
    /// error at the limit, and the worker stays busy until the function returns; the function can check
    /// [`WorkerInfo::cancel_requested`](crate::WorkerInfo::cancel_requested).
    ///
    /// The clock is stopped while a panic hook runs, for at most ten seconds per task: the hook may print a
    /// backtrace, and look symbols up for it. So a task that panics within its limit ends as panicked, not as
    /// timed out.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.run.timeout = Some(limit);
        self
    }

    /// How long a task in a process may still run once it is to be stopped: at its time limit, or by
    /// [`Future::kill`](crate::Future::kill). Not given: no time at all.
    ///
    /// The task first sees it by [`WorkerInfo::cancel_requested`](crate::WorkerInfo::cancel_requested), and
    /// can remove its temporary files and return. If it has not returned by the end of the grace, its process
    /// is killed. In either case the future gets [`Error::TaskTimeout`](crate::Error::TaskTimeout) or
    /// [`Error::Cancelled`](crate::Error::Cancelled) once the process has ended, and the worker is replaced:
    /// one that has obeyed leaves by itself, as at the end of the pool. `kill` returns at once all the same.
    ///
    /// Items of a map that have a grace are sent to their worker one by one. On a thread, which sees the
    /// request anyway, a grace changes nothing. `kill_workers` and `terminate_workers` do not wait for it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions, current_worker};
    /// fn work(scratch: std::path::PathBuf) {
    ///     std::fs::write(&scratch, "half of the work").unwrap();
    ///     while !current_worker().unwrap().cancel_requested() {
    ///         std::thread::sleep(Duration::from_millis(1)); // a part of the work
    ///     }
    ///     std::fs::remove_file(&scratch).unwrap();
    /// }
    ///
    /// # fn main() -> Result<(), Error> {
    /// concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::new(1)?;
    /// let scratch = std::env::temp_dir().join(format!("scratch-{}", std::process::id()));
    /// let limit = Duration::from_millis(50);
    /// let options = TaskOptions::new().timeout(limit).grace(Duration::from_secs(10));
    /// let late = pool.submit_with(options, work, scratch.clone());
    /// assert!(matches!(late.result(), Err(Error::TaskTimeout { .. })));
    /// assert!(!scratch.exists());
    /// # Ok(())
    /// # }
    /// ```
    pub const fn grace(mut self, limit: Duration) -> Self {
        let notice = Notice::Flag;
        self.run.grace = Some(Grace { limit, notice });
        self
    }

    /// Like [`grace`](Self::grace), but the process also gets SIGTERM at the beginning of the grace, after the
    /// task can see the request: for a task that waits in a system call, or in code that handles the signal.
    /// A process without a handler for SIGTERM ends by it at once, which is reported as the end of the grace
    /// is. What the task has started gets no signal before the end of the grace.
    pub const fn grace_with_sigterm(mut self, limit: Duration) -> Self {
        let notice = Notice::Signal;
        self.run.grace = Some(Grace { limit, notice });
        self
    }

    /// How often the task is run again if its worker died while it ran; 0 if not given. Tasks that panicked,
    /// ran into their time limit or were killed are not run again.
    pub const fn retries(mut self, times: u32) -> Self {
        self.run.retries = times;
        self
    }

    pub(crate) fn of(name: Option<&TaskName>, run: RunOptions) -> Self {
        let name = name.map(InlineName::from);
        Self { name, run }
    }

    pub(crate) fn task_name(&self) -> Option<TaskName> {
        self.name.as_ref().map(TaskName::from)
    }

    pub(crate) const fn run(&self) -> RunOptions {
        self.run
    }
}

impl RunOptions {
    pub(crate) const fn new() -> Self {
        Self {
            timeout: None,
            grace: None,
            retries: 0,
        }
    }

    pub(crate) const fn given_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) const fn given_grace(&self) -> Option<Grace> {
        self.grace
    }

    pub(crate) const fn given_retries(&self) -> u32 {
        self.retries
    }
}

/// What a task in a process gets between the request to stop and the end of its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace {
    /// How long it may still run.
    pub(crate) limit: Duration,
    /// How it learns of the request.
    pub(crate) notice: Notice,
}

/// How a task in a process learns that it is to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// It can ask (`WorkerInfo::cancel_requested`).
    Flag,
    /// It can ask, and its process gets SIGTERM.
    Signal,
}

/// The options of one task, stored compactly: without a heap allocation if they are the default.
pub(crate) struct PackedOptions(
    /// The options; `None`: the default.
    Option<Box<GivenOptions>>,
);

/// The data of [`PackedOptions`].
struct GivenOptions {
    /// The task's name, if any.
    name: Option<TaskName>,
    /// How the task is run.
    run: RunOptions,
}

impl PackedOptions {
    #[inline]
    pub(crate) fn new(options: &TaskOptions) -> Self {
        let TaskOptions { name, run } = options;
        let is_nothing = name.is_none() && *run == RunOptions::new();
        Self((!is_nothing).then(|| {
            Box::new(GivenOptions {
                name: options.task_name(),
                run: *run,
            })
        }))
    }

    pub(crate) fn name(&self) -> Option<&TaskName> {
        self.0.as_ref()?.name.as_ref()
    }

    #[inline]
    pub(crate) fn run(&self) -> RunOptions {
        self.0.as_ref().map_or_else(RunOptions::new, |it| it.run)
    }
}

/// Options of a [`map`](crate::Executor::map_with). (the keyword arguments of `Executor.map`)
///
/// ```
/// use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let options = MapOptions::new().chunksize(100).buffersize(1000);
/// let sum: u64 = pool.map_with(options, |n| n + 1, 0..10_000_u64).flatten().sum();
/// assert_eq!(sum, 50_005_000);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct MapOptions {
    /// Items per message; `None`: adaptive.
    pub(crate) chunksize: Option<usize>,
    /// How many inputs are taken ahead of the result being read; `None`: the default of
    /// `MapOptions::buffersize`.
    pub(crate) buffersize: Option<usize>,
    /// Time limit of the whole map; `None`: without limit.
    pub(crate) timeout: Option<Duration>,
    /// Options of each item's task.
    pub(crate) task: TaskOptions,
}

impl MapOptions {
    /// The default options: adaptive chunks, 1024 inputs per worker and 64 MiB ahead, no time limit.
    pub const fn new() -> Self {
        Self {
            chunksize: None,
            buffersize: None,
            timeout: None,
            task: TaskOptions::new(),
        }
    }

    /// How many items travel in one message (a chunk); never more than `buffersize`. Each item still has its
    /// own outcome. A chunk is sent once all of its items were pulled, however slow the source is. If not
    /// given, chunks grow from 1 item, as long as running a chunk and pulling it takes less than about 1 ms
    /// each. (`chunksize` of `Executor.map`)
    pub const fn chunksize(mut self, items: usize) -> Self {
        self.chunksize = Some(items);
        self
    }

    /// How many inputs may be taken ahead of the result being read. (`buffersize` of `Executor.map`)
    ///
    /// If not given: 1024 per worker. A process pool also takes no more inputs while encoded arguments in
    /// flight and encoded results not yet read are 64 MiB or more together. Results still to come are assumed
    /// to be as big as recent ones; but each worker gets at least one item. Values on threads have no encoded
    /// size: set this option to bound them if they are big and the reader is slow.
    ///
    /// A source that waits for results of its own map, such as a queue filled from these results, needs this
    /// option: set it to the number of items that the source yields before it needs a result.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, MapOptions, ThreadPoolExecutor};
    /// # use std::sync::mpsc::channel;
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let (feed, source) = channel();
    /// feed.send(1).ok();
    /// let options = MapOptions::new().buffersize(1);
    /// let mut last = 0;
    /// for power in pool.map_with(options, |n: u32| 2 * n, source).take(10) {
    ///     last = power?;
    ///     feed.send(last).ok();
    /// }
    /// assert_eq!(last, 1024);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub const fn buffersize(mut self, items: usize) -> Self {
        self.buffersize = Some(items);
        self
    }

    /// The time limit of the whole map, counted from the call. When it has passed, `next` returns
    /// `Err(Error::Timeout)` once, then `None`, and items that have not started are cancelled.
    /// (`timeout` of `Executor.map`)
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// Options of each item's task.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, MapOptions, SerialExecutor, TaskOptions};
    /// let options = MapOptions::new().task(TaskOptions::new().name("halve"));
    /// let executor = SerialExecutor::new();
    /// let mut halves = executor.map_with(options, |n: u32| 1 / n, [0]);
    /// let error = halves.next().unwrap().unwrap_err();
    /// assert!(error.to_string().contains("halve"));
    /// ```
    pub const fn task(mut self, options: TaskOptions) -> Self {
        self.task = options;
        self
    }
}

/// How an executor is shut down. (`wait` and `cancel_futures` of `Executor.shutdown`)
///
/// ```
/// use concurrent_futures::{Executor, Shutdown, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let doubled = pool.submit(|x: i32| 2 * x, 21);
/// pool.shutdown(Shutdown::wait());
/// assert_eq!(doubled.result()?, 42);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Shutdown {
    /// Whether the call returns only after all work is done, and all threads and processes have ended.
    pub(crate) waits: bool,
    /// Whether queued tasks are cancelled.
    pub(crate) cancels: bool,
}

impl Shutdown {
    /// Queued tasks still run; the call returns when all work is done, every thread is joined and every
    /// child process reaped. (`wait=True`)
    pub const fn wait() -> Self {
        Self {
            waits: true,
            cancels: false,
        }
    }

    /// Queued tasks still run; the call returns at once. (`wait=False`)
    pub const fn no_wait() -> Self {
        Self {
            waits: false,
            cancels: false,
        }
    }

    /// The shutdown when an executor is dropped: waits; during a panic, also cancels queued tasks.
    pub(crate) fn on_drop() -> Self {
        if std::thread::panicking() {
            Self::wait().cancel_futures()
        } else {
            Self::wait()
        }
    }

    /// Queued tasks are cancelled instead; running tasks finish. (`cancel_futures=True`)
    pub const fn cancel_futures(mut self) -> Self {
        self.cancels = true;
        self
    }
}
