//! [`ProcessPoolExecutor`], and the handle through which futures reach their pool.
//!
//! Submitting encodes the argument in the caller, then hands the task to the worker pool (`pool/`), whose
//! threads are the supervisors of the worker processes (`host/supervisor.rs`). The worker pool puts tasks
//! into the in-flight table (`host/in_flight/`), if there is one: from there workers claim them.

use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use crate::error::Error;
use crate::executor::Executor;
use crate::executor::closed::Closed;
use crate::executor::stats::Stats;
use crate::executor::submit_async::RoomWaiter;
use crate::future::id::FutureId;
use crate::future::pool_handle::{Drive, PoolHandle, TaskLocation, Unqueue, Waiter};
use crate::future::pool_registry::{self, Registration};
use crate::options::Shutdown;
use crate::pool::observation::Observation;
use crate::pool::observer::Observer;
use crate::pool::{Admit, Limits, OnFull, PullQueue, Submit, Threads, WorkerPool};
use crate::process::host::config::WorkerConfig;
use crate::process::host::driver::{CollectedBy, CompletionSource};
use crate::process::host::in_flight::InFlight;
use crate::process::host::process_table::ProcessTable;
use crate::process::host::supervisor::attend;
use crate::process::shm::arena::Arena;
use crate::remote::lease::{NoStore, PayloadStore};
use crate::sync::deadline::Deadline;
use crate::sys::fork;
use crate::sys::stack;
use crate::task::item_batch::BatchPart;
use crate::task::work_item::WorkItem;
use crate::task::{RemoteForm, Task};
use crate::transport::work::RemoteWork;
use crate::unwind;

/// Runs tasks in worker processes, which re-execute the program.
/// (`concurrent.futures.ProcessPoolExecutor`)
///
/// What happens in a worker stays there: a crash, a leak, a global lock, `exit`. A worker that dies costs the
/// task that it ran ([`Error::WorkerDied`]) and is replaced. Arguments and results travel by serde. Workers
/// start on demand; an idle one is reused before a new one starts. They print to the program's own stdout and
/// stderr, and their stdin is empty. Signals that the program blocks or ignores have their default action in
/// workers and in the programs that tasks execute, except SIGPIPE, SIGHUP and SIGTTOU. Dropping the pool,
/// the last of its clones, waits for its tasks; no worker outlives the program, whatever ends it. In async code,
/// await [`closed`](Executor::closed) before, so that no thread of the runtime is blocked.
///
/// The program calls [`init`](crate::init) as the first statement of `main`.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(2)?;
/// let crash = pool.submit(|code: i32| -> u8 { std::process::exit(code) }, 7);
/// let sum: u64 = pool.map(|n| n * n, 1..=10_u64).sum::<Result<_, _>>()?;
/// assert_eq!(sum, 385);
/// let Err(Error::WorkerDied(death)) = crash.result() else { unreachable!() };
/// assert_eq!(death.exit_code(), Some(7));
/// # Ok(())
/// # }
/// ```
///
/// A pool is a handle: clones of it are the same pool, and the last of them waits.
#[derive(Clone)]
pub struct ProcessPoolExecutor(
    /// What all clones share.
    Arc<ProcessPool>,
);

/// A process pool. Dropping it shuts it down.
struct ProcessPool {
    /// The worker pool; its threads are the supervisors, one for each worker process.
    worker_pool: Arc<WorkerPool<RemoteWork>>,
    /// The worker process behind each supervisor.
    process_table: Arc<ProcessTable>,
    /// The handle through which futures reach the pool; kept alive by the pool alone.
    _owner: Arc<dyn PoolHandle>,
    /// The pool's entry in the registry, by whose id tasks find the handle.
    entry: Registration,
    /// The in-flight table: tasks that workers claim from the shared-memory queue. `None` if the pool has no
    /// queue.
    in_flight: Option<Arc<InFlight>>,
    /// The most bytes that an encoded argument or result may have.
    payload_limit: u64,
    /// The memory for large arguments and results; `None` if the pool has none.
    arena: Option<Arc<Arena>>,
    /// How long workers have between SIGTERM and SIGKILL.
    terminate_grace: Duration,
}

