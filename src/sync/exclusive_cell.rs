//! What a task has with it, and who holds the task's promise reaches alone.

use crate::sync::UnsafeCell;

/// What a task has with it: its argument, then what becomes of it. There is one promise of each task, so
/// that who holds it needs no lock. What has arrived is reached by the one who opens it, later: the cell's
/// lock tells which that is, and orders the two.
pub(crate) struct ExclusiveCell<T>(
    /// It.
    UnsafeCell<T>,
);

// SAFETY: it is reached by one thread at a time, as its methods demand: a value is only moved from
// thread to thread.
unsafe impl<T: Send> Sync for ExclusiveCell<T> {}

impl<T> ExclusiveCell<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// What is there.
    ///
    /// # Safety
    /// As of `replace`, for as long as it is looked at.
    pub(crate) unsafe fn look(&self) -> &T {
        // SAFETY: by the caller's promise, nobody else is there.
        self.0.with(|place| unsafe { &*place })
    }

    /// Puts that there, and takes what was.
    ///
    /// # Safety
    /// The caller holds the task's one promise, or has given it up for this; or he is the one who opens
    /// what has arrived.
    pub(crate) unsafe fn replace(&self, value: T) -> T {
        self.0.with_mut(|place| {
            // SAFETY: by the caller's promise, nobody else is there.
            unsafe { std::mem::replace(&mut *place, value) }
        })
    }
}
