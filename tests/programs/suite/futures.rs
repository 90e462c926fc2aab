//! `Future`: every action on it at every point of its task's way, every way of waiting ended in
//! every way, callbacks, and what is left once the value was taken.

mod actions;
mod callbacks;
mod races;
mod scene;
mod waits;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread;

use concurrent_futures::{CancelOnDrop, Error, Executor, Future};
use libtest_mimic::Trial;

use crate::support::asynchronous::block_on;
use crate::support::gate::{Hold, hold};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, NO_TIME, assert_error, panic_message, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    let own = trials![K::NAME;
        a_value_is_taken_once::<K>,
        an_error_is_told_again_and_again::<K>,
        ids_are_unique::<K>,
        a_future_goes_to_other_threads::<K>,
        async_code_awaits::<K>,
    ];
    [own, actions::settled::<K>(), callbacks::late::<K>()]
        .into_iter()
        .flatten()
        .collect()
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind>() -> Vec<Trial> {
    let own = trials![K::NAME;
        debug_shows_the_state::<K>,
        a_cancel_wakes_all_who_wait::<K>,
        many_threads_wait_for_one_future::<K>,
        async_code_awaits_many::<K>,
    ];
    let groups = [own, actions::unsettled::<K>(), waits::pools::<K>()];
    let more = [callbacks::early::<K>(), races::pools::<K>()];
    groups.into_iter().chain(more).flatten().collect()
}

fn a_value_is_taken_once<K: Kind>() {
    let pool = K::pool(1);
    let mut future = pool.submit(double, 3);
    future.wait();
    assert_eq!(future.result_timeout(NO_TIME).unwrap(), 6);
    assert_error!(future.result_timeout(NO_TIME), Error::Taken);
    assert!(future.exception().is_none());
    assert!(future.done() && !future.cancelled() && future.wait_timeout(NO_TIME));
    assert!(!future.cancel() && !future.kill());
    let (sender, seen) = std::sync::mpsc::channel();
    future.add_done_callback(move |outcome| sender.send(outcome.cloned().err().cloned()).unwrap());
    assert!(matches!(seen.recv().unwrap(), Some(Error::Taken)));
    assert_error!(block_on(&mut future), Error::Taken);
    assert_error!(future.result(), Error::Taken);
}

fn an_error_is_told_again_and_again<K: Kind>() {
    let pool = K::pool(1);
    let mut future = pool.submit(fail, "twice".into());
    future.wait();
    for _ in 0..2 {
        let told = future.result_timeout(NO_TIME);
        assert_eq!(panic_message(told), "on purpose: twice");
        assert!(matches!(future.exception(), Some(Error::Panicked(_))));
        assert!(panic_message(block_on(&mut future)).ends_with("twice"));
    }
    assert!(panic_message(future.result()).ends_with("twice"));
}

fn ids_are_unique<K: Kind>() {
    let pool = K::pool(1);
    let futures: Vec<_> = (0..100).map(|n| pool.submit(double, n)).collect();
    let ids: HashSet<_> = futures.iter().map(Future::id).collect();
    assert_eq!(ids.len(), 100);
    for future in futures {
        future.wait();
    }
}

fn a_future_goes_to_other_threads<K: Kind>() {
    fn is_send_and_sync<T: Send + Sync + Unpin>(_: &T) {}
    fn is_send<T: Send>() {}
    is_send::<Future<std::cell::Cell<u8>>>();
    is_send::<CancelOnDrop<std::cell::Cell<u8>>>();
    let pool = K::pool(1);
    let future = pool.submit(double, 4);
    is_send_and_sync(&future);
    let elsewhere = thread::spawn(move || future.result().unwrap());
    assert_eq!(elsewhere.join().unwrap(), 8);
}

fn async_code_awaits<K: Kind>() {
    let pool = K::pool(1);
    let sum = block_on(async {
        let first = pool.submit(double, 1).await?;
        let second = pool.submit(double, first).cancel_on_drop().await?;
        Ok::<_, Error>(first + second)
    });
    assert_eq!(sum.unwrap(), 6);
    assert!(panic_message(block_on(pool.submit(fail, "async".into()))).ends_with("async"));
}

fn async_code_awaits_many<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let first = pool.submit(hold, held.argument());
    held.await_begun();
    let rest: Vec<_> = (0..100).map(|n| pool.submit(double, n)).collect();
    let sum = block_on(async {
        let mut sum = 0;
        for future in rest {
            sum += future.await?;
        }
        held.release();
        first.await?;
        Ok::<_, Error>(sum)
    });
    assert_eq!(sum.unwrap(), 9900);
}

fn debug_shows_the_state<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(hold, held.argument());
    held.await_begun();
    let pending = pool.submit(double, 1);
    let cancelled = pool.submit(double, 2);
    cancelled.cancel();
    let shows = |future: &dyn std::fmt::Debug, state| {
        let text = format!("{future:?}");
        assert!(
            text.contains(state) && text.starts_with("Future {"),
            "{text}"
        );
    };
    shows(&running, "running");
    shows(&pending, "pending");
    shows(&cancelled, "cancelled");
    held.release();
    running.wait();
    shows(&running, "finished");
    pending.wait();
}

fn a_cancel_wakes_all_who_wait<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(hold, held.argument());
    held.await_begun();
    let future = pool.submit(double, 1);
    thread::scope(|scope| {
        scope.spawn(|| future.wait());
        scope.spawn(|| assert!(future.wait_timeout(crate::support::LONG)));
        scope.spawn(|| assert!(matches!(future.exception(), Some(Error::Cancelled))));
        assert!(future.cancel());
    });
    assert!(running.running(), "it was not the task that woke them");
    held.release();
    running.wait();
}

fn many_threads_wait_for_one_future<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let future = Arc::new(pool.submit(hold, held.argument()));
    let waiters: Vec<_> = (0..8)
        .map(|_| Arc::clone(&future))
        .map(|future| thread::spawn(move || future.wait()))
        .collect();
    held.release();
    for waiter in waiters {
        waiter.join().unwrap();
    }
    assert!(future.done());
}
