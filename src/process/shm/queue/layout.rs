//! What lies where in the memory that the program and its workers share, and which of them writes it.
//!
//! | part | the program | a worker | another worker |
//! |---|---|---|---|
//! | [`Control`], sleepers, states | writes | writes | writes |
//! | [`Bulletin`], ring, [`Publication`], arguments | writes | reads | reads |
//! | [`WorkerWords`], [`SlotOutcome`]s, results: one part a worker | reads | writes its own | has not mapped it |
//!
//! So a stray write of a worker reaches the few control words, all of which can be made anew from the rest,
//! and outcomes of its own, which have checksums.

use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::idle::core_hint::CoreHint;
use crate::process::shm::event_count::EventCount;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::sys;
use crate::sys::shared_memory::{Access, Mapping, SharedFile};

/// The memory of a board, as the algorithm sees it: the seam at which models put memory of their
/// own.
pub(crate) trait Memory {
    fn control(&self) -> &Control;
    fn bulletin(&self) -> &Bulletin;
    /// Slot numbers, in the order in which tasks begin.
    fn ring(&self) -> &[AtomicU32];
    /// Where the task of each slot stands: see `State`.
    fn states(&self) -> &[CachePadded<AtomicU64>];
    fn published(&self) -> &[Publication];
    /// A bit a slot: it is done, and was not collected.
    fn done(&self) -> &[AtomicU64];
    /// A bit a worker: it sleeps.
    fn asleep(&self) -> &[AtomicU64];
    fn event_counts(&self) -> &[CachePadded<EventCount>];
    /// `None`: there is no such worker, or this process does not see its part.
    fn worker_words(&self, worker: usize) -> Option<&WorkerWords>;
    /// What the worker has done with each slot; `None` as of `worker_words`.
    fn outcomes(&self, worker: usize) -> Option<&[SlotOutcome]>;
    /// Copies an argument into a slot; at most [`INLINE`] bytes. The program does.
    fn write_argument(&self, slot: usize, bytes: &[u8]);
    /// Copies so many bytes of an argument out of a slot; at most [`INLINE`].
    fn read_argument(&self, slot: usize, size: usize, into: &mut Vec<u8>);
    /// Where the worker, which this process is, says what it has done with a slot; `None`: the system has no
    /// memory for that.
    fn own_outcome(&self, worker: usize, slot: usize) -> Option<&SlotOutcome>;
    /// Whether the worker, which this process is, has memory for a result in a slot that is more than a few
    /// bytes.
    fn has_room(&self, worker: usize, slot: usize) -> bool;
    /// Copies a result into a slot of the worker, which this process is, from that offset on; no further
    /// than [`INLINE`].
    fn write_result(&self, worker: usize, slot: usize, offset: usize, bytes: &[u8]);
    /// Copies so many bytes of a worker's result out of a slot; at most [`INLINE`].
    fn read_result(&self, worker: usize, slot: usize, size: usize, into: &mut Vec<u8>);
}

/// Bytes of an argument or result that a slot has room for.
pub(crate) const INLINE: usize = 2048;

/// Something in a cache line of its own.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct CachePadded<T>(pub(crate) T);

/// The control words of which there is one each. All processes write them.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Control {
    /// Where on the ring the next task is claimed.
    pub(crate) head: CachePadded<AtomicU64>,
    /// The worker that looks for tasks before it sleeps, by index + 1; 0: none.
    pub(crate) searcher: CachePadded<AtomicU32>,
    /// Where the one who collects sleeps.
    pub(crate) collector: CachePadded<Collector>,
}

/// Where the collector sleeps.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Collector {
    /// Not 0: it is about to sleep, or does.
    pub(crate) asleep: AtomicU64,
    /// Its bed.
    pub(crate) event_count: EventCount,
}

/// What the program tells all workers.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Bulletin {
    /// Where on the ring the next task is published.
    pub(crate) tail: CachePadded<AtomicU64>,
    /// Not 0: a worker that finds no task leaves.
    pub(crate) closing: CachePadded<AtomicU32>,
    /// The core on which a thread looks for outcomes; none: no thread does.
    pub(crate) waiter_core: CachePadded<CoreHint>,
    /// The core on which a task was submitted last.
    pub(crate) submitter_core: CachePadded<CoreHint>,
}

