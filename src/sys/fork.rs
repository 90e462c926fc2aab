//! Telling a program from a copy that it forked without exec.

use std::sync::atomic::{AtomicU64, Ordering};

/// How often this process's line has forked: a copy counts one more than its original.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Remembers in which process something was made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ForkEpoch(u64);

impl ForkEpoch {
    pub(crate) fn here() -> Self {
        watch_forks();
        // ORDERING: Relaxed; written by this thread alone, or before this process began.
        Self(GENERATION.load(Ordering::Relaxed))
    }

    /// Whether the caller runs in a forked copy of the process where this was made: threads and
    /// locks of the original are not to be relied on, its children are not the caller's.
    pub(crate) fn is_forked_copy(self) -> bool {
        // ORDERING: Relaxed; as above.
        GENERATION.load(Ordering::Relaxed) != self.0
    }
}

fn watch_forks() {
    static WATCHED: std::sync::Once = std::sync::Once::new();
    extern "C" fn in_the_copy() {
        // ORDERING: Relaxed; the copy has one thread, this one.
        GENERATION.fetch_add(1, Ordering::Relaxed);
    }
    WATCHED.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which is safe at any point. Where the
        // system has no memory for it (the one error there is), copies go unnoticed.
        unsafe { libc::pthread_atfork(None, None, Some(in_the_copy)) };
    });
}
