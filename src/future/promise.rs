//! The pool's end of a task, [`Promise`], and the [`TaskCell`] that it shares with the task's future: what is
//! to be done, and the outcome, in one allocation.
//!
//! `task/` makes them; pools queue them, most with their types erased (`dyn_promise.rs`), and settle them. The
//! future, in `mod.rs`, reads the outcome. The cell's state, with its lock, is in `state.rs`.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::future::Future;
use crate::future::id::FutureId;
use crate::future::pool_handle::{Drive, PoolHandle, Unqueue, Waiter};
use crate::future::pool_registry::{AtomicPoolId, PoolId};
use crate::future::state::{
    Arrived, Delivery, Ending, FutureState, Look, Outcome, Publish, Register, Settling, Start,
    WaitEnd, Wakeups, WatchKey, Watcher,
};
use crate::sync::deadline::Deadline;
use crate::sync::spin_then_yield;
use crate::task_info::TaskInfo;
use crate::unwind::{self, discard};

/// The pool's end of a task. Dropping it settles the future as cancelled.
pub(crate) struct Promise<T, B: Body<T>> {
    /// The task cell, shared with the future; `None` once settled or given up.
    task_cell: Option<Arc<TaskCell<T, B>>>,
}

/// What future and promise share, all of a task in one allocation: what is to be done, and the outcome.
pub(crate) struct TaskCell<T, B: ?Sized = dyn Body<T>> {
    /// The id of the future, unique in this process.
    pub(super) id: FutureId,
    /// The phase of the task, its listeners, and its outcome.
    pub(super) cell: FutureState<T>,
    /// The pool that accepted the task.
    pub(super) pool_handle: AtomicPoolId,
    /// What is to be done: function and argument, later the encoded result.
    body: B,
}

/// What is to be done by a task that returns a `T`.
pub(crate) trait Body<T>: Send + Sync {
    /// What errors say about the task.
    fn info(&self) -> TaskInfo;
    /// Drops what the function was not called with, which may be user values.
    ///
    /// # Safety
    /// The caller holds the task's one promise, or has given it up for this call.
    unsafe fn discard(&self);
    /// Decodes what has been received into the outcome.
    ///
    /// # Safety
    /// The caller is the one thread that won the transition to `Decoding`.
    unsafe fn open(&self) -> Outcome<T>;
    /// The task was killed while it ran: it is not to be run again, whatever comes of it.
    fn give_up(&self) {}
    /// How often the task was begun, as far as threads of this process know.
    fn attempts(&self) -> u32 {
        1
    }

    /// Whether `give_up` was called.
    fn is_given_up(&self) -> bool {
        false
    }
}

/// What any holder of a task can do to it, with its types erased.
pub(crate) trait Settle: Send + Sync {
    /// The id of its future.
    fn id(&self) -> FutureId;
    /// Settles the task with this error, in place of running it.
    ///
    /// # Safety
    /// The caller held the task's one promise, and has given it up for this call.
    unsafe fn fail(self: Arc<Self>, error: Error, settled: &mut dyn FnMut(Verdict));
}

/// A future with an outcome that no thread has inspected, and with callbacks that wait for that.
pub(crate) trait DeferredCallbacks: Send + Sync {
    /// Inspects the future: decodes or publishes the outcome, and runs the callbacks.
    fn open(&self);
}

/// The listeners of an outcome that has arrived; `deliver` notifies them.
#[must_use]
pub(crate) struct Notifications {
    /// The watchers and the waker of the future.
    pub(crate) wakeups: Wakeups,
    /// The future, if it has callbacks, which are to be run.
    pub(crate) opens: Option<Arc<dyn DeferredCallbacks>>,
    /// What may hold user values, to be dropped without locks; `None`: nothing.
    pub(crate) remains: Option<Arc<dyn Any + Send + Sync>>,
}