/// A task, in a cache line, as the program publishes it.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Publication {
    /// The slot and the position on the ring, as a number: written first, so that a reader that finds
    /// the same one after it has read the rest knows that this belongs to it.
    pub(crate) place: AtomicU64,
    /// Form, size and number of items: see `Head`.
    pub(crate) head: AtomicU64,
    /// The call, as three numbers.
    pub(crate) call: [AtomicU64; 3],
    /// The checksum of the above, and of `words` where the argument lies there.
    pub(crate) check: AtomicU64,
    /// An argument of up to 16 bytes. Of items: the first is not 0 if no item is to begin any more.
    pub(crate) words: [AtomicU64; 2],
}

/// What a worker says of itself.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct WorkerWords {
    /// The place that it has claimed last, or that it has none; masked.
    pub(crate) current: AtomicU64,
}

/// What a worker has done with a slot, in a cache line.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct SlotOutcome {
    /// The slot and the position on the ring, as a number, masked; or a number that says that there was none so
    /// far, which a worker writes as it comes.
    pub(crate) place: AtomicU64,
    /// Form, size and number of items: see `Head`.
    pub(crate) head: AtomicU64,
    /// The checksum of place, head, `nanos`, and the result, but for items.
    pub(crate) check: AtomicU64,
    /// Of items: see `Progress`.
    pub(crate) progress: AtomicU64,
    /// Of items: how long they took, in nanoseconds, once they are done.
    pub(crate) nanos: AtomicU64,
    /// A result of up to 16 bytes. Of items: the checksums of the results of an even, and of an odd
    /// number of items.
    pub(crate) words: [AtomicU64; 2],
}

/// Bytes that go into the words of a line.
pub(crate) const FEW: usize = 16;

/// How large a board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueGeometry {
    /// A power of two.
    pub(crate) slots: usize,
    /// Those that may claim.
    pub(crate) workers: usize,
}

/// Places on the ring for each slot: cancelled tasks leave theirs behind, until workers pass them.
const PLACES: usize = 4;

/// Workers above this are too many for a board.
pub(crate) const MAX_WORKERS: usize = 1024;

/// Where the arrays of a part begin, counted from the part's own begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offsets<const N: usize> {
    /// Each a multiple of a cache line.
    starts: [usize; N],
    /// Where the part ends.
    end: usize,
}

impl<const N: usize> Offsets<N> {
    fn of(sizes: [usize; N]) -> Self {
        let mut end = 0;
        let starts = sizes.map(|size| {
            let start = end;
            end = (end + size).next_multiple_of(64);
            start
        });
        Self { starts, end }
    }

    /// Bytes of the part in the file: whole pages.
    fn size(self) -> u64 {
        self.end.next_multiple_of(sys::page_size()) as u64
    }
}

impl QueueGeometry {
    /// For so many workers; a board with room for a few tasks each.
    pub(crate) fn of(workers: usize) -> Option<Self> {
        if workers > MAX_WORKERS {
            return None;
        }
        let slots = (4 * workers).next_power_of_two().max(256);
        Some(Self { slots, workers })
    }

    /// As a welcome tells it; `None`: there is no board.
    pub(crate) fn of_numbers((slots, workers): (u32, u32)) -> Option<Self> {
        let (slots, workers) = (slots as usize, workers as usize);
        (slots > 0).then_some(Self { slots, workers })
    }

    /// Control, done bits, sleepers' bits, beds, states.
    fn control(self) -> Offsets<5> {
        let words = |bits: usize| bits.div_ceil(64) * 8;
        Offsets::of([
            size_of::<Control>(),
            words(self.slots),
            words(self.workers),
            self.workers * size_of::<CachePadded<EventCount>>(),
            self.slots * size_of::<CachePadded<AtomicU64>>(),
        ])
    }

    /// Bulletin, ring, published tasks, arguments.
    fn publications(self) -> Offsets<4> {
        Offsets::of([
            size_of::<Bulletin>(),
            self.slots * PLACES * size_of::<AtomicU32>(),
            self.slots * size_of::<Publication>(),
            self.slots * INLINE,
        ])
    }

    /// Desk, outcomes, results.
    fn results(self) -> Offsets<3> {
        Offsets::of([
            size_of::<WorkerWords>(),
            self.slots * size_of::<SlotOutcome>(),
            self.slots * INLINE,
        ])
    }

    fn start_of_publications(self) -> u64 {
        self.control().size()
    }

    fn start_of_results(self, worker: usize) -> u64 {
        let first = self.start_of_publications() + self.publications().size();
        first + worker as u64 * self.results().size()
    }

