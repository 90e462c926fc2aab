//! Which core the program runs on, and which its workers.

use std::fs;
use std::process;

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Outcome;

/// The program has a core, and workers have another. Ends when it is dropped.
pub struct Apart {
    /// Where the program might run before.
    before: CpuSet,
    /// The core of the workers.
    workers: usize,
}

impl Apart {
    /// Puts this program, and all that it starts from now on, on one core. `None`: there is only
    /// one anyway.
    pub fn begin() -> Outcome<Option<Self>> {
        let before = sched_getaffinity(None)?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| before.is_set(*core));
        let (Some(program), Some(workers)) = (cores.next(), cores.next()) else {
            return Ok(None);
        };
        place(process::id(), &only(program))?;
        Ok(Some(Self { before, workers }))
    }

    /// Puts the processes that a process has started on the workers' core.
    pub fn place_children(&self, parent: u32) -> Outcome<()> {
        for child in children(parent)? {
            place(child, &only(self.workers))?;
        }
        Ok(())
    }

    /// What puts the thread that calls it on the workers' core.
    pub fn worker_thread(&self) -> impl Fn() + Send + Sync + 'static {
        let core = only(self.workers);
        move || sched_setaffinity(None, &core).expect("the core is there")
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        place(process::id(), &self.before).expect("the cores were there before");
    }
}

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

/// Puts all threads of a process there.
fn place(pid: u32, cores: &CpuSet) -> Outcome<()> {
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let thread = thread?.file_name();
        let number = thread.to_str().ok_or("threads are numbers")?.parse()?;
        match sched_setaffinity(Pid::from_raw(number), cores) {
            // It has ended meanwhile.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn children(parent: u32) -> Outcome<Vec<u32>> {
    let mut children = Vec::new();
    for process in fs::read_dir("/proc")? {
        let name = process?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that has ended meanwhile has no parent.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        if parent_in(&stat) == Some(parent) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// The name, in parentheses, may hold anything.
fn parent_in(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::{Apart, children, parent_in, sched_getaffinity};

    #[test]
    fn the_parent_stands_behind_the_name() {
        assert_eq!(parent_in("12 (a) S 7) S 34 12 12 0"), Some(34));
        assert_eq!(parent_in(""), None);
    }

    #[test]
    fn children_run_apart_and_all_is_as_before() {
        let before = sched_getaffinity(None).expect("the kernel tells");
        let Some(apart) = Apart::begin().expect("allowed") else {
            return;
        };
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .spawn()
            .expect("cat is there");
        let pid = child.id();
        assert!(children(std::process::id()).expect("told").contains(&pid));
        apart.place_children(std::process::id()).expect("allowed");
        let number = rustix::process::Pid::from_raw(pid.cast_signed());
        let theirs = sched_getaffinity(number).expect("the kernel tells");
        let ours = sched_getaffinity(None).expect("the kernel tells");
        assert_eq!((theirs.count(), ours.count()), (1, 1));
        assert!(theirs != ours);
        drop(child.stdin.take());
        child.wait().expect("it ends");
        drop(apart);
        assert!(sched_getaffinity(None).expect("the kernel tells") == before);
    }
}
