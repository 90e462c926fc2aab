//! The future of a scope's task: the task's own future, which has no value, and the slot with its result.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Slot, take};
use crate::error::Error;
use crate::future::Future;
use crate::future::id::FutureId;

/// The future result of a task of a [scope](crate::Scope), which may borrow. (`std::thread::ScopedJoinHandle`)
///
/// The same as [`Future`], but for callbacks, of which it has none: they might run after the scope. Dropping it
/// detaches the task, for whose end the scope waits all the same. A task's panic is its future's error, and nobody
/// else's.
///
/// ```
/// use concurrent_futures::{Error, ThreadPoolExecutor};
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let text = String::from("borrowed, not cloned");
/// let word = pool.scope(|scope| {
///     let first = scope.spawn(|| text.split(',').next());
///     let fails = scope.spawn(|| text.parse::<u32>().unwrap());
///     assert!(matches!(fails.result(), Err(Error::Panicked(_))));
///     first.result()
/// })?;
/// assert_eq!(word, Some("borrowed"));
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping a future detaches its task, of whose error nobody learns; call `result`, or keep it"]
pub struct ScopedFuture<R> {
    /// The future of the task, which becomes done after the result was stored.
    future: Future<()>,
    /// Where the task stores its result.
    slot: Slot<R>,
}

impl<R> ScopedFuture<R> {
    pub(super) fn new(future: Future<()>, slot: Slot<R>) -> Self {
        Self { future, slot }
    }

    /// Blocks until the task is done, and takes its value. (`Future.result()`) A worker of the same pool that calls
    /// this runs the task itself, if no other has begun it.
    ///
    /// # Errors
    /// Those of [`Future::result`].
    pub fn result(self) -> Result<R, Error> {
        self.future.run_if_queued();
        self.future.result().and_then(|()| take(&self.slot))
    }

    /// Like [`result`](Self::result), but waits for at most `limit`. (`Future.result(timeout)`)
    ///
    /// # Errors
    /// Those of [`Future::result_timeout`].
    pub fn result_timeout(&mut self, limit: Duration) -> Result<R, Error> {
        let outcome = self.future.result_timeout(limit);
        outcome.and_then(|()| take(&self.slot))
    }

    /// Blocks until the task is done, and returns its error, or `None` after success. (`Future.exception()`)
    #[must_use]
    pub fn exception(&self) -> Option<Error> {
        self.future.run_if_queued();
        self.future.exception()
    }

    /// Blocks until the task is done.
    pub fn wait(&self) {
        self.future.run_if_queued();
        self.future.wait();
    }

    /// Blocks until the task is done, for at most `limit`. Returns whether it is done.
    #[must_use]
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        self.future.wait_timeout(limit)
    }

    /// Cancels the task if it has not begun. (`Future.cancel()`) `true`: it never ran and never will, and what it
    /// has captured is dropped.
    #[allow(
        clippy::must_use_candidate,
        reason = "often called for its effect alone"
    )]
    pub fn cancel(&self) -> bool {
        self.future.cancel()
    }

    /// Like [`cancel`](Self::cancel); a task that runs can see that it was asked to stop by
    /// [`WorkerInfo::cancel_requested`](crate::WorkerInfo::cancel_requested).
    #[allow(
        clippy::must_use_candidate,
        reason = "often called for its effect alone"
    )]
    pub fn kill(&self) -> bool {
        self.future.kill()
    }

    /// Whether the task was cancelled. (`Future.cancelled()`)
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.future.cancelled()
    }

    /// Whether a worker runs the task now. (`Future.running()`)
    #[must_use]
    pub fn running(&self) -> bool {
        self.future.running()
    }

    /// Whether the task is over, in whichever way. (`Future.done()`)
    #[must_use]
    pub fn done(&self) -> bool {
        self.future.done()
    }

    /// The id of the future.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.future.id()
    }
}

impl<R> std::future::Future for ScopedFuture<R> {
    type Output = Result<R, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = Pin::new(&mut self.future).poll(context);
        outcome.map(|outcome| outcome.and_then(|()| take(&self.slot)))
    }
}

impl<R> fmt::Debug for ScopedFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ScopedFuture").field(&self.future).finish()
    }
}
