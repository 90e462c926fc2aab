//! One function on many items, lazily.
//!
//! The reader's thread pulls the source, so that a pull that takes long keeps results from it, and one
//! that needs them waits for ever. Hence the source is pulled at the start of `next`, when all results
//! that were handed out are seen to, at the call only as far as workers can begin, and as soon as pulls
//! take long, only while the next result has not come.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::batch::{Batch, Listener, Pace};
use crate::deadlock::{self, Awaited};
use crate::error::Error;
use crate::executor::Executor;
use crate::label::{Function, TaskInfo};
use crate::options::{MapOptions, TaskOptions};
use crate::payload::Payload;
use crate::process::context::Context;
use crate::task::{ChunkPlan, Task};

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
    /// What was sent and not read, chunk by chunk.
    sent: VecDeque<Sent<R>>,
    /// The index, in the first chunk, of the item to be read next.
    at: usize,
    /// What has come of the first chunk from there on.
    ready: std::vec::IntoIter<Result<R, Error>>,
    /// How many items were sent and not read.
    ahead: usize,
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
    /// What was sent and not read, chunk by chunk, in the order of sending; `None` once all of a chunk
    /// was read.
    sent: VecDeque<Option<Sent<R>>>,
    /// How many chunks are gone from the front.
    gone: usize,
    /// How many items were sent and not read.
    ahead: usize,
    /// What has come, with its index among all items, and its share of the memory budget.
    ready: std::vec::IntoIter<(usize, Result<R, Error>, u64)>,
    /// Where chunks tell their number when something has come.
    news: (Sender<usize>, Receiver<usize>),
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
    pub(crate) fn in_context<C>(
        executor: &'a dyn Executor,
        options: MapOptions,
        f: fn(&C, A) -> R,
        context: C,
        items: It,
    ) -> Self
    where
        C: Payload + Sync,
        A: Payload,
        R: Payload,
    {
        let function = Function::Address((f as *const ()).addr());
        let info = TaskInfo::new(options.task.given_name(), Location::caller(), function);
        let context = Context::new(context);
        let package: Package<A, R> =
            Box::new(move |plan| Task::portable_chunk_in(plan, f, &context));
        Self::of(Feed::of(executor, options, info, package, items), options)
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
            at: 0,
            ready: Vec::new().into_iter(),
            ahead: 0,
            stage: Stage::of(options),
        };
        map.refill(Reach::Workers);
        map
    }

    /// Sends what there is room for, unless the next result is there and the source is slow.
    fn refill(&mut self, reach: Reach) {
        let Stage::Open = self.stage else {
            return;
        };
        let mut round = Round::new(reach);
        while self.feed.has_room(self.ahead, &round)
            && !(self.feed.is_slow(&round) && self.has_next())
        {
            let Some(sent) = self.feed.next_chunk(&mut round, || None) else {
                break;
            };
            self.ahead += sent.batch.len();
            self.sent.push_back(sent);
        }
    }

    /// Whether the next item's outcome is there.
    fn has_next(&self) -> bool {
        let front = self.sent.front();
        self.ready.len() > 0 || front.is_some_and(|front| front.batch.look(self.at))
    }

    /// The next item's outcome, which has come.
    fn take(&mut self) -> Option<Result<R, Error>> {
        let front = self.sent.front()?;
        let result = match self.ready.next() {
            Some(result) => result,
            None => {
                self.ready = front.batch.take_from(self.at);
                self.ready.next()?
            }
        };
        self.at += 1;
        self.ahead -= 1;
        self.feed.weight -= front.weight;
        if self.at == front.batch.len() {
            self.at = 0;
            self.sent.pop_front();
        }
        Some(result)
    }

    /// Whether the next item's outcome comes before the deadline.
    fn await_next(&self) -> bool {
        let front = self.sent.front();
        front.is_some_and(|front| front.batch.wait(self.at, self.feed.deadline))
    }
}

impl<A, R, It: Iterator<Item = A>> Map<'_, A, R, It> {
    /// Cancels what has not started, and ends.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.ahead = 0;
        for sent in self.sent.drain(..) {
            sent.batch.abandon();
        }
    }
}

