//! The queue's memory for models and for Miri: on the heap, with threads in place of processes, one of which
//! may vanish between any two of its steps.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize as Counter, Ordering as CounterOrdering};

use super::ShmQueue;
use super::layout::{
    Bulletin, CachePadded, Control, Memory, Publication, SlotOutcome, WorkerWords,
};
use crate::process::shm::checksum::Key;
use crate::process::shm::event_count::EventCount;
use crate::remote::lease::EAGER_LIMIT;
use crate::sync::{AtomicU32, AtomicU64, UnsafeCell};

/// The queue's memory, for two workers.
pub(crate) struct Heap {
    control: Control,
    bulletin: Bulletin,
    ring: Vec<AtomicU32>,
    states: Vec<CachePadded<AtomicU64>>,
    published: Vec<Publication>,
    done: [AtomicU64; 1],
    asleep: [AtomicU64; 1],
    event_counts: [CachePadded<EventCount>; 2],
    process_table: [WorkerWords; 2],
    outcomes: [Vec<SlotOutcome>; 2],
    arguments: Vec<Bytes>,
    results: [Vec<Bytes>; 2],
}

/// The bytes of a slot. loom and Miri track for each byte which thread reads and writes it.
struct Bytes(Vec<UnsafeCell<u8>>);

// SAFETY: the queue's protocol says which thread accesses which byte when, and loom or Miri checks that.
unsafe impl Sync for Bytes {}

/// Bytes per slot; only a few in loom's models, where each byte costs time.
const ROOM: usize = if cfg!(loom) { 3 } else { EAGER_LIMIT };

impl Bytes {
    fn new() -> Self {
        Self(some(ROOM, || UnsafeCell::new(0)))
    }

    /// Writes `bytes`, from the given offset on.
    fn write(&self, offset: usize, bytes: &[u8]) {
        for (place, byte) in self.0[offset..].iter().zip(bytes) {
            // SAFETY: loom or Miri checks that no other thread accesses the byte.
            place.with_mut(|place| unsafe { place.write(*byte) });
        }
    }

    fn read(&self, size: usize, into: &mut Vec<u8>) {
        into.clear();
        // SAFETY: loom or Miri checks that no other thread writes the bytes.
        let bytes = self.0[..size]
            .iter()
            .map(|place| place.with(|place| unsafe { place.read() }));
        into.extend(bytes);
    }
}

fn some<T>(count: usize, new: impl Fn() -> T) -> Vec<T> {
    (0..count).map(|_| new()).collect()
}

/// The initial outcome of a slot in which a worker has ended nothing.
fn untouched(slot: usize) -> SlotOutcome {
    SlotOutcome {
        place: AtomicU64::new(key().nowhere(slot)),
        ..SlotOutcome::default()
    }
}

impl Heap {
    /// Memory with the given number of slots, a power of two, and as many entries on the ring.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            control: Control::default(),
            bulletin: Bulletin::default(),
            ring: some(slots, || AtomicU32::new(0)),
            states: some(slots, CachePadded::default),
            published: some(slots, Publication::default),
            done: [AtomicU64::new(0)],
            asleep: [AtomicU64::new(0)],
            event_counts: Default::default(),
            // As workers leave it when they arrive.
            process_table: [(); 2].map(|()| WorkerWords {
                current: AtomicU64::new(key().mask(0)),
            }),
            outcomes: [(); 2].map(|()| (0..slots).map(untouched).collect()),
            arguments: some(slots, Bytes::new),
            results: [(); 2].map(|()| some(slots, Bytes::new)),
        }
    }
}

/// A process's view of the memory. Each access is a step; a mortal process vanishes after a given number of
/// steps.
pub(crate) struct HeapView {
    heap: Arc<Heap>,
    steps_left: Option<Counter>,
}

/// Payload of the panic by which a process vanishes.
struct Vanished;

impl HeapView {
    fn step(&self) -> &Heap {
        if let Some(left) = &self.steps_left {
            let before = left.load(CounterOrdering::Relaxed);
            if before == 0 {
                resume_unwind(Box::new(Vanished));
            }
            left.store(before - 1, CounterOrdering::Relaxed);
        }
        &self.heap
    }
}

impl Memory for HeapView {
    fn control(&self) -> &Control {
        &self.step().control
    }
    fn bulletin(&self) -> &Bulletin {
        &self.step().bulletin
    }
    fn ring(&self) -> &[AtomicU32] {
        &self.step().ring
    }
    fn states(&self) -> &[CachePadded<AtomicU64>] {
        &self.step().states
    }
    fn published(&self) -> &[Publication] {
        &self.step().published
    }
    fn done(&self) -> &[AtomicU64] {
        &self.step().done
    }
    fn asleep(&self) -> &[AtomicU64] {
        &self.step().asleep
    }
    fn event_counts(&self) -> &[CachePadded<EventCount>] {
        &self.step().event_counts
    }
    fn worker_words(&self, worker: usize) -> Option<&WorkerWords> {
        self.step().process_table.get(worker)
    }
    fn outcomes(&self, worker: usize) -> Option<&[SlotOutcome]> {
        self.step().outcomes.get(worker).map(Vec::as_slice)
    }
    fn write_argument(&self, slot: usize, bytes: &[u8]) {
        self.step().arguments[slot].write(0, bytes);
    }
    fn read_argument(&self, slot: usize, size: usize, into: &mut Vec<u8>) {
        self.step().arguments[slot].read(size, into);
    }
    fn own_outcome(&self, worker: usize, slot: usize) -> Option<&SlotOutcome> {
        self.step().outcomes.get(worker)?.get(slot)
    }
    fn has_room(&self, _: usize, _: usize) -> bool {
        true
    }
    fn write_result(&self, worker: usize, slot: usize, offset: usize, bytes: &[u8]) {
        self.step().results[worker][slot].write(offset, bytes);
    }
    fn read_result(&self, worker: usize, slot: usize, size: usize, into: &mut Vec<u8>) {
        self.step().results[worker][slot].read(size, into);
    }
}

/// The key of all checksums in models: fixed, as a random one would make runs differ.
fn key() -> Key {
    Key::from_numbers((0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321))
}

/// The queue as seen by a process that never vanishes.
pub(crate) fn immortal(heap: &Arc<Heap>) -> ShmQueue<HeapView> {
    let view = HeapView {
        heap: Arc::clone(heap),
        steps_left: None,
    };
    ShmQueue::new(view, key())
}

/// The queue as seen by a worker that vanishes after `steps` accesses to the memory.
#[cfg(loom)]
pub(crate) fn mortal(heap: &Arc<Heap>, steps: usize) -> ShmQueue<HeapView> {
    let view = HeapView {
        heap: Arc::clone(heap),
        steps_left: Some(Counter::new(steps)),
    };
    ShmQueue::new(view, key())
}
