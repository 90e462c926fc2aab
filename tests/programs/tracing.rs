//! The feature `tracing`, beside a subscriber of the whole program: spans of tasks.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use concurrent_futures::{Error, MapOptions, TaskOptions, ThreadPoolExecutor};
use libtest_mimic::{Arguments, Trial};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

fn main() {
    concurrent_futures::init();
    let subscriber = tracing_subscriber::registry().with(Notes);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("a_task_s_span_is_in_the_span_of_its_submitter", nested),
        trial("what_a_task_does_is_in_its_span", inside),
        trial("spans_say_how_tasks_ended", outcomes),
        trial("each_item_of_a_map_has_a_span", items),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        *seen() = Seen::default();
        test();
        let seen = seen();
        let open = seen.spans.iter().filter(|span| !span.is_closed);
        assert_eq!(open.count(), 0, "all are closed: {:?}", seen.spans);
        Ok(())
    })
}

// ---- what the subscriber has seen --------------------------------------------------------------

/// All spans and events, in their order.
#[derive(Default)]
struct Seen {
    spans: Vec<SeenSpan>,
    events: Vec<SeenEvent>,
}

#[derive(Debug, Clone)]
struct SeenSpan {
    id: u64,
    name: &'static str,
    parent: Option<u64>,
    fields: BTreeMap<&'static str, String>,
    /// The threads that have entered it.
    entered: Vec<ThreadId>,
    is_closed: bool,
}

#[derive(Debug, Clone)]
struct SeenEvent {
    /// The span that it was in.
    span: Option<u64>,
    fields: BTreeMap<&'static str, String>,
}

static SEEN: Mutex<Seen> = Mutex::new(Seen {
    spans: Vec::new(),
    events: Vec::new(),
});

fn seen() -> MutexGuard<'static, Seen> {
    SEEN.lock().unwrap()
}

impl Seen {
    /// The open span of this id. Ids are used again once a span was closed.
    fn span(&mut self, id: &Id) -> &mut SeenSpan {
        let of_id = |span: &&mut SeenSpan| span.id == id.into_u64() && !span.is_closed;
        self.spans.iter_mut().find(of_id).unwrap()
    }

    /// The spans of this name.
    fn named(&self, name: &str) -> Vec<SeenSpan> {
        let of_name = self.spans.iter().filter(|span| span.name == name);
        of_name.cloned().collect()
    }
}

/// Notes what it is told.
struct Notes;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Notes {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        attributes.record(&mut Fields(&mut fields));
        let span = context.span(id).unwrap();
        seen().spans.push(SeenSpan {
            id: id.into_u64(),
            name: span.name(),
            parent: span.parent().map(|parent| parent.id().into_u64()),
            fields,
            entered: Vec::new(),
            is_closed: false,
        });
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, _: Context<'_, S>) {
        record.record(&mut Fields(&mut seen().span(id).fields));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = BTreeMap::new();
        event.record(&mut Fields(&mut fields));
        let span = context.event_span(event).map(|span| span.id().into_u64());
        seen().events.push(SeenEvent { span, fields });
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        seen().span(id).entered.push(thread::current().id());
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        seen().span(&id).is_closed = true;
    }
}

/// Takes fields as texts.
struct Fields<'a>(&'a mut BTreeMap<&'static str, String>);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

// ---- spans -------------------------------------------------------------------------------------

fn nested() {
    let pool = ThreadPoolExecutor::builder()
        .max_workers(1)
        .trace_tasks()
        .build()
        .unwrap();
    let request = tracing::info_span!("request");
    let options = TaskOptions::new().name("inner");
    let (line, increment) = (line!() + 1, |x: u8| x + 1);
    let future = request.in_scope(|| pool.submit_with(options, increment, 1));
    future.result().unwrap();
    drop(pool);
    let spans = seen().named("task");
    let [task] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(task.parent, request.id().map(|id| id.into_u64()));
    let field = |name| task.fields.get(name).map(String::as_str);
    assert_eq!(field("name"), Some("inner"));
    assert!(
        field("place")
            .unwrap()
            .contains(&format!("tracing.rs:{line}:"))
    );
    assert_eq!(
        (field("worker"), field("outcome")),
        (Some("0"), Some("Completed"))
    );
    assert_eq!(field("error"), None);
}

fn inside() {
    let pool = ThreadPoolExecutor::builder()
        .max_workers(1)
        .trace_tasks()
        .build()
        .unwrap();
    let task = |words: &str| {
        tracing::info!("{words}");
        tracing::info_span!("part").in_scope(|| ());
        thread::current().id()
    };
    let first = pool.submit(task, "first").result().unwrap();
    pool.submit(task, "second").result().unwrap();
    drop(pool);
    tracing::info!("outside");
    let seen = seen();
    let tasks = seen.spans.iter().filter(|span| span.name == "task");
    let ids: Vec<_> = tasks
        .map(|span| {
            assert_eq!(span.entered, [first]);
            Some(span.id)
        })
        .collect();
    let events: Vec<_> = seen.events.iter().map(|event| event.span).collect();
    assert_eq!(events, [ids[0], ids[1], None]);
    let parts = seen.spans.iter().filter(|span| span.name == "part");
    assert!(parts.map(|span| span.parent).eq(ids));
}

fn outcomes() {
    let pool = ThreadPoolExecutor::builder()
        .max_workers(1)
        .trace_tasks()
        .build()
        .unwrap();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    let holds = pool.submit(move |()| gone.recv().is_err(), ());
    let fails = pool.submit(|()| -> u8 { panic!("on purpose") }, ());
    let cancelled = pool.submit(|()| (), ());
    assert!(cancelled.cancel());
    drop(go);
    holds.result().unwrap();
    assert!(matches!(fails.result(), Err(Error::Panicked(_))));
    drop(pool);
    let spans = seen().named("task");
    let outcomes = spans.iter().map(|span| span.fields["outcome"].as_str());
    assert!(outcomes.eq(["Completed", "Failed", "Withdrawn"]));
    assert!(spans[1].fields["error"].contains("on purpose"));
    assert!(spans[2].fields["error"].contains("cancelled"));
}

fn items() {
    let pool = ThreadPoolExecutor::builder()
        .max_workers(2)
        .trace_tasks()
        .build()
        .unwrap();
    let batch = tracing::info_span!("batch").entered();
    let options = MapOptions::new().chunksize(4);
    assert_eq!(
        pool.map_with(options, |x: u8| x, 0..10).flatten().count(),
        10
    );
    let parent = batch.id().map(|id| id.into_u64());
    drop((batch, pool));
    let spans = seen().named("task");
    assert_eq!(spans.len(), 10);
    assert!(
        spans
            .iter()
            .all(|span| span.parent == parent && span.entered.len() == 1)
    );
}