impl<A, R, It: ExactSizeIterator<Item = A>> Map<'_, A, R, It> {
    /// How many results are still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        match self.stage {
            Stage::Refused(_) => 1,
            Stage::Open => self.ahead + self.feed.items.len(),
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
        if self.ready.len() == 0 {
            self.refill(Reach::Buffer);
        }
        if self.ahead == 0 {
            return None;
        }
        match self.take() {
            Some(result) => Some(result),
            None if self.await_next() => self.take(),
            None => {
                self.end();
                Some(Err(Error::Timeout))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.stage {
            Stage::Refused(_) => (1, Some(1)),
            // The limit may cut it short: down to the error that says so.
            Stage::Open => self.feed.size_hint(self.ahead),
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
            sent: VecDeque::new(),
            gone: 0,
            ahead: 0,
            ready: Vec::new().into_iter(),
            news: unbounded(),
            stage: Stage::of(options),
        };
        map.refill(Reach::Workers);
        map
    }

    /// Sends what there is room for, unless a result is there and the source is slow.
    fn refill(&mut self, reach: Reach) {
        let Stage::Open = self.stage else {
            return;
        };
        let mut round = Round::new(reach);
        while self.feed.has_room(self.ahead, &round)
            && !(self.feed.is_slow(&round) && self.has_next())
        {
            let number = self.gone + self.sent.len();
            let listen = || Some(telling(number, &self.news.0));
            let Some(sent) = self.feed.next_chunk(&mut round, listen) else {
                break;
            };
            self.ahead += sent.batch.len();
            self.sent.push_back(Some(sent));
        }
    }

    /// Whether a result is there, which is taken then.
    fn has_next(&mut self) -> bool {
        while self.ready.len() == 0 {
            match self.news.1.try_recv() {
                Ok(number) => self.take_of(number),
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits until something has come, and takes it; `false`: nothing has by the deadline.
    fn await_news(&mut self) -> bool {
        let number = self.next_number();
        number.is_some_and(|number| {
            self.take_of(number);
            true
        })
    }

    /// Takes what has come of the chunk of that number; nothing, if an earlier look found it.
    fn take_of(&mut self, number: usize) {
        let place = number.checked_sub(self.gone);
        let Some(place) = place.and_then(|at| self.sent.get_mut(at)) else {
            return;
        };
        let Some(sent) = place else {
            return;
        };
        let taken: Vec<_> = sent
            .batch
            .take_all()
            .into_iter()
            .map(|(index, result)| (sent.first + index, result, sent.weight))
            .collect();
        sent.unread -= taken.len();
        if sent.unread == 0 {
            *place = None;
        }
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.gone += 1;
        }
        self.ready = taken.into_iter();
    }

    /// Blocks for the number of a chunk of which something has come.
    fn next_number(&self) -> Option<usize> {
        match self.feed.deadline {
            Some(deadline) => self.news.1.recv_deadline(deadline).ok(),
            None => {
                let looked_at = deadlock::is_worker() && self.news.1.is_empty();
                let _waiting = looked_at.then(|| deadlock::wait_for(self.awaited()));
                self.news.1.recv().ok()
            }
        }
    }

    /// The items that it waits for.
    fn awaited(&self) -> Vec<Awaited> {
        let sent = self.sent.iter().flatten();
        sent.flat_map(|sent| (0..sent.batch.len()).map(|index| sent.batch.awaited(index)))
            .collect()
    }
}

impl<A, R, It: Iterator<Item = A>> MapUnordered<'_, A, R, It> {
    /// Cancels what has not started, and ends.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.ahead = 0;
        self.ready = Vec::new().into_iter();
        for sent in self.sent.drain(..).flatten() {
            sent.batch.abandon();
        }
    }
}