/// A task with a time limit that may pass while it runs.
pub(crate) trait Expire: Send + Sync {
    /// Settles the task as timed out, unless it has an outcome.
    fn expire(&self, limit: Duration);
}

/// A task on a thread that is run again after its time limit, once it has returned: at the limit it is only asked
/// to.
struct Asking<T, B>(
    /// The task.
    Arc<TaskCell<T, B>>,
);

/// How a pool's statistics count an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A value.
    Completed,
    /// An error other than cancellation.
    Failed,
    /// The task was cancelled or killed.
    Cancelled,
    /// Not counted: the task had been settled, and counted, elsewhere.
    Late,
    /// Not counted: an attempt failed, and the task will be run again.
    Retried,
}

/// The future and the promise of a new task.
#[inline]
pub(crate) fn pair<T, B: Body<T> + 'static>(body: B) -> (Future<T>, Promise<T, B>) {
    let task_cell = Arc::new(TaskCell {
        id: FutureId::first_of(1),
        cell: FutureState::new(),
        pool_handle: AtomicPoolId::default(),
        body,
    });
    let promise = Promise {
        task_cell: Some(Arc::clone(&task_cell)),
    };
    let future = Future {
        task_cell,
        lends: PhantomData,
    };
    (future, promise)
}

impl<T, B: Body<T>> Promise<T, B> {
    /// The promise of a task, made again after it was given up for this call.
    pub(crate) fn of(task_cell: Arc<TaskCell<T, B>>) -> Self {
        let task_cell = Some(task_cell);
        Self { task_cell }
    }

    /// Gives the promise up for its task cell, of which the types can then be erased.
    pub(crate) fn into_task_cell(mut self) -> Arc<TaskCell<T, B>> {
        match self.task_cell.take() {
            Some(task_cell) => task_cell,
            None => unreachable!("settling consumes the promise"),
        }
    }

    /// A worker begins the task. [`Start::Cancelled`]: the worker leaves it.
    pub(crate) fn start(&self) -> Start {
        self.task_cell().start()
    }

    /// The task, for the timer that ends it at its time limit.
    pub(crate) fn expiring(&self) -> Arc<dyn Expire>
    where
        T: Send + 'static,
        B: 'static,
    {
        match &self.task_cell {
            Some(task_cell) => Arc::clone(task_cell) as Arc<dyn Expire>,
            None => unreachable!("settling consumes the promise"),
        }
    }

    /// The task, for the timer that asks it to stop at its time limit, and does not end it.
    pub(crate) fn asking(&self) -> Arc<dyn Expire>
    where
        T: Send + 'static,
        B: 'static,
    {
        match &self.task_cell {
            Some(task_cell) => Arc::new(Asking(Arc::clone(task_cell))),
            None => unreachable!("settling consumes the promise"),
        }
    }

    /// Stores the outcome without running user code; the first thread that inspects the future decodes it.
    /// Returns the listeners to notify, if there are any.
    pub(crate) fn arrive(self, mut delivery: Delivery<T>) -> Option<Box<Notifications>>
    where
        T: Send + 'static,
        B: 'static,
    {
        let task_cell = self.into_task_cell();
        if let Delivery::Outcome(Err(error), _) = &mut delivery {
            error.name_task(|| task_cell.body.info());
        }
        let Arrived {
            wakeups,
            has_callbacks,
        } = task_cell.cell.arrive(delivery)?;
        let has_no_callbacks = wakeups.is_none() && !has_callbacks;
        (!has_no_callbacks).then(|| {
            Box::new(Notifications {
                wakeups,
                opens: has_callbacks.then_some(task_cell as Arc<dyn DeferredCallbacks>),
                remains: None,
            })
        })
    }

    /// Settles the future with the outcome of the function. `before` is called once callbacks have run, just
    /// before any other thread sees the future done.
    pub(crate) fn settle(self, mut outcome: Outcome<T>, before: impl FnOnce(Verdict)) {
        let ending = match &mut outcome {
            Err(Error::Cancelled) => self.task_cell().ending_if_cancelled(),
            Err(error) => {
                error.name_task(|| self.task_cell().body.info());
                Ending::Finished
            }
            Ok(_) => Ending::Finished,
        };
        self.settle_as(outcome, ending, before);
    }

