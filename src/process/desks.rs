//! Which process sits behind which worker of a pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::process::subprocess::Subprocess;

/// The worker processes of a pool, by index.
#[derive(Default)]
pub(crate) struct Desks {
    /// The places.
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Default)]
struct State {
    /// A worker's index is its place.
    desks: Vec<Option<Desk>>,
    /// Whether whoever sits down is killed.
    closed: bool,
}

/// A process, and how far it has come.
#[derive(Clone)]
struct Desk {
    /// The process.
    process: Arc<Subprocess>,
    /// Whether it takes tasks.
    ready: bool,
}

impl Desks {
    /// A process was started, and is not ready.
    pub(crate) fn occupy(&self, index: usize, process: &Arc<Subprocess>) {
        let mut state = self.lock();
        if state.closed {
            process.kill();
        }
        if state.desks.len() <= index {
            state.desks.resize(index + 1, None);
        }
        state.desks[index] = Some(Desk {
            process: Arc::clone(process),
            ready: false,
        });
    }

    /// The process takes tasks from now on.
    pub(crate) fn make_ready(&self, index: usize) {
        if let Some(Some(desk)) = self.lock().desks.get_mut(index) {
            desk.ready = true;
        }
    }

    pub(crate) fn vacate(&self, index: usize) {
        if let Some(desk) = self.lock().desks.get_mut(index) {
            *desk = None;
        }
    }

    pub(crate) fn at(&self, index: usize) -> Option<Arc<Subprocess>> {
        let state = self.lock();
        let desk = state.desks.get(index)?.as_ref()?;
        Some(Arc::clone(&desk.process))
    }

    /// The numbers of those that are ready, and live.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let state = self.lock();
        let ready = state.desks.iter().flatten().filter(|desk| desk.ready);
        ready
            .filter(|desk| desk.process.end().is_none())
            .map(|desk| desk.process.pid())
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
        let deadline = Instant::now() + grace;
        for process in &processes {
            process.wait_or_kill(deadline.saturating_duration_since(Instant::now()));
        }
    }

    fn close(&self) -> Vec<Arc<Subprocess>> {
        let mut state = self.lock();
        state.closed = true;
        let desks = state.desks.iter().flatten();
        desks.map(|desk| Arc::clone(&desk.process)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
