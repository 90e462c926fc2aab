//! A worker's side of its crew: what it says, and what it asks.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{MAX_START_FAILURES, Stage, State, WorkerPool};
use crate::current_worker::Progress;
use crate::error::Error;
use crate::future::Verdict;
use crate::future::id::FutureId;
use crate::idle::coalesce::Coalescing;
use crate::idle::placement::CorePlacement;
use crate::pool::backlog::WorkItem;
use crate::pool::observer::{ObserverHandle, WorkerEnd};
use crate::pool::worker_state::{Dequeued, Killed, Status, WorkerState};
use crate::sync::{MutexGuard, Ordering, spin_then_yield};

/// A worker's place in its crew. Dropping it leaves the crew.
pub(crate) struct WorkerContext<W: WorkItem> {
    /// The crew.
    worker_pool: Arc<WorkerPool<W>>,
    /// The worker's index.
    index: usize,
    /// What it is doing.
    worker_state: Arc<WorkerState>,
    /// What its tasks can see of it.
    progress: Arc<Progress>,
    /// Tells the observer.
    watch: RefCell<ObserverHandle>,
    /// How hastily it looks for the next task.
    coalescing: RefCell<Coalescing>,
    /// On which core it stands.
    placement: RefCell<CorePlacement>,
}

/// The answer to [`WorkerContext::start_failed`] and [`WorkerContext::lost`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterLoss {
    /// Start again.
    Restart,
    /// Leave: the crew is broken, or has nothing to do.
    Stop,
}

/// The answer to [`WorkerContext::try_finish`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conclusion {
    /// The outcome counts.
    Accepted,
    /// The task was killed: its outcome does not count, and the worker is to die.
    Killed,
}

/// Whether a worker that was lost had begun a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// It had, or may have.
    Productive,
    /// It had begun none since it was ready.
    Barren,
}

/// Workers in a row that may be lost without having begun a task.
const MAX_BARREN: u32 = 20;

/// How long the second of them waits for its successor; each further one waits twice as long as the one
/// before it, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(5);

/// What the pause between two of them grows to.
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Starts in a row that others may interrupt.
const MAX_INTERRUPTIONS: u32 = 1000;

impl<W: WorkItem> WorkerContext<W> {
    pub(super) fn new(
        worker_pool: Arc<WorkerPool<W>>,
        index: usize,
        worker_state: Arc<WorkerState>,
        progress: Arc<Progress>,
    ) -> Self {
        let watch = RefCell::new(ObserverHandle::new(worker_pool.observer.clone(), index));
        Self {
            worker_pool,
            index,
            worker_state,
            progress,
            watch,
            coalescing: RefCell::default(),
            placement: RefCell::new(CorePlacement::new()),
        }
    }

    /// The worker's life.
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

    /// The worker, of this process, is past its start.
    pub(crate) fn ready(&self, pid: u32) {
        self.watch.borrow_mut().worker_started(pid);
        let mut state = self.worker_pool.lock();
        state.failures = 0;
        state.interruptions = 0;
        self.worker_state.set(Status::Idle);
        self.worker_pool.change.notify_all();
    }

    /// The next work; `None`: leave. This is where a worker takes a task.
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

