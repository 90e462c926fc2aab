//! Locks without poisoning. All rooms lock by [`lock`], statics and what no model checks as well as what loom
//! does.

use std::sync::{LockResult, PoisonError};

/// A mutex that [`lock`] locks: std's, or loom's. Where models are checked there are both, since loom's cannot
/// be a static, and does not exist outside a model.
pub(crate) trait Lockable {
    /// Unlocks the mutex when it is dropped.
    type Guard<'a>
    where
        Self: 'a;

    /// Blocks until the mutex is unlocked, and locks it.
    fn acquire(&self) -> LockResult<Self::Guard<'_>>;
}

/// Locks, and ignores poisoning, as [`unpoisoned`] does.
#[inline]
pub(crate) fn lock<M: Lockable>(mutex: &M) -> M::Guard<'_> {
    unpoisoned(mutex.acquire())
}

/// What a lock or a condition variable has returned, also after a panic elsewhere: no user code runs under the
/// crate's locks, and the data that they guard are consistent between any two statements.
#[inline]
pub(crate) fn unpoisoned<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}

impl<T> Lockable for std::sync::Mutex<T> {
    type Guard<'a>
        = std::sync::MutexGuard<'a, T>
    where
        T: 'a;

    #[inline]
    fn acquire(&self) -> LockResult<Self::Guard<'_>> {
        self.lock()
    }
}

#[cfg(loom)]
impl<T> Lockable for loom::sync::Mutex<T> {
    type Guard<'a>
        = loom::sync::MutexGuard<'a, T>
    where
        T: 'a;

    fn acquire(&self) -> LockResult<Self::Guard<'_>> {
        self.lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, RwLock};
    use std::thread;

    use super::*;

    #[test]
    fn a_mutex_is_locked_after_a_panic_under_it() {
        let mutex = Mutex::new(1);
        panic_in(|| {
            let mut number = lock(&mutex);
            *number = 2;
            panic!("on purpose");
        });
        assert!(mutex.is_poisoned());
        assert_eq!(*lock(&mutex), 2);
    }

    #[test]
    fn whatever_a_panic_has_poisoned_is_returned() {
        let mut shared = RwLock::new(1);
        panic_in(|| {
            let _number = shared.write();
            panic!("on purpose");
        });
        assert!(shared.is_poisoned());
        assert_eq!(*unpoisoned(shared.read()), 1);
        assert_eq!(*unpoisoned(shared.get_mut()), 1);
    }

    /// Runs `f`, which panics, on a thread of its own.
    fn panic_in(f: impl FnOnce() + Send) {
        let ended = thread::scope(|scope| scope.spawn(f).join());
        assert!(ended.is_err());
    }
}
