//! Payloads in memory that program and workers share: how they fare when workers die, queues
//! are long, or a task makes a stray write.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, Future, Payload, ProcessPoolExecutor, TaskOptions};
use libtest_mimic::Trial;

use super::{Blob, echo, pattern};
use crate::support::gate::{Beacon, Lamp};
use crate::support::{Kind, LONG, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        values_of_every_kind_travel_by_every_way,
        results_wait_while_their_workers_die,
        a_worker_dies_with_its_argument,
        an_argument_is_there_when_its_task_is_tried_again,
        more_arguments_wait_than_there_is_room_for,
        more_results_wait_than_there_is_room_for,
        cancelled_arguments_make_room,
        results_outlive_their_pool,
        memory_of_payloads_goes_back,
        a_copy_that_a_task_forked_writes_no_result,
        a_worker_scribbles_over_payloads,
    ]
}

// ---- every kind, every way -----------------------------------------------------------------

fn same<T>(value: T) -> T {
    value
}

/// There and back in one block, back in a block of the worker's own, and there and back over the connection.
fn travels<T: Payload + Clone + PartialEq>(pool: &ProcessPoolExecutor, make: fn(usize) -> T) {
    for size in [100, 3000, 20_000, 300_000, 5_000_000] {
        let value = make(size);
        assert!(pool.submit(same, value.clone()).result().unwrap() == value);
        assert!(pool.submit(make, size).result().unwrap() == value);
        // Larger than its argument's block.
        let pair = pool.submit(|v: T| (v.clone(), v), value.clone());
        assert!(pair.result().unwrap() == (value.clone(), value.clone()));
        let limited = TaskOptions::new().timeout(LONG);
        assert!(
            pool.submit_with(limited, same, value.clone())
                .result()
                .unwrap()
                == value
        );
        let chunk: Vec<_> = pool.map(same, vec![value.clone(); 3]).collect();
        assert!(chunk.into_iter().all(|item| item.unwrap() == value));
    }
}

fn words(size: usize) -> Vec<String> {
    (0..size / 16).map(|n| n.to_string()).collect()
}

fn values_of_every_kind_travel_by_every_way() {
    let pool = Processes::pool(2);
    travels(&pool, |size| pattern(size).0);
    travels(&pool, |size| "Käse".repeat(size / 5));
    travels(&pool, |size| vec![0.5_f64; size / 8]);
    travels(&pool, |size| vec![-7_i128; size / 16]);
    travels(&pool, words);
    travels(&pool, pattern);
}

// ---- deaths --------------------------------------------------------------------------------

/// Waits until all results are there, and looks at none: it would be copied out.
fn run_all_before(pool: &ProcessPoolExecutor) {
    assert_eq!(
        pool.max_workers(),
        1,
        "tasks end in the order in which they begin"
    );
    pool.submit(|()| (), ()).result().unwrap();
}

fn results_wait_while_their_workers_die() {
    let pool = Processes::pool(1);
    let sizes = [3000, 20_000, 1 << 20, 3 << 20];
    let waiting: Vec<Future<Blob>> = sizes.map(|size| pool.submit(pattern, size)).into();
    let echoed = pool.submit(echo, pattern(1 << 20));
    for _ in 0..3 {
        run_all_before(&pool);
        let dying = pool.submit(|()| -> u8 { std::process::abort() }, ());
        assert_error!(dying.result(), Error::WorkerDied(_));
        // The next one has as many results, of other bytes, and as many arguments.
        for size in sizes.repeat(3) {
            let zeros = pool.submit(|size: usize| vec![0_u8; size], size);
            assert_eq!(zeros.result().unwrap(), vec![0; size]);
            assert!(pool.submit(same, vec![0_u8; size]).result().unwrap() == vec![0; size]);
        }
    }
    for (size, future) in sizes.into_iter().zip(waiting) {
        assert!(future.result().unwrap() == pattern(size), "{size}");
    }
    assert!(echoed.result().unwrap() == pattern(1 << 20));
}

/// Says that it has begun, and never ends.
fn stay((lamp, _): (Lamp, Blob)) -> Blob {
    lamp.light();
    loop {
        std::thread::park();
    }
}

fn a_worker_dies_with_its_argument() {
    let pool = Processes::pool(1);
    for round in 0..20 {
        let beacon = Beacon::new();
        let staying = pool.submit(stay, (beacon.lamp(), pattern(1 << 20)));
        let pid = beacon.await_lit();
        if round % 2 == 0 {
            assert!(staying.kill());
            assert_error!(staying.result(), Error::Cancelled);
        } else {
            os::kill(pid, libc::SIGKILL);
            assert_error!(staying.result(), Error::WorkerDied(_));
        }
        let back = pool.submit(echo, pattern(1 << 20)).result().unwrap();
        assert!(back == pattern(1 << 20));
    }
}

/// Dies as often as there is something to take away.
fn die_while_there_is((path, blob): (PathBuf, Blob)) -> Blob {
    if fs::remove_file(path).is_ok() {
        std::process::abort();
    }
    blob
}

fn an_argument_is_there_when_its_task_is_tried_again() {
    let pool = Processes::pool(1);
    let path = std::env::temp_dir().join(format!("concurrent-futures-{}", std::process::id()));
    for size in [3000, 1 << 20] {
        fs::write(&path, "once").unwrap();
        let again = TaskOptions::new().retries(1);
        let back = pool.submit_with(again, die_while_there_is, (path.clone(), pattern(size)));
        assert!(back.result().unwrap() == pattern(size));
        assert!(!path.exists());
    }
    assert_eq!(pool.stats().worker_restarts, 2);
}

