//! A program that has more rights than the user that starts it, and one that gives up rights. Only root can
//! set up these scenes.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use concurrent_futures::{Error, Process, ProcessPoolExecutor};
use libtest_mimic::Trial;

use super::executable::{self, Copied};
use super::{SCENE, play};
use crate::support::leaks::children;
use crate::support::tasks::double;
use crate::support::{assert_error, os, trials};

/// Marks a worker in its environment.
const MARK: &str = "CONCURRENT_FUTURES_WORKER";

/// The id of a user without rights.
const STRANGER: u32 = 54_321;

/// What the scene [`no_worker`] ends with.
const NO_WORKER: i32 = 7;

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_mark_that_is_no_number_makes_no_worker,
        a_strangers_mark_makes_no_worker_of_a_setuid_program,
        a_strangers_mark_makes_no_worker_of_a_setgid_program,
        a_strangers_mark_makes_no_worker_of_a_program_with_capabilities,
        a_strangers_socket_makes_no_worker,
        a_program_with_more_rights_starts_no_workers,
        a_setuid_program_that_takes_its_rights_on_works,
        a_program_that_lays_its_rights_down_works,
    ]
}

/// The scene: this process was to be a worker, and is a program that starts none.
pub fn no_worker() {
    assert_error!(ProcessPoolExecutor::new(1), Error::Unsupported(_));
    assert_error!(Process::new(double, 1).start(), Error::Unsupported(_));
    assert!(children().is_empty());
    std::process::exit(NO_WORKER);
}

/// Starts a program that is to play the scene [`no_worker`], as a process that pretends to be its parent.
fn forge(mut program: Command, (ours, theirs): (UnixStream, UnixStream)) -> ExitStatus {
    let inode = std::fs::metadata(format!("/proc/self/fd/{}", theirs.as_raw_fd()));
    program
        .env(SCENE, "no worker")
        .env(MARK, format!("{};", inode.unwrap().ino()))
        .stdin(Stdio::from(OwnedFd::from(theirs)));
    let mut program = program.spawn().unwrap();
    // A worker that waits for our welcome exits with 0.
    drop(ours);
    program.wait().unwrap()
}

fn is_root() -> bool {
    os::effective_user() == 0
}

/// A copy of this program that was given rights, and how a stranger starts it; `None` where that gives none.
fn privileged(name: &str, give: impl FnOnce(&Path)) -> Option<(Copied, impl Fn() -> Command)> {
    if !is_root() {
        return None;
    }
    let file = Copied::new(name);
    give(&file.0);
    let path = file.0.clone();
    let command = move || {
        let mut command = Command::new(&path);
        command.uid(STRANGER).gid(STRANGER);
        command
    };
    // A file system may be mounted so that the bits do nothing.
    let probe = command().env(SCENE, "more rights").status().unwrap();
    (probe.code() != Some(NO_WORKER)).then_some((file, command))
}

/// Sets the mode bits of a file.
fn set_mode(file: &Path, bits: u32) {
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755 | bits)).unwrap();
}

fn a_mark_that_is_no_number_makes_no_worker() {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.env(SCENE, "drop").env(MARK, "x;");
    let status = program.stdin(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(0));
}

fn a_strangers_mark_makes_no_worker_of_a_setuid_program() {
    let Some((_file, command)) = privileged("setuid", |file| set_mode(file, 0o4000)) else {
        return;
    };
    let status = forge(command(), UnixStream::pair().unwrap());
    assert_eq!(status.code(), Some(NO_WORKER));
}

fn a_strangers_mark_makes_no_worker_of_a_setgid_program() {
    let Some((_file, command)) = privileged("setgid", |file| set_mode(file, 0o2000)) else {
        return;
    };
    let status = forge(command(), UnixStream::pair().unwrap());
    assert_eq!(status.code(), Some(NO_WORKER));
}

fn a_strangers_mark_makes_no_worker_of_a_program_with_capabilities() {
    let Some((_file, command)) = privileged("capable", os::give_capability) else {
        return;
    };
    let status = forge(command(), UnixStream::pair().unwrap());
    assert_eq!(status.code(), Some(NO_WORKER));
}

/// The scene: the way of `sudo`, which leaves no trace in the process. To act as a stranger marks the process
/// that does so for good.
pub fn strangers_socket() {
    let pair = os::as_user(STRANGER, UnixStream::pair).unwrap();
    let status = forge(Command::new(std::env::current_exe().unwrap()), pair);
    assert_eq!(status.code(), Some(NO_WORKER));
}

fn a_strangers_socket_makes_no_worker() {
    if is_root() {
        assert_eq!(play("stranger's socket").code(), Some(0));
    }
}

/// The scene: the rights that this program has of its file are not its user's.
pub fn more_rights() {
    if !os::has_more_rights() {
        std::process::exit(NO_WORKER);
    }
    assert_error!(ProcessPoolExecutor::new(1), Error::Unsupported(_));
    assert_error!(Process::new(double, 1).start(), Error::Unsupported(_));
    assert!(children().is_empty());
}

fn a_program_with_more_rights_starts_no_workers() {
    let ways: [fn(&Path); 3] = [
        |file| set_mode(file, 0o4000),
        |file| set_mode(file, 0o2000),
        os::give_capability,
    ];
    for give in ways {
        let Some((_file, command)) = privileged("more-rights", give) else {
            return;
        };
        let status = command().env(SCENE, "more rights").status().unwrap();
        assert_eq!(status.code(), Some(0));
    }
}

/// The scene: as above, but from now on they are its user's.
pub fn rights_taken_on() {
    os::become_effective_user();
    executable::work();
}

fn a_setuid_program_that_takes_its_rights_on_works() {
    let Some((_file, command)) = privileged("taken-on", |file| set_mode(file, 0o4000)) else {
        return;
    };
    let status = command().env(SCENE, "rights taken on").status().unwrap();
    assert_eq!(status.code(), Some(0));
}

/// The scene: root does something with the rights of another user, and can take its own again.
pub fn rights_laid_down() {
    os::lower_rights(STRANGER);
    executable::work();
}

fn a_program_that_lays_its_rights_down_works() {
    if is_root() {
        assert_eq!(play("rights laid down").code(), Some(0));
    }
}