    /// Where the arguments of slots begin in the file.
    fn start_of_argument(self, slot: usize) -> u64 {
        let [.., arguments] = self.publications().starts;
        self.start_of_publications() + (arguments + slot * INLINE) as u64
    }

    /// How many slots have memory for their bytes from the start: a new pool need not wait for that of
    /// all.
    pub(crate) fn first_slots(self) -> usize {
        let few = (2 * self.workers).next_power_of_two().max(32);
        few.min(self.slots)
    }
}

/// The file by which workers map a board, until the pool has ended.
#[derive(Debug)]
pub(crate) struct QueueFile(
    /// `None` once closed.
    Mutex<Option<SharedFile>>,
);

impl QueueFile {
    fn new(memory: SharedFile) -> Self {
        Self(Mutex::new(Some(memory)))
    }

    /// A copy of the descriptor, for a worker that starts.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        self.with(SharedFile::descriptor)
    }

    /// Has memory there for the arguments of these slots.
    pub(crate) fn back(&self, plan: QueueGeometry, slots: Range<usize>) -> io::Result<()> {
        let from = plan.start_of_argument(slots.start);
        self.with(|memory| memory.allocate(from, slots.len() * INLINE))
    }

    fn with<T>(&self, f: impl FnOnce(&SharedFile) -> io::Result<T>) -> io::Result<T> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(memory) => f(memory),
            None => Err(io::Error::other("the pool has ended")),
        }
    }

    /// No worker starts any more.
    pub(crate) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A board's memory, mapped; unmapped when dropped.
pub(crate) struct MappedQueue {
    /// What lies where.
    plan: QueueGeometry,
    /// What all processes write.
    control: Part<5>,
    /// What the program writes.
    publications: Part<4>,
    /// What workers write: in the program, the parts of those that have been there; in a worker, its own.
    results: Box<[OnceLock<Part<3>>]>,
    /// In a worker: so many of its slots have memory for what it has done with them.
    backed_outcomes: AtomicUsize,
    /// In a worker: so many of its slots have memory for results.
    backed_results: AtomicUsize,
}

/// A part of a board's memory.
struct Part<const N: usize> {
    /// It, mapped.
    memory: Mapping,
    /// Where its arrays begin.
    offsets: Offsets<N>,
}

impl MappedQueue {
    /// Fresh memory, all zero, and the file by which workers map it. The arguments of all but the first
    /// slots are to be backed before they are used; of workers' parts, each worker provides the memory
    /// itself.
    pub(crate) fn create(plan: QueueGeometry) -> io::Result<(Self, QueueFile)> {
        let size = plan.start_of_results(plan.workers);
        let file = SharedFile::create(c"concurrent-futures board", size, plan.control().end)?;
        let [.., arguments] = plan.publications().starts;
        let first = arguments + plan.first_slots() * INLINE;
        file.allocate(plan.start_of_publications(), first)?;
        let publications = (plan.start_of_publications(), plan.publications());
        let memory = Self {
            plan,
            control: Part::map(&file, (0, plan.control()), Access::ReadWrite)?,
            publications: Part::map(&file, publications, Access::ReadWrite)?,
            results: (0..plan.workers).map(|_| OnceLock::new()).collect(),
            backed_outcomes: AtomicUsize::new(0),
            backed_results: AtomicUsize::new(0),
        };
        Ok((memory, QueueFile::new(file)))
    }

    /// The same memory, in the worker of that index.
    pub(crate) fn map(memory: OwnedFd, plan: QueueGeometry, worker: usize) -> io::Result<Self> {
        let file = SharedFile::received(memory);
        let publications = (plan.start_of_publications(), plan.publications());
        let results = (plan.start_of_results(worker), plan.results());
        let own = Part::map(&file, results, Access::ReadWrite)?;
        let mut results: Box<[_]> = (0..plan.workers).map(|_| OnceLock::new()).collect();
        let place = results.get_mut(worker).ok_or(io::ErrorKind::InvalidData)?;
        *place = OnceLock::from(own);
        Ok(Self {
            plan,
            control: Part::map(&file, (0, plan.control()), Access::ReadWrite)?,
            publications: Part::map(&file, publications, Access::ReadOnly)?,
            results,
            backed_outcomes: AtomicUsize::new(0),
            backed_results: AtomicUsize::new(0),
        })
    }

