//! Scopes: tasks that borrow data of the function that submits them, on thread pools and on `SerialExecutor`.
//!
//! A pool's queues hold tasks that borrow nothing. So a task of a scope is sent as a [`ScopedTask`], of which the
//! compiler does not see any more what it borrows, and which returns nothing: its result goes into a slot that only
//! its future holds (`future.rs`, `map.rs`). What makes that sound is one rule: [`open`] does not return, by panic
//! either, before every such task was called to its end, or dropped (`live_tasks.rs`). What happens to futures and maps
//! of a scope does not matter to that rule, so they may be forgotten.

mod future;
mod live_tasks;
mod map;

use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::{Arc, Mutex};

pub use future::ScopedFuture;
pub use map::ScopedMap;

use crate::error::Error;
use crate::executor::Executor;
use crate::executor::feed::Feed;
use crate::executor::stats::Stats;
use crate::future::pool_handle::PoolHandle;
use crate::options::{MapOptions, Shutdown, TaskOptions};
use crate::sync::lock;
use crate::task::Task;
use crate::task_info::{Function, TaskInfo};

use live_tasks::{LiveGuard, LiveTasks};

/// A scope of [`ThreadPoolExecutor::scope`](crate::ThreadPoolExecutor::scope) or
/// [`SerialExecutor::scope`](crate::SerialExecutor::scope), whose tasks may borrow data. (`std::thread::Scope`)
///
/// The tasks may borrow what lives longer than the call of `scope` (`'env`), and the scope itself (`'scope`), so that
/// a task can submit others.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(2)?;
/// let mut halves = [String::from("threads"), String::from("share")];
/// pool.scope(|scope| {
///     let exclaim = scope.map(|half: &mut String| half.push('!'), &mut halves);
///     exclaim.collect::<Result<(), _>>()
/// })?;
/// assert_eq!(halves, ["threads!", "share!"]);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
pub struct Scope<'scope, 'env: 'scope> {
    /// Where tasks are sent to.
    executor: ScopeExecutor<'env>,
    /// The tasks that the scope waits for.
    live_tasks: Arc<LiveTasks>,
    /// Makes `'scope` invariant: otherwise the compiler might shorten it, and a task might borrow what a part of the
    /// body owns.
    scope: PhantomData<&'scope mut &'scope ()>,
    /// Makes `'env` invariant.
    env: PhantomData<&'env mut &'env ()>,
}

/// Calls `body` with a scope on `executor`; returns when every task of the scope has ended or was dropped. `pool`: the
/// handle by which a worker of the pool takes back what it waits for; `None` if tasks do not wait in queues.
pub(crate) fn open<'env, T>(
    executor: &'env dyn Executor,
    pool: Option<&Arc<dyn PoolHandle>>,
    body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
) -> T {
    let live_tasks = LiveTasks::new(pool);
    let scope = Scope {
        executor: ScopeExecutor {
            executor,
            live_tasks: Arc::clone(&live_tasks),
        },
        live_tasks,
        scope: PhantomData,
        env: PhantomData,
    };
    // Dropped before `scope`, and when `body` panics.
    let mut end = ScopeEnd {
        has_returned: false,
        wait: ScopeWait(&scope.live_tasks),
    };
    let answer = body(&scope);
    end.has_returned = true;
    drop(end);
    answer
}

