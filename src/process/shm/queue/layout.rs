//! Layout of the memory that the program and its workers share for the queue, and which of them writes what.
//!
//! | part | the program | a worker | another worker |
//! |---|---|---|---|
//! | [`Control`], sleepers, states | writes | writes | writes |
//! | [`Bulletin`], ring, [`Publication`], arguments | writes | reads | reads |
//! | [`WorkerWords`], [`SlotOutcome`]s, results: a part per worker | reads | writes its own | cannot see it |
//!
//! So a stray write of a worker reaches only the few control words, all of which can be rebuilt from the
//! rest, and that worker's own outcomes, which have checksums.

use std::io;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, OnceLock};

use crate::idle::core_hint::CoreHint;
use crate::process::shm::event_count::EventCount;
use crate::remote::lease::EAGER_LIMIT;
use crate::sync::{AtomicU32, AtomicU64, Ordering, lock};
use crate::sys;
use crate::sys::handle::OwnedHandle;
use crate::sys::shared_memory::{Access, Mapping, SharedFile};

/// The queue's memory, as the algorithm sees it. Models implement this trait to provide memory of their own.
pub(crate) trait Memory {
    fn control(&self) -> &Control;
    fn bulletin(&self) -> &Bulletin;
    /// Slot indices, in the order in which tasks begin.
    fn ring(&self) -> &[AtomicU32];
    /// The state of each slot: see `SlotState`.
    fn states(&self) -> &[CachePadded<AtomicU64>];
    fn published(&self) -> &[Publication];
    /// One bit per slot: its task is done, and was not collected yet.
    fn done(&self) -> &[AtomicU64];
    /// One bit per worker: it sleeps.
    fn asleep(&self) -> &[AtomicU64];
    fn event_counts(&self) -> &[CachePadded<EventCount>];
    /// A worker's words. `None`: there is no such worker, or this process has not mapped its part.
    fn worker_words(&self, worker: usize) -> Option<&WorkerWords>;
    /// The worker's outcome for each slot. `None`: as in `worker_words`.
    fn outcomes(&self, worker: usize) -> Option<&[SlotOutcome]>;
    /// Copies an argument of at most [`EAGER_LIMIT`] bytes into a slot. Only the program calls it.
    fn write_argument(&self, slot: usize, bytes: &[u8]);
    /// Copies the `size` bytes of an argument, at most [`EAGER_LIMIT`], out of a slot.
    fn read_argument(&self, slot: usize, size: usize, into: &mut Vec<u8>);
    /// The outcome for a slot, to be written by the worker, which must be this process; `None`: the system
    /// has no memory for it.
    fn own_outcome(&self, worker: usize, slot: usize) -> Option<&SlotOutcome>;
    /// Whether the worker, which must be this process, has memory in a slot for a result of more than [`FEW`]
    /// bytes.
    fn has_room(&self, worker: usize, slot: usize) -> bool;
    /// Copies a result into a slot of the worker, which must be this process, from the given offset on; its
    /// end is at most at [`EAGER_LIMIT`].
    fn write_result(&self, worker: usize, slot: usize, offset: usize, bytes: &[u8]);
    /// Copies the `size` bytes of a worker's result, at most [`EAGER_LIMIT`], out of a slot.
    fn read_result(&self, worker: usize, slot: usize, size: usize, into: &mut Vec<u8>);
}

/// A value in a cache line of its own.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct CachePadded<T>(pub(crate) T);

/// The control words of which the queue has one each. All processes write them.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Control {
    /// The position on the ring at which the next task is claimed.
    pub(crate) head: CachePadded<AtomicU64>,
    /// The searcher: the worker that looks for tasks before it sleeps. Its index + 1; 0: none.
    pub(crate) searcher: CachePadded<AtomicU32>,
    /// Where the collector sleeps.
    pub(crate) collector: CachePadded<Collector>,
}

/// Where the collector sleeps: the program's thread that collects outcomes.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Collector {
    /// Not 0: the collector sleeps, or is about to sleep.
    pub(crate) asleep: AtomicU64,
    /// What the collector sleeps on.
    pub(crate) event_count: EventCount,
}

