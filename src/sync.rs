//! The primitives that the protocols stand on: std's, or loom's when the models are checked.

#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle, ThreadId, current},
};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
    thread::{Builder, JoinHandle, ThreadId, current},
};

use std::io;
#[cfg(not(loom))]
use std::num::NonZero;
use std::sync::PoisonError;

/// Tells a thread from all others that live; cheaper to have than its name.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadMark(NonZero<usize>);

/// Tells a thread from all others that live.
#[cfg(loom)]
pub(crate) type ThreadMark = ThreadId;

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
pub(crate) fn mark_of_thread() -> ThreadMark {
    thread_local! {
        /// Every thread has one of its own, at an address of its own.
        static PLACE: u8 = const { 0 };
    }
    let address = PLACE.with(|place| std::ptr::from_ref(place).addr());
    match NonZero::new(address) {
        Some(address) => ThreadMark(address),
        None => unreachable!("nothing is at address 0"),
    }
}

/// The calling thread.
#[cfg(loom)]
pub(crate) fn mark_of_thread() -> ThreadMark {
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

/// Stores, and orders that before all SeqCst loads that follow: as a store and a fence would, at half their
/// price.
#[cfg(not(loom))]
pub(crate) fn store_in_order(place: &AtomicU64, value: u64) {
    // ORDERING: SeqCst, which is what it is for.
    place.swap(value, Ordering::SeqCst);
}

/// Stores, and orders that before all loads that follow: loom knows no other way.
#[cfg(loom)]
pub(crate) fn store_in_order(place: &AtomicU64, value: u64) {
    // ORDERING: Release and SeqCst, which is what it is for.
    place.store(value, Ordering::Release);
    fence(Ordering::SeqCst);
}

/// Sets bits, and orders that before all SeqCst loads that follow.
#[cfg(not(loom))]
pub(crate) fn set_in_order(place: &AtomicU64, bits: u64) {
    // ORDERING: SeqCst, which is what it is for.
    place.fetch_or(bits, Ordering::SeqCst);
}

/// Sets bits, and orders that before all loads that follow: loom knows no other way.
#[cfg(loom)]
pub(crate) fn set_in_order(place: &AtomicU64, bits: u64) {
    // ORDERING: Release and SeqCst, which is what it is for.
    place.fetch_or(bits, Ordering::Release);
    fence(Ordering::SeqCst);
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

/// About as long as a sleeper takes to be woken: so long it pays to look rather than to sleep.
#[cfg(not(loom))]
pub(crate) const ABOUT_A_WAKE_UP: std::time::Duration = std::time::Duration::from_micros(50);

/// Models sleep at once.
#[cfg(loom)]
pub(crate) const ABOUT_A_WAKE_UP: std::time::Duration = std::time::Duration::ZERO;

/// Looks again and again, for about as long as a sleeper takes to be woken, whether there is reason not
/// to sleep. Others get the core meanwhile.
#[cfg(not(loom))]
pub(crate) fn look_around(mut is_over: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_over() && begun.elapsed() < ABOUT_A_WAKE_UP {
        std::thread::yield_now();
    }
}

/// Models sleep at once.
#[cfg(loom)]
pub(crate) fn look_around(_: impl FnMut() -> bool) {}
