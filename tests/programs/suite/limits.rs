//! Limits: of time, of memory, of tasks a worker, of what may wait; and ends from outside.

use std::process::id;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use concurrent_futures::{
    Error, Executor, MapOptions, Observer, ProcessPoolBuilder, ProcessPoolExecutor, ReturnWhen,
    Shutdown, TaskEvent, TaskOptions, TaskOutcome, ThreadPoolExecutor, WorkerEnd, WorkerEvent,
    WorkerStdio, as_completed, current_worker, wait,
};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Hold, Lamp, hold};
use crate::support::tasks::take_stack;
use crate::support::{
    Kind, LONG, Processes, Threads, assert_error, assert_works, os, panic_message, trials,
};

/// Limits that threads and processes share.
pub fn pools<K: Kind + Bounded>() -> Vec<Trial> {
    trials![K::NAME;
        a_time_limit_ends_the_wait::<K>,
        a_time_limit_that_is_kept_changes_nothing::<K>,
        a_time_limit_goes_for_each_item_of_a_chunk::<K>,
        submit_waits_for_room::<K>,
        try_submit_gives_the_argument_back::<K>,
        try_submit_finds_room_at_workers_to_be_started::<K>,
        try_submit_finds_room_at_idle_workers::<K>,
        shutdown_wakes_who_waits_for_room::<K>,
        shutdown_timeout_says_whether_it_is_over::<K>,
        an_observer_hears_of_everything::<K>,
        an_observer_that_panics_harms_nothing::<K>,
    ]
}

/// Limits of threads.
pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        a_late_thread_is_asked_to_stop,
        a_worker_that_submits_does_not_wait_for_room,
        a_task_that_waits_for_its_own_queue_is_a_deadlock,
        pools_that_wait_for_each_other_are_a_deadlock,
        a_shutdown_that_waits_for_who_waits_for_it_is_a_deadlock,
        a_wait_that_ends_is_no_deadlock,
        a_map_in_a_full_pool_is_a_deadlock,
        waits_for_many_in_a_full_pool_are_deadlocks,
        a_callback_at_a_time_limit_does_not_wait_for_room,
        a_callback_at_a_time_limit_has_the_stack_of_a_program,
        shutdown_timeout_does_not_wait_for_a_callback_at_a_time_limit,
    ]
}

/// Limits of processes.
pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        a_late_process_is_killed_and_replaced,
        a_late_process_is_killed_in_time,
        a_late_process_that_ignores_signals_is_killed,
        task_timeout_goes_for_tasks_without_a_limit,
        a_lost_task_is_tried_again,
        a_task_is_not_tried_for_ever,
        a_panic_is_not_tried_again,
        a_lost_item_is_tried_again_alone,
        a_worker_is_replaced_after_so_many_tasks,
        a_worker_is_replaced_within_a_chunk,
        a_worker_is_replaced_before_it_leaves,
        an_idle_worker_leaves,
        memory_beyond_the_limit_ends_the_task,
        a_death_far_from_the_limit_does_not_mention_it,
        terminate_ends_running_and_queued,
        terminate_kills_what_does_not_listen,
        kill_ends_running_and_queued,
        kill_ends_what_a_task_has_started,
        captured_output_is_told_task_by_task,
        a_launcher_stands_in_front,
    ]
}

/// A pool with at most this number of tasks waiting, and an observer.
pub trait Bounded: Kind {
    fn bounded(workers: usize, pending: usize) -> Self::Pool;
    fn observed(workers: usize, observer: impl Observer + 'static) -> Self::Pool;
    fn observed_by_two(one: impl Observer + 'static, other: impl Observer + 'static) -> Self::Pool;
}

impl Bounded for Threads {
    fn bounded(workers: usize, pending: usize) -> ThreadPoolExecutor {
        let builder = ThreadPoolExecutor::builder().max_workers(workers);
        builder.max_pending(pending).build().unwrap()
    }

    fn observed(workers: usize, observer: impl Observer + 'static) -> ThreadPoolExecutor {
        let builder = ThreadPoolExecutor::builder().max_workers(workers);
        builder.observer(observer).build().unwrap()
    }

