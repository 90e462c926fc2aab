//! A program with a limit on file length (`ulimit -f`): memory that is reached like a file counts, too, and
//! what is beyond the limit would be ended by a signal.

use std::process::{Command, ExitStatus};

use concurrent_futures::{Error, Executor, ProcessPoolExecutor, Shared, WorkerStdio};
use libtest_mimic::Trial;

use super::{SCENE, executable};
use crate::support::{Kind, Processes, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_of_short_files_sends_big_payloads,
        a_program_of_tiny_files_works,
        a_program_of_short_files_captures_what_is_longer,
    ]
}

/// Plays a scene in a program with a limit on file length of this number of blocks.
fn play(scene: &str, blocks: u32) -> ExitStatus {
    let mut program = Command::new("sh");
    program.args(["-c", &format!("ulimit -f {blocks}; exec \"$0\"")]);
    program.arg(std::env::current_exe().unwrap());
    // To pipes: this program's own output may be a file, whose length is limited, too.
    let output = program.env(SCENE, scene).output().unwrap();
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
    output.status
}

/// The scene: no file may be as large as the memory for payloads is, of which most is never there.
pub fn big_payloads() {
    let pool = Processes::pool(1);
    let bytes = vec![7; 3 << 20];
    let back = pool.submit(|bytes: Vec<u8>| bytes, bytes.clone());
    assert!(back.result().unwrap() == bytes);
    let sum = |numbers: Shared<u64>| numbers.iter().sum::<u64>();
    let numbers = Shared::from_vec(vec![1_u64; 1 << 18]);
    assert_eq!(pool.submit(sum, numbers).result().unwrap(), 1 << 18);
    executable::work();
}

fn a_program_of_short_files_sends_big_payloads() {
    assert_eq!(play("short files", 100_000).code(), Some(0));
}

fn a_program_of_tiny_files_works() {
    for blocks in [0, 1, 8, 100, 500, 700, 1000] {
        assert_eq!(play("short files", blocks).code(), Some(0), "{blocks}");
    }
}

/// The scene: tasks print more than a file may have; the end of it is captured all the same.
pub fn captured() {
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .initializer(|()| assert_eq!(print(10_000), 10_000), ())
        .stdout(WorkerStdio::Capture)
        .build()
        .unwrap();
    for lines in [1, 100_000, 3] {
        assert_eq!(pool.submit(print, lines).result().unwrap(), lines);
        let fail = |lines| -> u8 {
            print(lines);
            panic!("on purpose")
        };
        let Err(Error::Panicked(panic)) = pool.submit(fail, lines).result() else {
            panic!("no panic")
        };
        assert!(ends_with(panic.output(), lines));
        let die = |lines| -> u8 {
            print(lines);
            std::process::exit(3)
        };
        let Err(Error::WorkerDied(death)) = pool.submit(die, lines).result() else {
            panic!("no death")
        };
        assert_eq!(death.exit_code(), Some(3));
        assert!(ends_with(death.output(), lines));
    }
}

/// Prints this number of lines.
fn print(lines: u32) -> u32 {
    for n in 1..=lines {
        println!("line {n}");
    }
    lines
}

/// Whether the last of `lines` lines was captured, and no more than the end of them.
fn ends_with(output: Option<&str>, lines: u32) -> bool {
    output.is_some_and(|it| it.len() <= 64 << 10 && it.ends_with(&format!("line {lines}\n")))
}

fn a_program_of_short_files_captures_what_is_longer() {
    for blocks in [0, 100, 1000] {
        assert_eq!(play("captured", blocks).code(), Some(0), "{blocks}");
    }
}
