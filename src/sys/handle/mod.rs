//! Handles: what stands for an open file, and how a process finds the open file of another (through `/proc`).
//! All rooms that pass memory and streams name them by these types; `shared/region.rs` opens what another
//! process holds.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(crate) use system::{
    AsHandle, BorrowedHandle, OwnedHandle, file_number, held_file_number, is_open_to_others,
    number_in_proc, number_of, open_held,
};