/// What the program announces to all workers.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Bulletin {
    /// The position on the ring at which the next task is published.
    pub(crate) tail: CachePadded<AtomicU64>,
    /// Not 0: a worker that finds no task leaves.
    pub(crate) closing: CachePadded<AtomicU32>,
    /// The core on which a thread of the program looks for outcomes; none: no thread does.
    pub(crate) waiter_core: CachePadded<CoreHint>,
    /// The core on which a task was submitted last.
    pub(crate) submitter_core: CachePadded<CoreHint>,
}

/// A published task, in one cache line, as the program writes it.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Publication {
    /// The slot reference, as a number. It is written first, so that a reader that finds the same number
    /// again after it has read the rest knows that the rest belongs to it.
    pub(crate) place: AtomicU64,
    /// Kind, size and number of items: see `Head`.
    pub(crate) head: AtomicU64,
    /// The function reference, as three numbers.
    pub(crate) call: [AtomicU64; 3],
    /// The checksum of the fields above, and of `words` if the argument lies there.
    pub(crate) check: AtomicU64,
    /// An argument of up to 16 bytes. For items: the first word is not 0 if no further item may begin.
    pub(crate) words: [AtomicU64; 2],
}

/// The worker words: what a worker says about itself. Only that worker writes them.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct WorkerWords {
    /// The slot reference of the last claim, or that there is none; masked.
    pub(crate) current: AtomicU64,
}

/// A worker's outcome for a slot, in one cache line.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct SlotOutcome {
    /// The slot reference, as a number, masked; or the number that says that the worker has ended nothing in
    /// this slot so far, which the worker writes as it arrives.
    pub(crate) place: AtomicU64,
    /// Kind, size and number of items: see `Head`.
    pub(crate) head: AtomicU64,
    /// The checksum of `place`, `head`, `nanos` (for items), and the result (except for items).
    pub(crate) check: AtomicU64,
    /// For items: see `BatchProgress`.
    pub(crate) progress: AtomicU64,
    /// For items: the time that they took, in nanoseconds, once they are done.
    pub(crate) nanos: AtomicU64,
    /// A result of up to 16 bytes. For items: the checksum of the results of an even number of items, and
    /// that of an odd number.
    pub(crate) words: [AtomicU64; 2],
}

/// Arguments and results of at most this number of bytes lie in the words of a cache line.
pub(crate) const FEW: usize = 16;

/// The size of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueGeometry {
    /// Number of slots, a power of two.
    pub(crate) slots: usize,
    /// Number of workers that may claim tasks.
    pub(crate) workers: usize,
}

/// Ring entries per slot. Cancelled tasks leave their entries behind until workers pass them.
const PLACES: usize = 4;

/// The largest number of workers that a queue supports.
pub(crate) const MAX_WORKERS: usize = 1024;

/// Offsets of the arrays in a part, counted from the part's beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Offsets<const N: usize> {
    /// Start of each array, a multiple of a cache line.
    starts: [usize; N],
    /// End of the part.
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

    /// Bytes of the part in the file, in whole pages.
    fn size(self) -> u64 {
        self.end.next_multiple_of(sys::memory::page_size()) as u64
    }
}

impl QueueGeometry {
    /// The geometry for the given number of workers, with slots for a few tasks per worker; `None`: there are
    /// too many workers.
    pub(crate) fn of(workers: usize) -> Option<Self> {
        if workers > MAX_WORKERS {
            return None;
        }
        let slots = (4 * workers).next_power_of_two().max(256);
        Some(Self { slots, workers })
    }

    /// Decodes the numbers of a welcome message; `None`: there is no queue.
    pub(crate) fn of_numbers((slots, workers): (u32, u32)) -> Option<Self> {
        let (slots, workers) = (slots as usize, workers as usize);
        (slots > 0).then_some(Self { slots, workers })
    }

    /// Control words, done bits, sleepers' bits, event counts, states.
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
            self.slots * EAGER_LIMIT,
        ])
    }

    /// Worker words, outcomes, results.
    fn results(self) -> Offsets<3> {
        Offsets::of([
            size_of::<WorkerWords>(),
            self.slots * size_of::<SlotOutcome>(),
            self.slots * EAGER_LIMIT,
        ])
    }

    fn start_of_publications(self) -> u64 {
        self.control().size()
    }

    fn start_of_results(self, worker: usize) -> u64 {
        let first = self.start_of_publications() + self.publications().size();
        first + worker as u64 * self.results().size()
    }

    /// Where the argument of a slot begins in the file.
    fn start_of_argument(self, slot: usize) -> u64 {
        let [.., arguments] = self.publications().starts;
        self.start_of_publications() + (arguments + slot * EAGER_LIMIT) as u64
    }

    /// The number of slots that have memory for their bytes from the start. It is not all of them, so that a
    /// new pool need not wait for that memory.
    pub(crate) fn first_slots(self) -> usize {
        let few = (2 * self.workers).next_power_of_two().max(32);
        few.min(self.slots)
    }
}

