//! The only `catch_unwind` of the crate: a panic in user code becomes a value.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::clock;

/// What is known of one panic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Panic {
    /// The text given to `panic!`, or a note that the payload was none.
    pub(crate) message: String,
    /// `file:line:col`.
    pub(crate) location: Option<String>,
    /// The stack as text, where `RUST_BACKTRACE` asks for it.
    pub(crate) backtrace: Option<String>,
}

/// What the hook notes of a panic.
#[derive(Default)]
struct Note {
    /// `file:line:col`.
    location: Option<String>,
    /// The stack, its symbols not looked up; `None`: it is not asked for.
    trace: Option<Backtrace>,
}

thread_local! {
    /// What the hook has noted of the last panic in user code that this thread runs for us.
    static NOTED: RefCell<Option<Note>> = const { RefCell::new(None) };
    /// How many calls of user code this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether `NOTED` is `Some`; cheaper to ask.
    static HAS_NOTED: Cell<bool> = const { Cell::new(false) };
    /// Whether this thread runs a hook of ours.
    static IS_IN_HOOK: Cell<bool> = const { Cell::new(false) };
}

/// Calls user code.
///
/// # Errors
/// The panic, if it ended in one.
#[inline]
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    // ORDERING: Relaxed; a thread that was given work after a `set_hook` sees what that did.
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

/// What it came to, where there was a panic, or is one around it.
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
            // Looks symbols up.
            backtrace: trace.map(|trace| clock::off_the_clock(|| trace.to_string())),
        }
    })
}

/// The note that there is, in exchange for another.
fn exchange_note(note: Option<Note>) -> Option<Note> {
    let has_note = note.is_some();
    // A thread whose locals are gone has no note, and takes none.
    let before = NOTED.try_with(|noted| noted.replace(note));
    HAS_NOTED.set(has_note && before.is_ok());
    before.ok().flatten()
}

/// Drops what may hold user values, whose `Drop` may panic. A collection of such is dropped item by
/// item: two panics in one drop end the program.
pub(crate) fn discard<T>(value: T) {
    call(|| drop(value));
}

/// Calls user code whose panic has no other place to go than stderr, where the hook prints it: a
/// callback, a waker, an observer.
pub(crate) fn call(f: impl FnOnce()) {
    let (Ok(()) | Err(_)) = catch(f);
}

/// The boundary itself.
fn guard<R>(f: impl FnOnce() -> R) -> Result<R, Box<dyn Any + Send>> {
    panic::catch_unwind(AssertUnwindSafe(f))
}

/// The address of our hook while that is the program's, as far as is known; [`NONE`] once it was dropped.
static FRONT: AtomicUsize = AtomicUsize::new(NONE);

/// No address of a hook of ours.
const NONE: usize = 0;

/// Makes our hook, which takes notes and then calls the one that the program has, the program's, unless it is.
///
/// A program that sets a hook removes ours. One that does not keep ours drops it, which resets `FRONT`: the next
/// [`catch`] calls this. A program that keeps it, and does not call it, is noticed by a panic that left no note.
/// So is `resume_unwind`, which runs no hook: then ours is found to be in place, and stays.
///
/// For an instant the program has std's own hook, since std has no way to look at a hook in place: a panic of
/// another thread may meet it, and a hook that another thread sets then is lost.
#[cold]
pub(crate) fn chain_hook() {
    /// Held by the one thread that exchanges hooks.
    static CHAINING: Mutex<()> = Mutex::new(());

    if std::thread::panicking() {
        return; // std refuses to change the hook now; the next call will
    }
    let _chaining = CHAINING.lock().unwrap_or_else(PoisonError::into_inner);
    let previous = panic::take_hook();
    // ORDERING: Relaxed, all of `FRONT`; the lock orders the threads that set it, and the one that resets it has the hook.
    if address(&previous) == FRONT.load(Ordering::Relaxed) {
        return panic::set_hook(previous);
    }
    let front = Front { previous };
    let hook: Hook = Box::new(move |info| front.run(info));
    FRONT.store(address(&hook), Ordering::Relaxed);
    panic::set_hook(hook);
}

/// A panic hook.
type Hook = Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync>;

/// Where a hook lies. No other has the address of ours while that exists, since ours has a size.
fn address(hook: &Hook) -> usize {
    std::ptr::from_ref(&**hook).cast::<()>().addr()
}

/// Our hook.
struct Front {
    /// The hook that the program had before.
    previous: Hook,
}

impl Front {
    fn run(&self, info: &PanicHookInfo<'_>) {
        // A hook of the program may call an older one of ours. A panic in a hook ends the program.
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
        // If this is an older one, another is put in front of the one in place.
        // ORDERING: Relaxed; as above.
        FRONT.store(NONE, Ordering::Relaxed);
    }
}

/// Remembers where a panic arose, if it arose in code that we called.
fn note(info: &PanicHookInfo<'_>) {
    // The destructor of another thread-local may run a task when this one is gone: then nothing is noted.
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
        // What the second panic would say is of no use; its own payload is let go.
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
