//! The program's side of the board: whose task lies in which slot, and who brings outcomes home.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::backlog::{Removed, Work};
use crate::batch::Answers;
use crate::crew::{Crew, Load, Origin, Shelf};
use crate::error::Error;
use crate::future::{FutureId, News, Recall};
use crate::process::board::layout::{Handle, Mapped, Plan};
use crate::process::board::{Board, Form, Place, Progress, Publish, Remains, Step};
use crate::process::bytes::Bytes;
use crate::process::conversation::error_of;
use crate::process::depot::Depot;
use crate::process::depot::lease::Lease;
use crate::process::entry::Call;
use crate::process::herald::Herald;
use crate::process::memory::bells::{self, Bell};
use crate::process::parcel::Parcel;
use crate::process::pieces::{Piece, Pieces, pieces_of};
use crate::process::request::{Encoded, Reply};
use crate::process::requests::{Requests, Small};
use crate::process::tender::{Bringer, Need, Store, Tender};
use crate::process::wire::Fault;
use crate::roster::Counts;
use crate::state::Start;
use crate::unwind;

/// The program's side of the board.
pub(crate) struct Ledger {
    /// The shared memory.
    board: Board,
    /// By which workers map it.
    memory: Arc<Handle>,
    /// How large it is.
    plan: Plan,
    /// Where big arguments and results are, if there is such a place.
    depot: Option<Arc<Depot>>,
    /// What lies there, and whose it is.
    books: Mutex<Books>,
    /// Whether the crew's backlog holds what had no room here.
    is_behind: AtomicBool,
    /// Futures on the board that somebody is to hear of at once.
    hooked: AtomicUsize,
    /// How often outcomes were brought in by who waited for one.
    helped: AtomicU64,
    /// Who is asked for more when there is room.
    crew: OnceLock<Weak<Crew<Requests>>>,
    /// Brings outcomes in that nobody waits for.
    tender: Tender,
    /// Runs callbacks.
    herald: Arc<Herald>,
}

/// What the lock guards.
struct Books {
    /// What lies in each slot.
    records: Vec<Option<Record>>,
    /// The slots where nothing does.
    free: Vec<usize>,
    /// What came of tasks so far.
    counts: Counts,
    /// How many of the slots hold items of maps.
    parcels: usize,
    /// Where outcomes are read.
    scratch: Vec<u8>,
}

/// What lies in a slot.
struct Record {
    /// The slot, and the position on the ring.
    place: Place,
    /// What it is.
    work: Posted,
    /// Whether somebody is to hear of it at once.
    is_hooked: bool,
}

/// What lies in a slot.
enum Posted {
    /// A small task.
    Task {
        /// Its future's name.
        id: FutureId,
        /// Where its outcome goes.
        reply: Box<dyn Reply>,
        /// Where its argument is, if not in the slot.
        argument: Option<Lease>,
        /// The outcome, where it came over the link and the slot is not done.
        told: Option<Encoded>,
    },
    /// Items of a map.
    Parcel {
        /// They.
        parcel: Parcel,
        /// The outcome of one of them, where it came over the link and the slot is not done.
        told: Option<Result<Bytes, Fault>>,
        /// How many outcomes were brought home before the slot is done, and how many bytes they take.
        taken: (usize, usize),
    },
    /// What its worker is told over the link.
    Ticket(Requests),
}

/// What is on its way to where it was asked for.
enum Arrival {
    /// The outcome of a task.
    Task {
        /// Where it goes.
        reply: Box<dyn Reply>,
        /// It.
        outcome: Encoded,
    },
    /// Outcomes of items of a map.
    Items {
        /// Where they go.
        answers: Arc<dyn Answers>,
        /// They.
        pieces: Vec<Piece>,
        /// Items that their worker has not begun.
        rest: Option<Parcel>,
    },
}

/// What a dead worker leaves behind.
pub(crate) enum Legacy {
    /// The task that it ran.
    Ran(Box<dyn Reply>),
    /// The task that it ran, which was killed.
    Killed(Box<dyn Reply>),
    /// What it had taken and not begun.
    Untouched(Requests),
}