    fn observed_by_two(
        one: impl Observer + 'static,
        other: impl Observer + 'static,
    ) -> ThreadPoolExecutor {
        let builder = ThreadPoolExecutor::builder().max_workers(1);
        builder.observer(one).observer(other).build().unwrap()
    }
}

impl Bounded for Processes {
    fn bounded(workers: usize, pending: usize) -> ProcessPoolExecutor {
        let pool = builder(workers).max_pending(pending).build();
        pool.unwrap()
    }

    fn observed(workers: usize, observer: impl Observer + 'static) -> ProcessPoolExecutor {
        builder(workers).observer(observer).build().unwrap()
    }

    fn observed_by_two(
        one: impl Observer + 'static,
        other: impl Observer + 'static,
    ) -> ProcessPoolExecutor {
        builder(1).observer(one).observer(other).build().unwrap()
    }
}

fn builder(workers: usize) -> ProcessPoolBuilder {
    ProcessPoolExecutor::builder().max_workers(workers)
}

/// A short limit, which a task that does not end is sure to pass.
const SHORT: Duration = Duration::from_millis(30);

fn limited(limit: Duration) -> TaskOptions {
    TaskOptions::new().timeout(limit)
}

fn double(x: u64) -> u64 {
    2 * x
}

fn fail(text: String) -> u64 {
    panic!("on purpose: {text}")
}

/// Ends when it is asked to, as a thread, or is killed, as a process.
fn until_asked(_: ()) {
    while !current_worker().unwrap().cancel_requested() {
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn forever(_: ()) {
    loop {
        std::thread::park();
    }
}

fn odd_ones_never_end(n: u64) -> u64 {
    if n % 2 == 1 {
        until_asked(());
    }
    n
}

// ---- time ------------------------------------------------------------------------------------

fn a_time_limit_ends_the_wait<K: Kind>() {
    let pool = K::pool(1);
    let late = pool.submit_with(limited(SHORT), until_asked, ());
    assert_error!(late.result(), Error::TaskTimeout { limit } if limit == SHORT);
    assert_works(&pool);
    assert_eq!(pool.stats().failed, 1);
}

fn a_time_limit_that_is_kept_changes_nothing<K: Kind>() {
    let pool = K::pool(1);
    for n in 0..100 {
        let future = pool.submit_with(limited(LONG), double, n);
        assert_eq!(future.result().unwrap(), 2 * n);
    }
    assert_eq!(pool.stats().completed, 100);
}

fn a_time_limit_goes_for_each_item_of_a_chunk<K: Kind>() {
    let pool = K::pool(1);
    let options = MapOptions::new().chunksize(6).task(limited(SHORT));
    let results: Vec<_> = pool.map_with(options, odd_ones_never_end, 0..6).collect();
    for (n, result) in results.into_iter().enumerate() {
        match n % 2 {
            0 => assert_eq!(result.unwrap(), n as u64),
            _ => assert_error!(result, Error::TaskTimeout { .. }),
        }
    }
}

fn a_late_thread_is_asked_to_stop() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let late = pool.submit_with(limited(SHORT), until_asked, ());
    assert_error!(late.result(), Error::TaskTimeout { .. });
    // Its thread is free again because it looked.
    assert_works(&pool);
}

fn a_late_process_is_killed_and_replaced() {
    let pool = Processes::pool(1);
    let before = pool.submit(|()| id(), ()).result().unwrap();
    let begun = Instant::now();
    let late = pool.submit_with(limited(SHORT), forever, ());
    let queued = pool.submit(|()| id(), ());
    assert_error!(late.result(), Error::TaskTimeout { .. });
    assert!(begun.elapsed() >= SHORT);
    assert!(!os::exists(before));
    assert_ne!(queued.result().unwrap(), before);
    assert_works(&pool);
}

/// The best of some tries: what else this machine does is not the pool's doing.
fn a_late_process_is_killed_in_time() {
    let pool = Processes::pool(1);
    let delay = || {
        assert_works(&pool);
        let begun = Instant::now();
        let late = pool.submit_with(limited(SHORT), forever, ());
        assert_error!(late.result(), Error::TaskTimeout { .. });
        begun.elapsed() - SHORT
    };
    let shortest = (0..5).map(|_| delay()).min().unwrap();
    assert!(shortest < Duration::from_millis(50), "{shortest:?}");
}

fn a_late_process_that_ignores_signals_is_killed() {
    let pool = Processes::pool(1);
    let deaf = |()| {
        os::ignore(libc::SIGTERM);
        forever(());
    };
    let late = pool.submit_with(limited(SHORT), deaf, ());
    assert_error!(late.result(), Error::TaskTimeout { .. });
    assert_works(&pool);
}

fn task_timeout_goes_for_tasks_without_a_limit() {
    let pool = builder(1).task_timeout(SHORT).build().unwrap();
    assert_error!(pool.submit(forever, ()).result(), Error::TaskTimeout { .. });
    let own = pool.submit_with(limited(LONG), double, 4);
    assert_eq!(own.result().unwrap(), 8);
}

// ---- trying again ------------------------------------------------------------------------------

/// Notes each attempt in a file, and dies in those before attempt `n`.
fn die_before((path, n): (String, usize)) -> usize {
    use std::io::Write;
    let mut file = std::fs::File::options().append(true).open(&path).unwrap();
    file.write_all(b"x").unwrap();
    let attempts = std::fs::metadata(&path).unwrap().len() as usize;
    if attempts < n {
        os::kill(id(), libc::SIGKILL);
        unreachable!("SIGKILL is not survived");
    }
    attempts
}

/// A file that is removed at the end.
struct Attempts(String);

impl Attempts {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("attempts-{name}-{}", id()));
        std::fs::write(&path, "").unwrap();
        Self(path.to_str().unwrap().to_owned())
    }
}

