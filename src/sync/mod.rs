//! The primitives that the protocols stand on: std's, or loom's when the models are checked.

pub(crate) mod exclusive_cell;

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
use std::sync::PoisonError;
use std::time::Duration;

/// Tells a thread from all others that live; cheaper to have than its name.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadToken(NonZero<usize>);

/// Tells a thread from all others that live.
#[cfg(loom)]
pub(crate) type ThreadToken = ThreadId;

/// A place whose users see to it that nobody writes while another is there. It is lent to a closure,
/// as loom's is, which then knows who is there when.
#[cfg(not(loom))]
pub(crate) struct UnsafeCell<T>(
    /// The place.
    std::cell::UnsafeCell<T>,
);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(std::cell::UnsafeCell::new(value))
    }

    /// For reading.
    pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
        f(self.0.get())
    }

    /// For writing.
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}

/// The calling thread.
#[cfg(not(loom))]
pub(crate) fn mark_of_thread() -> ThreadToken {
    thread_local! {
        /// Every thread has one of its own, at an address of its own.
        static PLACE: u8 = const { 0 };
    }
    let address = PLACE.with(|place| std::ptr::from_ref(place).addr());
    match NonZero::new(address) {
        Some(address) => ThreadToken(address),
        None => unreachable!("nothing is at address 0"),
    }
}

/// The calling thread.
#[cfg(loom)]
pub(crate) fn mark_of_thread() -> ThreadToken {
    this_thread()
}

/// The calling thread.
pub(crate) fn this_thread() -> ThreadId {
    current().id()
}

/// Starts a thread of this name, with so many bytes of stack; `None`: as many as std gives a thread.
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

/// Starts a thread of this name, which is counted up to the last of it that `join` waits for.
///
/// # Errors
/// Where the model has no room for one more.
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
    /// How many there may be.
    pub(crate) static ref ROOM: loom::sync::atomic::AtomicUsize =
        loom::sync::atomic::AtomicUsize::new(usize::MAX);
}

// Two threads each store to one place and then load the other's (Dekker). One side, which is on a hot path,
// stores by `store_seq_cst` or `fetch_or_seq_cst`, then loads by `load_seq_cst`. The other side stores, has a
// SeqCst fence, then loads. At least one of the two sees what the other has stored.
//
// Why, by [atomics.order] of C++20, paragraph 4. Let X be the exchange and L the load of the one side, F the
// fence of the other; S is the one order of all of them. X is before L in S: both are SeqCst, and X is
// sequenced first. If L does not see the other's store, L is coherence-ordered before that store, which
// happens before F: L is before F in S. If the other's load does not see X, that load, which F happens before,
// is coherence-ordered before X: F is before X in S. Both together are a circle, X < L < F < X.
//
// loom takes SeqCst accesses for AcqRel ones, and knows the order S of fences alone. For models the one side
// therefore has a fence too, directly before its load and nowhere else. That promises nothing more: with F2 in
// place of X and L, the same two steps give L < F < X as F2 < F < F2. And as the fence belongs to the load, a
// load that is not in order has none, so that models fail where production code would.

/// Stores, and orders that before each `load_seq_cst` that follows: as a store and a fence would, at half
/// their price.
#[cfg(not(loom))]
pub(crate) fn store_seq_cst(place: &AtomicU64, value: u64) {
    // ORDERING: SeqCst, which is what it is for.
    place.swap(value, Ordering::SeqCst);
}

/// Stores, and orders that before each `load_seq_cst` that follows.
#[cfg(loom)]
pub(crate) fn store_seq_cst(place: &AtomicU64, value: u64) {
    // ORDERING: Release; the fence comes with the load.
    place.store(value, Ordering::Release);
}

/// Sets bits, and orders that before each `load_seq_cst` that follows.
#[cfg(not(loom))]
pub(crate) fn fetch_or_seq_cst(place: &AtomicU64, bits: u64) {
    // ORDERING: SeqCst, which is what it is for.
    place.fetch_or(bits, Ordering::SeqCst);
}

/// Sets bits, and orders that before each `load_seq_cst` that follows.
#[cfg(loom)]
pub(crate) fn fetch_or_seq_cst(place: &AtomicU64, bits: u64) {
    // ORDERING: Release; the fence comes with the load.
    place.fetch_or(bits, Ordering::Release);
}

/// Loads after all that was stored in order.
#[cfg(not(loom))]
pub(crate) fn load_seq_cst(place: &AtomicU64) -> u64 {
    // ORDERING: SeqCst, which is what it is for.
    place.load(Ordering::SeqCst)
}

/// Loads after all that was stored in order.
#[cfg(loom)]
pub(crate) fn load_seq_cst(place: &AtomicU64) -> u64 {
    // ORDERING: SeqCst, which is what it is for; Acquire, as a SeqCst load has it.
    fence(Ordering::SeqCst);
    place.load(Ordering::Acquire)
}

/// Locks, also after a panic elsewhere: no user code runs under our locks, and what they guard
/// is whole between two statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps until somebody notifies `event`.
pub(crate) fn sleep<'a, T>(event: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    event.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// Blocks until the calling thread is unparked, or so much time has passed.
#[cfg(not(loom))]
pub(crate) fn park(limit: Option<Duration>) {
    match limit {
        Some(limit) => std::thread::park_timeout(limit),
        None => std::thread::park(),
    }
}

/// Blocks until the calling thread is unparked: no time passes in models.
#[cfg(loom)]
pub(crate) fn park(_: Option<Duration>) {
    loom::thread::park();
}

/// About as long as a sleeper takes to be woken: so long it pays to look rather than to sleep.
#[cfg(not(loom))]
pub(crate) const SPIN_BUDGET: Duration = Duration::from_micros(50);

/// Models sleep at once.
#[cfg(loom)]
pub(crate) const SPIN_BUDGET: Duration = Duration::ZERO;

/// Looks again and again, for about as long as a sleeper takes to be woken, whether there is reason not
/// to sleep. Others get the core meanwhile.
#[cfg(not(loom))]
pub(crate) fn spin_then_yield(mut is_over: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_over() && begun.elapsed() < SPIN_BUDGET {
        std::thread::yield_now();
    }
}

/// Models sleep at once.
#[cfg(loom)]
pub(crate) fn spin_then_yield(_: impl FnMut() -> bool) {}

#[cfg(all(test, loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    /// Two places, each of which one side stores to and the other loads from.
    type Places = Arc<[AtomicU64; 2]>;

    /// Has both sides store and load, side by side; at least one sees the other's store.
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
