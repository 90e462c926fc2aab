//! Ids of futures, unique in this process.

use std::sync::atomic::{AtomicU64, Ordering};

/// The id of a future: the key of a map of futures, where Python has a dict of them. Never used twice in a
/// process.
///
/// ```
/// use std::collections::HashMap;
/// use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let mut words = HashMap::new();
/// let futures = ["one", "three"].map(|word| {
///     let future = pool.submit(|word: String| word.len(), word.to_owned());
///     words.insert(future.id(), word);
///     future
/// });
/// for future in as_completed(futures) {
///     let word = words[&future.id()];
///     assert_eq!(future.result()?, word.len());
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FutureId(u64);

impl FutureId {
    /// The first of `count` consecutive new ids.
    pub(crate) fn first_of(count: usize) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // ORDERING: Relaxed; only the uniqueness of the numbers matters.
        Self(NEXT.fetch_add(count as u64, Ordering::Relaxed))
    }

    /// The id that is `names` ids later.
    pub(crate) const fn plus(self, names: usize) -> Self {
        Self(self.0 + names as u64)
    }

    /// How many ids later than `other` this one is; `None`: it is earlier.
    pub(crate) fn since(self, other: Self) -> Option<usize> {
        usize::try_from(self.0.checked_sub(other.0)?).ok()
    }

    /// The number of the id, as users see it in `Debug` output.
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    #[cfg(test)]
    pub(crate) const fn from_number(number: u64) -> Self {
        Self(number)
    }
}
