//! `Executor`: submit and its options, shutdown in its variants, drop, stats, use through
//! `Box`, `Arc` and `&`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use concurrent_futures::{
    Error, Executor, Future, SerialExecutor, Shutdown, Stats, Task, TaskOptions,
    ThreadPoolExecutor, current_worker,
};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Hold, Lamp, hold};
use crate::support::leaks::Baseline;
use crate::support::{Kind, Processes, Threads, assert_error, assert_works, panic_message, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        submit_returns_the_result::<K>,
        submit_takes_every_kind_of_function::<K>,
        a_result_of_the_function_is_a_value::<K>,
        a_panic_is_told_with_message_place_and_task::<K>,
        a_panic_leaves_the_worker_at_work::<K>,
        a_panic_without_text_is_told::<K>,
        an_error_knows_the_place_of_its_submit::<K>,
        an_error_knows_the_function_of_its_task::<K>,
        a_backtrace_is_told_where_it_is_asked_for::<K>,
        current_worker_is_known_in_tasks_alone::<K>,
        submit_after_shutdown_is_refused::<K>,
        shutdown_is_idempotent::<K>,
        stats_count_what_came_of_tasks::<K>,
        box_arc_and_reference_submit_alike::<K>,
        an_executor_of_ones_own_can_forward::<K>,
        ten_thousand_tasks_all_answer::<K>,
    ]
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        a_pool_without_tasks_starts_nothing::<K>,
        no_workers_is_an_invalid_configuration::<K>,
        tasks_begin_in_the_order_of_submission::<K>,
        results_can_be_asked_for_in_any_order::<K>,
        as_many_tasks_run_as_there_are_workers::<K>,
        an_idle_worker_is_reused::<K>,
        threads_submit_side_by_side::<K>,
        pools_nest::<K>,
        stats_tell_running_from_pending::<K>,
        a_worker_is_idle_once_its_task_is_settled::<K>,
        shutdown_wait_runs_what_is_queued::<K>,
        shutdown_wait_cancel_runs_what_has_begun_alone::<K>,
        shutdown_no_wait_returns_while_a_task_runs::<K>,
        shutdown_no_wait_cancel_settles_what_is_queued_at_once::<K>,
        a_later_shutdown_may_wait_and_cancel::<K>,
        two_shutdowns_at_once_both_wait::<K>,
        shutdown_of_an_unused_pool_returns::<K>,
        drop_runs_what_is_queued::<K>,
        drop_while_panicking_cancels_what_is_queued::<K>,
        drop_of_the_last_arc_waits::<K>,
        a_task_that_is_dropped_is_cancelled::<K>,
    ]
}

/// What only threads do.
pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        closures_that_capture_go::<Threads>,
        threads_are_named,
        the_initializer_runs_in_each_thread,
        the_default_size_is_that_of_python,
        a_value_nobody_takes_is_dropped_once,
        a_value_whose_drop_panics_harms_nobody,
        a_running_task_sees_that_it_is_to_stop,
        a_task_may_shut_its_own_pool_down,
        a_task_may_drop_the_last_owner_of_its_pool,
        two_tasks_may_shut_their_own_pool_down,
    ]
}

/// What only the caller's own stack does.
pub fn serial() -> Vec<Trial> {
    trials!["serial"; a_serial_task_runs_inside_submit, serial_tasks_nest]
}

fn double(x: u64) -> u64 {
    2 * x
}

fn text_of<T: std::fmt::Display>(value: T) -> String {
    value.to_string()
}

struct Job;

impl Job {
    fn run(n: u8) -> u8 {
        n + 1
    }
}

fn fail(text: String) -> u8 {
    panic!("on purpose: {text}")
}

fn tasks_run(_: ()) -> u64 {
    current_worker().unwrap().tasks_run()
}

fn light(lamp: Lamp) {
    lamp.light();
}

// ---- submit --------------------------------------------------------------------------------

fn submit_returns_the_result<K: Kind>() {
    let pool = K::pool(2);
    let future = pool.submit(double, 21);
    assert_eq!(future.result().unwrap(), 42);
}

