//! `Process`: one function, one child.

use concurrent_futures::{Error, Process, RunningProcess, current_worker};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::leaks::{Baseline, children};
use crate::support::tasks::double;
use crate::support::{LONG, NO_TIME, assert_error, os, panic_message, trials};

pub fn trials() -> Vec<Trial> {
    trials!["process";
        join_returns_the_result,
        join_tells_a_panic,
        join_tells_an_exit,
        join_tells_a_signal,
        join_timeout_can_be_asked_again,
        join_timeout_after_the_result_is_taken,
        a_process_has_a_pid_and_a_name,
        a_name_with_a_nul_is_refused,
        a_process_is_alive_until_it_ends,
        an_exit_code_is_known_after_the_end,
        terminate_ends_it,
        kill_ends_it,
        kill_after_the_end_does_nothing,
        dropping_it_kills_and_reaps,
        dropping_a_finished_one_reaps,
        payloads_of_no_size_travel,
        payloads_of_a_mebibyte_travel,
        an_argument_that_cannot_be_encoded_is_an_error,
        many_processes_at_a_time,
        a_process_starts_processes,
        a_process_started_by_a_thread_outlives_it,
        a_task_of_a_process_sees_itself_as_worker,
    ]
}

/// A process that is held.
fn held_process(held: &Hold) -> RunningProcess<u32> {
    let process = Process::new(hold, held.argument()).start().unwrap();
    assert_eq!(held.await_begun(), process.pid());
    process
}

/// How the process of a failed join ended.
fn end_of<R>(outcome: Result<R, Error>) -> (Option<i32>, Option<i32>) {
    match outcome {
        Err(Error::WorkerDied(death)) => (death.exit_code(), death.signal()),
        Err(other) => panic!("no death but {other:?}"),
        Ok(_) => panic!("no death but a value"),
    }
}

fn join_returns_the_result() {
    let process = Process::new(double, 21).start().unwrap();
    assert_ne!(process.pid(), std::process::id());
    assert_eq!(process.join().unwrap(), 42);
    assert!(children().is_empty());
}

fn join_tells_a_panic() {
    let task = |n: u64| -> u64 { panic!("on purpose: {n}") };
    let (line, process) = (line!(), Process::new(task, 7));
    let Err(Error::Panicked(panic)) = process.start().unwrap().join() else {
        panic!("no panic")
    };
    assert_eq!(panic.message(), "on purpose: 7");
    assert!(panic.location().unwrap().contains("single.rs:"));
    assert_eq!(panic.task().unwrap().location().line(), line);
}

fn join_tells_an_exit() {
    let process = Process::new(|code| -> u8 { std::process::exit(code) }, 7);
    let process = process.start().unwrap();
    let pid = process.pid();
    let Err(Error::WorkerDied(death)) = process.join() else {
        panic!("no death")
    };
    assert_eq!(
        (death.pid(), death.exit_code(), death.signal()),
        (pid, Some(7), None)
    );
}

fn join_tells_a_signal() {
    let process = Process::new(|()| -> u8 { os::segfault() }, ())
        .start()
        .unwrap();
    assert_eq!(end_of(process.join()), (None, Some(libc::SIGSEGV)));
}

fn join_timeout_can_be_asked_again() {
    let held = Hold::new();
    let mut process = held_process(&held);
    let pid = process.pid();
    for _ in 0..3 {
        assert_error!(process.join_timeout(NO_TIME), Error::Timeout);
    }
    held.release();
    assert_eq!(process.join_timeout(LONG).unwrap(), pid);
}

fn join_timeout_after_the_result_is_taken() {
    let mut process = Process::new(double, 2).start().unwrap();
    assert_eq!(process.join_timeout(LONG).unwrap(), 4);
    assert_error!(process.join_timeout(NO_TIME), Error::Taken);
    assert_error!(process.join(), Error::Taken);
}

fn a_process_has_a_pid_and_a_name() {
    let process = Process::new(|()| std::process::id(), ()).name("fetch");
    let process = process.start().unwrap();
    assert_eq!(process.name(), "fetch");
    let pid = process.pid();
    assert_eq!(process.join().unwrap(), pid);
    let [first, second] = [1, 2].map(|n| Process::new(double, n).start().unwrap());
    assert!(!first.name().is_empty());
    assert_ne!(first.name(), second.name(), "given names differ");
}

fn a_name_with_a_nul_is_refused() {
    let process = Process::new(double, 1).name("fet\0ch");
    let Err(Error::InvalidConfig(reason)) = process.start() else {
        panic!("it is taken")
    };
    assert!(reason.as_str().contains("NUL"), "{reason}");
    assert!(children().is_empty());
}

