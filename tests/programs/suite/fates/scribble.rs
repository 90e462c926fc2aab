//! A worker that writes all over the memory that it shares with the program, as a wild pointer may:
//! tasks can be lost by it, but none for ever.

use std::fs;

use concurrent_futures::{Error, Executor, Future};
use libtest_mimic::Trial;

use crate::support::tasks::double;
use crate::support::{Kind, Processes, assert_works, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME; a_worker_scribbles_over_shared_memory]
}

/// Overwrites all memory that is shared with the program, with numbers that the seed gives.
fn scribble(seed: u64) -> u8 {
    let mut number = seed | 1;
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    for line in maps.lines().filter(|line| line.contains("rw-s")) {
        let range = line.split(' ').next().unwrap();
        let (start, end) = range.split_once('-').unwrap();
        let address = |text| usize::from_str_radix(text, 16).unwrap();
        for place in (address(start)..address(end)).step_by(8) {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            let value = [number, 0, u64::MAX][seed as usize % 3];
            let place: *mut u64 = std::ptr::with_exposed_provenance_mut(place);
            // SAFETY: none: the memory is mapped, but not ours to write. That is what this is about.
            unsafe { place.write_volatile(value) };
        }
    }
    7
}

fn a_worker_scribbles_over_shared_memory() {
    for seed in 0..12 {
        let pool = Processes::pool(2);
        pool.warm_up().unwrap();
        let mut futures: Vec<Future<u64>> = (0..20).map(|n| pool.submit(double, n)).collect();
        let wild = pool.submit(scribble, seed);
        futures.extend((0..20).map(|n| pool.submit(double, n)));
        // Its worker may be lost too: then it is not known when it has written.
        let _ = wild.wait_timeout(std::time::Duration::from_millis(100));
        pool.kill_workers();
        assert!(wild.done());
        for (at, future) in futures.into_iter().enumerate() {
            assert!(future.done(), "seed {seed}: task {at} is lost for ever");
            drop::<Result<u64, Error>>(future.result());
        }
    }
    assert_works(&Processes::pool(1));
}
