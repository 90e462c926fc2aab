//! A task: function, arguments and promises, erased for the queues of the pools.

pub(crate) mod bit_set;
pub(crate) mod timeout;
pub(crate) mod results;
pub(crate) mod request;
pub(crate) mod portable;
pub(crate) mod item_batch;

use std::any::Any;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::{self, Clock, Pauses};
use crate::error::{Error, PanicInfo};
use crate::future::dyn_promise::Pledge;
use crate::future::id::FutureId;
use crate::future::pool_registry::PoolNumber;
use crate::future::state::{Outcome, Start};
use crate::future::{Body, Contract, Expire, Future, Promise, Settle, Verdict, pair};
use crate::options::{TaskOptions, Wishes};
use crate::pool::backlog::Removed;
use crate::remote::codec;
use crate::remote::context::{Context, Prefix};
use crate::remote::function::{self, Call};
use crate::remote::lease::Room;
use crate::remote::payload::Payload;
use crate::remote::pod;
use crate::sync::exclusive_cell::Holding;
use crate::task::item_batch::{Packer, Part};
use crate::task::portable::Errand;
use crate::task::request::Reply;
use crate::task::results::{Batch, Decode, Expiring, Listener, Pace};
use crate::task::timeout::Watched;
use crate::task_info::{Function, TaskInfo};
use crate::unwind::{self, Panic, discard};

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
pub struct Task(
    /// What is to be done.
    Work,
);

/// What is to be done by a [`Task`].
enum Work {
    /// One task.
    One(Pledge<dyn Job>),
    /// A chunk of a map.
    Chunk(Box<dyn ChunkJob>),
}

impl Task {
    /// Runs the task here and now, and settles its future. A panic of the function is caught.
    /// (`Future.set_running_or_notify_cancel()`, then `set_result()` or `set_exception()`)
    pub fn run(self) {
        self.run_on(&NoHost);
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
        self.fail_all(&error, &mut |_| ());
    }

    /// What the user asked of it.
    pub fn options(&self) -> TaskOptions {
        match &self.0 {
            Work::One(job) => job.options(),
            Work::Chunk(chunk) => chunk.options(),
        }
    }

    /// The name of its future; of the first item's, for a chunk of a map.
    #[must_use]
    pub fn id(&self) -> FutureId {
        match &self.0 {
            Work::One(job) => job.id(),
            Work::Chunk(chunk) => chunk.id(),
        }
    }

    /// A task that may travel to a process.
    #[inline]
    #[track_caller]
    pub(crate) fn portable<A: Payload, R: Payload>(
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        Self::portable_from(Location::caller(), options, function, argument)
    }

    /// As `portable`, on behalf of a caller at that place.
    #[inline]
    pub(crate) fn portable_from<A: Payload, R: Payload>(
        location: &'static Location<'static>,
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        let (future, promise) = pair(Errand::new(location, options, function, argument));
        let job: Arc<dyn Job> = promise.into_contract();
        (Self(Work::One(Pledge::new(job))), future)
    }

    /// A chunk of a map that may travel to a process, and where its outcomes come.
    pub(crate) fn portable_chunk<A: Payload, R: Payload>(
        chunk: ChunkPlan<'_, A>,
        function: fn(A) -> R,
    ) -> (Self, Arc<Batch<R>>) {
        Self::chunk(chunk, function, Some(Portable::of(function)))
    }

    /// A chunk of a map that may travel to a process, whose items are all given the same.
    pub(crate) fn portable_chunk_in<C, A, R>(
        chunk: ChunkPlan<'_, A>,
        function: fn(&C, A) -> R,
        context: &Arc<Context<C>>,
    ) -> (Self, Arc<Batch<R>>)
    where
        C: Payload + Sync,
        A: Payload,
        R: Payload,
    {
        let portable = Portable {
            call: function::export_in_context(function),
            prefix: Some(Arc::clone(context) as Arc<dyn Prefix>),
            ..Portable::coded(Err(Error::Cancelled))
        };
        let context = Arc::clone(context);
        let call = move |argument| function(context.value(), argument);
        Self::chunk(chunk, call, Some(portable))
    }

