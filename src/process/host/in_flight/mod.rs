//! The in-flight table: the program's side of the shared-memory queue ("the queue"). It knows which task lies
//! in which slot, and takes outcomes from there to the futures and maps they belong to.
//!
//! The pool calls it as its [`PullQueue`], waiters through the [`CompletionDriver`], and supervisors for what
//! their workers say over connections and for what lost workers leave behind. It relies on [`ShmQueue`] for
//! every step in shared memory, and on [`Arena`] for big arguments and results. The parts: `table` (what is
//! known of each slot), `batches` (items of maps), `recovery` (lost workers), `audit` (stray writes).

mod audit;
mod batches;
mod recovery;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::pool_handle::Unqueue;
use crate::future::promise::Notifications;
use crate::future::state::Start;
use crate::pool::backlog::Backlog;
use crate::pool::worker_state::Counts;
use crate::pool::{PullQueue, QueueLoad, WorkerPool};
use crate::process::host::callback_thread::CallbackThread;
use crate::process::host::driver::{CollectedBy, CompletionDriver, CompletionSource, Demand};
use crate::process::shm::arena::Arena;
use crate::process::shm::checksum::Key;
use crate::process::shm::queue::layout::{MappedQueue, QueueFile, QueueGeometry};
use crate::process::shm::queue::{
    Current, Reading, ShmQueue, SlotKind, SlotPublish, SlotRef, Transition,
};
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::lease::{EAGER_LIMIT, Lease};
use crate::shared::invalidation::{self, InvalidationListener};
use crate::sys;
use crate::task::item_batch::ItemBatch;
use crate::task::request::{RemoteOutcome, RemoteTask};
use crate::task::work_item::{Withdrawn, WorkItem};
use crate::transport::fault::{Fault, error_of};
use crate::transport::work::RemoteWork;
use crate::unwind;

pub(crate) use recovery::Orphan;

use audit::AuditSchedule;
use table::{Completion, Extra, Presence, Published, SlotEntry, SlotTable, Taken, WorkerRecord};

/// The program's side of the queue: all published work, and what is needed to collect its outcomes.
pub(crate) struct InFlight {
    /// The shared-memory queue, as mapped in the program.
    queue: ShmQueue,
    /// The file by which workers map the queue.
    memory: Arc<QueueFile>,
    /// The number of slots and workers, from which the layout follows.
    plan: QueueGeometry,
    /// The key of the checksums. It lies in no shared memory.
    key: Key,
    /// Where big arguments and results lie; `None` where the system gave no memory for it.
    arena: Option<Arc<Arena>>,
    /// What lies in each slot, and which promise belongs to it.
    table: Mutex<SlotTable>,
    /// Whether the worker pool's backlog holds work that had no room here.
    is_behind: AtomicBool,
    /// How many published pieces of work have listeners that must learn of the outcome at once.
    listening: AtomicUsize,
    /// How many times a user's thread that waited for an outcome, or asked for it, collected some.
    helped: AtomicU64,
    /// Whether workers that find nothing are to leave.
    is_closing: AtomicBool,
    /// Whether all unstarted work was removed for good: nothing may begin any more.
    is_cleared: AtomicBool,
    /// When the next audit of the shared memory is due.
    watch: AuditSchedule,
    /// The worker pool, which is asked for more work when there is room. Set once.
    worker_pool: OnceLock<Weak<WorkerPool<RemoteWork>>>,
    /// Kills the process of the worker of that index. Set once.
    killer: OnceLock<Box<dyn Fn(usize) + Send + Sync>>,
    /// Collects outcomes that no thread waits for.
    driver: CompletionDriver<InFlight>,
    /// Runs callbacks, wakes wakers and drops user values where the collecting thread must not.
    callbacks: Arc<CallbackThread>,
}

/// Whether work that was published needs the driver's thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// It does: the caller calls the driver.
    CallDriver,
    /// It does not.
    Done,
}

