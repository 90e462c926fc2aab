//! How far a map reads its input ahead, and where it ends.

use std::cell::Cell;
use std::sync::mpsc::channel;
use std::thread::sleep;
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolExecutor};
use libtest_mimic::Trial;

use super::OPTIONS;
use crate::support::gate::{Beacon, Lamp};
use crate::support::tasks::double;
use crate::support::{Kind, LONG, Processes, trials};

/// What only processes do: their results have a size.
pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        map_of_big_results_reads_no_further_than_the_budget,
        map_unordered_of_big_results_reads_no_further_than_the_budget,
    ]
}

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        map_takes_input_without_end::<K>,
        map_reads_no_further_than_its_buffer::<K>,
        map_unordered_reads_no_further_than_its_buffer::<K>,
        map_starts_at_the_call::<K>,
        map_pulls_at_the_call_what_workers_can_begin::<K>,
        map_of_a_slow_source_gives_what_has_come::<K>,
        map_of_a_slow_source_misses_nothing::<K>,
        map_of_a_source_that_becomes_slow_gives_what_has_come::<K>,
        map_of_a_source_that_waits_for_results::<K>,
        map_knows_its_length::<K>,
        map_ends_for_good::<K>,
        map_of_a_hundred_thousand_items::<K>,
        map_unordered_of_a_hundred_thousand_items::<K>,
    ]
}

fn map_takes_input_without_end<K: Kind>() {
    let pool = K::pool(2);
    let first: Vec<u64> = pool
        .map(double, 0..)
        .take(5000)
        .map(Result::unwrap)
        .collect();
    assert!(first.into_iter().eq((0..5000).map(double)));
    let unordered = pool.map_unordered(OPTIONS, double, 0..).take(5000);
    for (index, result) in unordered {
        assert_eq!(result.unwrap(), 2 * index as u64);
    }
}

/// Input that counts what was pulled from it.
fn counted(pulled: &Cell<usize>) -> impl Iterator<Item = u64> {
    (0..).inspect(|_| pulled.set(pulled.get() + 1))
}

fn map_reads_no_further_than_its_buffer<K: Kind>() {
    let pool = K::pool(2);
    for (chunk, buffer) in [(1, 1), (1, 7), (3, 7), (7, 7), (100, 7), (4, 64)] {
        let pulled = Cell::new(0);
        let options = OPTIONS.chunksize(chunk).buffersize(buffer);
        let mut map = pool.map_with(options, double, counted(&pulled));
        for read in 0..100 {
            let ahead = pulled.get() - read;
            assert!(ahead <= buffer, "{chunk} {buffer}: {ahead}");
            assert_eq!(map.next().unwrap().unwrap(), 2 * read as u64);
        }
    }
}

fn map_unordered_reads_no_further_than_its_buffer<K: Kind>() {
    let pool = K::pool(2);
    for (chunk, buffer) in [(1, 1), (3, 7), (100, 7)] {
        let pulled = Cell::new(0);
        let options = OPTIONS.chunksize(chunk).buffersize(buffer);
        let mut map = pool.map_unordered(options, double, counted(&pulled));
        for read in 0..100 {
            let ahead = pulled.get() - read;
            assert!(ahead <= buffer, "{chunk} {buffer}: {ahead}");
            map.next().unwrap().1.unwrap();
        }
    }
}

fn map_starts_at_the_call<K: Kind>() {
    let pool = K::pool(1);
    let beacon = Beacon::new();
    let map = pool.map(|lamp: Lamp| lamp.light(), [beacon.lamp()]);
    // Nothing was read of the map.
    beacon.await_lit();
    assert_eq!(map.count(), 1);
}

fn map_pulls_at_the_call_what_workers_can_begin<K: Kind>() {
    let pool = K::pool(3);
    let pulled = Cell::new(0);
    let pulled_by = |map: &dyn Fn()| {
        pulled.set(0);
        map();
        pulled.get()
    };
    let begun = [
        pulled_by(&|| drop(pool.map(double, counted(&pulled)))),
        pulled_by(&|| drop(pool.map_unordered(OPTIONS, double, counted(&pulled)))),
        pulled_by(&|| drop(pool.map_with_context(|a: &u64, b| a + b, 1, counted(&pulled)))),
    ];
    assert_eq!(begun, [pool.max_workers(); 3]);
}

/// Fewer than that are pulled for the first result, unless the machine stands still for two seconds.
const MANY: usize = 100;

fn map_of_a_slow_source_gives_what_has_come<K: Kind>() {
    let pool = K::pool(2);
    let pulled = Cell::new(0);
    let slow = || {
        pulled.set(0);
        let items = counted(&pulled).take(MANY);
        items.inspect(|_| sleep(Duration::from_millis(20)))
    };
    let mut map = pool.map(double, slow());
    assert_eq!(map.next().unwrap().unwrap(), 0);
    assert!(pulled.get() < MANY, "all was pulled for the first result");
    let mut map = pool.map_unordered(OPTIONS, double, slow());
    map.next().unwrap().1.unwrap();
    assert!(pulled.get() < MANY, "all was pulled for the first result");
    let mut map = pool.map_with_context(|a: &u64, b| a + b, 1, slow());
    assert_eq!(map.next().unwrap().unwrap(), 1);
    assert!(pulled.get() < MANY, "all was pulled for the first result");
}

