//! Linux.

use std::ptr;
use std::sync::atomic::AtomicU32;
use std::time::Instant;

/// Sleeps until a [`futex_wake`] of the word or until the deadline; returns at once if the word is not
/// `expected`. Works across processes. May return spuriously.
#[cfg_attr(loom, allow(dead_code, reason = "models sleep otherwise"))]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    /// The longest sleep, in seconds, after which callers check again: it fits into 32 bits.
    const LONGEST: u64 = 1 << 30;

    let timeout = deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        libc::timespec {
            tv_sec: left.as_secs().min(LONGEST) as _,
            tv_nsec: left.subsec_nanos() as _,
        }
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout outlive the call. Whatever it returns, callers check again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            timeout,
        )
    };
}

/// Wakes all threads that sleep on the word, in all processes.
#[cfg_attr(loom, allow(dead_code, reason = "models sleep otherwise"))]
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word outlives the call, which only uses its address.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            libc::c_int::MAX,
        )
    };
}
