//! What cannot be: initializers that fail, workers that do not start, values that do not travel.

use concurrent_futures::{
    Error, Executor, ProcessPoolExecutor, Shutdown, ThreadPoolExecutor, current_worker,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::support::gate::{Gate, Ticket};
use crate::support::tasks::{double, own_pid};
use crate::support::{Kind, Processes, Threads, assert_error, assert_works, os, trials};

/// Pools whose workers run something first.
pub trait Initialised: Kind {
    fn with_initializer(workers: usize, run: fn(Start), start: Start) -> Self::Pool;
    /// A pool of one worker, whose initializer may fail.
    fn with_try_initializer(run: fn(Ticket) -> Result<(), String>, gate: Ticket) -> Self::Pool;
}

impl Initialised for Threads {
    fn with_initializer(workers: usize, run: fn(Start), start: Start) -> ThreadPoolExecutor {
        let builder = ThreadPoolExecutor::builder().max_workers(workers);
        builder
            .initializer(move || run(start.clone()))
            .build()
            .unwrap()
    }

    fn with_try_initializer(
        run: fn(Ticket) -> Result<(), String>,
        gate: Ticket,
    ) -> ThreadPoolExecutor {
        let builder = ThreadPoolExecutor::builder().max_workers(1);
        let builder = builder.try_initializer(move || run(gate.clone()));
        builder.build().unwrap()
    }
}

impl Initialised for Processes {
    fn with_initializer(workers: usize, run: fn(Start), start: Start) -> ProcessPoolExecutor {
        let builder = ProcessPoolExecutor::builder().max_workers(workers);
        builder.initializer(run, start).build().unwrap()
    }

    fn with_try_initializer(
        run: fn(Ticket) -> Result<(), String>,
        gate: Ticket,
    ) -> ProcessPoolExecutor {
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        builder.try_initializer(run, gate).build().unwrap()
    }
}

/// What an initializer does.
#[derive(Clone, Serialize, Deserialize)]
pub struct Start {
    /// Where it waits first.
    gate: Ticket,
    /// Then it ends so.
    end: End,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
enum End {
    Panic,
    Exit,
    Segfault,
}

fn start(start: Start) {
    start.gate.wait();
    match start.end {
        End::Panic => panic!("on purpose: in the initializer"),
        End::Exit => std::process::exit(3),
        End::Segfault => os::segfault(),
    }
}

pub fn pools<K: Initialised>() -> Vec<Trial> {
    trials![K::NAME;
        a_panicking_initializer_breaks_the_pool::<K>,
        an_initializer_that_fails_breaks_the_pool_in_its_words::<K>,
    ]
}

pub fn processes() -> Vec<Trial> {
    trials![Processes::NAME;
        an_initializer_that_exits_breaks_the_pool,
        an_initializer_that_crashes_breaks_the_pool,
        warm_up_of_a_broken_pool_says_why,
        workers_that_cannot_be_started_break_the_pool,
        an_argument_cannot_be_encoded,
        an_argument_cannot_be_decoded,
        a_result_cannot_be_encoded,
        a_result_cannot_be_decoded,
        an_item_of_a_map_cannot_be_encoded,
        nothing_starts_for_an_argument_that_cannot_be_encoded,
    ]
}

// ---- initializers --------------------------------------------------------------------------

/// A pool whose one worker ends in its initializer as soon as the gate opens.
fn doomed<K: Initialised>(end: End) -> (K::Pool, Gate) {
    let gate = Gate::new();
    let ticket = gate.ticket();
    let pool = K::with_initializer(1, start, Start { gate: ticket, end });
    (pool, gate)
}

/// Fails what is queued and what comes, for a reason that holds these words.
fn assert_breaks<K: Initialised>(end: End, words: &[&str]) {
    assert_is_broken(doomed::<K>(end), words);
}

/// Fails what is queued and what comes once the gate is open, for a reason that holds these words.
fn assert_is_broken((pool, gate): (impl Executor, Gate), words: &[&str]) {
    let queued = [1, 2, 3].map(|n| pool.submit(double, n));
    assert!(
        queued
            .iter()
            .all(|future| !future.done() && !future.running())
    );
    gate.open();
    let later = || pool.submit(double, 4);
    let errors = queued.map(|future| future.result().unwrap_err());
    for error in errors.into_iter().chain([later().result().unwrap_err()]) {
        let Error::BrokenPool(reason) = &error else {
            panic!("{error:?}")
        };
        for word in words {
            assert!(reason.as_str().contains(word), "{word} is not in: {error}");
        }
    }
    assert!(later().done(), "at once");
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (0, 3), "{stats:?}");
    pool.shutdown(Shutdown::wait());
    assert_eq!(pool.stats().workers, 0);
}

fn a_panicking_initializer_breaks_the_pool<K: Initialised>() {
    let place = "broken.rs:";
    assert_breaks::<K>(
        End::Panic,
        &["initializer", "on purpose: in the initializer", place],
    );
}

fn an_initializer_that_fails_breaks_the_pool_in_its_words<K: Initialised>() {
    let fail = |gate: Ticket| -> Result<(), String> {
        gate.wait();
        Err("on purpose: no engine".into())
    };
    let gate = Gate::new();
    let pool = K::with_try_initializer(fail, gate.ticket());
    let words = "the initializer failed: on purpose: no engine";
    assert_is_broken((pool, gate), &[words]);
    let pool = K::with_try_initializer(|_| Ok(()), Gate::new().ticket());
    assert_works(&pool);
}

fn an_initializer_that_exits_breaks_the_pool() {
    assert_breaks::<Processes>(End::Exit, &["initializer", "exited with code 3"]);
}

fn an_initializer_that_crashes_breaks_the_pool() {
    assert_breaks::<Processes>(End::Segfault, &["initializer", "SIGSEGV"]);
}

fn warm_up_of_a_broken_pool_says_why() {
    let (pool, gate) = doomed::<Processes>(End::Exit);
    gate.open();
    for _ in 0..2 {
        let Err(Error::BrokenPool(reason)) = pool.warm_up() else {
            panic!("warm")
        };
        assert!(reason.as_str().contains("exited with code 3"), "{reason}");
    }
    assert!(pool.worker_pids().is_empty());
}

fn workers_that_cannot_be_started_break_the_pool() {
    let builder = ProcessPoolExecutor::builder().max_workers(2);
    let pool = builder.current_dir("/nowhere/at/all").build().unwrap();
    let futures = [1, 2, 3].map(|n| pool.submit(double, n));
    for future in futures {
        assert_error!(future.result(), Error::BrokenPool(_));
    }
    assert_error!(pool.submit(double, 1).result(), Error::BrokenPool(_));
    assert_error!(pool.warm_up(), Error::BrokenPool(_));
}

// ---- values that do not travel -------------------------------------------------------------

/// Where a value refuses.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Refusal {
    Encode,
    Decode,
    None,
}

