//! Linux.

use std::ffi::CStr;

use rustix::process::getpid;
use rustix::thread::{gettid, set_name};

/// Whether the calling thread is the process's main thread, which runs `main`.
pub(crate) fn is_main_thread() -> bool {
    gettid() == getpid()
}

/// Whether the calling thread is known to be the only one of this process.
pub(crate) fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// The system's id of the calling thread.
pub(crate) fn native_id() -> u64 {
    gettid().as_raw_nonzero().get().unsigned_abs().into()
}

/// Sets the name of the calling thread in process lists.
pub(crate) fn set_title(title: &CStr) {
    // Fails only for a string that is not there.
    let _ = set_name(title);
}
