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
use crate::future::Notifications;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::pool_handle::Unqueue;
use crate::future::state::Start;
use crate::pool::backlog::{Backlog, Withdrawn, WorkItem};
use crate::pool::worker_state::Counts;
use crate::pool::{PullQueue, QueueLoad, WorkerPool};
use crate::process::host::callback_thread::CallbackThread;
use crate::process::host::driver::{CollectedBy, CompletionDriver, CompletionSource, Demand};
use crate::process::host::pipeline::error_of;
use crate::process::shm::arena::Arena;
use crate::process::shm::checksum::Key;
use crate::process::shm::queue::layout::{INLINE, MappedQueue, QueueFile, QueueGeometry};
use crate::process::shm::queue::{
    Current, Reading, ShmQueue, SlotKind, SlotPublish, SlotRef, Transition,
};
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::Lease;
use crate::shared::invalidation::{self, InvalidationListener};
use crate::sys;
use crate::task::item_batch::ItemBatch;
use crate::task::request::{RemoteOutcome, RemoteTask};
use crate::transport::wire::Fault;
use crate::transport::work::RemoteWork;
use crate::unwind;

pub(crate) use recovery::Orphan;

use audit::Watch;
use table::{Completion, Extra, Presence, Published, SlotEntry, SlotTable, Taken, WorkerRecord};

/// The program's side of the board.
pub(crate) struct InFlight {
    /// The shared memory.
    queue: ShmQueue,
    /// By which workers map it.
    memory: Arc<QueueFile>,
    /// How large it is.
    plan: QueueGeometry,
    /// What checksums depend on.
    key: Key,
    /// Where big arguments and results are, if there is such a place.
    arena: Option<Arc<Arena>>,
    /// What lies there, and whose it is.
    table: Mutex<SlotTable>,
    /// Whether the crew's backlog holds what had no room here.
    is_behind: AtomicBool,
    /// Futures on the board that somebody is to hear of at once.
    listening: AtomicUsize,
    /// How often outcomes were brought in by who waited for one.
    helped: AtomicU64,
    /// Whether workers that find nothing are to leave.
    is_closing: AtomicBool,
    /// Whether what had not begun was taken out for good: nothing is to begin any more.
    is_cleared: AtomicBool,
    /// When the shared memory is to be looked through.
    watch: Watch,
    /// Who is asked for more when there is room.
    worker_pool: OnceLock<Weak<WorkerPool<RemoteWork>>>,
    /// Kills the process of a worker.
    killer: OnceLock<Box<dyn Fn(usize) + Send + Sync>>,
    /// Brings outcomes in that nobody waits for.
    driver: CompletionDriver<InFlight>,
    /// Runs callbacks.
    callbacks: Arc<CallbackThread>,
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
const NO_CALL: FunctionRef = FunctionRef {
    entry: 0,
    function: 0,
    fingerprint: 0,
};

impl InFlight {
    /// A board for so many workers, whose results may have so many bytes; `None` where there can be
    /// none.
    pub(crate) fn new(workers: usize, payload_limit: u64) -> Option<Arc<Self>> {
        let plan = QueueGeometry::of(workers)?;
        let (memory, handle) = MappedQueue::create(plan).ok()?;
        let key = Key::fresh();
        let books = SlotTable {
            records: (0..plan.slots).map(|_| None).collect(),
            free: (0..plan.first_slots()).rev().collect(),
            backed: plan.first_slots(),
            limit: plan.slots,
            counts: Counts::default(),
            parcels: 0,
            scratch: Vec::new(),
            has_any_listeners: false,
            workers: vec![WorkerRecord::default(); workers],
            suspects: BTreeMap::new(),
            suspect: None,
        };
        let arena = Arena::new(workers, payload_limit).ok();
        let in_flight = Arc::new_cyclic(|me: &Weak<Self>| Self {
            queue: ShmQueue::new(memory, key.clone()),
            memory: Arc::new(handle),
            plan,
            key,
            arena: arena.inspect(|arena| arena.when_warmed(call_driver(me.clone()))),
            table: Mutex::new(books),
            is_behind: AtomicBool::new(false),
            listening: AtomicUsize::new(0),
            helped: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_cleared: AtomicBool::new(false),
            watch: Watch::new(),
            worker_pool: OnceLock::new(),
            killer: OnceLock::new(),
            driver: CompletionDriver::new(me.clone()),
            callbacks: CallbackThread::new(),
        });
        let listener: Weak<Self> = Arc::downgrade(&in_flight);
        invalidation::subscribe(listener);
        Some(in_flight)
    }

