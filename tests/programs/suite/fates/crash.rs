//! The crash matrix: every way to crash at every place where a task runs the user's code.

use concurrent_futures::{Error, Executor};
use libtest_mimic::Trial;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::tasks::own_pid;
use crate::support::{Kind, Processes, assert_works, os, trial};

/// How it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum How {
    Segfault,
    Abort,
    Exit,
    Kill,
    Panic,
}

/// Where it crashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// In `submit`, in the program itself.
    EncodeArgument,
    DecodeArgument,
    Run,
    DropArgument,
    EncodeResult,
    DropResult,
    /// In the program itself.
    DecodeResult,
}

/// What the future says then.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// The worker died of this signal.
    Signal(i32),
    /// The worker died with this exit code.
    ExitCode(i32),
    /// The task panicked; the worker goes on.
    Panicked,
}

use Place::{
    DecodeArgument, DecodeResult, DropArgument, DropResult, EncodeArgument, EncodeResult, Run,
};

/// The places in a worker.
const IN_THE_WORKER: [Place; 5] = [DecodeArgument, Run, DropArgument, EncodeResult, DropResult];

/// The places where a panic is survived: those in the program itself, too.
const EVERYWHERE: [Place; 7] = [
    EncodeArgument,
    DecodeArgument,
    Run,
    DropArgument,
    EncodeResult,
    DropResult,
    DecodeResult,
];

/// How, in words, where, and what is said of it.
const TABLE: [(How, &str, &[Place], Then); 5] = [
    (
        How::Segfault,
        "segfault",
        &IN_THE_WORKER,
        Then::Signal(libc::SIGSEGV),
    ),
    (
        How::Abort,
        "abort",
        &IN_THE_WORKER,
        Then::Signal(libc::SIGABRT),
    ),
    (
        How::Kill,
        "kill_9",
        &IN_THE_WORKER,
        Then::Signal(libc::SIGKILL),
    ),
    (How::Exit, "exit_7", &IN_THE_WORKER, Then::ExitCode(7)),
    (How::Panic, "panic", &EVERYWHERE, Then::Panicked),
];

/// A trial for each cell.
pub fn matrix() -> Vec<Trial> {
    let cell = |how, word: &str, place: Place, then| {
        trial(name(word, place), move || crash(how, place, then))
    };
    let row = |(how, word, places, then): (How, &'static str, &'static [Place], Then)| {
        places
            .iter()
            .map(move |place| cell(how, word, *place, then))
    };
    TABLE.into_iter().flat_map(row).collect()
}

/// The names of those that end a worker.
pub fn names() -> Vec<String> {
    let deaths = TABLE.iter().filter(|(how, ..)| *how != How::Panic);
    let row = |(_, word, places, _): &(How, &str, &'static [Place], Then)| {
        let word = (*word).to_owned();
        places.iter().map(move |place| name(&word, *place))
    };
    deaths.flat_map(row).collect()
}

fn name(word: &str, place: Place) -> String {
    format!("{}::{word}_in_{}", Processes::NAME, snake(place))
}

/// `DecodeArgument` → `decode_argument`.
fn snake(place: Place) -> String {
    let camel = format!("{place:?}");
    let (first, rest) = camel.split_at(1);
    rest.chars().fold(first.to_lowercase(), |mut name, letter| {
        if letter.is_uppercase() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
        name
    })
}

fn crash(how: How, place: Place, then: Then) {
    let pool = Processes::pool(1);
    let pid = pool.submit(own_pid, ()).result().unwrap();
    let plan = Plan {
        how,
        place,
        home: std::process::id(),
    };
    // What waits behind is untouched by it.
    let (future, behind) = (pool.submit(run, Argument(plan)), pool.submit(own_pid, ()));
    let error = future.result().map(std::mem::forget).unwrap_err();
    let next = behind.result().unwrap();
    match (then, error) {
        (Then::Signal(signal), Error::WorkerDied(death)) => {
            assert_eq!((death.signal(), death.exit_code()), (Some(signal), None));
            assert_eq!(death.pid(), pid);
            assert_ne!(next, pid);
        }
        (Then::ExitCode(code), Error::WorkerDied(death)) => {
            assert_eq!((death.signal(), death.exit_code()), (None, Some(code)));
            assert_eq!(death.pid(), pid);
            assert_ne!(next, pid);
        }
        (Then::Panicked, Error::Panicked(panic)) => {
            assert_eq!(panic.message(), format!("on purpose: in {place:?}"));
            assert!(panic.location().unwrap().contains("crash.rs:"));
            assert_eq!(next, pid, "the same worker goes on");
        }
        (then, error) => panic!("not {then:?} but {error:?}"),
    }
    assert_works(&pool);
    assert_eq!(pool.stats().failed, 1);
}

/// How and where a task is to crash.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Plan {
    how: How,
    place: Place,
    /// The process that submits.
    home: u32,
}

impl Plan {
    /// This is a place in a worker.
    fn at_work(self, place: Place) {
        if place == self.place && std::process::id() != self.home {
            self.crash();
        }
    }

    /// This is a place in the program itself.
    fn at_home(self, place: Place) {
        if place == self.place && std::process::id() == self.home {
            self.crash();
        }
    }

    fn crash(self) {
        match self.how {
            How::Segfault => os::segfault(),
            How::Abort => std::process::abort(),
            How::Exit => std::process::exit(7),
            How::Kill => os::kill(std::process::id(), libc::SIGKILL),
            How::Panic => panic!("on purpose: in {:?}", self.place),
        }
    }
}

/// Crashes where its plan says.
struct Argument(Plan);

/// Crashes where its plan says.
struct Outcome(Plan);

fn run(argument: Argument) -> Outcome {
    let plan = argument.0;
    plan.at_work(Run);
    drop(argument);
    Outcome(plan)
}

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.at_home(EncodeArgument);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let plan = Plan::deserialize(deserializer)?;
        plan.at_work(DecodeArgument);
        Ok(Self(plan))
    }
}

impl Drop for Argument {
    fn drop(&mut self) {
        self.0.at_work(DropArgument);
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.at_work(EncodeResult);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let plan = Plan::deserialize(deserializer)?;
        plan.at_home(DecodeResult);
        Ok(Self(plan))
    }
}

impl Drop for Outcome {
    fn drop(&mut self) {
        self.0.at_work(DropResult);
    }
}
