//! The listeners that are notified when memory which workers may have mapped is gone.
//!
//! Called by `registry.rs` as the last owner of a region is dropped. The listeners are the ways to reach
//! workers: the shared signals of each child (`process/host/child.rs`) and the queue of each pool
//! (`process/host/in_flight/`).

use std::sync::{LazyLock, Mutex, Weak};

use crate::sync::lock;
use crate::sys::fork::ForkEpoch;

/// A way to reach workers.
pub(crate) trait InvalidationListener: Send + Sync {
    /// Counts, where workers look, that some memory is gone.
    fn note(&self) {}
    /// Wakes the workers that sleep, so that they look at the count.
    fn ring(&self) {}
}

/// The listeners: every way to reach a worker of this program.
static LISTENERS: Mutex<Vec<Weak<dyn InvalidationListener>>> = Mutex::new(Vec::new());

/// Whether this is the process that has the workers, not a forked copy of it. In a copy, locks may be held
/// for ever by threads that it does not have.
pub(crate) fn are_ours() -> bool {
    static HOME: LazyLock<ForkEpoch> = LazyLock::new(ForkEpoch::here);
    !HOME.is_forked_copy()
}

/// Adds a listener, which is notified as long as it lives.
pub(crate) fn subscribe(listener: Weak<dyn InvalidationListener>) {
    if !are_ours() {
        return; // a copy has no shared memory either
    }
    let mut listeners = lock(&LISTENERS);
    listeners.retain(|listener| listener.strong_count() > 0);
    listeners.push(listener);
}

/// Notifies all listeners that some memory is gone. All counts are written before the first worker is woken,
/// so a woken worker reads a new count.
pub(crate) fn broadcast() {
    let listeners = lock(&LISTENERS);
    let all: Vec<_> = listeners.iter().filter_map(Weak::upgrade).collect();
    drop(listeners);
    for listener in &all {
        listener.note();
    }
    for listener in &all {
        listener.ring();
    }
}
