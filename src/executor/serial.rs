//! [`SerialExecutor`]: runs tasks in the caller. Implements the same traits as the pools: [`Executor`], and
//! [`WorkerHooks`] for its tasks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use crate::channel::inline;
use crate::current_worker::{Progress, WorkerInfo};
use crate::error::Error;
use crate::executor::Executor;
use crate::executor::closed::{Closed, Closing};
use crate::executor::counts::Counts;
use crate::executor::feed::Feed;
use crate::executor::map::{Map, MapUnordered};
use crate::executor::map_keyed::{self, MapKeyed};
use crate::executor::scope::{self, Scope};
use crate::executor::stats::Stats;
use crate::executor::submit_async::SubmitAsync;
use crate::executor::thread_states::StateMaker;
use crate::executor::waker_line::WakerLine;
use crate::future::Future;
use crate::future::id::FutureId;
use crate::future::promise::{Expire, Verdict};
use crate::options::{MapOptions, Shutdown, TaskOptions};
use crate::preparation::{AsCheckedState, AsState, Keep};
use crate::sync::lock;
use crate::task::Task;
use crate::task::run::WorkerHooks;
use crate::task::timeout::TimeoutGuard;
use crate::user_state::{self, SlotGuard};

/// Runs each task inside `submit`, in the caller: for tests, for debugging, and for the serial row of a
/// comparison.
///
/// ```
/// use concurrent_futures::{Executor, SerialExecutor};
///
/// let future = SerialExecutor::new().submit(|x: i32| -x, 5);
/// assert!(future.done());
/// assert_eq!(future.result()?, -5);
/// # Ok::<(), concurrent_futures::Error>(())
/// ```
///
/// Clones are the same executor.
#[derive(Clone, Default)]
pub struct SerialExecutor {
    /// Whether tasks are accepted, and the figures of those that ended.
    state: Arc<Mutex<State>>,
    /// What tasks can see of the executor, through `current_worker`.
    progress: Arc<Progress>,
    /// Makes the state of each calling thread; `None`: tasks have none.
    maker: Option<Arc<StateMaker>>,
}

/// What the executor's lock guards.
#[derive(Default)]
struct State {
    /// Why no task is accepted any more: `shutdown` was called, or no state could be made; `None`: they are.
    refusal: Option<Error>,
    /// How many calls of `execute` have accepted a task and not ended: their tasks run, are about to, or pause
    /// before another attempt.
    accepted: usize,
    /// How many tasks run: more than one in several callers, or where a task submits another.
    running: usize,
    /// How the tasks that ran have ended.
    counts: Counts,
    /// The async tasks that wait for the end.
    line: WakerLine,
}

impl SerialExecutor {
    /// An executor that runs tasks in the caller.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An executor whose tasks can borrow a state, as [`submit_with_state`](Self::submit_with_state) and the
    /// pools have it: each calling thread is a worker of its own, and makes one by `make` before its first task.
    ///
    /// The state stays on its thread, so it need not be `Send`. It is dropped there: by a `shutdown` or with the last
    /// clone of the executor if that happens there, else at the end of the thread. If `make` panics, no more tasks run: they end as
    /// [`Error::BrokenPool`].
    ///
    /// ```
    /// # use concurrent_futures::SerialExecutor;
    /// let executor = SerialExecutor::with_state(Vec::<&str>::new);
    /// let count = |words: &mut Vec<&str>, word| { words.push(word); words.len() };
    /// executor.submit_with_state(count, "tea").result()?;
    /// assert_eq!(executor.submit_with_state(count, "cake").result()?, 2);
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    #[must_use]
    pub fn with_state<S: 'static>(make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        Self::with_maker(StateMaker::new(move || AsState::keep(make())))
    }

    /// Like [`with_state`](Self::with_state), for a function that may fail: then no more tasks run, and end as
    /// [`Error::BrokenPool`] with the text of the error.
    #[must_use]
    pub fn try_with_state<S: 'static, E: fmt::Display>(
        make: impl Fn() -> Result<S, E> + Send + Sync + 'static,
    ) -> Self {
        Self::with_maker(StateMaker::new(move || AsCheckedState::keep(make())))
    }

    fn with_maker(maker: Arc<StateMaker>) -> Self {
        let maker = Some(maker);
        Self {
            maker,
            ..Self::default()
        }
    }

    /// Runs `f(arg)` in the caller; `f` may capture. (`Executor.submit`)
    ///
    /// ```
    /// # use concurrent_futures::SerialExecutor;
    /// let factor = 3;
    /// let future = SerialExecutor::new().submit(move |x: i32| factor * x, 14);
    /// assert_eq!(future.result()?, 42);
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

    /// Like [`submit`](Self::submit), for a function that also borrows the state of its worker; it
    /// may capture. [`with_state`](Self::with_state) has an example.
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

    /// Like [`submit`](Self::submit), for async code: runs `f(arg)` when the returned future is
    /// polled.
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

    /// Runs `f()` in the caller; `f` may capture.
    #[track_caller]
    pub fn spawn<F, R>(&self, f: F) -> Future<R>
    where
        F: FnOnce() -> R + Send + 'static,
        R: Send + 'static,
    {
        self.submit(move |()| f(), ())
    }

    /// Runs `f`, which may capture, on every item; yields the results in the order of the items.
    /// (`Executor.map`)
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

    /// Like [`map`](Self::map), for a function that also borrows the state of its worker; it may
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

    /// Like [`map`](Self::map), but yields `(index, result)` as items finish: here, in their order.
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

    /// Like [`map_unordered`](Self::map_unordered), with options.
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

    /// Calls `body` with a [`Scope`], whose tasks may borrow, and run where they are submitted.
    /// (`std::thread::scope`)
    ///
    /// ```
    /// # use concurrent_futures::SerialExecutor;
    /// let mut words = vec!["in", "the", "caller"];
    /// SerialExecutor::new().scope(|scope| {
    ///     scope.spawn(|| words.reverse()).result()
    /// })?;
    /// assert_eq!(words[0], "caller");
    /// # Ok::<(), concurrent_futures::Error>(())
    /// ```
    ///
    /// # Panics
    /// If `body` does.
    pub fn scope<'env, T>(
        &'env self,
        body: impl for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    ) -> T {
        scope::open(self, None, body)
    }

    /// Enters the slot of the calling thread's state. Without a state it enters none, so that tasks do not find
    /// that of a pool's worker inside of which they run.
    fn enter_state(&self) -> Result<SlotGuard, Error> {
        match &self.maker {
            Some(maker) => maker.enter(),
            None => Ok(user_state::enter(None)),
        }
    }

    /// Accepts one task.
    ///
    /// # Errors
    /// The reason why no task is accepted any more.
    fn accept(&self) -> Result<Accepted<'_>, Error> {
        let mut state = self.lock();
        if let Some(error) = &state.refusal {
            return Err(error.clone());
        }
        // Under the same lock: a thread that shuts down from here on finds that this task is to come.
        state.accepted += 1;
        Ok(Accepted(&self.state))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&*self.state)
    }
}

