//! The results of one chunk of a map: one piece of memory for all its items. It is written by the threads
//! that run the items or receive their outcomes, and read by the map.
//!
//! An item's outcome arrives alone (from a thread, over a connection, at a worker's death), or together with
//! those of its neighbours as one run of encoded results (from the shared-memory queue), which the map's
//! reader decodes.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::time::Duration;

use crate::error::{Error, PanicInfo};
use crate::future::deadlock::{self, Awaited};
use crate::future::id::FutureId;
use crate::future::pool_handle::{Drive, PoolHandle, Waiter};
use crate::future::pool_registry::{AtomicPoolId, PoolId};
use crate::future::promise::{Expire, Verdict};
use crate::future::state::{Outcome, WatchKey, Watcher};
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::length_delimited::LengthDelimited;
use crate::shared::attachments::Attachments;
use crate::sync::deadline::Deadline;
use crate::sync::{Condvar, Mutex, MutexGuard, lock, sleep_until, spin_then_yield, unpoisoned};
use crate::task::bit_set::BitSet;
use crate::task::item_timing::ItemTiming;
use crate::task::request::Delivered;
use crate::task_info::TaskInfo;
use crate::unwind::{self, Panic, discard};

/// The outcomes of one chunk of a map, as they arrive.
pub(crate) struct ChunkResults<R> {
    /// The id of the first item; those of the others follow.
    first: FutureId,
    /// The number of items.
    len: usize,
    /// What errors say about each item.
    info: TaskInfo,
    /// How results of other processes are decoded; `None` if none can arrive.
    decode: Option<Decode<R>>,
    /// Times and sizes that the map learns from its items.
    timing: Arc<ItemTiming>,
    /// The pool that accepted the chunk.
    pool_handle: AtomicPoolId,
    /// Whether no thread will read the outcomes of items that have not begun: they need not begin.
    is_abandoned: AtomicBool,
    /// Called whenever outcomes have arrived; empty unless a thread waits for several chunks, or an async task
    /// for any.
    listener: OnceLock<Listener>,
    /// The outcomes that have arrived.
    outcomes: Mutex<Outcomes<R>>,
    /// Notified when outcomes have arrived.
    change: Condvar,
}

