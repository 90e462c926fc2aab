//! Tasks that are asked to stop, at a time limit or by `Future::kill`, and have a grace before their worker is
//! killed: `TaskOptions::grace`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use concurrent_futures::{
    Error, Executor, Future, MapOptions, Payload, ProcessPoolExecutor, Shutdown, TaskOptions,
    current_worker,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::gate::{Beacon, Hold, Lamp};
use crate::support::tasks::{light, own_pid};
use crate::support::{Kind, LONG, Processes, Threads, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_late_task_cleans_up_in_its_grace,
        a_killed_task_cleans_up_in_its_grace,
        a_worker_that_obeys_leaves_by_itself,
        what_ignores_its_grace_is_killed_at_its_end,
        a_grace_without_an_end_leaves_the_caller_free,
        sigterm_comes_after_the_request,
        sigterm_ends_what_does_not_handle_it,
        a_death_within_the_grace_is_no_other_fate,
        a_kill_within_the_grace_of_a_limit_is_a_kill,
        a_large_outcome_within_the_grace_is_lost,
        items_with_a_grace_are_asked_one_by_one,
        a_grace_that_is_not_needed_changes_nothing,
        a_queued_task_with_a_grace_is_cancelled_at_once,
        a_dropped_future_kills_with_a_grace,
        kill_workers_does_not_wait_for_a_grace,
        a_shutdown_waits_for_a_grace,
    ]
}

/// What threads make of a grace.
pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME; a_thread_with_a_grace_is_asked_as_without]
}

/// A limit that a task that waits is sure to pass.
const SHORT: Duration = Duration::from_millis(30);

/// Pools of one worker: with a queue, and where all goes over the connection.
fn pools() -> [ProcessPoolExecutor; 2] {
    let connected = ProcessPoolExecutor::builder().max_workers(1);
    [
        Processes::pool(1),
        connected.task_timeout(LONG).build().unwrap(),
    ]
}

/// What tells a task to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Limit,
    Kill,
}

/// Submits a task with a grace, and tells it to stop once it has begun.
fn stopped<A: Payload, R: Payload>(
    pool: &ProcessPoolExecutor,
    by: By,
    grace: TaskOptions,
    (task, argument): (fn(A) -> R, A),
    begun: &Beacon,
) -> Future<R> {
    let options = match by {
        By::Limit => grace.timeout(SHORT),
        By::Kill => grace,
    };
    let future = pool.submit_with(options, task, argument);
    begun.await_lit();
    if by == By::Kill {
        assert!(future.kill());
    }
    future
}

/// The task was stopped, and nothing of it is left: its process is gone, and the pool has another one.
fn assert_stopped<R>(pool: &ProcessPoolExecutor, by: By, future: Future<R>, pid: u32) {
    future.wait();
    assert!(!os::exists(pid), "it is reaped when the future settles");
    assert_eq!(future.cancelled(), by == By::Kill);
    match by {
        By::Limit => assert_error!(future.result(), Error::TaskTimeout { limit } if limit == SHORT),
        By::Kill => assert_error!(future.result(), Error::Cancelled),
    }
    assert_ne!(pool.submit(own_pid, ()).result().unwrap(), pid);
    assert_eq!(pool.stats().worker_restarts, 1);
}

/// The process of the one worker.
fn pid_of(pool: &ProcessPoolExecutor) -> u32 {
    pool.submit(own_pid, ()).result().unwrap()
}

fn grace(limit: Duration) -> TaskOptions {
    TaskOptions::new().grace(limit)
}

fn is_asked() -> bool {
    current_worker().unwrap().cancel_requested()
}

/// A part of the work, between two looks at the request.
fn work() {
    std::thread::park_timeout(Duration::from_millis(1));
}

/// A temporary file that a task makes, and removes when it is asked to stop.
#[derive(Clone, Serialize, Deserialize)]
struct Scratch {
    path: PathBuf,
    begun: Lamp,
}

impl Scratch {
    fn new(begun: &Beacon, name: &str) -> Self {
        let name = format!("concurrent-futures-{name}-{}", std::process::id());
        Self {
            path: std::env::temp_dir().join(name),
            begun: begun.lamp(),
        }
    }
}

