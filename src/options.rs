//! What a user may ask of one task, of a map, of a shutdown.

use std::time::Duration;

/// What is asked of one task.
///
/// ```
/// use concurrent_futures::TaskOptions;
///
/// const RESIZE: TaskOptions = TaskOptions::new().name("resize");
/// ```
///
/// A time limit, here on a process, which is killed:
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
    /// What errors call the task.
    name: Option<&'static str>,
    /// How long it may run.
    timeout: Option<Duration>,
    /// How often it is run again after its worker died.
    retries: u32,
}

impl TaskOptions {
    /// No name, no limit, no retries.
    pub const fn new() -> Self {
        Self {
            name: None,
            timeout: None,
            retries: 0,
        }
    }

    /// What errors call the task.
    pub const fn name(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    /// How long the task may run, counted on a monotonic clock from the moment that a worker
    /// begins it.
    ///
    /// A process that overruns is killed and replaced, and the future gets
    /// [`Error::TaskTimeout`](crate::Error::TaskTimeout). A thread cannot be stopped: its future
    /// gets the error at the limit, and the worker is busy until the function returns; it can
    /// look at [`WorkerInfo::cancel_requested`](crate::WorkerInfo::cancel_requested).
    ///
    /// While the panic hook runs, which may print a backtrace and look symbols up for it, the clock stands, for
    /// ten seconds of a task at most: a task that panics in time has panicked, and is not late.
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// How often the task is run again when its worker died while it ran; 0 if not given. Panics,
    /// time limits and kills are not retried.
    pub const fn retries(mut self, times: u32) -> Self {
        self.retries = times;
        self
    }

    pub(crate) const fn given_name(&self) -> Option<&'static str> {
        self.name
    }

    pub(crate) const fn given_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    pub(crate) const fn given_retries(&self) -> u32 {
        self.retries
    }
}

/// What a user asked of a task; takes little memory where that is nothing.
pub(crate) struct PackedOptions(
    /// `None`: nothing.
    Option<Box<TaskOptions>>,
);

impl PackedOptions {
    pub(crate) fn new(options: TaskOptions) -> Self {
        let TaskOptions {
            name,
            timeout,
            retries,
        } = options;
        let is_nothing = name.is_none() && timeout.is_none() && retries == 0;
        Self((!is_nothing).then(|| Box::new(options)))
    }

    pub(crate) fn options(&self) -> TaskOptions {
        self.0.as_deref().copied().unwrap_or_default()
    }
}

/// What is asked of a [`map`](crate::Executor::map_with). (the keyword arguments of `Executor.map`)
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
    /// Items a message; adaptive if not given.
    pub(crate) chunksize: Option<usize>,
    /// How many inputs are taken ahead of the result being read.
    pub(crate) buffersize: Option<usize>,
    /// Limit for the whole map.
    pub(crate) timeout: Option<Duration>,
    /// What is asked of each item's task.
    pub(crate) task: TaskOptions,
}

impl MapOptions {
    /// Adaptive chunks, 1024 inputs a worker and 64 MiB ahead, no time limit.
    pub const fn new() -> Self {
        Self {
            chunksize: None,
            buffersize: None,
            timeout: None,
            task: TaskOptions::new(),
        }
    }

    /// How many items travel in one message; never more than `buffersize`. An item's fate stays
    /// its own. A chunk is sent once all of it was pulled, however slow the source is. Without this,
    /// chunks grow from 1 as long as to run them, and to pull them, takes less than about 1 ms.
    /// (`chunksize` of `Executor.map`)
    pub const fn chunksize(mut self, items: usize) -> Self {
        self.chunksize = Some(items);
        self
    }

    /// How many inputs may be taken ahead of the result being read. (`buffersize` of `Executor.map`)
    ///
    /// Without this, 1024 a worker, and in a process pool no more while encoded arguments under way and
    /// encoded results that nobody has read are 64 MiB or more together; what is to come is taken to be
    /// as big as what came of late, but each worker gets an item. Values on threads have no encoded size:
    /// where they are big and the reader is slow, this bounds them.
    ///
    /// A source that waits for results of its own map, such as a queue that they feed, needs this: as
    /// many items as it yields before it needs a result.
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

    /// The limit for the whole map, counted from the call. When it passes, `next` gives
    /// `Err(Error::Timeout)` once, then `None`, and what has not started is cancelled.
    /// (`timeout` of `Executor.map`)
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What is asked of each item's task.
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
    /// Whether the call returns only when the pool is gone.
    pub(crate) waits: bool,
    /// Whether queued tasks are cancelled.
    pub(crate) cancels: bool,
}

impl Shutdown {
    /// Queued tasks run; the call returns when all work is done, every thread is joined and every
    /// child process reaped. (`wait=True`)
    pub const fn wait() -> Self {
        Self {
            waits: true,
            cancels: false,
        }
    }

    /// Queued tasks run; the call returns at once. (`wait=False`)
    pub const fn no_wait() -> Self {
        Self {
            waits: false,
            cancels: false,
        }
    }

    /// What dropping an executor does.
    pub(crate) fn on_drop() -> Self {
        if std::thread::panicking() {
            Self::wait().cancel_futures()
        } else {
            Self::wait()
        }
    }

    /// Queued tasks are cancelled instead; running ones finish. (`cancel_futures=True`)
    pub const fn cancel_futures(mut self) -> Self {
        self.cancels = true;
        self
    }
}
