//! The shared-memory queue: small tasks in memory that the program and its workers share. The program's side
//! calls it from `process/host/in_flight/`, a worker's side from `process/worker/`.
//!
//! ```text
//!  the program                    shared memory                      a worker
//!
//!  publish ──► slot: READY ──► ring: … ▒ ▒ ▒ ▒ … ──► claim: RUNNING by me
//!                                     head   tail           │ runs
//!  collect ◄── slot: DONE ◄── bitmap: …0100… ◄── finish ◄───┘
//! ```
//!
//! *Publish* writes the task into a free slot, makes it READY, puts the slot's number on the ring, and moves
//! the tail. *Claim* reads the ring at the head and moves the slot from READY to RUNNING by one
//! compare-exchange. That is the only step in which a task changes hands, so a worker can vanish between any
//! two steps and the slot still says which worker had the task. A worker that finds the slot at the head
//! claimed already advances the head itself (helping). *Finish* writes the result, moves the slot to DONE,
//! and sets its bit.
//!
//! A slot's state holds the position on the ring at which the task was published: a slow claim finds another
//! position there, and fails. So a slot can be reused as soon as its task has ended, while the ring needs
//! `tail - head` to stay below its length.
//!
//! *Stray writes.* A task may write where it should not; then the memory that its worker can write holds
//! arbitrary bytes. [`layout`] says which process writes which memory; the following rests on that.
//! - Workers cannot write what the program publishes. A worker still checks that what it claims is what was
//!   published there, by its checksum and its [`SlotRef`], before it calls anything.
//! - Outcomes lie in a part that only one worker writes, with a checksum; bytes whose checksum does not match
//!   are no outcome ([`Reading::Corrupt`]).
//! - The words that all processes write (head, searcher, sleepers, states, bits) can be rebuilt from what the
//!   program knows, and from what each worker says in its own worker words: which slot it claimed last.
//!   `InFlight`'s audit does so; its steps are here ([`ShmQueue::standing`], [`ShmQueue::republish`]…).
//! - No loop here runs longer than the ring's length, whatever bytes are in memory.

pub(crate) mod layout;

use crate::process::shm::checksum::{Key, PrefixSum, small};
use crate::process::shm::event_count::WaitKey;
use crate::process::shm::queue::layout::{FEW, MappedQueue, Memory, Publication, SlotOutcome};
use crate::remote::function::FunctionRef;
use crate::remote::lease::EAGER_LIMIT;
use crate::sync::deadline::Deadline;
use crate::sync::{
    AtomicU32, AtomicU64, Ordering, fence, fetch_or_seq_cst, load_seq_cst, store_seq_cst,
};

/// The shared-memory queue, over memory of type `M`.
pub(crate) struct ShmQueue<M = MappedQueue> {
    /// The shared memory.
    memory: M,
    /// The key of all checksums and masked numbers.
    key: Key,
    /// The position on the ring at which the next task is published. Private to the program, so a stray write
    /// of a worker cannot change it.
    tail: AtomicU64,
}

/// A published task: its slot, and its position on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotRef {
    /// The slot's index.
    pub(crate) slot: usize,
    /// The position on the ring, truncated to [`POSITION_BITS`].
    position: u64,
}

/// The state of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// The task can be claimed.
    Ready,
    /// The worker of that index runs the task.
    Running(usize),
    /// The worker of that index has delivered the outcome, here or over its connection.
    Done(usize),
    /// The task was cancelled before it began.
    Cancelled,
    /// The task was killed while the worker of that index ran it.
    Killing(usize),
}

/// Slot kind: what a slot's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotKind {
    /// An encoded argument.
    Argument,
    /// No bytes: the worker asks for the task over its connection.
    Rendezvous,
    /// An encoded result.
    Value,
    /// An encoded report on why there is no result.
    Fault,
    /// No bytes: the outcome came over the connection.
    OutOfBand,
    /// The encoded arguments of a map's items; later the results of the items that are done.
    Items,
    /// The results of a map's items; the outcome of the item after them came over the connection.
    ItemsOutOfBand,
    /// A reference to the block that holds an encoded argument.
    StoredArgument,
    /// A reference to the block that holds an encoded result.
    StoredValue,
}

/// What a worker finds at the head of the ring.
#[must_use]
pub(crate) enum Claim {
    /// A task to run. Its argument was copied out.
    Task(SlotRef, FunctionRef),
    /// A task to run. The reference to the block that holds its argument was copied out.
    Stored(SlotRef, FunctionRef),
    /// A task that the worker asks for over its connection.
    Rendezvous(SlotRef),
    /// Items of a map to run, and their number. Their arguments were copied out.
    Items(SlotRef, FunctionRef, usize),
    /// The ring holds no task.
    Empty,
    /// Garbage: a stray write has hit the head, or what was claimed is not what was published. Only the
    /// program can repair that.
    Corrupt,
}

/// A worker's progress with the items of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchProgress {
    /// Number of items that are done.
    pub(crate) done: usize,
    /// Bytes that their results take.
    pub(crate) filled: usize,
    /// Whether the worker has begun the item after those that are done.
    pub(crate) has_begun: bool,
}

/// The result of publishing.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SlotPublish {
    /// The task was published there.
    Published(SlotRef),
    /// The ring is full.
    Full,
}

/// The result of a state transition.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transition {
    /// The caller made the transition.
    Taken,
    /// Another thread or process was first, or the slot is not in the expected state.
    TooLate,
}

/// The result of ending a task: whether the program will find the worker's outcome.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// The outcome is where the program looks for it.
    Published,
    /// The task was killed, and the worker is about to be killed.
    Killed,
    /// The slot's state does not say that this worker runs the task, which only a stray write causes, or an
    /// audit after one; or there is no memory for the outcome.
    Displaced,
}

/// What the program reads where an outcome should be.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The task is not done.
    NotDone,
    /// A valid outcome of that kind, written by the worker of that index.
    Sound(SlotKind, usize),
    /// The slot's state is DONE, but its worker's part holds no outcome that this worker wrote.
    Corrupt,
}

/// The state of a slot as a dead worker left it.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotAfterDeath {
    /// The worker had claimed the task, and not begun it.
    Claimed,
    /// The worker was running the task.
    Running,
    /// The task had been killed.
    Killed,
    /// The worker had ended the task: the outcome is there.
    Done,
    /// The slot was not this worker's.
    None,
}

/// The state of a published task, checked against what workers say.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// The task waits on the ring.
    Waiting,
    /// The task waits, but the head has passed it: no worker will claim it.
    Passed,
    /// The state names the worker of that index, and its worker words confirm that it runs the task.
    Running(usize),
    /// The state names the worker of that index, but its worker words do not: it is about to announce the
    /// claim there, or never will.
    Claimed(usize),
    /// The state says that the worker of that index has ended the task.
    Done(usize),
    /// The state is garbage, or cannot occur for a task in flight.
    Garbled,
}

/// What a worker's part says about a task.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Nothing: the part holds the outcome of an earlier task, or none.
    None,
    /// The worker has written an outcome of the task, or of some of its items.
    Ended,
    /// Bytes that the worker cannot have written on purpose.
    Garbled,
}

/// What a worker says about its last claim in its worker words.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Current {
    /// The worker has claimed nothing since it arrived, or has given its last claim up.
    Nothing,
    /// The worker has claimed that task, and no other since.
    Place(SlotRef),
    /// Bytes that the worker cannot have written on purpose.
    Garbled,
}

