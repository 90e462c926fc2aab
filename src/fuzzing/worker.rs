//! A worker that takes one step after the other as a script says, on the same queue and in the same process
//! as the program.

use std::collections::VecDeque;
use std::sync::Arc;

use super::script::Script;
use super::tasks::{LIMIT, Tasks, id_of, last_run};
use crate::error::Error;
use crate::future::state::Start;
use crate::pool::PullQueue;
use crate::process::host::in_flight::{InFlight, Orphan};
use crate::process::shm::arena::worker::{ResultPlacement, StoredClaim, WorkerArena};
use crate::process::shm::queue::{Claim, Finish, ItemRun, ShmQueue, SlotKind, SlotRef, Transition};
use crate::process::worker::outcome::body_of;
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::{self, FunctionRef};
use crate::remote::item_cursor::ItemCursor;
use crate::remote::lease::{Block, BlockRef, EAGER_LIMIT};
use crate::remote::length_delimited::{ItemKind, ItemWriter, LengthDelimited};
use crate::remote::stub::Argument;
use crate::shared::attachments::Attachments;
use crate::sys::child::ProcessEnd;
use crate::task::request::RemoteOutcome;
use crate::task::work_item::WorkItem;
use crate::transport::fault::Fault;
use crate::transport::work::RemoteWork;

/// More steps than a worker can have left.
const MOST: usize = 10_000;

/// A worker of the fuzz target, between two of its steps.
pub(super) struct FuzzedWorker<'a> {
    /// The program's side.
    in_flight: &'a InFlight,
    /// The worker's side of the queue.
    pub(super) queue: &'a Arc<ShmQueue>,
    /// The worker's index.
    pub(super) me: usize,
    /// The worker's side of the arena.
    worker_arena: Arc<WorkerArena>,
    /// What the worker does at present.
    at: At<'a>,
    /// The slot of the current or, if there is none, the last claim, and the id of a task in it.
    last: Option<(SlotRef, u64)>,
}

/// What a worker does at present.
enum At<'a> {
    /// It has claimed nothing.
    Nothing,
    /// It has claimed a task: the slot, the function, and the argument or its block reference.
    Task(SlotRef, FunctionRef, Vec<u8>, Where),
    /// It has run the function of a task, and has not published the outcome yet.
    Ran(SlotRef, Result<Encoded, Fault>),
    /// It runs the items of a batch.
    Items(Box<RunningItems<'a>>),
    /// It has claimed a rendezvous, and has not asked for the task yet.
    Rendezvous(SlotRef),
}

/// Where the argument of a claimed task lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    /// In the slot.
    Here,
    /// In a block of the arena.
    Arena,
}

/// The items of a batch that a worker runs.
struct RunningItems<'a> {
    /// The slot that holds the items.
    place: SlotRef,
    /// The function of the items.
    call: FunctionRef,
    /// Arguments of the items that are not done.
    arguments: VecDeque<Vec<u8>>,
    /// The published progress of this run.
    run: ItemRun<'a>,
    /// Encoded outcomes of the finished items, as they lie in the queue.
    results: Vec<u8>,
    /// Length of the last outcome in bytes.
    last_result: usize,
    /// Whether the first of `arguments` has begun.
    has_begun: bool,
}

impl<'a> FuzzedWorker<'a> {
    /// Makes a worker that has just started.
    pub(super) fn new(in_flight: &'a InFlight, queue: &'a Arc<ShmQueue>, me: usize) -> Self {
        queue.arrive(me);
        let worker_arena = worker_arena_of(in_flight, me);
        in_flight.enlist(me).expect("the system maps its part");
        Self {
            in_flight,
            queue,
            me,
            worker_arena,
            at: At::Nothing,
            last: None,
        }
    }

    /// Takes the worker's next step, as a real worker does.
    pub(super) fn go_on(&mut self) {
        match std::mem::replace(&mut self.at, At::Nothing) {
            At::Nothing => self.claim(),
            At::Task(place, call, argument, lies) => {
                let claim = StoredClaim::new(self.queue, place, self.me);
                let outcome = self.call(call, argument, lies, &claim);
                if claim.is_lost() {
                    self.queue.leave_claim(self.me);
                    return self.in_flight.alarm();
                }
                self.note(place, last_run());
                self.at = At::Ran(place, outcome);
            }
            At::Ran(place, outcome) => self.finish(place, outcome),
            At::Items(chunk) => self.go_on_with_items(chunk),
            At::Rendezvous(place) => self.ask_for(place),
        }
    }

