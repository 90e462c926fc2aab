//! Where a result becomes a value, on the stack of which thread, and how it counts if it cannot be decoded.

use std::sync::{Arc, mpsc};
use std::thread::{self, ThreadId};

use concurrent_futures::{
    Error, Executor, MapOptions, Observer, Process, ProcessPoolExecutor, Stats, TaskOptions,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::support::gate::{Held, Hold, hold};
use crate::support::tasks::{double, take_stack};
use crate::support::{Kind, LONG, Processes, assert_error, assert_works, panic_message, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_result_is_decoded_by_whoever_looks,
        an_item_of_a_map_is_decoded_by_whoever_reads,
        the_result_of_a_process_is_decoded_by_whoever_joins,
        a_result_has_the_stack_of_whoever_looks,
        results_that_cannot_be_decoded_count_as_failed,
        items_that_cannot_be_decoded_count_as_failed,
        a_callback_added_as_the_result_comes_may_wait_for_another_task,
        a_callback_has_the_stack_of_a_program,
        what_an_observer_hears_of_has_the_stack_of_a_program,
    ]
}

// ---- ways --------------------------------------------------------------------------------------

fn over_links() -> ProcessPoolExecutor {
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    builder.max_pending(100).build().unwrap()
}

/// The ways of a task, each by its options on a pool of its own: the queue, the connection of a pool with a
/// queue, and the connection of a pool without one.
fn ways() -> impl Iterator<Item = (ProcessPoolExecutor, TaskOptions)> {
    let plain = TaskOptions::new();
    let ways: [(fn() -> ProcessPoolExecutor, TaskOptions); 4] = [
        (|| Processes::pool(1), plain),
        (|| Processes::pool(1), plain.timeout(LONG)),
        (|| Processes::pool(1), plain.retries(1)),
        (over_links, plain),
    ];
    ways.into_iter().map(|(pool, options)| (pool(), options))
}

// ---- results -----------------------------------------------------------------------------------

/// Knows the thread that decoded it.
struct Seen(ThreadId);

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Seen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        Ok(Self(thread::current().id()))
    }
}

fn see(_: u8) -> Seen {
    Seen(thread::current().id())
}

/// Takes stack as it is decoded.
#[derive(Serialize)]
struct Deep;

impl<'de> Deserialize<'de> for Deep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer)?;
        take_stack();
        Ok(Self)
    }
}

fn dig(_: u8) -> Deep {
    Deep
}

/// Is decoded, or not.
#[derive(Debug, Clone, Copy, Serialize)]
enum Fate {
    Arrives,
    Fails,
    Panics,
}

impl<'de> Deserialize<'de> for Fate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            0 => Ok(Self::Arrives),
            1 => Err(de::Error::custom("on purpose")),
            _ => panic!("on purpose"),
        }
    }
}

fn meet(number: u8) -> Fate {
    match number {
        0 => Fate::Arrives,
        1 => Fate::Fails,
        _ => Fate::Panics,
    }
}

fn assert_met(number: u8, outcome: Result<Fate, Error>) {
    match number {
        0 => drop(outcome.unwrap()),
        1 => assert_error!(outcome, Error::Decode(_)),
        _ => assert_eq!(panic_message(outcome), "on purpose"),
    }
}

fn assert_counted(stats: Stats, completed: u64, failed: u64) {
    let counted = (stats.completed, stats.failed, stats.cancelled);
    assert_eq!(counted, (completed, failed, 0), "{stats:?}");
    assert_eq!((stats.running, stats.pending), (0, 0), "{stats:?}");
}

// ---- trials ------------------------------------------------------------------------------------

fn a_result_is_decoded_by_whoever_looks() {
    for (pool, options) in ways() {
        let first = pool.submit_with(options, see, 1);
        assert_eq!(first.result().unwrap().0, thread::current().id());
        let second = pool.submit_with(options, see, 2);
        let looks = move || second.result().unwrap().0 == thread::current().id();
        assert!(thread::spawn(looks).join().unwrap());
        let mut watched = pool.submit_with(options, see, 3);
        assert!(watched.wait_timeout(LONG));
        assert_eq!(
            watched.result_timeout(LONG).unwrap().0,
            thread::current().id()
        );
        assert_works(&pool);
    }
}

fn an_item_of_a_map_is_decoded_by_whoever_reads() {
    for (pool, task) in ways() {
        let options = MapOptions::new().chunksize(5).task(task);
        for seen in pool.map_with(options, see, 0..20) {
            assert_eq!(seen.unwrap().0, thread::current().id());
        }
        for (_, seen) in pool.map_unordered(options, see, 0..20) {
            assert_eq!(seen.unwrap().0, thread::current().id());
        }
    }
}

