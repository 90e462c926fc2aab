//! The program's side of the board: whose task lies in which slot, and who brings outcomes home.

mod audit;
mod batches;
mod recovery;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use crate::error::Error;
use crate::future::News;
use crate::future::dyn_promise::Pledge;
use crate::future::id::FutureId;
use crate::future::pool_handle::Recall;
use crate::future::state::Start;
use crate::pool::backlog::{Backlog, Removed, Work};
use crate::pool::worker_state::Counts;
use crate::pool::{Crew, Load, Shelf};
use crate::process::host::callback_thread::Herald;
use crate::process::host::driver::{Bringer, Need, Store, Tender};
use crate::process::host::pipeline::error_of;
use crate::process::shm::arena::Depot;
use crate::process::shm::checksum::Key;
use crate::process::shm::queue::layout::{Handle, INLINE, Mapped, Plan};
use crate::process::shm::queue::{Board, Current, Form, Place, Publish, Reading, Step};
use crate::remote::codec::Source;
use crate::remote::encoded::Bytes;
use crate::remote::function::Call;
use crate::remote::lease::Lease;
use crate::shared::invalidation::{self, Bell};
use crate::sys;
use crate::task::item_batch::Parcel;
use crate::task::request::{Encoded, Reply};
use crate::transport::wire::Fault;
use crate::transport::work::Requests;
use crate::unwind;

pub(crate) use recovery::Legacy;

use audit::Watch;
use table::{Arrival, Aside, Books, Posted, Presence, Record, Taken, Worker};

/// The program's side of the board.
pub(crate) struct Ledger {
    /// The shared memory.
    board: Board,
    /// By which workers map it.
    memory: Arc<Handle>,
    /// How large it is.
    plan: Plan,
    /// What checksums depend on.
    key: Key,
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
    /// Whether workers that find nothing are to leave.
    is_closing: AtomicBool,
    /// Whether what had not begun was taken out for good: nothing is to begin any more.
    is_cleared: AtomicBool,
    /// When the shared memory is to be looked through.
    watch: Watch,
    /// Who is asked for more when there is room.
    crew: OnceLock<Weak<Crew<Requests>>>,
    /// Kills the process of a worker.
    killer: OnceLock<Box<dyn Fn(usize) + Send + Sync>>,
    /// Brings outcomes in that nobody waits for.
    tender: Tender<Ledger>,
    /// Runs callbacks.
    herald: Arc<Herald>,
}

