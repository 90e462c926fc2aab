//! `submit_async`: who waits for room, is woken, and in which order.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::thread;

use concurrent_futures::{Error, Executor, Future, Shutdown, SubmitAsync, ThreadPoolExecutor};
use libtest_mimic::Trial;

use crate::limits::Bounded;
use crate::support::asynchronous::{Wakes, block_on, poll_once};
use crate::support::gate::Hold;
use crate::support::tasks::double;
use crate::support::{Kind, Threads, assert_error, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        submit_async_submits_when_it_is_polled::<K>,
        submit_async_to_an_executor_that_is_shut_down_is_refused::<K>,
        submit_async_works_through_a_box::<K>,
    ]
}

pub fn pools<K: Kind + Bounded>() -> Vec<Trial> {
    trials![K::NAME;
        a_task_that_leaves_the_queue_makes_room::<K>,
        a_task_that_begins_wakes_who_awaits_room::<K>,
        room_goes_to_who_waits_longest::<K>,
        who_is_woken_too_late_keeps_its_place::<K>,
        a_submission_that_is_dropped_submits_nothing::<K>,
        room_that_is_not_taken_goes_to_the_next::<K>,
        shutdown_wakes_who_awaits_room::<K>,
        room_is_found_by_threads_and_async_tasks::<K>,
    ]
}

pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME;
        a_closure_that_captures_can_be_submitted,
        a_broken_pool_wakes_who_awaits_room,
        a_worker_that_submits_does_not_await_room,
    ]
}

/// The future of a submission that finds room.
fn submitted<R>(submission: &mut SubmitAsync<'_, R>) -> Future<R> {
    match poll_once(submission, &Wakes::new()) {
        Poll::Ready(future) => future,
        Poll::Pending => panic!("there is no room"),
    }
}

/// A submission that waits, and its waker.
fn waiting<P: Executor>(pool: &P, n: u64) -> (SubmitAsync<'_, u64>, Wakes) {
    let (mut submission, wakes) = (Executor::submit_async(pool, double, n), Wakes::new());
    assert!(poll_once(&mut submission, &wakes).is_pending());
    (submission, wakes)
}

fn submit_async_submits_when_it_is_polled<K: Kind>() {
    let pool = K::pool(1);
    drop(Executor::submit_async(&pool, double, 1));
    let future = block_on(pool.submit_async(double, 21));
    assert_eq!(block_on(future).unwrap(), 42);
    pool.shutdown(Shutdown::wait());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (1, 0), "{stats:?}");
}

fn submit_async_to_an_executor_that_is_shut_down_is_refused<K: Kind>() {
    let pool = K::pool(1);
    pool.shutdown(Shutdown::wait());
    let future = submitted(&mut pool.submit_async(double, 1));
    assert_error!(future.result(), Error::ShutDown);
}

fn submit_async_works_through_a_box<K: Kind>() {
    let pool: Box<dyn Executor> = Box::new(K::pool(1));
    let future = block_on(pool.submit_async(double, 21));
    assert_eq!(future.result().unwrap(), 42);
}

fn a_task_that_leaves_the_queue_makes_room<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let (mut submission, wakes) = waiting(&pool, 2);
    assert_eq!(pool.stats().pending, 1);
    assert!(!wakes.is_woken());
    assert!(queued.cancel());
    assert!(wakes.is_woken());
    let future = submitted(&mut submission);
    assert_eq!(pool.stats().pending, 1);
    held.release();
    running.result().unwrap();
    assert_eq!(future.result().unwrap(), 4);
}

fn a_task_that_begins_wakes_who_awaits_room<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let (mut submission, wakes) = waiting(&pool, 2);
    held.release();
    wakes.await_wake();
    let future = submitted(&mut submission);
    running.result().unwrap();
    assert_eq!(queued.result().unwrap(), 2);
    assert_eq!(future.result().unwrap(), 4);
}

fn room_goes_to_who_waits_longest<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let mut queued = pool.submit(double, 1);
    let mut line: Vec<_> = (0..3).map(|n| waiting(&pool, n)).collect();
    // Who asks again waits where it was.
    let (first, wakes) = &mut line[0];
    assert!(poll_once(first, wakes).is_pending());
    while !line.is_empty() {
        assert!(queued.cancel());
        let woken: Vec<_> = line.iter().map(|(_, wakes)| wakes.is_woken()).collect();
        assert!(woken.iter().enumerate().all(|(at, it)| *it == (at == 0)));
        queued = submitted(&mut line.remove(0).0);
    }
    held.release();
    assert_eq!(queued.result().unwrap(), 4);
}

