//! A span for each task of a pool: an observer that makes it when the task is submitted, and closes it at the
//! task's end.

use std::collections::HashMap;
use std::fmt;

use tracing::span::Id;
use tracing::{Span, field};

use crate::error::Error;
use crate::future::id::FutureId;
use crate::pool::observer::{Observer, SubmitEvent, TaskEvent, TaskOutcome};
use crate::sync::{Mutex, lock};

/// The spans of the tasks of one pool.
pub(crate) struct TaskSpans {
    /// The spans of tasks that have not ended. A span is used outside of the lock, because its subscriber is the
    /// user's: a thread takes it out, and puts it back.
    open: Mutex<HashMap<FutureId, Span>>,
    /// Where the tasks run.
    runs_in: RunsIn,
}

/// Where the tasks of a pool run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunsIn {
    /// On threads of this process, each of which is in the span of its task while that runs.
    Threads,
    /// In other processes.
    Processes,
}

impl TaskSpans {
    pub(crate) fn new(runs_in: RunsIn) -> Self {
        let open = Mutex::new(HashMap::new());
        Self { open, runs_in }
    }

    /// The id of the span of a task; `None`: it has none.
    pub(crate) fn id_of(&self, task: FutureId) -> Option<Id> {
        lock(&self.open).get(&task)?.id()
    }

    fn take(&self, id: FutureId) -> Option<Span> {
        lock(&self.open).remove(&id)
    }

    fn put(&self, id: FutureId, span: Span) {
        // There is no other of this id, whose drop would call the subscriber.
        lock(&self.open).insert(id, span);
    }
}

impl fmt::Debug for TaskSpans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskSpans").finish_non_exhaustive()
    }
}

impl Observer for TaskSpans {
    /// The span's parent is the current span of the thread that submits.
    fn task_submitted(&self, task: &SubmitEvent) {
        let span = tracing::info_span!(
            target: "concurrent_futures",
            "task",
            name = field::Empty,
            place = %task.task().location(),
            worker = field::Empty,
            outcome = field::Empty,
            error = field::Empty,
        );
        if span.is_disabled() {
            return;
        }
        if let Some(name) = task.task().name() {
            span.record("name", name);
        }
        self.put(task.id(), span);
    }

    fn task_started(&self, task: &TaskEvent) {
        let Some(span) = self.take(task.id()) else {
            return;
        };
        span.record("worker", task.worker());
        if self.runs_in == RunsIn::Threads {
            // Not `Span::enter`: its guard would have to live until the task's end, which this thread tells.
            span.with_subscriber(|(id, subscriber)| subscriber.enter(id));
        }
        self.put(task.id(), span);
    }

    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        let Some(span) = self.take(task.id()) else {
            return;
        };
        if self.runs_in == RunsIn::Threads {
            span.with_subscriber(|(id, subscriber)| subscriber.exit(id));
        }
        span.record("outcome", field::debug(outcome));
        if let Some(error) = task.error() {
            span.record("error", field::display(error));
        }
    }

    fn task_withdrawn(&self, task: &SubmitEvent, error: &Error) {
        if let Some(span) = self.take(task.id()) {
            span.record("outcome", "Withdrawn");
            span.record("error", field::display(error));
        }
    }
}