/// A value that may refuse to be encoded or decoded.
struct Shy(Refusal);

impl Serialize for Shy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 == Refusal::Encode {
            return Err(ser::Error::custom("on purpose: not out"));
        }
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Shy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Refusal::deserialize(deserializer)? {
            Refusal::Decode => Err(de::Error::custom("on purpose: not in")),
            other => Ok(Self(other)),
        }
    }
}

fn take(_: Shy) -> u32 {
    std::process::id()
}

fn give(refusal: Refusal) -> Shy {
    Shy(refusal)
}

/// The error, of a pool whose one worker goes on.
fn error_of<A, R>(task: fn(A) -> R, argument: A) -> Error
where
    A: concurrent_futures::Payload,
    R: concurrent_futures::Payload,
{
    let pool = Processes::pool(1);
    let pid = pool.submit(own_pid, ()).result().unwrap();
    let (future, behind) = (pool.submit(task, argument), pool.submit(own_pid, ()));
    let error = future.result().map(drop).unwrap_err();
    assert_eq!(behind.result().unwrap(), pid, "the same worker goes on");
    let stats = pool.stats();
    assert_eq!((stats.completed, stats.failed), (2, 1), "{stats:?}");
    assert_works(&pool);
    error
}

fn says(error: &Error, words: &str) -> bool {
    error.to_string().contains(words)
}

fn an_argument_cannot_be_encoded() {
    let error = error_of(take, Shy(Refusal::Encode));
    assert!(
        matches!(error, Error::Encode(_)) && says(&error, "not out"),
        "{error:?}"
    );
}

fn an_argument_cannot_be_decoded() {
    let error = error_of(take, Shy(Refusal::Decode));
    assert!(
        matches!(error, Error::Decode(_)) && says(&error, "not in"),
        "{error:?}"
    );
}

fn a_result_cannot_be_encoded() {
    let error = error_of(give, Refusal::Encode);
    assert!(
        matches!(error, Error::Encode(_)) && says(&error, "not out"),
        "{error:?}"
    );
}

fn a_result_cannot_be_decoded() {
    let error = error_of(give, Refusal::Decode);
    assert!(
        matches!(error, Error::Decode(_)) && says(&error, "not in"),
        "{error:?}"
    );
}

fn an_item_of_a_map_cannot_be_encoded() {
    let pool = Processes::pool(1);
    for chunk in [1, 10] {
        let items = [
            Refusal::None,
            Refusal::Encode,
            Refusal::Decode,
            Refusal::None,
        ];
        let options = concurrent_futures::MapOptions::new().chunksize(chunk);
        let results: Vec<_> = pool.map_with(options, take, items.map(Shy)).collect();
        let [
            Ok(first),
            Err(Error::Encode(_)),
            Err(Error::Decode(_)),
            Ok(last),
        ] = &results[..]
        else {
            panic!("{results:?}")
        };
        assert_eq!(first, last);
    }
}

fn nothing_starts_for_an_argument_that_cannot_be_encoded() {
    let pool = Processes::pool(1);
    let future = pool.submit(take, Shy(Refusal::Encode));
    assert!(future.done(), "at once");
    assert_error!(future.result(), Error::Encode(_));
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.failed), (0, 1), "{stats:?}");
    assert_eq!(
        pool.submit(|()| current_worker().unwrap().tasks_run(), ())
            .result()
            .unwrap(),
        1
    );
    assert_works(&pool);
}
