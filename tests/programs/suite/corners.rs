//! Corners: where several things happen at once, or a setting is at its end.

use std::time::Duration;

use concurrent_futures::{
    Error, Executor, MapOptions, Process, ProcessPoolExecutor, Shared, Shutdown, TaskOptions,
    ThreadPoolExecutor,
};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Hold, Lamp, hold};
use crate::support::{
    Kind, LONG, Processes, Threads, assert_error, assert_works, os, panic_message, trials,
};

/// Corners that all executors share.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME; a_thread_that_ends_submits_a_task::<K>]
}

/// Corners that threads and processes share.
pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        shutdown_cancels_the_rest_of_a_chunk::<K>,
        a_shut_down_chunk_counts_each_item_once::<K>,
        a_map_with_a_limit_over_endless_input_has_a_size::<K>,
        a_waker_that_panics_harms_nothing::<K>,
    ]
}

/// Corners of threads.
pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        arguments_that_panic_when_dropped_are_dropped_one_by_one,
        a_task_failed_as_cancelled_is_cancelled,
        a_copy_of_the_program_drops_a_pool_with_a_timer,
    ]
}

/// Corners of processes.
pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        an_argument_that_kills_its_worker_is_given_up,
        a_callback_of_a_dead_task_may_wait_for_another,
        limits_without_end_are_no_limits,
        a_copy_of_the_program_kills_no_worker,
        a_copy_of_the_program_drops_a_process,
        a_launcher_that_closes_the_link_breaks_the_pool,
        an_end_during_an_initializer_is_a_shutdown,
        kill_never_hits_the_next_task,
    ]
}

/// Runs tasks as it is dropped, and tells what came of them.
struct Last(std::sync::mpsc::Sender<Outcomes>, fn() -> Outcomes);

/// Of a task that is given shared memory, one that panics, and one that returns.
type Outcomes = (u64, String, u64);

fn run_tasks<K: Kind>() -> Outcomes {
    let pool = K::pool(1);
    let sum = |(numbers, _): (Shared<u64>, String)| numbers.iter().sum();
    let numbers = Shared::from_vec(vec![1_u64; 1000]);
    let sum = pool.submit(sum, (numbers, String::new()));
    let failing = |words: String| -> u64 { panic!("{words}") };
    let failing = pool.submit(failing, "on purpose".to_owned());
    let first = pool.submit(|pair: (u64, String)| pair.0, (7, String::new()));
    let message = panic_message(failing.result());
    (sum.result().unwrap(), message, first.result().unwrap())
}

impl Drop for Last {
    fn drop(&mut self) {
        self.0.send((self.1)()).unwrap();
    }
}

/// A thread drops its local variables one after the other: the crate's own are gone before the user's.
fn a_thread_that_ends_submits_a_task<K: Kind>() {
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        // What is used first is dropped last.
        LAST.set(Some(Last(tell, run_tasks::<K>)));
        run_tasks::<K>()
    });
    let expected = (1000, "on purpose".to_owned(), 7);
    assert_eq!(thread.join().unwrap(), expected);
    assert_eq!(told.recv().unwrap(), expected);
}

/// A waker is foreign code: its panic is its own.
fn a_waker_that_panics_harms_nothing<K: Kind>() {
    struct Bomb(std::sync::mpsc::Sender<()>);
    impl std::task::Wake for Bomb {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.send(()).unwrap();
            panic!("on purpose: in a waker");
        }
    }
    let pool = K::pool(1);
    let held = Hold::new();
    let mut future = held.occupy(&pool);
    let (tell, woken) = std::sync::mpsc::channel();
    let waker = std::task::Waker::from(std::sync::Arc::new(Bomb(tell)));
    let mut context = std::task::Context::from_waker(&waker);
    let polled = std::future::Future::poll(std::pin::Pin::new(&mut future), &mut context);
    assert!(polled.is_pending());
    held.release();
    woken.recv_timeout(LONG).unwrap();
    future.result().unwrap();
    assert_works(&pool);
    // No thread waits for this future: another thread must collect the outcome, after the panic as before.
    let (tell, hear) = std::sync::mpsc::channel();
    let held = Hold::new();
    let behind = held.occupy(&pool);
    behind.add_done_callback(move |_| tell.send(()).unwrap());
    held.release();
    hear.recv_timeout(LONG).unwrap();
}

fn double(x: u64) -> u64 {
    2 * x
}

fn hold_first((n, held): (u64, Option<crate::support::gate::Held>)) -> u64 {
    if let Some(held) = held {
        hold(held);
    }
    n
}

// ---- shutdown within a chunk ---------------------------------------------------------------------

fn shutdown_cancels_the_rest_of_a_chunk<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let items = (0..10).map(|n| (n, (n == 0).then(|| held.argument())));
    let options = MapOptions::new().chunksize(10);
    let mut map = pool.map_with(options, hold_first, items);
    held.await_begun();
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    held.release();
    assert_eq!(map.next().unwrap().unwrap(), 0);
    assert_eq!(
        map.filter(|r| matches!(r, Err(Error::Cancelled))).count(),
        9
    );
}

fn a_shut_down_chunk_counts_each_item_once<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let items = (0..10).map(|n| (n, (n == 0).then(|| held.argument())));
    let map = pool.map_with(MapOptions::new().chunksize(10), hold_first, items);
    held.await_begun();
    drop(map);
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    held.release();
    pool.shutdown(Shutdown::wait());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled, stats.pending), (1, 9, 0));
}

