//! A worker's side of its pool: what it reports to the pool, and what it asks of it. Used by the main loops
//! of thread workers (`thread/mod.rs`) and of supervisors of worker processes (`process/host/`).

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::WorkerPool;
use super::state::{MAX_START_FAILURES, Stage, State};
use crate::current_worker::Progress;
use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::promise::{Expire, Verdict};
use crate::idle::coalesce::Coalescing;
use crate::idle::placement::CorePlacement;
use crate::pool::observation::ObserverHandle;
use crate::pool::observer::WorkerEnd;
use crate::pool::worker_state::{Dequeued, Killed, Status, WorkerState};
use crate::sync::deadline::Deadline;
use crate::sync::{MutexGuard, Ordering, sleep_until, spin_then_yield};
use crate::task::run::WorkerHooks;
use crate::task::timeout::TimeoutGuard;
use crate::task::work_item::WorkItem;

/// A worker's view of its pool. Dropping it takes the worker out of the pool.
pub(crate) struct WorkerContext<W: WorkItem> {
    /// The pool of the worker.
    worker_pool: Arc<WorkerPool<W>>,
    /// The worker's index in the pool.
    index: usize,
    /// The worker's state, shared with the pool.
    worker_state: Arc<WorkerState>,
    /// What its tasks can see of the worker, through `current_worker`.
    progress: Arc<Progress>,
    /// Calls the user's observers, if there are any.
    observer: RefCell<ObserverHandle>,
    /// The pause before the worker looks for its next task, so that tasks gather.
    coalescing: RefCell<Coalescing>,
    /// The core on which the worker runs, and when it moves to another.
    placement: RefCell<CorePlacement>,
}

/// The answer to [`WorkerContext::start_failed`] and [`WorkerContext::lost`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterLoss {
    /// Start the worker's process again.
    Restart,
    /// Leave: the pool is broken, or has nothing to do.
    Stop,
}

/// The answer to [`WorkerContext::try_finish`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// The task's outcome counts.
    Accepted,
    /// The task was killed: its outcome does not count, and the worker's process is to die.
    Killed,
}

/// Whether a worker that was lost had begun a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// The worker had begun a task, or may have.
    Productive,
    /// The worker had begun no task since it was ready.
    Barren,
}

/// Workers in a row that may be lost without having begun a task; then the pool breaks.
const MAX_BARREN: u32 = 20;

/// How long the second worker of such a row waits before its successor starts. Each further one waits twice
/// as long as the one before it, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// The longest pause between two starts of such a row.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Worker starts in a row that may be interrupted from outside; then the pool breaks.
const MAX_INTERRUPTIONS: u32 = 1000;

impl<W: WorkItem> WorkerContext<W> {
    pub(super) fn new(
        worker_pool: Arc<WorkerPool<W>>,
        index: usize,
        worker_state: Arc<WorkerState>,
        progress: Arc<Progress>,
    ) -> Self {
        let observer = RefCell::new(ObserverHandle::new(worker_pool.observation.clone(), index));
        Self {
            worker_pool,
            index,
            worker_state,
            progress,
            observer,
            coalescing: RefCell::default(),
            placement: RefCell::new(CorePlacement::new()),
        }
    }

    /// Runs the worker's main loop to its end.
    pub(super) fn serve(self) {
        (self.worker_pool.worker_main)(&self);
    }

