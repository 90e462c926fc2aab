//! A clock that all processes of a machine share, which `Instant` does not promise.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some point in the past.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// The seconds between two times.
pub fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e9
}
