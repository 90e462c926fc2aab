//! What a worker process does to itself: it ends with its program, heeds or ignores signals, and limits its
//! memory. `process/worker/` calls it.

use std::time::{Duration, Instant};

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{
    die_with_parent, end_when_hung_up, exit_forked_copy, heed_signals, limit_memory,
    own_peak_memory, stand_aside_from_terminal,
};

/// Waits for the signal that ends this process, for at most the time `limit`.
pub(crate) fn park_until_killed(limit: Duration) {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}
