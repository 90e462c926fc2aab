//! Who brings outcomes home from the board: the one who waits for one, or else the tender.

use std::sync::{PoisonError, TryLockError, Weak};
use std::time::{Duration, Instant};

use crate::future::pool_handle::{Help, Wait};
use crate::future::state::WatchKey;
use crate::idle::placement::Footing;
use crate::process::shm::queue::Board;
use crate::process::shm::queue::layout::Memory;
use crate::sync::{
    self, ABOUT_A_WAKE_UP, Condvar, JoinHandle, Mutex, MutexGuard, ThreadId, this_thread, yield_now,
};
use crate::sys;
use crate::sys::stack;

/// What the tender tends.
pub(crate) trait Store: Send + Sync + Sized + 'static {
    /// The memory of its board.
    type Memory: Memory;
    fn board(&self) -> &Board<Self::Memory>;
    fn tender(&self) -> &Tender<Self>;
    /// Brings in what is done; of how many slots something was.
    fn collect(&self, by: Bringer) -> usize;
    /// Brings in what nobody was told of, since nobody slept: items that are done of those that their
    /// workers are at; whether there was anything. To be called before a sleep.
    fn sweep(&self) -> bool;
    /// Whether somebody must bring outcomes in as they come, though nobody waits for them here.
    fn need(&self) -> Need;
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
pub(crate) enum Bringer {
    /// A thread of ours.
    Ours,
    /// A thread of the user's, which waits for a future, or asks whether it is done.
    Users,
}

/// Whether the tender is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
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
pub(crate) struct Tender<S> {
    /// What it tends.
    store: Weak<S>,
    /// Held by who sleeps on the board.
    seat: Mutex<()>,
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
const FIRST_GRACE: Duration = ABOUT_A_WAKE_UP;
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

impl<S: Store> Tender<S> {
    pub(crate) fn new(store: Weak<S>) -> Self {
        Self {
            store,
            seat: Mutex::new(()),
            orders: Mutex::default(),
            change: Condvar::new(),
        }
    }

    // ---- those who wait ----------------------------------------------------------------------

    /// Brings outcomes in until the wait is over or the deadline has passed.
    pub(crate) fn help(&self, store: &S, wait: &dyn Wait, deadline: Option<Instant>) -> Help {
        if look_for(store, wait, deadline) {
            return Help::Look;
        }
        match self.take_seat() {
            Some(seat) => {
                self.sleep_in_seat(store, wait, deadline);
                drop(seat);
                self.hand_over(store);
            }
            None => self.sleep_apart(wait, deadline),
        }
        Help::Look
    }

    fn sleep_in_seat(&self, store: &S, wait: &dyn Wait, deadline: Option<Instant>) {
        let (key, me) = (WatchKey::fresh(), Weak::clone(&self.store));
        // What settles it otherwise (a death, a cancel) must wake us, too.
        let wake = move || {
            if let Some(store) = me.upgrade() {
                store.board().wake_collector();
            }
        };
        if !wait.watch(key, Box::new(wake)) {
            return;
        }
        let board = store.board();
        while !wait.is_over() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            let ticket = board.lie_down();
            if !store.sweep() && !board.has_done() && !wait.is_over() {
                let audit_at = store.audit_at();
                board.rest(
                    ticket,
                    Some(deadline.map_or(audit_at, |it| it.min(audit_at))),
                );
            }
            board.get_up();
            store.collect(Bringer::Users);
            store.audit_if_due();
        }
        wait.unwatch(key);
    }

    /// Sleeps while somebody else sits in the seat.
    fn sleep_apart(&self, wait: &dyn Wait, deadline: Option<Instant>) {
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
    fn hand_over(&self, store: &S) {
        let waiting = self.lock().waiting;
        if waiting > 0 || store.need() != Need::None {
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
            let has_left = HasLeft(store.tender());
            has_left.0.tend(&*store);
        };
        let name = "outcome tender".to_owned();
        // Without a thread, those who wait bring in what they can; the next call tries again.
        if let Ok(thread) = sync::spawn(name, Some(stack::size()), tend) {
            orders.id = Some(thread.thread().id());
            orders.thread = Some(thread);
        }
    }

    /// The thread's life.
    fn tend(&self, store: &S) {
        let mut footing = Footing::new();
        while self.is_needed(store) {
            let board = store.board();
            footing.get_up(board.watched_from(), board.submitted_from());
            // Whoever sits there calls when he leaves.
            if let Some(seat) = self.take_seat() {
                self.sit(store, &mut footing);
                drop(seat);
            }
            footing.lie_down(store.board().submitted_from());
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
                Need::Now if is_called => return true,
                Need::UnlessHelped(count) if helped == Some(count) => return true,
                Need::UnlessHelped(count) => {
                    let grace = match helped.replace(count) {
                        None => FIRST_GRACE,
                        Some(_) => GRACE,
                    };
                    self.sleep(orders, Instant::now().checked_add(grace))
                }
                Need::Now | Need::None => {
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

    fn need(&self, store: &S, orders: &Orders) -> Need {
        if orders.waiting > 0 {
            Need::Now
        } else {
            store.need()
        }
    }

    /// Brings in outcomes as long as it is needed. Where tasks come in bursts it is needed again within
    /// moments: it stays for as long as it would take to be woken.
    fn sit(&self, store: &S, footing: &mut Footing) {
        let board = store.board();
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
            let collected = store.collect(Bringer::Ours);
            footing.step(collected);
            if collected > 0 {
                idle = Idle::new();
            } else if idle.is_short() {
                yield_now();
            } else {
                let again = store.reclaim();
                let ticket = board.lie_down();
                let mut is_needed = || matches!(self.stays(store, &mut helped), Stay::Needed);
                if !store.sweep() && !board.has_done() && is_needed() {
                    footing.lie_down(board.submitted_from());
                    let audit_at = store.audit_at();
                    board.rest(ticket, Some(again.map_or(audit_at, |it| it.min(audit_at))));
                    footing.get_up(board.watched_from(), board.submitted_from());
                }
                board.get_up();
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
            Need::Now => Stay::Needed,
            Need::UnlessHelped(count) if *helped.get_or_insert(count) == count => Stay::Needed,
            Need::UnlessHelped(_) => Stay::Leave,
            Need::None => Stay::Idle,
        }
    }

    fn take_seat(&self) -> Option<MutexGuard<'_, ()>> {
        match self.seat.try_lock() {
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
            store.board().wake_collector();
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
struct HasLeft<'a, S: Store>(
    /// Whose thread it is.
    &'a Tender<S>,
);

impl<S: Store> Drop for HasLeft<'_, S> {
    fn drop(&mut self) {
        self.0.lock().has_left = true;
        self.0.change.notify_all();
    }
}

/// Looks for an outcome for a while; whether there is something to look at.
fn look_for<S: Store>(store: &S, wait: &dyn Wait, deadline: Option<Instant>) -> bool {
    store.collect(Bringer::Users);
    if wait.is_over() {
        return true;
    }
    store.board().watch_from(sys::current_core());
    let is_over = look_on_for(store, wait, deadline);
    store.board().watch_from(None);
    is_over
}

fn look_on_for<S: Store>(store: &S, wait: &dyn Wait, deadline: Option<Instant>) -> bool {
    let mut idle = Idle::new();
    loop {
        let collected = store.collect(Bringer::Users);
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
        self.0.elapsed() < ABOUT_A_WAKE_UP
    }
}

#[cfg(all(test, loom))]
mod models;
