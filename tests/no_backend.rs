//! What works on a system for which `src/sys` has no backend: thread pools and serial ones. Process pools say
//! that they do not. `--cfg no_backend` makes Linux such a system:
//!
//! ```sh
//! RUSTFLAGS="--cfg no_backend" CARGO_TARGET_DIR=target/no_backend cargo test --test no_backend
//! ```

#![cfg(any(no_backend, not(target_os = "linux")))]
#![allow(
    clippy::unwrap_used,
    reason = "these are tests: what is not there fails them"
)]

use std::time::Duration;

use concurrent_futures::{
    Error, Process, ProcessPoolExecutor, Sender, SerialExecutor, Shared, TaskOptions,
    ThreadPoolExecutor, channel, current_worker,
};

fn square(n: u64) -> u64 {
    n * n
}

#[test]
fn threads_run_tasks() {
    concurrent_futures::init();
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let sum: u64 = pool.map(square, 1..=100).map(Result::unwrap).sum();
    assert_eq!(sum, 338_350);
    assert_eq!(pool.submit(square, 12).result().unwrap(), 144);
    let panicked = pool.submit(|()| panic!("on purpose"), ());
    assert!(matches!(panicked.result(), Err(Error::Panicked(_))));
}

#[test]
fn threads_keep_to_time_limits() {
    let pool = ThreadPoolExecutor::new(1).unwrap();
    let options = TaskOptions::new().timeout(Duration::from_millis(20));
    let slow = |()| {
        while !current_worker().is_some_and(|worker| worker.cancel_requested()) {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    let late = pool.submit_with(options, slow, ());
    assert!(matches!(late.result(), Err(Error::TaskTimeout { .. })));
}

#[test]
fn threads_send_through_channels() {
    let send = |(n, sender): (u64, Sender<u64>)| sender.send(n).unwrap();
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let (sender, receiver) = channel(1);
    let tasks: Vec<_> = (1..=10)
        .map(|n| pool.submit(send, (n, sender.clone())))
        .collect();
    drop(sender);
    let sum: u64 = receiver.iter().map(Result::unwrap).sum();
    assert_eq!(sum, 55);
    for task in tasks {
        task.result().unwrap();
    }
}

#[test]
fn threads_share_memory() {
    let pool = ThreadPoolExecutor::new(2).unwrap();
    let shared = Shared::from_vec(vec![1_u64; 100_000]);
    let sum = pool.submit(|shared: Shared<u64>| shared.iter().sum::<u64>(), shared);
    assert_eq!(sum.result().unwrap(), 100_000);
}

#[test]
fn a_serial_executor_runs_tasks() {
    let serial = SerialExecutor::new();
    assert_eq!(serial.submit(square, 3).result().unwrap(), 9);
    let squares: Vec<_> = serial.map(square, 1..4).map(Result::unwrap).collect();
    assert_eq!(squares, [1, 4, 9]);
}

#[test]
fn process_pools_name_the_platform() {
    concurrent_futures::init();
    for error in [
        ProcessPoolExecutor::new(1).unwrap_err(),
        ProcessPoolExecutor::builder().build().unwrap_err(),
        Process::new(square, 3).start().unwrap_err(),
    ] {
        assert!(matches!(error, Error::Unsupported(_)), "{error:?}");
        assert!(error.to_string().contains(std::env::consts::OS), "{error}");
    }
}