fn submit_takes_every_kind_of_function<K: Kind>() {
    let pool = K::pool(2);
    assert_eq!(pool.submit(text_of::<u16>, 7).result().unwrap(), "7");
    assert_eq!(pool.submit(Job::run, 7).result().unwrap(), 8);
    assert_eq!(pool.submit(|x: i8| -x, 7).result().unwrap(), -7);
    let area = pool.submit(|(a, b): (f64, f64)| a * b, (2.0, 1.5));
    assert_eq!(area.result().unwrap().to_bits(), 3.0_f64.to_bits());
    pool.submit(|()| (), ()).result().unwrap();
}

fn a_result_of_the_function_is_a_value<K: Kind>() {
    let pool = K::pool(1);
    let future = pool.submit(
        |text: String| text.parse::<u8>().map_err(|e| e.to_string()),
        "x".into(),
    );
    let inner = future.result().unwrap();
    assert!(inner.unwrap_err().contains("invalid digit"));
}

fn a_panic_is_told_with_message_place_and_task<K: Kind>() {
    let pool = K::pool(1);
    let options = TaskOptions::new().name("doomed");
    let error = pool.submit_with(options, fail, "p".into()).result();
    let Err(Error::Panicked(panic)) = error else {
        panic!("{error:?}")
    };
    assert_eq!(panic.message(), "on purpose: p");
    let place = panic.location().unwrap();
    assert!(place.contains("executor.rs:"), "{place}");
    assert_eq!(panic.task().unwrap().name(), Some("doomed"));
    assert_eq!(panic.worker(), Some(0));
    let text = panic.to_string();
    assert!(
        text.contains("`doomed`") && text.contains("worker 0"),
        "{text}"
    );
}

fn a_panic_leaves_the_worker_at_work<K: Kind>() {
    let pool = K::pool(1);
    assert_eq!(pool.submit(tasks_run, ()).result().unwrap(), 1);
    assert!(panic_message(pool.submit(fail, "w".into()).result()).ends_with('w'));
    assert_eq!(pool.submit(tasks_run, ()).result().unwrap(), 3);
}

fn a_panic_without_text_is_told<K: Kind>() {
    let pool = K::pool(1);
    let future = pool.submit(|n: u8| -> u8 { std::panic::panic_any(n) }, 7);
    assert_eq!(panic_message(future.result()), "a payload that is no text");
    assert_works(&pool);
}

fn an_error_knows_the_place_of_its_submit<K: Kind>() {
    let pool = K::pool(1);
    let (line, future) = (line!(), pool.submit(fail, "here".into()));
    let Err(Error::Panicked(panic)) = future.result() else {
        panic!("no panic")
    };
    let task = panic.task().unwrap();
    assert!(task.location().file().ends_with("executor.rs"), "{task}");
    assert_eq!(task.location().line(), line, "{task}");
}

fn an_error_knows_the_function_of_its_task<K: Kind>() {
    let pool = K::pool(1);
    let Err(Error::Panicked(panic)) = pool.submit(fail, "who".into()).result() else {
        panic!("no panic")
    };
    let function = panic.task().unwrap().function();
    // Without debug information, or built with other options, there may be no name.
    if cfg!(debug_assertions) {
        assert_eq!(function.as_deref(), Some("suite::executor::fail"));
        assert!(
            panic.to_string().contains("suite::executor::fail"),
            "{panic}"
        );
    }
}

fn a_backtrace_is_told_where_it_is_asked_for<K: Kind>() {
    let pool = K::pool(1);
    let Err(Error::Panicked(panic)) = pool.submit(fail, "where".into()).result() else {
        panic!("no panic")
    };
    let asked = std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0");
    assert_eq!(panic.backtrace().is_some(), asked);
}

fn current_worker_is_known_in_tasks_alone<K: Kind>() {
    assert!(current_worker().is_none());
    let pool = K::pool(1);
    let describe = |()| {
        let worker = current_worker().unwrap();
        let by_system = thread::current().name().unwrap_or("").to_owned();
        let same = worker.thread_name() == by_system && worker.pid() == std::process::id();
        (worker.index(), worker.native_id() > 0, same)
    };
    assert_eq!(pool.submit(describe, ()).result().unwrap(), (0, true, true));
    assert!(current_worker().is_none());
}

