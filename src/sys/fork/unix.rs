//! Systems that fork.

/// Has `in_the_copy` called in each copy of this process that is forked from now on, before `fork` returns
/// there. It must be async-signal-safe. If the system has no memory for the handler (the only possible
/// error), forked copies are not detected.
pub(super) fn at_fork(in_the_copy: extern "C" fn()) {
    unsafe extern "C" {
        /// The `libc` crate does not declare it for all systems that have it.
        fn pthread_atfork(
            before: Option<unsafe extern "C" fn()>,
            in_the_original: Option<unsafe extern "C" fn()>,
            in_the_copy: Option<unsafe extern "C" fn()>,
        ) -> std::ffi::c_int;
    }
    // SAFETY: the handler is a function of this program, which callers vouch for.
    unsafe { pthread_atfork(None, None, Some(in_the_copy)) };
}
