//! Who runs the current task.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

thread_local! {
    /// The worker that this thread is, while it is one.
    static CURRENT: RefCell<Option<WorkerInfo>> = const { RefCell::new(None) };
}

/// The worker that runs the calling task; `None` outside tasks.
///
/// Plays the part of `threading.current_thread()` and `multiprocessing.current_process()`.
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

/// A worker of a pool, as its own task sees it.
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
    /// The system's number of that thread.
    native_id: u64,
    /// What changes while it works.
    progress: Arc<Progress>,
}

/// What changes while a worker works.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Tasks begun, the current one included.
    tasks_run: AtomicU64,
    /// Somebody asked the current task to stop.
    cancel_requested: AtomicBool,
}

impl WorkerInfo {
    /// Describes the calling thread.
    pub(crate) fn here(index: usize, progress: Arc<Progress>) -> Self {
        let thread = std::thread::current();
        Self {
            index,
            thread_name: thread.name().unwrap_or("").into(),
            native_id: native_thread_id(),
            progress,
        }
    }

    /// Makes `self` the calling thread's worker until the seat is dropped.
    pub(crate) fn enter(self) -> EnterGuard {
        // A thread whose locals are gone has no seat: its tasks see no worker.
        let before = CURRENT.try_with(|current| current.replace(Some(self)));
        EnterGuard(before.ok().flatten())
    }

    /// The worker's position in its pool, from 0. Tasks of a
    /// [`SerialExecutor`](crate::SerialExecutor) and of a [`Process`](crate::Process) see 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The process that the worker is, or is part of. (`os.getpid()`)
    #[must_use]
    pub fn pid(&self) -> u32 {
        std::process::id()
    }

    /// The name of the thread that runs the task. (`threading.current_thread().name`)
    #[must_use]
    pub fn thread_name(&self) -> &str {
        &self.thread_name
    }

    /// The system's number of that thread. (`threading.current_thread().native_id`)
    #[must_use]
    pub fn native_id(&self) -> u64 {
        self.native_id
    }

    /// How many tasks this worker has begun, the current one included.
    #[must_use]
    pub fn tasks_run(&self) -> u64 {
        // ORDERING: Relaxed; a counter that this worker alone moves.
        self.progress.tasks_run.load(Ordering::Relaxed)
    }

    /// Whether the current task was asked to stop, by [`Future::kill`](crate::Future::kill) or
    /// its [time limit](crate::TaskOptions::timeout): a thread cannot be stopped from outside, so a long task looks here now and then. Always
    /// `false` in a process, which is killed instead.
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
        // ORDERING: Relaxed; a hint that carries no data.
        self.progress.cancel_requested.load(Ordering::Relaxed)
    }
}

impl Progress {
    /// Notes that the worker begins its next task.
    pub(crate) fn begin_task(&self) {
        // ORDERING: Relaxed, both; moved by the worker itself, and read by it.
        let tasks_run = self.tasks_run.load(Ordering::Relaxed);
        self.tasks_run
            .store(tasks_run.wrapping_add(1), Ordering::Relaxed);
        // ORDERING: Relaxed; requests name a task under the pool's lock, which orders them.
        self.cancel_requested.store(false, Ordering::Relaxed);
    }

    /// Asks the current task to stop.
    pub(crate) fn request_cancel(&self) {
        // ORDERING: Relaxed; a hint that carries no data.
        self.cancel_requested.store(true, Ordering::Relaxed);
    }
}

/// While it lives, the thread is a worker; then it is again what it was before.
pub(crate) struct EnterGuard(Option<WorkerInfo>);

impl Drop for EnterGuard {
    fn drop(&mut self) {
        // A thread whose locals are gone has no seat to leave.
        let _ = CURRENT.try_with(|current| current.replace(self.0.take()));
    }
}

/// The system's number of the calling thread.
fn native_thread_id() -> u64 {
    // SAFETY: gettid reads nothing and cannot fail.
    let id = unsafe { libc::gettid() };
    u64::from(id.unsigned_abs())
}
