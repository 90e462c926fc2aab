//! Numbers of descriptors: which number a descriptor gets, and how full the table is.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
pub(super) mod system;

pub(crate) use system::{copy_high, leaves_room};