fn ten_thousand_tasks_all_answer<K: Kind>() {
    let pool = K::pool(2);
    let futures: Vec<Future<u64>> = (0..10_000).map(|n| pool.submit(double, n)).collect();
    for (n, future) in (0..).zip(futures) {
        assert_eq!(future.result().unwrap(), 2 * n);
    }
}

fn a_pool_without_tasks_starts_nothing<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(4);
    assert_eq!(pool.max_workers(), 4);
    assert_eq!(pool.stats(), Stats::default());
    assert_eq!(before.new_threads(), 0);
    drop(pool);
}

fn no_workers_is_an_invalid_configuration<K: Kind>() {
    let error = catch_unwind(|| drop(K::pool(0))).unwrap_err();
    let text = error.downcast_ref::<String>().unwrap();
    assert!(
        text.contains("InvalidConfig(\"max_workers is 0\")"),
        "{text}"
    );
}

fn tasks_begin_in_the_order_of_submission<K: Kind>() {
    let pool = K::pool(1);
    let futures: Vec<_> = (0..50).map(|_| pool.submit(tasks_run, ())).collect();
    let order: Vec<u64> = futures.into_iter().map(|f| f.result().unwrap()).collect();
    assert!(order.iter().copied().eq(1..=50), "{order:?}");
}

fn results_can_be_asked_for_in_any_order<K: Kind>() {
    let pool = K::pool(2);
    let mut futures: Vec<_> = (0..100).map(|n| (n, pool.submit(double, n))).collect();
    futures.reverse();
    futures.swap(0, 50);
    for (n, future) in futures {
        assert_eq!(future.result().unwrap(), 2 * n);
    }
}

fn as_many_tasks_run_as_there_are_workers<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let futures = [(); 3].map(|()| pool.submit(hold, held.argument()));
    held.await_begun();
    held.await_begun();
    assert!(futures[0].running() && futures[1].running());
    assert!(!futures[2].running() && !held.has_begun());
    held.release();
    for future in futures {
        future.result().unwrap();
    }
}

fn an_idle_worker_is_reused<K: Kind>() {
    let pool = K::pool(4);
    for n in 1..=20 {
        assert_eq!(pool.submit(tasks_run, ()).result().unwrap(), n);
    }
    assert_eq!(pool.stats().workers, 1);
}

fn threads_submit_side_by_side<K: Kind>() {
    let pool = K::pool(2);
    thread::scope(|scope| {
        for first in [0, 1000, 2000, 3000] {
            let pool = &pool;
            scope.spawn(move || {
                for n in first..first + 100 {
                    assert_eq!(pool.submit(double, n).result().unwrap(), 2 * n);
                }
            });
        }
    });
    assert_eq!(pool.stats().completed, 400);
}

fn pools_nest<K: Kind>() {
    /// A pool of each kind, inside a worker.
    fn sums(n: u64) -> (u64, u64) {
        let sum = |pool: &dyn Executor| (&pool).map(double, 0..n).map(Result::unwrap).sum();
        (sum(&Threads::pool(2)), sum(&Processes::pool(2)))
    }
    let pool = K::pool(1);
    assert_eq!(pool.submit(sums, 10).result().unwrap(), (90, 90));
}

// ---- stats ---------------------------------------------------------------------------------

fn stats_tell_running_from_pending<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(hold, held.argument());
    held.await_begun();
    let queued = [1, 2, 3].map(|n| pool.submit(double, n));
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.idle), (1, 0), "{stats:?}");
    assert_eq!((stats.running, stats.pending), (1, 3), "{stats:?}");
    assert!(queued[1].cancel());
    let stats = pool.stats();
    assert_eq!((stats.pending, stats.cancelled), (2, 1), "{stats:?}");
    held.release();
    running.result().unwrap();
    for future in queued {
        future.wait();
    }
    let stats = pool.stats();
    assert_eq!((stats.running, stats.pending), (0, 0), "{stats:?}");
    assert_eq!((stats.completed, stats.cancelled), (3, 1), "{stats:?}");
}