    /// Has the program see the part that a worker writes, before that writes there.
    ///
    /// # Errors
    /// Of the system, which cannot map it; where there is no such worker.
    pub(crate) fn see(&self, handle: &QueueFile, worker: usize) -> io::Result<()> {
        let place = self.results.get(worker).ok_or(io::ErrorKind::NotFound)?;
        if place.get().is_none() {
            let results = (self.plan.start_of_results(worker), self.plan.results());
            let part = handle.with(|file| Part::map(file, results, Access::ReadOnly))?;
            // If another thread was first, ours is unmapped.
            let _ = place.set(part);
        }
        Ok(())
    }

    /// Has memory there, up to this slot at least, for an array of the worker's part, which this process is;
    /// `None`: the system has none.
    #[cold]
    fn back(
        &self,
        worker: usize,
        slot: usize,
        array: usize,
        bytes: usize,
        backed: &AtomicUsize,
    ) -> Option<()> {
        let part = self.results(worker)?;
        let wanted = (slot + 1).next_power_of_two();
        let wanted = wanted.max(self.plan.first_slots()).min(self.plan.slots);
        let start = part.offsets.starts[array];
        part.populate(start, wanted * bytes).ok()?;
        // ORDERING: Relaxed; as in `own_outcome`.
        backed.store(wanted, Ordering::Relaxed);
        Some(())
    }

    #[inline]
    fn results(&self, worker: usize) -> Option<&Part<3>> {
        self.results.get(worker)?.get()
    }

    /// A slot's bytes in a part of which they are the array of that number.
    fn bytes<const N: usize>(&self, part: &Part<N>, array: usize, slot: usize) -> NonNull<u8> {
        assert!(slot < self.plan.slots);
        let offset = part.offsets.starts[array] + slot * INLINE;
        // SAFETY: the slot is one of the plan's.
        unsafe { part.memory.place().add(offset) }
    }
}

impl<const N: usize> Part<N> {
    fn map(
        file: &SharedFile,
        (from, offsets): (u64, Offsets<N>),
        access: Access,
    ) -> io::Result<Self> {
        Ok(Self {
            memory: file.map(from, offsets.end, access)?,
            offsets,
        })
    }

    /// The array of that number.
    ///
    /// # Safety
    /// `T` is an atomic, or a structure of them, and that array holds `count` of it.
    unsafe fn array<T>(&self, number: usize, count: usize) -> &[T] {
        // SAFETY: the offset is inside the mapping.
        let place = unsafe { self.memory.place().add(self.offsets.starts[number]) };
        // SAFETY: the array is aligned to a cache line, lies inside the mapping, which lives as long
        // as `self`, and zero, like any other bytes, is valid for atomics. Where the mapping is for
        // reading alone, users only load.
        unsafe { std::slice::from_raw_parts(place.cast::<T>().as_ptr(), count) }
    }

    /// Has the memory of so many bytes there, from that offset on.
    fn populate(&self, from: usize, bytes: usize) -> io::Result<()> {
        let page = sys::page_size();
        let (start, end) = (from / page * page, (from + bytes).next_multiple_of(page));
        let end = end.min(self.offsets.end.next_multiple_of(page));
        // SAFETY: the offset is inside the mapping.
        let place = unsafe { self.memory.place().add(start) };
        match sys::populate_to_write(place, end - start) {
            // Then it comes as it is touched.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            outcome => outcome,
        }
    }
}

impl Memory for MappedQueue {
    #[inline]
    fn control(&self) -> &Control {
        // SAFETY: the part begins with it; all bytes are valid.
        unsafe { self.control.memory.place().cast().as_ref() }
    }

    #[inline]
    fn done(&self) -> &[AtomicU64] {
        // SAFETY: the second array.
        unsafe { self.control.array(1, self.plan.slots.div_ceil(64)) }
    }

    fn asleep(&self) -> &[AtomicU64] {
        // SAFETY: the third array.
        unsafe { self.control.array(2, self.plan.workers.div_ceil(64)) }
    }

    fn event_counts(&self) -> &[CachePadded<EventCount>] {
        // SAFETY: the fourth array.
        unsafe { self.control.array(3, self.plan.workers) }
    }

    #[inline]
    fn states(&self) -> &[CachePadded<AtomicU64>] {
        // SAFETY: the fifth array.
        unsafe { self.control.array(4, self.plan.slots) }
    }

    #[inline]
    fn bulletin(&self) -> &Bulletin {
        // SAFETY: the part begins with it; all bytes are valid.
        unsafe { self.publications.memory.place().cast().as_ref() }
    }

