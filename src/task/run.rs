//! The run of a task or of an item on this thread: the hooks of its worker, and the clock of its time limit.
//!
//! A worker's context in its pool (`pool/worker.rs`) and `SerialExecutor` implement [`WorkerHooks`]; `local.rs`,
//! `portable.rs` and `chunk.rs` call their functions here. Relies on `clock` (what counts against the limit), on
//! the timer (`timeout.rs`) and on `unwind` (panics become errors).

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{self, Clock, Pauses};
use crate::error::{Error, PanicInfo};
use crate::future::id::FutureId;
use crate::future::promise::{Body, Expire, Promise, Settle, TaskCell, Verdict};
use crate::future::state::Start;
use crate::options::RunOptions;
use crate::task::ErasedTask;
use crate::task::timeout::TimeoutGuard;
use crate::task_info::TaskInfo;
use crate::unwind::{self, Panic, discard};

/// The hooks of the worker that a task runs on: what the task reports to it, and asks of it.
pub(crate) trait WorkerHooks {
    /// The worker is about to begin this item. Called before the item's future becomes running, so that a
    /// thread that sees it running finds its worker.
    fn task_starting(&self, id: FutureId);
    /// The worker has truly begun the item: it was not cancelled.
    fn task_started(&self, id: FutureId);
    /// The item that the worker was about to begin, of this id, turned out to be cancelled.
    fn task_cancelled(&self, id: FutureId);
    /// Whether items that have not begun must not begin any more.
    fn cancels(&self) -> bool;
    /// The rest of the chunk will not begin.
    fn drop_rest(&self);
    /// An item of this rest has settled.
    fn count(&self, verdict: Verdict);
    /// Expires the current item after `limit` from now, unless the returned guard is dropped before. `None` if
    /// no thread can do so: the limit is checked once the function has returned.
    fn expire_after(&self, task: Arc<dyn Expire>, limit: Duration) -> Option<TimeoutGuard>;
    /// The item's future is about to become done, with this error or with a value.
    fn task_done(&self, verdict: Verdict, error: Option<&Error>);
    /// The worker's index in its pool; `None` if it belongs to no pool.
    fn worker_index(&self) -> Option<usize>;
}

/// The hooks of a task that an implementor of `Executor` runs.
pub(super) struct NoHooks;

impl WorkerHooks for NoHooks {
    fn task_starting(&self, _: FutureId) {}
    fn task_started(&self, _: FutureId) {}
    fn task_cancelled(&self, _: FutureId) {}
    fn cancels(&self) -> bool {
        false
    }
    fn drop_rest(&self) {}
    fn count(&self, _: Verdict) {}
    fn expire_after(&self, _: Arc<dyn Expire>, _: Duration) -> Option<TimeoutGuard> {
        None
    }
    fn task_done(&self, _: Verdict, _: Option<&Error>) {}
    fn worker_index(&self) -> Option<usize> {
        None
    }
}

/// Runs a single task on this thread, unless it was cancelled; `take` takes out what is to be called.
pub(super) fn run_single<R, B, C>(
    promise: Promise<R, B>,
    hooks: &dyn WorkerHooks,
    take: impl FnOnce(&Promise<R, B>) -> C,
) where
    R: Send + 'static,
    B: Body<R> + 'static,
    C: FnOnce() -> Result<R, Error>,
    TaskCell<R, B>: ErasedTask,
{
    if begin(&promise, hooks) == Start::Cancelled {
        return;
    }
    let expiring = || promise.expiring();
    let info = || promise.info();
    let (options, call) = (ErasedTask::options(promise.task_cell()), take(&promise));
    let outcome = call_in_time(expiring, options, info, hooks, call);
    promise.settle_on_worker(outcome, |verdict, error| {
        report(hooks, verdict, error, options.given_timeout());
    });
}

