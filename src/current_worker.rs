//! [`current_worker`]: the worker that runs the current task. `thread/`, `process/worker/` and
//! `executor/serial.rs` register their worker here.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::sys;
use crate::sys::handle::AsHandle;
use crate::sys::stream::Stream;

thread_local! {
    /// The worker that this thread runs; `None`: this thread is no worker.
    static CURRENT: RefCell<Option<WorkerInfo>> = const { RefCell::new(None) };
}

/// The worker that runs the calling task; `None` outside tasks. (`threading.current_thread()`,
/// `multiprocessing.current_process()`)
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor, current_worker};
///
/// assert!(current_worker().is_none());
/// let pool = ThreadPoolExecutor::new(1)?;
/// let index = pool.submit(|()| current_worker().unwrap().index(), ()).result()?;
/// assert_eq!(index, 0);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use]
pub fn current_worker() -> Option<WorkerInfo> {
    CURRENT.try_with(|current| current.borrow().clone()).ok()?
}

/// A worker of a pool, as seen by the task that it runs.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor, current_worker};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let told = |()| current_worker().map(|worker| (worker.index(), worker.pid(), worker.tasks_run()));
/// let (index, pid, tasks_run) = pool.submit(told, ()).result()?.unwrap();
/// assert_eq!((index, tasks_run), (0, 1));
/// assert_ne!(pid, std::process::id());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WorkerInfo {
    /// Position in the pool, from 0.
    index: usize,
    /// Name of the thread that runs tasks.
    thread_name: Arc<str>,
    /// The system's id of that thread (`gettid(2)`).
    native_id: u64,
    /// The part that changes while the worker runs tasks.
    progress: Arc<Progress>,
}

/// The part of a worker's data that changes while it runs tasks.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Number of tasks begun, the current one included.
    tasks_run: AtomicU64,
    /// Whether the current task was asked to stop.
    cancel_requested: AtomicBool,
    /// In a worker process, the connection over which the program asks: by closing its way to the worker,
    /// which so can begin nothing else. Empty elsewhere.
    connection: OnceLock<Arc<Stream>>,
    /// Whether the current task can be asked over the connection.
    is_connected: AtomicBool,
}

impl WorkerInfo {
    /// Describes the calling thread as worker number `index`.
    pub(crate) fn here(index: usize, progress: Arc<Progress>) -> Self {
        let thread = std::thread::current();
        Self {
            index,
            thread_name: thread.name().unwrap_or("").into(),
            native_id: sys::thread::native_id(),
            progress,
        }
    }

    /// Makes `self` the calling thread's worker until the guard is dropped.
    pub(crate) fn enter(self) -> EnterGuard {
        // On a thread without thread-locals (it is about to end) this has no effect: its tasks see no worker.
        let before = CURRENT.try_with(|current| current.replace(Some(self)));
        EnterGuard(before.ok().flatten())
    }

    /// The worker's position in its pool, from 0. Tasks of a
    /// [`SerialExecutor`](crate::SerialExecutor) and of a [`Process`](crate::Process) see 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The id of the process that the worker is, or is part of. (`os.getpid()`)
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// The name of the thread that runs the task. (`threading.current_thread().name`)
    #[must_use]
    pub fn thread_name(&self) -> &str {
        &self.thread_name
    }

    /// The system's id of that thread. (`threading.current_thread().native_id`)
    #[must_use]
    pub fn native_id(&self) -> u64 {
        self.native_id
    }

    /// How many tasks this worker has begun, the current one included.
    #[must_use]
    pub fn tasks_run(&self) -> u64 {
        // ORDERING: Relaxed; a counter that only this worker changes.
        self.progress.tasks_run.load(Ordering::Relaxed)
    }

    /// Whether the current task was asked to stop, by [`Future::kill`](crate::Future::kill) or its [time
    /// limit](crate::TaskOptions::timeout). A thread cannot be stopped from outside, so a long task should
    /// check this now and then. A process is killed instead, and a task in it sees `true` only during its
    /// [grace](crate::TaskOptions::grace); this is a system call in a task that has options.
    ///
    /// ```
    /// # use concurrent_futures::{ThreadPoolExecutor, current_worker};
    /// # use std::sync::mpsc::channel;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let (begun, has_begun) = channel();
    /// let patient = pool.spawn(move || {
    ///     begun.send(()).ok();
    ///     let worker = current_worker().unwrap();
    ///     while !worker.cancel_requested() {
    ///         std::thread::yield_now(); // a part of the work
    ///     }
    ///     "stopped early"
    /// });
    /// has_begun.recv().ok();
    /// assert!(!patient.kill()); // it runs, and is asked to stop
    /// assert_eq!(patient.result()?, "stopped early");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn cancel_requested(&self) -> bool {
        self.progress.is_cancel_requested()
    }
}

impl Progress {
    /// Notes that the worker begins its next task.
    pub(crate) fn begin_task(&self) {
        // ORDERING: Relaxed, both accesses; the counter is changed by the worker itself, and read by it.
        let tasks_run = self.tasks_run.load(Ordering::Relaxed);
        self.tasks_run
            .store(tasks_run.wrapping_add(1), Ordering::Relaxed);
        // ORDERING: Relaxed; a cancel request is made for a certain task under the pool's lock, which orders
        // it.
        self.cancel_requested.store(false, Ordering::Relaxed);
    }

    /// Asks the current task to stop.
    pub(crate) fn request_cancel(&self) {
        self.set_cancel_requested(true);
    }

    /// Sets whether the current task was asked to stop: the worker goes on with a task that had begun another.
    pub(crate) fn set_cancel_requested(&self, is_requested: bool) {
        // ORDERING: Relaxed; a hint that carries no data.
        self.cancel_requested.store(is_requested, Ordering::Relaxed);
    }

    /// Notes the connection of this worker process to the program.
    pub(crate) fn keep_connection(&self, connection: &Arc<Stream>) {
        // Set once, at the start of the process.
        let _ = self.connection.set(Arc::clone(connection));
    }

    /// Calls `run`, which runs a task that came over the connection: it can be asked to stop.
    pub(crate) fn connected<R>(&self, run: impl FnOnce() -> R) -> R {
        // ORDERING: Relaxed, both accesses; a hint for the task, which `run` calls, and for its threads.
        self.is_connected.store(true, Ordering::Relaxed);
        let outcome = run();
        self.is_connected.store(false, Ordering::Relaxed);
        outcome
    }

    /// Whether the current task was asked to stop.
    pub(crate) fn is_cancel_requested(&self) -> bool {
        // ORDERING: Relaxed, all accesses; a hint that carries no data.
        if self.cancel_requested.load(Ordering::Relaxed) {
            return true;
        }
        let is_asked = self.is_connected.load(Ordering::Relaxed)
            && self
                .connection
                .get()
                .is_some_and(|it| sys::stream::is_half_closed(it.as_handle()));
        if is_asked {
            self.request_cancel(); // no later task clears it: the worker leaves after this one
        }
        is_asked
    }
}

/// While the guard lives, the thread is a worker. Dropping it restores the previous worker, or none.
pub(crate) struct EnterGuard(Option<WorkerInfo>);

impl Drop for EnterGuard {
    fn drop(&mut self) {
        // On a thread without thread-locals there is nothing to restore.
        let _ = CURRENT.try_with(|current| current.replace(self.0.take()));
    }
}
