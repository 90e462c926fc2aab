//! `map`, `map_with` and `map_unordered_with`: order here, in the files below all the rest.

mod ends;
mod errors;
mod lazy;

use std::panic::{AssertUnwindSafe, catch_unwind};

use concurrent_futures::{
    Error, Executor, MapOptions, Shared, TaskOptions, ThreadPoolExecutor, current_worker,
};
use libtest_mimic::Trial;

use crate::support::gate::{Held, Hold, hold};
use crate::support::tasks::double;
use crate::support::{Kind, Threads, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    let own = trials![K::NAME;
        map_keeps_order::<K>,
        map_of_nothing_is_empty::<K>,
        map_with_every_chunksize_gives_the_same::<K>,
        numbers_without_end_are_a_chunk_and_a_buffer::<K>,
        map_unordered_tells_the_index::<K>,
        map_unordered_takes_no_options::<K>,
        maps_interleave::<K>,
        map_keyed_gives_the_key_back::<K>,
        a_keyed_map_takes_options::<K>,
        a_keyed_map_ends_with_its_source::<K>,
        a_map_of_a_known_length_says_it::<K>,
        map_lends_a_context::<K>,
        a_map_with_a_context_takes_options::<K>,
        a_context_names_shared_memory::<K>,
        a_panic_in_a_context_costs_its_item::<K>,
    ];
    let more = [
        lazy::everywhere::<K>(),
        errors::everywhere::<K>(),
        ends::everywhere::<K>(),
    ];
    own.into_iter().chain(more.into_iter().flatten()).collect()
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind>() -> Vec<Trial> {
    let own = trials![K::NAME;
        map_keeps_order_whatever_finishes_first::<K>,
        map_unordered_yields_as_items_finish::<K>,
        every_worker_gets_work::<K>,
        items_of_a_chunk_run_in_order_on_one_worker::<K>,
    ];
    own.into_iter().chain(ends::pools::<K>()).collect()
}

/// What only processes do.
pub fn processes() -> Vec<Trial> {
    lazy::processes()
}

/// What only threads do.
pub fn threads() -> Vec<Trial> {
    trials![Threads::NAME; closures_map_too]
}

const OPTIONS: MapOptions = MapOptions::new();

fn map_keeps_order<K: Kind>() {
    let pool = K::pool(2);
    let results: Vec<u64> = pool.map(double, 0..1000).collect::<Result<_, _>>().unwrap();
    assert!(results.into_iter().eq((0..1000).map(double)));
}

fn map_of_nothing_is_empty<K: Kind>() {
    let pool = K::pool(2);
    assert!(pool.map(double, []).next().is_none());
    assert!(
        pool.map_unordered_with(OPTIONS, double, [])
            .next()
            .is_none()
    );
    assert_eq!(pool.stats().workers, 0);
}

fn map_with_every_chunksize_gives_the_same<K: Kind>() {
    let pool = K::pool(2);
    for chunk in [1, 2, 7, 100, 1000, usize::MAX] {
        let map = pool.map_with(OPTIONS.chunksize(chunk), double, 0..100);
        let results: Vec<u64> = map.collect::<Result<_, _>>().unwrap();
        assert!(results.into_iter().eq((0..100).map(double)), "{chunk}");
    }
}

fn numbers_without_end_are_a_chunk_and_a_buffer<K: Kind>() {
    let pool = K::pool(2);
    for (chunk, buffer) in [(usize::MAX, usize::MAX), (1, usize::MAX), (usize::MAX, 1)] {
        let options = OPTIONS.chunksize(chunk).buffersize(buffer);
        let map = pool.map_with(options, double, 0..100);
        let results: Vec<u64> = map.collect::<Result<_, _>>().unwrap();
        assert!(results.into_iter().eq((0..100).map(double)));
    }
}

/// Keys do not travel: these could not.
fn map_keyed_gives_the_key_back<K: Kind>() {
    struct Key(std::rc::Rc<u64>);
    let pool = K::pool(2);
    let items = (0..200).map(|n| (Key(std::rc::Rc::new(n)), n));
    let mut count = 0;
    for (n, (key, result)) in (0..).zip(pool.map_keyed(double, items)) {
        assert_eq!((*key.0, result.unwrap()), (n, 2 * n));
        count += 1;
    }
    assert_eq!(count, 200);
    let inverse = |n: u64| 100 / n;
    let outcomes: Vec<_> = pool.map_keyed(inverse, [("one", 1), ("none", 0)]).collect();
    assert_eq!(outcomes[0], ("one", Ok(100)));
    let (key, outcome) = &outcomes[1];
    assert!(*key == "none" && outcome.as_ref().is_err_and(Error::is_panic));
}

fn a_keyed_map_takes_options<K: Kind>() {
    let pool = K::pool(2);
    let named = OPTIONS.task(TaskOptions::new().name("invert"));
    let mut inverses = pool.map_keyed_with(named, |n: u64| 100 / n, [("none", 0), ("one", 1)]);
    let Some(("none", Err(Error::Panicked(panic)))) = inverses.next() else {
        panic!("there is no inverse")
    };
    let task = panic.task().unwrap();
    assert_eq!(task.name(), Some("invert"));
    assert!(task.location().file().ends_with("maps.rs"), "{task}");
    assert_eq!(inverses.next(), Some(("one", Ok(100))));
    let few = OPTIONS.chunksize(7).buffersize(20);
    let doubled = pool.map_keyed_with(few, double, (0..100).map(|n| (n, n)));
    assert!(doubled.eq((0..100).map(|n| (n, Ok(2 * n)))));
    // What is refused is refused to the first item, if there is one.
    let mut refused = pool.map_keyed_with(OPTIONS.chunksize(0), double, [("first", 1)]);
    let first = refused.next();
    assert!(matches!(
        first,
        Some(("first", Err(Error::InvalidConfig(_))))
    ));
    assert!(refused.next().is_none());
    let nothing: [((), u64); 0] = [];
    let mut refused = pool.map_keyed_with(OPTIONS.buffersize(0), double, nothing);
    assert!(refused.next().is_none());
}

/// Its source panics: no key goes with another item's result.
fn a_keyed_map_ends_with_its_source<K: Kind>() {
    let pool = K::pool(1);
    let items = (0..).map(|n: u64| {
        assert!(n % 100 != 50, "on purpose");
        (n, n)
    });
    let mut map = pool.map_keyed(double, items);
    let (mut panics, mut read) = (0, 0);
    while panics < 2 && read < 1000 {
        match catch_unwind(AssertUnwindSafe(|| map.next())) {
            Ok(Some((key, result))) => assert_eq!(result.unwrap(), 2 * key),
            Ok(None) => break,
            Err(_) => panics += 1,
        }
        read += 1;
    }
    assert_eq!(panics, 1);
    assert!(map.next().is_none());
}

fn a_map_of_a_known_length_says_it<K: Kind>() {
    fn left(results: &impl ExactSizeIterator) -> usize {
        results.len()
    }
    let pool = K::pool(2);
    let mut map = pool.map(double, vec![1; 50]);
    assert_eq!(left(&map), 50);
    map.next().unwrap().unwrap();
    assert_eq!((left(&map), map.size_hint()), (49, (49, Some(49))));
    let keyed = pool.map_keyed(double, vec![((), 1); 7]);
    assert_eq!(left(&keyed), 7);
}

fn map_unordered_tells_the_index<K: Kind>() {
    let pool = K::pool(2);
    for chunk in [1, 3, 1000] {
        let options = OPTIONS.chunksize(chunk);
        let mut seen = [false; 100];
        for (index, result) in pool.map_unordered_with(options, double, 0..100) {
            assert_eq!(result.unwrap(), 2 * index as u64);
            assert!(!std::mem::replace(&mut seen[index], true), "{index} twice");
        }
        assert!(seen.into_iter().all(|seen| seen));
    }
}

fn map_unordered_takes_no_options<K: Kind>() {
    let pool = K::pool(2);
    let mut doubles = [0; 100];
    for (index, result) in pool.map_unordered(double, 0..100) {
        doubles[index] = result.unwrap();
    }
    assert!(doubles.into_iter().eq((0..100).map(double)));
}

fn maps_interleave<K: Kind>() {
    let pool = K::pool(2);
    let (first, second) = (pool.map(double, 0..500), pool.map(double, 500..1000));
    for (n, (a, b)) in (0..).zip(first.zip(second)) {
        assert_eq!((a.unwrap(), b.unwrap()), (2 * n, 2 * (n + 500)));
    }
}

fn map_keeps_order_whatever_finishes_first<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let inputs = [Some(held.argument()), None];
    let task = |held: Option<Held>| held.map_or(0, hold);
    let mut map = pool.map_with(OPTIONS.chunksize(1), task, inputs);
    held.await_begun();
    let later = pool.submit(double, 1);
    later.result().unwrap();
    // The item behind the first is done by now; the first is not.
    assert_eq!(pool.stats().completed, 2);
    held.release();
    assert_ne!(map.next().unwrap().unwrap(), 0);
    assert_eq!(map.next().unwrap().unwrap(), 0);
}

