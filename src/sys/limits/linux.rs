//! Linux.

use std::io;

use crate::sys::call::{checked, wide};

/// Whether this process has no limit on the size of files (`ulimit -f unlimited`).
pub(crate) fn has_long_files() -> bool {
    soft_limit(libc::RLIMIT_FSIZE).is_none()
}

/// Whether this process may write a file of `bytes` bytes (`ulimit -f`). Otherwise the kernel would answer
/// the attempt with a signal.
pub(crate) fn may_write(bytes: u64) -> bool {
    soft_limit(libc::RLIMIT_FSIZE).is_none_or(|limit| bytes <= limit)
}

/// The limit on the stack of the program's main thread, in bytes; `None`: it has no limit, or the limit is not
/// known.
pub(crate) fn stack_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_STACK)
}

/// The C library's type for the number of a resource limit.
#[cfg(target_env = "gnu")]
pub(in crate::sys) type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub(in crate::sys) type Resource = libc::c_int;

/// The soft limit of a resource; `None`: no limit, or it is not known.
pub(in crate::sys) fn soft_limit(resource: Resource) -> Option<u64> {
    let limit = limits_of(resource).ok()?;
    // Where `rlim_t` has 32 bits, the number for "no limit" (RLIM_INFINITY) is a size that files may well
    // have.
    let is_limit = limit.rlim_cur != libc::RLIM_INFINITY;
    is_limit.then_some(wide(limit.rlim_cur))
}

/// The soft and the hard limit of a resource, as the C library has them.
pub(in crate::sys) fn limits_of(resource: Resource) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the buffer outlives the call.
    checked(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok(limit)
}