impl ProcessPoolExecutor {
    /// The process ids of the workers that are ready.
    ///
    /// ```
    /// # use concurrent_futures::{Error, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::new(2)?;
    /// assert!(pool.worker_pids().is_empty());
    /// pool.warm_up()?;
    /// assert_eq!(pool.worker_pids().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn worker_pids(&self) -> Vec<u32> {
        self.0.process_table.pids()
    }

    /// Starts all workers now, and waits until they are ready; [`worker_pids`](Self::worker_pids) has
    /// an example.
    ///
    /// # Errors
    /// [`Error::BrokenPool`] if they cannot be started, [`Error::ShutDown`] after `shutdown`,
    /// [`Error::Spawn`] if the system gives no more threads.
    pub fn warm_up(&self) -> Result<(), Error> {
        self.0.worker_pool.warm_up()
    }

    /// Ends the pool and its workers: queued tasks are cancelled, running ones end as
    /// [`Error::ShutDown`]. Workers get SIGTERM, and SIGKILL after
    /// [`terminate_grace`](crate::ProcessPoolBuilder::terminate_grace); none is left when it returns.
    /// (`ProcessPoolExecutor.terminate_workers`)
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::new(1)?;
    /// let endless = pool.submit(|()| -> u8 { loop { std::thread::park() } }, ());
    /// pool.terminate_workers();
    /// assert!(matches!(endless.result(), Err(Error::ShutDown | Error::Cancelled)));
    /// assert!(pool.worker_pids().is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn terminate_workers(&self) {
        self.0.worker_pool.stop();
        self.0.process_table.terminate(self.0.terminate_grace);
        self.0.wind_down(Shutdown::wait(), Deadline::never());
    }

    /// Like [`terminate_workers`](Self::terminate_workers), but sends SIGKILL at once, to each worker's
    /// whole process group. (`ProcessPoolExecutor.kill_workers`)
    ///
    /// ```
    /// # use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
    /// # fn main() -> Result<(), Error> {
    /// # concurrent_futures::init();
    /// let pool = ProcessPoolExecutor::new(1)?;
    /// let endless = pool.submit(|()| -> u8 { loop { std::thread::park() } }, ());
    /// pool.warm_up()?;
    /// pool.kill_workers();
    /// assert!(matches!(endless.result(), Err(Error::ShutDown | Error::Cancelled)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn kill_workers(&self) {
        self.0.worker_pool.stop();
        self.0.process_table.kill();
        self.0.wind_down(Shutdown::wait(), Deadline::never());
    }

    pub(super) fn with_config(
        limits: Limits,
        observers: Vec<Arc<dyn Observer>>,
        mut worker_config: WorkerConfig,
        terminate_grace: Duration,
    ) -> Self {
        let process_table = Arc::new(ProcessTable::new());
        let payload_limit = worker_config.payload_limit;
        let observation = Observation::new(observers);
        let is_observed = observation.is_some();
        let in_flight = (worker_config.suits_queue(limits) && !is_observed)
            .then(|| InFlight::new(limits.max_workers, payload_limit))
            .flatten();
        worker_config.queue = in_flight.as_ref().map(|in_flight| in_flight.memory());
        let arena = in_flight.as_ref().and_then(|in_flight| in_flight.arena());
        worker_config.arena.clone_from(&arena);
        let worker_config = Arc::new(worker_config);
        let (entries, table) = (Arc::clone(&process_table), in_flight.clone());
        let worker_main =
            move |context: &_| attend(context, &worker_config, &entries, table.as_deref());
        let pull_queue = in_flight
            .clone()
            .map(|in_flight| in_flight as Arc<dyn PullQueue<_>>);
        let threads = Threads {
            name_prefix: "cf-super".to_owned(),
            stack_size: Some(stack::size()),
        };
        let worker_pool = WorkerPool::new(
            limits,
            threads,
            observation,
            pull_queue,
            Box::new(worker_main),
        );
        if let Some(in_flight) = &in_flight {
            in_flight.serve(&worker_pool);
            let entries = Arc::clone(&process_table);
            in_flight.kill_by(move |worker| {
                if let Some(process) = entries.at(worker) {
                    process.kill();
                }
            });
        }
        let owner: Arc<dyn PoolHandle> = Arc::new(ProcessPoolHandle {
            worker_pool: Arc::downgrade(&worker_pool),
            process_table: Arc::clone(&process_table),
            in_flight: in_flight.clone(),
            fork_epoch: fork::ForkEpoch::here(),
        });
        Self(Arc::new(ProcessPool {
            worker_pool,
            process_table,
            entry: match is_observed {
                true => pool_registry::enter(&owner).observed(),
                false => pool_registry::enter(&owner),
            },
            _owner: owner,
            in_flight,
            payload_limit,
            arena,
            terminate_grace,
        }))
    }
}

