//! Tasks that change the process that they run in: what they do to themselves stays there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, TaskOptions};
use libtest_mimic::Trial;

use super::death::death;
use crate::support::gate::Hold;
use crate::support::tasks::own_pid;
use crate::support::{Kind, LONG, Processes, assert_error, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        a_task_changes_directory,
        a_task_removes_its_directory,
        a_task_blocks_all_signals,
        a_task_that_blocks_all_signals_is_killed_at_its_limit,
        a_task_ignores_the_ends_of_children,
        a_task_closes_all_descriptors,
        a_task_takes_all_descriptors,
        a_task_forks_and_its_copy_ends,
        a_task_leaves_its_process_group,
        a_task_removes_its_environment,
    ]
}

/// Has a task run, and then others on the same worker, where that lives on, and on its successor.
fn meddles<R: concurrent_futures::Payload>(task: fn(()) -> R) -> (ProcessPoolExecutor, R) {
    let pool = Processes::pool(1);
    let pid = pool.submit(own_pid, ()).result().unwrap();
    let (meddling, behind) = (pool.submit(task, ()), pool.submit(own_pid, ()));
    let answer = meddling.result().unwrap();
    assert_eq!(behind.result().unwrap(), pid, "the same worker goes on");
    assert_works(&pool);
    (pool, answer)
}

/// The worker is killed; the next one is as if nothing had been.
fn begin_anew(pool: &ProcessPoolExecutor) {
    let kill = |()| -> u8 {
        os::kill(std::process::id(), libc::SIGKILL);
        unreachable!("SIGKILL is not survived")
    };
    assert_eq!(death(pool.submit(kill, ())).signal(), Some(libc::SIGKILL));
    assert_works(pool);
}

// ---- directory -----------------------------------------------------------------------------

fn here(_: ()) -> Option<PathBuf> {
    std::env::current_dir().ok()
}

fn a_task_changes_directory() {
    let (pool, ()) = meddles(|()| std::env::set_current_dir("/proc").unwrap());
    let of_worker = || pool.submit(here, ()).result().unwrap();
    assert_eq!(of_worker().as_deref(), Some(Path::new("/proc")));
    begin_anew(&pool);
    assert_eq!(
        of_worker(),
        here(()),
        "a new worker starts where the program is"
    );
}

fn a_task_removes_its_directory() {
    let (pool, ()) = meddles(|()| {
        let name = format!("concurrent-futures-gone-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        std::fs::create_dir(&place).unwrap();
        std::env::set_current_dir(&place).unwrap();
        std::fs::remove_dir(&place).unwrap();
    });
    assert_eq!(pool.submit(here, ()).result().unwrap(), None);
    begin_anew(&pool);
    assert_eq!(pool.submit(here, ()).result().unwrap(), here(()));
}

fn a_task_removes_its_environment() {
    let (pool, ()) = meddles(|()| {
        for (name, _) in std::env::vars_os() {
            // SAFETY: no other thread of the worker looks at the environment.
            unsafe { std::env::remove_var(name) };
        }
    });
    let entries = |()| std::env::vars_os().count();
    assert_eq!(pool.submit(entries, ()).result().unwrap(), 0);
    begin_anew(&pool);
    assert_eq!(pool.submit(entries, ()).result().unwrap(), entries(()));
}

// ---- signals -------------------------------------------------------------------------------

fn a_task_blocks_all_signals() {
    let (pool, ()) = meddles(|()| os::block_all_signals());
    let pid = pool.submit(own_pid, ()).result().unwrap();
    os::kill(pid, libc::SIGTERM);
    assert_eq!(pool.submit(own_pid, ()).result().unwrap(), pid);
    begin_anew(&pool);
    let (pool, ()) = meddles(|()| os::block_all_signals());
    drop(pool); // a worker leaves because the pool ends, not by a signal
}

fn a_task_that_blocks_all_signals_is_killed_at_its_limit() {
    let pool = Processes::pool(1);
    let deaf = |()| -> u8 {
        os::block_all_signals();
        loop {
            std::thread::park();
        }
    };
    let limit = TaskOptions::new().timeout(Duration::from_millis(30));
    let late = pool.submit_with(limit, deaf, ());
    assert_error!(late.result(), Error::TaskTimeout { .. });
    assert_works(&pool);
}

/// Its own children are reaped by the kernel then; the worker is still reaped by the program.
fn a_task_ignores_the_ends_of_children() {
    let (pool, ()) = meddles(|()| os::ignore(libc::SIGCHLD));
    begin_anew(&pool);
}

// ---- descriptors ---------------------------------------------------------------------------

/// What is left is a worker that the program cannot reach: it is lost, either with this task or with the one
/// that it has begun next.
fn a_task_closes_all_descriptors() {
    let pool = Processes::pool(1);
    let before = pool.submit(own_pid, ()).result().unwrap();
    let closing = pool.submit(|()| os::close_all_above(2), ());
    let behind = pool.submit(|()| (), ());
    for outcome in [closing.result(), behind.result()] {
        match outcome {
            Ok(()) => {}
            Err(Error::WorkerDied(death)) => assert_eq!(death.pid(), before),
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(os::await_end(before, Instant::now() + LONG));
    assert_works(&pool);
}

fn a_task_takes_all_descriptors() {
    let (pool, count) = meddles(|()| {
        let file = || std::fs::File::open("/dev/null");
        std::iter::from_fn(|| file().ok())
            .map(std::mem::forget)
            .count()
    });
    assert!(count > 0);
    begin_anew(&pool);
}

// ---- processes -----------------------------------------------------------------------------

fn a_task_forks_and_its_copy_ends() {
    let (pool, ended) = meddles(|()| match os::fork() {
        0 => os::exit_now(7),
        copy => os::reap(copy).code(),
    });
    assert_eq!(ended, Some(7));
    begin_anew(&pool);
}

/// It is no longer where its group is looked for, but its number still ends it.
fn a_task_leaves_its_process_group() {
    let (pool, ()) = meddles(|()| os::join_group_of_parent());
    let held = Hold::new();
    let running = held.occupy(&pool);
    let pid = pool.worker_pids()[0];
    assert!(running.kill());
    assert_error!(running.result(), Error::Cancelled);
    assert!(!os::exists(pid));
    assert_works(&pool);
}