fn stats_count_what_came_of_tasks<K: Kind>() {
    let pool = K::pool(1);
    pool.submit(double, 1).result().unwrap();
    pool.submit(double, 2).result().unwrap();
    assert!(pool.submit(fail, "c".into()).result().is_err());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (2, 1), "{stats:?}");
    assert_eq!(
        (stats.cancelled, stats.worker_restarts),
        (0, 0),
        "{stats:?}"
    );
    assert_eq!((stats.running, stats.pending), (0, 0), "{stats:?}");
}

fn a_worker_is_idle_once_its_task_is_settled<K: Kind>() {
    let pool = K::pool(2);
    for n in 0..200 {
        pool.submit(double, n).result().unwrap();
        let stats = pool.stats();
        assert_eq!((stats.workers, stats.idle), (1, 1), "{stats:?}");
        assert_eq!(stats.completed, n + 1, "{stats:?}");
    }
}

// ---- shutdown ------------------------------------------------------------------------------

fn submit_after_shutdown_is_refused<K: Kind>() {
    let pool = K::pool(1);
    pool.submit(double, 1).result().unwrap();
    pool.shutdown(Shutdown::wait());
    let future = pool.submit(double, 1);
    assert!(future.done() && !future.cancelled());
    assert_error!(future.result(), Error::ShutDown);
    let mapped: Vec<_> = pool.map(double, [1, 2]).collect();
    assert_eq!(mapped.len(), 2);
    for result in mapped {
        assert_error!(result, Error::ShutDown);
    }
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (1, 0), "{stats:?}");
}

fn shutdown_is_idempotent<K: Kind>() {
    let pool = K::pool(1);
    pool.submit(double, 1).result().unwrap();
    for how in [
        Shutdown::wait(),
        Shutdown::wait(),
        Shutdown::no_wait(),
        Shutdown::wait().cancel_futures(),
    ] {
        pool.shutdown(how);
    }
    assert_eq!(pool.stats().workers, 0);
}

fn shutdown_of_an_unused_pool_returns<K: Kind>() {
    let pool = K::pool(3);
    pool.shutdown(Shutdown::wait());
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
}

fn shutdown_wait_runs_what_is_queued<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    let more: Vec<_> = (0..20).map(|n| pool.submit(double, n)).collect();
    held.release();
    pool.shutdown(Shutdown::wait());
    assert!(running.done() && queued.done() && more.iter().all(Future::done));
    assert_eq!(queued.result().unwrap(), 8);
    assert_eq!(
        more.into_iter().map(|f| f.result().unwrap()).sum::<u64>(),
        380
    );
    assert_eq!(pool.stats().workers, 0);
    drop(held);
    before.assert_restored();
}

fn shutdown_wait_cancel_runs_what_has_begun_alone<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    thread::scope(|scope| {
        let shutdown = scope.spawn(|| pool.shutdown(Shutdown::wait().cancel_futures()));
        queued.wait();
        assert!(queued.cancelled() && running.running() && !shutdown.is_finished());
        held.release();
    });
    assert!(running.done());
    running.result().unwrap();
    assert_error!(queued.result(), Error::Cancelled);
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (1, 1), "{stats:?}");
}

fn shutdown_no_wait_returns_while_a_task_runs<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    pool.shutdown(Shutdown::no_wait());
    assert!(running.running() && !queued.done());
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
    held.release();
    running.result().unwrap();
    assert_eq!(queued.result().unwrap(), 8);
}

fn shutdown_no_wait_cancel_settles_what_is_queued_at_once<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    assert!(queued.done() && queued.cancelled() && running.running());
    held.release();
    running.result().unwrap();
}

fn a_later_shutdown_may_wait_and_cancel<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    pool.shutdown(Shutdown::no_wait());
    assert!(!queued.done());
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    assert!(queued.cancelled() && running.running());
    held.release();
    pool.shutdown(Shutdown::wait());
    assert!(running.done());
    assert_eq!(pool.stats().workers, 0);
}

fn two_shutdowns_at_once_both_wait<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                pool.shutdown(Shutdown::wait());
                assert!(running.done() && queued.done());
                assert_eq!(pool.stats().workers, 0);
            });
        }
        held.release();
    });
}

