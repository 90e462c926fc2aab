//! [`CancelOnDrop`]: a future that cancels its task when it is dropped. Made by [`Future::cancel_on_drop`].

use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::Error;
use crate::future::Future;

/// A [`Future`] that cancels its task when it is dropped, if the task has not begun. Derefs to the
/// [`Future`].
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
pub struct CancelOnDrop<T>(
    /// The future; `None` only once `result` has taken it.
    pub(super) Option<Future<T>>,
);

impl<T> CancelOnDrop<T> {
    /// Blocks until the task is done, and takes its value, like [`Future::result`].
    ///
    /// # Errors
    /// The same as [`Future::result`].
    pub fn result(mut self) -> Result<T, Error> {
        match self.0.take() {
            Some(future) => future.result(),
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> Deref for CancelOnDrop<T> {
    type Target = Future<T>;

    fn deref(&self) -> &Future<T> {
        match &self.0 {
            Some(future) => future,
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> DerefMut for CancelOnDrop<T> {
    fn deref_mut(&mut self) -> &mut Future<T> {
        match &mut self.0 {
            Some(future) => future,
            None => unreachable!("only `result`, which consumes, takes the future"),
        }
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(future) = &self.0 {
            future.cancel();
        }
    }
}

impl<T> std::future::Future for CancelOnDrop<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut **self).poll(context)
    }
}
