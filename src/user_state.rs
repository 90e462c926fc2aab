//! The state of a worker: a value that a function of the user's makes in each worker before its first task, and
//! that tasks borrow one after the other. It never leaves its thread, so it need not be `Send`.
//!
//! A thread that is to run tasks of a worker enters the worker's slot ([`enter`]): `thread/`,
//! `process/worker/` and `executor/serial.rs`. What the function has made is put there by [`keep`]; tasks reach
//! it by [`borrow`], in `remote/stub.rs` and `task/`. No thread waits here: of two borrows, one in the other, the
//! inner one is an error.

use std::any::{Any, type_name};
use std::cell::RefCell;
use std::rc::Rc;

use crate::error::Error;
use crate::unwind::discard;

thread_local! {
    /// The slot of the worker that this thread runs; `None`: it runs none, or one without a state.
    static CURRENT: RefCell<Option<StateSlot>> = const { RefCell::new(None) };
}

/// The place of the state of one worker. Clones are the same place.
#[derive(Clone, Default)]
pub(crate) struct StateSlot(
    /// The state; `None`: the worker has none. Borrowed as long as a task borrows the state.
    Rc<RefCell<Option<HeldState>>>,
);

/// A state in its slot.
struct HeldState {
    /// The value; `None` only while it is dropped.
    value: Option<Box<dyn Any>>,
    /// The name of its type, for errors.
    type_name: &'static str,
}

/// Stores a state in the slot of the worker that the calling thread runs.
pub(crate) fn keep<S: 'static>(state: S) {
    let held = HeldState {
        value: Some(Box::new(state)),
        type_name: type_name::<S>(),
    };
    // A thread that has lost its thread-locals (it is about to end) has no slot: the state is dropped.
    if let Some(slot) = current() {
        // It was empty, or holds what no task borrows: no task of this worker runs before its state is made.
        drop(slot.0.replace(Some(held)));
    }
}

/// Calls `call` with the state of the worker that the calling thread runs.
///
/// # Errors
/// `InvalidConfig` if the worker has no state, one of another type, or one that a task around this one has
/// borrowed.
pub(crate) fn borrow<S: 'static, R>(call: impl FnOnce(&mut S) -> R) -> Result<R, Error> {
    let slot = current().unwrap_or_default();
    let Ok(mut held) = slot.0.try_borrow_mut() else {
        return Err(refusal::<S>("the task around it has borrowed that state"));
    };
    let Some(held) = held.as_mut() else {
        let what = "its worker has none, which `state` of the pool's builder would make";
        return Err(refusal::<S>(what));
    };
    let name = held.type_name;
    match held.value.as_mut().and_then(|value| value.downcast_mut()) {
        Some(state) => Ok(call(state)),
        None => Err(refusal::<S>(&format!("that of its worker is a `{name}`"))),
    }
}

/// The slot of the worker that the calling thread runs; `None`: it runs none, or one without a state.
fn current() -> Option<StateSlot> {
    CURRENT.try_with(|current| current.borrow().clone()).ok()?
}

fn refusal<S>(what: &str) -> Error {
    let name = type_name::<S>();
    let words = format!("the task borrows a state of type `{name}`, but {what}");
    Error::InvalidConfig(words.into())
}

/// Makes `slot` that of the worker which the calling thread runs, until the guard is dropped; `None`: a worker
/// without a state.
pub(crate) fn enter(slot: Option<StateSlot>) -> SlotGuard {
    // On a thread without thread-locals (it is about to end) this has no effect: its tasks find no state.
    let before = CURRENT.try_with(|current| current.replace(slot));
    SlotGuard(before.ok().flatten())
}

/// Makes a new slot that of the worker which the calling thread runs, until the guard is dropped.
pub(crate) fn enter_new() -> SlotGuard {
    enter(Some(StateSlot::default()))
}

/// While the guard lives, the thread's worker has the slot that was entered. Dropping it restores the previous
/// slot, or none; if no other handle to the slot is left, it drops the state.
pub(crate) struct SlotGuard(
    /// The previous slot.
    Option<StateSlot>,
);

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let before = self.0.take();
        // The state is user data, whose own `Drop` may run a task: the slot is dropped only after the exchange.
        drop(CURRENT.try_with(|current| current.replace(before)));
    }
}

impl Drop for HeldState {
    fn drop(&mut self) {
        discard(self.value.take());
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn words_of(outcome: Result<u32, Error>) -> String {
        match outcome {
            Err(Error::InvalidConfig(reason)) => reason.as_str().to_owned(),
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn a_state_is_borrowed_where_it_was_entered() {
        assert!(words_of(borrow(|n: &mut u32| *n)).contains("`u32`, but its worker has none"));
        let guard = enter_new();
        assert!(words_of(borrow(|n: &mut u32| *n)).contains("has none"));
        keep(1_u32);
        borrow(|n: &mut u32| *n += 1).unwrap();
        assert_eq!(borrow(|n: &mut u32| *n).unwrap(), 2);
        assert!(
            words_of(borrow(|_: &mut u8| 0)).contains("`u8`, but that of its worker is a `u32`")
        );
        drop(guard);
        assert!(words_of(borrow(|n: &mut u32| *n)).contains("has none"));
    }

    #[test]
    fn a_state_is_borrowed_once_at_a_time() {
        let _guard = enter_new();
        keep(1_u32);
        let inner = borrow(|_: &mut u32| words_of(borrow(|n: &mut u32| *n))).unwrap();
        assert!(inner.contains("the task around it has borrowed that state"));
        let other = enter_new();
        keep(2_u32);
        assert_eq!(borrow(|n: &mut u32| *n).unwrap(), 2);
        drop(other);
        assert_eq!(borrow(|n: &mut u32| *n).unwrap(), 1);
    }

    #[test]
    fn a_state_outlives_a_panic_and_is_dropped_with_its_guard() {
        struct Bomb(Rc<()>);
        impl Drop for Bomb {
            fn drop(&mut self) {
                // Its own slot is gone by then.
                assert!(borrow(|_: &mut Self| ()).is_ok(), "on purpose");
            }
        }
        let alive = Rc::new(());
        let guard = enter_new();
        keep(Bomb(Rc::clone(&alive)));
        let panicked = crate::unwind::catch(|| borrow(|_: &mut Bomb| panic!("on purpose")));
        assert!(panicked.is_err_and(|panic| panic.message == "on purpose"));
        assert_eq!(
            borrow(|bomb: &mut Bomb| Rc::strong_count(&bomb.0)).unwrap(),
            2
        );
        drop(guard);
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}
