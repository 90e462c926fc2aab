//! The states of `SerialExecutor`s: each thread that submits is a worker of its own, which makes its state before
//! its first task there. Relies on `user_state`.

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use crate::error::Error;
use crate::preparation::{Duty, Preparation};
use crate::user_state::{self, SlotGuard, StateSlot};

thread_local! {
    /// The slots of this thread, one for each executor with a state that has run a task here.
    static SLOTS: RefCell<Vec<ThreadSlot>> = const { RefCell::new(Vec::new()) };
}

/// Makes the states of one executor. Dropping it drops the state of the thread that does so; those of other
/// threads are dropped when these end, or make another state.
pub(super) struct StateMaker {
    /// Makes a state, and keeps it in the slot that the thread has entered.
    make: Preparation,
}

/// The slot of one executor on one thread.
struct ThreadSlot {
    /// The executor's maker; gone once the executor is.
    maker: Weak<StateMaker>,
    /// The slot.
    slot: StateSlot,
}

impl StateMaker {
    pub(super) fn new(make: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Arc<Self> {
        let make = Preparation::new(Duty::State, make);
        Arc::new(Self { make })
    }

    /// Enters the slot of this thread, with its state, which is made at the first time. A task that the function
    /// itself submits to the executor finds no state.
    ///
    /// # Errors
    /// `BrokenPool` if the function fails or panics.
    pub(super) fn enter(self: &Arc<Self>) -> Result<SlotGuard, Error> {
        if let Some(slot) = self.find() {
            return Ok(user_state::enter(Some(slot)));
        }
        let slot = StateSlot::default();
        self.insert(slot.clone());
        let guard = user_state::enter(Some(slot));
        match self.make.run(0) {
            Ok(()) => Ok(guard),
            Err(error) => {
                self.forget();
                Err(error)
            }
        }
    }

    /// Drops the state of this thread; if a task has borrowed it, when that ends.
    pub(super) fn forget(self: &Arc<Self>) {
        let me = Arc::downgrade(self);
        sweep(|slot| Weak::ptr_eq(&slot.maker, &me));
    }

    /// The slot of this thread; `None`: it has none.
    fn find(self: &Arc<Self>) -> Option<StateSlot> {
        let is_own = |slot: &&ThreadSlot| slot.maker.as_ptr() == Arc::as_ptr(self);
        let find = |slots: &RefCell<Vec<ThreadSlot>>| {
            slots
                .borrow()
                .iter()
                .find(is_own)
                .map(|own| own.slot.clone())
        };
        SLOTS.try_with(find).ok()?
    }

    /// Adds a slot to those of this thread, and drops those of executors that are gone.
    fn insert(self: &Arc<Self>, slot: StateSlot) {
        drop_orphans();
        let maker = Arc::downgrade(self);
        // A thread that has lost its thread-locals (it is about to end) makes a state for each task.
        let _ = SLOTS.try_with(|slots| slots.borrow_mut().push(ThreadSlot { maker, slot }));
    }
}

impl Drop for StateMaker {
    fn drop(&mut self) {
        drop_orphans();
    }
}

/// Drops the states of this thread whose executors are gone.
fn drop_orphans() {
    sweep(|slot| slot.maker.strong_count() == 0);
}

/// Takes out the slots of this thread for which `is_over` holds, then drops them: the states are user data.
fn sweep(is_over: impl Fn(&ThreadSlot) -> bool) {
    let take = |slots: &RefCell<Vec<ThreadSlot>>| -> Vec<ThreadSlot> {
        let mut slots = slots.borrow_mut();
        let (over, kept) = slots.drain(..).partition(is_over);
        *slots = kept;
        over
    };
    drop(SLOTS.try_with(take));
}
