//! Processes that have other ids in /proc than they take for theirs, and workers that may not look into the
//! program there.

use std::process::{Command, Stdio};
use std::time::Instant;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shared};
use libtest_mimic::Trial;

use super::SCENE;
use crate::support::leaks::assert_descendants_end;
use crate::support::{Kind, LONG, Processes, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_has_another_number_in_proc,
        a_worker_that_may_not_look_into_the_program_says_so,
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

fn a_worker_that_may_not_look_into_the_program_says_so() {
    if os::effective_user() != 0 {
        return; // there are no rights to lay down
    }
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .initializer(|()| os::become_nobody_special(), ())
        .build()
        .unwrap();
    let sum = |numbers: Shared<u64>| numbers.iter().sum::<u64>();
    let numbers = Shared::from_vec(vec![1_u64; 1 << 16]);
    let words = match pool.submit(sum, numbers).result() {
        Err(Error::Decode(words)) => words.as_str().to_owned(),
        other => panic!("{other:?}"),
    };
    assert!(words.contains("Permission denied"), "{words}");
    let few = Shared::from_vec(vec![1_u64; 8]);
    assert_eq!(pool.submit(sum, few).result().unwrap(), 8);
}
