//! What workers print, told line by line.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use concurrent_futures::{
    Error, Executor, FutureId, MapOptions, OutputStream, ProcessPoolBuilder, ProcessPoolExecutor,
    TaskOptions, WorkerLine, WorkerStdio, current_worker,
};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Lamp};
use crate::support::{Kind, LONG, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        each_line_is_told_once_with_its_worker_and_task,
        lines_of_items_are_told_with_their_items,
        lines_end_where_tasks_end_and_after_their_longest,
        what_is_no_text_is_told_too,
        more_than_a_pipe_holds_is_told,
        what_a_task_printed_before_its_death_is_told,
        what_runs_outside_of_tasks_is_told_without_a_task,
        what_workers_print_at_their_ends_is_told,
        what_a_worker_prints_that_obeys_is_told,
        a_task_that_prints_without_end_is_late,
        a_function_that_panics_harms_nothing,
        one_stream_is_told_and_the_other_captured,
        the_last_setting_of_a_stream_counts,
    ]
}

/// All lines that were told.
type Lines = Arc<Mutex<Vec<WorkerLine>>>;

fn builder(workers: usize) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(workers)
}

/// A function that keeps the lines.
fn keep(lines: &Lines) -> impl Fn(&WorkerLine) + Send + Sync + 'static {
    let lines = Arc::clone(lines);
    move |line| lines.lock().unwrap().push(line.clone())
}

fn told(workers: usize) -> (Lines, ProcessPoolExecutor) {
    let lines = Lines::default();
    let builder = builder(workers).stdout_lines(keep(&lines));
    let pool = builder.stderr_lines(keep(&lines)).build().unwrap();
    (lines, pool)
}

/// The texts of the lines of one stream.
fn texts(lines: &Lines, stream: OutputStream) -> Vec<String> {
    let lines = lines.lock().unwrap();
    let of_stream = lines.iter().filter(|line| line.stream() == stream);
    of_stream.map(|line| line.text().into_owned()).collect()
}

/// Prints this to standard output, and to standard error; its worker.
fn print((out, err): (Vec<u8>, Vec<u8>)) -> usize {
    std::io::stdout().write_all(&out).unwrap();
    std::io::stderr().write_all(&err).unwrap();
    current_worker().unwrap().index()
}

fn out(text: impl Into<Vec<u8>>) -> (Vec<u8>, Vec<u8>) {
    (text.into(), Vec::new())
}

fn each_line_is_told_once_with_its_worker_and_task() {
    let (lines, pool) = told(2);
    let options = TaskOptions::new().name("print");
    let futures: Vec<_> = (0..40)
        .map(|n| {
            let output = format!("a {n}\nb {n}\n").into_bytes();
            let errors = format!("e {n}\n").into_bytes();
            pool.submit_with(options, print, (output, errors))
        })
        .collect();
    for (n, future) in futures.into_iter().enumerate() {
        let id = future.id();
        let worker = future.result().unwrap();
        let lines = lines.lock().unwrap();
        let of_task: Vec<_> = lines.iter().filter(|line| line.id() == Some(id)).collect();
        let text = |stream| {
            let of_stream = of_task.iter().filter(move |line| line.stream() == stream);
            of_stream.map(|line| line.text()).collect::<Vec<_>>()
        };
        assert_eq!(
            text(OutputStream::Stdout),
            [format!("a {n}"), format!("b {n}")]
        );
        assert_eq!(text(OutputStream::Stderr), [format!("e {n}")]);
        for line in of_task {
            assert_eq!(line.worker(), worker);
            assert_eq!(line.task().and_then(|task| task.name()), Some("print"));
        }
    }
    drop(pool);
    assert_eq!(lines.lock().unwrap().len(), 120);
}

fn lines_of_items_are_told_with_their_items() {
    let (lines, pool) = told(1);
    let items = (0..30).map(|n| out(format!("{n}\n")));
    let map = pool.map_with(MapOptions::new().chunksize(10), print, items);
    assert_eq!(map.filter(Result::is_ok).count(), 30);
    let mut by_task: BTreeMap<FutureId, String> = BTreeMap::new();
    for line in &*lines.lock().unwrap() {
        let before = by_task.insert(line.id().unwrap(), line.text().into_owned());
        assert!(before.is_none(), "{line:?}");
    }
    assert!(by_task.into_values().eq((0..30).map(|n| n.to_string())));
}

fn lines_end_where_tasks_end_and_after_their_longest() {
    /// The longest line.
    const MOST: usize = 64 << 10;
    let (lines, pool) = told(1);
    let long = "x".repeat(2 * MOST + 1);
    for text in ["no end", "\n\n", &long, &long[..MOST], "\nlast\n"] {
        pool.submit(print, out(text)).result().unwrap();
    }
    let (piece, rest) = (&long[..MOST], "x");
    let expected = ["no end", "", "", piece, piece, rest, piece, "", "last"];
    assert!(texts(&lines, OutputStream::Stdout) == expected);
}

fn what_is_no_text_is_told_too() {
    let (lines, pool) = told(1);
    pool.submit(print, out(b"\xFFa\0b\r\n")).result().unwrap();
    let lines = lines.lock().unwrap();
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert_eq!(line.bytes(), b"\xFFa\0b\r");
    assert_eq!(line.text(), "\u{FFFD}a\0b\r");
}

