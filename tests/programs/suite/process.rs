//! Worker processes as the program and its tasks see them, and `Process`, one child for one task.

mod decoding;
mod lines;
mod settings;
mod single;
mod surroundings;

use concurrent_futures::{
    Error, Executor, ProcessPoolExecutor, Shutdown, WorkerInfo, current_worker,
};
use libtest_mimic::Trial;
use serde::{Deserialize, Serialize};

use crate::support::gate::{Hold, hold};
use crate::support::leaks::{Baseline, children};
use crate::support::tasks::own_pid;
use crate::support::{Kind, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    let own = trials![Processes::NAME;
        tasks_run_in_another_process,
        no_worker_starts_before_it_is_needed,
        warm_up_starts_all_workers,
        warm_up_after_shutdown_is_refused,
        worker_pids_are_those_that_are_ready,
        a_worker_keeps_its_statics,
        the_initializer_prepares_each_worker,
        the_initializer_takes_an_argument_of_any_size,
        current_worker_tells_index_and_pid,
        workers_have_their_own_process_group,
        workers_do_not_react_to_an_interrupt,
        two_pools_do_not_share_workers,
        the_default_size_is_that_of_the_machine,
        a_pool_costs_two_descriptors_a_worker,
        a_queued_task_costs_no_descriptor,
        a_task_that_starts_threads_ends,
    ];
    let groups = [
        own,
        lines::trials(),
        surroundings::trials(),
        single::trials(),
        settings::trials(),
        decoding::trials(),
    ];
    groups.into_iter().flatten().collect()
}

fn tasks_run_in_another_process() {
    let pool = Processes::pool(1);
    let pid = pool.submit(own_pid, ()).result().unwrap();
    assert_ne!(pid, std::process::id());
    assert_eq!(children(), [pid]);
    assert_eq!(pool.submit(own_pid, ()).result().unwrap(), pid);
}

fn no_worker_starts_before_it_is_needed() {
    let pool = Processes::pool(4);
    assert!(children().is_empty() && pool.worker_pids().is_empty());
    pool.submit(own_pid, ()).result().unwrap();
    pool.submit(own_pid, ()).result().unwrap();
    assert_eq!(children().len(), 1, "an idle one is reused");
}

fn warm_up_starts_all_workers() {
    let pool = Processes::pool(3);
    pool.warm_up().unwrap();
    let mut pids = pool.worker_pids();
    pids.sort_unstable();
    let mut children = children();
    children.sort_unstable();
    assert_eq!(pids, children);
    let stats = pool.stats();
    assert_eq!((stats.workers, stats.idle), (3, 3), "{stats:?}");
    pool.warm_up().unwrap();
    assert_eq!(pool.worker_pids().len(), 3, "once more does nothing");
}

fn warm_up_after_shutdown_is_refused() {
    let pool = Processes::pool(1);
    pool.shutdown(Shutdown::wait());
    assert_error!(pool.warm_up(), Error::ShutDown);
}

fn worker_pids_are_those_that_are_ready() {
    let pool = Processes::pool(2);
    let held = Hold::new();
    let running = pool.submit(hold, held.argument());
    let busy = held.await_begun();
    assert_eq!(pool.worker_pids(), [busy]);
    held.release();
    assert_eq!(running.result().unwrap(), busy);
    assert_eq!(pool.worker_pids(), [busy]);
    pool.shutdown(Shutdown::wait());
    assert!(pool.worker_pids().is_empty());
}

fn a_worker_keeps_its_statics() {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let next = |()| COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let pool = Processes::pool(1);
    let counts = [(); 3].map(|()| pool.submit(next, ()).result().unwrap());
    assert_eq!(counts, [0, 1, 2]);
    assert_eq!(next(()), 0, "this process has its own");
}

// ---- initializer ---------------------------------------------------------------------------

static PREPARED: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();

fn prepare(text: Vec<u8>) {
    assert!(current_worker().is_some());
    PREPARED.set(text).expect("a worker is prepared once");
}

fn prepared(_: ()) -> usize {
    PREPARED.get().map_or(0, Vec::len)
}

fn the_initializer_prepares_each_worker() {
    let builder = ProcessPoolExecutor::builder().max_workers(2);
    let pool = builder
        .initializer(prepare, b"word".to_vec())
        .build()
        .unwrap();
    pool.warm_up().unwrap();
    assert!(PREPARED.get().is_none(), "not here");
    let [first, second] = [(); 2].map(|()| Hold::new());
    let holds = [&first, &second].map(|held| pool.submit(hold, held.argument()));
    let one = first.await_begun();
    second.await_begun();
    // One worker after the other answers, while the other is held.
    first.release();
    assert_eq!(pool.submit(prepared, ()).result().unwrap(), 4);
    os::kill(one, libc::SIGKILL);
    second.release();
    for future in holds {
        future.result().unwrap();
    }
    // A replacement is prepared, too.
    let mut all = (0..10)
        .map(|_| pool.submit(prepared, ()))
        .collect::<Vec<_>>();
    assert!(all.drain(..).all(|length| match length.result() {
        Ok(length) => length == 4,
        Err(error) => matches!(error, Error::WorkerDied(_)),
    }));
}

