//! Users, and rights that an executable file gives. A worker obeys no other user's program, and
//! `process/reexec.rs` and `process/host/config.rs` refuse to start one that would have to.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{
    effective_user, has_gained_rights, peer_user, real_user, would_gain_rights,
};
