//! A task: function, arguments and promises, erased for the queues of the pools.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backlog::Removed;
use crate::error::{Error, PanicInfo};
use crate::future::{Expire, Future, FutureId, Owner, Promise, Verdict, pair, pairs};
use crate::label::{Function, TaskInfo};
use crate::options::TaskOptions;
use crate::process::bytes::Bytes;
use crate::process::codec;
use crate::process::entry::{self, Call};
use crate::process::request::{Request, Slot};
use crate::state::Start;
use crate::timer::Watched;
use crate::unwind::{self, Panic, discard};

/// What travels to a process: encoded by serde, without borrows, sent from thread to thread.
///
/// Implemented for every such type that owns its data (`String`, not `&str`), never by hand.
/// serde's own limits apply: the formats are not self-describing, so `serde_json::Value`, `#[serde(untagged)]`, `#[serde(flatten)]` and
/// `#[serde(skip_serializing_if)]` do not pass through them.
///
/// ```
/// use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// struct Point { x: f64, y: f64 }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let distance = pool.submit(|p: Point| p.x.hypot(p.y), Point { x: 3.0, y: 4.0 });
/// assert_eq!(distance.result()?, 5.0);
/// # Ok(())
/// # }
/// ```
pub trait Payload: Serialize + DeserializeOwned + Send + 'static {}

impl<T: Serialize + DeserializeOwned + Send + 'static> Payload for T {}

/// One accepted task, or one chunk of a map, its types erased: what an implementor of
/// [`Executor`](crate::Executor) queues and runs.
///
/// Dropping it settles its future as [`Error::Cancelled`].
///
/// ```
/// use concurrent_futures::{Error, Executor, Shutdown, Stats, Task};
///
/// /// Starts a thread a task.
/// struct Eager;
///
/// impl Executor for Eager {
///     fn max_workers(&self) -> usize { usize::MAX }
///     fn shutdown(&self, _: Shutdown) {}
///     fn stats(&self) -> Stats { Stats::default() }
///     fn execute(&self, task: Task) {
///         std::thread::spawn(|| task.run());
///     }
/// }
///
/// assert_eq!(Eager.submit(|x: u8| x + 1, 1).result()?, 2);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "dropping a task cancels its future"]
pub struct Task {
    /// What is to be done.
    job: Box<dyn Job>,
    /// What the user asked of it.
    options: TaskOptions,
}

impl Task {
    /// Runs the task here and now, and settles its future. A panic of the function is caught.
    /// (`Future.set_running_or_notify_cancel()`, then `set_result()` or `set_exception()`)
    pub fn run(self) {
        self.job.run(&NoHost);
    }

    /// Settles the task's future with an error instead of running it. (`Future.set_exception()`)
    ///
    /// ```
    /// use concurrent_futures::{Error, Executor, Shutdown, Stats, Task};
    ///
    /// /// Does nothing.
    /// struct Closed;
    ///
    /// impl Executor for Closed {
    ///     fn max_workers(&self) -> usize { 1 }
    ///     fn shutdown(&self, _: Shutdown) {}
    ///     fn stats(&self) -> Stats { Stats::default() }
    ///     fn execute(&self, task: Task) {
    ///         task.fail(Error::ShutDown);
    ///     }
    /// }
    ///
    /// assert!(matches!(Closed.submit(|x: u8| x + 1, 1).result(), Err(Error::ShutDown)));
    /// ```
    pub fn fail(self, error: Error) {
        self.job.fail(&error, &mut |_| ());
    }

    /// What the user asked of it.
    pub fn options(&self) -> TaskOptions {
        self.options
    }

    /// The name of its future; of the first item's, for a chunk of a map.
    #[must_use]
    pub fn id(&self) -> FutureId {
        self.job.id()
    }

    /// A task that may travel to a process.
    #[track_caller]
    pub(crate) fn portable<A: Payload, R: Payload>(
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        Self::portable_from(Location::caller(), options, function, argument)
    }