/// A ticket calls nothing.
const NO_CALL: Call = Call {
    entry: 0,
    function: 0,
    fingerprint: 0,
};

impl Ledger {
    /// A board for so many workers, whose results may have so many bytes; `None` where there can be
    /// none.
    pub(crate) fn new(workers: usize, payload_limit: u64) -> Option<Arc<Self>> {
        let plan = Plan::of(workers)?;
        let (memory, descriptor) = Mapped::create(plan).ok()?;
        let books = Books {
            records: (0..plan.slots).map(|_| None).collect(),
            free: (0..plan.slots).rev().collect(),
            counts: Counts::default(),
            parcels: 0,
            scratch: Vec::new(),
        };
        let depot = Depot::new(workers, payload_limit).ok();
        let ledger = Arc::new_cyclic(|me: &Weak<Self>| Self {
            board: Board::new(memory),
            memory: Arc::new(Handle::new(descriptor)),
            plan,
            depot: depot.inspect(|depot| depot.when_warmed(call_tender(me.clone()))),
            books: Mutex::new(books),
            is_behind: AtomicBool::new(false),
            hooked: AtomicUsize::new(0),
            helped: AtomicU64::new(0),
            crew: OnceLock::new(),
            tender: Tender::new(me.clone()),
            herald: Herald::new(),
        });
        let bell: Weak<Self> = Arc::downgrade(&ledger);
        bells::hang(bell);
        Some(ledger)
    }

    /// Whose overflow it serves.
    pub(crate) fn serve(&self, crew: &Arc<Crew<Requests>>) {
        // Set once, by the pool that made both.
        let _ = self.crew.set(Arc::downgrade(crew));
    }

    /// By which workers map it, and how large it is.
    pub(crate) fn memory(&self) -> (Arc<Handle>, Plan) {
        (Arc::clone(&self.memory), self.plan)
    }

    /// Where big arguments and results are, if there is such a place.
    pub(crate) fn depot(&self) -> Option<Arc<Depot>> {
        self.depot.clone()
    }

    /// Whether workers that find nothing leave.
    pub(crate) fn is_closing(&self) -> bool {
        self.board.is_closing()
    }

    // ---- outcomes ----------------------------------------------------------------------------

    /// Takes out the task of a slot that is done.
    fn take_outcome(&self, books: &mut Books, slot: usize) -> Option<Arrival> {
        let record = books.records.get_mut(slot)?.as_mut()?;
        let (reply, told, argument) = match &mut record.work {
            Posted::Task {
                reply,
                told,
                argument,
                ..
            } => (reply, told, argument),
            Posted::Parcel { .. } => return self.take_items(books, slot),
            Posted::Ticket(_) => return None,
        };
        let bytes = &mut books.scratch;
        let outcome = match self.board.outcome(record.place, bytes)? {
            (Form::Value, _) => Encoded::Value(Bytes::copy(bytes)),
            (Form::StoredValue, worker) => self.stored(bytes, worker, argument),
            (Form::Fault, worker) => {
                let error = match Fault::from_body(bytes) {
                    Some(fault) => error_of(fault, reply.info(), worker, None),
                    None => Error::Decode("the worker's report on the task is garbled".into()),
                };
                Encoded::Error(error)
            }
            // If it has not come over the link so far, it is closed when it comes.
            _ => told.take()?,
        };
        let reply = self.remove_task(books, slot)?;
        Some(books.arrival(reply, outcome))
    }

    /// Takes out items that are done, and those that their worker has left alone.
    fn take_items(&self, books: &mut Books, slot: usize) -> Option<Arrival> {
        let record = books.records.get_mut(slot)?.as_mut()?;
        let Posted::Parcel { told, .. } = &mut record.work else {
            return None;
        };
        let Some((form, worker)) = self.board.done_form(record.place) else {
            return self.take_early(books, slot);
        };
        let told = match form {
            // If it has not come over the link so far, it is closed when it comes.
            Form::ItemsTold => Some(told.take()?),
            _ => None,
        };
        let (arrival, _) = self.close_items(books, slot, worker, told)?;
        Some(arrival)
    }

