//! Waiting for many futures, of any executors: [`as_completed`], [`as_completed_keyed`] and [`wait`].
//!
//! All are built on [`Completions`], which relies only on the watchers of the futures' states (`state.rs`):
//! each watcher sends the number of its future over a channel.

#[cfg(feature = "stream")]
pub(crate) mod stream;

use std::collections::VecDeque;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::Error;
use crate::future::Future;
use crate::future::deadlock;
use crate::future::state::WatchKey;
use crate::sync::deadline::Deadline;

/// Yields futures as they become done. (`concurrent.futures.as_completed`)
///
/// Futures that are done already come first, in the given order; the others in the order of completion.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let futures: Vec<_> = (0..10_u64).map(|n| pool.submit(|n| n * n, n)).collect();
/// let mut sum = 0;
/// for future in as_completed(futures) {
///     sum += future.result()?;
/// }
/// assert_eq!(sum, 285);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn as_completed<T>(futures: impl IntoIterator<Item = Future<T>>) -> AsCompleted<T> {
    let futures = futures.into_iter().map(|future| ((), future));
    AsCompleted(as_completed_keyed(futures))
}

/// Like [`as_completed`], for futures with keys: each comes with its own. A key is any value, which stays in the
/// program. (a dict of futures)
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed_keyed};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let words = ["tea", "cake"];
/// let futures = words.map(|word| (word, pool.submit(|word: String| word.len(), word.into())));
/// for (word, length) in as_completed_keyed(futures) {
///     println!("{word}: {} letters", length.result()?);
/// }
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn as_completed_keyed<K, T>(
    futures: impl IntoIterator<Item = (K, Future<T>)>,
) -> AsCompletedKeyed<K, T> {
    AsCompletedKeyed(Completions::of(futures))
}

/// The iterator of [`as_completed`].
#[derive(Debug)]
#[must_use = "iterators are lazy"]
pub struct AsCompleted<T>(
    /// The futures, with keys that say nothing.
    AsCompletedKeyed<(), T>,
);

/// The iterator of [`as_completed_keyed`]: `(key, future)`.
#[derive(Debug)]
#[must_use = "iterators are lazy"]
pub struct AsCompletedKeyed<K, T>(
    /// The futures with their keys, and which of them are done.
    Completions<K, T>,
);

impl<T> AsCompleted<T> {
    /// The next future that is done, if one is within `limit`; `Ok(None)` when all were yielded. (`timeout`
    /// of `as_completed`, but for each future anew)
    ///
    /// # Errors
    /// [`Error::Timeout`] if none was done in time; this can be called again.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed};
    /// # use std::time::Duration;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let futures = [1, 2].map(|n| pool.submit(|n: u32| n + 1, n));
    /// let mut completed = as_completed(futures);
    /// let mut sum = 0;
    /// while let Some(future) = completed.next_timeout(Duration::from_secs(60))? {
    ///     sum += future.result()?;
    /// }
    /// assert_eq!(sum, 5);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn next_timeout(&mut self, limit: Duration) -> Result<Option<Future<T>>, Error> {
        let next = self.0.next_timeout(limit)?;
        Ok(next.map(|((), future)| future))
    }

    /// The number of futures still to be yielded.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.remaining()
    }

    /// The futures that were not yielded, in the given order.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed};
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let futures = [1, 2, 3].map(|n| pool.submit(|n: u32| n + 1, n));
    /// let mut completed = as_completed(futures);
    /// let first = completed.next();
    /// assert!(first.is_some());
    /// let rest = completed.into_pending();
    /// assert_eq!(rest.len(), 2);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn into_pending(self) -> Vec<Future<T>> {
        let pending = self.0.into_pending().into_iter();
        pending.map(|((), future)| future).collect()
    }
}

impl<T> Iterator for AsCompleted<T> {
    type Item = Future<T>;