    /// A task of this process alone.
    #[track_caller]
    pub(crate) fn local<F, A, R>(options: TaskOptions, f: F, argument: A) -> (Self, Future<R>)
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (future, promise) = pair(Single {
            location: Location::caller(),
            wishes: Wishes::new(options),
            call: Holding::new(Some((f, argument))),
        });
        let job: Arc<dyn Job> = promise.into_contract();
        (Self(Work::One(Pledge::new(job))), future)
    }

    /// A chunk of a map, of this process alone, and where its outcomes come.
    pub(crate) fn local_chunk<F, A, R>(chunk: ChunkPlan<'_, A>, f: &Arc<F>) -> (Self, Arc<Batch<R>>)
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let f = Arc::clone(f);
        Self::chunk(chunk, move |argument| f(argument), None)
    }

    fn chunk<F, A, R>(
        chunk: ChunkPlan<'_, A>,
        call: F,
        portable: Option<Portable<A, R>>,
    ) -> (Self, Arc<Batch<R>>)
    where
        F: FnMut(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let ChunkPlan {
            options,
            info,
            arguments,
            pace,
            listener,
        } = chunk;
        let decode = portable.as_ref().map(|portable| portable.decode);
        let batch = Batch::new(arguments.len(), info, decode, pace, listener);
        let job = Chunk {
            info,
            options,
            call,
            portable,
            items: (0..).zip(arguments).collect(),
            batch: Arc::clone(&batch),
        };
        (Self(Work::Chunk(Box::new(job))), batch)
    }

    // ---- for our own pools -------------------------------------------------------------------

    /// The name of its last future.
    pub(crate) fn last(&self) -> FutureId {
        match &self.0 {
            Work::One(job) => job.id(),
            Work::Chunk(chunk) => chunk.last(),
        }
    }

    /// How many futures it settles.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Work::One(_) => 1,
            Work::Chunk(chunk) => chunk.len(),
        }
    }

    /// Tells its futures which pool to turn to.
    pub(crate) fn attach(&self, pool: PoolNumber) {
        match &self.0 {
            Work::One(job) => job.attach(pool),
            Work::Chunk(chunk) => chunk.attach(pool),
        }
    }

    /// Whether it settles the future of this name.
    pub(crate) fn contains(&self, id: FutureId) -> bool {
        match &self.0 {
            Work::One(job) => job.id() == id,
            Work::Chunk(chunk) => chunk.contains(id),
        }
    }

    /// Takes out an item; its argument is for the caller to drop, off locks.
    pub(crate) fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>> {
        match &mut self.0 {
            Work::One(_) => None, // only whole
            Work::Chunk(chunk) => chunk.remove(id),
        }
    }

    /// Runs the task, telling a host of each item.
    pub(crate) fn run_on(self, host: &dyn Host) {
        match self.0 {
            // SAFETY: this was the pledge.
            Work::One(job) => unsafe { job.redeem().run(host) },
            Work::Chunk(chunk) => chunk.run(host),
        }
    }

    /// Settles every item with this error.
    pub(crate) fn fail_all(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        match self.0 {
            Work::One(job) => job.fail(error.clone(), settled),
            Work::Chunk(chunk) => chunk.fail(error, settled),
        }
    }

    /// Encodes every item for a process, a task's large argument into the room if there is some; those
    /// that cannot be are settled at once.
    #[inline]
    pub(crate) fn into_outgoing(
        self,
        limit: u64,
        room: &dyn Room,
        settled: &mut dyn FnMut(Verdict),
    ) -> Outgoing {
        match self.0 {
            Work::One(job) => {
                // SAFETY: this was the pledge.
                let encoded = unsafe { job.redeem().encode(limit, room, settled) };
                encoded.map_or(Outgoing::Nothing, |task| Outgoing::One(Pledge::new(task)))
            }
            Work::Chunk(chunk) => chunk.encode(limit, room, settled),
        }
    }

    /// The argument of a task that was made of this function.
    pub(crate) fn into_argument<A: Payload, R: Payload>(self, _function: fn(A) -> R) -> A {
        let argument = match self.0 {
            Work::One(job) => job.redeem().into_any(),
            Work::Chunk(_) => unreachable!("only single tasks are given back"),
        };
        match argument
            .downcast::<Contract<R, Errand<A, R>>>()
            .map(Promise::of)
        {
            // The promise goes with its future, which nobody has seen.
            // SAFETY: and this is it.
            Ok(promise) => unsafe { promise.take_argument() },
            Err(_) => unreachable!("an executor gives back the task that it was given"),
        }
    }
}