    /// Whose overflow it serves.
    pub(crate) fn serve(&self, worker_pool: &Arc<WorkerPool<RemoteWork>>) {
        // Set once, by the pool that made both.
        let _ = self.worker_pool.set(Arc::downgrade(worker_pool));
    }

    /// What kills the process of a worker.
    pub(crate) fn kill_by(&self, kill: impl Fn(usize) + Send + Sync + 'static) {
        // Set once, by the pool that made both.
        let _ = self.killer.set(Box::new(kill));
    }

    /// By which workers map it, how large it is, and what its checksums depend on.
    pub(crate) fn memory(&self) -> (Arc<QueueFile>, QueueGeometry, Key) {
        (Arc::clone(&self.memory), self.plan, self.key.clone())
    }

    /// Where big arguments and results are, if there is such a place.
    pub(crate) fn arena(&self) -> Option<Arc<Arena>> {
        self.arena.clone()
    }

    /// A task is about to be submitted, by the calling thread.
    pub(crate) fn note_submission(&self) {
        self.queue.set_submitter_core(sys::current_core());
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
    fn take_outcome(&self, books: &mut SlotTable, slot: usize) -> Taken {
        match books.records.get(slot).and_then(Option::as_ref) {
            Some(slot_entry) => match slot_entry.work {
                Published::Task { .. } => {}
                Published::Items { .. } => return self.take_items(books, slot),
                Published::Rendezvous(_) => return Taken::Nothing,
            },
            None => return Taken::Nothing,
        }
        self.take_task(books, slot, |place, bytes| self.queue.outcome(place, bytes))
    }

    /// Takes out a task, by what is read of it.
    #[inline]
    fn take_task(
        &self,
        books: &mut SlotTable,
        slot: usize,
        read: impl FnOnce(SlotRef, &mut Vec<u8>) -> Reading,
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
        books: &mut SlotTable,
        slot: usize,
        bytes: &mut Vec<u8>,
        read: impl FnOnce(SlotRef, &mut Vec<u8>) -> Reading,
    ) -> Taken {
        let Some(slot_entry) = books.records.get_mut(slot).and_then(Option::as_mut) else {
            return Taken::Nothing;
        };
        let place = slot_entry.place;
        let Published::Task { reply, aside, .. } = &mut slot_entry.work else {
            return Taken::Nothing;
        };
        let outcome = match read(place, bytes) {
            Reading::Sound(SlotKind::Value, _) => RemoteOutcome::Value(Source::Borrowed(bytes)),
            Reading::Sound(SlotKind::StoredValue, worker) => self.stored(bytes, worker),
            Reading::Sound(SlotKind::Fault, worker) => {
                let error = match Fault::from_body(bytes) {
                    Some(fault) => error_of(fault, reply.info(), worker, None),
                    None => Error::Decode("the worker's report on the task is garbled".into()),
                };
                RemoteOutcome::Error(error)
            }
            // If it has not come over the link so far, it is closed when it comes.
            Reading::Sound(..) => match aside.as_mut().and_then(|aside| aside.out_of_band.take()) {
                Some(out_of_band) => out_of_band,
                None => return Taken::Nothing,
            },
            Reading::NotDone => return Taken::Nothing,
            Reading::Corrupt => {
                books.suspect(slot);
                return Taken::Corrupt;
            }
        };
        match self.remove_task(books, slot) {
            Some(reply) => Taken::Arrived(books.completion(reply, outcome)),
            None => Taken::Nothing,
        }
    }

    /// A result in the depot, where its worker says.
    fn stored(&self, location: &[u8], worker: usize) -> RemoteOutcome<'static> {
        let arrived = match &self.arena {
            Some(arena) => arena.arrived(location, worker),
            None => Err("there is no such place"),
        };
        match arrived {
            Ok(lease) => RemoteOutcome::Value(Source::Owned(lease.into())),
            Err(what) => {
                let words = format!("the worker's result cannot be found: {what}");
                RemoteOutcome::Error(Error::Decode(words.into()))
            }
        }
    }