fn clean_up_when_asked(scratch: Scratch) -> u64 {
    std::fs::write(&scratch.path, "half of it").unwrap();
    assert!(!is_asked());
    scratch.begun.light();
    while !is_asked() {
        work();
    }
    std::fs::remove_file(&scratch.path).unwrap();
    1
}

fn cleans_up(by: By) {
    for pool in pools() {
        let begun = Beacon::new();
        let scratch = Scratch::new(&begun, "scratch");
        let pid = pid_of(&pool);
        let start = Instant::now();
        let path = scratch.path.clone();
        let future = stopped(
            &pool,
            by,
            grace(LONG),
            (clean_up_when_asked, scratch),
            &begun,
        );
        future.wait();
        assert!(
            start.elapsed() < LONG,
            "it does not wait for the end of the grace"
        );
        assert!(!path.exists());
        assert_stopped(&pool, by, future, pid);
    }
}

fn a_late_task_cleans_up_in_its_grace() {
    cleans_up(By::Limit);
}

fn a_killed_task_cleans_up_in_its_grace() {
    cleans_up(By::Kill);
}

/// Lit when the worker exits.
static EXITS: OnceLock<Lamp> = OnceLock::new();

extern "C" fn light_at_exit() {
    if let Some(lamp) = EXITS.get() {
        lamp.light();
    }
}

fn exit_when_asked((begun, exits): (Lamp, Lamp)) -> u64 {
    EXITS.get_or_init(|| exits);
    os::at_exit(light_at_exit);
    until_asked(begun)
}

fn a_worker_that_obeys_leaves_by_itself() {
    for by in [By::Limit, By::Kill] {
        for pool in pools() {
            let (begun, exits) = (Beacon::new(), Beacon::new());
            let pid = pid_of(&pool);
            let argument = (begun.lamp(), exits.lamp());
            let future = stopped(&pool, by, grace(LONG), (exit_when_asked, argument), &begun);
            assert_stopped(&pool, by, future, pid);
            assert!(exits.is_lit());
        }
    }
}

fn ignore_it(begun: Lamp) -> u64 {
    begun.light();
    loop {
        std::thread::park();
    }
}

fn what_ignores_its_grace_is_killed_at_its_end() {
    for (pool, by) in pools()
        .into_iter()
        .flat_map(|pool| [(pool.clone(), By::Limit), (pool, By::Kill)])
    {
        let before = pool.stats().worker_restarts;
        let begun = Beacon::new();
        let pid = pid_of(&pool);
        let start = Instant::now();
        let future = stopped(&pool, by, grace(SHORT), (ignore_it, begun.lamp()), &begun);
        future.wait();
        assert!(start.elapsed() >= SHORT, "{by:?}");
        assert!(!os::exists(pid));
        assert_eq!(future.cancelled(), by == By::Kill);
        assert_works(&pool);
        assert_eq!(pool.stats().worker_restarts, before + 1);
    }
}

fn a_grace_without_an_end_leaves_the_caller_free() {
    let pool = Processes::pool(2);
    let begun = Beacon::new();
    let endless = grace(Duration::MAX);
    let future = stopped(&pool, By::Kill, endless, (ignore_it, begun.lamp()), &begun);
    assert!(!future.wait_timeout(SHORT), "its grace goes on");
    assert!(future.kill(), "once more");
    assert_works(&pool);
    pool.kill_workers();
    assert_error!(future.result(), Error::Cancelled);
}

/// Whether SIGTERM has come.
static SIGNALLED: AtomicBool = AtomicBool::new(false);

extern "C" fn note_signal(_: libc::c_int) {
    SIGNALLED.store(true, Ordering::SeqCst);
}

fn await_signal((begun, file): (Lamp, PathBuf)) -> u64 {
    os::handle(libc::SIGTERM, note_signal);
    begun.light();
    while !SIGNALLED.load(Ordering::SeqCst) {
        work();
    }
    std::fs::write(file, is_asked().to_string()).unwrap();
    1
}

