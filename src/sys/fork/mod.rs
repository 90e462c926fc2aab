//! Fork detection: tells a process from a copy of it that was forked without exec (compare
//! `os.register_at_fork` of Python). Pools, mappings and service threads check it, since a forked copy has
//! none of the program's threads and must not touch the pool's processes and memory.

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

#[cfg_attr(all(unix, not(no_backend)), path = "unix.rs")]
#[cfg_attr(not(all(unix, not(no_backend))), path = "none.rs")]
mod system;

/// The number of forks between the original program and this process: a copy has one more than its original.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The fork generation of the process in which an object was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkEpoch(u64);

impl ForkEpoch {
    pub(crate) fn here() -> Self {
        watch_forks();
        // ORDERING: Relaxed; written by this thread alone, or before this process began.
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether the caller runs in a forked copy of the process where this value was made. A copy must not
    /// rely on threads and locks of the original, and the original's children are not the copy's children.
    pub(crate) fn is_forked_copy(self) -> bool {
        // ORDERING: Relaxed; written by this thread alone, or before this process began.
        GENERATION.load(Ordering::Relaxed) != self.0
    }
}

/// Counts the forks of this process from now on.
fn watch_forks() {
    static WATCHED: Once = Once::new();
    extern "C" fn in_the_copy() {
        // ORDERING: Relaxed; the copy has one thread, this one.
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    WATCHED.call_once(|| system::at_fork(in_the_copy));
}
