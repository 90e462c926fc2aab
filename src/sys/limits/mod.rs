//! The limits that the system sets to this process (`ulimit`).

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
pub(super) mod system;

pub(crate) use system::{has_long_files, may_write, stack_limit};