/// How long an outcome that no thread waits for may stay uncollected. Until it is collected, the program
/// keeps what its task holds: the block of its argument, and the shared memory that the argument names.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A rendezvous calls no function.
const NO_CALL: FunctionRef = FunctionRef {
    entry: 0,
    function: 0,
    fingerprint: 0,
};

impl InFlight {
    /// Makes a queue for `workers` workers, with results of at most `payload_limit` bytes. `None` where there
    /// can be no queue: for that number of workers, or because the system refuses the memory.
    pub(crate) fn new(workers: usize, payload_limit: u64) -> Option<Arc<Self>> {
        let plan = QueueGeometry::of(workers)?;
        let (memory, handle) = MappedQueue::create(plan).ok()?;
        let key = Key::fresh();
        let table = SlotTable {
            records: (0..plan.slots).map(|_| None).collect(),
            free: (0..plan.first_slots()).rev().collect(),
            backed: plan.first_slots(),
            limit: plan.slots,
            counts: Counts::default(),
            item_batches: 0,
            scratch: Vec::new(),
            has_any_listeners: false,
            is_watched: false,
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
            table: Mutex::new(table),
            is_behind: AtomicBool::new(false),
            listening: AtomicUsize::new(0),
            helped: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_cleared: AtomicBool::new(false),
            watch: AuditSchedule::new(),
            worker_pool: OnceLock::new(),
            killer: OnceLock::new(),
            driver: CompletionDriver::new(me.clone()),
            callbacks: CallbackThread::new(),
        });
        let listener: Weak<Self> = Arc::downgrade(&in_flight);
        invalidation::subscribe(listener);
        Some(in_flight)
    }

    /// Sets the worker pool, which is asked for its overflow when there is room.
    pub(crate) fn serve(&self, worker_pool: &Arc<WorkerPool<RemoteWork>>) {
        // Set once, by the pool that made both.
        let _ = self.worker_pool.set(Arc::downgrade(worker_pool));
    }

    /// Sets the function that kills the process of a worker, given the worker's index.
    pub(crate) fn kill_by(&self, kill: impl Fn(usize) + Send + Sync + 'static) {
        // Set once, by the pool that made both.
        let _ = self.killer.set(Box::new(kill));
    }

    /// The file by which workers map the queue, its geometry, and the key of its checksums.
    pub(crate) fn memory(&self) -> (Arc<QueueFile>, QueueGeometry, Key) {
        (Arc::clone(&self.memory), self.plan, self.key.clone())
    }

    /// Where big arguments and results lie; `None` where there is no arena.
    pub(crate) fn arena(&self) -> Option<Arc<Arena>> {
        self.arena.clone()
    }

    /// Notes the core of the calling thread, which is about to submit a task.
    pub(crate) fn note_submission(&self) {
        self.queue.set_submitter_core(sys::affinity::current_core());
    }

    /// Whether workers that find nothing leave.
    pub(crate) fn is_closing(&self) -> bool {
        // ORDERING: Relaxed; the flag is set before workers are told through the queue.
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Whether nothing may begin any more. To be called under the slot table's lock.
    fn is_cleared(&self) -> bool {
        // ORDERING: Relaxed; read and written under the slot table's lock.
        self.is_cleared.load(Ordering::Relaxed)
    }

    // ---- outcomes ----------------------------------------------------------------------------

    /// Takes the outcome of a slot that is done, or of those of its items that are done.
    fn take_outcome(&self, table: &mut SlotTable, slot: usize) -> Taken {
        match table.records.get(slot).and_then(Option::as_ref) {
            Some(slot_entry) => match slot_entry.work {
                Published::Task { .. } => {}
                Published::Items { .. } => return self.take_items(table, slot),
                Published::Rendezvous(_) => return Taken::Nothing,
            },
            None => return Taken::Nothing,
        }
        self.take_task(table, slot, |place, bytes| self.queue.outcome(place, bytes))
    }

    /// Takes the outcome of a task, which `read` reads from shared memory. Removes the task if there is a
    /// sound one.
    #[inline]
    fn take_task(
        &self,
        table: &mut SlotTable,
        slot: usize,
        read: impl FnOnce(SlotRef, &mut Vec<u8>) -> Reading,
    ) -> Taken {
        // The buffer is moved out, so that it can be read while the slot table is written.
        let mut bytes = std::mem::take(&mut table.scratch);
        let taken = self.take_task_by(table, slot, &mut bytes, read);
        table.scratch = bytes;
        taken
    }

    /// Takes the outcome of a task like `take_task`, and reads it into `bytes`.
    #[inline]
    fn take_task_by(
        &self,
        table: &mut SlotTable,
        slot: usize,
        bytes: &mut Vec<u8>,
        read: impl FnOnce(SlotRef, &mut Vec<u8>) -> Reading,
    ) -> Taken {
        let Some(slot_entry) = table.records.get_mut(slot).and_then(Option::as_mut) else {
            return Taken::Nothing;
        };
        let place = slot_entry.place;
        let Published::Task { reply, extra, .. } = &mut slot_entry.work else {
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
            // The worker says that the outcome comes over its connection. If it has not come so far, the slot
            // is closed when it comes (`tell`).
            Reading::Sound(..) => match extra.as_mut().and_then(|extra| extra.out_of_band.take()) {
                Some(out_of_band) => out_of_band,
                None => return Taken::Nothing,
            },
            Reading::NotDone => return Taken::Nothing,
            Reading::Corrupt => {
                table.suspect(slot);
                return Taken::Corrupt;
            }
        };
        match self.remove_task(table, slot) {
            Some(reply) => Taken::Arrived(table.completion(reply, outcome)),
            None => Taken::Nothing,
        }
    }

    /// The result that lies in the arena where its worker says; an error where it cannot lie there.
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

    /// Removes a task that has begun. A caller that releases the lock before it settles the promise marks it
    /// as started first (`remove_begun`): it can no longer be cancelled.
    #[inline]
    fn remove_task(
        &self,
        table: &mut SlotTable,
        slot: usize,
    ) -> Option<DynPromise<dyn RemoteTask>> {
        match self.remove(table, slot)?.work {
            Published::Task { reply, .. } => Some(reply),
            Published::Items { .. } | Published::Rendezvous(_) => None,
        }
    }

    /// Removes a task that has begun, and marks it as started, as its promise is settled later.
    fn remove_begun(
        &self,
        table: &mut SlotTable,
        slot: usize,
    ) -> Option<DynPromise<dyn RemoteTask>> {
        let reply = self.remove_task(table, slot)?;
        // Only a recall cancels such a task, and a recall removes the slot entry.
        let (Start::Begun | Start::Cancelled) = reply.start();
        Some(reply)
    }

    #[inline]
    fn remove(&self, table: &mut SlotTable, slot: usize) -> Option<SlotEntry> {
        let slot_entry = table.records[slot].take()?;
        table.free.push(slot);
        if !table.suspects.is_empty() {
            table.suspects.remove(&slot);
        }
        table.item_batches -= usize::from(matches!(slot_entry.work, Published::Items { .. }));
        if slot_entry.has_listeners {
            // ORDERING: Relaxed; read by the driver, which looks again and again while it matters.
            self.listening.fetch_sub(1, Ordering::Relaxed);
        }
        Some(slot_entry)
    }

    /// Delivers the outcome of a task that was removed earlier.
    pub(crate) fn hand_over(&self, reply: DynPromise<dyn RemoteTask>, outcome: RemoteOutcome<'_>) {
        let completion = self.lock().completion(reply, outcome);
        self.deliver(completion, CollectedBy::Ours);
    }

    /// Delivers a collected outcome: to watchers, callbacks, or the sink of a map. On a user's thread no user
    /// code runs here: a `Drop` or a waker may wait for a future of this pool, and only this thread can
    /// collect that future's outcome.
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
                // The last owner of a sink drops the results that no thread has read.
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

    /// Returns items that their worker left unstarted to the worker pool, unless their map was dropped.
    fn return_rest(&self, rest: Box<ItemBatch>) {
        let worker_pool = self.worker_pool.get().and_then(Weak::upgrade);
        match worker_pool {
            Some(worker_pool) if !rest.sink.is_abandoned() => {
                worker_pool.put_back(RemoteWork::Items(rest))
            }
            _ => rest.fail(&Error::Cancelled, &mut |_| {
                self.lock().counts.cancelled += 1;
            }),
        }
    }

    /// Notes an outcome that came over a worker's connection, before or after its slot became done. It counts
    /// only if that worker may report on the task: a frame that names the slot of another worker's task does
    /// not end that task.
    pub(crate) fn tell(&self, place: SlotRef, outcome: Result<Encoded, Fault>, worker: usize) {
        let mut table = self.lock();
        let slot_entry = table.records.get_mut(place.slot).and_then(Option::as_mut);
        let is_its = |slot_entry: &&mut SlotEntry| {
            slot_entry.place == place && self.queue.speaks_for(place, worker)
        };
        let Some(slot_entry) = slot_entry.filter(is_its) else {
            return; // the task was killed, or the worker invents a report
        };
        match &mut slot_entry.work {
            Published::Task { reply, extra, .. } => {
                extra.get_or_insert_default().out_of_band = Some(match outcome {
                    Ok(value) => RemoteOutcome::Value(Source::Owned(value)),
                    Err(fault) => RemoteOutcome::Error(error_of(fault, reply.info(), worker, None)),
                });
            }
            Published::Items { out_of_band, .. } => *out_of_band = Some(Box::new(outcome)),
            Published::Rendezvous(_) => {}
        }
        let taken = self.take_outcome(&mut table, place.slot);
        drop(table);
        self.fetch_more();
        match taken {
            Taken::Arrived(completion) => self.deliver(completion, CollectedBy::Ours),
            Taken::Nothing => {}
            Taken::Corrupt => self.suspect(),
        }
    }

    /// Asks the worker pool for more work, if some waits for room.
    fn fetch_more(&self) {
        // ORDERING: Relaxed; written under the worker pool's lock, which `refill` takes. Work that this load
        // misses was queued after the slot became free, by a thread that afterwards looks for room itself.
        if self.is_behind.load(Ordering::Relaxed) {
            if let Some(worker_pool) = self.worker_pool.get().and_then(Weak::upgrade) {
                worker_pool.refill();
            }
        }
    }

    // ---- tasks, by id ------------------------------------------------------------------------

    /// Whether a worker runs the task of that id.
    pub(crate) fn runs(&self, id: FutureId) -> bool {
        let mut table = self.lock();
        let found = table.find(id);
        found.is_some_and(|(_, slot_entry)| {
            slot_entry.is_task() && self.queue.is_running(slot_entry.place)
        })
    }

    /// Marks a running task as killed, so that its worker begins nothing else. Calls `at` with the worker's
    /// index, under the lock, while no other process can take that index; returns what `at` returns. `None`:
    /// no worker runs such a task.
    pub(crate) fn mark_killed<P>(&self, id: FutureId, at: impl FnOnce(usize) -> P) -> Option<P> {
        let mut table = self.lock();
        let (_, slot_entry) = table.find(id)?;
        if !slot_entry.is_task() {
            return None;
        }
        let worker = self.queue.kill(slot_entry.place)?;
        slot_entry.is_killed = true;
        Some(at(worker))
    }

    /// Notes that a task has listeners that must learn of its outcome at once, and calls the driver.
    pub(crate) fn notify_on_completion(&self, id: FutureId) {
        let mut table = self.lock();
        match table.find(id) {
            Some((_, slot_entry)) if slot_entry.is_task() && !slot_entry.has_listeners => {
                slot_entry.has_listeners = true;
                // ORDERING: Relaxed; the driver is woken below.
                self.listening.fetch_add(1, Ordering::Relaxed);
                drop(table);
                self.driver.call();
            }
            Some(_) => {}
            // It may be on its way here: `put_in` then asks the promise itself.
            None => table.has_any_listeners = true,
        }
    }

    /// Counts a task as failed that was counted as completed: its value cannot be decoded.
    pub(crate) fn spoilt(&self) {
        let mut table = self.lock();
        table.counts.completed = table.counts.completed.saturating_sub(1);
        table.counts.failed += 1;
    }

    // ---- workers -----------------------------------------------------------------------------

    /// Notes that a worker is about to claim tasks by itself, and maps its outcomes.
    ///
    /// # Errors
    /// The system's error, where it does not let the program map what the worker writes.
    pub(crate) fn enlist(&self, worker: usize) -> io::Result<()> {
        self.queue.memory().see(&self.memory, worker)?;
        self.note_presence(worker, Presence::Here);
        Ok(())
    }

    /// Notes that a worker claims tasks by itself again, after it was told over its connection what to do.
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

    /// Whether a worker, alive or dead, has claimed a task since it started. If the worker's own word about
    /// that was overwritten, it has run something, so that counts as a claim.
    pub(crate) fn has_claimed(&self, worker: usize) -> bool {
        self.queue.current(worker) != Current::Nothing
    }

    /// Takes the work that a worker asks for over its connection. `None`: the slot holds no rendezvous that
    /// this worker has claimed.
    pub(crate) fn take_rendezvous(&self, place: SlotRef, worker: usize) -> Option<RemoteWork> {
        let mut table = self.lock();
        let slot_entry = table.records.get(place.slot)?.as_ref()?;
        let is_its = slot_entry.place == place
            && matches!(slot_entry.work, Published::Rendezvous(_))
            && self.queue.current(worker) == Current::Place(place)
            && !self.queue.is_ready(place);
        if !is_its {
            return None;
        }
        let slot_entry = self.remove(&mut table, place.slot)?;
        drop(table);
        self.note_presence(worker, Presence::Told);
        self.fetch_more();
        slot_entry.into_requests()
    }

    /// Publishes work in a free slot.
    ///
    /// # Errors
    /// The work, where there is no free slot, or the ring is full.
    #[inline]
    fn put_in(&self, table: &mut SlotTable, work: RemoteWork) -> Result<Put, RemoteWork> {
        if !self.make_room(table) {
            return Err(work);
        }
        let Some(slot) = table.free.pop() else {
            return Err(work);
        };
        let is_abandoned = work.is_abandoned();
        let (place, work) = match self.publish_task(slot, work) {
            Ok(published) => published,
            Err(work) => {
                table.free.push(slot);
                return Err(work);
            }
        };
        if is_abandoned {
            self.queue.stop(place); // its map was dropped before it was published
        }
        let has_listeners = match &work {
            Published::Task { reply, .. } => table.has_any_listeners && reply.has_listeners(),
            Published::Items { item_batch, .. } => item_batch.sink.has_listeners(),
            Published::Rendezvous(_) => false, // its outcome comes over a connection, and settles elsewhere
        };
        if has_listeners {
            // ORDERING: Relaxed; the caller calls the driver.
            self.listening.fetch_add(1, Ordering::Relaxed);
        }
        table.item_batches += usize::from(matches!(work, Published::Items { .. }));
        let is_unwatched = !table.is_watched && work.holds_memory();
        table.is_watched |= is_unwatched;
        table.records[slot] = Some(SlotEntry::new(place, work, has_listeners));
        Ok(match has_listeners || is_unwatched {
            true => Put::CallDriver,
            false => Put::Done,
        })
    }

    /// Whether a slot is free. If none is, more slots get memory, as far as the limit and the system allow.
    fn make_room(&self, table: &mut SlotTable) -> bool {
        if !table.free.is_empty() {
            return true;
        }
        if table.backed == table.limit {
            return false;
        }
        let more = table.backed..table.limit.min(2 * table.backed);
        if self.memory.back(self.plan, more.clone()).is_err() {
            // The system has no more memory: the slots that have some must do.
            table.limit = table.backed;
            return false;
        }
        table.backed = more.end;
        table.free.extend(more.rev());
        true
    }

    /// Publishes work in a slot that is free: in the slot itself, by its block in the arena, or as a
    /// rendezvous.
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
                    None if argument.len() <= EAGER_LIMIT => {
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
            RemoteWork::Items(item_batch) if is_plain => {
                let (call, count) = (item_batch.call, item_batch.len());
                let bytes = &item_batch.bytes;
                match queue.publish_items(slot, SlotKind::Items, call, bytes, count) {
                    SlotPublish::Full => Err(RemoteWork::Items(item_batch)),
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

    /// Publishes a rendezvous: the worker that claims it asks for the work over its connection.
    ///
    /// # Errors
    /// The work, where the ring is full.
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

    /// Removes from a slot what no worker has begun, into `taken`, and has workers not begin the rest.
    fn take_back(&self, table: &mut SlotTable, slot: usize, taken: &mut Vec<Box<dyn Withdrawn>>) {
        let Some(slot_entry) = &mut table.records[slot] else {
            return;
        };
        if let Published::Rendezvous(requests) = &mut slot_entry.work {
            // A worker that asks for it just now is told that there is nothing.
            let all = requests.take_all().into_iter();
            taken.extend(all.map(|request| Box::new(request) as _));
        }
        if self.queue.cancel(slot_entry.place) == Transition::TooLate {
            return self.queue.stop(slot_entry.place);
        }
        match self.remove(table, slot).map(|slot_entry| slot_entry.work) {
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
            // ORDERING: Relaxed; the count tells the driver, sooner or later, that it is not needed.
            self.helped.fetch_add(1, Ordering::Relaxed);
        }
        let (mut arrivals, mut collected, mut is_any_corrupt) = (Vec::new(), 0, false);
        let mut table = self.lock();
        self.queue.take_done(|slot| {
            collected += 1;
            match self.take_outcome(&mut table, slot) {
                Taken::Arrived(completion) if completion.is_over() => {}
                Taken::Arrived(completion) => arrivals.push(completion),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        });
        drop(table);
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
        let mut table = self.lock();
        if table.item_batches == 0 {
            return false;
        }
        for slot in 0..table.records.len() {
            match self.take_early(&mut table, slot) {
                Taken::Arrived(completion) => arrivals.push(completion),
                Taken::Nothing => {}
                Taken::Corrupt => is_any_corrupt = true,
            }
        }
        drop(table);
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
        // ORDERING: Relaxed, all; a thread that changes them calls the driver afterwards.
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

    /// Also collects outcomes that no thread has collected, and has the caller look again as long as work is
    /// published. Pairs with `put_in`: either this thread sees the work, or the publisher sees that no thread
    /// will look, and calls the driver. The lock of the table orders the two.
    fn reclaim(&self) -> Option<Instant> {
        self.collect(CollectedBy::Ours);
        let mut table = self.lock();
        table.is_watched = table.free.len() < table.backed;
        let is_watched = table.is_watched;
        drop(table);
        let look_again = is_watched.then(|| Instant::now().checked_add(LOOK_AGAIN));
        let reclaim_again = self.arena.as_ref().and_then(|arena| arena.reclaim());
        look_again.flatten().into_iter().chain(reclaim_again).min()
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

/// The slot entry of a task that was published, which keeps the lease of its argument, if it has one.
///
/// # Errors
/// The task, where the ring was full.
#[inline]
fn note_published(
    published: SlotPublish,
    reply: DynPromise<dyn RemoteTask>,
    argument: Option<Lease>,
) -> Result<(SlotRef, Published), RemoteWork> {
    let SlotPublish::Published(place) = published else {
        return Err(RemoteWork::One(reply));
    };
    let extra = argument.map(|lease| {
        Box::new(Extra {
            _argument: Some(lease),
            out_of_band: None,
        })
    });
    let task = Published::Task {
        id: reply.id(),
        reply,
        extra,
    };
    Ok((place, task))
}

/// Returns a function that calls the driver of an in-flight table, as long as that exists.
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
        if put == Put::CallDriver {
            self.driver.call();
        }
        Ok(())
    }

    fn refill(&self, backlog: &Backlog<RemoteWork>) {
        let mut table = self.lock();
        let mut any = Put::Done;
        while self.make_room(&mut table) {
            let Some(work) = backlog.pop() else {
                table.has_any_listeners = false;
                break;
            };
            match self.put_in(&mut table, work) {
                Ok(Put::Done) => {}
                Ok(Put::CallDriver) => any = Put::CallDriver,
                Err(work) => {
                    backlog.put_back(work);
                    break;
                }
            }
        }
        drop(table);
        if any == Put::CallDriver {
            self.driver.call();
        }
    }

    fn announce(&self) {
        self.queue.wake_one();
    }

    fn occupied(&self) -> usize {
        let table = self.lock();
        table.backed - table.free.len()
    }

    fn is_behind(&self) -> bool {
        // ORDERING: Relaxed; a hint, or ordered by the backlog's lock.
        self.is_behind.load(Ordering::Relaxed)
    }

    fn set_behind(&self, is_behind: bool) {
        // ORDERING: Relaxed; written under the worker pool's lock, and the driver is told below.
        let was = self.is_behind.swap(is_behind, Ordering::Relaxed);
        if is_behind && !was {
            self.driver.call();
        }
    }

    fn load(&self) -> QueueLoad {
        let table = self.lock();
        let mut load = QueueLoad {
            counts: table.counts,
            ..QueueLoad::default()
        };
        for (slot, slot_entry) in table.records.iter().enumerate() {
            let Some(slot_entry) = slot_entry else {
                continue;
            };
            let runner = self.queue.runner(slot_entry.place);
            let is_running = self.queue.is_running(slot_entry.place);
            // A suspect slot counts as ready: its task may have to run once the audit has repaired the slot.
            let is_ready = self.queue.is_ready(slot_entry.place)
                || (!is_running && table.suspects.contains_key(&slot));
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
        let mut table = self.lock();
        // ORDERING: Relaxed; read and written under the slot table's lock.
        self.is_cleared.store(true, Ordering::Relaxed);
        let mut taken = Vec::new();
        for slot in 0..table.records.len() {
            self.take_back(&mut table, slot, &mut taken);
        }
        taken
    }

    fn recall(&self, id: FutureId) -> Unqueue {
        let mut table = self.lock();
        let Some((slot, slot_entry)) = table.find(id) else {
            return Unqueue::NotHere;
        };
        let place = slot_entry.place;
        match &mut slot_entry.work {
            Published::Task { .. } => {
                if self.queue.cancel(place) == Transition::TooLate {
                    return Unqueue::Started;
                }
                let slot_entry = self.remove(&mut table, slot);
                Unqueue::Removed(Box::new(slot_entry.map(|slot_entry| slot_entry.work)))
            }
            // Items of a map are cancelled only all together (`abandon`).
            Published::Items { .. } => Unqueue::Started,
            Published::Rendezvous(requests) => {
                let request = requests.take(id);
                // That was the last task of the rendezvous: unless its worker is asking for it, no worker
                // needs to.
                if requests.is_empty() && self.queue.cancel(place) == Transition::Taken {
                    let _ = self.remove(&mut table, slot);
                }
                Unqueue::Removed(Box::new(request))
            }
        }
    }

    fn abandon(&self, first: FutureId, last: FutureId) -> Vec<Box<dyn Withdrawn>> {
        let mut table = self.lock();
        let mut taken = Vec::new();
        for slot in 0..table.records.len() {
            let slot_entry = table.records[slot].as_ref();
            if slot_entry.is_some_and(|slot_entry| slot_entry.is_one_of(first, last)) {
                self.take_back(&mut table, slot, &mut taken);
            }
        }
        taken
    }

    fn close(&self) {
        // ORDERING: Relaxed; workers learn of it through the queue.
        let was_closing = self.is_closing.swap(true, Ordering::Relaxed);
        self.queue.close();
        if !was_closing {
            // The driver's audits kill workers that do not leave.
            self.driver.call();
        }
    }

    fn reopen(&self) {
        // ORDERING: Relaxed; workers learn of it through the queue.
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
