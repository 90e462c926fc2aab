//! What comes of a task, and whether it may.

use std::time::Duration;

use concurrent_futures::Error;

use crate::plan::{Kind, Plan};
use crate::pools::PAYLOAD_LIMIT;
use crate::tasks::excuse;

/// What came of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// Its own value.
    Value,
    /// Its own panic.
    Panicked,
    /// Its own error.
    NotEncoded,
    /// Its own error.
    NotDecoded,
    TooLarge,
    TimedOut(Duration),
    Died(Death),
    /// A stray write has hit it.
    Corrupted,
    Cancelled,
    ShutDown,
    /// What never may.
    Wrong(String),
}

/// The death of a task's worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    pub pid: u32,
    pub signal: Option<i32>,
    pub exit_code: Option<i32>,
    pub attempts: u32,
}

impl Plan {
    /// What an error is to this task.
    pub fn came(&self, error: &Error) -> Came {
        // Not every format passes on what a serde impl says.
        let is_own = |words: &str| cfg!(feature = "postcard") || words.contains(&excuse(self.id));
        match error {
            Error::Panicked(panic) if panic.message() == excuse(self.id) => Came::Panicked,
            Error::Encode(words) if is_own(words.as_str()) => Came::NotEncoded,
            Error::Decode(words) if is_own(words.as_str()) => Came::NotDecoded,
            Error::TooLarge(value) if value.limit() == PAYLOAD_LIMIT => Came::TooLarge,
            Error::TaskTimeout { limit } => Came::TimedOut(limit.get()),
            Error::WorkerDied(death) => Came::Died(Death {
                pid: death.pid(),
                signal: death.signal(),
                exit_code: death.exit_code(),
                attempts: death.attempts(),
            }),
            Error::MemoryCorrupted(_) => Came::Corrupted,
            Error::Cancelled => Came::Cancelled,
            Error::ShutDown => Came::ShutDown,
            other => Came::Wrong(other.to_string()),
        }
    }

    /// Whether this may be the outcome if nothing interferes.
    pub fn leads_to(&self, came: &Came) -> bool {
        let died = |came: &Came, signal| match came {
            Came::Died(death) => death.signal == Some(signal),
            _ => false,
        };
        match self.kind {
            Kind::Tiny | Kind::Plain | Kind::Busy | Kind::Large | Kind::Retried | Kind::Forking => {
                *came == Came::Value
            }
            // It is hit by its own writes, too.
            Kind::Scribbles => {
                matches!(came, Came::Value | Came::Corrupted) || died(came, libc::SIGSEGV)
            }
            Kind::AbortsAtTimes => *came == Came::Value || died(came, libc::SIGABRT),
            Kind::Overruns => {
                matches!(came, Came::TimedOut(after) if self.limit == Some(*after))
            }
            Kind::Panics | Kind::ArgumentPanics | Kind::ResultPanics => *came == Came::Panicked,
            Kind::Exits => {
                matches!(came, Came::Died(death) if death.exit_code == Some(self.exit_code()))
            }
            Kind::Aborts | Kind::Hoards => died(came, libc::SIGABRT),
            Kind::Segfaults => died(came, libc::SIGSEGV),
            Kind::KillsItself => died(came, libc::SIGKILL),
            Kind::ArgumentNotEncoded | Kind::ResultNotEncoded => *came == Came::NotEncoded,
            Kind::ArgumentNotDecoded | Kind::ResultNotDecoded => *came == Came::NotDecoded,
            Kind::ArgumentTooLarge | Kind::ResultTooLarge => *came == Came::TooLarge,
        }
    }

    /// Whether no worker has to do with it.
    pub fn fails_at_home(&self) -> bool {
        use Kind::{ArgumentNotEncoded, ArgumentPanics, ArgumentTooLarge};
        matches!(
            self.kind,
            ArgumentNotEncoded | ArgumentPanics | ArgumentTooLarge
        )
    }
}
