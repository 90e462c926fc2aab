//! Workers that are stopped, stay where they are, or die at an awkward moment: what is not held up
//! by them, and what is not done after them.

use std::time::Duration;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use libtest_mimic::Trial;

use crate::support::tasks::own_pid;
use crate::support::{Kind, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_time_limit_ends_a_task_whose_worker_reads_nothing,
    ]
}

/// More than a socket takes without a reader.
const LARGE: usize = 4 << 20;

fn a_time_limit_ends_a_task_whose_worker_reads_nothing() {
    // The limit of all tasks: such a pool hands them out, whether a worker asks or not.
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
