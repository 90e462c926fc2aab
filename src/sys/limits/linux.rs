//! Linux.

use std::io;
use std::ptr;

use crate::sys::call::checked;

/// Whether this process has no limit on the size of files (`ulimit -f unlimited`).
pub(crate) fn has_long_files() -> bool {
    soft_limit(FILE_SIZE).is_none()
}

/// Whether this process may write a file of `bytes` bytes (`ulimit -f`). Otherwise the kernel would answer
/// the attempt with a signal.
pub(crate) fn may_write(bytes: u64) -> bool {
    soft_limit(FILE_SIZE).is_none_or(|limit| bytes <= limit)
}

/// The limit on the stack of the program's main thread, in bytes; `None`: it has no limit, or the limit is not
/// known.
pub(crate) fn stack_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_STACK as libc::c_long)
}

/// The limit on the size of files, by its number.
const FILE_SIZE: libc::c_long = libc::RLIMIT_FSIZE as libc::c_long;

/// The limit on private writable memory, by its number.
pub(in crate::sys) const DATA: libc::c_long = libc::RLIMIT_DATA as libc::c_long;

/// The limit on the number of descriptors, by its number.
pub(in crate::sys) const DESCRIPTORS: libc::c_long = libc::RLIMIT_NOFILE as libc::c_long;

/// The soft limit of a resource; `None`: no limit, or it is not known.
pub(in crate::sys) fn soft_limit(resource: libc::c_long) -> Option<u64> {
    limits_of(resource).ok()?.0
}

/// The soft and the hard limit of a resource; `None` instead of a number: no limit. By the kernel's own call,
/// which has 64 bits on every system; the C libraries do not agree on the type of `resource`.
///
/// # Errors
/// Where the system does not tell, for example under a filter of system calls.
pub(in crate::sys) fn limits_of(resource: libc::c_long) -> io::Result<(Option<u64>, Option<u64>)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let (own, unchanged) = (0, ptr::null::<libc::rlimit64>());
    // SAFETY: the kernel writes one structure, and the buffer outlives the call.
    checked(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            own,
            resource,
            unchanged,
            &raw mut limit,
        )
    })?;
    let number = |limit: u64| (limit != u64::MAX).then_some(limit);
    Ok((number(limit.rlim_cur), number(limit.rlim_max)))
}