/// Reports the end of an item to the worker's hooks. An item that has passed its limit has ended before, with
/// that error.
#[inline]
pub(super) fn report(
    hooks: &dyn WorkerHooks,
    verdict: Verdict,
    error: Option<&Error>,
    limit: Option<Duration>,
) {
    match (verdict, limit) {
        (Verdict::Late, Some(limit)) => {
            let limit = limit.into();
            hooks.task_done(verdict, Some(&Error::TaskTimeout { limit }));
        }
        _ => hooks.task_done(verdict, error),
    }
}

/// Begins an item, unless it was cancelled, and reports to the worker's hooks whether it has begun.
pub(super) fn begin<R, B>(promise: &Promise<R, B>, hooks: &dyn WorkerHooks) -> Start
where
    R: Send + 'static,
    B: Body<R> + 'static,
{
    let id = promise.task_cell().id();
    hooks.task_starting(id);
    let start = promise.start();
    match start {
        Start::Begun => hooks.task_started(id),
        Start::Cancelled => hooks.task_cancelled(id),
    }
    start
}

/// Calls an item's function. An outcome that comes after the time limit is dropped: the item ends as
/// `TaskTimeout`.
#[inline]
pub(super) fn call_in_time<R: Send + 'static>(
    expiring: impl FnOnce() -> Arc<dyn Expire>,
    options: RunOptions,
    info: impl FnOnce() -> TaskInfo,
    hooks: &dyn WorkerHooks,
    call: impl FnOnce() -> Result<R, Error>,
) -> Result<R, Error> {
    let run = || {
        let outcome = unwind::catch(call);
        outcome.unwrap_or_else(|panic| Err(panicked(panic, info(), hooks.worker_index())))
    };
    match options.given_timeout() {
        None => run(),
        Some(limit) => run_within(limit, expiring(), hooks, run),
    }
}

/// Runs an item that has a time limit.
fn run_within<R: Send + 'static>(
    limit: Duration,
    expiring: Arc<dyn Expire>,
    hooks: &dyn WorkerHooks,
    run: impl FnOnce() -> Result<R, Error>,
) -> Result<R, Error> {
    let clock = Rc::new(Stopwatch {
        begun: Instant::now(),
        limit,
        pauses: RefCell::default(),
        timeout_guard: hooks.expire_after(expiring, limit),
    });
    let outcome = clock::measured(Rc::<Stopwatch>::clone(&clock), run);
    let took = clock.elapsed();
    drop(clock);
    if took >= limit {
        discard(outcome);
        let limit = limit.into();
        return Err(Error::TaskTimeout { limit });
    }
    outcome
}

/// The clock of an item that has a time limit.
struct Stopwatch {
    /// When the item began.
    begun: Instant,
    /// How long the item may run.
    limit: Duration,
    /// The periods that do not count as the item's time.
    pauses: RefCell<Pauses>,
    /// Lets the item expire at its deadline; `None` if the limit is not checked before the function has
    /// returned.
    timeout_guard: Option<TimeoutGuard>,
}

impl Stopwatch {
    /// How long the item has run, as far as that counts.
    fn elapsed(&self) -> Duration {
        let delay = self.pauses.borrow().delay();
        self.begun.elapsed().saturating_sub(delay)
    }

    /// Moves the item's deadline later by the time that does not count.
    fn put_off(&self) {
        let delay = self.pauses.borrow().delay();
        let deadline = self.begun.checked_add(self.limit.saturating_add(delay));
        if let (Some(timeout_guard), Some(deadline)) = (&self.timeout_guard, deadline) {
            timeout_guard.expire_at(deadline);
        }
    }
}

impl Clock for Stopwatch {
    fn stop(&self) {
        self.pauses.borrow_mut().begin(Instant::now());
        self.put_off();
    }

    fn go_on(&self) {
        self.pauses.borrow_mut().end(Instant::now());
        self.put_off();
    }
}

pub(super) fn panicked(panic: Panic, info: TaskInfo, worker: Option<usize>) -> Error {
    Error::Panicked(PanicInfo::new(panic, Some(info), worker))
}
