//! The queue loop: the worker claims tasks from the shared-memory queue, and runs them.
//!
//! `serve` runs it once the program sends the worker to the queue. It relies on `process/shm/queue/` for
//! every step in shared memory, and on the connection loop for a rendezvous. The program's side is
//! `process/host/in_flight/`.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use crate::idle::placement::CorePlacement;
use crate::process::shm::arena::worker::{StoredClaim, WorkerArena};
use crate::process::shm::queue::{Claim, Finish, ShmQueue, SlotKind, SlotRef, Transition};
use crate::process::worker::batch::{BatchRunner, BatchState};
use crate::process::worker::context::{Directive, Worker};
use crate::process::worker::outcome::body_of;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::EAGER_LIMIT;
use crate::remote::length_delimited::LengthDelimited;
use crate::remote::stub::Argument;
use crate::sync::spin_then_yield;
use crate::transport::fault::Fault;
use crate::transport::wire::Kind;

/// Claims tasks from the shared-memory queue, and runs them.
pub(super) struct QueueConsumer<'a> {
    /// The queue.
    queue: &'a Arc<ShmQueue>,
    /// The worker's index.
    me: usize,
    /// The worker process.
    worker: &'a mut Worker,
    /// The encoded argument of the current task; the buffer is reused for the next one.
    argument: Vec<u8>,
    /// Encoded outcomes of the current items, as they lie in the queue.
    results: Vec<u8>,
    /// Length of the last item's outcome in bytes: the next one is expected to be as large.
    last_result: usize,
    /// Decides on which core the worker runs and sleeps.
    placement: CorePlacement,
}

/// Whether a worker has called the function of the task that it claimed.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Called {
    /// It called the function, and published the outcome.
    Task,
    /// It called nothing, because the claim did not hold any more.
    Nothing,
}

impl<'a> QueueConsumer<'a> {
    pub(super) fn new(queue: &'a Arc<ShmQueue>, me: usize, worker: &'a mut Worker) -> Self {
        Self {
            queue,
            me,
            worker,
            argument: Vec::new(),
            results: Vec::new(),
            last_result: 0,
            placement: CorePlacement::new(),
        }
    }

    /// Runs tasks until the queue is closed and empty, or the program closes the connection.
    pub(super) fn run_tasks(mut self) -> io::Result<Directive> {
        let mut has_waited = false;
        loop {
            let is_closing = self.queue.is_closing();
            let claim = self.queue.claim(self.me, &mut self.argument);
            if std::mem::take(&mut has_waited) {
                // Publishers rely on a searching worker to see what they published during its search.
                self.queue.pass_on();
            }
            match claim {
                Claim::Task(place, call) => self.run(place, call)?,
                Claim::Items(place, call, count) => self.run_items(place, call, count)?,
                Claim::Stored(place, call) => {
                    // The ring has passed the task: the worker finds another one, or waits.
                    if self.run_stored(place, call)? == Called::Nothing {
                        self.worker.raise_alarm()?;
                    }
                }
                Claim::Rendezvous(place) => match self.ask_for(place)? {
                    Directive::Resume => {}
                    close => return Ok(close),
                },
                Claim::Corrupt => {
                    self.wait_for_mending()?;
                    has_waited = true;
                }
                Claim::Empty if is_closing => return Ok(Directive::Close(0)),
                Claim::Empty => {
                    self.wait();
                    has_waited = true;
                }
            }
        }
    }

    fn run(&mut self, place: SlotRef, call: FunctionRef) -> io::Result<()> {
        self.placement.record_tasks(1);
        let outcome = self.worker.run(call, Argument::Kept(&mut self.argument));
        self.finish(place, outcome)
    }

    /// Called when something in shared memory makes no sense: raises an alarm, then sleeps until the program
    /// has repaired it or there is something else to do.
    fn wait_for_mending(&mut self) -> io::Result<()> {
        self.worker.raise_alarm()?;
        let has_stale = || self.worker.has_stale();
        self.queue.sleep(self.me, self.worker.purge_at(), has_stale);
        Ok(())
    }

