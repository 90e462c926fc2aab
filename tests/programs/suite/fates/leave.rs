//! Workers that are to leave, and do not.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use concurrent_futures::{Executor, Process, ProcessPoolExecutor};
use libtest_mimic::Trial;

use crate::support::gate::{Held, Hold, hold};
use crate::support::tasks::{double, own_pid};
use crate::support::{Kind, Processes, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        workers_that_do_not_leave_are_killed,
        recycling_goes_on_while_a_worker_does_not_leave,
        a_recycled_worker_that_does_not_leave_is_killed,
    ]
}

/// How long a worker may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// No test waits longer than this for a worker that does not leave.
const LATEST: Duration = Duration::from_secs(20);

/// Where the exit of this process waits.
static EXIT: OnceLock<Held> = OnceLock::new();

/// Has the exit of this process wait at a gate; its number.
fn hang_in_exit(held: Held) -> u32 {
    extern "C" fn wait() {
        EXIT.get().cloned().map(hold);
    }
    EXIT.set(held).unwrap_or_else(|_| panic!("set once"));
    os::at_exit(wait);
    std::process::id()
}

/// A pool without a shared-memory queue: all tasks go over connections.
fn pool_of_links(max_tasks_per_child: usize) -> ProcessPoolExecutor {
    ProcessPoolExecutor::builder()
        .max_workers(1)
        .max_tasks_per_child(max_tasks_per_child)
        .build()
        .unwrap()
}

/// Drops a pool; how long that takes.
fn drop_timed(pool: ProcessPoolExecutor) -> Duration {
    let begun = Instant::now();
    drop(pool);
    begun.elapsed()
}

fn workers_that_do_not_leave_are_killed() {
    let held = Hold::new();
    let pools = || [Processes::pool(1), pool_of_links(100)];
    let in_exit = pools().map(|pool| {
        pool.submit(hang_in_exit, held.argument()).result().unwrap();
        pool
    });
    let stopped = pools().map(|pool| {
        os::stop(pool.submit(own_pid, ()).result().unwrap());
        pool
    });
    let process = Process::new(hang_in_exit, held.argument());
    let process = process.start().unwrap();
    std::thread::scope(|scope| {
        let drops = in_exit.into_iter().chain(stopped);
        let drops: Vec<_> = drops.map(|pool| scope.spawn(|| drop_timed(pool))).collect();
        let begun = Instant::now();
        process.join().unwrap();
        let joined = begun.elapsed();
        let took = drops.into_iter().map(|drop| drop.join().unwrap());
        for took in took.chain([joined]) {
            assert!((LEAVING / 2..LATEST).contains(&took), "{took:?}");
        }
    });
}

fn recycling_goes_on_while_a_worker_does_not_leave() {
    let held = Hold::new();
    let pool = pool_of_links(1);
    let begun = Instant::now();
    for _ in 0..2 {
        pool.submit(hang_in_exit, held.argument()).result().unwrap();
    }
    for n in 0..4 {
        assert_eq!(pool.submit(double, n).result().unwrap(), 2 * n);
    }
    assert!(begun.elapsed() < LEAVING / 2, "{:?}", begun.elapsed());
    held.release();
}

fn a_recycled_worker_that_does_not_leave_is_killed() {
    let held = Hold::new();
    let pool = pool_of_links(1);
    let pid = pool.submit(hang_in_exit, held.argument()).result().unwrap();
    // Nothing else happens in the pool.
    assert!(os::await_end(pid, Instant::now() + LATEST));
    assert_works(&pool);
}
