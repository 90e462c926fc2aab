//! What workers say on standard error before they are ready, and a standard error that cannot be written to.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use concurrent_futures::{Error, Executor, ProcessPoolExecutor};
use libtest_mimic::Trial;

use super::SCENE;
use crate::support::tasks::double;
use crate::support::{assert_error, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        workers_start_while_standard_error_is_locked,
        workers_start_while_standard_error_is_full,
        what_workers_say_waits_for_standard_error,
    ]
}

/// Workers that run this script first, which says something.
fn talkative(script: &str, start_timeout: Duration) -> ProcessPoolExecutor {
    let script = format!("{script}; exec \"$0\" \"$@\"");
    ProcessPoolExecutor::builder()
        .max_workers(1)
        .launcher(["sh", "-c", &script])
        .start_timeout(start_timeout)
        .build()
        .unwrap()
}

/// Time enough for a start.
const ENOUGH: Duration = Duration::from_secs(20);

/// The scene: it waits for a worker while it holds what `eprintln!` takes.
pub fn locked() {
    let mut report = std::io::stderr().lock();
    let pool = talkative("echo first words >&2", ENOUGH);
    let result = pool.submit(double, 4).result();
    writeln!(report, "result: {result:?}").unwrap();
}

fn workers_start_while_standard_error_is_locked() {
    let mut program = Command::new(std::env::current_exe().unwrap());
    let output = program.env(SCENE, "locked stderr").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "first words\nresult: Ok(8)\n"
    );
}

/// The scene: its standard error is not read.
pub fn full() {
    let pool = talkative("echo first words >&2", ENOUGH);
    assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
    // More than fits anywhere: this worker never becomes ready.
    let short = Duration::from_millis(500);
    let pool = talkative("head -c 1000000 /dev/zero >&2", short);
    assert_error!(pool.submit(double, 4).result(), Error::BrokenPool(_));
}

fn workers_start_while_standard_error_is_full() {
    let (_reader, writer) = os::full_pipe();
    let status = Command::new(std::env::current_exe().unwrap())
        .env(SCENE, "full stderr")
        .stderr(Stdio::from(writer))
        .status();
    assert_eq!(status.unwrap().code(), Some(0));
}

/// The scene: what reads what it says takes a while.
pub fn slow() {
    let pool = talkative("head -c 200000 /dev/zero >&2", ENOUGH);
    assert_eq!(pool.submit(double, 4).result().unwrap(), 8);
}

fn what_workers_say_waits_for_standard_error() {
    let (mut reader, writer) = os::full_pipe();
    let mut program = Command::new(std::env::current_exe().unwrap());
    program
        .env(SCENE, "slow stderr")
        .stderr(Stdio::from(writer));
    let mut child = program.spawn().unwrap();
    drop(program); // and with it our copy of the pipe's end
    let before = os::pipe_size(&reader);
    let mut said = Vec::new();
    reader.read_to_end(&mut said).unwrap();
    assert_eq!(said.len(), before + 200_000);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
