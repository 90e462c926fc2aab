//! How a keyed map is polled, as a stream.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;

use super::MapKeyed;
use crate::error::Error;
use crate::executor::map_stream::{MapStream, Polling};
use crate::sync::lock;

impl<K, A, R, It> MapKeyed<'_, K, A, R, It>
where
    A: Send + 'static,
    R: Send + 'static,
    It: Iterator<Item = (K, A)>,
{
    /// Makes it a stream (feature `stream`), which [`MapStream`] describes.
    pub fn into_stream(self) -> MapStream<Self> {
        let polling = self.map.polling();
        MapStream { map: self, polling }
    }

    /// The next result, with its key. `Pending`: it has not come, and `waker` is woken when there is news.
    fn poll_next(
        &mut self,
        polling: &mut Polling,
        waker: &Waker,
    ) -> Poll<Option<(K, Result<R, Error>)>> {
        if std::mem::replace(&mut self.is_over, true) {
            return Poll::Ready(None);
        }
        let result = self.map.poll_next(polling, waker);
        self.is_over = false;
        result.map(|result| {
            // Its item was pulled, so its key was set aside.
            let (result, key) = (result?, lock(&*self.keys).pop_front()?);
            Some((key, result))
        })
    }
}

impl<K, A, R, It> Stream for MapStream<MapKeyed<'_, K, A, R, It>>
where
    A: Send + 'static,
    R: Send + 'static,
    It: Iterator<Item = (K, A)>,
{
    type Item = (K, Result<R, Error>);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Self { map, polling } = self.get_mut();
        map.poll_next(polling, context.waker())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map.size_hint()
    }
}
