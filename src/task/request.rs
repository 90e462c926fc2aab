//! One task on its way to a worker process: what is sent, and where its outcome settles. Made by `task`,
//! queued by `transport::work`, sent and settled by `process::host`.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::promise::{Notifications, Settle, Verdict};
use crate::future::state::Start;
use crate::options::RunOptions;
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::pod::Scalar;
use crate::task_info::TaskInfo;

/// An encoded task that is to be sent to a worker.
pub(crate) struct Request {
    /// The function to call.
    pub(crate) call: FunctionRef,
    /// The encoded argument.
    pub(crate) argument: Encoded,
    /// The options that the task was submitted with.
    pub(crate) options: RunOptions,
    /// How often a worker has begun the task.
    pub(crate) attempts: u32,
    /// How often the task was sent and came back without being read by a worker.
    pub(crate) returns: u32,
    /// The promise, which the outcome settles.
    pub(crate) promise: DynPromise<dyn RemoteTask>,
}

impl Request {
    /// The request for a task that no worker has begun.
    pub(crate) fn new(mut promise: DynPromise<dyn RemoteTask>) -> Self {
        let (call, argument) = promise.take_message();
        Self {
            call,
            argument,
            options: promise.options(),
            attempts: 0,
            returns: 0,
            promise,
        }
    }

    /// Gives up the message of a task that has ended, and so the channels that it held open: a callback of the
    /// task may wait for the end of one.
    pub(crate) fn into_promise(self) -> DynPromise<dyn RemoteTask> {
        drop(self.argument);
        self.promise
    }
}

/// A task on its way to a worker process, with its types erased: the one place where the outcome of such a
/// task settles.
pub(crate) trait RemoteTask: Settle {
    fn info(&self) -> TaskInfo;
    fn options(&self) -> RunOptions;
    /// Whether its options are [plain](RunOptions::is_plain).
    fn is_plain(&self) -> bool {
        self.options().is_plain()
    }
    /// The message (function and argument), if the argument is a number: it may be asked for again, as long
    /// as the task has not ended. `None` for all other arguments.
    ///
    /// # Safety
    /// The caller holds the task's one promise.
    unsafe fn number(&self) -> Option<(FunctionRef, Scalar)> {
        None
    }
    /// Takes out the message: the function to call, and its encoded argument.
    ///
    /// # Safety
    /// The caller holds the task's one promise.
    unsafe fn take_message(&self) -> (FunctionRef, Encoded);
    /// Puts back the argument of a message that was taken out and not delivered.
    ///
    /// # Safety
    /// The caller holds the task's one promise.
    unsafe fn put_message(&self, argument: Encoded);
    /// Notes that a worker begins the task, unless the task was cancelled.
    fn start(&self) -> Start;
    /// Makes the task pending again: the worker was lost before it touched the task, or an attempt has failed.
    fn put_back(&self);
    /// Whether the task was killed, so that it is not to be run again.
    fn is_given_up(&self) -> bool {
        false
    }
    /// Settles the task with the worker's result, which is decoded on this thread, at once. `settled` is told how
    /// that counts, and the error if the result cannot be decoded.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn deliver(self: Arc<Self>, value: Source<'_>, settled: &mut Delivered<'_>);
    /// Whether the task may be run again because of the value that it returns, so that each is to be
    /// [judged](Self::judge).
    fn judges_values(&self) -> bool {
        false
    }
    /// Decodes the worker's result on this thread, and settles the task with it, like `deliver`, after a call of
    /// `last`; or returns the task, and after which pause it is to be run again. `attempts`: how often a worker has
    /// begun it.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this; it holds that of the task that is
    /// returned.
    unsafe fn judge(
        self: Arc<Self>,
        value: Source<'_>,
        attempts: u32,
        last: &mut dyn FnMut(),
        settled: &mut Delivered<'_>,
    ) -> Option<(Arc<dyn RemoteTask>, Duration)> {
        let _ = attempts;
        last();
        // SAFETY: guaranteed by the caller.
        unsafe { self.deliver(value, settled) };
        None
    }
    /// Stores the worker's result; the first thread that looks at it decodes it. This thread decodes it, as
    /// by `deliver`, if that runs no user code, or if callbacks wait, which this thread runs. `settled` runs
    /// just before any other thread can see the result. Returns the listeners to notify, if there are any;
    /// with a future to open among them, if a callback was added in the last moment.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn leave(
        self: Arc<Self>,
        value: Source<'_>,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Box<Notifications>>;
    /// Settles the task as killed.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn killed(self: Arc<Self>, settled: &mut dyn FnMut(Verdict));
    /// Stores the outcome without running user code; the first thread that looks at the future decodes it.
    /// Returns how the outcome counts, as far as is known, and the listeners to notify, if there are any.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn arrive(
        self: Arc<Self>,
        outcome: RemoteOutcome<'_>,
    ) -> (Verdict, Option<Box<Notifications>>);
    /// Whether listeners must be notified as soon as the task is done.
    fn has_listeners(&self) -> bool;
    /// Whether the task may hold memory until its outcome is collected: an argument, shared memory that this
    /// names, or a large result.
    fn holds_memory(&self) -> bool {
        true
    }
    /// Whether the task need not begin, as it belongs to a map that was dropped.
    fn is_abandoned(&self) -> bool {
        false
    }
}