impl<'scope> Scope<'scope, '_> {
    /// Runs `f(arg)`; `f` may borrow. (`Executor.submit`)
    ///
    /// ```
    /// # use concurrent_futures::{Error, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let words = vec![String::from("no"), String::from("copies")];
    /// let longest = pool.scope(|scope| {
    ///     let longest = scope.submit(|words: &[String]| words.iter().map(String::len).max(), &words[..]);
    ///     longest.result()
    /// });
    /// assert_eq!(longest?, Some(6));
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn submit<F, A, R>(&'scope self, f: F, arg: A) -> ScopedFuture<R>
    where
        F: FnOnce(A) -> R + Send + 'scope,
        A: Send + 'scope,
        R: Send + 'scope,
    {
        self.submit_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit`](Self::submit), with options. A task that overruns its time limit goes on: the scope waits
    /// for its end.
    #[track_caller]
    pub fn submit_with<F, A, R>(&'scope self, options: TaskOptions, f: F, arg: A) -> ScopedFuture<R>
    where
        F: FnOnce(A) -> R + Send + 'scope,
        A: Send + 'scope,
        R: Send + 'scope,
    {
        let function = Function::Type(std::any::type_name::<F>());
        let (scoped_task, slot) = self.scoped_task(move || f(arg));
        let (task, future) = Task::local_as(options, function, ScopedTask::call, scoped_task);
        self.executor.execute(task);
        ScopedFuture::new(future, slot)
    }

    /// Runs `f()`; `f` may borrow. (`std::thread::Scope::spawn`) The [scope](Self) has an example.
    #[track_caller]
    pub fn spawn<F, R>(&'scope self, f: F) -> ScopedFuture<R>
    where
        F: FnOnce() -> R + Send + 'scope,
        R: Send + 'scope,
    {
        self.submit(move |()| f(), ())
    }

    /// Runs `f`, which may borrow, on every item, which may borrow, too; yields the results in the order of the
    /// items. (`Executor.map`)
    ///
    /// As lazy as [`Executor::map`]: what was not read when the body of the scope ends is cancelled, if it has not
    /// begun.
    ///
    /// ```
    /// # use concurrent_futures::{Error, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let prices = [3, 5, 8];
    /// let orders = [[0, 1], [2, 2]];
    /// let costs = pool.scope(|scope| {
    ///     let cost = |order: &[usize; 2]| order.iter().map(|&at| prices[at]).sum::<u32>();
    ///     scope.map(cost, &orders).collect::<Result<Vec<_>, _>>()
    /// });
    /// assert_eq!(costs?, [8, 16]);
    /// # Ok::<(), Error>(())
    /// ```
    #[track_caller]
    pub fn map<F, A, R, I>(&'scope self, f: F, items: I) -> ScopedMap<'scope, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'scope,
        A: Send + 'scope,
        R: Send + 'scope,
        I: IntoIterator<Item = A>,
    {
        self.map_with(MapOptions::new(), f, items)
    }

    /// Like [`map`](Self::map), with options.
    #[track_caller]
    pub fn map_with<F, A, R, I>(
        &'scope self,
        options: MapOptions,
        f: F,
        items: I,
    ) -> ScopedMap<'scope, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'scope,
        A: Send + 'scope,
        R: Send + 'scope,
        I: IntoIterator<Item = A>,
    {
        let function = Function::Type(std::any::type_name::<F>());
        let f = Arc::new(f);
        let to_task = move |item| {
            let f = Arc::clone(&f);
            let (scoped_task, slot) = self.scoped_task(move || f(item));
            (slot, scoped_task)
        };
        let location = Location::caller();
        ScopedMap::new(items.into_iter(), Box::new(to_task), |items| {
            let info = TaskInfo::new(options.task.task_name(), location, function);
            Feed::local_as(&self.executor, options, info, ScopedTask::call, items)
        })
    }

    /// A task that stores what `call` returns, and the slot where it does so.
    fn scoped_task<R: Send + 'scope>(
        &self,
        call: impl FnOnce() -> R + Send + 'scope,
    ) -> (ScopedTask, Slot<R>) {
        let slot: Slot<R> = Arc::default();
        let (result, live_tasks) = (Arc::clone(&slot), Arc::clone(&self.live_tasks));
        let call = move || {
            if !live_tasks.are_given_up() {
                let value = call();
                *lock(&*result) = Some(value);
            }
        };
        (self.erase(Box::new(call)), slot)
    }

    /// Erases from the type of a task what it borrows.
    fn erase(&self, call: Box<dyn FnOnce() + Send + 'scope>) -> ScopedTask {
        // SAFETY: the two types differ only in their lifetime, which the task does not outlive. Whatever it borrows
        // lives until `open` returns: `'scope` is a lifetime that the body must take for any, so that the body has no
        // reference of it but to what outlives the call of `open`, and to the scope. `open` returns, or unwinds, after
        // `ScopeEnd` was dropped, which waits until the task was called to its end, or dropped, captures included:
        // its guard, which is dropped behind it, counts it as live. If it is leaked, `open` does not return.
        let call = unsafe {
            std::mem::transmute::<
                Box<dyn FnOnce() + Send + 'scope>,
                Box<dyn FnOnce() + Send + 'static>,
            >(call)
        };
        ScopedTask {
            call,
            live_guard: self.live_tasks.enter(),
        }
    }
}

/// Where a task of a scope stores its result. Its future, or map, and the task itself hold it.
type Slot<R> = Arc<Mutex<Option<R>>>;

/// Takes the result of a task that has ended without an error.
///
/// # Errors
/// `Cancelled` if the task did nothing, since the scope's body had panicked.
fn take<R>(slot: &Slot<R>) -> Result<R, Error> {
    lock(&**slot).take().ok_or(Error::Cancelled)
}

/// A task of a scope; what it borrows does not show in its type.
struct ScopedTask {
    /// Calls the user's function, and stores the result.
    call: Box<dyn FnOnce() + Send>,
    /// Counts the task as live. Dropped behind `call`.
    live_guard: LiveGuard,
}

impl ScopedTask {
    /// Calls the function. By the time that the task does not count as live, all that the function has captured is
    /// dropped, also if it panics.
    fn call(self) {
        let Self { call, live_guard } = self;
        call();
        drop(live_guard);
    }
}

/// The end of a scope: when dropped, runs what a worker has to run by itself, then waits for all tasks.
struct ScopeEnd<'a> {
    /// Whether the body has returned; if it has not, it has panicked. (The thread may be unwinding all the same: a
    /// scope can be opened in a `Drop`.)
    has_returned: bool,
    /// The wait. A field of its own: it is dropped even if a bug of ours makes what comes before it panic.
    wait: ScopeWait<'a>,
}

/// The wait for the end of all tasks of a scope, when dropped.
struct ScopeWait<'a>(
    /// The tasks.
    &'a LiveTasks,
);

impl Drop for ScopeEnd<'_> {
    fn drop(&mut self) {
        let ScopeWait(live_tasks) = self.wait;
        if !self.has_returned {
            live_tasks.give_up();
        }
        live_tasks.help();
    }
}

impl Drop for ScopeWait<'_> {
    fn drop(&mut self) {
        self.0.wait();
    }
}

/// The executor of a scope, as its maps see it: notes which tasks the scope has sent.
struct ScopeExecutor<'env> {
    /// The executor that runs the tasks.
    executor: &'env dyn Executor,
    /// The tasks of the scope.
    live_tasks: Arc<LiveTasks>,
}

impl Executor for ScopeExecutor<'_> {
    fn max_workers(&self) -> usize {
        self.executor.max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.executor.shutdown(how);
    }

    fn stats(&self) -> Stats {
        self.executor.stats()
    }

    fn execute(&self, task: Task) {
        let (first, last) = (task.id(), task.last());
        self.executor.execute(task);
        self.live_tasks.note_sent(first, last);
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("live_tasks", &self.live_tasks.count())
            .finish_non_exhaustive()
    }
}