fn sigterm_comes_after_the_request() {
    for by in [By::Limit, By::Kill] {
        for pool in pools() {
            let begun = Beacon::new();
            let file = Scratch::new(&begun, "signal").path;
            let pid = pid_of(&pool);
            let options = TaskOptions::new().grace_with_sigterm(LONG);
            let argument = (begun.lamp(), file.clone());
            let future = stopped(&pool, by, options, (await_signal, argument), &begun);
            assert_stopped(&pool, by, future, pid);
            let said = read_and_remove(&file);
            assert_eq!(said, "true");
        }
    }
}

fn read_and_remove(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    std::fs::remove_file(file).unwrap();
    text
}

fn sigterm_ends_what_does_not_handle_it() {
    for by in [By::Limit, By::Kill] {
        for pool in pools() {
            let begun = Beacon::new();
            let pid = pid_of(&pool);
            let options = TaskOptions::new().grace_with_sigterm(LONG);
            let start = Instant::now();
            let future = stopped(&pool, by, options, (ignore_it, begun.lamp()), &begun);
            assert_stopped(&pool, by, future, pid);
            assert!(start.elapsed() < LONG);
        }
    }
}

fn abort_when_asked(begun: Lamp) -> u64 {
    begun.light();
    while !is_asked() {
        work();
    }
    std::process::abort()
}

fn a_death_within_the_grace_is_no_other_fate() {
    for by in [By::Limit, By::Kill] {
        for pool in pools() {
            let begun = Beacon::new();
            let pid = pid_of(&pool);
            let options = grace(LONG).retries(3);
            let future = stopped(&pool, by, options, (abort_when_asked, begun.lamp()), &begun);
            assert_stopped(&pool, by, future, pid);
        }
    }
}

/// Says that it was asked, and goes on.
fn be_stubborn((begun, asked): (Lamp, Lamp)) -> u64 {
    begun.light();
    while !is_asked() {
        work();
    }
    asked.light();
    loop {
        std::thread::park();
    }
}

fn a_kill_within_the_grace_of_a_limit_is_a_kill() {
    for pool in pools() {
        let (begun, asked) = (Beacon::new(), Beacon::new());
        let pid = pid_of(&pool);
        let argument = (begun.lamp(), asked.lamp());
        let options = grace(10 * SHORT);
        let future = stopped(&pool, By::Limit, options, (be_stubborn, argument), &begun);
        asked.await_lit();
        assert!(future.kill());
        assert_stopped(&pool, By::Kill, future, pid);
    }
}

/// Returns more than the connection takes without a reader.
fn large_when_asked(begun: Lamp) -> Vec<u64> {
    begun.light();
    while !is_asked() {
        work();
    }
    vec![1; 1 << 20]
}

fn a_large_outcome_within_the_grace_is_lost() {
    for by in [By::Limit, By::Kill] {
        for pool in pools() {
            let begun = Beacon::new();
            let pid = pid_of(&pool);
            let start = Instant::now();
            let future = stopped(
                &pool,
                by,
                grace(LONG),
                (large_when_asked, begun.lamp()),
                &begun,
            );
            assert_stopped(&pool, by, future, pid);
            assert!(start.elapsed() < LONG);
        }
    }
}

/// Notes that it runs in a file; odd items go on until they are asked to stop.
fn odd_until_asked((n, file): (u64, PathBuf)) -> (u64, u32) {
    let mut notes = std::fs::File::options().append(true).open(file).unwrap();
    notes.write_all(n.to_string().as_bytes()).unwrap();
    while n % 2 == 1 && !is_asked() {
        work();
    }
    assert_eq!(n % 2 == 1, is_asked(), "only an odd one is asked");
    (2 * n, std::process::id())
}

