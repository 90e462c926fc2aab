//! Tasks: function, argument and promise of a single task, or a chunk of a map, with the types erased for the
//! queues of the pools.
//!
//! Executors make tasks; pools queue them, and run them here ([`Task::run_on`]) or encode them for a worker
//! process ([`Task::into_outgoing`]). What is in a task, and how one is made of it, is in `local.rs` and
//! `portable.rs` (a function and its argument) and in `chunk.rs`; when one is run again, in `retry.rs`. Relies on `future` (the promise), on `remote`
//! (the encoding) and on `unwind` (panics become errors).

mod local;
pub(crate) mod portable;
pub(crate) mod chunk;
pub(crate) mod run;
pub(crate) mod retry;
pub(crate) mod bit_set;
pub(crate) mod timeout;
pub(crate) mod results;
pub(crate) mod item_timing;
pub(crate) mod request;
pub(crate) mod item_batch;
pub(crate) mod work_item;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::error::Error;
use crate::future::dyn_promise::DynPromise;
use crate::future::id::FutureId;
use crate::future::pool_registry::PoolId;
use crate::future::promise::{Promise, Settle, TaskCell, Verdict};
use crate::options::{RunOptions, TaskOptions};
use crate::remote::lease::PayloadStore;
use crate::remote::payload::Payload;
use crate::task::chunk::ErasedChunk;
use crate::task::item_batch::BatchPart;
use crate::task::portable::PortableTask;
use crate::task::request::RemoteTask;
use crate::task::retry::Again;
use crate::task::run::{NoHooks, WorkerHooks};
use crate::task::work_item::Withdrawn;
use crate::task_info::TaskInfo;

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
    /// Runs the task on this thread, and settles its future. A panic of the function is caught. A task that is
    /// run again after a failure pauses here before each further attempt. (`Future.set_running_or_notify_cancel()`, then `set_result()` or `set_exception()`)
    pub fn run(self) {
        self.run_to_end(&NoHooks);
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
            Work::One(job) => TaskOptions::of(job.info().task_name(), job.options()),
            Work::Chunk(chunk) => TaskOptions::of(chunk.info().task_name(), chunk.options()),
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

    // ---- for our own pools -------------------------------------------------------------------

    /// The id of its last future.
    pub(crate) fn last(&self) -> FutureId {
        match &self.0 {
            Work::One(job) => job.id(),
            Work::Chunk(chunk) => chunk.last(),
        }
    }

    /// What errors and events say about it.
    pub(crate) fn info(&self) -> TaskInfo {
        match &self.0 {
            Work::One(job) => job.info(),
            Work::Chunk(chunk) => chunk.info().clone(),
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

    /// Makes a task that was begun pending again, because it is to be run again.
    pub(crate) fn put_back(&self) {
        match &self.0 {
            Work::One(job) => job.put_back(),
            Work::Chunk(_) => {} // items have no phase
        }
    }

    /// Whether the task was killed, so that it is not to be run again.
    pub(crate) fn is_given_up(&self) -> bool {
        match &self.0 {
            Work::One(job) => job.is_given_up(),
            Work::Chunk(_) => false,
        }
    }

    /// Runs the task, and reports each item to the worker's hooks. Returns the task if it is to be run again;
    /// otherwise it has settled.
    pub(crate) fn run_on(self, hooks: &dyn WorkerHooks) -> Option<Again> {
        match self.0 {
            // SAFETY: `job` was the task's one promise.
            Work::One(job) => unsafe { job.into_inner().run(hooks) },
            Work::Chunk(chunk) => {
                chunk.run(hooks);
                None
            }
        }
    }

    /// Runs the task until it has settled. The calling thread has nothing else to do in a pause.
    pub(crate) fn run_to_end(self, hooks: &dyn WorkerHooks) {
        let mut next = self.run_on(hooks);
        while let Some(Again { task, pause }) = next {
            task.put_back();
            // As in `WorkerContext::try_again`.
            if task.is_given_up() {
                return task.fail(Error::Cancelled);
            }
            std::thread::sleep(pause);
            next = task.run_on(hooks);
        }
    }

    /// Settles every item with `error`; `settled` receives the verdict of each.
    pub(crate) fn fail_all(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        match self.0 {
            Work::One(job) => job.fail(error.clone(), settled),
            Work::Chunk(chunk) => chunk.fail(error, settled),
        }
    }

    /// Encodes every item for a worker process. Large arguments go into `payload_store` if that
    /// has space. Items that cannot be encoded are settled at once.
    #[inline]
    pub(crate) fn into_outgoing(
        self,
        limit: u64,
        payload_store: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> RemoteForm {
        match self.0 {
            Work::One(job) => {
                // SAFETY: `job` was the task's one promise.
                let encoded = unsafe { job.into_inner().encode(limit, payload_store, settled) };
                encoded.map_or(RemoteForm::Nothing, |task| {
                    RemoteForm::One(DynPromise::new(task))
                })
            }
            Work::Chunk(chunk) => chunk.encode(limit, payload_store, settled),
        }
    }

    /// The argument of a task that was made of `_function`.
    pub(crate) fn into_argument<A: Payload, R: Payload>(self, _function: fn(A) -> R) -> A {
        let argument = match self.0 {
            Work::One(job) => job.into_inner().into_any(),
            Work::Chunk(_) => unreachable!("only single tasks are given back"),
        };
        match argument
            .downcast::<TaskCell<R, PortableTask<fn(A) -> R>>>()
            .map(Promise::of)
        {
            // The promise is dropped together with its future, which no caller has seen.
            // SAFETY: this is the task's one promise.
            Ok(promise) => unsafe { promise.take_argument() },
            Err(_) => unreachable!("an executor gives back the task that it was given"),
        }
    }
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

/// A task cell with its types erased.
trait ErasedTask: Settle {
    fn info(&self) -> TaskInfo;
    fn options(&self) -> RunOptions;
    fn attach(&self, pool: PoolId);
    /// Makes the task pending again.
    fn put_back(&self);
    /// Whether the task was killed, so that it is not to be run again.
    fn is_given_up(&self) -> bool {
        false
    }
    /// Runs the task. Returns it, not yet pending again, if it is to be run again; otherwise it has settled.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn run(self: Arc<Self>, hooks: &dyn WorkerHooks) -> Option<Again>;
    /// Encodes the task. `None`: it could not be encoded, or was cancelled; it has settled.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this.
    unsafe fn encode(
        self: Arc<Self>,
        limit: u64,
        payload_store: &dyn PayloadStore,
        settled: &mut dyn FnMut(Verdict),
    ) -> Option<Arc<dyn RemoteTask>>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}
