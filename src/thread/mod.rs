//! [`ThreadPoolExecutor`]: a worker pool whose tasks run on threads of this process. Joins `pool/` (workers
//! and queue) with `task/` (running a task) and `future/` (through [`PoolHandle`]).

mod builder;

use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

pub use builder::ThreadPoolBuilder;

use crate::current_worker::WorkerInfo;
use crate::error::Error;
use crate::executor::Executor;
use crate::executor::closed::Closed;
use crate::executor::feed::Feed;
use crate::executor::map::{Map, MapUnordered};
use crate::executor::map_keyed::{self, MapKeyed};
use crate::executor::scope::{self, Scope};
use crate::executor::stats::Stats;
use crate::executor::submit_async::{RoomWaiter, SubmitAsync};
use crate::future::Future;
use crate::future::deadlock::{self, Awaited};
use crate::future::id::FutureId;
use crate::future::pool_handle::{Drive, PoolHandle, TaskLocation, Waiter};
use crate::future::pool_registry::{self, Registration};
use crate::future::promise::Verdict;
use crate::options::{MapOptions, Shutdown, TaskOptions};
use crate::pool::{Admit, OnFull, Submit, WorkerContext, WorkerPool};
use crate::preparation::Preparation;
use crate::sync::ThreadId;
use crate::sync::deadline::Deadline;
use crate::task::Task;
use crate::task::work_item::{Withdrawn, WorkItem};
use crate::user_state;

/// Runs tasks on threads. (`concurrent.futures.ThreadPoolExecutor`)
///
/// Besides the methods of [`Executor`], it has its own `submit` and `map`, which take closures that capture,
/// and values that serde does not know. Threads start on demand; an idle one is reused before a new one
/// starts. Dropping the pool, the last of its clones, waits for its tasks; on a thread of the pool itself, for all but
/// the task that drops it. In async code, await [`closed`](Executor::closed) before, so that no thread of the
/// runtime is blocked.
///
/// ```
/// use concurrent_futures::ThreadPoolExecutor;
///
/// let pool = ThreadPoolExecutor::new(4)?;
/// let words = std::sync::Arc::new(vec!["threads", "share", "memory"]);
/// let shared = words.clone();
/// let lengths = pool.map(move |at| shared[at].len(), 0..3);
/// assert_eq!(lengths.collect::<Result<Vec<_>, _>>()?, [7, 5, 6]);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// A pool is a handle: clones of it are the same pool, and the last of them waits.
///
/// ```
/// # use concurrent_futures::ThreadPoolExecutor;
/// let pool = ThreadPoolExecutor::new(2)?;
/// let again = pool.clone();
/// let nested = pool.spawn(move || again.spawn(|| 6)).result()?;
/// assert_eq!(nested.result()?, 6);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
#[derive(Clone)]
pub struct ThreadPoolExecutor(
    /// What all clones share.
    Arc<ThreadPool>,
);

/// A thread pool. Dropping it shuts it down.
struct ThreadPool {
    /// The worker pool.
    worker_pool: Arc<WorkerPool<Task>>,
    /// The handle by which futures of the pool call it.
    owner: Arc<dyn PoolHandle>,
    /// The pool's entry in the pool registry, by which futures find the handle.
    entry: Registration,
}

impl ThreadPoolExecutor {
    /// A pool of at most `max_workers` threads. (`ThreadPoolExecutor(max_workers)`)
    ///
    /// # Errors
    /// [`Error::InvalidConfig`] if `max_workers` is 0.
    pub fn new(max_workers: usize) -> Result<Self, Error> {
        Self::builder().max_workers(max_workers).build()
    }

    /// A builder, for a pool with settings.
    pub fn builder() -> ThreadPoolBuilder {
        ThreadPoolBuilder::new()
    }

