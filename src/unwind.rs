//! The only `catch_unwind` of the crate: a panic in user code becomes a value. A panic hook, chained before
//! the program's, notes location and backtrace. All modules that call user code call it through this one; it
//! relies on `clock`, since a hook's time does not count as the task's.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::clock;
use crate::sync::lock;

/// The description of one panic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Panic {
    /// The text given to `panic!`, or a note that the payload was no text.
    pub(crate) message: String,
    /// `file:line:col`; `None`: no hook of this crate saw the panic.
    pub(crate) location: Option<String>,
    /// The stack as text, if `RUST_BACKTRACE` asks for it.
    pub(crate) backtrace: Option<String>,
}

/// The data that the hook notes about a panic.
#[derive(Default)]
struct Note {
    /// `file:line:col`.
    location: Option<String>,
    /// The stack, its symbols not looked up; `None`: `RUST_BACKTRACE` does not ask for it.
    trace: Option<Backtrace>,
}

thread_local! {
    /// The hook's note about the last panic in user code that this thread called through [`catch`].
    static NOTED: RefCell<Option<Note>> = const { RefCell::new(None) };
    /// The number of nested [`catch`] calls that this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether `NOTED` is `Some`; cheaper to read.
    static HAS_NOTED: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread runs this crate's hook.
    static IS_IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

/// Calls user code.
///
/// # Errors
/// The panic, if `f` panicked.
#[inline]
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    // ORDERING: Relaxed; a thread that was given work after a `set_hook` sees the effect of that call.
    if FRONT.load(Ordering::Relaxed) == NONE {
        chain_hook();
    }
    let outer = HAS_NOTED.get().then(|| exchange_note(None));
    DEPTH.set(DEPTH.get() + 1);
    let outcome = guard(f);
    DEPTH.set(DEPTH.get() - 1);
    match (outcome, outer) {
        (Ok(value), None) => Ok(value),
        (outcome, outer) => outcome_of(outcome, outer.flatten()),
    }
}

/// The slow path of [`catch`]: there was a panic in the call, or the call is inside the handling of another
/// panic, whose note is restored.
#[cold]
fn outcome_of<R>(outcome: Result<R, Box<dyn Any + Send>>, outer: Option<Note>) -> Result<R, Panic> {
    let noted = exchange_note(outer);
    outcome.map_err(|payload| {
        if noted.is_none() {
            chain_hook();
        }
        let Note { location, trace } = noted.unwrap_or_default();
        Panic {
            message: message_of(payload),
            location,
            // `to_string` looks symbols up, which takes long.
            backtrace: trace.map(|trace| clock::off_the_clock(|| trace.to_string())),
        }
    })
}

/// Replaces this thread's note, and returns the previous one.
fn exchange_note(note: Option<Note>) -> Option<Note> {
    let has_note = note.is_some();
    // A thread that has lost its thread-locals (it is about to end) has no note, and stores none.
    let before = NOTED.try_with(|noted| noted.replace(note));
    HAS_NOTED.set(has_note && before.is_ok());
    before.ok().flatten()
}

/// Drops a value that may contain user values, whose `Drop` may panic. Callers drop a collection of such
/// values item by item: two panics in one drop abort the program.
pub(crate) fn discard<T>(value: T) {
    call(|| drop(value));
}

/// Calls user code whose panic is reported only on stderr, where the hook prints it: a callback, a waker, an
/// observer.
pub(crate) fn call(f: impl FnOnce()) {
    let (Ok(()) | Err(_)) = catch(f);
}

/// Calls `catch_unwind`; the only place.
fn guard<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

/// The address of this crate's hook while it is the program's hook, as far as is known; [`NONE`] before the
/// hook is set and after it was dropped.
static FRONT: AtomicUsize = AtomicUsize::new(NONE);

/// A value of [`FRONT`] that is not the address of a hook.
const NONE: usize = 0;

