//! A program, or its workers, with too little of something: the pool breaks and says why, and
//! another one works as soon as there is enough.

use concurrent_futures::{Error, Executor, Process, ProcessPoolExecutor};
use libtest_mimic::Trial;

use super::{executable, play};
use crate::support::tasks::double;
use crate::support::{Kind, Processes, assert_breaks, assert_error, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_may_have_no_more_processes,
        a_program_has_no_memory_for_threads,
        a_program_has_no_descriptors_left,
        workers_have_no_memory_to_start,
        workers_have_no_memory_for_their_initializer,
    ]
}

// ---- processes -----------------------------------------------------------------------------

/// What the system says where there may be no more processes or threads.
const NO_MORE: &str = "Resource temporarily unavailable";

/// The scene: runs as a user with a limit on the number of processes and threads.
pub fn no_processes() {
    os::become_nobody_special();
    let enough = os::limit(libc::RLIMIT_NPROC);
    // One thread is ours, and a worker takes two more and a process.
    for allowed in 1..=3 {
        os::set_limit(libc::RLIMIT_NPROC, allowed);
        assert_breaks(&Processes::pool(1), &[NO_MORE]);
        assert_error!(
            Processes::pool(1).warm_up(),
            Error::BrokenPool(_) | Error::Spawn(_)
        );
        assert_error!(Process::new(double, 1).start(), Error::Spawn(_));
    }
    os::set_limit(libc::RLIMIT_NPROC, enough);
    executable::work();
}

fn a_program_may_have_no_more_processes() {
    assert_eq!(play("no processes").code(), Some(0));
}

// ---- memory --------------------------------------------------------------------------------

/// The scene: memory for this and that, but not for the stack of a thread.
pub fn no_memory_for_threads() {
    let enough = os::limit(libc::RLIMIT_AS);
    os::set_limit(libc::RLIMIT_AS, os::mapped_memory() + (1 << 20));
    assert_breaks(&Processes::pool(1), &[NO_MORE]);
    assert_error!(Process::new(double, 1).start(), Error::Spawn(_));
    os::set_limit(libc::RLIMIT_AS, enough);
    executable::work();
}

fn a_program_has_no_memory_for_threads() {
    assert_eq!(play("no memory for threads").code(), Some(0));
}

/// Step by step, from a limit at which the program cannot be loaded to one that is enough for it.
fn workers_have_no_memory_to_start() {
    let too_little = |kibibytes: &u64| {
        let script = format!("ulimit -v {kibibytes}; exec \"$0\" \"$@\"");
        let pool = ProcessPoolExecutor::builder()
            .max_workers(1)
            .launcher(["sh", "-c", &script])
            .build()
            .unwrap();
        if pool.submit(double, 4).result().is_ok() {
            return false;
        }
        assert_breaks(&pool, &["did not start: its process"]);
        true
    };
    let steps = std::iter::successors(Some(1024), |kibibytes| Some(kibibytes + kibibytes / 8));
    assert!(steps.take_while(too_little).count() > 0);
}

fn workers_have_no_memory_for_their_initializer() {
    let hoard = |bytes: usize| drop(std::hint::black_box(vec![1_u8; bytes]));
    let pool = ProcessPoolExecutor::builder()
        .max_workers(1)
        .memory_limit(128 << 20)
        .initializer(hoard, 512 << 20)
        .build()
        .unwrap();
    assert_breaks(&pool, &["signal 6 (SIGABRT) in the initializer"]);
}

// ---- descriptors ---------------------------------------------------------------------------

/// The scene: every descriptor is taken.
pub fn no_descriptors() {
    let pool = Processes::pool(1);
    let process = Process::new(double, 1);
    let mut taken = Vec::new();
    os::set_limit(libc::RLIMIT_NOFILE, 64);
    while let Ok(file) = std::fs::File::open("/dev/null") {
        taken.push(file);
    }
    // C libraries differ in the words.
    let error = std::io::Error::from_raw_os_error(libc::EMFILE).to_string();
    assert_breaks(&pool, &[&error]);
    assert_error!(process.start(), Error::Spawn(_));
    drop(taken);
    executable::work();
}

fn a_program_has_no_descriptors_left() {
    assert_eq!(play("no descriptors").code(), Some(0));
}