    /// Runs `f(arg)` on a thread; `f` may capture. (`Executor.submit`)
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let factor = 3;
    /// assert_eq!(pool.submit(move |x: i32| factor * x, 14).result()?, 42);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    pub fn submit<F, A, R>(&self, f: F, arg: A) -> Future<R>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        self.submit_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit`](Self::submit), with options.
    #[track_caller]
    pub fn submit_with<F, A, R>(&self, options: TaskOptions, f: F, arg: A) -> Future<R>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (task, future) = Task::local(options, f, arg);
        self.execute(task);
        future
    }

    /// Like [`submit`](Self::submit), for a function that also borrows the state of its thread; it
    /// may capture. [`ThreadPoolBuilder::state`] has an example.
    #[track_caller]
    pub fn submit_with_state<S, F, A, R>(&self, f: F, arg: A) -> Future<R>
    where
        S: 'static,
        F: FnOnce(&mut S, A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (task, future) = Task::local_with_state(TaskOptions::new(), f, arg);
        self.execute(task);
        future
    }

    /// Like [`submit`](Self::submit), for async code: awaits room if `max_pending` tasks are already waiting.
    /// [`Executor::submit_async`] has an example.
    #[track_caller]
    pub fn submit_async<F, A, R>(&self, f: F, arg: A) -> SubmitAsync<'_, R>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        self.submit_async_with(TaskOptions::new(), f, arg)
    }

    /// Like [`submit_async`](Self::submit_async), with options.
    #[track_caller]
    pub fn submit_async_with<F, A, R>(
        &self,
        options: TaskOptions,
        f: F,
        arg: A,
    ) -> SubmitAsync<'_, R>
    where
        F: FnOnce(A) -> R + Send + 'static,
        A: Send + 'static,
        R: Send + 'static,
    {
        let (task, future) = Task::local(options, f, arg);
        SubmitAsync::new(self, task, future)
    }

    /// Runs `f()` on a thread; `f` may capture. It can be called on an `Arc` of the pool, too.
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// let pool = ThreadPoolExecutor::new(1)?;
    /// let name = String::from("Ada");
    /// let greeting = pool.spawn(move || format!("hi, {name}"));
    /// assert_eq!(greeting.result()?, "hi, Ada");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    pub fn spawn<F, R>(&self, f: F) -> Future<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.submit(move |()| f(), ())
    }

    /// Runs `f`, which may capture, on every item; yields the results in the order of the items.
    /// (`Executor.map`) The [pool](Self) has an example.
    #[track_caller]
    pub fn map<F, A, R, I>(&self, f: F, items: I) -> Map<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_with(MapOptions::new(), f, items)
    }

    /// Like [`map`](Self::map), with options.
    #[track_caller]
    pub fn map_with<F, A, R, I>(
        &self,
        options: MapOptions,
        f: F,
        items: I,
    ) -> Map<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        Map::new(Feed::local(self, options, f, items.into_iter()))
    }

    /// Like [`map`](Self::map), for a function that also borrows the state of its thread; it may
    /// capture.
    #[track_caller]
    pub fn map_with_state<S, F, A, R, I>(&self, f: F, items: I) -> Map<'_, A, R, I::IntoIter>
    where
        S: 'static,
        F: Fn(&mut S, A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        let (options, items) = (MapOptions::new(), items.into_iter());
        Map::new(Feed::local_with_state(self, options, f, items))
    }

    /// Like [`map`](Self::map), but yields `(index, result)` as items finish.
    /// (`multiprocessing.Pool.imap_unordered`)
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let offset = 10;
    /// for (index, result) in pool.map_unordered(move |n| n + offset, 0..3_usize) {
    ///     assert_eq!(result?, index + 10);
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    pub fn map_unordered<F, A, R, I>(&self, f: F, items: I) -> MapUnordered<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        self.map_unordered_with(MapOptions::new(), f, items)
    }

    /// Like [`map_with`](Self::map_with), but yields `(index, result)` as items finish.
    ///
    /// ```
    /// # use concurrent_futures::{MapOptions, ThreadPoolExecutor};
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let options = MapOptions::new().chunksize(10);
    /// let squares = pool.map_unordered_with(options, |n: u64| n * n, 0..100);
    /// assert_eq!(squares.map(|(_, square)| square.unwrap()).sum::<u64>(), 328_350);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    pub fn map_unordered_with<F, A, R, I>(
        &self,
        options: MapOptions,
        f: F,
        items: I,
    ) -> MapUnordered<'_, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = A>,
    {
        MapUnordered::new(Feed::local(self, options, f, items.into_iter()))
    }

    /// Like [`map`](Self::map), over items with keys: each result comes with the key of its item.
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let offset = 10;
    /// for (word, length) in pool.map_keyed(move |text: &str| offset + text.len(), [("tea", "a cup of tea")]) {
    ///     assert_eq!((word, length?), ("tea", 22));
    /// }
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[track_caller]
    pub fn map_keyed<K, F, A, R, I>(&self, f: F, items: I) -> MapKeyed<'_, K, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = (K, A)>,
    {
        self.map_keyed_with(MapOptions::new(), f, items)
    }

    /// Like [`map_keyed`](Self::map_keyed), with options. If those are invalid, the error is the first item's.
    #[track_caller]
    pub fn map_keyed_with<K, F, A, R, I>(
        &self,
        options: MapOptions,
        f: F,
        items: I,
    ) -> MapKeyed<'_, K, A, R, I::IntoIter>
    where
        F: Fn(A) -> R + Send + Sync + 'static,
        A: Send + 'static,
        R: Send + 'static,
        I: IntoIterator<Item = (K, A)>,
    {
        let (items, keys) = map_keyed::arguments(items.into_iter());
        MapKeyed::new(Feed::local(self, options, f, items), keys)
    }

    /// Calls `body` with a [`Scope`], whose tasks may borrow; returns when they all have ended. (`std::thread::scope`,
    /// `rayon::scope`)
    ///
    /// Tasks that have not begun when the body returns still run. If it panics, they do not, and the panic goes on once
    /// those that run have ended. A task's own panic is its future's error, also if that future was dropped. After
    /// a shutdown all tasks of the scope end as [`Error::ShutDown`], and the scope ends.
    ///
    /// It may be called in a task of the same pool. That task's worker then runs what it waits for itself, if it is
    /// queued: at the end of the scope, in [`ScopedFuture::result`](crate::ScopedFuture::result), and in the scope's maps. So a pool of any
    /// size runs scopes in scopes.
    ///
    /// ```
    /// # use concurrent_futures::ThreadPoolExecutor;
    /// fn sum(pool: &ThreadPoolExecutor, numbers: &[u64]) -> u64 {
    ///     if numbers.len() < 100 {
    ///         return numbers.iter().sum();
    ///     }
    ///     let (left, right) = numbers.split_at(numbers.len() / 2);
    ///     pool.scope(|scope| {
    ///         let left = scope.spawn(|| sum(pool, left));
    ///         sum(pool, right) + left.result().unwrap()
    ///     })
    /// }
    ///
    /// let pool = ThreadPoolExecutor::new(2)?;
    /// let numbers: Vec<u64> = (0..1000).collect();
    /// assert_eq!(sum(&pool, &numbers), 499_500);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Panics
    /// If `body` does.
    pub fn scope<'env, T>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    ) -> T {
        scope::open(self, Some(&self.0.owner), body)
    }

    fn with_worker_pool(worker_pool: Arc<WorkerPool<Task>>) -> Self {
        let owner: Arc<dyn PoolHandle> = Arc::new(ThreadPoolHandle(Arc::downgrade(&worker_pool)));
        let entry = pool_registry::enter(&owner);
        let entry = match worker_pool.is_observed() {
            true => entry.observed(),
            false => entry,
        };
        Self(Arc::new(ThreadPool {
            worker_pool,
            entry,
            owner,
        }))
    }
}

