//! Threads that serve one backlog: what thread pools and process pools have in common.
//!
//! A worker is a thread. It looks for work with [`WorkerContext::take`], says what it begins and ends, and
//! leaves when there is none and the crew closes. One lock guards stage and roster, those of the
//! workers' duties and of the backlog come after it, in this order; no user code runs under any of
//! them, and no cell's lock is taken under them.
//!
//! A task goes from who submits it to its worker without the crew's lock, as long as nobody has to
//! be started or woken for it: `needs_wakeup` says so. Who submits adds to the backlog and then looks
//! at it; who makes it true does so and then looks into the backlog. One of them sees the other.

pub(crate) mod backlog;
pub(crate) mod observer;
pub(crate) mod pull_queue;
pub(crate) mod worker;
pub(crate) mod worker_state;
pub(crate) mod workers;

use std::io;
use std::num::NonZero;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::current_worker::Progress;
use crate::error::Error;
use crate::executor::Stats;
use crate::future::Verdict;
use crate::future::id::FutureId;
use crate::future::pool_handle::{TaskLocation, Unqueue, Waiter};
use crate::idle::core_hint::CoreHint;
use crate::options::Shutdown;
use crate::pool::backlog::{Backlog, Withdrawn, WorkItem};
use crate::pool::observer::Observer;
use crate::pool::worker_state::{Killed, Status, WorkerState};
use crate::pool::workers::{WorkerEntry, Workers};
use crate::sync::{
    AtomicU32, Condvar, JoinHandle, Mutex, MutexGuard, Ordering, ThreadId, lock, sleep, spawn,
    spin_then_yield, this_thread,
};
use crate::sys;
use crate::sys::fork;
use crate::task::timeout;
use crate::unwind::discard;

pub(crate) use pull_queue::{PullQueue, QueueLoad};
pub(crate) use worker::{AfterLoss, Conclusion, Tenure, WorkerContext};

/// Starts in a row that may fail while no worker is ready.
const MAX_START_FAILURES: u32 = 3;

/// The threads of one pool, and what they are to do.
pub(crate) struct WorkerPool<W: WorkItem> {
    /// Roster, stage.
    state: Mutex<State>,
    /// Accepted, and not begun.
    backlog: Backlog<W>,
    /// Whether who adds to the backlog is to look, under the lock, who is there: 0 or 1.
    needs_wakeup: AtomicU32,
    /// Notified when there is work, or none any more: idle workers wait here.
    work: Condvar,
    /// Notified when a worker is ready or has left, or the stage changes.
    change: Condvar,
    /// Notified when the backlog has become shorter: callers of `admit` wait here.
    room: Condvar,
    /// How many threads, and waiting tasks, there may be.
    limits: Limits,
    /// How its threads are made.
    threads: Threads,
    /// What a worker does from its first moment to its last.
    worker_main: WorkerMain<W>,
    /// Hears what workers do.
    observer: Option<Arc<dyn Observer>>,
    /// Where workers take tasks by themselves, if they do.
    pull_queue: Option<Arc<dyn PullQueue<W>>>,
    /// How often there was something new for workers, other than work.
    news: AtomicU32,
    /// Whether tasks are refused: what the stage says, for who asks without the lock.
    is_refusing: AtomicBool,
    /// How many workers may look for work at a time, where others would sleep.
    max_searchers: usize,
    /// On which core somebody looks for an outcome; none: nobody does.
    watched_from: CoreHint,
    /// On which core work was added a moment ago.
    submitted_from: CoreHint,
    /// The process whose threads these are.
    fork_epoch: fork::ForkEpoch,
}

/// How large a crew may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Threads.
    pub(crate) max_workers: usize,
    /// Tasks that wait.
    pub(crate) max_pending: Option<usize>,
    /// How long a worker waits for a task before it leaves.
    pub(crate) idle_timeout: Option<Duration>,
}