fn map_unordered_yields_as_items_finish<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let inputs = [Some(held.argument()), None, None];
    let task = |held: Option<Held>| held.map_or(0, hold);
    let mut map = pool.map_unordered_with(OPTIONS.chunksize(1), task, inputs);
    assert_eq!(map.next().unwrap().0, 1);
    assert_eq!(map.next().unwrap().0, 2);
    held.release();
    assert_eq!(map.next().unwrap().0, 0);
    assert!(map.next().is_none());
}

fn every_worker_gets_work<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let map = pool.map_with(
        OPTIONS.chunksize(1),
        hold,
        [held.argument(), held.argument()],
    );
    held.await_begun();
    held.await_begun();
    held.release();
    assert_eq!(map.filter(Result::is_ok).count(), 2);
}

fn items_of_a_chunk_run_in_order_on_one_worker<K: Kind>() {
    let pool = K::pool(2);
    let who = |()| {
        let worker = current_worker().unwrap();
        (worker.index(), worker.tasks_run())
    };
    let options = OPTIONS.chunksize(10);
    let seats: Vec<_> = pool
        .map_with(options, who, [(); 20])
        .map(Result::unwrap)
        .collect();
    for chunk in seats.chunks(10) {
        let (index, first) = chunk[0];
        let expected = (first..first + 10).map(|run| (index, run));
        assert!(chunk.iter().copied().eq(expected), "{chunk:?}");
    }
}

