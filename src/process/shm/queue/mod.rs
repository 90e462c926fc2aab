//! The board: small tasks in memory that the program and its workers share.
//!
//! ```text
//!  the program                    shared memory                      a worker
//!
//!  publish ──► slot: READY ──► ring: … ▒ ▒ ▒ ▒ … ──► claim: RUNNING by me
//!                                     head   tail           │ runs
//!  collect ◄── slot: DONE ◄── bitmap: …0100… ◄── finish ◄───┘
//! ```
//!
//! *Publish* writes the task into a free slot, makes it READY, puts its number on the ring, and moves
//! the tail. *Claim* reads the ring at the head and moves the slot from READY to RUNNING by one
//! compare-exchange: the only step in which a task changes hands, so that a worker can vanish between
//! any two steps and the slot still says whose it was. A worker that finds the slot at the head claimed
//! already advances the head itself. *Finish* writes the result, moves the slot to DONE, and sets its bit.
//!
//! A slot's state holds the position on the ring at which the task was published: a claim that was
//! slow finds another position there, and fails. So a slot can be used again as soon as its task has
//! ended, while the ring needs `tail - head` to stay below its length.
//!
//! *Stray writes.* A task may write where it should not, and the memory that its worker can write is then
//! any bytes. Which process writes what stands in [`layout`]; on it rests what follows.
//! - What the program publishes cannot be written by workers. A worker checks all the same that what it
//!   claims is what was published there, by its checksum and its place, before it calls anything.
//! - Outcomes lie in a part of the one worker that writes them, with a checksum; one that does not fit is
//!   no outcome ([`Reading::Corrupt`]).
//! - The words that all write (head, searcher, sleepers, states, bits) can be made anew from what the
//!   program knows, and from what workers say at their own desks: which place they claimed last.
//!   `InFlight`'s audit does so; here are its steps ([`ShmQueue::standing`], [`ShmQueue::republish`]…).
//! - No loop here is longer than the ring, whatever stands in memory.

pub(crate) mod layout;

use crate::process::shm::checksum::{Key, PrefixSum, small};
use crate::process::shm::event_count::WaitKey;
use crate::process::shm::queue::layout::{
    FEW, INLINE, MappedQueue, Memory, Publication, SlotOutcome,
};
use crate::remote::function::FunctionRef;
use crate::sync::{
    AtomicU32, AtomicU64, Ordering, fence, fetch_or_seq_cst, load_seq_cst, store_seq_cst,
};

/// A board in memory of that kind.
pub(crate) struct ShmQueue<M = MappedQueue> {
    /// The memory.
    memory: M,
    /// What checksums depend on.
    key: Key,
    /// Where the next task is published, as only the program itself says.
    tail: AtomicU64,
}

/// Where a task is published: its slot, and its position on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotRef {
    /// The slot.
    pub(crate) slot: usize,
    /// The position, cut to [`POSITION_BITS`].
    position: u64,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    /// It can be claimed.
    Ready,
    /// The worker of that index runs it.
    Running(usize),
    /// The worker of that index has told its outcome, here or over its link.
    Done(usize),
    /// It was cancelled before it began.
    Cancelled,
    /// It was killed while the worker of that index ran it.
    Killing(usize),
}

/// What a slot's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotKind {
    /// An encoded argument.
    Argument,
    /// Nothing: what is to be done comes over the link, once asked for.
    Rendezvous,
    /// An encoded result.
    Value,
    /// Why there is none.
    Fault,
    /// Nothing: the outcome came over the link.
    OutOfBand,
    /// The encoded arguments of a map's items; then the results of those that are done.
    Items,
    /// The results of a map's items; of the one behind them, the outcome came over the link.
    ItemsOutOfBand,
    /// Where an encoded argument is.
    StoredArgument,
    /// Where an encoded result is.
    StoredValue,
}

/// What a worker finds at the head of the ring.
#[must_use]
pub(crate) enum Claim {
    /// A task to run; its argument was copied out.
    Task(SlotRef, FunctionRef),
    /// A task to run; what was copied out says where its argument is.
    Stored(SlotRef, FunctionRef),
    /// A task to ask for over the link.
    Rendezvous(SlotRef),
    /// So many items of a map to run; their arguments were copied out.
    Items(SlotRef, FunctionRef, usize),
    /// Nothing.
    Empty,
    /// Nothing that makes sense: a stray write has hit the head, or what was claimed is not what was
    /// published. Only the program can put that right.
    Corrupt,
}

/// How far a worker has come with the items of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchProgress {
    /// Those that are done.
    pub(crate) done: usize,
    /// Bytes of their results.
    pub(crate) filled: usize,
    /// Whether it has begun the one behind them.
    pub(crate) has_begun: bool,
}

/// Whether there was room.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SlotPublish {
    /// It is there.
    Published(SlotRef),
    /// The ring is full.
    Full,
}

/// Whether a step was taken.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transition {
    /// By the caller.
    Taken,
    /// Another thread or process was first.
    TooLate,
}

/// Whether a worker's outcome is where the program looks for it.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// It is.
    Told,
    /// The task was killed, and the worker is about to be.
    Killed,
    /// The slot is not the worker's any more, which nobody has done on purpose.
    Displaced,
}

/// What the program finds where an outcome should be.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The task is not done.
    NotDone,
    /// An outcome of that form, told by the worker of that index.
    Sound(SlotKind, usize),
    /// The slot says that it is done, and there is no outcome that its worker has written.
    Corrupt,
}

