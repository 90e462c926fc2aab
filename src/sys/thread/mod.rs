//! Threads as the system knows them: the calling one, and how many there are.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{is_main_thread, is_single_threaded, native_id, set_title};