    /// As `portable`, on behalf of a caller at that place.
    pub(crate) fn portable_from<A: Payload, R: Payload>(
        location: &'static Location<'static>,
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        let (future, promise) = pair();
        let address = Function::Address((function as *const ()).addr());
        let job = Single {
            info: TaskInfo::new(options.given_name(), location, address),
            options,
            call: function,
            portable: Some(Portable::of(function)),
            argument,
            promise,
        };
        (Self::new(options, job), future)
    }

    /// A chunk of a map that may travel to a process.
    pub(crate) fn portable_chunk<A: Payload, R: Payload>(
        options: TaskOptions,
        info: TaskInfo,
        function: fn(A) -> R,
        arguments: Vec<A>,
        pace: &Arc<Pace>,
    ) -> (Self, Vec<Future<R>>) {
        Self::chunk(
            options,
            info,
            function,
            Some(Portable::of(function)),
            arguments,
            pace,
        )
    }

    /// A task of this process alone.
    #[track_caller]
    pub(crate) fn local<F, A, R>(options: TaskOptions, f: F, argument: A) -> (Self, Future<R>)
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (future, promise) = pair();
        let function = Function::Type(std::any::type_name::<F>());
        let job = Single {
            info: TaskInfo::new(options.given_name(), Location::caller(), function),
            options,
            call: f,
            portable: None,
            argument,
            promise,
        };
        (Self::new(options, job), future)
    }

    /// A chunk of a map, of this process alone.
    pub(crate) fn local_chunk<F, A, R>(
        options: TaskOptions,
        info: TaskInfo,
        f: &Arc<F>,
        arguments: Vec<A>,
        pace: &Arc<Pace>,
    ) -> (Self, Vec<Future<R>>)
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let f = Arc::clone(f);
        Self::chunk(
            options,
            info,
            move |argument| f(argument),
            None,
            arguments,
            pace,
        )
    }

    fn chunk<F, A, R>(
        options: TaskOptions,
        info: TaskInfo,
        call: F,
        portable: Option<Portable<A, R>>,
        arguments: Vec<A>,
        pace: &Arc<Pace>,
    ) -> (Self, Vec<Future<R>>)
    where
        F: FnMut(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (futures, promises): (Vec<_>, Vec<_>) = pairs(arguments.len()).into_iter().unzip();
        let job = Chunk {
            info,
            options,
            call,
            portable,
            items: arguments.into_iter().zip(promises).collect(),
            pace: Some(Arc::clone(pace)),
        };
        (Self::new(options, job), futures)
    }

    fn new(options: TaskOptions, job: impl Job + 'static) -> Self {
        Self {
            job: Box::new(job),
            options,
        }
    }

    // ---- for our own pools -------------------------------------------------------------------

    /// The name of its last future.
    pub(crate) fn last(&self) -> FutureId {
        self.job.last()
    }

    /// How many futures it settles.
    pub(crate) fn len(&self) -> usize {
        self.job.len()
    }

    /// Tells its futures which pool to turn to.
    pub(crate) fn attach(&self, owner: &Weak<dyn Owner>) {
        self.job.attach(owner);
    }

    /// Whether it settles the future of this name.
    pub(crate) fn contains(&self, id: FutureId) -> bool {
        self.job.contains(id)
    }

    /// Takes out an item; its argument is for the caller to drop, off locks.
    pub(crate) fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>> {
        self.job.remove(id)
    }

    /// Runs the task, telling a host of each item.
    pub(crate) fn run_on(self, host: &dyn Host) {
        self.job.run(host);
    }

    /// Settles every item with this error.
    pub(crate) fn fail_all(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.job.fail(error, settled);
    }

    /// Encodes every item for a process; those that cannot be are settled at once.
    pub(crate) fn into_outgoing(self, limit: u64, settled: &mut dyn FnMut(Verdict)) -> Outgoing {
        self.job.encode(limit, settled)
    }

    /// The argument of a task that was made of this function.
    pub(crate) fn into_argument<A: Payload, R: Payload>(self, _function: fn(A) -> R) -> A {
        let job = self.job.into_any().downcast::<Single<fn(A) -> R, A, R>>();
        match job {
            // The promise goes with its future, which nobody has seen.
            Ok(job) => job.argument,
            Err(_) => unreachable!("an executor gives back the task that it was given"),
        }
    }
}