/// What a worker that vanished leaves in a slot.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotAfterDeath {
    /// It had claimed the task, and not begun it.
    Claimed,
    /// It was at work on the task.
    Running,
    /// The task had been killed.
    Killed,
    /// The outcome is there.
    Done,
    /// The slot is not its.
    None,
}

/// What the state of a published task says, held against what workers say.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It waits on the ring.
    Waiting,
    /// It waits, and the head has passed it: no worker will claim it.
    Passed,
    /// The worker of that index says so too.
    Running(usize),
    /// A worker is about to say that it has claimed it, or never will.
    Claimed(usize),
    /// The worker of that index says that it is done.
    Done(usize),
    /// The state makes no sense.
    Garbled,
}

/// What a worker's part tells of a task.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Nothing: it tells of an earlier one, or of none.
    None,
    /// The worker has told what became of it, or of some of its items.
    Ended,
    /// Nothing that the worker can have written.
    Garbled,
}

/// What a worker says at its desk.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Current {
    /// It has claimed nothing since it came.
    Nothing,
    /// It has claimed the task there, and no other since.
    Place(SlotRef),
    /// Nothing that it can have said.
    Garbled,
}

/// Bits of a position in a slot's state.
const POSITION_BITS: u32 = 40;
/// Those bits.
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
/// A worker's index stands above the kind of the state.
const WORKER_SHIFT: u32 = 8;
/// A worker's index is multiplied by this: the product of the highest has 16 bits.
const WORKER_FACTOR: u64 = 63;
const _: () =
    assert!(WORKER_FACTOR * (layout::MAX_WORKERS as u64) < 1 << (POSITION_SHIFT - WORKER_SHIFT));
/// The position stands above the worker.
const POSITION_SHIFT: u32 = 24;
/// A worker has claimed nothing.
const NOTHING: u64 = 0;
/// What is in memory that nobody has written.
const FRESH: u64 = 0;

