//! `as_completed`.

use concurrent_futures::{AsCompleted, Error, Executor, Future, as_completed, as_completed_keyed};
use libtest_mimic::Trial;

use super::{done, solos, values};
use crate::support::gate::{Hold, hold};
use crate::support::tasks::{double, fail};
use crate::support::{Kind, LONG, NO_TIME, assert_error, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        as_completed_of_none_ends::<K>,
        as_completed_yields_done_ones_in_the_given_order::<K>,
        as_completed_yields_errors_too::<K>,
        as_completed_knows_how_many_remain::<K>,
        as_completed_keyed_gives_each_its_key::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        as_completed_yields_in_the_order_of_completion::<K>,
        as_completed_yields_a_cancelled_one_at_once::<K>,
        next_timeout_can_be_asked_again::<K>,
        into_pending_gives_the_rest_back::<K>,
        a_dropped_as_completed_detaches::<K>,
        as_completed_of_a_thousand::<K>,
        keyed_ones_come_in_the_order_of_completion::<K>,
        keyed_ones_that_are_pending_keep_their_keys::<K>,
    ]
}

fn as_completed_of_none_ends<K: Kind>() {
    let mut none = as_completed(Vec::<Future<u64>>::new());
    assert!(none.next().is_none());
    assert!(matches!(none.next_timeout(LONG), Ok(None)));
    assert_eq!(none.remaining(), 0);
    assert!(none.into_pending().is_empty());
}

fn as_completed_yields_done_ones_in_the_given_order<K: Kind>() {
    let pool = K::pool(1);
    let mut futures: Vec<_> = (0..20).map(|n| done::<K>(&pool, n)).collect();
    futures.reverse();
    futures.swap(3, 11);
    let given: Vec<_> = futures.iter().map(Future::id).collect();
    let yielded: Vec<_> = as_completed(futures).map(|future| future.id()).collect();
    assert_eq!(yielded, given);
}

fn as_completed_yields_errors_too<K: Kind>() {
    let pool = K::pool(1);
    let futures = [
        pool.submit(double, 1),
        pool.submit(fail, "e".into()),
        pool.submit(double, 2),
    ];
    let outcomes: Vec<_> = as_completed(futures).map(Future::result).collect();
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 2);
    assert_eq!(outcomes.len(), 3);
}

fn as_completed_knows_how_many_remain<K: Kind>() {
    let pool = K::pool(1);
    let mut rest = as_completed((0..3).map(|n| pool.submit(double, n)));
    for remaining in [2, 1, 0] {
        assert_eq!(rest.len(), remaining + 1);
        assert!(rest.next().unwrap().done());
        assert_eq!(rest.remaining(), remaining);
    }
    assert!(rest.next().is_none());
}

fn as_completed_yields_in_the_order_of_completion<K: Kind>() {
    let (solos, futures) = solos::<K, 4>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    let mut rest = as_completed(futures);
    for at in [2, 0, 3, 1] {
        solos[at].held.release();
        assert_eq!(rest.next().unwrap().id(), ids[at]);
    }
    assert!(rest.next().is_none());
}

fn as_completed_yields_a_cancelled_one_at_once<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(|held| u64::from(hold(held)), held.argument());
    held.await_begun();
    let queued = pool.submit(double, 1);
    assert!(queued.cancel());
    let (running_id, queued_id) = (running.id(), queued.id());
    let mut rest = as_completed([running, queued]);
    let first = rest.next().unwrap();
    assert_eq!(first.id(), queued_id);
    assert_error!(first.result(), Error::Cancelled);
    held.release();
    assert_eq!(rest.next().unwrap().id(), running_id);
}

fn next_timeout_can_be_asked_again<K: Kind>() {
    let (solos, futures) = solos::<K, 2>();
    let mut rest = as_completed(futures);
    assert_error!(rest.next_timeout(NO_TIME), Error::Timeout);
    assert_eq!(rest.remaining(), 2);
    for solo in &solos {
        solo.held.release();
        assert!(rest.next_timeout(LONG).unwrap().unwrap().done());
    }
    assert!(rest.next_timeout(NO_TIME).unwrap().is_none());
}

