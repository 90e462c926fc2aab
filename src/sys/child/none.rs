//! Systems on which this crate starts no processes.

use std::ffi::OsStr;
use std::io;
use std::process::Command;

use crate::sys::child::ProcessEnd;
use crate::sys::unsupported;

pub(crate) const SUPPORTED: bool = false;

pub(crate) fn from_outside(_: ProcessEnd) -> bool {
    false
}

pub(crate) fn signal_name(_: i32) -> Option<&'static str> {
    None
}

pub(crate) fn lead_group(_: &mut Command) {}

pub(crate) fn start_as(_: &mut Command, _: impl AsRef<OsStr>) {}

/// There is none, as no child was started.
#[derive(Debug)]
pub(crate) enum Handle {
    Gone,
}

impl Handle {
    pub(crate) fn of(_: u32) -> Self {
        Self::Gone
    }

    pub(crate) fn wait_for_end(&self) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn reap(&self, waited: io::Result<()>) -> io::Result<(ProcessEnd, u64)> {
        waited?;
        Err(unsupported())
    }

    pub(crate) fn kill_tree(&self) -> io::Result<()> {
        Err(unsupported())
    }

    pub(crate) fn terminate(&self) -> io::Result<()> {
        Err(unsupported())
    }
}