fn more_than_a_pipe_holds_is_told() {
    let (lines, pool) = told(1);
    let text: String = (0..300_000).map(|n| format!("{n}\n")).collect();
    let output = text.clone().into_bytes();
    pool.submit(print, (output.clone(), output))
        .result()
        .unwrap();
    for stream in [OutputStream::Stdout, OutputStream::Stderr] {
        assert!(
            texts(&lines, stream)
                .iter()
                .eq(&text.lines().collect::<Vec<_>>())
        );
    }
}

fn what_a_task_printed_before_its_death_is_told() {
    let (lines, pool) = told(1);
    let die = |text: String| -> u8 {
        eprint!("{text}");
        std::process::abort()
    };
    let dying = pool.submit(die, "oh\ndear".to_owned());
    dying.wait();
    let id = dying.id();
    assert_eq!(texts(&lines, OutputStream::Stderr), ["oh", "dear"]);
    assert!(
        lines
            .lock()
            .unwrap()
            .iter()
            .all(|line| line.id() == Some(id))
    );
    assert!(matches!(dying.result(), Err(Error::WorkerDied(_))));
    assert_works(&pool);
}

fn what_runs_outside_of_tasks_is_told_without_a_task() {
    let lines = Lines::default();
    let greet = |name: String| println!("hello, {name}");
    let builder = builder(1).initializer(greet, "worker".to_owned());
    let pool = builder.stdout_lines(keep(&lines)).build().unwrap();
    pool.submit(print, out("task\n")).result().unwrap();
    assert_eq!(
        texts(&lines, OutputStream::Stdout),
        ["hello, worker", "task"]
    );
    let of_tasks = lines
        .lock()
        .unwrap()
        .iter()
        .map(|line| line.task().is_some())
        .collect::<Vec<_>>();
    assert_eq!(of_tasks, [false, true]);
}

fn what_workers_print_at_their_ends_is_told() {
    extern "C" fn farewell() {
        println!("farewell");
        print!("and no end");
        let _ = std::io::stdout().flush();
    }
    let lines = Lines::default();
    let builder = builder(1).max_tasks_per_child(1);
    let pool = builder.stdout_lines(keep(&lines)).build().unwrap();
    for _ in 0..5 {
        let _ = pool.submit(|()| os::at_exit(farewell), ()).result();
    }
    drop(pool);
    let texts = texts(&lines, OutputStream::Stdout);
    for text in ["farewell", "and no end"] {
        assert_eq!(texts.iter().filter(|told| *told == text).count(), 5);
    }
    assert_eq!(texts.len(), 10, "{texts:?}");
    assert!(
        lines
            .lock()
            .unwrap()
            .iter()
            .all(|line| line.task().is_none())
    );
}

/// Prints more at the end of the process than pipes hold, once it is asked to stop.
fn say_much_when_asked(begun: Lamp) {
    extern "C" fn farewell() {
        for _ in 0..100 {
            println!("{}", "x".repeat(10_000));
        }
    }
    os::at_exit(farewell);
    begun.light();
    while !current_worker().unwrap().cancel_requested() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn what_a_worker_prints_that_obeys_is_told() {
    let (lines, pool) = told(1);
    let begun = Beacon::new();
    let options = TaskOptions::new().grace(LONG);
    let future = pool.submit_with(options, say_much_when_asked, begun.lamp());
    begun.await_lit();
    let start = Instant::now();
    assert!(future.kill());
    assert_error!(future.result(), Error::Cancelled);
    assert!(start.elapsed() < LONG, "it has waited for room to print");
    assert_eq!(texts(&lines, OutputStream::Stdout).len(), 100);
}

fn a_task_that_prints_without_end_is_late() {
    // Slower than the task prints.
    let builder = builder(1).stdout_lines(|_| std::thread::sleep(Duration::from_millis(2)));
    let pool = builder.build().unwrap();
    let endless = |()| -> u8 {
        loop {
            println!("{}", "x".repeat(10_000));
        }
    };
    let options = TaskOptions::new().timeout(Duration::from_millis(50));
    let late = pool.submit_with(options, endless, ());
    assert_error!(late.result(), Error::TaskTimeout { .. });
    assert_works(&pool);
}

fn a_function_that_panics_harms_nothing() {
    let pool = builder(1)
        .stdout_lines(|line| panic!("on purpose: {}", line.text()))
        .build()
        .unwrap();
    for _ in 0..3 {
        assert_eq!(pool.submit(print, out("line\n")).result().unwrap(), 0);
    }
}

fn one_stream_is_told_and_the_other_captured() {
    let lines = Lines::default();
    let builder = builder(1).stdout_lines(keep(&lines));
    let pool = builder.stderr(WorkerStdio::Capture).build().unwrap();
    let fail = |text: String| -> u8 {
        println!("{text}");
        panic!("on purpose: {text}");
    };
    let Err(Error::Panicked(panic)) = pool.submit(fail, "both".to_owned()).result() else {
        panic!("no panic")
    };
    assert!(panic.output().unwrap().contains("on purpose: both"));
    assert!(!panic.output().unwrap().starts_with("both"));
    assert_eq!(texts(&lines, OutputStream::Stdout), ["both"]);
}

fn the_last_setting_of_a_stream_counts() {
    let lines = Lines::default();
    let builder = builder(1)
        .stdout_lines(keep(&lines))
        .stdout(WorkerStdio::Null);
    let builder = builder.stderr(WorkerStdio::Null).stderr_lines(keep(&lines));
    let pool = builder.build().unwrap();
    let output = (b"out\n".to_vec(), b"err\n".to_vec());
    pool.submit(print, output).result().unwrap();
    let lines = lines.lock().unwrap();
    assert!(
        matches!(&lines[..], [line] if line.text() == "err"),
        "{lines:?}"
    );
}
