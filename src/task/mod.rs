//! Tasks: function, argument and promise of a single task, or a chunk of a map, with the types erased for the
//! queues of the pools.
//!
//! Executors make tasks; pools queue them, and run them here ([`Task::run_on`]) or encode them for a worker
//! process ([`Task::into_outgoing`]). Relies on `future` (the promise), on `remote` (the encoding) and on
//! `unwind` (panics become errors).

pub(crate) mod bit_set;
pub(crate) mod timeout;
pub(crate) mod results;
pub(crate) mod request;
pub(crate) mod portable;
pub(crate) mod item_batch;
pub(crate) mod work_item;

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
use crate::future::Future;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::pool_registry::PoolId;
use crate::future::promise::{Body, Expire, Promise, Settle, TaskCell, Verdict, pair};
use crate::future::state::{Outcome, Start};
use crate::options::{PackedOptions, TaskOptions};
use crate::remote::codec;
use crate::remote::context::{Context, Prefix};
use crate::remote::function::{self, FunctionRef};
use crate::remote::lease::PayloadStore;
use crate::remote::payload::Payload;
use crate::remote::pod;
use crate::sync::exclusive_cell::ExclusiveCell;
use crate::task::item_batch::{BatchBuilder, BatchPart};
use crate::task::portable::PortableTask;
use crate::task::request::RemoteTask;
use crate::task::results::{ChunkResults, Decode, Expiring, ItemTiming, Listener};
use crate::task::timeout::TimeoutGuard;
use crate::task::work_item::Withdrawn;
use crate::task_info::{Function, TaskInfo};
use crate::unwind::{self, Panic, discard};

/// One accepted task, or one chunk of a map, with its types erased: what an implementor of
/// [`Executor`](crate::Executor) queues and runs.
///
/// Dropping it settles its future as [`Error::Cancelled`].
///
/// ```
/// use concurrent_futures::{Error, Executor, Shutdown, Stats, Task};
///
/// /// Starts a thread for each task.
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
    /// A single task or a chunk.
    Work,
);

/// The work of a [`Task`].
enum Work {
    /// A single task.
    One(DynPromise<dyn ErasedTask>),
    /// A chunk of a map.
    Chunk(Box<dyn ErasedChunk>),
}

