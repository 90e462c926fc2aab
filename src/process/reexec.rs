//! Re-exec: how a worker process reaches the call of `init` that the program has made: with which arguments
//! it is started, and how it knows that it is a worker. `process/worker/mod.rs` (`init`) and
//! `process/host/` (`config.rs`, `spawn.rs`) call it.
//!
//! A program is re-executed with one argument, and calls `init` at the start of `main`. A test binary of
//! libtest has no `main` of the user: there the worker is started with the arguments that run only the test
//! that called `init`.
//!
//! A worker must never run `main` beyond `init`: it would start workers itself, and these again, without end.
//! Two things tell a process that it is a worker. The *worker mark*, in its environment, proves that its
//! standard input is a connection to a program. The *argument* proves nothing, but reaches the process even
//! if a launcher has cleaned the environment or replaced standard input: a process with the argument and
//! without a valid mark ends.

use std::env;
use std::ffi::OsString;
use std::sync::OnceLock;

use crate::error::Error;
use crate::sys;
use crate::sys::handle::BorrowedHandle;
use crate::sys::image;

/// The environment variable that marks a worker. Its value is the inode number of the socket that is the
/// worker's stdin, then the test to re-enter: a process that inherits the mark by mistake has another stdin,
/// and is no worker.
const MARK: &str = "CONCURRENT_FUTURES_WORKER";

/// The argument that marks a worker. It is not an option, since libtest refuses options that it does not
/// know. It does accept a further filter that matches no test.
const ARGUMENT: &str = "concurrent-futures-worker";

/// The arguments behind the test to re-enter and [`ARGUMENT`]: they make libtest run no other test.
const OPTIONS: [&str; 4] = [
    "--exact",
    "--include-ignored",
    "--nocapture",
    "--test-threads=1",
];

/// How a worker reaches `init`, noted by the first call of `init`.
static ENTRY_PATH: OnceLock<EntryPath> = OnceLock::new();

/// How the program reaches the call of `init` from its start.
enum EntryPath {
    /// Through `main`.
    Main,
    /// Through libtest, which runs the test of this name.
    Test(String),
    /// Not at all: this process was started as a worker, and must not be one.
    Barred,
    /// Not at all: code in a library has called `init`, and the program that loaded the library does not call
    /// it.
    Foreign,
}

/// What `init` finds out about its process.
pub(crate) enum Role {
    /// A program that may start workers.
    Program,
    /// A worker of the program at the other end of its stdin.
    Worker(WorkerMark),
    /// A process that the environment marks as a worker of another user's process, which it must not obey, or
    /// that has gained rights; the text says why. It goes on as a program, but starts no workers: those would
    /// go on as programs too, without end.
    Mistrustful(&'static str),
    /// A process that its arguments mark as a worker, and that cannot be one; the text says why. It must not
    /// run `main`.
    Unfit(&'static str),
}

/// The content of the mark that a worker finds in its environment.
pub(crate) struct WorkerMark {
    /// The test that the worker re-enters; `None`: `main`.
    test: Option<String>,
}

/// Whether `init` was called in this process.
pub(crate) fn is_known() -> bool {
    ENTRY_PATH.get().is_some()
}

/// Checks that workers can be started, and will reach `init`.
///
/// # Errors
/// `NotInitialized` before `init`. `Unsupported` on a system for which `sys` has no backend, in a process that
/// was itself started as a worker, by a process that it must not obey, and in a library that a program
/// without `init` has loaded.
pub(crate) fn check() -> Result<(), Error> {
    if !sys::child::SUPPORTED {
        let words = format!("there are no process pools on {} so far", env::consts::OS);
        return Err(Error::Unsupported(words.into()));
    }
    match ENTRY_PATH.get() {
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

/// Notes how `init` was reached, from code at the address `caller`; only the first call counts.
pub(crate) fn note(caller: usize) {
    ENTRY_PATH.get_or_init(|| match image::is_foreign(caller) {
        true => EntryPath::Foreign,
        false => EntryPath::here(),
    });
}

/// Notes in a worker how its parent reached `init`.
pub(crate) fn note_mark(mark: &WorkerMark) {
    ENTRY_PATH.get_or_init(|| mark.test.clone().map_or(EntryPath::Main, EntryPath::Test));
}

/// Notes that this process was started as a worker and must not be one.
pub(crate) fn note_mistrust() {
    ENTRY_PATH.get_or_init(|| EntryPath::Barred);
}

/// The arguments with which a worker is started, and the name and value of its mark. `stdin` is the worker's
/// end of the socket.
pub(crate) fn arguments(stdin: BorrowedHandle<'_>) -> (Vec<OsString>, (&'static str, OsString)) {
    let number = sys::stream::socket_number(stdin).unwrap_or(0);
    let test = ENTRY_PATH
        .get()
        .and_then(EntryPath::test)
        .unwrap_or_default();
    let arguments = match test {
        "" => vec![ARGUMENT],
        test => [&[test, ARGUMENT], &OPTIONS[..]].concat(),
    };
    let arguments = arguments.into_iter().map(OsString::from).collect();
    (arguments, (MARK, format!("{number};{test}").into()))
}

impl Role {
    /// Determines the role of this process; `stdin` is its standard input.
    pub(crate) fn find(stdin: BorrowedHandle<'_>) -> Self {
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
            Some(_) if sys::rights::has_gained_rights() => {
                refuse("has more rights than the user who started it")
            }
            Some(_) if !is_peer_trusted(stdin) => {
                refuse("belongs to another user than the process at the end of its connection")
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

/// Whether a worker may obey the user that made the socket that is its stdin: root, the worker's real user,
/// or its effective user. A program that has given up its rights makes sockets as the user that it has
/// become, and its workers run as that user too; if a launcher gives up rights, the worker finds a socket of
/// root.
fn is_peer_trusted(stdin: BorrowedHandle<'_>) -> bool {
    let trusted = [0, sys::rights::real_user(), sys::rights::effective_user()];
    sys::rights::peer_user(stdin).is_ok_and(|peer| trusted.contains(&peer))
}

impl WorkerMark {
    /// Reads the mark, and removes it from the environment if no other thread can read that meanwhile.
    /// `None`: this process is no worker.
    fn take(stdin: BorrowedHandle<'_>) -> Option<Self> {
        let value = env::var(MARK).ok()?;
        // With other threads it stays, which does no harm: a child that inherits it has another stdin, since
        // the worker's own becomes /dev/null.
        if sys::thread::is_single_threaded() {
            // SAFETY: the process has no other thread that could read the environment.
            unsafe { env::remove_var(MARK) };
        }
        let (number, test) = value.split_once(';')?;
        let socket = sys::stream::socket_number(stdin)?;
        (number.parse() == Ok(socket)).then(|| Self {
            test: (!test.is_empty()).then(|| test.to_owned()),
        })
    }
}

impl EntryPath {
    fn here() -> Self {
        match std::thread::current().name() {
            // libtest runs each test on a thread with the test's name. If other code has made the thread,
            // usually nothing looks at arguments before `init` is called.
            Some(name) if !sys::thread::is_main_thread() => Self::Test(name.to_owned()),
            _ => Self::Main,
        }
    }

    /// The test to re-enter; `None` if the way is not through libtest.
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
