//! The builder of a thread pool: checks the settings, and makes the worker pool with its main loop.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;
use crate::pool::observation::Observation;
use crate::pool::observer::Observer;
use crate::pool::{Limits, Threads, WorkerPool};
use crate::preparation::{AsCheckedState, AsState, Checked, Duty, Keep, Preparation};
use crate::thread::{ThreadPoolExecutor, serve};
#[cfg(feature = "tracing")]
use crate::trace::task_spans::{RunsIn, TaskSpans};

/// Settings of a [`ThreadPoolExecutor`]. (the arguments of `ThreadPoolExecutor()`)
///
/// The threads have the stack size that std gives a thread: 2 MiB, or the number of bytes in the environment
/// variable `RUST_MIN_STACK` when the program starts its first thread.
///
/// ```
/// use concurrent_futures::{ThreadPoolExecutor, current_worker};
///
/// let pool = ThreadPoolExecutor::builder()
///     .max_workers(2)
///     .thread_name_prefix("fetch")
///     .initializer(|| println!("{} is up", current_worker().unwrap().thread_name()))
///     .build()?;
/// let name = pool.spawn(|| current_worker().unwrap().thread_name().to_owned());
/// assert_eq!(name.result()?, "fetch_0");
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use]
pub struct ThreadPoolBuilder {
    /// The maximum number of threads; `None`: `default_workers()`.
    max_workers: Option<usize>,
    /// The first part of a thread's name; `None`: `ThreadPoolExecutor-N`.
    thread_name_prefix: Option<String>,
    /// What each thread runs before its first task.
    initializer: Option<Preparation>,
    /// Makes the state of each thread, after the initializer; `None`: it has no state.
    state: Option<Preparation>,
    /// The maximum number of waiting tasks; `None`: no limit.
    max_pending: Option<usize>,
    /// The user's observers.
    observers: Vec<Arc<dyn Observer>>,
}

impl ThreadPoolBuilder {
    pub(super) fn new() -> Self {
        Self {
            max_workers: None,
            thread_name_prefix: None,
            initializer: None,
            state: None,
            max_pending: None,
            observers: Vec::new(),
        }
    }