fn closures_map_too() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let words = std::sync::Arc::new(["a", "bb", "ccc"]);
    let shared = std::sync::Arc::clone(&words);
    let lengths = pool.map(move |at: usize| shared[at].len(), 0..3);
    assert_eq!(lengths.map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
    let shared = std::sync::Arc::clone(&words);
    let keyed = pool.map_keyed(move |at: usize| shared[at], [("first", 0), ("last", 2)]);
    assert!(keyed.eq([("first", Ok("a")), ("last", Ok("ccc"))]));
    let unordered = pool.map_unordered_with(OPTIONS, move |at: usize| words[at], 0..3);
    assert_eq!(
        unordered
            .map(|(index, word)| word.unwrap().len() - index)
            .sum::<usize>(),
        3
    );
}

/// As large as it likes, with items that take it as it is, and none of it twice.
fn map_lends_a_context<K: Kind>() {
    fn find((words, offset): &(Vec<String>, usize), at: usize) -> String {
        words[at - offset].clone()
    }
    let pool = K::pool(2);
    for count in [1, 5000] {
        let words: Vec<_> = (0..count).map(|n| format!("word {n}")).collect();
        let context = (words.clone(), 7);
        let found = pool.map_with_context(find, context, 7..7 + count);
        let found: Vec<_> = found.collect::<Result<_, _>>().unwrap();
        assert_eq!(found, words);
    }
    let nothing = pool.map_with_context(|(), n: u64| n + 1, (), [1, 2]);
    assert_eq!(nothing.sum::<Result<u64, _>>().unwrap(), 5);
}

fn a_map_with_a_context_takes_options<K: Kind>() {
    fn divide(dividend: &u64, divisor: u64) -> u64 {
        dividend / divisor
    }
    let pool = K::pool(2);
    let options = OPTIONS.chunksize(3).task(TaskOptions::new().name("divide"));
    let mut divided = pool.map_with_context_with(options, divide, 60, [0, 1, 2, 3]);
    let Some(Err(Error::Panicked(panic))) = divided.next() else {
        panic!("nothing can be divided by 0")
    };
    let task = panic.task().unwrap();
    assert_eq!(task.name(), Some("divide"));
    assert!(task.location().file().ends_with("maps.rs"), "{task}");
    assert!(divided.map(Result::unwrap).eq([60, 30, 20]));
    let mut refused = pool.map_with_context_with(OPTIONS.chunksize(0), divide, 60, [1]);
    assert!(matches!(refused.next(), Some(Err(Error::InvalidConfig(_)))));
    assert!(refused.next().is_none());
}

fn a_context_names_shared_memory<K: Kind>() {
    fn pick((numbers, step): &(Shared<u32>, usize), at: usize) -> (u32, Shared<u32>) {
        (numbers[at * step], numbers.clone())
    }
    let pool = K::pool(2);
    let numbers = Shared::from_vec((0..10_000_u32).collect());
    let picked = pool.map_with_context(pick, (numbers, 3), 0..3000);
    for (at, item) in picked.enumerate() {
        let (number, numbers) = item.unwrap();
        assert_eq!((number as usize, numbers.len()), (3 * at, 10_000));
    }
}

fn a_panic_in_a_context_costs_its_item<K: Kind>() {
    let pool = K::pool(1);
    let quotients = pool.map_with_context(|all: &u32, n: u32| all / n, 12, [1, 0, 4]);
    let quotients: Vec<_> = quotients.collect();
    assert_eq!(*quotients[0].as_ref().unwrap(), 12);
    assert!(matches!(quotients[1], Err(Error::Panicked(_))));
    assert_eq!(*quotients[2].as_ref().unwrap(), 3);
}
