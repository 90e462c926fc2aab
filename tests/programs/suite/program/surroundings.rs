//! Surroundings that a program may find itself in, none of which it has to know of: limits, names, sessions,
//! namespaces, filters. Processes work in each.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use libtest_mimic::Trial;

use super::{SCENE, executable, play};
use crate::support::leaks::assert_descendants_end;
use crate::support::{LONG, os, trials};

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_has_an_odd_name,
        a_program_has_no_name,
        a_program_has_limits,
        a_program_leads_a_session,
        a_program_ignores_hangups_and_interrupts,
        a_program_is_the_first_process_of_a_namespace,
        a_program_cannot_write_to_proc,
        a_program_may_not_make_memory_files,
        a_program_may_not_advise_on_memory,
    ]
}

/// Has a program play the scene in which processes work, by this command.
fn works(mut command: Command) {
    let status = command.env(SCENE, "work").status().unwrap();
    assert_descendants_end(Instant::now() + LONG);
    assert_eq!(status.code(), Some(0), "{command:?}");
}

/// A command of other programs that ends in this one.
fn through(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command
        .args(&words[1..])
        .arg(std::env::current_exe().unwrap());
    command
}

/// A shell that runs a script, whose `$0` is this program.
fn script(script: &str) -> Command {
    through(&["sh", "-c", script])
}

/// Whether such a command of another program can be run here; if not, says that the trial is skipped.
fn can(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("true").stderr(Stdio::null());
    let can = command.status().is_ok_and(|status| status.success());
    if !can {
        println!("skipped: `{}` is not possible here", words.join(" "));
    }
    can
}

fn a_program_has_an_odd_name() {
    let program = std::env::current_exe().unwrap();
    let folder = std::env::temp_dir().join(format!("odd names {}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let names: [&[u8]; 4] = [b"a space", b"two\nlines", b"no \xff text", b"-x (deleted)"];
    for name in names {
        let path = folder.join(OsString::from_vec(name.to_vec()));
        std::fs::copy(&program, &path).unwrap();
        works(Command::new(&path));
        std::fs::remove_file(path).unwrap();
    }
    std::fs::remove_dir(folder).unwrap();
}

fn a_program_has_no_name() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0(OsStr::new(""));
    works(command);
}

fn a_program_has_limits() {
    let limits = [
        "-n 24",
        "-v 1000000",
        "-s 1024",
        "-s unlimited",
        "-l 0",
        "-f 100",
    ];
    for limit in limits {
        works(script(&format!("ulimit {limit} && exec \"$0\"")));
    }
}

fn a_program_leads_a_session() {
    let words = ["setsid", "--wait"];
    if can(&words) {
        works(through(&words));
    }
}

fn a_program_ignores_hangups_and_interrupts() {
    works(script("trap '' HUP INT; exec \"$0\""));
}

fn a_program_is_the_first_process_of_a_namespace() {
    for words in [
        &["unshare", "--pid", "--fork", "--mount-proc"][..],
        &["unshare", "--pid", "--fork"],
    ] {
        if can(words) {
            works(through(words));
        }
    }
}

fn a_program_cannot_write_to_proc() {
    let words = ["unshare", "--mount", "sh", "-c"];
    let read_only = "mount --options remount,bind,ro /proc && exec \"$0\"";
    let words = [&words[..], &[read_only]].concat();
    if can(&words) {
        works(through(&words));
    }
}

/// The scene: the system refuses what makes shared memory cheap.
pub fn no_advice() {
    os::refuse(libc::SYS_madvise);
    executable::work();
}

/// The scene: the system refuses what shared memory is made of.
pub fn no_memory_files() {
    os::refuse(libc::SYS_memfd_create);
    executable::work();
}

fn a_program_may_not_make_memory_files() {
    assert_eq!(play("no memory files").code(), Some(0));
}

fn a_program_may_not_advise_on_memory() {
    assert_eq!(play("no advice").code(), Some(0));
}
