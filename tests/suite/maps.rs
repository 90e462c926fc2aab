//! `map`, `map_with` and `map_unordered`: order, laziness, bounds, chunks, errors, time limits.

use std::cell::Cell;
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, MapOptions, Shutdown, TaskOptions, ThreadPoolExecutor, current_worker,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::gate::{Beacon, Held, Hold, Lamp, hold};
use crate::support::{Kind, Threads, assert_error, assert_works, panic_message, trials};

/// What holds for every executor.
pub fn everywhere<K: Kind>() -> Vec<Trial> {
    trials![K::NAME;
        map_keeps_order::<K>,
        map_of_nothing_is_empty::<K>,
        map_takes_input_without_end::<K>,
        map_reads_no_further_than_its_buffer::<K>,
        map_unordered_reads_no_further_than_its_buffer::<K>,
        map_starts_at_the_call::<K>,
        map_with_every_chunksize_gives_the_same::<K>,
        map_goes_on_after_an_error::<K>,
        map_tells_name_and_place_of_its_task::<K>,
        map_knows_its_length::<K>,
        map_ends_for_good::<K>,
        map_refuses_zero_sizes::<K>,
        map_unordered_refuses_zero_sizes::<K>,
        map_unordered_tells_the_index::<K>,
        map_unordered_goes_on_after_an_error::<K>,
        map_of_a_hundred_thousand_items::<K>,
        map_unordered_of_a_hundred_thousand_items::<K>,
        map_without_time_still_gives_what_is_done::<K>,
        input_that_panics_takes_only_its_map_along::<K>,
        maps_interleave::<K>,
    ]
}

/// What holds where tasks run elsewhere than in the caller.
pub fn pools<K: Kind>() -> Vec<Trial> {
    let only_once = trials![K::NAME;
        map_keeps_order_whatever_finishes_first::<K>,
        map_times_out_once_and_ends::<K>,
        map_unordered_times_out_once_and_ends::<K>,
        map_unordered_yields_as_items_finish::<K>,
        dropping_a_map_cancels_what_has_not_started::<K>,
        dropping_a_map_unordered_cancels_what_has_not_started::<K>,
        dropping_a_map_after_quick_items_cancels_what_has_not_started::<K>,
        shutdown_cancels_the_rest_of_a_map::<K>,
        every_worker_gets_work::<K>,
        items_of_a_chunk_run_in_order_on_one_worker::<K>,
    ];
    let threads = if K::NAME == Threads::NAME {
        trials![K::NAME; closures_map_too]
    } else {
        Vec::new()
    };
    only_once.into_iter().chain(threads).collect()
}

fn double(x: u64) -> u64 {
    2 * x
}

fn odd_ones_fail(x: u64) -> u64 {
    assert!(x % 2 == 0, "on purpose: {x} is odd");
    x
}

const OPTIONS: MapOptions = MapOptions::new();

// ---- order and laziness --------------------------------------------------------------------

fn map_keeps_order<K: Kind>() {
    let pool = K::pool(2);
    let results: Vec<u64> = pool.map(double, 0..1000).collect::<Result<_, _>>().unwrap();
    assert!(results.into_iter().eq((0..1000).map(double)));
}

fn map_of_nothing_is_empty<K: Kind>() {
    let pool = K::pool(2);
    assert!(pool.map(double, []).next().is_none());
    assert!(pool.map_unordered(OPTIONS, double, []).next().is_none());
    assert_eq!(pool.stats().workers, 0);
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
            assert!((1..=buffer).contains(&ahead), "{chunk} {buffer}: {ahead}");
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
            assert!((1..=buffer).contains(&ahead), "{chunk} {buffer}: {ahead}");
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

fn map_with_every_chunksize_gives_the_same<K: Kind>() {
    let pool = K::pool(2);
    for chunk in [1, 2, 7, 100, 1000, usize::MAX] {
        let map = pool.map_with(OPTIONS.chunksize(chunk), double, 0..100);
        let results: Vec<u64> = map.collect::<Result<_, _>>().unwrap();
        assert!(results.into_iter().eq((0..100).map(double)), "{chunk}");
    }
}

fn map_keeps_order_whatever_finishes_first<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let inputs = [Some(held.argument()), None, None];
    let task = |held: Option<Held>| held.map_or(0, hold);
    let mut map = pool.map_with(OPTIONS.chunksize(1), task, inputs);
    held.await_begun();
    let later = pool.submit(double, 1);
    later.result().unwrap();
    // The items behind the first are done by now; the first is not.
    assert_eq!(pool.stats().completed, 3);
    held.release();
    assert_ne!(map.next().unwrap().unwrap(), 0);
    assert_eq!(map.next().unwrap().unwrap(), 0);
    assert_eq!(map.next().unwrap().unwrap(), 0);
}

fn maps_interleave<K: Kind>() {
    let pool = K::pool(2);
    let (first, second) = (pool.map(double, 0..500), pool.map(double, 500..1000));
    for (n, (a, b)) in (0..).zip(first.zip(second)) {
        assert_eq!((a.unwrap(), b.unwrap()), (2 * n, 2 * (n + 500)));
    }
}

// ---- errors --------------------------------------------------------------------------------

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
    assert!(task.location().file().ends_with("maps.rs"));
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

// ---- length and end ------------------------------------------------------------------------

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

// ---- map_unordered -------------------------------------------------------------------------

