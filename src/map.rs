//! One function on many items, lazily.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::executor::Executor;
use crate::future::Future;
use crate::label::{Function, TaskInfo};
use crate::options::MapOptions;
use crate::task::{Pace, Payload, Task};
use crate::wait::Completions;

/// Results in the order of the items: the iterator of [`Executor::map`]. (what `Executor.map`
/// returns)
///
/// Dropping it cancels what has not started. Where the number of items is known, so is that of the
/// results to come.
///
/// ```
/// use concurrent_futures::{Executor, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let mut inverses = pool.map(|n: u32| 12 / n, [3, 0, 4]);
/// assert_eq!(inverses.len(), 3);
/// assert_eq!(inverses.next().transpose()?, Some(4));
/// assert!(inverses.next().is_some_and(|result| result.is_err()));
/// assert_eq!(inverses.next().transpose()?, Some(3)); // an error does not end it
/// assert!(inverses.is_empty());
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[must_use = "dropping a map cancels what has not started"]
pub struct Map<'a, A, R, It: Iterator<Item = A>> {
    /// Turns items into futures.
    feed: Feed<'a, A, R, It>,
    /// What was sent and not read.
    sent: VecDeque<Sent<R>>,
    /// Whether results are still to be yielded.
    stage: Stage,
}

/// `(index, result)` as items finish: the iterator of [`Executor::map_unordered`], where there is
/// an example. (what `multiprocessing.Pool.imap_unordered` returns)
///
/// Dropping it cancels what has not started.
#[must_use = "dropping a map cancels what has not started"]
pub struct MapUnordered<'a, A, R, It: Iterator<Item = A>> {
    /// Turns items into futures.
    feed: Feed<'a, A, R, It>,
    /// What was sent and not read.
    completions: Completions<R>,
    /// What the item of that index took of the memory budget, from the oldest unread one on.
    weights: VecDeque<u64>,
    /// Index of the first weight.
    first_weight: usize,
    /// Whether results are still to be yielded.
    stage: Stage,
}

/// Whether a map goes on.
enum Stage {
    /// The options made no sense: say so, and end.
    Refused(Error),
    /// Results are read.
    Open,
    /// Nothing more comes.
    Ended,
}

impl<'a, A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Map<'a, A, R, It> {
    #[track_caller]
    pub(crate) fn portable(
        executor: &'a dyn Executor,
        options: MapOptions,
        f: fn(A) -> R,
        items: It,
    ) -> Self
    where
        A: Payload,
        R: Payload,
    {
        Self::of(Feed::portable(executor, options, f, items), options)
    }

    #[track_caller]
    pub(crate) fn local<F>(executor: &'a dyn Executor, options: MapOptions, f: F, items: It) -> Self
    where
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        Self::of(Feed::local(executor, options, f, items), options)
    }

    fn of(feed: Feed<'a, A, R, It>, options: MapOptions) -> Self {
        let mut map = Self {
            feed,
            sent: VecDeque::new(),
            stage: Stage::of(options),
        };
        map.refill();
        map
    }

    /// Sends what the buffer has room for.
    fn refill(&mut self) {
        if let Stage::Open = self.stage {
            while let Some(chunk) = self.feed.next_chunk(self.sent.len()) {
                self.sent.extend(chunk);
            }
        }
    }
}

impl<A, R, It: Iterator<Item = A>> Map<'_, A, R, It> {
    /// Cancels what has not started, and ends.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        for sent in self.sent.drain(..) {
            sent.future.forgo();
        }
    }
}

impl<A, R, It: ExactSizeIterator<Item = A>> Map<'_, A, R, It> {
    /// How many results are still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.stage {
            Stage::Refused(_) => 1,
            Stage::Open => self.sent.len() + self.feed.items.len(),
            Stage::Ended => 0,
        }
    }

    /// Whether no more results are to come.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Iterator for Map<'_, A, R, It> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.stage.take_refusal() {
            return Some(Err(error));
        }
        let front = self.sent.front()?;
        if !front.future.wait_deadline(self.feed.deadline) {
            self.end();
            return Some(Err(Error::Timeout));
        }
        let sent = self.sent.pop_front()?;
        self.feed.weight -= sent.weight;
        let result = sent.future.result();
        self.refill();
        Some(result)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.stage {
            Stage::Refused(_) => (1, Some(1)),
            // The limit may cut it short: down to the error that says so.
            Stage::Open => self.feed.size_hint(self.sent.len()),
            Stage::Ended => (0, Some(0)),
        }
    }
}

