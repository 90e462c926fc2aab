//! The feed of a map: what pulls the source, cuts it into chunks and sends them to the executor, as far ahead
//! of the reader as the buffer allows. [`Feed::next_size`] says how large a chunk is.
//!
//! Each map (`map.rs`) is made of one; when it pulls, and why then, is said there.

use std::iter::Fuse;
use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::executor::Executor;
use crate::options::{MapOptions, RunOptions};
use crate::remote::context::Context;
use crate::remote::payload::Payload;
use crate::sync::deadline::Deadline;
use crate::task::Task;
use crate::task::chunk::ChunkSpec;
use crate::task::item_timing::ItemTiming;
use crate::task::results::{ChunkResults, Listener, TakenResults};
use crate::task_info::{Function, TaskInfo};

/// Pulls items from the source, and sends them in chunks, as far as the buffer allows.
pub(crate) struct Feed<'a, A, R, It: Iterator<Item = A>> {
    /// The executor that gets the chunks.
    executor: &'a dyn Executor,
    /// The number of workers that can run chunks at a time, 1 to 1024.
    workers: usize,
    /// The source of items.
    items: Fuse<It>,
    /// Makes a task of each chunk.
    package: Package<A, R>,
    /// The user's options for each item.
    options: RunOptions,
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
    read_bytes: u64,
    /// The number of items pulled so far.
    pulled: usize,
    /// The number of items that were sent and not read.
    ahead: usize,
    /// A chunk that was pulled and found no room in the executor; `None`: there is none.
    held: Option<Held<R>>,
    /// When the map times out.
    pub(super) deadline: Deadline,
    /// Whether items are sent, and results are still to be read.
    stage: Stage,
}

/// The stage of a map: refused, open or ended.
enum Stage {
    /// The options are invalid: the map yields this error once, then ends.
    Refused(Error),
    /// Items are sent and results are read.
    Open,
    /// No more results come.
    Ended,
}

/// A chunk that was sent.
pub(super) struct Sent<R> {
    /// The chunk's outcomes, those to come included.
    pub(super) chunk_results: Arc<ChunkResults<R>>,
    /// The index of the chunk's first item among all items.
    pub(super) first: usize,
    /// How many of the chunk's outcomes were not taken; only `MapUnordered` counts them down.
    pub(super) unread: usize,
    /// What an item's argument counts for in the memory budget, in bytes, at least 1.
    pub(super) weight: u64,
}

/// A chunk that waits for room.
struct Held<R> {
    /// The chunk.
    task: Task,
    /// Its outcomes to come.
    chunk_results: Arc<ChunkResults<R>>,
}

/// Hands a chunk to the executor.
///
/// # Errors
/// The chunk, if there is no room: the feed holds it back.
pub(super) type HandOver<'r> = &'r mut dyn FnMut(&dyn Executor, Task) -> Result<(), Task>;

/// Makes a task, and the results to come, of a chunk of items.
type Package<A, R> = Box<dyn Fn(ChunkSpec<'_, A>) -> (Task, Arc<ChunkResults<R>>) + Send>;

/// How far a refill goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// One chunk for each worker: at the call.
    Workers,
    /// As far as the buffer allows: in `next`.
    Buffer,
}

/// One refill of the buffer.
pub(super) struct Round<'r> {
    /// How far this refill goes.
    reach: Reach,
    /// How it hands chunks to the executor.
    hand_over: HandOver<'r>,
    /// The number of chunks it has sent.
    sent: usize,
    /// When its first pull began, and when its last chunk was sent; `None` before the first pull.
    span: Option<(Instant, Instant)>,
    /// Whether it is a part of a poll, which must not take long.
    is_polled: bool,
}

impl<'r> Round<'r> {
    /// A refill that has sent nothing yet.
    pub(super) fn new(reach: Reach, hand_over: HandOver<'r>) -> Self {
        Self {
            reach,
            hand_over,
            sent: 0,
            span: None,
            is_polled: false,
        }
    }

