//! Workers that do not start, by fault of their own or of others. Behind a launcher that counts.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use concurrent_futures::{Executor, ProcessPoolBuilder, ProcessPoolExecutor};
use libtest_mimic::Trial;

use crate::support::gate::Hold;
use crate::support::tasks::double;
use crate::support::{Kind, Processes, assert_breaks, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials![Processes::NAME;
        three_failed_starts_break_the_pool,
        two_failed_starts_do_not_break_the_pool,
        failed_starts_beside_a_worker_that_is_ready_break_nothing,
        starts_that_are_killed_from_outside_are_tried_again,
        another_program_in_place_of_this_one_breaks_the_pool,
        a_worker_that_is_never_ready_breaks_the_pool,
        workers_that_end_before_they_begin_anything_break_the_pool,
        workers_that_begin_a_task_each_break_nothing,
    ]
}

/// Where a launcher counts how often it was called; removed at the end.
struct Calls(PathBuf);

impl Calls {
    fn new(name: &str) -> Self {
        let name = format!("concurrent-futures-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::write(&path, "").unwrap();
        Self(path)
    }

    /// How many there were.
    fn count(&self) -> u64 {
        fs::metadata(&self.0).unwrap().len()
    }

    /// A pool of one worker. Its launcher counts its calls, and runs `act` in those whose number `n` fulfils
    /// `meant`.
    fn pool(&self, meant: &str, act: &str) -> ProcessPoolBuilder {
        let path = self.0.display();
        let script = format!(
            "printf x >> {path}; n=$(wc -c < {path}); \
             if [ {meant} ]; then {act}; fi; exec \"$0\" \"$@\""
        );
        let builder = ProcessPoolExecutor::builder().max_workers(1);
        builder.launcher(["sh", "-c", &script])
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

fn three_failed_starts_break_the_pool() {
    let calls = Calls::new("three");
    let pool = calls
        .pool("$n -le 3", "echo on purpose >&2; exit 9")
        .build();
    assert_breaks(&pool.unwrap(), &["exited with code 9", "on purpose"]);
    assert_eq!(calls.count(), 3);
}

fn two_failed_starts_do_not_break_the_pool() {
    let calls = Calls::new("two");
    let pool = calls.pool("$((n % 3)) != 0", "exit 9").build().unwrap();
    assert_works(&pool);
    assert_eq!(calls.count(), 3);
    // They do not count any more once a worker was ready: two others come.
    let kill = |()| os::kill(std::process::id(), libc::SIGKILL);
    assert!(pool.submit(kill, ()).result().is_err());
    assert_works(&pool);
    assert_eq!(calls.count(), 6);
}

fn failed_starts_beside_a_worker_that_is_ready_break_nothing() {
    let calls = Calls::new("beside");
    let pool = calls.pool("$n -ge 2", "exit 9").max_workers(2).build();
    let pool = pool.unwrap();
    let held = Hold::new();
    let running = held.occupy(&pool);
    let queued = [1, 2, 3].map(|n| pool.submit(double, n));
    held.release();
    running.result().unwrap();
    assert_eq!(queued.map(|future| future.result().unwrap()), [2, 4, 6]);
    assert_works(&pool);
}

fn starts_that_are_killed_from_outside_are_tried_again() {
    let signals = [
        ("KILL", libc::SIGKILL),
        ("TERM", libc::SIGTERM),
        ("INT", libc::SIGINT),
        ("HUP", libc::SIGHUP),
    ];
    // A signal that the suite was started with ignored, as nohup does it, kills no launcher.
    for (signal, _) in signals
        .iter()
        .filter(|(_, number)| !os::is_ignored(*number))
    {
        let calls = Calls::new("outside");
        let pool = calls
            .pool("$n -le 10", &format!("kill -{signal} $$"))
            .build();
        assert_works(&pool.unwrap());
        assert_eq!(calls.count(), 11);
    }
}

fn another_program_in_place_of_this_one_breaks_the_pool() {
    let launcher = ["sh", "-c", "echo I am another >&2; exec true"];
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.launcher(launcher).build().unwrap();
    let words = ["exited with code 0", "before it said hello", "I am another"];
    assert_breaks(&pool, &words);
}

fn a_worker_that_is_never_ready_breaks_the_pool() {
    let limit = Duration::from_millis(50);
    let builder = || ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder().start_timeout(limit);
    let pool = pool.launcher(["sh", "-c", "exec sleep 1000"]).build();
    assert_breaks(&pool.unwrap(), &["not ready after 50ms"]);
    let initializer = |()| {
        loop {
            std::thread::park();
        }
    };
    let pool = builder().start_timeout(limit);
    let pool = pool.initializer(initializer, ()).build();
    assert_breaks(&pool.unwrap(), &["not ready after 50ms"]);
}

/// Has the worker find, once it is ready, that the program is gone; it then leaves. Notes that it was there.
fn hear_no_more(path: PathBuf) {
    let mut calls = fs::File::options().append(true).open(path).unwrap();
    std::io::Write::write_all(&mut calls, b".").unwrap();
    for fd in super::connections::sockets() {
        // SAFETY: no memory is touched.
        unsafe { libc::shutdown(fd, libc::SHUT_RD) };
    }
}

/// It is no storm of starts, nor does it go on for ever.
fn workers_that_end_before_they_begin_anything_break_the_pool() {
    let calls = Calls::new("barren");
    let builder = ProcessPoolExecutor::builder().max_workers(1);
    let pool = builder.initializer(hear_no_more, calls.0.clone());
    let pool = pool.build().unwrap();
    let mut future = pool.submit(double, 1);
    let outcome = future.result_timeout(Duration::from_secs(20));
    let Err(concurrent_futures::Error::BrokenPool(reason)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.as_str().contains("20 workers in a row"), "{reason}");
    assert_eq!(calls.count(), 20);
    assert_eq!(pool.stats().worker_restarts, 19);
}

/// Each costs what it ran, however many there are.
fn workers_that_begin_a_task_each_break_nothing() {
    let pool = Processes::pool(1);
    for n in 0..30 {
        let fatal = pool.submit(|n: i32| -> u8 { std::process::exit(n) }, n % 2);
        let Err(concurrent_futures::Error::WorkerDied(_)) = fatal.result() else {
            panic!("{n}: it ends its worker")
        };
    }
    assert_works(&pool);
}