fn into_pending_gives_the_rest_back<K: Kind>() {
    let (solos, futures) = solos::<K, 3>();
    let ids: Vec<_> = futures.iter().map(Future::id).collect();
    let mut rest = as_completed(futures);
    solos[1].held.release();
    assert_eq!(rest.next().unwrap().id(), ids[1]);
    let pending = rest.into_pending();
    assert_eq!(
        pending.iter().map(Future::id).collect::<Vec<_>>(),
        [ids[0], ids[2]]
    );
    solos[0].held.release();
    solos[2].held.release();
    values(pending);
}

fn a_dropped_as_completed_detaches<K: Kind>() {
    let pool = K::pool(1);
    let held = Hold::new();
    let running = pool.submit(|held| u64::from(hold(held)), held.argument());
    held.await_begun();
    let mut rest: AsCompleted<u64> = as_completed([running, pool.submit(double, 1)]);
    assert_error!(rest.next_timeout(NO_TIME), Error::Timeout);
    drop(rest);
    held.release();
    assert_eq!(pool.submit(double, 1).result().unwrap(), 2);
    assert_eq!(pool.stats().completed, 3);
}

fn as_completed_of_a_thousand<K: Kind>() {
    let pool = K::pool(2);
    let futures: Vec<_> = (0..1000).map(|n| pool.submit(double, n)).collect();
    assert_eq!(values(as_completed(futures)).iter().sum::<u64>(), 999_000);
}

/// A key that can do nothing but tell which it is.
struct Label(u64);

fn as_completed_keyed_gives_each_its_key<K: Kind>() {
    let pool = K::pool(2);
    let futures = (0..100).map(|n| (Label(n), pool.submit(double, n)));
    let mut completed = as_completed_keyed(futures);
    let mut seen = [false; 100];
    for remaining in (0..100).rev() {
        assert_eq!(completed.len(), remaining + 1);
        let (Label(n), future) = completed.next().unwrap();
        assert!(future.done());
        assert_eq!(future.result().unwrap(), 2 * n);
        assert!(!std::mem::replace(&mut seen[n as usize], true));
        assert_eq!(completed.remaining(), remaining);
    }
    assert!(completed.next().is_none());
    assert!(matches!(completed.next_timeout(LONG), Ok(None)));
    assert!(completed.into_pending().is_empty());
}

fn keyed_ones_come_in_the_order_of_completion<K: Kind>() {
    let (solos, futures) = solos::<K, 4>();
    let mut rest = as_completed_keyed(["a", "b", "c", "d"].into_iter().zip(futures));
    for (at, key) in [(2, "c"), (0, "a"), (3, "d"), (1, "b")] {
        solos[at].held.release();
        assert_eq!(rest.next().unwrap().0, key);
    }
    assert!(rest.next().is_none());
}

fn keyed_ones_that_are_pending_keep_their_keys<K: Kind>() {
    let (solos, futures) = solos::<K, 3>();
    let mut rest = as_completed_keyed([10, 11, 12].into_iter().zip(futures));
    assert_error!(rest.next_timeout(NO_TIME), Error::Timeout);
    solos[0].held.release();
    let (key, first) = rest.next_timeout(LONG).unwrap().unwrap();
    assert!(key == 10 && first.done());
    assert_error!(rest.next_timeout(NO_TIME), Error::Timeout);
    let (keys, pending): (Vec<_>, Vec<_>) = rest.into_pending().into_iter().unzip();
    assert_eq!(keys, [11, 12]);
    assert!(!pending.iter().any(Future::done));
    for solo in &solos {
        solo.held.release();
    }
    for future in pending {
        future.result().unwrap();
    }
}
