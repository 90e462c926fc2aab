//! The completion driver collects outcomes from the shared-memory queue for those that need them: the waiters
//! do it themselves, and a thread of the pool does it where no thread waits.
//!
//! At most one thread at a time sleeps on the queue, the one that holds the leader lock (leader/followers). A
//! waiter that does not get the lock is a follower: it sleeps until its own future is done. Waiters call
//! [`CompletionDriver::drive_until`]; `in_flight` calls the driver's thread when an outcome has listeners,
//! when a full queue keeps work back, for audits, and for work that holds memory, so that it is collected within
//! a second also if no thread waits. The models in `driver/models.rs` check the lock's
//! hand-over.

use std::sync::{TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::future::pool_handle::{Drive, Waiter};
use crate::future::state::WatchKey;
use crate::idle::placement::CorePlacement;
use crate::process::shm::queue::ShmQueue;
use crate::process::shm::queue::layout::Memory;
use crate::service_thread::{Service, ServiceThread};
use crate::sync::deadline::Deadline;
use crate::sync::{self, Mutex, MutexGuard, SPIN_BUDGET, yield_now};
use crate::sys;

/// The pool's shared-memory queue, from which a driver collects.
pub(crate) trait CompletionSource: Send + Sync + Sized + 'static {
    /// The kind of memory that the queue lies in: shared, or the heap of a model.
    type Memory: Memory;
    fn queue(&self) -> &ShmQueue<Self::Memory>;
    fn driver(&self) -> &CompletionDriver<Self>;
    /// Collects what is done. Returns how many slots had something.
    fn collect(&self, by: CollectedBy) -> usize;
    /// Collects outcomes that no worker has announced, because no thread slept: finished items of batches
    /// that their workers are still running. Returns whether there were any. To be called before a sleep.
    fn sweep(&self) -> bool;
    /// Whether some thread must collect outcomes as they come, although no thread waits for them here.
    fn demand(&self) -> Demand;
    /// Gives back memory that has not been used for a while, and what finished tasks hold whose outcomes no
    /// thread has collected. Returns when to call this again.
    fn reclaim(&self) -> Deadline;
    /// When the next audit of the shared memory is due.
    fn audit_at(&self) -> Instant;
    /// Audits the shared memory if that is due. To be called after each sleep on the queue, which must not
    /// last longer than until then.
    fn audit_if_due(&self);
}

/// Which thread collects outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CollectedBy {
    /// A thread of this crate's own.
    Ours,
    /// A user's thread, which waits for a future, or asks whether it is done.
    Users,
}

/// Whether the driver's thread is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// It is needed at once.
    Now,
    /// It is needed unless waiters collect. The number is how many times they have.
    UnlessHelped(u64),
    /// It is not needed.
    None,
}

/// Collects outcomes from a pool's shared-memory queue. It has a thread for outcomes that no waiter collects,
/// from the first time that one is needed.
///
/// Of all threads that collect outcomes, only one at a time may sleep on the queue: the leader, which holds
/// the leader lock. A waiter that finds the lock taken is a follower, and sleeps until its own future is
/// done.
pub(crate) struct CompletionDriver<S> {
    /// The source that is collected from.
    source: Weak<S>,
    /// The leader lock: held by the thread that may sleep on the queue.
    leader: Mutex<()>,
    /// The driver's thread, from the first time that it is needed.
    thread: ServiceThread<Orders>,
}

/// Orders to the driver's thread.
#[derive(Default)]
struct Orders {
    /// Whether the thread is to check whether it is needed.
    is_called: bool,
    /// The number of followers: waiters that did not get the leader lock.
    waiting: usize,
}

/// How long the driver's thread first leaves collecting to waiters: if they look at all, they are about to.
const FIRST_GRACE: Duration = SPIN_BUDGET;
/// How long it does so again after they have looked.
const GRACE: Duration = Duration::from_millis(1);

/// Whether the driver's thread keeps the leader lock.
enum Stay {
    /// Yes: it is needed.
    Needed,
    /// For a short time: it is not needed, and may be soon.
    Idle,
    /// No: it is to release the lock.
    Leave,
}

impl<S: CompletionSource> CompletionDriver<S> {
    pub(crate) fn new(source: Weak<S>) -> Self {
        Self {
            source,
            leader: Mutex::new(()),
            thread: ServiceThread::new(Orders::default()),
        }
    }

    // ---- waiters -----------------------------------------------------------------------------

