//! The process pool's public face.

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::executor::{Executor, Stats};
use crate::future::id::FutureId;
use crate::future::pool_handle::{Help, Owner, Place, Recall, Wait};
use crate::future::pool_registry::{self, Entry};
use crate::options::Shutdown;
use crate::pool::backlog::Work;
use crate::pool::observer::Observer;
use crate::pool::{Admit, Crew, Limits, Patience, Shelf, Submit, Threads};
use crate::process::builder::ProcessPoolBuilder;
use crate::process::host::driver::{Bringer, Store};
use crate::process::host::handshake::Launch;
use crate::process::host::in_flight::Ledger;
use crate::process::host::process_table::Desks;
use crate::process::host::supervisor::attend;
use crate::process::shm::arena::Depot;
use crate::remote::lease::{NoRoom, Room};
use crate::sys::fork;
use crate::sys::stack;
use crate::task::item_batch::Part;
use crate::task::{Outgoing, Task};
use crate::transport::work::Requests;

/// Runs tasks in worker processes, which re-execute the program.
/// (`concurrent.futures.ProcessPoolExecutor`)
///
/// What happens in a worker stays there: a crash, a leak, a global lock, `exit`. A worker that
/// dies costs the task that it ran ([`Error::WorkerDied`]) and is replaced. Arguments and results
/// travel by serde. Workers start on demand; an idle one is reused before a new one starts. They
/// print to the program's own stdout and stderr, and their stdin is empty. Signals that the program
/// blocks or ignores do in workers, and in what tasks execute, what they do by default, except SIGPIPE,
/// SIGHUP and SIGTTOU. Dropping the pool waits for its tasks; no worker outlives the program, whatever
/// ends it.
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
pub struct ProcessPoolExecutor {
    /// The attendants: one thread a worker process.
    crew: Arc<Crew<Requests>>,
    /// The processes.
    desks: Arc<Desks>,
    /// What futures turn to; kept alive by the pool alone.
    _owner: Arc<dyn Owner>,
    /// How they know of it.
    entry: Entry,
    /// Where workers take tasks by themselves, if they do.
    ledger: Option<Arc<Ledger>>,
    /// Bytes that an encoded argument may have.
    payload_limit: u64,
    /// Where big ones are put, if there is such a place.
    depot: Option<Arc<Depot>>,
    /// How long workers have between SIGTERM and SIGKILL.
    terminate_grace: Duration,
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

    /// A pool with settings.
    pub fn builder() -> ProcessPoolBuilder {
        ProcessPoolBuilder::new()
    }

    /// The processes of workers that are ready.
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
        self.desks.pids()
    }

    /// Starts all workers now, and waits until they are ready; [`worker_pids`](Self::worker_pids) has
    /// an example.
    ///
    /// # Errors
    /// [`Error::BrokenPool`] if they cannot be started, [`Error::ShutDown`] after `shutdown`,
    /// [`Error::Spawn`] if the system gives no more threads.
    pub fn warm_up(&self) -> Result<(), Error> {
        self.crew.warm_up()
    }

    /// Ends the pool and its workers: queued tasks are cancelled, running ones end as
    /// [`Error::ShutDown`]. Workers get SIGTERM, and SIGKILL after
    /// [`terminate_grace`](ProcessPoolBuilder::terminate_grace); none is left when it returns.
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
        self.crew.stop();
        self.desks.terminate(self.terminate_grace);
        self.crew.shutdown(Shutdown::wait(), None);
    }

    /// As [`terminate_workers`](Self::terminate_workers), with SIGKILL at once, to each worker's
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
        self.crew.stop();
        self.desks.kill();
        self.crew.shutdown(Shutdown::wait(), None);
    }

    /// Encodes a task, and queues it.
    #[inline]
    fn submit_admitted(&self, task: Task) {
        task.attach(self.entry.number());
        if let Some(ledger) = &self.ledger {
            ledger.note_submission();
        }
        let count = &mut |verdict| self.crew.count(verdict);
        let room: &dyn Room = match &self.depot {
            Some(depot) => depot,
            None => &NoRoom,
        };
        match task.into_outgoing(self.payload_limit, room, count) {
            Outgoing::Nothing => self.crew.withdraw_admission(),
            Outgoing::One(task) => fail_refused(self.crew.submit(Requests::One(task))),
            Outgoing::Many(parts) => {
                self.crew.withdraw_admission();
                for part in parts {
                    let requests = match part {
                        Part::Parcel(parcel) => Requests::Parcel(parcel),
                        Part::Item(item) => Requests::One(item),
                    };
                    fail_refused(self.crew.submit_more(requests));
                }
            }
        }
    }

    pub(super) fn with_launch(
        limits: Limits,
        observer: Option<Arc<dyn Observer>>,
        mut launch: Launch,
        terminate_grace: Duration,
    ) -> Self {
        let desks = Arc::new(Desks::new());
        let payload_limit = launch.payload_limit;
        let hears_more = observer.is_some();
        let ledger = (launch.suits_board(limits) && !hears_more)
            .then(|| Ledger::new(limits.max_workers, payload_limit))
            .flatten();
        launch.board = ledger.as_ref().map(|ledger| ledger.memory());
        let depot = ledger.as_ref().and_then(|ledger| ledger.depot());
        launch.depot.clone_from(&depot);
        let launch = Arc::new(launch);
        let (seats, books) = (Arc::clone(&desks), ledger.clone());
        let career = move |post: &_| attend(post, &launch, &seats, books.as_deref());
        let shelf = ledger.clone().map(|ledger| ledger as Arc<dyn Shelf<_>>);
        let threads = Threads {
            name_prefix: "process attendant".to_owned(),
            stack_size: Some(stack::size()),
        };
        let crew = Crew::new(limits, threads, observer, shelf, Box::new(career));
        if let Some(ledger) = &ledger {
            ledger.serve(&crew);
            let seats = Arc::clone(&desks);
            ledger.kill_by(move |worker| {
                if let Some(process) = seats.at(worker) {
                    process.kill();
                }
            });
        }
        let owner: Arc<dyn Owner> = Arc::new(Tasks {
            crew: Arc::downgrade(&crew),
            desks: Arc::clone(&desks),
            ledger: ledger.clone(),
            origin: fork::Origin::here(),
        });
        Self {
            crew,
            desks,
            entry: pool_registry::enter(&owner),
            _owner: owner,
            ledger,
            payload_limit,
            depot,
            terminate_grace,
        }
    }
}

