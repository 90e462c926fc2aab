//! What matters of many measured times.

use std::time::Duration;

/// The middle, and what one in a hundred exceeds.
pub struct Quantiles {
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

impl Quantiles {
    pub fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort();
        Self {
            p50: samples[samples.len() / 2],
            p99: samples[samples.len() * 99 / 100],
        }
    }
}