impl DynPromise<dyn RemoteTask> {
    /// Calls [`RemoteTask::number`], with `self` as the task's one promise.
    pub(crate) fn number(&mut self) -> Option<(FunctionRef, Scalar)> {
        // SAFETY: `self` is the task's one promise.
        unsafe { (**self).number() }
    }

    /// Calls [`RemoteTask::take_message`], with `self` as the task's one promise.
    pub(crate) fn take_message(&mut self) -> (FunctionRef, Encoded) {
        // SAFETY: `self` is the task's one promise.
        unsafe { (**self).take_message() }
    }

    /// Calls [`RemoteTask::put_message`], with `self` as the task's one promise.
    pub(crate) fn put_message(&mut self, argument: Encoded) {
        // SAFETY: `self` is the task's one promise.
        unsafe { (**self).put_message(argument) }
    }

    /// Calls [`RemoteTask::deliver`], and gives up the promise for it.
    pub(crate) fn deliver(self, value: Source<'_>, settled: &mut Delivered<'_>) {
        // SAFETY: `self` was the task's one promise.
        unsafe { self.into_inner().deliver(value, settled) }
    }

    /// Calls [`RemoteTask::judge`], and gives up the promise for it; returns it again with the pause.
    pub(crate) fn judge(
        self,
        value: Source<'_>,
        attempts: u32,
        last: &mut dyn FnMut(),
        settled: &mut Delivered<'_>,
    ) -> Option<(Self, Duration)> {
        // SAFETY: `self` was the task's one promise, and so is what is made of the task that is returned.
        let again = unsafe { self.into_inner().judge(value, attempts, last, settled) };
        again.map(|(task, pause)| (Self::new(task), pause))
    }

    /// Calls [`RemoteTask::leave`], and gives up the promise for it.
    pub(crate) fn leave(
        self,
        value: Source<'_>,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Box<Notifications>> {
        // SAFETY: `self` was the task's one promise.
        unsafe { self.into_inner().leave(value, settled) }
    }

    /// Calls [`RemoteTask::killed`], and gives up the promise for it.
    pub(crate) fn killed(self, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: `self` was the task's one promise.
        unsafe { self.into_inner().killed(settled) }
    }

    /// Calls [`RemoteTask::arrive`], and gives up the promise for it.
    pub(crate) fn arrive(
        self,
        outcome: RemoteOutcome<'_>,
    ) -> (Verdict, Option<Box<Notifications>>) {
        // SAFETY: `self` was the task's one promise.
        unsafe { self.into_inner().arrive(outcome) }
    }
}

/// Told how a result counts that was decoded, and the error if it could not be.
pub(crate) type Delivered<'a> = dyn FnMut(Verdict, Option<&Error>) + 'a;

/// The outcome of a task, as it arrives.
pub(crate) enum RemoteOutcome<'a> {
    /// The result, encoded.
    Value(Source<'a>),
    /// The reason why there is no result.
    Error(Error),
    /// The task was killed.
    Killed,
}
