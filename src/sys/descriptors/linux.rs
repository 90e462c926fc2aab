//! Linux.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::call::checked;
use crate::sys::limits::system::soft_limit;

/// Returns a close-on-exec copy of a descriptor, with a number (100, or half the limit if that is lower, or
/// more) that programs do not expect to be given or to find free.
pub(crate) fn copy_high(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let lowest = descriptor_limit().map_or(100, |limit| (limit / 2).min(100));
    copy_from(descriptor.as_raw_fd(), lowest as RawFd)
}

/// The lowest number that is not standard input, output or error.
pub(in crate::sys) const ABOVE_STANDARD: RawFd = libc::STDERR_FILENO + 1;

/// Returns a descriptor of the same file whose number is not standard input, output or error. A program may
/// have closed these: the system then gives their numbers to files that are opened next, and code that prints
/// would write into such a file.
pub(crate) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    match descriptor.as_raw_fd() {
        number if number >= ABOVE_STANDARD => Ok(descriptor),
        number => copy_from(number, ABOVE_STANDARD),
    }
}

/// Returns a close-on-exec copy of a descriptor, with the lowest free number that is at least `lowest`.
pub(in crate::sys) fn copy_from(descriptor: RawFd, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let copy = checked(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, lowest) })?;
    // SAFETY: the kernel made this descriptor for this process; no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Whether a descriptor's number lies in the lower half of the descriptor table: then the table has space for
/// others.
pub(crate) fn leaves_room(descriptor: BorrowedFd<'_>) -> bool {
    let number = u64::from(descriptor.as_raw_fd().unsigned_abs());
    descriptor_limit().is_none_or(|limit| number < limit / 2)
}

fn descriptor_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_NOFILE)
}