    fn next(&mut self) -> Option<Future<T>> {
        self.0.next().map(|((), future)| future)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<T> ExactSizeIterator for AsCompleted<T> {}

impl<K, T> AsCompletedKeyed<K, T> {
    /// The next future that is done, with its key, if one is within `limit`; `Ok(None)` when all were
    /// yielded. (`timeout` of `as_completed`, but for each future anew)
    ///
    /// # Errors
    /// [`Error::Timeout`] if none was done in time; this can be called again.
    pub fn next_timeout(&mut self, limit: Duration) -> Result<Option<(K, Future<T>)>, Error> {
        if self.remaining() == 0 {
            return Ok(None);
        }
        match self.0.next_until(Deadline::after(limit)) {
            Some(next) => Ok(Some(next)),
            None => Err(Error::Timeout),
        }
    }

    /// The number of futures still to be yielded.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.0.remaining
    }

    /// The futures that were not yielded, with their keys, in the given order.
    ///
    /// ```
    /// # use concurrent_futures::{Executor, ThreadPoolExecutor, as_completed_keyed};
    /// # use std::time::Duration;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let nap = |ms| std::thread::sleep(Duration::from_millis(ms));
    /// let futures = [1, 60].map(|ms| (ms, pool.submit(nap, ms)));
    /// let mut completed = as_completed_keyed(futures);
    /// while let Ok(Some((ms, _))) = completed.next_timeout(Duration::from_millis(20)) {
    ///     println!("{ms} ms are over");
    /// }
    /// for (ms, future) in completed.into_pending() {
    ///     println!("{ms} ms took too long: {future:?}");
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    pub fn into_pending(mut self) -> Vec<(K, Future<T>)> {
        self.0.take_all().collect()
    }
}

impl<K, T> Iterator for AsCompletedKeyed<K, T> {
    type Item = (K, Future<T>);

    fn next(&mut self) -> Option<(K, Future<T>)> {
        self.0.next_until(Deadline::never())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining(), Some(self.remaining()))
    }
}

impl<K, T> ExactSizeIterator for AsCompletedKeyed<K, T> {}

/// When [`wait`] returns. (`return_when` of `concurrent.futures.wait`)
///
/// ```
/// use concurrent_futures::{Executor, ReturnWhen, ThreadPoolExecutor, wait};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let futures = [0, 1].map(|n| pool.submit(|n: u32| 1 / n, n));
/// let waited = wait(futures, None, ReturnWhen::FirstException);
/// assert!(waited.done.iter().any(|future| future.exception().is_some()));
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnWhen {
    /// At the first future that is done. (`FIRST_COMPLETED`)
    FirstCompleted,
    /// At the first future that is done with an error, or when all are. (`FIRST_EXCEPTION`)
    FirstException,
    /// When all futures are done. (`ALL_COMPLETED`)
    AllCompleted,
}

/// The result of [`wait`], each list in the order given; [`wait`] has an example. (`DoneAndNotDoneFutures`)
#[derive(Debug)]
#[must_use = "it holds the futures"]
pub struct Waited<T> {
    /// Futures that are done.
    pub done: Vec<Future<T>>,
    /// Futures that are not done.
    pub not_done: Vec<Future<T>>,
}

/// Blocks until the condition `until` holds, or for at most `timeout`. (`concurrent.futures.wait`)
///
/// ```
/// use concurrent_futures::{Executor, ReturnWhen, ThreadPoolExecutor, wait};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let futures = [3_u64, 4].map(|n| pool.submit(|n| n * n, n));
/// let waited = wait(futures, None, ReturnWhen::AllCompleted);
/// assert_eq!(waited.done.len(), 2);
/// assert!(waited.not_done.is_empty());
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub fn wait<T>(
    futures: impl IntoIterator<Item = Future<T>>,
    timeout: Option<Duration>,
    until: ReturnWhen,
) -> Waited<T> {
    let deadline = Deadline::after_limit(timeout);
    let mut completions = Completions::of(futures.into_iter().enumerate());
    let mut all = Vec::new();
    while let Some((number, future)) = completions.next_until(deadline) {
        let enough = match until {
            ReturnWhen::FirstCompleted => true,
            ReturnWhen::FirstException => future.failed(),
            ReturnWhen::AllCompleted => false,
        };
        all.push((number, future));
        if enough {
            break;
        }
    }
    all.extend(completions.take_all());
    all.sort_by_key(|(number, _)| *number);
    let futures = all.into_iter().map(|(_, future)| future);
    let (done, not_done) = futures.partition(Future::done);
    Waited { done, not_done }
}