    pub(crate) fn worker_pool(&self) -> &Arc<WorkerPool<W>> {
        &self.worker_pool
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Reports that the worker has started, in the process `pid`: it is idle now.
    pub(crate) fn ready(&self, pid: u32) {
        self.observer.borrow_mut().worker_started(pid);
        let mut state = self.worker_pool.lock();
        state.failures = 0;
        state.interruptions = 0;
        self.worker_state.set(Status::Idle);
        self.worker_pool.change.notify_all();
    }

    /// Takes the next work, waiting for it; `None`: the worker is to leave. The one place where a worker
    /// takes work from the backlog.
    pub(crate) fn take(&self) -> Option<W> {
        let work = match self.take_now() {
            Dequeued::Work(work) => Some(work),
            Dequeued::Empty => self.wait_for_work(),
            Dequeued::ProcessLost => None,
        };
        if let Some(work) = &work {
            self.coalescing.borrow_mut().step();
            self.placement.borrow_mut().record_tasks(work.len());
            self.worker_pool.make_room();
        }
        work
    }

    /// Takes work if there is some; otherwise once more after the pause that the worker's coalescing asks
    /// for.
    fn take_now(&self) -> Dequeued<W> {
        match self.worker_state.take_from(&self.worker_pool.backlog) {
            Dequeued::Empty if self.coalescing.borrow_mut().pause() => {
                self.worker_state.take_from(&self.worker_pool.backlog)
            }
            take => take,
        }
    }

    fn wait_for_work(&self) -> Option<W> {
        let work = self.wait_in_pool();
        let submitter_core = self.worker_pool.submitter_core.get();
        let waiter_core = self.worker_pool.waiter_core.get();
        self.placement
            .borrow_mut()
            .after_wake(waiter_core, submitter_core);
        work
    }

    fn wait_in_pool(&self) -> Option<W> {
        let worker_pool = &*self.worker_pool;
        let idle_deadline = Deadline::after_limit(worker_pool.limits.idle_timeout);
        let mut state = worker_pool.lock();
        let mut has_searched = false;
        loop {
            let seen = self.news();
            match self.worker_state.take_from(&worker_pool.backlog) {
                Dequeued::ProcessLost => return None,
                Dequeued::Work(work) => {
                    if state.sleepers > 0 && !worker_pool.backlog.is_empty() {
                        // No worker was woken for the rest while a worker was spinning.
                        worker_pool.work.notify_one();
                    }
                    return Some(work);
                }
                Dequeued::Empty => {}
            }
            let Stage::Open = state.stage else {
                return None;
            };
            if idle_deadline.has_passed() {
                // No longer idle: work that comes from now on is for another worker.
                self.worker_state.set(Status::ProcessLost);
                return None;
            }
            state = if has_searched || state.searchers >= worker_pool.max_searchers {
                has_searched = false;
                self.sleep(state, idle_deadline)
            } else {
                has_searched = true;
                self.search(state, seen)
            };
        }
    }

    /// Sleeps until a worker is to take work from the backlog, or the deadline `idle_deadline` has passed.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<W>>,
        idle_deadline: Deadline,
    ) -> MutexGuard<'a, State<W>> {
        let worker_pool = &*self.worker_pool;
        state.sleepers += 1;
        worker_pool.update_needs_wakeup(&state);
        // Pairs with `WorkerPool::submit_more`: either the submitter sees `needs_wakeup`, or this thread sees
        // the work.
        if worker_pool.backlog.is_empty() {
            state = sleep_until(&worker_pool.work, state, idle_deadline);
        }
        state.sleepers -= 1;
        // The caller checks the backlog afterwards.
        worker_pool.update_needs_wakeup(&state);
        state
    }

    /// Spins for work for a while, if nothing has changed since `seen`. No worker is woken for new work
    /// meanwhile.
    fn search<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<W>>,
        seen: (u32, u32),
    ) -> MutexGuard<'a, State<W>> {
        state.searchers += 1;
        self.worker_pool.update_needs_wakeup(&state);
        drop(state);
        let waiter_core = self.worker_pool.waiter_core.get();
        self.placement.borrow_mut().on_idle(waiter_core);
        spin_then_yield(|| self.news() != seen);
        if self.news() == seen {
            // The worker is about to sleep, and may have to move to another core first; that is not done
            // under a lock.
            let submitter_core = self.worker_pool.submitter_core.get();
            self.placement.borrow_mut().before_sleep(submitter_core);
        }
        let mut state = self.worker_pool.lock();
        state.searchers -= 1;
        // The caller checks the backlog afterwards.
        self.worker_pool.update_needs_wakeup(&state);
        state
    }

    /// Two counters that change with the work there is: additions to the backlog, and other events.
    fn news(&self) -> (u32, u32) {
        // ORDERING: Relaxed; a hint, after which the lock is taken.
        let news = self.worker_pool.news.load(Ordering::Relaxed);
        (self.worker_pool.backlog.pushes(), news)
    }

    /// Reports that the worker has taken this work from the pull queue.
    pub(crate) fn claimed(&self, work: &W) {
        self.worker_state.set(Status::busy_with(work));
    }

    /// Reports that the worker is done with the work that it took from the pull queue.
    pub(crate) fn idle(&self) {
        self.worker_state.set(Status::Idle);
    }

    /// Tells the observer that the worker leaves; another may take its place.
    pub(crate) fn retire(&self) {
        self.observer.borrow_mut().worker_ended(WorkerEnd::Retired);
    }

    /// Whether workers are being ended from outside.
    pub(crate) fn stopping(&self) -> bool {
        self.worker_pool.lock().stopping
    }

    /// Called when the task's outcome has arrived: decides whether it counts, or the task was killed before.
    pub(crate) fn try_finish(&self) -> Conclusion {
        let mut answer = Conclusion::Accepted;
        self.update_busy(|task, _, killed| match killed {
            Killed::Yes => answer = Conclusion::Killed,
            // From here on no thread finds the task running, so it can no longer be killed.
            Killed::No => *task = None,
        });
        answer
    }

    /// Whether there are observers, which are told how each task ends.
    pub(crate) fn is_observed(&self) -> bool {
        self.worker_pool.is_observed()
    }

    /// Runs callbacks of a task that has ended, with the worker marked as busy. They may wait for another
    /// task of the pool, so the worker must not count as free for it.
    pub(crate) fn stay_busy(&self, task: FutureId, callbacks: impl FnOnce()) {
        if self.worker_state.status() != Status::Idle {
            return callbacks(); // not free anyway: its chunk goes on
        }
        let mut state = self.worker_pool.lock();
        self.worker_state.set(Status::Busy {
            task: None,
            rest: 0,
            chunk: (task, task),
            killed: Killed::No,
        });
        // Submitters counted on this worker since the task ended, because it was free: another worker may be
        // needed.
        let staffed = self.worker_pool.ensure_worker(&mut state);
        drop(state);
        self.worker_pool.break_unless(staffed);
        callbacks();
        self.worker_state.set(Status::Idle);
    }

    /// Reports the end of a task whose worker process is lost, just before its future is done.
    pub(crate) fn end_of_lost(&self, verdict: Verdict, error: Option<&Error>) {
        self.observer.borrow_mut().task_finished(verdict, error);
        self.worker_pool.count(verdict);
    }

    /// Reports that the task that the worker had begun is to begin again, here or elsewhere: its process is lost.
    pub(crate) fn task_returned(&self) {
        self.observer.borrow_mut().task_returned();
    }

    /// Puts work that the worker took and has not begun back into the queue.
    pub(crate) fn requeue(&self, unbegun: W) {
        self.drop_rest();
        self.worker_pool.put_back(unbegun);
    }

    /// Queues a task again after a pause, because its last attempt, on this worker, has failed. If it was killed
    /// meanwhile, it ends as cancelled.
    pub(crate) fn try_again(&self, pause: Duration, work: W) {
        if let Err(killed) = self.worker_pool.put_back_after(pause, work) {
            self.stay_busy(killed.id(), || {
                killed.fail(&Error::Cancelled, &mut |verdict| {
                    self.worker_pool.count(verdict)
                });
            });
        }
    }

    /// Reports that the worker's process is gone, and that what it left behind was handled. Breaks the pool
    /// if [`MAX_BARREN`] workers in a row are lost before they have begun a task: something ends them, and
    /// each start costs. The pauses between such starts become longer.
    pub(crate) fn lost(&self, tenure: Tenure) -> AfterLoss {
        self.observer.borrow_mut().worker_ended(WorkerEnd::Lost);
        let mut state = self.worker_pool.lock();
        state.lost += 1;
        let ended = self.worker_pool.ended(&state);
        let is_in_a_row = tenure == Tenure::Barren && ended == state.ended_at_barren;
        state.barren = match (tenure, is_in_a_row) {
            (Tenure::Productive, _) => 0,
            (Tenure::Barren, false) => 1,
            (Tenure::Barren, true) => state.barren + 1,
        };
        state.ended_at_barren = ended;
        if state.barren >= MAX_BARREN {
            drop(state);
            let words = format!(
                "{MAX_BARREN} workers in a row ended after their start, without having begun a task"
            );
            self.worker_pool
                .break_down(&Error::BrokenPool(words.into()));
            return AfterLoss::Stop;
        }
        self.worker_state.set(Status::Starting);
        let mut state = self.pause(state);
        self.restart_or_stop(&mut state)
    }

    /// Waits before another worker is started, if the last ones have begun no task; not while the pool is
    /// being ended.
    fn pause<'a>(&'a self, mut state: MutexGuard<'a, State<W>>) -> MutexGuard<'a, State<W>> {
        let Some(doublings) = state.barren.checked_sub(2) else {
            return state;
        };
        let pause = FIRST_PAUSE
            .saturating_mul(1 << doublings)
            .min(LONGEST_PAUSE);
        let end = Deadline::after(pause);
        while matches!(state.stage, Stage::Open) && !state.stopping && !end.has_passed() {
            state = sleep_until(&self.worker_pool.change, state, end);
        }
        state
    }

    /// Reports that the worker could not be started. Breaks the pool at the third time in a row if no worker
    /// is ready.
    pub(crate) fn start_failed(&self, error: &Error) -> AfterLoss {
        let mut state = self.worker_pool.lock();
        state.failures += 1;
        if state.failures < MAX_START_FAILURES {
            return self.restart_or_stop(&mut state);
        }
        if state.entries.ready() == 0 {
            drop(state);
            self.worker_pool.break_down(error);
        }
        // Workers that are ready go on alone.
        AfterLoss::Stop
    }

    /// Reports that the worker was ended from outside before it was ready. Breaks the pool only after
    /// [`MAX_INTERRUPTIONS`] of these in a row: where memory is short, the kernel kills worker after worker.
    pub(crate) fn start_interrupted(&self, error: &Error) -> AfterLoss {
        let mut state = self.worker_pool.lock();
        state.interruptions += 1;
        if state.interruptions >= MAX_INTERRUPTIONS {
            drop(state);
            self.worker_pool.break_down(error);
            return AfterLoss::Stop;
        }
        self.restart_or_stop(&mut state)
    }

    fn restart_or_stop(&self, state: &mut State<W>) -> AfterLoss {
        let wanted = match state.stage {
            Stage::Broken(_) => false,
            _ if state.stopping => false,
            Stage::Closing | Stage::Cancelling => self.worker_pool.has_waiting(),
            Stage::Open => self.worker_pool.has_waiting() || state.warming > 0,
        };
        if !wanted {
            return AfterLoss::Stop;
        }
        if state.lost > 0 {
            state.lost -= 1;
            state.entries.count_restart();
        }
        AfterLoss::Restart
    }

    fn update_busy(&self, f: impl FnOnce(&mut Option<FutureId>, &mut i64, &mut Killed)) {
        if let Status::Busy {
            task, rest, killed, ..
        } = &mut self.worker_state.lock().status
        {
            f(task, rest, killed);
        }
    }
}