impl<A, R, It: Iterator<Item = A>> Drop for Map<'_, A, R, It> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<'a, A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> MapUnordered<'a, A, R, It> {
    #[track_caller]
    pub(crate) fn portable(
        executor: &'a dyn Executor,
        options: MapOptions,
        f: fn(A) -> R,
        items: It,
    ) -> Self
    where
        A: Payload,
        R: Payload,
    {
        Self::of(Feed::portable(executor, options, f, items), options)
    }

    #[track_caller]
    pub(crate) fn local<F>(executor: &'a dyn Executor, options: MapOptions, f: F, items: It) -> Self
    where
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        Self::of(Feed::local(executor, options, f, items), options)
    }

    fn of(feed: Feed<'a, A, R, It>, options: MapOptions) -> Self {
        let mut map = Self {
            feed,
            completions: Completions::new(),
            weights: VecDeque::new(),
            first_weight: 0,
            stage: Stage::of(options),
        };
        map.refill();
        map
    }

    /// Sends what the buffer has room for.
    fn refill(&mut self) {
        if let Stage::Open = self.stage {
            while let Some(chunk) = self.feed.next_chunk(self.completions.remaining()) {
                for sent in chunk {
                    self.weights.push_back(sent.weight);
                    self.completions.add(sent.future);
                }
            }
        }
    }

    /// Gives an item's share of the memory budget back.
    fn give_back(&mut self, index: usize) {
        if let Some(weight) = self.weights.get_mut(index - self.first_weight) {
            self.feed.weight -= std::mem::take(weight);
        }
        while let Some(0) = self.weights.front() {
            self.weights.pop_front();
            self.first_weight += 1;
        }
    }
}

impl<A, R, It: Iterator<Item = A>> MapUnordered<'_, A, R, It> {
    /// Cancels what has not started, and ends.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        for future in self.completions.take_all().into_iter().flatten() {
            future.forgo();
        }
    }
}

impl<A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Iterator
    for MapUnordered<'_, A, R, It>
{
    type Item = (usize, Result<R, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.feed.pulled - self.completions.remaining();
        if let Some(error) = self.stage.take_refusal() {
            return Some((index, Err(error)));
        }
        if self.completions.remaining() == 0 {
            return None;
        }
        let Some((index, future)) = self.completions.next_until(self.feed.deadline) else {
            self.end();
            return Some((index, Err(Error::Timeout)));
        };
        self.give_back(index);
        let result = future.result();
        self.refill();
        Some((index, result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.stage {
            Stage::Refused(_) => (1, Some(1)),
            Stage::Open => self.feed.size_hint(self.completions.remaining()),
            Stage::Ended => (0, Some(0)),
        }
    }
}

impl<A, R, It: Iterator<Item = A>> Drop for MapUnordered<'_, A, R, It> {
    fn drop(&mut self) {
        self.end();
    }
}

impl Stage {
    fn of(options: MapOptions) -> Self {
        let refuse =
            |what: &str| Self::Refused(Error::InvalidConfig(format!("{what} is 0").into()));
        match (options.chunksize, options.buffersize) {
            (Some(0), _) => refuse("chunksize"),
            (_, Some(0)) => refuse("buffersize"),
            _ => Self::Open,
        }
    }

    /// The refusal, once.
    fn take_refusal(&mut self) -> Option<Error> {
        match std::mem::replace(self, Self::Ended) {
            Self::Refused(error) => Some(error),
            other => {
                *self = other;
                None
            }
        }
    }
}

/// An item on its way.
struct Sent<R> {
    /// Its result.
    future: Future<R>,
    /// Its share of the memory budget, in bytes, at least 1.
    weight: u64,
}

/// Makes a task and futures of a chunk of items.
type Package<A, R> = Box<dyn Fn(Vec<A>, &Arc<Pace>) -> (Task, Vec<Future<R>>) + Send>;

/// Pulls items, and sends them in chunks as far as the buffer allows.
struct Feed<'a, A, R, It: Iterator<Item = A>> {
    /// Where chunks go.
    executor: &'a dyn Executor,
    /// What is still to be sent.
    items: Fuse<It>,
    /// Makes tasks of them.
    package: Package<A, R>,
    /// What the executor tells us.
    pace: Arc<Pace>,
    /// Asked for by the user; adaptive otherwise.
    chunksize: Option<usize>,
    /// Size of the last chunk.
    last_chunk: usize,
    /// Items that may be ahead of the reader.
    buffersize: usize,
    /// Whether the memory budget applies too.
    budget: Option<u64>,
    /// What is ahead of the reader, in the budget's terms.
    weight: u64,
    /// Items pulled so far.
    pulled: usize,
    /// When the map times out.
    deadline: Option<Instant>,
}

