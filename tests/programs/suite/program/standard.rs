//! Standard descriptors that the program has closed after its start, as daemons do: nothing of ours takes
//! their place, where whatever prints would write into it.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use concurrent_futures::{
    Error, Executor, Process, ProcessPoolExecutor, Shared, Shutdown, WorkerStdio,
};
use libtest_mimic::Trial;

use super::play;
use crate::support::tasks::double;
use crate::support::{Kind, Processes, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_has_closed_standard_descriptors,
        a_file_has_taken_the_number_of_standard_output,
    ]
}

/// The scene: some of the descriptors 0, 1 and 2 are closed, and stay so.
pub fn closed(numbers: &str) {
    let numbers: Vec<i32> = numbers
        .bytes()
        .map(|digit| i32::from(digit - b'0'))
        .collect();
    for number in &numbers {
        os::close(*number);
    }
    let pool = Processes::pool(2);
    pool.warm_up().unwrap();
    let shared = Shared::from_vec(vec![1_u64; 1 << 16]);
    let sum = |numbers: Shared<u64>| numbers.iter().sum::<u64>();
    assert_eq!(pool.submit(sum, shared.clone()).result().unwrap(), 1 << 16);
    let made = pool.submit(|n| Shared::from_vec(vec![n; 1 << 16]), 1_u64);
    let made = made.result().unwrap();
    for n in 0..100 {
        println!("the program prints");
        eprintln!("the program prints");
        assert_eq!(pool.submit(print_and_double, n).result().unwrap(), 2 * n);
    }
    let bytes = vec![7; 3 << 20];
    let back = pool.submit(|bytes: Vec<u8>| bytes, bytes.clone());
    assert!(back.result().unwrap() == bytes);
    let outputs = pool.submit(|()| [1, 2].map(target), ()).result().unwrap();
    for (number, output) in (1..).zip(outputs) {
        let is_closed = numbers.contains(&number);
        assert!(
            !is_closed || output.to_str() == Some("/dev/null"),
            "{output:?}"
        );
    }
    let process = Process::new(double, 4).start().unwrap();
    let taken = numbers.iter().any(|number| os::is_open(*number));
    assert_eq!(process.join().unwrap(), 8);
    assert!(!taken, "something of ours has taken their place");
    told_what_was_captured();
    drop((shared, made));
    pool.shutdown(Shutdown::wait());
}

/// The scene: a file that the program opens gets the number of standard output. The program prints into it;
/// workers do not.
pub fn taken() {
    os::close(1);
    let file = File::options().write(true).open("/dev/zero").unwrap();
    assert_eq!(file.as_raw_fd(), 1);
    let pool = Processes::pool(1);
    let output = pool.submit(|()| target(1), ()).result().unwrap();
    assert_eq!(output.to_str(), Some("/dev/null"));
    let process = Process::new(|()| target(1), ()).start().unwrap();
    assert_eq!(process.join().unwrap().to_str(), Some("/dev/null"));
    assert_eq!(target(1).to_str(), Some("/dev/zero"));
    pool.shutdown(Shutdown::wait());
}

fn print_and_double(n: u64) -> u64 {
    println!("a task prints");
    eprintln!("a task prints");
    2 * n
}

/// What a descriptor of this process is.
fn target(number: i32) -> PathBuf {
    std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap()
}

fn told_what_was_captured() {
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .env("PATH", "/") // has std start workers in another way
        .stdout(WorkerStdio::Capture)
        .build()
        .unwrap();
    let die = |()| -> u8 {
        println!("the last words");
        std::process::exit(3)
    };
    let Err(Error::WorkerDied(death)) = pool.submit(die, ()).result() else {
        panic!("no death")
    };
    assert_eq!(death.output(), Some("the last words\n"));
}

fn a_program_has_closed_standard_descriptors() {
    for numbers in ["0", "1", "2", "01", "02", "12", "012"] {
        let status = play(&format!("closed {numbers}"));
        assert_eq!(status.code(), Some(0), "{numbers}");
    }
}

fn a_file_has_taken_the_number_of_standard_output() {
    assert_eq!(play("taken").code(), Some(0));
}
