//! The lazy maps: one function applied to many items. Called by the methods of `Executor` and of thread pools,
//! with a feed, which sends chunks as tasks (`feed.rs`). A map reads their results from
//! [`ChunkResults`](crate::task::results::ChunkResults).
//!
//! The reader's thread pulls the source. So a slow pull keeps results from the reader, and a pull that needs
//! those results waits for ever. Therefore the source is pulled at the start of `next`, when the caller has
//! seen all results that were returned before. At the call, it is pulled only as far as workers can begin;
//! and once pulls are slow, only while the next result has not come.

#[cfg(feature = "stream")]
mod stream;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::error::Error;
use crate::executor::Executor;
use crate::executor::feed::{Feed, Reach, Round, Sent};
use crate::future::bell::Bell;
use crate::future::deadlock::{self, Awaited};
use crate::task::Task;
use crate::task::results::Listener;

/// Results in the order of the items: the iterator of [`Executor::map`](crate::Executor::map). (what
/// `Executor.map` returns)
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
///
/// In async code, `into_stream` (feature `stream`) makes it a stream.
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
}

/// `(index, result)` as items finish: the iterator of
/// [`Executor::map_unordered`](crate::Executor::map_unordered), which has an example. (what
/// `multiprocessing.Pool.imap_unordered` returns)
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
    /// Outcomes that were taken and not yielded, each with its index among all items.
    ready: std::vec::IntoIter<(usize, Result<R, Error>)>,
    /// The weight of the argument of each outcome in `ready`; see [`Sent::weight`].
    weight: u64,
    /// The encoded bytes that each outcome in `ready` counts for in the memory budget.
    share: u64,
    /// The channel on which a chunk sends its number when some of its outcomes have come.
    news: (Sender<usize>, Receiver<usize>),
    /// Rung when some outcomes have come.
    bell: Arc<Bell>,
}

impl<'a, A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Map<'a, A, R, It> {
    pub(crate) fn new(feed: Feed<'a, A, R, It>) -> Self {
        let mut map = Self {
            feed,
            sent: VecDeque::new(),
            at: 0,
            ready: Vec::new().into_iter(),
            share: 0,
        };
        // A call does not wait for room; what finds none is sent in `next`.
        let try_execute = &mut |executor: &dyn Executor, task| executor.try_execute(task);
        map.refill(&mut Round::new(Reach::Workers, try_execute), || None);
        map
    }

    /// Sends as many chunks as there is room for; stops if the source is slow, and the next result
    /// has come or a poll would take long.
    fn refill(&mut self, round: &mut Round<'_>, listen: impl Fn() -> Option<Listener>) {
        while let Some(size) = self.feed.room(round) {
            if self.feed.is_slow(round) && (round.is_long_poll() || self.has_next()) {
                break;
            }
            let Some(sent) = self.feed.next_chunk(size, round, &listen) else {
                break;
            };
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
        self.feed.forget(front.weight, self.share);
        if self.at == front.chunk_results.len() {
            self.at = 0;
            self.sent.pop_front();
        }
        Some(result)
    }

    /// Waits for the next item's outcome; `false`: it has not come by the deadline.
    pub(super) fn await_next(&self) -> bool {
        let front = self.sent.front();
        front.is_some_and(|front| front.chunk_results.wait(self.at, self.feed.deadline))
    }

    /// Like [`await_next`](Self::await_next), but a worker of the same pool runs the next chunk itself, if it is
    /// queued and the map has no time limit.
    pub(super) fn run_or_await_next(&self) -> bool {
        if let (Some(front), true) = (self.sent.front(), self.feed.deadline.is_never()) {
            front.chunk_results.run_if_queued();
        }
        self.await_next()
    }

    /// The next item's outcome; `await_next` waits for it.
    pub(super) fn next_by(
        &mut self,
        await_next: impl FnOnce(&Self) -> bool,
    ) -> Option<Result<R, Error>> {
        if let Some(error) = self.feed.take_refusal() {
            return Some(Err(error));
        }
        if self.at == 0 {
            self.refill(&mut Round::new(Reach::Buffer, &mut execute), || None);
        }
        if self.feed.is_over() {
            return None;
        }
        match self.take() {
            Some(result) => Some(result),
            None if await_next(self) => self.take(),
            None => {
                self.end();
                Some(Err(Error::Timeout))
            }
        }
    }

    /// Pulls one item of a map that was refused, and drops it.
    pub(super) fn skip_item(&mut self) {
        self.feed.skip_item();
    }
}

impl<A, R, It: Iterator<Item = A>> Map<'_, A, R, It> {
    /// Cancels what has not started, and ends the map.
    fn end(&mut self) {
        self.feed.end();
        for sent in self.sent.drain(..) {
            sent.chunk_results.abandon();
        }
    }
}