    /// Settles the future with the outcome of the function, as [`settle`](Self::settle) does, in the thread that
    /// has run it: `before` is told of the error, too, and reports to the worker what its pool must know.
    pub(crate) fn settle_on_worker(
        self,
        mut outcome: Outcome<T>,
        before: impl FnOnce(Verdict, Option<&Error>),
    ) {
        let task_cell = self.into_task_cell();
        if let Err(error) = &mut outcome {
            error.name_task(|| task_cell.body.info());
        }
        task_cell.settle_quietly(outcome, Ending::Finished, before);
        release(task_cell);
    }

    /// Settles the future as cancelled because its worker was killed.
    pub(crate) fn settle_killed(self, before: impl FnOnce(Verdict)) {
        self.settle_as(Err(Error::Cancelled), Ending::Killed, before);
    }

    fn settle_as(self, outcome: Outcome<T>, ending: Ending, before: impl FnOnce(Verdict)) {
        let task_cell = self.into_task_cell();
        task_cell.settle(outcome, ending, before);
        release(task_cell);
    }

    /// The task cell, shared with the future.
    pub(crate) fn task_cell(&self) -> &TaskCell<T, B> {
        match &self.task_cell {
            Some(task_cell) => task_cell,
            None => unreachable!("settling consumes the promise"),
        }
    }
}

impl<T, B: Body<T>> Deref for Promise<T, B> {
    type Target = B;

    /// What is to be done.
    fn deref(&self) -> &B {
        &self.task_cell().body
    }
}

impl<T, B: Body<T>> Drop for Promise<T, B> {
    fn drop(&mut self) {
        if let Some(task_cell) = self.task_cell.take() {
            // SAFETY: this was the task's one promise, and it is given up.
            unsafe { task_cell.body.discard() };
            let ending = task_cell.ending_if_cancelled();
            task_cell.settle(Err(Error::Cancelled), ending, |_| ());
            release(task_cell);
        }
    }
}

impl<T: Send + 'static, B: Body<T> + 'static> Settle for TaskCell<T, B> {
    fn id(&self) -> FutureId {
        self.id
    }

    unsafe fn fail(self: Arc<Self>, error: Error, settled: &mut dyn FnMut(Verdict)) {
        // SAFETY: the caller has given up the task's one promise, by this function's contract.
        unsafe { self.body.discard() };
        Promise::of(self).settle(Err(error), settled);
    }
}

impl<T, B: ?Sized> TaskCell<T, B> {
    /// What is to be done: function and argument, later the encoded result.
    pub(crate) fn body(&self) -> &B {
        &self.body
    }

    /// Sets the pool that the future asks, to cancel, to wait, or for the state of the task.
    pub(crate) fn attach(&self, pool: PoolId) {
        // A task that is forwarded from pool to pool keeps its first pool.
        self.pool_handle.set(pool);
    }

    /// A worker begins the task. [`Start::Cancelled`]: the worker leaves it.
    pub(crate) fn start(&self) -> Start {
        self.cell.start()
    }

    /// Makes the task pending again: its worker was lost before it touched the task.
    pub(crate) fn put_back(&self) {
        self.cell.put_back();
    }

    /// Whether a callback, watcher or waker is to be called as soon as the task is done.
    pub(crate) fn has_listeners(&self) -> bool {
        self.cell.has_listeners()
    }

    /// Whether callbacks wait for the end of the task.
    pub(crate) fn has_callbacks(&self) -> bool {
        self.cell.has_callbacks()
    }