    /// Takes what there is; if that is nothing, once more after the pause that the worker's gait asks
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
        let submitted_from = self.worker_pool.submitted_from.get();
        let watched_from = self.worker_pool.watched_from.get();
        self.placement
            .borrow_mut()
            .after_wake(watched_from, submitted_from);
        work
    }

    fn wait_in_pool(&self) -> Option<W> {
        let worker_pool = &*self.worker_pool;
        let on_full = worker_pool.limits.idle_timeout;
        let on_full = on_full.and_then(|limit| Instant::now().checked_add(limit));
        let mut state = worker_pool.lock();
        let mut has_searched = false;
        loop {
            let seen = self.news();
            match self.worker_state.take_from(&worker_pool.backlog) {
                Dequeued::ProcessLost => return None,
                Dequeued::Work(work) => {
                    if state.sleepers > 0 && !worker_pool.backlog.is_empty() {
                        // Nobody was woken for it while somebody looked.
                        worker_pool.work.notify_one();
                    }
                    return Some(work);
                }
                Dequeued::Empty => {}
            }
            let Stage::Open = state.stage else {
                return None;
            };
            if on_full.is_some_and(|end| end <= Instant::now()) {
                // No longer idle: what comes from now on is for somebody else.
                self.worker_state.set(Status::ProcessLost);
                return None;
            }
            state = if has_searched || state.searchers >= worker_pool.max_searchers {
                has_searched = false;
                self.sleep(state, on_full)
            } else {
                has_searched = true;
                self.search(state, seen)
            };
        }
    }

    /// Sleeps until somebody is to take what is in the backlog.
    fn sleep<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        on_full: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let worker_pool = &*self.worker_pool;
        state.sleepers += 1;
        worker_pool.update_needs_wakeup(&state);
        // Who added something before he was to look has not woken us.
        if worker_pool.backlog.is_empty() {
            state = worker_pool.sleep_until(&worker_pool.work, state, on_full);
        }
        state.sleepers -= 1;
        // The caller looks into the backlog.
        worker_pool.update_needs_wakeup(&state);
        state
    }

    /// Looks for work for a while, if there was nothing new since; nobody is woken for it meanwhile.
    fn search<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        seen: (u32, u32),
    ) -> MutexGuard<'a, State> {
        state.searchers += 1;
        self.worker_pool.update_needs_wakeup(&state);
        drop(state);
        let watched_from = self.worker_pool.watched_from.get();
        self.placement.borrow_mut().on_idle(watched_from);
        spin_then_yield(|| self.news() != seen);
        if self.news() == seen {
            // It is about to sleep, and may have to go elsewhere before, which is not done under a lock.
            let submitted_from = self.worker_pool.submitted_from.get();
            self.placement.borrow_mut().before_sleep(submitted_from);
        }
        let mut state = self.worker_pool.lock();
        state.searchers -= 1;
        // The caller looks into the backlog.
        self.worker_pool.update_needs_wakeup(&state);
        state
    }

    /// What changes with what there is to do.
    fn news(&self) -> (u32, u32) {
        // ORDERING: Relaxed; a hint, after which the lock is taken.
        let news = self.worker_pool.news.load(Ordering::Relaxed);
        (self.worker_pool.backlog.pushes(), news)
    }

    /// The worker has taken this work by itself.
    pub(crate) fn claimed(&self, work: &W) {
        self.worker_state.set(Status::busy_with(work));
    }

    /// The worker is through with what it had taken by itself.
    pub(crate) fn idle(&self) {
        self.worker_state.set(Status::Idle);
    }

    /// The worker begins this task; said before the task's cell says so, so that who sees it
    /// running finds its worker.
    pub(crate) fn task_starting(&self, id: FutureId) {
        self.update_busy(|task, rest, _| {
            // Who asks the task before to stop finds it over.
            self.progress.begin_task();
            *task = Some(id);
            *rest -= 1;
        });
    }

    /// The task that the worker has just begun has truly begun.
    pub(crate) fn task_started(&self, id: FutureId) {
        self.watch.borrow_mut().task_started(id);
    }

    /// The worker is let go, and another takes its place.
    pub(crate) fn retire(&self) {
        self.watch.borrow_mut().worker_ended(WorkerEnd::Left);
    }

    /// The task that the worker has just begun turned out to be cancelled: it was taken off the
    /// chunk by that.
    pub(crate) fn task_cancelled(&self) {
        self.update_busy(|task, rest, _| {
            *task = None;
            *rest += 1;
        });
    }

    /// Whether workers are being ended from outside.
    pub(crate) fn stopping(&self) -> bool {
        self.worker_pool.lock().stopping
    }

    /// Whether what has not begun is not to begin any more.
    pub(crate) fn cancels(&self) -> bool {
        matches!(self.worker_pool.lock().stage, Stage::Cancelling)
    }

    /// The rest of the chunk will not begin.
    pub(crate) fn drop_rest(&self) {
        self.update_busy(|_, rest, _| *rest = 0);
    }

    /// The outcome of the task has arrived: does it count?
    pub(crate) fn try_finish(&self) -> Conclusion {
        let mut answer = Conclusion::Accepted;
        self.update_busy(|task, _, killed| match killed {
            Killed::Yes => answer = Conclusion::Killed,
            // From here on nobody finds the task running, to kill it.
            Killed::No => *task = None,
        });
        answer
    }

    /// The task's future is about to be done: the worker is free from now on, unless its chunk
    /// goes on.
    pub(crate) fn task_done(&self, verdict: Verdict) {
        self.watch.borrow_mut().task_finished(verdict);
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

    /// Whether an observer is to hear how each task ends.
    pub(crate) fn is_observed(&self) -> bool {
        self.worker_pool.observer.is_some()
    }

    /// Runs callbacks of a task that has ended. They may wait for another task of the crew: meanwhile the
    /// worker does not count as one that is free for it.
    pub(crate) fn stay_busy(&self, task: FutureId, callbacks: impl FnOnce()) {
        if self.worker_state.status() != Status::Idle {
            return callbacks(); // its chunk goes on
        }
        let mut state = self.worker_pool.lock();
        self.worker_state.set(Status::Busy {
            task: None,
            rest: 0,
            chunk: (task, task),
            killed: Killed::No,
        });
        // What was submitted since the task ended has counted on this worker.
        let staffed = self.worker_pool.ensure_worker(&mut state);
        drop(state);
        self.worker_pool.break_unless(staffed);
        callbacks();
        self.worker_state.set(Status::Idle);
    }

    /// The future of the task that a lost worker ran is about to be done.
    pub(crate) fn end_of_lost(&self, verdict: Verdict) {
        self.watch.borrow_mut().task_finished(verdict);
        self.worker_pool.count(verdict);
    }

    /// What the worker took and did not begin goes back to the queue.
    pub(crate) fn requeue(&self, unbegun: W) {
        self.drop_rest();
        self.worker_pool.put_back(unbegun);
    }

    /// The worker's process is gone, and what it left behind has been seen to. Breaks the crew where workers
    /// are lost again and again before they have begun anything, with pauses that become longer: there is
    /// something that ends them, and each start costs.
    pub(crate) fn lost(&self, tenure: Tenure) -> AfterLoss {
        self.watch.borrow_mut().worker_ended(WorkerEnd::Lost);
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

    /// Waits before another worker is started, if the last ones have done nothing; not while the crew is
    /// being ended.
    fn pause<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let Some(doublings) = state.barren.checked_sub(2) else {
            return state;
        };
        let pause = FIRST_PAUSE
            .saturating_mul(1 << doublings)
            .min(LONGEST_PAUSE);
        let end = Instant::now() + pause;
        while matches!(state.stage, Stage::Open) && !state.stopping && Instant::now() < end {
            state = self
                .worker_pool
                .sleep_until(&self.worker_pool.change, state, Some(end));
        }
        state
    }

    /// The worker could not be started. Breaks the crew at the third time in a row.
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
        // Those that are ready go on alone.
        AfterLoss::Stop
    }

    /// The worker was ended from outside before it was ready. Breaks the crew only when that
    /// never ends: where memory is short, the kernel kills worker after worker.
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

    fn restart_or_stop(&self, state: &mut State) -> AfterLoss {
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

impl<W: WorkItem> Drop for WorkerContext<W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A bug of ours: better an error for everybody than a worker that dies again and again.
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
            // Callbacks that run here may shut the crew down: they are a worker's.
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