    /// Takes steps until the worker finds no more tasks.
    pub(super) fn drain(&mut self) {
        for _ in 0..MOST {
            self.go_on();
            if matches!(self.at, At::Nothing) && !self.queue.has_ready() {
                return;
            }
        }
    }

    fn claim(&mut self) {
        let mut argument = Vec::new();
        match self.queue.claim(self.me, &mut argument) {
            Claim::Task(place, call) => {
                self.note(place, id_of(&argument));
                self.at = At::Task(place, call, argument, Where::Here);
            }
            Claim::Stored(place, call) => {
                let location = BlockRef::from_bytes(&argument);
                let lease = location.and_then(|location| self.worker_arena.argument(location));
                let bytes = lease.and_then(|lease| lease.read::<u8>().ok());
                self.note(place, bytes.and_then(|bytes| id_of(&bytes)));
                self.at = At::Task(place, call, argument, Where::Arena);
            }
            Claim::Rendezvous(place) => {
                self.note(place, None);
                self.at = At::Rendezvous(place);
            }
            Claim::Items(place, call, _) => {
                let arguments: VecDeque<_> = LengthDelimited::new(&argument)
                    .map(<[u8]>::to_vec)
                    .collect();
                self.note(place, arguments.front().and_then(|first| id_of(first)));
                let Some(run) = self.queue.begin_run(place, self.me) else {
                    return self.die();
                };
                self.at = At::Items(Box::new(RunningItems {
                    place,
                    call,
                    arguments,
                    run,
                    results: Vec::new(),
                    last_result: 0,
                    has_begun: false,
                }));
            }
            Claim::Empty => {}
            Claim::Corrupt => self.in_flight.alarm(),
        }
    }

    fn note(&mut self, place: SlotRef, id: Option<u64>) {
        self.last = Some((place, id.unwrap_or(0)));
    }

    fn call(
        &self,
        call: FunctionRef,
        mut argument: Vec<u8>,
        lies: Where,
        claim: &Arc<StoredClaim>,
    ) -> Result<Encoded, Fault> {
        self.worker_arena.shield();
        let worker_arena = Some(&self.worker_arena);
        let argument = match lies {
            Where::Here => Argument::Kept(&mut argument),
            Where::Arena => {
                let location = BlockRef::from_bytes(&argument);
                let lease = location
                    .and_then(|location| self.worker_arena.claimed_argument(location, claim));
                let missing = || Fault::Decode("there is no such argument".to_owned());
                Argument::Leased(lease.ok_or_else(missing)?)
            }
        };
        function::invoke(call, argument, LIMIT, &ResultPlacement { worker_arena }).map_err(fault_of)
    }

    /// Publishes a task's outcome, as a real worker does.
    fn finish(&mut self, place: SlotRef, outcome: Result<Encoded, Fault>) {
        let (form, body) = body_of(outcome);
        let finish = if body.len() <= EAGER_LIMIT {
            self.queue.finish(place, self.me, form, &body)
        } else {
            self.in_flight.note_outcome(place, Ok(body), self.me);
            self.queue.finish(place, self.me, SlotKind::OutOfBand, &[])
        };
        self.after(finish);
    }

    fn after(&mut self, finish: Finish) {
        match finish {
            Finish::Published => {}
            Finish::Killed => self.die(),
            Finish::Displaced => {
                self.in_flight.alarm();
                self.die();
            }
        }
    }

    fn ask_for(&mut self, place: SlotRef) {
        let Some(requests) = self.in_flight.take_rendezvous(place, self.me) else {
            return self.die(); // there is no such task
        };
        for request in requests.into_parts().0 {
            if request.promise.start() == Start::Begun {
                let argument = Vec::from(request.argument);
                let claim = StoredClaim::new(self.queue, place, self.me);
                let outcome = match self.call(request.call, argument, Where::Here, &claim) {
                    Ok(value) => RemoteOutcome::Value(Source::Owned(Vec::from(value).into())),
                    Err(_) => RemoteOutcome::Error(Error::Cancelled),
                };
                self.in_flight.hand_over(request.promise, outcome);
            }
        }
        self.in_flight.resume(self.me);
    }

    // ---- items -------------------------------------------------------------------------------

