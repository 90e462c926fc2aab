//! What a trial may not leave behind: processes, threads, descriptors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::os;
pub use crate::common::children;
use crate::common::numbers;

/// How long something that was asked to end may take for it.
const GRACE: Duration = Duration::from_secs(10);

/// Set in the environment, so that every descendant carries it, however far removed.
const MARK: &str = "CONCURRENT_FUTURES_SUITE";

/// What there was before a trial.
pub struct Baseline {
    /// Threads of this process.
    threads: BTreeSet<u32>,
    /// Open descriptors, and what they are.
    descriptors: BTreeMap<String, String>,
}

/// Makes descendants of this process known by their environment.
pub fn mark_descendants() {
    // SAFETY: called first in `main`, while there is one thread.
    unsafe { std::env::set_var(MARK, std::process::id().to_string()) };
}

impl Baseline {
    /// What there is now.
    pub fn now() -> Self {
        Self {
            threads: threads(),
            descriptors: descriptors(),
        }
    }

    /// Fails if anything is there that was not, or the reverse.
    pub fn assert_restored(&self) {
        let deadline = Instant::now() + GRACE;
        self.assert_threads_end(deadline);
        let children = children();
        assert!(children.is_empty(), "children are left: {children:?}");
        assert_descendants_end(deadline);
        assert_eq!(descriptors(), self.descriptors, "descriptors");
    }

    /// Threads that were joined may show for a moment, those of a pool that winds down by itself
    /// for a little longer.
    fn assert_threads_end(&self, deadline: Instant) {
        while let Some(&tid) = threads().difference(&self.threads).next() {
            let ended = os::await_end_of_thread(tid, deadline);
            assert!(ended, "a thread is left: {tid} {}", thread_name(tid));
        }
    }

    /// How many threads there are now that were not there then.
    pub fn new_threads(&self) -> usize {
        threads().difference(&self.threads).count()
    }

    /// The descriptors that there are now and were not there then.
    pub fn new_descriptors(&self) -> Vec<String> {
        let known = |name: &String| self.descriptors.contains_key(name);
        let now = descriptors().into_iter();
        now.filter(|(name, _)| !known(name))
            .map(|(name, target)| format!("{name} → {target}"))
            .collect()
    }
}

/// Workers that lost their parent end at the news of it.
pub fn assert_descendants_end(deadline: Instant) {
    for pid in descendants() {
        let ended = os::await_end(pid, deadline);
        assert!(ended, "a descendant is left: {pid} {}", command_line(pid));
    }
}

/// Living processes that this one started, or that those started. What was forked without exec
/// shows the environment of its original, in which the mark was not set: it is known as a child.
pub fn descendants() -> Vec<u32> {
    let own = std::process::id();
    let entry = format!("{MARK}={own}");
    let marked = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|e| e == entry.as_bytes())
    };
    let mut all: BTreeSet<_> = processes()
        .filter(|pid| *pid != own)
        .filter(marked)
        .collect();
    all.extend(children());
    all.into_iter().collect()
}

/// Ends them all.
pub fn kill_descendants() {
    for pid in descendants() {
        // Some have ended meanwhile.
        os::try_kill(pid, libc::SIGKILL);
    }
}

fn processes() -> impl Iterator<Item = u32> {
    numbers(Path::new("/proc"))
}

fn threads() -> BTreeSet<u32> {
    numbers(Path::new("/proc/self/task")).collect()
}

fn descriptors() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/fd").unwrap().flatten();
    // The descriptor that lists the directory is gone when its link is read.
    entries
        .map(|entry| entry.path())
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|path| Some((path.display().to_string(), fs::read_link(&path).ok()?)))
        .map(|(path, target)| (path, target.display().to_string()))
        .collect()
}

fn thread_name(tid: u32) -> String {
    fs::read_to_string(format!("/proc/self/task/{tid}/comm")).unwrap_or_default()
}

fn command_line(pid: u32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}
