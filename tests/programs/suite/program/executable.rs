//! The file that the program was started from, and what may become of it.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use concurrent_futures::{Error, Executor, Process};
use libtest_mimic::Trial;

use super::{HELD, SCENE};
use crate::support::gate::{Held, Hold, hold};
use crate::support::leaks::assert_descendants_end;
use crate::support::tasks::{double, own_pid};
use crate::support::{Kind, LONG, Processes, assert_works, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_is_started_by_its_loader,
        a_program_runs_under_valgrind,
        a_program_has_no_proc,
        what_is_missing_is_named,
        a_program_is_deleted_while_its_pool_runs,
        a_program_is_replaced_while_its_pool_runs,
    ]
}

// ---- behind a loader -----------------------------------------------------------------------

/// The scene: all kinds of workers.
pub fn work() {
    assert_works(&Processes::pool(1));
    assert_eq!(Process::new(double, 4).start().unwrap().join().unwrap(), 8);
    let pools = |()| assert_works(&Processes::pool(1));
    Processes::pool(1).submit(pools, ()).result().unwrap();
}

/// `ld.so ./program`.
fn a_program_is_started_by_its_loader() {
    let Some(loader) = os::loader() else {
        return; // a static program has none
    };
    let program = std::env::current_exe().unwrap();
    let status = Command::new(loader)
        .arg(program)
        .env(SCENE, "work")
        .status();
    assert!(status.unwrap().success());
}

// ---- where /proc/self/exe executes another, or nothing -------------------------------------

/// There, `/proc/self/exe` executes valgrind.
fn a_program_runs_under_valgrind() {
    let status = Command::new("valgrind")
        .arg("-q")
        .arg(std::env::current_exe().unwrap())
        .env(SCENE, "double")
        .status();
    match status {
        Err(error) if error.kind() == ErrorKind::NotFound => {} // not installed
        status => assert!(status.unwrap().success()),
    }
}

/// The scene: one worker, one task.
pub fn work_once() {
    assert_eq!(Processes::pool(1).submit(double, 4).result().unwrap(), 8);
}

/// This program, where an empty directory is mounted over another; `None` where that is not permitted.
fn without(directory: &str) -> Option<Command> {
    let mount = format!("mount -t tmpfs none {directory} && exec \"$0\" \"$@\"");
    let hidden = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &mount]).arg(program);
        command
    };
    let probe = hidden(Path::new("true")).stderr(Stdio::null()).status();
    let is_permitted = probe.is_ok_and(|status| status.success());
    is_permitted.then(|| hidden(&std::env::current_exe().unwrap()))
}

fn a_program_has_no_proc() {
    if let Some(mut program) = without("/proc") {
        let status = program.env(SCENE, "work").status();
        assert!(status.unwrap().success());
    }
}

/// The scene: workers cannot be started. Its argument: what is missing.
pub fn missing() {
    let missing = std::env::args().nth(1).unwrap();
    let outcome = Processes::pool(1).submit(double, 4).result();
    let Err(Error::BrokenPool(reason)) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.as_str().contains(&missing), "{reason}");
}

fn what_is_missing_is_named() {
    if let Some(mut program) = without("/dev") {
        let status = program.arg("/dev/null").env(SCENE, "missing").status();
        assert!(status.unwrap().success());
    }
}

// ---- deleted, replaced ---------------------------------------------------------------------

/// The scene: starts workers, waits until the test releases it, and starts more.
pub fn start_twice(held: Held) {
    let pool = Processes::pool(1);
    let first = pool.submit(own_pid, ()).result().unwrap();
    hold(held);
    os::kill(first, libc::SIGKILL);
    os::await_end(first, Instant::now() + LONG);
    assert_ne!(pool.submit(own_pid, ()).result().unwrap(), first);
    work();
}

/// A copy of this program, which is removed at the end.
pub struct Copied(pub PathBuf);

impl Copied {
    pub fn new(name: &str) -> Self {
        let name = format!("concurrent-futures-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
        Self(path)
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // It may be gone: that is what this is about.
        let _ = fs::remove_file(&self.0);
    }
}

/// Has a program start workers, does something to its file, and has it start more.
fn meanwhile(name: &str, act: impl FnOnce(&Path)) {
    let (file, held) = (Copied::new(name), Hold::new());
    let mut program = Command::new(&file.0)
        .env(SCENE, "start twice")
        .env(HELD, held.argument().to_text())
        .spawn()
        .unwrap();
    held.await_begun();
    act(&file.0);
    held.release();
    assert!(program.wait().unwrap().success());
    assert_descendants_end(Instant::now() + LONG);
}

fn a_program_is_deleted_while_its_pool_runs() {
    meanwhile("deleted", |file| fs::remove_file(file).unwrap());
}

fn a_program_is_replaced_while_its_pool_runs() {
    meanwhile("replaced", |file| {
        let other = file.with_extension("new");
        fs::copy("/bin/false", &other).unwrap();
        fs::rename(&other, file).unwrap();
    });
}
