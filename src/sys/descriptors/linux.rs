//! Linux.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::io::fcntl_dupfd_cloexec;

use crate::sys::limits::system::{DESCRIPTORS, soft_limit};

/// Returns a close-on-exec copy of a descriptor, with a number (100, or half the limit if that is lower, or
/// more) that programs do not expect to be given or to find free.
pub(crate) fn copy_high(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let lowest = descriptor_limit().map_or(100, |limit| (limit / 2).min(100));
    Ok(fcntl_dupfd_cloexec(descriptor, lowest as RawFd)?)
}

/// Returns a descriptor of the same file whose number is not standard input, output or error. A program may
/// have closed these: the system then gives their numbers to files that are opened next, and code that prints
/// would write into such a file.
pub(in crate::sys) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    match descriptor.as_raw_fd() {
        number if number >= ABOVE_STANDARD => Ok(descriptor),
        _ => copy_above_standard(descriptor.as_fd()),
    }
}

/// Returns a close-on-exec copy of a descriptor whose number is not standard input, output or error.
pub(in crate::sys) fn copy_above_standard(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(descriptor, ABOVE_STANDARD)?)
}

/// The lowest number that is not standard input, output or error.
const ABOVE_STANDARD: RawFd = 3;

/// Whether a descriptor's number lies in the lower half of the descriptor table: then the table has space for
/// others.
pub(crate) fn leaves_room(descriptor: BorrowedFd<'_>) -> bool {
    let number = u64::from(descriptor.as_raw_fd().unsigned_abs());
    descriptor_limit().is_none_or(|limit| number < limit / 2)
}

fn descriptor_limit() -> Option<u64> {
    soft_limit(DESCRIPTORS)
}
