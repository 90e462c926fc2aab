//! The worker pool: worker threads over one backlog, what thread pools and process pools share. Called by
//! `thread/` and `process/`; workers call it through [`WorkerContext`].
//!
//! A worker is a thread. It takes work with [`WorkerContext::take`], reports the start and the end of each
//! task, and leaves when no work is left and the pool closes. Lock order: the pool's lock (`state`),
//! then the lock of a worker's state, then the backlog's locks. No user code runs under any of them. The
//! methods of a pull queue run under the pool's lock and take further locks, that of a future's state among
//! them; ARCHITECTURE.md, Invariants, has the whole order.
//!
//! Fast path, for work that goes to the backlog: submitting takes only the backlog's lock unless
//! `needs_wakeup` is set (a worker must be started or woken). The submitter pushes, *then* reads
//! `needs_wakeup`; a thread that sets `needs_wakeup` sets it, *then* checks the backlog. Both go through the
//! backlog's lock, so at least one of them sees the other: no lost wake-up.

pub(crate) mod backlog;
pub(crate) mod observation;
mod closer;
mod delayed;
pub(crate) mod observer;
pub(crate) mod pull_queue;
mod state;
pub(crate) mod nested;
pub(crate) mod worker;
pub(crate) mod worker_state;
pub(crate) mod workers;

use std::io;
use std::num::NonZero;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use crate::current_worker::Progress;
use crate::error::Error;
use crate::executor::stats::Stats;
use crate::executor::submit_async::{RoomLine, RoomWaiter};
use crate::executor::waker_line::WakerLine;
use crate::future::id::FutureId;
use crate::future::pool_handle::{TaskLocation, Unqueue, Waiter};
use crate::future::promise::Verdict;
use crate::idle::core_hint::CoreHint;
use crate::options::Shutdown;
use crate::pool::backlog::{Backlog, Whole};
use crate::pool::observation::Observation;
use crate::pool::worker_state::{Killed, Status, WorkerState};
use crate::pool::workers::{WorkerEntry, Workers};
use crate::sync::deadline::Deadline;
use crate::sync::{
    AtomicU32, Condvar, Mutex, MutexGuard, Ordering, ThreadId, lock, sleep, sleep_until, spawn,
    spin_then_yield, this_thread,
};
use crate::sys;
use crate::sys::fork;
use crate::task::Task;
use crate::task::timeout::{self, Timer};
use crate::task::work_item::{Withdrawn, WorkItem};
use crate::unwind::{self, discard};

pub(crate) use pull_queue::{PullQueue, QueueLoad};
pub(crate) use worker::{AfterLoss, Conclusion, Tenure, WorkerContext};

use closer::{CloseOrders, Closer};
use delayed::{Delayed, PauseEnd};
use state::{Stage, State};

/// The worker threads of one pool, their queue, and the pool's limits.
pub(crate) struct WorkerPool<W: WorkItem> {
    /// The stage and the workers.
    state: Mutex<State<W>>,
    /// Work that was accepted and has not begun.
    backlog: Backlog<W>,
    /// 0 or 1. 1: after adding to the backlog, a submitter must take the lock and start or wake a worker.
    needs_wakeup: AtomicU32,
    /// Notified when there is work, or when no more will come: idle workers wait here.
    work: Condvar,
    /// Notified when a worker is ready or has left, or the stage changes.
    change: Condvar,
    /// Notified when the backlog has become shorter: callers of `admit` wait here. Async tasks wait in the
    /// state's line.
    room: Condvar,
    /// The maximum number of threads and of waiting tasks, and the idle timeout.
    limits: Limits,
    /// Name prefix and stack size of the threads.
    threads: Threads,
    /// The main loop of a worker thread.
    worker_main: WorkerMain<W>,
    /// What the user's observers are told of workers and tasks; `None`: there are no observers.
    observation: Option<Arc<Observation>>,
    /// The queue outside the pool that workers take tasks from by themselves; `None`: there is none.
    pull_queue: Option<Arc<dyn PullQueue<W>>>,
    /// Event counter: how often something other than work changed for the workers. Wraps around.
    news: AtomicU32,
    /// Whether tasks are refused. A copy of what `stage` says, to be read without the lock.
    is_refusing: AtomicBool,
    /// How many workers may spin for work at a time instead of going to sleep: the number of cores.
    max_searchers: usize,
    /// The core on which a waiter spins for an outcome; `None`: no waiter spins.
    waiter_core: CoreHint,
    /// The core on which work was submitted a moment ago.
    submitter_core: CoreHint,
    /// Expires tasks with a time limit that run on the threads, and ends the pauses of tasks that are to be run
    /// again.
    timer: Timer,
    /// Waits for the end of the pool in the stead of async tasks.
    closer: Closer,
    /// The process that the threads belong to; a forked copy of it has none of them.
    fork_epoch: fork::ForkEpoch,
}