impl Drop for Attempts {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn a_lost_task_is_tried_again() {
    let (pool, attempts) = (Processes::pool(1), Attempts::new("again"));
    let options = TaskOptions::new().retries(2);
    let future = pool.submit_with(options, die_before, (attempts.0.clone(), 3));
    assert_eq!(future.result().unwrap(), 3);
    assert_eq!(pool.stats().worker_restarts, 2);
}

fn a_task_is_not_tried_for_ever() {
    let (pool, attempts) = (Processes::pool(1), Attempts::new("ever"));
    let options = TaskOptions::new().retries(2);
    let future = pool.submit_with(options, die_before, (attempts.0.clone(), 9));
    let Err(Error::WorkerDied(death)) = future.result() else {
        panic!("no death")
    };
    assert_eq!(death.attempts(), 3);
    assert!(death.to_string().contains("attempt 3"), "{death}");
    assert_works(&pool);
}

fn a_panic_is_not_tried_again() {
    let pool = Processes::pool(1);
    let future = pool.submit_with(TaskOptions::new().retries(5), fail, "once".into());
    assert_eq!(panic_message(future.result()), "on purpose: once");
    assert_eq!(pool.stats().worker_restarts, 0);
}

fn a_lost_item_is_tried_again_alone() {
    let pool = Processes::pool(1);
    let files: Vec<_> = (0..5)
        .map(|n| Attempts::new(&format!("item-{n}")))
        .collect();
    let options = MapOptions::new()
        .chunksize(5)
        .task(TaskOptions::new().retries(1));
    let items = files
        .iter()
        .enumerate()
        .map(|(n, file)| (file.0.clone(), if n == 2 { 2 } else { 1 }));
    let attempts: Result<Vec<_>, _> = pool.map_with(options, die_before, items).collect();
    assert_eq!(attempts.unwrap(), [1, 1, 2, 1, 1]);
}

// ---- recycling ---------------------------------------------------------------------------------

/// How often each process was named.
fn runs(pids: &[u32]) -> Vec<usize> {
    let mut runs: Vec<(u32, usize)> = Vec::new();
    for pid in pids {
        match runs.iter_mut().find(|(known, _)| known == pid) {
            Some((_, count)) => *count += 1,
            None => runs.push((*pid, 1)),
        }
    }
    runs.into_iter().map(|(_, count)| count).collect()
}

fn a_worker_is_replaced_after_so_many_tasks() {
    let pool = builder(1).max_tasks_per_child(3).build().unwrap();
    let pids: Vec<u32> = (0..9)
        .map(|_| pool.submit(|()| id(), ()).result().unwrap())
        .collect();
    assert_eq!(runs(&pids), [3, 3, 3]);
    assert_eq!(pool.stats().worker_restarts, 0);
}

fn a_worker_is_replaced_within_a_chunk() {
    let pool = builder(1).max_tasks_per_child(4).build().unwrap();
    let options = MapOptions::new().chunksize(10);
    let pids: Result<Vec<u32>, _> = pool.map_with(options, |_: u8| id(), 0..10).collect();
    assert_eq!(runs(&pids.unwrap()), [4, 4, 2]);
}

fn a_worker_is_replaced_before_it_leaves() {
    let started = Beacon::new();
    let pool = builder(1)
        .max_tasks_per_child(2)
        .initializer(|lamp: Lamp| lamp.light(), started.lamp())
        .build()
        .unwrap();
    let first = pool.submit(|()| id(), ()).result().unwrap();
    assert_eq!(started.await_lit(), first);
    let held = Hold::new();
    let last = held.occupy(&pool);
    // The task is at its gate still.
    let second = started.await_lit();
    assert!(second != first && last.running() && os::exists(first));
    held.release();
    assert_eq!(last.result().unwrap(), first);
    assert_eq!(pool.submit(|()| id(), ()).result().unwrap(), second);
}

fn an_idle_worker_leaves() {
    let ended = Arc::new(Events::default());
    let pool = builder(1)
        .idle_timeout(SHORT)
        .observer(Arc::clone(&ended))
        .build()
        .unwrap();
    let before = pool.submit(|()| id(), ()).result().unwrap();
    ended.wait_for("worker 0 ended: Retired");
    assert_ne!(pool.submit(|()| id(), ()).result().unwrap(), before);
}

fn memory_beyond_the_limit_ends_the_task() {
    let pool = builder(1).memory_limit(128 << 20).build().unwrap();
    let hoard = |bytes: usize| std::hint::black_box(vec![1_u8; bytes]).len();
    let (hoarding, queued) = (pool.submit(hoard, 512 << 20), pool.submit(|()| id(), ()));
    let Err(Error::WorkerDied(death)) = hoarding.result() else {
        panic!("no death")
    };
    assert_ne!(queued.result().unwrap(), death.pid());
    assert_eq!(death.signal(), Some(libc::SIGABRT));
    let text = death.to_string();
    assert!(text.contains("memory limit 128 MiB, peak used"), "{text}");
    assert_eq!(pool.submit(hoard, 1 << 20).result().unwrap(), 1 << 20);
}

fn a_death_far_from_the_limit_does_not_mention_it() {
    let pool = builder(1).memory_limit(4 << 30).build().unwrap();
    let exit = |code: i32| -> u8 { std::process::exit(code) };
    let crash = |()| -> u8 { os::segfault() };
    for death in [
        pool.submit(exit, 3).result(),
        pool.submit(crash, ()).result(),
    ] {
        let text = death.unwrap_err().to_string();
        assert!(!text.contains("memory limit"), "{text}");
    }
}

// ---- what waits --------------------------------------------------------------------------------

fn submit_waits_for_room<K: Bounded>() {
    let pool = K::bounded(1, 2);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let waiting = [pool.submit(double, 1), pool.submit(double, 2)];
    assert_eq!(pool.stats().pending, 2);
    std::thread::scope(|scope| {
        let third = scope.spawn(|| pool.submit(double, 3).result().unwrap());
        held.release();
        assert_eq!(third.join().unwrap(), 6);
    });
    running.result().unwrap();
    assert_eq!(waiting.map(|future| future.result().unwrap()), [2, 4]);
}

fn try_submit_gives_the_argument_back<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let waiting = pool.try_submit(double, 1).unwrap();
    assert_eq!(pool.try_submit(double, 2).unwrap_err(), 2);
    assert!(waiting.cancel());
    let waiting = pool.try_submit(double, 3).unwrap();
    held.release();
    running.result().unwrap();
    assert_eq!(waiting.result().unwrap(), 6);
}

