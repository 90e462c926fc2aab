//! Where a `Shared` gets to, whether or not memory can be shared.

use std::sync::Mutex;

use concurrent_futures::{Error, Executor, Process, ProcessPoolExecutor, Shared, TaskOptions};
use libtest_mimic::Trial;

use super::{MANY, SUM, numbers, over_links, pools, sum};
use crate::support::gate::{Beacon, Held, Hold, Lamp, hold};
use crate::support::{Kind, Processes, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["shared";
        a_shared_slice_goes_over_links,
        a_shared_slice_goes_to_a_process_and_back,
        a_shared_slice_goes_to_an_initializer,
        a_shared_slice_goes_on_to_workers_of_a_worker,
        a_handle_is_dropped_right_after_submit,
        a_shared_slice_comes_from_a_worker,
        a_worker_keeps_one_and_returns_it_later,
        a_worker_is_killed_that_reads_one,
        a_task_that_reads_one_is_tried_again,
    ]
}

fn a_shared_slice_goes_over_links() {
    let pool = over_links(2);
    let shared = numbers();
    for _ in 0..10 {
        assert_eq!(pool.submit(sum, shared.clone()).result().unwrap(), SUM);
    }
    let back = pool.submit(|shared: Shared<u64>| shared, shared).result();
    assert_eq!(sum(back.unwrap()), SUM);
}

fn doubled(numbers: &Shared<u64>) -> Shared<u64> {
    Shared::from_vec(numbers.iter().map(|n| 2 * n).collect())
}

fn a_shared_slice_goes_to_a_process_and_back() {
    let double = |numbers: Shared<u64>| (doubled(&numbers), numbers);
    let child = Process::new(double, numbers()).start().unwrap();
    let (new, old) = child.join().unwrap();
    assert_eq!((sum(new), sum(old)), (2 * SUM, SUM));
}

/// What an initializer has left in its worker, or a task.
static KEPT: Mutex<Option<Shared<u64>>> = Mutex::new(None);

fn keep(shared: Shared<u64>) {
    *KEPT.lock().unwrap() = Some(shared);
}

fn kept(_: ()) -> Option<Shared<u64>> {
    KEPT.lock().unwrap().clone()
}

fn a_shared_slice_goes_to_an_initializer() {
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.initializer(keep, numbers()).build().unwrap();
    let sum_kept = |()| (KEPT.lock().unwrap().clone().map(sum), std::process::id());
    let (total, pid) = pool.submit(sum_kept, ()).result().unwrap();
    assert_eq!(total, Some(SUM));
    // The next worker gets it as well, long after `numbers()` was dropped.
    os::kill(pid, libc::SIGKILL);
    os::wait_until_dead(pid);
    let (total, next) = pool.submit(sum_kept, ()).result().unwrap();
    assert_eq!(total, Some(SUM));
    assert_ne!(next, pid);
    assert_eq!(sum(pool.submit(kept, ()).result().unwrap().unwrap()), SUM);
}

fn a_shared_slice_goes_on_to_workers_of_a_worker() {
    /// Sums in a worker of this worker; what that made, too.
    fn pass_on(numbers: Shared<u64>) -> (u64, Shared<u64>) {
        let pool = Processes::pool(1);
        let both = |numbers: Shared<u64>| (sum(numbers.clone()), doubled(&numbers));
        pool.submit(both, numbers).result().unwrap()
    }
    for pool in pools() {
        let (total, new) = pool.submit(pass_on, numbers()).result().unwrap();
        assert_eq!((total, sum(new)), (SUM, 2 * SUM));
    }
}

fn a_handle_is_dropped_right_after_submit() {
    for pool in pools() {
        let held = Hold::new();
        let running = held.occupy(&pool);
        let waiting = pool.submit(sum, numbers());
        held.release();
        running.result().unwrap();
        assert_eq!(waiting.result().unwrap(), SUM);
    }
}

fn a_shared_slice_comes_from_a_worker() {
    for pool in pools() {
        let make = |length: u64| Shared::from_vec((0..length).collect());
        let made = pool.submit(make, MANY).result().unwrap();
        assert_eq!(sum(made.clone()), SUM);
        // It outlives its maker, and is no other's business from then on.
        drop(pool);
        let other = Processes::pool(1);
        assert_eq!(other.submit(sum, made).result().unwrap(), SUM);
    }
}

fn a_worker_keeps_one_and_returns_it_later() {
    for pool in pools() {
        pool.submit(keep, numbers()).result().unwrap();
        assert_works(&pool);
        let back = pool.submit(kept, ()).result().unwrap().unwrap();
        assert_eq!(sum(back), SUM);
    }
}

fn a_worker_is_killed_that_reads_one() {
    let stay = |(numbers, lamp): (Shared<u64>, Lamp)| -> u64 {
        std::hint::black_box(sum(numbers));
        lamp.light();
        loop {
            std::thread::park();
        }
    };
    for pool in pools() {
        let beacon = Beacon::new();
        let shared = numbers();
        let doomed = pool.submit(stay, (shared.clone(), beacon.lamp()));
        let queued = pool.submit(sum, shared);
        os::kill(beacon.await_lit(), libc::SIGKILL);
        assert!(matches!(doomed.result(), Err(Error::WorkerDied(_))));
        assert_eq!(queued.result().unwrap(), SUM);
    }
}

fn a_task_that_reads_one_is_tried_again() {
    let read = |(numbers, held): (Shared<u64>, Held)| {
        hold(held);
        sum(numbers)
    };
    let pool = Processes::pool(1);
    let held = Hold::new();
    let options = TaskOptions::new().retries(1);
    // The handle is gone by the second time.
    let task = pool.submit_with(options, read, (numbers(), held.argument()));
    os::kill(held.await_begun(), libc::SIGKILL);
    held.await_begun();
    held.release();
    assert_eq!(task.result().unwrap(), SUM);
}
