//! Workers do not inherit how a program handles its signals; and other code that waits for the program's
//! children.

use std::process::Command;

use concurrent_futures::{Error, Executor, Process};
use libtest_mimic::Trial;

use super::{executable, play};
use crate::support::gate::Hold;
use crate::support::tasks::{double, own_pid};
use crate::support::{Kind, Processes, assert_error, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_ignores_the_ends_of_its_children,
        a_program_reaps_all_children_itself,
        a_program_ignores_and_blocks_signals,
    ]
}

// ---- ends of unknown cause -----------------------------------------------------------------

/// The scene: the system reaps all children, and keeps no word of how they ended.
pub fn ignore_children() {
    os::ignore(libc::SIGCHLD);
    ends_are_unknown();
}

fn ends_are_unknown() {
    let pool = Processes::pool(1);
    let dying = pool.submit(|()| -> u8 { std::process::abort() }, ());
    let Err(Error::WorkerDied(death)) = dying.result() else {
        panic!("no death")
    };
    assert_eq!((death.exit_code(), death.signal()), (None, None));
    let words = death.to_string();
    assert!(
        words.contains("unknown") && !words.contains("-1"),
        "{words}"
    );
    executable::work();
    exit_codes_are_those_of_what_was_told();
    let held = Hold::new();
    let running = held.occupy(&pool);
    pool.kill_workers();
    assert_error!(running.result(), Error::ShutDown);
}

/// Where the outcome has come, it says what the process exits with.
fn exit_codes_are_those_of_what_was_told() {
    let mut good = Process::new(double, 4).start().unwrap();
    assert_eq!(good.join_timeout(crate::support::LONG).unwrap(), 8);
    assert_eq!(good.exit_code(), Some(0));
    let bad = Process::new(|()| -> u8 { panic!("on purpose") }, ());
    let mut bad = bad.start().unwrap();
    assert_error!(bad.join_timeout(crate::support::LONG), Error::Panicked(_));
    assert_eq!(bad.exit_code(), Some(1));
    let dying = Process::new(|()| -> u8 { os::exit_now(7) }, ());
    let mut dying = dying.start().unwrap();
    assert_error!(
        dying.join_timeout(crate::support::LONG),
        Error::WorkerDied(_)
    );
    assert_eq!((dying.exit_code(), dying.is_alive()), (None, false));
}

fn a_program_ignores_the_ends_of_its_children() {
    assert_eq!(play("ignore children").code(), Some(0));
}

/// The scene: a thread reaps whatever child ends, as an init process does.
pub fn reap_children() {
    std::thread::spawn(os::reap_all);
    let pool = Processes::pool(2);
    for round in 0..20 {
        let dying = pool.submit(|()| -> u8 { std::process::abort() }, ());
        assert_error!(dying.result(), Error::WorkerDied(_));
        assert_eq!(pool.submit(double, round).result().unwrap(), 2 * round);
    }
    executable::work();
    let held = Hold::new();
    let running = held.occupy(&pool);
    assert!(running.kill());
    let mut process = Process::new(own_pid, ()).start().unwrap();
    let pid = process.pid();
    assert_eq!(process.join_timeout(crate::support::LONG).unwrap(), pid);
    assert_eq!(process.exit_code(), Some(0));
    process.kill();
}

fn a_program_reaps_all_children_itself() {
    assert_eq!(play("reap children").code(), Some(0));
}

// ---- masks and dispositions ----------------------------------------------------------------

/// Signals, as the system writes sets of them.
fn set(signals: &[i32]) -> u64 {
    signals.iter().map(|signal| 1_u64 << (signal - 1)).sum()
}

/// The calling thread's blocked signals, and those that its process ignores.
fn stand(_: ()) -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let bits = |name| u64::from_str_radix(line(name).unwrap().trim(), 16).unwrap();
    (bits("SigBlk:"), bits("SigIgn:"))
}

/// The scene: most signals are blocked or ignored here.
pub fn stand_oddly() {
    let ignored = [
        libc::SIGTERM,
        libc::SIGCHLD,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGTSTP,
        libc::SIGALRM,
    ];
    ignored.into_iter().for_each(os::ignore);
    os::block_all_signals();
    let pool = Processes::pool(1);
    let (blocked, ignored) = pool.submit(stand, ()).result().unwrap();
    assert_eq!(blocked, set(&[libc::SIGTTOU]));
    // The C library keeps the next two to itself.
    let ignored = ignored & !set(&[32, 33]);
    assert_eq!(ignored, set(&[libc::SIGPIPE, libc::SIGHUP]), "{ignored:x}");
    let command = |()| Command::new("true").status().is_ok_and(|it| it.success());
    assert!(pool.submit(command, ()).result().unwrap());
    let held = Hold::new();
    let process = Process::new(crate::support::gate::hold, held.argument());
    let process = process.start().unwrap();
    held.await_begun();
    process.terminate();
    // The task is at its gate, which is not opened: without the signal this does not end.
    assert_error!(process.join(), Error::WorkerDied(_));
}

fn a_program_ignores_and_blocks_signals() {
    assert_eq!(play("stand oddly").code(), Some(0));
}
