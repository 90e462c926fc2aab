//! Linux: a futex, which is not private to one process.

use std::sync::atomic::AtomicU32;
use std::time::Instant;

use rustix::thread::{Timespec, futex};

/// Sleeps until a [`futex_wake`] of the word or until the deadline; returns at once if the word is not
/// `expected`. Works across processes. May return spuriously.
#[cfg_attr(loom, allow(dead_code, reason = "models sleep otherwise"))]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    /// The longest sleep, in seconds, after which callers check again: it fits into 32 bits.
    const LONGEST: u64 = 1 << 30;

    let timeout = deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        Timespec {
            tv_sec: left.as_secs().min(LONGEST) as i64,
            tv_nsec: left.subsec_nanos().into(),
        }
    });
    // Whatever the result, callers check again.
    let _ = futex::wait(word, SHARED, expected, timeout.as_ref());
}

/// Wakes all threads that sleep on the word, in all processes.
#[cfg_attr(loom, allow(dead_code, reason = "models sleep otherwise"))]
pub(crate) fn futex_wake(word: &AtomicU32) {
    const ALL: u32 = i32::MAX.unsigned_abs();
    // Fails only for an address that is not mapped.
    let _ = futex::wake(word, SHARED, ALL);
}

/// Without `PRIVATE`: the word lies in memory that processes share.
const SHARED: futex::Flags = futex::Flags::empty();