impl ThreadPool {
    #[inline]
    fn submit_admitted(&self, task: Task) {
        self.worker_pool.note_task(&task);
        if let Submit::Refused(task, error) = self.worker_pool.submit(task) {
            task.fail(error);
        }
    }

    /// Queues a task, unless there is no room for it.
    ///
    /// # Errors
    /// The task, if there is no room.
    fn execute_if(&self, admit: Admit, task: Task) -> Result<(), Task> {
        match admit {
            Admit::Full => return Err(task),
            Admit::Refused(error) => task.fail(error),
            Admit::Admitted => {
                task.attach(self.entry.number());
                self.submit_admitted(task);
            }
        }
        Ok(())
    }

    fn wind_down(&self, how: Shutdown, deadline: Deadline) -> bool {
        let looked_at = how.waits && deadline.is_never() && deadlock::is_worker();
        let _waiting = looked_at.then(|| {
            // Callbacks of cancelled tasks run before this thread is noted as waiting.
            let how = Shutdown {
                waits: false,
                ..how
            };
            self.worker_pool.shutdown(how, Deadline::never());
            deadlock::wait_for(vec![Awaited::Pool(Arc::clone(&self.owner))])
        });
        let gone = self.worker_pool.shutdown(how, deadline);
        if !gone || !how.waits || self.worker_pool.includes_caller() {
            return gone;
        }
        self.worker_pool.timer().stop(deadline)
    }
}

impl Executor for ThreadPoolExecutor {
    fn max_workers(&self) -> usize {
        self.0.worker_pool.max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.0.wind_down(how, Deadline::never());
    }

    fn shutdown_timeout(&self, how: Shutdown, limit: Duration) -> bool {
        self.0.wind_down(how, Deadline::after(limit))
    }

    fn closed(&self) -> Closed {
        Closed::of(Arc::clone(&self.0.worker_pool) as _)
    }

    fn stats(&self) -> Stats {
        self.0.worker_pool.stats()
    }

