//! A program that is killed: no worker outlives it, and nothing is left of it.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use libtest_mimic::Trial;

use super::{SOON, command};
use crate::support::gate::Hold;
use crate::support::leaks::{assert_descendants_end, descendants};
use crate::support::trials;

pub fn trials() -> Vec<Trial> {
    trials!["program";
        a_program_is_killed_with_a_busy_pool,
        a_program_is_killed_with_nested_pools,
    ]
}

/// A directory for temporary files, which is removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let name = format!("concurrent-futures-killed-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    /// What is there; but not the pipes at which the scene meets its own tasks.
    fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).unwrap().map(Result::unwrap);
        let files = entries.filter(|entry| !entry.file_type().unwrap().is_fifo());
        files.map(|entry| entry.path()).collect()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Kills the scene once its task runs.
fn kill_while_it_plays(scene: &str) {
    let (held, temporary) = (Hold::new(), Temporary::new());
    let mut program = command(scene, &held)
        .env("TMPDIR", &temporary.0)
        .spawn()
        .unwrap();
    held.await_begun();
    let all = descendants();
    assert!(all.len() > 1, "the program and its worker");
    for pid in all {
        let named: Vec<_> = files_in_use(pid)
            .into_iter()
            .filter(|path| is_named(path))
            .collect();
        assert!(
            named.is_empty(),
            "they outlive whoever made them: {named:?}"
        );
    }
    assert!(temporary.files().is_empty(), "{:?}", temporary.files());
    program.kill().unwrap();
    assert_eq!(program.wait().unwrap().signal(), Some(libc::SIGKILL));
    // The task still waits at its gate, which is not open.
    assert_descendants_end(Instant::now() + SOON);
    assert!(!held.has_begun(), "what was queued ran");
    assert!(temporary.files().is_empty(), "{:?}", temporary.files());
}

/// The files that a process has open or mapped.
fn files_in_use(pid: u32) -> Vec<PathBuf> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    // start-end perms offset device inode   path
    let mapped = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5));
    open.chain(mapped.map(PathBuf::from)).collect()
}

/// Whether it is shared memory that has a name.
fn is_named(path: &Path) -> bool {
    let is_system_v = path.to_string_lossy().starts_with("/SYSV");
    is_system_v || path.starts_with("/dev/shm")
}

fn a_program_is_killed_with_a_busy_pool() {
    kill_while_it_plays("stay");
}

fn a_program_is_killed_with_nested_pools() {
    kill_while_it_plays("nest");
}
