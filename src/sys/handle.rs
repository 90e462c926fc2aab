//! Descriptors as other processes find them: through `/proc`. `shared/region.rs` opens by it the memory that
//! another process holds.

/// Whether processes of the same user may access the open files of this process through `/proc`
/// (`PR_GET_DUMPABLE`).
pub(crate) fn is_open_to_others() -> bool {
    // SAFETY: no memory is touched.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) == 1 }
}

/// The id by which /proc lists this process; `None` if it does not. In a PID namespace that sees the /proc of
/// its parent namespace, this differs from the process's own id, which may belong to another process there.
pub(crate) fn number_in_proc() -> Option<u32> {
    let target = std::fs::read_link("/proc/self").ok()?;
    target.to_str()?.parse().ok()
}
