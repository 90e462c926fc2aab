//! Which process sits behind which worker of a pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::process::host::child::ChildProcess;
use crate::sys::fork::ForkEpoch;

/// The worker processes of a pool, by index.
pub(crate) struct ProcessTable {
    /// The places.
    state: Mutex<State>,
    /// The process whose children they are.
    fork_epoch: ForkEpoch,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    /// A worker's index is its place.
    process_table: Vec<ProcessEntry>,
    /// Whether whoever sits down is killed.
    closed: bool,
}

/// The processes of one worker.
#[derive(Clone, Default)]
struct ProcessEntry {
    /// Takes tasks.
    ready: Option<Arc<ChildProcess>>,
    /// Was started, and is not ready.
    starting: Option<Arc<ChildProcess>>,
}

impl ProcessTable {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::default(),
            fork_epoch: ForkEpoch::here(),
        }
    }

    /// A process was started, and is not ready.
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

    /// The process takes tasks from now on, in place of the one before it.
    pub(crate) fn make_ready(&self, index: usize, process: &Arc<ChildProcess>) {
        if let Some(desk) = self.lock().process_table.get_mut(index) {
            *desk = ProcessEntry {
                ready: Some(Arc::clone(process)),
                starting: None,
            };
        }
    }

    /// Whether the process of that number takes the worker's tasks.
    pub(crate) fn is_at(&self, index: usize, pid: u32) -> bool {
        self.at(index).is_some_and(|process| process.pid() == pid)
    }

    /// Who took the worker's tasks does no more; who gets ready to, still does.
    pub(crate) fn clear_ready(&self, index: usize) {
        if let Some(desk) = self.lock().process_table.get_mut(index) {
            desk.ready = None;
        }
    }

    pub(crate) fn vacate(&self, index: usize) {
        if let Some(desk) = self.lock().process_table.get_mut(index) {
            *desk = ProcessEntry::default();
        }
    }

    /// Who takes the worker's tasks.
    pub(crate) fn at(&self, index: usize) -> Option<Arc<ChildProcess>> {
        self.lock().process_table.get(index)?.ready.clone()
    }

    /// The numbers of those that are ready, and live.
    pub(crate) fn pids(&self) -> Vec<u32> {
        if self.fork_epoch.is_forked_copy() {
            return Vec::new();
        }
        let state = self.lock();
        let ready = state
            .process_table
            .iter()
            .filter_map(|desk| desk.ready.as_ref());
        ready
            .filter(|process| process.end().is_none())
            .map(|process| process.pid())
            .collect()
    }

    /// Kills those that are there, and those that come.
    pub(crate) fn kill(&self) {
        for process in self.close() {
            process.kill();
        }
    }

    /// Asks those that are there to end; kills those that take longer than this, and those that
    /// come.
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
            .flat_map(|desk| [&desk.ready, &desk.starting])
            .flatten()
            .map(Arc::clone)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
