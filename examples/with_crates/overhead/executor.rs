//! Where tasks are sent to, and on which way.

use std::fmt;

use clap::ValueEnum;
use concurrent_futures::{Error, Executor, ProcessPoolExecutor, ThreadPoolExecutor};

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Where {
    /// A thread
    Threads,
    /// A process, over memory that it shares with the program
    SharedMemory,
    /// A process, over a socket
    Socket,
}

/// What keeps a pool from sharing memory with its workers.
const VARIABLE: (&str, &str) = ("CONCURRENT_FUTURES_SHARED_MEMORY", "never");

impl Where {
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::SharedMemory => "shared-memory",
            Self::Socket => "socket",
        }
    }

    /// What must stand in the environment of the program, and does not yet.
    pub fn variable(self) -> Option<(&'static str, &'static str)> {
        (self == Self::Socket && !memory_is_refused()).then_some(VARIABLE)
    }

    /// Whether it cannot be had in this environment.
    pub fn is_ruled_out(self) -> bool {
        self == Self::SharedMemory && memory_is_refused()
    }

    /// Whether values are encoded on the way.
    pub fn encodes(self) -> bool {
        self != Self::Threads
    }

    /// A pool of one worker, which has started.
    pub fn pool(self) -> Result<Box<dyn Executor>, Error> {
        if self == Self::Threads {
            return Ok(Box::new(ThreadPoolExecutor::new(1)?));
        }
        let pool = ProcessPoolExecutor::new(1)?;
        pool.warm_up()?;
        Ok(Box::new(pool))
    }
}

fn memory_is_refused() -> bool {
    let (name, value) = VARIABLE;
    std::env::var_os(name).is_some_and(|it| it == value)
}

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Threads => "threads",
            Self::SharedMemory => "processes (shared memory)",
            Self::Socket => "processes (socket)",
        })
    }
}
