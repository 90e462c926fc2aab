//! `shutdown` in its variants, and what dropping an executor does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;

use concurrent_futures::{Error, Executor, Future, Shutdown};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::leaks::Baseline;
use crate::support::tasks::double;
use crate::support::{Kind, assert_error, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        submit_after_shutdown_is_refused::<K>,
        shutdown_is_idempotent::<K>,
        clones_are_the_same_executor::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
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
        drop_of_the_last_clone_waits::<K>,
    ]
}

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
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
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

fn shutdown_of_an_unused_pool_returns<K: Kind>() {
    let pool = K::pool(3);
    pool.shutdown(Shutdown::wait());
    assert_error!(pool.submit(double, 1).result(), Error::ShutDown);
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

fn drop_of_the_last_clone_waits<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(1);
    let held = Hold::new();
    let future = pool.submit(hold, held.argument());
    let other = pool.clone();
    drop(pool);
    assert!(!future.done());
    held.release();
    drop(other);
    assert!(future.done());
    drop((future, held));
    before.assert_restored();
}

fn clones_are_the_same_executor<K: Kind>() {
    let pool = K::pool(2);
    let other = pool.clone();
    assert_eq!(other.submit(double, 1).result().unwrap(), 2);
    assert_eq!((pool.stats().completed, other.stats().completed), (1, 1));
    drop(other);
    assert_eq!(pool.submit(double, 2).result().unwrap(), 4);
    pool.clone().shutdown(Shutdown::wait());
    assert_error!(pool.submit(double, 3).result(), Error::ShutDown);
}
