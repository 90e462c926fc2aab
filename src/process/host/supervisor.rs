//! The supervisor: the program's thread behind each worker process. It starts the worker, hands it tasks,
//! settles what a lost worker leaves, and starts the next one.
//!
//! The pool runs [`attend`] on the thread of each of its workers. It relies on `spawn` for the start, on
//! `pipeline` for chunks, and on `in_flight` for workers that claim tasks by themselves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::error::Error;
use crate::pool::{AfterLoss, Tenure, WorkerContext};
use crate::process::host::child::SpawnOn;
use crate::process::host::config::WorkerConfig;
use crate::process::host::connection::{Connection, Disconnect, WorkerMessage};
use crate::process::host::handshake::StartError;
use crate::process::host::in_flight::{InFlight, Orphan};
use crate::process::host::pipeline::{Pipeline, PipelineEnd, WorkerExit};
use crate::process::host::process_table::ProcessTable;
use crate::sys::child::ProcessEnd;
use crate::task::request::RemoteOutcome;
use crate::task::work_item::WorkItem;
use crate::transport::work::RemoteWork;

/// The supervisor's main loop: one worker process after the other, as long as one is needed.
pub(crate) fn attend(
    context: &WorkerContext<RemoteWork>,
    worker_config: &Arc<WorkerConfig>,
    process_table: &Arc<ProcessTable>,
    in_flight: Option<&InFlight>,
) {
    let mut supervisor = Supervisor {
        context,
        worker_config,
        process_table,
        standby: None,
        leaving: VecDeque::new(),
    };
    loop {
        let next = match supervisor.next_worker() {
            Ok(connection) => match in_flight {
                Some(in_flight) => supervisor.stand_by(connection, in_flight),
                None => supervisor.serve(connection),
            },
            Err(failure) => supervisor.see_to_failure(failure),
        };
        if next == AfterLoss::Stop {
            break;
        }
    }
    supervisor.leave();
}

/// The state of a supervisor thread.
struct Supervisor<'a> {
    /// The worker's context in the pool.
    context: &'a WorkerContext<RemoteWork>,
    /// How its workers are started.
    worker_config: &'a Arc<WorkerConfig>,
    /// Where its processes are entered.
    process_table: &'a Arc<ProcessTable>,
    /// The next worker, if the current one is about to have run as many tasks as it may.
    standby: Option<Standby>,
    /// Workers that were told to leave, the oldest first.
    leaving: VecDeque<Leaver>,
}

/// How many workers of a supervisor may be leaving at a time beside the one that serves. The next one waits
/// for the oldest.
const MAX_LEAVING: usize = 8;

