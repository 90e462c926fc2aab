//! `closed`: the end of an executor, awaited.

use std::future::Future;
use std::pin::Pin;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread;

use concurrent_futures::{Executor, Shutdown};
use libtest_mimic::Trial;

use crate::support::asynchronous::{Wakes, block_on, poll_once};
use crate::support::gate::Hold;
use crate::support::leaks::Baseline;
use crate::support::tasks::double;
use crate::support::{Kind, LONG, NO_TIME, trials};

/// A waker that drops a handle of a pool, then says so.
struct Last<P>(Mutex<Option<P>>, Sender<()>);

impl<P: Send + 'static> Wake for Last<P> {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
        let _ = self.1.send(());
    }
}

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        closed_waits_for_the_shutdown::<K>,
        closed_after_the_end_is_complete_at_once::<K>,
        closed_outlives_its_executor::<K>,
        closed_works_through_a_box::<K>,
        a_waker_may_drop_the_executor::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        closed_waits_for_what_runs_and_what_is_queued::<K>,
        closed_is_awaited_by_many_and_given_up_by_some::<K>,
        closed_and_a_shutdown_that_waits_end_together::<K>,
        a_callback_may_shut_down_while_the_end_is_awaited::<K>,
        shutdown_timeout_does_not_wait_for_who_awaits_the_end::<K>,
    ]
}

fn closed_waits_for_the_shutdown<K: Kind>() {
    let pool = K::pool(1);
    assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
    let (mut closed, wakes) = (pool.closed(), Wakes::new());
    assert!(poll_once(&mut closed, &wakes).is_pending());
    assert_eq!(pool.submit(double, 2).result().unwrap(), 4);
    assert!(!wakes.is_woken() && poll_once(&mut closed, &wakes).is_pending());
    pool.shutdown(Shutdown::no_wait());
    block_on(closed);
    assert_eq!(pool.stats().workers, 0);
}

fn closed_after_the_end_is_complete_at_once<K: Kind>() {
    let pool = K::pool(1);
    assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
    pool.shutdown(Shutdown::wait());
    block_on(pool.closed());
    let mut again = pool.closed();
    assert!(poll_once(&mut again, &Wakes::new()).is_ready());
    assert!(poll_once(&mut again, &Wakes::new()).is_ready());
}

fn closed_outlives_its_executor<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(1);
    let (mut closed, wakes) = (pool.closed(), Wakes::new());
    assert!(poll_once(&mut closed, &wakes).is_pending());
    let future = pool.submit(double, 1);
    pool.shutdown(Shutdown::no_wait());
    drop(pool);
    block_on(closed);
    assert_eq!(future.result().unwrap(), 2);
    before.assert_restored();
}

fn closed_works_through_a_box<K: Kind>() {
    let pool: Box<dyn Executor> = Box::new(K::pool(1));
    assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
    let mut closed = pool.closed();
    assert!(poll_once(&mut closed, &Wakes::new()).is_pending());
    pool.shutdown(Shutdown::no_wait());
    block_on(closed);
}

/// On the thread that tells of the end; it may have the last handle.
fn a_waker_may_drop_the_executor<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(1);
    assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
    let (sender, dropped) = channel();
    let (mut closed, other) = (pool.closed(), pool.clone());
    let waker = Waker::from(Arc::new(Last(Mutex::new(Some(pool)), sender)));
    let poll = Pin::new(&mut closed).poll(&mut Context::from_waker(&waker));
    assert!(poll.is_pending());
    drop(waker);
    other.shutdown(Shutdown::no_wait());
    drop(other);
    dropped.recv().unwrap();
    drop(closed);
    before.assert_restored();
}

fn closed_waits_for_what_runs_and_what_is_queued<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 4);
    pool.shutdown(Shutdown::no_wait());
    let (mut closed, wakes) = (pool.closed(), Wakes::new());
    assert!(poll_once(&mut closed, &wakes).is_pending());
    assert!(!wakes.is_woken() && !running.done());
    held.release();
    wakes.await_wake();
    assert!(poll_once(&mut closed, &wakes).is_ready());
    assert!(running.done() && queued.done());
    assert_eq!(pool.stats().workers, 0);
    assert_eq!(queued.result().unwrap(), 8);
    drop((pool, held));
    before.assert_restored();
}

fn closed_is_awaited_by_many_and_given_up_by_some<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let (mut early, early_wakes) = (pool.closed(), Wakes::new());
    let (mut given_up, no_wakes) = (pool.closed(), Wakes::new());
    assert!(poll_once(&mut early, &early_wakes).is_pending());
    assert!(poll_once(&mut given_up, &no_wakes).is_pending());
    pool.shutdown(Shutdown::no_wait());
    let (mut late, late_wakes) = (pool.closed(), Wakes::new());
    assert!(poll_once(&mut late, &late_wakes).is_pending());
    assert_eq!(no_wakes.clones(), 1);
    drop(given_up);
    assert_eq!(no_wakes.clones(), 0);
    held.release();
    early_wakes.await_wake();
    late_wakes.await_wake();
    assert!(poll_once(&mut early, &early_wakes).is_ready());
    assert!(poll_once(&mut late, &late_wakes).is_ready());
    assert!(!no_wakes.is_woken());
}

fn closed_and_a_shutdown_that_waits_end_together<K: Kind>() {
    let before = Baseline::now();
    let pool = K::pool(2);
    let held = Hold::new();
    let running = held.occupy(&pool);
    thread::scope(|scope| {
        scope.spawn(|| block_on(pool.closed()));
        scope.spawn(|| pool.shutdown(Shutdown::wait()));
        scope.spawn(|| block_on(pool.closed()));
        held.release();
    });
    running.result().unwrap();
    drop((pool, held));
    before.assert_restored();
}

/// Neither waits for the other: the end is that of the callback's thread, too.
fn a_callback_may_shut_down_while_the_end_is_awaited<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let (mut closed, wakes) = (pool.closed(), Wakes::new());
    assert!(poll_once(&mut closed, &wakes).is_pending());
    let (other, (sender, shut_down)) = (pool.clone(), channel());
    running.add_done_callback(move |_| {
        other.shutdown(Shutdown::wait());
        drop(other);
        let _ = sender.send(());
    });
    pool.shutdown(Shutdown::no_wait());
    held.release();
    shut_down.recv().unwrap();
    block_on(closed);
    assert!(running.done());
}

fn shutdown_timeout_does_not_wait_for_who_awaits_the_end<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let _running = held.occupy(&pool);
    pool.shutdown(Shutdown::no_wait());
    let mut closed = pool.closed();
    assert!(poll_once(&mut closed, &Wakes::new()).is_pending());
    assert!(!pool.shutdown_timeout(Shutdown::wait(), NO_TIME));
    held.release();
    block_on(closed);
    assert!(pool.shutdown_timeout(Shutdown::wait(), LONG));
}