fn drop_runs_what_is_queued<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    held.release();
    drop(pool);
    assert!(running.done() && queued.done());
    assert_eq!(queued.result().unwrap(), 8);
    drop(held);
    before.assert_restored();
}

fn drop_while_panicking_cancels_what_is_queued<K: Kind>() {
    let held = Hold::new();
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let held = &held;
        let watcher = scope.spawn(move || {
            let (running, queued): (Future<u32>, Future<u64>) = receiver.recv().unwrap();
            queued.wait();
            held.release();
            assert_error!(queued.result(), Error::Cancelled);
            running.result().unwrap();
        });
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let pool = K::pool(1);
            let running = held.occupy(&pool);
            let queued = pool.submit(double, 4);
            sender.send((running, queued)).unwrap();
            panic!("on purpose: with a pool on the stack");
        }));
        assert!(outcome.is_err());
        watcher.join().unwrap();
    });
}

fn drop_of_the_last_arc_waits<K: Kind>() {
    let pool = Arc::new(K::pool(1));
    let held = Hold::new();
    let future = pool.submit(hold, held.argument());
    let other = Arc::clone(&pool);
    drop(pool);
    held.release();
    drop(other);
    assert!(future.done());
}

// ---- dyn, and executors of one's own -------------------------------------------------------

fn sum_of_squares(executor: &impl Executor) -> u64 {
    let squares = executor.map(|n: u64| n * n, 1..=10);
    squares.map(Result::unwrap).sum()
}

fn box_arc_and_reference_submit_alike<K: Kind>() {
    let boxed: Box<dyn Executor> = Box::new(K::pool(2));
    assert_eq!(boxed.submit(double, 1).result().unwrap(), 2);
    assert_eq!(sum_of_squares(&boxed), 385);
    assert!(boxed.max_workers() >= 1);
    boxed.shutdown(Shutdown::wait());
    assert_error!(boxed.submit(double, 1).result(), Error::ShutDown);

    let shared: Arc<dyn Executor> = Arc::new(K::pool(2));
    assert_eq!(shared.submit(double, 2).result().unwrap(), 4);
    assert_eq!(sum_of_squares(&shared), 385);
    assert_eq!(shared.stats().completed, 11);

    let pool = K::pool(2);
    let plain: &dyn Executor = &pool;
    assert_eq!((&plain).submit(double, 3).result().unwrap(), 6);
    assert_eq!(sum_of_squares(&plain), 385);
    assert_eq!(sum_of_squares(&&pool), 385);
}

/// Hands every other task on, and fails the rest.
struct Picky<E>(E, std::sync::atomic::AtomicBool);

impl<E: Executor> Executor for Picky<E> {
    fn max_workers(&self) -> usize {
        self.0.max_workers()
    }

    fn shutdown(&self, how: Shutdown) {
        self.0.shutdown(how);
    }

    fn stats(&self) -> Stats {
        self.0.stats()
    }

    fn execute(&self, task: Task) {
        if self.1.fetch_not(Ordering::Relaxed) {
            self.0.execute(task);
        } else {
            task.fail(Error::Unsupported("every other task".into()));
        }
    }
}

fn an_executor_of_ones_own_can_forward<K: Kind>() {
    let picky = Picky(K::pool(1), true.into());
    assert_eq!(picky.submit(double, 1).result().unwrap(), 2);
    assert_error!(picky.submit(double, 1).result(), Error::Unsupported(_));
    assert_eq!(picky.submit(double, 3).result().unwrap(), 6);
    let stats = picky.stats();
    assert_eq!((stats.completed, stats.failed), (2, 0), "{stats:?}");
}

/// Keeps tasks until it is dropped.
#[derive(Default)]
struct Drawer(std::sync::Mutex<Vec<Task>>);

impl Executor for Drawer {
    fn max_workers(&self) -> usize {
        1
    }

    fn shutdown(&self, _: Shutdown) {}

    fn stats(&self) -> Stats {
        Stats::default()
    }

    fn execute(&self, task: Task) {
        self.0.lock().unwrap().push(task);
    }
}