/// Number of bits that a position has in a slot's state.
const POSITION_BITS: u32 = 40;
/// Mask of a position's bits.
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
/// Bit offset of the worker's index in a state; the state's kind is below it.
const WORKER_SHIFT: u32 = 8;
/// A worker's index is multiplied by this in a state: the product of the highest index has 16 bits.
const WORKER_FACTOR: u64 = 63;
const _: () =
    assert!(WORKER_FACTOR * (layout::MAX_WORKERS as u64) < 1 << (POSITION_SHIFT - WORKER_SHIFT));
/// Bit offset of the position in a state, above the worker's index.
const POSITION_SHIFT: u32 = 24;
/// Content of `WorkerWords::current`, unmasked, when the worker has claimed nothing.
const NOTHING: u64 = 0;
/// Content of memory that no process has written yet.
const FRESH: u64 = 0;

impl SlotState {
    fn to_bits(self, place: SlotRef) -> u64 {
        // Any two kinds differ in at least four bits, and any two workers in at least two, as their numbers
        // are multiples of a factor that divides no power of two. So no single bit flip turns one state into
        // another.
        let (kind, worker) = match self {
            Self::Ready => (0x35, 0),
            Self::Running(worker) => (0x5a, worker),
            Self::Done(worker) => (0xa6, worker),
            Self::Cancelled => (0xc9, 0),
            Self::Killing(worker) => (0x0f, worker),
        };
        let worker = worker as u64 * WORKER_FACTOR;
        kind | worker << WORKER_SHIFT | place.position << POSITION_SHIFT
    }

    /// Decodes the state of the task that was published as `place`; `None`: the slot holds another task, or
    /// garbage.
    fn from_bits(bits: u64, place: SlotRef) -> Option<Self> {
        let worker = ((bits >> WORKER_SHIFT & 0xffff) / WORKER_FACTOR) as usize;
        let state = match bits & 0xff {
            0x35 => Self::Ready,
            0x5a => Self::Running(worker),
            0xa6 => Self::Done(worker),
            0xc9 => Self::Cancelled,
            0x0f => Self::Killing(worker),
            _ => return None,
        };
        (state.to_bits(place) == bits).then_some(state)
    }
}

impl SlotRef {
    fn new(slot: usize, position: u64) -> Self {
        let position = position & POSITION_MASK;
        Self { slot, position }
    }

    /// As one number: how it travels over a connection.
    pub(crate) fn to_number(self) -> u64 {
        self.position << POSITION_SHIFT | self.slot as u64
    }

    pub(crate) fn from_number(number: u64) -> Self {
        let slot = (number & ((1 << POSITION_SHIFT) - 1)) as usize;
        Self::new(slot, number >> POSITION_SHIFT)
    }

    /// As one number: how a worker writes that it has claimed, or ended, the task. Never [`NOTHING`], nor
    /// [`FRESH`].
    fn to_claim(self) -> u64 {
        self.to_number().wrapping_add(1)
    }

    fn of_claim(number: u64) -> Option<Self> {
        let number = number.checked_sub(1)?;
        let place = Self::from_number(number);
        (place.to_number() == number).then_some(place)
    }
}

impl SlotKind {
    fn from_bits(bits: u64) -> Option<Self> {
        let forms = [
            Self::Argument,
            Self::Rendezvous,
            Self::Value,
            Self::Fault,
            Self::OutOfBand,
            Self::Items,
            Self::ItemsOutOfBand,
            Self::StoredArgument,
            Self::StoredValue,
        ];
        forms.into_iter().find(|form| *form as u64 == bits)
    }
}

/// Description of a slot's bytes, in one word: kind, size, number of items.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// What the bytes are.
    form: SlotKind,
    /// The number of bytes.
    size: usize,
    /// The number of items that the bytes belong to; 0 if the slot holds no items.
    items: usize,
}

impl Head {
    fn to_bits(self) -> u64 {
        self.form as u64 | (self.size as u64) << 16 | (self.items as u64) << 32
    }

    /// `None`: `bits` is no valid head. The size of a valid one is at most [`EAGER_LIMIT`].
    fn from_bits(bits: u64) -> Option<Self> {
        Some(Self {
            form: SlotKind::from_bits(bits & 0xffff)?,
            size: ((bits >> 16) & 0xffff) as usize,
            items: (bits >> 32) as usize,
        })
        .filter(|head| head.size <= EAGER_LIMIT)
    }
}

impl BatchProgress {
    fn to_bits(self) -> u64 {
        let twice = 2 * self.done as u64 + u64::from(self.has_begun);
        twice | (self.filled as u64) << 32
    }

    fn from_bits(bits: u64) -> Self {
        Self {
            done: ((bits & 0xffff_ffff) / 2) as usize,
            filled: (bits >> 32) as usize,
            has_begun: bits % 2 == 1,
        }
    }
}

/// Loads a word with acquire semantics; the word may lie in memory that is mapped read-only.
#[inline]
fn load_acquire(word: &AtomicU64) -> u64 {
    // ORDERING: Relaxed, as no other ordering is promised to work on read-only memory.
    let value = word.load(Ordering::Relaxed);
    // ORDERING: Acquire; pairs with the store that released the value.
    fence(Ordering::Acquire);
    value
}

/// Loads words without any ordering.
#[inline]
fn words_of<const N: usize>(words: &[AtomicU64; N]) -> [u64; N] {
    // ORDERING: Relaxed; the caller orders these loads.
    words.each_ref().map(|word| word.load(Ordering::Relaxed))
}

impl<M: Memory> ShmQueue<M> {
    pub(crate) fn new(memory: M, key: Key) -> Self {
        Self {
            memory,
            key,
            tail: AtomicU64::new(0),
        }
    }

    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    // ---- the program: out --------------------------------------------------------------------

    /// Publishes a task in a free slot. Only one thread at a time may publish.
    #[inline]
    pub(crate) fn publish(
        &self,
        slot: usize,
        form: SlotKind,
        call: FunctionRef,
        bytes: &[u8],
    ) -> SlotPublish {
        self.publish_items(slot, form, call, bytes, 0)
    }

    /// Publishes the given number of items of a map in a free slot. Only one thread at a time may publish.
    #[inline]
    pub(crate) fn publish_items(
        &self,
        slot: usize,
        form: SlotKind,
        call: FunctionRef,
        bytes: &[u8],
        items: usize,
    ) -> SlotPublish {
        let Some(place) = self.next_place(slot) else {
            return SlotPublish::Full;
        };
        let shared = &self.memory.published()[slot];
        self.begin_publication(shared, place);
        let size = bytes.len();
        let head = Head { form, size, items };
        let words = match form {
            // The first word is the flag that stops the items.
            SlotKind::Items => 0,
            _ if size <= FEW => small(bytes),
            _ => 0,
        };
        if size > FEW || form == SlotKind::Items {
            self.memory.write_argument(slot, bytes);
        }
        let words = [words as u64, (words >> 64) as u64];
        // ORDERING: Relaxed, for all of these; the store of the state releases them.
        shared.head.store(head.to_bits(), Ordering::Relaxed);
        for (place, number) in shared.call.iter().zip(call.to_numbers()) {
            place.store(number, Ordering::Relaxed);
        }
        for (place, number) in shared.words.iter().zip(words) {
            place.store(number, Ordering::Relaxed);
        }
        let check = self.check_of_published(place, head, call, words);
        shared.check.store(check, Ordering::Relaxed);
        self.end_publication(place);
        SlotPublish::Published(place)
    }