/// How the threads of a crew are made.
pub(crate) struct Threads {
    /// A thread is called this, and its index.
    pub(crate) name_prefix: String,
    /// How many bytes of stack a thread has; `None`: as many as std gives it.
    pub(crate) stack_size: Option<usize>,
}

/// What a worker does from its first moment to its last.
pub(crate) type WorkerMain<W> = Box<dyn Fn(&WorkerContext<W>) + Send + Sync>;

/// What the lock guards.
struct State {
    /// Whether tasks are accepted.
    stage: Stage,
    /// Tasks that were admitted, and are about to be submitted.
    admitted: usize,
    /// Whether workers are being ended from outside.
    stopping: bool,
    /// Who is there.
    entries: Workers,
    /// Threads that are ending, to be joined.
    left: Vec<JoinHandle<()>>,
    /// How many callers of `shutdown` are joining threads.
    joining: usize,
    /// Starts that failed since the last that did not.
    failures: u32,
    /// Starts that were interrupted since the last that was not.
    interruptions: u32,
    /// Workers lost in a row that had begun nothing, while no other worker ended a task either.
    barren: u32,
    /// How many tasks had ended when the last of them was lost.
    ended_at_barren: u64,
    /// Workers lost and not replaced so far.
    lost: usize,
    /// How many callers of `warm_up` wait for all workers.
    warming: usize,
    /// How many workers look for work: while there are any, nobody is woken for it.
    searchers: usize,
    /// How many workers sleep until there is work.
    sleepers: usize,
}

/// Whether tasks are accepted.
#[derive(Debug, Clone)]
enum Stage {
    /// They are.
    Open,
    /// Those accepted are still served.
    Closing,
    /// Those begun are still served.
    Cancelling,
    /// None is served any more, for this reason.
    Broken(Error),
}

/// What to do while there is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnFull {
    /// Wait for room; a worker does not, since it is what makes room, nor does a timer, which others
    /// wait for.
    Block,
    /// Answer.
    Reject,
}

/// The answer to [`WorkerPool::admit`].
#[must_use]
#[derive(Debug)]
pub(crate) enum Admit {
    /// There is room for one, kept for the caller's `submit`.
    Admitted,
    /// There is none.
    Full,
    /// Nothing is accepted any more, for this reason.
    Refused(Error),
}

/// The answer to [`WorkerPool::submit`].
#[must_use]
pub(crate) enum Submit<W> {
    /// It will be served.
    Accepted,
    /// It will not, for this reason: here it is back.
    Refused(W, Error),
}

impl Stage {
    /// Why nothing is accepted any more, if so.
    fn refusal(&self) -> Option<Error> {
        match self {
            Self::Open => None,
            Self::Closing | Self::Cancelling => Some(Error::ShutDown),
            Self::Broken(error) => Some(error.clone()),
        }
    }
}

impl State {
    /// Whether workers may be started: where that has failed again and again, those that are ready
    /// go on alone.
    fn may_start(&self) -> bool {
        self.failures < MAX_START_FAILURES || self.entries.ready() == 0
    }
}