fn a_map_with_a_limit_over_endless_input_has_a_size<K: Kind>() {
    let pool = K::pool(1);
    let options = MapOptions::new().timeout(LONG).buffersize(4);
    let map = pool.map_with(options, double, 0..);
    assert_eq!(map.size_hint().0, 1);
    let first: Vec<u64> = map.take(3).map(Result::unwrap).collect();
    assert_eq!(first, [0, 2, 4]);
}

// ---- values ----------------------------------------------------------------------------------------

/// Panics when dropped, unless it was defused.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            panic!("on purpose: drop");
        }
    }
}

fn arguments_that_panic_when_dropped_are_dropped_one_by_one() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let held = Hold::new();
    let running = held.occupy(&pool);
    let chunk = pool.map_with(MapOptions::new().chunksize(3), drop, [Bomb, Bomb, Bomb]);
    drop(chunk);
    let single: Vec<_> = (0..3).map(|_| pool.submit(drop, Bomb)).collect();
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    for future in single {
        assert_error!(future.result(), Error::Cancelled);
    }
    held.release();
    running.result().unwrap();
}

fn a_task_failed_as_cancelled_is_cancelled() {
    /// Fails what it is given.
    struct Refusing;
    impl Executor for Refusing {
        fn max_workers(&self) -> usize {
            1
        }
        fn shutdown(&self, _: Shutdown) {}
        fn stats(&self) -> concurrent_futures::Stats {
            concurrent_futures::Stats::default()
        }
        fn execute(&self, task: concurrent_futures::Task) {
            task.fail(Error::Cancelled);
        }
    }
    let future = Refusing.submit(double, 1);
    assert!(future.cancelled() && future.cancel());
}

// ---- deaths ------------------------------------------------------------------------------------------

fn an_argument_that_kills_its_worker_is_given_up() {
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .memory_limit(64 << 20)
        .build()
        .unwrap();
    let bytes = "x".repeat(100 << 20);
    let future = pool.submit(|text: String| text.len(), bytes);
    assert_error!(future.result(), Error::WorkerDied(_));
    assert_works(&pool);
}

fn a_callback_of_a_dead_task_may_wait_for_another() {
    let pool = std::sync::Arc::new(Processes::pool(2));
    let (tell, hear) = std::sync::mpsc::channel();
    let dying = pool.submit(|()| -> u8 { std::process::abort() }, ());
    let own = std::sync::Arc::clone(&pool);
    dying.add_done_callback(move |outcome| {
        assert!(outcome.is_err());
        let other = own.submit(double, 4).result();
        drop(own);
        tell.send(other).unwrap();
    });
    assert_eq!(hear.recv_timeout(LONG).unwrap().unwrap(), 8);
    assert_error!(dying.result(), Error::WorkerDied(_));
}

fn kill_never_hits_the_next_task() {
    let pool = Processes::pool(1);
    for _ in 0..200 {
        let victim = pool.submit(|()| std::thread::yield_now(), ());
        let next = pool.submit(double, 4);
        victim.kill();
        assert_eq!(next.result().unwrap(), 8);
        let (Ok(()) | Err(_)) = victim.result();
    }
}

// ---- settings ------------------------------------------------------------------------------------------

fn limits_without_end_are_no_limits() {
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .start_timeout(Duration::MAX)
        .terminate_grace(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .task_timeout(Duration::MAX)
        .build()
        .unwrap();
    let options = TaskOptions::new().timeout(Duration::MAX);
    assert_eq!(pool.submit_with(options, double, 1).result().unwrap(), 2);
    assert_works(&pool);
    pool.terminate_workers();
}

fn a_launcher_that_closes_the_link_breaks_the_pool() {
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .launcher(["sh", "-c", "exec 0</dev/null; exec sleep 1000"])
        .build()
        .unwrap();
    let future = pool.submit(double, 1);
    assert_error!(future.result(), Error::BrokenPool(reason) if reason.as_str().contains("lived on"));
}

fn an_end_during_an_initializer_is_a_shutdown() {
    let begun = Beacon::new();
    let initializer = |lamp: Lamp| {
        lamp.light();
        loop {
            std::thread::park();
        }
    };
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .initializer(initializer, begun.lamp())
        .build()
        .unwrap();
    let queued = pool.submit(double, 1);
    begun.await_lit();
    pool.kill_workers();
    assert_error!(queued.result(), Error::Cancelled);
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
}

// ---- copies of the program ---------------------------------------------------------------------------

/// Runs this in a copy of the program that is made without exec; whether that came to its end.
fn in_a_copy(act: impl FnOnce()) -> bool {
    match os::fork() {
        0 => {
            act();
            os::exit_now(7)
        }
        copy => os::reap(copy).code() == Some(7),
    }
}

fn a_copy_of_the_program_kills_no_worker() {
    let pool = Processes::pool(1);
    pool.warm_up().unwrap();
    let pids = pool.worker_pids();
    assert!(in_a_copy(|| {
        assert!(pool.worker_pids().is_empty());
        pool.kill_workers();
        pool.terminate_workers();
        pool.shutdown(Shutdown::wait());
    }));
    assert_works(&pool);
    assert_eq!(pool.worker_pids(), pids);
}

fn a_copy_of_the_program_drops_a_process() {
    let held = Hold::new();
    let child = Process::new(hold, held.argument()).start().unwrap();
    held.await_begun();
    let mut child = Some(child);
    assert!(in_a_copy(|| drop(child.take())));
    held.release();
    let child = child.unwrap();
    assert_eq!(child.pid(), child.join().unwrap());
}

fn a_copy_of_the_program_drops_a_pool_with_a_timer() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let options = TaskOptions::new().timeout(LONG);
    pool.submit_with(options, double, 1).result().unwrap();
    let mut pool = Some(pool);
    assert!(in_a_copy(|| drop(pool.take())));
    assert_works(&pool.unwrap());
}
