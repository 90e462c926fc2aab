//! Events of workers for the program's subscriber: what tells of them in the worker, and what tells them again in
//! the program.
//!
//! An event that is told again has metadata of ours, because those of an event are constant: the target, file and
//! line of the worker's event are fields. Whether the subscriber wants it is asked with the worker's own target and
//! level, so that filters by target hold. (`tracing-log` does the same for `log`.)

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use tracing::field::{Field, FieldSet, Value, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Level, Metadata, dispatcher};
use tracing_core::callsite::{Callsite, Identifier};
use tracing_core::metadata::Kind;

use crate::future::id::FutureId;
use crate::pool::observer::Observer;
use crate::task_info::TaskInfo;
use crate::trace::event_record::EventRecord;
use crate::trace::task_spans::{RunsIn, TaskSpans};

/// What `tracing` is told of one process pool, as its builder was asked for.
#[derive(Debug, Default)]
pub(crate) struct PoolTracing {
    /// The spans of its tasks; `None`: they have none.
    spans: Option<Arc<TaskSpans>>,
    /// Whether the events of its workers are told in the program.
    forwards_events: bool,
}

impl PoolTracing {
    /// Has each task have a span. Returns the observer that makes it, the first time.
    pub(crate) fn trace_tasks(&mut self) -> Option<Arc<dyn Observer>> {
        if self.spans.is_some() {
            return None;
        }
        let spans = Arc::new(TaskSpans::new(RunsIn::Processes));
        self.spans = Some(Arc::clone(&spans));
        Some(spans)
    }

    pub(crate) fn forward_events(&mut self) {
        self.forwards_events = true;
    }

    /// How events of workers reach the program's subscriber; `None`: they do not.
    pub(crate) fn forwarding(&self) -> Option<Forwarding> {
        let spans = self.spans.clone();
        self.forwards_events.then_some(Forwarding { spans })
    }
}

/// How the events of a pool's workers reach the program's subscriber.
#[derive(Debug, Clone)]
pub(crate) struct Forwarding {
    /// The spans of the pool's tasks, in which their events are; `None`: its tasks have no spans.
    spans: Option<Arc<TaskSpans>>,
}

impl Forwarding {
    /// The level up to which the program's subscriber wants events now: from 1, ERROR, to 5, TRACE; 0: none.
    pub(crate) fn level(&self) -> u8 {
        match LevelFilter::current().into_level() {
            Some(level) => number(level),
            None => 0,
        }
    }

    /// Tells an event of this worker again, which came while it ran this task. A line that is no event is left out.
    pub(crate) fn emit(&self, worker: usize, task: Option<&(FutureId, TaskInfo)>, line: &[u8]) {
        let Some(record) = EventRecord::from_line(line) else {
            return;
        };
        let Some(metadata) = METADATA.get(usize::from(record.level) - 1) else {
            return;
        };
        let spans = self.spans.as_ref().zip(task);
        let parent = spans.and_then(|(spans, (id, _))| spans.id_of(*id));
        let task = task.map(|(_, info)| match info.name() {
            Some(name) => name.to_owned(),
            None => info.location().to_string(),
        });
        dispatcher::get_default(|subscriber| {
            let as_in_worker = Metadata::new(
                "event of a worker",
                &record.target,
                *metadata.level(),
                Some(&record.file),
                Some(record.line),
                None,
                FieldSet::new(FIELDS, metadata.callsite()),
                Kind::EVENT,
            );
            if !subscriber.enabled(&as_in_worker) {
                return;
            }
            let worker = worker as u64;
            let given = |text: &String| !text.is_empty();
            let (file, fields) = (Some(&record.file), Some(&record.fields));
            let (file, fields) = (file.filter(|it| given(it)), fields.filter(|it| given(it)));
            let line = file.map(|_| record.line);
            let message = format_args!("{}", record.message);
            let values: [Option<&dyn Value>; FIELDS.len()] = [
                Some(&message),
                Some(&worker),
                value(&task),
                Some(&record.target),
                value(&file),
                value(&line),
                value(&fields),
            ];
            let fields = metadata.fields().value_set_all(&values);
            subscriber.event(&Event::new_child_of(parent.clone(), metadata, &fields));
        });
    }
}

/// The value of a field that may be left out.
fn value<T: Value>(value: &Option<T>) -> Option<&dyn Value> {
    value.as_ref().map(|value| value as &dyn Value)
}

/// Tells of this worker's events, up to this level, through a pipe from now on. Does nothing if the program has set
/// a subscriber before it called `init`.
pub(crate) fn send_events(pipe: File, level: u8) {
    let levels = METADATA.iter().map(|metadata| *metadata.level());
    let level = levels.into_iter().find(|known| number(*known) == level);
    let level = LevelFilter::from(level);
    let _ = tracing::subscriber::set_global_default(EventSender { pipe, level });
}

/// The subscriber of a worker: it writes each event to a pipe, and leaves spans out.
struct EventSender {
    /// The end that is written.
    pipe: File,
    /// The level up to which the program wants events.
    level: LevelFilter,
}

impl Subscriber for EventSender {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    /// Never called for a span of a macro, since none is enabled.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut texts = EventTexts::default();
        event.record(&mut texts);
        let metadata = event.metadata();
        let record = EventRecord {
            level: number(*metadata.level()),
            target: metadata.target().to_owned(),
            message: texts.message,
            fields: texts.fields,
            file: metadata.file().unwrap_or_default().to_owned(),
            line: metadata.line().unwrap_or(0),
        };
        // Fails only if the program has ended.
        let _ = (&self.pipe).write_all(&record.to_line());
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The fields of an event as texts.
#[derive(Default)]
struct EventTexts {
    /// The message.
    message: String,
    /// The other fields: names and values.
    fields: String,
}

impl Visit for EventTexts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string fails only if the value's `Debug` does.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => {
                let space = if self.fields.is_empty() { "" } else { " " };
                write!(self.fields, "{space}{name}={value:?}")
            }
        };
    }
}

/// The number of a level in records: from 1, ERROR, to 5, TRACE.
fn number(level: Level) -> u8 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        Level::TRACE => 5,
    }
}

/// The fields of an event that is told again.
const FIELDS: &[&str] = &[
    "message", "worker", "task", "target", "file", "line", "fields",
];

/// The metadata of events that are told again, by their level.
static METADATA: [Metadata<'static>; 5] = [
    metadata(Level::ERROR, &EventCallsite::<0>),
    metadata(Level::WARN, &EventCallsite::<1>),
    metadata(Level::INFO, &EventCallsite::<2>),
    metadata(Level::DEBUG, &EventCallsite::<3>),
    metadata(Level::TRACE, &EventCallsite::<4>),
];

const fn metadata(level: Level, callsite: &'static dyn Callsite) -> Metadata<'static> {
    Metadata::new(
        "event of a worker",
        "concurrent_futures::worker",
        level,
        None,
        None,
        None,
        FieldSet::new(FIELDS, Identifier(callsite)),
        Kind::EVENT,
    )
}

/// The place in this crate that tells events of one level again. `LEVEL`: the index in [`METADATA`].
struct EventCallsite<const LEVEL: usize>;

impl<const LEVEL: usize> Callsite for EventCallsite<LEVEL> {
    /// Not registered: the subscriber is asked each time.
    fn set_interest(&self, _: Interest) {}

    fn metadata(&self) -> &Metadata<'_> {
        &METADATA[LEVEL]
    }
}
