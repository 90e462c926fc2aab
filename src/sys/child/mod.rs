//! Children: how a program waits for them, signals and reaps them, and how they ended.
//! `process/host/child.rs` does that through a [`Handle`], which says how system calls identify the child.
//!
//! By a descriptor (a pidfd) where the system has them: it always refers to this child. By process id
//! elsewhere: a program that ignores SIGCHLD, or reaps all children itself, frees the id of a child that has
//! ended, and the system may give the id to another process.

use std::fmt;

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{Handle, SUPPORTED, from_outside, lead_group, start_as};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(all(target_os = "linux", not(no_backend))),
    expect(dead_code, reason = "nothing ends that was not started")
)]
pub(crate) enum ProcessEnd {
    /// The process called `exit`, or returned from `main`, with this exit code.
    Exited(i32),
    /// The signal with this number ended the process.
    Signalled(i32),
    /// The process has ended in an unknown way: the system or another thread of the program has reaped it.
    Unknown,
}

impl ProcessEnd {
    /// Whether the process ended itself as by `abort`.
    pub(crate) fn is_abort(self) -> bool {
        matches!(self, Self::Signalled(signal) if system::signal_name(signal) == Some("SIGABRT"))
    }
}

impl fmt::Display for ProcessEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signalled(signal) => {
                write!(f, "was ended by signal {signal}")?;
                system::signal_name(signal).map_or(Ok(()), |name| write!(f, " ({name})"))
            }
            Self::Unknown => {
                f.write_str("ended in an unknown way (its exit status was taken by somebody else)")
            }
        }
    }
}
