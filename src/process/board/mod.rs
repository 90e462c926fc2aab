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
//! any two steps and the slot still says whose it was. Whoever finds the slot at the head taken helps
//! the head on. *Finish* writes the result, moves the slot to DONE, and sets its bit.
//!
//! A slot's state holds the position on the ring at which the task was published: a claim that was
//! slow finds another position there, and fails. So a slot can be used again as soon as its task has
//! ended, while the ring needs `tail - head` to stay below its length.
//!
//! Nothing read here is trusted: sizes are checked, bytes are copied before they are decoded, and a
//! state that makes no sense is as good as "not done".

pub(crate) mod bed;
pub(crate) mod layout;

use crate::process::board::bed::Ticket;
use crate::process::board::layout::{INLINE, Mapped, Memory};
use crate::process::entry::Call;
use crate::sync::{AtomicU32, AtomicU64, Ordering, fence, set_in_order, store_in_order};

/// A board in memory of that kind.
pub(crate) struct Board<M = Mapped> {
    /// The memory.
    memory: M,
    /// Where the next task is published, as only the program itself says.
    tail: AtomicU64,
}

/// Where a task is published: its slot, and its position on the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The slot.
    pub(crate) slot: usize,
    /// The position, cut to [`POSITION_BITS`].
    position: u64,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
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
pub(crate) enum Form {
    /// An encoded argument.
    Argument,
    /// Nothing: what is to be done comes over the link, once asked for.
    Ticket,
    /// An encoded result.
    Value,
    /// Why there is none.
    Fault,
    /// Nothing: the outcome came over the link.
    Told,
    /// The encoded arguments of a map's items; then the results of those that are done.
    Items,
    /// The results of a map's items; of the one behind them, the outcome came over the link.
    ItemsTold,
    /// Where an encoded argument is.
    StoredArgument,
    /// Where an encoded result is.
    StoredValue,
}

/// What a worker finds at the head of the ring.
#[must_use]
pub(crate) enum Claim {
    /// A task to run; its argument was copied out.
    Task(Place, Call),
    /// A task to run; what was copied out says where its argument is.
    Stored(Place, Call),
    /// A task to ask for over the link.
    Ticket(Place),
    /// So many items of a map to run; their arguments were copied out.
    Items(Place, Call, usize),
    /// Nothing.
    Empty,
}

/// How far a worker has come with the items of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Those that are done.
    pub(crate) done: usize,
    /// Whether it has begun the one behind them.
    pub(crate) has_begun: bool,
}

/// Whether there was room.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Publish {
    /// It is there.
    Published(Place),
    /// The ring is full.
    Full,
}

/// Whether a step was taken.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// By the caller.
    Taken,
    /// Somebody else was first.
    TooLate,
}

/// What a worker that vanished leaves in a slot.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remains {
    /// It was at work on the task.
    Running,
    /// The task had been killed.
    Killed,
    /// The outcome is there.
    Done,
    /// The slot is not its.
    None,
}

/// Bits of a position in a slot's state.
const POSITION_BITS: u32 = 40;
/// Those bits.
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
/// A worker's index stands above the kind of the state.
const WORKER_SHIFT: u32 = 8;
/// The position stands above the worker.
const POSITION_SHIFT: u32 = 24;

impl State {
    fn to_bits(self, place: Place) -> u64 {
        let (kind, worker) = match self {
            Self::Ready => (1, 0),
            Self::Running(worker) => (2, worker),
            Self::Done(worker) => (3, worker),
            Self::Cancelled => (4, 0),
            Self::Killing(worker) => (5, worker),
        };
        kind | (worker as u64) << WORKER_SHIFT | place.position << POSITION_SHIFT
    }

    /// The state of the task published there; `None`: the slot holds another, or garbage.
    fn from_bits(bits: u64, place: Place) -> Option<Self> {
        let worker = ((bits >> WORKER_SHIFT) & 0xffff) as usize;
        let state = match bits & 0xff {
            1 => Self::Ready,
            2 => Self::Running(worker),
            3 => Self::Done(worker),
            4 => Self::Cancelled,
            5 => Self::Killing(worker),
            _ => return None,
        };
        (state.to_bits(place) == bits).then_some(state)
    }
}

impl Place {
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
}

impl Form {
    fn from_bits(bits: u32) -> Option<Self> {
        let forms = [
            Self::Argument,
            Self::Ticket,
            Self::Value,
            Self::Fault,
            Self::Told,
            Self::Items,
            Self::ItemsTold,
            Self::StoredArgument,
            Self::StoredValue,
        ];
        forms.into_iter().find(|form| *form as u32 == bits)
    }
}