    #[inline]
    fn ring(&self) -> &[AtomicU32] {
        // SAFETY: the second array.
        unsafe { self.publications.array(1, self.plan.slots * PLACES) }
    }

    #[inline]
    fn published(&self) -> &[Publication] {
        // SAFETY: the third array.
        unsafe { self.publications.array(2, self.plan.slots) }
    }

    #[inline]
    fn worker_words(&self, worker: usize) -> Option<&WorkerWords> {
        let part = self.results(worker)?;
        // SAFETY: the part begins with it; all bytes are valid.
        Some(unsafe { part.memory.place().cast().as_ref() })
    }

    #[inline]
    fn outcomes(&self, worker: usize) -> Option<&[SlotOutcome]> {
        let part = self.results(worker)?;
        // SAFETY: the second array.
        Some(unsafe { part.array(1, self.plan.slots) })
    }

    fn write_argument(&self, slot: usize, bytes: &[u8]) {
        assert!(bytes.len() <= INLINE);
        let place = self.bytes(&self.publications, 3, slot);
        // SAFETY: the slot has room for so many; no reference to shared bytes ever exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
    }

    fn read_argument(&self, slot: usize, size: usize, into: &mut Vec<u8>) {
        assert!(size <= INLINE);
        let place = self.bytes(&self.publications, 3, slot);
        // SAFETY: the slot holds so many.
        unsafe { copy_out(place, size, into) };
    }

    #[inline]
    fn own_outcome(&self, worker: usize, slot: usize) -> Option<&SlotOutcome> {
        // ORDERING: Relaxed; a worker has one thread here.
        if slot >= self.backed_outcomes.load(Ordering::Relaxed) {
            self.back(
                worker,
                slot,
                1,
                size_of::<SlotOutcome>(),
                &self.backed_outcomes,
            )?;
        }
        self.outcomes(worker)?.get(slot)
    }

    #[inline]
    fn has_room(&self, worker: usize, slot: usize) -> bool {
        // ORDERING: Relaxed; as above.
        slot < self.backed_results.load(Ordering::Relaxed)
            || self
                .back(worker, slot, 2, INLINE, &self.backed_results)
                .is_some()
    }

    #[inline]
    fn write_result(&self, worker: usize, slot: usize, offset: usize, bytes: &[u8]) {
        assert!(offset <= INLINE && bytes.len() <= INLINE - offset);
        let Some(part) = self.results(worker) else {
            unreachable!("a worker has its own part")
        };
        // SAFETY: the slot has room up to there.
        let place = unsafe { self.bytes(part, 2, slot).add(offset) };
        // SAFETY: the slot has room for so many; no reference to shared bytes ever exists.
        unsafe { copy(bytes, place.as_ptr()) };
    }

    fn read_result(&self, worker: usize, slot: usize, size: usize, into: &mut Vec<u8>) {
        assert!(size <= INLINE);
        let Some(part) = self.results(worker) else {
            return into.clear();
        };
        // SAFETY: the slot holds so many.
        unsafe { copy_out(self.bytes(part, 2, slot), size, into) };
    }
}

/// Copies so many bytes to where others were.
///
/// # Safety
/// There are so many. They may change meanwhile, by a worker that misbehaves: then the copy is any bytes, as
/// it may be anyway.
unsafe fn copy_out(place: NonNull<u8>, size: usize, into: &mut Vec<u8>) {
    into.clear();
    into.reserve(size);
    // SAFETY: the caller's promise; the vector has room.
    unsafe { std::ptr::copy_nonoverlapping(place.as_ptr(), into.as_mut_ptr(), size) };
    // SAFETY: so many were written.
    unsafe { into.set_len(size) };
}

/// Copies bytes; a few as one or two words, since a call would take as long as all else that is done for a
/// number.
///
/// # Safety
/// There is room for so many, elsewhere.
#[inline]
unsafe fn copy(bytes: &[u8], to: *mut u8) {
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => {
            // SAFETY: the first eight of them.
            unsafe { to.cast::<[u8; 8]>().write(*first) };
            // SAFETY: they are at least eight.
            let behind = unsafe { to.add(bytes.len() - 8) };
            // SAFETY: the last eight, some of which may be among the first.
            unsafe { behind.cast::<[u8; 8]>().write(*last) };
        }
        // SAFETY: the caller's promise.
        _ => unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) },
    }
}
