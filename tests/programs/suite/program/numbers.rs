//! Processes that have other ids in /proc than they take for theirs, and workers that may not look into the
//! program there.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use concurrent_futures::{Executor, ProcessPoolExecutor, Shared};
use libtest_mimic::Trial;

use super::SCENE;
use crate::shared::await_nothing_mapped;
use crate::support::leaks::assert_descendants_end;
use crate::support::{Kind, LONG, Processes, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_has_another_number_in_proc,
        a_worker_that_may_not_look_into_the_program_asks_for_memory,
        an_initializer_of_another_user_asks_for_memory,
    ]
}

/// The scene: what is found by numbers.
pub fn other_numbers() {
    let sum = |numbers: Shared<u64>| numbers.iter().sum::<u64>();
    let numbers = Shared::from_vec(vec![1_u64; 1 << 16]);
    let pool = Processes::pool(1);
    assert_eq!(pool.submit(sum, numbers.clone()).result().unwrap(), 1 << 16);
    let back = pool.submit(|numbers: Shared<u64>| numbers, numbers.clone());
    assert_eq!(back.result().unwrap()[..], numbers[..]);
    let scale = |factor: &u64, n: u64| factor * n;
    let scaled = pool.map_with_context(scale, 7, 0..10);
    let scaled: Result<Vec<_>, _> = scaled.collect();
    assert!(scaled.unwrap().into_iter().eq((0..10).map(|n| 7 * n)));
    let nested = |numbers: Shared<u64>| {
        let sum = |numbers: Shared<u64>| numbers.iter().sum::<u64>();
        Processes::pool(1).submit(sum, numbers).result().unwrap()
    };
    assert_eq!(pool.submit(nested, numbers).result().unwrap(), 1 << 16);
    let launched = ProcessPoolExecutor::builder()
        .max_workers(1)
        .launcher(["nice"])
        .build()
        .unwrap();
    assert_eq!(launched.submit(|n: u8| n, 3).result().unwrap(), 3);
}

/// In a namespace of numbers of its own, with the /proc of the one around it.
fn a_program_has_another_number_in_proc() {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork"]).stdin(Stdio::null());
        command
    };
    if !unshare().arg("true").status().is_ok_and(|it| it.success()) {
        return; // that takes rights
    }
    let program = std::env::current_exe().unwrap();
    let status = unshare().arg(program).env(SCENE, "other numbers").status();
    assert_eq!(status.unwrap().code(), Some(0));
    assert_descendants_end(Instant::now() + LONG);
}

/// Its initializer lays its rights down. What it cannot open, it asks for; tasks that were sent ahead of the
/// answer wait.
fn a_worker_that_may_not_look_into_the_program_asks_for_memory() {
    if os::effective_user() != 0 {
        return; // there are no rights to lay down
    }
    for pool in pools_of_nobody() {
        let sum = |numbers: Shared<u64>| numbers.iter().sum::<u64>();
        let numbers = Shared::from_vec(vec![1_u64; 1 << 16]);
        let futures: Vec<_> = (0..20).map(|_| pool.submit(sum, numbers.clone())).collect();
        for future in futures {
            assert_eq!(future.result().unwrap(), 1 << 16);
        }
        // Each names memory of its own, and several are sent ahead.
        let all = (0..50).map(|n| Shared::from_vec(vec![n; 1 << 12]));
        let sums = pool.map(sum, all).collect::<Result<Vec<_>, _>>().unwrap();
        assert!(sums.into_iter().eq((0..50).map(|n| n << 12)));
        let pid = pool.submit(|()| std::process::id(), ()).result().unwrap();
        let back = pool.submit(|numbers: Shared<u64>| numbers, numbers.clone());
        assert_eq!(back.result().unwrap()[..], numbers[..]);
        let scale = |factors: &Shared<u64>, n: u64| factors[0] * n;
        let scaled = pool.map_with_context(scale, numbers.clone(), 0..100);
        let scaled: Result<Vec<_>, _> = scaled.collect();
        assert!(scaled.unwrap().into_iter().eq(0..100));
        drop(numbers);
        await_nothing_mapped(pid);
    }
}

/// Pools of one worker that has another user than the program, and may not look into it: one with a queue,
/// one whose worker receives every task over its connection.
fn pools_of_nobody() -> [ProcessPoolExecutor; 2] {
    let builder = || {
        ProcessPoolExecutor::builder()
            .max_workers(1)
            .initializer(|()| os::become_nobody_special(), ())
    };
    [builder(), builder().task_timeout(LONG)].map(|builder| builder.build().unwrap())
}

/// The worker has another user from its start on, and asks before it is ready.
fn an_initializer_of_another_user_asks_for_memory() {
    let launcher = ["setpriv", "--reuid=54321", "--clear-groups"];
    let may_run = Command::new(launcher[0])
        .args(&launcher[1..])
        .args(["test", "-x"])
        .arg(std::env::current_exe().unwrap())
        .stderr(Stdio::null())
        .status();
    if !may_run.is_ok_and(|it| it.success()) {
        return; // that takes rights, and a program that other users may execute
    }
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let see = |numbers: Shared<u64>| SEEN.store(numbers.iter().sum(), Ordering::Relaxed);
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .launcher(launcher)
        .initializer(see, Shared::from_vec(vec![1_u64; 1 << 16]))
        .build()
        .unwrap();
    let seen = pool.submit(|()| SEEN.load(Ordering::Relaxed), ());
    assert_eq!(seen.result().unwrap(), 1 << 16);
}