/// As many as there are workers, and the one that may wait; no more.
fn assert_takes_five_at_once<P: Executor>(pool: &P) {
    let held = Hold::new();
    let taken = [(); 5].map(|()| pool.try_submit(hold, held.argument()));
    let taken = taken.map(|future| future.unwrap_or_else(|_| panic!("refused")));
    assert!(pool.try_submit(hold, held.argument()).is_err());
    for _ in 0..4 {
        held.await_begun();
    }
    assert!(pool.try_submit(hold, held.argument()).is_err());
    held.release();
    for future in taken {
        future.result().unwrap();
    }
}

fn try_submit_finds_room_at_workers_to_be_started<K: Bounded>() {
    assert_takes_five_at_once(&K::bounded(4, 1));
}

fn try_submit_finds_room_at_idle_workers<K: Bounded>() {
    let pool = K::bounded(4, 1);
    for _ in 0..20 {
        // They are all idle after the first round.
        assert_takes_five_at_once(&pool);
    }
}

fn shutdown_wakes_who_waits_for_room<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let waiting = pool.submit(double, 1);
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| pool.submit(double, 2).result());
        pool.shutdown(Shutdown::no_wait());
        assert_error!(refused.join().unwrap(), Error::ShutDown);
    });
    held.release();
    running.result().unwrap();
    assert_eq!(waiting.result().unwrap(), 2);
}

