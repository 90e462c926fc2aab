//! Maps over items with keys: each result comes with the key of its item. Called by
//! [`Executor::map_keyed`](crate::Executor::map_keyed); relies on [`Map`], which keeps the order.

#[cfg(feature = "stream")]
mod stream;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use crate::error::Error;
use crate::executor::feed::Feed;
use crate::executor::map::Map;
use crate::sync::lock;

/// `(key, result)` in the order of the items: the iterator of
/// [`Executor::map_keyed`](crate::Executor::map_keyed), which has an example.
///
/// Dropping it cancels what has not started. After a panic of its source it ends.
#[must_use = "dropping a map cancels what has not started"]
pub struct MapKeyed<'a, K, A, R, It: Iterator<Item = (K, A)>> {
    /// The results, in the order of the items.
    map: Map<'a, A, R, Arguments<K, It>>,
    /// The keys of the items that were pulled and whose results were not read.
    keys: Keys<K>,
    /// Whether `next` runs, or has panicked: a key may then have no result, so that no more are given.
    is_over: bool,
}

/// The arguments of items with keys; the keys are set aside.
pub(crate) struct Arguments<K, It> {
    /// The items.
    items: It,
    /// Where the keys go.
    keys: Keys<K>,
}

/// The keys of items, oldest first.
pub(crate) type Keys<K> = Arc<Mutex<VecDeque<K>>>;

/// The arguments of items with keys, and where the keys are set aside as they are pulled.
pub(crate) fn arguments<K, It>(items: It) -> (Arguments<K, It>, Keys<K>) {
    let keys = Keys::default();
    let arguments = Arguments {
        items,
        keys: Arc::clone(&keys),
    };
    (arguments, keys)
}

impl<'a, K, A, R, It> MapKeyed<'a, K, A, R, It>
where
    A: Send + 'static,
    R: Send + 'static,
    It: Iterator<Item = (K, A)>,
{
    /// A map of a feed of [`arguments`], and of the keys that those set aside.
    pub(crate) fn new(feed: Feed<'a, A, R, Arguments<K, It>>, keys: Keys<K>) -> Self {
        Self {
            map: Map::new(feed),
            keys,
            is_over: false,
        }
    }

    /// The next item's key and outcome; `await_next` waits for it.
    pub(super) fn next_by(
        &mut self,
        await_next: impl FnOnce(&Map<'a, A, R, Arguments<K, It>>) -> bool,
    ) -> Option<(K, Result<R, Error>)> {
        if std::mem::replace(&mut self.is_over, true) {
            return None;
        }
        let result = self.map.next_by(await_next)?;
        if lock(&*self.keys).is_empty() {
            // The options were refused, and nothing was pulled: the error is the first item's.
            self.map.skip_item();
        }
        self.is_over = false;
        // Its item was pulled, so its key was set aside.
        let key = lock(&*self.keys).pop_front()?;
        Some((key, result))
    }
}

impl<K, A, R, It> Iterator for MapKeyed<'_, K, A, R, It>
where
    A: Send + 'static,
    R: Send + 'static,
    It: Iterator<Item = (K, A)>,
{
    type Item = (K, Result<R, Error>);

    fn next(&mut self) -> Option<Self::Item> {
        self.next_by(Map::await_next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.map.size_hint()
    }
}

impl<K, A, R, It> ExactSizeIterator for MapKeyed<'_, K, A, R, It>
where
    A: Send + 'static,
    R: Send + 'static,
    It: ExactSizeIterator<Item = (K, A)>,
{
    fn len(&self) -> usize {
        self.map.len()
    }
}

impl<K, A, R, It: Iterator<Item = (K, A)>> fmt::Debug for MapKeyed<'_, K, A, R, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapKeyed")
            .field("map", &self.map)
            .finish_non_exhaustive()
    }
}

impl<K, A, It: Iterator<Item = (K, A)>> Iterator for Arguments<K, It> {
    type Item = A;

    fn next(&mut self) -> Option<A> {
        let (key, argument) = self.items.next()?;
        lock(&*self.keys).push_back(key);
        Some(argument)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<K, A, It: ExactSizeIterator<Item = (K, A)>> ExactSizeIterator for Arguments<K, It> {}
