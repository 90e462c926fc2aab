//! What only threads do.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use concurrent_futures::{Error, Executor, Shutdown, ThreadPoolExecutor, current_worker};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::{Kind, Threads, assert_error, assert_works, trials};

pub fn trials() -> Vec<Trial> {
    trials![Threads::NAME;
        closures_that_capture_go,
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

fn closures_that_capture_go() {
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
    // result that is not read, one whose future is gone.
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
