//! How a worker gets back to the `init` that made its parent a parent: which arguments it is
//! started with, and how it knows that it is one.
//!
//! A program is re-executed without arguments, and calls `init` first thing in `main`. A test
//! binary of libtest has no `main` of the user's: there the worker is started with the arguments
//! that run the one test that called `init`.

use std::backtrace::Backtrace;
use std::env;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use crate::process::sys;

/// Marks a worker in its environment, until `init` has seen it. The value is the number of the
/// socket that is the worker's stdin, then the test to re-enter: what inherits the mark by
/// mistake has another stdin, and is no worker.
const MARK: &str = "CONCURRENT_FUTURES_WORKER";

/// The way back to `init`, noted by the first call.
static WAY: OnceLock<Way> = OnceLock::new();

/// The way from the start of the program to the call of `init`.
enum Way {
    /// Through `main`.
    Main,
    /// Through libtest, to this test.
    Test(String),
    /// Perhaps through libtest, on its main thread: the stack tells.
    Stack(Backtrace),
}

/// What a worker finds in its environment.
pub(crate) struct Mark {
    /// The test that it was to re-enter, if one.
    test: Option<String>,
}

/// Whether `init` was called.
pub(crate) fn is_known() -> bool {
    WAY.get().is_some()
}

/// Notes the way on which the caller, `init`, was reached; the first call counts.
pub(crate) fn note() {
    WAY.get_or_init(Way::here);
}

/// Notes the way that the parent noted.
pub(crate) fn note_mark(mark: &Mark) {
    WAY.get_or_init(|| mark.test.clone().map_or(Way::Main, Way::Test));
}

/// What a worker is to be started with: arguments, and its mark.
pub(crate) fn arguments(stdin: BorrowedFd<'_>) -> (Vec<OsString>, (&'static str, OsString)) {
    let number = sys::socket_number(stdin).unwrap_or(0);
    let test = WAY.get().and_then(Way::test).unwrap_or_default();
    let arguments = if test.is_empty() {
        Vec::new()
    } else {
        let options = [
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ];
        let options = options.iter().map(OsString::from);
        std::iter::once(OsString::from(&test))
            .chain(options)
            .collect()
    };
    (arguments, (MARK, format!("{number};{test}").into()))
}

impl Mark {
    /// Takes the mark out of the environment; `None`: this is no worker.
    pub(crate) fn take(stdin: BorrowedFd<'_>) -> Option<Self> {
        let value = env::var(MARK).ok()?;
        // SAFETY: `init` is the first statement of `main`: no other thread of ours runs yet. Where
        // a runtime has started threads before it, they have nothing to do so far, and std's own
        // readers of the environment take its lock.
        unsafe { env::remove_var(MARK) };
        let (number, test) = value.split_once(';')?;
        let is_ours = number.parse().ok() == sys::socket_number(stdin);
        is_ours.then(|| Self {
            test: (!test.is_empty()).then(|| test.to_owned()),
        })
    }
}

impl Way {
    fn here() -> Self {
        let thread = std::thread::current();
        match thread.name() {
            // libtest calls its threads like their tests.
            Some(name) if name != "main" => Self::Test(name.to_owned()),
            // A single test thread is the main thread.
            _ if is_test_binary() => Self::Stack(Backtrace::force_capture()),
            _ => Self::Main,
        }
    }

    /// The test to re-enter.
    fn test(&self) -> Option<String> {
        match self {
            Self::Main => None,
            Self::Test(name) => Some(name.clone()),
            Self::Stack(stack) => test_on_stack(&stack.to_string()),
        }
    }
}

/// Whether cargo built this program as a test or bench: the names of those end with a hash.
fn is_test_binary() -> bool {
    let Ok(program) = env::current_exe() else {
        return false;
    };
    program
        .file_stem()
        .and_then(|stem| stem.to_str()?.rsplit_once('-'))
        .is_some_and(|(_, hash)| {
            hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// The test among the frames of a stack, innermost first: the one that libtest's frames called.
fn test_on_stack(stack: &str) -> Option<String> {
    let names = stack.lines().filter_map(|line| {
        let (number, name) = line.trim_start().split_once(": ")?;
        number.parse::<u32>().is_ok().then_some(name)
    });
    let mut caller = None;
    for name in names {
        if name.starts_with("test::") {
            return caller;
        }
        let glue = ["core::", "<", "std::", "__rust"]
            .iter()
            .any(|g| name.starts_with(g));
        if !glue {
            caller = test_path(name);
        }
    }
    None // a `main` of the user's own, as with `harness = false`
}

/// A test's name, out of its function's path: without the crate, and what is inside the test.
fn test_path(function: &str) -> Option<String> {
    let (_, path) = function.split_once("::")?;
    let end = path.find("::{").unwrap_or(path.len());
    Some(path[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_is_found_on_the_stack() {
        let stack = "
   0: concurrent_futures::process::reentry::Way::here
             at ./src/process/reentry.rs:90:18
   1: concurrent_futures::init
   2: plain::nested::works
             at ./tests/plain.rs:9:5
   3: plain::nested::works::{{closure}}
   4: core::ops::function::FnOnce::call_once
   5: <fn() as core::ops::function::FnOnce<()>>::call_once
   6: test::__rust_begin_short_backtrace
   7: test::run_test_in_process::{{closure}}
   8: std::rt::lang_start";
        assert_eq!(test_on_stack(stack).unwrap(), "nested::works");
    }

    #[test]
    fn a_main_of_ones_own_has_no_test() {
        let stack = "   0: concurrent_futures::init\n   1: suite::main\n   2: std::rt::lang_start";
        assert_eq!(test_on_stack(stack), None);
    }
}