    /// Whether the task was cancelled, or is about to be, before it reached the pull queue.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.pool_handle.is_cancelled()
    }

    /// Tells the observers of the task's pool that it was cancelled, if they were not told: it was cancelled before
    /// the pool got it.
    pub(crate) fn tell_cancelled(&self) {
        if let Some(pool_handle) = self.pool_handle.observed_pool() {
            pool_handle.on_settled(self.id, Some(&Error::Cancelled));
        }
    }

    /// How the task ends if it is cancelled now: killed if it runs, else withdrawn.
    fn ending_if_cancelled(&self) -> Ending {
        if self.cell.is_running() {
            Ending::Killed
        } else {
            Ending::Withdrawn
        }
    }

    pub(super) fn pool_handle(&self) -> Option<Arc<dyn PoolHandle>> {
        self.pool_handle.pool()
    }

    fn settle(&self, outcome: Outcome<T>, ending: Ending, before: impl FnOnce(Verdict)) {
        self.settle_quietly(outcome, ending, |verdict, error| {
            if verdict != Verdict::Late {
                if let Some(pool_handle) = self.pool_handle.observed_pool() {
                    pool_handle.on_settled(self.id, error);
                }
            }
            before(verdict);
        });
    }

    /// Settles the future, and does not tell the pool.
    fn settle_quietly(
        &self,
        outcome: Outcome<T>,
        ending: Ending,
        before: impl FnOnce(Verdict, Option<&Error>),
    ) {
        let verdict = Verdict::of(&outcome);
        match self.cell.settle(outcome, ending) {
            Ok(settling) => complete(settling, |outcome| before(verdict, outcome.err())),
            Err(late) => {
                before(Verdict::Late, None);
                discard(late);
            }
        }
    }
}

impl<T, B: ?Sized + Body<T>> TaskCell<T, B> {
    /// Decodes what has been received, or publishes what is stored, on this thread. Returns how a wait ends
    /// afterwards; `None`: it goes on.
    pub(super) fn look(&self) -> Option<WaitEnd> {
        match self.cell.look() {
            Look::Stands(waited) => return waited,
            Look::Publish(settling) => complete(settling, |_| ()),
            Look::Open(opened) => {
                // SAFETY: `look` returns `Open` to one thread only, after the promise was given up.
                let outcome = unsafe { self.body.open() };
                let has_decode_failed = outcome.is_err();
                complete(opened.lay_down(outcome), |_| {
                    if let (true, Some(pool_handle)) = (has_decode_failed, self.pool_handle()) {
                        pool_handle.on_decode_failed();
                    }
                });
            }
        }
        Some(WaitEnd::Done)
    }
}

impl<T> TaskCell<T> {
    /// How the task ended; `None` while it has not. Collects outcomes from the pool first, and decodes what
    /// has been received.
    pub(super) fn ending(&self) -> Option<Ending> {
        if self.cell.is_open() {
            self.pool_handle()?.poll_completions();
        }
        let _ = self.look();
        self.cell.ending()
    }

    /// Blocks until the future is done or the deadline has passed.
    pub(super) fn wait(&self, deadline: Deadline) -> WaitEnd {
        loop {
            match self.look() {
                Some(over) => return over,
                None => match self.sleep(deadline) {
                    WaitEnd::Arrived => {}
                    over => return over,
                },
            }
        }
    }

    /// Blocks until the future can be inspected or the deadline has passed.
    fn sleep(&self, deadline: Deadline) -> WaitEnd {
        let wait = Waiting(self);
        let helped = self
            .pool_handle()
            .map(|pool_handle| pool_handle.drive_until(&wait, deadline));
        if helped != Some(Drive::Recheck) {
            spin_then_yield(|| self.cell.end_of_wait().is_some());
        }
        if let Some(over) = self.cell.end_of_wait() {
            return over;
        }
        self.cell.wait(deadline)
    }

    /// Takes the task back from the pull queue, where workers take tasks by themselves.
    pub(super) fn recall(&self) -> Unqueue {
        if !self.cell.is_open() {
            return Unqueue::NotHere;
        }
        let pool_handle = self.pool_handle();
        pool_handle.map_or(Unqueue::NotHere, |pool_handle| {
            pool_handle.try_unqueue(self.id)
        })
    }

