//! The lazy maps: one function applied to many items. Called by the methods of [`Executor`]; sends chunks as
//! tasks and reads their results from [`ChunkResults`]. [`Feed::next_size`] says how large a chunk is.
//!
//! The reader's thread pulls the source. So a slow pull keeps results from the reader, and a pull that needs
//! those results waits for ever. Therefore the source is pulled at the start of `next`, when the caller has
//! seen all results that were returned before. At the call, it is pulled only as far as workers can begin;
//! and once pulls are slow, only while the next result has not come.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::Error;
use crate::executor::Executor;
use crate::future::deadlock::{self, Awaited};
use crate::options::{MapOptions, TaskOptions};
use crate::remote::context::Context;
use crate::remote::payload::Payload;
use crate::task::Task;
use crate::task::chunk::ChunkSpec;
use crate::task::results::{ChunkResults, ItemTiming, Listener, TakenResults};
use crate::task_info::{Function, TaskInfo};

/// Results in the order of the items: the iterator of [`Executor::map`]. (what `Executor.map` returns)
///
/// Dropping it cancels what has not started. If the number of items is known, so is the number of results to
/// come.
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
    /// Pulls items and sends them in chunks.
    feed: Feed<'a, A, R, It>,
    /// Chunks that were sent and not fully read, oldest first.
    sent: VecDeque<Sent<R>>,
    /// The index, in the first chunk, of the item to be read next.
    at: usize,
    /// Outcomes taken from the first chunk, from index `at` on.
    ready: std::vec::IntoIter<Result<R, Error>>,
    /// The encoded bytes that each outcome in `ready` counts for in the memory budget.
    share: u64,
    /// Items that were sent and not read.
    ahead: usize,
    /// Whether results are still to be yielded.
    stage: Stage,
}

/// `(index, result)` as items finish: the iterator of [`Executor::map_unordered`], which has an example.
/// (what `multiprocessing.Pool.imap_unordered` returns)
///
/// Dropping it cancels what has not started.
#[must_use = "dropping a map cancels what has not started"]
pub struct MapUnordered<'a, A, R, It: Iterator<Item = A>> {
    /// Pulls items and sends them in chunks.
    feed: Feed<'a, A, R, It>,
    /// Chunks that were sent, in the order of sending; `None` once all of a chunk was read.
    sent: VecDeque<Option<Sent<R>>>,
    /// How many chunks were removed from the front of `sent`.
    gone: usize,
    /// Items that were sent and not read.
    ahead: usize,
    /// Outcomes that were taken and not yielded, each with its index among all items.
    ready: std::vec::IntoIter<(usize, Result<R, Error>)>,
    /// The weight of the argument of each outcome in `ready`; see [`Sent::weight`].
    weight: u64,
    /// The encoded bytes that each outcome in `ready` counts for in the memory budget.
    share: u64,
    /// The channel on which a chunk sends its number when some of its outcomes have come.
    news: (Sender<usize>, Receiver<usize>),
    /// Whether results are still to be yielded.
    stage: Stage,
}

/// The stage of a map: refused, open or ended.
enum Stage {
    /// The options are invalid: `next` returns this error once, then ends.
    Refused(Error),
    /// Items are sent and results are read.
    Open,
    /// No more results come.
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
            share: 0,
            ahead: 0,
            stage: Stage::of(options),
        };
        map.refill(Reach::Workers);
        map
    }

    /// Sends as many chunks as there is room for; stops if the source is slow and the next result has come.
    fn refill(&mut self, reach: Reach) {
        let Stage::Open = self.stage else {
            return;
        };
        let mut round = Round::new(reach);
        while let Some(size) = self.feed.room(self.ahead, &round) {
            if self.feed.is_slow(&round) && self.has_next() {
                break;
            }
            let Some(sent) = self.feed.next_chunk(size, &mut round, || None) else {
                break;
            };
            self.ahead += sent.chunk_results.len();
            self.sent.push_back(sent);
        }
    }

    /// Whether the next item's outcome has come.
    fn has_next(&self) -> bool {
        let front = self.sent.front();
        self.ready.len() > 0 || front.is_some_and(|front| front.chunk_results.look(self.at))
    }

    /// The next item's outcome; `None`: it has not come.
    fn take(&mut self) -> Option<Result<R, Error>> {
        let front = self.sent.front()?;
        let result = match self.ready.next() {
            Some(result) => result,
            None => {
                let taken = front.chunk_results.take_from(self.at);
                self.share = self.feed.share(&taken);
                self.ready = taken.outcomes.into_iter();
                self.ready.next()?
            }
        };
        self.at += 1;
        self.ahead -= 1;
        self.feed.forget(front.weight, self.share);
        if self.at == front.chunk_results.len() {
            self.at = 0;
            self.sent.pop_front();
        }
        Some(result)
    }

    /// Waits for the next item's outcome; `false`: it has not come by the deadline.
    fn await_next(&self) -> bool {
        let front = self.sent.front();
        front.is_some_and(|front| front.chunk_results.wait(self.at, self.feed.deadline))
    }
}