    /// A refill in a poll.
    #[cfg(feature = "stream")]
    pub(super) fn polled(hand_over: HandOver<'r>) -> Self {
        Self {
            is_polled: true,
            ..Self::new(Reach::Buffer, hand_over)
        }
    }

    /// Whether it has taken long for a poll: the task is to be polled again for the rest.
    pub(super) fn is_long_poll(&self) -> bool {
        let span = self.span.map(|(begun, last)| last - begun);
        self.is_polled && span.unwrap_or_default() >= PULL_LIMIT
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
    /// A feed of a function that may also run in another process.
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
        let function = Function::Address((f as *const ()).addr());
        let info = TaskInfo::new(options.task.task_name(), Location::caller(), function);
        let package: Package<A, R> = Box::new(move |chunk| Task::portable_chunk(chunk, f));
        Self::of(executor, options, info, package, items)
    }

    /// Like [`portable`](Self::portable), for a function that also gets a context.
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
        let info = TaskInfo::new(options.task.task_name(), Location::caller(), function);
        let context = Context::new(context);
        let package: Package<A, R> =
            Box::new(move |chunk| Task::portable_chunk_in(chunk, f, &context));
        Self::of(executor, options, info, package, items)
    }

    /// Like [`portable`](Self::portable), for a function that borrows the state of its worker.
    #[track_caller]
    pub(crate) fn with_state<S: 'static>(
        executor: &'a dyn Executor,
        options: MapOptions,
        f: fn(&mut S, A) -> R,
        items: It,
    ) -> Self
    where
        A: Payload,
        R: Payload,
    {
        let function = Function::Address((f as *const ()).addr());
        let info = TaskInfo::new(options.task.task_name(), Location::caller(), function);
        let package: Package<A, R> =
            Box::new(move |chunk| Task::portable_chunk_with_state(chunk, f));
        Self::of(executor, options, info, package, items)
    }

    /// Like [`local`](Self::local), for a function that borrows the state of its worker.
    #[track_caller]
    pub(crate) fn local_with_state<S, F>(
        executor: &'a dyn Executor,
        options: MapOptions,
        f: F,
        items: It,
    ) -> Self
    where
        S: 'static,
        F: Fn(&mut S, A) -> R + Send + Sync + 'static,
    {
        let function = Function::Type(std::any::type_name::<F>());
        let info = TaskInfo::new(options.task.task_name(), Location::caller(), function);
        let f = Arc::new(f);
        let package: Package<A, R> = Box::new(move |chunk| Task::local_chunk_with_state(chunk, &f));
        Self::of(executor, options, info, package, items)
    }

    /// A feed of a function that runs in this process.
    #[track_caller]
    pub(crate) fn local<F>(executor: &'a dyn Executor, options: MapOptions, f: F, items: It) -> Self
    where
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        let function = Function::Type(std::any::type_name::<F>());
        let info = TaskInfo::new(options.task.task_name(), Location::caller(), function);
        Self::local_as(executor, options, info, f, items)
    }

    /// Like [`local`](Self::local); `info` is what errors say of each item.
    pub(crate) fn local_as<F>(
        executor: &'a dyn Executor,
        options: MapOptions,
        info: TaskInfo,
        f: F,
        items: It,
    ) -> Self
    where
        F: Fn(A) -> R + Send + Sync + 'static,
    {
        let f = Arc::new(f);
        let package: Package<A, R> = Box::new(move |chunk| Task::local_chunk(chunk, &f));
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
            options: options.task.run(),
            info,
            timing: Arc::default(),
            chunksize: options.chunksize,
            last_chunk: 0,
            last_took: Duration::ZERO,
            buffersize: options.buffersize.unwrap_or(workers * BUFFER_PER_WORKER),
            budget: options.buffersize.is_none().then_some(BUDGET),
            weight: 0,
            read_bytes: 0,
            pulled: 0,
            ahead: 0,
            held: None,
            deadline: Deadline::after_limit(options.timeout),
            stage: Stage::of(options),
        }
    }

    /// The maximum size of the next chunk; `None`: there is no room for a chunk, or the map is not open.
    pub(super) fn room(&self, round: &Round<'_>) -> Option<usize> {
        let Stage::Open = self.stage else {
            return None;
        };
        if round.reach == Reach::Workers && round.sent == self.workers {
            return None;
        }
        let size = self.next_size(round.reach);
        let unread = self.timing.arrived().saturating_sub(self.read_bytes);
        let has_room = self.ahead == 0
            || (self.budget.is_none_or(|b| self.weight + unread < b)
                && self.ahead.saturating_add(size) <= self.window(size));
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
    pub(super) fn share<T>(&mut self, taken: &TakenResults<T>) -> u64 {
        if taken.bytes == 0 {
            return 0;
        }
        let count = taken.outcomes.len().max(1) as u64;
        // The remainder of the division counts as read at once.
        self.read_bytes += taken.bytes % count;
        taken.bytes / count
    }

    /// Takes an item that was read out of those ahead, and out of the memory budget.
    pub(super) fn forget(&mut self, weight: u64, share: u64) {
        self.ahead -= 1;
        self.weight -= weight;
        self.read_bytes += share;
    }

    /// Whether the source is slow, so that a result that has come is returned before the source is pulled
    /// again.
    pub(super) fn is_slow(&self, round: &Round<'_>) -> bool {
        let so_far = round.span.map(|(begun, last)| last - begun);
        self.last_took.max(so_far.unwrap_or_default()) >= PULL_LIMIT
    }

    /// Sends the chunk that is held back, or else pulls one of at most `size` items, and sends it; `None`:
    /// there are no more items, or there is no room for the chunk, which is held back.
    pub(super) fn next_chunk(
        &mut self,
        size: usize,
        round: &mut Round<'_>,
        listen: impl FnOnce() -> Option<Listener>,
    ) -> Option<Sent<R>> {
        let (begun, last) = *round.span.get_or_insert_with(|| {
            let now = Instant::now();
            (now, now)
        });
        let chunk = match self.held.take() {
            Some(held) => held,
            None => {
                let arguments = self.pull(size, last);
                self.pack(arguments, listen)?
            }
        };
        let sent = self.send(chunk, round)?;
        if round.reach == Reach::Buffer {
            self.last_chunk = sent.unread;
        }
        round.sent += 1;
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

    /// Makes a chunk of these items; `None`: there are none.
    fn pack(
        &self,
        arguments: Vec<A>,
        listen: impl FnOnce() -> Option<Listener>,
    ) -> Option<Held<R>> {
        if arguments.is_empty() {
            return None;
        }
        let (task, chunk_results) = (self.package)(ChunkSpec {
            options: self.options,
            info: self.info.clone(),
            arguments,
            timing: &self.timing,
            listener: listen(),
        });
        Some(Held {
            task,
            chunk_results,
        })
    }

    /// Sends a chunk; `None`: there is no room for it, and it is held back.
    fn send(&mut self, chunk: Held<R>, round: &mut Round<'_>) -> Option<Sent<R>> {
        let Held {
            task,
            chunk_results,
        } = chunk;
        let before = self.timing.encoded();
        if let Err(task) = (round.hand_over)(self.executor, task) {
            self.held = Some(Held {
                task,
                chunk_results,
            });
            return None;
        }
        let bytes = self.timing.encoded() - before;
        let count = chunk_results.len();
        let weight = (bytes / count as u64).max(1);
        self.weight += weight * count as u64;
        let first = self.pulled;
        self.pulled += count;
        self.ahead += count;
        Some(Sent {
            chunk_results,
            first,
            unread: count,
            weight,
        })
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
    /// The error of invalid options, the first time; `None` later, or if the options are valid.
    pub(super) fn take_refusal(&mut self) -> Option<Error> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Refused(error) => Some(error),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// Pulls one item, and drops it.
    pub(super) fn skip_item(&mut self) {
        self.items.next();
    }

    /// The number of items that were sent and not read.
    pub(super) fn ahead(&self) -> usize {
        self.ahead
    }

    /// Whether a chunk waits for room.
    #[cfg(feature = "stream")]
    pub(super) fn holds_back(&self) -> bool {
        self.held.is_some()
    }

    /// Whether nothing was sent that is not read, nor is held back.
    pub(super) fn is_over(&self) -> bool {
        self.ahead == 0 && self.held.is_none()
    }

    /// The number of items that are held back.
    fn held(&self) -> usize {
        self.held
            .as_ref()
            .map_or(0, |held| held.chunk_results.len())
    }

    /// The number of items that were read.
    pub(super) fn read(&self) -> usize {
        self.pulled - self.ahead
    }

    /// Sends no more items; those ahead are not read.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Ended;
        self.ahead = 0;
        self.held = None;
    }

    /// The bounds of the number of results to come, errors of the map itself included.
    pub(super) fn size_hint(&self) -> (usize, Option<usize>) {
        match self.stage {
            Stage::Refused(_) => return (1, Some(1)),
            Stage::Open => {}
            Stage::Ended => return (0, Some(0)),
        }
        let (low, high) = self.items.size_hint();
        let is_exact = high == Some(low);
        let ahead = self.ahead + self.held();
        let low = low.saturating_add(ahead);
        let low = match is_exact || self.deadline.is_never() {
            true => low,
            // The time limit ends a map over endless input early, but it still yields one result: that error.
            false => low.min(1),
        };
        (low, high.and_then(|high| high.checked_add(ahead)))
    }
}

impl<A, R, It: ExactSizeIterator<Item = A>> Feed<'_, A, R, It> {
    /// The number of results to come, unless the time limit ends the map early.
    pub(super) fn len(&self) -> usize {
        match self.stage {
            Stage::Refused(_) => 1,
            Stage::Open => self.ahead + self.held() + self.items.len(),
            Stage::Ended => 0,
        }
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
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::executor::serial::SerialExecutor;

    /// A feed of the numbers below five, one in each chunk, over one worker.
    fn feed(
        executor: &SerialExecutor,
        options: MapOptions,
    ) -> Feed<'_, u8, u8, std::ops::Range<u8>> {
        Feed::local(executor, options.chunksize(1), |number| number, 0..5)
    }

    #[test]
    fn items_are_ahead_from_being_sent_until_they_are_read() {
        let executor = SerialExecutor::new();
        let mut feed = feed(&executor, MapOptions::new());
        let mut hand_over = |executor: &dyn Executor, task| executor.try_execute(task);
        let mut round = Round::new(Reach::Workers, &mut hand_over);
        assert_eq!(feed.room(&round), Some(1));
        let sent = feed.next_chunk(1, &mut round, || None).unwrap();
        assert_eq!((feed.ahead(), feed.read(), feed.len()), (1, 0, 5));
        assert_eq!(feed.room(&round), None); // the one worker has a chunk
        feed.forget(sent.weight, 0);
        assert_eq!((feed.ahead(), feed.read(), feed.len()), (0, 1, 4));
        assert_eq!(feed.size_hint(), (4, Some(4)));
        feed.end();
        assert_eq!((feed.len(), feed.size_hint()), (0, (0, Some(0))));
        assert_eq!(
            feed.room(&Round::new(Reach::Buffer, &mut |_, _| Ok(()))),
            None
        );
    }

    #[test]
    fn a_time_limit_does_not_change_a_known_length() {
        let executor = SerialExecutor::new();
        let options = MapOptions::new().timeout(Duration::from_secs(3600));
        let feed = feed(&executor, options);
        assert_eq!((feed.len(), feed.size_hint()), (5, (5, Some(5))));
    }

    #[test]
    fn invalid_options_are_refused_once() {
        let executor = SerialExecutor::new();
        let mut feed = feed(&executor, MapOptions::new().buffersize(0));
        assert_eq!((feed.len(), feed.size_hint()), (1, (1, Some(1))));
        assert_eq!(
            feed.room(&Round::new(Reach::Buffer, &mut |_, _| Ok(()))),
            None
        );
        assert!(matches!(feed.take_refusal(), Some(Error::InvalidConfig(_))));
        assert!(feed.take_refusal().is_none());
        assert_eq!((feed.len(), feed.size_hint()), (0, (0, Some(0))));
    }
}