impl ProcessPool {
    /// Shuts the pool down; `false`: it has not ended by the deadline.
    fn wind_down(&self, how: Shutdown, deadline: Deadline) -> bool {
        let gone = self.worker_pool.shutdown(how, deadline);
        if !gone || !how.waits || self.worker_pool.includes_caller() {
            return gone;
        }
        self.worker_pool.timer().stop(deadline)
    }

    /// Encodes a task for which room was reserved, and queues it.
    #[inline]
    fn submit_admitted(&self, task: Task) {
        task.attach(self.entry.number());
        self.worker_pool.note_task(&task);
        if let Some(in_flight) = &self.in_flight {
            in_flight.note_submission();
        }
        let count = &mut |verdict| self.worker_pool.count(verdict);
        let payload_store: &dyn PayloadStore = match &self.arena {
            Some(arena) => arena,
            None => &NoStore,
        };
        match task.into_outgoing(self.payload_limit, payload_store, count) {
            RemoteForm::Nothing => self.worker_pool.withdraw_admission(),
            RemoteForm::One(task) => fail_refused(self.worker_pool.submit(RemoteWork::One(task))),
            RemoteForm::Many(parts) => {
                self.worker_pool.withdraw_admission();
                for part in parts {
                    let requests = match part {
                        BatchPart::Batch(item_batch) => RemoteWork::Items(item_batch),
                        BatchPart::Item(item) => RemoteWork::One(item),
                    };
                    fail_refused(self.worker_pool.submit_more(requests));
                }
            }
        }
    }

    /// Queues a task, unless there is no room for it.
    ///
    /// # Errors
    /// The task, if there is no room.
    fn execute_if(&self, admit: Admit, task: Task) -> Result<(), Task> {
        match admit {
            Admit::Full => return Err(task),
            Admit::Refused(error) => task.fail(error),
            Admit::Admitted => self.submit_admitted(task),
        }
        Ok(())
    }
}

/// Settles with their error the futures of work that the worker pool refused.
fn fail_refused(submit: Submit<RemoteWork>) {
    if let Submit::Refused(requests, error) = submit {
        requests.fail(&error, &mut |_| ());
    }
}

impl Executor for ProcessPoolExecutor {
    fn max_workers(&self) -> usize {
        self.0.worker_pool.max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.0.wind_down(how, Deadline::never());
    }

    fn shutdown_timeout(&self, how: Shutdown, limit: Duration) -> bool {
        self.0.wind_down(how, Deadline::after(limit))
    }

    fn closed(&self) -> Closed {
        Closed::of(Arc::clone(&self.0.worker_pool) as _)
    }

    fn stats(&self) -> Stats {
        self.0.worker_pool.stats()
    }

    fn execute(&self, task: Task) {
        match self.0.worker_pool.admit(OnFull::Block) {
            Admit::Refused(error) => task.fail(error),
            Admit::Admitted | Admit::Full => self.0.submit_admitted(task),
        }
    }

    fn try_execute(&self, task: Task) -> Result<(), Task> {
        let admit = self.0.worker_pool.admit(OnFull::Reject);
        self.0.execute_if(admit, task)
    }

    fn try_execute_or_wake(
        &self,
        task: Task,
        place: &mut RoomWaiter,
        waker: &Waker,
    ) -> Result<(), Task> {
        let admit = self.0.worker_pool.admit_or_wake(place, waker);
        self.0.execute_if(admit, task)
    }
}

