//! Which process sits behind which worker of a pool.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::process::subprocess::Subprocess;

/// The ready worker processes of a pool, by index.
#[derive(Default)]
pub(crate) struct Desks(
    /// Of those that are ready.
    Mutex<Vec<Option<Arc<Subprocess>>>>,
);

impl Desks {
    pub(crate) fn occupy(&self, index: usize, process: &Arc<Subprocess>) {
        let mut desks = self.lock();
        if desks.len() <= index {
            desks.resize(index + 1, None);
        }
        desks[index] = Some(Arc::clone(process));
    }

    pub(crate) fn vacate(&self, index: usize) {
        if let Some(desk) = self.lock().get_mut(index) {
            *desk = None;
        }
    }

    pub(crate) fn at(&self, index: usize) -> Option<Arc<Subprocess>> {
        self.lock().get(index)?.clone()
    }

    /// The numbers of those that live.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let desks = self.lock();
        let alive = desks.iter().flatten().filter(|p| p.end().is_none());
        alive.map(|process| process.pid()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Arc<Subprocess>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