fn the_initializer_takes_an_argument_of_any_size() {
    for size in [0, 1, 3 << 20] {
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        let pool = builder.initializer(prepare, vec![1; size]).build().unwrap();
        assert_eq!(pool.submit(prepared, ()).result().unwrap(), size);
    }
}

// ---- identity ------------------------------------------------------------------------------

/// What a task can see of its worker.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    index: usize,
    pid: u32,
    thread: u64,
    runs: u64,
    asked_to_stop: bool,
}

impl From<WorkerInfo> for Seen {
    fn from(worker: WorkerInfo) -> Self {
        Self {
            index: worker.index(),
            pid: worker.pid(),
            thread: worker.native_id(),
            runs: worker.tasks_run(),
            asked_to_stop: worker.cancel_requested(),
        }
    }
}

fn current_worker_tells_index_and_pid() {
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    let held = Hold::new();
    let see = |held| {
        hold(held);
        Seen::from(current_worker().unwrap())
    };
    let tasks = [(); 2].map(|()| pool.submit(see, held.argument()));
    let mut pids = [held.await_begun(), held.await_begun()];
    held.release();
    let mut seen = tasks.map(|task| task.result().unwrap());
    seen.sort_by_key(|seen| seen.index);
    assert_eq!([seen[0].index, seen[1].index], [0, 1]);
    for one in &seen {
        // Tasks run on the main thread of their process, whose number is the process's.
        assert_eq!((one.thread, one.runs), (u64::from(one.pid), 1), "{one:?}");
        assert!(!one.asked_to_stop);
    }
    let mut seen = seen.map(|seen| seen.pid);
    seen.sort_unstable();
    pids.sort_unstable();
    assert_eq!(seen, pids);
}

fn workers_have_their_own_process_group() {
    let group = |()| {
        // SAFETY: getpgrp touches no memory and cannot fail.
        unsafe { libc::getpgrp() }
    };
    let pool = Processes::pool(1);
    let of_worker = pool.submit(group, ()).result().unwrap();
    assert_ne!(of_worker, group(()));
    assert_eq!(u32::try_from(of_worker).unwrap(), pool.worker_pids()[0]);
}

fn workers_do_not_react_to_an_interrupt() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let future = pool.submit(hold, held.argument());
    let pid = held.await_begun();
    os::kill(pid, libc::SIGINT);
    held.release();
    assert_eq!(future.result().unwrap(), pid);
    os::kill(pid, libc::SIGINT);
    assert_eq!(pool.submit(own_pid, ()).result().unwrap(), pid);
}

fn two_pools_do_not_share_workers() {
    let (first, second) = (Processes::pool(1), Processes::pool(1));
    let pids = [&first, &second].map(|pool| pool.submit(own_pid, ()).result().unwrap());
    assert_ne!(pids[0], pids[1]);
    drop(first);
    assert_works(&second);
    assert_eq!(children(), [pids[1]]);
}

fn the_default_size_is_that_of_the_machine() {
    let pool = ProcessPoolExecutor::builder().build().unwrap();
    let cores = std::thread::available_parallelism().unwrap().get();
    assert_eq!(pool.max_workers(), cores);
}

// ---- cost ----------------------------------------------------------------------------------

fn a_pool_costs_two_descriptors_a_worker() {
    let before = Baseline::now();
    let pool = Processes::pool(3);
    pool.warm_up().unwrap();
    let new = before.new_descriptors();
    // And the pool itself takes two.
    assert!(new.len() <= 3 * 2 + 2, "{new:?}");
    drop(pool);
    assert!(before.new_descriptors().is_empty());
}

fn a_queued_task_costs_no_descriptor() {
    let pool = Processes::pool(1);
    let held = Hold::new();
    let running = pool.submit(hold, held.argument());
    held.await_begun();
    let before = Baseline::now();
    let queued: Vec<_> = (0..10_000).map(|_| pool.submit(own_pid, ())).collect();
    let new = before.new_descriptors();
    assert!(new.is_empty(), "{new:?}");
    held.release();
    running.result().unwrap();
    for future in queued {
        future.result().unwrap();
    }
}

fn a_task_that_starts_threads_ends() {
    let pool = Processes::pool(1);
    let started = pool.submit(
        |()| {
            std::thread::spawn(|| {
                loop {
                    std::thread::park();
                }
            });
        },
        (),
    );
    started.result().unwrap();
    assert_works(&pool);
}
