//! [`MapStream`]: a map as an asynchronous stream. The maps (`map/stream.rs`, `map_keyed/stream.rs`) implement how
//! each of them is polled; what they need for it is [`Polling`].

use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::executor::submit_async::RoomWaiter;
use crate::future::bell::Bell;
use crate::future::promise::Expire;
use crate::sync::deadline::Deadline;
use crate::task::timeout::{TimeoutGuard, Timer};
use crate::unwind;

/// A map as an asynchronous stream of the same items (feature `stream`): what `into_stream` of a
/// [`Map`](crate::Map), a [`MapUnordered`](crate::MapUnordered) or a [`MapKeyed`](crate::MapKeyed) returns.
///
/// It is as lazy as the map. Where results have not come, or the executor has no room for more items, no thread
/// is blocked. The task that polls pulls the source, on its thread, and encodes the items there: about a
/// millisecond of it a poll. A source that blocks, blocks the runtime. On a [`SerialExecutor`](crate::SerialExecutor) the function runs there, too.
/// Dropping the stream cancels what has not started. A map with a
/// [time limit](crate::MapOptions::timeout) has a thread of its own for it while its stream waits.
///
/// ```
/// # use concurrent_futures::{Error, Executor, ThreadPoolExecutor};
/// # use std::{pin::Pin, task::{Context, Poll, Waker}};
/// # use futures_core::Stream;
/// # fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
/// #     loop {
/// #         if let Poll::Ready(output) = poll(&mut Context::from_waker(Waker::noop())) { return output; }
/// #         std::thread::yield_now();
/// #     }
/// # }
/// let pool = ThreadPoolExecutor::new(2)?;
/// let mut squares = pool.map(|n: u64| n * n, 1..=3).into_stream();
/// let mut sum = 0;
/// // With the crate `futures`: while let Some(square) = squares.next().await
/// while let Some(square) = block_on(|context| Pin::new(&mut squares).poll_next(context)) {
///     sum += square?;
/// }
/// assert_eq!(sum, 14);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "streams do nothing unless polled; dropping this one cancels what has not started"]
pub struct MapStream<M> {
    /// What the map needs to be polled. Dropped before the map, whose end wakes no task.
    pub(super) polling: Polling,
    /// The map.
    pub(super) map: M,
}

/// What a map needs to be polled.
#[derive(Default)]
pub(super) struct Polling {
    /// Rung when some results have come.
    pub(super) bell: Arc<Bell>,
    /// The place among those that wait for room in the executor.
    pub(super) place: RoomWaiter,
    /// What rings the bell at the map's time limit; `None`: the map has none, or has not waited.
    alarm: Option<Alarm>,
}

/// Rings the bell at a deadline.
struct Alarm {
    /// Takes the deadline off the timer; dropped before the timer.
    _guard: Option<TimeoutGuard>,
    /// The timer, whose thread wakes.
    _timer: Timer,
}

/// Nothing in it is pinned: the map is only moved.
impl<M> Unpin for MapStream<M> {}

impl Polling {
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self {
            bell,
            place: RoomWaiter::default(),
            alarm: None,
        }
    }

    /// Leaves the place among those that wait for room: the map has ended, and those behind it are not to wait for
    /// its next poll.
    pub(super) fn leave(&mut self) {
        self.place = RoomWaiter::default();
    }

    /// Has `waker` woken at the next result, or at the deadline. The caller looks once more afterwards.
    pub(super) fn wait(&mut self, waker: &Waker, deadline: Deadline) {
        self.bell.arm(waker);
        let (None, Some(limit)) = (&self.alarm, deadline.left()) else {
            return;
        };
        let timer = Timer::new();
        // Without a thread, the limit is looked at when the stream is polled for another reason.
        let bell: Arc<dyn Expire> = Arc::<Bell>::clone(&self.bell);
        if let Ok(guard) = timer.expire_after(bell, limit) {
            self.alarm = Some(Alarm {
                _guard: guard,
                _timer: timer,
            });
        }
    }
}

impl Drop for Polling {
    /// No task is woken any more.
    fn drop(&mut self) {
        drop(self.bell.ring());
    }
}

impl Expire for Bell {
    fn expire(&self, _: Duration) {
        if let Some(waker) = self.ring() {
            unwind::call(|| waker.wake());
        }
    }
}

impl<M: fmt::Debug> fmt::Debug for MapStream<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MapStream")
            .field("map", &self.map)
            .finish_non_exhaustive()
    }
}
