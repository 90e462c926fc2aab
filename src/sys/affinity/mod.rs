//! The cores that a thread runs on: which one it is on, and how it leaves that one. `idle/` places threads by
//! it; `pool/` and `process/host/` note where a thread that submits or waits is.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{AffinityGuard, current_core, leave_core, stay_off};
