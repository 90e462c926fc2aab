//! Who brings outcomes home from the board: the one who waits for one, or else the tender.

use std::sync::{PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::future::pool_handle::{Drive, Waiter};
use crate::future::state::WatchKey;
use crate::idle::placement::CorePlacement;
use crate::process::shm::queue::ShmQueue;
use crate::process::shm::queue::layout::Memory;
use crate::sync::{
    self, Condvar, JoinHandle, Mutex, MutexGuard, SPIN_BUDGET, ThreadId, this_thread, yield_now,
};
use crate::sys;
use crate::sys::stack;

/// What the tender tends.
pub(crate) trait CompletionSource: Send + Sync + Sized + 'static {
    /// The memory of its board.
    type Memory: Memory;
    fn queue(&self) -> &ShmQueue<Self::Memory>;
    fn driver(&self) -> &CompletionDriver<Self>;
    /// Brings in what is done; of how many slots something was.
    fn collect(&self, by: CollectedBy) -> usize;
    /// Brings in what nobody was told of, since nobody slept: items that are done of those that their
    /// workers are at; whether there was anything. To be called before a sleep.
    fn sweep(&self) -> bool;
    /// Whether somebody must bring outcomes in as they come, though nobody waits for them here.
    fn demand(&self) -> Demand;
    /// Gives memory back that nobody has used for a while; when to look again.
    fn reclaim(&self) -> Option<Instant>;
    /// When what stands in shared memory is to be looked through.
    fn audit_at(&self) -> Instant;
    /// Looks through what stands in shared memory, if it is time. To be called after each sleep on the
    /// board, which is not to be longer than until then.
    fn audit_if_due(&self);
}

/// Who brings outcomes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CollectedBy {
    /// A thread of ours.
    Ours,
    /// A thread of the user's, which waits for a future, or asks whether it is done.
    Users,
}

/// Whether the tender is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// At once.
    Now,
    /// If those who wait bring nothing in; how often they have.
    UnlessHelped(u64),
    /// No.
    None,
}

/// Brings outcomes in where nobody waits for them by himself: a thread, from the first need on.
///
/// Of all who bring outcomes in, one at a time may sleep on the board: who has the seat. A thread
/// that finds it taken sleeps until its own future is there.
pub(crate) struct CompletionDriver<S> {
    /// What it tends.
    store: Weak<S>,
    /// Held by who sleeps on the board.
    leader: Mutex<()>,
    /// Its orders.
    orders: Mutex<Orders>,
    /// Notified when they change.
    change: Condvar,
}

/// What the lock guards.
#[derive(Default)]
struct Orders {
    /// Whether it is to look whether it is needed.
    is_called: bool,
    /// Whether it is to leave.
    is_over: bool,
    /// Those who wait, and did not get the seat.
    waiting: usize,
    /// The thread, once it was needed.
    thread: Option<JoinHandle<()>>,
    /// Which it is; known for longer.
    id: Option<ThreadId>,
    /// Whether the thread has left.
    has_left: bool,
}

/// How long the tender leaves it to those who wait, at first: they are about to look, if at all.
const FIRST_GRACE: Duration = SPIN_BUDGET;
/// How long it does so after they have looked.
const GRACE: Duration = Duration::from_millis(1);

/// Whether the tender keeps the seat.
enum Stay {
    /// It is needed.
    Needed,
    /// It is not, and may be soon.
    Idle,
    /// It is to give it up.
    Leave,
}

impl<S: CompletionSource> CompletionDriver<S> {
    pub(crate) fn new(store: Weak<S>) -> Self {
        Self {
            store,
            leader: Mutex::new(()),
            orders: Mutex::default(),
            change: Condvar::new(),
        }
    }

    // ---- those who wait ----------------------------------------------------------------------

    /// Brings outcomes in until the wait is over or the deadline has passed.
    pub(crate) fn drive_until(
        &self,
        store: &S,
        wait: &dyn Waiter,
        deadline: Option<Instant>,
    ) -> Drive {
        if look_for(store, wait, deadline) {
            return Drive::Recheck;
        }
        match self.try_lead() {
            Some(seat) => {
                self.wait_as_leader(store, wait, deadline);
                drop(seat);
                self.hand_over_lead(store);
            }
            None => self.wait_as_follower(wait, deadline),
        }
        Drive::Recheck
    }

