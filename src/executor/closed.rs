//! [`Closed`]: the end of an executor, to be awaited. Implemented by the worker pool (`pool/closer.rs`) and by
//! [`SerialExecutor`](crate::SerialExecutor).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// The end of an executor, to be awaited: what [`Executor::closed`](crate::Executor::closed) returns, which has
/// an example.
///
/// It does not keep the executor from being dropped, and may be awaited by another task. Dropping it ends
/// nothing.
#[must_use = "it does nothing unless awaited"]
pub struct Closed {
    /// What is to end; `None`: nothing is.
    source: Option<Arc<dyn Closing>>,
    /// The number of the place among those that wait for it; `None`: it has not been polled.
    place: Option<u64>,
}

/// An executor whose end async tasks wait for.
pub(crate) trait Closing: Send + Sync {
    /// Whether nothing is left of the executor. If something is, has `waker` woken when nothing is any more,
    /// from this place among those that wait; `None`: from a new one, which is noted here.
    fn closed_or_wake(self: Arc<Self>, place: &mut Option<u64>, waker: &Waker) -> bool;
    /// Leaves a place.
    fn leave(&self, place: u64);
}

impl Closed {
    /// The end of what has nothing to be waited for.
    pub(crate) const fn at_once() -> Self {
        Self {
            source: None,
            place: None,
        }
    }

    pub(crate) fn of(source: Arc<dyn Closing>) -> Self {
        Self {
            source: Some(source),
            place: None,
        }
    }
}

impl Future for Closed {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let Some(source) = &this.source else {
            return Poll::Ready(());
        };
        match Arc::clone(source).closed_or_wake(&mut this.place, context.waker()) {
            true => {
                // Its line is given up; a later poll answers at once.
                (this.source, this.place) = (None, None);
                Poll::Ready(())
            }
            false => Poll::Pending,
        }
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        if let (Some(source), Some(place)) = (&self.source, self.place) {
            source.leave(place);
        }
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed")
            .field("is_polled", &self.place.is_some())
            .finish_non_exhaustive()
    }
}