/// The file by which workers map the queue's memory, until the pool has ended.
#[derive(Debug)]
pub(crate) struct QueueFile(
    /// `None` once closed.
    Mutex<Option<SharedFile>>,
);

impl QueueFile {
    fn new(memory: SharedFile) -> Self {
        Self(Mutex::new(Some(memory)))
    }

    /// A copy of the descriptor, for a worker that is being started.
    pub(crate) fn copy(&self) -> io::Result<OwnedHandle> {
        self.with(SharedFile::descriptor)
    }

    /// Allocates the memory for the arguments of these slots.
    pub(crate) fn back(&self, geometry: QueueGeometry, slots: Range<usize>) -> io::Result<()> {
        let from = geometry.start_of_argument(slots.start);
        self.with(|memory| memory.allocate(from, slots.len() * EAGER_LIMIT))
    }

    fn with<T>(&self, f: impl FnOnce(&SharedFile) -> io::Result<T>) -> io::Result<T> {
        match &*lock(&self.0) {
            Some(memory) => f(memory),
            None => Err(io::Error::other("the pool has ended")),
        }
    }

    /// Closes the file: no worker can be started any more.
    pub(crate) fn close(&self) {
        *lock(&self.0) = None;
    }
}

/// The queue's memory, mapped; unmapped when dropped.
pub(crate) struct MappedQueue {
    /// The geometry, which determines the layout.
    geometry: QueueGeometry,
    /// The part that all processes write.
    control: Part<5>,
    /// The part that only the program writes.
    publications: Part<4>,
    /// The parts that workers write: in the program, those of all workers that it has started so far; in a
    /// worker, its own.
    results: Box<[OnceLock<Part<3>>]>,
    /// In a worker: the number of its slots that have memory for outcomes.
    backed_outcomes: AtomicUsize,
    /// In a worker: the number of its slots that have memory for results.
    backed_results: AtomicUsize,
}

/// A mapped part of the queue's memory.
struct Part<const N: usize> {
    /// The mapping.
    memory: Mapping,
    /// Where its arrays begin.
    offsets: Offsets<N>,
}

impl MappedQueue {
    /// Creates the memory, all zero, and the file by which workers map it. Arguments of slots after the first
    /// few must be backed by [`QueueFile::back`] before use; each worker allocates the memory of its own
    /// part.
    pub(crate) fn create(geometry: QueueGeometry) -> io::Result<(Self, QueueFile)> {
        let size = geometry.start_of_results(geometry.workers);
        let file = SharedFile::create(c"concurrent-futures board", size, geometry.control().end)?;
        let [.., arguments] = geometry.publications().starts;
        let first = arguments + geometry.first_slots() * EAGER_LIMIT;
        file.allocate(geometry.start_of_publications(), first)?;
        let publications = (geometry.start_of_publications(), geometry.publications());
        let memory = Self {
            geometry,
            control: Part::map(&file, (0, geometry.control()), Access::ReadWrite)?,
            publications: Part::map(&file, publications, Access::ReadWrite)?,
            results: (0..geometry.workers).map(|_| OnceLock::new()).collect(),
            backed_outcomes: AtomicUsize::new(0),
            backed_results: AtomicUsize::new(0),
        };
        Ok((memory, QueueFile::new(file)))
    }

    /// Maps the same memory in the worker of that index.
    pub(crate) fn map(
        memory: OwnedHandle,
        geometry: QueueGeometry,
        worker: usize,
    ) -> io::Result<Self> {
        let file = SharedFile::received(memory);
        let publications = (geometry.start_of_publications(), geometry.publications());
        let results = (geometry.start_of_results(worker), geometry.results());
        let own = Part::map(&file, results, Access::ReadWrite)?;
        let mut results: Box<[_]> = (0..geometry.workers).map(|_| OnceLock::new()).collect();
        let place = results.get_mut(worker).ok_or(io::ErrorKind::InvalidData)?;
        *place = OnceLock::from(own);
        Ok(Self {
            geometry,
            control: Part::map(&file, (0, geometry.control()), Access::ReadWrite)?,
            publications: Part::map(&file, publications, Access::ReadOnly)?,
            results,
            backed_outcomes: AtomicUsize::new(0),
            backed_results: AtomicUsize::new(0),
        })
    }

