//! One task on its way to a worker: what is sent, and where its outcome settles.

use std::sync::Arc;

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::state::Start;
use crate::future::{Notifications, Settle, Verdict};
use crate::options::TaskOptions;
use crate::remote::codec::Source;
use crate::remote::encoded::Encoded;
use crate::remote::function::FunctionRef;
use crate::remote::pod::Scalar;
use crate::task_info::TaskInfo;

/// A task, encoded.
pub(crate) struct Request {
    /// What to call.
    pub(crate) call: FunctionRef,
    /// With what.
    pub(crate) argument: Encoded,
    /// What the user asked of it.
    pub(crate) options: TaskOptions,
    /// How often a worker has begun it.
    pub(crate) attempts: u32,
    /// How often it returned, never having been read by a worker.
    pub(crate) returns: u32,
    /// Where the outcome goes.
    pub(crate) reply: DynPromise<dyn RemoteTask>,
}

impl Request {
    /// A task that no worker has begun.
    pub(crate) fn new(mut reply: DynPromise<dyn RemoteTask>) -> Self {
        let (call, argument) = reply.take_message();
        Self {
            call,
            argument,
            options: reply.options(),
            attempts: 0,
            returns: 0,
            reply,
        }
    }
}

/// A task on its way, its types erased: the one place where the outcome of a process's task settles.
pub(crate) trait RemoteTask: Settle {
    fn info(&self) -> TaskInfo;
    fn options(&self) -> TaskOptions;
    /// What is sent, if it is a number: it may be asked for again, as long as the task has not ended.
    ///
    /// # Safety
    /// The caller has the task's one pledge.
    unsafe fn number(&self) -> Option<(FunctionRef, Scalar)> {
        None
    }
    /// Takes out what is sent: what to call, and with what.
    ///
    /// # Safety
    /// The caller has the task's one pledge.
    unsafe fn take_message(&self) -> (FunctionRef, Encoded);
    /// Puts back what was to be sent.
    ///
    /// # Safety
    /// The caller has the task's one pledge.
    unsafe fn put_message(&self, argument: Encoded);
    /// The worker begins it, unless it was cancelled.
    fn start(&self) -> Start;
    /// The worker was lost before it touched the task.
    fn put_back(&self);
    /// The worker's result arrived, and is decoded on this thread, at once.
    ///
    /// # Safety
    /// The caller had the task's one pledge, and has given it up for this.
    unsafe fn deliver(self: Arc<Self>, value: Source<'_>, settled: &mut dyn FnMut(Verdict));
    /// The worker's result arrived, and is decoded by the first thread that looks at it. This thread decodes
    /// it, as by `deliver`, if that runs no user code, or if callbacks wait, which this thread runs. `settled`
    /// runs just before any other thread can see the result. Returns the listeners to notify, if there are
    /// any; with a future to open among them, if a callback was added in the last moment.
    ///
    /// # Safety
    /// As `deliver`.
    unsafe fn leave(
        self: Arc<Self>,
        value: Source<'_>,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Box<Notifications>>;
    /// It was killed.
    ///
    /// # Safety
    /// As `deliver`.
    unsafe fn killed(self: Arc<Self>, settled: &mut dyn FnMut(Verdict));
    /// What came of it is left to whoever looks at the future: how it counts, as far as is known, and who
    /// is to hear of it, if anybody is. Runs no user code.
    ///
    /// # Safety
    /// As `deliver`.
    unsafe fn arrive(
        self: Arc<Self>,
        outcome: RemoteOutcome<'_>,
    ) -> (Verdict, Option<Box<Notifications>>);
    /// Whether somebody is to hear at once when it is done.
    fn has_listeners(&self) -> bool;
    /// Whether it need not begin, as it belongs to a map that was dropped.
    fn is_abandoned(&self) -> bool {
        false
    }
}

impl DynPromise<dyn RemoteTask> {
    /// As [`RemoteTask::number`].
    pub(crate) fn number(&mut self) -> Option<(FunctionRef, Scalar)> {
        // SAFETY: this is the pledge.
        unsafe { (**self).number() }
    }

    /// As [`RemoteTask::take_message`].
    pub(crate) fn take_message(&mut self) -> (FunctionRef, Encoded) {
        // SAFETY: this is the pledge.
        unsafe { (**self).take_message() }
    }

    /// As [`RemoteTask::put_message`].
    pub(crate) fn put_message(&mut self, argument: Encoded) {
        // SAFETY: this is the pledge.
        unsafe { (**self).put_message(argument) }
    }

    /// As [`RemoteTask::deliver`].
    pub(crate) fn deliver(self, value: Source<'_>, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: this was the pledge.
        unsafe { self.into_inner().deliver(value, settled) }
    }

    /// As [`RemoteTask::leave`].
    pub(crate) fn leave(
        self,
        value: Source<'_>,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Box<Notifications>> {
        // SAFETY: this was the pledge.
        unsafe { self.into_inner().leave(value, settled) }
    }

    /// As [`RemoteTask::killed`].
    pub(crate) fn killed(self, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: this was the pledge.
        unsafe { self.into_inner().killed(settled) }
    }

    /// As [`RemoteTask::arrive`].
    pub(crate) fn arrive(
        self,
        outcome: RemoteOutcome<'_>,
    ) -> (Verdict, Option<Box<Notifications>>) {
        // SAFETY: this was the pledge.
        unsafe { self.into_inner().arrive(outcome) }
    }
}

/// What came of a task, as it arrives.
pub(crate) enum RemoteOutcome<'a> {
    /// Its result.
    Value(Source<'a>),
    /// Why there is none.
    Error(Error),
    /// It was killed.
    Killed,
}
