//! Where somebody sleeps until something happens, across processes.

use std::time::Instant;

use crate::sync::{AtomicU32, Ordering};

#[cfg(not(loom))]
use crate::sys;

/// Where one thread sleeps: an eventcount.
///
/// The sleeper takes a ticket, says where others look that it is about to sleep, looks once more
/// whether there is reason not to, and sleeps on the ticket. A ring makes the ticket void first, so
/// that none between the look and the sleep is lost.
#[derive(Default)]
#[repr(C)]
pub(crate) struct EventCount {
    /// How often it was rung.
    rung: AtomicU32,
    /// Where models sleep.
    #[cfg(loom)]
    model: Model,
}

/// What one sleeps on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WaitKey(
    /// How often the bed had been rung.
    u32,
);

impl EventCount {
    pub(crate) fn prepare(&self) -> WaitKey {
        // ORDERING: Acquire, so that what the sleeper looks at next is no older than the ring that
        // this ticket has seen.
        WaitKey(self.rung.load(Ordering::Acquire))
    }

    /// Wakes its owner.
    pub(crate) fn notify(&self) {
        // ORDERING: Release, to the `prepare` that sees it.
        self.rung.fetch_add(1, Ordering::Release);
        self.wake();
    }

    #[cfg(not(loom))]
    fn wake(&self) {
        sys::futex_wake(&self.rung);
    }

    /// Sleeps until it is rung, if it was not since the ticket, or until the deadline. May wake for
    /// nothing.
    #[cfg(not(loom))]
    pub(crate) fn sleep(&self, ticket: WaitKey, deadline: Option<Instant>) {
        sys::futex_wait(&self.rung, ticket.0, deadline);
    }
}

/// A futex for models.
#[cfg(loom)]
#[derive(Default)]
struct Model {
    /// Orders the sleeper's look at the ticket and the waker's ring.
    lock: crate::sync::Mutex<()>,
    /// Where it sleeps.
    event: crate::sync::Condvar,
}

#[cfg(loom)]
impl EventCount {
    fn wake(&self) {
        let guard = crate::sync::lock(&self.model.lock);
        self.model.event.notify_all();
        drop(guard);
    }

    pub(crate) fn sleep(&self, ticket: WaitKey, _deadline: Option<Instant>) {
        let guard = crate::sync::lock(&self.model.lock);
        // ORDERING: Relaxed; the lock orders it against the waker's.
        if self.rung.load(Ordering::Relaxed) == ticket.0 {
            drop(crate::sync::sleep(&self.model.event, guard));
        }
    }
}
