//! A promise with its types erased: queues and in-flight tables hold tasks of all types by it.

use std::ops::Deref;
use std::sync::Arc;

use crate::error::Error;
use crate::future::promise::{Settle, Verdict};

/// The one owner of a task, apart from its future. Dropping it settles the task as cancelled.
#[must_use = "dropping it cancels the task"]
pub(crate) struct DynPromise<P: ?Sized + Settle>(
    /// The task; `None` once the promise is given up.
    Option<Arc<P>>,
);

impl<P: ?Sized + Settle> DynPromise<P> {
    /// The promise of a task, after the typed promise was given up for this call.
    #[inline]
    pub(crate) fn new(task: Arc<P>) -> Self {
        Self(Some(task))
    }

    /// Gives the promise up for the task, which the caller settles.
    #[inline]
    pub(crate) fn into_inner(mut self) -> Arc<P> {
        match self.0.take() {
            Some(task) => task,
            None => unreachable!("into_inner consumes the promise"),
        }
    }

    /// Settles the task with this error; `settled` is called with how it counts.
    pub(crate) fn fail(self, error: Error, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: this was the task's one promise, and it is given up.
        unsafe { self.into_inner().fail(error, settled) };
    }
}

impl<P: ?Sized + Settle> Deref for DynPromise<P> {
    type Target = P;

    fn deref(&self) -> &P {
        match &self.0 {
            Some(task) => task,
            None => unreachable!("into_inner consumes the promise"),
        }
    }
}

impl<P: ?Sized + Settle> Drop for DynPromise<P> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            // SAFETY: this was the task's one promise, and it is given up.
            unsafe { task.fail(Error::Cancelled, &mut |_| ()) };
        }
    }
}