/// Settles what was refused.
fn fail_refused(submit: Submit<Requests>) {
    if let Submit::Refused(requests, error) = submit {
        requests.fail(&error, &mut |_| ());
    }
}

impl Executor for ProcessPoolExecutor {
    fn max_workers(&self) -> usize {
        self.crew.max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.crew.shutdown(how, None);
    }

    fn shutdown_timeout(&self, how: Shutdown, limit: Duration) -> bool {
        self.crew.shutdown(how, Instant::now().checked_add(limit))
    }

    fn stats(&self) -> Stats {
        self.crew.stats()
    }

    fn execute(&self, task: Task) {
        match self.crew.admit(Patience::Wait) {
            Admit::Refused(error) => task.fail(error),
            Admit::Admitted | Admit::Full => self.submit_admitted(task),
        }
    }

    fn try_execute(&self, task: Task) -> Result<(), Task> {
        match self.crew.admit(Patience::Refuse) {
            Admit::Full => return Err(task),
            Admit::Refused(error) => task.fail(error),
            Admit::Admitted => self.submit_admitted(task),
        }
        Ok(())
    }
}

impl Drop for ProcessPoolExecutor {
    fn drop(&mut self) {
        self.shutdown(Shutdown::on_drop());
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

/// What futures of a pool turn to.
struct Tasks {
    /// Gone once the pool and its threads are.
    crew: Weak<Crew<Requests>>,
    /// The processes.
    desks: Arc<Desks>,
    /// Where they take tasks by themselves, if they do.
    ledger: Option<Arc<Ledger>>,
    /// The process whose children they are.
    origin: fork::Origin,
}

impl Tasks {
    /// The ledger; none in a forked copy of the program, which does not have its memory.
    fn ledger(&self) -> Option<&Ledger> {
        let ledger = self.ledger.as_deref()?;
        (!self.origin.is_elsewhere()).then_some(ledger)
    }
}

impl Owner for Tasks {
    fn withdrawn(&self, id: FutureId) {
        if let Some(crew) = self.crew.upgrade() {
            crew.withdrawn(id);
        }
    }

    /// The flag is raised under the crew's lock, while the chunk is the one at hand: the next one's
    /// attendant lowers it after that, before it sends anything.
    fn abandon(&self, first: FutureId, last: FutureId) {
        if let Some(crew) = self.crew.upgrade() {
            crew.abandon(first, last, |index| {
                let process = self.desks.at(index);
                if let Some(flag) = process.as_ref().and_then(|process| process.flag()) {
                    flag.raise();
                }
            });
        }
    }

    /// Marks first, then kills: by then the worker begins no other task.
    fn kill(&self, id: FutureId) -> bool {
        if let Some(process) = self.ledger().and_then(|ledger| {
            // Looked up while the mark is made, as below.
            ledger.mark_killed(id, |index| self.desks.at(index))
        }) {
            if let Some(process) = process {
                process.kill();
            }
            return true;
        }
        let Some(crew) = self.crew.upgrade() else {
            return false;
        };
        // Looked up while the mark is made: a moment later another may sit there.
        match crew.mark_killed(id, |index| self.desks.at(index)) {
            Some(process) => {
                if let Some(process) = process {
                    process.kill();
                }
                true
            }
            None => false,
        }
    }

    /// Never called: a process that overruns is killed by its attendant.
    fn expired(&self, _: FutureId) {}

    /// What processes run does not depend on threads of pools.
    fn place(&self, _: FutureId) -> Place {
        Place::Elsewhere
    }

    /// Never called, by the above.
    fn refuse(&self, _: FutureId) {}

    fn recall(&self, id: FutureId) -> Recall {
        match self.crew.upgrade() {
            _ if self.origin.is_elsewhere() => Recall::Begun, // or not: it is out of our reach
            Some(crew) => crew.recall(id),
            None => Recall::Elsewhere,
        }
    }

    fn runs(&self, id: FutureId) -> bool {
        self.ledger().is_some_and(|ledger| ledger.runs(id))
    }

    fn hook(&self, id: FutureId) {
        if let Some(ledger) = self.ledger() {
            ledger.hook(id);
        }
    }

    fn collect(&self) {
        if let Some(ledger) = self.ledger() {
            ledger.collect(Bringer::Users);
        }
    }

    /// Crew and ledger each count what comes their way, and are told to the user as one sum: it does not
    /// matter which of them has counted this value, as long as it has counted one.
    fn spoilt(&self) {
        let is_taken_back = self.crew.upgrade().is_some_and(|crew| crew.spoilt());
        if let (false, Some(ledger)) = (is_taken_back, self.ledger()) {
            ledger.spoilt();
        }
    }

    fn help(&self, wait: &dyn Wait, deadline: Option<Instant>) -> Help {
        match self.ledger() {
            Some(ledger) => ledger.tender().help(ledger, wait, deadline),
            None => Help::Sleep,
        }
    }
}