impl Supervisor<'_> {
    /// Returns a worker that is ready: the standby, or a new one.
    fn next_worker(&mut self) -> Result<Connection, StartError> {
        let index = self.context.index();
        let started = match self.standby.take() {
            Some(standby) => standby.step_in(),
            None => self.start(),
        };
        match started {
            Ok(connection) => {
                self.process_table.make_ready(index, connection.process());
                Ok(connection)
            }
            Err(failure) => {
                self.process_table.vacate(index);
                Err(failure)
            }
        }
    }

    fn start(&self) -> Result<Connection, StartError> {
        // This thread lives longer than the workers that it starts.
        start(
            self.context,
            self.worker_config,
            self.process_table,
            SpawnOn::Caller,
        )()
    }

    /// Hands tasks to one worker process, until it is lost, has run as many as it may, or there are no more.
    fn serve(&mut self, mut connection: Connection) -> AfterLoss {
        self.context.ready(connection.process().pid());
        while connection.process().end().is_none() {
            let left = self.allowance(&connection);
            if left == 0 {
                return self.replace(connection);
            }
            let Some(requests) = self.context.take() else {
                break;
            };
            if requests.len() as u64 >= left {
                self.have_standby();
            }
            match Pipeline::new(self.context, self.worker_config, &mut connection, left)
                .run(requests)
            {
                PipelineEnd::Drained => {}
                PipelineEnd::Exhausted(rest) => self.context.requeue(rest),
                PipelineEnd::Lost(next) => {
                    self.process_table.clear_ready(self.context.index());
                    return next;
                }
            }
        }
        self.process_table.clear_ready(self.context.index());
        if connection.process().end().is_some() {
            connection.kill_and_reap();
            // Counts as productive: what it had taken and not begun returns a few times at most.
            self.context.lost(Tenure::Productive)
        } else {
            connection.close();
            AfterLoss::Stop
        }
    }

    /// Serves a worker that claims tasks by itself, until it is lost or leaves: sends it the work that does
    /// not fit into the queue, and receives what it reports.
    fn stand_by(&mut self, mut connection: Connection, in_flight: &InFlight) -> AfterLoss {
        if let Err(error) = in_flight.enlist(self.context.index()) {
            connection.kill_and_reap();
            self.process_table.vacate(self.context.index());
            let words = format!(
                "no shared memory for worker {}: {error}",
                self.context.index()
            );
            return self.context.start_failed(&Error::BrokenPool(words.into()));
        }
        self.context.ready(connection.process().pid());
        connection.resume();
        let broken = loop {
            match connection.recv_message() {
                Ok(WorkerMessage::Outcome(place, outcome)) => {
                    in_flight.note_outcome(place, outcome, self.context.index());
                }
                Ok(WorkerMessage::Claim(place)) => {
                    let Some(requests) = in_flight.take_rendezvous(place, self.context.index())
                    else {
                        break Disconnect::ProtocolViolation("it claimed what is not there");
                    };
                    match self.run_rendezvous(&mut connection, requests) {
                        PipelineEnd::Lost(next) => {
                            // It ran what it was told over the connection. Anything that it leaves in the
                            // queue besides is there by a stray write, and is recovered all the same.
                            self.recover_worker(&mut connection, in_flight, Disconnect::Gone);
                            return next;
                        }
                        PipelineEnd::Drained | PipelineEnd::Exhausted(_) => {
                            in_flight.resume(self.context.index());
                            connection.resume();
                        }
                    }
                }
                Ok(WorkerMessage::Alarm) => in_flight.alarm(),
                Err(broken) => break broken,
            }
        };
        self.lose(connection, in_flight, broken)
    }

    /// Has a worker run the work that it has claimed and asked for.
    fn run_rendezvous(&self, connection: &mut Connection, requests: RemoteWork) -> PipelineEnd {
        if requests.is_empty() {
            return PipelineEnd::Drained; // cancelled since the claim
        }
        self.context.claimed(&requests);
        let talked =
            Pipeline::new(self.context, self.worker_config, connection, u64::MAX).run(requests);
        if let PipelineEnd::Drained = talked {
            self.context.idle();
        }
        talked
    }

    /// Ends a worker that claimed tasks by itself, and decides whether another one follows.
    fn lose(
        &mut self,
        mut connection: Connection,
        in_flight: &InFlight,
        broken: Disconnect,
    ) -> AfterLoss {
        let tenure = match in_flight.has_claimed(self.context.index()) {
            true => Tenure::Productive,
            false => Tenure::Barren,
        };
        let (death, orphans) = self.recover_worker(&mut connection, in_flight, broken);
        let may_have_left = matches!(death.end, ProcessEnd::Exited(0) | ProcessEnd::Unknown);
        match orphans {
            Orphans::None if may_have_left && in_flight.is_closing() => AfterLoss::Stop,
            _ => self.context.lost(tenure),
        }
    }

    /// Reaps a worker that was given up for the reason `broken`, and settles or returns what it leaves
    /// behind.
    fn recover_worker(
        &self,
        connection: &mut Connection,
        in_flight: &InFlight,
        broken: Disconnect,
    ) -> (WorkerExit, Orphans) {
        let index = self.context.index();
        let death = WorkerExit::of_worker(index, connection, self.worker_config);
        self.process_table.vacate(index);
        let orphans = in_flight.recover_worker(index, death.pid, death.end);
        if orphans.is_empty() {
            return (death, Orphans::None);
        }
        let stopping = self.context.stopping();
        for orphan in orphans {
            match orphan {
                Orphan::Unstarted(requests) if requests.is_empty() => {}
                Orphan::Unstarted(requests) if requests.is_abandoned() => {
                    let worker_pool = self.context.worker_pool();
                    requests.fail(&Error::Cancelled, &mut |verdict| worker_pool.count(verdict));
                }
                Orphan::Unstarted(requests) => self.context.requeue(requests),
                Orphan::Killed(promise) => in_flight.hand_over(promise, RemoteOutcome::Killed),
                Orphan::Ran(promise) => {
                    let error = match stopping {
                        true => Error::ShutDown,
                        false => death.of(promise.info(), 1, broken, None),
                    };
                    in_flight.hand_over(promise, RemoteOutcome::Error(error));
                }
            }
        }
        (death, Orphans::Some)
    }

    /// How many more tasks a worker may run.
    fn allowance(&self, connection: &Connection) -> u64 {
        match self.worker_config.max_tasks_per_child {
            Some(limit) => limit.saturating_sub(connection.received()),
            None => u64::MAX,
        }
    }

    /// Starts the next worker as a standby while the current one runs its last task.
    fn have_standby(&mut self) {
        if self.standby.is_none() {
            // Without a thread for it, it is started when its turn comes.
            let start = start(
                self.context,
                self.worker_config,
                self.process_table,
                SpawnOn::WaitThread,
            );
            self.standby = Standby::start(start);
        }
    }

    /// Lets a worker leave that has run as many tasks as it may. It is waited for while the next one serves:
    /// queued tasks do not wait for a worker that hangs in its exit.
    fn replace(&mut self, connection: Connection) -> AfterLoss {
        connection.half_close();
        self.context.retire();
        let (gone, there): (VecDeque<_>, _) = self.leaving.drain(..).partition(Leaver::is_gone);
        self.leaving = there;
        let is_full = self.leaving.len() >= MAX_LEAVING;
        let oldest = is_full.then(|| self.leaving.pop_front()).flatten();
        for leaver in gone.into_iter().chain(oldest) {
            leaver.join();
        }
        self.leaving.extend(Leaver::start(connection));
        AfterLoss::Restart
    }

    fn see_to_failure(&self, failure: StartError) -> AfterLoss {
        match failure {
            StartError::Start(error) => self.context.start_failed(&error),
            StartError::Interrupted(error) => self.context.start_interrupted(&error),
            StartError::Initializer(error) => {
                self.context.worker_pool().break_down(&error);
                AfterLoss::Stop
            }
        }
    }

    /// Ends the standby, and waits for the workers that leave.
    fn leave(mut self) {
        if let Some(Ok(connection)) = self.standby.take().map(Standby::step_in) {
            connection.close();
        }
        for leaver in self.leaving {
            leaver.join();
        }
        self.process_table.vacate(self.context.index());
    }
}

