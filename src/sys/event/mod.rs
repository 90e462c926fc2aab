//! Events: a thread that waits for descriptors, in `poll`, wakes up when its event is set, too. `channel/reader.rs` is
//! told by it that there is something else to do.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::Event;
