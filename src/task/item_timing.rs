//! [`ItemTiming`]: what a map learns of its items from the executor. Chunks, their results and process pools
//! write it; the feed of the map (`executor/feed.rs`) reads it, for the size of chunks and the memory budget.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Times and sizes that a map learns from the executor that runs its chunks.
#[derive(Debug, Default)]
pub(crate) struct ItemTiming {
    /// The time that an item took lately, in nanoseconds; 0: not known.
    nanos_per_item: AtomicU64,
    /// Bytes of arguments that were encoded so far.
    encoded: AtomicU64,
    /// Bytes of encoded results that have arrived so far.
    arrived: AtomicU64,
    /// About how many bytes an encoded result has, plus 1: the largest of late; 0: none has arrived.
    result_size: AtomicU64,
}

impl ItemTiming {
    /// The time that an item took lately; `None` if it is not known.
    pub(crate) fn per_item(&self) -> Option<Duration> {
        // ORDERING: Relaxed; an estimate.
        let nanos = self.nanos_per_item.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Bytes of arguments that were encoded so far.
    pub(crate) fn encoded(&self) -> u64 {
        // ORDERING: Relaxed; written by the thread that reads it, inside `execute`.
        self.encoded.load(Ordering::Relaxed)
    }

    /// Notes that `bytes` more bytes of arguments were encoded.
    pub(crate) fn note_bytes(&self, bytes: usize) {
        // ORDERING: Relaxed; as in `encoded`.
        self.encoded.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether items travel encoded: only then do their results have a size.
    pub(crate) fn is_encoded(&self) -> bool {
        self.encoded() > 0
    }

    /// Bytes of encoded results that have arrived so far.
    pub(crate) fn arrived(&self) -> u64 {
        // ORDERING: Relaxed; what a reader took from a chunk, under the chunk's lock, was noted before.
        self.arrived.load(Ordering::Relaxed)
    }

    /// About how many bytes an encoded result has; `None` if none has arrived.
    pub(crate) fn result_size(&self) -> Option<u64> {
        // ORDERING: Relaxed; an estimate.
        self.result_size.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Notes that `count` results, encoded in `bytes` bytes, are about to be stored. The estimated size of a
    /// result rises at once and falls slowly.
    pub(super) fn note_results(&self, count: usize, bytes: u64) {
        // ORDERING: Relaxed; the chunk's lock is taken after this, and before any thread reads the results.
        self.arrived.fetch_add(bytes, Ordering::Relaxed);
        let size = bytes / (count.max(1) as u64);
        let fallen = self.result_size().map_or(0, |before| before - before / 8);
        // ORDERING: Relaxed; an estimate, and a lost update matters little.
        self.result_size
            .store(size.max(fallen) + 1, Ordering::Relaxed);
    }

    /// Notes that `items` items together took the time `took`.
    pub(crate) fn note(&self, items: usize, took: Duration) {
        let nanos = took.as_nanos() / (items.max(1) as u128);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
        // ORDERING: Relaxed; an estimate.
        self.nanos_per_item.store(nanos, Ordering::Relaxed);
    }
}
