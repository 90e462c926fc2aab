//! Linux.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use rustix::process::{DumpableBehavior, dumpable_behavior};

use crate::sys::descriptors::system::above_standard;

/// A descriptor, which is closed when dropped.
pub(crate) use std::os::fd::OwnedFd as OwnedHandle;

/// A descriptor that another value owns.
pub(crate) use std::os::fd::BorrowedFd as BorrowedHandle;

/// A value that owns or borrows a descriptor: a file, a stream, a pipe.
pub(crate) trait AsHandle {
    /// The descriptor of the value.
    fn as_handle(&self) -> BorrowedHandle<'_>;
}

impl<T: AsFd + ?Sized> AsHandle for T {
    #[inline]
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.as_fd()
    }
}

/// The number of a descriptor, by which [`open_held`] finds it in another process.
pub(crate) fn number_of(handle: BorrowedHandle<'_>) -> u32 {
    handle.as_raw_fd().unsigned_abs()
}

/// The number of a file (its inode), the same in all processes; it may be reused once the file is gone.
pub(crate) fn file_number(facts: &Metadata) -> u64 {
    facts.ino()
}

/// The number of the file that process `holder` has open as `descriptor`; `None` if that is no ordinary file,
/// or not open.
///
/// # Errors
/// If this process may not look, for example because it has another user's rights.
pub(crate) fn held_file_number(holder: u32, descriptor: u32) -> io::Result<Option<u64>> {
    match std::fs::metadata(path_of_held(holder, descriptor)) {
        Ok(facts) => Ok(facts.is_file().then(|| file_number(&facts))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens for reading the file that process `holder` has open as `descriptor`. Callers have checked that it is
/// a file: opening something else may have effects, or block for ever.
pub(crate) fn open_held(holder: u32, descriptor: u32) -> io::Result<OwnedHandle> {
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path_of_held(holder, descriptor))?;
    above_standard(file.into())
}

fn path_of_held(holder: u32, descriptor: u32) -> String {
    format!("/proc/{holder}/fd/{descriptor}")
}

/// Whether processes of the same user may access the open files of this process through `/proc`
/// (`PR_GET_DUMPABLE`).
pub(crate) fn is_open_to_others() -> bool {
    dumpable_behavior().is_ok_and(|it| it == DumpableBehavior::Dumpable)
}

/// The id by which /proc lists this process; `None` if it does not. In a PID namespace that sees the /proc of
/// its parent namespace, this differs from the process's own id, which may belong to another process there.
pub(crate) fn number_in_proc() -> Option<u32> {
    let target = std::fs::read_link("/proc/self").ok()?;
    target.to_str()?.parse().ok()
}