impl Executor for SerialExecutor {
    fn max_workers(&self) -> usize {
        1
    }

    fn shutdown(&self, _how: Shutdown) {
        self.lock().refusal.get_or_insert(Error::ShutDown);
        if let Some(maker) = &self.maker {
            maker.forget();
        }
        wake_if_over(self.lock());
    }

    fn closed(&self) -> Closed {
        Closed::of(Arc::clone(&self.state) as _)
    }

    fn stats(&self) -> Stats {
        let state = self.lock();
        state.counts.added_to(Stats {
            running: state.running,
            ..Stats::default()
        })
    }

    fn execute(&self, task: Task) {
        let _accepted = match self.accept() {
            Ok(accepted) => accepted,
            Err(error) => return task.fail(error),
        };
        let _worker = WorkerInfo::here(0, Arc::clone(&self.progress)).enter();
        match self.enter_state() {
            Ok(_state) => {
                let _inline_guard = inline::enter();
                task.run_to_end(self);
            }
            Err(error) => {
                self.lock().refusal.get_or_insert_with(|| error.clone());
                task.fail(error);
            }
        }
    }
}

impl WorkerHooks for SerialExecutor {
    fn task_starting(&self, _: FutureId) {
        self.progress.begin_task();
        self.lock().running += 1;
    }

    fn task_started(&self, _: FutureId) {}

    fn task_cancelled(&self, _: FutureId) {
        self.lock().running -= 1;
    }

    fn cancels(&self) -> bool {
        false
    }

    fn drop_rest(&self) {}

    fn count(&self, _: Verdict) {}

    /// Returns `None`: no other thread could expire the task, so the limit is checked after it has returned.
    fn expire_after(&self, _: Arc<dyn Expire>, _: Duration) -> Option<TimeoutGuard> {
        None
    }

    fn task_done(&self, verdict: Verdict, _: Option<&Error>) {
        let mut state = self.lock();
        state.running -= 1;
        state.counts.count(verdict);
    }

    fn worker_index(&self) -> Option<usize> {
        Some(0)
    }
}

impl State {
    /// Whether no task runs, and none will.
    fn is_over(&self) -> bool {
        self.refusal.is_some() && self.accepted == 0
    }
}

/// Counts one task as accepted, until it is dropped.
struct Accepted<'a>(
    /// The state of the executor.
    &'a Mutex<State>,
);

impl Drop for Accepted<'_> {
    fn drop(&mut self) {
        let mut state = lock(self.0);
        state.accepted -= 1;
        wake_if_over(state);
    }
}

impl Closing for Mutex<State> {
    fn closed_or_wake(self: Arc<Self>, place: &mut Option<u64>, waker: &Waker) -> bool {
        let waker = waker.clone(); // foreign code, which does not run under the lock
        let mut state = lock(&*self);
        if state.is_over() {
            return true;
        }
        let (number, stale) = state.line.enter(*place, waker);
        drop(state);
        drop(stale);
        *place = Some(number);
        false
    }

    fn leave(&self, place: u64) {
        let stale = lock(self).line.leave(place);
        drop(stale); // off the lock: foreign code
    }
}

/// Wakes those that wait for the end, if this is it. Releases the lock first.
fn wake_if_over(mut state: MutexGuard<'_, State>) {
    if state.is_over() {
        let line = state.line.take_all();
        drop(state);
        line.wake();
    }
}

impl fmt::Debug for SerialExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialExecutor")
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