fn items_with_a_grace_are_asked_one_by_one() {
    for pool in pools() {
        let options = grace(LONG).timeout(SHORT);
        let options = MapOptions::new().chunksize(4).task(options);
        let file = Scratch::new(&Beacon::new(), "items").path;
        std::fs::write(&file, "").unwrap();
        let items = (0..4).map(|n| (n, file.clone()));
        let results: Vec<_> = pool.map_with(options, odd_until_asked, items).collect();
        assert_eq!(read_and_remove(&file), "0123", "each runs once");
        let [Ok((0, first)), Err(one), Ok((4, third)), Err(three)] = &results[..] else {
            panic!("{results:?}")
        };
        assert_ne!(first, third, "a worker that was asked has left");
        for error in [one, three] {
            assert!(matches!(error, Error::TaskTimeout { .. }), "{error}");
        }
        assert_works(&pool);
        assert_eq!(pool.stats().worker_restarts, 2);
    }
}

fn a_grace_that_is_not_needed_changes_nothing() {
    for pool in pools() {
        let pid = pid_of(&pool);
        let options = grace(LONG).timeout(LONG);
        let unasked = |n: u64| (2 * n, is_asked());
        let future = pool.submit_with(options, unasked, 4);
        future.wait();
        assert!(!future.kill(), "it is done");
        assert_eq!(future.result().unwrap(), (8, false));
        assert_eq!(pid_of(&pool), pid);
        assert!(!pool.submit(|()| is_asked(), ()).result().unwrap());
        assert_eq!(pool.stats().worker_restarts, 0);
    }
}

fn a_queued_task_with_a_grace_is_cancelled_at_once() {
    for pool in pools() {
        let held = Hold::new();
        let running = held.occupy(&pool);
        let ran = Beacon::new();
        let queued = pool.submit_with(grace(LONG), light, ran.lamp());
        assert!(queued.kill());
        assert_error!(queued.result(), Error::Cancelled);
        held.release();
        running.result().unwrap();
        assert_works(&pool);
        assert!(!ran.is_lit());
        assert_eq!(pool.stats().worker_restarts, 0);
    }
}

fn a_dropped_future_kills_with_a_grace() {
    for pool in pools() {
        let begun = Beacon::new();
        let scratch = Scratch::new(&begun, "dropped");
        let path = scratch.path.clone();
        let future = pool.submit_with(grace(LONG), clean_up_when_asked, scratch);
        begun.await_lit();
        drop(future.kill_on_drop());
        pool.shutdown(Shutdown::wait());
        assert!(!path.exists());
    }
}

fn kill_workers_does_not_wait_for_a_grace() {
    for by in [By::Limit, By::Kill] {
        for pool in pools() {
            let (begun, asked) = (Beacon::new(), Beacon::new());
            let argument = (begun.lamp(), asked.lamp());
            let future = stopped(&pool, by, grace(LONG), (be_stubborn, argument), &begun);
            asked.await_lit();
            let start = Instant::now();
            pool.kill_workers();
            assert!(start.elapsed() < LONG);
            assert!(pool.worker_pids().is_empty());
            match by {
                By::Limit => assert_error!(future.result(), Error::ShutDown),
                By::Kill => assert_error!(future.result(), Error::Cancelled),
            }
        }
    }
}

fn a_shutdown_waits_for_a_grace() {
    for by in [By::Limit, By::Kill] {
        for pool in pools() {
            let (begun, asked) = (Beacon::new(), Beacon::new());
            let argument = (begun.lamp(), asked.lamp());
            let future = stopped(
                &pool,
                by,
                grace(10 * SHORT),
                (be_stubborn, argument),
                &begun,
            );
            pool.shutdown(Shutdown::wait());
            assert!(future.done());
            assert!(pool.worker_pids().is_empty());
        }
    }
}

fn until_asked(begun: Lamp) -> u64 {
    begun.light();
    while !is_asked() {
        work();
    }
    7
}

fn a_thread_with_a_grace_is_asked_as_without() {
    let pool = Threads::pool(1);
    let begun = Beacon::new();
    let future = pool.submit_with(grace(LONG), until_asked, begun.lamp());
    begun.await_lit();
    assert!(!future.kill());
    assert_eq!(future.result().unwrap(), 7);
    let late = pool.submit_with(grace(LONG).timeout(SHORT), until_asked, begun.lamp());
    assert_error!(late.result(), Error::TaskTimeout { .. });
    assert_works(&pool);
}