    /// Brings home what is done of items that their worker is at.
    fn take_early(&self, books: &mut Books, slot: usize) -> Option<Arrival> {
        let Books {
            records, scratch, ..
        } = books;
        let record = records.get_mut(slot)?.as_mut()?;
        let Posted::Parcel { parcel, taken, .. } = &mut record.work else {
            return None;
        };
        let worker = self.board.runner(record.place)?;
        let Progress { done, .. } = self.board.progress(record.place, parcel.len());
        if done <= taken.0 {
            return None;
        }
        self.board.item_results(record.place, scratch);
        let bytes = scratch.get(taken.1..)?;
        let answers = Arc::clone(&parcel.answers);
        let (first, count) = (parcel.items().start + taken.0, done - taken.0);
        let found = pieces_of(bytes, first, count, worker, &*answers);
        if found.items < count {
            return None; // left to the end, which says what is wrong
        }
        *taken = (done, taken.1 + found.bytes);
        books.count(&found.pieces);
        Some(Arrival::Items {
            answers,
            pieces: found.pieces,
            rest: None,
        })
    }

    /// Takes out items that no worker is at any more, what came over the link of one of them included;
    /// whether the worker has begun the first of those that are left.
    fn close_items(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        told: Option<Result<Bytes, Fault>>,
    ) -> Option<(Arrival, bool)> {
        let record = self.remove(books, slot)?;
        let place = record.place;
        let Posted::Parcel {
            mut parcel, taken, ..
        } = record.work
        else {
            return None;
        };
        let answers = Arc::clone(&parcel.answers);
        let Progress { done, has_begun } = self.board.progress(place, parcel.len());
        let nanos = self.board.item_results(place, &mut books.scratch);
        let bytes = books.scratch.get(taken.1..).unwrap_or(&[]);
        let first = parcel.items().start;
        let (from, count) = (first + taken.0, done.saturating_sub(taken.0));
        let Pieces {
            mut pieces, items, ..
        } = pieces_of(bytes, from, count, worker, &*answers);
        // What a worker says it has done, and has not, it makes up.
        pieces.extend((items..count).map(|at| {
            let words = "the worker's report on the items is garbled";
            Piece::Error(from + at, Error::Decode(words.into()))
        }));
        let done = done.max(taken.0);
        if nanos > 0 {
            answers
                .pace()
                .note(done.max(1), Duration::from_nanos(nanos));
        }
        let was_told = told.is_some();
        pieces.extend(told.map(|told| Piece::told(first + done, told, worker, &*answers)));
        books.count(&pieces);
        parcel.skip(done + usize::from(was_told));
        let rest = (parcel.len() > 0).then_some(parcel);
        let arrival = Arrival::Items {
            answers,
            pieces,
            rest,
        };
        Some((arrival, has_begun && !was_told))
    }

    /// A result in the depot, where its worker says.
    fn stored(&self, location: &[u8], worker: usize, argument: &mut Option<Lease>) -> Encoded {
        let arrived = match &self.depot {
            Some(depot) => depot.arrived(location, worker, argument),
            None => Err("there is no such place"),
        };
        match arrived {
            Ok(lease) => Encoded::Value(lease.into()),
            Err(what) => {
                let words = format!("the worker's result cannot be found: {what}");
                Encoded::Error(Error::Decode(words.into()))
            }
        }
    }

    /// Takes out a task that has begun; from here on it cannot be cancelled.
    fn remove_task(&self, books: &mut Books, slot: usize) -> Option<Box<dyn Reply>> {
        match self.remove(books, slot)?.work {
            Posted::Task { reply, .. } => {
                // Recalling is the one way to cancel it, and takes the record out.
                let (Start::Begun | Start::Cancelled) = reply.start();
                Some(reply)
            }
            Posted::Parcel { .. } | Posted::Ticket(_) => None,
        }
    }

