//! What every trial stands on: the kinds of executors, and how a trial is made.

pub mod asynchronous;
pub mod gate;
pub mod leaks;
pub mod os;
pub mod tasks;
pub mod terminal;
pub mod watchdog;

use std::time::Duration;

use concurrent_futures::{
    Error, Executor, ProcessPoolExecutor, SerialExecutor, ThreadPoolExecutor,
};
use libtest_mimic::Trial;

use leaks::Baseline;

/// How long a trial may take; its end is an event, this only bounds a hang.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Time enough for what is sure to happen.
pub const LONG: Duration = Duration::from_secs(40);

/// Time for what is not to happen at all, where it can be asked for without waiting.
pub const NO_TIME: Duration = Duration::ZERO;

/// A kind of executor that the suite runs over.
pub trait Kind: 'static {
    /// The executor.
    type Pool: Executor + Clone + 'static;
    /// The first part of the names of its trials.
    const NAME: &'static str;
    /// A new one.
    fn pool(workers: usize) -> Self::Pool;
}

/// Tasks in the caller.
pub struct Serial;

/// Tasks on threads.
pub struct Threads;

/// Tasks in processes.
pub struct Processes;

impl Kind for Serial {
    type Pool = SerialExecutor;
    const NAME: &'static str = "serial";

    fn pool(_workers: usize) -> SerialExecutor {
        SerialExecutor::new()
    }
}

impl Kind for Threads {
    type Pool = ThreadPoolExecutor;
    const NAME: &'static str = "threads";

    fn pool(workers: usize) -> ThreadPoolExecutor {
        ThreadPoolExecutor::new(workers).unwrap()
    }
}

impl Kind for Processes {
    type Pool = ProcessPoolExecutor;
    const NAME: &'static str = "processes";

    fn pool(workers: usize) -> ProcessPoolExecutor {
        ProcessPoolExecutor::new(workers).unwrap()
    }
}

/// Trials named after their functions, under the name of a group.
macro_rules! trials {
    ($group:expr; $($test:expr),+ $(,)?) => {
        vec![$($crate::support::trial(
            format!("{}::{}", $group, $crate::support::base_name(stringify!($test))),
            $test,
        )),+]
    };
}
pub(crate) use trials;

/// The name of a function, without its type arguments.
pub fn base_name(path: &str) -> &str {
    path.split("::").next().unwrap_or(path).trim()
}

/// A trial under the watchdog, with a leak check after it.
pub fn trial(name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    trial_within(LIMIT, name, test)
}

/// A trial with this time limit.
pub fn trial_within(limit: Duration, name: String, test: impl FnOnce() + Send + 'static) -> Trial {
    Trial::test(name.clone(), move || {
        let _watched = watchdog::watch(name, limit);
        warm_up();
        let baseline = Baseline::now();
        test();
        baseline.assert_restored();
        Ok(())
    })
}

/// What a first use sets up for the rest of the program is no leak: it is set up before the first
/// baseline.
fn warm_up() {
    static WARM: std::sync::Once = std::sync::Once::new();
    WARM.call_once(|| {
        Threads::pool(1).submit_one();
        Processes::pool(1).submit_one();
    });
}

/// One task, to the end.
trait SubmitOne {
    fn submit_one(self);
}

impl<E: Executor> SubmitOne for E {
    fn submit_one(self) {
        assert_eq!(self.submit(|n: u8| n, 1).result().unwrap(), 1);
    }
}

/// The pool still works.
pub fn assert_works(pool: &impl Executor) {
    let sum = pool.submit(|(a, b): (u64, u64)| a + b, (40, 2)).result();
    assert_eq!(sum.unwrap(), 42);
}

/// The pool breaks: what is queued and what comes fails, for a reason that holds all these words.
pub fn assert_breaks(pool: &ProcessPoolExecutor, words: &[&str]) {
    let double = |n: u64| 2 * n;
    let queued = [1, 2, 3].map(|n| pool.submit(double, n));
    let errors = queued.map(|future| future.result().unwrap_err());
    let later = pool.submit(double, 4);
    assert!(later.done(), "at once");
    for error in errors.into_iter().chain([later.result().unwrap_err()]) {
        let Error::BrokenPool(reason) = &error else {
            panic!("{error:?}")
        };
        for word in words {
            assert!(reason.as_str().contains(word), "{word} is not in: {error}");
        }
    }
    assert!(pool.worker_pids().is_empty());
}

/// What a panic said.
pub fn panic_message<T>(outcome: Result<T, Error>) -> String {
    match outcome {
        Err(Error::Panicked(panic)) => panic.message().to_owned(),
        Err(other) => panic!("not a panic but: {other:?}"),
        Ok(_) => panic!("not a panic but a value"),
    }
}

/// Fails unless the outcome is an error of this pattern.
macro_rules! assert_error {
    ($outcome:expr, $pattern:pat $(if $guard:expr)?) => {
        match $outcome {
            Err($pattern) $(if $guard)? => {}
            Err(other) => panic!("not {} but {other:?}", stringify!($pattern)),
            Ok(_) => panic!("not {} but a value", stringify!($pattern)),
        }
    };
}
pub(crate) use assert_error;