fn a_worker_that_submits_does_not_wait_for_room() {
    let pool = Arc::new(Threads::bounded(1, 1));
    let own = Arc::clone(&pool);
    let inner = pool.spawn(move || {
        let futures: Vec<_> = (0..5).map(|n| own.submit(double, n)).collect();
        drop(own);
        futures
    });
    let sum: u64 = inner
        .result()
        .unwrap()
        .into_iter()
        .map(|f| f.result().unwrap())
        .sum();
    assert_eq!(sum, 20);
}

// ---- ends from outside -------------------------------------------------------------------------

fn shutdown_timeout_says_whether_it_is_over<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    assert!(!pool.shutdown_timeout(Shutdown::wait(), SHORT));
    held.release();
    assert!(pool.shutdown_timeout(Shutdown::wait(), LONG));
    running.result().unwrap();
}

fn terminate_ends_running_and_queued() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let pid = pool.worker_pids()[0];
    pool.terminate_workers();
    assert!(!os::exists(pid));
    assert_error!(running.result(), Error::ShutDown);
    assert_error!(queued.result(), Error::Cancelled);
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
}

fn terminate_kills_what_does_not_listen() {
    let pool = builder(1).terminate_grace(SHORT).build().unwrap();
    pool.submit(|()| os::ignore(libc::SIGTERM), ())
        .result()
        .unwrap();
    let held = Hold::new();
    let running = held.occupy(&pool);
    pool.terminate_workers();
    assert_error!(running.result(), Error::ShutDown);
}

fn kill_ends_running_and_queued() {
    let pool = Processes::pool(2);
    let held = [Hold::new(), Hold::new()];
    let running = [held[0].occupy(&pool), held[1].occupy(&pool)];
    let queued = pool.submit(double, 1);
    pool.kill_workers();
    assert!(pool.worker_pids().is_empty());
    for future in running {
        assert_error!(future.result(), Error::ShutDown);
    }
    assert_error!(queued.result(), Error::Cancelled);
}

fn kill_ends_what_a_task_has_started() {
    let pool = Processes::pool(1);
    let sleeper = pool.submit(
        |()| {
            std::process::Command::new("sleep")
                .arg("1000")
                .spawn()
                .unwrap()
                .id()
        },
        (),
    );
    let sleeper = sleeper.result().unwrap();
    assert!(os::exists(sleeper));
    pool.kill_workers();
    os::wait_until_dead(sleeper);
}

// ---- deadlocks ---------------------------------------------------------------------------------

fn a_task_that_waits_for_its_own_queue_is_a_deadlock() {
    let pool = Arc::new(ThreadPoolExecutor::new(2).unwrap());
    let nested = || {
        let own = Arc::clone(&pool);
        pool.spawn(move || {
            let inner: Vec<_> = (0..3).map(|n| own.submit(double, n)).collect();
            inner.into_iter().filter_map(|f| f.exception()).count()
        })
    };
    let (first, second) = (nested(), nested());
    // The task that blocked first goes on when the other ends, or not at all.
    let deadlocks = first.result().unwrap() + second.result().unwrap();
    let failed = pool.stats().failed as usize;
    assert_eq!(deadlocks, failed);
    let single = Arc::new(ThreadPoolExecutor::new(1).unwrap());
    let own = Arc::clone(&single);
    let outer = single.spawn(move || own.submit(double, 1).result());
    assert_error!(outer.result().unwrap(), Error::Deadlock);
    assert_works(&*single);
}