/// What tasks that run on the worker's own thread report; a supervisor reports the same of tasks that run in its
/// process.
impl<W: WorkItem> WorkerHooks for WorkerContext<W> {
    fn task_starting(&self, id: FutureId) {
        self.update_busy(|task, rest, _| {
            // A thread that asks the task before to stop finds it over, or has its request cleared here: the
            // request does not hit this task.
            self.progress.begin_task();
            *task = Some(id);
            *rest -= 1;
        });
    }

    /// Tells the observer.
    fn task_started(&self, id: FutureId) {
        self.observer.borrow_mut().task_started(id);
    }

    /// The cancellation has taken the task off the count of the chunk, so it is added again here.
    ///
    /// The observers have been told, unless the task was cancelled before the pool got it.
    fn task_cancelled(&self, id: FutureId) {
        self.update_busy(|task, rest, _| {
            *task = None;
            *rest += 1;
        });
        self.worker_pool.settled(id, Some(&Error::Cancelled));
    }

    /// `true` if the pool is shut down with `cancel_futures`.
    fn cancels(&self) -> bool {
        matches!(self.worker_pool.lock().stage, Stage::Cancelling)
    }

    fn drop_rest(&self) {
        self.update_busy(|_, rest, _| *rest = 0);
    }

    fn count(&self, verdict: Verdict) {
        self.worker_pool.count(verdict);
    }