/// A task, encoded.
pub(crate) enum Outgoing {
    /// What could not be encoded has settled.
    Nothing,
    /// A task.
    One(Request),
    /// A chunk of a map, and who wants to know how long its items take.
    Chunk(VecDeque<Request>, Option<Arc<Pace>>),
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// The worker that a task runs on.
pub(crate) trait Host {
    /// It is about to begin this item.
    fn begin(&self, id: FutureId);
    /// It has truly begun the item.
    fn begun(&self, id: FutureId);
    /// The item that it has just begun turned out to be cancelled.
    fn abandon(&self);
    /// Whether what has not begun is not to begin any more.
    fn cancels(&self) -> bool;
    /// The rest of the chunk will not begin.
    fn forget(&self);
    /// An item of that has settled.
    fn count(&self, verdict: Verdict);
    /// The item that it has begun may run for so long from now, while the answer lives.
    fn watch(&self, task: Weak<dyn Expire>, limit: Duration) -> Option<Watched>;
    /// The item's future is about to be done.
    fn end(&self, verdict: Verdict);
    /// Its index in its pool.
    fn index(&self) -> Option<usize>;
}

/// The host of a task that an implementor of `Executor` runs.
struct NoHost;

impl Host for NoHost {
    fn begin(&self, _: FutureId) {}
    fn begun(&self, _: FutureId) {}
    fn abandon(&self) {}
    fn cancels(&self) -> bool {
        false
    }
    fn forget(&self) {}
    fn count(&self, _: Verdict) {}
    fn watch(&self, _: Weak<dyn Expire>, _: Duration) -> Option<Watched> {
        None
    }
    fn end(&self, _: Verdict) {}
    fn index(&self) -> Option<usize> {
        None
    }
}

/// What a map learns from the executor that runs its chunks.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// What an item took lately; 0: not known.
    nanos_per_item: AtomicU64,
    /// Bytes encoded so far.
    encoded: AtomicU64,
}

impl Pace {
    /// What an item took lately, if any did.
    pub(crate) fn per_item(&self) -> Option<Duration> {
        // ORDERING: Relaxed; an estimate.
        let nanos = self.nanos_per_item.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Bytes encoded so far.
    pub(crate) fn encoded(&self) -> u64 {
        // ORDERING: Relaxed; written by the thread that reads it, inside `execute`.
        self.encoded.load(Ordering::Relaxed)
    }

    /// Notes that so many items took so long.
    pub(crate) fn note(&self, items: usize, took: Duration) {
        let nanos = took.as_nanos() / (items.max(1) as u128);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX).max(1);
        // ORDERING: Relaxed; an estimate.
        self.nanos_per_item.store(nanos, Ordering::Relaxed);
    }
}

/// What a [`Task`] does, its types erased.
trait Job: Send {
    fn id(&self) -> FutureId;
    fn last(&self) -> FutureId;
    fn len(&self) -> usize;
    fn attach(&self, owner: &Weak<dyn Owner>);
    fn contains(&self, id: FutureId) -> bool;
    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>>;
    fn run(self: Box<Self>, host: &dyn Host);
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict));
    fn encode(self: Box<Self>, limit: u64, settled: &mut dyn FnMut(Verdict)) -> Outgoing;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

/// A function and what it is called with.
struct Single<F, A, R> {
    /// Where it was submitted, and what.
    info: TaskInfo,
    /// What the user asked of it.
    options: TaskOptions,
    /// The function.
    call: F,
    /// How it travels, if it may.
    portable: Option<Portable<A, R>>,
    /// What it is called with.
    argument: A,
    /// Where the result goes.
    promise: Promise<R>,
}

