//! Waiting on a word of memory, which may be shared by several processes. `process/shm/event_count.rs` sleeps
//! and wakes by it.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

#[cfg_attr(loom, allow(unused_imports, reason = "models sleep otherwise"))]
pub(crate) use system::{futex_wait, futex_wake};