fn a_task_that_is_dropped_is_cancelled<K: Kind>() {
    let drawer = Drawer::default();
    let pool = K::pool(1);
    let options = TaskOptions::new().name("third");
    let futures = [
        drawer.submit(double, 1),
        drawer.submit(double, 2),
        drawer.submit_with(options, double, 3),
        drawer.submit(double, 4),
    ];
    let mut tasks = std::mem::take(&mut *drawer.0.lock().unwrap());
    assert_eq!(tasks[2].id(), futures[2].id());
    assert!(futures[3].cancel());
    pool.execute(tasks.pop().unwrap());
    pool.execute(tasks.pop().unwrap());
    tasks.pop().unwrap().run();
    assert!(futures[1].done() && !futures[0].done());
    drop(tasks);
    let [first, second, third, fourth] = futures;
    assert!(first.cancelled());
    assert_error!(first.result(), Error::Cancelled);
    assert_eq!(second.result().unwrap(), 4);
    assert_eq!(third.result().unwrap(), 6);
    assert_error!(fourth.result(), Error::Cancelled);
}

// ---- threads alone -------------------------------------------------------------------------

fn closures_that_capture_go<K: Kind>() {
    let pool = Arc::new(ThreadPoolExecutor::new(2).unwrap());
    // Neither `Rc` made in the task nor `Arc<dyn Fn>` knows serde.
    let factor: Arc<dyn Fn(u64) -> u64 + Send + Sync> = Arc::new(|x| 3 * x);
    let (for_submit, for_map) = (Arc::clone(&factor), Arc::clone(&factor));
    let once = String::from("moved in");
    assert_eq!(
        (*pool).submit(move |x| for_submit(x), 2).result().unwrap(),
        6
    );
    assert_eq!(pool.spawn(move || once.len()).result().unwrap(), 8);
    let mapped = (*pool).map(move |x| for_map(x), [1, 2, 3]);
    assert_eq!(mapped.map(Result::unwrap).collect::<Vec<_>>(), [3, 6, 9]);
}

fn threads_are_named() {
    let name = |()| thread::current().name().unwrap().to_owned();
    let pool = ThreadPoolExecutor::builder()
        .max_workers(1)
        .thread_name_prefix("crew")
        .build()
        .unwrap();
    assert_eq!(pool.submit(name, ()).result().unwrap(), "crew_0");
    let pool = Threads::pool(1);
    let given = pool.submit(name, ()).result().unwrap();
    let number = given.strip_prefix("ThreadPoolExecutor-").unwrap();
    assert!(
        number.strip_suffix("_0").unwrap().parse::<u32>().is_ok(),
        "{given}"
    );
}

fn the_initializer_runs_in_each_thread() {
    let (sender, names) = mpsc::channel();
    let pool = ThreadPoolExecutor::builder()
        .max_workers(2)
        .initializer(move || {
            let worker = current_worker().unwrap();
            sender.send(worker.thread_name().to_owned()).unwrap();
        })
        .build()
        .unwrap();
    let held = Hold::new();
    let futures = [(); 2].map(|()| pool.submit(hold, held.argument()));
    held.await_begun();
    held.await_begun();
    held.release();
    for future in futures {
        future.result().unwrap();
    }
    drop(pool);
    let mut names: Vec<String> = names.into_iter().collect();
    names.sort();
    assert!(
        names[0].ends_with("_0") && names[1].ends_with("_1"),
        "{names:?}"
    );
    assert_eq!(names.len(), 2);
}

fn the_default_size_is_that_of_python() {
    let pool = ThreadPoolExecutor::builder().build().unwrap();
    let cores = thread::available_parallelism().unwrap().get();
    assert_eq!(pool.max_workers(), 32.min(cores + 4));
}

/// Counts its drops, and may panic in them.
struct Dropped(Arc<AtomicUsize>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
        assert!(!self.1, "on purpose: in drop");
    }
}