    /// Publishes a slot's content once more, at a new position on the ring: no worker will claim it at the
    /// old one. Only one thread at a time may publish.
    pub(crate) fn republish(&self, old: SlotRef) -> SlotPublish {
        let Some(place) = self.next_place(old.slot) else {
            return SlotPublish::Full;
        };
        let shared = &self.memory.published()[old.slot];
        // ORDERING: Relaxed, for all of these; only the program writes them, one thread at a time.
        let head = Head::from_bits(shared.head.load(Ordering::Relaxed));
        let call = words_of(&shared.call);
        let words = words_of(&shared.words);
        let Some(head) = head else {
            unreachable!("the program wrote it")
        };
        let call = FunctionRef::from_numbers(call);
        self.begin_publication(shared, place);
        let check = self.check_of_published(place, head, call, words);
        // ORDERING: Relaxed; as in `publish_items`.
        shared.check.store(check, Ordering::Relaxed);
        self.end_publication(place);
        SlotPublish::Published(place)
    }

    /// The slot reference of the task that is published next, in `slot`; `None`: the ring is full.
    #[inline]
    fn next_place(&self, slot: usize) -> Option<SlotRef> {
        let length = self.memory.ring().len() as u64;
        // ORDERING: Relaxed; only the publisher moves the tail, and there is one publisher at a time.
        let tail = self.tail.load(Ordering::Relaxed);
        // ORDERING: Acquire; pairs with `move_head`: the ring's entry is free once the head that passed it is
        // seen.
        let head = self.memory.control().head.0.load(Ordering::Acquire);
        if tail.wrapping_sub(head) >= length {
            let has_room = match tail.wrapping_sub(head) > length {
                true => {
                    self.mend_head();
                    true
                }
                false => self.skip_ended(),
            };
            if !has_room {
                return None;
            }
        }
        Some(SlotRef::new(slot, tail))
    }

    /// Prepares a slot for being overwritten: stores the new slot reference first. A worker that still reads
    /// the slot for its earlier task finds the new reference afterwards.
    #[inline]
    fn begin_publication(&self, shared: &Publication, place: SlotRef) {
        // ORDERING: Relaxed; the fence below orders it.
        shared.place.store(place.to_number(), Ordering::Relaxed);
        // ORDERING: Release; pairs with the acquire fence of `open`: a worker that sees anything that is
        // written after this sees the new slot reference.
        fence(Ordering::Release);
    }

    /// Makes a slot that was written claimable: sets its state, puts it on the ring, moves the tail.
    #[inline]
    fn end_publication(&self, place: SlotRef) {
        // ORDERING: Release; pairs with the claim's compare-exchange.
        self.memory.states()[place.slot]
            .0
            .store(SlotState::Ready.to_bits(place), Ordering::Release);
        // ORDERING: Relaxed, both; only the publisher moves the tail, and the tail's store releases the ring.
        let tail = self.tail.load(Ordering::Relaxed);
        let entry = self.ring_at(tail);
        entry.store(place.slot as u32, Ordering::Relaxed);
        let next = tail.wrapping_add(1);
        // ORDERING: Relaxed; as above.
        self.tail.store(next, Ordering::Relaxed);
        // ORDERING: Release; pairs with the claim that sees this tail.
        let bulletin = self.memory.bulletin();
        bulletin.tail.0.store(next, Ordering::Release);
    }

    /// The checksum of a published task. Arguments that do not lie in `words` are not summed: workers cannot
    /// write them, so their size is enough.
    #[inline]
    fn check_of_published(
        &self,
        place: SlotRef,
        head: Head,
        call: FunctionRef,
        words: [u64; 2],
    ) -> u64 {
        let [entry, function, fingerprint] = call.to_numbers();
        let words = match head.form {
            SlotKind::Items => [0; 2], // they change: the flag that stops the items
            _ => words,
        };
        self.key.of_words([
            place.to_number(),
            head.to_bits(),
            entry,
            function,
            fingerprint,
            words[0],
            words[1],
            0,
        ])
    }

    /// Moves the head past entries that no worker can claim: cancelled ones, which no worker reports. Returns
    /// whether the head has moved.
    fn skip_ended(&self) -> bool {
        let mut has_moved = false;
        for _ in self.memory.ring() {
            // ORDERING: Acquire; as in `claim`.
            let head = self.memory.control().head.0.load(Ordering::Acquire);
            // ORDERING: Relaxed, both; the caller is the publisher, and has written both.
            let waiting = self.tail.load(Ordering::Relaxed).wrapping_sub(head);
            if waiting == 0 || waiting > self.memory.ring().len() as u64 {
                break; // or the head is garbage: moving it on does not repair that
            }
            let slot = self.ring_at(head).load(Ordering::Relaxed) as usize;
            if self.is_ready(SlotRef::new(slot, head)) {
                break;
            }
            self.move_head(head);
            has_moved = true;
        }
        has_moved
    }

