//! `wait`, with each end that it knows.

use concurrent_futures::{Executor, Future, ReturnWhen, wait};
use libtest_mimic::Trial;

use super::{done, failed, solos, values};
use crate::support::gate::{Hold, hold};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, LONG, NO_TIME, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        wait_for_none_returns::<K>,
        wait_for_done_ones_returns::<K>,
        wait_for_the_first_exception_ends_at_it::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        wait_for_the_first_returns_while_others_run::<K>,
        wait_for_all_waits_for_all::<K>,
        wait_for_the_first_exception_goes_past_values::<K>,
        wait_for_the_first_exception_goes_past_cancelled_ones::<K>,
        wait_for_the_first_exception_without_one_waits_for_all::<K>,
        wait_returns_at_its_timeout::<K>,
        wait_keeps_the_given_order::<K>,
    ]
}

const EVERY_END: [ReturnWhen; 3] = [
    ReturnWhen::FirstCompleted,
    ReturnWhen::FirstException,
    ReturnWhen::AllCompleted,
];

fn wait_for_none_returns<K: Kind>() {
    for until in EVERY_END {
        let waited = wait(Vec::<Future<u64>>::new(), None, until);
        assert!(waited.done.is_empty() && waited.not_done.is_empty());
    }
}

fn wait_for_done_ones_returns<K: Kind>() {
    let pool = K::pool(1);
    for (until, timeout) in EVERY_END
        .into_iter()
        .flat_map(|u| [(u, None), (u, Some(NO_TIME))])
    {
        let waited = wait([done::<K>(&pool, 1), done::<K>(&pool, 2)], timeout, until);
        assert_eq!(waited.not_done.len(), 0, "{until:?}");
        assert_eq!(values(waited.done), [2, 4], "{until:?}");
    }
}

fn wait_for_the_first_exception_ends_at_it<K: Kind>() {
    let pool = K::pool(1);
    let futures = [done::<K>(&pool, 1), failed::<K>(&pool), done::<K>(&pool, 2)];
    let waited = wait(futures, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (3, 0));
}

fn wait_for_the_first_returns_while_others_run<K: Kind>() {
    let (solos, futures) = solos::<K, 3>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    solos[1].held.release();
    let waited = wait(futures, None, ReturnWhen::FirstCompleted);
    assert_eq!(waited.done[0].id(), ids[1]);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 2));
    assert!(waited.not_done.iter().all(Future::running));
    drop(solos);
    values(waited.not_done);
}

fn wait_for_all_waits_for_all<K: Kind>() {
    let (solos, futures) = solos::<K, 3>();
    let waited = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait(futures, None, ReturnWhen::AllCompleted));
        solos[2].held.release();
        solos[0].held.release();
        assert!(!waiting.is_finished());
        solos[1].held.release();
        waiting.join().unwrap()
    });
    assert_eq!((waited.done.len(), waited.not_done.len()), (3, 0));
}

fn wait_for_the_first_exception_goes_past_values<K: Kind>() {
    let (solos, [running, _]) = solos::<K, 2>();
    let pool = K::pool(1);
    let futures = [done::<K>(&pool, 1), running, pool.submit(fail, "x".into())];
    let waited = wait(futures, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 1));
    assert!(waited.not_done[0].running());
    drop(solos);
}

fn wait_for_the_first_exception_goes_past_cancelled_ones<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(|held| u64::from(hold(held)), held.argument());
    held.await_begun();
    let cancelled = pool.submit(double, 1);
    assert!(cancelled.cancel());
    // The running one is let go once `wait` has got them all.
    let release = std::iter::from_fn(|| {
        held.release();
        None
    });
    let futures = [cancelled, running].into_iter().chain(release);
    let waited = wait(futures, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (2, 0));
}

fn wait_for_the_first_exception_without_one_waits_for_all<K: Kind>() {
    let pool = K::pool(2);
    let futures = (0..50).map(|n| pool.submit(double, n));
    let waited = wait(futures, None, ReturnWhen::FirstException);
    assert_eq!((waited.done.len(), waited.not_done.len()), (50, 0));
}

fn wait_returns_at_its_timeout<K: Kind>() {
    let (solos, futures) = solos::<K, 2>();
    let [first, second] = futures;
    solos[0].held.release();
    first.wait();
    let waited = wait([first, second], Some(NO_TIME), ReturnWhen::AllCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 1));
    let waited = wait(waited.not_done, Some(NO_TIME), ReturnWhen::FirstCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (0, 1));
    solos[1].held.release();
    let waited = wait(waited.not_done, Some(LONG), ReturnWhen::FirstCompleted);
    assert_eq!((waited.done.len(), waited.not_done.len()), (1, 0));
}

fn wait_keeps_the_given_order<K: Kind>() {
    let (solos, futures) = solos::<K, 4>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    solos[3].held.release();
    futures[3].wait();
    solos[1].held.release();
    futures[1].wait();
    let waited = wait(futures, Some(NO_TIME), ReturnWhen::AllCompleted);
    let ids_of = |futures: &[Future<u64>]| futures.iter().map(Future::id).collect::<Vec<_>>();
    assert_eq!(ids_of(&waited.done), [ids[1], ids[3]]);
    assert_eq!(ids_of(&waited.not_done), [ids[0], ids[2]]);
    drop(solos);
    values(waited.not_done);
}
