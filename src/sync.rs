//! The primitives that the protocols stand on: std's, or loom's when the models are checked.

#[cfg(not(loom))]
pub(crate) use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
};

#[cfg(loom)]
pub(crate) use loom::{
    cell::UnsafeCell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
    sync::{Condvar, Mutex, MutexGuard},
    thread::ThreadId,
};

use std::sync::PoisonError;

/// Tells a thread from all others that live.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ThreadId(usize);

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
