//! Forks without exec, of this very program.

use concurrent_futures::{Error, Executor, Shutdown};
use libtest_mimic::Trial;

use crate::support::gate::{Beacon, Hold, hold};
use crate::support::leaks::children;
use crate::support::{Kind, Processes, Threads, assert_error, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_forks_without_exec,
        a_program_forks_and_its_copy_waits_for_nothing,
        a_program_forks_while_big_results_wait,
        a_copy_that_drops_a_pool_keeps_what_lies_where_its_memory_was,
    ]
}

/// Runs `f` in a forked copy of this program; whether it was content.
fn in_a_copy(f: impl FnOnce() -> bool) -> bool {
    let copy = os::fork();
    if copy == 0 {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        os::exit_now(i32::from(!matches!(outcome, Ok(true))));
    }
    os::reap(copy).success()
}

fn a_program_forks_without_exec() {
    let (threads, processes) = (Threads::pool(1), Processes::pool(1));
    let (held, beacon) = (Hold::new(), Beacon::new());
    let running = processes.submit(hold, held.argument());
    let pid = held.await_begun();
    let queued = processes.submit(|n: u8| n, 1);
    Executor::submit(&threads, |n: u8| n, 1).result().unwrap();
    let content = in_a_copy(|| {
        assert_error!(
            processes.submit(hold, held.argument()).result(),
            Error::BrokenPool(_)
        );
        let task = Executor::submit(&threads, hold, held.argument());
        assert_error!(task.result(), Error::BrokenPool(_));
        processes.shutdown(Shutdown::wait().cancel_futures());
        threads.shutdown(Shutdown::wait());
        assert!(!running.kill() && !queued.done());
        beacon.lamp().light();
        true
    });
    assert!(content && beacon.is_lit());
    assert!(running.running(), "what the copy did has touched nothing");
    held.release();
    assert_eq!(running.result().unwrap(), pid);
    assert_eq!(queued.result().unwrap(), 1);
    assert_eq!(processes.submit(|n: u8| n, 1).result().unwrap(), 1);
    assert_eq!(
        Executor::submit(&threads, |n: u8| n, 1).result().unwrap(),
        1
    );
}

fn a_program_forks_and_its_copy_waits_for_nothing() {
    let processes = Processes::pool(2);
    processes.warm_up().unwrap();
    let before = children();
    let threads = Threads::pool(1);
    Executor::submit(&threads, |n: u8| n, 1).result().unwrap();
    let mut pools = Some((processes, threads));
    let content = in_a_copy(|| {
        drop(pools.take());
        true
    });
    assert!(content);
    assert_eq!(children(), before, "the original's workers live");
    let (processes, threads) = pools.unwrap();
    assert_eq!(processes.submit(|n: u8| n, 1).result().unwrap(), 1);
    assert_eq!(
        Executor::submit(&threads, |n: u8| n, 1).result().unwrap(),
        1
    );
}

/// The copy does not have the memory where they are.
fn a_program_forks_while_big_results_wait() {
    let pool = Processes::pool(1);
    let make = |size: usize| vec![7_u8; size];
    let mut waiting = [10_000, 3 << 20].map(|size| Some(pool.submit(make, size)));
    pool.submit(|n: u8| n, 1).result().unwrap();
    let content = in_a_copy(|| {
        let results = waiting
            .each_mut()
            .map(|future| future.take().unwrap().result());
        results.iter().all(|result| match result {
            Ok(bytes) => bytes.iter().all(|byte| *byte == 7),
            Err(error) => matches!(error, Error::Decode(_)),
        })
    });
    assert!(content);
    for (size, future) in [10_000, 3 << 20].into_iter().zip(waiting) {
        assert_eq!(future.unwrap().result().unwrap(), vec![7; size]);
    }
    let back = pool.submit(|bytes: Vec<u8>| bytes, vec![7; 10_000]);
    assert_eq!(back.result().unwrap(), vec![7; 10_000]);
}

/// Where shared memory of pools is mapped.
fn shared_memory() -> Vec<usize> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let ours = maps.lines().filter(|line| {
        line.contains("concurrent-futures board") || line.contains("concurrent-futures depot")
    });
    ours.map(|line| {
        let start = line.split('-').next().unwrap();
        usize::from_str_radix(start, 16).unwrap()
    })
    .collect()
}

/// The copy does not have it, and may have something else there.
fn a_copy_that_drops_a_pool_keeps_what_lies_where_its_memory_was() {
    let unused = Processes::pool(2);
    let used = Processes::pool(2);
    let bytes = used.submit(|bytes: Vec<u8>| bytes, vec![7; 100_000]);
    assert_eq!(bytes.result().unwrap().len(), 100_000);
    used.shutdown(Shutdown::wait());
    let mut pools = Some((unused, used));
    let places = shared_memory();
    assert!(places.len() >= 6, "{places:x?}");
    let content = in_a_copy(|| {
        assert_eq!(shared_memory(), [0_usize; 0]);
        let own: Vec<*mut u8> = places.iter().map(|place| os::map_at(*place)).collect();
        // SAFETY: a page was mapped there, of this process alone.
        own.iter().for_each(|place| unsafe { place.write(7) });
        drop(pools.take());
        // SAFETY: as above; if it is not there any more, that ends the copy.
        own.iter().all(|place| unsafe { place.read() } == 7)
    });
    assert!(content);
}
