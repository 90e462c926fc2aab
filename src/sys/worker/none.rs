//! Systems on which no process is a worker.

use std::io;

use crate::sys::handle::BorrowedHandle;
use crate::sys::unsupported;

pub(crate) fn own_peak_memory() -> u64 {
    0
}

pub(crate) fn die_with_parent() {}

pub(crate) fn end_when_hung_up(_: BorrowedHandle<'_>) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn limit_memory(_: u64) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn heed_signals() {}

pub(crate) fn stand_aside_from_terminal() {}

pub(crate) fn exit_forked_copy() -> ! {
    std::process::exit(0)
}
