//! The program's side of the board: whose task lies in which slot, and who brings outcomes home.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::backlog::{Removed, Work};
use crate::crew::{Crew, Load, Origin, Shelf};
use crate::error::Error;
use crate::future::{FutureId, News, Recall};
use crate::process::board::layout::{Handle, Mapped, Plan};
use crate::process::board::{Board, Form, Place, Publish, Remains, Step};
use crate::process::bytes::Bytes;
use crate::process::conversation::error_of;
use crate::process::entry::Call;
use crate::process::herald::Herald;
use crate::process::memory::bells::{self, Bell};
use crate::process::request::{Encoded, Reply};
use crate::process::requests::Requests;
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
        /// The outcome, where it came over the link and the slot is not done.
        told: Option<Encoded>,
    },
    /// What its worker is told over the link.
    Ticket(Requests),
}

/// An outcome on its way to its future.
struct Arrival {
    /// Where it goes.
    reply: Box<dyn Reply>,
    /// It.
    outcome: Encoded,
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
    /// A board for so many workers; `None` where there can be none.
    pub(crate) fn new(workers: usize) -> Option<Arc<Self>> {
        let plan = Plan::of(workers)?;
        let (memory, descriptor) = Mapped::create(plan).ok()?;
        let books = Books {
            records: (0..plan.slots).map(|_| None).collect(),
            free: (0..plan.slots).rev().collect(),
            counts: Counts::default(),
            scratch: Vec::new(),
        };
        let ledger = Arc::new_cyclic(|me: &Weak<Self>| Self {
            board: Board::new(memory),
            memory: Arc::new(Handle::new(descriptor)),
            plan,
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

    /// Whether workers that find nothing leave.
    pub(crate) fn is_closing(&self) -> bool {
        self.board.is_closing()
    }

    // ---- outcomes ----------------------------------------------------------------------------

    /// Takes out the task of a slot that is done.
    fn take_outcome(&self, books: &mut Books, slot: usize) -> Option<Arrival> {
        let record = books.records.get_mut(slot)?.as_mut()?;
        let Posted::Task { reply, told, .. } = &mut record.work else {
            return None;
        };
        let bytes = &mut books.scratch;
        let outcome = match self.board.outcome(record.place, bytes)? {
            (Form::Value, _) => Encoded::Value(Bytes::copy(bytes)),
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

    /// Takes out a task that has begun; from here on it cannot be cancelled.
    fn remove_task(&self, books: &mut Books, slot: usize) -> Option<Box<dyn Reply>> {
        match self.remove(books, slot)?.work {
            Posted::Task { reply, .. } => {
                // Recalling is the one way to cancel it, and takes the record out.
                let (Start::Begun | Start::Cancelled) = reply.start();
                Some(reply)
            }
            Posted::Ticket(_) => None,
        }
    }

    fn remove(&self, books: &mut Books, slot: usize) -> Option<Record> {
        let record = books.records[slot].take()?;
        books.free.push(slot);
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
        let News { waker, opens } = arrival.reply.arrive(arrival.outcome);
        if let Some(opens) = opens {
            self.herald.open(opens);
        }
        match (waker, by) {
            (Some(waker), Bringer::Ours) => unwind::call(|| waker.wake()),
            (Some(waker), Bringer::Users) => self.herald.wake(waker),
            (None, _) => {}
        }
    }

    /// An outcome came over the link, before or after its slot became done.
    pub(crate) fn tell(&self, place: Place, outcome: Result<Bytes, Fault>, worker: usize) {
        let mut books = self.lock();
        let record = books.records.get_mut(place.slot).and_then(Option::as_mut);
        let Some(record) = record.filter(|record| record.place == place) else {
            return; // it was killed, or the worker makes things up
        };
        if let Posted::Task { reply, told, .. } = &mut record.work {
            *told = Some(match outcome {
                Ok(value) => Encoded::Value(value),
                Err(fault) => Encoded::Error(error_of(fault, reply.info(), worker, None)),
            });
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
                _ => tickets.extend(self.remove(&mut books, slot).map(|record| record.work)),
            }
        }
        drop(books);
        let words = "a worker has overwritten memory that it shares with the program";
        let error = Error::BrokenPool(words.into());
        for reply in tasks {
            self.hand_over(reply, Encoded::Error(error.clone()));
        }
        for ticket in tickets {
            if let Posted::Ticket(requests) = ticket {
                requests.fail(&error, &mut |_| self.lock().counts.failed += 1);
            }
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
            && !record.is_task()
            && self.board.remains(place, worker) == Remains::Running;
        if !is_its {
            return None;
        }
        let record = self.remove(&mut books, place.slot)?;
        drop(books);
        self.fetch_more();
        match record.work {
            Posted::Ticket(requests) => Some(requests),
            Posted::Task { .. } => None,
        }
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
            let (remains, is_task) = (self.board.remains(record.place, worker), record.is_task());
            match (remains, is_task) {
                (Remains::None, true) if self.board.is_lost(record.place) => {
                    legacies.extend(self.remove_task(&mut books, slot).map(Legacy::Ran));
                }
                (Remains::None, true) => {}
                (Remains::None, false) if !self.board.is_lost(record.place) => {}
                (Remains::Done, true) => match self.take_outcome(&mut books, slot) {
                    Some(arrival) => arrivals.push(arrival),
                    // What it had to tell over the link never came.
                    None => legacies.extend(self.remove_task(&mut books, slot).map(Legacy::Ran)),
                },
                (Remains::Running, true) => {
                    let told = books.take_told(slot);
                    let reply = self.remove_task(&mut books, slot);
                    match (told, reply) {
                        (Some(outcome), Some(reply)) => {
                            arrivals.push(books.arrival(reply, outcome));
                        }
                        (None, Some(reply)) => legacies.push(Legacy::Ran(reply)),
                        (_, None) => {}
                    }
                }
                (Remains::Killed, true) => {
                    legacies.extend(self.remove_task(&mut books, slot).map(Legacy::Killed));
                }
                (_, false) => {
                    if let Some(Posted::Ticket(requests)) =
                        self.remove(&mut books, slot).map(|record| record.work)
                    {
                        legacies.push(Legacy::Untouched(requests));
                    }
                }
            }
        }
        drop(books);
        self.board.bury(worker);
        self.fetch_more();
        for arrival in arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        legacies
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
}

impl Shelf<Requests> for Ledger {
    fn put(&self, work: Requests, origin: Origin) -> Result<(), Requests> {
        let mut books = self.lock();
        let Some(slot) = books.free.pop() else {
            return Err(work);
        };
        let small = work.as_small_task();
        let published = match small {
            Some(task) => {
                let argument = &task.argument;
                self.board
                    .publish(slot, Form::Argument, task.call, argument)
            }
            None => self.board.publish(slot, Form::Ticket, NO_CALL, &[]),
        };
        let Publish::Published(place) = published else {
            books.free.push(slot);
            return Err(work);
        };
        let work = match (small.is_some(), work) {
            (true, Requests::One(task)) => Posted::Task {
                id: task.reply.id(),
                reply: task.reply,
                told: None,
            },
            (_, work) => Posted::Ticket(work),
        };
        let is_hooked = match (&work, origin) {
            (Posted::Task { reply, .. }, Origin::Queued) => reply.is_hooked(),
            // Nobody has its future so far, or it settles elsewhere.
            _ => false,
        };
        if is_hooked {
            // ORDERING: Relaxed; the tender serves the backlog, and sees it.
            self.hooked.fetch_add(1, Ordering::Relaxed);
        }
        books.records[slot] = Some(Record {
            place,
            work,
            is_hooked,
        });
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
            if self.board.is_running(record.place) {
                load.running += usize::from(record.is_task());
                load.claimed += usize::from(!record.is_task());
            } else if self.board.is_ready(record.place) {
                load.waiting += 1;
            }
            if let Posted::Ticket(requests) = &record.work {
                load.tasks += requests.len();
            } else if self.board.is_ready(record.place) {
                load.tasks += 1;
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
            if self.board.cancel(record.place) == Step::Taken {
                if let Some(Posted::Task { reply, .. }) =
                    self.remove(&mut books, slot).map(|record| record.work)
                {
                    taken.push(Box::new(reply));
                }
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
        self.tender.end();
        self.herald.end();
    }

    fn join(&self, deadline: Option<std::time::Instant>) -> bool {
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
                Posted::Ticket(requests) => requests.contains(id),
            })
    }

    /// An outcome on its way, counted.
    fn arrival(&mut self, reply: Box<dyn Reply>, outcome: Encoded) -> Arrival {
        match outcome {
            Encoded::Value(_) => self.counts.completed += 1,
            Encoded::Error(_) => self.counts.failed += 1,
            Encoded::Killed => self.counts.cancelled += 1,
        }
        Arrival { reply, outcome }
    }

    fn take_told(&mut self, slot: usize) -> Option<Encoded> {
        match &mut self.records[slot].as_mut()?.work {
            Posted::Task { told, .. } => told.take(),
            Posted::Ticket(_) => None,
        }
    }
}

impl Record {
    fn is_task(&self) -> bool {
        matches!(self.work, Posted::Task { .. })
    }
}