fn the_result_of_a_process_is_decoded_by_whoever_joins() {
    let mut process = Process::new(see, 1).start().unwrap();
    let seen = process.join_timeout(LONG).unwrap();
    assert_eq!(seen.0, thread::current().id());
    let process = Process::new(meet, 2).start().unwrap();
    assert_met(2, process.join());
}

fn a_result_has_the_stack_of_whoever_looks() {
    let look = || {
        for (pool, options) in ways() {
            pool.submit_with(options, dig, 1).result().unwrap();
            let map = MapOptions::new().chunksize(3).task(options);
            assert_eq!(pool.map_with(map, dig, 0..6).flatten().count(), 6);
        }
        Process::new(dig, 1).start().unwrap().join().unwrap();
    };
    let looks = thread::Builder::new().stack_size(8 << 20).spawn(look);
    looks.unwrap().join().unwrap();
}

fn results_that_cannot_be_decoded_count_as_failed() {
    for (pool, options) in ways() {
        for (round, number) in (0_u64..).zip([1, 0, 2, 1, 0, 2]) {
            assert_met(number, pool.submit_with(options, meet, number).result());
            let completed = round.div_ceil(3);
            assert_counted(pool.stats(), completed, round + 1 - completed);
        }
    }
    // In turn, and looked at in another order than they were counted.
    let (pool, limit) = (Processes::pool(1), TaskOptions::new().timeout(LONG));
    let futures: Vec<_> = (0..12)
        .map(|n| match n < 6 {
            true => (n % 3, pool.submit(meet, n % 3)),
            false => (n % 3, pool.submit_with(limit, meet, n % 3)),
        })
        .collect();
    assert_works(&pool);
    for (number, future) in futures.into_iter().rev() {
        assert_met(number, future.result());
    }
    assert_counted(pool.stats(), 4 + 1, 8);
}

/// The callback comes before the result, after it, or in between.
fn a_callback_added_as_the_result_comes_may_wait_for_another_task() {
    let builder = ProcessPoolExecutor::builder().max_workers(2);
    for (pool, options) in [
        (Processes::pool(2), TaskOptions::new().timeout(LONG)),
        (
            builder.max_pending(100).build().unwrap(),
            TaskOptions::new(),
        ),
    ] {
        let pool = Arc::new(pool);
        for round in 0..100 {
            let (tell, told) = mpsc::channel();
            let future = pool.submit_with(options, see, 1);
            for _ in 0..10 * round {
                thread::yield_now();
            }
            let its_pool = Arc::clone(&pool);
            future.add_done_callback(move |_| {
                let another = its_pool.submit_with(options, double, 1);
                let _ = tell.send(another.result().unwrap());
            });
            assert_eq!(told.recv_timeout(LONG).unwrap(), 2);
            future.result().unwrap();
        }
        assert_counted(pool.stats(), 200, 0);
    }
}

fn items_that_cannot_be_decoded_count_as_failed() {
    for (pool, task) in ways() {
        let options = MapOptions::new().chunksize(4).task(task);
        let numbers = [0, 1, 2, 0, 2, 1, 0, 0, 1];
        let results = pool.map_with(options, meet, numbers);
        for (number, outcome) in numbers.into_iter().zip(results) {
            assert_met(number, outcome);
        }
        assert_counted(pool.stats(), 4, 5);
        for (index, outcome) in pool.map_unordered(options, meet, numbers) {
            assert_met(numbers[index], outcome);
        }
        assert_counted(pool.stats(), 8, 10);
    }
}

fn dig_when_let(held: Held) -> Deep {
    hold(held);
    Deep
}

fn a_callback_has_the_stack_of_a_program() {
    for (pool, options) in ways() {
        let held = Hold::new();
        let future = pool.submit_with(options, dig_when_let, held.argument());
        let (tell, told) = mpsc::channel();
        future.add_done_callback(move |outcome| {
            take_stack();
            let _ = tell.send((outcome.is_ok(), thread::current().id()));
        });
        held.release();
        let (is_ok, thread) = told.recv_timeout(LONG).unwrap();
        assert!(is_ok && thread != thread::current().id());
    }
}

fn what_an_observer_hears_of_has_the_stack_of_a_program() {
    /// Hears of nothing.
    struct Deaf;
    impl Observer for Deaf {}
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.observer(Deaf).build().unwrap();
    let future = pool.submit(dig, 1);
    assert!(future.wait_timeout(LONG));
    assert_eq!(pool.map(dig, 0..3).flatten().count(), 3);
    assert_counted(pool.stats(), 4, 0);
}
