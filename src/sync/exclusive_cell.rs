//! A cell that only the owner of a task's promise may access. `task/` keeps arguments and encoded results in
//! it.

use crate::sync::UnsafeCell;

/// Storage for the task's argument, later its encoded result. A task has one promise, so its owner needs no
/// lock here. After the promise is consumed, only the thread that decodes the received result may access the
/// cell. The lock of the future's state decides which thread that is, and orders the two.
pub(crate) struct ExclusiveCell<T>(
    /// The stored value; access follows the rule of [`replace`](Self::replace).
    UnsafeCell<T>,
);

// SAFETY: its methods require that one thread at a time accesses it: a value is only moved from thread to
// thread.
unsafe impl<T: Send> Sync for ExclusiveCell<T> {}

impl<T> ExclusiveCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// Returns a reference to the stored value.
    ///
    /// # Safety
    /// The condition of [`replace`](Self::replace), for as long as the reference lives.
    pub(crate) unsafe fn look(&self) -> &T {
        // SAFETY: the caller guarantees that no other thread accesses the cell.
        self.0.with(|place| unsafe { &*place })
    }

    /// Stores `value` and returns the previous one.
    ///
    /// # Safety
    /// The caller owns the task's one promise, or has just consumed it for this call; or the caller is the
    /// one thread that decodes the received result.
    pub(crate) unsafe fn replace(&self, value: T) -> T {
        self.0.with_mut(|place| {
            // SAFETY: the caller guarantees that no other thread accesses the cell.
            unsafe { std::mem::replace(&mut *place, value) }
        })
    }
}