    /// Maps the part that a worker writes, read-only, into the program; to be called before the worker writes
    /// there.
    ///
    /// # Errors
    /// The system cannot map it, or there is no such worker.
    pub(crate) fn see(&self, handle: &QueueFile, worker: usize) -> io::Result<()> {
        let place = self.results.get(worker).ok_or(io::ErrorKind::NotFound)?;
        if place.get().is_none() {
            let results = (
                self.geometry.start_of_results(worker),
                self.geometry.results(),
            );
            let part = handle.with(|file| Part::map(file, results, Access::ReadOnly))?;
            // If another thread was first, this thread's mapping is dropped.
            let _ = place.set(part);
        }
        Ok(())
    }

    /// Allocates memory, at least up to this slot, for an array in the part of `worker`, which must be this
    /// process. `None`: the system has no memory.
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
        let wanted = wanted
            .max(self.geometry.first_slots())
            .min(self.geometry.slots);
        let start = part.offsets.starts[array];
        part.populate(start, wanted * bytes).ok()?;
        // ORDERING: Relaxed; as in `own_outcome`, a worker has one thread here.
        backed.store(wanted, Ordering::Relaxed);
        Some(())
    }

    #[inline]
    fn results(&self, worker: usize) -> Option<&Part<3>> {
        self.results.get(worker)?.get()
    }

    /// The bytes of a slot. `array` is the number of the array in `part` that holds them.
    fn bytes<const N: usize>(&self, part: &Part<N>, array: usize, slot: usize) -> NonNull<u8> {
        assert!(slot < self.geometry.slots);
        let offset = part.offsets.starts[array] + slot * EAGER_LIMIT;
        // SAFETY: the slot is one of the geometry's, so the offset is inside the mapping.
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
    /// `T` is an atomic, or a structure of atomics, and the array holds `count` of it.
    unsafe fn array<T>(&self, number: usize, count: usize) -> &[T] {
        // SAFETY: the offset is inside the mapping.
        let place = unsafe { self.memory.place().add(self.offsets.starts[number]) };
        // SAFETY: the array is aligned to a cache line, and lies inside the mapping, which lives as long as
        // `self`. Zero, like any other bytes, is valid for atomics. Where the mapping is read-only, users
        // only load.
        unsafe { std::slice::from_raw_parts(place.cast::<T>().as_ptr(), count) }
    }

    /// Populates the given number of bytes with memory, from the given offset on.
    fn populate(&self, from: usize, bytes: usize) -> io::Result<()> {
        let page = sys::memory::page_size();
        let (start, end) = (from / page * page, (from + bytes).next_multiple_of(page));
        let end = end.min(self.offsets.end.next_multiple_of(page));
        match self.memory.populate_to_write(start, end - start) {
            // Then each page is allocated when it is first touched.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            outcome => outcome,
        }
    }
}

impl Memory for MappedQueue {
    #[inline]
    fn control(&self) -> &Control {
        // SAFETY: the part begins with the control words; any bytes are valid for them.
        unsafe { self.control.memory.place().cast().as_ref() }
    }

    #[inline]
    fn done(&self) -> &[AtomicU64] {
        // SAFETY: the second array holds the done bits, one per slot.
        unsafe { self.control.array(1, self.geometry.slots.div_ceil(64)) }
    }

    fn asleep(&self) -> &[AtomicU64] {
        // SAFETY: the third array holds the sleepers' bits, one per worker.
        unsafe { self.control.array(2, self.geometry.workers.div_ceil(64)) }
    }

    fn event_counts(&self) -> &[CachePadded<EventCount>] {
        // SAFETY: the fourth array holds the event counts, one per worker.
        unsafe { self.control.array(3, self.geometry.workers) }
    }

    #[inline]
    fn states(&self) -> &[CachePadded<AtomicU64>] {
        // SAFETY: the fifth array holds the states, one per slot.
        unsafe { self.control.array(4, self.geometry.slots) }
    }

    #[inline]
    fn bulletin(&self) -> &Bulletin {
        // SAFETY: the part begins with the bulletin; any bytes are valid for it.
        unsafe { self.publications.memory.place().cast().as_ref() }
    }