impl Drop for ProcessPool {
    fn drop(&mut self) {
        self.wind_down(Shutdown::on_drop(), Deadline::never());
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessPoolExecutor")
            .field("max_workers", &self.max_workers())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What futures of a process pool ask and tell their pool.
struct ProcessPoolHandle {
    /// The worker pool; gone once the pool and its threads have ended.
    worker_pool: Weak<WorkerPool<RemoteWork>>,
    /// The worker process behind each supervisor.
    process_table: Arc<ProcessTable>,
    /// The in-flight table; `None` if the pool has no shared-memory queue.
    in_flight: Option<Arc<InFlight>>,
    /// Tells the program, the parent of the workers, from a forked copy of it.
    fork_epoch: fork::ForkEpoch,
}

impl ProcessPoolHandle {
    /// The in-flight table; `None` also in a forked copy of the program, which does not have the shared
    /// memory.
    fn in_flight(&self) -> Option<&InFlight> {
        let in_flight = self.in_flight.as_deref()?;
        (!self.fork_epoch.is_forked_copy()).then_some(in_flight)
    }
}

impl PoolHandle for ProcessPoolHandle {
    fn on_cancelled(&self, id: FutureId) {
        if let Some(worker_pool) = self.worker_pool.upgrade() {
            worker_pool.withdrawn(id);
        }
    }

    /// The cancellation flag is raised under the worker pool's lock, while the chunk is the current one of its
    /// worker. The supervisor lowers it for the next chunk only after that, before it sends any of its tasks.
    fn cancel_range(&self, first: FutureId, last: FutureId) {
        if let Some(worker_pool) = self.worker_pool.upgrade() {
            worker_pool.abandon(first, last, |index| {
                let process = self.process_table.at(index);
                if let Some(signals) = process.as_ref().and_then(|process| process.signals()) {
                    signals.raise();
                }
            });
        }
    }

    /// Marks the task first, then kills: once the task is marked, its worker begins no other task. A task with
    /// a grace is asked to stop instead, and its worker killed later; no such task lies in the queue.
    fn kill(&self, id: FutureId) -> bool {
        if let Some(process) = self.in_flight().and_then(|in_flight| {
            // Looked up while the mark is made, for the same reason as below.
            in_flight.mark_killed(id, |index| self.process_table.at(index))
        }) {
            if let Some(process) = process {
                process.kill();
            }
            return true;
        }
        let Some(worker_pool) = self.worker_pool.upgrade() else {
            return false;
        };
        // Looked up while the mark is made: a moment later another process may have this index.
        match worker_pool.mark_killed(id, |index| self.process_table.at(index)) {
            Some(process) => {
                if let Some(process) = process {
                    process.stop_task();
                }
                true
            }
            None => false,
        }
    }

    /// Never called: a task that exceeds its time limit is ended by its supervisor, which kills the process.
    fn on_timeout(&self, _: FutureId) {}

    fn on_settled(&self, id: FutureId, error: Option<&Error>) {
        if let Some(worker_pool) = self.worker_pool.upgrade() {
            worker_pool.settled(id, error);
        }
    }

    /// Tasks in processes do not depend on threads of pools: they take no part in deadlocks among those.
    fn place(&self, _: FutureId, _: FutureId) -> TaskLocation {
        TaskLocation::Elsewhere
    }

    /// Never called, because `place` never answers that a task is queued behind threads.
    fn fail_deadlocked(&self, _: FutureId, _: FutureId) {}

    fn try_unqueue(&self, id: FutureId) -> Unqueue {
        match self.worker_pool.upgrade() {
            _ if self.fork_epoch.is_forked_copy() => Unqueue::Started, // or not: a copy cannot know
            Some(worker_pool) => worker_pool.recall(id),
            None => Unqueue::NotHere,
        }
    }

    fn runs(&self, id: FutureId) -> bool {
        self.in_flight().is_some_and(|in_flight| in_flight.runs(id))
    }

    fn notify_on_completion(&self, id: FutureId) {
        if let Some(in_flight) = self.in_flight() {
            in_flight.notify_on_completion(id);
        }
    }

    #[cfg(feature = "stream")]
    fn notify_on_arrival(&self, first: FutureId, last: FutureId) {
        if let Some(in_flight) = self.in_flight() {
            in_flight.notify_on_arrival(first, last);
        }
    }

    fn wake(&self, waker: Waker) {
        match self.in_flight() {
            Some(in_flight) => in_flight.wake(waker),
            None => unwind::call(|| waker.wake()),
        }
    }

    fn poll_completions(&self) {
        if let Some(in_flight) = self.in_flight() {
            in_flight.collect(CollectedBy::Users);
        }
    }

    /// The worker pool and the in-flight table each count the outcomes that pass through them, and the user
    /// sees one sum. It does not matter which of them has counted this value, as long as one has: so the
    /// worker pool takes back a success if it has counted any, otherwise the in-flight table does.
    fn on_decode_failed(&self) {
        let is_taken_back = self
            .worker_pool
            .upgrade()
            .is_some_and(|worker_pool| worker_pool.on_decode_failed());
        if let (false, Some(in_flight)) = (is_taken_back, self.in_flight()) {
            in_flight.on_decode_failed();
        }
    }

    fn drive_until(&self, wait: &dyn Waiter, deadline: Deadline) -> Drive {
        match self.in_flight() {
            Some(in_flight) => in_flight.driver().drive_until(in_flight, wait, deadline),
            None => Drive::Park,
        }
    }
}