    /// Advances the head by one, unless another process has done so.
    fn move_head(&self, head: u64) {
        let next = head.wrapping_add(1);
        // ORDERING: Release, so that a publisher that sees the entry free knows that it was read; Relaxed on
        // failure, since then another process has moved the head.
        let _ = self.memory.control().head.0.compare_exchange(
            head,
            next,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Wakes one sleeping worker, unless a searcher is looking for tasks already. The publisher calls it
    /// after `publish`.
    pub(crate) fn wake_one(&self) {
        // ORDERING: SeqCst; pairs with the fences of `sleep` and `end_search`: either the worker sees the new
        // tail, or the publisher sees that the worker sleeps, or that it has stopped searching.
        fence(Ordering::SeqCst);
        // ORDERING: Relaxed; the fence above orders it.
        if self.memory.control().searcher.0.load(Ordering::Relaxed) == 0 {
            self.wake_a_sleeper();
        }
    }

    fn wake_a_sleeper(&self) {
        for (word, sleepers) in self.memory.asleep().iter().enumerate() {
            // ORDERING: Relaxed; the caller's fence orders it.
            let mut bits = sleepers.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                let Some(event_count) = self.memory.event_counts().get(word * 64 + bit as usize)
                else {
                    continue;
                };
                // ORDERING: Relaxed; of the threads that find the bit set, exactly one clears it, and
                // notifies.
                let before = sleepers.fetch_and(!(1 << bit), Ordering::Relaxed);
                if before & (1 << bit) != 0 {
                    return event_count.0.notify();
                }
            }
        }
    }

    /// Wakes all sleepers: workers and the collector.
    pub(crate) fn wake_all(&self) {
        self.wake_workers();
        self.wake_collector();
    }

    fn wake_workers(&self) {
        for word in self.memory.asleep() {
            // ORDERING: Relaxed; the notifications below release what the workers should see.
            word.store(0, Ordering::Relaxed);
        }
        for event_count in self.memory.event_counts() {
            event_count.0.notify();
        }
    }

    /// Lets workers leave that find no task.
    pub(crate) fn close(&self) {
        // ORDERING: Release; pairs with `is_closing`: a worker that sees the flag sees what was published
        // before.
        let closing = &self.memory.bulletin().closing.0;
        closing.store(1, Ordering::Release);
        self.wake_all();
    }

    /// Makes workers that find no task wait again instead of leaving.
    pub(crate) fn reopen(&self) {
        // ORDERING: Relaxed; a worker that leaves all the same is replaced.
        let closing = &self.memory.bulletin().closing.0;
        closing.store(0, Ordering::Relaxed);
    }

    /// READY → CANCELLED.
    pub(crate) fn cancel(&self, place: SlotRef) -> Transition {
        self.step(place, SlotState::Ready, SlotState::Cancelled)
    }

    /// RUNNING → KILLING. Returns the worker that runs the task: it begins nothing else, and the caller must
    /// kill it. `None`: no worker runs the task.
    pub(crate) fn kill(&self, place: SlotRef) -> Option<usize> {
        let SlotState::Running(worker) = self.state(place)? else {
            return None;
        };
        match self.step(
            place,
            SlotState::Running(worker),
            SlotState::Killing(worker),
        ) {
            Transition::Taken => Some(worker),
            Transition::TooLate => None,
        }
    }

    /// Stops the items in a slot: no further item begins there.
    pub(crate) fn stop(&self, place: SlotRef) {
        if let Some(slot) = self.memory.published().get(place.slot) {
            // ORDERING: Relaxed; a worker that sees it late has begun another item meanwhile. Another task
            // that is published in the slot later is not stopped: a lock of the caller orders `publish` after
            // this.
            slot.words[0].store(1, Ordering::Relaxed);
        }
    }

    /// The worker's progress with the `items` items of a task; at most `items` are done. The value is not
    /// verified by a checksum.
    pub(crate) fn progress(&self, place: SlotRef, worker: usize, items: usize) -> BatchProgress {
        let outcome = self.outcome_at(place, worker);
        let bits = outcome.map_or(0, |outcome| load_acquire(&outcome.progress));
        let progress = BatchProgress::from_bits(bits);
        let done = progress.done.min(items);
        BatchProgress {
            done,
            has_begun: progress.has_begun && done < items,
            ..progress
        }
    }

    /// What the worker has written about this task in its own part; `None`: nothing.
    fn outcome_at(&self, place: SlotRef, worker: usize) -> Option<&SlotOutcome> {
        let outcome = self.memory.outcomes(worker)?.get(place.slot)?;
        // Acquired, so that nothing that the worker wrote there for an earlier task is seen any more.
        (load_acquire(&outcome.place) == self.masked(place)).then_some(outcome)
    }

    /// Copies out the results of the items that a worker has done, and returns its progress. `None`: they are
    /// not what the worker wrote.
    pub(crate) fn item_results(
        &self,
        place: SlotRef,
        worker: usize,
        items: usize,
        bytes: &mut Vec<u8>,
    ) -> Option<BatchProgress> {
        bytes.clear();
        let outcome = self.outcome_at(place, worker)?;
        let progress = BatchProgress::from_bits(load_acquire(&outcome.progress));
        if progress.done > items || progress.filled > EAGER_LIMIT {
            return None;
        }
        if progress.done == 0 {
            return (progress.filled == 0).then_some(progress);
        }
        // ORDERING: Relaxed; the load of the progress acquired it. While the worker runs the next item, it
        // writes the other one of the two words, and bytes behind these.
        let check = outcome.words[progress.done % 2].load(Ordering::Relaxed);
        self.memory
            .read_result(worker, place.slot, progress.filled, bytes);
        let mut sum = PrefixSum::new(&self.key);
        sum.extend(bytes);
        if self.check_of_items(place, progress, &sum, bytes) == check {
            return Some(progress);
        }
        // ORDERING: Acquire; pairs with the release of the checksum that was loaded. That may be the checksum
        // of two items more, stored by the worker before it counts the second of them. Then the progress that
        // is loaded now includes at least the first of them: the caller gets the results later.
        fence(Ordering::Acquire);
        let now = BatchProgress::from_bits(outcome.progress.load(Ordering::Relaxed));
        let is_late = (progress.done + 1..=items).contains(&now.done);
        is_late.then_some(BatchProgress::from_bits(0))
    }

    /// The time that the items took, in nanoseconds; meaningful only once they are done.
    pub(crate) fn item_nanos(&self, place: SlotRef, worker: usize) -> u64 {
        // ORDERING: Relaxed; the load of the state acquired it.
        let outcome = self.outcome_at(place, worker);
        outcome.map_or(0, |outcome| outcome.nanos.load(Ordering::Relaxed))
    }

    /// Whether a worker has begun the task, and has not ended it.
    pub(crate) fn is_running(&self, place: SlotRef) -> bool {
        matches!(
            self.state(place),
            Some(SlotState::Running(_) | SlotState::Killing(_))
        )
    }

    /// The worker that runs the task; `None`: no worker does, or the task was killed.
    pub(crate) fn runner(&self, place: SlotRef) -> Option<usize> {
        match self.state(place)? {
            SlotState::Running(worker) => Some(worker),
            _ => None,
        }
    }

    /// Whether no worker has begun the task.
    pub(crate) fn is_ready(&self, place: SlotRef) -> bool {
        self.state(place) == Some(SlotState::Ready)
    }

    // ---- the program: in ---------------------------------------------------------------------

    /// Whether there is anything to collect.
    pub(crate) fn has_done(&self) -> bool {
        // ORDERING: Relaxed; the result is a hint.
        let mut words = self.memory.done().iter();
        words.any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// Calls `take` for each slot that has become done since the last call.
    pub(crate) fn take_done(&self, mut take: impl FnMut(usize)) {
        for (at, word) in self.memory.done().iter().enumerate() {
            // ORDERING: Relaxed; this is a hint, the swap below decides.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // ORDERING: Acquire; pairs with `mark_done`, which set the bit.
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                take(at * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    /// Verifies the outcome of a task that consists of items, if it is done.
    pub(crate) fn items_outcome(&self, place: SlotRef) -> Reading {
        let Some(SlotState::Done(worker)) = self.state(place) else {
            return Reading::NotDone;
        };
        self.items_outcome_of(place, worker)
    }

    /// Verifies the outcome of items that the worker says it has ended, whatever the slot's state says.
    pub(crate) fn items_outcome_of(&self, place: SlotRef, worker: usize) -> Reading {
        let Some((head, check, outcome)) = self.head_of(place, worker) else {
            return Reading::Corrupt;
        };
        // ORDERING: Relaxed, both; the load of the state acquired them, or else the checksum verifies them.
        let progress = BatchProgress::from_bits(outcome.progress.load(Ordering::Relaxed));
        let nanos = outcome.nanos.load(Ordering::Relaxed);
        let is_sound = matches!(head.form, SlotKind::Items | SlotKind::ItemsOutOfBand)
            && (head.items, head.size) == (progress.done, progress.filled)
            && !progress.has_begun | (head.form == SlotKind::ItemsOutOfBand)
            && self.check_of_outcome(place, head, [nanos, 0]) == check;
        match is_sound {
            true => Reading::Sound(head.form, worker),
            false => Reading::Corrupt,
        }
    }

    /// Verifies the outcome of a task, if it is done, and copies out its bytes.
    #[inline]
    pub(crate) fn outcome(&self, place: SlotRef, bytes: &mut Vec<u8>) -> Reading {
        let Some(SlotState::Done(worker)) = self.state(place) else {
            return Reading::NotDone;
        };
        self.outcome_of(place, worker, bytes)
    }

    /// Verifies the outcome of a task that the worker says it has ended, whatever the slot's state says, and
    /// copies out its bytes.
    #[inline]
    pub(crate) fn outcome_of(&self, place: SlotRef, worker: usize, bytes: &mut Vec<u8>) -> Reading {
        bytes.clear();
        let Some((head, check, outcome)) = self.head_of(place, worker) else {
            return Reading::Corrupt;
        };
        let expected = if head.size <= FEW {
            // ORDERING: Relaxed; the load of the state acquired them, or else the checksum verifies them.
            let [low, high] = words_of(&outcome.words);
            let both = u128::from(low) | u128::from(high) << 64;
            bytes.extend_from_slice(&both.to_le_bytes()[..head.size]);
            self.check_of_outcome(place, head, [low, high])
        } else {
            self.memory
                .read_result(worker, place.slot, head.size, bytes);
            let sum = self.key.of_bytes(bytes);
            self.check_of_outcome(place, head, [sum, 0])
        };
        match expected == check && !matches!(head.form, SlotKind::Items | SlotKind::ItemsOutOfBand)
        {
            true => Reading::Sound(head.form, worker),
            false => Reading::Corrupt,
        }
    }

    /// The head and the checksum of the outcome that the worker has written for the task; `None`: there is
    /// none, or its head is garbage.
    #[inline]
    fn head_of(&self, place: SlotRef, worker: usize) -> Option<(Head, u64, &SlotOutcome)> {
        let outcome = self.outcome_at(place, worker)?;
        // ORDERING: Relaxed, both; the load of the state acquired them, or else the checksum verifies them.
        let head = Head::from_bits(outcome.head.load(Ordering::Relaxed))?;
        let check = outcome.check.load(Ordering::Relaxed);
        Some((head, check, outcome))
    }

    /// The checksum of an outcome. `words` are the result itself, or the result's checksum.
    #[inline]
    fn check_of_outcome(&self, place: SlotRef, head: Head, words: [u64; 2]) -> u64 {
        let (place, head) = (place.to_number(), head.to_bits());
        self.key.of_words([place, head, words[0], words[1]])
    }

    /// The checksum of the results of the items that are done.
    #[inline]
    fn check_of_items(
        &self,
        place: SlotRef,
        progress: BatchProgress,
        sum: &PrefixSum,
        bytes: &[u8],
    ) -> u64 {
        let count = (progress.done as u64) | (progress.filled as u64) << 32;
        let sum = sum.of(bytes);
        // The number of words differs from that of `check_of_outcome`, so that no checksum of the one kind is
        // taken for one of the other.
        sum ^ self.key.of_words([place.to_number(), count])
    }

    /// Publishes the core on which a thread looks for outcomes; `None`: no thread does any more.
    pub(crate) fn set_waiter_core(&self, core: Option<u32>) {
        self.memory.bulletin().waiter_core.0.set(core);
    }

    /// The core on which a thread looks for outcomes; `None`: no thread does.
    pub(crate) fn waiter_core(&self) -> Option<u32> {
        self.memory.bulletin().waiter_core.0.get()
    }

    /// Publishes the core on which a task was submitted last.
    pub(crate) fn set_submitter_core(&self, core: Option<u32>) {
        self.memory.bulletin().submitter_core.0.set(core);
    }

    /// The core on which a task was submitted last; `None`: unknown.
    pub(crate) fn submitter_core(&self) -> Option<u32> {
        self.memory.bulletin().submitter_core.0.get()
    }

    /// Announces that the collector is about to sleep. The collector then looks for work once more, and may
    /// `wait` with the returned key.
    pub(crate) fn prepare_wait(&self) -> WaitKey {
        let collector = &self.memory.control().collector.0;
        let key = collector.event_count.prepare();
        // ORDERING: Relaxed; the fence below orders it. A swap rather than a store: loom places a store
        // beside the swap of a worker that has found the previous sleeper awake again, not behind it.
        collector.asleep.swap(1, Ordering::Relaxed);
        // ORDERING: SeqCst; pairs with `mark_done` and `ItemRun::end`, which store and load in order: either
        // the worker sees that the collector sleeps, or the collector sees the bit, or the progress.
        fence(Ordering::SeqCst);
        key
    }

    /// Makes the collector sleep until there is something to collect, or the deadline has passed.
    pub(crate) fn wait(&self, key: WaitKey, deadline: Deadline) {
        self.memory
            .control()
            .collector
            .0
            .event_count
            .sleep(key, deadline);
    }

    /// Announces that the collector is awake.
    pub(crate) fn end_wait(&self) {
        // ORDERING: Relaxed; at worst a worker notifies in vain.
        self.memory
            .control()
            .collector
            .0
            .asleep
            .store(0, Ordering::Relaxed);
    }

    /// Wakes the collector, if it sleeps or is about to sleep.
    pub(crate) fn wake_collector(&self) {
        let collector = &self.memory.control().collector.0;
        // ORDERING: Relaxed; a collector that is about to sleep holds a wait key that `notify` invalidates.
        collector.asleep.store(0, Ordering::Relaxed);
        collector.event_count.notify();
    }

    // ---- the program: deaths and audits --------------------------------------------------------

    /// Takes a dead worker out of the protocol: no process waits any longer for what it was about to do.
    pub(crate) fn worker_died(&self, worker: usize) {
        let searcher = &self.memory.control().searcher.0;
        // ORDERING: Relaxed; the notifications below make all sleepers look again.
        let _ =
            searcher.compare_exchange(worker as u32 + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.wake_all(); // the dead worker may have swallowed a wake-up
    }

    /// Makes all workers look for tasks again, when tasks wait that no worker claims: a wake-up was lost to a
    /// stray write, or workers rely on a searcher that has stopped.
    pub(crate) fn rouse(&self) {
        // ORDERING: Relaxed; the notifications make workers look again. A worker that really searches goes
        // on.
        let searcher = &self.memory.control().searcher.0;
        searcher.store(0, Ordering::Relaxed);
        self.wake_workers();
    }

    /// Repairs the head if it is no possible position; then all tasks that waited are [`Standing::Passed`].
    /// Only the publishing thread may call it.
    pub(crate) fn mend_head(&self) {
        let head = &self.memory.control().head.0;
        // ORDERING: Relaxed; only the publisher moves the tail, and the head carries no other data.
        let tail = self.tail.load(Ordering::Relaxed);
        let waiting = tail.wrapping_sub(head.load(Ordering::Relaxed));
        if waiting > self.memory.ring().len() as u64 {
            // ORDERING: Release; as in `move_head`.
            head.store(tail, Ordering::Release);
        }
    }

    /// The standing of a published task, by its state and by the words of the worker that the state names.
    /// Only the publishing thread may call it.
    pub(crate) fn standing(&self, place: SlotRef) -> Standing {
        match self.state(place) {
            Some(SlotState::Ready) if self.is_passed(place) => Standing::Passed,
            Some(SlotState::Ready) => Standing::Waiting,
            Some(SlotState::Running(worker) | SlotState::Killing(worker)) => {
                match self.current(worker) == Current::Place(place) {
                    true => Standing::Running(worker),
                    false => Standing::Claimed(worker),
                }
            }
            Some(SlotState::Done(worker)) => Standing::Done(worker),
            Some(SlotState::Cancelled) | None => Standing::Garbled,
        }
    }

    /// Whether the head has passed a task that no worker has claimed.
    fn is_passed(&self, place: SlotRef) -> bool {
        // ORDERING: Relaxed; a task that is being claimed at this moment has another state.
        let head = self.memory.control().head.0.load(Ordering::Relaxed);
        let ahead = place.position.wrapping_sub(head) & POSITION_MASK;
        ahead >= self.memory.ring().len() as u64 && self.is_ready(place)
    }

    /// The worker's last claim, according to its worker words.
    pub(crate) fn current(&self, worker: usize) -> Current {
        let Some(words) = self.memory.worker_words(worker) else {
            return Current::Garbled;
        };
        match self.key.unmask(load_acquire(&words.current)) {
            NOTHING => Current::Nothing,
            number => match SlotRef::of_claim(number) {
                Some(place) if self.was_published(place) => Current::Place(place),
                _ => Current::Garbled,
            },
        }
    }

    /// Whether a worker may deliver the outcome of a task: the state names it, or, where the state was
    /// overwritten, its own worker words say that it has claimed the task.
    pub(crate) fn speaks_for(&self, place: SlotRef, worker: usize) -> bool {
        match self.state(place) {
            Some(
                SlotState::Running(whose) | SlotState::Killing(whose) | SlotState::Done(whose),
            ) if whose == worker => true,
            _ => self.current(worker) == Current::Place(place),
        }
    }

    /// Sets the state to RUNNING again, as the worker's own words say. `TooLate`: the state names that worker
    /// already, or has changed meanwhile: the worker may have ended the task, which must not be undone.
    pub(crate) fn restore_running(&self, place: SlotRef, worker: usize) -> Transition {
        let Some(state) = self.memory.states().get(place.slot) else {
            return Transition::TooLate;
        };
        // ORDERING: Relaxed; the exchange tells whether these bits are still there.
        let bits = state.0.load(Ordering::Relaxed);
        match SlotState::from_bits(bits, place) {
            Some(
                SlotState::Running(whose) | SlotState::Killing(whose) | SlotState::Done(whose),
            ) if whose == worker => return Transition::TooLate,
            _ => {}
        }
        let running = SlotState::Running(worker).to_bits(place);
        // ORDERING: AcqRel, like the claim's compare-exchange.
        let restored = state
            .0
            .compare_exchange(bits, running, Ordering::AcqRel, Ordering::Relaxed);
        match restored {
            Ok(_) => Transition::Taken,
            Err(_) => Transition::TooLate,
        }
    }

    /// Takes a task with the given standing off the queue: from now on, neither a claim nor the end of the
    /// task succeeds. `TooLate`: its standing has changed, and it may have begun. Only the publishing thread
    /// may call it.
    pub(crate) fn withdraw(&self, place: SlotRef, standing: Standing) -> Transition {
        let from = match standing {
            Standing::Waiting | Standing::Passed => SlotState::Ready,
            Standing::Running(worker) | Standing::Claimed(worker) => SlotState::Running(worker),
            Standing::Done(_) | Standing::Garbled => {
                if let Some(state) = self.memory.states().get(place.slot) {
                    // ORDERING: Release; like a step. No process makes a step from the state that stands
                    // there.
                    let cancelled = SlotState::Cancelled.to_bits(place);
                    state.0.store(cancelled, Ordering::Release);
                }
                return Transition::Taken;
            }
        };
        match (self.step(place, from, SlotState::Cancelled), standing) {
            (Transition::Taken, Standing::Claimed(worker)) => self.return_to(worker, place),
            (step, _) => step,
        }
    }

    /// Gives a withdrawn task back to the worker that had claimed it, if that worker has announced the claim
    /// in its worker words meanwhile: it may have begun the task.
    ///
    /// Pairs with `announce_claim`: either the worker sees that the task was withdrawn, and does not begin
    /// it, or this thread sees the announcement in the worker words. If both see the other, the worker clears
    /// its words again, and the next audit finds the task as it was.
    fn return_to(&self, worker: usize, place: SlotRef) -> Transition {
        // ORDERING: SeqCst, between the withdrawal and the look at the worker words; pairs with
        // `announce_claim`.
        fence(Ordering::SeqCst);
        if self.current(worker) != Current::Place(place) {
            return Transition::Taken;
        }
        // The next audit finds the task as it then is.
        let (Transition::Taken | Transition::TooLate) = self.restore_running(place, worker);
        Transition::TooLate
    }

    /// Whether a worker has begun to write the outcome of a task in its own part.
    pub(crate) fn trace(&self, place: SlotRef, worker: usize) -> Trace {
        let outcomes = self.memory.outcomes(worker);
        let Some(outcome) = outcomes.and_then(|outcomes| outcomes.get(place.slot)) else {
            return Trace::None; // the worker never arrived
        };
        let number = load_acquire(&outcome.place);
        if number == self.key.nowhere(place.slot) {
            return Trace::None;
        }
        match SlotRef::of_claim(self.key.unmask(number)) {
            Some(written) if written == place => Trace::Ended,
            Some(written) if written.slot == place.slot && self.was_published(written) => {
                Trace::None
            }
            _ => Trace::Garbled,
        }
    }

    /// A slot reference as a worker writes it: a masked number, which no accidental write turns into another
    /// valid one.
    #[inline]
    fn masked(&self, place: SlotRef) -> u64 {
        self.key.mask(place.to_claim())
    }

    /// Whether a worker says in its own part that it has begun one of the task's items.
    pub(crate) fn has_progress(&self, place: SlotRef, worker: usize) -> bool {
        // ORDERING: Relaxed; the worker is dead, as the system has told the program.
        let progress = |outcome: &SlotOutcome| outcome.progress.load(Ordering::Relaxed);
        self.outcome_at(place, worker)
            .is_some_and(|outcome| progress(outcome) != 0)
    }

    /// Whether `place` can be the reference of a task that was published, now or earlier.
    fn was_published(&self, place: SlotRef) -> bool {
        // ORDERING: Relaxed; only the publisher moves the tail, and a reference that a worker has read was
        // published before.
        let tail = self.tail.load(Ordering::Relaxed);
        let age = tail.wrapping_sub(place.position) & POSITION_MASK;
        place.slot < self.memory.states().len() && (1..=tail.min(POSITION_MASK / 2)).contains(&age)
    }

    /// The state of a task as a dead worker left it.
    pub(crate) fn slot_after_death(&self, place: SlotRef, worker: usize) -> SlotAfterDeath {
        match self.state(place) {
            Some(SlotState::Running(whose)) if whose == worker => match self.current(worker) {
                // Garbage in the worker words was written after the claim: the task had begun.
                Current::Place(current) if current == place => SlotAfterDeath::Running,
                Current::Garbled => SlotAfterDeath::Running,
                Current::Place(_) | Current::Nothing => SlotAfterDeath::Claimed,
            },
            Some(SlotState::Killing(whose)) if whose == worker => SlotAfterDeath::Killed,
            Some(SlotState::Done(whose)) if whose == worker => SlotAfterDeath::Done,
            _ => SlotAfterDeath::None,
        }
    }

    // ---- a worker ----------------------------------------------------------------------------

    /// Initializes a worker's part before it takes tasks: it has claimed nothing. Where it has ended nothing
    /// so far, it writes a number that no accidental write produces, so that a part that is overwritten with
    /// zeros is not taken for an untouched one.
    pub(crate) fn arrive(&self, me: usize) {
        let slots = 0..self.memory.states().len();
        // The last one first, so that the memory of all is asked for at once.
        let _ = self.memory.own_outcome(me, slots.end.saturating_sub(1));
        // Slots without memory for an outcome cannot be claimed either.
        let outcome_of = |slot| Some((slot, self.memory.own_outcome(me, slot)?));
        for (slot, outcome) in slots.map_while(outcome_of) {
            // ORDERING: Relaxed, both; the store of the worker words below releases them.
            if outcome.place.load(Ordering::Relaxed) == FRESH {
                outcome
                    .place
                    .store(self.key.nowhere(slot), Ordering::Relaxed);
            }
        }
        self.set_current(me, NOTHING);
    }

    /// Claims the task at the head of the ring, if there is one, and copies its argument out.
    pub(crate) fn claim(&self, me: usize, argument: &mut Vec<u8>) -> Claim {
        let length = self.memory.ring().len() as u64;
        for _ in 0..=length {
            // ORDERING: Acquire; pairs with `move_head`: what the process that moved the head had seen is
            // seen here.
            let head = self.memory.control().head.0.load(Ordering::Acquire);
            match self.tail_seen().wrapping_sub(head) {
                0 => return Claim::Empty,
                waiting if waiting > length => return Claim::Corrupt,
                _ => {}
            }
            // ORDERING: Relaxed; the tail's load acquired it. If the ring has wrapped around meanwhile, the
            // step fails, as the slot's state holds another position.
            let slot = self.ring_at(head).load(Ordering::Relaxed) as usize;
            let place = SlotRef::new(slot, head);
            let step = self.step(place, SlotState::Ready, SlotState::Running(me));
            // Claimed by this worker or by another one: either way the first process to get there moves the
            // head on.
            self.move_head(head);
            if step == Transition::Taken {
                return self.open(place, me, argument);
            }
        }
        Claim::Corrupt // some process moves the head back again and again
    }

    /// Reads and verifies the content of a claimed slot. `Corrupt`: it is not what was published there, or
    /// there is no memory for the outcome.
    fn open(&self, place: SlotRef, me: usize, argument: &mut Vec<u8>) -> Claim {
        let shared = &self.memory.published()[place.slot];
        // ORDERING: Relaxed, for all of these; the claim's compare-exchange acquired them.
        let head = Head::from_bits(shared.head.load(Ordering::Relaxed));
        let call = words_of(&shared.call);
        let words = words_of(&shared.words);
        let check = shared.check.load(Ordering::Relaxed);
        let (Some(head), Some(outcome)) = (head, self.own_outcome(place, me)) else {
            return Claim::Corrupt;
        };
        let call = FunctionRef::from_numbers(call);
        if head.size > FEW || head.form == SlotKind::Items {
            self.memory.read_argument(place.slot, head.size, argument);
        } else {
            let both = u128::from(words[0]) | u128::from(words[1]) << 64;
            argument.clear();
            argument.extend_from_slice(&both.to_le_bytes()[..head.size]);
        }
        // ORDERING: Acquire; pairs with the release fence of `begin_publication`: either all of the above is
        // what was published with this slot reference, or the reference that is loaded next is a new one.
        fence(Ordering::Acquire);
        let is_there = shared.place.load(Ordering::Relaxed) == place.to_number();
        if !is_there || check != self.check_of_published(place, head, call, words) {
            return Claim::Corrupt;
        }
        if head.form == SlotKind::Items {
            // ORDERING: Relaxed, then Release; pairs with `outcome_at`: a collector that sees this slot
            // reference does not see the progress of items that were there before.
            outcome.progress.store(0, Ordering::Relaxed);
            outcome.place.store(self.masked(place), Ordering::Release);
        }
        if !self.announce_claim(place, me) {
            self.set_current(me, NOTHING);
            return Claim::Corrupt;
        }
        match head.form {
            SlotKind::Argument => Claim::Task(place, call),
            SlotKind::StoredArgument => Claim::Stored(place, call),
            SlotKind::Items => Claim::Items(place, call, head.items),
            _ => Claim::Rendezvous(place),
        }
    }

    /// Announces a claim in the worker words. Returns whether the task still belongs to the worker.
    ///
    /// Pairs with `return_to`: either the audit, which has withdrawn the task, sees the announcement, or this
    /// worker sees another state.
    fn announce_claim(&self, place: SlotRef, me: usize) -> bool {
        if let Some(words) = self.memory.worker_words(me) {
            // Sequentially consistent, in order against the state's load; and a release that pairs with
            // `current`: what the worker did before is seen.
            store_seq_cst(&words.current, self.masked(place));
        }
        let running = SlotState::Running(me).to_bits(place);
        let state = self.memory.states().get(place.slot);
        state.is_some_and(|state| load_seq_cst(&state.0) == running)
    }

    /// Whether a task that a worker has claimed still belongs to it. If so, what it has read of the argument
    /// before this call is the argument.
    pub(crate) fn holds(&self, place: SlotRef, me: usize) -> bool {
        // ORDERING: Acquire. The program withdraws the task, then gives its block back and takes it again
        // for another argument, both under the arena's lock, which orders the withdrawal before the bytes
        // of that one: a worker that has read one of these sees another state.
        fence(Ordering::Acquire);
        matches!(self.state(place), Some(SlotState::Running(worker) | SlotState::Killing(worker)) if worker == me)
    }

    /// Gives up a claim that did not hold: the worker has called nothing of it, and the task is not its own.
    pub(crate) fn leave_claim(&self, me: usize) {
        self.set_current(me, NOTHING);
    }

    fn set_current(&self, me: usize, number: u64) {
        if let Some(words) = self.memory.worker_words(me) {
            // ORDERING: Release; pairs with `current`: what the worker did before it claimed this is seen.
            words
                .current
                .store(self.key.mask(number), Ordering::Release);
        }
    }

    /// Where this worker writes the outcome for a slot; `None`: there is no memory for it.
    #[inline]
    fn own_outcome(&self, place: SlotRef, me: usize) -> Option<&SlotOutcome> {
        self.memory.own_outcome(me, place.slot)
    }

    /// Starts the run of items that a worker has claimed; `None`: there is no memory for their results.
    pub(crate) fn begin_run(&self, place: SlotRef, me: usize) -> Option<ItemRun<'_, M>> {
        if !self.memory.has_room(me, place.slot) {
            return None;
        }
        Some(ItemRun {
            queue: self,
            place,
            me,
            outcome: self.own_outcome(place, me)?,
            stop: &self.memory.published().get(place.slot)?.words[0],
            sum: PrefixSum::new(&self.key),
            progress: BatchProgress {
                done: 0,
                filled: 0,
                has_begun: false,
            },
        })
    }

    /// RUNNING → DONE, with an outcome of at most [`EAGER_LIMIT`] bytes.
    #[inline]
    pub(crate) fn finish(&self, place: SlotRef, me: usize, form: SlotKind, bytes: &[u8]) -> Finish {
        let size = bytes.len();
        let has_room = size <= FEW || self.memory.has_room(me, place.slot);
        let Some(outcome) = self.own_outcome(place, me).filter(|_| has_room) else {
            return Finish::Displaced;
        };
        let head = Head {
            form,
            size,
            items: 0,
        };
        // ORDERING: Relaxed, for all of these; the step to DONE releases them.
        outcome.place.store(self.masked(place), Ordering::Relaxed);
        outcome.head.store(head.to_bits(), Ordering::Relaxed);
        let check = if size <= FEW {
            let both = small(bytes);
            let words = [both as u64, (both >> 64) as u64];
            for (place, word) in outcome.words.iter().zip(words) {
                place.store(word, Ordering::Relaxed);
            }
            self.check_of_outcome(place, head, words)
        } else {
            self.memory.write_result(me, place.slot, 0, bytes);
            self.check_of_outcome(place, head, [self.key.of_bytes(bytes), 0])
        };
        outcome.check.store(check, Ordering::Relaxed);
        self.end(place, me)
    }

    /// RUNNING → DONE, and notifies the collector.
    #[inline]
    fn end(&self, place: SlotRef, me: usize) -> Finish {
        if self.step(place, SlotState::Running(me), SlotState::Done(me)) == Transition::TooLate {
            return match self.state(place) {
                Some(SlotState::Killing(worker)) if worker == me => Finish::Killed,
                _ => Finish::Displaced,
            };
        }
        self.mark_done(place);
        Finish::Published
    }

    /// Sets the bit that says that a slot has something to collect, and wakes the collector if it sleeps.
    fn mark_done(&self, place: SlotRef) {
        let word = &self.memory.done()[place.slot / 64];
        // Sequentially consistent, in order against `prepare_wait`; and a release that pairs with the
        // collector's swap.
        fetch_or_seq_cst(word, 1 << (place.slot % 64));
        let collector = &self.memory.control().collector.0;
        // ORDERING: Relaxed; of the workers that find the collector asleep, exactly one wakes it.
        if load_seq_cst(&collector.asleep) != 0 && collector.asleep.swap(0, Ordering::Relaxed) != 0
        {
            collector.event_count.notify();
        }
    }

    /// Whether there is a task to claim. If the head is garbage, there is none until the program has repaired
    /// it.
    pub(crate) fn has_ready(&self) -> bool {
        // ORDERING: Acquire, so that the tail loaded next is no older. Otherwise the result is a hint, or a
        // fence of the caller orders it.
        let head = self.memory.control().head.0.load(Ordering::Acquire);
        let waiting = self.tail_seen().wrapping_sub(head);
        (1..=self.memory.ring().len() as u64).contains(&waiting)
    }

    /// The position at which the next task is published, as the program last announced it.
    fn tail_seen(&self) -> u64 {
        load_acquire(&self.memory.bulletin().tail.0)
    }

    /// Whether a worker that finds no task from here on must leave.
    pub(crate) fn is_closing(&self) -> bool {
        // ORDERING: Relaxed, as the memory may be read-only; a worker that sees the flag late is woken by
        // `close`.
        let closing = self.memory.bulletin().closing.0.load(Ordering::Relaxed);
        // ORDERING: Acquire; pairs with `close`.
        fence(Ordering::Acquire);
        closing != 0
    }

    /// Makes the worker the searcher, if there is none: as long as there is one, publishers wake no worker.
    pub(crate) fn begin_search(&self, me: usize) -> Transition {
        let searcher = &self.memory.control().searcher.0;
        // ORDERING: Relaxed; it orders nothing before the fence of `end_search`.
        match searcher.compare_exchange(0, me as u32 + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Transition::Taken,
            Err(_) => Transition::TooLate,
        }
    }

    /// Ends the search. A task that was published meanwhile and not claimed must still be seen: the caller
    /// looks again before it sleeps, and wakes another worker if it found a task.
    pub(crate) fn end_search(&self) {
        // ORDERING: Relaxed; the fence below orders it.
        self.memory.control().searcher.0.store(0, Ordering::Relaxed);
        // ORDERING: SeqCst; pairs with `wake_one`: either the publisher sees that no worker searches, or the
        // caller sees the new tail.
        fence(Ordering::SeqCst);
    }

    /// If there is another task to claim, wakes another worker for it.
    pub(crate) fn pass_on(&self) {
        if self.has_ready() {
            self.wake_a_sleeper();
        }
    }

    /// Sleeps until a task is published, the worker must leave, all workers are woken, or the deadline has
    /// passed; returns at once if `has_reason` gives a reason not to sleep. Spurious wake-ups are possible.
    pub(crate) fn sleep(&self, me: usize, deadline: Deadline, has_reason: impl Fn() -> bool) {
        let event_count = &self.memory.event_counts()[me].0;
        let (word, bit) = (&self.memory.asleep()[me / 64], 1_u64 << (me % 64));
        let key = event_count.prepare();
        // ORDERING: Relaxed; the fence below orders it.
        word.fetch_or(bit, Ordering::Relaxed);
        // ORDERING: SeqCst; pairs with `wake_one`: either the publisher sees the bit, or this worker sees the
        // tail.
        fence(Ordering::SeqCst);
        if !self.has_ready() && !self.is_closing() && !has_reason() {
            event_count.sleep(key, deadline);
        }
        // ORDERING: Relaxed; a publisher that still finds the bit notifies in vain, and the publisher of
        // another task, or `pass_on`, wakes a worker for what is left.
        word.fetch_and(!bit, Ordering::Relaxed);
    }

    // ---- states ------------------------------------------------------------------------------

    fn state(&self, place: SlotRef) -> Option<SlotState> {
        let slot = self.memory.states().get(place.slot)?;
        // ORDERING: Acquire; pairs with the step to DONE.
        SlotState::from_bits(slot.0.load(Ordering::Acquire), place)
    }

    fn step(&self, place: SlotRef, from: SlotState, to: SlotState) -> Transition {
        let Some(slot) = self.memory.states().get(place.slot) else {
            return Transition::TooLate;
        };
        let (from, to) = (from.to_bits(place), to.to_bits(place));
        // ORDERING: AcqRel; the slot's other fields change hands by this step.
        let step = slot
            .0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        match step {
            Ok(_) => Transition::Taken,
            Err(_) => Transition::TooLate,
        }
    }

    fn ring_at(&self, position: u64) -> &AtomicU32 {
        let ring = self.memory.ring();
        // The length is a power of two.
        &ring[position as usize & (ring.len() - 1)]
    }
}

/// A run of items in a worker, one after the other: writes each result, and publishes the progress.
pub(crate) struct ItemRun<'a, M = MappedQueue> {
    /// The queue that the items were claimed from.
    queue: &'a ShmQueue<M>,
    /// The claimed slot.
    place: SlotRef,
    /// The index of the worker.
    me: usize,
    /// Where the worker publishes its progress.
    outcome: &'a SlotOutcome,
    /// Not 0: no further item may begin.
    stop: &'a AtomicU64,
    /// The checksum of the results so far.
    sum: PrefixSum,
    /// The progress so far.
    progress: BatchProgress,
}

impl<M: Memory> ItemRun<'_, M> {
    /// The number of items that are done.
    #[inline]
    pub(crate) fn done(&self) -> usize {
        self.progress.done
    }

    /// The number of bytes that their results take.
    #[inline]
    pub(crate) fn filled(&self) -> usize {
        self.progress.filled
    }

    /// Publishes that the next item begins, if it may. `TooLate`: the items were stopped.
    #[inline]
    pub(crate) fn begin(&mut self) -> Transition {
        // ORDERING: Relaxed; as in `stop`.
        if self.stop.load(Ordering::Relaxed) != 0 {
            return Transition::TooLate;
        }
        let has_begun = true;
        let begun = BatchProgress {
            has_begun,
            ..self.progress
        };
        // ORDERING: Release; pairs with `progress`: this value replaces the one that the last `end` released.
        self.outcome
            .progress
            .store(begun.to_bits(), Ordering::Release);
        Transition::Taken
    }

    /// Ends an item. `results` are the results of all items so far; only those of this item, at the end, are
    /// not written yet. Notifies a collector that sleeps until something arrives.
    #[inline]
    pub(crate) fn end(&mut self, results: &[u8]) {
        let (queue, place) = (self.queue, self.place);
        let before = self.progress.filled;
        queue
            .memory
            .write_result(self.me, place.slot, before, &results[before..]);
        self.progress.done += 1;
        self.progress.filled = results.len();
        self.sum.extend(results);
        let check = queue.check_of_items(place, self.progress, &self.sum, results);
        // ORDERING: Release; pairs with the fence of `item_results`: a collector that takes this checksum for
        // the one of two items less sees the progress of one item less.
        self.outcome.words[self.progress.done % 2].store(check, Ordering::Release);
        // Sequentially consistent, in order against `prepare_wait`, after which the collector looks at the
        // progress; and a release that pairs with `progress`.
        store_seq_cst(&self.outcome.progress, self.progress.to_bits());
        let collector = &queue.memory.control().collector.0;
        if load_seq_cst(&collector.asleep) != 0 {
            queue.mark_done(place);
        }
    }

    /// RUNNING → DONE; `nanos` is the time that the items took, in nanoseconds.
    pub(crate) fn finish(self, form: SlotKind, nanos: u64) -> Finish {
        let head = Head {
            form,
            size: self.progress.filled,
            items: self.progress.done,
        };
        // ORDERING: Relaxed, for all of these; the step to DONE releases them.
        self.outcome.nanos.store(nanos, Ordering::Relaxed);
        self.outcome.head.store(head.to_bits(), Ordering::Relaxed);
        let check = self.queue.check_of_outcome(self.place, head, [nanos, 0]);
        self.outcome.check.store(check, Ordering::Relaxed);
        self.queue.end(self.place, self.me)
    }
}

#[cfg(test)]
pub(crate) mod heap;

#[cfg(all(test, loom))]
mod models;