    #[inline]
    fn ring(&self) -> &[AtomicU32] {
        // SAFETY: the second array is the ring, with `PLACES` entries per slot.
        unsafe { self.publications.array(1, self.geometry.slots * PLACES) }
    }

    #[inline]
    fn published(&self) -> &[Publication] {
        // SAFETY: the third array holds the publications, one per slot.
        unsafe { self.publications.array(2, self.geometry.slots) }
    }

    #[inline]
    fn worker_words(&self, worker: usize) -> Option<&WorkerWords> {
        let part = self.results(worker)?;
        // SAFETY: the part begins with the worker words; any bytes are valid for them.
        Some(unsafe { part.memory.place().cast().as_ref() })
    }

    #[inline]
    fn outcomes(&self, worker: usize) -> Option<&[SlotOutcome]> {
        let part = self.results(worker)?;
        // SAFETY: the second array holds the outcomes, one per slot.
        Some(unsafe { part.array(1, self.geometry.slots) })
    }

    fn write_argument(&self, slot: usize, bytes: &[u8]) {
        assert!(bytes.len() <= EAGER_LIMIT);
        let place = self.bytes(&self.publications, 3, slot);
        // SAFETY: the slot has room for that number of bytes; no reference to shared bytes ever exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place.as_ptr(), bytes.len()) };
    }

    fn read_argument(&self, slot: usize, size: usize, into: &mut Vec<u8>) {
        assert!(size <= EAGER_LIMIT);
        let place = self.bytes(&self.publications, 3, slot);
        // SAFETY: the slot holds that number of bytes.
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
        // ORDERING: Relaxed; as in `own_outcome`.
        slot < self.backed_results.load(Ordering::Relaxed)
            || self
                .back(worker, slot, 2, EAGER_LIMIT, &self.backed_results)
                .is_some()
    }

    #[inline]
    fn write_result(&self, worker: usize, slot: usize, offset: usize, bytes: &[u8]) {
        assert!(offset <= EAGER_LIMIT && bytes.len() <= EAGER_LIMIT - offset);
        let Some(part) = self.results(worker) else {
            unreachable!("a worker has its own part")
        };
        // SAFETY: the slot has room up to that offset.
        let place = unsafe { self.bytes(part, 2, slot).add(offset) };
        // SAFETY: the slot has room for that number of bytes behind the offset; no reference to shared bytes
        // ever exists.
        unsafe { copy(bytes, place.as_ptr()) };
    }

    fn read_result(&self, worker: usize, slot: usize, size: usize, into: &mut Vec<u8>) {
        assert!(size <= EAGER_LIMIT);
        let Some(part) = self.results(worker) else {
            return into.clear();
        };
        // SAFETY: the slot holds that number of bytes.
        unsafe { copy_out(self.bytes(part, 2, slot), size, into) };
    }
}

/// Copies `size` bytes from shared memory into a vector, in place of its content.
///
/// # Safety
/// There are `size` bytes. They may change meanwhile if a worker misbehaves: then the copy holds arbitrary
/// bytes, as it may in any case.
unsafe fn copy_out(place: NonNull<u8>, size: usize, into: &mut Vec<u8>) {
    into.clear();
    into.reserve(size);
    // SAFETY: the caller promises that there are `size` bytes to read; the vector has room for them.
    unsafe { std::ptr::copy_nonoverlapping(place.as_ptr(), into.as_mut_ptr(), size) };
    // SAFETY: `size` bytes were written.
    unsafe { into.set_len(size) };
}

/// Copies bytes; 8 to 16 of them as two words, since a call would take as long as everything else that
/// is done for a number.
///
/// # Safety
/// There is room for that number of bytes at `to`, which does not overlap `bytes`.
#[inline]
unsafe fn copy(bytes: &[u8], to: *mut u8) {
    match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => {
            // SAFETY: `to` has room for the first eight bytes.
            unsafe { to.cast::<[u8; 8]>().write(*first) };
            // SAFETY: there are at least eight bytes.
            let behind = unsafe { to.add(bytes.len() - 8) };
            // SAFETY: these are the last eight bytes, some of which may be among the first eight.
            unsafe { behind.cast::<[u8; 8]>().write(*last) };
        }
        // SAFETY: the caller's promise.
        _ => unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) },
    }
}
