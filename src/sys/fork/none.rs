//! Systems without fork: no process is a copy of another.

pub(super) fn at_fork(_: extern "C" fn()) {}