impl<W: WorkItem> WorkerPool<W> {
    pub(crate) fn new(
        limits: Limits,
        threads: Threads,
        observer: Option<Arc<dyn Observer>>,
        pull_queue: Option<Arc<dyn PullQueue<W>>>,
        worker_main: WorkerMain<W>,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                stage: Stage::Open,
                admitted: 0,
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
            observer,
            pull_queue,
            news: AtomicU32::new(0),
            is_refusing: AtomicBool::new(false),
            max_searchers: cores(),
            watched_from: CoreHint::default(),
            submitted_from: CoreHint::default(),
            fork_epoch: fork::ForkEpoch::here(),
        })
    }

    // ---- what the executor asks --------------------------------------------------------------

    /// Keeps room for one piece of work; `submit` or `withdraw_admission` uses it up.
    #[inline]
    pub(crate) fn admit(&self, on_full: OnFull) -> Admit {
        if self.fork_epoch.is_forked_copy() {
            return Admit::Refused(forked());
        }
        if self.limits.max_pending.is_none() && !self.is_refusing.load(Ordering::Relaxed) {
            // ORDERING: Relaxed; `submit` looks again, under the lock.
            return Admit::Admitted;
        }
        let mut state = self.lock();
        let caller_waits = on_full == OnFull::Block
            && !timeout::is_caller()
            && state.entries.by_thread(this_thread()).is_none();
        loop {
            if let Some(error) = state.stage.refusal() {
                return Admit::Refused(error);
            }
            if self.has_room(&state) {
                break;
            }
            match on_full {
                OnFull::Reject => return Admit::Full,
                OnFull::Block if caller_waits => state = self.sleep(&self.room, state),
                OnFull::Block => break,
            }
        }
        state.admitted += usize::from(self.limits.max_pending.is_some());
        Admit::Admitted
    }

    /// Whether one more task may wait: beside `max_pending` of them, one for each worker that is idle
    /// or may still be started, since those begin at once. Sleepers on `room` need no notice of a
    /// worker that becomes idle: while they sleep something waits, and that worker takes it.
    fn has_room(&self, state: &State) -> bool {
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

    /// What was admitted is not submitted after all.
    #[inline]
    pub(crate) fn withdraw_admission(&self) {
        if self.limits.max_pending.is_some() {
            self.lock().admitted -= 1;
            self.make_room();
        }
    }

    /// Queues work that was admitted for the next free worker, starting one where there is room.
    #[inline(always)]
    pub(crate) fn submit(self: &Arc<Self>, work: W) -> Submit<W> {
        let submit = self.submit_more(work);
        self.withdraw_admission();
        submit
    }

    /// Queues work whose admission is used up by another part of it.
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
        // Against `update_needs_wakeup` and `refill_locked`: either we see that we are to look, or that nobody
        // restocks, or who made it so sees the work. Both sides take the backlog's lock in between.
        if self
            .pull_queue
            .as_ref()
            .is_some_and(|pull_queue| has_room(&pull_queue))
        {
            self.refill();
        }
        // ORDERING: Relaxed; the backlog's lock.
        if self.needs_wakeup.load(Ordering::Relaxed) == 0 {
            return Submit::Accepted;
        }
        let mut state = self.lock();
        if let Some(error) = state.stage.refusal() {
            return match self.backlog.recall(id) {
                Some(work) => Submit::Refused(work, error),
                None => Submit::Accepted, // a worker has it, or whoever ended the crew
            };
        }
        let staffed = self.ensure_worker(&mut state);
        drop(state);
        self.break_unless(staffed);
        Submit::Accepted
    }

    /// Work of that name is submitted by the calling thread.
    fn note_submission(&self, id: FutureId) {
        /// To know of some is enough.
        const SOME: u64 = 8;

        if id.number() % SOME == 0 {
            self.submitted_from.set(sys::current_core());
        }
    }

    /// Looks for an outcome for about as long as a sleeper takes to be woken.
    pub(crate) fn look_for(&self, wait: &dyn Waiter) {
        if wait.is_over() {
            return;
        }
        self.watched_from.set(sys::current_core());
        spin_then_yield(|| wait.is_over());
        self.watched_from.set(None);
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
            // Who makes room asks for more only if he knew before that there is more.
            self.refill_locked(&mut state);
        }
        let staffed = self.ensure_worker(&mut state);
        drop(state);
        pull_queue.announce();
        self.break_unless(staffed);
        Submit::Accepted
    }

    /// Whether who adds to the backlog is to look who is there. To be called after each change of what
    /// it depends on; who does so to have others look must look into the backlog afterwards.
    fn update_needs_wakeup(&self, state: &State) {
        let needs_wakeup = !matches!(state.stage, Stage::Open)
            || state.entries.len() < self.limits.max_workers
            || (state.sleepers > 0 && state.searchers == 0);
        // ORDERING: Relaxed; the backlog's lock, which is taken by who looks into it.
        self.needs_wakeup
            .store(u32::from(needs_wakeup), Ordering::Relaxed);
    }

    /// Moves work from the backlog to where workers take it by themselves.
    pub(crate) fn refill(&self) {
        let mut state = self.lock();
        self.refill_locked(&mut state);
        drop(state);
        self.announce();
    }

    fn refill_locked(&self, state: &mut State) {
        let Some(pull_queue) = &self.pull_queue else {
            return;
        };
        // Said before there is found to be no room: who makes some from then on asks for more.
        pull_queue.set_behind(!self.backlog.is_empty());
        let is_behind = loop {
            pull_queue.refill(&self.backlog);
            if !self.backlog.is_empty() {
                break true;
            }
            pull_queue.set_behind(false);
            // Others add to the backlog without the crew's lock, and look at that afterwards.
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

    /// Wakes a worker for what was put where it takes it by itself.
    fn announce(&self) {
        if let Some(pull_queue) = &self.pull_queue {
            pull_queue.announce();
        }
    }

    /// Whether tasks wait for a worker.
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

    fn stats_in(&self, state: &State) -> Stats {
        let stats = state.entries.stats(&self.backlog);
        match &self.pull_queue {
            Some(pull_queue) => pull_queue.load().added_to(stats),
            None => stats,
        }
    }

    /// How many tasks have ended so far, with a value or an error.
    fn ended(&self, state: &State) -> u64 {
        let stats = self.stats_in(state);
        stats.completed + stats.failed
    }

    /// A task was cancelled before it began.
    pub(crate) fn withdrawn(&self, id: FutureId) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        let mut state = self.lock();
        state.entries.counts().count(Verdict::Cancelled);
        let rest = self.backlog.withdraw(id);
        if rest.is_none() {
            state.entries.withdraw(id);
        }
        drop(state);
        self.make_room();
        discard(rest);
    }

    /// Takes a task back from where workers take tasks by themselves, or would soon: under the lock,
    /// so that it does not get from the one place to the other meanwhile.
    pub(crate) fn recall(&self, id: FutureId) -> Unqueue {
        let Some(pull_queue) = &self.pull_queue else {
            return Unqueue::NotHere;
        };
        let _state = self.lock();
        match self.backlog.withdraw(id) {
            Some(removed) => Unqueue::Removed(Box::new(removed)),
            None => pull_queue.recall(id),
        }
    }

    /// Where a task is.
    pub(crate) fn place(&self, id: FutureId) -> TaskLocation {
        if self.fork_epoch.is_forked_copy() {
            return TaskLocation::Elsewhere;
        }
        let state = self.lock();
        if self.backlog.holds(id) {
            let workers = state.entries.workers();
            return TaskLocation::Queued {
                workers: workers.map(|worker| worker.thread.thread().id()).collect(),
                may_grow: state.entries.len() < self.limits.max_workers,
            };
        }
        let running = state
            .entries
            .with_running(id, |_, worker, _| worker.thread.thread().id());
        running.map_or(TaskLocation::Elsewhere, TaskLocation::Running)
    }

    /// The threads that there are.
    pub(crate) fn workers(&self) -> Vec<ThreadId> {
        if self.fork_epoch.is_forked_copy() {
            return Vec::new();
        }
        let state = self.lock();
        let workers = state.entries.workers();
        workers.map(|worker| worker.thread.thread().id()).collect()
    }

    /// Settles a queued task with this error, and takes it out.
    pub(crate) fn refuse(&self, id: FutureId, error: &Error) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        let removed = self.backlog.withdraw(id);
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

    /// What was counted as a value cannot be decoded; `false`: none was counted by the crew.
    #[must_use]
    pub(crate) fn spoilt(&self) -> bool {
        !self.fork_epoch.is_forked_copy() && self.lock().entries.spoil()
    }

    /// A task was settled as timed out, while its thread goes on.
    pub(crate) fn expired(&self, id: FutureId) {
        self.count(Verdict::Failed);
        self.request_cancel(id);
    }

    /// Asks the thread that runs this task to stop it, if one does.
    pub(crate) fn request_cancel(&self, id: FutureId) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        // The worker begins nothing else meanwhile.
        let ask = |_, worker: &WorkerEntry, _: &mut _| worker.progress.request_cancel();
        self.lock().entries.with_running(id, ask);
    }

    /// Marks the task as killed if a worker runs it; what is at that worker's index, looked up under
    /// the lock. From then on its outcome does not count, and the worker begins nothing else.
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

    /// Nobody wants what has not begun of a map's items of these names, first and last: cancels it.
    /// Acts, under the lock, on the index of each worker that was told of some of them.
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

    /// Queues again, in its old place, what a worker has not begun.
    pub(crate) fn put_back(self: &Arc<Self>, work: W) {
        let mut state = self.lock();
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

    /// There may be more on the shelf than there was: starts a worker for it, where there is room.
    pub(crate) fn ensure_workers(self: &Arc<Self>) {
        let mut state = self.lock();
        let staffed = self.ensure_worker(&mut state);
        drop(state);
        self.break_unless(staffed);
    }

    /// The process of an idle worker has died.
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

    /// Starts all workers and waits until they are ready.
    pub(crate) fn warm_up(self: &Arc<Self>) -> Result<(), Error> {
        if self.fork_epoch.is_forked_copy() {
            return Err(forked());
        }
        let mut state = self.lock();
        state.warming += 1;
        let outcome = loop {
            match self.warmth(&mut state) {
                Some(outcome) => break outcome,
                None => state = self.sleep(&self.change, state),
            }
        };
        state.warming -= 1;
        outcome
    }

    /// Whether all workers are ready, or never will be; starts those that are missing.
    fn warmth(self: &Arc<Self>, state: &mut State) -> Option<Result<(), Error>> {
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

    /// Fails what is queued and what comes, for this reason.
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
        let queued = self.take_queued();
        self.refill_locked(&mut state);
        self.notify_all();
        drop(state);
        for work in queued {
            work.fail(error, &mut |verdict| self.count(verdict));
        }
    }

    /// Everything that no worker has taken.
    fn take_queued(&self) -> Vec<Box<dyn Withdrawn>> {
        let mut queued = self.backlog.take_all();
        if let Some(pull_queue) = &self.pull_queue {
            let mut first = pull_queue.clear();
            first.append(&mut queued);
            queued = first;
        }
        queued
    }

    /// Shuts down; whether every worker has left, which is not looked at if the caller does not
    /// wait. It waits no longer than the deadline.
    pub(crate) fn shutdown(&self, how: Shutdown, deadline: Option<Instant>) -> bool {
        if self.fork_epoch.is_forked_copy() {
            return true; // the original's threads are not here: nothing to wait for, or to touch
        }
        let mut state = self.lock();
        if let Stage::Open = state.stage {
            state.stage = Stage::Closing;
            self.refuse_more(&state);
        }
        let mut cancelled = Vec::new();
        if let (true, Stage::Closing | Stage::Cancelling) = (how.cancels, &state.stage) {
            state.stage = Stage::Cancelling;
            cancelled = self.take_queued();
        }
        self.refill_locked(&mut state);
        self.notify_all();
        drop(state);
        for work in cancelled {
            work.fail(&Error::Cancelled, &mut |verdict| self.count(verdict));
        }
        !how.waits || self.wait_until_gone(deadline)
    }

    fn refuse_more(&self, state: &State) {
        // ORDERING: Relaxed; a hint, of which the stage is the truth.
        self.is_refusing.store(true, Ordering::Relaxed);
        self.update_needs_wakeup(state);
    }

    /// Cancels what is queued, and has lost workers not replaced: they are about to be ended.
    pub(crate) fn stop(&self) {
        if self.fork_epoch.is_forked_copy() {
            return;
        }
        self.lock().stopping = true;
        self.shutdown(Shutdown::no_wait().cancel_futures(), None);
    }

    /// The backlog has become shorter: wakes who waits for that, where anybody may.
    fn make_room(&self) {
        if self.limits.max_pending.is_some() {
            // Nobody is between his look and his sleep.
            drop(self.lock());
            self.room.notify_all();
        }
    }

    fn notify_all(&self) {
        // ORDERING: Relaxed; a hint for who looks, who then takes the lock.
        self.news.fetch_add(1, Ordering::Relaxed);
        self.work.notify_all();
        self.change.notify_all();
        self.room.notify_all();
    }

    /// Whether the calling thread is one of the workers.
    pub(crate) fn includes_caller(&self) -> bool {
        !self.fork_epoch.is_forked_copy() && self.lock().entries.by_thread(this_thread()).is_some()
    }

    /// Waits until every worker has left, and joins their threads. A worker itself waits for the
    /// others, but not for those that wait for it. Whether they are gone; `false` at the deadline.
    fn wait_until_gone(&self, deadline: Option<Instant>) -> bool {
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
            if !any && (is_worker || state.joining == 0) {
                break;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                if let Some(worker) = state.entries.by_thread(me) {
                    worker.waits_for_others = false;
                }
                return false;
            }
            state = self.sleep_until(&self.change, state, deadline);
        }
        let left = std::mem::take(&mut state.left);
        state.joining += 1;
        drop(state);
        for thread in left {
            // A worker's panics are caught; what a thread-local's `Drop` does is its own.
            let _ = thread.join();
        }
        let has_ended = is_worker || self.end_queue(deadline);
        let mut state = self.lock();
        state.joining -= 1;
        if let Some(worker) = state.entries.by_thread(me) {
            worker.waits_for_others = false;
        }
        self.change.notify_all();
        has_ended
    }

    /// Waits until what the workers have left is brought in, and heard of; `false` at the deadline.
    fn end_queue(&self, deadline: Option<Instant>) -> bool {
        let Some(pull_queue) = &self.pull_queue else {
            return true;
        };
        pull_queue.end();
        pull_queue.join(deadline)
    }

    // ---- staffing ----------------------------------------------------------------------------

    /// Wakes an idle worker for what was queued, or starts one.
    fn ensure_worker(self: &Arc<Self>, state: &mut State) -> Result<(), Error> {
        if self.pull_queue.is_some() && state.entries.len() == self.limits.max_workers {
            return Ok(()); // those who are there look by themselves, and are enough
        }
        // Counted before what waits: who takes something of that meanwhile is not missed.
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

    fn start_worker(self: &Arc<Self>, state: &mut State) -> io::Result<()> {
        let index = state.entries.free_index();
        let (worker_state, progress) =
            (Arc::new(WorkerState::new()), Arc::new(Progress::default()));
        let name = format!("{}_{index}", self.threads.name_prefix);
        let (its_worker_state, its_progress) = (Arc::clone(&worker_state), Arc::clone(&progress));
        let worker_pool = Arc::clone(self);
        // The new thread looks at the roster only under the lock that we hold: it is seated then.
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

    /// Breaks down where no worker could be started.
    fn break_unless(&self, staffed: Result<(), Error>) {
        if let Err(error) = staffed {
            self.break_down(&error);
        }
    }

    // ---- the lock ----------------------------------------------------------------------------

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn sleep<'a>(&self, event: &Condvar, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        sleep(event, state)
    }

    /// Sleeps until somebody notifies `event`, or the deadline has passed.
    fn sleep_until<'a>(
        &self,
        event: &Condvar,
        state: MutexGuard<'a, State>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        let Some(deadline) = deadline else {
            return self.sleep(event, state);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = event.wait_timeout(state, left);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// How many cores the program may use. Asking takes as long as twenty system calls, so it is asked once.
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
