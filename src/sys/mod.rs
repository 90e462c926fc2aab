//! The seam to the operating system: what it offers and std does not wrap, each in a safe function or type,
//! one folder for each feature (a file, where the systems do not differ).
//!
//! A feature's `mod.rs` says what it is, and takes the file of the system: `linux.rs`, or `none.rs`, which has
//! the same signatures and answers that it is not there. A port adds a file beside them. `--cfg no_backend`
//! takes `none.rs` on Linux, too (`tests/no_backend.rs`).
//!
//! All rooms above may call it, as `sys::FEATURE::function`. The rule: system calls, types of the system, its
//! paths (`/proc`, `/dev`) and its name (`target_os`) occur in this room alone, and it uses no other room but `sync`.
//! `tests/direction.rs` holds both.

pub(crate) mod affinity;
#[cfg(all(target_os = "linux", not(no_backend)))]
mod call;
pub(crate) mod child;
pub(crate) mod descriptors;
pub(crate) mod event;
pub(crate) mod fork;
pub(crate) mod handle;
pub(crate) mod image;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod rights;
pub(crate) mod shared_memory;
pub(crate) mod stack;
pub(crate) mod stdio;
pub(crate) mod stream;
pub(crate) mod thread;
pub(crate) mod wait;
pub(crate) mod worker;

/// The error of a call for which a system has nothing.
#[cfg(not(all(target_os = "linux", not(no_backend))))]
fn unsupported() -> std::io::Error {
    std::io::ErrorKind::Unsupported.into()
}