    fn execute(&self, task: Task) {
        task.attach(self.0.entry.number());
        match self.0.worker_pool.admit(OnFull::Block) {
            Admit::Refused(error) => task.fail(error),
            Admit::Admitted | Admit::Full => self.0.submit_admitted(task),
        }
    }

    fn try_execute(&self, task: Task) -> Result<(), Task> {
        let admit = self.0.worker_pool.admit(OnFull::Reject);
        self.0.execute_if(admit, task)
    }

    fn try_execute_or_wake(
        &self,
        task: Task,
        place: &mut RoomWaiter,
        waker: &Waker,
    ) -> Result<(), Task> {
        let admit = self.0.worker_pool.admit_or_wake(place, waker);
        self.0.execute_if(admit, task)
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.wind_down(Shutdown::on_drop(), Deadline::never());
    }
}

impl std::fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadPoolExecutor")
            .field("max_workers", &self.max_workers())
            .field("stats", &self.stats())
            .finish()
    }
}

/// The handle that futures of a thread pool call.
struct ThreadPoolHandle(
    /// The worker pool; gone once the executor and all threads are gone.
    Weak<WorkerPool<Task>>,
);

impl ThreadPoolHandle {
    /// Calls `act` with the worker pool; `None`: it is gone.
    #[inline]
    fn with_pool<R>(&self, act: impl FnOnce(&WorkerPool<Task>) -> R) -> Option<R> {
        self.0.upgrade().map(|worker_pool| act(&worker_pool))
    }
}

impl PoolHandle for ThreadPoolHandle {
    fn on_cancelled(&self, id: FutureId) {
        self.with_pool(|worker_pool| worker_pool.withdrawn(id));
    }

    /// A thread that runs a chunk of the map sees by itself that the map was dropped.
    fn cancel_range(&self, first: FutureId, last: FutureId) {
        self.with_pool(|worker_pool| worker_pool.abandon(first, last, |_| ()));
    }

    /// Asks the task to stop, since a thread cannot be stopped; returns `false`.
    fn kill(&self, id: FutureId) -> bool {
        self.with_pool(|worker_pool| worker_pool.request_cancel(id));
        false
    }

    fn on_timeout(&self, id: FutureId) {
        self.with_pool(|worker_pool| worker_pool.expired(id));
    }

    fn on_settled(&self, id: FutureId, error: Option<&Error>) {
        self.with_pool(|worker_pool| worker_pool.settled(id, error));
    }

    fn place(&self, first: FutureId, last: FutureId) -> TaskLocation {
        self.with_pool(|worker_pool| worker_pool.place(first, last))
            .unwrap_or(TaskLocation::Elsewhere)
    }

    fn workers(&self) -> Vec<ThreadId> {
        self.with_pool(WorkerPool::workers).unwrap_or_default()
    }

    fn fail_deadlocked(&self, first: FutureId, last: FutureId) {
        self.with_pool(|worker_pool| worker_pool.refuse(first, last, &Error::Deadlock));
    }

    fn run_queued(&self, first: FutureId, last: FutureId) {
        let Some(worker_pool) = self.0.upgrade() else {
            return;
        };
        while let Some((task, context)) = worker_pool.take_nested(first, last) {
            task.run_to_end(&context);
        }
    }

    fn drive_until(&self, wait: &dyn Waiter, _: Deadline) -> Drive {
        match self.with_pool(|worker_pool| worker_pool.look_for(wait)) {
            Some(()) => Drive::Recheck,
            None => Drive::Park,
        }
    }
}

impl WorkItem for Task {
    fn id(&self) -> FutureId {
        Self::id(self)
    }

    fn last(&self) -> FutureId {
        Self::last(self)
    }

    fn len(&self) -> usize {
        Self::len(self)
    }

    fn contains(&self, id: FutureId) -> bool {
        Self::contains(self, id)
    }

    fn remove(&mut self, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        Self::remove(self, id)
    }

    fn put_back(&self) {
        Self::put_back(self);
    }

    fn is_given_up(&self) -> bool {
        Self::is_given_up(self)
    }

    fn fail(self, error: &Error, settled: &mut dyn FnMut(Verdict)) {
        self.fail_all(error, settled);
    }
}

/// The main loop of a worker thread: it is prepared, then runs tasks until the pool has none for it.
fn serve(context: &WorkerContext<Task>, preparations: &[Preparation]) {
    deadlock::join_workers();
    let _guard = WorkerInfo::here(context.index(), Arc::clone(context.progress())).enter();
    let _state = user_state::enter_new();
    let prepared = preparations
        .iter()
        .try_for_each(|preparation| preparation.run(context.index()));
    if let Err(error) = prepared {
        context.worker_pool().break_down(&error);
        return;
    }
    context.ready(std::process::id());
    while let Some(task) = context.take() {
        if let Some(again) = task.run_on(context) {
            context.try_again(again.pause, again.task);
        }
    }
}

