//! Work that a worker runs inside a task of its own, which waits for that work: in place of waiting, the worker
//! takes it from the backlog. Called by thread pools, for the tasks of a scope (`executor/scope/`).

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use super::WorkerPool;
use super::state::Stage;
use crate::current_worker::Progress;
use crate::error::Error;
use crate::future::id::FutureId;
use crate::future::promise::{Expire, Verdict};
use crate::pool::observation::ObserverHandle;
use crate::pool::worker_state::{NestedWork, Status, WorkerState};
use crate::sync::this_thread;
use crate::task::run::WorkerHooks;
use crate::task::timeout::TimeoutGuard;
use crate::task::work_item::WorkItem;

/// A worker's view of its pool while it runs work inside a task. Dropping it ends that work.
pub(crate) struct NestedContext<W: WorkItem> {
    /// The pool of the worker.
    worker_pool: Arc<WorkerPool<W>>,
    /// The worker's index in the pool.
    index: usize,
    /// The worker's state, shared with the pool.
    worker_state: Arc<WorkerState>,
    /// What the worker's tasks can see of it.
    progress: Arc<Progress>,
    /// Calls the user's observers, if there are any.
    observer: RefCell<ObserverHandle>,
}

impl<W: WorkItem> WorkerPool<W> {
    /// Takes the oldest work that waits with its first id in `first..=last`, for the calling worker to run inside
    /// its task. `None`: there is none, or the calling thread is no worker of the pool.
    pub(crate) fn take_nested(
        self: &Arc<Self>,
        first: FutureId,
        last: FutureId,
    ) -> Option<(W, NestedContext<W>)> {
        if self.fork_epoch.is_forked_copy() {
            return None;
        }
        let state = self.lock();
        let (index, worker) = state.entries.find(this_thread())?;
        let (worker_state, progress) = (
            Arc::clone(&worker.worker_state),
            Arc::clone(&worker.progress),
        );
        let mut inner = worker_state.lock();
        let work = self.backlog.take_one_between(first, last)?;
        inner.nested.push(NestedWork {
            status: Status::busy_with(&work),
            is_outer_cancel_requested: progress.is_cancel_requested(),
        });
        drop(inner);
        drop(state);
        self.make_room();
        let context = NestedContext {
            worker_pool: Arc::clone(self),
            index,
            worker_state,
            progress,
            observer: RefCell::new(ObserverHandle::new(self.observation.clone(), index)),
        };
        Some((work, context))
    }
}

impl<W: WorkItem> NestedContext<W> {
    fn update(&self, f: impl FnOnce(&mut Option<FutureId>, &mut i64)) {
        let mut inner = self.worker_state.lock();
        let innermost = inner.nested.last_mut().map(|work| &mut work.status);
        if let Some(Status::Busy { task, rest, .. }) = innermost {
            f(task, rest);
        }
    }
}

impl<W: WorkItem> WorkerHooks for NestedContext<W> {
    fn task_starting(&self, id: FutureId) {
        self.update(|task, rest| {
            self.progress.begin_task();
            *task = Some(id);
            *rest -= 1;
        });
    }

    /// Tells the observers.
    fn task_started(&self, id: FutureId) {
        self.observer.borrow_mut().task_started(id);
    }

    /// The cancellation has taken the task off the count of the chunk, so it is added again here.
    fn task_cancelled(&self, id: FutureId) {
        self.update(|task, rest| {
            *task = None;
            *rest += 1;
        });
        self.worker_pool.settled(id, Some(&Error::Cancelled));
    }

    /// `true` if the pool is shut down with `cancel_futures`.
    fn cancels(&self) -> bool {
        matches!(self.worker_pool.lock().stage, Stage::Cancelling)
    }

    fn drop_rest(&self) {
        self.update(|_, rest| *rest = 0);
    }

    fn count(&self, verdict: Verdict) {
        self.worker_pool.count(verdict);
    }

    /// Without a timer thread the limit is checked when the function has returned.
    fn expire_after(&self, task: Arc<dyn Expire>, limit: Duration) -> Option<TimeoutGuard> {
        self.worker_pool.timer.expire_after(task, limit).ok()?
    }

    fn task_done(&self, verdict: Verdict, error: Option<&Error>) {
        self.observer.borrow_mut().task_finished(verdict, error);
        self.worker_state.lock().counts.count(verdict);
        self.update(|task, _| *task = None);
    }

    fn worker_index(&self) -> Option<usize> {
        Some(self.index)
    }
}

impl<W: WorkItem> Drop for NestedContext<W> {
    /// The worker goes on with the task around the work.
    fn drop(&mut self) {
        let mut inner = self.worker_state.lock();
        if let Some(ended) = inner.nested.pop() {
            let is_requested = ended.is_outer_cancel_requested;
            self.progress.set_cancel_requested(is_requested);
        }
    }
}
