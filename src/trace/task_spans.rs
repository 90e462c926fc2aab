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
    open: Mutex<HashMap<FutureId, TaskSpan>>,
    /// Where the tasks run.
    runs_in: RunsIn,
}

/// The span of a task that has not ended.
struct TaskSpan {
    /// The span.
    span: Span,
    /// Whether a thread of the pool is in it.
    is_entered: bool,
}

impl TaskSpan {
    /// Has the calling thread, which runs the task, enter the span. Not by `Span::enter`: its guard would have to
    /// live until the task's end, which this thread tells.
    fn enter(&mut self) {
        self.is_entered = true;
        self.span
            .with_subscriber(|(id, subscriber)| subscriber.enter(id));
    }

    /// Has the calling thread leave the span, if it is in it.
    fn exit(&mut self) {
        if std::mem::take(&mut self.is_entered) {
            self.span
                .with_subscriber(|(id, subscriber)| subscriber.exit(id));
        }
    }
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
        lock(&self.open).get(&task)?.span.id()
    }

    fn take(&self, id: FutureId) -> Option<TaskSpan> {
        lock(&self.open).remove(&id)
    }

    fn put(&self, id: FutureId, task_span: TaskSpan) {
        // There is no other of this id, whose drop would call the subscriber.
        lock(&self.open).insert(id, task_span);
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
        let is_entered = false;
        self.put(task.id(), TaskSpan { span, is_entered });
    }

    fn task_started(&self, task: &TaskEvent) {
        let Some(mut task_span) = self.take(task.id()) else {
            return;
        };
        task_span.span.record("worker", task.worker());
        if self.runs_in == RunsIn::Threads {
            task_span.enter();
        }
        self.put(task.id(), task_span);
    }

    fn task_retried(&self, task: &TaskEvent) {
        if let Some(mut task_span) = self.take(task.id()) {
            task_span.exit();
            self.put(task.id(), task_span);
        }
    }

    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        let Some(mut task_span) = self.take(task.id()) else {
            return;
        };
        task_span.exit();
        task_span.span.record("outcome", field::debug(outcome));
        if let Some(error) = task.error() {
            task_span.span.record("error", field::display(error));
        }
    }

    fn task_withdrawn(&self, task: &SubmitEvent, error: &Error) {
        if let Some(TaskSpan { span, .. }) = self.take(task.id()) {
            span.record("outcome", "Withdrawn");
            span.record("error", field::display(error));
        }
    }
}