/// A chunk of a map, before it is one.
pub(crate) struct ChunkPlan<'a, A> {
    /// What the user asked of each item.
    pub(crate) options: TaskOptions,
    /// What errors say of each item.
    pub(crate) info: TaskInfo,
    /// What the function is called with.
    pub(crate) arguments: Vec<A>,
    /// What the map learns of its items.
    pub(crate) pace: &'a Arc<Pace>,
    /// Told whenever something has come.
    pub(crate) listener: Option<Listener>,
}

/// A task, encoded.
pub(crate) enum Outgoing {
    /// What could not be encoded, or was cancelled before, has settled.
    Nothing,
    /// A task.
    One(Pledge<dyn Reply>),
    /// A chunk of a map.
    Many(Vec<Part>),
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id())
            .field("options", &self.options())
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
    fn watch(&self, task: Arc<dyn Expire>, limit: Duration) -> Option<Watched>;
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
    fn watch(&self, _: Arc<dyn Expire>, _: Duration) -> Option<Watched> {
        None
    }
    fn end(&self, _: Verdict) {}
    fn index(&self) -> Option<usize> {
        None
    }
}

/// A task's contract, its types erased.
trait Job: Settle {
    fn options(&self) -> TaskOptions;
    fn attach(&self, pool: PoolNumber);
    /// # Safety
    /// The caller had the task's one pledge, and has given it up for this.
    unsafe fn run(self: Arc<Self>, host: &dyn Host);
    /// The task, encoded; `None`: it could not be, or was cancelled, and has settled.
    ///
    /// # Safety
    /// As `run`.
    unsafe fn encode(
        self: Arc<Self>,
        limit: u64,
        room: &dyn Room,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn Reply>>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// A function of this process alone, and what it is called with.
struct Single<F, A> {
    /// Where it was submitted.
    location: &'static Location<'static>,
    /// What the user asked of it.
    wishes: Wishes,
    /// Function and argument; `None` once it is called, or never will be.
    call: Holding<Option<(F, A)>>,
}

impl<F, A, R> Body<R> for Single<F, A>
where
    F: FnOnce(A) -> R + Send + 'static,
    A: Send + 'static,
{
    unsafe fn discard(&self) {
        // The function may be a closure, whose captures have a `Drop`.
        // SAFETY: the caller's promise.
        discard(unsafe { self.call.replace(None) });
    }

    unsafe fn open(&self) -> Outcome<R> {
        unreachable!("what is of this process alone does not arrive from another")
    }
}

impl<F, A, R> Job for Contract<R, Single<F, A>>
where
    F: FnOnce(A) -> R + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn options(&self) -> TaskOptions {
        self.body().wishes.options()
    }

    fn attach(&self, pool: PoolNumber) {
        Self::attach(self, pool);
    }

    unsafe fn run(self: Arc<Self>, host: &dyn Host) {
        let promise = Promise::of(self);
        let function = Function::Type(std::any::type_name::<F>());
        let info = TaskInfo::new(
            promise.wishes.options().given_name(),
            promise.location,
            function,
        );
        run_single(promise, info, host, |promise| {
            // SAFETY: this is the promise.
            let taken = unsafe { promise.call.replace(None) };
            match taken {
                Some((call, argument)) => move || call(argument),
                None => unreachable!("it is called once"),
            }
        });
    }

    unsafe fn encode(
        self: Arc<Self>,
        _: u64,
        _: &dyn Room,
        _: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn Reply>> {
        unreachable!("only portable tasks reach a process pool")
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<A: Payload, R: Payload> Job for Contract<R, Errand<A, R>> {
    fn options(&self) -> TaskOptions {
        self.body().options()
    }

    fn attach(&self, pool: PoolNumber) {
        Self::attach(self, pool);
    }

    unsafe fn run(self: Arc<Self>, host: &dyn Host) {
        let promise = Promise::of(self);
        let info = promise.info();
        run_single(promise, info, host, |promise| {
            // SAFETY: this is the promise.
            let argument = unsafe { promise.take_argument() };
            let function = promise.function();
            move || function(argument)
        });
    }

    unsafe fn encode(
        self: Arc<Self>,
        limit: u64,
        room: &dyn Room,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn Reply>> {
        if self.is_cancelled() {
            drop(Promise::of(self));
            return None;
        }
        // SAFETY: the caller's promise.
        match unsafe { self.body().encode(limit, room) } {
            // Encoding runs user code, and may take its time: it was cancelled meanwhile.
            Ok(()) if self.is_cancelled() => {
                drop(Promise::of(self));
                None
            }
            Ok(()) => Some(self),
            Err(error) => {
                Promise::of(self).settle(Err(error), settled);
                None
            }
        }
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Runs a task here, unless it was cancelled; `take` takes out what is called.
fn run_single<R, B, C>(
    promise: Promise<R, B>,
    info: TaskInfo,
    host: &dyn Host,
    take: impl FnOnce(&Promise<R, B>) -> C,
) where
    R: Send + 'static,
    B: Body<R> + 'static,
    C: FnOnce() -> R,
    Contract<R, B>: Job,
{
    if begin(&promise, host) == Start::Cancelled {
        return;
    }
    let expiring = || promise.expiring();
    let (options, call) = (promise.contract().options(), take(&promise));
    let outcome = call_in_time(expiring, options, info, host, call);
    promise.settle(outcome, |verdict| host.end(verdict));
}

/// Tells the host that an item begins, unless it was cancelled.
fn begin<R, B>(promise: &Promise<R, B>, host: &dyn Host) -> Start
where
    R: Send + 'static,
    B: Body<R> + 'static,
{
    let id = promise.contract().id();
    host.begin(id);
    let start = promise.start();
    match start {
        Start::Begun => host.begun(id),
        Start::Cancelled => host.abandon(),
    }
    start
}

/// Calls an item's function; what comes too late is none.
fn call_in_time<R: Send + 'static>(
    expiring: impl FnOnce() -> Arc<dyn Expire>,
    options: TaskOptions,
    info: TaskInfo,
    host: &dyn Host,
    call: impl FnOnce() -> R,
) -> Result<R, Error> {
    let run = || unwind::catch(call).map_err(|panic| panicked(panic, info, host.index()));
    let Some(limit) = options.given_timeout() else {
        return run();
    };
    let clock = Rc::new(Stopwatch {
        begun: Instant::now(),
        limit,
        pauses: RefCell::default(),
        watched: host.watch(expiring(), limit),
    });
    let outcome = clock::measured(Rc::<Stopwatch>::clone(&clock), run);
    let took = clock.elapsed();
    drop(clock);
    if took >= limit {
        discard(outcome);
        return Err(Error::TaskTimeout { limit });
    }
    outcome
}

/// The clock of an item that has a time limit.
struct Stopwatch {
    /// When the item began.
    begun: Instant,
    /// How long it may run.
    limit: Duration,
    /// What of its time does not count.
    pauses: RefCell<Pauses>,
    /// Has it expire; `None` where nobody does until it has returned.
    watched: Option<Watched>,
}

impl Stopwatch {
    /// How long the item has run, as far as that counts.
    fn elapsed(&self) -> Duration {
        let delay = self.pauses.borrow().delay();
        self.begun.elapsed().saturating_sub(delay)
    }

    /// Puts the end of the item off, by as much as does not count.
    fn put_off(&self) {
        let delay = self.pauses.borrow().delay();
        let deadline = self.begun.checked_add(self.limit.saturating_add(delay));
        if let (Some(watched), Some(deadline)) = (&self.watched, deadline) {
            watched.expire_at(deadline);
        }
    }
}

impl Clock for Stopwatch {
    fn stop(&self) {
        self.pauses.borrow_mut().begin(Instant::now());
        self.put_off();
    }

    fn go_on(&self) {
        self.pauses.borrow_mut().end(Instant::now());
        self.put_off();
    }
}

/// What a chunk of a map does, its types erased.
trait ChunkJob: Send {
    fn options(&self) -> TaskOptions;
    fn id(&self) -> FutureId;
    fn last(&self) -> FutureId;
    fn len(&self) -> usize;
    fn attach(&self, pool: PoolNumber);
    fn contains(&self, id: FutureId) -> bool;
    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>>;
    fn run(self: Box<Self>, host: &dyn Host);
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict));
    fn encode(
        self: Box<Self>,
        limit: u64,
        room: &dyn Room,
        settled: &mut dyn FnMut(Verdict),
    ) -> Outgoing;
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
    /// Indexes, ascending, and arguments.
    items: VecDeque<(usize, A)>,
    /// Where outcomes go.
    batch: Arc<Batch<R>>,
}

impl<F, A, R> ChunkJob for Chunk<F, A, R>
where
    F: FnMut(A) -> R + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn options(&self) -> TaskOptions {
        self.options
    }

    fn id(&self) -> FutureId {
        self.batch
            .id(self.items.front().map_or(0, |(index, _)| *index))
    }

    fn last(&self) -> FutureId {
        let last = self.items.back();
        last.map_or_else(|| self.id(), |(index, _)| self.batch.id(*index))
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn attach(&self, pool: PoolNumber) {
        self.batch.attach(pool);
    }

    fn contains(&self, id: FutureId) -> bool {
        self.at(id).is_some()
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Removed>> {
        let (index, argument) = self.items.remove(self.at(id)?)?;
        Some(Box::new(Item {
            batch: Arc::clone(&self.batch),
            index,
            argument,
        }))
    }

    fn run(mut self: Box<Self>, host: &dyn Host) {
        let begun = Instant::now();
        let mut count = 0;
        while let Some((index, argument)) = self.items.pop_front() {
            if self.batch.is_abandoned() || (count > 0 && host.cancels()) {
                self.items.push_front((index, argument));
                host.forget();
                break;
            }
            let id = self.batch.id(index);
            host.begin(id);
            host.begun(id);
            count += 1;
            let batch = &self.batch;
            let expiring = || -> Arc<dyn Expire> {
                let batch = Arc::clone(batch);
                Arc::new(Expiring { batch, index })
            };
            let call = &mut self.call;
            let outcome = call_in_time(expiring, self.options, self.info, host, || call(argument));
            if self.items.is_empty() {
                self.batch.pace().note(count, begun.elapsed());
            }
            self.batch
                .settle(index, outcome, |verdict| host.end(verdict));
        }
        self.cancel_rest(&Error::Cancelled, &mut |verdict| host.count(verdict));
        // The function may be a closure, whose captures have a `Drop`.
        discard(self);
    }

    fn fail(mut self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.cancel_rest(error, settled);
        discard(self);
    }

    fn encode(
        mut self: Box<Self>,
        limit: u64,
        room: &dyn Room,
        settled: &mut dyn FnMut(Verdict),
    ) -> Outgoing {
        let Some(portable) = self.portable.take() else {
            unreachable!("only portable tasks reach a process pool")
        };
        let call = match portable.call.clone() {
            Ok(call) => call,
            Err(error) => {
                self.cancel_rest(&error, settled);
                return Outgoing::Nothing;
            }
        };
        let mut packing = Packing {
            packer: Packer::new(&self.batch, self.options, call, self.items.len()),
            prefix: portable.prefix.as_deref(),
            limit,
            room,
            at: 0,
            bytes: 0,
        };
        while !self.items.is_empty() {
            let packed = unwind::catch(|| (portable.pack)(&mut self.items, &mut packing));
            let packed = packed.unwrap_or_else(|panic| Err(panicked(panic, self.info, None)));
            if let Err(error) = packed {
                self.batch.settle(packing.at, Err(error), &mut *settled);
            }
        }
        let Packing { packer, bytes, .. } = packing;
        self.batch.pace().note_bytes(bytes);
        match packer.into_parts() {
            parts if parts.is_empty() => Outgoing::Nothing,
            parts => Outgoing::Many(parts),
        }
    }
}

impl<F, A, R> Chunk<F, A, R> {
    /// Where the item of that name is.
    fn at(&self, id: FutureId) -> Option<usize> {
        let index = self.batch.index_of(id)?;
        self.items.binary_search_by_key(&index, |(i, _)| *i).ok()
    }

    /// Settles what has not begun.
    fn cancel_rest(&mut self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        while let Some((index, argument)) = self.items.pop_front() {
            discard(argument);
            self.batch.settle(index, Err(error.clone()), &mut *settled);
        }
    }
}

/// Dropping a chunk cancels what has not begun.
impl<F, A, R> Drop for Chunk<F, A, R> {
    fn drop(&mut self) {
        self.cancel_rest(&Error::Cancelled, &mut |_| ());
    }
}

/// An item that was taken out of its chunk.
struct Item<A, R> {
    /// Where its outcome goes.
    batch: Arc<Batch<R>>,
    /// Which it is.
    index: usize,
    /// What its function would have been called with.
    argument: A,
}

impl<A: Send, R: Send> Removed for Item<A, R> {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        discard(self.argument);
        self.batch.settle(self.index, Err(error.clone()), settled);
    }
}

fn panicked(panic: Panic, info: TaskInfo, worker: Option<usize>) -> Error {
    Error::Panicked(PanicInfo::new(panic, Some(info), worker))
}

/// How a task travels: what needs the types' serde impls, as plain functions.
struct Portable<A, R> {
    /// Names the function to a worker.
    call: Result<Call, Error>,
    /// What stands before each item of a map.
    prefix: Option<Arc<dyn Prefix>>,
    /// Packs items, up to the first that cannot be encoded.
    pack: Pack<A>,
    /// Decodes a result.
    decode: Decode<R>,
}

impl<A: Payload, R: Payload> Portable<A, R> {
    fn of(function: fn(A) -> R) -> Self {
        Self::coded(function::export(function))
    }

    fn coded(call: Result<Call, Error>) -> Self {
        Self {
            call,
            prefix: None,
            pack: pack_items,
            decode: Decode {
                one: codec::unpack,
                all: codec::unpack_all,
            },
        }
    }
}

/// Packs indexed arguments.
type Pack<A> = fn(&mut VecDeque<(usize, A)>, &mut Packing<'_>) -> Result<(), Error>;

/// Items of a chunk on their way into parcels.
struct Packing<'a> {
    /// Packs them.
    packer: Packer,
    /// What stands before each.
    prefix: Option<&'a dyn Prefix>,
    /// How many bytes each may have.
    limit: u64,
    /// Where a large one goes, if there is room.
    room: &'a dyn Room,
    /// The index of the one at hand.
    at: usize,
    /// How many bytes were packed.
    bytes: usize,
}

/// Packs items, each of which is dropped as it is packed.
///
/// # Errors
/// Why the one at hand could not be encoded; it is gone.
fn pack_items<A: Payload>(
    items: &mut VecDeque<(usize, A)>,
    packing: &mut Packing<'_>,
) -> Result<(), Error> {
    let (prefix, limit) = (packing.prefix, packing.limit);
    let is_number = pod::is_number::<A>() && codec::check_size(size_of::<A>(), limit).is_ok();
    while let Some((index, argument)) = items.pop_front() {
        packing.at = index;
        packing.bytes += 2; // its length
        if let (true, None, Some(bytes)) = (is_number, prefix, pod::bytes_of(&argument)) {
            packing.bytes += packing.packer.add_few(index, packing.room, bytes)?;
            continue;
        }
        let encode = |to: &mut Vec<u8>| {
            let around = prefix.map(|prefix| prefix.append(limit, to)).transpose()?;
            let mut named = codec::append(&argument, limit, to)?;
            drop(argument);
            if let Some(around) = around {
                named.join(&around);
            }
            Ok(named)
        };
        packing.bytes += packing.packer.add(index, packing.room, encode)?;
    }
    Ok(())
}