    /// Collects outcomes until the wait is over or the deadline has passed.
    pub(crate) fn drive_until(&self, source: &S, wait: &dyn Waiter, deadline: Deadline) -> Drive {
        if look_for(source, wait, deadline) {
            return Drive::Recheck;
        }
        match self.try_lead() {
            Some(lead_guard) => {
                self.wait_as_leader(source, wait, deadline);
                drop(lead_guard);
                self.hand_over_lead(source);
            }
            None => self.wait_as_follower(wait, deadline),
        }
        Drive::Recheck
    }

    fn wait_as_leader(&self, source: &S, wait: &dyn Waiter, deadline: Deadline) {
        let (key, me) = (WatchKey::fresh(), Weak::clone(&self.source));
        // What settles the future in another way (a death, a cancellation) must wake this thread, too.
        let wake = move || {
            if let Some(source) = me.upgrade() {
                source.queue().wake_collector();
            }
        };
        if !wait.watch(key, Box::new(wake)) {
            return;
        }
        let queue = source.queue();
        while !wait.is_over() && !deadline.has_passed() {
            let key = queue.prepare_wait();
            if !source.sweep() && !queue.has_done() && !wait.is_over() {
                queue.wait(key, deadline.min(Deadline::at(source.audit_at())));
            }
            queue.end_wait();
            source.collect(CollectedBy::Users);
            source.audit_if_due();
        }
        wait.unwatch(key);
    }

    /// Sleeps while another thread holds the leader lock.
    fn wait_as_follower(&self, wait: &dyn Waiter, deadline: Deadline) {
        let (key, me) = (WatchKey::fresh(), sync::current());
        if !wait.watch(key, Box::new(move || me.unpark())) {
            return;
        }
        self.thread.lock().orders.waiting += 1;
        self.call();
        while !wait.is_over() {
            match deadline.left() {
                Some(Duration::ZERO) => break,
                left => sync::park(left),
            }
        }
        self.thread.lock().orders.waiting -= 1;
        wait.unwatch(key);
    }

    /// Calls the driver's thread after the leader lock was released, if a leader is still needed.
    fn hand_over_lead(&self, source: &S) {
        let waiting = self.thread.lock().orders.waiting;
        if waiting > 0 || source.demand() != Demand::None {
            self.call();
        }
    }

    // ---- the thread --------------------------------------------------------------------------

    /// Has the driver's thread check whether it is needed. Starts it at the first call. `false`: there is no
    /// thread, as the system has none or the pool has ended. Waiters then collect what they can, and the next
    /// call tries again.
    pub(crate) fn call(&self) -> bool {
        let mut service = self.thread.lock();
        if service.is_over() {
            return false;
        }
        service.orders.is_called = true;
        if service.may_start() && !self.start(&mut service) {
            return false;
        }
        drop(service);
        self.thread.notify();
        true
    }

    fn start(&self, service: &mut Service<Orders>) -> bool {
        let Some(source) = self.source.upgrade() else {
            return false;
        };
        let drive = move |_: &_| source.driver().run(&*source);
        self.thread.start(service, "cf-driver", drive).is_ok()
    }

    /// The main loop of the driver's thread.
    fn run(&self, source: &S) {
        let mut placement = CorePlacement::new();
        while self.is_needed(source) {
            let queue = source.queue();
            placement.after_wake(queue.waiter_core(), queue.submitter_core());
            // A waiter that holds the lock calls when it releases it.
            if let Some(lead_guard) = self.try_lead() {
                self.lead(source, &mut placement);
                drop(lead_guard);
            }
            placement.before_sleep(source.queue().submitter_core());
        }
    }

    /// Blocks until the thread is needed. `false`: it is to leave.
    fn is_needed(&self, source: &S) -> bool {
        let mut service = self.thread.lock();
        let mut helped = None;
        loop {
            if service.is_over() {
                return false;
            }
            let is_called = std::mem::take(&mut service.orders.is_called);
            service = match need(source, &service.orders) {
                Demand::Now if is_called => return true,
                Demand::UnlessHelped(count) if helped == Some(count) => return true,
                Demand::UnlessHelped(count) => {
                    let grace = match helped.replace(count) {
                        None => FIRST_GRACE,
                        Some(_) => GRACE,
                    };
                    self.thread.sleep(service, Deadline::after(grace))
                }
                Demand::Now | Demand::None => {
                    helped = None;
                    self.rest(service, source)
                }
            };
        }
    }