/// How often the values of one task each, that are let go in every way, were dropped.
fn drops(panics: bool) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let value = move |count: &Arc<AtomicUsize>| Dropped(Arc::clone(count), panics);
    let pool = Threads::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    // An argument of a cancelled task, an argument of a task that runs, a captured value, a
    // result that nobody asks for, one whose future is gone.
    let cancelled = pool.submit(drop, value(&count));
    assert!(cancelled.cancel());
    let argument = pool.submit(drop, value(&count));
    let captured = value(&count);
    let capturing = pool.spawn(move || drop(captured));
    let its = Arc::clone(&count);
    let kept = pool.spawn(move || value(&its));
    let its = Arc::clone(&count);
    drop(pool.spawn(move || value(&its)));
    held.release();
    running.result().unwrap();
    assert_eq!(argument.result().is_err(), panics);
    assert_eq!(capturing.result().is_err(), panics);
    kept.wait();
    assert_works(&pool);
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(kept)));
    assert_eq!(dropped.is_err(), panics, "in the caller, who let go of it");
    assert_eq!(pool.stats().workers, 1);
    drop(pool);
    count.load(Ordering::Relaxed)
}

fn a_value_nobody_takes_is_dropped_once() {
    assert_eq!(drops(false), 5);
}

fn a_value_whose_drop_panics_harms_nobody() {
    assert_eq!(drops(true), 5);
}

fn a_running_task_sees_that_it_is_to_stop() {
    let pool = Threads::pool(1);
    let held = Hold::new();
    let argument = held.argument();
    let task = pool.spawn(move || {
        let worker = current_worker().unwrap();
        let before = worker.cancel_requested();
        hold(argument);
        (before, worker.cancel_requested())
    });
    held.await_begun();
    assert!(!task.kill());
    held.release();
    assert_eq!(task.result().unwrap(), (false, true));
    let next = pool.spawn(|| current_worker().unwrap().cancel_requested());
    assert!(!next.result().unwrap(), "the next one is not meant");
}

fn a_task_may_shut_its_own_pool_down() {
    let pool = Arc::new(Threads::pool(2));
    let inner = Arc::clone(&pool);
    let held = Hold::new();
    let other = pool.spawn({
        let argument = held.argument();
        move || hold(argument)
    });
    held.await_begun();
    let future = pool.spawn(move || {
        held.release();
        inner.shutdown(Shutdown::wait());
        other.done()
    });
    assert!(future.result().unwrap(), "it waits for the other worker");
    assert_error!(pool.spawn(|| ()).result(), Error::ShutDown);
}

fn a_task_may_drop_the_last_owner_of_its_pool() {
    let pool = Arc::new(Threads::pool(2));
    let inner = Arc::clone(&pool);
    let gone = Hold::new();
    let argument = gone.argument();
    let future = pool.spawn(move || {
        hold(argument);
        drop(inner);
    });
    gone.await_begun();
    let queued = pool.spawn(|| 5);
    drop(pool);
    gone.release();
    future.result().unwrap();
    assert_eq!(queued.result().unwrap(), 5);
}

fn two_tasks_may_shut_their_own_pool_down() {
    let pool = Arc::new(Threads::pool(2));
    let held = Hold::new();
    let futures = [(); 2].map(|()| {
        let (inner, argument) = (Arc::clone(&pool), held.argument());
        pool.spawn(move || {
            hold(argument);
            inner.shutdown(Shutdown::wait());
        })
    });
    held.await_begun();
    held.await_begun();
    held.release();
    for future in futures {
        future.result().unwrap();
    }
}

// ---- the caller's own stack ----------------------------------------------------------------

fn a_serial_task_runs_inside_submit() {
    let pool = SerialExecutor::new();
    let here = thread::current().id();
    let beacon = Beacon::new();
    let future = pool.submit(light, beacon.lamp());
    assert!(beacon.is_lit() && future.done());
    let thread = pool.submit(|()| format!("{:?}", thread::current().id()), ());
    assert_eq!(thread.result().unwrap(), format!("{here:?}"));
}

fn serial_tasks_nest() {
    let pool = SerialExecutor::new();
    let nested = pool.submit(
        |n| {
            let inner = SerialExecutor::new().submit(double, n).result().unwrap();
            (inner, current_worker().unwrap().tasks_run())
        },
        4,
    );
    assert_eq!(nested.result().unwrap(), (8, 1));
    assert!(current_worker().is_none());
}
