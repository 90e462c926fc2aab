//! Errors of single items, and options that make no sense.

use concurrent_futures::{Error, Executor, TaskOptions};
use libtest_mimic::Trial;

use super::OPTIONS;
use crate::support::tasks::double;
use crate::support::{Kind, assert_error, assert_works, panic_message, trials};

pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        map_goes_on_after_an_error::<K>,
        map_unordered_goes_on_after_an_error::<K>,
        map_tells_name_and_place_of_its_task::<K>,
        input_that_panics_takes_only_its_map_along::<K>,
        map_refuses_zero_sizes::<K>,
        map_unordered_refuses_zero_sizes::<K>,
    ]
}

fn odd_ones_fail(x: u64) -> u64 {
    assert!(x % 2 == 0, "on purpose: {x} is odd");
    x
}

fn map_goes_on_after_an_error<K: Kind>() {
    let pool = K::pool(2);
    for chunk in [1, 4, 1000] {
        let map = pool.map_with(OPTIONS.chunksize(chunk), odd_ones_fail, 0..20);
        let results: Vec<_> = map.collect();
        assert_eq!(results.len(), 20);
        for (n, result) in (0..).zip(results) {
            match n % 2 {
                0 => assert_eq!(result.unwrap(), n),
                _ => assert_eq!(panic_message(result), format!("on purpose: {n} is odd")),
            }
        }
    }
}

fn map_unordered_goes_on_after_an_error<K: Kind>() {
    let pool = K::pool(2);
    let map = pool.map_unordered(OPTIONS, odd_ones_fail, 0..20);
    let (even, odd): (Vec<_>, Vec<_>) = map.partition(|(_, result)| result.is_ok());
    assert_eq!((even.len(), odd.len()), (10, 10));
    assert!(odd.into_iter().all(|(index, _)| index % 2 == 1));
}

fn map_tells_name_and_place_of_its_task<K: Kind>() {
    let pool = K::pool(1);
    let options = OPTIONS.task(TaskOptions::new().name("halve"));
    let (line, mut map) = (line!(), pool.map_with(options, odd_ones_fail, [1]));
    let Some(Err(Error::Panicked(panic))) = map.next() else {
        panic!("no panic")
    };
    let task = panic.task().unwrap();
    assert_eq!((task.name(), task.location().line()), (Some("halve"), line));
    assert_eq!(task.location().file(), file!());
}

fn input_that_panics_takes_only_its_map_along<K: Kind>() {
    let pool = K::pool(1);
    let input = (0..10).inspect(|n| assert!(*n < 5, "on purpose: bad input"));
    let options = OPTIONS.chunksize(1).buffersize(1);
    let mut map = pool.map_with(options, double, input);
    for n in 0..4 {
        assert_eq!(map.next().unwrap().unwrap(), 2 * n);
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| map.count()));
    assert!(outcome.is_err());
    assert_works(&pool);
}

fn map_refuses_zero_sizes<K: Kind>() {
    let pool = K::pool(1);
    for (options, what) in [
        (OPTIONS.chunksize(0), "chunksize is 0"),
        (OPTIONS.buffersize(0), "buffersize is 0"),
    ] {
        let mut map = pool.map_with(options, double, [7; 5]);
        assert_eq!(map.len(), 1);
        let Some(Err(Error::InvalidConfig(reason))) = map.next() else {
            panic!("accepted")
        };
        assert_eq!(reason.as_str(), what);
        assert!(map.next().is_none());
    }
    assert_eq!(pool.stats().completed, 0);
}

fn map_unordered_refuses_zero_sizes<K: Kind>() {
    let pool = K::pool(1);
    for options in [OPTIONS.chunksize(0), OPTIONS.buffersize(0)] {
        let mut map = pool.map_unordered(options, double, 0..5);
        assert_error!(map.next().unwrap().1, Error::InvalidConfig(_));
        assert!(map.next().is_none());
    }
}