impl<M: Memory> Board<M> {
    pub(crate) fn new(memory: M) -> Self {
        Self {
            memory,
            tail: AtomicU64::new(0),
        }
    }

    // ---- the program: out --------------------------------------------------------------------

    /// Puts a task into a free slot. One thread at a time.
    pub(crate) fn publish(&self, slot: usize, form: Form, call: Call, bytes: &[u8]) -> Publish {
        self.publish_items(slot, form, call, bytes, 0)
    }

    /// Puts so many items of a map into a free slot. One thread at a time.
    pub(crate) fn publish_items(
        &self,
        slot: usize,
        form: Form,
        call: Call,
        bytes: &[u8],
        items: usize,
    ) -> Publish {
        let header = self.memory.header();
        // ORDERING: Relaxed; only the publisher, of which there is one at a time, moves the tail.
        let tail = self.tail.load(Ordering::Relaxed);
        // ORDERING: Acquire; the ring's entry is free once the head that passed it is seen.
        let head = header.head.0.load(Ordering::Acquire);
        if tail.wrapping_sub(head) >= self.memory.ring().len() as u64 && !self.skip_ended() {
            return Publish::Full;
        }
        let place = Place::new(slot, tail);
        self.memory.write(slot, 0, bytes);
        let shared = &self.memory.slots()[slot];
        // ORDERING: Relaxed, all that the state's store releases.
        shared.form.store(form as u32, Ordering::Relaxed);
        shared.size.store(bytes.len() as u32, Ordering::Relaxed);
        for (place, number) in shared.call.iter().zip(call.to_numbers()) {
            place.store(number, Ordering::Relaxed);
        }
        if form == Form::Items {
            shared.items.store(items as u32, Ordering::Relaxed);
            shared.progress.store(0, Ordering::Relaxed);
            shared.filled.store(0, Ordering::Relaxed);
            shared.stop.store(0, Ordering::Relaxed);
            shared.nanos.store(0, Ordering::Relaxed);
        }
        // ORDERING: Release, to the claim's compare-exchange.
        shared
            .state
            .store(State::Ready.to_bits(place), Ordering::Release);
        // ORDERING: Relaxed; the tail's store releases it.
        self.ring_at(tail).store(slot as u32, Ordering::Relaxed);
        let next = tail.wrapping_add(1);
        // ORDERING: Relaxed; as above.
        self.tail.store(next, Ordering::Relaxed);
        // ORDERING: Release, to the claim that sees this tail.
        header.tail.0.store(next, Ordering::Release);
        Publish::Published(place)
    }

    /// Moves the head past entries that nobody can claim: cancelled ones, of which no worker would
    /// tell. Whether it has.
    fn skip_ended(&self) -> bool {
        let header = self.memory.header();
        let mut has_moved = false;
        loop {
            // ORDERING: Acquire; as in `claim`.
            let head = header.head.0.load(Ordering::Acquire);
            // ORDERING: Relaxed; the caller publishes, and has written both.
            let waiting = self.tail.load(Ordering::Relaxed).wrapping_sub(head);
            if waiting == 0 || waiting > self.memory.ring().len() as u64 {
                return has_moved; // or the head is garbage, which is not mended by moving it
            }
            let slot = self.ring_at(head).load(Ordering::Relaxed) as usize;
            if self.is_ready(Place::new(slot, head)) {
                return has_moved;
            }
            self.move_head(head);
            has_moved = true;
        }
    }

    /// Moves the head on, unless somebody else has.
    fn move_head(&self, head: u64) {
        let next = head.wrapping_add(1);
        // ORDERING: Release, so that a publisher that sees the entry free has it read; Relaxed on
        // failure, since then somebody else moved it.
        let _ = self.memory.header().head.0.compare_exchange(
            head,
            next,
            Ordering::Release,
            Ordering::Relaxed,
        );
    }

    /// Wakes a worker that sleeps, unless one is looking for tasks anyway. To be called after
    /// `publish`.
    pub(crate) fn wake_one(&self) {
        // ORDERING: SeqCst; against the fence of a worker that lies down, or stops searching: either
        // it sees the new tail, or we see that it sleeps, or searches no more.
        fence(Ordering::SeqCst);
        // ORDERING: Relaxed; the fence.
        if self.memory.header().searcher.0.load(Ordering::Relaxed) == 0 {
            self.wake_a_sleeper();
        }
    }