    fn wait_as_leader(&self, store: &S, wait: &dyn Waiter, deadline: Option<Instant>) {
        let (key, me) = (WatchKey::fresh(), Weak::clone(&self.store));
        // What settles it otherwise (a death, a cancel) must wake us, too.
        let wake = move || {
            if let Some(store) = me.upgrade() {
                store.queue().wake_collector();
            }
        };
        if !wait.watch(key, Box::new(wake)) {
            return;
        }
        let queue = store.queue();
        while !wait.is_over() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let ticket = queue.prepare_wait();
            if !store.sweep() && !queue.has_done() && !wait.is_over() {
                let audit_at = store.audit_at();
                queue.wait(
                    ticket,
                    Some(deadline.map_or(audit_at, |it| it.min(audit_at))),
                );
            }
            queue.end_wait();
            store.collect(CollectedBy::Users);
            store.audit_if_due();
        }
        wait.unwatch(key);
    }

    /// Sleeps while somebody else sits in the seat.
    fn wait_as_follower(&self, wait: &dyn Waiter, deadline: Option<Instant>) {
        let (key, me) = (WatchKey::fresh(), sync::current());
        if !wait.watch(key, Box::new(move || me.unpark())) {
            return;
        }
        self.lock().waiting += 1;
        self.call();
        while !wait.is_over() {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                left => sync::park(left),
            }
        }
        self.lock().waiting -= 1;
        wait.unwatch(key);
    }

    /// The seat is free: if it is needed, somebody is to take it.
    fn hand_over_lead(&self, store: &S) {
        let waiting = self.lock().waiting;
        if waiting > 0 || store.demand() != Demand::None {
            self.call();
        }
    }

    // ---- the thread --------------------------------------------------------------------------

    /// Has the tender look whether it is needed.
    pub(crate) fn call(&self) {
        let mut orders = self.lock();
        if orders.is_over {
            return;
        }
        orders.is_called = true;
        if orders.id.is_none() {
            self.start(&mut orders);
        }
        drop(orders);
        self.change.notify_all();
    }

    fn start(&self, orders: &mut Orders) {
        let Some(store) = self.store.upgrade() else {
            return;
        };
        let tend = move || {
            let has_left = HasLeft(store.driver());
            has_left.0.run(&*store);
        };
        let name = "outcome tender".to_owned();
        // Without a thread, those who wait bring in what they can; the next call tries again.
        if let Ok(thread) = sync::spawn(name, Some(stack::size()), tend) {
            orders.id = Some(thread.thread().id());
            orders.thread = Some(thread);
        }
    }

    /// The thread's life.
    fn run(&self, store: &S) {
        let mut placement = CorePlacement::new();
        while self.is_needed(store) {
            let queue = store.queue();
            placement.after_wake(queue.waiter_core(), queue.submitter_core());
            // Whoever sits there calls when he leaves.
            if let Some(seat) = self.try_lead() {
                self.lead(store, &mut placement);
                drop(seat);
            }
            placement.before_sleep(store.queue().submitter_core());
        }
    }

    /// Blocks until it is needed; `false`: it is to leave.
    fn is_needed(&self, store: &S) -> bool {
        let mut orders = self.lock();
        let mut helped = None;
        loop {
            if orders.is_over {
                return false;
            }
            let is_called = std::mem::take(&mut orders.is_called);
            orders = match self.need(store, &orders) {
                Demand::Now if is_called => return true,
                Demand::UnlessHelped(count) if helped == Some(count) => return true,
                Demand::UnlessHelped(count) => {
                    let grace = match helped.replace(count) {
                        None => FIRST_GRACE,
                        Some(_) => GRACE,
                    };
                    self.sleep(orders, Instant::now().checked_add(grace))
                }
                Demand::Now | Demand::None => {
                    helped = None;
                    self.rest(orders, store)
                }
            };
        }
    }

    /// Sleeps until it is called, but for giving memory back.
    fn rest<'a>(&'a self, orders: MutexGuard<'a, Orders>, store: &S) -> MutexGuard<'a, Orders> {
        drop(orders); // giving memory back takes its time
        let again = store.reclaim();
        let orders = self.lock();
        match orders.is_called || orders.is_over {
            true => orders,
            false => self.sleep(orders, again),
        }
    }

    fn need(&self, store: &S, orders: &Orders) -> Demand {
        if orders.waiting > 0 {
            Demand::Now
        } else {
            store.demand()
        }
    }

    /// Brings in outcomes as long as it is needed. Where tasks come in bursts it is needed again within
    /// moments: it stays for as long as it would take to be woken.
    fn lead(&self, store: &S, placement: &mut CorePlacement) {
        let queue = store.queue();
        let mut helped = None;
        let (mut unneeded, mut idle) = (Idle::new(), Idle::new());
        loop {
            match self.stays(store, &mut helped) {
                Stay::Leave => return,
                Stay::Idle if unneeded.is_short() => {
                    yield_now();
                    continue;
                }
                Stay::Idle => return,
                Stay::Needed => unneeded = Idle::new(),
            }
            let collected = store.collect(CollectedBy::Ours);
            placement.record_tasks(collected);
            if collected > 0 {
                idle = Idle::new();
            } else if idle.is_short() {
                yield_now();
            } else {
                let again = store.reclaim();
                let ticket = queue.prepare_wait();
                let mut is_needed = || matches!(self.stays(store, &mut helped), Stay::Needed);
                if !store.sweep() && !queue.has_done() && is_needed() {
                    placement.before_sleep(queue.submitter_core());
                    let audit_at = store.audit_at();
                    queue.wait(ticket, Some(again.map_or(audit_at, |it| it.min(audit_at))));
                    placement.after_wake(queue.waiter_core(), queue.submitter_core());
                }
                queue.end_wait();
                idle = Idle::new();
            }
            store.audit_if_due();
        }
    }

    /// Whether it keeps the seat.
    fn stays(&self, store: &S, helped: &mut Option<u64>) -> Stay {
        let orders = self.lock();
        match self.need(store, &orders) {
            _ if orders.is_over => Stay::Leave,
            Demand::Now => Stay::Needed,
            Demand::UnlessHelped(count) if *helped.get_or_insert(count) == count => Stay::Needed,
            Demand::UnlessHelped(_) => Stay::Leave,
            Demand::None => Stay::Idle,
        }
    }

    fn try_lead(&self) -> Option<MutexGuard<'_, ()>> {
        match self.leader.try_lock() {
            Ok(seat) => Some(seat),
            Err(TryLockError::Poisoned(seat)) => Some(seat.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Has it leave, once there is nothing to do.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.change.notify_all();
        if let Some(store) = self.store.upgrade() {
            store.queue().wake_collector();
        }
    }

    /// Waits until it has left; `false` at the deadline. It does not wait for itself.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> bool {
        let mut orders = self.lock();
        if orders.id == Some(this_thread()) {
            return true;
        }
        while orders.id.is_some() && !orders.has_left {
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return false;
            }
            orders = self.sleep(orders, deadline);
        }
        if let Some(thread) = orders.thread.take() {
            drop(orders);
            // It runs no user code but wakers, whose panics are caught.
            let _ = thread.join();
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Orders> {
        sync::lock(&self.orders)
    }

    fn sleep<'a>(
        &self,
        orders: MutexGuard<'a, Orders>,
        deadline: Option<Instant>,
    ) -> MutexGuard<'a, Orders> {
        let Some(deadline) = deadline else {
            return sync::sleep(&self.change, orders);
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let slept = self.change.wait_timeout(orders, left);
        slept.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Says that the thread has left, also in a panic: a shutdown waits for that.
struct HasLeft<'a, S: CompletionSource>(
    /// Whose thread it is.
    &'a CompletionDriver<S>,
);

