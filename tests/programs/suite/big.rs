//! Payloads of every size, to processes and back, and those over the limit.

mod arena;

use std::fmt;
use std::time::Duration;

use concurrent_futures::{Error, Executor, Future, ProcessPoolExecutor};
use libtest_mimic::Trial;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::gate::Hold;
use crate::support::{Kind, Processes, assert_works, trial_within, trials};

pub fn trials() -> Vec<Trial> {
    let mut all = trials![Processes::NAME;
        payloads_around_every_power_of_two,
        payloads_of_many_small_parts,
        plain_vectors_travel,
        big_payloads_side_by_side,
        big_payloads_and_small_ones_take_turns,
        an_argument_over_the_limit_is_refused,
        a_result_over_the_limit_is_refused,
        a_payload_at_the_limit_travels,
        an_item_of_a_map_over_the_limit_is_refused,
        a_task_over_the_limit_leaves_the_queue_alone,
    ];
    for (name, size) in [
        ("0_bytes", 0),
        ("1_byte", 1),
        ("64_kib", 64 << 10),
        ("1_mib", 1 << 20),
        ("64_mib", 64 << 20),
    ] {
        all.push(echo_trial(name, size));
    }
    all.extend(arena::trials());
    // Takes some 10 GiB of memory.
    all.push(echo_trial("over_2_gib", (2 << 30) + (200 << 20)).with_ignored_flag(true));
    all
}

/// Bytes that travel in one piece: without optimisation, a plain `Vec<u8>` takes its time.
#[derive(Clone, PartialEq)]
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl Visitor<'_> for Whole {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Whole)
    }
}

fn echo(blob: Blob) -> Blob {
    blob
}

fn length(blob: Blob) -> usize {
    blob.0.len()
}

/// No two pages of it are equal.
fn pattern(size: usize) -> Blob {
    let mut bytes = vec![7; size];
    for (number, page) in (0_u64..).zip(bytes.chunks_mut(4096)) {
        let number = number.to_le_bytes();
        let length = page.len().min(number.len());
        page[..length].copy_from_slice(&number[..length]);
    }
    Blob(bytes)
}

fn blank(size: usize) -> Blob {
    Blob(vec![1; size])
}

fn echo_trial(name: &str, size: usize) -> Trial {
    let name = format!("{}::a_payload_of_{name}_goes_and_comes", Processes::NAME);
    trial_within(Duration::from_secs(300), name, move || {
        let pool = Processes::pool(1);
        let back = pool.submit(echo, pattern(size)).result().unwrap();
        // Not `assert_eq`, which would print all of it.
        assert!(back == pattern(size));
        drop(back);
        assert_works(&pool);
    })
}

fn payloads_around_every_power_of_two() {
    let pool = Processes::pool(2);
    let sizes = (0..22).flat_map(|power| [(1 << power) - 1, 1 << power, (1 << power) + 1]);
    let futures: Vec<(usize, Future<Blob>)> = sizes
        .map(|size| (size, pool.submit(echo, pattern(size))))
        .collect();
    for (size, future) in futures {
        assert!(future.result().unwrap() == pattern(size), "{size}");
    }
}

fn payloads_of_many_small_parts() {
    let pool = Processes::pool(1);
    let words: Vec<(u32, String)> = (0..100_000).map(|n| (n, n.to_string())).collect();
    let back = pool.submit(|words: Vec<(u32, String)>| words, words.clone());
    assert!(back.result().unwrap() == words);
}

fn plain_vectors_travel() {
    let pool = Processes::pool(1);
    let bytes = pattern(1 << 20).0;
    let back = pool.submit(|bytes: Vec<u8>| bytes, bytes.clone());
    assert!(back.result().unwrap() == bytes);
    let floats = vec![0.5_f64; 10_000];
    let sum = pool.submit(|floats: Vec<f64>| floats.iter().sum::<f64>(), floats);
    assert_eq!(sum.result().unwrap().to_bits(), 5_000.0_f64.to_bits());
}

fn big_payloads_side_by_side() {
    let pool = Processes::pool(2);
    let futures: Vec<_> = (0..8)
        .map(|_| pool.submit(echo, pattern(8 << 20)))
        .collect();
    for future in futures {
        assert!(future.result().unwrap() == pattern(8 << 20));
    }
}

fn big_payloads_and_small_ones_take_turns() {
    let pool = Processes::pool(1);
    for round in 0..20 {
        let big = pool.submit(length, blank(3 << 20));
        let small = pool.submit(length, blank(round));
        assert_eq!(big.result().unwrap(), 3 << 20);
        assert_eq!(small.result().unwrap(), round);
    }
}

/// What the limited pools of these trials let pass.
const LIMIT: u64 = 10_000;

fn limited() -> ProcessPoolExecutor {
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    builder.payload_limit(LIMIT).build().unwrap()
}

fn assert_too_large<T>(future: Future<T>, at_least: u64) {
    match future.result() {
        Err(Error::TooLarge(value)) => {
            let size = value.size();
            assert_eq!(value.limit(), LIMIT);
            // The format adds a length.
            assert!((at_least..at_least + 16).contains(&size), "{size}");
        }
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it went through"),
    }
}

fn an_argument_over_the_limit_is_refused() {
    let pool = limited();
    let future = pool.submit(length, blank(20_000));
    assert!(future.done(), "at once");
    assert_too_large(future, 20_000);
    assert_eq!(pool.stats().workers, 0);
    assert_works(&pool);
}

fn a_result_over_the_limit_is_refused() {
    let pool = limited();
    let pid = pool.submit(|()| std::process::id(), ()).result().unwrap();
    let future = pool.submit(blank, 20_000);
    assert_too_large(future, 20_000);
    assert_eq!(
        pool.submit(|()| std::process::id(), ()).result().unwrap(),
        pid
    );
}

fn a_payload_at_the_limit_travels() {
    let pool = limited();
    // Room for the length that the format adds, and for the number of fields.
    let size = usize::try_from(LIMIT).unwrap() - 5;
    assert_eq!(
        pool.submit(echo, blank(size)).result().unwrap().0.len(),
        size
    );
}

fn a_task_over_the_limit_leaves_the_queue_alone() {
    let pool = limited();
    let held = Hold::new();
    let running = held.occupy(&pool);
    let before = pool.submit(length, blank(1));
    let argument = pool.submit(length, blank(20_000));
    let result = pool.submit(blank, 20_000);
    let behind = pool.submit(length, blank(2));
    held.release();
    running.result().unwrap();
    assert_eq!(before.result().unwrap(), 1);
    assert_too_large(argument, 20_000);
    assert_too_large(result, 20_000);
    assert_eq!(behind.result().unwrap(), 2);
    assert_works(&pool);
}

fn an_item_of_a_map_over_the_limit_is_refused() {
    let pool = limited();
    let sizes = [10, 20_000, 30];
    let map = pool.map(length, sizes.map(blank));
    let results: Vec<_> = map.collect();
    let [Ok(10), Err(Error::TooLarge(value)), Ok(30)] = &results[..] else {
        panic!("{results:?}")
    };
    assert_eq!(value.limit(), LIMIT);
}
