//! Systems on which this crate gives no process its standard streams.

use std::fs::File;
use std::io;

use crate::sys::handle::{BorrowedHandle, OwnedHandle};
use crate::sys::unsupported;

pub(crate) const INPUT: i32 = 0;

pub(crate) const OUTPUT: i32 = 1;

pub(crate) const ERROR: i32 = 2;

/// There is no such file.
pub(crate) const NULL: &str = "";

pub(crate) fn write_at_once(_: BorrowedHandle<'_>, _: &[u8]) -> io::Result<usize> {
    Err(unsupported())
}

pub(crate) fn pipe() -> io::Result<(OwnedHandle, OwnedHandle)> {
    Err(unsupported())
}

pub(crate) fn never_wait(_: BorrowedHandle<'_>) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn open_null() -> io::Result<OwnedHandle> {
    Err(unsupported())
}

pub(crate) fn has_error_output() -> bool {
    false
}

pub(crate) fn empty_input() -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
    Err(unsupported())
}

pub(crate) fn redirect(_: BorrowedHandle<'_>, _: i32) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn standard(_: i32) -> io::Result<OwnedHandle> {
    Err(unsupported())
}

pub(crate) fn append_only(_: BorrowedHandle<'_>) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn flush_c_output() {}
