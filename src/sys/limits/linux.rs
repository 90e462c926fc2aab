//! Linux.

use rustix::process::{Resource, getrlimit};

/// Whether this process has no limit on the size of files (`ulimit -f unlimited`).
pub(crate) fn has_long_files() -> bool {
    soft_limit(Resource::Fsize).is_none()
}

/// Whether this process may write a file of `bytes` bytes (`ulimit -f`). Otherwise the kernel would answer
/// the attempt with a signal.
pub(crate) fn may_write(bytes: u64) -> bool {
    soft_limit(Resource::Fsize).is_none_or(|limit| bytes <= limit)
}

/// The limit on the stack of the program's main thread, in bytes; `None`: it has no limit.
pub(crate) fn stack_limit() -> Option<u64> {
    soft_limit(Resource::Stack)
}

/// The soft limit of a resource; `None`: no limit.
pub(in crate::sys) fn soft_limit(resource: Resource) -> Option<u64> {
    getrlimit(resource).current
}
