//! How maps are polled, as streams.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::{Map, MapUnordered};
use crate::error::Error;
use crate::executor::Executor;
use crate::executor::feed::Round;
use crate::executor::map_stream::{MapStream, Polling};
use crate::future::bell::Bell;
use crate::task::results::Listener;

impl<A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> Map<'_, A, R, It> {
    /// Makes it a stream (feature `stream`), which [`MapStream`] describes.
    pub fn into_stream(self) -> MapStream<Self> {
        let polling = self.polling();
        MapStream { map: self, polling }
    }

    /// What the map needs to be polled. The chunks that were sent ring the bell from now on.
    pub(in crate::executor) fn polling(&self) -> Polling {
        let polling = Polling::default();
        for sent in &self.sent {
            sent.chunk_results.listen(ringing(&polling.bell));
        }
        polling
    }

    /// The next result. `Pending`: it has not come, and `waker` is woken when there is news.
    pub(in crate::executor) fn poll_next(
        &mut self,
        polling: &mut Polling,
        waker: &Waker,
    ) -> Poll<Option<Result<R, Error>>> {
        if let Some(error) = self.feed.take_refusal() {
            return Poll::Ready(Some(Err(error)));
        }
        // A chunk that is held back takes the room that this task may have been woken for.
        let Polling { bell, place, .. } = &mut *polling;
        let hand_over =
            &mut |executor: &dyn Executor, task| executor.try_execute_or_wake(task, place, waker);
        let mut round = Round::polled(hand_over);
        if self.at == 0 || self.feed.holds_back() {
            self.refill(&mut round, || Some(ringing(bell)));
        }
        let is_long = round.is_long_poll();
        if self.feed.is_over() {
            return Poll::Ready(None);
        }
        if let Some(result) = self.take() {
            return Poll::Ready(Some(result));
        }
        polling.wait(waker, self.feed.deadline);
        if self.has_next() {
            return Poll::Ready(self.take());
        }
        if self.feed.deadline.has_passed() {
            self.end();
            polling.leave();
            return Poll::Ready(Some(Err(Error::Timeout)));
        }
        if is_long {
            waker.wake_by_ref(); // there is more to pull
        }
        Poll::Pending
    }
}

impl<A: Send + 'static, R: Send + 'static, It: Iterator<Item = A>> MapUnordered<'_, A, R, It> {
    /// Makes it a stream (feature `stream`), which [`MapStream`] describes.
    pub fn into_stream(self) -> MapStream<Self> {
        let polling = Polling::new(Arc::clone(&self.bell));
        MapStream { map: self, polling }
    }

    /// The next result that has come. `Pending`: none has, and `waker` is woken when there is news.
    fn poll_next(
        &mut self,
        polling: &mut Polling,
        waker: &Waker,
    ) -> Poll<Option<(usize, Result<R, Error>)>> {
        if let Some(error) = self.feed.take_refusal() {
            return Poll::Ready(Some((0, Err(error))));
        }
        let place = &mut polling.place;
        let hand_over =
            &mut |executor: &dyn Executor, task| executor.try_execute_or_wake(task, place, waker);
        let mut round = Round::polled(hand_over);
        self.refill(&mut round);
        let is_long = round.is_long_poll();
        if self.feed.is_over() {
            return Poll::Ready(None);
        }
        if !self.has_next() {
            polling.wait(waker, self.feed.deadline);
        }
        if self.has_next() {
            let next = self.ready.next();
            self.feed.forget(self.weight, self.share);
            return Poll::Ready(next);
        }
        if self.feed.deadline.has_passed() {
            let read = self.feed.read();
            self.end();
            polling.leave();
            return Poll::Ready(Some((read, Err(Error::Timeout))));
        }
        if is_long {
            waker.wake_by_ref(); // there is more to pull
        }
        Poll::Pending
    }
}

impl<A, R, It> Stream for MapStream<Map<'_, A, R, It>>
where
    A: Send + 'static,
    R: Send + 'static,
    It: Iterator<Item = A>,
{
    type Item = Result<R, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { map, polling } = self.get_mut();
        map.poll_next(polling, context.waker())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map.size_hint()
    }
}

impl<A, R, It> Stream for MapStream<MapUnordered<'_, A, R, It>>
where
    A: Send + 'static,
    R: Send + 'static,
    It: Iterator<Item = A>,
{
    type Item = (usize, Result<R, Error>);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { map, polling } = self.get_mut();
        map.poll_next(polling, context.waker())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map.size_hint()
    }
}

/// A listener that rings the bell.
fn ringing(bell: &Arc<Bell>) -> Listener {
    let bell = Arc::clone(bell);
    Box::new(move || bell.ring())
}