// ---- room ----------------------------------------------------------------------------------

fn numbered(number: usize) -> Vec<u64> {
    vec![number as u64; (1 << 20) / 8]
}

fn more_arguments_wait_than_there_is_room_for() {
    let pool = Processes::pool(2);
    let futures: Vec<_> = (0..1000)
        .map(|n| pool.submit(|v: Vec<u64>| (v[0], v.len()), numbered(n)))
        .collect();
    for (n, future) in futures.into_iter().enumerate() {
        assert_eq!(future.result().unwrap(), (n as u64, (1 << 20) / 8));
    }
}

fn more_results_wait_than_there_is_room_for() {
    let pool = Processes::pool(1);
    let futures: Vec<_> = (0..200).map(|n| pool.submit(numbered, n)).collect();
    run_all_before(&pool);
    for (n, future) in futures.into_iter().enumerate().rev() {
        assert!(future.result().unwrap() == numbered(n), "{n}");
    }
}

fn cancelled_arguments_make_room() {
    let pool = Processes::pool(1);
    for _ in 0..5 {
        let beacon = Beacon::new();
        let staying = pool.submit(stay, (beacon.lamp(), pattern(1 << 20)));
        beacon.await_lit();
        let waiting: Vec<_> = (0..30).map(|n| pool.submit(same, numbered(n))).collect();
        assert!(waiting.iter().all(Future::cancel));
        // There is memory for those that were cancelled, and no more.
        assert!(memory_of_payloads() < 64 << 20);
        assert!(staying.kill());
    }
}

fn results_outlive_their_pool() {
    let pool = Processes::pool(1);
    let futures = [
        pool.submit(pattern, 1 << 20),
        pool.submit(echo, pattern(3 << 20)),
    ];
    drop(pool);
    let [made, echoed] = futures.map(|future| future.result().unwrap());
    assert!(made == pattern(1 << 20) && echoed == pattern(3 << 20));
}

// ---- memory --------------------------------------------------------------------------------

/// Bytes of shared memory that the payloads of this program's pools have.
fn memory_of_payloads() -> u64 {
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten();
    let of_a_depot = |path: &PathBuf| {
        let target = fs::read_link(path).unwrap_or_default();
        target
            .to_string_lossy()
            .contains("concurrent-futures depot")
    };
    let files = descriptors.map(|entry| entry.path()).filter(of_a_depot);
    files
        .map(|path| fs::metadata(path).unwrap().blocks() * 512)
        .sum()
}

fn memory_of_payloads_goes_back() {
    let pool = Processes::pool(1);
    let kept = pool.submit(pattern, 1 << 20);
    for _ in 0..4 {
        assert!(pool.submit(echo, pattern(20 << 20)).result().unwrap() == pattern(20 << 20));
        pool.submit(pattern, 5 << 20).result().unwrap();
    }
    let is_shared = memory_of_payloads() > 0;
    let deadline = Instant::now() + LONG;
    while memory_of_payloads() > 2 << 20 {
        assert!(Instant::now() < deadline, "{}", memory_of_payloads());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(
        memory_of_payloads() >= 1 << 20,
        is_shared,
        "the one that is kept"
    );
    assert!(kept.result().unwrap() == pattern(1 << 20));
    assert!(pool.submit(echo, pattern(20 << 20)).result().unwrap() == pattern(20 << 20));
}

// ---- accidents -----------------------------------------------------------------------------

/// The copy returns zeros, if anything.
fn fork_and_return(blob: Blob) -> Blob {
    let pid = os::fork();
    if pid == 0 {
        return Blob(vec![0; blob.0.len()]);
    }
    assert!(os::reap(pid).success());
    blob
}

fn a_copy_that_a_task_forked_writes_no_result() {
    let pool = Processes::pool(1);
    for size in [3000, 1 << 20] {
        let back = pool.submit(fork_and_return, pattern(size)).result();
        assert!(back.unwrap() == pattern(size));
    }
    assert_works(&pool);
}

/// Overwrites what is shared of payloads; none of it can be written.
fn scribble((value, _): (u64, Blob)) -> Blob {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps
        .lines()
        .filter(|line| line.contains("concurrent-futures depot"))
    {
        let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        for place in (address(start)..address(end)).step_by(8).take(1 << 17) {
            let place: *mut u64 = std::ptr::with_exposed_provenance_mut(place);
            // SAFETY: none: the memory is mapped, but not ours to write. That is what this is about.
            unsafe { place.write_volatile(value) };
        }
    }
    pattern(100_000)
}

/// No payload of another task is hit.
fn a_worker_scribbles_over_payloads() {
    for value in [0, u64::MAX] {
        let pool = Processes::pool(2);
        pool.warm_up().unwrap();
        for _ in 0..3 {
            let before: Vec<_> = (0..6).map(|n| pool.submit(words, 20_000 * n)).collect();
            let wild = pool.submit(scribble, (value, pattern(30_000)));
            let behind: Vec<_> = (0..20)
                .map(|n| pool.submit(same, words(5000 * n)))
                .collect();
            let Err(Error::WorkerDied(death)) = wild.result() else {
                panic!("payloads cannot be written")
            };
            assert_eq!(death.signal(), Some(libc::SIGSEGV));
            for (n, future) in (0..).zip(before) {
                assert!(future.result().unwrap() == words(20_000 * n));
            }
            for (n, future) in (0..).zip(behind) {
                assert!(future.result().unwrap() == words(5000 * n));
            }
        }
        assert_works(&pool);
    }
}