    fn go_on_with_items(&mut self, mut chunk: Box<RunningItems<'a>>) {
        if chunk.has_begun {
            return self.end_item(chunk);
        }
        let is_roomy = chunk.run.filled() + chunk.last_result <= EAGER_LIMIT;
        let may_begin = is_roomy && !chunk.arguments.is_empty();
        if may_begin && chunk.run.begin() == Transition::Taken {
            chunk.has_begun = true;
            self.at = At::Items(chunk);
        } else {
            let finish = chunk.run.finish(SlotKind::Items, 1000);
            self.after(finish);
        }
    }

    fn end_item(&mut self, mut chunk: Box<RunningItems<'a>>) {
        chunk.has_begun = false;
        let mut item = OneItem {
            argument: chunk.arguments.pop_front(),
            current: Vec::new(),
            results: &mut chunk.results,
            fault: None,
        };
        let function = function::resolve(chunk.call).expect("what was published is a call");
        function.call_each(LIMIT, &mut item);
        let fault = item.fault;
        self.note(chunk.place, last_run());
        let mut item_writer = ItemWriter::of(&mut chunk.results, chunk.run.filled());
        if let Some(fault) = fault {
            item_writer.replace(&fault.to_body());
            item_writer.mark_as_fault();
        }
        item_writer.end();
        chunk.last_result = item_writer.len().min(EAGER_LIMIT);
        if let Some(results) = item_writer.fitting() {
            chunk.run.end(results);
            self.at = At::Items(chunk);
            return;
        }
        let body = Encoded::copy(item_writer.body());
        debug_assert!(item_writer.kind() == ItemKind::Value);
        self.in_flight.note_outcome(chunk.place, Ok(body), self.me);
        let finish = chunk.run.finish(SlotKind::ItemsOutOfBand, 1000);
        self.after(finish);
    }

    // ---- deaths ------------------------------------------------------------------------------

    /// The worker dies, and another worker takes its index.
    pub(super) fn die(&mut self) {
        self.vanish();
        self.queue.arrive(self.me);
        self.worker_arena = worker_arena_of(self.in_flight, self.me);
        self.in_flight.enlist(self.me).expect("its part is mapped");
    }

    /// The worker dies; the program recovers what it leaves behind.
    pub(super) fn vanish(&mut self) {
        self.at = At::Nothing;
        let end = ProcessEnd::Signalled(11);
        for orphan in self.in_flight.recover_worker(self.me, 1, end) {
            match orphan {
                Orphan::Ran(promise) => {
                    self.in_flight
                        .hand_over(promise, RemoteOutcome::Error(Error::Cancelled));
                }
                Orphan::Killed(promise) => self.in_flight.hand_over(promise, RemoteOutcome::Killed),
                Orphan::Unstarted(requests) => put(self.in_flight, requests),
            }
        }
    }

    // ---- lies --------------------------------------------------------------------------------

    /// Ends the current claim with an outcome that the script chooses, whatever it should be.
    pub(super) fn end_with(&mut self, script: &mut Script<'_>, tasks: &mut Tasks) {
        tasks.hit();
        match std::mem::replace(&mut self.at, At::Nothing) {
            At::Task(place, call, argument, lies) => {
                // The task is run so that its id is known.
                let claim = StoredClaim::new(self.queue, place, self.me);
                let _ = self.call(call, argument, lies, &claim);
                if claim.is_lost() {
                    self.queue.leave_claim(self.me);
                    return self.in_flight.alarm();
                }
                self.note(place, last_run());
                self.finish_with(place, script, tasks);
            }
            At::Ran(place, _) => self.finish_with(place, script, tasks),
            At::Items(chunk) => self.end_items_with(chunk, script, tasks),
            at @ (At::Nothing | At::Rendezvous(_)) => {
                // The slot of an earlier task, or of one for which it has not published an outcome.
                if let Some((place, id)) = self.last {
                    tasks.make_up(id);
                    let (Finish::Published | Finish::Killed | Finish::Displaced) = self
                        .queue
                        .finish(place, self.me, form(script, tasks), &bytes(script));
                }
                self.at = at;
            }
        }
    }

    fn finish_with(&mut self, place: SlotRef, script: &mut Script<'_>, tasks: &mut Tasks) {
        if let Some((_, id)) = self.last {
            tasks.make_up(id);
        }
        let finish = self
            .queue
            .finish(place, self.me, form(script, tasks), &bytes(script));
        self.after(finish);
    }

