//! The promise's end of a task whose types are erased.

use std::ops::Deref;
use std::sync::Arc;

use crate::error::Error;
use crate::future::{Settle, Verdict};

/// The one handle of a task, apart from its future. Dropping it settles the task as cancelled.
#[must_use = "dropping it cancels the task"]
pub(crate) struct DynPromise<P: ?Sized + Settle>(
    /// The task; `None` once it is given up.
    Option<Arc<P>>,
);

impl<P: ?Sized + Settle> DynPromise<P> {
    /// Of a task that has none.
    #[inline]
    pub(crate) fn new(task: Arc<P>) -> Self {
        Self(Some(task))
    }

    /// The task, to be settled.
    #[inline]
    pub(crate) fn into_inner(mut self) -> Arc<P> {
        match self.0.take() {
            Some(task) => task,
            None => unreachable!("redeeming consumes the pledge"),
        }
    }

    /// Settles it with this error.
    pub(crate) fn fail(self, error: Error, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: this was the promise's one handle.
        unsafe { self.into_inner().fail(error, settled) };
    }
}

impl<P: ?Sized + Settle> Deref for DynPromise<P> {
    type Target = P;

    fn deref(&self) -> &P {
        match &self.0 {
            Some(task) => task,
            None => unreachable!("redeeming consumes the pledge"),
        }
    }
}

impl<P: ?Sized + Settle> Drop for DynPromise<P> {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            // SAFETY: this was the promise's one handle.
            unsafe { task.fail(Error::Cancelled, &mut |_| ()) };
        }
    }
}
