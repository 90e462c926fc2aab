//! What lies where in the memory that the program and its workers share.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use crate::core_hint::CoreHint;
use crate::process::board::bed::Bed;
use crate::process::sys;
use crate::sync::{AtomicU32, AtomicU64};

/// The memory of a board, as the algorithm sees it: the seam at which models put memory of their
/// own.
pub(crate) trait Memory {
    fn header(&self) -> &Header;
    /// Slot numbers, in the order in which tasks begin.
    fn ring(&self) -> &[AtomicU32];
    fn slots(&self) -> &[Slot];
    /// A bit a slot: it is done, and was not collected.
    fn done(&self) -> &[AtomicU64];
    /// A bit a worker: it sleeps.
    fn asleep(&self) -> &[AtomicU64];
    fn beds(&self) -> &[Line<Bed>];
    /// Copies bytes into a slot, from that offset on; no further than [`INLINE`].
    fn write(&self, slot: usize, offset: usize, bytes: &[u8]);
    /// Copies so many bytes out of a slot; at most [`INLINE`].
    fn read(&self, slot: usize, size: usize, into: &mut Vec<u8>);
}

/// Bytes of an argument or result that a slot has room for.
pub(crate) const INLINE: usize = 2048;

/// Something in a cache line of its own.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Line<T>(pub(crate) T);

/// What there is one of.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Header {
    /// Where on the ring the next task is claimed.
    pub(crate) head: Line<AtomicU64>,
    /// Where on the ring the next task is published.
    pub(crate) tail: Line<AtomicU64>,
    /// The worker that looks for tasks before it sleeps, by index + 1; 0: none.
    pub(crate) searcher: Line<AtomicU32>,
    /// Not 0: whoever finds no task leaves.
    pub(crate) closing: AtomicU32,
    /// Where the one who collects sleeps.
    pub(crate) collector: Line<Collector>,
    /// On which somebody looks for outcomes; none: nobody does.
    pub(crate) watched_from: Line<CoreHint>,
    /// On which a task was submitted last.
    pub(crate) submitted_from: Line<CoreHint>,
}

/// Where the one who collects sleeps.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Collector {
    /// Not 0: it is about to sleep, or does.
    pub(crate) asleep: AtomicU32,
    /// Its bed.
    pub(crate) bed: Bed,
}

/// One task, in a cache line; its bytes lie elsewhere.
#[derive(Default)]
#[repr(C, align(64))]
pub(crate) struct Slot {
    /// Where the task stands: see `State`.
    pub(crate) state: AtomicU64,
    /// What the bytes are: see `Form`.
    pub(crate) form: AtomicU32,
    /// How many bytes there are.
    pub(crate) size: AtomicU32,
    /// The call, as three numbers.
    pub(crate) call: [AtomicU64; 3],
    /// How many items there are, where the bytes are those of several.
    pub(crate) items: AtomicU32,
    /// Twice the items that are done, and 1 if another has begun.
    pub(crate) progress: AtomicU32,
    /// Bytes of the results of those that are done.
    pub(crate) filled: AtomicU32,
    /// Not 0: no item is to begin any more.
    pub(crate) stop: AtomicU32,
    /// How long the items took so far, in nanoseconds, once they are done.
    pub(crate) nanos: AtomicU64,
}

/// How large a board is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// A power of two.
    pub(crate) slots: usize,
    /// Those that may claim.
    pub(crate) workers: usize,
}

/// Places on the ring for each slot: cancelled tasks leave theirs behind, until workers pass them.
const PLACES: usize = 4;

/// The part with the slots' bytes, of the parts in a board's memory.
const BYTES: usize = 6;

/// Workers above this are too many for a board.
pub(crate) const MAX_WORKERS: usize = 1024;

impl Plan {
    /// For so many workers; a board with room for a few tasks each.
    pub(crate) fn of(workers: usize) -> Option<Self> {
        let slots = (4 * workers).next_power_of_two().max(256);
        (workers <= MAX_WORKERS).then_some(Self { slots, workers })
    }

    /// As a welcome tells it; `None`: there is no board.
    pub(crate) fn of_numbers((slots, workers): (u32, u32)) -> Option<Self> {
        let (slots, workers) = (slots as usize, workers as usize);
        (slots > 0).then_some(Self { slots, workers })
    }

    /// Where the parts begin, and where the last one ends.
    fn offsets(self) -> [usize; 7] {
        let words = |bits: usize| bits.div_ceil(64) * 8;
        let sizes = [
            size_of::<Header>(),
            words(self.slots),
            words(self.workers),
            self.workers * size_of::<Line<Bed>>(),
            self.slots * PLACES * size_of::<AtomicU32>(),
            self.slots * size_of::<Slot>(),
            self.slots * INLINE,
        ];
        let mut end = 0;
        sizes.map(|size| {
            let start = end;
            end = (end + size).next_multiple_of(64);
            start
        })
    }

    fn size(self) -> usize {
        self.offsets()[BYTES] + self.slots * INLINE
    }

    /// How many slots have memory for their bytes from the start: a new pool need not wait for that of
    /// all.
    pub(crate) fn first_slots(self) -> usize {
        let few = (2 * self.workers).next_power_of_two().max(32);
        few.min(self.slots)
    }
}

/// The descriptor by which workers map a board, until the pool has ended.
#[derive(Debug)]
pub(crate) struct Handle(
    /// `None` once closed.
    Mutex<Option<OwnedFd>>,
);

