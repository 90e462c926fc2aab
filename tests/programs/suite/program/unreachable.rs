//! Workers that no signal reaches: neither the kernel's for the end of their parent, which a change of rights
//! disarms, nor the program's own, which the system may refuse.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, Process, ProcessPoolExecutor, TaskOptions};
use libtest_mimic::Trial;

use super::{SOON, announce, command, play};
use crate::support::gate::{Held, Hold, hold};
use crate::support::leaks::{assert_descendants_end, kill_descendants};
use crate::support::tasks::double;
use crate::support::{assert_error, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        workers_that_change_their_rights_end_with_a_killed_program,
        workers_of_a_program_without_rights_end_with_it,
        a_program_without_rights_ends_its_workers,
        a_program_that_may_send_no_signals_ends_its_workers,
        a_start_that_no_signal_ends_is_given_up,
        an_initializer_runs_in_a_process_of_one_thread,
        a_task_may_close_all_descriptors_and_open_others,
    ]
}

/// The id of a user without rights.
const STRANGER: u32 = 54_321;

/// The ways of a task to its worker.
#[derive(Clone, Copy)]
enum Way {
    /// Over the shared-memory queue.
    Queue,
    /// Over the connection.
    Connection,
}

const WAYS: [Way; 2] = [Way::Queue, Way::Connection];

/// A pool whose workers are ready.
fn warm_pool(way: Way, workers: usize, initializer: fn(())) -> ProcessPoolExecutor {
    let builder = ProcessPoolExecutor::builder()
        .max_workers(workers)
        .initializer(initializer, ());
    let builder = match way {
        Way::Queue => builder,
        Way::Connection => builder.max_tasks_per_child(1000),
    };
    let pool = builder.build().unwrap();
    pool.warm_up().unwrap();
    pool
}

fn keep_rights(_: ()) {}

/// Acts as another user for a moment.
fn change_rights(_: ()) {
    os::lower_rights(STRANGER);
    os::lower_rights(0);
}

// ---- the program is gone -------------------------------------------------------------------

/// Pools with a worker that runs a task and one that is idle.
fn stay(held: Held, pools: &[ProcessPoolExecutor], prepare: impl FnOnce()) -> ! {
    let begun = Hold::new();
    prepare();
    for pool in pools {
        drop(pool.submit(announce, (begun.argument(), held.clone())));
        begun.await_begun();
    }
    loop {
        std::thread::park();
    }
}

/// The scene: it is killed while its workers, which have changed their rights, are busy and idle.
pub fn stay_changed(held: Held) -> ! {
    let pools = WAYS.map(|way| warm_pool(way, 2, change_rights));
    stay(held, &pools, || ())
}

/// The scene: as above, but the program itself has laid its rights down since.
pub fn stay_lowered(held: Held) -> ! {
    let pools = WAYS.map(|way| warm_pool(way, 2, keep_rights));
    stay(held, &pools, || os::lay_down_rights(STRANGER))
}

/// Kills the scene once all its tasks run.
fn kill_while_it_plays(scene: &str) {
    if os::effective_user() != 0 {
        return; // root alone can change its rights
    }
    let held = Hold::new();
    let mut program = command(scene, &held).spawn().unwrap();
    for _ in WAYS {
        held.await_begun();
    }
    program.kill().unwrap();
    assert_eq!(program.wait().unwrap().signal(), Some(libc::SIGKILL));
    // The tasks still wait at their gate, which is not open.
    let ended = std::panic::catch_unwind(|| assert_descendants_end(Instant::now() + SOON));
    kill_descendants();
    assert!(ended.is_ok(), "workers outlive the program");
}

fn workers_that_change_their_rights_end_with_a_killed_program() {
    kill_while_it_plays("stay changed");
}

fn workers_of_a_program_without_rights_end_with_it() {
    kill_while_it_plays("stay lowered");
}

// ---- signals are refused -------------------------------------------------------------------