/// A pull takes about as long as a task, so that results are there before it, or are not.
fn map_of_a_slow_source_misses_nothing<K: Kind>() {
    let pool = K::pool(2);
    for micros in [500, 1000, 2000] {
        let slow = |n: &u64| sleep(Duration::from_micros(n % 3 * micros));
        let items = || (0..60).inspect(slow);
        assert_eq!(
            pool.map(double, items()).map(Result::unwrap).sum::<u64>(),
            3540
        );
        let unordered = pool.map_unordered(OPTIONS, double, items());
        assert_eq!(
            unordered.map(|(_, result)| result.unwrap()).sum::<u64>(),
            3540
        );
    }
}

/// By then a chunk has hundreds of items: it is sent before it is full.
fn map_of_a_source_that_becomes_slow_gives_what_has_come<K: Kind>() {
    const QUICK: usize = 20_000;
    let pool = K::pool(2);
    let pulled = Cell::new(0);
    let items = counted(&pulled).take(QUICK + MANY).inspect(|n| {
        if *n >= QUICK as u64 {
            sleep(Duration::from_millis(20));
        }
    });
    let mut map = pool.map(double, items);
    for n in 0..=QUICK as u64 {
        assert_eq!(map.next().unwrap().unwrap(), 2 * n);
    }
    assert!(pulled.get() < QUICK + MANY, "all was pulled");
}

/// It is pulled once the results that were handed out are seen to, and no further than the buffer.
fn map_of_a_source_that_waits_for_results<K: Kind>() {
    let pool = K::pool(2);
    for seeds in [1, 3] {
        let options = OPTIONS.buffersize(seeds);
        let (feed, fed) = channel();
        (0..seeds as u64).for_each(|n| feed.send(n).unwrap());
        let source = || std::iter::from_fn(|| fed.recv_timeout(Duration::from_secs(1)).ok());
        let mut map = pool.map_with(options, |n: u64| n + 1, source());
        for _ in 0..50 {
            feed.send(map.next().unwrap().unwrap()).unwrap();
        }
        drop(map);
        (0..seeds as u64).for_each(|n| feed.send(n).unwrap());
        let mut map = pool.map_unordered(options, |n: u64| n + 1, source());
        for _ in 0..50 {
            feed.send(map.next().unwrap().1.unwrap()).unwrap();
        }
    }
}

fn map_knows_its_length<K: Kind>() {
    let pool = K::pool(2);
    let mut map = pool.map_with(OPTIONS.buffersize(3), double, [7; 10]);
    for left in (0..10).rev() {
        assert_eq!(map.len(), left + 1);
        assert_eq!(map.size_hint(), (left + 1, Some(left + 1)));
        assert!(!map.is_empty());
        map.next().unwrap().unwrap();
    }
    assert!(map.is_empty());
    assert_eq!(pool.map(double, 0..).size_hint().1, None);
}

fn map_ends_for_good<K: Kind>() {
    /// Goes on after its end.
    struct Restless(u64);
    impl Iterator for Restless {
        type Item = u64;
        fn next(&mut self) -> Option<u64> {
            self.0 += 1;
            (self.0 % 3 != 0).then_some(self.0)
        }
    }
    let pool = K::pool(1);
    let mut map = pool.map(double, Restless(0));
    assert_eq!(map.by_ref().map(Result::unwrap).collect::<Vec<_>>(), [2, 4]);
    assert!(map.next().is_none() && map.next().is_none());
}

fn map_of_a_hundred_thousand_items<K: Kind>() {
    let pool = K::pool(2);
    let mut count = 0;
    for (n, result) in (0..).zip(pool.map(double, 0..100_000)) {
        assert_eq!(result.unwrap(), 2 * n);
        count += 1;
    }
    assert_eq!(count, 100_000);
    assert_eq!(pool.stats().completed, 100_000);
}

fn map_unordered_of_a_hundred_thousand_items<K: Kind>() {
    let pool = K::pool(2);
    let map = pool.map_unordered(OPTIONS, double, 0..100_000);
    let sum: u64 = map.map(|(_, result)| result.unwrap()).sum();
    assert_eq!(sum, 9_999_900_000);
}

/// Results of 1 MiB, of which the budget is 64.
fn mebibyte(n: u64) -> Vec<u8> {
    vec![n as u8; 1 << 20]
}

/// Those that the budget allows, and some.
const FEW: usize = 80;

/// By way of shared memory, and over sockets.
fn map_of_big_results_reads_no_further_than_the_budget() {
    let builder = ProcessPoolExecutor::builder().max_workers(2);
    let over_sockets = builder.task_timeout(LONG).build().unwrap();
    for pool in [Processes::pool(2), over_sockets] {
        let pulled = Cell::new(0);
        let mut map = pool.map(mebibyte, counted(&pulled));
        for read in 0..200 {
            assert!(pulled.get() - read < FEW, "{} at {read}", pulled.get());
            assert_eq!(map.next().unwrap().unwrap()[0], read as u8);
        }
    }
}

fn map_unordered_of_big_results_reads_no_further_than_the_budget() {
    let pool = Processes::pool(2);
    let pulled = Cell::new(0);
    let mut map = pool.map_unordered(OPTIONS, mebibyte, counted(&pulled));
    for read in 0..200 {
        assert!(pulled.get() - read < FEW, "{} at {read}", pulled.get());
        let (index, result) = map.next().unwrap();
        assert_eq!(result.unwrap()[0], index as u8);
    }
}