impl Task {
    /// Runs the task on this thread, and settles its future. A panic of the function is caught.
    /// (`Future.set_running_or_notify_cancel()`, then `set_result()` or `set_exception()`)
    pub fn run(self) {
        self.run_on(&NoHooks);
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

    /// The options that the task was submitted with.
    pub fn options(&self) -> TaskOptions {
        match &self.0 {
            Work::One(job) => job.options(),
            Work::Chunk(chunk) => chunk.options(),
        }
    }

    /// The id of its future; for a chunk of a map, that of its first item.
    #[must_use]
    pub fn id(&self) -> FutureId {
        match &self.0 {
            Work::One(job) => job.id(),
            Work::Chunk(chunk) => chunk.id(),
        }
    }

    /// A task that may travel to a worker process.
    #[inline]
    #[track_caller]
    pub(crate) fn portable<A: Payload, R: Payload>(
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        Self::portable_from(Location::caller(), options, function, argument)
    }

    /// Makes the task that [`portable`](Self::portable) does, on behalf of a caller at `location`.
    #[inline]
    pub(crate) fn portable_from<A: Payload, R: Payload>(
        location: &'static Location<'static>,
        options: TaskOptions,
        function: fn(A) -> R,
        argument: A,
    ) -> (Self, Future<R>) {
        let (future, promise) = pair(PortableTask::new(location, options, function, argument));
        let job: Arc<dyn ErasedTask> = promise.into_task_cell();
        (Self(Work::One(DynPromise::new(job))), future)
    }

    /// A chunk of a map that may travel to a worker process, and the place where its outcomes arrive.
    pub(crate) fn portable_chunk<A: Payload, R: Payload>(
        chunk: ChunkSpec<'_, A>,
        function: fn(A) -> R,
    ) -> (Self, Arc<ChunkResults<R>>) {
        Self::chunk(chunk, function, Some(Portable::of(function)))
    }

    /// A chunk of a map that may travel to a worker process; all its items are given the same context.
    pub(crate) fn portable_chunk_in<C, A, R>(
        chunk: ChunkSpec<'_, A>,
        function: fn(&C, A) -> R,
        context: &Arc<Context<C>>,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        C: Payload + Sync,
        A: Payload,
        R: Payload,
    {
        let portable = Portable {
            call: function::function_ref_in_context(function),
            prefix: Some(Arc::clone(context) as Arc<dyn Prefix>),
            ..Portable::coded(Err(Error::Cancelled))
        };
        let context = Arc::clone(context);
        let call = move |argument| function(context.value(), argument);
        Self::chunk(chunk, call, Some(portable))
    }

    /// A task that can run in this process only.
    #[track_caller]
    pub(crate) fn local<F, A, R>(options: TaskOptions, f: F, argument: A) -> (Self, Future<R>)
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (future, promise) = pair(LocalTask {
            location: Location::caller(),
            packed_options: PackedOptions::new(options),
            call: ExclusiveCell::new(Some((f, argument))),
        });
        let job: Arc<dyn ErasedTask> = promise.into_task_cell();
        (Self(Work::One(DynPromise::new(job))), future)
    }

    /// A chunk of a map that can run in this process only, and the place where its outcomes arrive.
    pub(crate) fn local_chunk<F, A, R>(
        chunk: ChunkSpec<'_, A>,
        f: &Arc<F>,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let f = Arc::clone(f);
        Self::chunk(chunk, move |argument| f(argument), None)
    }

    fn chunk<F, A, R>(
        chunk: ChunkSpec<'_, A>,
        call: F,
        portable: Option<Portable<A, R>>,
    ) -> (Self, Arc<ChunkResults<R>>)
    where
        F: FnMut(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let ChunkSpec {
            options,
            info,
            arguments,
            timing,
            listener,
        } = chunk;
        let decode = portable.as_ref().map(|portable| portable.decode);
        let chunk_results = ChunkResults::new(arguments.len(), info, decode, timing, listener);
        let job = Chunk {
            info,
            options,
            call,
            portable,
            items: (0..).zip(arguments).collect(),
            chunk_results: Arc::clone(&chunk_results),
        };
        (Self(Work::Chunk(Box::new(job))), chunk_results)
    }

    // ---- for our own pools -------------------------------------------------------------------

    /// The id of its last future.
    pub(crate) fn last(&self) -> FutureId {
        match &self.0 {
            Work::One(job) => job.id(),
            Work::Chunk(chunk) => chunk.last(),
        }
    }

    /// The number of futures that it settles.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Work::One(_) => 1,
            Work::Chunk(chunk) => chunk.len(),
        }
    }

    /// Tells its futures which pool has accepted the task.
    pub(crate) fn attach(&self, pool: PoolId) {
        match &self.0 {
            Work::One(job) => job.attach(pool),
            Work::Chunk(chunk) => chunk.attach(pool),
        }
    }

    /// Whether it settles the future with this id.
    pub(crate) fn contains(&self, id: FutureId) -> bool {
        match &self.0 {
            Work::One(job) => job.id() == id,
            Work::Chunk(chunk) => chunk.contains(id),
        }
    }

    /// Takes an item out of a chunk. The caller must drop the item's argument, and hold no lock then. `None`:
    /// no such item, or a single task.
    pub(crate) fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        match &mut self.0 {
            Work::One(_) => None, // a single task is removed as a whole
            Work::Chunk(chunk) => chunk.remove(id),
        }
    }

    /// Runs the task, and reports each item to the worker's hooks.
    pub(crate) fn run_on(self, hooks: &dyn WorkerHooks) {
        match self.0 {
            // SAFETY: `job` was the task's one promise.
            Work::One(job) => unsafe { job.into_inner().run(hooks) },
            Work::Chunk(chunk) => chunk.run(hooks),
        }
    }

    /// Settles every item with `error`; `settled` receives the verdict of each.
    pub(crate) fn fail_all(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        match self.0 {
            Work::One(job) => job.fail(error.clone(), settled),
            Work::Chunk(chunk) => chunk.fail(error, settled),
        }
    }

    /// Encodes every item for a worker process. Large arguments go into `room`, the payload store, if that
    /// has space. Items that cannot be encoded are settled at once.
    #[inline]
    pub(crate) fn into_outgoing(
        self,
        limit: u64,
        room: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> RemoteForm {
        match self.0 {
            Work::One(job) => {
                // SAFETY: `job` was the task's one promise.
                let encoded = unsafe { job.into_inner().encode(limit, room, settled) };
                encoded.map_or(RemoteForm::Nothing, |task| {
                    RemoteForm::One(DynPromise::new(task))
                })
            }
            Work::Chunk(chunk) => chunk.encode(limit, room, settled),
        }
    }

    /// The argument of a task that was made of `_function`.
    pub(crate) fn into_argument<A: Payload, R: Payload>(self, _function: fn(A) -> R) -> A {
        let argument = match self.0 {
            Work::One(job) => job.into_inner().into_any(),
            Work::Chunk(_) => unreachable!("only single tasks are given back"),
        };
        match argument
            .downcast::<TaskCell<R, PortableTask<A, R>>>()
            .map(Promise::of)
        {
            // The promise is dropped together with its future, which no caller has seen.
            // SAFETY: this is the task's one promise.
            Ok(promise) => unsafe { promise.take_argument() },
            Err(_) => unreachable!("an executor gives back the task that it was given"),
        }
    }
}