/// Sets this crate's hook as the program's panic hook, unless it is set already. The hook notes the panic,
/// then calls the program's previous hook.
///
/// A program that sets a hook removes this one. If the program does not keep this hook, it drops it, which
/// resets `FRONT`: the next [`catch`] calls this function. If the program keeps this hook and does not call
/// it, that is detected by a panic that left no note. A panic of `resume_unwind`, which runs no hook, leaves
/// no note either: then this function finds the hook in place, and leaves it.
///
/// For an instant the program has std's default hook, since std has no way to inspect a hook in place. A
/// panic of another thread may run std's hook in that instant, and a hook that another thread sets then is
/// lost.
#[cold]
pub(crate) fn chain_hook() {
    /// Locked by the thread that exchanges hooks.
    static CHAINING: Mutex<()> = Mutex::new(());

    if std::thread::panicking() {
        return; // std refuses to change the hook now; a later call sets it
    }
    let _chaining = lock(&CHAINING);
    let previous = panic::take_hook();
    // ORDERING: Relaxed, all accesses to `FRONT`; the lock orders the threads that set it, and the thread
    // that resets it owns the hook.
    if address(&previous) == FRONT.load(Ordering::Relaxed) {
        return panic::set_hook(previous);
    }
    let front = Front { previous };
    let hook: Hook = Box::new(move |info| front.run(info));
    FRONT.store(address(&hook), Ordering::Relaxed);
    panic::set_hook(hook);
}

/// A panic hook, as `std::panic::set_hook` takes it.
type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// The address of a hook. While this crate's hook exists, no other hook has its address, since its size is
/// not zero.
fn address(hook: &Hook) -> usize {
    std::ptr::from_ref(&**hook).cast::<()>().addr()
}

/// This crate's hook, in front of the program's.
struct Front {
    /// The hook that the program had before.
    previous: Hook,
}

impl Front {
    fn run(&self, info: &PanicHookInfo<'_>) {
        // The program's hook may call an older hook of this crate. A panic in a hook aborts the program.
        if IS_IN_HOOK.replace(true) {
            return (self.previous)(info);
        }
        note(info);
        clock::off_the_clock(|| (self.previous)(info));
        IS_IN_HOOK.set(false);
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // If this is an older hook, the next `catch` sets another one in front of the hook in place.
        // ORDERING: Relaxed; as for all accesses to `FRONT`, see `chain_hook`.
        FRONT.store(NONE, Ordering::Relaxed);
    }
}

/// Notes location and stack of a panic, if it was raised in code called through [`catch`].
fn note(info: &PanicHookInfo<'_>) {
    // The destructor of another thread-local may run a task after `NOTED` is gone: then nothing is noted.
    let _ = NOTED.try_with(|noted| {
        if DEPTH.get() > 0 {
            let trace = Backtrace::capture();
            *noted.borrow_mut() = Some(Note {
                location: info.location().map(ToString::to_string),
                trace: (trace.status() == BacktraceStatus::Captured).then_some(trace),
            });
            HAS_NOTED.set(true);
        }
    });
}

/// The text of a panic payload. The payload is user data, whose own `Drop` may panic.
fn message_of(payload: Box<dyn Any + Send>) -> String {
    let text = match (
        payload.downcast_ref::<&'static str>(),
        payload.downcast_ref::<String>(),
    ) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "a payload that is no text".to_owned(),
    };
    if !payload.is::<&'static str>() && !payload.is::<String>() {
        // The payload of a second panic is of no use; it is leaked, since its `Drop` may panic again.
        if let Err(second) = guard(|| drop(payload)) {
            std::mem::forget(second);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_message_and_location() {
        let panic = catch(|| panic!("no {}", 7)).unwrap_err();
        assert_eq!(panic.message, "no 7");
        assert!(panic.location.unwrap().contains("unwind.rs:"));
    }

    #[test]
    fn a_payload_that_panics_when_dropped_is_survived() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("in drop");
            }
        }
        let panic = catch(|| panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(panic.message, "a payload that is no text");
    }

    #[test]
    fn nested_calls_keep_their_own_notes() {
        let outer = catch(|| {
            let inner = catch(|| panic!("inner")).unwrap_err();
            assert_eq!(inner.message, "inner");
            panic!("outer");
        });
        let outer = outer.unwrap_err();
        assert_eq!(outer.message, "outer");
        assert!(outer.location.is_some());
    }
}