    /// Takes out a task that has begun. Who leaves it unsettled as he gives up the lock says before
    /// that it runs: it cannot be cancelled any more.
    #[inline]
    fn remove_task(
        &self,
        books: &mut SlotTable,
        slot: usize,
    ) -> Option<DynPromise<dyn RemoteTask>> {
        match self.remove(books, slot)?.work {
            Published::Task { reply, .. } => Some(reply),
            Published::Items { .. } | Published::Rendezvous(_) => None,
        }
    }

    /// Takes out a task that has begun, and is settled later.
    fn remove_begun(
        &self,
        books: &mut SlotTable,
        slot: usize,
    ) -> Option<DynPromise<dyn RemoteTask>> {
        let reply = self.remove_task(books, slot)?;
        // Recalling is the one way to cancel it, and takes the record out.
        let (Start::Begun | Start::Cancelled) = reply.start();
        Some(reply)
    }

    #[inline]
    fn remove(&self, books: &mut SlotTable, slot: usize) -> Option<SlotEntry> {
        let slot_entry = books.records[slot].take()?;
        books.free.push(slot);
        if !books.suspects.is_empty() {
            books.suspects.remove(&slot);
        }
        books.parcels -= usize::from(matches!(slot_entry.work, Published::Items { .. }));
        if slot_entry.has_listeners {
            // ORDERING: Relaxed; read by the tender, which looks again and again while it matters.
            self.listening.fetch_sub(1, Ordering::Relaxed);
        }
        Some(slot_entry)
    }

    /// Brings home what came of a task that was taken out.
    pub(crate) fn hand_over(&self, reply: DynPromise<dyn RemoteTask>, outcome: RemoteOutcome<'_>) {
        let completion = self.lock().completion(reply, outcome);
        self.deliver(completion, CollectedBy::Ours);
    }

    /// Tells of an outcome. On a thread of a user's no user code runs: a `Drop` or a waker may wait for a
    /// future of this pool, whose outcome only this thread can bring in.
    fn deliver(&self, completion: Completion, by: CollectedBy) {
        let Notifications {
            wakeups,
            opens,
            remains,
        } = match completion {
            Completion::Task(Some(news)) => *news,
            Completion::Task(None) => return,
            Completion::Items {
                sink,
                item_outcomes,
                rest,
            } => {
                for piece in item_outcomes {
                    piece.arrive(&*sink);
                }
                if let Some(rest) = rest {
                    self.return_rest(rest);
                }
                // The last owner drops what nobody has read.
                return match by {
                    CollectedBy::Ours => unwind::discard(sink),
                    CollectedBy::Users => self.callbacks.discard_sink(sink),
                };
            }
        };
        let waker = wakeups.deliver_to_watchers();
        if let Some(opens) = opens {
            self.callbacks.open(opens);
        }
        match by {
            CollectedBy::Ours => {
                unwind::discard(remains);
                if let Some(waker) = waker {
                    unwind::call(|| waker.wake());
                }
            }
            CollectedBy::Users => {
                if let Some(remains) = remains {
                    self.callbacks.discard(remains);
                }
                if let Some(waker) = waker {
                    self.callbacks.wake(waker);
                }
            }
        }
    }

    /// Items that their worker has left alone go to another, unless nobody wants them any more.
    fn return_rest(&self, rest: Box<ItemBatch>) {
        let worker_pool = self.worker_pool.get().and_then(Weak::upgrade);
        match worker_pool {
            Some(worker_pool) if !rest.sink.is_abandoned() => {
                worker_pool.put_back(RemoteWork::Parcel(rest))
            }
            _ => rest.fail(&Error::Cancelled, &mut |_| {
                self.lock().counts.cancelled += 1;
            }),
        }
    }

