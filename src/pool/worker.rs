//! A worker's side of its crew: what it says, and what it asks.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Crew, MAX_FAILURES, Stage, State};
use crate::current_worker::Progress;
use crate::error::Error;
use crate::future::Verdict;
use crate::future::id::FutureId;
use crate::idle::coalesce::Gait;
use crate::idle::placement::Footing;
use crate::pool::backlog::Work;
use crate::pool::observer::{Watch, WorkerEnd};
use crate::pool::worker_state::{Duty, Killed, Status, Take};
use crate::sync::{MutexGuard, Ordering, look_around};

/// A worker's place in its crew. Dropping it leaves the crew.
pub(crate) struct Post<W: Work> {
    /// The crew.
    crew: Arc<Crew<W>>,
    /// The worker's index.
    index: usize,
    /// What it is doing.
    duty: Arc<Duty>,
    /// What its tasks can see of it.
    progress: Arc<Progress>,
    /// Tells the observer.
    watch: RefCell<Watch>,
    /// How hastily it looks for the next task.
    gait: RefCell<Gait>,
    /// On which core it stands.
    footing: RefCell<Footing>,
}

/// The answer to [`Post::start_failed`] and [`Post::lost`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Start again.
    Restart,
    /// Leave: the crew is broken, or has nothing to do.
    Leave,
}

