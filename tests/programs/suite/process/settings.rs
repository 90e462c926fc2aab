//! Settings of a `Process`, and what a pool's workers inherit of the environment.

use std::fs::File;
use std::future::Future;
use std::io::Read;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use concurrent_futures::{
    Error, Executor, Process, ProcessPoolExecutor, RunningProcess, WorkerStdio,
};
use libtest_mimic::Trial;

use crate::support::gate::{Hold, hold};
use crate::support::leaks::{Baseline, children};
use crate::support::{LONG, trials};

pub fn trials() -> Vec<Trial> {
    trials!["process";
        a_process_has_the_environment_it_is_given,
        a_name_of_a_variable_is_checked,
        a_pool_can_begin_with_no_environment,
        a_process_starts_where_it_is_told,
        a_process_reads_what_it_is_given,
        a_process_without_input_reads_nothing,
        what_a_process_prints_is_in_its_error,
        a_process_ends_at_its_limit,
        a_process_that_is_in_time_has_its_result,
        a_process_ends_at_its_memory_limit,
        a_process_is_awaited,
        a_process_that_is_no_longer_awaited_is_killed,
        a_process_is_dropped_by_its_own_waker,
    ]
}

fn variables(_: ()) -> Vec<(String, String)> {
    let mut all: Vec<_> = std::env::vars().collect();
    all.sort();
    all
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    all.iter().map(owned).collect()
}

fn a_process_has_the_environment_it_is_given() {
    let process = Process::new(variables, ())
        .env("FORGOTTEN", "1")
        .env_clear()
        .env("A", "1")
        .envs([("B", "2"), ("C", "3")])
        .env_remove("B");
    let seen = process.start().unwrap().join().unwrap();
    assert_eq!(seen, pairs(&[("A", "1"), ("C", "3")]));
    let path = |()| std::env::var_os("PATH").is_some();
    assert!(Process::new(path, ()).start().unwrap().join().unwrap());
    let removed = Process::new(path, ()).env_remove("PATH");
    assert!(!removed.start().unwrap().join().unwrap());
}

fn a_name_of_a_variable_is_checked() {
    let started = Process::new(variables, ()).env("A=B", "1").start();
    assert!(matches!(started, Err(Error::InvalidConfig(_))));
    let started = Process::new(variables, ()).env_remove("").start();
    assert!(matches!(started, Err(Error::InvalidConfig(_))));
    let built = ProcessPoolExecutor::builder().env_remove("A\0").build();
    assert!(matches!(built, Err(Error::InvalidConfig(_))));
    let started = Process::new(variables, ()).memory_limit(0).start();
    assert!(matches!(started, Err(Error::InvalidConfig(_))));
    assert!(children().is_empty());
}

fn a_pool_can_begin_with_no_environment() {
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .env_clear()
        .envs([("A", "1"), ("B", "2")])
        .env_remove("A")
        .build()
        .unwrap();
    let seen = pool.submit(variables, ()).result().unwrap();
    assert_eq!(seen, pairs(&[("B", "2")]));
}

fn a_process_starts_where_it_is_told() {
    let here = |()| std::env::current_dir().unwrap();
    let process = Process::new(here, ()).current_dir("/proc").start().unwrap();
    assert_eq!(process.join().unwrap().to_str(), Some("/proc"));
    let missing = Process::new(here, ())
        .current_dir("/no such folder")
        .start();
    let Err(Error::Spawn(reason)) = missing else {
        panic!("{missing:?}")
    };
    assert!(reason.as_str().contains("/no such folder"), "{reason}");
}

fn read_input(_: ()) -> String {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).unwrap();
    text
}

fn a_process_reads_what_it_is_given() {
    let file = File::open("/proc/self/status").unwrap();
    let process = Process::new(read_input, ()).stdin(file).start().unwrap();
    assert!(process.join().unwrap().starts_with("Name:"));
}

fn a_process_without_input_reads_nothing() {
    let process = Process::new(read_input, ()).start().unwrap();
    assert_eq!(process.join().unwrap(), "");
}