/// Futures with keys, and the order in which they become done. A future's number is its position in the order
/// given.
#[derive(Debug)]
struct Completions<K, T> {
    /// The watched futures, in the order given, without the first `removed`; yielded ones leave `None`.
    futures: VecDeque<Option<(K, Future<T>)>>,
    /// The number of futures that were yielded and removed from the front.
    removed: usize,
    /// The number of futures still to be yielded.
    remaining: usize,
    /// Where watchers send the number of a future that is done.
    sender: Sender<usize>,
    /// Where the numbers sent by watchers are received.
    receiver: Receiver<usize>,
    /// The key under which the watchers are registered.
    watch_key: WatchKey,
}

impl<K, T> Completions<K, T> {
    /// Watches all of these futures; those that are done already come first.
    fn of(futures: impl IntoIterator<Item = (K, Future<T>)>) -> Self {
        let futures: VecDeque<_> = futures.into_iter().map(Some).collect();
        let (sender, receiver) = unbounded();
        let completions = Self {
            removed: 0,
            remaining: futures.len(),
            futures,
            sender,
            receiver,
            watch_key: WatchKey::fresh(),
        };
        let numbered = completions.watched().enumerate();
        let (done, pending): (Vec<_>, Vec<_>) = numbered.partition(|(_, future)| future.done());
        for (number, future) in done.into_iter().chain(pending) {
            completions.watch(number, future);
        }
        completions
    }

    /// The futures that were not yielded.
    fn watched(&self) -> impl Iterator<Item = &Future<T>> {
        self.futures.iter().flatten().map(|(_, future)| future)
    }

    fn watch(&self, number: usize, future: &Future<T>) {
        let sender = self.sender.clone();
        // The receiver may be dropped by then: no thread waits any more.
        let tell = move || {
            let _ = sender.send(number);
        };
        if !future.watch(self.watch_key, Box::new(tell)) {
            let _ = self.sender.send(number);
        }
    }

    /// The next future that is done, with its key; `None` if there is none before the deadline.
    fn next_until(&mut self, deadline: Deadline) -> Option<(K, Future<T>)> {
        if self.remaining == 0 {
            return None;
        }
        let number = self.next_index_until(deadline)?;
        self.take(number)
    }

    /// Takes out the future with this number, and its key; `None`: it was taken out before.
    fn take(&mut self, number: usize) -> Option<(K, Future<T>)> {
        let at = number.checked_sub(self.removed)?;
        let next = self.futures.get_mut(at)?.take()?;
        self.remaining -= 1;
        while let Some(None) = self.futures.front() {
            self.futures.pop_front();
            self.removed += 1;
        }
        Some(next)
    }

    /// Takes out the futures that were not yielded, with their keys, and removes their watchers.
    fn take_all(&mut self) -> impl Iterator<Item = (K, Future<T>)> + use<K, T> {
        for future in self.watched() {
            future.unwatch(self.watch_key);
        }
        self.remaining = 0;
        std::mem::take(&mut self.futures).into_iter().flatten()
    }

    /// Blocks for the number of the next future that is done; `None`: the deadline has passed.
    fn next_index_until(&self, deadline: Deadline) -> Option<usize> {
        match deadline.moment() {
            Some(moment) => self.receiver.recv_deadline(moment).ok(),
            None => {
                let looked_at = deadlock::is_worker() && self.receiver.is_empty();
                let any = || self.watched().map(Future::awaited).collect();
                let _waiting = looked_at.then(|| deadlock::wait_for(any()));
                self.receiver.recv().ok()
            }
        }
    }
}

impl<K, T> Drop for Completions<K, T> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}
