//! How a worker gets back to the `init` that made its parent a parent: which arguments it is
//! started with, and how it knows that it is one.
//!
//! A program is re-executed without arguments, and calls `init` first thing in `main`. A test
//! binary of libtest has no `main` of the user's: there the worker is started with the arguments
//! that run the one test that called `init`.

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
        match std::thread::current().name() {
            // libtest runs each test on a thread of its name.
            Some(name) if name != "main" && is_test_binary() => Self::Test(name.to_owned()),
            _ => Self::Main,
        }
    }

    /// The test to re-enter.
    fn test(&self) -> Option<&str> {
        match self {
            Self::Main => None,
            Self::Test(name) => Some(name),
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
