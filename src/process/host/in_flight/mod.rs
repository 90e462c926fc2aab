//! The in-flight table: the program's side of the shared-memory queue ("the queue"). It knows which task lies
//! in which slot, and takes outcomes from there to the futures and maps they belong to.
//!
//! The pool calls it as its `PullQueue`, waiters through the [`CompletionDriver`], and supervisors for what
//! their workers say over connections and for what lost workers leave behind. It relies on [`ShmQueue`] for
//! every step in shared memory, and on [`Arena`] for big arguments and results. The parts: `table` (what is
//! known of each slot), `publication` (work on its way into slots), `outcomes` (on their way back), `batches`
//! (items of maps), `recovery` (lost workers), `audit` (stray writes); and two seams, `pull_queue` and
//! `completion_source`.

mod audit;
mod batches;
mod completion_source;
mod outcomes;
mod publication;
mod pull_queue;
mod recovery;
mod table;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::Waker;

use crate::executor::counts::Counts;
use crate::future::id::FutureId;
use crate::pool::WorkerPool;
use crate::process::host::callback_thread::CallbackThread;
use crate::process::host::driver::CompletionDriver;
use crate::process::shm::arena::Arena;
use crate::process::shm::checksum::Key;
use crate::process::shm::queue::layout::{MappedQueue, QueueFile, QueueGeometry};
use crate::process::shm::queue::{Current, ShmQueue, SlotRef};
use crate::shared::invalidation::{self, InvalidationListener};
use crate::sync::lock;
use crate::sys;
use crate::transport::work::RemoteWork;

pub(crate) use recovery::Orphan;

use audit::AuditSchedule;
use table::{Presence, Published, SlotEntry, SlotTable, WorkerRecord};

/// The program's side of the queue: all published work, and what is needed to collect its outcomes.
pub(crate) struct InFlight {
    /// The shared-memory queue, as mapped in the program.
    queue: ShmQueue,
    /// The file by which workers map the queue.
    memory: Arc<QueueFile>,
    /// The number of slots and workers, from which the layout follows.
    geometry: QueueGeometry,
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
    audit_schedule: AuditSchedule,
    /// The worker pool, which is asked for more work when there is room. Set once.
    worker_pool: OnceLock<Weak<WorkerPool<RemoteWork>>>,
    /// Kills the process of the worker of that index. Set once.
    killer: OnceLock<Box<dyn Fn(usize) + Send + Sync>>,
    /// Collects outcomes that no thread waits for.
    driver: CompletionDriver<InFlight>,
    /// Runs callbacks, wakes wakers and drops user values where the collecting thread must not.
    callbacks: CallbackThread,
}

impl InFlight {
    /// Makes a queue for `workers` workers, with results of at most `payload_limit` bytes. `None` where there
    /// can be no queue: for that number of workers, or because the system refuses the memory.
    pub(crate) fn new(workers: usize, payload_limit: u64) -> Option<Arc<Self>> {
        let geometry = QueueGeometry::of(workers)?;
        let (memory, handle) = MappedQueue::create(geometry).ok()?;
        let key = Key::fresh();
        let table = SlotTable {
            records: (0..geometry.slots).map(|_| None).collect(),
            free: (0..geometry.first_slots()).rev().collect(),
            backed: geometry.first_slots(),
            limit: geometry.slots,
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
            geometry,
            key,
            arena: arena.inspect(|arena| arena.when_warmed(call_driver(me.clone()))),
            table: Mutex::new(table),
            is_behind: AtomicBool::new(false),
            listening: AtomicUsize::new(0),
            helped: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
            is_cleared: AtomicBool::new(false),
            audit_schedule: AuditSchedule::new(),
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
        (Arc::clone(&self.memory), self.geometry, self.key.clone())
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

    /// Notes that items of a map, with ids `first..=last`, have a listener that must learn of their outcomes at
    /// once, and calls the driver. Of those that are on their way here `put_in` asks their results.
    #[cfg(feature = "stream")]
    pub(crate) fn notify_on_arrival(&self, first: FutureId, last: FutureId) {
        let mut table = self.lock();
        let mut count = 0;
        for slot_entry in table.records.iter_mut().flatten() {
            let is_batch = matches!(slot_entry.work, Published::Items { .. });
            if is_batch && !slot_entry.has_listeners && slot_entry.is_one_of(first, last) {
                slot_entry.has_listeners = true;
                count += 1;
            }
        }
        // ORDERING: Relaxed; the driver is woken below.
        self.listening.fetch_add(count, Ordering::Relaxed);
        drop(table);
        if count > 0 {
            self.driver.call();
        }
    }

    /// Wakes an async task on the callback thread.
    pub(crate) fn wake(&self, waker: Waker) {
        self.callbacks.wake(waker);
    }

    /// Counts a task as failed that was counted as completed: its value cannot be decoded.
    pub(crate) fn on_decode_failed(&self) {
        // The table has counted no value only if the worker pool, which counted it, is gone; then nothing
        // reads the counts any more.
        let _ = self.lock().counts.count_value_as_failed();
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
        self.note_presence(worker, Presence::OverConnection);
        self.fetch_more();
        slot_entry.into_requests()
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

    fn lock(&self) -> MutexGuard<'_, SlotTable> {
        lock(&self.table)
    }
}

impl InvalidationListener for InFlight {
    fn ring(&self) {
        self.queue.wake_all();
    }
}

/// Returns a function that calls the driver of an in-flight table, as long as that exists.
fn call_driver(in_flight: Weak<InFlight>) -> impl Fn() + Send + Sync + 'static {
    move || {
        if let Some(in_flight) = in_flight.upgrade() {
            in_flight.driver.call();
        }
    }
}

#[cfg(test)]
mod tests;