impl<S: CompletionSource> Drop for HasLeft<'_, S> {
    fn drop(&mut self) {
        self.0.lock().has_left = true;
        self.0.change.notify_all();
    }
}

/// Looks for an outcome for a while; whether there is something to look at.
fn look_for<S: CompletionSource>(store: &S, wait: &dyn Waiter, deadline: Option<Instant>) -> bool {
    store.collect(CollectedBy::Users);
    if wait.is_over() {
        return true;
    }
    store.queue().set_waiter_core(sys::current_core());
    let is_over = look_on_for(store, wait, deadline);
    store.queue().set_waiter_core(None);
    is_over
}

fn look_on_for<S: CompletionSource>(
    store: &S,
    wait: &dyn Waiter,
    deadline: Option<Instant>,
) -> bool {
    let mut idle = Idle::new();
    loop {
        let collected = store.collect(CollectedBy::Users);
        if wait.is_over() {
            return true;
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            store.sweep();
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

/// Since when there was nothing to bring in.
struct Idle(
    /// Since then.
    Instant,
);

impl Idle {
    fn new() -> Self {
        Self(Instant::now())
    }

    /// Whether looking on is cheaper than to sleep and be woken.
    fn is_short(&self) -> bool {
        self.0.elapsed() < SPIN_BUDGET
    }
}

#[cfg(all(test, loom))]
mod models;
