//! The end of a pool for async tasks, which must not block: the closer, a thread that waits in their stead, as
//! `shutdown` does, and wakes them. It starts when the pool was shut down and an async task waits for the end.

use std::sync::Arc;
use std::task::Waker;

use super::WorkerPool;
use crate::executor::closed::Closing;
use crate::executor::waker_line::WakerLine;
use crate::options::Shutdown;
use crate::service_thread::{Service, ServiceThread};
use crate::sync::deadline::Deadline;
use crate::task::work_item::WorkItem;

/// The closer's thread.
pub(super) type Closer = ServiceThread<CloseOrders>;

/// What async tasks and `shutdown` say to the closer.
#[derive(Default)]
pub(super) struct CloseOrders {
    /// The async tasks that wait for the end of the pool.
    line: WakerLine,
    /// Whether `shutdown` was called.
    is_asked: bool,
    /// Whether nothing is left of the pool.
    is_closed: bool,
}

impl<W: WorkItem> WorkerPool<W> {
    /// Notes that the pool was shut down, and starts the closer if async tasks wait for the end.
    pub(super) fn ask_to_close(self: &Arc<Self>) {
        let mut service = self.closer.lock();
        service.orders.is_asked = true;
        if !service.orders.line.is_empty() && !self.start_closer(&mut service) {
            // Their next poll tries again, and does it itself if it must.
            let line = service.orders.line.take_all();
            drop(service);
            line.wake();
        }
    }

    /// Starts the closer, unless it has been started; `false`: the system has no more threads.
    fn start_closer(self: &Arc<Self>, service: &mut Service<CloseOrders>) -> bool {
        if !service.may_start() {
            return true;
        }
        let worker_pool = Arc::clone(self);
        let close = move |_: &_| worker_pool.close();
        self.closer.start(service, "cf-closer", close).is_ok()
    }

    /// Blocks until nothing is left of the pool, then wakes those that wait for that.
    fn close(self: &Arc<Self>) {
        self.shutdown(Shutdown::wait(), Deadline::never());
        self.timer.stop(Deadline::never());
        let mut service = self.closer.lock();
        service.orders.is_closed = true;
        let line = service.orders.line.take_all();
        drop(service);
        line.wake();
    }
}

impl<W: WorkItem> Closing for WorkerPool<W> {
    /// Where the system has no thread for the closer, the caller waits itself.
    fn closed_or_wake(self: Arc<Self>, place: &mut Option<u64>, waker: &Waker) -> bool {
        if self.fork_epoch.is_forked_copy() {
            return true; // the original's threads are not in this process
        }
        let waker = waker.clone(); // foreign code, which does not run under the lock
        let mut service = self.closer.lock();
        if service.orders.is_closed {
            return true;
        }
        // Pairs with `ask_to_close`, under the same lock: either this thread sees that the pool was shut down,
        // or the thread that shuts it down sees this waker.
        let (number, stale) = service.orders.line.enter(*place, waker);
        *place = Some(number);
        let is_served = !service.orders.is_asked || self.start_closer(&mut service);
        drop(service);
        drop(stale);
        if !is_served {
            self.close();
        }
        !is_served
    }

    fn leave(&self, place: u64) {
        if !self.fork_epoch.is_forked_copy() {
            let stale = self.closer.lock().orders.line.leave(place);
            drop(stale); // off the lock: foreign code
        }
    }
}
