//! The map of a scope: a keyed map of the scope's tasks, in which an item's key is the slot of its result.

use std::fmt;

use super::{ScopedTask, Slot, take};
use crate::error::Error;
use crate::executor::feed::Feed;
use crate::executor::map::Map;
use crate::executor::map_keyed::{Arguments, MapKeyed, arguments};

/// Results in the order of the items, which may borrow: the iterator of [`Scope::map`](crate::Scope::map), which has
/// an example.
///
/// The same as [`Map`](crate::Map). Dropping it cancels what has not started.
#[must_use = "dropping a map cancels what has not started"]
pub struct ScopedMap<'scope, R, It: Iterator>(
    /// What became of each item's task, with the slot of its result.
    MapKeyed<'scope, Slot<R>, ScopedTask, (), ScopedItems<'scope, R, It>>,
);

/// The items of a map, each as a task that calls the map's function with it.
pub(super) struct ScopedItems<'scope, R, It: Iterator> {
    /// The items.
    items: It,
    /// Makes a task of an item, and the slot of its result.
    to_task: ToTask<'scope, R, It::Item>,
}

/// Makes a task of an item, and the slot of its result.
type ToTask<'scope, R, A> = Box<dyn Fn(A) -> (Slot<R>, ScopedTask) + Send + 'scope>;

/// The feed of a scope's map.
type ScopedFeed<'scope, R, It> = Feed<'scope, ScopedTask, (), ScopedArguments<'scope, R, It>>;

/// The tasks of a scope's map; the slots of their results are set aside.
type ScopedArguments<'scope, R, It> = Arguments<Slot<R>, ScopedItems<'scope, R, It>>;

impl<'scope, R, It: Iterator> ScopedMap<'scope, R, It> {
    pub(super) fn new(
        items: It,
        to_task: ToTask<'scope, R, It::Item>,
        feed: impl FnOnce(ScopedArguments<'scope, R, It>) -> ScopedFeed<'scope, R, It>,
    ) -> Self {
        let (arguments, slots) = arguments(ScopedItems { items, to_task });
        Self(MapKeyed::new(feed(arguments), slots))
    }
}

impl<R, It: Iterator> Iterator for ScopedMap<'_, R, It> {
    type Item = Result<R, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let (slot, outcome) = self.0.next_by(Map::run_or_await_next)?;
        Some(outcome.and_then(|()| take(&slot)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

/// As for [`Map`](crate::Map).
impl<R, It: ExactSizeIterator> ExactSizeIterator for ScopedMap<'_, R, It> {
    fn len(&self) -> usize {
        self.0.len()
    }
}

impl<R, It: Iterator> fmt::Debug for ScopedMap<'_, R, It> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedMap").field(&self.0).finish()
    }
}

impl<R, It: Iterator> Iterator for ScopedItems<'_, R, It> {
    type Item = (Slot<R>, ScopedTask);

    fn next(&mut self) -> Option<Self::Item> {
        self.items.next().map(&self.to_task)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

impl<R, It: ExactSizeIterator> ExactSizeIterator for ScopedItems<'_, R, It> {}
