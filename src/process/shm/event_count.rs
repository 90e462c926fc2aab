//! An eventcount in shared memory: one thread sleeps there until an event happens, in this process or another
//! one. The shared-memory queue has one per worker, and one for the collector.

use crate::sync::deadline::Deadline;
use crate::sync::{AtomicU32, Ordering};

#[cfg(not(loom))]
use crate::sys;

/// Where one thread sleeps: an eventcount.
///
/// The sleeper takes a wait key, announces where other threads look that it is about to sleep, looks once
/// more whether there is a reason not to sleep, and sleeps with the key. A notification first makes the key
/// invalid, so none is lost between the look and the sleep.
#[derive(Default)]
#[repr(C)]
pub(crate) struct EventCount {
    /// The number of notifications so far (wrapping).
    rung: AtomicU32,
    /// Where the sleeper waits in loom's models.
    #[cfg(loom)]
    model: Model,
}

/// Wait key: a sleep with it ends at once if there was a notification since [`EventCount::prepare`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitKey(
    /// The number of notifications when the key was taken.
    u32,
);

impl EventCount {
    pub(crate) fn prepare(&self) -> WaitKey {
        // ORDERING: Acquire, so that what the sleeper looks at next is no older than the last notification
        // that this key includes.
        WaitKey(self.rung.load(Ordering::Acquire))
    }

    /// Invalidates all wait keys taken so far, and wakes the sleeper.
    pub(crate) fn notify(&self) {
        // ORDERING: Release; pairs with the `prepare` that sees it.
        self.rung.fetch_add(1, Ordering::Release);
        self.wake();
    }

    #[cfg(not(loom))]
    fn wake(&self) {
        sys::wait::futex_wake(&self.rung);
    }

    /// Sleeps until a notification, if there was none since the wait key was taken, or until the deadline.
    /// Spurious wake-ups are possible.
    #[cfg(not(loom))]
    pub(crate) fn sleep(&self, key: WaitKey, deadline: Deadline) {
        sys::wait::futex_wait(&self.rung, key.0, deadline.moment());
    }
}

/// A futex for models.
#[cfg(loom)]
#[derive(Default)]
struct Model {
    /// Orders the sleeper's check of the wait key and the waker's notification.
    lock: crate::sync::Mutex<()>,
    /// Where the sleeper waits.
    event: crate::sync::Condvar,
}

#[cfg(loom)]
impl EventCount {
    fn wake(&self) {
        let guard = crate::sync::lock(&self.model.lock);
        self.model.event.notify_all();
        drop(guard);
    }

    pub(crate) fn sleep(&self, key: WaitKey, _deadline: Deadline) {
        let guard = crate::sync::lock(&self.model.lock);
        // ORDERING: Relaxed; the lock orders it against the waker's notification.
        if self.rung.load(Ordering::Relaxed) == key.0 {
            drop(crate::sync::sleep(&self.model.event, guard));
        }
    }
}
