//! The bell of a stream: where code of this crate notes that there is news for the async task that polls it.
//! Rung by the results of maps (`executor/map.rs`) and by futures (`wait/stream.rs`); armed by streams.

use std::sync::Mutex;
use std::task::Waker;

use crate::sync::lock;

/// The waker of the async task that waits for news; there is none unless one waits.
#[derive(Debug, Default)]
pub(crate) struct Bell(Mutex<Option<Waker>>);

impl Bell {
    /// Takes out the waker, after the news was stored. The caller wakes it where foreign code may run; `None`:
    /// no task waits. Pairs with `arm`: either this thread sees the waker, or the task that looks once more
    /// after it has armed the bell sees the news. The lock orders them.
    pub(crate) fn ring(&self) -> Option<Waker> {
        lock(&self.0).take()
    }
}

#[cfg(feature = "stream")]
impl Bell {
    /// Has `waker` woken at the next news. The caller looks once more afterwards.
    pub(crate) fn arm(&self, waker: &Waker) {
        let fresh = waker.clone();
        let stale = lock(&self.0).replace(fresh);
        drop(stale); // off the lock: foreign code, as the clone is
    }
}