fn what_a_process_prints_is_in_its_error() {
    let fail = |()| -> u8 {
        println!("dropped");
        eprintln!("before the end");
        std::process::exit(3)
    };
    let process = Process::new(fail, ())
        .stdout(WorkerStdio::Null)
        .stderr(WorkerStdio::Capture);
    let Err(Error::WorkerDied(death)) = process.start().unwrap().join() else {
        panic!("no death")
    };
    assert_eq!(death.output(), Some("before the end\n"));
    let panics = |()| -> u8 {
        println!("before the panic");
        panic!("on purpose")
    };
    let process = Process::new(panics, ()).stdout(WorkerStdio::Capture);
    let Err(Error::Panicked(panic)) = process.start().unwrap().join() else {
        panic!("no panic")
    };
    assert_eq!(panic.output(), Some("before the panic\n"));
}

fn a_process_ends_at_its_limit() {
    let limit = Duration::from_millis(50);
    let endless = |bytes: Vec<u8>| -> usize {
        loop {
            std::hint::black_box(&bytes);
            std::thread::park();
        }
    };
    for size in [1, 8 << 20] {
        let process = Process::new(endless, vec![1; size]).timeout(limit);
        let outcome = process.start().unwrap().join();
        assert!(
            matches!(outcome, Err(Error::TaskTimeout { limit: told }) if told == limit),
            "{outcome:?}"
        );
        assert!(children().is_empty());
    }
}

fn a_process_that_is_in_time_has_its_result() {
    let process = Process::new(|n: u8| n + 1, 1).timeout(LONG);
    assert_eq!(process.start().unwrap().join().unwrap(), 2);
}

fn a_process_ends_at_its_memory_limit() {
    let greedy = |size: usize| vec![1_u8; size].len();
    let process = Process::new(greedy, 1 << 30)
        .memory_limit(256 << 20)
        .stderr(WorkerStdio::Null);
    let error = process.start().unwrap().join().unwrap_err();
    assert!(
        error.to_string().contains("memory limit 256 MiB"),
        "{error}"
    );
}

fn a_process_is_awaited() {
    let mut process = pin!(Process::new(|n: u8| n + 1, 1).start().unwrap());
    let me = std::thread::current();
    let waker = Waker::from(std::sync::Arc::new(Unpark(me)));
    let mut context = Context::from_waker(&waker);
    let outcome = loop {
        match process.as_mut().poll(&mut context) {
            Poll::Ready(outcome) => break outcome,
            Poll::Pending => std::thread::park_timeout(LONG),
        }
    };
    assert_eq!(outcome.unwrap(), 2);
    let again = process.as_mut().poll(&mut context);
    assert!(matches!(again, Poll::Ready(Err(Error::Taken))), "{again:?}");
}

/// Wakes a thread that is parked.
struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}

fn a_process_that_is_no_longer_awaited_is_killed() {
    let endless = |()| -> u8 {
        loop {
            std::thread::park();
        }
    };
    let mut process = Box::pin(Process::new(endless, ()).start().unwrap());
    let mut context = Context::from_waker(Waker::noop());
    assert!(process.as_mut().poll(&mut context).is_pending());
    drop(process);
    assert!(children().is_empty());
}

/// An executor that is gone leaves the future to its waker.
struct LastOwner {
    process: Mutex<Option<Pin<Box<RunningProcess<u32>>>>>,
    woken: mpsc::Sender<()>,
}

impl std::task::Wake for LastOwner {
    fn wake(self: Arc<Self>) {
        drop(self.process.lock().unwrap().take());
        self.woken.send(()).unwrap();
    }
}

fn a_process_is_dropped_by_its_own_waker() {
    let before = Baseline::now();
    let held = Hold::new();
    let process = Process::new(hold, held.argument()).start().unwrap();
    let (woken, is_woken) = mpsc::channel();
    let owner = Arc::new(LastOwner {
        process: Mutex::new(Some(Box::pin(process))),
        woken,
    });
    let waker = Waker::from(Arc::clone(&owner));
    let mut process = owner.process.lock().unwrap();
    let polled = process.as_mut().map(|process| {
        let mut context = Context::from_waker(&waker);
        process.as_mut().poll(&mut context).is_pending()
    });
    assert_eq!(polled, Some(true));
    drop(process);
    drop((waker, owner));
    held.release();
    is_woken.recv_timeout(LONG).unwrap();
    drop(held);
    before.assert_restored();
}
