//! The tasks of a scope that were not yet called to their end, or dropped: how many there are, and the wait for
//! them.
//!
//! A worker of the pool that opened the scope inside a task does not wait for what is queued, since no other worker
//! might be free to run it: it runs that itself. While it waits for what other workers run, the detection of deadlocks
//! sees what it waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::future::deadlock::{self, Awaited};
use crate::future::id::FutureId;
use crate::future::pool_handle::{PoolHandle, TaskLocation};
use crate::sync::{Condvar, Mutex, MutexGuard, lock, sleep, spin_then_yield};

/// The tasks of a scope that are live: not yet called to their end, or dropped.
pub(super) struct LiveTasks {
    /// How many there are, and which were sent.
    state: Mutex<LiveState>,
    /// Notified when there are none, and at each change if a worker waits.
    change: Condvar,
    /// Whether the scope's body has panicked: tasks that have not begun do nothing.
    are_given_up: AtomicBool,
    /// The pool of the tasks, if the thread that waits for them is a worker of a thread pool.
    pool: Option<Arc<dyn PoolHandle>>,
}

/// What the lock guards.
struct LiveState {
    /// The number of live tasks.
    count: usize,
    /// How often a task has ended or was sent; wraps around.
    changes: u64,
    /// The tasks that were sent since the waiting worker looked last, by their first and last id; always empty if no
    /// worker will wait.
    sent: Vec<(FutureId, FutureId)>,
    /// The length of `sent` at which those that have ended are removed, so that a scope that lives long keeps no list
    /// of all its tasks.
    sent_limit: usize,
}

/// The least length of the list of tasks that were sent at which those that have ended are removed.
const MANY: usize = 1024;

/// Counts one task as live, until it is dropped.
pub(super) struct LiveGuard(
    /// The tasks that it is counted among.
    Arc<LiveTasks>,
);

impl LiveTasks {
    /// No tasks. `pool`: the handle of the pool that will have accepted them; `None` if they do not wait in queues.
    pub(super) fn new(pool: Option<&Arc<dyn PoolHandle>>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(LiveState {
                count: 0,
                changes: 0,
                sent: Vec::new(),
                sent_limit: MANY,
            }),
            change: Condvar::new(),
            are_given_up: AtomicBool::new(false),
            pool: pool.filter(|_| deadlock::is_worker()).cloned(),
        })
    }

    /// Counts one more task as live.
    pub(super) fn enter(self: &Arc<Self>) -> LiveGuard {
        self.lock().count += 1;
        LiveGuard(Arc::clone(self))
    }

    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// Notes that the pool has accepted these tasks, or refused them.
    pub(super) fn note_sent(&self, first: FutureId, last: FutureId) {
        if let Some(pool) = &self.pool {
            let mut state = self.lock();
            state.sent.push((first, last));
            if state.sent.len() >= state.sent_limit {
                let mut sent = std::mem::take(&mut state.sent);
                drop(state);
                sent.retain(|&sent| is_open(pool, sent));
                state = self.lock();
                state.sent.append(&mut sent);
                state.sent_limit = MANY.max(2 * state.sent.len());
            }
            state.changes = state.changes.wrapping_add(1);
            drop(state);
            self.change.notify_all();
        }
    }

    /// Lets tasks that have not begun do nothing.
    pub(super) fn give_up(&self) {
        // ORDERING: Relaxed; a task that sees it late runs.
        self.are_given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn are_given_up(&self) -> bool {
        // ORDERING: Relaxed; as in `give_up`.
        self.are_given_up.load(Ordering::Relaxed)
    }

    /// Blocks until no task is live.
    pub(super) fn wait(&self) {
        spin_then_yield(|| self.count() == 0);
        let mut state = self.lock();
        while state.count > 0 {
            state = sleep(&self.change, state);
        }
    }

    /// On a worker, runs what is queued, and blocks until no task is live; on any other thread, does nothing.
    pub(super) fn help(&self) {
        let Some(pool) = &self.pool else {
            return;
        };
        let mut open = VecDeque::new();
        loop {
            let mut state = self.lock();
            if state.count == 0 {
                return;
            }
            let (seen, sent) = (state.changes, std::mem::take(&mut state.sent));
            drop(state);
            for &(first, last) in &sent {
                pool.run_queued(first, last);
            }
            open.extend(sent);
            while open.front().is_some_and(|&sent| !is_open(pool, sent)) {
                open.pop_front();
            }
            let awaited = open.front().map(|&(first, last)| {
                let pool = Arc::clone(pool);
                Awaited::Tasks(pool, first, last)
            });
            // One is enough: the wait does not end before that one has.
            let _waiting = awaited.map(|awaited| deadlock::wait_for(vec![awaited]));
            let mut state = self.lock();
            while state.count > 0 && state.changes == seen {
                state = sleep(&self.change, state);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, LiveState> {
        lock(&self.state)
    }
}

impl Drop for LiveGuard {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.count -= 1;
        state.changes = state.changes.wrapping_add(1);
        if state.count == 0 || self.0.pool.is_some() {
            self.0.change.notify_all();
        }
    }
}

/// Whether the pool has some of these tasks, queued or with a worker.
fn is_open(pool: &Arc<dyn PoolHandle>, (first, last): (FutureId, FutureId)) -> bool {
    !matches!(pool.place(first, last), TaskLocation::Elsewhere)
}
