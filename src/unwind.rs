//! The only `catch_unwind` of the crate: a panic in user code becomes a value.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

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

thread_local! {
    /// What the hook has noted of the last panic in user code that this thread runs for us.
    static NOTED: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// How many calls of user code this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// Whether `NOTED` is `Some`; cheaper to ask.
    static HAS_NOTED: Cell<bool> = const { Cell::new(false) };
}

/// Calls user code.
///
/// # Errors
/// The panic, if it ended in one.
#[inline]
pub(crate) fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    if !CHAINED.is_completed() {
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
fn outcome_of<R>(
    outcome: Result<R, Box<dyn Any + Send>>,
    outer: Option<Panic>,
) -> Result<R, Panic> {
    let noted = exchange_note(outer);
    outcome.map_err(|payload| Panic {
        message: message_of(payload),
        ..noted.unwrap_or_default()
    })
}

/// The note that there is, in exchange for another.
fn exchange_note(note: Option<Panic>) -> Option<Panic> {
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

/// Done once our note-taking stands in front of the hook that the program has.
static CHAINED: Once = Once::new();

/// Adds our note-taking in front of the hook that the program has, once.
#[cold]
fn chain_hook() {
    if std::thread::panicking() {
        return; // std refuses to change the hook now; the next call will
    }
    CHAINED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            note(info);
            previous(info);
        }));
    });
}

/// Remembers where a panic arose, if it arose in code that we called.
fn note(info: &PanicHookInfo<'_>) {
    // The destructor of another thread-local may run a task when this one is gone: then nothing is noted.
    let _ = NOTED.try_with(|noted| {
        if DEPTH.get() > 0 {
            let trace = Backtrace::capture();
            *noted.borrow_mut() = Some(Panic {
                location: info.location().map(ToString::to_string),
                backtrace: (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string()),
                ..Panic::default()
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