impl<F, A, R> Job for Single<F, A, R>
where
    F: FnOnce(A) -> R + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn id(&self) -> FutureId {
        self.promise.id()
    }

    fn last(&self) -> FutureId {
        self.promise.id()
    }

    fn len(&self) -> usize {
        1
    }

    fn attach(&self, owner: &Weak<dyn Owner>) {
        self.promise.attach(owner);
    }

    fn contains(&self, id: FutureId) -> bool {
        self.promise.id() == id
    }

    fn remove(&mut self, _: FutureId) -> Option<Box<dyn Removed>> {
        None // only whole
    }

    fn run(self: Box<Self>, host: &dyn Host) {
        let Self {
            info,
            options,
            call,
            argument,
            promise,
            ..
        } = *self;
        if begin(&promise, host) == Start::Cancelled {
            // The function may be a closure, whose captures have a `Drop`.
            return discard((call, argument));
        }
        let outcome = call_in_time(&promise, options, info, host, move || call(argument));
        promise.settle(outcome, |verdict| host.end(verdict));
    }

    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        let Self {
            call,
            argument,
            promise,
            ..
        } = *self;
        discard((call, argument));
        promise.settle(Err(error.clone()), settled);
    }

    fn encode(self: Box<Self>, limit: u64, settled: &mut dyn FnMut(Verdict)) -> Outgoing {
        let Self {
            info,
            options,
            portable: Some(portable),
            argument,
            promise,
            ..
        } = *self
        else {
            unreachable!("only portable tasks reach a process pool")
        };
        match portable.encode(argument, info, limit) {
            Ok(encoded) => Outgoing::One(portable.request(promise, info, options, encoded)),
            Err(error) => {
                promise.settle(Err(error), settled);
                Outgoing::Nothing
            }
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Tells the host that an item begins, unless it was cancelled.
fn begin<R>(promise: &Promise<R>, host: &dyn Host) -> Start {
    host.begin(promise.id());
    let start = promise.start();
    match start {
        Start::Begun => host.begun(promise.id()),
        Start::Cancelled => host.abandon(),
    }
    start
}

/// Calls an item's function; what comes too late is none.
fn call_in_time<R: Send + 'static>(
    promise: &Promise<R>,
    options: TaskOptions,
    info: TaskInfo,
    host: &dyn Host,
    call: impl FnOnce() -> R,
) -> Result<R, Error> {
    let run = || unwind::catch(call).map_err(|panic| panicked(panic, info, host.index()));
    let Some(limit) = options.given_timeout() else {
        return run();
    };
    let begun = Instant::now();
    let watched = host.watch(promise.expiring(), limit);
    let outcome = run();
    drop(watched);
    if begun.elapsed() >= limit {
        discard(outcome);
        return Err(Error::TaskTimeout { limit });
    }
    outcome
}

/// A function and the items that it is called with, one after the other.
struct Chunk<F, A, R> {
    /// Where it was submitted, and what.
    info: TaskInfo,
    /// What the user asked of each item.
    options: TaskOptions,
    /// The function.
    call: F,
    /// How it travels, if it may.
    portable: Option<Portable<A, R>>,
    /// Arguments, and where results go; names ascend.
    items: VecDeque<(A, Promise<R>)>,
    /// Who wants to know how long items take.
    pace: Option<Arc<Pace>>,
}

impl<F, A, R> Job for Chunk<F, A, R>
where
    F: FnMut(A) -> R + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn id(&self) -> FutureId {
        let first = self.items.front().map(|(_, promise)| promise.id());
        first.unwrap_or_else(|| unreachable!("chunks without items are not made, nor kept"))
    }

    fn last(&self) -> FutureId {
        self.items
            .back()
            .map_or_else(|| self.id(), |(_, promise)| promise.id())
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn attach(&self, owner: &Weak<dyn Owner>) {
        for (_, promise) in &self.items {
            promise.attach(owner);
        }
    }

    fn contains(&self, id: FutureId) -> bool {
        self.items
            .binary_search_by_key(&id, |(_, p)| p.id())
            .is_ok()
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>> {
        let at = self.items.binary_search_by_key(&id, |(_, p)| p.id());
        let item = self.items.remove(at.ok()?)?;
        Some(Box::new(item))
    }

    fn run(mut self: Box<Self>, host: &dyn Host) {
        let begun = Instant::now();
        let mut count = 0;
        while let Some((argument, promise)) = self.items.pop_front() {
            if count > 0 && host.cancels() {
                self.items.push_front((argument, promise));
                host.forget();
                break;
            }
            if begin(&promise, host) == Start::Cancelled {
                discard(argument);
                continue;
            }
            count += 1;
            let call = &mut self.call;
            let outcome = call_in_time(&promise, self.options, self.info, host, || call(argument));
            if let (true, Some(pace)) = (self.items.is_empty(), &self.pace) {
                pace.note(count, begun.elapsed());
            }
            promise.settle(outcome, |verdict| host.end(verdict));
        }
        fail_each(self.items.drain(..), &Error::Cancelled, &mut |v| {
            host.count(v)
        });
        // The function may be a closure, whose captures have a `Drop`.
        discard(self);
    }

    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        fail_each(self.items.into_iter(), error, settled);
    }

    fn encode(self: Box<Self>, limit: u64, settled: &mut dyn FnMut(Verdict)) -> Outgoing {
        let Some(portable) = self.portable else {
            unreachable!("only portable tasks reach a process pool")
        };
        let mut requests = VecDeque::with_capacity(self.items.len());
        for (argument, promise) in self.items {
            match portable.encode(argument, self.info, limit) {
                Ok(encoded) => {
                    if let Some(pace) = &self.pace {
                        // ORDERING: Relaxed; read by the thread that writes it.
                        pace.encoded
                            .fetch_add(encoded.1.len() as u64, Ordering::Relaxed);
                    }
                    let request = portable.request(promise, self.info, self.options, encoded);
                    requests.push_back(request);
                }
                Err(error) => promise.settle(Err(error), &mut *settled),
            }
        }
        match requests.is_empty() {
            true => Outgoing::Nothing,
            false => Outgoing::Chunk(requests, self.pace),
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<A: Send, R: Send> Removed for (A, Promise<R>) {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        fail_each(std::iter::once(*self), error, settled);
    }
}

/// Settles items that will not run.
fn fail_each<A, R>(
    items: impl Iterator<Item = (A, Promise<R>)>,
    error: &Error,
    settled: &mut dyn FnMut(Verdict),
) {
    for (argument, promise) in items {
        discard(argument);
        promise.settle(Err(error.clone()), &mut *settled);
    }
}

fn panicked(panic: Panic, info: TaskInfo, worker: Option<usize>) -> Error {
    Error::Panicked(PanicInfo::new(panic, Some(info), worker))
}

/// How a task travels: what needs the types' serde impls, as plain functions.
struct Portable<A, R> {
    /// The function.
    function: fn(A) -> R,
    /// Names it to a worker.
    export: Export<A, R>,
    /// Encodes an argument.
    encode: fn(&A, u64) -> Result<Bytes, Error>,
    /// Decodes a result.
    decode: fn(&[u8]) -> Result<R, Error>,
}

/// Names a function to a worker.
type Export<A, R> = fn(fn(A) -> R) -> Result<Call, Error>;

impl<A: Payload, R: Payload> Portable<A, R> {
    fn of(function: fn(A) -> R) -> Self {
        Self {
            function,
            export: entry::export,
            encode: codec::encode,
            decode: codec::decode,
        }
    }
}

impl<A, R: Send + 'static> Portable<A, R> {
    /// The task, on its way.
    fn request(
        &self,
        promise: Promise<R>,
        info: TaskInfo,
        options: TaskOptions,
        (call, mut argument): (Call, Bytes),
    ) -> Request {
        let given = argument.take_manifest();
        let reply = Box::new(Slot::new(promise, info, self.decode).keeping(given));
        Request {
            call,
            argument,
            options,
            attempts: 0,
            returns: 0,
            reply,
        }
    }

    /// Names the function and encodes an argument, which is dropped here.
    fn encode(&self, argument: A, info: TaskInfo, limit: u64) -> Result<(Call, Bytes), Error> {
        let call = (self.export)(self.function);
        let bytes = unwind::catch(|| (self.encode)(&argument, limit))
            .unwrap_or_else(|panic| Err(panicked(panic, info, None)));
        unwind::catch(|| drop(argument)).map_err(|panic| panicked(panic, info, None))?;
        Ok((call?, bytes?))
    }
}