    /// Runs a task whose argument lies in a block of the arena, unless the claim does not hold any more after
    /// the argument was read.
    fn run_stored(&mut self, place: SlotRef, call: FunctionRef) -> io::Result<Called> {
        let claim = StoredClaim::new(self.queue, place, self.me);
        let lease = |arena: &Arc<WorkerArena>, location| arena.claimed_argument(location, &claim);
        let outcome = self.worker.run_stored(call, &self.argument, lease);
        if claim.is_lost() {
            self.queue.leave_claim(self.me);
            return Ok(Called::Nothing);
        }
        self.finish(place, outcome)?;
        Ok(Called::Task)
    }

    /// Publishes a task's outcome: in its slot if it is small and brings no shared memory, otherwise over the
    /// connection.
    fn finish(&mut self, place: SlotRef, outcome: Result<Encoded, Fault>) -> io::Result<()> {
        let (form, body) = body_of(outcome);
        let finish = if body.len() <= EAGER_LIMIT && body.attachments().is_empty() {
            self.queue.finish(place, self.me, form, &body)
        } else {
            let kind = match form {
                SlotKind::Fault => Kind::LargeFault,
                _ => Kind::LargeValue,
            };
            self.worker.send_about(kind, place, &body)?;
            self.queue.finish(place, self.me, SlotKind::OutOfBand, &[])
        };
        self.worker.go_on(finish)
    }

    /// Runs items of a map, one after the other, as long as they may begin and their outcomes fit.
    fn run_items(&mut self, place: SlotRef, call: FunctionRef, count: usize) -> io::Result<()> {
        let begun = Instant::now();
        self.worker.release_stale();
        self.worker.shield();
        self.results.clear();
        let Some(run) = self.queue.begin_run(place, self.me) else {
            return self.worker.go_on(Finish::Displaced);
        };
        let mut items = BatchRunner {
            worker: &*self.worker,
            place,
            arguments: LengthDelimited::new(&self.argument),
            count,
            run,
            results: &mut self.results,
            last_result: self.last_result,
            batch_state: BatchState::Ready,
        };
        items.run_all(call);
        self.last_result = items.last_result;
        let form = match items.batch_state {
            BatchState::Ready => SlotKind::Items,
            BatchState::OutOfBand => SlotKind::ItemsOutOfBand,
            BatchState::Broken(error) => return Err(error),
        };
        let (took, run) = (begun.elapsed(), items.run);
        let items = run.done();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let finish = run.finish(form, nanos);
        self.worker.go_on(finish)?;
        self.placement.record_tasks(items);
        let each = took.checked_div(items as u32).unwrap_or(took);
        let submitter_core = self.queue.submitter_core();
        self.placement.run_items(each, submitter_core);
        Ok(())
    }

    /// Asks the program for the task in this slot, and runs what it sends over the connection (a rendezvous).
    fn ask_for(&mut self, place: SlotRef) -> io::Result<Directive> {
        self.worker
            .send_about(Kind::Claim, place, &Encoded::copy(&[]))?;
        self.worker.run_tasks()
    }

    /// Waits until there may be something to do: first spins for a while, unless another worker does so or
    /// spinning here would be in the way; then sleeps.
    fn wait(&mut self) {
        let waiter_core = self.queue.waiter_core();
        let submitter_core = self.queue.submitter_core();
        let in_the_way = self.placement.contended_core(waiter_core, submitter_core);
        if in_the_way.is_none() && self.queue.begin_search(self.me) == Transition::Taken {
            self.placement.on_idle(waiter_core);
            spin_then_yield(|| self.queue.has_ready() || self.queue.is_closing());
            self.queue.end_search();
            if self.queue.has_ready() {
                return self.worker.release_stale();
            }
        }
        self.worker.shield();
        self.placement.before_sleep(submitter_core);
        let purge_at = self.worker.purge_at();
        self.queue
            .sleep(self.me, purge_at, || self.worker.has_stale());
        if purge_at.has_passed() {
            self.worker.purge();
        }
        let waiter_core = self.queue.waiter_core();
        self.placement
            .after_wake(waiter_core, self.queue.submitter_core());
        self.worker.release_stale();
    }
}
