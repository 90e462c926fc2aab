//! Tasks that run in the caller: a send in one does not wait for room, since the thread that would receive may
//! be the one that waits. Entered by `executor/serial.rs`, asked by `state.rs`.

use std::cell::Cell;

thread_local! {
    /// How many tasks of serial executors this thread runs, each inside the one before.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// While this exists, the calling thread runs a task in the caller.
pub(crate) struct InlineGuard(());

/// Notes that the calling thread runs a task in the caller, until the guard is dropped.
pub(crate) fn enter() -> InlineGuard {
    DEPTH.set(DEPTH.get() + 1);
    InlineGuard(())
}

/// Whether the calling thread runs a task in the caller.
pub(super) fn is_entered() -> bool {
    DEPTH.get() > 0
}

impl Drop for InlineGuard {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}