/// What a chunk of a map is made of.
pub(crate) struct ChunkSpec<'a, A> {
    /// The options of each item.
    pub(crate) options: TaskOptions,
    /// What errors say about each item.
    pub(crate) info: TaskInfo,
    /// The argument of each item.
    pub(crate) arguments: Vec<A>,
    /// Times and sizes that the map learns from its items.
    pub(crate) timing: &'a Arc<ItemTiming>,
    /// Called whenever outcomes have arrived; `None` if that is not needed.
    pub(crate) listener: Option<Listener>,
}

/// What a task becomes by being encoded.
pub(crate) enum RemoteForm {
    /// Nothing is left to send: items that could not be encoded, or were cancelled before, have settled.
    Nothing,
    /// A single task.
    One(DynPromise<dyn RemoteTask>),
    /// A chunk of a map, in parts.
    Many(Vec<BatchPart>),
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id())
            .field("options", &self.options())
            .finish_non_exhaustive()
    }
}

/// The hooks of the worker that a task runs on: what the task reports to it, and asks of it.
pub(crate) trait WorkerHooks {
    /// The worker is about to begin this item.
    fn begin(&self, id: FutureId);
    /// The worker has truly begun the item: it was not cancelled.
    fn begun(&self, id: FutureId);
    /// The item that the worker was about to begin turned out to be cancelled.
    fn abandon(&self);
    /// Whether items that have not begun must not begin any more.
    fn cancels(&self) -> bool;
    /// The rest of the chunk will not begin.
    fn forget(&self);
    /// An item of this rest has settled.
    fn count(&self, verdict: Verdict);
    /// The current item may run for `limit` from now, as long as the returned guard lives. `None` if no
    /// thread watches the limit meanwhile.
    fn watch(&self, task: Arc<dyn Expire>, limit: Duration) -> Option<TimeoutGuard>;
    /// The item's future is about to become done.
    fn end(&self, verdict: Verdict);
    /// The worker's index in its pool; `None` if it belongs to no pool.
    fn index(&self) -> Option<usize>;
}

/// The hooks of a task that an implementor of `Executor` runs.
struct NoHooks;

impl WorkerHooks for NoHooks {
    fn begin(&self, _: FutureId) {}
    fn begun(&self, _: FutureId) {}
    fn abandon(&self) {}
    fn cancels(&self) -> bool {
        false
    }
    fn forget(&self) {}
    fn count(&self, _: Verdict) {}
    fn watch(&self, _: Arc<dyn Expire>, _: Duration) -> Option<TimeoutGuard> {
        None
    }
    fn end(&self, _: Verdict) {}
    fn index(&self) -> Option<usize> {
        None
    }
}

/// A task cell with its types erased.
trait ErasedTask: Settle {
    fn options(&self) -> TaskOptions;
    fn attach(&self, pool: PoolId);
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn run(self: Arc<Self>, hooks: &dyn WorkerHooks);
    /// Encodes the task. `None`: it could not be encoded, or was cancelled; it has settled.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn encode(
        self: Arc<Self>,
        limit: u64,
        room: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn RemoteTask>>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// The body of a task that can run in this process only: the function and its argument.
struct LocalTask<F, A> {
    /// Where the task was submitted.
    location: &'static Location<'static>,
    /// The options that the task was submitted with.
    packed_options: PackedOptions,
    /// Function and argument; `None` once taken out, to be called or dropped.
    call: ExclusiveCell<Option<(F, A)>>,
}

impl<F, A, R> Body<R> for LocalTask<F, A>
where
    F: FnOnce(A) -> R + Send + 'static,
    A: Send + 'static,
{
    unsafe fn discard(&self) {
        // The function may be a closure, and its captures may implement `Drop`.
        // SAFETY: guaranteed by the caller.
        discard(unsafe { self.call.replace(None) });
    }

    unsafe fn open(&self) -> Outcome<R> {
        unreachable!("what is of this process alone does not arrive from another")
    }
}

impl<F, A, R> ErasedTask for TaskCell<R, LocalTask<F, A>>
where
    F: FnOnce(A) -> R + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn options(&self) -> TaskOptions {
        self.body().packed_options.options()
    }