fn pools_that_wait_for_each_other_are_a_deadlock() {
    let (a, b) = (Arc::new(Threads::pool(1)), Arc::new(Threads::pool(1)));
    let (in_a, in_b) = (Arc::clone(&a), Arc::clone(&b));
    let outer = a.spawn(move || in_b.spawn(move || in_a.submit(double, 1).result()).result());
    assert_error!(outer.result().unwrap().unwrap(), Error::Deadlock);
    assert_works(&*a);
    assert_works(&*b);
}

fn a_shutdown_that_waits_for_who_waits_for_it_is_a_deadlock() {
    // The end of another pool, one of whose tasks waits for this one's queue.
    let (a, b) = (Arc::new(Threads::pool(1)), Arc::new(Threads::pool(1)));
    let (in_a, in_b) = (Arc::clone(&a), Arc::clone(&b));
    let outer = a.spawn(move || {
        let inner = in_b.spawn(move || in_a.submit(double, 1).result());
        in_b.shutdown(Shutdown::wait());
        inner.result()
    });
    assert_error!(outer.result().unwrap().unwrap(), Error::Deadlock);
    assert_works(&*a);
    // The end of the own pool, whose other worker waits for the queue that no thread is left to serve.
    let pool = Arc::new(ThreadPoolExecutor::new(2).unwrap());
    let own = Arc::clone(&pool);
    let outer = pool.spawn(move || {
        let (tell, hear) = std::sync::mpsc::channel();
        let its = Arc::clone(&own);
        let inner = own.spawn(move || {
            let queued = its.submit(double, 1);
            tell.send(()).unwrap();
            queued.result()
        });
        hear.recv().unwrap();
        own.shutdown(Shutdown::wait());
        inner.result()
    });
    assert_error!(outer.result().unwrap().unwrap(), Error::Deadlock);
}

fn a_wait_that_ends_is_no_deadlock() {
    let pool = Arc::new(ThreadPoolExecutor::new(2).unwrap());
    let own = Arc::clone(&pool);
    let outer = pool.spawn(move || {
        let inner: Vec<_> = (0..100).map(|n| own.submit(double, n)).collect();
        inner.into_iter().map(|f| f.result().unwrap()).sum::<u64>()
    });
    assert_eq!(outer.result().unwrap(), 9900);
}

fn a_map_in_a_full_pool_is_a_deadlock() {
    let pool = Arc::new(ThreadPoolExecutor::new(1).unwrap());
    let own = Arc::clone(&pool);
    let outer = pool.spawn(move || {
        own.map(double, 0..3)
            .map(|r| r.is_err())
            .collect::<Vec<_>>()
    });
    assert_eq!(outer.result().unwrap(), [true; 3]);
}

fn waits_for_many_in_a_full_pool_are_deadlocks() {
    let pool = Arc::new(ThreadPoolExecutor::new(1).unwrap());
    let own = Arc::clone(&pool);
    let outer = pool.spawn(move || {
        let inner = || (0..3).map(|n| own.submit(double, n)).collect::<Vec<_>>();
        let completed = as_completed(inner()).filter(|f| f.exception().is_some());
        let waited = wait(inner(), None, ReturnWhen::AllCompleted).done.len();
        let unordered = own.map_unordered_with(MapOptions::new(), double, 0..3);
        let unordered = unordered.filter(|(_, result)| result.is_err());
        (completed.count(), waited, unordered.count())
    });
    assert_eq!(outer.result().unwrap(), (3, 3, 3));
}

fn a_callback_at_a_time_limit_has_the_stack_of_a_program() {
    let pool = Threads::pool(1);
    let late = pool.submit_with(limited(SHORT), until_asked, ());
    let (tell, told) = std::sync::mpsc::channel();
    late.add_done_callback(move |_| {
        take_stack();
        tell.send(()).unwrap();
    });
    told.recv_timeout(LONG).unwrap();
}

fn a_callback_at_a_time_limit_does_not_wait_for_room() {
    let pool = Arc::new(Threads::bounded(1, 1));
    let late = pool.submit_with(limited(SHORT), until_asked, ());
    let (tell, hear) = std::sync::mpsc::channel();
    let own = Arc::clone(&pool);
    late.add_done_callback(move |_| {
        let futures: Vec<_> = (0..3).map(|n| own.submit(double, n)).collect();
        drop(own);
        tell.send(futures).unwrap();
    });
    let sum: u64 = hear
        .recv_timeout(LONG)
        .unwrap()
        .into_iter()
        .map(|f| f.result().unwrap())
        .sum();
    assert_eq!(sum, 6);
}