fn a_process_is_alive_until_it_ends() {
    let held = Hold::new();
    let mut process = held_process(&held);
    assert!(process.is_alive());
    assert_eq!(children(), [process.pid()]);
    assert_eq!(process.exit_code(), None);
    held.release();
    process.join_timeout(LONG).unwrap();
    assert!(!process.is_alive());
}

fn an_exit_code_is_known_after_the_end() {
    let mut process = Process::new(double, 1).start().unwrap();
    process.join_timeout(LONG).unwrap();
    assert_eq!(process.exit_code(), Some(0));
    let mut process = Process::new(|code| std::process::exit(code), 9);
    let _: &mut Process<i32, ()> = &mut process;
    let mut process = process.start().unwrap();
    assert_eq!(end_of(process.join_timeout(LONG)), (Some(9), None));
    assert_eq!(process.exit_code(), Some(9));
}

fn terminate_ends_it() {
    let held = Hold::new();
    let process = held_process(&held);
    process.terminate();
    assert_eq!(end_of(process.join()), (None, Some(libc::SIGTERM)));
}

fn kill_ends_it() {
    let held = Hold::new();
    let mut process = held_process(&held);
    process.kill();
    assert_eq!(
        end_of(process.join_timeout(LONG)),
        (None, Some(libc::SIGKILL))
    );
    assert!(!process.is_alive());
    assert_eq!(
        end_of(process.join()),
        (None, Some(libc::SIGKILL)),
        "also when asked again"
    );
}

fn kill_after_the_end_does_nothing() {
    let mut process = Process::new(double, 2).start().unwrap();
    assert_eq!(process.join_timeout(LONG).unwrap(), 4);
    process.kill();
    process.terminate();
    assert_eq!(process.exit_code(), Some(0));
}

fn dropping_it_kills_and_reaps() {
    let before = Baseline::now();
    let held = Hold::new();
    let process = held_process(&held);
    let pid = process.pid();
    drop(process);
    assert!(
        !os::exists(pid),
        "gone when drop returns, though nobody opened its gate"
    );
    drop(held);
    before.assert_restored();
}

fn dropping_a_finished_one_reaps() {
    let mut process = Process::new(double, 2).start().unwrap();
    process.join_timeout(LONG).unwrap();
    let pid = process.pid();
    drop(process);
    assert!(!os::exists(pid));
}

fn payloads_of_no_size_travel() {
    Process::new(|()| (), ()).start().unwrap().join().unwrap();
    let empty = Process::new(|bytes: Vec<u8>| bytes, Vec::new());
    assert!(empty.start().unwrap().join().unwrap().is_empty());
}

fn payloads_of_a_mebibyte_travel() {
    let payload: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    let process = Process::new(|bytes: Vec<u8>| bytes, payload.clone());
    assert!(process.start().unwrap().join().unwrap() == payload);
}

fn an_argument_that_cannot_be_encoded_is_an_error() {
    /// Refuses to be encoded.
    struct Shy;
    impl serde::Serialize for Shy {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("on purpose: shy"))
        }
    }
    impl<'de> serde::Deserialize<'de> for Shy {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Ok(Self)
        }
    }
    // Told by `start` or by `join`.
    let outcome = Process::new(|_: Shy| (), Shy)
        .start()
        .and_then(RunningProcess::join);
    assert_error!(outcome, Error::Encode(_));
    assert!(children().is_empty());
}

fn many_processes_at_a_time() {
    let start = |n| (n, Process::new(double, n).start().unwrap());
    let started: Vec<_> = (0..10).map(start).collect();
    for (n, process) in started.into_iter().rev() {
        assert_eq!(process.join().unwrap(), 2 * n);
    }
}

fn a_process_starts_processes() {
    let nested = |n| Process::new(double, n).start().unwrap().join().unwrap();
    assert_eq!(Process::new(nested, 4).start().unwrap().join().unwrap(), 8);
}

/// The system's news of a parent's end come when the *thread* ends that started the child.
fn a_process_started_by_a_thread_outlives_it() {
    let held = Hold::new();
    let process = std::thread::scope(|scope| {
        let starter = scope.spawn(|| Process::new(hold, held.argument()).start().unwrap());
        starter.join().unwrap()
    });
    let pid = held.await_begun();
    held.release();
    assert_eq!(process.join().unwrap(), pid);
}

fn a_task_of_a_process_sees_itself_as_worker() {
    let see = |()| current_worker().map(|worker| (worker.index(), worker.tasks_run()));
    let seen = Process::new(see, ()).start().unwrap().join();
    assert_eq!(seen.unwrap(), Some((0, 1)));
    let failing = Process::new(|()| -> u8 { panic!("on purpose") }, ());
    assert_eq!(panic_message(failing.start().unwrap().join()), "on purpose");
}