fn map_unordered_tells_the_index<K: Kind>() {
    let pool = K::pool(2);
    for chunk in [1, 3, 1000] {
        let options = OPTIONS.chunksize(chunk);
        let mut seen = [false; 100];
        for (index, result) in pool.map_unordered(options, double, 0..100) {
            assert_eq!(result.unwrap(), 2 * index as u64);
            assert!(!std::mem::replace(&mut seen[index], true), "{index} twice");
        }
        assert!(seen.into_iter().all(|seen| seen));
    }
}

fn map_unordered_yields_as_items_finish<K: Kind>() {
    let pool = K::pool(2);
    let held = Hold::new();
    let inputs = [Some(held.argument()), None, None];
    let task = |held: Option<Held>| held.map_or(0, hold);
    let mut map = pool.map_unordered(OPTIONS.chunksize(1), task, inputs);
    assert_eq!(map.next().unwrap().0, 1);
    assert_eq!(map.next().unwrap().0, 2);
    held.release();
    assert_eq!(map.next().unwrap().0, 0);
    assert!(map.next().is_none());
}

// ---- size ----------------------------------------------------------------------------------

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

// ---- time limit ----------------------------------------------------------------------------

/// The argument of [`maybe_hold`].
#[derive(Serialize, Deserialize)]
struct Step {
    /// Where to wait first.
    held: Option<Held>,
    /// To be lit then.
    ran: Lamp,
}

fn maybe_hold(step: Step) {
    if let Some(held) = step.held {
        hold(held);
    }
    step.ran.light();
}

/// One item that is held, and some behind it.
fn steps(held: &Hold, ran: &Beacon) -> Vec<Step> {
    let step = |held| Step {
        held,
        ran: ran.lamp(),
    };
    let first = step(Some(held.argument()));
    std::iter::once(first)
        .chain((0..5).map(|_| step(None)))
        .collect()
}

fn map_times_out_once_and_ends<K: Kind>() {
    let pool = K::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let options = OPTIONS.chunksize(1).timeout(Duration::from_millis(50));
    let mut map = pool.map_with(options, maybe_hold, steps(&held, &ran));
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
    let (held, ran) = (Hold::new(), Beacon::new());
    let options = OPTIONS.chunksize(1).timeout(Duration::from_millis(50));
    let mut map = pool.map_unordered(options, maybe_hold, steps(&held, &ran));
    held.await_begun();
    assert_error!(map.next().unwrap().1, Error::Timeout);
    assert!(map.next().is_none());
    assert_eq!(pool.stats().cancelled, 5);
    held.release();
    assert_works(&pool);
    ran.await_lit();
    assert!(!ran.is_lit(), "only the running one ran");
}

fn map_without_time_still_gives_what_is_done<K: Kind>() {
    let pool = K::pool(1);
    let options = OPTIONS.timeout(Duration::from_secs(3600));
    let map = pool.map_with(options, double, 0..10);
    assert_eq!(map.map(Result::unwrap).sum::<u64>(), 90);
}

// ---- drop ----------------------------------------------------------------------------------

fn dropping_a_map_cancels_what_has_not_started<K: Kind>() {
    for chunk in [1, 2, 100] {
        let pool = K::pool(1);
        let (held, ran) = (Hold::new(), Beacon::new());
        let map = pool.map_with(OPTIONS.chunksize(chunk), maybe_hold, steps(&held, &ran));
        held.await_begun();
        drop(map);
        let stats = pool.stats();
        assert_eq!((stats.pending, stats.running), (0, 1), "{stats:?}");
        held.release();
        assert_works(&pool);
        ran.await_lit();
        assert!(!ran.is_lit(), "only the running one ran, chunksize {chunk}");
        let stats = pool.stats();
        assert_eq!((stats.cancelled, stats.completed), (5, 2), "{stats:?}");
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
    let map = pool.map_unordered(OPTIONS.chunksize(100), maybe_hold, steps(&held, &ran));
    held.await_begun();
    drop(map);
    held.release();
    assert_works(&pool);
    ran.await_lit();
    assert!(!ran.is_lit(), "only the running one ran");
    let stats = pool.stats();
    assert_eq!((stats.cancelled, stats.completed), (5, 2), "{stats:?}");
}

fn shutdown_cancels_the_rest_of_a_map<K: Kind>() {
    let pool = K::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let options = OPTIONS.chunksize(1).buffersize(3);
    let mut map = pool.map_with(options, maybe_hold, steps(&held, &ran));
    held.await_begun();
    pool.shutdown(Shutdown::no_wait().cancel_futures());
    held.release();
    map.next().unwrap().unwrap();
    assert_error!(map.next().unwrap(), Error::Cancelled);
    assert_error!(map.next().unwrap(), Error::Cancelled);
    for _ in 0..3 {
        assert_error!(map.next().unwrap(), Error::ShutDown);
    }
    assert!(map.next().is_none());
}

// ---- threads alone -------------------------------------------------------------------------

fn closures_map_too() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let words = std::sync::Arc::new(["a", "bb", "ccc"]);
    let shared = std::sync::Arc::clone(&words);
    let lengths = pool.map(move |at: usize| shared[at].len(), 0..3);
    assert_eq!(lengths.map(Result::unwrap).collect::<Vec<_>>(), [1, 2, 3]);
    let unordered = pool.map_unordered(OPTIONS, move |at: usize| words[at], 0..3);
    assert_eq!(
        unordered
            .map(|(index, word)| word.unwrap().len() - index)
            .sum::<usize>(),
        3
    );
}
