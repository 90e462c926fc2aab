//! Options of one task, of a map, and of a shutdown. Users build them; `task/`, `executor/` and the pools
//! read them.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
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
    /// How often the task is run again after a failure.
    retries: u32,
    /// After which failures, and after which pauses.
    retry_rule: RetryRule,
}

impl TaskOptions {
    /// The default options: no name, no time limit, no grace, no retries.
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
    /// ran into their time limit or were killed are not run again;
    /// [`submit_retrying`](crate::Executor::submit_retrying) does more.
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

    /// The same options, with other retries.
    pub(crate) const fn retried(mut self, times: u32, rule: RetryRule) -> Self {
        self.run.retries = times;
        self.run.retry_rule = rule;
        self
    }
}

impl RunOptions {
    pub(crate) const fn new() -> Self {
        Self {
            timeout: None,
            grace: None,
            retries: 0,
            retry_rule: RetryRule::AFTER_DEATH,
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

    /// Whether the task needs nothing but to be run: no time limit, grace or retries.
    pub(crate) const fn is_plain(&self) -> bool {
        self.timeout.is_none() && self.grace.is_none() && self.retries == 0
    }

    /// Whether the task is run again, now that attempt number `attempts` has failed in this way.
    pub(crate) fn is_retried_after(&self, failure: AttemptFailure, attempts: u32) -> bool {
        attempts <= self.retries && self.retry_rule.is_after(failure)
    }

    /// After which pause the task is run again, now that attempt number `attempts` has failed in this way;
    /// `None`: it is not.
    pub(crate) fn pause_after(&self, failure: AttemptFailure, attempts: u32) -> Option<Duration> {
        self.is_retried_after(failure, attempts)
            .then(|| self.retry_rule.pause(attempts))
    }
}

/// How an attempt of a task can fail, so that the task may be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptFailure {
    /// Its worker died.
    Death,
    /// It panicked.
    Panic,
    /// It ran into its time limit.
    Timeout,
    /// It returned a value that the caller does not want.
    Value,
}

/// After which failures a task is run again, and after which pauses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryRule {
    /// Whether it is run again after the death of its worker.
    pub(crate) after_death: bool,
    /// Whether it is run again after a panic.
    pub(crate) after_panic: bool,
    /// Whether it is run again after its time limit.
    pub(crate) after_timeout: bool,
    /// The pause after the first attempt. Each further one is twice as long as the one before it.
    pub(crate) first_pause: Duration,
    /// The longest pause.
    pub(crate) longest_pause: Duration,
}

impl RetryRule {
    /// After no failure but an unwanted value, and without a pause.
    pub(crate) const AFTER_NOTHING: Self = Self {
        after_death: false,
        after_panic: false,
        after_timeout: false,
        first_pause: Duration::ZERO,
        longest_pause: Duration::ZERO,
    };

    /// At once after the death of the worker.
    pub(crate) const AFTER_DEATH: Self = Self {
        after_death: true,
        ..Self::AFTER_NOTHING
    };

    fn is_after(&self, failure: AttemptFailure) -> bool {
        match failure {
            AttemptFailure::Death => self.after_death,
            AttemptFailure::Panic => self.after_panic,
            AttemptFailure::Timeout => self.after_timeout,
            AttemptFailure::Value => true,
        }
    }

    /// The pause after attempt number `attempts`: between half of the back-off and all of it, so that tasks
    /// that failed together do not come back together.
    fn pause(&self, attempts: u32) -> Duration {
        let doublings = attempts.saturating_sub(1).min(31);
        let backoff = self.first_pause.saturating_mul(1 << doublings);
        let half = backoff.min(self.longest_pause) / 2;
        half + half.mul_f64(chance())
    }
}

impl Default for RetryRule {
    fn default() -> Self {
        Self::AFTER_DEATH
    }
}

/// A random number from 0 to 1. The standard library seeds its hashers at random, each in another way.
fn chance() -> f64 {
    const BITS: u32 = 32;
    let random = RandomState::new().build_hasher().finish() >> (u64::BITS - BITS);
    random as f64 / (1_u64 << BITS) as f64
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

/// The options of one task, and a plan for its retries, if it has one. Stored compactly: without a heap
/// allocation if the options are the default.
pub(crate) struct PackedOptions<P = ()>(
    /// The options and the plan; `None`: the default, and no plan.
    Option<Box<GivenOptions<P>>>,
);

/// The data of [`PackedOptions`].
struct GivenOptions<P> {
    /// The task's name, if any.
    name: Option<TaskName>,
    /// How the task is run.
    run: RunOptions,
    /// The plan for the retries; `None`: there is none.
    plan: Option<P>,
}

impl<P> PackedOptions<P> {
    #[inline]
    pub(crate) fn new(options: &TaskOptions) -> Self {
        let TaskOptions { name, run } = options;
        let is_nothing = name.is_none() && *run == RunOptions::new();
        Self((!is_nothing).then(|| Box::new(GivenOptions::new(options, None))))
    }

    /// The options of a task that is run again as `plan` says.
    pub(crate) fn with_plan(options: &TaskOptions, plan: P) -> Self {
        Self(Some(Box::new(GivenOptions::new(options, Some(plan)))))
    }

    pub(crate) fn name(&self) -> Option<&TaskName> {
        self.0.as_ref()?.name.as_ref()
    }

    #[inline]
    pub(crate) fn run(&self) -> RunOptions {
        self.0.as_ref().map_or_else(RunOptions::new, |it| it.run)
    }

    /// [`RunOptions::is_plain`], without a copy of the options.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.0.as_deref().is_none_or(|it| it.run.is_plain())
    }

    /// The plan for the retries; `None`: there is none.
    #[inline]
    pub(crate) fn plan(&self) -> Option<&P> {
        self.0.as_deref()?.plan.as_ref()
    }
}

impl<P> GivenOptions<P> {
    fn new(options: &TaskOptions, plan: Option<P>) -> Self {
        Self {
            name: options.task_name(),
            run: options.run,
            plan,
        }
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_differ() {
        let rule = RetryRule {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(250),
            ..RetryRule::AFTER_NOTHING
        };
        for (attempts, most) in [(1, 100), (2, 200), (3, 250), (4, 250), (u32::MAX, 250)] {
            let most = Duration::from_millis(most);
            let pauses: Vec<_> = (0..20).map(|_| rule.pause(attempts)).collect();
            assert!(
                pauses.iter().all(|it| (most / 2..=most).contains(it)),
                "{pauses:?}"
            );
            assert!(pauses.iter().any(|it| *it != pauses[0]), "{pauses:?}");
        }
        assert_eq!(RetryRule::AFTER_DEATH.pause(3), Duration::ZERO);
        let endless = RetryRule {
            first_pause: Duration::MAX,
            longest_pause: Duration::MAX,
            ..rule
        };
        assert!(endless.pause(9) >= Duration::MAX / 2);
    }

    #[test]
    fn retries_are_counted_and_have_their_causes() {
        let options = TaskOptions::new().retries(2).run();
        assert!(options.is_retried_after(AttemptFailure::Death, 2));
        assert!(!options.is_retried_after(AttemptFailure::Death, 3));
        assert!(!options.is_retried_after(AttemptFailure::Panic, 1));
        assert!(!options.is_retried_after(AttemptFailure::Timeout, 1));
        assert!(!RunOptions::new().is_retried_after(AttemptFailure::Death, 1));
    }
}