/// Ends tasks that run, each of another pool, in all ways.
fn end_all(prepare: impl FnOnce(), clean_up: impl FnOnce()) {
    type End = fn(&ProcessPoolExecutor, Held);
    let ways: [End; 4] = [
        |pool, held| {
            let running = pool.submit(hold, held);
            while !running.running() {
                std::thread::yield_now();
            }
            assert!(running.kill());
            assert_error!(running.result(), Error::Cancelled);
        },
        |pool, held| {
            let limit = TaskOptions::new().timeout(Duration::from_millis(100));
            let late = pool.submit_with(limit, hold, held);
            assert_error!(late.result(), Error::TaskTimeout { .. });
        },
        |pool, held| {
            let running = pool.submit(hold, held);
            pool.terminate_workers();
            assert!(running.result().is_err());
        },
        |pool, held| {
            let running = pool.submit(hold, held);
            pool.kill_workers();
            assert!(running.result().is_err());
        },
    ];
    let held = Hold::new();
    let pools = WAYS.map(|way| ways.map(|end| (warm_pool(way, 1, keep_rights), end)));
    let process = Process::new(hold, held.argument()).start().unwrap();
    held.await_begun();
    prepare();
    for (pool, end) in pools.into_iter().flatten() {
        end(&pool, held.argument());
    }
    process.kill();
    assert_error!(process.join(), Error::WorkerDied(_));
    clean_up();
}

/// The scene: root's workers, which their program may not signal any more.
pub fn end_lowered() {
    // Root's own are needed to remove what root has made.
    end_all(|| os::lay_down_rights(STRANGER), || os::lower_rights(0));
}

/// The scene: a filter of system calls forbids all signals.
pub fn end_filtered() {
    os::refuse_signals();
    end_all(|| (), || ());
}

fn a_program_without_rights_ends_its_workers() {
    if os::effective_user() == 0 {
        assert_eq!(play("end lowered").code(), Some(0));
    }
}

fn a_program_that_may_send_no_signals_ends_its_workers() {
    assert_eq!(play("end filtered").code(), Some(0));
}

/// The scene: workers that never get ready, and that no signal ends.
pub fn start_filtered() {
    os::refuse_signals();
    let stay = |()| loop {
        std::thread::park();
    };
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .initializer(stay, ())
        .start_timeout(Duration::from_millis(200))
        .build()
        .unwrap();
    assert_error!(pool.submit(double, 1).result(), Error::BrokenPool(_));
}

fn a_start_that_no_signal_ends_is_given_up() {
    assert_eq!(play("start filtered").code(), Some(0));
}

// ---- what there is instead -----------------------------------------------------------------

fn threads(_: ()) -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn an_initializer_runs_in_a_process_of_one_thread() {
    for way in WAYS {
        let pool = warm_pool(way, 1, |()| assert_eq!(threads(()), 1));
        // The task's own, and the one that waits for the program's end.
        assert_eq!(pool.submit(threads, ()).result().unwrap(), 2);
    }
}

/// Replaces the descriptor on which the worker's thread waits by one that is always ready; then interrupts
/// the thread's system call.
fn replace_what_is_waited_on(_: ()) -> bool {
    let is_wait = |entry: &std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path());
        target.is_ok_and(|target| target.ends_with("anon_inode:[eventpoll]"))
    };
    let mut entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let found = entries.find(is_wait);
    let number: i32 = match found {
        Some(entry) => entry.file_name().to_str().unwrap().parse().unwrap(),
        None => return false,
    };
    os::replace_by_ready_epoll(number);
    let stop = "kill -STOP $PPID; kill -CONT $PPID";
    let status = std::process::Command::new("sh").args(["-c", stop]).status();
    status.unwrap().success()
}

fn a_task_may_close_all_descriptors_and_open_others() {
    for way in WAYS {
        let pool = warm_pool(way, 1, keep_rights);
        for _ in 0..20 {
            assert!(pool.submit(replace_what_is_waited_on, ()).result().unwrap());
        }
        assert_eq!(pool.submit(double, 21).result().unwrap(), 42);
        assert_eq!(pool.stats().worker_restarts, 0);
    }
}
