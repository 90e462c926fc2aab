//! A hint on which core a submitter or a waiter runs, or ran a moment ago. `pool/` and `process/shm/queue/`
//! keep such hints; [`placement`](super::placement) uses them.

use std::sync::atomic::{AtomicU32, Ordering};

/// A core, as a hint. May lie in shared memory: any bit pattern is valid.
#[derive(Default)]
#[repr(transparent)]
pub(crate) struct CoreHint(
    /// The core's number + 1; 0: no such thread, or its core is not known.
    AtomicU32,
);

impl CoreHint {
    pub(crate) fn set(&self, core: Option<u32>) {
        let number = core.map_or(0, |core| core.wrapping_add(1));
        // ORDERING: Relaxed; a hint.
        self.0.store(number, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> Option<u32> {
        // ORDERING: Relaxed; a hint.
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}
