//! The process table of a pool: which process stands behind which worker. Supervisors enter their processes;
//! the pool reads the table to list process ids, and to kill or terminate the processes.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::process::host::child::ChildProcess;
use crate::sync::lock;
use crate::sys::fork::ForkEpoch;

/// The worker processes of a pool, by index.
pub(crate) struct ProcessTable {
    /// The entries, and whether the table is closed.
    state: Mutex<State>,
    /// The program that they are children of: a forked copy of that program touches none of them.
    fork_epoch: ForkEpoch,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    /// The processes of each worker, by the worker's index.
    process_table: Vec<ProcessEntry>,
    /// Whether a process that is added from now on is killed at once.
    closed: bool,
}

/// The processes of one worker.
#[derive(Clone, Default)]
struct ProcessEntry {
    /// The process that takes tasks; `None`: there is none.
    ready: Option<Arc<ChildProcess>>,
    /// The process that was started, and is not ready yet; `None`: there is none.
    starting: Option<Arc<ChildProcess>>,
}

impl ProcessTable {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            fork_epoch: ForkEpoch::here(),
        }
    }

    /// Adds a process that was started, and is not ready. Kills it if the table is closed.
    pub(crate) fn occupy(&self, index: usize, process: &Arc<ChildProcess>) {
        let mut state = self.lock();
        if state.closed {
            process.kill();
        }
        if state.process_table.len() <= index {
            state
                .process_table
                .resize(index + 1, ProcessEntry::default());
        }
        state.process_table[index].starting = Some(Arc::clone(process));
    }

    /// Notes that the process takes the worker's tasks from now on, in place of the one before it.
    pub(crate) fn make_ready(&self, index: usize, process: &Arc<ChildProcess>) {
        if let Some(entry) = self.lock().process_table.get_mut(index) {
            *entry = ProcessEntry {
                ready: Some(Arc::clone(process)),
                starting: None,
            };
        }
    }

    /// Whether the process with that id takes the worker's tasks.
    pub(crate) fn is_at(&self, index: usize, pid: u32) -> bool {
        self.at(index).is_some_and(|process| process.pid() == pid)
    }

    /// Removes the process that took the worker's tasks; a process that is not ready yet stays.
    pub(crate) fn clear_ready(&self, index: usize) {
        if let Some(entry) = self.lock().process_table.get_mut(index) {
            entry.ready = None;
        }
    }

    pub(crate) fn vacate(&self, index: usize) {
        if let Some(entry) = self.lock().process_table.get_mut(index) {
            *entry = ProcessEntry::default();
        }
    }

    /// The process that takes the worker's tasks; `None`: there is none.
    pub(crate) fn at(&self, index: usize) -> Option<Arc<ChildProcess>> {
        self.lock().process_table.get(index)?.ready.clone()
    }

    /// The ids of the processes that are ready, and live. Empty in a forked copy of the program.
    pub(crate) fn pids(&self) -> Vec<u32> {
        if self.fork_epoch.is_forked_copy() {
            return Vec::new();
        }
        let state = self.lock();
        let ready = state
            .process_table
            .iter()
            .filter_map(|entry| entry.ready.as_ref());
        ready
            .filter(|process| process.end().is_none())
            .map(|process| process.pid())
            .collect()
    }

    /// Kills the processes that are there, and those that are added later.
    pub(crate) fn kill(&self) {
        for process in self.close() {
            process.kill();
        }
    }

    /// Asks the processes that are there to end, and kills those that take longer than `grace`. Those that
    /// are added later are killed at once.
    pub(crate) fn terminate(&self, grace: Duration) {
        let processes = self.close();
        for process in &processes {
            process.terminate();
        }
        let begun = Instant::now();
        for process in &processes {
            process.wait_or_kill(grace.saturating_sub(begun.elapsed()));
        }
    }

    fn close(&self) -> Vec<Arc<ChildProcess>> {
        if self.fork_epoch.is_forked_copy() {
            return Vec::new();
        }
        let mut state = self.lock();
        state.closed = true;
        let process_table = state.process_table.iter();
        process_table
            .flat_map(|entry| [&entry.ready, &entry.starting])
            .flatten()
            .map(Arc::clone)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}
