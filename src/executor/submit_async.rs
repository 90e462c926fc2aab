//! Submission that awaits room: [`SubmitAsync`], and the place of an async task among those that wait for it.
//! Called by users through [`Executor`]; the worker pool (`pool/mod.rs`) gives the places.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::executor::Executor;
use crate::future::Future;
use crate::task::Task;

/// The submission of a task, to be awaited: what [`Executor::submit_async`] returns, which has an example. Its
/// output is the [`Future`] of the task's result.
///
/// It submits nothing until it is polled. Dropping it before it is done submits nothing, and the argument is
/// dropped with it.
///
/// Submissions that wait are woken in the order in which they were first polled, one for each task that leaves
/// the queue; a thread or a task that asks for room at that moment may come first. One that was woken, and is
/// neither polled nor dropped, may hold up those behind it.
#[must_use = "nothing is submitted until this is awaited"]
pub struct SubmitAsync<'a, R> {
    /// The executor that gets the task.
    executor: &'a dyn Executor,
    /// The task and its future; `None` once the task was submitted.
    submission: Option<(Task, Future<R>)>,
    /// The place among those that wait for room.
    place: RoomWaiter,
}

/// The place of an async task among those that wait for room in an executor: see
/// [`Executor::try_execute_or_wake`]. Dropping it leaves the place.
#[derive(Default)]
pub struct RoomWaiter {
    /// The line, and the number of the place in it; `None`: it does not wait.
    place: Option<(Arc<dyn RoomLine>, u64)>,
}

/// A line of async tasks that wait for room.
pub(crate) trait RoomLine: Send + Sync {
    /// Leaves a place. If its task was woken before, the next one is woken in its stead, should there be room.
    fn leave(&self, place: u64);
}

impl<'a, R> SubmitAsync<'a, R> {
    pub(crate) fn new(executor: &'a dyn Executor, task: Task, future: Future<R>) -> Self {
        Self {
            executor,
            submission: Some((task, future)),
            place: RoomWaiter::default(),
        }
    }
}

impl<R> std::future::Future for SubmitAsync<'_, R> {
    type Output = Future<R>;

    /// # Panics
    /// If it is polled after it has returned the future.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Future<R>> {
        let this = self.get_mut();
        let Some((task, future)) = this.submission.take() else {
            panic!("the task was submitted before");
        };
        let (place, waker) = (&mut this.place, context.waker());
        match this.executor.try_execute_or_wake(task, place, waker) {
            Ok(()) => Poll::Ready(future),
            Err(task) => {
                this.submission = Some((task, future));
                Poll::Pending
            }
        }
    }
}

impl RoomWaiter {
    /// The number of the place in this line; `None`: it has none there. It leaves any other line.
    pub(crate) fn number_in(&mut self, line: &Arc<dyn RoomLine>) -> Option<u64> {
        let is_here = |(own, _): &(Arc<dyn RoomLine>, u64)| Arc::ptr_eq(own, line);
        if !self.place.as_ref().is_some_and(is_here) {
            *self = Self::default();
        }
        self.place.as_ref().map(|(_, number)| *number)
    }

    /// Notes the place that it has taken.
    pub(crate) fn wait_at(&mut self, line: Arc<dyn RoomLine>, number: u64) {
        self.place = Some((line, number));
    }

    /// Notes that it has no place any more: the line has given it up. Returns the number that it had.
    pub(crate) fn give_up(&mut self) -> Option<u64> {
        self.place.take().map(|(_, number)| number)
    }
}

impl Drop for RoomWaiter {
    fn drop(&mut self) {
        if let Some((line, number)) = self.place.take() {
            line.leave(number);
        }
    }
}

impl<R> fmt::Debug for SubmitAsync<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitAsync")
            .field("task", &self.submission.as_ref().map(|(task, _)| task))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RoomWaiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.place.as_ref().map(|(_, number)| *number);
        f.debug_struct("RoomWaiter")
            .field("place", &number)
            .finish_non_exhaustive()
    }
}
