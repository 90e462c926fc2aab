//! The feature `tracing`, beside a subscriber of the whole program: spans of tasks, and events of workers.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, ThreadId};

use concurrent_futures::{
    Error, Executor, MapOptions, ProcessPoolBuilder, ProcessPoolExecutor, TaskOptions,
    ThreadPoolExecutor,
};
use libtest_mimic::{Arguments, Trial};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

fn main() {
    concurrent_futures::init();
    let by_target = filter_fn(|metadata| metadata.target() != "unwanted");
    let subscriber = tracing_subscriber::registry().with(Notes.with_filter(by_target));
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = vec![
        trial("a_task_s_span_is_in_the_span_of_its_submitter", nested),
        trial("what_a_task_does_is_in_its_span", inside),
        trial("spans_say_how_tasks_ended", outcomes),
        trial("each_item_of_a_map_has_a_span", items),
        trial("a_process_s_task_has_a_span", processes),
        trial("events_of_workers_come_with_worker_and_task", forwarded),
        trial("events_come_in_the_span_of_their_task", in_spans),
        trial("events_hold_filters_by_their_own_target", filtered),
        trial("events_before_a_death_come", before_death),
        trial("events_of_all_kinds_come_whole_or_cut", kinds),
        trial("events_of_the_initializer_come_without_a_task", initializer),
        trial("events_of_many_threads_come_each_once", threads),
        trial("a_subscriber_that_panics_harms_nothing", panics),
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
        let is_left = |span: &SeenSpan| span.left == span.entered;
        assert!(seen.spans.iter().all(is_left), "{:?}", seen.spans);
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
    /// The threads that have left it.
    left: Vec<ThreadId>,
    is_closed: bool,
}

#[derive(Debug, Clone)]
struct SeenEvent {
    /// The span that it was in.
    span: Option<u64>,
    level: Level,
    target: &'static str,
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
            left: Vec::new(),
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
        let panics = fields.get("message").is_some_and(|text| text == "panic");
        let metadata = event.metadata();
        seen().events.push(SeenEvent {
            span,
            level: *metadata.level(),
            target: metadata.target(),
            fields,
        });
        assert!(!panics, "on purpose: subscriber");
    }

    fn on_enter(&self, id: &Id, _: Context<'_, S>) {
        seen().span(id).entered.push(thread::current().id());
    }

    fn on_exit(&self, id: &Id, _: Context<'_, S>) {
        seen().span(id).left.push(thread::current().id());
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

// ---- events of workers -------------------------------------------------------------------------

fn builder() -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(1)
}

impl SeenEvent {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

fn events() -> Vec<SeenEvent> {
    seen().events.clone()
}

fn messages() -> Vec<String> {
    let events = events().into_iter();
    events
        .map(|mut event| event.fields.remove("message").unwrap())
        .collect()
}

fn say(words: String) {
    tracing::info!("{words}");
}

fn processes() {
    let pool = builder().trace_tasks().build().unwrap();
    let request = tracing::info_span!("request");
    let future = request.in_scope(|| pool.submit(|code: i32| std::process::exit(code), 3));
    let _: Result<u8, _> = future.result();
    drop(pool);
    let spans = seen().named("task");
    let [task] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!(task.parent, request.id().map(|id| id.into_u64()));
    assert!(task.entered.is_empty());
    assert_eq!(
        (
            task.fields["worker"].as_str(),
            task.fields["outcome"].as_str()
        ),
        ("0", "Failed")
    );
}

fn forwarded() {
    let pool = builder().max_workers(2).forward_tracing().build().unwrap();
    let named = TaskOptions::new().name("number");
    let line = line!() + 3;
    let number = |n: u32| {
        let worker = concurrent_futures::current_worker().unwrap().index();
        tracing::warn!(n, text = "a b", "number {n}");
        worker
    };
    for n in 0..20 {
        let worker = pool.submit_with(named, number, n).result().unwrap();
        let events = events();
        assert_eq!(
            events.len() as u32,
            n + 1,
            "it is told before the future is done"
        );
        let event = &events[n as usize];
        assert_eq!(
            (event.level, event.target),
            (Level::WARN, "concurrent_futures::worker")
        );
        let expected = [
            ("message", format!("number {n}")),
            ("worker", worker.to_string()),
            ("task", "number".to_owned()),
            ("target", "tracing".to_owned()),
            ("line", line.to_string()),
            ("fields", format!("n={n} text=\"a b\"")),
        ];
        for (name, value) in expected {
            assert_eq!(event.field(name), Some(value.as_str()), "{name}");
        }
        assert!(event.field("file").unwrap().ends_with("tracing.rs"));
        assert_eq!(event.span, None);
    }
}

fn in_spans() {
    let pool = builder().forward_tracing().trace_tasks().build().unwrap();
    let map = pool.map(say, (0..20).map(|n| n.to_string()));
    assert_eq!(map.flatten().count(), 20);
    drop(pool);
    let spans = seen().named("task").into_iter().map(|span| Some(span.id));
    assert!(events().into_iter().map(|event| event.span).eq(spans));
    assert!(messages().into_iter().eq((0..20).map(|n| n.to_string())));
}

fn filtered() {
    let pool = builder().forward_tracing().build().unwrap();
    let both = |()| {
        tracing::info!(target: "unwanted", "out");
        tracing::info!(target: "wanted", "in");
    };
    pool.submit(both, ()).result().unwrap();
    assert_eq!(messages(), ["in"]);
    assert_eq!(events()[0].field("target"), Some("wanted"));
}

fn before_death() {
    let pool = builder().forward_tracing().build().unwrap();
    let die = |()| -> u8 {
        tracing::error!("the last words");
        std::process::abort()
    };
    let dying = pool.submit(die, ());
    assert!(matches!(dying.result(), Err(Error::WorkerDied(_))));
    assert_eq!(messages(), ["the last words"]);
    assert!(events()[0].field("task").unwrap().contains("tracing.rs:"));
}

fn kinds() {
    let pool = builder().forward_tracing().build().unwrap();
    let long = "l".repeat(100_000);
    for words in ["", "two\nlines", "\u{1B}[31mred", "\u{1F980}", &long] {
        pool.submit(say, words.to_owned()).result().unwrap();
    }
    let levels = |()| {
        tracing::trace!("trace");
        tracing::debug!(no_message = true);
        tracing::error!("error");
    };
    pool.submit(levels, ()).result().unwrap();
    let events = events();
    let text = |at: usize| events[at].field("message").unwrap();
    assert_eq!(
        [text(0), text(1), text(2), text(3)],
        ["", "two\nlines", "\u{1B}[31mred", "\u{1F980}"]
    );
    assert!(text(4).len() > 1000 && long.starts_with(text(4)));
    let levels: Vec<_> = events[5..].iter().map(|event| event.level).collect();
    assert_eq!(levels, [Level::TRACE, Level::DEBUG, Level::ERROR]);
    assert_eq!(events[6].field("fields"), Some("no_message=true"));
}

fn initializer() {
    let pool = builder()
        .forward_tracing()
        .initializer(say, "ready".to_owned());
    let pool = pool.build().unwrap();
    pool.submit(|x: u8| x, 1).result().unwrap();
    assert_eq!(messages(), ["ready"]);
    assert_eq!(events()[0].field("task"), None);
}

fn threads() {
    let pool = builder().forward_tracing().build().unwrap();
    let many = |()| {
        thread::scope(|scope| {
            for thread in 0..4 {
                scope.spawn(move || {
                    for n in 0..500 {
                        tracing::info!("{thread} {n} {}", "x".repeat(500));
                    }
                });
            }
        });
    };
    pool.submit(many, ()).result().unwrap();
    let mut messages = messages();
    messages.sort();
    messages.dedup();
    assert_eq!(messages.len(), 2000);
    assert!(messages.iter().all(|text| text.ends_with(&"x".repeat(500))));
}

fn panics() {
    let pool = builder().forward_tracing().build().unwrap();
    for words in ["panic", "goes on"] {
        pool.submit(say, words.to_owned()).result().unwrap();
    }
    assert_eq!(messages(), ["panic", "goes on"]);
}