impl Handle {
    pub(crate) fn new(memory: OwnedFd) -> Self {
        Self(Mutex::new(Some(memory)))
    }

    /// A copy, for a worker that starts.
    pub(crate) fn copy(&self) -> io::Result<OwnedFd> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(memory) => memory.try_clone(),
            None => Err(io::Error::other("the pool has ended")),
        }
    }

    /// Has memory there for the bytes of these slots.
    pub(crate) fn back(&self, plan: Plan, slots: Range<usize>) -> io::Result<()> {
        let from = plan.offsets()[BYTES] + slots.start * INLINE;
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(memory) => sys::allocate_part(memory.as_fd(), from as u64, slots.len() * INLINE),
            None => Err(io::Error::other("the pool has ended")),
        }
    }

    /// No worker starts any more.
    pub(crate) fn close(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// A board's memory, mapped; unmapped when dropped.
pub(crate) struct Mapped {
    /// The first byte, aligned to a page.
    base: NonNull<u8>,
    /// What lies where.
    plan: Plan,
    /// Where the parts begin.
    offsets: [usize; 7],
}

// SAFETY: the memory is not tied to a thread; it is reached as atomics, and by raw copies.
unsafe impl Send for Mapped {}

// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// Fresh memory, all zero, which no worker can make shorter, and the descriptor by which they
    /// map it. The bytes of all but the first slots are to be backed before they are used.
    pub(crate) fn create(plan: Plan) -> io::Result<(Self, OwnedFd)> {
        let memory = sys::shared_file(c"concurrent-futures board")?;
        let first = plan.offsets()[BYTES] + plan.first_slots() * INLINE;
        sys::set_size(memory.as_fd(), plan.size())?;
        sys::allocate_part(memory.as_fd(), 0, first)?;
        sys::seal_size(memory.as_fd())?;
        Ok((Self::map(memory.as_fd(), plan)?, memory))
    }

    /// The same memory, in a worker. Copies that are forked without exec do not have it.
    pub(crate) fn map(memory: BorrowedFd<'_>, plan: Plan) -> io::Result<Self> {
        let base = sys::map_shared(memory, plan.size())?;
        sys::keep_from_forks(base, plan.size());
        let offsets = plan.offsets();
        Ok(Self {
            base,
            plan,
            offsets,
        })
    }

    /// The array of that part.
    ///
    /// # Safety
    /// `T` is an atomic, or a structure of them, and that part holds `count` of it.
    unsafe fn part<T>(&self, part: usize, count: usize) -> &[T] {
        // SAFETY: the offset is inside the mapping.
        let place = unsafe { self.base.add(self.offsets[part]) };
        // SAFETY: the part is aligned to a cache line, lies inside the mapping, which lives as long
        // as `self`, and zero, like any other bytes, is valid for atomics.
        unsafe { std::slice::from_raw_parts(place.cast::<T>().as_ptr(), count) }
    }

    /// A slot's bytes from that offset on.
    fn bytes(&self, slot: usize, offset: usize) -> *mut u8 {
        assert!(slot < self.plan.slots && offset <= INLINE);
        let offset = self.offsets[BYTES] + slot * INLINE + offset;
        // SAFETY: the slot is one of the plan's, the offset at most at its end.
        let place = unsafe { self.base.add(offset) };
        place.as_ptr()
    }
}

impl Memory for Mapped {
    fn header(&self) -> &Header {
        // SAFETY: the mapping begins with the header, aligned to a page; all bytes are valid.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    fn done(&self) -> &[AtomicU64] {
        // SAFETY: the second part.
        unsafe { self.part(1, self.plan.slots.div_ceil(64)) }
    }

    fn asleep(&self) -> &[AtomicU64] {
        // SAFETY: the third part.
        unsafe { self.part(2, self.plan.workers.div_ceil(64)) }
    }

    fn beds(&self) -> &[Line<Bed>] {
        // SAFETY: the fourth part.
        unsafe { self.part(3, self.plan.workers) }
    }

    fn ring(&self) -> &[AtomicU32] {
        // SAFETY: the fifth part.
        unsafe { self.part(4, self.plan.slots * PLACES) }
    }

    fn slots(&self) -> &[Slot] {
        // SAFETY: the sixth part.
        unsafe { self.part(5, self.plan.slots) }
    }

    fn write(&self, slot: usize, offset: usize, bytes: &[u8]) {
        assert!(offset <= INLINE && bytes.len() <= INLINE - offset);
        let place = self.bytes(slot, offset);
        // SAFETY: the slot has room for so many; no reference to shared bytes ever exists.
        unsafe { copy(bytes, place) };
    }

    fn read(&self, slot: usize, size: usize, into: &mut Vec<u8>) {
        assert!(size <= INLINE);
        let place = self.bytes(slot, 0);
        into.clear();
        into.reserve(size);
        // SAFETY: the slot holds so many, and the vector has room; the bytes may change meanwhile,
        // by a worker that misbehaves: then the copy is any bytes, as it may be anyway.
        unsafe { std::ptr::copy_nonoverlapping(place, into.as_mut_ptr(), size) };
        // SAFETY: so many were written.
        unsafe { into.set_len(size) };
    }
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

impl Drop for Mapped {
    fn drop(&mut self) {
        sys::unmap(self.base, self.plan.size());
    }
}