/// The limits of a worker pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The maximum number of threads.
    pub(crate) max_workers: usize,
    /// The maximum number of waiting tasks; `None`: no limit.
    pub(crate) max_pending: Option<usize>,
    /// How long a worker waits for a task before it leaves; `None`: for ever.
    pub(crate) idle_timeout: Option<Duration>,
}

/// How the threads of a worker pool are made.
pub(crate) struct Threads {
    /// The first part of a thread's name; `_` and the worker's index follow.
    pub(crate) name_prefix: String,
    /// The size of a thread's stack, in bytes; `None`: std's default.
    pub(crate) stack_size: Option<usize>,
}

/// The main loop of a worker: all that its thread runs.
pub(crate) type WorkerMain<W> = Box<dyn Fn(&WorkerContext<W>) + Send + Sync>;

/// Backpressure policy: what `admit` does while there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFull {
    /// Wait for room. A worker does not wait, since it is the one that makes room; nor does the timer thread,
    /// since others wait for it.
    Block,
    /// Return [`Admit::Full`] at once.
    Reject,
}

/// The answer to [`WorkerPool::admit`].
#[must_use]
#[derive(Debug)]
pub(crate) enum Admit {
    /// There was room for one work item; it is reserved for the caller's `submit`.
    Admitted,
    /// There is no room.
    Full,
    /// The pool accepts nothing any more, for this reason.
    Refused(Error),
}

/// The answer to [`WorkerPool::submit`].
#[must_use]
pub(crate) enum Submit<W> {
    /// The work will be run.
    Accepted,
    /// The work is not accepted, for this reason; it is given back.
    Refused(W, Error),
}

