//! One task on its way to a worker: what is sent, and where its outcome settles.

use crate::error::{Error, PanicInfo};
use crate::future::{FutureId, News, Promise, Verdict};
use crate::label::TaskInfo;
use crate::options::TaskOptions;
use crate::process::bytes::Bytes;
use crate::process::codec::Source;
use crate::process::entry::Call;
use crate::process::memory::manifest::Manifest;
use crate::state::{Contents, Letter, Start};
use crate::unwind;

/// A task, encoded.
pub(crate) struct Request {
    /// What to call.
    pub(crate) call: Call,
    /// With what.
    pub(crate) argument: Bytes,
    /// What the user asked of it.
    pub(crate) options: TaskOptions,
    /// How often a worker has begun it.
    pub(crate) attempts: u32,
    /// How often it returned, never having been read by a worker.
    pub(crate) returns: u32,
    /// Where the outcome goes.
    pub(crate) reply: Box<dyn Reply>,
}

impl Request {
    /// A task that no worker has begun.
    pub(crate) fn new(
        call: Call,
        argument: Bytes,
        options: TaskOptions,
        reply: Box<dyn Reply>,
    ) -> Self {
        Self {
            call,
            argument,
            options,
            attempts: 0,
            returns: 0,
            reply,
        }
    }
}

/// The promise of a [`Request`], its type erased: the one place where the outcome of a process's
/// task settles.
pub(crate) trait Reply: Send {
    fn id(&self) -> FutureId;
    fn info(&self) -> TaskInfo;
    /// The worker begins it, unless it was cancelled.
    fn start(&self) -> Start;
    /// The worker was lost before it touched the task.
    fn put_back(&self);
    /// The worker's result arrived.
    fn deliver(self: Box<Self>, value: Source<'_>, settled: &mut dyn FnMut(Verdict));
    /// There is no result.
    fn fail(self: Box<Self>, error: Error, settled: &mut dyn FnMut(Verdict));
    /// It was killed.
    fn killed(self: Box<Self>, settled: &mut dyn FnMut(Verdict));
    /// What came of it is left to whoever looks at the future.
    fn arrive(self: Box<Self>, outcome: Encoded) -> News;
    /// Whether somebody is to hear at once when it is done.
    fn is_hooked(&self) -> bool;
    /// Whether it need not begin, as it belongs to a map that was dropped.
    fn is_abandoned(&self) -> bool {
        false
    }
}

/// What came of a task, as it arrives.
pub(crate) enum Encoded {
    /// Its result.
    Value(Bytes),
    /// Why there is none.
    Error(Error),
    /// It was killed.
    Killed,
}

/// The [`Reply`] of a task that returns `R`.
pub(crate) struct Slot<R> {
    /// Where the outcome goes; `None` once the slot is what has arrived there.
    promise: Option<Promise<R>>,
    /// What errors say of the task.
    info: TaskInfo,
    /// How the result is decoded.
    decode: fn(Source<'_>) -> Result<R, Error>,
    /// The result, once the slot is what has arrived.
    value: Option<Bytes>,
    /// The shared memory that the argument names, which the result may name again.
    #[expect(dead_code, reason = "it is there to be dropped with the slot")]
    given: Manifest,
}

impl<R> Slot<R> {
    pub(crate) fn new(
        promise: Promise<R>,
        info: TaskInfo,
        decode: fn(Source<'_>) -> Result<R, Error>,
    ) -> Self {
        Self {
            promise: Some(promise),
            info,
            decode,
            value: None,
            given: Manifest::default(),
        }
    }

    /// Keeps the shared memory that the argument names until the result was decoded.
    pub(crate) fn keeping(self, given: Manifest) -> Self {
        Self { given, ..self }
    }

    fn promise(&self) -> &Promise<R> {
        match &self.promise {
            Some(promise) => promise,
            None => unreachable!("what has arrived is no reply any more"),
        }
    }

    fn into_promise(self) -> Promise<R> {
        match self.promise {
            Some(promise) => promise,
            None => unreachable!("what has arrived is no reply any more"),
        }
    }

    fn decode(&self, value: Source<'_>) -> Result<R, Error> {
        unwind::catch(|| (self.decode)(value)).unwrap_or_else(|panic| {
            let info = PanicInfo::new(panic, Some(self.info), None);
            Err(Error::Panicked(info))
        })
    }
}

impl<R: Send> Contents<R> for Slot<R> {
    fn open(mut self: Box<Self>) -> Result<R, Error> {
        match self.value.take() {
            Some(value) => self.decode(Source::Given(value)),
            None => unreachable!("what has arrived was laid down"),
        }
    }
}

impl<R: Send + 'static> Reply for Slot<R> {
    fn id(&self) -> FutureId {
        self.promise().id()
    }

    fn info(&self) -> TaskInfo {
        self.info
    }

    fn start(&self) -> Start {
        self.promise().start()
    }

    fn put_back(&self) {
        self.promise().put_back();
    }

    fn deliver(self: Box<Self>, value: Source<'_>, settled: &mut dyn FnMut(Verdict)) {
        let outcome = self.decode(value);
        self.into_promise().settle(outcome, settled);
    }

    fn fail(self: Box<Self>, error: Error, settled: &mut dyn FnMut(Verdict)) {
        self.into_promise().settle(Err(error), settled);
    }

    fn killed(self: Box<Self>, settled: &mut dyn FnMut(Verdict)) {
        self.into_promise().settle_killed(settled);
    }

    fn arrive(mut self: Box<Self>, outcome: Encoded) -> News {
        match (outcome, self.promise.take()) {
            (Encoded::Value(value), Some(promise)) => {
                self.value = Some(value);
                promise.arrive(Letter::Value(self))
            }
            (Encoded::Error(error), Some(promise)) => promise.arrive(Letter::Error(error)),
            (Encoded::Killed, Some(promise)) => promise.arrive(Letter::Killed),
            (_, None) => unreachable!("what has arrived is no reply any more"),
        }
    }

    fn is_hooked(&self) -> bool {
        self.promise().is_hooked()
    }
}