fn shutdown_timeout_does_not_wait_for_a_callback_at_a_time_limit() {
    let pool = Threads::pool(1);
    let (task, callback) = (Hold::new(), Hold::new());
    let late = pool.submit_with(limited(SHORT), hold, task.argument());
    let its = callback.argument();
    late.add_done_callback(move |_| {
        hold(its);
    });
    callback.await_begun();
    task.release();
    assert!(!pool.shutdown_timeout(Shutdown::wait(), SHORT));
    callback.release();
    assert!(pool.shutdown_timeout(Shutdown::wait(), LONG));
    assert_error!(late.result(), Error::TaskTimeout { .. });
}

// ---- observers ---------------------------------------------------------------------------------

/// What an observer was told.
#[derive(Default)]
struct Events {
    heard: Mutex<Vec<String>>,
    news: std::sync::Condvar,
}

impl Events {
    fn note(&self, event: String) {
        self.heard.lock().unwrap().push(event);
        self.news.notify_all();
    }

    fn wait_for(&self, event: &str) {
        let heard = self.heard.lock().unwrap();
        let missing = |heard: &mut Vec<String>| !heard.iter().any(|known| known == event);
        let waited = self.news.wait_timeout_while(heard, LONG, missing).unwrap();
        assert!(!waited.1.timed_out(), "not heard: {event}");
    }
}

impl Observer for Events {
    fn worker_started(&self, worker: &WorkerEvent) {
        self.note(format!("worker {} started", worker.worker()));
    }

    fn worker_ended(&self, worker: &WorkerEvent, reason: WorkerEnd) {
        self.note(format!("worker {} ended: {reason:?}", worker.worker()));
    }

    fn task_started(&self, task: &TaskEvent) {
        self.note(format!("task started on {}", task.worker()));
    }

    fn task_finished(&self, task: &TaskEvent, outcome: TaskOutcome) {
        self.note(format!("task finished on {}: {outcome:?}", task.worker()));
    }
}

fn an_observer_hears_of_everything<K: Bounded>() {
    let events = Arc::new(Events::default());
    let pool = K::observed(1, Arc::clone(&events));
    pool.submit(double, 1).result().unwrap();
    assert!(pool.submit(fail, "heard".into()).exception().is_some());
    drop(pool);
    let expected = [
        "worker 0 started",
        "task started on 0",
        "task finished on 0: Completed",
        "task started on 0",
        "task finished on 0: Failed",
        "worker 0 ended: Retired",
    ];
    assert_eq!(*events.heard.lock().unwrap(), expected);
}

fn an_observer_that_panics_harms_nothing<K: Bounded>() {
    struct Grumpy;
    impl Observer for Grumpy {
        fn task_started(&self, _: &TaskEvent) {
            panic!("on purpose: observer");
        }
    }
    let pool = K::observed(1, Grumpy);
    assert_works(&pool);
    assert_works(&pool);
}

// ---- surroundings ------------------------------------------------------------------------------

fn captured_output_is_told_task_by_task() {
    let pool = builder(1)
        .stdout(WorkerStdio::Capture)
        .stderr(WorkerStdio::Capture)
        .build()
        .unwrap();
    let chatty = |(text, dies): (String, bool)| {
        println!("{text}");
        if dies {
            std::process::exit(3);
        }
    };
    pool.submit(chatty, ("before".into(), false))
        .result()
        .unwrap();
    let Err(Error::WorkerDied(death)) = pool.submit(chatty, ("now".into(), true)).result() else {
        panic!("no death")
    };
    assert_eq!(death.output(), Some("now\n"));
    let Err(Error::Panicked(panic)) = pool.submit(fail, "told".into()).result() else {
        panic!("no panic")
    };
    assert!(panic.output().unwrap().contains("on purpose: told"));
}

fn a_launcher_stands_in_front() {
    let pool = builder(1).launcher(["nice", "-n", "7"]).build().unwrap();
    let niceness = pool.submit(|()| os::niceness(), ());
    // No process is nicer than that.
    let nicest = 19;
    let expected = (os::niceness() + 7).min(nicest);
    assert_eq!(niceness.result().unwrap(), expected);
}
