//! Synchronization primitives that the protocols of all other modules use: those of std, or those of loom
//! when the models are checked (`cfg(loom)`).

pub(crate) mod deadline;
pub(crate) mod exclusive_cell;
mod lock;

pub(crate) use lock::{lock, unpoisoned};

#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle, ThreadId, current, yield_now},
};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle, ThreadId, current, yield_now},
};

use std::io;
#[cfg(not(loom))]
use std::num::NonZero;
use std::time::Duration;

use deadline::Deadline;

/// Identifies a thread among all living threads; cheaper to get than its `ThreadId`.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadToken(NonZero<usize>);

/// Identifies a thread among all living threads.
#[cfg(loom)]
pub(crate) type ThreadToken = ThreadId;

/// A cell whose users ensure that no thread writes to it while another accesses it. Access is through a
/// closure, as with loom's cell: so loom knows when each access begins and ends.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(
    /// The value.
    std::cell::UnsafeCell<T>,
);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// Passes a pointer to the value to `f`, which may read through it.
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// Passes a pointer to the value to `f`, which may write through it.
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// The token of the calling thread.
#[cfg(not(loom))]
pub(crate) fn mark_of_thread() -> ThreadToken {
    thread_local! {
        /// A variable whose address is the token: each living thread has its own.
        static PLACE: u8 = const { 0 };
    }
    let address = PLACE.with(|place| std::ptr::from_ref(place).addr());
    match NonZero::new(address) {
        Some(address) => ThreadToken(address),
        None => unreachable!("nothing is at address 0"),
    }
}

/// The token of the calling thread.
#[cfg(loom)]
pub(crate) fn mark_of_thread() -> ThreadToken {
    this_thread()
}

/// The id of the calling thread.
pub(crate) fn this_thread() -> ThreadId {
    current().id()
}

/// Starts a thread with the given name and a stack of `stack_size` bytes; `None`: std's default size.
#[cfg(not(loom))]
pub(crate) fn spawn(
    name: String,
    stack_size: Option<usize>,
    f: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let mut builder = Builder::new().name(name);
    if let Some(bytes) = stack_size {
        builder = builder.stack_size(bytes);
    }
    builder.spawn(f)
}

/// Starts a thread with the given name. `LIVING` counts it until the last step that `join` waits for.
///
/// # Errors
/// `WouldBlock` if `ROOM` threads live already.
#[cfg(loom)]
pub(crate) fn spawn(
    name: String,
    _stack_size: Option<usize>,
    f: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    use loom::sync::atomic::Ordering::SeqCst;
    if LIVING.fetch_add(1, SeqCst) >= ROOM.load(SeqCst) {
        LIVING.fetch_sub(1, SeqCst);
        return Err(io::ErrorKind::WouldBlock.into());
    }
    Builder::new().name(name).spawn(|| {
        f();
        LIVING.fetch_sub(1, SeqCst);
    })
}

#[cfg(loom)]
loom::lazy_static! {
    /// Threads started by `spawn` that have not ended.
    pub(crate) static ref LIVING: loom::sync::atomic::AtomicUsize =
        loom::sync::atomic::AtomicUsize::new(0);
    /// The maximum of `LIVING`; a model sets it to make `spawn` fail.
    pub(crate) static ref ROOM: loom::sync::atomic::AtomicUsize =
        loom::sync::atomic::AtomicUsize::new(usize::MAX);
}

// Store-load ordering between two threads (Dekker): each stores to one variable, then loads the other's.
// The fast side (the hot path) stores by `store_seq_cst` or `fetch_or_seq_cst`, then loads by `load_seq_cst`.
// The slow side stores, executes a SeqCst fence, then loads.
// The two sides pair: either the fast side sees the slow side's store, or the slow side sees the fast side's.
//
// Proof by [atomics.order] of C++20, paragraph 4. X is the exchange and L the load of the fast side, F is the
// fence of the slow side, S is the single total order of the three. X is before L in S: both are SeqCst, and
// X is sequenced first. If L does not see the slow side's store, L is coherence-ordered before that store,
// and the store happens before F: L is before F in S. If the slow side's load does not see X, that load is
// coherence-ordered before X, and F happens before the load: F is before X in S. Both together are a cycle:
// X < L < F < X.
//
// loom treats SeqCst accesses as AcqRel, and models the order S for fences only. In models the fast side
// therefore has a fence F2, too, directly before its load and nowhere else. F2 guarantees no more than X and
// L do: with F2 in place of X and L, the same two steps turn L < F < X into F2 < F < F2. The fence belongs to
// the load, so a load that is not by `load_seq_cst` has none, and models fail where production code would.

/// Stores, ordered before each `load_seq_cst` that follows. A store and a fence would do the same at twice
/// the cost.
#[cfg(not(loom))]
pub(crate) fn store_seq_cst(place: &AtomicU64, value: u64) {
    // ORDERING: SeqCst; see the proof above.
    place.swap(value, Ordering::SeqCst);
}

/// Stores, ordered before each `load_seq_cst` that follows.
#[cfg(loom)]
pub(crate) fn store_seq_cst(place: &AtomicU64, value: u64) {
    // ORDERING: Release; the fence is in `load_seq_cst`.
    place.store(value, Ordering::Release);
}