    /// Tells the pool that a listener is to be called as soon as the task is done.
    pub(super) fn notify_on_completion(&self) {
        if let Some(pool_handle) = self.pool_handle() {
            pool_handle.notify_on_completion(self.id);
        }
    }
}

/// A wait for one future, as the pool that accepted its task sees it.
pub(super) struct Waiting<'a, T>(
    /// The task cell of the future.
    pub(super) &'a TaskCell<T>,
);

impl<T> Waiter for Waiting<'_, T> {
    fn is_over(&self) -> bool {
        !self.0.cell.is_open()
    }

    fn watch(&self, key: WatchKey, watcher: Watcher) -> bool {
        let registered = self.0.cell.watch(key, watcher);
        matches!(registered, Register::Registered)
    }

    fn unwatch(&self, key: WatchKey) {
        self.0.cell.unwatch(key);
    }
}

impl<T: Send, B: Body<T>> DeferredCallbacks for TaskCell<T, B> {
    fn open(&self) {
        let _ = self.look();
    }
}

impl<T: Send, B: Body<T>> Expire for TaskCell<T, B> {
    fn expire(&self, limit: Duration) {
        let limit = limit.into();
        let error = Error::TaskTimeout { limit };
        let error = error.after_attempts(self.body.attempts(), || self.body.info());
        self.settle_quietly(Err(error), Ending::Finished, |verdict, _| {
            if let (Verdict::Failed, Some(pool_handle)) = (verdict, self.pool_handle()) {
                pool_handle.on_timeout(self.id);
            }
        });
    }
}

impl<T: Send, B: Body<T>> Expire for Asking<T, B> {
    fn expire(&self, _: Duration) {
        if let Some(pool_handle) = self.0.pool_handle() {
            // No thread is stopped by that.
            pool_handle.kill(self.0.id);
        }
    }
}

impl Notifications {
    /// Calls the listeners on this thread: runs user code.
    pub(crate) fn deliver(self) {
        unwind::call(|| self.wakeups.deliver());
        discard(self.remains);
        if let Some(future) = self.opens {
            future.open();
            discard(future); // may be the last owner of the value, whose drop is user code
        }
    }
}

impl Verdict {
    pub(crate) fn of<T>(outcome: &Outcome<T>) -> Self {
        match outcome {
            Ok(_) => Self::Completed,
            Err(Error::Cancelled) => Self::Cancelled,
            Err(_) => Self::Failed,
        }
    }
}

/// Runs the callbacks, then `before` with the outcome, and publishes: Settling or Decoding → Done.
pub(super) fn complete<T>(settling: Settling<'_, T>, before: impl FnOnce(Result<&T, &Error>)) {
    if !settling.has_no_callbacks() {
        run_callbacks(&settling);
    }
    before(settling.outcome());
    let mut settling = settling;
    let wakeups = loop {
        match settling.publish() {
            Publish::Done(wakeups) => break wakeups,
            Publish::More(again, callbacks) => {
                for callback in callbacks {
                    unwind::call(|| callback(again.outcome()));
                }
                settling = again;
            }
        }
    };
    if !wakeups.is_none() {
        unwind::call(|| wakeups.deliver());
    }
}

/// Runs the registered callbacks, and those that are registered meanwhile, in order.
fn run_callbacks<T>(settling: &Settling<'_, T>) {
    loop {
        let callbacks = settling.take_callbacks();
        if callbacks.is_empty() {
            return;
        }
        for callback in callbacks {
            unwind::call(|| callback(settling.outcome()));
        }
    }
}

/// Drops a task cell. The value of a detached future is dropped here, and its `Drop` is user code.
fn release<T, B: Body<T>>(task_cell: Arc<TaskCell<T, B>>) {
    discard(task_cell);
}
