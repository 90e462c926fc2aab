//! What the observers of one pool are told: of each task once that it was submitted, and once that it has ended;
//! of workers, as they report it.
//!
//! The executors tell of tasks that are submitted ([`Observation::submitted`]). A worker tells of the task that it
//! begins and, when that is over, of its end ([`ObserverHandle`]). Of a task that ends and is with no worker, the
//! task's own state tells, wherever it is settled (`future/promise.rs`, `task/results.rs`, by
//! `PoolHandle::on_settled` and `on_cancelled`): no way to end a task can be forgotten here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::promise::Verdict;
use crate::pool::observer::{
    Observer, SubmitEvent, TaskEvent, TaskOutcome, WorkerEnd, WorkerEvent, named,
};
use crate::sync::{Mutex, MutexGuard, lock};
use crate::task::Task;
use crate::unwind;

/// The observers of one pool, and the tasks that they were told of and that wait for a worker.
pub(crate) struct Observation {
    /// The user's observers, in the order in which they are told.
    observers: Vec<Arc<dyn Observer>>,
    /// The tasks that were submitted, have not ended, and are with no worker: each in the part that its id
    /// chooses, so that threads seldom wait for each other. The one thread that takes an entry out tells what
    /// comes next.
    waiting: [Mutex<WaitingTasks>; PARTS],
}

/// Some of the tasks that wait, by id.
type WaitingTasks = HashMap<FutureId, WaitingTask, BuildHasherDefault<IdHasher>>;

/// The number of parts.
const PARTS: usize = 16;

/// A task that was submitted, has not ended, and is with no worker.
struct WaitingTask {
    /// The event of its submission.
    submission: SubmitEvent,
    /// The event of its last start, if it was begun and is to run again; `None`: no worker has begun it.
    start: Option<TaskEvent>,
}

impl Observation {
    /// `None` if there are no observers.
    pub(crate) fn new(observers: Vec<Arc<dyn Observer>>) -> Option<Arc<Self>> {
        let waiting = std::array::from_fn(|_| Mutex::new(WaitingTasks::default()));
        (!observers.is_empty()).then(|| Arc::new(Self { observers, waiting }))
    }

    /// Tells of a task, or of each item of a chunk, that is about to be queued.
    pub(crate) fn submitted(&self, task: &Task) {
        let (first, info, at) = (task.id(), task.info(), Instant::now());
        for id in (0..task.len()).map(|index| first.plus(index)) {
            let submission = SubmitEvent::new(id, info.to_owned(), at);
            // Nothing can end the task before this thread has queued it.
            self.tell(|observer| observer.task_submitted(&submission));
            let start = None;
            self.part(id).insert(id, WaitingTask { submission, start });
        }
    }

    /// Tells of the end of a task that was settled with this error, or with a value; does nothing if the task is
    /// with a worker, which tells of it, or if its end was told.
    pub(crate) fn settled(&self, id: FutureId, error: Option<&Error>) {
        let Some(WaitingTask { submission, start }) = self.take(id) else {
            return;
        };
        match start {
            Some(start) => self.finished(start, TaskOutcome::of(error), error),
            None => {
                let error = named(error.unwrap_or(&Error::Cancelled), submission.task());
                self.tell(|observer| observer.task_withdrawn(&submission, &error));
            }
        }
    }

    fn finished(&self, start: TaskEvent, outcome: TaskOutcome, error: Option<&Error>) {
        let end = start.ended(error);
        self.tell(|observer| observer.task_finished(&end, outcome));
    }

    /// Calls each observer. The caller holds no lock.
    fn tell(&self, what: impl Fn(&dyn Observer)) {
        for observer in &self.observers {
            unwind::call(|| what(&**observer));
        }
    }

    fn take(&self, id: FutureId) -> Option<WaitingTask> {
        self.part(id).remove(&id)
    }

    fn part(&self, id: FutureId) -> MutexGuard<'_, WaitingTasks> {
        lock(&self.waiting[id.number() as usize % PARTS])
    }
}

/// Hashes ids of futures, which are numbers that nobody chooses: those that follow each other lie side by side, so
/// that tasks that were submitted one after the other share cache lines.
#[derive(Default)]
struct IdHasher(
    /// The hash.
    u64,
);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 << 8 | u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        /// 2^64 divided by the golden ratio.
        const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
        /// The bits by which the table tells entries of one place from each other.
        const TAG: u64 = 0x7F << 57;

        let place = number / PARTS as u64;
        self.0 = (place & !TAG) | (number.wrapping_mul(SPREAD) & TAG);
    }
}

/// The handle by which one worker tells the observers; it does nothing if there are none.
pub(crate) struct ObserverHandle {
    /// The pool's observers; `None`: there are none.
    observation: Option<Arc<Observation>>,
    /// The worker's index.
    index: usize,
    /// The event of the worker's start; `None`: it is not ready.
    worker: Option<WorkerEvent>,
    /// The events of the submission and the start of the task that the worker runs; `None`: it runs none.
    task: Option<(SubmitEvent, TaskEvent)>,
}

impl ObserverHandle {
    pub(crate) fn new(observation: Option<Arc<Observation>>, index: usize) -> Self {
        Self {
            observation,
            index,
            worker: None,
            task: None,
        }
    }

    pub(crate) fn worker_started(&mut self, pid: u32) {
        if let Some(observation) = &self.observation {
            let worker = WorkerEvent::new(self.index, pid);
            self.worker = Some(worker);
            observation.tell(|observer| observer.worker_started(&worker));
        }
    }

    pub(crate) fn worker_ended(&mut self, reason: WorkerEnd) {
        if let (Some(observation), Some(worker)) = (&self.observation, self.worker.take()) {
            observation.tell(|observer| observer.worker_ended(&worker, reason));
        }
    }

    pub(crate) fn task_started(&mut self, id: FutureId) {
        let Some(observation) = &self.observation else {
            return;
        };
        let Some(WaitingTask { submission, .. }) = observation.take(id) else {
            return;
        };
        let start = submission.started(self.index);
        let (_, start) = self.task.insert((submission, start));
        observation.tell(|observer| observer.task_started(start));
    }

    /// Tells of the end of the worker's task, with this error or with a value.
    pub(crate) fn task_finished(&mut self, verdict: Verdict, error: Option<&Error>) {
        let Some(outcome) = TaskOutcome::of_report(verdict) else {
            return self.task_returned();
        };
        if let (Some(observation), Some((_, start))) = (&self.observation, self.task.take()) {
            observation.finished(start, outcome, error);
        }
    }

    /// The worker's task waits again: it is to begin anew. To be called before any other worker can take it, and
    /// before it can be cancelled.
    pub(crate) fn task_returned(&mut self) {
        if let (Some(observation), Some((submission, start))) =
            (&self.observation, self.task.take())
        {
            observation.tell(|observer| observer.task_retried(&start));
            let (id, start) = (submission.id(), Some(start));
            let mut part = observation.part(id);
            part.insert(id, WaitingTask { submission, start });
        }
    }
}