impl<A, R, It: Iterator<Item = A>> Map<'_, A, R, It> {
    /// Cancels what has not started, and ends the map.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.ahead = 0;
        for sent in self.sent.drain(..) {
            sent.chunk_results.abandon();
        }
    }
}

impl<A, R, It: ExactSizeIterator<Item = A>> Map<'_, A, R, It> {
    /// The number of results still to come.
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
        if self.at == 0 {
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
            // The time limit may end the map early, but it still yields one result: that error.
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
            weight: 0,
            share: 0,
            news: unbounded(),
            stage: Stage::of(options),
        };
        map.refill(Reach::Workers);
        map
    }

    /// Sends as many chunks as there is room for; stops if the source is slow and a result has come.
    fn refill(&mut self, reach: Reach) {
        let Stage::Open = self.stage else {
            return;
        };
        let mut round = Round::new(reach);
        while let Some(size) = self.feed.room(self.ahead, &round) {
            if self.feed.is_slow(&round) && self.has_next() {
                break;
            }
            let number = self.gone + self.sent.len();
            let listen = || Some(telling(number, &self.news.0));
            let Some(sent) = self.feed.next_chunk(size, &mut round, listen) else {
                break;
            };
            self.ahead += sent.chunk_results.len();
            self.sent.push_back(Some(sent));
        }
    }

    /// Whether a result has come; takes it into `ready` then.
    fn has_next(&mut self) -> bool {
        while self.ready.len() == 0 {
            match self.news.1.try_recv() {
                Ok(number) => self.take_of(number),
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits until some outcomes have come, and takes them into `ready`; `false`: none has by the deadline.
    fn await_news(&mut self) -> bool {
        let number = self.next_number();
        number.is_some_and(|number| {
            self.take_of(number);
            true
        })
    }

    /// Takes the outcomes that have come of the chunk with this number; there may be none, if an earlier call
    /// took them.
    fn take_of(&mut self, number: usize) {
        let place = number.checked_sub(self.gone);
        let Some(place) = place.and_then(|at| self.sent.get_mut(at)) else {
            return;
        };
        let Some(sent) = place else {
            return;
        };
        let taken = sent.chunk_results.take_all();
        (self.weight, self.share) = (sent.weight, self.feed.share(&taken));
        let outcomes = taken.outcomes.into_iter();
        let taken: Vec<_> = outcomes
            .map(|(index, result)| (sent.first + index, result))
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

    /// Blocks until some outcomes of a chunk have come, and returns its number; `None`: none has by the
    /// deadline.
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

    /// The items that the map waits for, for deadlock detection.
    fn awaited(&self) -> Vec<Awaited> {
        let sent = self.sent.iter().flatten();
        sent.flat_map(|sent| {
            (0..sent.chunk_results.len()).map(|index| sent.chunk_results.awaited(index))
        })
        .collect()
    }
}

impl<A, R, It: Iterator<Item = A>> MapUnordered<'_, A, R, It> {
    /// Cancels what has not started, and ends the map.
    fn end(&mut self) {
        self.stage = Stage::Ended;
        self.ahead = 0;
        self.ready = Vec::new().into_iter();
        for sent in self.sent.drain(..).flatten() {
            sent.chunk_results.abandon();
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
        let (index, result) = loop {
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
        self.feed.forget(self.weight, self.share);
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

/// A listener that sends a chunk's number on the channel of its map.
fn telling(number: usize, news: &Sender<usize>) -> Listener {
    let news = news.clone();
    // The receiver may be gone by then; no thread waits for the number any more.
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

    /// The error of invalid options, the first time; `None` later, or if the options are valid.
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

/// A chunk that was sent.
struct Sent<R> {
    /// The chunk's outcomes, those to come included.
    chunk_results: Arc<ChunkResults<R>>,
    /// The index of the chunk's first item among all items.
    first: usize,
    /// How many of the chunk's outcomes were not taken; only `MapUnordered` counts them down.
    unread: usize,
    /// What an item's argument counts for in the memory budget, in bytes, at least 1.
    weight: u64,
}

/// Makes a task, and the results to come, of a chunk of items.
type Package<A, R> = Box<dyn Fn(ChunkSpec<'_, A>) -> (Task, Arc<ChunkResults<R>>) + Send>;

/// Pulls items from the source, and sends them in chunks, as far as the buffer allows.
struct Feed<'a, A, R, It: Iterator<Item = A>> {
    /// The executor that gets the chunks.
    executor: &'a dyn Executor,
    /// The number of workers that can run chunks at a time, 1 to 1024.
    workers: usize,
    /// The source of items.
    items: Fuse<It>,
    /// Makes a task of each chunk.
    package: Package<A, R>,
    /// The user's options for each item.
    options: TaskOptions,
    /// What errors say of each item.
    info: TaskInfo,
    /// What the executor reports: the time that an item takes, and the bytes of arguments and results.
    timing: Arc<ItemTiming>,
    /// The chunk size that the user asked for; `None`: adaptive.
    chunksize: Option<usize>,
    /// The size of the last chunk that was not sent at the call; 0: none was.
    last_chunk: usize,
    /// How long it took to pull and send the last chunk.
    last_took: Duration,
    /// The maximum number of items ahead of the reader.
    buffersize: usize,
    /// The memory budget in bytes, if the user gave no buffer size; `None`: no budget.
    budget: Option<u64>,
    /// The weight of the arguments of all items ahead of the reader, in bytes.
    weight: u64,
    /// Bytes of encoded results that were read so far.
    read: u64,
    /// The number of items pulled so far.
    pulled: usize,
    /// When the map times out; `None`: never.
    deadline: Option<Instant>,
}

/// How far a refill goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// One chunk for each worker: at the call.
    Workers,
    /// As far as the buffer allows: in `next`.
    Buffer,
}

/// One refill of the buffer.
struct Round {
    /// How far this refill goes.
    reach: Reach,
    /// The number of chunks it has sent.
    sent: usize,
    /// When its first pull began, and when its last chunk was sent; `None` before the first pull.
    span: Option<(Instant, Instant)>,
}

impl Round {
    /// A refill that has sent nothing yet.
    fn new(reach: Reach) -> Self {
        Self {
            reach,
            sent: 0,
            span: None,
        }
    }
}

/// The maximum number of items ahead of the reader, for each worker.
const BUFFER_PER_WORKER: usize = 1024;
/// The maximum of encoded arguments and results ahead of the reader, in bytes.
const BUDGET: u64 = 64 << 20;
/// The maximum number of items ahead of the reader while the size of an encoded result is not known.
const UNMEASURED: usize = 64;
/// The time that an adaptive chunk should take, in nanoseconds.
const CHUNK_NANOS: u64 = 1_000_000;
/// The largest adaptive chunk, in items.
const MAX_CHUNK: usize = 4096;
/// Pulls that take this long are slow: they keep results from the reader for longer than it would notice.
const PULL_LIMIT: Duration = Duration::from_millis(1);
/// The maximum number of items pulled between two looks at the clock.
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
            timing: Arc::default(),
            chunksize: options.chunksize,
            last_chunk: 0,
            last_took: Duration::ZERO,
            buffersize: options.buffersize.unwrap_or(workers * BUFFER_PER_WORKER),
            budget: options.buffersize.is_none().then_some(BUDGET),
            weight: 0,
            read: 0,
            pulled: 0,
            deadline: options.timeout.and_then(|t| Instant::now().checked_add(t)),
        }
    }

    /// The maximum size of the next chunk, where `ahead` items were sent and not read; `None`: there is no
    /// room for a chunk.
    fn room(&self, ahead: usize, round: &Round) -> Option<usize> {
        if round.reach == Reach::Workers && round.sent == self.workers {
            return None;
        }
        let size = self.next_size(round.reach);
        let unread = self.timing.arrived().saturating_sub(self.read);
        let has_room = ahead == 0
            || (self.budget.is_none_or(|b| self.weight + unread < b)
                && ahead.saturating_add(size) <= self.window(size));
        has_room.then_some(size)
    }

    /// How many items may be ahead of the reader, in chunks of `size`: as many as the budget has room for, by
    /// the size of their results, but at least one chunk for each worker.
    fn window(&self, size: usize) -> usize {
        let Some(budget) = self.budget else {
            return self.buffersize;
        };
        let fitting = match self.timing.result_size() {
            Some(bytes) => {
                let room = budget.saturating_sub(self.weight) / bytes.max(1);
                usize::try_from(room).unwrap_or(usize::MAX)
            }
            None if self.timing.is_encoded() => UNMEASURED,
            None => usize::MAX,
        };
        fitting
            .max(self.workers.saturating_mul(size))
            .min(self.buffersize)
    }

    /// The encoded bytes that each of these outcomes counts for in the memory budget.
    fn share<T>(&mut self, taken: &TakenResults<T>) -> u64 {
        if taken.bytes == 0 {
            return 0;
        }
        let count = taken.outcomes.len().max(1) as u64;
        // The remainder of the division counts as read at once.
        self.read += taken.bytes % count;
        taken.bytes / count
    }

    /// Takes an item that was read out of the memory budget.
    fn forget(&mut self, weight: u64, share: u64) {
        self.weight -= weight;
        self.read += share;
    }

    /// Whether the source is slow, so that a result that has come is returned before the source is pulled
    /// again.
    fn is_slow(&self, round: &Round) -> bool {
        let so_far = round.span.map(|(begun, last)| last - begun);
        self.last_took.max(so_far.unwrap_or_default()) >= PULL_LIMIT
    }

    /// Pulls and sends a chunk of at most `size` items; `None`: there are no more items.
    fn next_chunk(
        &mut self,
        size: usize,
        round: &mut Round,
        listen: impl FnOnce() -> Option<Listener>,
    ) -> Option<Sent<R>> {
        let (begun, last) = *round.span.get_or_insert_with(|| {
            let now = Instant::now();
            (now, now)
        });
        let chunk = self.pull(size, last);
        if chunk.is_empty() {
            return None;
        }
        if round.reach == Reach::Buffer {
            self.last_chunk = chunk.len();
        }
        round.sent += 1;
        let sent = self.send(chunk, listen());
        let now = Instant::now();
        self.last_took = now - last;
        round.span = Some((begun, now));
        Some(sent)
    }

    /// Pulls at most `size` items: fewer at the end of the source, or if pulling is slow and the user has not
    /// asked for a chunk size.
    fn pull(&mut self, size: usize, begun: Instant) -> Vec<A> {
        let mut chunk = Vec::with_capacity(size.min(self.items.size_hint().0));
        loop {
            let missing = size - chunk.len();
            let stride = match self.chunksize {
                Some(_) => missing,
                None => chunk.len().clamp(1, STRIDE).min(missing),
            };
            let before = chunk.len();
            chunk.extend(self.items.by_ref().take(stride));
            let is_over = chunk.len() < before + stride;
            if is_over || chunk.len() == size || begun.elapsed() >= PULL_LIMIT {
                return chunk;
            }
        }
    }

    fn send(&mut self, arguments: Vec<A>, listener: Option<Listener>) -> Sent<R> {
        let before = self.timing.encoded();
        let (task, chunk_results) = (self.package)(ChunkSpec {
            options: self.options,
            info: self.info,
            arguments,
            timing: &self.timing,
            listener,
        });
        self.executor.execute(task);
        let bytes = self.timing.encoded() - before;
        let count = chunk_results.len();
        let weight = (bytes / count as u64).max(1);
        self.weight += weight * count as u64;
        let first = self.pulled;
        self.pulled += count;
        Sent {
            chunk_results,
            first,
            unread: count,
            weight,
        }
    }

    /// The size of the next chunk: the one that the user asked for; else 1 at the call; else as many items as
    /// take about [`CHUNK_NANOS`], at most twice the last chunk, and few enough to leave work for every
    /// worker.
    fn next_size(&self, reach: Reach) -> usize {
        if let Some(size) = self.chunksize {
            return size.min(self.buffersize);
        }
        let (Reach::Buffer, Some(per_item)) = (reach, self.timing.per_item()) else {
            return 1;
        };
        let nanos = u64::try_from(per_item.as_nanos()).unwrap_or(u64::MAX);
        let fitting = CHUNK_NANOS / nanos.max(1);
        let share = self.window(1) / (2 * self.workers);
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