    /// An outcome came over the link, before or after its slot became done. It counts only if the worker may
    /// speak for the task: another worker's task is not ended by a frame that names its place.
    pub(crate) fn tell(&self, place: SlotRef, outcome: Result<Encoded, Fault>, worker: usize) {
        let mut books = self.lock();
        let slot_entry = books.records.get_mut(place.slot).and_then(Option::as_mut);
        let is_its = |slot_entry: &&mut SlotEntry| {
            slot_entry.place == place && self.queue.speaks_for(place, worker)
        };
        let Some(slot_entry) = slot_entry.filter(is_its) else {
            return; // it was killed, or the worker makes things up
        };
        match &mut slot_entry.work {
            Published::Task { reply, aside, .. } => {
                aside.get_or_insert_default().out_of_band = Some(match outcome {
                    Ok(value) => RemoteOutcome::Value(Source::Owned(value)),
                    Err(fault) => RemoteOutcome::Error(error_of(fault, reply.info(), worker, None)),
                });
            }
            Published::Items { out_of_band, .. } => *out_of_band = Some(Box::new(outcome)),
            Published::Rendezvous(_) => {}
        }
        let taken = self.take_outcome(&mut books, place.slot);
        drop(books);
        self.fetch_more();
        match taken {
            Taken::Arrived(completion) => self.deliver(completion, CollectedBy::Ours),
            Taken::Nothing => {}
            Taken::Corrupt => self.suspect(),
        }
    }

    /// There is room: asks for what waits for it.
    fn fetch_more(&self) {
        // ORDERING: Relaxed; written under the crew's lock, which `refill` takes. What is missed
        // here was queued after the slot came free, by somebody who then looks himself.
        if self.is_behind.load(Ordering::Relaxed) {
            if let Some(worker_pool) = self.worker_pool.get().and_then(Weak::upgrade) {
                worker_pool.refill();
            }
        }
    }

    // ---- tasks, by name ----------------------------------------------------------------------

    /// Whether a worker runs the task.
    pub(crate) fn runs(&self, id: FutureId) -> bool {
        let mut books = self.lock();
        let found = books.find(id);
        found.is_some_and(|(_, slot_entry)| {
            slot_entry.is_task() && self.queue.is_running(slot_entry.place)
        })
    }

    /// Has the worker that runs the task begin nothing else; what is at that worker's index, looked
    /// up while nobody else can sit there.
    pub(crate) fn mark_killed<P>(&self, id: FutureId, at: impl FnOnce(usize) -> P) -> Option<P> {
        let mut books = self.lock();
        let (_, slot_entry) = books.find(id)?;
        if !slot_entry.is_task() {
            return None;
        }
        let worker = self.queue.kill(slot_entry.place)?;
        slot_entry.is_killed = true;
        Some(at(worker))
    }

