//! Maps that end before their input: by a time limit, a drop, a shutdown.

use std::time::Duration;

use concurrent_futures::{Error, Executor, Shutdown};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use super::OPTIONS;
use crate::support::gate::{Beacon, Held, Hold, Lamp, hold};
use crate::support::tasks::double;
use crate::support::{Kind, assert_error, assert_works, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        map_without_time_still_gives_what_is_done::<K>,
    ]
}

pub fn pools<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        map_times_out_once_and_ends::<K>,
        map_unordered_times_out_once_and_ends::<K>,
        dropping_a_map_cancels_what_has_not_started::<K>,
        dropping_a_map_after_quick_items_cancels_what_has_not_started::<K>,
        dropping_a_map_unordered_cancels_what_has_not_started::<K>,
        shutdown_cancels_the_rest_of_a_map::<K>,
    ]
}

/// The argument of [`maybe_hold`].
#[derive(Serialize, Deserialize)]
struct Step {
    /// Where to wait first.
    held: Option<Held>,
    /// To be lit then.
    ran: Option<Lamp>,
}

fn maybe_hold(step: Step) {
    if let Some(held) = step.held {
        hold(held);
    }
    step.ran.iter().for_each(Lamp::light);
}

/// One item that is quick, so that all are sent once it is read; one that is held; some behind it.
fn steps(held: &Hold, ran: &Beacon) -> Vec<Step> {
    let step = |held| Step {
        held,
        ran: Some(ran.lamp()),
    };
    let quick = Step {
        held: None,
        ran: None,
    };
    [quick, step(Some(held.argument()))]
        .into_iter()
        .chain((0..5).map(|_| step(None)))
        .collect()
}

fn map_without_time_still_gives_what_is_done<K: Kind>() {
    let pool = K::pool(1);
    let options = OPTIONS.timeout(Duration::from_secs(3600));
    let map = pool.map_with(options, double, 0..10);
    assert_eq!(map.map(Result::unwrap).sum::<u64>(), 90);
}

fn map_times_out_once_and_ends<K: Kind>() {
    let pool = K::pool(1);
    assert_works(&pool);
    let (held, ran) = (Hold::new(), Beacon::new());
    let options = OPTIONS.chunksize(1).timeout(Duration::from_millis(200));
    let mut map = pool.map_with(options, maybe_hold, steps(&held, &ran));
    map.next().unwrap().unwrap();
    held.await_begun();
    assert_error!(map.next().unwrap(), Error::Timeout);
    assert!(map.next().is_none() && map.next().is_none());
    assert_eq!(pool.stats().cancelled, 5);
    held.release();
    assert_works(&pool);
    ran.await_lit();
    assert!(!ran.is_lit(), "only the running one ran");
}

fn map_unordered_times_out_once_and_ends<K: Kind>() {
    let pool = K::pool(1);
    assert_works(&pool);
    let (held, ran) = (Hold::new(), Beacon::new());
    let options = OPTIONS.chunksize(1).timeout(Duration::from_millis(200));
    let mut map = pool.map_unordered(options, maybe_hold, steps(&held, &ran));
    map.next().unwrap().1.unwrap();
    held.await_begun();
    assert_error!(map.next().unwrap().1, Error::Timeout);
    assert!(map.next().is_none());
    assert_eq!(pool.stats().cancelled, 5);
    held.release();
    assert_works(&pool);
    ran.await_lit();
    assert!(!ran.is_lit(), "only the running one ran");
}

fn dropping_a_map_cancels_what_has_not_started<K: Kind>() {
    for chunk in [1, 2, 100] {
        let pool = K::pool(1);
        let (held, ran) = (Hold::new(), Beacon::new());
        let mut map = pool.map_with(OPTIONS.chunksize(chunk), maybe_hold, steps(&held, &ran));
        map.next().unwrap().unwrap();
        held.await_begun();
        drop(map);
        let stats = pool.stats();
        assert_eq!((stats.pending, stats.running), (0, 1), "{stats:?}");
        held.release();
        assert_works(&pool);
        ran.await_lit();
        assert!(!ran.is_lit(), "only the running one ran, chunksize {chunk}");
        let stats = pool.stats();
        assert_eq!((stats.cancelled, stats.completed), (5, 3), "{stats:?}");
    }
}

/// Quick items make a pool bold: it may send more of them ahead.
fn dropping_a_map_after_quick_items_cancels_what_has_not_started<K: Kind>() {
    fn act((held, lamp): (Option<Held>, Option<Lamp>)) {
        held.map(hold);
        lamp.iter().for_each(Lamp::light);
    }
    let pool = K::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let items = (0..100).map(|n| {
        let held = (n == 50).then(|| held.argument());
        (held, (n > 50).then(|| ran.lamp()))
    });
    let map = pool.map_with(OPTIONS.chunksize(100), act, items);
    held.await_begun();
    drop(map);
    held.release();
    assert_works(&pool);
    assert!(!ran.is_lit(), "the running one was the last to run");
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.completed), (49, 52), "{stats:?}");
}

fn dropping_a_map_unordered_cancels_what_has_not_started<K: Kind>() {
    let pool = K::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let mut map = pool.map_unordered(OPTIONS.chunksize(100), maybe_hold, steps(&held, &ran));
    map.next().unwrap().1.unwrap();
    held.await_begun();
    drop(map);
    held.release();
    assert_works(&pool);
    ran.await_lit();
    assert!(!ran.is_lit(), "only the running one ran");
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.completed), (5, 3), "{stats:?}");
}

fn shutdown_cancels_the_rest_of_a_map<K: Kind>() {
    let pool = K::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let options = OPTIONS.chunksize(1).buffersize(3);
    let mut map = pool.map_with(options, maybe_hold, steps(&held, &ran));
    map.next().unwrap().unwrap();
    held.await_begun();
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    held.release();
    map.next().unwrap().unwrap();
    assert_error!(map.next().unwrap(), Error::Cancelled);
    for _ in 0..4 {
        assert_error!(map.next().unwrap(), Error::ShutDown);
    }
    assert!(map.next().is_none());
}