/// Whether a dead worker has left anything unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orphans {
    /// It has not.
    None,
    /// It has, and that was settled or returned.
    Some,
}

/// A standby: a worker that gets ready on a thread of its own.
struct Standby(
    /// The thread, which returns the worker's connection.
    JoinHandle<Result<Connection, StartError>>,
);

impl Standby {
    fn start(
        start: impl FnOnce() -> Result<Connection, StartError> + Send + 'static,
    ) -> Option<Self> {
        let name = "cf-starter".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(start);
        thread.ok().map(Self)
    }

    fn step_in(self) -> Result<Connection, StartError> {
        self.0.join().unwrap_or_else(|_| {
            let words = "the thread that started a worker has panicked";
            Err(StartError::Start(Error::BrokenPool(words.into())))
        })
    }
}

/// A worker that was told to leave, and the thread that waits for it.
struct Leaver(
    /// Ends once the worker was reaped.
    JoinHandle<()>,
);

impl Leaver {
    /// Starts a thread that waits for a worker. `None`: there was no thread, and the worker was waited for
    /// here.
    fn start(connection: Connection) -> Option<Self> {
        let (hand_over, receive) = crossbeam_channel::bounded::<Connection>(1);
        let name = "cf-reaper".to_owned();
        let wait = move || {
            if let Ok(connection) = receive.recv() {
                connection.close();
            }
        };
        match std::thread::Builder::new().name(name).spawn(wait) {
            Ok(thread) => {
                // It is received, because the thread waits for it.
                drop(hand_over.send(connection));
                Some(Self(thread))
            }
            Err(_) => {
                // Without a thread for it, the next worker has to wait.
                connection.close();
                None
            }
        }
    }

    /// Whether the worker was reaped.
    fn is_gone(&self) -> bool {
        self.0.is_finished()
    }

    /// Blocks until the worker was reaped.
    fn join(self) {
        // The thread runs no user code, and does not panic.
        let _ = self.0.join();
    }
}

/// Returns what starts a worker; it can be called on any thread.
fn start(
    context: &WorkerContext<RemoteWork>,
    worker_config: &Arc<WorkerConfig>,
    process_table: &Arc<ProcessTable>,
    spawn_on: SpawnOn,
) -> impl FnOnce() -> Result<Connection, StartError> + Send + 'static + use<> {
    let (worker_pool, index) = (Arc::downgrade(context.worker_pool()), context.index());
    let (worker_config, process_table, entries) = (
        Arc::clone(worker_config),
        Arc::clone(process_table),
        Arc::clone(process_table),
    );
    move || {
        let clear_ready = move |pid| {
            if let (true, Some(worker_pool)) = (entries.is_at(index, pid), worker_pool.upgrade()) {
                worker_pool.on_process_exit(index);
            }
        };
        let sit = |process: &_| process_table.occupy(index, process);
        worker_config.start(index, spawn_on, sit, clear_ready)
    }
}