/// The answer to [`Post::conclude`].
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conclude {
    /// The outcome counts.
    Counts,
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

impl<W: Work> Post<W> {
    pub(super) fn new(
        crew: Arc<Crew<W>>,
        index: usize,
        duty: Arc<Duty>,
        progress: Arc<Progress>,
    ) -> Self {
        let watch = RefCell::new(Watch::new(crew.observer.clone(), index));
        Self {
            crew,
            index,
            duty,
            progress,
            watch,
            gait: RefCell::default(),
            footing: RefCell::new(Footing::new()),
        }
    }

    /// The worker's life.
    pub(super) fn serve(self) {
        (self.crew.career)(&self);
    }

    pub(crate) fn crew(&self) -> &Arc<Crew<W>> {
        &self.crew
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
        let mut state = self.crew.lock();
        state.failures = 0;
        state.interruptions = 0;
        self.duty.set(Status::Idle);
        self.crew.change.notify_all();
    }

    /// The next work; `None`: leave. This is where a worker takes a task.
    pub(crate) fn take(&self) -> Option<W> {
        let work = match self.take_now() {
            Take::Work(work) => Some(work),
            Take::Nothing => self.wait_for_work(),
            Take::Bereft => None,
        };
        if let Some(work) = &work {
            self.gait.borrow_mut().step();
            self.footing.borrow_mut().step(work.len());
            self.crew.make_room();
        }
        work
    }

    /// Takes what there is; if that is nothing, once more after the pause that the worker's gait asks
    /// for.
    fn take_now(&self) -> Take<W> {
        match self.duty.take_from(&self.crew.backlog) {
            Take::Nothing if self.gait.borrow_mut().pause() => {
                self.duty.take_from(&self.crew.backlog)
            }
            take => take,
        }
    }

    fn wait_for_work(&self) -> Option<W> {
        let work = self.wait_in_crew();
        let submitted_from = self.crew.submitted_from.get();
        let watched_from = self.crew.watched_from.get();
        self.footing
            .borrow_mut()
            .get_up(watched_from, submitted_from);
        work
    }

    fn wait_in_crew(&self) -> Option<W> {
        let crew = &*self.crew;
        let patience = crew.limits.idle_timeout;
        let patience = patience.and_then(|limit| Instant::now().checked_add(limit));
        let mut state = crew.lock();
        let mut has_searched = false;
        loop {
            let seen = self.news();
            match self.duty.take_from(&crew.backlog) {
                Take::Bereft => return None,
                Take::Work(work) => {
                    if state.sleepers > 0 && !crew.backlog.is_empty() {
                        // Nobody was woken for it while somebody looked.
                        crew.work.notify_one();
                    }
                    return Some(work);
                }
                Take::Nothing => {}
            }
            let Stage::Open = state.stage else {
                return None;
            };
            if patience.is_some_and(|end| end <= Instant::now()) {
                // No longer idle: what comes from now on is for somebody else.
                self.duty.set(Status::Bereft);
                return None;
            }
            state = if has_searched || state.searchers >= crew.max_searchers {
                has_searched = false;
                self.sleep(state, patience)
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
        patience: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let crew = &*self.crew;
        state.sleepers += 1;
        crew.look_out(&state);
        // Who added something before he was to look has not woken us.
        if crew.backlog.is_empty() {
            state = crew.sleep_until(&crew.work, state, patience);
        }
        state.sleepers -= 1;
        // The caller looks into the backlog.
        crew.look_out(&state);
        state
    }

    /// Looks for work for a while, if there was nothing new since; nobody is woken for it meanwhile.
    fn search<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        seen: (u32, u32),
    ) -> MutexGuard<'a, State> {
        state.searchers += 1;
        self.crew.look_out(&state);
        drop(state);
        let watched_from = self.crew.watched_from.get();
        self.footing.borrow_mut().pause(watched_from);
        look_around(|| self.news() != seen);
        if self.news() == seen {
            // It is about to sleep, and may have to go elsewhere before, which is not done under a lock.
            let submitted_from = self.crew.submitted_from.get();
            self.footing.borrow_mut().lie_down(submitted_from);
        }
        let mut state = self.crew.lock();
        state.searchers -= 1;
        // The caller looks into the backlog.
        self.crew.look_out(&state);
        state
    }

    /// What changes with what there is to do.
    fn news(&self) -> (u32, u32) {
        // ORDERING: Relaxed; a hint, after which the lock is taken.
        let news = self.crew.news.load(Ordering::Relaxed);
        (self.crew.backlog.pushes(), news)
    }

    /// The worker has taken this work by itself.
    pub(crate) fn accept(&self, work: &W) {
        self.duty.set(Status::busy_with(work));
    }

    /// The worker is through with what it had taken by itself.
    pub(crate) fn rest(&self) {
        self.duty.set(Status::Idle);
    }

    /// The worker begins this task; said before the task's cell says so, so that who sees it
    /// running finds its worker.
    pub(crate) fn begin(&self, id: FutureId) {
        self.update_busy(|task, rest, _| {
            // Who asks the task before to stop finds it over.
            self.progress.begin_task();
            *task = Some(id);
            *rest -= 1;
        });
    }

    /// The task that the worker has just begun has truly begun.
    pub(crate) fn begun(&self, id: FutureId) {
        self.watch.borrow_mut().task_started(id);
    }

    /// The worker is let go, and another takes its place.
    pub(crate) fn let_go(&self) {
        self.watch.borrow_mut().worker_ended(WorkerEnd::Left);
    }

    /// The task that the worker has just begun turned out to be cancelled: it was taken off the
    /// chunk by that.
    pub(crate) fn abandon(&self) {
        self.update_busy(|task, rest, _| {
            *task = None;
            *rest += 1;
        });
    }

    /// Whether workers are being ended from outside.
    pub(crate) fn stopping(&self) -> bool {
        self.crew.lock().stopping
    }

    /// Whether what has not begun is not to begin any more.
    pub(crate) fn cancels(&self) -> bool {
        matches!(self.crew.lock().stage, Stage::Cancelling)
    }

    /// The rest of the chunk will not begin.
    pub(crate) fn forget(&self) {
        self.update_busy(|_, rest, _| *rest = 0);
    }

    /// The outcome of the task has arrived: does it count?
    pub(crate) fn conclude(&self) -> Conclude {
        let mut answer = Conclude::Counts;
        self.update_busy(|task, _, killed| match killed {
            Killed::Yes => answer = Conclude::Killed,
            // From here on nobody finds the task running, to kill it.
            Killed::No => *task = None,
        });
        answer
    }

    /// The task's future is about to be done: the worker is free from now on, unless its chunk
    /// goes on.
    pub(crate) fn end(&self, verdict: Verdict) {
        self.watch.borrow_mut().task_finished(verdict);
        let mut shift = self.duty.lock();
        shift.counts.count(verdict);
        if let Status::Busy {
            rest: ..=0,
            killed: Killed::No,
            ..
        } = shift.status
        {
            shift.status = Status::Idle;
        }
    }

    /// Whether an observer is to hear how each task ends.
    pub(crate) fn is_observed(&self) -> bool {
        self.crew.observer.is_some()
    }

    /// Runs callbacks of a task that has ended. They may wait for another task of the crew: meanwhile the
    /// worker does not count as one that is free for it.
    pub(crate) fn stay_busy(&self, task: FutureId, callbacks: impl FnOnce()) {
        if self.duty.status() != Status::Idle {
            return callbacks(); // its chunk goes on
        }
        let mut state = self.crew.lock();
        self.duty.set(Status::Busy {
            task: None,
            rest: 0,
            chunk: (task, task),
            killed: Killed::No,
        });
        // What was submitted since the task ended has counted on this worker.
        let staffed = self.crew.staff(&mut state);
        drop(state);
        self.crew.break_unless(staffed);
        callbacks();
        self.duty.set(Status::Idle);
    }

    /// The future of the task that a lost worker ran is about to be done.
    pub(crate) fn end_of_lost(&self, verdict: Verdict) {
        self.watch.borrow_mut().task_finished(verdict);
        self.crew.count(verdict);
    }

    /// What the worker took and did not begin goes back to the queue.
    pub(crate) fn give_back(&self, unbegun: W) {
        self.forget();
        self.crew.put_back(unbegun);
    }

    /// The worker's process is gone, and what it left behind has been seen to. Breaks the crew where workers
    /// are lost again and again before they have begun anything, with pauses that become longer: there is
    /// something that ends them, and each start costs.
    pub(crate) fn lost(&self, tenure: Tenure) -> Next {
        self.watch.borrow_mut().worker_ended(WorkerEnd::Lost);
        let mut state = self.crew.lock();
        state.lost += 1;
        let ended = self.crew.ended(&state);
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
            self.crew.break_down(&Error::BrokenPool(words.into()));
            return Next::Leave;
        }
        self.duty.set(Status::Starting);
        let mut state = self.pause(state);
        self.restart_or_leave(&mut state)
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
            state = self.crew.sleep_until(&self.crew.change, state, Some(end));
        }
        state
    }

    /// The worker could not be started. Breaks the crew at the third time in a row.
    pub(crate) fn start_failed(&self, error: &Error) -> Next {
        let mut state = self.crew.lock();
        state.failures += 1;
        if state.failures < MAX_FAILURES {
            return self.restart_or_leave(&mut state);
        }
        if state.roster.ready() == 0 {
            drop(state);
            self.crew.break_down(error);
        }
        // Those that are ready go on alone.
        Next::Leave
    }

    /// The worker was ended from outside before it was ready. Breaks the crew only when that
    /// never ends: where memory is short, the kernel kills worker after worker.
    pub(crate) fn start_interrupted(&self, error: &Error) -> Next {
        let mut state = self.crew.lock();
        state.interruptions += 1;
        if state.interruptions >= MAX_INTERRUPTIONS {
            drop(state);
            self.crew.break_down(error);
            return Next::Leave;
        }
        self.restart_or_leave(&mut state)
    }

    fn restart_or_leave(&self, state: &mut State) -> Next {
        let wanted = match state.stage {
            Stage::Broken(_) => false,
            _ if state.stopping => false,
            Stage::Closing | Stage::Cancelling => self.crew.has_waiting(),
            Stage::Open => self.crew.has_waiting() || state.warming > 0,
        };
        if !wanted {
            return Next::Leave;
        }
        if state.lost > 0 {
            state.lost -= 1;
            state.roster.count_restart();
        }
        Next::Restart
    }

    fn update_busy(&self, f: impl FnOnce(&mut Option<FutureId>, &mut i64, &mut Killed)) {
        if let Status::Busy {
            task, rest, killed, ..
        } = &mut self.duty.lock().status
        {
            f(task, rest, killed);
        }
    }
}

impl<W: Work> Drop for Post<W> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A bug of ours: better an error for everybody than a worker that dies again and again.
            let words = "a worker thread has panicked outside of tasks";
            self.crew.break_down(&Error::BrokenPool(words.into()));
        }
        self.let_go();
        let mut state = self.crew.lock();
        let mut own = state.roster.unseat(self.index);
        self.crew.look_out(&state);
        let staffed = match state.stage {
            Stage::Broken(_) => Ok(()),
            _ => self.crew.staff(&mut state),
        };
        let is_over = state.roster.len() == 0 && !matches!(state.stage, Stage::Open);
        if staffed.is_err() || is_over {
            // Callbacks that run here may shut the crew down: they are a worker's.
            if let Some(worker) = own.take() {
                state.roster.seat(self.index, worker);
            }
            drop(state);
            self.crew.break_unless(staffed);
            if let (true, Some(shelf)) = (is_over, &self.crew.shelf) {
                shelf.end();
            }
            state = self.crew.lock();
            own = state.roster.unseat(self.index);
        }
        state.left.extend(own.map(|worker| worker.thread));
        self.crew.change.notify_all();
    }
}