/// How results are decoded.
pub(crate) struct Decode<R> {
    /// Decodes one result.
    pub(crate) one: fn(Source<'_>) -> Result<R, Error>,
    /// Decodes several results, and appends them to those that are there. If one panics, that ends the call,
    /// and this result is missing.
    pub(crate) all: DecodeAll<R>,
}

impl<R> Clone for Decode<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Decode<R> {}

/// Decodes several results, and appends them.
pub(crate) type DecodeAll<R> = fn(&mut LengthDelimited<'_>, &mut Vec<Result<R, Error>>);

/// Called whenever outcomes have arrived. A function of this crate, never a user's. Returns the async task that
/// is to be woken, if one waits.
pub(crate) type Listener = Box<dyn Fn() -> Option<Waker> + Send + Sync>;

/// What the lock of [`ChunkResults`] guards.
struct Outcomes<R> {
    /// The items that have an outcome, taken or not, or are about to have one. Outcomes come from processes
    /// that may malfunction: none is stored unless its index was inserted here before.
    settled: BitSet,
    /// The outcomes that arrived alone and were not taken, by index; empty until the first arrives.
    alone: Vec<Option<Arrival<R>>>,
    /// The outcomes that arrived together and were not taken.
    runs: Vec<EncodedRun>,
    /// The results that were decoded on arrival, since some were last taken: the number of bytes that they
    /// were encoded in.
    opened: u64,
    /// What to call when an item's outcome has arrived: the key that removes the watcher, the item's index,
    /// the watcher.
    watchers: Vec<(WatchKey, usize, Watcher)>,
    /// The number of threads that sleep until outcomes arrive.
    sleepers: usize,
    /// The shared memory that arguments name; results may name it again.
    given: Attachments,
}

/// An outcome that arrived alone.
enum Arrival<R> {
    /// The outcome itself: a decoded result, or an error.
    Outcome(Outcome<R>),
    /// An encoded result.
    Encoded(Encoded),
}

/// Outcomes that were taken out of a chunk's results.
pub(crate) struct TakenResults<T> {
    /// The outcomes, decoded.
    pub(crate) outcomes: Vec<T>,
    /// The number of bytes that they were encoded in, all together.
    pub(crate) bytes: u64,
}

/// Encoded results of consecutive items, each with a two-byte length prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedRun {
    /// The index of the first item.
    pub(crate) first: usize,
    /// The number of items.
    pub(crate) count: usize,
    /// The encoded results, each with a two-byte length prefix.
    pub(crate) bytes: Vec<u8>,
}

/// A [`ChunkResults`] with its type erased, as seen by the code that runs its items in other processes.
pub(crate) trait ResultSink: Send + Sync {
    /// The id of an item.
    fn id(&self, index: usize) -> FutureId;
    fn info(&self) -> TaskInfo;
    fn timing(&self) -> &Arc<ItemTiming>;
    /// Keeps the shared memory that an argument names, until all results are read.
    fn keep(&self, named: &Attachments);
    /// Whether items that have not begun need not begin.
    fn is_abandoned(&self) -> bool;
    /// Whether a listener must be called as soon as outcomes have arrived.
    fn has_listeners(&self) -> bool;
    /// Stores results that have arrived. Results of items that have an outcome, or do not exist, are dropped.
    fn arrive(&self, run: EncodedRun);
    /// Stores an item's result that has arrived alone; the reader decodes it. It is dropped if the item has
    /// an outcome, or does not exist.
    fn arrive_alone(&self, index: usize, value: Encoded, settled: &mut dyn FnMut(Verdict));
    /// Decodes an item's result that has arrived alone, on this thread, and stores it. It is dropped if the
    /// item has an outcome, or does not exist.
    fn deliver(&self, index: usize, value: Source<'_>, settled: &mut Delivered<'_>);
    /// Stores an error as an item's outcome: the item has no result.
    fn fail(&self, index: usize, error: Error, settled: &mut dyn FnMut(Verdict));
}

/// Big results are taken out together only up to about this number of bytes: taken out, they are in memory
/// until they are read.
const TOGETHER: u64 = 1 << 20;

impl<R> ChunkResults<R> {
    /// The results, to come, of `len` items, which get consecutive new ids.
    pub(crate) fn new(
        len: usize,
        info: TaskInfo,
        decode: Option<Decode<R>>,
        timing: &Arc<ItemTiming>,
        listener: Option<Listener>,
    ) -> Arc<Self> {
        Arc::new(Self {
            first: FutureId::first_of(len),
            len,
            info,
            decode,
            timing: Arc::clone(timing),
            pool_handle: AtomicPoolId::default(),
            is_abandoned: AtomicBool::new(false),
            listener: listener.map_or_else(OnceLock::new, OnceLock::from),
            outcomes: Mutex::new(Outcomes {
                settled: BitSet::new(len),
                alone: Vec::new(),
                runs: Vec::new(),
                opened: 0,
                watchers: Vec::new(),
                sleepers: 0,
                given: Attachments::default(),
            }),
            change: Condvar::new(),
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn timing(&self) -> &ItemTiming {
        &self.timing
    }

    /// The id of an item.
    pub(crate) fn id(&self, index: usize) -> FutureId {
        self.first.plus(index)
    }

    /// The index of the item with this id; `None` if it is no item of this chunk.
    pub(crate) fn index_of(&self, id: FutureId) -> Option<usize> {
        id.since(self.first).filter(|index| *index < self.len)
    }

    /// Sets the pool that has accepted the chunk.
    pub(crate) fn attach(&self, pool: PoolId) {
        // A chunk that is forwarded from one pool to another keeps its first pool.
        self.pool_handle.set(pool);
    }

    fn pool_handle(&self) -> Option<Arc<dyn PoolHandle>> {
        self.pool_handle.pool()
    }

    // ---- the reader --------------------------------------------------------------------------

    /// Blocks until the item has an outcome or the deadline has passed. Returns whether it has one.
    pub(crate) fn wait(&self, index: usize, deadline: Deadline) -> bool {
        if self.has(index) {
            return true;
        }
        let looked_at = deadline.is_never() && deadlock::is_worker();
        let _waiting = looked_at.then(|| deadlock::wait_for(vec![self.awaited(index)]));
        let wait = WaitingForItem {
            chunk_results: self,
            index,
        };
        let helped = self
            .pool_handle()
            .map(|pool_handle| pool_handle.drive_until(&wait, deadline));
        if helped != Some(Drive::Recheck) {
            spin_then_yield(|| self.has(index));
        }
        let mut outcomes = self.lock();
        while !outcomes.have(index) {
            if deadline.has_passed() {
                return false;
            }
            outcomes = self.sleep(outcomes, deadline);
        }
        true
    }

    /// Runs the items here that are queued, if this thread is a worker of the pool that they are queued in.
    pub(crate) fn run_if_queued(&self) {
        if let (true, Some(pool_handle)) = (deadlock::is_worker(), self.pool_handle()) {
            pool_handle.run_queued(self.id(0), self.id(self.len.saturating_sub(1)));
        }
    }

    /// Whether the item has an outcome. If it has none here, outcomes that wait to be collected are collected
    /// first.
    pub(crate) fn look(&self, index: usize) -> bool {
        if self.has(index) {
            return true;
        }
        if let Some(pool_handle) = self.pool_handle() {
            pool_handle.poll_completions();
        }
        self.has(index)
    }

    /// Has `listener` called from now on whenever outcomes have arrived, unless there is one already.
    #[cfg(feature = "stream")]
    pub(crate) fn listen(&self, listener: Listener) {
        // Set before the pool is asked: a part of the chunk that the pool does not find there asks itself, as it
        // is published.
        let _ = self.listener.set(listener);
        if let Some(pool_handle) = self.pool_handle() {
            pool_handle.notify_on_arrival(self.id(0), self.id(self.len.saturating_sub(1)));
        }
    }

    /// Takes out what has arrived from item `index` on, without a gap, and decodes it on this thread.
    pub(crate) fn take_from(&self, index: usize) -> TakenResults<Outcome<R>> {
        let mut outcomes = self.lock();
        if let Some(at) = outcomes.runs.iter().position(|run| run.first == index) {
            let run = outcomes.runs.swap_remove(at);
            drop(outcomes);
            return TakenResults {
                outcomes: self.open_run(&run),
                bytes: run.size(),
            };
        }
        let places = outcomes.alone.iter_mut().skip(index);
        let mut letters = 0;
        let taken = places.map_while(|place| {
            let arrivals = (letters < TOGETHER).then(|| place.take())??;
            letters += arrivals.size();
            Some(arrivals)
        });
        let taken: Vec<_> = taken.collect();
        let bytes = letters + outcomes.take_opened(taken.len());
        drop(outcomes);
        let outcomes = taken
            .into_iter()
            .map(|arrivals| self.open(arrivals))
            .collect();
        TakenResults { outcomes, bytes }
    }

    /// Takes out all that has arrived and was not taken, with the items' indexes, and decodes it on this
    /// thread.
    pub(crate) fn take_all(&self) -> TakenResults<(usize, Outcome<R>)> {
        let mut outcomes = self.lock();
        let places = outcomes.alone.iter_mut().enumerate();
        let alone: Vec<_> = places
            .filter_map(|(index, place)| Some((index, place.take()?)))
            .collect();
        let runs = std::mem::take(&mut outcomes.runs);
        let opened = outcomes.take_opened(alone.len());
        drop(outcomes);
        let bytes = opened
            + alone
                .iter()
                .map(|(_, arrivals)| arrivals.size())
                .sum::<u64>()
            + runs.iter().map(EncodedRun::size).sum::<u64>();
        let alone = alone.into_iter();
        let mut outcomes: Vec<_> = alone
            .map(|(index, arrivals)| (index, self.open(arrivals)))
            .collect();
        for run in runs {
            outcomes.extend((run.first..).zip(self.open_run(&run)));
        }
        TakenResults { outcomes, bytes }
    }

    /// Decodes a run, on this thread.
    fn open_run(&self, run: &EncodedRun) -> Vec<Outcome<R>> {
        let Some(decode) = self.decode else {
            unreachable!("only portable chunks reach other processes")
        };
        let mut values = run.values();
        let mut outcomes = Vec::with_capacity(run.count);
        while outcomes.len() < run.count {
            let decoded = unwind::catch(|| (decode.all)(&mut values, &mut outcomes));
            match decoded {
                Ok(()) => break,
                Err(panic) => outcomes.push(Err(self.panicked(panic))),
            }
        }
        // The program has counted a value for each item of the run, so each must have an outcome.
        outcomes.resize_with(run.count, || Err(missing()));
        for error in outcomes.iter_mut().filter_map(|it| it.as_mut().err()) {
            error.name_task(|| self.info.clone());
            if let Some(pool_handle) = self.pool_handle() {
                pool_handle.on_decode_failed();
            }
        }
        outcomes
    }

    /// The outcome that arrived alone, decoded on this thread.
    fn open(&self, arrivals: Arrival<R>) -> Outcome<R> {
        match arrivals {
            Arrival::Outcome(outcome) => outcome,
            Arrival::Encoded(value) => self.read_value(Source::Owned(value)),
        }
    }

    /// Decodes what was counted as a value; if that fails, tells the pool.
    fn read_value(&self, value: Source<'_>) -> Outcome<R> {
        let mut outcome = self.decode(value);
        if let Err(error) = &mut outcome {
            error.name_task(|| self.info.clone());
            if let Some(pool_handle) = self.pool_handle() {
                pool_handle.on_decode_failed();
            }
        }
        outcome
    }

    fn decode(&self, value: Source<'_>) -> Outcome<R> {
        let Some(decode) = self.decode else {
            unreachable!("only portable chunks reach other processes")
        };
        unwind::catch(|| (decode.one)(value)).unwrap_or_else(|panic| Err(self.panicked(panic)))
    }

    fn panicked(&self, panic: Panic) -> Error {
        Error::Panicked(PanicInfo::new(panic, Some(self.info.clone()), None))
    }

    /// Notes that no thread will read the outcomes of items that have not begun: they need not begin.
    pub(crate) fn abandon(&self) {
        // ORDERING: Relaxed; a worker that sees it late has begun one more item meanwhile. The pool finds the
        // items that wait in queues, below.
        self.is_abandoned.store(true, Ordering::Relaxed);
        if let Some(pool_handle) = self.pool_handle() {
            pool_handle.cancel_range(self.id(0), self.id(self.len.saturating_sub(1)));
        }
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        // ORDERING: Relaxed; as in `abandon`.
        self.is_abandoned.load(Ordering::Relaxed)
    }

    /// What a worker that waits for this item depends on, for the detection of deadlocks.
    pub(crate) fn awaited(&self, index: usize) -> Awaited {
        Awaited::Task(self.pool_handle(), self.id(index))
    }

    fn has(&self, index: usize) -> bool {
        self.lock().have(index)
    }

    // ---- the writer --------------------------------------------------------------------------

    /// Stores an item's outcome, unless the item has one or does not exist. `before` runs just before any
    /// other thread sees the outcome, and receives how it counts.
    pub(crate) fn settle(&self, index: usize, outcome: Outcome<R>, before: impl FnOnce(Verdict)) {
        self.settle_quietly(index, outcome, |verdict, error| {
            if verdict != Verdict::Late {
                if let Some(pool_handle) = self.pool_handle.observed_pool() {
                    pool_handle.on_settled(self.id(index), error);
                }
            }
            before(verdict);
        });
    }

    /// Stores an item's outcome, as [`settle`](Self::settle) does, and does not tell the pool: the thread that has
    /// run the item reports to its worker, or the item's time is over.
    pub(crate) fn settle_quietly(
        &self,
        index: usize,
        mut outcome: Outcome<R>,
        before: impl FnOnce(Verdict, Option<&Error>),
    ) {
        if !self.claim(index) {
            before(Verdict::Late, None);
            return discard(outcome);
        }
        if let Err(error) = &mut outcome {
            error.name_task(|| self.info.clone());
        }
        before(Verdict::of(&outcome), outcome.as_ref().err());
        self.lay_down(index, Arrival::Outcome(outcome));
    }

    /// Stores an encoded result that arrived alone, unless the item has an outcome or does not exist.
    /// `before` runs just before any other thread sees the result, and receives how it counts.
    fn store_encoded(&self, index: usize, value: Encoded, before: impl FnOnce(Verdict)) {
        if !self.claim(index) {
            return before(Verdict::Late);
        }
        before(Verdict::Completed);
        self.timing.note_results(1, value.len() as u64);
        self.lay_down(index, Arrival::Encoded(value));
    }

    /// Stores the outcome of an item that this thread has claimed.
    fn lay_down(&self, index: usize, arrivals: Arrival<R>) {
        let mut outcomes = self.lock();
        if outcomes.alone.is_empty() {
            outcomes.alone.resize_with(self.len, || None);
        }
        if let Some(place) = outcomes.alone.get_mut(index) {
            *place = Some(arrivals);
        }
        self.notify(outcomes);
    }

    /// Claims an item: no other thread can store an outcome of it any more. `false`: another thread does or
    /// did, or there is no such item.
    fn claim(&self, index: usize) -> bool {
        let indices = index..index.saturating_add(1);
        self.lock().settled.insert(indices)
    }

    /// Stores those results of a run that belong to items without an outcome.
    #[cold]
    fn pick_from(&self, run: &EncodedRun) {
        let mut values = run.values();
        for index in run.first..run.range().end.min(self.len) {
            match values.next() {
                Some(value) => self.store_encoded(index, Encoded::copy(value), |_| ()),
                None => self.settle(index, Err(missing()), |_| ()),
            }
        }
    }

    /// Wakes the threads that wait, calls the watchers of what has arrived, then the listener. Releases the
    /// lock first.
    fn notify(&self, mut outcomes: MutexGuard<'_, Outcomes<R>>) {
        let watchers = outcomes.take_watchers();
        let any_sleeps = outcomes.sleepers > 0;
        drop(outcomes);
        if any_sleeps {
            self.change.notify_all();
        }
        for watcher in watchers {
            watcher();
        }
        if let Some(waker) = self.listener.get().and_then(|listener| listener()) {
            self.wake(waker);
        }
    }

    /// Wakes an async task. The calling thread may be one that only waits for another outcome.
    fn wake(&self, waker: Waker) {
        match self.pool_handle() {
            Some(pool_handle) => pool_handle.wake(waker),
            None => unwind::call(|| waker.wake()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outcomes<R>> {
        lock(&self.outcomes)
    }

    fn sleep<'a>(
        &self,
        mut outcomes: MutexGuard<'a, Outcomes<R>>,
        deadline: Deadline,
    ) -> MutexGuard<'a, Outcomes<R>> {
        outcomes.sleepers += 1;
        let mut outcomes = sleep_until(&self.change, outcomes, deadline);
        outcomes.sleepers -= 1;
        outcomes
    }
}

impl<R: Send> ResultSink for ChunkResults<R> {
    fn id(&self, index: usize) -> FutureId {
        Self::id(self, index)
    }

    fn info(&self) -> TaskInfo {
        self.info.clone()
    }

    fn timing(&self) -> &Arc<ItemTiming> {
        &self.timing
    }

    fn keep(&self, named: &Attachments) {
        self.lock().given.join(named);
    }

    fn is_abandoned(&self) -> bool {
        Self::is_abandoned(self)
    }

    fn has_listeners(&self) -> bool {
        self.listener.get().is_some()
    }

    fn arrive(&self, run: EncodedRun) {
        let mut outcomes = self.lock();
        if outcomes.settled.insert(run.range()) {
            self.timing.note_results(run.count, run.size());
            outcomes.runs.push(run);
            return self.notify(outcomes);
        }
        drop(outcomes);
        self.pick_from(&run);
    }

    fn arrive_alone(&self, index: usize, value: Encoded, settled: &mut dyn FnMut(Verdict)) {
        self.store_encoded(index, value, settled);
    }

    fn deliver(&self, index: usize, value: Source<'_>, settled: &mut Delivered<'_>) {
        let bytes = value.len() as u64;
        let outcome = self.decode(value);
        self.settle_quietly(index, outcome, |verdict, error| {
            if verdict != Verdict::Late {
                self.timing.note_results(1, bytes);
                self.lock().opened += bytes;
            }
            settled(verdict, error);
        });
    }

    fn fail(&self, index: usize, error: Error, settled: &mut dyn FnMut(Verdict)) {
        self.settle(index, Err(error), settled);
    }
}

impl<R> Drop for ChunkResults<R> {
    fn drop(&mut self) {
        let outcomes = unpoisoned(self.outcomes.get_mut());
        for place in outcomes.alone.drain(..) {
            if let Some(Arrival::Outcome(outcome)) = place {
                discard(outcome);
            }
        }
    }
}

impl<R> Outcomes<R> {
    fn have(&self, index: usize) -> bool {
        matches!(self.alone.get(index), Some(Some(_)))
            || self.runs.iter().any(|run| run.range().contains(&index))
    }

    /// The number of bytes that count as read when `taken` outcomes that arrived alone are taken: all of
    /// `opened`, or 0 if `taken` is 0.
    fn take_opened(&mut self, taken: usize) -> u64 {
        match taken {
            0 => 0,
            _ => std::mem::take(&mut self.opened),
        }
    }

    /// Takes out the watchers of items that have an outcome.
    fn take_watchers(&mut self) -> Vec<Watcher> {
        let mut taken = Vec::new();
        let mut at = 0;
        while let Some(&(_, index, _)) = self.watchers.get(at) {
            if self.have(index) {
                taken.push(self.watchers.swap_remove(at).2);
            } else {
                at += 1;
            }
        }
        taken
    }
}

impl<R> Arrival<R> {
    /// The number of bytes that the result is encoded in; 0 if it is not encoded any more.
    fn size(&self) -> u64 {
        match self {
            Self::Outcome(_) => 0,
            Self::Encoded(value) => value.len() as u64,
        }
    }
}

impl EncodedRun {
    /// The number of bytes that the results are encoded in, length prefixes included.
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The indexes of the items.
    pub(crate) fn range(&self) -> Range<usize> {
        self.first..self.first.saturating_add(self.count)
    }

    /// The encoded results, up to the first with a wrong length.
    fn values(&self) -> LengthDelimited<'_> {
        LengthDelimited::new(&self.bytes)
    }
}

/// The error of an item that has no result, although its worker says that it has one.
fn missing() -> Error {
    Error::Decode("the worker's report on the items is garbled".into())
}

/// A wait for the outcome of one item.
struct WaitingForItem<'a, R> {
    /// The results of the item's chunk.
    chunk_results: &'a ChunkResults<R>,
    /// The item's index in its chunk.
    index: usize,
}

impl<R> Waiter for WaitingForItem<'_, R> {
    fn is_over(&self) -> bool {
        self.chunk_results.has(self.index)
    }

    fn watch(&self, key: WatchKey, watcher: Watcher) -> bool {
        let mut outcomes = self.chunk_results.lock();
        let is_open = !outcomes.have(self.index);
        if is_open {
            outcomes.watchers.push((key, self.index, watcher));
        }
        is_open
    }

    fn unwatch(&self, key: WatchKey) {
        let mut outcomes = self.chunk_results.lock();
        outcomes.watchers.retain(|(other, ..)| *other != key);
    }
}

/// One item with a time limit, for the timer.
pub(crate) struct Expiring<R> {
    /// The results of the item's chunk.
    pub(crate) chunk_results: Arc<ChunkResults<R>>,
    /// The item's index in its chunk.
    pub(crate) index: usize,
}

impl<R: Send> Expire for Expiring<R> {
    fn expire(&self, limit: Duration) {
        let limit = limit.into();
        let error = Error::TaskTimeout { limit };
        self.chunk_results
            .settle_quietly(self.index, Err(error), |verdict, _| {
                if let (Verdict::Failed, Some(pool_handle)) =
                    (verdict, self.chunk_results.pool_handle())
                {
                    pool_handle.on_timeout(self.chunk_results.id(self.index));
                }
            });
    }
}

#[cfg(test)]
mod tests;