impl<A, R, It: ExactSizeIterator<Item = A>> Map<'_, A, R, It> {
    /// The number of results still to come.
    #[must_use]
    pub fn len(&self) -> usize {
        self.feed.len()
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
        self.next_by(Self::await_next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.feed.size_hint()
    }
}

/// With a [time limit](crate::MapOptions::timeout) the map may yield less than it says: the limit's error, and then
/// nothing.
impl<A, R, It> ExactSizeIterator for Map<'_, A, R, It>
where
    A: Send + 'static,
    R: Send + 'static,
    It: ExactSizeIterator<Item = A>,
{
    fn len(&self) -> usize {
        Map::len(self)
    }
}

impl<A, R, It: Iterator<Item = A>> Drop for Map<'_, A, R, It> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<'a, A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> MapUnordered<'a, A, R, It> {
    pub(crate) fn new(feed: Feed<'a, A, R, It>) -> Self {
        let mut map = Self {
            feed,
            sent: VecDeque::new(),
            gone: 0,
            ready: Vec::new().into_iter(),
            weight: 0,
            share: 0,
            news: unbounded(),
            bell: Arc::default(),
        };
        // As in `Map::new`.
        let try_execute = &mut |executor: &dyn Executor, task| executor.try_execute(task);
        map.refill(&mut Round::new(Reach::Workers, try_execute));
        map
    }

    /// Sends as many chunks as there is room for; stops if the source is slow, and a result has
    /// come or a poll would take long.
    fn refill(&mut self, round: &mut Round<'_>) {
        while let Some(size) = self.feed.room(round) {
            if self.feed.is_slow(round) && (round.is_long_poll() || self.has_next()) {
                break;
            }
            let number = self.gone + self.sent.len();
            let listen = || Some(telling(number, &self.news.0, &self.bell));
            let Some(sent) = self.feed.next_chunk(size, round, listen) else {
                break;
            };
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
        match self.feed.deadline.moment() {
            Some(moment) => self.news.1.recv_deadline(moment).ok(),
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
        self.feed.end();
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
        if let Some(error) = self.feed.take_refusal() {
            return Some((0, Err(error)));
        }
        self.refill(&mut Round::new(Reach::Buffer, &mut execute));
        if self.feed.is_over() {
            return None;
        }
        let (index, result) = loop {
            if let Some(next) = self.ready.next() {
                break next;
            }
            if !self.await_news() {
                let read = self.feed.read();
                self.end();
                return Some((read, Err(Error::Timeout)));
            }
        };
        self.feed.forget(self.weight, self.share);
        Some((index, result))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.feed.size_hint()
    }
}

impl<A, R, It: Iterator<Item = A>> Drop for MapUnordered<'_, A, R, It> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Hands a chunk to the executor, and waits for room.
fn execute(executor: &dyn Executor, task: Task) -> Result<(), Task> {
    executor.execute(task);
    Ok(())
}

/// A listener that sends a chunk's number on the channel of its map, then rings the bell.
fn telling(number: usize, news: &Sender<usize>, bell: &Arc<Bell>) -> Listener {
    let (news, bell) = (news.clone(), Arc::clone(bell));
    // The receiver may be gone by then; no thread waits for the number any more.
    Box::new(move || {
        let _ = news.send(number);
        bell.ring()
    })
}

impl<A, R, It: Iterator<Item = A>> fmt::Debug for Map<'_, A, R, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Map");
        shown
            .field("ahead", &self.feed.ahead())
            .finish_non_exhaustive()
    }
}

impl<A, R, It: Iterator<Item = A>> fmt::Debug for MapUnordered<'_, A, R, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("MapUnordered");
        shown
            .field("ahead", &self.feed.ahead())
            .finish_non_exhaustive()
    }
}