/// The examples of the documentation, in a form that Miri can run.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::unwind;

    #[test]
    fn tasks_maps_callbacks_and_panics_go_their_way() {
        let pool = ThreadPoolExecutor::new(2).unwrap();
        let words = "what they borrow ends later".to_owned();
        let length = pool.submit(move |(): ()| words.len(), ());
        let panics = pool.submit(|(): ()| -> u8 { panic!("on purpose") }, ());
        let (tell, told) = std::sync::mpsc::channel();
        let called_back = pool.submit(|text: String| text + "!", "hello".to_owned());
        called_back.add_done_callback(move |outcome| {
            let _ = tell.send(outcome.cloned().ok());
        });
        let squares: Vec<u32> = pool
            .map(|x: u32| x * x, 0..40)
            .map(Result::unwrap)
            .collect();
        assert!(squares.into_iter().eq((0..40).map(|x| x * x)));
        assert_eq!(length.result().unwrap(), 27);
        assert!(matches!(panics.result(), Err(Error::Panicked(_))));
        assert_eq!(told.recv().unwrap().as_deref(), Some("hello!"));
    }

    #[test]
    fn scopes_lend_what_they_borrow() {
        let pool = ThreadPoolExecutor::new(2).unwrap();
        let mut words = vec!["borrowed".to_owned(), "changed".to_owned()];
        pool.scope(|scope| {
            let mut pushed = scope.map(|word: &mut String| word.push('!'), &mut words);
            assert!(pushed.all(|outcome| outcome.is_ok()));
        });
        let words = &words;
        let (sum, word) = pool.scope(|scope| {
            let lengths = scope.map(|word: &String| word.len(), words);
            let word = scope.spawn(|| words.last());
            let panics = scope.spawn(|| assert!(words.is_empty()));
            assert!(matches!(panics.result(), Err(Error::Panicked(_))));
            (lengths.sum::<Result<usize, _>>(), word.result())
        });
        assert_eq!(sum.unwrap(), 17);
        assert_eq!(word.unwrap().unwrap(), "changed!");
    }

    #[test]
    fn a_scope_waits_for_what_is_forgotten() {
        let pool = ThreadPoolExecutor::new(2).unwrap();
        let words = vec!["borrowed".to_owned(), "kept".to_owned()];
        pool.scope(|scope| {
            std::mem::forget(scope.spawn(|| words.len()));
            std::mem::forget(scope.map(|word: &String| word.clone(), &words));
        });
        drop(words);
    }

    #[test]
    fn scopes_in_scopes_run_in_one_worker() {
        fn increment(pool: &ThreadPoolExecutor, numbers: &mut [u8]) {
            if let [one] = numbers {
                *one += 1;
                return;
            }
            let (left, right) = numbers.split_at_mut(numbers.len() / 2);
            pool.scope(|scope| {
                let right = scope.spawn(|| increment(pool, right));
                drop(scope.spawn(|| increment(pool, left)));
                right.wait();
            });
        }
        let pool = ThreadPoolExecutor::new(1).unwrap();
        let mut numbers = [0, 1, 2, 3, 4];
        pool.scope(|scope| {
            drop(scope.spawn(|| increment(&pool, &mut numbers)));
        });
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_scope_whose_body_panics_waits() {
        let pool = ThreadPoolExecutor::new(1).unwrap();
        let mut ended = false;
        let outcome = unwind::catch(|| {
            pool.scope(|scope| {
                let (begun, has_begun) = std::sync::mpsc::channel();
                let ended = &mut ended;
                drop(scope.spawn(move || {
                    begun.send(()).unwrap();
                    std::thread::yield_now();
                    *ended = true;
                }));
                has_begun.recv().unwrap();
                panic!("on purpose");
            })
        });
        assert!(outcome.is_err() && ended);
    }

    #[test]
    fn what_waits_is_cancelled() {
        let pool = ThreadPoolExecutor::new(1).unwrap();
        let (start, started) = std::sync::mpsc::channel::<()>();
        let busy = pool.submit(move |(): ()| started.recv().is_ok(), ());
        let waiting = pool.submit(|(): ()| (), ());
        assert!(waiting.cancel());
        start.send(()).unwrap();
        assert!(busy.result().unwrap());
        assert!(matches!(waiting.result(), Err(Error::Cancelled)));
    }
}