    /// Somebody is to hear at once when the task is done.
    pub(crate) fn hook(&self, id: FutureId) {
        let mut books = self.lock();
        match books.find(id) {
            Some((_, slot_entry)) if slot_entry.is_task() && !slot_entry.has_listeners => {
                slot_entry.has_listeners = true;
                // ORDERING: Relaxed; the tender is woken below.
                self.listening.fetch_add(1, Ordering::Relaxed);
                drop(books);
                self.driver.call();
            }
            Some(_) => {}
            // It may be on its way here.
            None => books.has_any_listeners = true,
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
        self.queue.memory().see(&self.memory, worker)?;
        self.note_presence(worker, Presence::Here);
        Ok(())
    }

    /// A worker that was told over its link what to do takes tasks by itself again.
    pub(crate) fn resume(&self, worker: usize) {
        self.note_presence(worker, Presence::Here);
    }

    fn note_presence(&self, worker: usize, presence: Presence) {
        if let Some(worker) = self.lock().workers.get_mut(worker) {
            *worker = WorkerRecord {
                presence,
                idle_since: None,
            };
        }
    }

    /// Whether a worker, alive or dead, has claimed a task since it came. One whose own word of that was
    /// overwritten has run something.
    pub(crate) fn has_claimed(&self, worker: usize) -> bool {
        self.queue.current(worker) != Current::Nothing
    }

    /// What a worker asks for over the link; `None`: it has no such place.
    pub(crate) fn take_rendezvous(&self, place: SlotRef, worker: usize) -> Option<RemoteWork> {
        let mut books = self.lock();
        let slot_entry = books.records.get(place.slot)?.as_ref()?;
        let is_its = slot_entry.place == place
            && matches!(slot_entry.work, Published::Rendezvous(_))
            && self.queue.current(worker) == Current::Place(place)
            && !self.queue.is_ready(place);
        if !is_its {
            return None;
        }
        let slot_entry = self.remove(&mut books, place.slot)?;
        drop(books);
        self.note_presence(worker, Presence::Told);
        self.fetch_more();
        slot_entry.into_requests()
    }

    /// Puts work into a free slot.
    ///
    /// # Errors
    /// The work, where there is none.
    #[inline]
    fn put_in(&self, books: &mut SlotTable, work: RemoteWork) -> Result<Put, RemoteWork> {
        if !self.make_room(books) {
            return Err(work);
        }
        let Some(slot) = books.free.pop() else {
            return Err(work);
        };
        let is_abandoned = work.is_abandoned();
        let (place, work) = match self.publish_task(slot, work) {
            Ok(posted) => posted,
            Err(work) => {
                books.free.push(slot);
                return Err(work);
            }
        };
        if is_abandoned {
            self.queue.stop(place); // its map was dropped on its way here
        }
        let has_listeners = match &work {
            Published::Task { reply, .. } => books.has_any_listeners && reply.has_listeners(),
            Published::Items { item_batch, .. } => item_batch.sink.has_listeners(),
            Published::Rendezvous(_) => false, // it settles elsewhere
        };
        if has_listeners {
            // ORDERING: Relaxed; the caller calls the tender.
            self.listening.fetch_add(1, Ordering::Relaxed);
        }
        books.parcels += usize::from(matches!(work, Published::Items { .. }));
        books.records[slot] = Some(SlotEntry::new(place, work, has_listeners));
        Ok(match has_listeners {
            true => Put::IsHooked,
            false => Put::IsQuiet,
        })
    }

    /// Whether a slot is free; if need be, gives memory to more of them.
    fn make_room(&self, books: &mut SlotTable) -> bool {
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
    fn publish_task(
        &self,
        slot: usize,
        work: RemoteWork,
    ) -> Result<(SlotRef, Published), RemoteWork> {
        let queue = &self.queue;
        let is_plain = work.is_plain();
        match work {
            RemoteWork::One(mut reply) if is_plain => {
                if let Some((call, number)) = reply.number() {
                    let published = queue.publish(slot, SlotKind::Argument, call, &number);
                    return note_published(published, reply, None);
                }
                let (call, argument) = reply.take_message();
                let published = match argument.lease() {
                    Some(lease) => {
                        let place = lease.location().to_bytes();
                        queue.publish(slot, SlotKind::StoredArgument, call, &place)
                    }
                    None if argument.len() <= INLINE => {
                        queue.publish(slot, SlotKind::Argument, call, &argument)
                    }
                    None => {
                        reply.put_message(argument);
                        return self.publish_rendezvous(slot, RemoteWork::One(reply));
                    }
                };
                if published == SlotPublish::Full {
                    reply.put_message(argument);
                    return Err(RemoteWork::One(reply));
                }
                note_published(published, reply, argument.into_lease().ok())
            }
            RemoteWork::Parcel(item_batch) if is_plain => {
                let (call, count) = (item_batch.call, item_batch.len());
                let bytes = &item_batch.bytes;
                match queue.publish_items(slot, SlotKind::Items, call, bytes, count) {
                    SlotPublish::Full => Err(RemoteWork::Parcel(item_batch)),
                    SlotPublish::Published(place) => {
                        let (out_of_band, taken) = (None, (0, 0));
                        let item_batch = Published::Items {
                            item_batch,
                            out_of_band,
                            taken,
                        };
                        Ok((place, item_batch))
                    }
                }
            }
            work => self.publish_rendezvous(slot, work),
        }
    }

    /// Publishes that there is work to be asked for.
    fn publish_rendezvous(
        &self,
        slot: usize,
        work: RemoteWork,
    ) -> Result<(SlotRef, Published), RemoteWork> {
        match self.queue.publish(slot, SlotKind::Rendezvous, NO_CALL, &[]) {
            SlotPublish::Full => Err(work),
            SlotPublish::Published(place) => Ok((place, Published::Rendezvous(work))),
        }
    }

    /// Takes out what no worker has begun in a slot, and has workers not begin the rest.
    fn take_back(&self, books: &mut SlotTable, slot: usize, taken: &mut Vec<Box<dyn Withdrawn>>) {
        let Some(slot_entry) = &mut books.records[slot] else {
            return;
        };
        if let Published::Rendezvous(requests) = &mut slot_entry.work {
            // If its worker asks for it just now, it is told that there is nothing.
            let all = requests.take_all().into_iter();
            taken.extend(all.map(|request| Box::new(request) as _));
        }
        if self.queue.cancel(slot_entry.place) == Transition::TooLate {
            return self.queue.stop(slot_entry.place);
        }
        match self.remove(books, slot).map(|slot_entry| slot_entry.work) {
            Some(Published::Task { reply, .. }) => taken.push(Box::new(reply)),
            Some(Published::Items { item_batch, .. }) => taken.push(item_batch),
            Some(Published::Rendezvous(_)) | None => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InvalidationListener for InFlight {
    fn ring(&self) {
        self.queue.wake_all();
    }
}

impl CompletionSource for InFlight {
    type Memory = MappedQueue;

    fn queue(&self) -> &ShmQueue {
        &self.queue
    }

    fn driver(&self) -> &CompletionDriver<Self> {
        &self.driver
    }

    fn collect(&self, by: CollectedBy) -> usize {
        if !self.queue.has_done() {
            return 0;
        }
        if by == CollectedBy::Users {
            // ORDERING: Relaxed; tells the tender that it is not needed, sooner or later.
            self.helped.fetch_add(1, Ordering::Relaxed);
        }
        let (mut arrivals, mut collected, mut is_any_corrupt) = (Vec::new(), 0, false);
        let mut books = self.lock();
        self.queue.take_done(|slot| {
            collected += 1;
            match self.take_outcome(&mut books, slot) {
                Taken::Arrived(completion) if completion.is_over() => {}
                Taken::Arrived(completion) => arrivals.push(completion),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        });
        drop(books);
        if is_any_corrupt {
            self.suspect();
        }
        self.fetch_more();
        for completion in arrivals {
            self.deliver(completion, by);
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
                Taken::Arrived(completion) => arrivals.push(completion),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        }
        drop(books);
        if is_any_corrupt {
            self.suspect();
        }
        let any = !arrivals.is_empty();
        for completion in arrivals {
            self.deliver(completion, CollectedBy::Ours);
        }
        any
    }

    fn demand(&self) -> Demand {
        // ORDERING: Relaxed, all; a thread that changes them calls the tender afterwards.
        if self.listening.load(Ordering::Relaxed) > 0
            || self.is_closing.load(Ordering::Relaxed)
            || self.watch.is_suspicious()
        {
            Demand::Now
        } else if self.is_behind.load(Ordering::Relaxed) {
            Demand::UnlessHelped(self.helped.load(Ordering::Relaxed))
        } else {
            Demand::None
        }
    }

    fn reclaim(&self) -> Option<Instant> {
        self.arena.as_ref()?.reclaim()
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
fn note_published(
    published: SlotPublish,
    reply: DynPromise<dyn RemoteTask>,
    argument: Option<Lease>,
) -> Result<(SlotRef, Published), RemoteWork> {
    let SlotPublish::Published(place) = published else {
        return Err(RemoteWork::One(reply));
    };
    let aside = argument.map(|lease| {
        Box::new(Extra {
            _argument: Some(lease),
            out_of_band: None,
        })
    });
    let task = Published::Task {
        id: reply.id(),
        reply,
        aside,
    };
    Ok((place, task))
}

/// What calls the tender of a ledger.
fn call_driver(in_flight: Weak<InFlight>) -> impl Fn() + Send + Sync + 'static {
    move || {
        if let Some(in_flight) = in_flight.upgrade() {
            in_flight.driver.call();
        }
    }
}

impl PullQueue<RemoteWork> for InFlight {
    fn put(&self, work: RemoteWork) -> Result<(), RemoteWork> {
        let put = self.put_in(&mut self.lock(), work)?;
        if put == Put::IsHooked {
            self.driver.call();
        }
        Ok(())
    }

    fn refill(&self, backlog: &Backlog<RemoteWork>) {
        let mut books = self.lock();
        let mut any = Put::IsQuiet;
        while self.make_room(&mut books) {
            let Some(work) = backlog.pop() else {
                books.has_any_listeners = false;
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
            self.driver.call();
        }
    }

    fn announce(&self) {
        self.queue.wake_one();
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
            self.driver.call();
        }
    }

    fn load(&self) -> QueueLoad {
        let books = self.lock();
        let mut load = QueueLoad {
            counts: books.counts,
            ..QueueLoad::default()
        };
        for (slot, slot_entry) in books.records.iter().enumerate() {
            let Some(slot_entry) = slot_entry else {
                continue;
            };
            let runner = self.queue.runner(slot_entry.place);
            let is_running = self.queue.is_running(slot_entry.place);
            // What makes no sense now may have to be run once that has been seen to.
            let is_ready = self.queue.is_ready(slot_entry.place)
                || (!is_running && books.suspects.contains_key(&slot));
            load.waiting += usize::from(is_ready);
            match &slot_entry.work {
                Published::Task { .. } => {
                    load.running += usize::from(is_running);
                    load.tasks += usize::from(is_ready);
                }
                Published::Items { item_batch, .. } if is_running => {
                    let worker = runner.unwrap_or(usize::MAX);
                    let progress = self
                        .queue
                        .progress(slot_entry.place, worker, item_batch.len());
                    load.running += 1;
                    if !item_batch.sink.is_abandoned() {
                        load.tasks += item_batch.len().saturating_sub(progress.done + 1);
                    }
                }
                Published::Items { item_batch, .. } => {
                    load.tasks += if is_ready { item_batch.len() } else { 0 };
                }
                Published::Rendezvous(requests) => {
                    load.claimed += usize::from(is_running);
                    load.tasks += requests.len();
                }
            }
        }
        load
    }

    fn clear(&self) -> Vec<Box<dyn Withdrawn>> {
        let mut books = self.lock();
        // ORDERING: Relaxed; read and written under the lock.
        self.is_cleared.store(true, Ordering::Relaxed);
        let mut taken = Vec::new();
        for slot in 0..books.records.len() {
            self.take_back(&mut books, slot, &mut taken);
        }
        taken
    }

    fn recall(&self, id: FutureId) -> Unqueue {
        let mut books = self.lock();
        let Some((slot, slot_entry)) = books.find(id) else {
            return Unqueue::NotHere;
        };
        let place = slot_entry.place;
        match &mut slot_entry.work {
            Published::Task { .. } => {
                if self.queue.cancel(place) == Transition::TooLate {
                    return Unqueue::Started;
                }
                let slot_entry = self.remove(&mut books, slot);
                Unqueue::Removed(Box::new(slot_entry.map(|slot_entry| slot_entry.work)))
            }
            // Items of a map are cancelled all together.
            Published::Items { .. } => Unqueue::Started,
            Published::Rendezvous(requests) => {
                let request = requests.take(id);
                // The last of them: unless its worker is asking for it, nobody need.
                if requests.is_empty() && self.queue.cancel(place) == Transition::Taken {
                    let _ = self.remove(&mut books, slot);
                }
                Unqueue::Removed(Box::new(request))
            }
        }
    }

    fn abandon(&self, first: FutureId, last: FutureId) -> Vec<Box<dyn Withdrawn>> {
        let mut books = self.lock();
        let mut taken = Vec::new();
        for slot in 0..books.records.len() {
            let slot_entry = books.records[slot].as_ref();
            if slot_entry.is_some_and(|slot_entry| slot_entry.is_one_of(first, last)) {
                self.take_back(&mut books, slot, &mut taken);
            }
        }
        taken
    }

    fn close(&self) {
        // ORDERING: Relaxed; workers hear of it by the board.
        let was_closing = self.is_closing.swap(true, Ordering::Relaxed);
        self.queue.close();
        if !was_closing {
            // It sees to workers that do not leave.
            self.driver.call();
        }
    }

    fn reopen(&self) {
        // ORDERING: Relaxed; as above.
        self.is_closing.store(false, Ordering::Relaxed);
        self.queue.reopen();
    }

    fn end(&self) {
        self.collect(CollectedBy::Ours);
        self.write_off();
        self.memory.close();
        if let Some(arena) = &self.arena {
            arena.close();
        }
        self.driver.end();
        self.callbacks.end();
    }

    fn join(&self, deadline: Option<Instant>) -> bool {
        self.driver.join(deadline) && self.callbacks.join(deadline)
    }
}

#[cfg(test)]
mod tests;