impl<W: WorkItem> WorkerPool<W> {
    pub(crate) fn new(
        limits: Limits,
        threads: Threads,
        observation: Option<Arc<Observation>>,
        pull_queue: Option<Arc<dyn PullQueue<W>>>,
        worker_main: WorkerMain<W>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                stage: Stage::Open,
                delayed: Delayed::new(),
                admitted: 0,
                line: WakerLine::new(),
                stopping: false,
                entries: Workers::default(),
                left: Vec::new(),
                joining: 0,
                failures: 0,
                interruptions: 0,
                barren: 0,
                ended_at_barren: 0,
                lost: 0,
                warming: 0,
                searchers: 0,
                sleepers: 0,
            }),
            backlog: Backlog::new(),
            needs_wakeup: AtomicU32::new(1),
            work: Condvar::new(),
            change: Condvar::new(),
            room: Condvar::new(),
            limits,
            threads,
            worker_main,
            observation,
            pull_queue,
            news: AtomicU32::new(0),
            is_refusing: AtomicBool::new(false),
            max_searchers: cores(),
            waiter_core: CoreHint::default(),
            submitter_core: CoreHint::default(),
            timer: Timer::new(),
            closer: Closer::new(CloseOrders::default()),
            fork_epoch: fork::ForkEpoch::here(),
        })
    }

    // ---- called by the executor ----------------------------------------------------------------

    /// Reserves room for one work item; `submit` or `withdraw_admission` uses it up.
    #[inline]
    pub(crate) fn admit(&self, on_full: OnFull) -> Admit {
        if self.fork_epoch.is_forked_copy() {
            return Admit::Refused(forked());
        }
        if self.limits.max_pending.is_none() && !self.is_refusing.load(Ordering::Relaxed) {
            // ORDERING: Relaxed; `submit` checks again, under the lock.
            return Admit::Admitted;
        }
        let mut state = self.lock();
        let caller_waits = on_full == OnFull::Block && may_wait(&mut state);
        loop {
            if let Some(error) = state.stage.refusal() {
                return Admit::Refused(error);
            }
            if self.has_room(&state) {
                break;
            }
            match on_full {
                OnFull::Reject => return Admit::Full,
                OnFull::Block if caller_waits => state = sleep(&self.room, state),
                OnFull::Block => break,
            }
        }
        state.admitted += usize::from(self.limits.max_pending.is_some());
        Admit::Admitted
    }

    /// Like [`admit`](Self::admit), for an async task, which is woken when there may be room. A task that is
    /// polled on a worker does not wait, as `OnFull::Block` says.
    pub(crate) fn admit_or_wake(self: &Arc<Self>, place: &mut RoomWaiter, waker: &Waker) -> Admit
    where
        W: 'static,
    {
        match self.admit(OnFull::Reject) {
            Admit::Full => {}
            admit => {
                self.forget_place(place);
                return admit;
            }
        }
        let waker = waker.clone(); // foreign code, which does not run under the lock
        let line: Arc<dyn RoomLine> = Arc::<Self>::clone(self);
        let number = place.number_in(&line);
        let mut state = self.lock();
        let admit = match state.stage.refusal() {
            Some(error) => Admit::Refused(error),
            None if self.has_room(&state) || !may_wait(&mut state) => {
                state.admitted += 1;
                Admit::Admitted
            }
            None => {
                // Pairs with `make_room`, under the same lock: either this thread sees the room, or the thread
                // that makes it sees this waker.
                let (number, stale) = state.line.enter(number, waker);
                drop(state);
                drop(stale);
                place.wait_at(line, number);
                return Admit::Full;
            }
        };
        drop(state);
        self.forget_place(place);
        admit
    }

    /// Gives up a place in the line whose task need not wait any more. The next one is woken when this one has
    /// used up its admission.
    fn forget_place(&self, place: &mut RoomWaiter) {
        if let Some(number) = place.give_up() {
            let stale = self.lock().line.leave(number);
            drop(stale); // off the lock: foreign code
        }
    }

    /// Whether one more task may wait. Beside `max_pending` tasks there is room for one for each worker that
    /// is idle or may still be started, since those tasks begin at once. Threads that sleep on `room` need no
    /// notification when a worker becomes idle: while they sleep some task waits, and that worker takes it.
    fn has_room(&self, state: &State<W>) -> bool {
        let Some(limit) = self.limits.max_pending else {
            return true;
        };
        if self.backlog.tasks() + state.admitted < limit {
            return true;
        }
        let (free, waiting) = state.entries.free_and_waiting(&self.backlog);
        let to_start = match state.may_start() {
            true => self.limits.max_workers.saturating_sub(state.entries.len()),
            false => 0,
        };
        waiting + state.admitted < limit.saturating_add(free + to_start)
    }

    /// Gives an admission back: the work that was admitted is not submitted after all.
    #[inline]
    pub(crate) fn withdraw_admission(&self) {
        if self.limits.max_pending.is_some() {
            self.lock().admitted -= 1;
            self.make_room();
        }
    }

    /// Tells the observers of a task that is about to be queued.
    #[inline]
    pub(crate) fn note_task(&self, task: &Task) {
        if let Some(observation) = &self.observation {
            observation.submitted(task);
        }
    }

    /// Queues admitted work for the next free worker; starts a worker if one is needed and allowed.
    #[inline(always)]
    pub(crate) fn submit(self: &Arc<Self>, work: W) -> Submit<W> {
        let submit = self.submit_more(work);
        self.withdraw_admission();
        submit
    }

    /// Queues work whose admission is used up by another part of the same work.
    #[inline(always)]
    pub(crate) fn submit_more(self: &Arc<Self>, work: W) -> Submit<W> {
        if self.fork_epoch.is_forked_copy() {
            return Submit::Refused(work, forked());
        }
        let has_room = |pull_queue: &&Arc<dyn PullQueue<W>>| !pull_queue.is_behind();
        if let Some(pull_queue) = self.pull_queue.as_ref().filter(has_room) {
            return self.submit_to_queue(&**pull_queue, work);
        }
        let id = work.id();
        self.note_submission(id);
        self.backlog.push(work);
        // Pairs with `update_needs_wakeup` and `refill_locked`: either this thread sees the new value
        // (`needs_wakeup` is set, or `is_behind` is cleared, so that no other thread refills), or the thread
        // that wrote it sees this work. The backlog's lock, taken by both in between, orders them.
        if self
            .pull_queue
            .as_ref()
            .is_some_and(|pull_queue| has_room(&pull_queue))
        {
            self.refill();
        }
        // ORDERING: Relaxed; the backlog's lock orders it.
        if self.needs_wakeup.load(Ordering::Relaxed) == 0 {
            return Submit::Accepted;
        }
        let mut state = self.lock();
        if let Some(error) = state.stage.refusal() {
            return match self.backlog.recall(id) {
                Some(work) => Submit::Refused(work, error),
                None => Submit::Accepted, // taken by a worker, or by the thread that ended the pool
            };
        }
        let staffed = self.ensure_worker(&mut state);
        drop(state);
        self.break_unless(staffed);
        Submit::Accepted
    }

    /// Notes the core of the calling thread, which submits work of this id, as `submitter_core`.
    fn note_submission(&self, id: FutureId) {
        /// One submission in this many is noted: a sample is enough.
        const SOME: u64 = 8;

        if id.number() % SOME == 0 {
            self.submitter_core.set(sys::affinity::current_core());
        }
    }

    /// Spins for an outcome for about as long as it takes to wake a sleeping thread.
    pub(crate) fn look_for(&self, wait: &dyn Waiter) {
        if wait.is_over() {
            return;
        }
        self.waiter_core.set(sys::affinity::current_core());
        spin_then_yield(|| wait.is_over());
        self.waiter_core.set(None);
    }

    fn submit_to_queue(self: &Arc<Self>, pull_queue: &dyn PullQueue<W>, work: W) -> Submit<W> {
        let mut state = self.lock();
        if let Some(error) = state.stage.refusal() {
            return Submit::Refused(work, error);
        }
        let overflow = match pull_queue.is_behind() {
            true => Err(work),
            false => pull_queue.put(work),
        };
        if let Err(work) = overflow {
            self.backlog.push(work);
            // A thread that frees a slot calls `refill` only if `is_behind` was set before. `refill_locked`
            // sets it, then looks for room once more.
            self.refill_locked(&mut state);
        }
        let staffed = self.ensure_worker(&mut state);
        drop(state);
        pull_queue.announce();
        self.break_unless(staffed);
        Submit::Accepted
    }

    /// Recomputes `needs_wakeup`. To be called after each change of the stage, the number of workers,
    /// `sleepers` or `searchers`. A caller that sets it so that submitters take the lock must check the
    /// backlog afterwards.
    fn update_needs_wakeup(&self, state: &State<W>) {
        let needs_wakeup = !matches!(state.stage, Stage::Open)
            || state.entries.len() < self.limits.max_workers
            || (state.sleepers > 0 && state.searchers == 0);
        // ORDERING: Relaxed; the backlog's lock, which a thread takes to check the backlog, orders it.
        self.needs_wakeup
            .store(u32::from(needs_wakeup), Ordering::Relaxed);
    }

    /// Moves work from the backlog to the pull queue, as far as there is room.
    pub(crate) fn refill(&self) {
        let mut state = self.lock();
        self.refill_locked(&mut state);
        drop(state);
        self.announce();
    }

    fn refill_locked(&self, state: &mut State<W>) {
        let Some(pull_queue) = &self.pull_queue else {
            return;
        };
        // Set before the pull queue is found full: a thread that frees a slot from then on sees it and calls
        // `refill`.
        pull_queue.set_behind(!self.backlog.is_empty());
        let is_behind = loop {
            pull_queue.refill(&self.backlog);
            if !self.backlog.is_empty() {
                break true;
            }
            pull_queue.set_behind(false);
            // Pairs with `submit_more`, which pushes without the pool's lock and then reads `is_behind`:
            // either the submitter sees that it is cleared and refills, or this thread sees the work.
            if self.backlog.is_empty() {
                break false;
            }
            pull_queue.set_behind(true);
        };
        match state.stage {
            Stage::Open => {}
            _ if is_behind => pull_queue.reopen(),
            _ => pull_queue.close(),
        }
    }

    /// Wakes a worker that waits at the pull queue, for work that was put there.
    fn announce(&self) {
        if let Some(pull_queue) = &self.pull_queue {
            pull_queue.announce();
        }
    }

    /// Whether some work waits for a worker, in the backlog or in the pull queue.
    fn has_waiting(&self) -> bool {
        let waits = |pull_queue: &Arc<dyn PullQueue<W>>| pull_queue.load().waiting > 0;
        !self.backlog.is_empty() || self.pull_queue.as_ref().is_some_and(waits)
    }

    pub(crate) fn max_workers(&self) -> usize {
        self.limits.max_workers
    }

    pub(crate) fn stats(&self) -> Stats {
        if self.fork_epoch.is_forked_copy() {
            return Stats::default();
        }
        self.stats_in(&self.lock())
    }

    fn stats_in(&self, state: &State<W>) -> Stats {
        let mut stats = state.entries.stats(&self.backlog);
        stats.pending += state.delayed.len();
        match &self.pull_queue {
            Some(pull_queue) => pull_queue.load().added_to(stats),
            None => stats,
        }
    }

    /// How many tasks have ended so far with a value or an error; cancelled ones are not counted.
    fn ended(&self, state: &State<W>) -> u64 {
        let stats = self.stats_in(state);
        stats.completed + stats.failed
    }

    /// Counts a task that was cancelled before it began, and takes it out of the backlog or its pause, or off its
    /// worker's chunk.
    pub(crate) fn withdrawn(&self, id: FutureId) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        let mut state = self.lock();
        state.entries.counts().count(Verdict::Cancelled);
        let rest = self.withdraw_waiting(&mut state, id);
        if rest.is_none() {
            state.entries.withdraw(id);
        }
        drop(state);
        self.make_room();
        self.settled(id, Some(&Error::Cancelled));
        discard(rest);
    }

    /// Tells the observers of a task that was settled with this error, or with a value, and that no worker runs.
    pub(crate) fn settled(&self, id: FutureId, error: Option<&Error>) {
        match &self.observation {
            Some(observation) if !self.fork_epoch.is_forked_copy() => {
                observation.settled(id, error);
            }
            _ => {}
        }
    }

    /// Whether there are observers, which are told how each task ends.
    pub(crate) fn is_observed(&self) -> bool {
        self.observation.is_some()
    }

    /// Takes a task out of the backlog, or out of the pause before its next attempt.
    fn withdraw_waiting(&self, state: &mut State<W>, id: FutureId) -> Option<Box<dyn Withdrawn>> {
        self.backlog.withdraw(id).or_else(|| {
            let work = state.delayed.remove(id)?;
            Some(Box::new(Whole(work)))
        })
    }

    /// Takes a task back from the pull queue, or from the backlog on its way there. Under the lock, so that
    /// the task does not move from the backlog to the pull queue meanwhile.
    pub(crate) fn recall(&self, id: FutureId) -> Unqueue {
        let Some(pull_queue) = &self.pull_queue else {
            return Unqueue::NotHere;
        };
        let mut state = self.lock();
        match self.withdraw_waiting(&mut state, id) {
            Some(removed) => Unqueue::Removed(Box::new(removed)),
            None => pull_queue.recall(id),
        }
    }

    /// Where the tasks `first..=last` are: some in the backlog, or with one of the threads, or all elsewhere.
    pub(crate) fn place(&self, first: FutureId, last: FutureId) -> TaskLocation {
        if self.fork_epoch.is_forked_copy() {
            return TaskLocation::Elsewhere;
        }
        let state = self.lock();
        let waits = self.backlog.first_between(first, last).is_some();
        if waits || state.delayed.first_between(first, last).is_some() {
            let workers = state.entries.workers();
            return TaskLocation::Queued {
                workers: workers.map(|worker| worker.thread.thread().id()).collect(),
                may_grow: state.entries.len() < self.limits.max_workers,
            };
        }
        let thread = state.entries.thread_of(first, last);
        thread.map_or(TaskLocation::Elsewhere, TaskLocation::Running)
    }

    /// The ids of the worker threads that exist.
    pub(crate) fn workers(&self) -> Vec<ThreadId> {
        if self.fork_epoch.is_forked_copy() {
            return Vec::new();
        }
        let state = self.lock();
        let workers = state.entries.workers();
        workers.map(|worker| worker.thread.thread().id()).collect()
    }

    /// Takes the oldest of the tasks `first..=last` out of the backlog, or one out of its pause, if one is there, and
    /// settles it with this error.
    pub(crate) fn refuse(&self, first: FutureId, last: FutureId, error: &Error) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        let mut state = self.lock();
        let oldest = self.backlog.first_between(first, last);
        let oldest = oldest.or_else(|| state.delayed.first_between(first, last));
        let removed = oldest.and_then(|id| self.withdraw_waiting(&mut state, id));
        drop(state);
        self.make_room();
        if let Some(removed) = removed {
            removed.fail(error, &mut |verdict| self.count(verdict));
        }
    }

    /// Counts a task that ended without a worker.
    pub(crate) fn count(&self, verdict: Verdict) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        self.lock().entries.counts().count(verdict);
    }

    /// Counts one value as an error, because it cannot be decoded; `false`: this pool has counted no value.
    #[must_use]
    pub(crate) fn on_decode_failed(&self) -> bool {
        !self.fork_epoch.is_forked_copy() && self.lock().entries.count_value_as_failed()
    }

    /// Counts a task that was settled as timed out while its thread goes on, and asks that thread to stop it.
    pub(crate) fn expired(&self, id: FutureId) {
        self.count(Verdict::Failed);
        self.request_cancel(id);
    }

    /// Asks the worker thread that runs this task to stop it; does nothing if none does.
    pub(crate) fn request_cancel(&self, id: FutureId) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        self.lock().entries.request_cancel(id);
    }

    /// Marks the task as killed if a worker runs it, and returns what `at` says of that worker's index,
    /// called under the lock; `None`: no worker runs it. From then on the task's outcome does not count, and
    /// the worker begins no other task.
    pub(crate) fn mark_killed<P>(&self, id: FutureId, at: impl FnOnce(usize) -> P) -> Option<P> {
        if self.fork_epoch.is_forked_copy() {
            return None;
        }
        self.lock().entries.with_running(id, |index, _, inner| {
            if let Status::Busy { killed, .. } = &mut inner.status {
                *killed = Killed::Yes;
            }
            at(index)
        })
    }

    /// Cancels the items of a map with ids `first..=last` that have not begun: their map was dropped. Calls
    /// `act`, under the lock, with the index of each worker whose chunk has some of them.
    pub(crate) fn abandon(&self, first: FutureId, last: FutureId, mut act: impl FnMut(usize)) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        let state = self.lock();
        let mut unwanted = self.backlog.take_between(first, last);
        if let Some(pull_queue) = &self.pull_queue {
            unwanted.append(&mut pull_queue.abandon(first, last));
        }
        state.entries.abandon(first, last, &mut act);
        drop(state);
        self.make_room();
        for work in unwanted {
            work.fail(&Error::Cancelled, &mut |verdict| self.count(verdict));
        }
    }

    /// Queues again, in its old place, work that a worker has not begun.
    pub(crate) fn put_back(self: &Arc<Self>, work: W) {
        self.put_back_locked(self.lock(), work);
    }

    fn put_back_locked(self: &Arc<Self>, mut state: MutexGuard<'_, State<W>>, work: W) {
        let error = match state.stage.clone() {
            Stage::Open | Stage::Closing => {
                self.backlog.put_back(work);
                self.refill_locked(&mut state);
                let staffed = self.ensure_worker(&mut state);
                drop(state);
                self.announce();
                return self.break_unless(staffed);
            }
            Stage::Cancelling => Error::Cancelled,
            Stage::Broken(error) => error,
        };
        drop(state);
        work.fail(&error, &mut |verdict| self.count(verdict));
    }

    /// Queues a task again after a pause, because its last attempt has failed. There is no pause where the pool
    /// is being shut down, or has no thread that would end it.
    ///
    /// # Errors
    /// The task, if it was killed meanwhile: it is not to be run again.
    fn put_back_after(self: &Arc<Self>, pause: Duration, work: W) -> Result<(), W> {
        let mut state = self.lock();
        // Under the lock: a thread that finds the task pending, and so cancels it, finds it in its place, too.
        work.put_back();
        // Pairs with `Future::kill`, which gives the task up and then cancels it, under the lock of the future's
        // state, which `put_back` has taken: either that thread found the task pending, or this one finds it
        // given up.
        if work.is_given_up() {
            return Err(work);
        }
        if !pause.is_zero() && matches!(state.stage, Stage::Open) {
            let end = PauseEnd {
                worker_pool: Arc::downgrade(self),
                id: work.id(),
            };
            // Under the lock: `end_pause` finds the task.
            if let Ok(guard) = self.timer.expire_after(Arc::new(end), pause) {
                state.delayed.insert(work, guard);
                return Ok(());
            }
        }
        self.put_back_locked(state, work);
        Ok(())
    }

    /// Queues a task again whose pause is over.
    fn end_pause(self: &Arc<Self>, id: FutureId) {
        let mut state = self.lock();
        // It is gone if it was cancelled, and if the pool was shut down.
        if let Some(work) = state.delayed.remove(id) {
            self.put_back_locked(state, work);
        }
    }

    /// Ends all pauses: the tasks run without them. Fails if no worker can be started for them.
    fn end_pauses(self: &Arc<Self>, state: &mut State<W>) -> Result<(), Error> {
        let mut staffed = Ok(());
        for work in state.delayed.take_all() {
            self.backlog.put_back(work);
            self.refill_locked(state);
            // One by one: each may need a worker of its own, as it would have at the end of its pause.
            staffed = staffed.and(self.ensure_worker(state));
        }
        staffed
    }

    /// Starts a worker if one is needed and allowed: the pull queue may have more work than before.
    pub(crate) fn ensure_workers(self: &Arc<Self>) {
        let mut state = self.lock();
        let staffed = self.ensure_worker(&mut state);
        drop(state);
        self.break_unless(staffed);
    }

    /// Handles the death of a worker's process: if the worker is idle, marks it as `ProcessLost` and wakes
    /// it, so that it leaves or restarts.
    pub(crate) fn on_process_exit(&self, index: usize) {
        let mut state = self.lock();
        if let Some(worker) = state.entries.worker(index) {
            let mut inner = worker.worker_state.lock();
            if inner.status == Status::Idle {
                inner.status = Status::ProcessLost;
                self.work.notify_all();
            }
        }
    }

    /// Starts all workers, and waits until they are ready.
    pub(crate) fn warm_up(self: &Arc<Self>) -> Result<(), Error> {
        if self.fork_epoch.is_forked_copy() {
            return Err(forked());
        }
        let mut state = self.lock();
        state.warming += 1;
        let outcome = loop {
            match self.warmth(&mut state) {
                Some(outcome) => break outcome,
                None => state = sleep(&self.change, state),
            }
        };
        state.warming -= 1;
        outcome
    }

    /// Starts the missing workers. `Some(Ok)`: all are ready; `Some(Err)`: they never will be; `None`: not
    /// yet.
    fn warmth(self: &Arc<Self>, state: &mut State<W>) -> Option<Result<(), Error>> {
        if let Some(error) = state.stage.refusal() {
            return Some(Err(error));
        }
        if state.entries.ready() == self.limits.max_workers {
            return Some(Ok(()));
        }
        while state.entries.len() < self.limits.max_workers {
            if let Err(error) = self.start_worker(state) {
                return Some(Err(Error::spawn("a thread", &error)));
            }
        }
        None
    }

    /// Breaks the pool: fails all queued work, and all work that is submitted later, with this error.
    pub(crate) fn break_down(&self, error: &Error) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        let mut state = self.lock();
        if matches!(state.stage, Stage::Broken(_)) || state.stopping {
            return;
        }
        state.stage = Stage::Broken(error.clone());
        self.refuse_more(&state);
        let queued = self.take_queued(&mut state);
        self.refill_locked(&mut state);
        self.notify_all();
        let refused = state.line.take_all();
        drop(state);
        refused.wake();
        for work in queued {
            work.fail(error, &mut |verdict| self.count(verdict));
        }
    }

    /// Takes out all work that no worker has taken, first from the pull queue, then from the backlog, then what
    /// pauses.
    fn take_queued(&self, state: &mut State<W>) -> Vec<Box<dyn Withdrawn>> {
        let mut queued = self.backlog.take_all();
        let delayed = state.delayed.take_all();
        queued.extend(delayed.map(|work| Box::new(Whole(work)) as _));
        if let Some(pull_queue) = &self.pull_queue {
            let mut first = pull_queue.clear();
            first.append(&mut queued);
            queued = first;
        }
        queued
    }

    /// Shuts the pool down. Returns whether every worker has left; `true`, unchecked, if the caller does not
    /// wait. Waits no longer than `deadline`.
    pub(crate) fn shutdown(self: &Arc<Self>, how: Shutdown, deadline: Deadline) -> bool {
        if self.fork_epoch.is_forked_copy() {
            return true; // the original's threads are not in this process: nothing to wait for, or to touch
        }
        let mut state = self.lock();
        if let Stage::Open = state.stage {
            state.stage = Stage::Closing;
            self.refuse_more(&state);
        }
        let mut cancelled = Vec::new();
        if let (true, Stage::Closing | Stage::Cancelling) = (how.cancels, &state.stage) {
            state.stage = Stage::Cancelling;
            cancelled = self.take_queued(&mut state);
        }
        let staffed = self.end_pauses(&mut state);
        self.refill_locked(&mut state);
        self.notify_all();
        let refused = state.line.take_all();
        drop(state);
        refused.wake();
        self.announce();
        self.break_unless(staffed);
        for work in cancelled {
            work.fail(&Error::Cancelled, &mut |verdict| self.count(verdict));
        }
        self.ask_to_close();
        !how.waits || self.wait_until_gone(deadline)
    }

    fn refuse_more(&self, state: &State<W>) {
        // ORDERING: Relaxed; a hint: `submit` checks the stage under the lock.
        self.is_refusing.store(true, Ordering::Relaxed);
        self.update_needs_wakeup(state);
    }

    /// Cancels queued work, and stops the replacement of lost workers: the workers are about to be ended.
    pub(crate) fn stop(self: &Arc<Self>) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        self.lock().stopping = true;
        self.shutdown(Shutdown::no_wait().cancel_futures(), Deadline::never());
    }

    /// Wakes callers of `admit`, and the first async task in the line: the backlog has become shorter. Only
    /// where `max_pending` is set. The others in the line are woken one by one: each calls this as its admission
    /// is used up.
    fn make_room(&self) {
        if self.limits.max_pending.is_some() {
            // Taking the lock once ensures that no waiter is between its check and its wait.
            let next = self.next_in_line();
            self.room.notify_all();
            if let Some(waker) = next {
                unwind::call(|| waker.wake());
            }
        }
    }

    /// Takes the first async task out of the line, to be woken, if there is room for it.
    fn next_in_line(&self) -> Option<Waker> {
        let mut state = self.lock();
        match state.line.is_empty() || !self.has_room(&state) {
            true => None,
            false => state.line.pop_first(),
        }
    }

    fn notify_all(&self) {
        // ORDERING: Relaxed; a hint for a thread that spins, which then takes the lock.
        self.news.fetch_add(1, Ordering::Relaxed);
        self.work.notify_all();
        self.change.notify_all();
        self.room.notify_all();
    }

    pub(crate) fn timer(&self) -> &Timer {
        &self.timer
    }

    /// Whether the calling thread is one of the pool's workers.
    pub(crate) fn includes_caller(&self) -> bool {
        !self.fork_epoch.is_forked_copy() && self.lock().entries.by_thread(this_thread()).is_some()
    }

    /// Whether the caller runs on a service thread of the pool, or on that of a timer, in a callback or a waker.
    fn serves_on_caller(&self) -> bool {
        let pull_queue = self.pull_queue.as_ref();
        pull_queue.is_some_and(|pull_queue| pull_queue.includes_caller()) || timeout::is_caller()
    }

    /// Waits until every worker has left, and joins their threads; `false`: the deadline has passed before. A
    /// worker that calls this waits for all workers but itself and those that wait here too: otherwise they
    /// would wait for each other. For the same reason neither a worker nor a service thread of the pool waits
    /// for others that are here: these may join it.
    fn wait_until_gone(&self, deadline: Deadline) -> bool {
        let is_joined_here = self.serves_on_caller();
        let me = this_thread();
        let mut state = self.lock();
        let is_worker = match state.entries.by_thread(me) {
            Some(worker) => {
                worker.waits_for_others = true;
                self.change.notify_all();
                true
            }
            None => false,
        };
        loop {
            let awaited = |w: &WorkerEntry| {
                w.thread.thread().id() != me && !(is_worker && w.waits_for_others)
            };
            let any = state.entries.workers().any(awaited);
            if !any && (is_worker || is_joined_here || state.joining == 0) {
                break;
            }
            if deadline.has_passed() {
                if let Some(worker) = state.entries.by_thread(me) {
                    worker.waits_for_others = false;
                }
                return false;
            }
            state = sleep_until(&self.change, state, deadline);
        }
        let left = std::mem::take(&mut state.left);
        state.joining += 1;
        drop(state);
        for thread in left {
            // A panic of the worker is caught inside the thread; one of a thread-local's `Drop` is the user's
            // own.
            let _ = thread.join();
        }
        let has_ended = is_worker || self.end_queue(deadline);
        let mut state = self.lock();
        state.joining -= 1;
        if let Some(worker) = state.entries.by_thread(me) {
            worker.waits_for_others = false;
        }
        self.change.notify_all();
        drop(state);
        // The closer may wait for such a caller, as others that are here do.
        has_ended && (is_worker || is_joined_here || self.closer.join(deadline))
    }

    /// Ends the pull queue: waits until the outcomes that the workers have left are collected and reported;
    /// `false`: the deadline has passed before.
    fn end_queue(&self, deadline: Deadline) -> bool {
        let Some(pull_queue) = &self.pull_queue else {
            return true;
        };
        pull_queue.end();
        pull_queue.join(deadline)
    }

    // ---- starting workers ----------------------------------------------------------------------

    /// Wakes an idle worker for queued work, or starts one if the idle ones are too few.
    fn ensure_worker(self: &Arc<Self>, state: &mut State<W>) -> Result<(), Error> {
        if self.pull_queue.is_some() && state.entries.len() == self.limits.max_workers {
            return Ok(()); // all possible workers exist; they check the queue by themselves, and are enough
        }
        // Counted before the waiting work: a worker that takes some of it in between is still counted.
        let free = state.entries.free();
        if let Some(pull_queue) = &self.pull_queue {
            let most = self.backlog.len() + pull_queue.occupied();
            if most <= free {
                return Ok(());
            }
        }
        let load = self.pull_queue.as_ref().map(|pull_queue| pull_queue.load());
        let waiting = self.backlog.len() + load.map_or(0, |load| load.waiting);
        if waiting == 0 {
            return Ok(());
        }
        if state.searchers == 0 && state.sleepers > 0 {
            self.work.notify_one();
        }
        let busy = load.map_or(0, |load| load.running + load.claimed);
        let needed = state.may_start() && waiting + busy > free;
        if needed && state.entries.len() < self.limits.max_workers {
            let started = self.start_worker(state);
            if let (Err(error), 0) = (&started, state.entries.len()) {
                let reason = format!("cannot start a thread: {error}");
                return Err(Error::BrokenPool(reason.into()));
            }
        }
        Ok(())
    }

    fn start_worker(self: &Arc<Self>, state: &mut State<W>) -> io::Result<()> {
        let index = state.entries.free_index();
        let (worker_state, progress) =
            (Arc::new(WorkerState::new()), Arc::new(Progress::default()));
        let name = format!("{}_{index}", self.threads.name_prefix);
        let (its_worker_state, its_progress) = (Arc::clone(&worker_state), Arc::clone(&progress));
        let worker_pool = Arc::clone(self);
        // The new thread looks into `entries` only under the lock that is held here: its entry is inserted by
        // then.
        let thread = spawn(name, self.threads.stack_size, move || {
            WorkerContext::new(worker_pool, index, its_worker_state, its_progress).serve();
        })?;
        if state.lost > 0 {
            state.lost -= 1;
            state.entries.count_restart();
        }
        let worker = WorkerEntry {
            worker_state,
            thread,
            waits_for_others: false,
            progress,
        };
        state.entries.insert(index, worker);
        self.update_needs_wakeup(state);
        Ok(())
    }

    /// Breaks the pool if no worker could be started.
    fn break_unless(&self, staffed: Result<(), Error>) {
        if let Err(error) = staffed {
            self.break_down(&error);
        }
    }

    // ---- the lock ----------------------------------------------------------------------------

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        lock(&self.state)
    }
}

impl<W: WorkItem> RoomLine for WorkerPool<W> {
    fn leave(&self, place: u64) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        let stale = self.lock().line.leave(place);
        if stale.is_none() {
            self.make_room(); // it was woken for room that it does not take
        }
    }
}

/// Whether the caller may wait for room: not on a worker, which is the one that makes room, nor on the thread
/// of the timer.
fn may_wait<W>(state: &mut State<W>) -> bool {
    !timeout::is_caller() && state.entries.by_thread(this_thread()).is_none()
}

/// The number of cores that the program may use. Asking for it takes as long as twenty system calls, so it is
/// asked once.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| thread::available_parallelism().map_or(1, NonZero::get))
}

fn forked() -> Error {
    Error::BrokenPool("this process is a forked copy of the one that made the pool".into())
}

#[cfg(test)]
#[cfg(loom)]
mod models;
