//! Who is to hear that memory which workers may have mapped is gone.

use std::sync::{LazyLock, Mutex, PoisonError, Weak};

use crate::sys::fork::ForkEpoch;

/// A way to reach workers.
pub(crate) trait InvalidationListener: Send + Sync {
    /// Puts down that something is gone, where workers look.
    fn note(&self) {}
    /// Has those look who sleep.
    fn ring(&self) {}
}

/// Every way to reach a worker of this program.
static BELLS: Mutex<Vec<Weak<dyn InvalidationListener>>> = Mutex::new(Vec::new());

/// Whether this is the process whose workers hear: in a forked copy of it, locks may be held for ever.
pub(crate) fn are_ours() -> bool {
    static HOME: LazyLock<ForkEpoch> = LazyLock::new(ForkEpoch::here);
    !HOME.is_forked_copy()
}

/// From now on it is rung, as long as it lives.
pub(crate) fn subscribe(listener: Weak<dyn InvalidationListener>) {
    if !are_ours() {
        return; // nor is there shared memory
    }
    let mut bells = BELLS.lock().unwrap_or_else(PoisonError::into_inner);
    bells.retain(|listener| listener.strong_count() > 0);
    bells.push(listener);
}

/// Something is gone: all who sleep look. What is put down is so before anybody is woken.
pub(crate) fn broadcast() {
    let bells = BELLS.lock().unwrap_or_else(PoisonError::into_inner);
    let all: Vec<_> = bells.iter().filter_map(Weak::upgrade).collect();
    drop(bells);
    for listener in &all {
        listener.note();
    }
    for listener in &all {
        listener.ring();
    }
}