    /// Sleeps until the thread is called; wakes up to give memory back.
    fn rest<'a>(
        &'a self,
        service: MutexGuard<'a, Service<Orders>>,
        source: &S,
    ) -> MutexGuard<'a, Service<Orders>> {
        drop(service); // giving memory back takes some time
        let again = source.reclaim();
        let service = self.thread.lock();
        match service.orders.is_called || service.is_over() {
            true => service,
            false => self.thread.sleep(service, again),
        }
    }

    /// Collects outcomes as long as the thread is needed. Where tasks come in bursts, it is needed again
    /// within moments, so it stays for as long as it would take to be woken.
    fn lead(&self, source: &S, placement: &mut CorePlacement) {
        let queue = source.queue();
        let mut helped = None;
        let (mut unneeded, mut idle) = (Idle::new(), Idle::new());
        loop {
            match self.stays(source, &mut helped) {
                Stay::Leave => return,
                Stay::Idle if unneeded.is_short() => {
                    yield_now();
                    continue;
                }
                Stay::Idle => return,
                Stay::Needed => unneeded = Idle::new(),
            }
            let collected = source.collect(CollectedBy::Ours);
            placement.record_tasks(collected);
            if collected > 0 {
                idle = Idle::new();
            } else if idle.is_short() {
                yield_now();
            } else {
                let again = source.reclaim();
                let key = queue.prepare_wait();
                let mut is_needed = || matches!(self.stays(source, &mut helped), Stay::Needed);
                if !source.sweep() && !queue.has_done() && is_needed() {
                    placement.before_sleep(queue.submitter_core());
                    queue.wait(key, again.min(Deadline::at(source.audit_at())));
                    placement.after_wake(queue.waiter_core(), queue.submitter_core());
                }
                queue.end_wait();
                idle = Idle::new();
            }
            source.audit_if_due();
        }
    }

    /// Whether the thread keeps the leader lock.
    fn stays(&self, source: &S, helped: &mut Option<u64>) -> Stay {
        let service = self.thread.lock();
        match need(source, &service.orders) {
            _ if service.is_over() => Stay::Leave,
            Demand::Now => Stay::Needed,
            Demand::UnlessHelped(count) if *helped.get_or_insert(count) == count => Stay::Needed,
            Demand::UnlessHelped(_) => Stay::Leave,
            Demand::None => Stay::Idle,
        }
    }

    fn try_lead(&self) -> Option<MutexGuard<'_, ()>> {
        match self.leader.try_lock() {
            Ok(lead_guard) => Some(lead_guard),
            Err(TryLockError::Poisoned(lead_guard)) => Some(lead_guard.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Has the thread leave, once there is nothing to do.
    pub(crate) fn end(&self) {
        self.thread.end();
        if let Some(source) = self.source.upgrade() {
            source.queue().wake_collector();
        }
    }

    /// Whether the caller runs on the thread.
    pub(crate) fn is_caller(&self) -> bool {
        self.thread.is_caller()
    }

    /// Waits until the thread has left; `false`: the deadline has passed before.
    pub(crate) fn join(&self, deadline: Deadline) -> bool {
        self.thread.join(deadline)
    }
}

fn need<S: CompletionSource>(source: &S, orders: &Orders) -> Demand {
    if orders.waiting > 0 {
        Demand::Now
    } else {
        source.demand()
    }
}

/// Looks for an outcome for a short time, without sleeping. Returns whether the waiter has something to look
/// at: its outcome, or the deadline.
fn look_for<S: CompletionSource>(source: &S, wait: &dyn Waiter, deadline: Deadline) -> bool {
    source.collect(CollectedBy::Users);
    if wait.is_over() {
        return true;
    }
    source
        .queue()
        .set_waiter_core(sys::affinity::current_core());
    let is_over = look_on_for(source, wait, deadline);
    source.queue().set_waiter_core(None);
    is_over
}

fn look_on_for<S: CompletionSource>(source: &S, wait: &dyn Waiter, deadline: Deadline) -> bool {
    let mut idle = Idle::new();
    loop {
        let collected = source.collect(CollectedBy::Users);
        if wait.is_over() {
            return true;
        }
        if deadline.has_passed() {
            source.sweep();
            return true;
        }
        if collected > 0 {
            idle = Idle::new();
        } else if !idle.is_short() {
            return false;
        }
        yield_now();
    }
}

/// Since when there was nothing to collect.
struct Idle(
    /// The time of the last outcome, or of the first look.
    Instant,
);

impl Idle {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Whether looking again is still cheaper than to sleep and be woken.
    fn is_short(&self) -> bool {
        self.0.elapsed() < SPIN_BUDGET
    }
}

#[cfg(all(test, loom))]
mod models;