/// Whether somebody is to hear at once of what was put on the board.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// Somebody is.
    IsHooked,
    /// Nobody is.
    IsQuiet,
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
        let (memory, handle) = Mapped::create(plan).ok()?;
        let key = Key::fresh();
        let books = Books {
            records: (0..plan.slots).map(|_| None).collect(),
            free: (0..plan.first_slots()).rev().collect(),
            backed: plan.first_slots(),
            limit: plan.slots,
            counts: Counts::default(),
            parcels: 0,
            scratch: Vec::new(),
            is_any_hooked: false,
            workers: vec![Worker::default(); workers],
            suspects: BTreeMap::new(),
            suspect: None,
        };
        let depot = Depot::new(workers, payload_limit).ok();
        let ledger = Arc::new_cyclic(|me: &Weak<Self>| Self {
            board: Board::new(memory, key.clone()),
            memory: Arc::new(handle),
            plan,
            key,
            depot: depot.inspect(|depot| depot.when_warmed(call_tender(me.clone()))),
            books: Mutex::new(books),
            is_behind: AtomicBool::new(false),
            hooked: AtomicUsize::new(0),
            helped: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_cleared: AtomicBool::new(false),
            watch: Watch::new(),
            crew: OnceLock::new(),
            killer: OnceLock::new(),
            tender: Tender::new(me.clone()),
            herald: Herald::new(),
        });
        let bell: Weak<Self> = Arc::downgrade(&ledger);
        invalidation::hang(bell);
        Some(ledger)
    }

    /// Whose overflow it serves.
    pub(crate) fn serve(&self, crew: &Arc<Crew<Requests>>) {
        // Set once, by the pool that made both.
        let _ = self.crew.set(Arc::downgrade(crew));
    }

    /// What kills the process of a worker.
    pub(crate) fn kill_by(&self, kill: impl Fn(usize) + Send + Sync + 'static) {
        // Set once, by the pool that made both.
        let _ = self.killer.set(Box::new(kill));
    }

    /// By which workers map it, how large it is, and what its checksums depend on.
    pub(crate) fn memory(&self) -> (Arc<Handle>, Plan, Key) {
        (Arc::clone(&self.memory), self.plan, self.key.clone())
    }

    /// Where big arguments and results are, if there is such a place.
    pub(crate) fn depot(&self) -> Option<Arc<Depot>> {
        self.depot.clone()
    }

    /// A task is about to be submitted, by the calling thread.
    pub(crate) fn note_submission(&self) {
        self.board.submit_from(sys::current_core());
    }

    /// Whether workers that find nothing leave.
    pub(crate) fn is_closing(&self) -> bool {
        // ORDERING: Relaxed; said before workers are told.
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Whether nothing is to begin any more. Under the books' lock.
    fn is_cleared(&self) -> bool {
        // ORDERING: Relaxed; read and written under the lock.
        self.is_cleared.load(Ordering::Relaxed)
    }

    // ---- outcomes ----------------------------------------------------------------------------

    /// Takes out the task of a slot that is done.
    fn take_outcome(&self, books: &mut Books, slot: usize) -> Taken {
        match books.records.get(slot).and_then(Option::as_ref) {
            Some(record) => match record.work {
                Posted::Task { .. } => {}
                Posted::Parcel { .. } => return self.take_items(books, slot),
                Posted::Ticket(_) => return Taken::Nothing,
            },
            None => return Taken::Nothing,
        }
        self.take_task(books, slot, |place, bytes| self.board.outcome(place, bytes))
    }

    /// Takes out a task, by what is read of it.
    #[inline]
    fn take_task(
        &self,
        books: &mut Books,
        slot: usize,
        read: impl FnOnce(Place, &mut Vec<u8>) -> Reading,
    ) -> Taken {
        // Taken, to be read while the books are written.
        let mut bytes = std::mem::take(&mut books.scratch);
        let taken = self.take_task_by(books, slot, &mut bytes, read);
        books.scratch = bytes;
        taken
    }

    /// As `take_task`, by way of this buffer.
    #[inline]
    fn take_task_by(
        &self,
        books: &mut Books,
        slot: usize,
        bytes: &mut Vec<u8>,
        read: impl FnOnce(Place, &mut Vec<u8>) -> Reading,
    ) -> Taken {
        let Some(record) = books.records.get_mut(slot).and_then(Option::as_mut) else {
            return Taken::Nothing;
        };
        let place = record.place;
        let Posted::Task { reply, aside, .. } = &mut record.work else {
            return Taken::Nothing;
        };
        let outcome = match read(place, bytes) {
            Reading::Sound(Form::Value, _) => Encoded::Value(Source::Lent(bytes)),
            Reading::Sound(Form::StoredValue, worker) => self.stored(bytes, worker),
            Reading::Sound(Form::Fault, worker) => {
                let error = match Fault::from_body(bytes) {
                    Some(fault) => error_of(fault, reply.info(), worker, None),
                    None => Error::Decode("the worker's report on the task is garbled".into()),
                };
                Encoded::Error(error)
            }
            // If it has not come over the link so far, it is closed when it comes.
            Reading::Sound(..) => match aside.as_mut().and_then(|aside| aside.told.take()) {
                Some(told) => told,
                None => return Taken::Nothing,
            },
            Reading::NotDone => return Taken::Nothing,
            Reading::Corrupt => {
                books.suspect(slot);
                return Taken::Corrupt;
            }
        };
        match self.remove_task(books, slot) {
            Some(reply) => Taken::Arrived(books.arrival(reply, outcome)),
            None => Taken::Nothing,
        }
    }

    /// A result in the depot, where its worker says.
    fn stored(&self, location: &[u8], worker: usize) -> Encoded<'static> {
        let arrived = match &self.depot {
            Some(depot) => depot.arrived(location, worker),
            None => Err("there is no such place"),
        };
        match arrived {
            Ok(lease) => Encoded::Value(Source::Given(lease.into())),
            Err(what) => {
                let words = format!("the worker's result cannot be found: {what}");
                Encoded::Error(Error::Decode(words.into()))
            }
        }
    }

    /// Takes out a task that has begun. Who leaves it unsettled as he gives up the lock says before
    /// that it runs: it cannot be cancelled any more.
    #[inline]
    fn remove_task(&self, books: &mut Books, slot: usize) -> Option<Pledge<dyn Reply>> {
        match self.remove(books, slot)?.work {
            Posted::Task { reply, .. } => Some(reply),
            Posted::Parcel { .. } | Posted::Ticket(_) => None,
        }
    }

    /// Takes out a task that has begun, and is settled later.
    fn remove_begun(&self, books: &mut Books, slot: usize) -> Option<Pledge<dyn Reply>> {
        let reply = self.remove_task(books, slot)?;
        // Recalling is the one way to cancel it, and takes the record out.
        let (Start::Begun | Start::Cancelled) = reply.start();
        Some(reply)
    }

    #[inline]
    fn remove(&self, books: &mut Books, slot: usize) -> Option<Record> {
        let record = books.records[slot].take()?;
        books.free.push(slot);
        if !books.suspects.is_empty() {
            books.suspects.remove(&slot);
        }
        books.parcels -= usize::from(matches!(record.work, Posted::Parcel { .. }));
        if record.is_hooked {
            // ORDERING: Relaxed; read by the tender, which looks again and again while it matters.
            self.hooked.fetch_sub(1, Ordering::Relaxed);
        }
        Some(record)
    }

    /// Brings home what came of a task that was taken out.
    pub(crate) fn hand_over(&self, reply: Pledge<dyn Reply>, outcome: Encoded<'_>) {
        let arrival = self.lock().arrival(reply, outcome);
        self.deliver(arrival, Bringer::Ours);
    }

    /// Tells of an outcome. On a thread of a user's no user code runs: a `Drop` or a waker may wait for a
    /// future of this pool, whose outcome only this thread can bring in.
    fn deliver(&self, arrival: Arrival, by: Bringer) {
        let News {
            wakeups,
            opens,
            remains,
        } = match arrival {
            Arrival::Task(Some(news)) => *news,
            Arrival::Task(None) => return,
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
                // The last owner drops what nobody has read.
                return match by {
                    Bringer::Ours => unwind::discard(answers),
                    Bringer::Users => self.herald.discard_answers(answers),
                };
            }
        };
        let waker = wakeups.deliver_to_watchers();
        if let Some(opens) = opens {
            self.herald.open(opens);
        }
        match by {
            Bringer::Ours => {
                unwind::discard(remains);
                if let Some(waker) = waker {
                    unwind::call(|| waker.wake());
                }
            }
            Bringer::Users => {
                if let Some(remains) = remains {
                    self.herald.discard(remains);
                }
                if let Some(waker) = waker {
                    self.herald.wake(waker);
                }
            }
        }
    }

    /// Items that their worker has left alone go to another, unless nobody wants them any more.
    fn return_rest(&self, rest: Box<Parcel>) {
        let crew = self.crew.get().and_then(Weak::upgrade);
        match crew {
            Some(crew) if !rest.answers.is_abandoned() => crew.put_back(Requests::Parcel(rest)),
            _ => rest.fail(&Error::Cancelled, &mut |_| {
                self.lock().counts.cancelled += 1;
            }),
        }
    }

    /// An outcome came over the link, before or after its slot became done. It counts only if the worker may
    /// speak for the task: another worker's task is not ended by a frame that names its place.
    pub(crate) fn tell(&self, place: Place, outcome: Result<Bytes, Fault>, worker: usize) {
        let mut books = self.lock();
        let record = books.records.get_mut(place.slot).and_then(Option::as_mut);
        let is_its =
            |record: &&mut Record| record.place == place && self.board.speaks_for(place, worker);
        let Some(record) = record.filter(is_its) else {
            return; // it was killed, or the worker makes things up
        };
        match &mut record.work {
            Posted::Task { reply, aside, .. } => {
                aside.get_or_insert_default().told = Some(match outcome {
                    Ok(value) => Encoded::Value(Source::Given(value)),
                    Err(fault) => Encoded::Error(error_of(fault, reply.info(), worker, None)),
                });
            }
            Posted::Parcel { told, .. } => *told = Some(Box::new(outcome)),
            Posted::Ticket(_) => {}
        }
        let taken = self.take_outcome(&mut books, place.slot);
        drop(books);
        self.fetch_more();
        match taken {
            Taken::Arrived(arrival) => self.deliver(arrival, Bringer::Ours),
            Taken::Nothing => {}
            Taken::Corrupt => self.suspect(),
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
        let worker = self.board.kill(record.place)?;
        record.is_killed = true;
        Some(at(worker))
    }

    /// Somebody is to hear at once when the task is done.
    pub(crate) fn hook(&self, id: FutureId) {
        let mut books = self.lock();
        match books.find(id) {
            Some((_, record)) if record.is_task() && !record.is_hooked => {
                record.is_hooked = true;
                // ORDERING: Relaxed; the tender is woken below.
                self.hooked.fetch_add(1, Ordering::Relaxed);
                drop(books);
                self.tender.call();
            }
            Some(_) => {}
            // It may be on its way here.
            None => books.is_any_hooked = true,
        }
    }

    /// What was counted as a value cannot be decoded.
    pub(crate) fn spoilt(&self) {
        let mut books = self.lock();
        books.counts.completed = books.counts.completed.saturating_sub(1);
        books.counts.failed += 1;
    }

    // ---- workers -----------------------------------------------------------------------------

    /// A worker is about to take tasks by itself.
    ///
    /// # Errors
    /// Of the system, which does not let the program see what the worker writes.
    pub(crate) fn enlist(&self, worker: usize) -> io::Result<()> {
        self.board.memory().see(&self.memory, worker)?;
        self.note_presence(worker, Presence::Here);
        Ok(())
    }

    /// A worker that was told over its link what to do takes tasks by itself again.
    pub(crate) fn resume(&self, worker: usize) {
        self.note_presence(worker, Presence::Here);
    }

    fn note_presence(&self, worker: usize, presence: Presence) {
        if let Some(worker) = self.lock().workers.get_mut(worker) {
            *worker = Worker {
                presence,
                idle_since: None,
            };
        }
    }

    /// Whether a worker, alive or dead, has claimed a task since it came. One whose own word of that was
    /// overwritten has run something.
    pub(crate) fn has_claimed(&self, worker: usize) -> bool {
        self.board.current(worker) != Current::Nothing
    }

    /// What a worker asks for over the link; `None`: it has no such place.
    pub(crate) fn redeem(&self, place: Place, worker: usize) -> Option<Requests> {
        let mut books = self.lock();
        let record = books.records.get(place.slot)?.as_ref()?;
        let is_its = record.place == place
            && matches!(record.work, Posted::Ticket(_))
            && self.board.current(worker) == Current::Place(place)
            && !self.board.is_ready(place);
        if !is_its {
            return None;
        }
        let record = self.remove(&mut books, place.slot)?;
        drop(books);
        self.note_presence(worker, Presence::Told);
        self.fetch_more();
        record.into_requests()
    }

    /// Puts work into a free slot.
    ///
    /// # Errors
    /// The work, where there is none.
    #[inline]
    fn put_in(&self, books: &mut Books, work: Requests) -> Result<Put, Requests> {
        if !self.make_room(books) {
            return Err(work);
        }
        let Some(slot) = books.free.pop() else {
            return Err(work);
        };
        let is_abandoned = work.is_abandoned();
        let (place, work) = match self.post(slot, work) {
            Ok(posted) => posted,
            Err(work) => {
                books.free.push(slot);
                return Err(work);
            }
        };
        if is_abandoned {
            self.board.stop(place); // its map was dropped on its way here
        }
        let is_hooked = match &work {
            Posted::Task { reply, .. } => books.is_any_hooked && reply.is_hooked(),
            Posted::Parcel { parcel, .. } => parcel.answers.is_hooked(),
            Posted::Ticket(_) => false, // it settles elsewhere
        };
        if is_hooked {
            // ORDERING: Relaxed; the caller calls the tender.
            self.hooked.fetch_add(1, Ordering::Relaxed);
        }
        books.parcels += usize::from(matches!(work, Posted::Parcel { .. }));
        books.records[slot] = Some(Record::new(place, work, is_hooked));
        Ok(match is_hooked {
            true => Put::IsHooked,
            false => Put::IsQuiet,
        })
    }

    /// Whether a slot is free; if need be, gives memory to more of them.
    fn make_room(&self, books: &mut Books) -> bool {
        if !books.free.is_empty() {
            return true;
        }
        if books.backed == books.limit {
            return false;
        }
        let more = books.backed..books.limit.min(2 * books.backed);
        if self.memory.back(self.plan, more.clone()).is_err() {
            // Those that there are must do.
            books.limit = books.backed;
            return false;
        }
        books.backed = more.end;
        books.free.extend(more.rev());
        true
    }

    /// Publishes work in a slot that is free.
    ///
    /// # Errors
    /// The work, where the ring is full.
    #[inline]
    fn post(&self, slot: usize, work: Requests) -> Result<(Place, Posted), Requests> {
        let board = &self.board;
        let is_plain = work.is_plain();
        match work {
            Requests::One(mut reply) if is_plain => {
                if let Some((call, number)) = reply.number() {
                    let published = board.publish(slot, Form::Argument, call, &number);
                    return note_posted(published, reply, None);
                }
                let (call, argument) = reply.take_message();
                let published = match argument.lease() {
                    Some(lease) => {
                        let place = lease.location().to_bytes();
                        board.publish(slot, Form::StoredArgument, call, &place)
                    }
                    None if argument.len() <= INLINE => {
                        board.publish(slot, Form::Argument, call, &argument)
                    }
                    None => {
                        reply.put_message(argument);
                        return self.post_ticket(slot, Requests::One(reply));
                    }
                };
                if published == Publish::Full {
                    reply.put_message(argument);
                    return Err(Requests::One(reply));
                }
                note_posted(published, reply, argument.into_lease().ok())
            }
            Requests::Parcel(parcel) if is_plain => {
                let (call, count) = (parcel.call, parcel.len());
                let bytes = &parcel.bytes;
                match board.publish_items(slot, Form::Items, call, bytes, count) {
                    Publish::Full => Err(Requests::Parcel(parcel)),
                    Publish::Published(place) => {
                        let (told, taken) = (None, (0, 0));
                        let parcel = Posted::Parcel {
                            parcel,
                            told,
                            taken,
                        };
                        Ok((place, parcel))
                    }
                }
            }
            work => self.post_ticket(slot, work),
        }
    }

    /// Publishes that there is work to be asked for.
    fn post_ticket(&self, slot: usize, work: Requests) -> Result<(Place, Posted), Requests> {
        match self.board.publish(slot, Form::Ticket, NO_CALL, &[]) {
            Publish::Full => Err(work),
            Publish::Published(place) => Ok((place, Posted::Ticket(work))),
        }
    }

    /// Takes out what no worker has begun in a slot, and has workers not begin the rest.
    fn take_back(&self, books: &mut Books, slot: usize, taken: &mut Vec<Box<dyn Removed>>) {
        let Some(record) = &mut books.records[slot] else {
            return;
        };
        if let Posted::Ticket(requests) = &mut record.work {
            // If its worker asks for it just now, it is told that there is nothing.
            let all = requests.take_all().into_iter();
            taken.extend(all.map(|request| Box::new(request) as _));
        }
        if self.board.cancel(record.place) == Step::TooLate {
            return self.board.stop(record.place);
        }
        match self.remove(books, slot).map(|record| record.work) {
            Some(Posted::Task { reply, .. }) => taken.push(Box::new(reply)),
            Some(Posted::Parcel { parcel, .. }) => taken.push(parcel),
            Some(Posted::Ticket(_)) | None => {}
        }
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
    type Memory = Mapped;

    fn board(&self) -> &Board {
        &self.board
    }

    fn tender(&self) -> &Tender<Self> {
        &self.tender
    }

    fn collect(&self, by: Bringer) -> usize {
        if !self.board.has_done() {
            return 0;
        }
        if by == Bringer::Users {
            // ORDERING: Relaxed; tells the tender that it is not needed, sooner or later.
            self.helped.fetch_add(1, Ordering::Relaxed);
        }
        let (mut arrivals, mut collected, mut is_any_corrupt) = (Vec::new(), 0, false);
        let mut books = self.lock();
        self.board.take_done(|slot| {
            collected += 1;
            match self.take_outcome(&mut books, slot) {
                Taken::Arrived(arrival) if arrival.is_over() => {}
                Taken::Arrived(arrival) => arrivals.push(arrival),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        });
        drop(books);
        if is_any_corrupt {
            self.suspect();
        }
        self.fetch_more();
        for arrival in arrivals {
            self.deliver(arrival, by);
        }
        collected
    }

    fn sweep(&self) -> bool {
        let (mut arrivals, mut is_any_corrupt) = (Vec::new(), false);
        let mut books = self.lock();
        if books.parcels == 0 {
            return false;
        }
        for slot in 0..books.records.len() {
            match self.take_early(&mut books, slot) {
                Taken::Arrived(arrival) => arrivals.push(arrival),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        }
        drop(books);
        if is_any_corrupt {
            self.suspect();
        }
        let any = !arrivals.is_empty();
        for arrival in arrivals {
            self.deliver(arrival, Bringer::Ours);
        }
        any
    }

    fn need(&self) -> Need {
        // ORDERING: Relaxed, all; a thread that changes them calls the tender afterwards.
        if self.hooked.load(Ordering::Relaxed) > 0
            || self.is_closing.load(Ordering::Relaxed)
            || self.watch.is_suspicious()
        {
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

    fn audit_at(&self) -> Instant {
        self.watch.due()
    }

    fn audit_if_due(&self) {
        if self.watch.due() <= Instant::now() {
            self.audit();
        }
    }
}

/// A task whose argument is there, if there was room.
///
/// # Errors
/// The task, where there was none.
#[inline]
fn note_posted(
    published: Publish,
    reply: Pledge<dyn Reply>,
    argument: Option<Lease>,
) -> Result<(Place, Posted), Requests> {
    let Publish::Published(place) = published else {
        return Err(Requests::One(reply));
    };
    let aside = argument.map(|lease| {
        Box::new(Aside {
            _argument: Some(lease),
            told: None,
        })
    });
    let task = Posted::Task {
        id: reply.id(),
        reply,
        aside,
    };
    Ok((place, task))
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
    fn put(&self, work: Requests) -> Result<(), Requests> {
        let put = self.put_in(&mut self.lock(), work)?;
        if put == Put::IsHooked {
            self.tender.call();
        }
        Ok(())
    }

    fn refill(&self, backlog: &Backlog<Requests>) {
        let mut books = self.lock();
        let mut any = Put::IsQuiet;
        while self.make_room(&mut books) {
            let Some(work) = backlog.pop() else {
                books.is_any_hooked = false;
                break;
            };
            match self.put_in(&mut books, work) {
                Ok(Put::IsQuiet) => {}
                Ok(Put::IsHooked) => any = Put::IsHooked,
                Err(work) => {
                    backlog.put_back(work);
                    break;
                }
            }
        }
        drop(books);
        if any == Put::IsHooked {
            self.tender.call();
        }
    }

    fn announce(&self) {
        self.board.wake_one();
    }

    fn occupied(&self) -> usize {
        let books = self.lock();
        books.backed - books.free.len()
    }

    fn is_behind(&self) -> bool {
        // ORDERING: Relaxed; a hint, or behind the backlog's lock.
        self.is_behind.load(Ordering::Relaxed)
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
        for (slot, record) in books.records.iter().enumerate() {
            let Some(record) = record else {
                continue;
            };
            let runner = self.board.runner(record.place);
            let is_running = self.board.is_running(record.place);
            // What makes no sense now may have to be run once that has been seen to.
            let is_ready = self.board.is_ready(record.place)
                || (!is_running && books.suspects.contains_key(&slot));
            load.waiting += usize::from(is_ready);
            match &record.work {
                Posted::Task { .. } => {
                    load.running += usize::from(is_running);
                    load.tasks += usize::from(is_ready);
                }
                Posted::Parcel { parcel, .. } if is_running => {
                    let worker = runner.unwrap_or(usize::MAX);
                    let progress = self.board.progress(record.place, worker, parcel.len());
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
        // ORDERING: Relaxed; read and written under the lock.
        self.is_cleared.store(true, Ordering::Relaxed);
        let mut taken = Vec::new();
        for slot in 0..books.records.len() {
            self.take_back(&mut books, slot, &mut taken);
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
        let mut taken = Vec::new();
        for slot in 0..books.records.len() {
            let record = books.records[slot].as_ref();
            if record.is_some_and(|record| record.is_one_of(first, last)) {
                self.take_back(&mut books, slot, &mut taken);
            }
        }
        taken
    }

    fn close(&self) {
        // ORDERING: Relaxed; workers hear of it by the board.
        let was_closing = self.is_closing.swap(true, Ordering::Relaxed);
        self.board.close();
        if !was_closing {
            // It sees to workers that do not leave.
            self.tender.call();
        }
    }

    fn reopen(&self) {
        // ORDERING: Relaxed; as above.
        self.is_closing.store(false, Ordering::Relaxed);
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

#[cfg(test)]
mod tests;