    /// Without a timer thread the limit is checked when the function has returned.
    fn expire_after(&self, task: Arc<dyn Expire>, limit: Duration) -> Option<TimeoutGuard> {
        self.worker_pool.timer.expire_after(task, limit).ok()?
    }

    /// The worker is free from now on, unless its chunk goes on.
    fn task_done(&self, verdict: Verdict, error: Option<&Error>) {
        self.observer.borrow_mut().task_finished(verdict, error);
        let mut inner = self.worker_state.lock();
        inner.counts.count(verdict);
        if let Status::Busy {
            rest: ..=0,
            killed: Killed::No,
            ..
        } = inner.status
        {
            inner.status = Status::Idle;
        }
    }

    fn worker_index(&self) -> Option<usize> {
        Some(self.index)
    }
}

impl<W: WorkItem> Drop for WorkerContext<W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A bug of this crate: an error for every caller is better than a worker that dies again and
            // again.
            let words = "a worker thread has panicked outside of tasks";
            self.worker_pool
                .break_down(&Error::BrokenPool(words.into()));
        }
        self.retire();
        let mut state = self.worker_pool.lock();
        let mut own = state.entries.remove(self.index);
        self.worker_pool.update_needs_wakeup(&state);
        let staffed = match state.stage {
            Stage::Broken(_) => Ok(()),
            _ => self.worker_pool.ensure_worker(&mut state),
        };
        let is_over = state.entries.len() == 0 && !matches!(state.stage, Stage::Open);
        if staffed.is_err() || is_over {
            // Callbacks that run here may shut the pool down, so this thread must still be found as a worker.
            if let Some(worker) = own.take() {
                state.entries.insert(self.index, worker);
            }
            drop(state);
            self.worker_pool.break_unless(staffed);
            if let (true, Some(pull_queue)) = (is_over, &self.worker_pool.pull_queue) {
                pull_queue.end();
            }
            state = self.worker_pool.lock();
            own = state.entries.remove(self.index);
        }
        state.left.extend(own.map(|worker| worker.thread));
        self.worker_pool.change.notify_all();
    }
}
