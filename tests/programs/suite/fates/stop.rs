//! Workers that are stopped, stay where they are, or die at an awkward moment: what is not held up
//! by them, and what is not done after them.

use std::fs::File;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, MapOptions, ProcessPoolExecutor};
use libtest_mimic::Trial;

use super::death::death;
use crate::support::gate::{Beacon, Held, Hold, Lamp, hold};
use crate::support::tasks::own_pid;
use crate::support::{Kind, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_time_limit_ends_a_task_whose_worker_reads_nothing,
        kill_ends_a_worker_that_stands_by,
        items_of_a_dropped_map_end_with_their_worker,
    ]
}

/// More than a socket takes without a reader.
const LARGE: usize = 4 << 20;

fn a_time_limit_ends_a_task_whose_worker_reads_nothing() {
    // The time limit of all tasks: such a pool sends tasks, whether a worker asks for them or not.
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .task_timeout(Duration::from_millis(100))
        .build()
        .unwrap();
    let pid = pool.submit(own_pid, ()).result().unwrap();
    os::stop(pid);
    let future = pool.submit(|bytes: Vec<u8>| bytes.len(), vec![1; LARGE]);
    assert_error!(future.result(), Error::TaskTimeout { .. });
    assert!(!os::exists(pid));
    assert_works(&pool);
}

fn kill_ends_a_worker_that_stands_by() {
    const START: Duration = Duration::from_secs(20);
    /// All but the first wait.
    fn get_ready((mark, held): (String, Held)) {
        if File::create_new(mark).is_err() {
            hold(held);
        }
    }
    let mark = std::env::temp_dir().join(format!("standby-{}", std::process::id()));
    let (task, start) = (Hold::new(), Hold::new());
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .max_tasks_per_child(1)
        .start_timeout(START)
        .initializer(get_ready, (mark.to_str().unwrap().into(), start.argument()))
        .build()
        .unwrap();
    // Its last task: the next worker starts meanwhile.
    let running = pool.submit(hold, task.argument());
    let pid = task.await_begun();
    start.await_begun();
    os::kill(pid, libc::SIGKILL);
    death(running);
    let begun = Instant::now();
    pool.kill_workers();
    assert!(begun.elapsed() < START / 2, "{:?}", begun.elapsed());
    std::fs::remove_file(mark).unwrap();
}

fn items_of_a_dropped_map_end_with_their_worker() {
    /// The first ones are quick, so that others are sent ahead; one stays; those behind it tell
    /// that they run.
    fn item((n, held, lamp): (u32, Held, Lamp)) {
        match n {
            0..10 => {}
            10 => drop(hold(held)),
            _ => lamp.light(),
        }
    }
    let pool = Processes::pool(1);
    let (held, ran) = (Hold::new(), Beacon::new());
    let items = (0..40).map(|n| (n, held.argument(), ran.lamp()));
    let mut map = pool.map_with(MapOptions::new().chunksize(40), item, items);
    for _ in 0..10 {
        map.next().unwrap().unwrap();
    }
    let pid = held.await_begun();
    drop(map);
    os::kill(pid, libc::SIGKILL);
    assert_works(&pool);
    assert!(!ran.is_lit());
}
