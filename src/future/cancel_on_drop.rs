//! [`CancelOnDrop`]: a future that cancels or kills its task when it is dropped. Made by
//! [`Future::cancel_on_drop`] and [`Future::kill_on_drop`].

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Error;
use crate::future::Future;

/// A [`Future`] that cancels its task when it is dropped, if the task has not begun, or kills it
/// ([`Future::kill_on_drop`]). Derefs to the [`Future`].
///
/// ```
/// # use concurrent_futures::{Executor, ThreadPoolExecutor};
/// let pool = ThreadPoolExecutor::new(1)?;
/// let guarded = pool.submit(|x: u32| x + 1, 1).cancel_on_drop();
/// assert_eq!(guarded.result()?, 2);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "dropping it cancels the task"]
pub struct CancelOnDrop<T> {
    /// The future; `None` only once `result` has taken it.
    future: Option<Future<T>>,
    /// What becomes of the task.
    at_drop: AtDrop,
}

/// What becomes of a task whose future is dropped before the task is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AtDrop {
    /// It is cancelled, unless it has begun.
    Cancel,
    /// It is cancelled, or killed if it has begun.
    Kill,
}

impl<T> CancelOnDrop<T> {
    pub(super) fn new(future: Future<T>, at_drop: AtDrop) -> Self {
        Self {
            future: Some(future),
            at_drop,
        }
    }

    /// Blocks until the task is done, and takes its value, like [`Future::result`].
    ///
    /// # Errors
    /// The same as [`Future::result`].
    pub fn result(mut self) -> Result<T, Error> {
        match self.future.take() {
            Some(future) => future.result(),
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> Deref for CancelOnDrop<T> {
    type Target = Future<T>;

    fn deref(&self) -> &Future<T> {
        match &self.future {
            Some(future) => future,
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> DerefMut for CancelOnDrop<T> {
    fn deref_mut(&mut self) -> &mut Future<T> {
        match &mut self.future {
            Some(future) => future,
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        match (&self.future, self.at_drop) {
            (Some(future), AtDrop::Cancel) => drop(future.cancel()),
            (Some(future), AtDrop::Kill) => drop(future.kill()),
            (None, _) => {}
        }
    }
}

impl<T> std::future::Future for CancelOnDrop<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut **self).poll(context)
    }
}