/// Sets bits, ordered before each `load_seq_cst` that follows.
#[cfg(not(loom))]
pub(crate) fn fetch_or_seq_cst(place: &AtomicU64, bits: u64) {
    // ORDERING: SeqCst; see the proof above.
    place.fetch_or(bits, Ordering::SeqCst);
}

/// Sets bits, ordered before each `load_seq_cst` that follows.
#[cfg(loom)]
pub(crate) fn fetch_or_seq_cst(place: &AtomicU64, bits: u64) {
    // ORDERING: Release; the fence is in `load_seq_cst`.
    place.fetch_or(bits, Ordering::Release);
}

/// Loads, ordered after each preceding `store_seq_cst` and `fetch_or_seq_cst` of this thread.
#[cfg(not(loom))]
pub(crate) fn load_seq_cst(place: &AtomicU64) -> u64 {
    // ORDERING: SeqCst; see the proof above.
    place.load(Ordering::SeqCst)
}

/// Loads, ordered after each preceding `store_seq_cst` and `fetch_or_seq_cst` of this thread.
#[cfg(loom)]
pub(crate) fn load_seq_cst(place: &AtomicU64) -> u64 {
    // ORDERING: SeqCst fence, see the proof above; Acquire, because a SeqCst load acquires, too.
    fence(Ordering::SeqCst);
    place.load(Ordering::Acquire)
}

/// Sleeps until a thread notifies `event`.
pub(crate) fn sleep<'a, T>(event: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    unpoisoned(event.wait(guard))
}

/// Sleeps until a thread notifies `event`, or the deadline has passed; in models, where no time passes, until
/// it is notified. The caller looks what has happened: a wake-up may be spurious.
pub(crate) fn sleep_until<'a, T>(
    event: &Condvar,
    guard: MutexGuard<'a, T>,
    deadline: Deadline,
) -> MutexGuard<'a, T> {
    match deadline.left() {
        None => sleep(event, guard),
        Some(left) => unpoisoned(event.wait_timeout(guard, left)).0,
    }
}

/// Blocks until the calling thread is unparked, or for the time `limit`; `None`: without limit.
#[cfg(not(loom))]
pub(crate) fn park(limit: Option<Duration>) {
    match limit {
        Some(limit) => std::thread::park_timeout(limit),
        None => std::thread::park(),
    }
}

/// Blocks until the calling thread is unparked; `limit` is ignored, since no time passes in models.
#[cfg(loom)]
pub(crate) fn park(_: Option<Duration>) {
    loom::thread::park();
}

/// How long to spin before sleeping: about as long as waking a sleeping thread takes. Up to this time,
/// spinning pays more than sleeping.
#[cfg(not(loom))]
pub(crate) const SPIN_BUDGET: Duration = Duration::from_micros(50);

/// In models, threads sleep at once.
#[cfg(loom)]
pub(crate) const SPIN_BUDGET: Duration = Duration::ZERO;

/// Calls `is_over` again and again for the time [`SPIN_BUDGET`], until it returns true: then the caller need
/// not sleep. Yields the core to other threads between the calls.
#[cfg(not(loom))]
pub(crate) fn spin_then_yield(mut is_over: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_over() && begun.elapsed() < SPIN_BUDGET {
        std::thread::yield_now();
    }
}

/// In models, threads sleep at once.
#[cfg(loom)]
pub(crate) fn spin_then_yield(_: impl FnMut() -> bool) {}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    /// Two variables; each is stored by one side and loaded by the other.
    type Places = Arc<[AtomicU64; 2]>;

    /// Runs the two sides concurrently; checks that at least one sees the other's store.
    fn meet(one: fn(&Places) -> u64, other: fn(&Places) -> u64) {
        loom::model(move || {
            let places: Places = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
            let theirs = Arc::clone(&places);
            let thread = thread::spawn(move || other(&theirs));
            let seen = one(&places);
            let Ok(also_seen) = thread.join() else {
                panic!("the other side has panicked")
            };
            assert!(seen == 1 || also_seen == 1, "neither sees the other");
        });
    }

    fn in_order(places: &Places) -> u64 {
        store_seq_cst(&places[0], 1);
        load_seq_cst(&places[1])
    }

    fn bits_in_order(places: &Places) -> u64 {
        fetch_or_seq_cst(&places[0], 1);
        load_seq_cst(&places[1])
    }

    fn in_no_order(places: &Places) -> u64 {
        store_seq_cst(&places[0], 1);
        places[1].load(Ordering::SeqCst)
    }

    fn fenced(places: &Places) -> u64 {
        places[1].store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        places[0].load(Ordering::Relaxed)
    }

    fn unfenced(places: &Places) -> u64 {
        places[1].store(1, Ordering::SeqCst);
        places[0].load(Ordering::SeqCst)
    }

    #[test]
    fn what_is_in_order_meets_a_fence() {
        meet(in_order, fenced);
        meet(bits_in_order, fenced);
    }

    #[test]
    #[should_panic(expected = "neither sees the other")]
    fn a_load_out_of_order_is_found_out() {
        meet(in_no_order, fenced);
    }

    #[test]
    #[should_panic(expected = "neither sees the other")]
    fn a_missing_fence_is_found_out() {
        meet(in_order, unfenced);
    }
}