    fn end_items_with(
        &mut self,
        mut chunk: Box<RunningItems<'a>>,
        script: &mut Script<'_>,
        tasks: &mut Tasks,
    ) {
        if let Some((_, id)) = self.last {
            tasks.make_up(id);
        }
        if script.below(3) == 0 {
            let finish = chunk.run.finish(form(script, tasks), script.number());
            return self.after(finish);
        }
        chunk.results.truncate(chunk.run.filled());
        chunk.results.extend(bytes(script));
        chunk.results.truncate(EAGER_LIMIT);
        chunk.run.end(&chunk.results);
        chunk.has_begun = false;
        self.at = At::Items(chunk);
    }

    /// Sends an outcome over the connection, for any slot.
    pub(super) fn send_outcome(&self, place: SlotRef, script: &mut Script<'_>, tasks: &mut Tasks) {
        tasks.hit();
        if let Some((own, id)) = self.last {
            if own == place {
                tasks.make_up(id);
            }
        }
        let outcome = match script.below(4) {
            0 => Err(Fault::Encode("made up".to_owned())),
            _ => Ok(bytes(script).into()),
        };
        self.in_flight.note_outcome(place, outcome, self.me);
    }

    /// Asks for the task in a slot over the connection.
    pub(super) fn redeem(&mut self, place: SlotRef) {
        match self.at {
            At::Nothing | At::Rendezvous(_) => {
                self.at = At::Nothing;
                self.ask_for(place);
            }
            // The program kills the worker for it.
            At::Task(..) | At::Ran(..) | At::Items(_) => self.die(),
        }
    }

    /// The slot of the current or the last claim; `None` if the worker has claimed nothing so far.
    pub(super) fn place(&self) -> Option<SlotRef> {
        self.last.map(|(place, _)| place)
    }
}

/// Publishes work in the queue; if there is no room, the work is cancelled.
pub(super) fn put(in_flight: &InFlight, requests: RemoteWork) {
    if requests.is_empty() {
        return;
    }
    if let Err(requests) = in_flight.put(requests) {
        requests.fail(&Error::Cancelled, &mut |_| ());
    }
}

fn worker_arena_of(in_flight: &InFlight, worker: usize) -> Arc<WorkerArena> {
    let arena = in_flight.arena().expect("the system has shared memory");
    let descriptor = arena.descriptor().expect("it is open");
    WorkerArena::map(descriptor, super::queue::WORKERS, worker).expect("it can be mapped")
}

fn fault_of(error: Error) -> Fault {
    Fault::Encode(error.to_string())
}

/// A slot kind that the script chooses.
fn form(script: &mut Script<'_>, tasks: &mut Tasks) -> SlotKind {
    let forms = [
        SlotKind::Value,
        SlotKind::Fault,
        SlotKind::OutOfBand,
        SlotKind::StoredValue,
        SlotKind::Items,
        SlotKind::ItemsOutOfBand,
        SlotKind::Argument,
        SlotKind::Rendezvous,
        SlotKind::StoredArgument,
    ];
    let form = forms[script.below(forms.len())];
    if form == SlotKind::StoredValue {
        tasks.misplace();
    }
    form
}

/// Bytes that the script chooses: a few from the script itself, many equal ones, or a block reference.
fn bytes(script: &mut Script<'_>) -> Vec<u8> {
    match script.below(3) {
        0 => vec![script.byte(); script.below(EAGER_LIMIT + 1)],
        1 => {
            // A block reference, plausible in every field.
            let block_ref = BlockRef {
                block: Block(script.below(400) as u32),
                length: script.below(1 << 16) as u64,
                resident: 0,
            };
            block_ref.to_bytes().to_vec()
        }
        _ => (0..script.below(40)).map(|_| script.byte()).collect(),
    }
}

/// One item of a batch.
struct OneItem<'a> {
    /// The item's argument; `None` once it has begun.
    argument: Option<Vec<u8>>,
    /// The item's argument, once it has begun.
    current: Vec<u8>,
    /// Encoded outcomes of earlier items; behind them that of this item.
    results: &'a mut Vec<u8>,
    /// Why the item has no result; `None` if it has one.
    fault: Option<Fault>,
}

impl ItemCursor for OneItem<'_> {
    fn begin(&mut self) -> Option<(&[u8], &mut Vec<u8>)> {
        self.current = self.argument.take()?;
        ItemWriter::begin(self.results);
        Some((&self.current, self.results))
    }

    fn end_well(&mut self) {}

    fn end(&mut self, outcome: Result<Attachments, Error>) {
        self.fault = outcome.err().map(fault_of);
    }
}
