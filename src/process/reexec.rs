//! How a worker gets back to the `init` that made its parent a parent: which arguments it is
//! started with, and how it knows that it is one.
//!
//! A program is re-executed with one argument, and calls `init` first thing in `main`. A test
//! binary of libtest has no `main` of the user's: there the worker is started with the arguments
//! that run the one test that called `init`.
//!
//! A worker must never run `main`: it would start workers in its turn, without end. Two things tell it
//! what it is. The *mark*, in its environment, proves that its standard input is a link. The *argument* proves
//! nothing, but reaches it even where a launcher has cleaned the environment or replaced standard input: a
//! process with the argument and without a good mark ends.

use std::env;
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use crate::error::Error;
use crate::sys;
use crate::sys::image;

/// Marks a worker in its environment. The value is the number of the socket that is the worker's stdin,
/// then the test to re-enter: what inherits the mark by mistake has another stdin, and is no worker.
const MARK: &str = "CONCURRENT_FUTURES_WORKER";

/// Marks a worker in its arguments. It is no option, since libtest refuses those that it does not know; a
/// further filter, which no test matches, it takes.
const ARGUMENT: &str = "concurrent-futures-worker";

/// What stands behind the test to re-enter and [`ARGUMENT`]: has libtest run no other test.
const OPTIONS: [&str; 4] = [
    "--exact",
    "--include-ignored",
    "--nocapture",
    "--test-threads=1",
];

/// The way back to `init`, noted by the first call.
static WAY: OnceLock<EntryPath> = OnceLock::new();

/// The way from the start of the program to the call of `init`.
enum EntryPath {
    /// Through `main`.
    Main,
    /// Through libtest, to this test.
    Test(String),
    /// There is none for this process: it was started as a worker, and must not be one.
    Barred,
    /// There is none: `init` is called in a library, by a library, and the program knows nothing of it.
    Foreign,
}

