//! Linux.

use std::ffi::CStr;

/// Whether the calling thread is the process's main thread, which runs `main`.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: no memory is touched.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    u32::try_from(thread) == Ok(std::process::id())
}

/// Whether the calling thread is known to be the only one of this process.
pub(crate) fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// The system's id of the calling thread.
pub(crate) fn native_id() -> u64 {
    // SAFETY: gettid reads nothing and cannot fail.
    let id = unsafe { libc::gettid() };
    u64::from(id.unsigned_abs())
}

/// Sets the name of the calling thread in process lists.
pub(crate) fn set_title(title: &CStr) {
    // SAFETY: the string outlives the call, which copies it.
    unsafe { libc::prctl(libc::PR_SET_NAME, title.as_ptr()) };
}