    /// The maximum number of threads; `min(32, available parallelism + 4)` if not given. (`max_workers`)
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        self.max_workers = Some(max_workers);
        self
    }

    /// Threads are named `PREFIX_0`, `PREFIX_1`…; the prefix is `ThreadPoolExecutor-N` if not given.
    /// (`thread_name_prefix`)
    pub fn thread_name_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.thread_name_prefix = Some(prefix.into());
        self
    }

    /// Each thread runs this before its first task; if it panics, the pool is broken.
    /// (`initializer`)
    pub fn initializer(mut self, initializer: impl Fn() + Send + Sync + 'static) -> Self {
        let run = move || {
            initializer();
            Ok(())
        };
        self.initializer = Some(Preparation::new(Duty::Initializer, run));
        self
    }

    /// Like [`initializer`](Self::initializer), for one that may fail: then the pool is broken, and its tasks
    /// end as [`Error::BrokenPool`] with the text of the error.
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// let pool = ThreadPoolExecutor::builder().try_initializer(|| Err("no licence")).build()?;
    /// let error = pool.spawn(|| 1).result().unwrap_err();
    /// assert!(error.to_string().contains("the initializer failed: no licence"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn try_initializer<E: fmt::Display>(
        mut self,
        initializer: impl Fn() -> Result<(), E> + Send + Sync + 'static,
    ) -> Self {
        let run = move || Checked::keep(initializer());
        self.initializer = Some(Preparation::new(Duty::Initializer, run));
        self
    }

    /// Each thread calls this before its first task, after the [initializer](Self::initializer), and keeps what
    /// it returns: its state, which tasks borrow by
    /// [`submit_with_state`](ThreadPoolExecutor::submit_with_state). (`initializer` and `threading.local()`)
    ///
    /// The state stays on its thread, so it need not be `Send`. It is dropped there when the pool is shut down.
    /// If `make` panics, the pool is broken. After a task that panicked the state is as that task has left it.
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// let pool = ThreadPoolExecutor::builder().max_workers(1).state(Vec::<String>::new).build()?;
    /// let add = |words: &mut Vec<String>, word: &str| {
    ///     words.push(word.to_owned());
    ///     words.join(" ")
    /// };
    /// pool.submit_with_state(add, "tea").result()?;
    /// assert_eq!(pool.submit_with_state(add, "cake").result()?, "tea cake");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn state<S: 'static>(mut self, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        let run = move || AsState::keep(make());
        self.state = Some(Preparation::new(Duty::State, run));
        self
    }

    /// Like [`state`](Self::state), for a function that may fail: then the pool is broken, and its tasks end as
    /// [`Error::BrokenPool`] with the text of the error.
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// let pool = ThreadPoolExecutor::builder().try_state(|| "seven".parse::<u32>()).build()?;
    /// let error = pool.submit_with_state(|n: &mut u32, ()| *n, ()).result().unwrap_err();
    /// assert!(error.to_string().contains("the state failed: invalid digit found in string"));
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn try_state<S: 'static, E: fmt::Display>(
        mut self,
        make: impl Fn() -> Result<S, E> + Send + Sync + 'static,
    ) -> Self {
        let run = move || AsCheckedState::keep(make());
        self.state = Some(Preparation::new(Duty::State, run));
        self
    }

    /// The maximum number of waiting tasks, not counting one for each worker that is idle or may still be
    /// started, which begins that task at once. So there is room for `max_pending` + idle workers + workers
    /// to be started - pending tasks. Where there is no room, `submit` waits for it, except on a thread of
    /// the pool itself, and [`try_submit`](crate::Executor::try_submit) gives the argument back. No limit if
    /// not given. See [`try_submit`](crate::Executor::try_submit) for an example.
    pub fn max_pending(mut self, tasks: usize) -> Self {
        self.max_pending = Some(tasks);
        self
    }

    /// An observer, which is told of tasks and threads. [`Observer`] has an example. Further observers are told
    /// after it.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.push(Arc::new(observer));
        self
    }

    /// Makes the pool. No thread starts before the first task.
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if `max_workers` or `max_pending` is 0, or the prefix has a NUL
    /// character.
    pub fn build(self) -> Result<ThreadPoolExecutor, Error> {
        static POOLS: AtomicUsize = AtomicUsize::new(0);
        let max_workers = self.max_workers.unwrap_or_else(default_workers);
        if max_workers == 0 {
            return Err(Error::InvalidConfig("max_workers is 0".into()));
        }
        if self.max_pending == Some(0) {
            return Err(Error::InvalidConfig("max_pending is 0".into()));
        }
        let prefix = self.thread_name_prefix.unwrap_or_else(|| {
            // ORDERING: Relaxed; only the uniqueness of the number matters.
            format!(
                "ThreadPoolExecutor-{}",
                POOLS.fetch_add(1, Ordering::Relaxed)
            )
        });
        if prefix.contains('\0') {
            let words = "thread_name_prefix has a NUL character";
            return Err(Error::InvalidConfig(words.into()));
        }
        let preparations: Vec<_> = self.initializer.into_iter().chain(self.state).collect();
        let worker_main = move |context: &_| serve(context, &preparations);
        let limits = Limits {
            max_workers,
            max_pending: self.max_pending,
            idle_timeout: None,
        };
        let threads = Threads {
            name_prefix: prefix,
            stack_size: None,
        };
        let observation = Observation::new(self.observers);
        let worker_pool =
            WorkerPool::new(limits, threads, observation, None, Box::new(worker_main));
        Ok(ThreadPoolExecutor::with_worker_pool(worker_pool))
    }
}

#[cfg(feature = "tracing")]
impl ThreadPoolBuilder {
    /// Makes a `tracing` span named `task`, at level INFO, for each task. (feature `tracing`)
    ///
    /// Its parent is the current span of the thread that submits the task. It is entered while the task runs, so
    /// that it is the parent of what the task does. Its fields: `name`, if the task has one; `place`, where it was
    /// submitted; `worker`; `outcome`, as in [`TaskOutcome`](crate::TaskOutcome), or `Withdrawn` if no worker has
    /// begun the task; `error`. It closes when the task has ended.
    ///
    /// Costs what an [`Observer`] costs, and what the subscriber does.
    ///
    /// ```
    /// # use concurrent_futures::{TaskOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::builder().max_workers(2).trace_tasks().build()?;
    /// let request = tracing::info_span!("request", path = "/").entered();
    /// let options = TaskOptions::new().name("render");
    /// let page = pool.submit_with(options, |words: &str| {
    ///     tracing::info!("rendering"); // in the span of the task, which is in the span `request`
    ///     format!("<p>{words}")
    /// }, "hello");
    /// drop(request);
    /// assert_eq!(page.result()?, "<p>hello");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn trace_tasks(self) -> Self {
        self.observer(TaskSpans::new(RunsIn::Threads))
    }
}

/// A pool of the default size. (`ThreadPoolExecutor()`)
impl Default for ThreadPoolExecutor {
    fn default() -> Self {
        match Self::builder().build() {
            Ok(pool) => pool,
            Err(error) => unreachable!("what is not given is valid: {error}"),
        }
    }
}

impl fmt::Debug for ThreadPoolBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPoolBuilder")
            .field("max_workers", &self.max_workers)
            .field("thread_name_prefix", &self.thread_name_prefix)
            .finish_non_exhaustive()
    }
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(5, |cores| cores.get().saturating_add(4).min(32))
}