/// Inputs ahead of the reader, for each worker.
const BUFFER_PER_WORKER: usize = 1024;
/// Encoded inputs ahead of the reader, in bytes.
const BUDGET: u64 = 64 << 20;
/// What an adaptive chunk should take.
const CHUNK_TIME: Duration = Duration::from_millis(1);
/// The largest adaptive chunk.
const MAX_CHUNK: usize = 4096;

impl<'a, A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Feed<'a, A, R, It> {
    #[track_caller]
    fn portable(executor: &'a dyn Executor, options: MapOptions, f: fn(A) -> R, items: It) -> Self
    where
        A: Payload,
        R: Payload,
    {
        let function = Function::Address((f as *const ()).addr());
        let info = TaskInfo::new(options.task.given_name(), Location::caller(), function);
        let package: Package<A, R> =
            Box::new(move |items, pace| Task::portable_chunk(options.task, info, f, items, pace));
        Self::of(executor, options, package, items)
    }

    #[track_caller]
    fn local<F>(executor: &'a dyn Executor, options: MapOptions, f: F, items: It) -> Self
    where
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        let function = Function::Type(std::any::type_name::<F>());
        let info = TaskInfo::new(options.task.given_name(), Location::caller(), function);
        let f = Arc::new(f);
        let package: Package<A, R> =
            Box::new(move |items, pace| Task::local_chunk(options.task, info, &f, items, pace));
        Self::of(executor, options, package, items)
    }

    fn of(
        executor: &'a dyn Executor,
        options: MapOptions,
        package: Package<A, R>,
        items: It,
    ) -> Self {
        let default = executor.max_workers().clamp(1, 1024) * BUFFER_PER_WORKER;
        Self {
            executor,
            items: items.fuse(),
            package,
            pace: Arc::default(),
            chunksize: options.chunksize,
            last_chunk: 0,
            buffersize: options.buffersize.unwrap_or(default),
            budget: options.buffersize.is_none().then_some(BUDGET),
            weight: 0,
            pulled: 0,
            deadline: options.timeout.and_then(|t| Instant::now().checked_add(t)),
        }
    }

    /// Sends the next chunk, if `ahead` unread items leave room for it and there are items.
    fn next_chunk(&mut self, ahead: usize) -> Option<Vec<Sent<R>>> {
        let size = self.next_size();
        let room = ahead == 0
            || (ahead + size <= self.buffersize && self.budget.is_none_or(|b| self.weight < b));
        if !room {
            return None;
        }
        let chunk: Vec<A> = self.items.by_ref().take(size).collect();
        if chunk.is_empty() {
            return None;
        }
        self.last_chunk = size;
        self.pulled += chunk.len();
        Some(self.send(chunk))
    }

    fn send(&mut self, chunk: Vec<A>) -> Vec<Sent<R>> {
        let before = self.pace.encoded();
        let (task, futures) = (self.package)(chunk, &self.pace);
        self.executor.execute(task);
        let bytes = self.pace.encoded() - before;
        let weight = (bytes / futures.len() as u64).max(1);
        self.weight += weight * futures.len() as u64;
        let sent = futures.into_iter().map(|future| Sent { future, weight });
        sent.collect()
    }

    /// How many items the next chunk has: as asked for, or so many that it takes about
    /// [`CHUNK_TIME`], growing at most twofold, and leaving work for every worker.
    fn next_size(&self) -> usize {
        if let Some(size) = self.chunksize {
            return size.min(self.buffersize);
        }
        let Some(per_item) = self.pace.per_item() else {
            return 1;
        };
        let fitting = CHUNK_TIME.as_nanos() / per_item.as_nanos().max(1);
        let workers = self.executor.max_workers().max(1);
        let share = self.buffersize / workers.saturating_mul(2);
        usize::try_from(fitting)
            .unwrap_or(usize::MAX)
            .min(self.last_chunk.saturating_mul(2))
            .min(share)
            .clamp(1, MAX_CHUNK)
    }
}

impl<A, R, It: Iterator<Item = A>> Feed<'_, A, R, It> {
    fn size_hint(&self, ahead: usize) -> (usize, Option<usize>) {
        let (low, high) = self.items.size_hint();
        let low = match self.deadline {
            Some(_) => low.saturating_add(ahead).min(1),
            None => low.saturating_add(ahead),
        };
        (low, high.and_then(|high| high.checked_add(ahead)))
    }
}

impl<A, R, It: Iterator<Item = A>> fmt::Debug for Map<'_, A, R, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Map");
        shown
            .field("ahead", &self.sent.len())
            .finish_non_exhaustive()
    }
}

impl<A, R, It: Iterator<Item = A>> fmt::Debug for MapUnordered<'_, A, R, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MapUnordered");
        shown
            .field("ahead", &self.completions.remaining())
            .finish_non_exhaustive()
    }
}
