//! A line of async tasks that wait for one event, first come, first served. The worker pool has one for room
//! under `max_pending` (`pool/mod.rs`), and one for its end (`pool/closer.rs`); so has `SerialExecutor`.
//!
//! Its owner guards it by a lock, and wakes and drops what it takes out without that lock: both are foreign
//! code.

use std::collections::BTreeMap;
use std::task::Waker;

use crate::unwind;

/// Async tasks that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct WakerLine {
    /// The wakers of those that wait, by the number of their place.
    waiting: BTreeMap<u64, Waker>,
    /// The number of places that were taken so far.
    taken: u64,
}

/// Wakers that were taken out of a line, to be woken without its lock.
#[must_use = "async tasks that are not woken hang"]
pub(crate) struct TakenWakers(
    /// The wakers, by the number of their place.
    BTreeMap<u64, Waker>,
);

impl WakerLine {
    pub(crate) const fn new() -> Self {
        Self {
            waiting: BTreeMap::new(),
            taken: 0,
        }
    }

    /// Waits at this place; `None`: behind all others. Returns the number of the place, and the waker that
    /// was there, to be dropped.
    pub(crate) fn enter(&mut self, place: Option<u64>, waker: Waker) -> (u64, Option<Waker>) {
        let place = place.unwrap_or_else(|| {
            self.taken += 1;
            self.taken
        });
        (place, self.waiting.insert(place, waker))
    }

    /// Leaves this place. `None`: the task was taken out before, to be woken.
    pub(crate) fn leave(&mut self, place: u64) -> Option<Waker> {
        self.waiting.remove(&place)
    }

    /// Takes out the first, to be woken.
    pub(crate) fn pop_first(&mut self) -> Option<Waker> {
        self.waiting.pop_first().map(|(_, waker)| waker)
    }

    /// Takes out all, to be woken.
    pub(crate) fn take_all(&mut self) -> TakenWakers {
        TakenWakers(std::mem::take(&mut self.waiting))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl TakenWakers {
    /// Wakes them, in the order of their places. It is foreign code.
    pub(crate) fn wake(self) {
        for waker in self.0.into_values() {
            unwind::call(|| waker.wake());
        }
    }
}