impl<A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Iterator
    for MapUnordered<'_, A, R, It>
{
    type Item = (usize, Result<R, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.stage.take_refusal() {
            return Some((0, Err(error)));
        }
        self.refill(Reach::Buffer);
        if self.ahead == 0 {
            return None;
        }
        let (index, result, weight) = loop {
            if let Some(next) = self.ready.next() {
                break next;
            }
            if !self.await_news() {
                let read = self.feed.pulled - self.ahead;
                self.end();
                return Some((read, Err(Error::Timeout)));
            }
        };
        self.ahead -= 1;
        self.feed.weight -= weight;
        Some((index, result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.stage {
            Stage::Refused(_) => (1, Some(1)),
            Stage::Open => self.feed.size_hint(self.ahead),
            Stage::Ended => (0, Some(0)),
        }
    }
}

impl<A, R, It: Iterator<Item = A>> Drop for MapUnordered<'_, A, R, It> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Tells a chunk's number.
fn telling(number: usize, news: &Sender<usize>) -> Listener {
    let news = news.clone();
    // The receiver may be gone by then; nobody waits any more.
    Box::new(move || {
        let _ = news.send(number);
    })
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

/// A chunk on its way.
struct Sent<R> {
    /// What has come of it.
    batch: Arc<Batch<R>>,
    /// The index of its first item among all.
    first: usize,
    /// How many of its outcomes were not read.
    unread: usize,
    /// An item's share of the memory budget, in bytes, at least 1.
    weight: u64,
}

/// Makes a task of a chunk of items.
type Package<A, R> = Box<dyn Fn(ChunkPlan<'_, A>) -> (Task, Arc<Batch<R>>) + Send>;

/// Pulls items, and sends them in chunks as far as the buffer allows.
struct Feed<'a, A, R, It: Iterator<Item = A>> {
    /// Where chunks go.
    executor: &'a dyn Executor,
    /// How many workers can be at work, 1 to 1024.
    workers: usize,
    /// What is still to be sent.
    items: Fuse<It>,
    /// Makes tasks of them.
    package: Package<A, R>,
    /// What the user asked of each item.
    options: TaskOptions,
    /// What errors say of each item.
    info: TaskInfo,
    /// What the executor tells us.
    pace: Arc<Pace>,
    /// Asked for by the user; adaptive otherwise.
    chunksize: Option<usize>,
    /// Size of the last chunk, if it was not one of those at the call.
    last_chunk: usize,
    /// How long the last chunk took to pull.
    last_pull: Duration,
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

/// How far a refill goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// A chunk for each worker.
    Workers,
    /// As far as the buffer allows.
    Buffer,
}

/// One refill of the buffer.
struct Round {
    /// How far it goes.
    reach: Reach,
    /// How many chunks it has sent.
    sent: usize,
    /// When its first pull began; `None` before that.
    begun: Option<Instant>,
}

impl Round {
    /// One that has sent nothing.
    fn new(reach: Reach) -> Self {
        Self {
            reach,
            sent: 0,
            begun: None,
        }
    }
}

/// Inputs ahead of the reader, for each worker.
const BUFFER_PER_WORKER: usize = 1024;
/// Encoded inputs ahead of the reader, in bytes.
const BUDGET: u64 = 64 << 20;
/// What an adaptive chunk should take.
const CHUNK_TIME: Duration = Duration::from_millis(1);
/// The largest adaptive chunk.
const MAX_CHUNK: usize = 4096;
/// From then on pulls are slow: they keep results from the reader for longer than it notices.
const PATIENCE: Duration = Duration::from_millis(1);
/// How many items are pulled between two looks at the clock, at most.
const STRIDE: usize = 16;

impl<'a, A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Feed<'a, A, R, It> {
    #[track_caller]
    fn portable(executor: &'a dyn Executor, options: MapOptions, f: fn(A) -> R, items: It) -> Self
    where
        A: Payload,
        R: Payload,
    {
        let function = Function::Address((f as *const ()).addr());
        let info = TaskInfo::new(options.task.given_name(), Location::caller(), function);
        let package: Package<A, R> = Box::new(move |plan| Task::portable_chunk(plan, f));
        Self::of(executor, options, info, package, items)
    }

    #[track_caller]
    fn local<F>(executor: &'a dyn Executor, options: MapOptions, f: F, items: It) -> Self
    where
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        let function = Function::Type(std::any::type_name::<F>());
        let info = TaskInfo::new(options.task.given_name(), Location::caller(), function);
        let f = Arc::new(f);
        let package: Package<A, R> = Box::new(move |plan| Task::local_chunk(plan, &f));
        Self::of(executor, options, info, package, items)
    }

    fn of(
        executor: &'a dyn Executor,
        options: MapOptions,
        info: TaskInfo,
        package: Package<A, R>,
        items: It,
    ) -> Self {
        let workers = executor.max_workers().clamp(1, 1024);
        Self {
            executor,
            workers,
            items: items.fuse(),
            package,
            options: options.task,
            info,
            pace: Arc::default(),
            chunksize: options.chunksize,
            last_chunk: 0,
            last_pull: Duration::ZERO,
            buffersize: options.buffersize.unwrap_or(workers * BUFFER_PER_WORKER),
            budget: options.buffersize.is_none().then_some(BUDGET),
            weight: 0,
            pulled: 0,
            deadline: options.timeout.and_then(|t| Instant::now().checked_add(t)),
        }
    }

    /// Whether another chunk may be sent where `ahead` items were sent and not read.
    fn has_room(&self, ahead: usize, round: &Round) -> bool {
        if round.reach == Reach::Workers && round.sent == self.workers {
            return false;
        }
        let size = self.next_size(round.reach);
        ahead == 0
            || (ahead.saturating_add(size) <= self.buffersize
                && self.budget.is_none_or(|b| self.weight < b))
    }

    /// Whether a result that is there is to be handed out before the source is pulled again.
    fn is_slow(&self, round: &Round) -> bool {
        self.last_pull >= PATIENCE || round.begun.is_some_and(|begun| begun.elapsed() >= PATIENCE)
    }

    /// Sends the next chunk; `None`: there are no more items.
    fn next_chunk(
        &mut self,
        round: &mut Round,
        listen: impl FnOnce() -> Option<Listener>,
    ) -> Option<Sent<R>> {
        let begun = Instant::now();
        let chunk = self.pull(self.next_size(round.reach), begun);
        self.last_pull = begun.elapsed();
        if chunk.is_empty() {
            return None;
        }
        if round.reach == Reach::Buffer {
            self.last_chunk = chunk.len();
        }
        round.begun.get_or_insert(begun);
        round.sent += 1;
        Some(self.send(chunk, listen()))
    }

    /// At most so many items; fewer where there are no more, or where they take long and it was not
    /// the user who asked for so many.
    fn pull(&mut self, size: usize, begun: Instant) -> Vec<A> {
        let mut chunk = Vec::new();
        loop {
            let missing = size - chunk.len();
            let stride = match self.chunksize {
                Some(_) => missing,
                None => chunk.len().clamp(1, STRIDE).min(missing),
            };
            let before = chunk.len();
            chunk.extend(self.items.by_ref().take(stride));
            let is_over = chunk.len() < before + stride;
            if is_over || chunk.len() == size || begun.elapsed() >= PATIENCE {
                return chunk;
            }
        }
    }

    fn send(&mut self, arguments: Vec<A>, listener: Option<Listener>) -> Sent<R> {
        let before = self.pace.encoded();
        let (task, batch) = (self.package)(ChunkPlan {
            options: self.options,
            info: self.info,
            arguments,
            pace: &self.pace,
            listener,
        });
        self.executor.execute(task);
        let bytes = self.pace.encoded() - before;
        let count = batch.len();
        let weight = (bytes / count as u64).max(1);
        self.weight += weight * count as u64;
        let first = self.pulled;
        self.pulled += count;
        Sent {
            batch,
            first,
            unread: count,
            weight,
        }
    }

    /// How many items the next chunk has: as asked for, or one at the call, or so many that it takes
    /// about [`CHUNK_TIME`], growing at most twofold, and leaving work for every worker.
    fn next_size(&self, reach: Reach) -> usize {
        if let Some(size) = self.chunksize {
            return size.min(self.buffersize);
        }
        let (Reach::Buffer, Some(per_item)) = (reach, self.pace.per_item()) else {
            return 1;
        };
        let fitting = CHUNK_TIME.as_nanos() / per_item.as_nanos().max(1);
        let share = self.buffersize / (2 * self.workers);
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
        shown.field("ahead", &self.ahead).finish_non_exhaustive()
    }
}

impl<A, R, It: Iterator<Item = A>> fmt::Debug for MapUnordered<'_, A, R, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MapUnordered");
        shown.field("ahead", &self.ahead).finish_non_exhaustive()
    }
}
