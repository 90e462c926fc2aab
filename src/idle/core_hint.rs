//! On which core somebody is, or was a moment ago.

use std::sync::atomic::{AtomicU32, Ordering};

/// A core, as a hint; in memory that processes share, too.
#[derive(Default)]
#[repr(transparent)]
pub(crate) struct CoreHint(
    /// Its number + 1; 0: none, or it is not known.
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