    fn wake_a_sleeper(&self) {
        for (word, sleepers) in self.memory.asleep().iter().enumerate() {
            // ORDERING: Relaxed; the caller's fence.
            let mut bits = sleepers.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                // ORDERING: Relaxed; of those who find the bit, one clears it, and rings.
                let before = sleepers.fetch_and(!(1 << bit), Ordering::Relaxed);
                if before & (1 << bit) != 0 {
                    if let Some(bed) = self.memory.beds().get(word * 64 + bit as usize) {
                        bed.0.ring();
                    }
                    return;
                }
                bits = before & !(1 << bit);
            }
        }
    }

    /// Wakes everybody who sleeps: workers, and who collects.
    pub(crate) fn wake_all(&self) {
        for word in self.memory.asleep() {
            // ORDERING: Relaxed; the rings release what they should see.
            word.store(0, Ordering::Relaxed);
        }
        for bed in self.memory.beds() {
            bed.0.ring();
        }
        self.wake_collector();
    }

    /// Lets workers leave that find no task.
    pub(crate) fn close(&self) {
        // ORDERING: Release, to `is_closing`: who sees it sees what was published before.
        self.memory.header().closing.store(1, Ordering::Release);
        self.wake_all();
    }

    /// Has workers wait that find no task.
    pub(crate) fn reopen(&self) {
        // ORDERING: Relaxed; who leaves all the same is replaced.
        self.memory.header().closing.store(0, Ordering::Relaxed);
    }

    /// READY → CANCELLED.
    pub(crate) fn cancel(&self, place: Place) -> Step {
        self.step(place, State::Ready, State::Cancelled)
    }

    /// RUNNING → KILLING; the worker that ran it then begins nothing else, and is to be killed.
    pub(crate) fn kill(&self, place: Place) -> Option<usize> {
        let State::Running(worker) = self.state(place)? else {
            return None;
        };
        match self.step(place, State::Running(worker), State::Killing(worker)) {
            Step::Taken => Some(worker),
            Step::TooLate => None,
        }
    }

    /// Has no item begin any more there.
    pub(crate) fn stop(&self, place: Place) {
        if let Some(slot) = self.memory.slots().get(place.slot) {
            // ORDERING: Relaxed; a worker that sees it late has begun another item meanwhile. If
            // another task lies there by now, somebody else stops it: `publish` follows a lock of the
            // caller's.
            slot.stop.store(1, Ordering::Relaxed);
        }
    }

    /// How far the worker has come with the items there: at most so many.
    pub(crate) fn progress(&self, place: Place, items: usize) -> Progress {
        // ORDERING: Acquire, from `item_ends`: the results of what is done are seen.
        let slots = self.memory.slots();
        let slot = slots.get(place.slot);
        let twice = slot.map_or(0, |slot| slot.progress.load(Ordering::Acquire));
        let done = (twice as usize / 2).min(items);
        Progress {
            done,
            has_begun: twice % 2 == 1 && done < items,
        }
    }

    /// The results of the items there, and how long they took, in nanoseconds.
    pub(crate) fn item_results(&self, place: Place, bytes: &mut Vec<u8>) -> u64 {
        let Some(slot) = self.memory.slots().get(place.slot) else {
            bytes.clear();
            return 0;
        };
        // ORDERING: Relaxed, both; `progress`, or the state's load, acquired them.
        let size = slot.filled.load(Ordering::Relaxed) as usize;
        let nanos = slot.nanos.load(Ordering::Relaxed);
        self.memory.read(place.slot, size.min(INLINE), bytes);
        nanos
    }

    /// Whether a worker has begun it, and has not ended it.
    pub(crate) fn is_running(&self, place: Place) -> bool {
        matches!(
            self.state(place),
            Some(State::Running(_) | State::Killing(_))
        )
    }

    /// The worker that is at it.
    pub(crate) fn runner(&self, place: Place) -> Option<usize> {
        match self.state(place)? {
            State::Running(worker) => Some(worker),
            _ => None,
        }
    }

    /// Whether no worker has begun it.
    pub(crate) fn is_ready(&self, place: Place) -> bool {
        self.state(place) == Some(State::Ready)
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

    /// What the outcome's bytes are, if it is there, and whose it is.
    pub(crate) fn done_form(&self, place: Place) -> Option<(Form, usize)> {
        let State::Done(worker) = self.state(place)? else {
            return None;
        };
        // ORDERING: Relaxed; the state's load acquired it.
        let form = self.memory.slots()[place.slot].form.load(Ordering::Relaxed);
        Some((Form::from_bits(form)?, worker))
    }

    /// The outcome, if it is there: its form, and its bytes, and whose it is.
    pub(crate) fn outcome(&self, place: Place, bytes: &mut Vec<u8>) -> Option<(Form, usize)> {
        let (form, worker) = self.done_form(place)?;
        let shared = &self.memory.slots()[place.slot];
        // ORDERING: Relaxed; the state's load acquired it.
        let size = shared.size.load(Ordering::Relaxed) as usize;
        self.memory.read(place.slot, size.min(INLINE), bytes);
        Some((form, worker))
    }

    /// Somebody looks for outcomes on that core, or, if that is `None`, does so no more.
    pub(crate) fn watch_from(&self, core: Option<u32>) {
        self.memory.header().watched_from.0.set(core);
    }

    /// The core on which somebody looks for outcomes, if anybody does.
    pub(crate) fn watched_from(&self) -> Option<u32> {
        self.memory.header().watched_from.0.get()
    }

    /// A task was submitted on that core.
    pub(crate) fn submit_from(&self, core: Option<u32>) {
        self.memory.header().submitted_from.0.set(core);
    }

    /// The core on which a task was submitted last, if any was.
    pub(crate) fn submitted_from(&self) -> Option<u32> {
        self.memory.header().submitted_from.0.get()
    }

    /// Before the collector sleeps; it looks for work after this, and may then `rest`.
    pub(crate) fn lie_down(&self) -> Ticket {
        let collector = &self.memory.header().collector.0;
        let ticket = collector.bed.ticket();
        // ORDERING: Relaxed; the fence.
        collector.asleep.store(1, Ordering::Relaxed);
        // ORDERING: SeqCst; against the fence in `finish`: either the worker sees the collector
        // asleep, or the collector sees the bit.
        fence(Ordering::SeqCst);
        ticket
    }

    /// The collector sleeps until there is something to collect, or the deadline has passed.
    pub(crate) fn rest(&self, ticket: Ticket, deadline: Option<std::time::Instant>) {
        self.memory.header().collector.0.bed.sleep(ticket, deadline);
    }

    /// The collector is up.
    pub(crate) fn get_up(&self) {
        // ORDERING: Relaxed; at worst somebody rings for nothing.
        self.memory
            .header()
            .collector
            .0
            .asleep
            .store(0, Ordering::Relaxed);
    }

    /// Wakes the collector, if it sleeps or is about to.
    pub(crate) fn wake_collector(&self) {
        let collector = &self.memory.header().collector.0;
        // ORDERING: Relaxed; who is about to sleep holds a ticket that the ring makes void.
        collector.asleep.store(0, Ordering::Relaxed);
        collector.bed.ring();
    }

    // ---- the program: deaths -----------------------------------------------------------------

    /// A worker is dead: nobody waits for what it was about to do.
    pub(crate) fn bury(&self, worker: usize) {
        let searcher = &self.memory.header().searcher.0;
        // ORDERING: Relaxed; the rings below make everybody look again.
        let _ =
            searcher.compare_exchange(worker as u32 + 1, 0, Ordering::Relaxed, Ordering::Relaxed);
        self.wake_all(); // it may have swallowed a wake-up
    }

    /// Whether no worker will ever claim, or end, the task: something has overwritten its slot, or
    /// its place on the ring.
    pub(crate) fn is_lost(&self, place: Place) -> bool {
        match self.state(place) {
            None => true,
            Some(State::Ready) => {
                // ORDERING: Relaxed; a task that is just being claimed has another state.
                let head = self.memory.header().head.0.load(Ordering::Relaxed);
                let ahead = place.position.wrapping_sub(head) & POSITION_MASK;
                ahead >= self.memory.ring().len() as u64 && self.is_ready(place)
            }
            Some(_) => false,
        }
    }

    /// What a dead worker left in a slot.
    pub(crate) fn remains(&self, place: Place, worker: usize) -> Remains {
        match self.state(place) {
            Some(State::Running(whose)) if whose == worker => Remains::Running,
            Some(State::Killing(whose)) if whose == worker => Remains::Killed,
            Some(State::Done(whose)) if whose == worker => Remains::Done,
            _ => Remains::None,
        }
    }

    // ---- a worker ----------------------------------------------------------------------------

    /// Takes the task at the head of the ring, if there is one; its argument is copied out.
    pub(crate) fn claim(&self, me: usize, argument: &mut Vec<u8>) -> Claim {
        let header = self.memory.header();
        loop {
            // ORDERING: Acquire; what whoever moved the head had seen is seen here.
            let head = header.head.0.load(Ordering::Acquire);
            // ORDERING: Acquire, from `publish`.
            if head == header.tail.0.load(Ordering::Acquire) {
                return Claim::Empty;
            }
            // ORDERING: Relaxed; the tail's load acquired it. If the ring has gone round meanwhile,
            // the slot's state tells.
            let slot = self.ring_at(head).load(Ordering::Relaxed) as usize;
            let place = Place::new(slot, head);
            let step = self.step(place, State::Ready, State::Running(me));
            // Ours, or taken: the head moves on, by whoever is first.
            self.move_head(head);
            if step == Step::Taken {
                return self.open(place, argument);
            }
        }
    }

    /// What a claimed slot holds.
    fn open(&self, place: Place, argument: &mut Vec<u8>) -> Claim {
        let shared = &self.memory.slots()[place.slot];
        // ORDERING: Relaxed; the claim's compare-exchange acquired them all.
        let size = shared.size.load(Ordering::Relaxed) as usize;
        let form = Form::from_bits(shared.form.load(Ordering::Relaxed));
        if !matches!(
            form,
            Some(Form::Argument | Form::StoredArgument | Form::Items)
        ) {
            return Claim::Ticket(place);
        }
        let call = [0, 1, 2].map(|at: usize| shared.call[at].load(Ordering::Relaxed));
        let call = Call::from_numbers(call);
        self.memory.read(place.slot, size.min(INLINE), argument);
        match form {
            Some(Form::Argument) => Claim::Task(place, call),
            Some(Form::StoredArgument) => Claim::Stored(place, call),
            _ => {
                let items = shared.items.load(Ordering::Relaxed) as usize;
                Claim::Items(place, call, items)
            }
        }
    }

    /// Whether another item may begin there; the worker says that it does.
    pub(crate) fn item_begins(&self, place: Place, index: usize) -> Step {
        let shared = &self.memory.slots()[place.slot];
        // ORDERING: Relaxed; as in `stop`.
        if shared.stop.load(Ordering::Relaxed) != 0 {
            return Step::TooLate;
        }
        let twice = 2 * index as u32 + 1;
        // ORDERING: Release, to `progress`: it takes the place of what the last `item_ends` stored.
        shared.progress.store(twice, Ordering::Release);
        Step::Taken
    }

    /// An item is done; its result is this, and those of all so far take so many bytes with it. They lie
    /// where the arguments did, which were copied out. Whoever sleeps until something comes hears of it.
    pub(crate) fn item_ends(&self, place: Place, index: usize, result: &[u8], filled: usize) {
        let offset = filled - result.len();
        self.memory.write(place.slot, offset, result);
        let shared = &self.memory.slots()[place.slot];
        // ORDERING: Relaxed; released by the next.
        shared.filled.store(filled as u32, Ordering::Relaxed);
        let twice = 2 * (index as u32 + 1);
        // In order against `lie_down`, after which the collector looks at the progress; and released
        // to `progress`.
        store_in_order(&shared.progress, twice);
        let collector = &self.memory.header().collector.0;
        // ORDERING: SeqCst; as said.
        if collector.asleep.load(Ordering::SeqCst) != 0 {
            self.mark_done(place);
        }
    }

    /// RUNNING → DONE, of items, which took so long; as `finish`.
    pub(crate) fn finish_items(&self, place: Place, me: usize, form: Form, nanos: u64) -> Step {
        let shared = &self.memory.slots()[place.slot];
        // ORDERING: Relaxed, both released by the step.
        shared.form.store(form as u32, Ordering::Relaxed);
        shared.nanos.store(nanos, Ordering::Relaxed);
        self.end(place, me)
    }

    /// RUNNING → DONE, with an outcome of at most [`INLINE`] bytes. Too late: the task was killed,
    /// and so will be the worker.
    pub(crate) fn finish(&self, place: Place, me: usize, form: Form, bytes: &[u8]) -> Step {
        self.memory.write(place.slot, 0, bytes);
        let shared = &self.memory.slots()[place.slot];
        // ORDERING: Relaxed, both released by the step.
        shared.form.store(form as u32, Ordering::Relaxed);
        shared.size.store(bytes.len() as u32, Ordering::Relaxed);
        self.end(place, me)
    }

    /// RUNNING → DONE, and whoever collects hears of it.
    fn end(&self, place: Place, me: usize) -> Step {
        if self.step(place, State::Running(me), State::Done(me)) == Step::TooLate {
            return Step::TooLate;
        }
        self.mark_done(place);
        Step::Taken
    }

    /// There is something to collect in a slot: says so, and wakes the collector if it sleeps.
    fn mark_done(&self, place: Place) {
        let word = &self.memory.done()[place.slot / 64];
        // In order against `lie_down`; and released to the collector's swap.
        set_in_order(word, 1 << (place.slot % 64));
        let collector = &self.memory.header().collector.0;
        // ORDERING: SeqCst, as said; then Relaxed: of those who find it asleep, one wakes it.
        if collector.asleep.load(Ordering::SeqCst) != 0
            && collector.asleep.swap(0, Ordering::Relaxed) != 0
        {
            collector.bed.ring();
        }
    }

    /// Whether there is a task to claim.
    pub(crate) fn has_ready(&self) -> bool {
        let header = self.memory.header();
        // ORDERING: Relaxed; a hint, or behind a fence of the caller's.
        header.head.0.load(Ordering::Relaxed) != header.tail.0.load(Ordering::Relaxed)
    }

    /// Whether a worker that finds no task from here on is to leave.
    pub(crate) fn is_closing(&self) -> bool {
        // ORDERING: Acquire, from `close`; whoever sees it late is rung.
        self.memory.header().closing.load(Ordering::Acquire) != 0
    }

    /// Takes the searcher's seat, if it is free: publishers then wake nobody.
    pub(crate) fn begin_search(&self, me: usize) -> Step {
        let searcher = &self.memory.header().searcher.0;
        // ORDERING: Relaxed; it orders nothing before the fence of `end_search`.
        match searcher.compare_exchange(0, me as u32 + 1, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => Step::Taken,
            Err(_) => Step::TooLate,
        }
    }

    /// Leaves the searcher's seat. What was published meanwhile, and not claimed, is somebody's to
    /// see: the caller looks again before it sleeps, and wakes another if it found a task.
    pub(crate) fn end_search(&self) {
        // ORDERING: Relaxed; the fence.
        self.memory.header().searcher.0.store(0, Ordering::Relaxed);
        // ORDERING: SeqCst; against `wake_one`: either the publisher sees that nobody searches, or
        // the caller sees the new tail.
        fence(Ordering::SeqCst);
    }

    /// If there is more to claim, wakes another worker for it.
    pub(crate) fn pass_on(&self) {
        if self.has_ready() {
            self.wake_a_sleeper();
        }
    }

    /// Sleeps until a task is published, or the worker is to leave, or all are woken, unless there is
    /// reason not to. May wake for nothing.
    pub(crate) fn sleep(&self, me: usize, has_reason: impl Fn() -> bool) {
        let bed = &self.memory.beds()[me].0;
        let (word, bit) = (&self.memory.asleep()[me / 64], 1_u64 << (me % 64));
        let ticket = bed.ticket();
        // ORDERING: Relaxed; the fence.
        word.fetch_or(bit, Ordering::Relaxed);
        // ORDERING: SeqCst; against `wake_one`: either the publisher sees the bit, or we the tail.
        fence(Ordering::SeqCst);
        if !self.has_ready() && !self.is_closing() && !has_reason() {
            bed.sleep(ticket, None);
        }
        // ORDERING: Relaxed; a publisher that still finds the bit rings for nothing, and another
        // task's publisher, or `pass_on`, sees to the rest.
        word.fetch_and(!bit, Ordering::Relaxed);
    }

    // ---- states ------------------------------------------------------------------------------

    fn state(&self, place: Place) -> Option<State> {
        let slot = self.memory.slots().get(place.slot)?;
        // ORDERING: Acquire, from the step into DONE.
        State::from_bits(slot.state.load(Ordering::Acquire), place)
    }

    fn step(&self, place: Place, from: State, to: State) -> Step {
        let Some(slot) = self.memory.slots().get(place.slot) else {
            return Step::TooLate;
        };
        let (from, to) = (from.to_bits(place), to.to_bits(place));
        // ORDERING: AcqRel; the slot's other fields change hands by it.
        let step = slot
            .state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        match step {
            Ok(_) => Step::Taken,
            Err(_) => Step::TooLate,
        }
    }

    fn ring_at(&self, position: u64) -> &AtomicU32 {
        let ring = self.memory.ring();
        // A power of two.
        &ring[position as usize & (ring.len() - 1)]
    }
}

#[cfg(all(test, loom))]
#[path = "../board_tests.rs"]
mod models;