impl SlotState {
    fn to_bits(self, place: SlotRef) -> u64 {
        // Any two kinds differ in four bits at least, and any two workers in two, as their numbers are
        // multiples of a factor that divides no power of two: no single flip makes one state of another.
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

    /// The state of the task published there; `None`: the slot holds another, or garbage.
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

    /// As it travels over a link.
    pub(crate) fn to_number(self) -> u64 {
        self.position << POSITION_SHIFT | self.slot as u64
    }

    pub(crate) fn from_number(number: u64) -> Self {
        let slot = (number & ((1 << POSITION_SHIFT) - 1)) as usize;
        Self::new(slot, number >> POSITION_SHIFT)
    }

    /// As a worker says that it has claimed, or ended, it: never [`NOTHING`], nor [`FRESH`].
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

/// What bytes there are, as one word: form, size, number of items.
#[derive(Debug, Clone, Copy)]
struct Head {
    /// What they are.
    form: SlotKind,
    /// How many there are.
    size: usize,
    /// How many items they are of, where they are of several.
    items: usize,
}

impl Head {
    fn to_bits(self) -> u64 {
        self.form as u64 | (self.size as u64) << 16 | (self.items as u64) << 32
    }

    /// `None`: this is none. The size is at most [`INLINE`].
    fn from_bits(bits: u64) -> Option<Self> {
        Some(Self {
            form: SlotKind::from_bits(bits & 0xffff)?,
            size: ((bits >> 16) & 0xffff) as usize,
            items: (bits >> 32) as usize,
        })
        .filter(|head| head.size <= INLINE)
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

/// Loads a word that may lie in memory mapped for reading alone, and what was released with it.
#[inline]
fn load_acquire(word: &AtomicU64) -> u64 {
    // ORDERING: Relaxed, as no other order is promised to work on read-only memory.
    let value = word.load(Ordering::Relaxed);
    // ORDERING: Acquire, from the store that released it.
    fence(Ordering::Acquire);
    value
}

/// Loads words, in no order.
#[inline]
fn words_of<const N: usize>(words: &[AtomicU64; N]) -> [u64; N] {
    // ORDERING: Relaxed; the caller's.
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

    /// Puts a task into a free slot. One thread at a time.
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

    /// Puts so many items of a map into a free slot. One thread at a time.
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
            // The words are for stopping the items.
            SlotKind::Items => 0,
            _ if size <= FEW => small(bytes),
            _ => 0,
        };
        if size > FEW || form == SlotKind::Items {
            self.memory.write_argument(slot, bytes);
        }
        let words = [words as u64, (words >> 64) as u64];
        // ORDERING: Relaxed, all that the state's store releases.
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

    /// Puts what lies in a slot there once more, at a new place: nobody will claim it at the old one.
    /// One thread at a time.
    pub(crate) fn republish(&self, old: SlotRef) -> SlotPublish {
        let Some(place) = self.next_place(old.slot) else {
            return SlotPublish::Full;
        };
        let shared = &self.memory.published()[old.slot];
        // ORDERING: Relaxed, all; the program alone writes them, one thread at a time.
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

    /// Where a task that is put into a slot stands; `None`: the ring is full.
    #[inline]
    fn next_place(&self, slot: usize) -> Option<SlotRef> {
        let length = self.memory.ring().len() as u64;
        // ORDERING: Relaxed; only the publisher, of which there is one at a time, moves the tail.
        let tail = self.tail.load(Ordering::Relaxed);
        // ORDERING: Acquire; the ring's entry is free once the head that passed it is seen.
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

    /// A slot is about to be written. A worker that reads it late, for a task that was there before, finds
    /// the new place afterwards.
    #[inline]
    fn begin_publication(&self, shared: &Publication, place: SlotRef) {
        // ORDERING: Relaxed; the fence.
        shared.place.store(place.to_number(), Ordering::Relaxed);
        // ORDERING: Release; pairs with the acquire fence of `open`: a worker that sees anything that is
        // written after this sees the place.
        fence(Ordering::Release);
    }

    /// A slot was written: workers may claim it.
    #[inline]
    fn end_publication(&self, place: SlotRef) {
        // ORDERING: Release, to the claim's compare-exchange.
        self.memory.states()[place.slot]
            .0
            .store(SlotState::Ready.to_bits(place), Ordering::Release);
        // ORDERING: Relaxed, both; only the publisher moves the tail, and its store releases the ring.
        let tail = self.tail.load(Ordering::Relaxed);
        let entry = self.ring_at(tail);
        entry.store(place.slot as u32, Ordering::Relaxed);
        let next = tail.wrapping_add(1);
        // ORDERING: Relaxed; as above.
        self.tail.store(next, Ordering::Relaxed);
        // ORDERING: Release, to the claim that sees this tail.
        let bulletin = self.memory.bulletin();
        bulletin.tail.0.store(next, Ordering::Release);
    }

    /// The checksum of a published task. Arguments that do not lie in the words cannot be written by
    /// workers: their size is enough.
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
            SlotKind::Items => [0; 2], // they change
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

    /// Moves the head past entries that nobody can claim: cancelled ones, of which no worker would
    /// tell. Whether it has.
    fn skip_ended(&self) -> bool {
        let mut has_moved = false;
        for _ in self.memory.ring() {
            // ORDERING: Acquire; as in `claim`.
            let head = self.memory.control().head.0.load(Ordering::Acquire);
            // ORDERING: Relaxed; the caller publishes, and has written both.
            let waiting = self.tail.load(Ordering::Relaxed).wrapping_sub(head);
            if waiting == 0 || waiting > self.memory.ring().len() as u64 {
                break; // or the head is garbage, which is not mended by moving it
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

    /// Moves the head on, unless another process has.
    fn move_head(&self, head: u64) {
        let next = head.wrapping_add(1);
        // ORDERING: Release, so that a publisher that sees the entry free has it read; Relaxed on
        // failure, since then another process moved it.
        let _ = self.memory.control().head.0.compare_exchange(
            head,
            next,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Wakes a worker that sleeps, unless one is looking for tasks anyway. To be called after
    /// `publish`.
    pub(crate) fn wake_one(&self) {
        // ORDERING: SeqCst; pairs with the fence of a worker that lies down, or stops searching: either
        // the worker sees the new tail, or the publisher sees that it sleeps, or searches no more.
        fence(Ordering::SeqCst);
        // ORDERING: Relaxed; the fence.
        if self.memory.control().searcher.0.load(Ordering::Relaxed) == 0 {
            self.wake_a_sleeper();
        }
    }

    fn wake_a_sleeper(&self) {
        for (word, sleepers) in self.memory.asleep().iter().enumerate() {
            // ORDERING: Relaxed; the caller's fence.
            let mut bits = sleepers.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                bits &= bits - 1;
                let Some(event_count) = self.memory.event_counts().get(word * 64 + bit as usize)
                else {
                    continue;
                };
                // ORDERING: Relaxed; of those who find the bit, one clears it, and rings.
                let before = sleepers.fetch_and(!(1 << bit), Ordering::Relaxed);
                if before & (1 << bit) != 0 {
                    return event_count.0.notify();
                }
            }
        }
    }

    /// Wakes everybody who sleeps: workers, and who collects.
    pub(crate) fn wake_all(&self) {
        self.wake_workers();
        self.wake_collector();
    }

    fn wake_workers(&self) {
        for word in self.memory.asleep() {
            // ORDERING: Relaxed; the rings release what they should see.
            word.store(0, Ordering::Relaxed);
        }
        for event_count in self.memory.event_counts() {
            event_count.0.notify();
        }
    }

    /// Lets workers leave that find no task.
    pub(crate) fn close(&self) {
        // ORDERING: Release, to `is_closing`: a worker that sees it sees what was published before.
        let closing = &self.memory.bulletin().closing.0;
        closing.store(1, Ordering::Release);
        self.wake_all();
    }

    /// Has workers wait that find no task.
    pub(crate) fn reopen(&self) {
        // ORDERING: Relaxed; a worker that leaves all the same is replaced.
        let closing = &self.memory.bulletin().closing.0;
        closing.store(0, Ordering::Relaxed);
    }

    /// READY → CANCELLED.
    pub(crate) fn cancel(&self, place: SlotRef) -> Transition {
        self.step(place, SlotState::Ready, SlotState::Cancelled)
    }

    /// RUNNING → KILLING; the worker that ran it then begins nothing else, and is to be killed.
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

    /// Has no item begin any more there.
    pub(crate) fn stop(&self, place: SlotRef) {
        if let Some(slot) = self.memory.published().get(place.slot) {
            // ORDERING: Relaxed; a worker that sees it late has begun another item meanwhile. If
            // another task lies there by now, that is not stopped: `publish` follows a lock of the
            // caller's.
            slot.words[0].store(1, Ordering::Relaxed);
        }
    }

    /// How far that worker has come with the items there: at most so many. Nothing of it is checked.
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

    /// What the worker says there of that place.
    fn outcome_at(&self, place: SlotRef, worker: usize) -> Option<&SlotOutcome> {
        let outcome = self.memory.outcomes(worker)?.get(place.slot)?;
        // Acquired: what the worker wrote there for an earlier place is not seen any more.
        (load_acquire(&outcome.place) == self.masked(place)).then_some(outcome)
    }

    /// The results of the items there that a worker has done, and how far it is. `None`: they are not what
    /// it wrote.
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
        if progress.done > items || progress.filled > INLINE {
            return None;
        }
        if progress.done == 0 {
            return (progress.filled == 0).then_some(progress);
        }
        // ORDERING: Relaxed; the progress acquired it. While the worker is at the next item, it writes the
        // other one of the two, and bytes behind these.
        let check = outcome.words[progress.done % 2].load(Ordering::Relaxed);
        self.memory
            .read_result(worker, place.slot, progress.filled, bytes);
        let mut sum = PrefixSum::new(&self.key);
        sum.extend(bytes);
        if self.check_of_items(place, progress, &sum, bytes) == check {
            return Some(progress);
        }
        // ORDERING: Acquire, from the checksum that was loaded. If it belongs to two items more, which the
        // worker has yet to count, those are one behind the progress that is loaded now: the caller hears of
        // them later.
        fence(Ordering::Acquire);
        let now = BatchProgress::from_bits(outcome.progress.load(Ordering::Relaxed));
        let is_late = (progress.done + 1..=items).contains(&now.done);
        is_late.then_some(BatchProgress::from_bits(0))
    }

    /// How long the items took, in nanoseconds, once they are done.
    pub(crate) fn item_nanos(&self, place: SlotRef, worker: usize) -> u64 {
        // ORDERING: Relaxed; the state's load acquired it.
        let outcome = self.outcome_at(place, worker);
        outcome.map_or(0, |outcome| outcome.nanos.load(Ordering::Relaxed))
    }

    /// Whether a worker has begun it, and has not ended it.
    pub(crate) fn is_running(&self, place: SlotRef) -> bool {
        matches!(
            self.state(place),
            Some(SlotState::Running(_) | SlotState::Killing(_))
        )
    }

    /// The worker that is at it.
    pub(crate) fn runner(&self, place: SlotRef) -> Option<usize> {
        match self.state(place)? {
            SlotState::Running(worker) => Some(worker),
            _ => None,
        }
    }

    /// Whether no worker has begun it.
    pub(crate) fn is_ready(&self, place: SlotRef) -> bool {
        self.state(place) == Some(SlotState::Ready)
    }

    // ---- the program: in ---------------------------------------------------------------------

    /// Whether anything is to be collected.
    pub(crate) fn has_done(&self) -> bool {
        // ORDERING: Relaxed; a hint.
        let mut words = self.memory.done().iter();
        words.any(|word| word.load(Ordering::Relaxed) != 0)
    }

    /// The slots that have become done since the last call.
    pub(crate) fn take_done(&self, mut take: impl FnMut(usize)) {
        for (at, word) in self.memory.done().iter().enumerate() {
            // ORDERING: Relaxed; a hint, of which the swap is the truth.
            if word.load(Ordering::Relaxed) == 0 {
                continue;
            }
            // ORDERING: Acquire, from the `finish` that set the bit.
            let mut bits = word.swap(0, Ordering::Acquire);
            while bits != 0 {
                take(at * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
            }
        }
    }

    /// What the outcome of items is, if they are done.
    pub(crate) fn items_outcome(&self, place: SlotRef) -> Reading {
        let Some(SlotState::Done(worker)) = self.state(place) else {
            return Reading::NotDone;
        };
        self.items_outcome_of(place, worker)
    }

    /// What the outcome of items is that the worker says it has ended.
    pub(crate) fn items_outcome_of(&self, place: SlotRef, worker: usize) -> Reading {
        let Some((head, check, outcome)) = self.head_of(place, worker) else {
            return Reading::Corrupt;
        };
        // ORDERING: Relaxed, both; the state's load acquired them, or else they are checked.
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

    /// The outcome of a task, if it is done; and its bytes.
    #[inline]
    pub(crate) fn outcome(&self, place: SlotRef, bytes: &mut Vec<u8>) -> Reading {
        let Some(SlotState::Done(worker)) = self.state(place) else {
            return Reading::NotDone;
        };
        self.outcome_of(place, worker, bytes)
    }

    /// The outcome of a task that the worker says it has ended, and its bytes.
    #[inline]
    pub(crate) fn outcome_of(&self, place: SlotRef, worker: usize, bytes: &mut Vec<u8>) -> Reading {
        bytes.clear();
        let Some((head, check, outcome)) = self.head_of(place, worker) else {
            return Reading::Corrupt;
        };
        let expected = if head.size <= FEW {
            // ORDERING: Relaxed; the state's load acquired them, or else they are checked.
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

    /// What the worker says of that place's outcome, unless it makes no sense.
    #[inline]
    fn head_of(&self, place: SlotRef, worker: usize) -> Option<(Head, u64, &SlotOutcome)> {
        let outcome = self.outcome_at(place, worker)?;
        // ORDERING: Relaxed, both; the state's load acquired them, or else they are checked.
        let head = Head::from_bits(outcome.head.load(Ordering::Relaxed))?;
        let check = outcome.check.load(Ordering::Relaxed);
        Some((head, check, outcome))
    }

    /// The checksum of an outcome, whose result is, or comes to, these words.
    #[inline]
    fn check_of_outcome(&self, place: SlotRef, head: Head, words: [u64; 2]) -> u64 {
        let (place, head) = (place.to_number(), head.to_bits());
        self.key.of_words([place, head, words[0], words[1]])
    }

    /// The checksum of the results of items that are done.
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
        // Another number of words than an outcome has, so that the one is not taken for the other.
        sum ^ self.key.of_words([place.to_number(), count])
    }

    /// A thread looks for outcomes on that core, or, if that is `None`, does so no more.
    pub(crate) fn set_waiter_core(&self, core: Option<u32>) {
        self.memory.bulletin().waiter_core.0.set(core);
    }

    /// The core on which a thread looks for outcomes, if one does.
    pub(crate) fn waiter_core(&self) -> Option<u32> {
        self.memory.bulletin().waiter_core.0.get()
    }

    /// A task was submitted on that core.
    pub(crate) fn set_submitter_core(&self, core: Option<u32>) {
        self.memory.bulletin().submitter_core.0.set(core);
    }

    /// The core on which a task was submitted last, if any was.
    pub(crate) fn submitter_core(&self) -> Option<u32> {
        self.memory.bulletin().submitter_core.0.get()
    }

    /// Before the collector sleeps; it looks for work after this, and may then `wait`.
    pub(crate) fn prepare_wait(&self) -> WaitKey {
        let collector = &self.memory.control().collector.0;
        let ticket = collector.event_count.prepare();
        // ORDERING: Relaxed; the fence. An exchange, as loom places a store beside the exchange of a worker that
        // has found the last sleeper up again, not behind it.
        collector.asleep.swap(1, Ordering::Relaxed);
        // ORDERING: SeqCst; pairs with `mark_done` and `ItemRun::end`, which store and load in order: either
        // the worker sees the collector asleep, or the collector sees the bit, or the progress.
        fence(Ordering::SeqCst);
        ticket
    }

    /// The collector sleeps until there is something to collect, or the deadline has passed.
    pub(crate) fn wait(&self, ticket: WaitKey, deadline: Option<std::time::Instant>) {
        self.memory
            .control()
            .collector
            .0
            .event_count
            .sleep(ticket, deadline);
    }

    /// The collector is up.
    pub(crate) fn end_wait(&self) {
        // ORDERING: Relaxed; at worst a worker rings for nothing.
        self.memory
            .control()
            .collector
            .0
            .asleep
            .store(0, Ordering::Relaxed);
    }

    /// Wakes the collector, if it sleeps or is about to.
    pub(crate) fn wake_collector(&self) {
        let collector = &self.memory.control().collector.0;
        // ORDERING: Relaxed; a collector that is about to sleep holds a ticket that the ring makes void.
        collector.asleep.store(0, Ordering::Relaxed);
        collector.event_count.notify();
    }

    // ---- the program: deaths and audits --------------------------------------------------------

    /// A worker is dead: nobody waits for what it was about to do.
    pub(crate) fn worker_died(&self, worker: usize) {
        let searcher = &self.memory.control().searcher.0;
        // ORDERING: Relaxed; the rings below make everybody look again.
        let _ =
            searcher.compare_exchange(worker as u32 + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.wake_all(); // it may have swallowed a wake-up
    }

    /// Has workers look again that nobody woke, or that wait for one that searches and has stopped:
    /// tasks are waiting.
    pub(crate) fn rouse(&self) {
        // ORDERING: Relaxed; the rings make workers look again. One that searches truly goes on.
        let searcher = &self.memory.control().searcher.0;
        searcher.store(0, Ordering::Relaxed);
        self.wake_workers();
    }

    /// Sets the head right if it is none; then all that waited is [`Standing::Passed`]. By the thread
    /// that publishes.
    pub(crate) fn mend_head(&self) {
        let head = &self.memory.control().head.0;
        // ORDERING: Relaxed; only the publisher moves the tail, and the head is a number alone.
        let tail = self.tail.load(Ordering::Relaxed);
        let waiting = tail.wrapping_sub(head.load(Ordering::Relaxed));
        if waiting > self.memory.ring().len() as u64 {
            // ORDERING: Release; as in `move_head`.
            head.store(tail, Ordering::Release);
        }
    }

    /// Where a published task stands, as its state says and its worker, if that says so. By the thread
    /// that publishes.
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

    /// Whether the head is behind a task that nobody has claimed.
    fn is_passed(&self, place: SlotRef) -> bool {
        // ORDERING: Relaxed; a task that is just being claimed has another state.
        let head = self.memory.control().head.0.load(Ordering::Relaxed);
        let ahead = place.position.wrapping_sub(head) & POSITION_MASK;
        ahead >= self.memory.ring().len() as u64 && self.is_ready(place)
    }

    /// What a worker has claimed last, as it says.
    pub(crate) fn current(&self, worker: usize) -> Current {
        let Some(desk) = self.memory.worker_words(worker) else {
            return Current::Garbled;
        };
        match self.key.unmask(load_acquire(&desk.current)) {
            NOTHING => Current::Nothing,
            number => match SlotRef::of_claim(number) {
                Some(place) if self.was_published(place) => Current::Place(place),
                _ => Current::Garbled,
            },
        }
    }

    /// Whether a worker may tell what came of a task: the state names it, or, where that was overwritten, it
    /// says at its own desk that it has claimed the task.
    pub(crate) fn speaks_for(&self, place: SlotRef, worker: usize) -> bool {
        match self.state(place) {
            Some(
                SlotState::Running(whose) | SlotState::Killing(whose) | SlotState::Done(whose),
            ) if whose == worker => true,
            _ => self.current(worker) == Current::Place(place),
        }
    }

    /// Says again that a worker runs the task, as that itself says.
    pub(crate) fn restore_running(&self, place: SlotRef, worker: usize) {
        if let Some(state) = self.memory.states().get(place.slot) {
            // ORDERING: Release; as a claim's exchange.
            state
                .0
                .store(SlotState::Running(worker).to_bits(place), Ordering::Release);
        }
    }

    /// Takes a task off the board that stands so: a claim, or an end, of it fails from now on. Too late: it
    /// does not stand so any more, and may have begun. By the thread that publishes.
    pub(crate) fn withdraw(&self, place: SlotRef, standing: Standing) -> Transition {
        let from = match standing {
            Standing::Waiting | Standing::Passed => SlotState::Ready,
            Standing::Running(worker) | Standing::Claimed(worker) => SlotState::Running(worker),
            Standing::Done(_) | Standing::Garbled => {
                if let Some(state) = self.memory.states().get(place.slot) {
                    // ORDERING: Release; as a step. No process steps from what stands there.
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

    /// Gives a task that was withdrawn back to the worker that had claimed it, if that has come to its desk
    /// meanwhile: it may have begun.
    ///
    /// Pairs with `announce_claim`: either the worker sees that the task was withdrawn, and does not begin it, or
    /// this thread sees the desk. If both see it, the worker leaves its desk again, and the next audit finds
    /// the task as it was.
    fn return_to(&self, worker: usize, place: SlotRef) -> Transition {
        // ORDERING: SeqCst; as said, between the withdrawal and the look at the desk.
        fence(Ordering::SeqCst);
        if self.current(worker) != Current::Place(place) {
            return Transition::Taken;
        }
        self.restore_running(place, worker);
        Transition::TooLate
    }

    /// Whether a worker has begun to say, in its own part, what became of a task.
    pub(crate) fn trace(&self, place: SlotRef, worker: usize) -> Trace {
        let outcomes = self.memory.outcomes(worker);
        let Some(outcome) = outcomes.and_then(|outcomes| outcomes.get(place.slot)) else {
            return Trace::None; // it was never there
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

    /// A place as a worker writes it: a number that no accident makes of another one.
    #[inline]
    fn masked(&self, place: SlotRef) -> u64 {
        self.key.mask(place.to_claim())
    }

    /// Whether a worker says in its own part that it has begun one of the items there.
    pub(crate) fn has_progress(&self, place: SlotRef, worker: usize) -> bool {
        // ORDERING: Relaxed; the worker is dead, which the program heard from the system.
        let progress = |outcome: &SlotOutcome| outcome.progress.load(Ordering::Relaxed);
        self.outcome_at(place, worker)
            .is_some_and(|outcome| progress(outcome) != 0)
    }

    /// Whether a task can have been published there, now or earlier.
    fn was_published(&self, place: SlotRef) -> bool {
        // ORDERING: Relaxed; only the publisher moves the tail, and a place that a worker has read was
        // published before.
        let tail = self.tail.load(Ordering::Relaxed);
        let age = tail.wrapping_sub(place.position) & POSITION_MASK;
        place.slot < self.memory.states().len() && (1..=tail.min(POSITION_MASK / 2)).contains(&age)
    }

    /// What a dead worker left in a slot.
    pub(crate) fn slot_after_death(&self, place: SlotRef, worker: usize) -> SlotAfterDeath {
        match self.state(place) {
            Some(SlotState::Running(whose)) if whose == worker => match self.current(worker) {
                // What it has written since, if that was garbage, it has written after the claim.
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

    /// A worker is about to take tasks: it has claimed nothing. Where it has ended nothing so far, it says so, by a
    /// number that no accident makes: what is overwritten with zeros is not taken for that.
    pub(crate) fn arrive(&self, me: usize) {
        let slots = 0..self.memory.states().len();
        // Where there is no memory, it can claim nothing either.
        let outcome_of = |slot| Some((slot, self.memory.own_outcome(me, slot)?));
        for (slot, outcome) in slots.map_while(outcome_of) {
            // ORDERING: Relaxed, both; released by the desk.
            if outcome.place.load(Ordering::Relaxed) == FRESH {
                outcome
                    .place
                    .store(self.key.nowhere(slot), Ordering::Relaxed);
            }
        }
        self.set_current(me, NOTHING);
    }

    /// Takes the task at the head of the ring, if there is one; its argument is copied out.
    pub(crate) fn claim(&self, me: usize, argument: &mut Vec<u8>) -> Claim {
        let length = self.memory.ring().len() as u64;
        for _ in 0..=length {
            // ORDERING: Acquire; what the process had seen that moved the head is seen here.
            let head = self.memory.control().head.0.load(Ordering::Acquire);
            match self.tail_seen().wrapping_sub(head) {
                0 => return Claim::Empty,
                waiting if waiting > length => return Claim::Corrupt,
                _ => {}
            }
            // ORDERING: Relaxed; the tail's load acquired it. If the ring has gone round meanwhile,
            // the slot's state tells.
            let slot = self.ring_at(head).load(Ordering::Relaxed) as usize;
            let place = SlotRef::new(slot, head);
            let step = self.step(place, SlotState::Ready, SlotState::Running(me));
            // Ours, or taken: the head moves on, by the process that is first.
            self.move_head(head);
            if step == Transition::Taken {
                return self.open(place, me, argument);
            }
        }
        Claim::Corrupt // somebody moves the head back again and again
    }

    /// What a claimed slot holds, unless it is not what was published there, or there is no memory for
    /// what comes of it.
    fn open(&self, place: SlotRef, me: usize, argument: &mut Vec<u8>) -> Claim {
        let shared = &self.memory.published()[place.slot];
        // ORDERING: Relaxed, all; the claim's compare-exchange acquired them.
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
        // ORDERING: Acquire; pairs with the release fence of `begin_publication`: either all of the above
        // is what was published at this place, or the place is another by now.
        fence(Ordering::Acquire);
        let is_there = shared.place.load(Ordering::Relaxed) == place.to_number();
        if !is_there || check != self.check_of_published(place, head, call, words) {
            return Claim::Corrupt;
        }
        if head.form == SlotKind::Items {
            // ORDERING: Relaxed, then Release, to `outcome_at`: a collector that sees this place sees no
            // progress with items that were there before.
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

    /// A worker says at its desk that it has claimed a task. Returns whether the task is still its.
    ///
    /// Pairs with `return_to`: either the audit, which has withdrawn the task, sees the desk, or this worker
    /// sees another state.
    fn announce_claim(&self, place: SlotRef, me: usize) -> bool {
        if let Some(desk) = self.memory.worker_words(me) {
            // In order against the state; and released to `current`: what the worker did before is seen.
            store_seq_cst(&desk.current, self.masked(place));
        }
        let running = SlotState::Running(me).to_bits(place);
        let state = self.memory.states().get(place.slot);
        state.is_some_and(|state| load_seq_cst(&state.0) == running)
    }

    /// Whether a task that a worker has claimed is still its: if so, what it has read of the argument before
    /// is that.
    pub(crate) fn holds(&self, place: SlotRef, me: usize) -> bool {
        // ORDERING: Acquire; pairs with the withdrawal, after which the argument's memory is used for another:
        // a worker that has read a byte of that sees another state.
        fence(Ordering::Acquire);
        matches!(self.state(place), Some(SlotState::Running(worker) | SlotState::Killing(worker)) if worker == me)
    }

    /// A worker has called nothing of what it has claimed, as the claim did not hold: the task is not its.
    pub(crate) fn leave_claim(&self, me: usize) {
        self.set_current(me, NOTHING);
    }

    fn set_current(&self, me: usize, number: u64) {
        if let Some(desk) = self.memory.worker_words(me) {
            // ORDERING: Release, to `current`: what the worker did before it claimed this is seen.
            desk.current.store(self.key.mask(number), Ordering::Release);
        }
    }

    /// Where this worker says what it has done with a slot, if there is memory for it.
    #[inline]
    fn own_outcome(&self, place: SlotRef, me: usize) -> Option<&SlotOutcome> {
        self.memory.own_outcome(me, place.slot)
    }

    /// A worker begins to run items that it has claimed; `None`: there is no memory for it.
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

    /// RUNNING → DONE, with an outcome of at most [`INLINE`] bytes.
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
        // ORDERING: Relaxed, all; released by the step.
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

    /// RUNNING → DONE, and the collector hears of it.
    #[inline]
    fn end(&self, place: SlotRef, me: usize) -> Finish {
        if self.step(place, SlotState::Running(me), SlotState::Done(me)) == Transition::TooLate {
            return match self.state(place) {
                Some(SlotState::Killing(worker)) if worker == me => Finish::Killed,
                _ => Finish::Displaced,
            };
        }
        self.mark_done(place);
        Finish::Told
    }

    /// There is something to collect in a slot: says so, and wakes the collector if it sleeps.
    fn mark_done(&self, place: SlotRef) {
        let word = &self.memory.done()[place.slot / 64];
        // In order against `prepare_wait`; and released to the collector's swap.
        fetch_or_seq_cst(word, 1 << (place.slot % 64));
        let collector = &self.memory.control().collector.0;
        // ORDERING: Relaxed; of the workers that find it asleep, one wakes it.
        if load_seq_cst(&collector.asleep) != 0 && collector.asleep.swap(0, Ordering::Relaxed) != 0
        {
            collector.event_count.notify();
        }
    }

    /// Whether there is a task to claim. Where the head makes no sense, there is none until the program
    /// has mended it.
    pub(crate) fn has_ready(&self) -> bool {
        // ORDERING: Acquire, so that the tail is no older; a hint otherwise, or behind a fence of the
        // caller's.
        let head = self.memory.control().head.0.load(Ordering::Acquire);
        let waiting = self.tail_seen().wrapping_sub(head);
        (1..=self.memory.ring().len() as u64).contains(&waiting)
    }

    /// Where the next task is published, as far as was told.
    fn tail_seen(&self) -> u64 {
        load_acquire(&self.memory.bulletin().tail.0)
    }

    /// Whether a worker that finds no task from here on is to leave.
    pub(crate) fn is_closing(&self) -> bool {
        // ORDERING: Relaxed, as the memory may be read-only; a worker that sees it late is rung.
        let closing = self.memory.bulletin().closing.0.load(Ordering::Relaxed);
        // ORDERING: Acquire, from `close`.
        fence(Ordering::Acquire);
        closing != 0
    }

    /// Takes the searcher's seat, if it is free: publishers then wake nobody.
    pub(crate) fn begin_search(&self, me: usize) -> Transition {
        let searcher = &self.memory.control().searcher.0;
        // ORDERING: Relaxed; it orders nothing before the fence of `end_search`.
        match searcher.compare_exchange(0, me as u32 + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Transition::Taken,
            Err(_) => Transition::TooLate,
        }
    }

    /// Leaves the searcher's seat. What was published meanwhile, and not claimed, is somebody's to
    /// see: the caller looks again before it sleeps, and wakes another if it found a task.
    pub(crate) fn end_search(&self) {
        // ORDERING: Relaxed; the fence.
        self.memory.control().searcher.0.store(0, Ordering::Relaxed);
        // ORDERING: SeqCst; pairs with `wake_one`: either the publisher sees that nobody searches, or
        // the caller sees the new tail.
        fence(Ordering::SeqCst);
    }

    /// If there is more to claim, wakes another worker for it.
    pub(crate) fn pass_on(&self) {
        if self.has_ready() {
            self.wake_a_sleeper();
        }
    }

    /// Sleeps until a task is published, or the worker is to leave, or all are woken, or the deadline has
    /// passed, unless there is reason not to. May wake for nothing.
    pub(crate) fn sleep(
        &self,
        me: usize,
        deadline: Option<std::time::Instant>,
        has_reason: impl Fn() -> bool,
    ) {
        let event_count = &self.memory.event_counts()[me].0;
        let (word, bit) = (&self.memory.asleep()[me / 64], 1_u64 << (me % 64));
        let ticket = event_count.prepare();
        // ORDERING: Relaxed; the fence.
        word.fetch_or(bit, Ordering::Relaxed);
        // ORDERING: SeqCst; pairs with `wake_one`: either the publisher sees the bit, or this worker the
        // tail.
        fence(Ordering::SeqCst);
        if !self.has_ready() && !self.is_closing() && !has_reason() {
            event_count.sleep(ticket, deadline);
        }
        // ORDERING: Relaxed; a publisher that still finds the bit rings for nothing, and another
        // task's publisher, or `pass_on`, sees to the rest.
        word.fetch_and(!bit, Ordering::Relaxed);
    }

    // ---- states ------------------------------------------------------------------------------

    fn state(&self, place: SlotRef) -> Option<SlotState> {
        let slot = self.memory.states().get(place.slot)?;
        // ORDERING: Acquire, from the step into DONE.
        SlotState::from_bits(slot.0.load(Ordering::Acquire), place)
    }

    fn step(&self, place: SlotRef, from: SlotState, to: SlotState) -> Transition {
        let Some(slot) = self.memory.states().get(place.slot) else {
            return Transition::TooLate;
        };
        let (from, to) = (from.to_bits(place), to.to_bits(place));
        // ORDERING: AcqRel; the slot's other fields change hands by it.
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
        // A power of two.
        &ring[position as usize & (ring.len() - 1)]
    }
}

/// Items that a worker runs, one after the other: it says how far it is, and lays results down.
pub(crate) struct ItemRun<'a, M = MappedQueue> {
    /// Where they lie.
    queue: &'a ShmQueue<M>,
    /// Where on the board.
    place: SlotRef,
    /// The worker.
    me: usize,
    /// Where it says how far it is.
    outcome: &'a SlotOutcome,
    /// Not 0: no item is to begin any more.
    stop: &'a AtomicU64,
    /// The results so far.
    sum: PrefixSum,
    /// How far it is.
    progress: BatchProgress,
}

impl<M: Memory> ItemRun<'_, M> {
    /// How many items are done.
    #[inline]
    pub(crate) fn done(&self) -> usize {
        self.progress.done
    }

    /// How many bytes their results take.
    #[inline]
    pub(crate) fn filled(&self) -> usize {
        self.progress.filled
    }

    /// Whether another item may begin; the worker says that it does.
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
        // ORDERING: Release, to `progress`: it takes the place of what the last `end` stored.
        self.outcome
            .progress
            .store(begun.to_bits(), Ordering::Release);
        Transition::Taken
    }

    /// An item is done. These are the results of all so far, that of this one behind the others, which are
    /// laid down already. A collector that sleeps until something comes hears of it.
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
        // ORDERING: Release, to the fence of `item_results`: a collector that takes this one for that of two
        // items less sees the progress of one less.
        self.outcome.words[self.progress.done % 2].store(check, Ordering::Release);
        // In order against `prepare_wait`, after which the collector looks at the progress; and released
        // to `progress`.
        store_seq_cst(&self.outcome.progress, self.progress.to_bits());
        let collector = &queue.memory.control().collector.0;
        if load_seq_cst(&collector.asleep) != 0 {
            queue.mark_done(place);
        }
    }

    /// RUNNING → DONE; they took so long.
    pub(crate) fn finish(self, form: SlotKind, nanos: u64) -> Finish {
        let head = Head {
            form,
            size: self.progress.filled,
            items: self.progress.done,
        };
        // ORDERING: Relaxed, all; the step releases them.
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