fn who_is_woken_too_late_keeps_its_place<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let (mut first, wakes) = waiting(&pool, 2);
    let (_second, second_wakes) = waiting(&pool, 3);
    assert!(queued.cancel());
    assert!(wakes.is_woken());
    let faster = pool.try_submit(double, 4).unwrap();
    assert!(poll_once(&mut first, &wakes).is_pending());
    assert!(faster.cancel());
    assert!(wakes.is_woken() && !second_wakes.is_woken());
    let future = submitted(&mut first);
    held.release();
    assert_eq!(future.result().unwrap(), 4);
}

fn a_submission_that_is_dropped_submits_nothing<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let (submission, wakes) = waiting(&pool, 2);
    assert_eq!(wakes.clones(), 1);
    drop(submission);
    assert_eq!(wakes.clones(), 0);
    held.release();
    running.result().unwrap();
    assert_eq!(queued.result().unwrap(), 2);
    pool.shutdown(Shutdown::wait());
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.cancelled), (2, 0), "{stats:?}");
    assert!(!wakes.is_woken());
}

fn room_that_is_not_taken_goes_to_the_next<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let _running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let (first, first_wakes) = waiting(&pool, 2);
    let (mut second, second_wakes) = waiting(&pool, 3);
    assert!(queued.cancel());
    assert!(first_wakes.is_woken() && !second_wakes.is_woken());
    drop(first);
    assert!(second_wakes.is_woken());
    let future = submitted(&mut second);
    held.release();
    assert_eq!(future.result().unwrap(), 6);
}

fn shutdown_wakes_who_awaits_room<K: Bounded>() {
    let pool = K::bounded(1, 1);
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = pool.submit(double, 1);
    let (mut first, first_wakes) = waiting(&pool, 2);
    let (mut second, second_wakes) = waiting(&pool, 3);
    pool.shutdown(Shutdown::no_wait());
    assert!(first_wakes.is_woken() && second_wakes.is_woken());
    for submission in [&mut first, &mut second] {
        assert_error!(submitted(submission).result(), Error::ShutDown);
    }
    held.release();
    running.result().unwrap();
    assert_eq!(queued.result().unwrap(), 2);
}

/// No wake is lost, whoever waits beside whom.
fn room_is_found_by_threads_and_async_tasks<K: Bounded>() {
    let pool = K::bounded(2, 1);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for n in 0..200 {
                    assert_eq!(pool.submit(double, n).result().unwrap(), 2 * n);
                }
            });
            scope.spawn(|| {
                for n in 0..200 {
                    let future = block_on(Executor::submit_async(&pool, double, n));
                    // Given up, like a request whose client has gone.
                    let mut other = Executor::submit_async(&pool, double, n);
                    let _ = poll_once(&mut other, &Wakes::new());
                    drop(other);
                    assert_eq!(block_on(future).unwrap(), 2 * n);
                }
            });
        }
    });
}

fn a_closure_that_captures_can_be_submitted() {
    let pool = Threads::bounded(1, 1);
    let factor = Arc::new(3);
    let own = Arc::clone(&factor);
    let future = block_on(pool.submit_async(move |n: u64| *own * n, 14));
    assert_eq!(block_on(future).unwrap(), 42);
    drop(pool);
    assert_eq!(Arc::strong_count(&factor), 1);
}

fn a_broken_pool_wakes_who_awaits_room() {
    let (fail, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let builder = ThreadPoolExecutor::builder().max_workers(1).max_pending(1);
    let builder = builder.initializer(move || {
        let _ = gate.lock().unwrap().recv();
        panic!("on purpose: in the initializer");
    });
    let pool = builder.build().unwrap();
    let queued: Vec<_> = std::iter::from_fn(|| pool.try_submit(double, 1).ok()).collect();
    assert!(!queued.is_empty());
    let (mut submission, wakes) = waiting(&pool, 2);
    drop(fail);
    wakes.await_wake();
    let future = submitted(&mut submission);
    assert_error!(future.result(), Error::BrokenPool(_));
}

fn a_worker_that_submits_does_not_await_room() {
    let pool = Threads::bounded(1, 1);
    let own = pool.clone();
    let inner = pool.spawn(move || {
        let futures: Vec<_> = (0..5)
            .map(|n| submitted(&mut Executor::submit_async(&own, double, n)))
            .collect();
        drop(own);
        futures
    });
    let futures = inner.result().unwrap().into_iter();
    assert_eq!(futures.map(|it| it.result().unwrap()).sum::<u64>(), 20);
}