    fn remove(&self, books: &mut Books, slot: usize) -> Option<Record> {
        let record = books.records[slot].take()?;
        books.free.push(slot);
        books.parcels -= usize::from(matches!(record.work, Posted::Parcel { .. }));
        if record.is_hooked {
            // ORDERING: Relaxed; read by the tender, which looks again and again while it matters.
            self.hooked.fetch_sub(1, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Brings home what came of a task that was taken out.
    pub(crate) fn hand_over(&self, reply: Box<dyn Reply>, outcome: Encoded) {
        let arrival = self.lock().arrival(reply, outcome);
        self.deliver(arrival, Bringer::Ours);
    }

    fn deliver(&self, arrival: Arrival, by: Bringer) {
        let (reply, outcome) = match arrival {
            Arrival::Task { reply, outcome } => (reply, outcome),
            Arrival::Items {
                answers,
                pieces,
                rest,
            } => {
                for piece in pieces {
                    piece.arrive(&*answers);
                }
                if let Some(rest) = rest {
                    self.return_rest(rest);
                }
                return;
            }
        };
        let News { waker, opens } = reply.arrive(outcome);
        if let Some(opens) = opens {
            self.herald.open(opens);
        }
        match (waker, by) {
            (Some(waker), Bringer::Ours) => unwind::call(|| waker.wake()),
            (Some(waker), Bringer::Users) => self.herald.wake(waker),
            (None, _) => {}
        }
    }

    /// Items that their worker has left alone go to another, unless nobody wants them any more.
    fn return_rest(&self, rest: Parcel) {
        let crew = self.crew.get().and_then(Weak::upgrade);
        match crew {
            Some(crew) if !rest.answers.is_abandoned() => crew.put_back(Requests::Parcel(rest)),
            _ => rest.fail(&Error::Cancelled, &mut |_| {
                self.lock().counts.cancelled += 1;
            }),
        }
    }

    /// An outcome came over the link, before or after its slot became done.
    pub(crate) fn tell(&self, place: Place, outcome: Result<Bytes, Fault>, worker: usize) {
        let mut books = self.lock();
        let record = books.records.get_mut(place.slot).and_then(Option::as_mut);
        let Some(record) = record.filter(|record| record.place == place) else {
            return; // it was killed, or the worker makes things up
        };
        match &mut record.work {
            Posted::Task { reply, told, .. } => {
                *told = Some(match outcome {
                    Ok(value) => Encoded::Value(value),
                    Err(fault) => Encoded::Error(error_of(fault, reply.info(), worker, None)),
                });
            }
            Posted::Parcel { told, .. } => *told = Some(outcome),
            Posted::Ticket(_) => {}
        }
        let arrival = self.take_outcome(&mut books, place.slot);
        drop(books);
        self.fetch_more();
        if let Some(arrival) = arrival {
            self.deliver(arrival, Bringer::Ours);
        }
    }

    /// There is room: asks for what waits for it.
    fn fetch_more(&self) {
        // ORDERING: Relaxed; written under the crew's lock, which `restock` takes. What is missed
        // here was queued after the slot came free, by somebody who then looks himself.
        if self.is_behind.load(Ordering::Relaxed) {
            if let Some(crew) = self.crew.get().and_then(Weak::upgrade) {
                crew.restock();
            }
        }
    }

    // ---- tasks, by name ----------------------------------------------------------------------

    /// Whether a worker runs the task.
    pub(crate) fn runs(&self, id: FutureId) -> bool {
        let mut books = self.lock();
        let found = books.find(id);
        found.is_some_and(|(_, record)| record.is_task() && self.board.is_running(record.place))
    }

    /// Has the worker that runs the task begin nothing else; what is at that worker's index, looked
    /// up while nobody else can sit there.
    pub(crate) fn mark_killed<P>(&self, id: FutureId, at: impl FnOnce(usize) -> P) -> Option<P> {
        let mut books = self.lock();
        let (_, record) = books.find(id)?;
        if !record.is_task() {
            return None;
        }
        self.board.kill(record.place).map(at)
    }

    /// Somebody is to hear at once when the task is done.
    pub(crate) fn hook(&self, id: FutureId) {
        let mut books = self.lock();
        if let Some((_, record)) = books.find(id) {
            if record.is_task() && !record.is_hooked {
                record.is_hooked = true;
                // ORDERING: Relaxed; the tender is woken below.
                self.hooked.fetch_add(1, Ordering::Relaxed);
                drop(books);
                self.tender.call();
            }
        }
    }

    /// No worker is left. What is still on the board has no worker to end it: somebody has written
    /// where he should not.
    fn write_off(&self) {
        let mut books = self.lock();
        let (mut tasks, mut tickets) = (Vec::new(), Vec::new());
        for slot in 0..books.records.len() {
            match &books.records[slot] {
                Some(record) if record.is_task() => {
                    tasks.extend(self.remove_task(&mut books, slot))
                }
                _ => tickets.extend(self.remove(&mut books, slot).map(Record::into_requests)),
            }
        }
        drop(books);
        let words = "a worker has overwritten memory that it shares with the program";
        let error = Error::BrokenPool(words.into());
        for reply in tasks {
            self.hand_over(reply, Encoded::Error(error.clone()));
        }
        for requests in tickets.into_iter().flatten() {
            requests.fail(&error, &mut |_| self.lock().counts.failed += 1);
        }
    }

    /// What was counted as a value cannot be decoded.
    pub(crate) fn spoilt(&self) {
        let mut books = self.lock();
        books.counts.completed = books.counts.completed.saturating_sub(1);
        books.counts.failed += 1;
    }

    // ---- workers -----------------------------------------------------------------------------

    /// What a worker asks for over the link; `None`: it has no such place.
    pub(crate) fn redeem(&self, place: Place, worker: usize) -> Option<Requests> {
        let mut books = self.lock();
        let record = books.records.get(place.slot)?.as_ref()?;
        let is_its = record.place == place
            && matches!(record.work, Posted::Ticket(_))
            && self.board.remains(place, worker) == Remains::Running;
        if !is_its {
            return None;
        }
        let record = self.remove(&mut books, place.slot)?;
        drop(books);
        self.fetch_more();
        record.into_requests()
    }

    /// A worker is dead: brings in what it left finished; what it did not.
    pub(crate) fn bury(&self, worker: usize) -> Vec<Legacy> {
        let mut legacies = Vec::new();
        let mut arrivals = Vec::new();
        let mut books = self.lock();
        for slot in 0..books.records.len() {
            let Some(record) = &books.records[slot] else {
                continue;
            };
            let remains = self.board.remains(record.place, worker);
            if remains == Remains::None && !self.board.is_lost(record.place) {
                continue;
            }
            match record.work {
                Posted::Task { .. } => match self.bury_task(&mut books, slot, remains) {
                    Buried::Arrived(arrival) => arrivals.push(arrival),
                    Buried::Left(legacy) => legacies.push(legacy),
                    Buried::Nothing => {}
                },
                Posted::Parcel { .. } => {
                    let (legacy, arrival) = self.bury_items(&mut books, slot, worker, remains);
                    legacies.extend(legacy);
                    arrivals.extend(arrival);
                }
                Posted::Ticket(_) => {
                    let requests = self.remove(&mut books, slot);
                    let requests = requests.and_then(Record::into_requests);
                    legacies.extend(requests.map(Legacy::Untouched));
                }
            }
        }
        drop(books);
        if let Some(depot) = &self.depot {
            depot.bury(worker);
        }
        self.board.bury(worker);
        self.fetch_more();
        for arrival in arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        legacies
    }

    /// Takes out a task of a dead worker.
    fn bury_task(&self, books: &mut Books, slot: usize, remains: Remains) -> Buried {
        if remains == Remains::Done {
            if let Some(arrival) = self.take_outcome(books, slot) {
                return Buried::Arrived(arrival);
            }
            // What it had to tell over the link never came.
        }
        let told = match remains {
            Remains::Running => books.take_told(slot),
            _ => None,
        };
        match (told, self.remove_task(books, slot)) {
            (Some(outcome), Some(reply)) => Buried::Arrived(books.arrival(reply, outcome)),
            (None, Some(reply)) if remains == Remains::Killed => {
                Buried::Left(Legacy::Killed(reply))
            }
            (None, Some(reply)) => Buried::Left(Legacy::Ran(reply)),
            (_, None) => Buried::Nothing,
        }
    }

    /// Takes out items of a dead worker: those that it had done have arrived, the one that it was at
    /// is left, and the rest goes back.
    fn bury_items(
        &self,
        books: &mut Books,
        slot: usize,
        worker: usize,
        remains: Remains,
    ) -> (Option<Legacy>, Option<Arrival>) {
        if remains == Remains::Done {
            if let Some(arrival) = self.take_items(books, slot) {
                return (None, Some(arrival));
            }
            // What it had to tell over the link never came: the item that it was at is lost.
        }
        let told = match &mut books.records[slot] {
            Some(Record {
                work: Posted::Parcel { told, .. },
                ..
            }) => told.take(),
            _ => None,
        };
        let closed = self.close_items(books, slot, worker, told);
        let Some((mut arrival, has_begun)) = closed else {
            return (None, None);
        };
        let mut lost = None;
        if let (Arrival::Items { rest, .. }, true) = (&mut arrival, has_begun) {
            lost = rest.as_mut().and_then(Parcel::pop);
            // An empty one has nothing to return.
            rest.take_if(|rest| rest.len() == 0);
        }
        (lost.map(|lost| Legacy::Ran(lost.reply)), Some(arrival))
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell for Ledger {
    fn ring(&self) {
        self.board.wake_all();
    }
}

impl Store for Ledger {
    fn board(&self) -> &Board {
        &self.board
    }

    fn tender(&self) -> &Tender {
        &self.tender
    }

    fn collect(&self, by: Bringer) -> bool {
        if !self.board.has_done() {
            return false;
        }
        if by == Bringer::Users {
            // ORDERING: Relaxed; tells the tender that it is not needed, sooner or later.
            self.helped.fetch_add(1, Ordering::Relaxed);
        }
        let mut arrivals = Vec::new();
        let mut books = self.lock();
        self.board.take_done(|slot| {
            arrivals.extend(self.take_outcome(&mut books, slot));
        });
        drop(books);
        self.fetch_more();
        for arrival in arrivals {
            self.deliver(arrival, by);
        }
        true
    }

    fn sweep(&self) -> bool {
        let mut arrivals = Vec::new();
        let mut books = self.lock();
        if books.parcels == 0 {
            return false;
        }
        for slot in 0..books.records.len() {
            arrivals.extend(self.take_early(&mut books, slot));
        }
        drop(books);
        let any = !arrivals.is_empty();
        for arrival in arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        any
    }

    fn need(&self) -> Need {
        // ORDERING: Relaxed, both; who changes them calls the tender afterwards.
        if self.hooked.load(Ordering::Relaxed) > 0 {
            Need::Now
        } else if self.is_behind.load(Ordering::Relaxed) {
            Need::UnlessHelped(self.helped.load(Ordering::Relaxed))
        } else {
            Need::None
        }
    }

    fn reclaim(&self) -> Option<Instant> {
        self.depot.as_ref()?.reclaim()
    }
}

/// What calls the tender of a ledger.
fn call_tender(ledger: Weak<Ledger>) -> impl Fn() + Send + Sync + 'static {
    move || {
        if let Some(ledger) = ledger.upgrade() {
            ledger.tender.call();
        }
    }
}

impl Shelf<Requests> for Ledger {
    fn put(&self, work: Requests, origin: Origin) -> Result<(), Requests> {
        let mut books = self.lock();
        let Some(slot) = books.free.pop() else {
            return Err(work);
        };
        let board = &self.board;
        let published = match work.as_small() {
            Some(Small::Task(task)) => match task.argument.lease() {
                Some(lease) => {
                    let place = lease.location().to_bytes();
                    board.publish(slot, Form::StoredArgument, task.call, &place)
                }
                None => board.publish(slot, Form::Argument, task.call, &task.argument),
            },
            Some(Small::Parcel(it)) => {
                board.publish_items(slot, Form::Items, it.call, &it.bytes, it.len())
            }
            None => board.publish(slot, Form::Ticket, NO_CALL, &[]),
        };
        let Publish::Published(place) = published else {
            books.free.push(slot);
            return Err(work);
        };
        if work.is_abandoned() {
            self.board.stop(place); // its map was dropped on its way here
        }
        let is_small = work.as_small().is_some();
        let work = match work {
            Requests::One(task) if is_small => Posted::Task {
                id: task.reply.id(),
                reply: task.reply,
                argument: task.argument.into_lease().ok(),
                told: None,
            },
            Requests::Parcel(parcel) if is_small => Posted::Parcel {
                parcel,
                told: None,
                taken: (0, 0),
            },
            work => Posted::Ticket(work),
        };
        let is_hooked = match (&work, origin) {
            (Posted::Task { reply, .. }, Origin::Queued) => reply.is_hooked(),
            (Posted::Parcel { parcel, .. }, _) => parcel.answers.is_hooked(),
            // Nobody has its future so far, or it settles elsewhere.
            _ => false,
        };
        if is_hooked {
            // ORDERING: Relaxed; the tender is called below.
            self.hooked.fetch_add(1, Ordering::Relaxed);
        }
        books.parcels += usize::from(matches!(work, Posted::Parcel { .. }));
        books.records[slot] = Some(Record {
            place,
            work,
            is_hooked,
        });
        drop(books);
        if is_hooked {
            self.tender.call();
        }
        Ok(())
    }

    fn announce(&self) {
        self.board.wake_one();
    }

    fn occupied(&self) -> usize {
        let books = self.lock();
        books.records.len() - books.free.len()
    }

    fn set_behind(&self, is_behind: bool) {
        // ORDERING: Relaxed; under the crew's lock, and the tender is told below.
        let was = self.is_behind.swap(is_behind, Ordering::Relaxed);
        if is_behind && !was {
            self.tender.call();
        }
    }

    fn load(&self) -> Load {
        let books = self.lock();
        let mut load = Load {
            counts: books.counts,
            ..Load::default()
        };
        for record in books.records.iter().flatten() {
            let is_running = self.board.is_running(record.place);
            let is_ready = self.board.is_ready(record.place);
            load.waiting += usize::from(is_ready);
            match &record.work {
                Posted::Task { .. } => {
                    load.running += usize::from(is_running);
                    load.tasks += usize::from(is_ready);
                }
                Posted::Parcel { parcel, .. } if is_running => {
                    let progress = self.board.progress(record.place, parcel.len());
                    load.running += 1;
                    if !parcel.answers.is_abandoned() {
                        load.tasks += parcel.len().saturating_sub(progress.done + 1);
                    }
                }
                Posted::Parcel { parcel, .. } => {
                    load.tasks += if is_ready { parcel.len() } else { 0 };
                }
                Posted::Ticket(requests) => {
                    load.claimed += usize::from(is_running);
                    load.tasks += requests.len();
                }
            }
        }
        load
    }

    fn clear(&self) -> Vec<Box<dyn Removed>> {
        let mut books = self.lock();
        let mut taken: Vec<Box<dyn Removed>> = Vec::new();
        for slot in 0..books.records.len() {
            let Some(record) = &mut books.records[slot] else {
                continue;
            };
            if let Posted::Ticket(requests) = &mut record.work {
                // If its worker asks for it just now, it is told that there is nothing.
                let all = requests.take_all().into_iter();
                taken.extend(all.map(|request| Box::new(request) as _));
            }
            if self.board.cancel(record.place) == Step::TooLate {
                // Items that a worker has not begun never do.
                self.board.stop(record.place);
                continue;
            }
            match self.remove(&mut books, slot).map(|record| record.work) {
                Some(Posted::Task { reply, .. }) => taken.push(Box::new(reply)),
                Some(Posted::Parcel { parcel, .. }) => taken.push(Box::new(parcel)),
                Some(Posted::Ticket(_)) | None => {}
            }
        }
        taken
    }

    fn recall(&self, id: FutureId) -> Recall {
        let mut books = self.lock();
        let Some((slot, record)) = books.find(id) else {
            return Recall::Elsewhere;
        };
        let place = record.place;
        match &mut record.work {
            Posted::Task { .. } => {
                if self.board.cancel(place) == Step::TooLate {
                    return Recall::Begun;
                }
                let record = self.remove(&mut books, slot);
                Recall::Recalled(Box::new(record.map(|record| record.work)))
            }
            // Items of a map are cancelled all together.
            Posted::Parcel { .. } => Recall::Begun,
            Posted::Ticket(requests) => {
                let request = requests.take(id);
                // The last of them: unless its worker is asking for it, nobody need.
                if requests.is_empty() && self.board.cancel(place) == Step::Taken {
                    let _ = self.remove(&mut books, slot);
                }
                Recall::Recalled(Box::new(request))
            }
        }
    }

    fn abandon(&self, first: FutureId, last: FutureId) -> Vec<Box<dyn Removed>> {
        let mut books = self.lock();
        let mut taken: Vec<Box<dyn Removed>> = Vec::new();
        for slot in 0..books.records.len() {
            let Some(record) = &mut books.records[slot] else {
                continue;
            };
            if !record.is_one_of(first, last) {
                continue;
            }
            if self.board.cancel(record.place) == Step::TooLate {
                self.board.stop(record.place);
                continue;
            }
            let requests = self.remove(&mut books, slot);
            if let Some(requests) = requests.and_then(Record::into_requests) {
                let all = requests.into_parts().0.into_iter();
                taken.extend(all.map(|request| Box::new(request) as _));
            }
        }
        taken
    }

    fn close(&self) {
        self.board.close();
    }

    fn reopen(&self) {
        self.board.reopen();
    }

    fn end(&self) {
        self.collect(Bringer::Ours);
        self.write_off();
        self.memory.close();
        if let Some(depot) = &self.depot {
            depot.close();
        }
        self.tender.end();
        self.herald.end();
    }

    fn join(&self, deadline: Option<Instant>) -> bool {
        self.tender.join(deadline) && self.herald.join(deadline)
    }
}

impl Books {
    /// The slot and record of the task of that name.
    fn find(&mut self, id: FutureId) -> Option<(usize, &mut Record)> {
        let records = self.records.iter_mut().enumerate();
        records
            .filter_map(|(slot, record)| Some((slot, record.as_mut()?)))
            .find(|(_, record)| match &record.work {
                Posted::Task { id: own, .. } => *own == id,
                Posted::Parcel { .. } => false,
                Posted::Ticket(requests) => requests.contains(id),
            })
    }

    fn count(&mut self, pieces: &[Piece]) {
        for (values, errors) in pieces.iter().map(Piece::counts) {
            self.counts.completed += values;
            self.counts.failed += errors;
        }
    }

    /// An outcome on its way, counted.
    fn arrival(&mut self, reply: Box<dyn Reply>, outcome: Encoded) -> Arrival {
        match outcome {
            Encoded::Value(_) => self.counts.completed += 1,
            Encoded::Error(_) => self.counts.failed += 1,
            Encoded::Killed => self.counts.cancelled += 1,
        }
        Arrival::Task { reply, outcome }
    }

    fn take_told(&mut self, slot: usize) -> Option<Encoded> {
        match &mut self.records[slot].as_mut()?.work {
            Posted::Task { told, .. } => told.take(),
            Posted::Parcel { .. } | Posted::Ticket(_) => None,
        }
    }
}

impl Record {
    fn is_task(&self) -> bool {
        matches!(self.work, Posted::Task { .. })
    }

    /// What it is, unless it is a task, to be queued again.
    fn into_requests(self) -> Option<Requests> {
        match self.work {
            Posted::Task { .. } => None,
            Posted::Parcel { parcel, .. } => Some(Requests::Parcel(parcel)),
            Posted::Ticket(requests) => Some(requests),
        }
    }

    /// Whether it belongs to the chunk of a map whose items have these names.
    fn is_one_of(&self, first: FutureId, last: FutureId) -> bool {
        let name = match &self.work {
            Posted::Task { id, .. } => *id,
            Posted::Parcel { parcel, .. } => parcel.id(),
            Posted::Ticket(requests) if requests.is_empty() => return false,
            Posted::Ticket(requests) => requests.id(),
        };
        (first..=last).contains(&name)
    }
}

/// What a dead worker left of a task.
enum Buried {
    /// Its outcome.
    Arrived(Arrival),
    /// None.
    Left(Legacy),
    /// Somebody else has seen to it.
    Nothing,
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