    fn attach(&self, pool: PoolId) {
        Self::attach(self, pool);
    }

    unsafe fn run(self: Arc<Self>, hooks: &dyn WorkerHooks) {
        let promise = Promise::of(self);
        let function = Function::Type(std::any::type_name::<F>());
        let info = TaskInfo::new(
            promise.packed_options.options().given_name(),
            promise.location,
            function,
        );
        run_single(promise, info, hooks, |promise| {
            // SAFETY: `promise` is the task's one promise.
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
        _: &dyn PayloadStore,
        _: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn RemoteTask>> {
        unreachable!("only portable tasks reach a process pool")
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<A: Payload, R: Payload> ErasedTask for TaskCell<R, PortableTask<A, R>> {
    fn options(&self) -> TaskOptions {
        self.body().options()
    }

    fn attach(&self, pool: PoolId) {
        Self::attach(self, pool);
    }

    unsafe fn run(self: Arc<Self>, hooks: &dyn WorkerHooks) {
        let promise = Promise::of(self);
        let info = promise.info();
        run_single(promise, info, hooks, |promise| {
            // SAFETY: `promise` is the task's one promise.
            let argument = unsafe { promise.take_argument() };
            let function = promise.function();
            move || function(argument)
        });
    }

    unsafe fn encode(
        self: Arc<Self>,
        limit: u64,
        room: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn RemoteTask>> {
        if self.is_cancelled() {
            drop(Promise::of(self));
            return None;
        }
        // SAFETY: guaranteed by the caller.
        match unsafe { self.body().encode(limit, room) } {
            // Encoding runs user code, and may take its time: the task was cancelled meanwhile.
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

/// Runs a single task on this thread, unless it was cancelled; `take` takes out what is to be called.
fn run_single<R, B, C>(
    promise: Promise<R, B>,
    info: TaskInfo,
    hooks: &dyn WorkerHooks,
    take: impl FnOnce(&Promise<R, B>) -> C,
) where
    R: Send + 'static,
    B: Body<R> + 'static,
    C: FnOnce() -> R,
    TaskCell<R, B>: ErasedTask,
{
    if begin(&promise, hooks) == Start::Cancelled {
        return;
    }
    let expiring = || promise.expiring();
    let (options, call) = (promise.task_cell().options(), take(&promise));
    let outcome = call_in_time(expiring, options, info, hooks, call);
    promise.settle(outcome, |verdict| hooks.end(verdict));
}

/// Begins an item, unless it was cancelled, and reports to the worker's hooks whether it has begun.
fn begin<R, B>(promise: &Promise<R, B>, hooks: &dyn WorkerHooks) -> Start
where
    R: Send + 'static,
    B: Body<R> + 'static,
{
    let id = promise.task_cell().id();
    hooks.begin(id);
    let start = promise.start();
    match start {
        Start::Begun => hooks.begun(id),
        Start::Cancelled => hooks.abandon(),
    }
    start
}

/// Calls an item's function. An outcome that comes after the time limit is dropped: the item ends as
/// `TaskTimeout`.
fn call_in_time<R: Send + 'static>(
    expiring: impl FnOnce() -> Arc<dyn Expire>,
    options: TaskOptions,
    info: TaskInfo,
    hooks: &dyn WorkerHooks,
    call: impl FnOnce() -> R,
) -> Result<R, Error> {
    let run = || unwind::catch(call).map_err(|panic| panicked(panic, info, hooks.index()));
    let Some(limit) = options.given_timeout() else {
        return run();
    };
    let clock = Rc::new(Stopwatch {
        begun: Instant::now(),
        limit,
        pauses: RefCell::default(),
        watched: hooks.watch(expiring(), limit),
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
    /// How long the item may run.
    limit: Duration,
    /// The periods that do not count as the item's time.
    pauses: RefCell<Pauses>,
    /// Lets the item expire at its deadline; `None` if the limit is not checked before the function has
    /// returned.
    watched: Option<TimeoutGuard>,
}

impl Stopwatch {
    /// How long the item has run, as far as that counts.
    fn elapsed(&self) -> Duration {
        let delay = self.pauses.borrow().delay();
        self.begun.elapsed().saturating_sub(delay)
    }

    /// Moves the item's deadline later by the time that does not count.
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

/// A chunk of a map with its types erased.
trait ErasedChunk: Send {
    fn options(&self) -> TaskOptions;
    fn id(&self) -> FutureId;
    fn last(&self) -> FutureId;
    fn len(&self) -> usize;
    fn attach(&self, pool: PoolId);
    fn contains(&self, id: FutureId) -> bool;
    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>>;
    fn run(self: Box<Self>, hooks: &dyn WorkerHooks);
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict));
    fn encode(
        self: Box<Self>,
        limit: u64,
        room: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> RemoteForm;
}

/// A chunk of a map: a function, and the items that it is called with, one after the other.
struct Chunk<F, A, R> {
    /// What errors say about each item: where the map was called, and with which function.
    info: TaskInfo,
    /// The options of each item.
    options: TaskOptions,
    /// The function that each item is called with.
    call: F,
    /// How the chunk travels to a worker process; `None` if it may not.
    portable: Option<Portable<A, R>>,
    /// The items that have not begun: their indexes, ascending, and arguments.
    items: VecDeque<(usize, A)>,
    /// Where the items' outcomes are stored.
    chunk_results: Arc<ChunkResults<R>>,
}

impl<F, A, R> ErasedChunk for Chunk<F, A, R>
where
    F: FnMut(A) -> R + Send + 'static,
    A: Send + 'static,
    R: Send + 'static,
{
    fn options(&self) -> TaskOptions {
        self.options
    }

    fn id(&self) -> FutureId {
        self.chunk_results
            .id(self.items.front().map_or(0, |(index, _)| *index))
    }

    fn last(&self) -> FutureId {
        let last = self.items.back();
        last.map_or_else(|| self.id(), |(index, _)| self.chunk_results.id(*index))
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn attach(&self, pool: PoolId) {
        self.chunk_results.attach(pool);
    }

    fn contains(&self, id: FutureId) -> bool {
        self.at(id).is_some()
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        let (index, argument) = self.items.remove(self.at(id)?)?;
        Some(Box::new(Item {
            chunk_results: Arc::clone(&self.chunk_results),
            index,
            argument,
        }))
    }

    fn run(mut self: Box<Self>, hooks: &dyn WorkerHooks) {
        let begun = Instant::now();
        let mut count = 0;
        while let Some((index, argument)) = self.items.pop_front() {
            if self.chunk_results.is_abandoned() || (count > 0 && hooks.cancels()) {
                self.items.push_front((index, argument));
                hooks.forget();
                break;
            }
            let id = self.chunk_results.id(index);
            hooks.begin(id);
            hooks.begun(id);
            count += 1;
            let chunk_results = &self.chunk_results;
            let expiring = || -> Arc<dyn Expire> {
                let chunk_results = Arc::clone(chunk_results);
                Arc::new(Expiring {
                    chunk_results,
                    index,
                })
            };
            let call = &mut self.call;
            let outcome = call_in_time(expiring, self.options, self.info, hooks, || call(argument));
            if self.items.is_empty() {
                self.chunk_results.timing().note(count, begun.elapsed());
            }
            self.chunk_results
                .settle(index, outcome, |verdict| hooks.end(verdict));
        }
        self.cancel_rest(&Error::Cancelled, &mut |verdict| hooks.count(verdict));
        // The function may be a closure, and its captures may implement `Drop`.
        discard(self);
    }

    fn fail(mut self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.cancel_rest(error, settled);
        discard(self);
    }

    fn encode(
        mut self: Box<Self>,
        limit: u64,
        room: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> RemoteForm {
        let Some(portable) = self.portable.take() else {
            unreachable!("only portable tasks reach a process pool")
        };
        let call = match portable.call.clone() {
            Ok(call) => call,
            Err(error) => {
                self.cancel_rest(&error, settled);
                return RemoteForm::Nothing;
            }
        };
        let mut packing = Packing {
            batch_builder: BatchBuilder::new(
                &self.chunk_results,
                self.options,
                call,
                self.items.len(),
            ),
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
                self.chunk_results
                    .settle(packing.at, Err(error), &mut *settled);
            }
        }
        let Packing {
            batch_builder,
            bytes,
            ..
        } = packing;
        self.chunk_results.timing().note_bytes(bytes);
        match batch_builder.into_parts() {
            parts if parts.is_empty() => RemoteForm::Nothing,
            parts => RemoteForm::Many(parts),
        }
    }
}

impl<F, A, R> Chunk<F, A, R> {
    /// The position in `items` of the item with this id; `None` if it is not there.
    fn at(&self, id: FutureId) -> Option<usize> {
        let index = self.chunk_results.index_of(id)?;
        self.items.binary_search_by_key(&index, |(i, _)| *i).ok()
    }

    /// Settles the items that have not begun with `error`.
    fn cancel_rest(&mut self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        while let Some((index, argument)) = self.items.pop_front() {
            discard(argument);
            self.chunk_results
                .settle(index, Err(error.clone()), &mut *settled);
        }
    }
}

/// Dropping a chunk cancels the items that have not begun.
impl<F, A, R> Drop for Chunk<F, A, R> {
    fn drop(&mut self) {
        self.cancel_rest(&Error::Cancelled, &mut |_| ());
    }
}

/// An item that was taken out of its chunk.
struct Item<A, R> {
    /// Where its outcome is stored.
    chunk_results: Arc<ChunkResults<R>>,
    /// Its index in the chunk.
    index: usize,
    /// The argument, with which the function is not called.
    argument: A,
}

impl<A: Send, R: Send> Withdrawn for Item<A, R> {
    fn fail(self: Box<Self>, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        discard(self.argument);
        self.chunk_results
            .settle(self.index, Err(error.clone()), settled);
    }
}

fn panicked(panic: Panic, info: TaskInfo, worker: Option<usize>) -> Error {
    Error::Panicked(PanicInfo::new(panic, Some(info), worker))
}

/// How the items of a chunk travel: what needs the types' serde implementations, as plain functions.
struct Portable<A, R> {
    /// The reference to the function, or the reason why there is none.
    call: Result<FunctionRef, Error>,
    /// What stands before each item's argument: where the context is; `None` without a context.
    prefix: Option<Arc<dyn Prefix>>,
    /// Packs items, up to the first that cannot be encoded.
    pack: Pack<A>,
    /// Decodes a result.
    decode: Decode<R>,
}

impl<A: Payload, R: Payload> Portable<A, R> {
    fn of(function: fn(A) -> R) -> Self {
        Self::coded(function::function_ref(function))
    }

    fn coded(call: Result<FunctionRef, Error>) -> Self {
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

/// Packs arguments with their indexes into batches.
type Pack<A> = fn(&mut VecDeque<(usize, A)>, &mut Packing<'_>) -> Result<(), Error>;

/// Items of a chunk on their way into batches.
struct Packing<'a> {
    /// Builds the batches.
    batch_builder: BatchBuilder,
    /// What stands before each item's argument; `None` without a context.
    prefix: Option<&'a dyn Prefix>,
    /// The largest size of an encoded argument, in bytes.
    limit: u64,
    /// The store for large arguments, as far as it has space.
    room: &'a dyn PayloadStore,
    /// The index of the current item.
    at: usize,
    /// The number of bytes packed so far, length prefixes included.
    bytes: usize,
}

/// Packs items; each is dropped as soon as it is packed.
///
/// # Errors
/// The reason why the current item could not be encoded; that item is gone.
fn pack_items<A: Payload>(
    items: &mut VecDeque<(usize, A)>,
    packing: &mut Packing<'_>,
) -> Result<(), Error> {
    let (prefix, limit) = (packing.prefix, packing.limit);
    let is_number = pod::is_number::<A>() && codec::check_size(size_of::<A>(), limit).is_ok();
    while let Some((index, argument)) = items.pop_front() {
        packing.at = index;
        packing.bytes += 2; // the length prefix
        if let (true, None, Some(bytes)) = (is_number, prefix, pod::bytes_of(&argument)) {
            packing.bytes += packing.batch_builder.add_few(index, packing.room, bytes)?;
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
        packing.bytes += packing.batch_builder.add(index, packing.room, encode)?;
    }
    Ok(())
}
