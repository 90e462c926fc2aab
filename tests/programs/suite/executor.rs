//! `Executor`: what becomes of a `submit`, and, in the files below, all the rest.

mod errors;
pub mod naming;
pub mod reports;
pub mod retry;
pub mod scopes;
pub mod serial;
pub mod shapes;
mod shutdown;
pub mod states;
mod stats;
pub mod threads;

use std::panic::catch_unwind;
use std::thread;

use concurrent_futures::{Executor, Future, Stats, current_worker};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::leaks::Baseline;
use crate::support::tasks::{double, tasks_run};
use crate::support::{Kind, Processes, Threads, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    let own = trials![K::NAME;
        submit_returns_the_result::<K>,
        submit_takes_every_kind_of_function::<K>,
        current_worker_is_known_in_tasks_alone::<K>,
        ten_thousand_tasks_all_answer::<K>,
    ];
    let more = [
        errors::everywhere::<K>(),
        naming::everywhere::<K>(),
        reports::everywhere::<K>(),
        stats::everywhere::<K>(),
    ];
    let shapes = [
        shutdown::everywhere::<K>(),
        shapes::everywhere::<K>(),
        retry::everywhere::<K>(),
    ];
    own.into_iter()
        .chain(more.into_iter().chain(shapes).flatten())
        .collect()
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind>() -> Vec<Trial> {
    let own = trials![K::NAME;
        a_pool_without_tasks_starts_nothing::<K>,
        no_workers_is_an_invalid_configuration::<K>,
        tasks_begin_in_the_order_of_submission::<K>,
        results_can_be_asked_for_in_any_order::<K>,
        as_many_tasks_run_as_there_are_workers::<K>,
        an_idle_worker_is_reused::<K>,
        threads_submit_side_by_side::<K>,
        pools_nest::<K>,
    ];
    let more = [
        naming::pools::<K>(),
        stats::pools::<K>(),
        shutdown::pools::<K>(),
        shapes::pools::<K>(),
    ];
    own.into_iter().chain(more.into_iter().flatten()).collect()
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
