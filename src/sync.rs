//! The primitives that the protocols stand on: std's, or loom's when the models are checked.

#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
};

#[cfg(loom)]
pub(crate) use loom::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
    thread::ThreadId,
};

use std::sync::PoisonError;

/// Tells a thread from all others that live.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId(usize);

/// The calling thread.
#[cfg(not(loom))]
pub(crate) fn this_thread() -> ThreadId {
    thread_local! {
        /// Every thread has one of its own, at an address of its own.
        static PLACE: u8 = const { 0 };
    }
    ThreadId(PLACE.with(|place| std::ptr::from_ref(place).addr()))
}

/// The calling thread.
#[cfg(loom)]
pub(crate) fn this_thread() -> ThreadId {
    loom::thread::current().id()
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