/// What `init` has found out about its process.
pub(crate) enum Role {
    /// A program.
    Program,
    /// A worker.
    Worker(WorkerMark),
    /// A process that its environment calls a worker, of somebody whom it must not obey: why. It goes on as
    /// a program, but starts no workers: those would go on as programs in their turn, without end.
    Mistrustful(&'static str),
    /// A process whose arguments call it a worker, and that cannot be one: why. It must not run `main`.
    Unfit(&'static str),
}

/// What a worker finds in its environment.
pub(crate) struct WorkerMark {
    /// The test that it was to re-enter, if one.
    test: Option<String>,
}

/// Whether `init` was called.
pub(crate) fn is_known() -> bool {
    WAY.get().is_some()
}

/// Whether workers can be started that find their way to `init`.
///
/// # Errors
/// `NotInitialized` before `init`; `Unsupported` where this process was started as a worker itself, by
/// somebody whom it must not obey, and in a library that a foreign program has loaded.
pub(crate) fn check() -> Result<(), Error> {
    match WAY.get() {
        None => Err(Error::NotInitialized),
        Some(EntryPath::Barred) => {
            let words = "a process that was to be a worker, and is none, starts no workers";
            Err(Error::Unsupported(words.into()))
        }
        Some(EntryPath::Foreign) => {
            let words = "this is a library that the program has loaded; a worker would be the program, \
                         which knows nothing of it";
            Err(Error::Unsupported(words.into()))
        }
        Some(EntryPath::Main | EntryPath::Test(_)) => Ok(()),
    }
}

/// Notes the way on which `init` was reached, from code at this address; the first call counts.
pub(crate) fn note(caller: usize) {
    WAY.get_or_init(|| match image::is_foreign(caller) {
        true => EntryPath::Foreign,
        false => EntryPath::here(),
    });
}

/// Notes the way that the parent noted.
pub(crate) fn note_mark(mark: &WorkerMark) {
    WAY.get_or_init(|| mark.test.clone().map_or(EntryPath::Main, EntryPath::Test));
}

/// Notes that this process must not be what it was started as.
pub(crate) fn note_mistrust() {
    WAY.get_or_init(|| EntryPath::Barred);
}

/// What a worker is to be started with: arguments, and its mark.
pub(crate) fn arguments(stdin: BorrowedFd<'_>) -> (Vec<OsString>, (&'static str, OsString)) {
    let number = sys::socket_number(stdin).unwrap_or(0);
    let test = WAY.get().and_then(EntryPath::test).unwrap_or_default();
    let arguments = match test {
        "" => vec![ARGUMENT],
        test => [&[test, ARGUMENT], &OPTIONS[..]].concat(),
    };
    let arguments = arguments.into_iter().map(OsString::from).collect();
    (arguments, (MARK, format!("{number};{test}").into()))
}

impl Role {
    /// Finds out about this process.
    pub(crate) fn find(stdin: BorrowedFd<'_>) -> Self {
        let is_called_worker = is_called_worker(env::args_os());
        let refuse = |why| match is_called_worker {
            true => Self::Unfit(why),
            false => Self::Mistrustful(why),
        };
        match WorkerMark::take(stdin) {
            None if is_called_worker => Self::Unfit(
                "has another environment or standard input than it was given, by a launcher perhaps",
            ),
            None => Self::Program,
            Some(_) if sys::has_gained_rights() => {
                refuse("has more rights than the user who started it")
            }
            Some(_) if !is_peer_trusted(stdin) => {
                refuse("belongs to another user than the process at its link")
            }
            Some(mark) => Self::Worker(mark),
        }
    }
}

/// Whether these are the arguments of a worker, as [`arguments`] makes them.
fn is_called_worker(arguments: impl Iterator<Item = OsString>) -> bool {
    let arguments: Vec<_> = arguments.skip(1).collect();
    match arguments.as_slice() {
        [argument] => argument == ARGUMENT,
        [_test, argument, options @ ..] => argument == ARGUMENT && options == OPTIONS,
        [] => false,
    }
}

/// Whether a worker may obey the user that made the socket that is its stdin: root, the worker's own user, or
/// the one as whom it acts. A program that has laid its rights down makes sockets as the user that it has
/// become, and so are its workers; a launcher that lays them down finds a socket of root's.
fn is_peer_trusted(stdin: BorrowedFd<'_>) -> bool {
    let trusted = [0, sys::real_user(), sys::effective_user()];
    sys::peer_user(stdin).is_ok_and(|peer| trusted.contains(&peer))
}

impl WorkerMark {
    /// Reads the mark, and takes it out of the environment if nobody can read there meanwhile; `None`: this
    /// is no worker.
    fn take(stdin: BorrowedFd<'_>) -> Option<Self> {
        let value = env::var(MARK).ok()?;
        // Elsewhere it stays, which does no harm: a child that inherits it has another stdin, as the
        // worker's own becomes /dev/null.
        if sys::is_single_threaded() {
            // SAFETY: the process has no other thread that could read the environment.
            unsafe { env::remove_var(MARK) };
        }
        let (number, test) = value.split_once(';')?;
        let socket = sys::socket_number(stdin)?;
        (number.parse() == Ok(socket)).then(|| Self {
            test: (!test.is_empty()).then(|| test.to_owned()),
        })
    }
}

impl EntryPath {
    fn here() -> Self {
        match std::thread::current().name() {
            // libtest runs each test on a thread of its name. Where somebody else has made the thread,
            // nothing in front of `init` looks at arguments, as a rule.
            Some(name) if !sys::is_main_thread() => Self::Test(name.to_owned()),
            _ => Self::Main,
        }
    }

    /// The test to re-enter.
    fn test(&self) -> Option<&str> {
        match self {
            Self::Main | Self::Barred | Self::Foreign => None,
            Self::Test(name) => Some(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_worker(arguments: &[&str]) -> bool {
        is_called_worker(arguments.iter().map(OsString::from))
    }

    #[test]
    fn a_worker_is_told_by_its_arguments() {
        let options = OPTIONS.join(" ");
        let of_test = format!("program test {ARGUMENT} {options}");
        assert!(is_worker(&["program", ARGUMENT]));
        assert!(is_worker(&of_test.split(' ').collect::<Vec<_>>()));
    }

    #[test]
    fn a_program_that_is_given_the_word_among_others_is_no_worker() {
        for arguments in [
            &[][..],
            &[ARGUMENT],
            &["program"],
            &["program", "search"],
            &["program", "search", ARGUMENT],
            &["program", ARGUMENT, "file"],
        ] {
            assert!(!is_worker(arguments), "{arguments:?}");
        }
    }
}
