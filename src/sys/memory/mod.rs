//! The system calls for memory: files in memory, their seals, mappings, and advice. `shared_memory` makes
//! safe types of them; `remote/`, `transport/` and `process/shm/` ask for pages.

#[cfg_attr(all(target_os = "linux", not(no_backend)), path = "linux.rs")]
#[cfg_attr(not(all(target_os = "linux", not(no_backend))), path = "none.rs")]
mod system;

pub(in crate::sys) use system::Reservation;
pub(crate) use system::{
    allocate_part, anonymous_file, is_constant, is_without_holes, page_size, prefer_huge_pages,
    punch_hole, seal_content, seal_size, set_size, shared_file,
};

/// The permitted accesses to a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading; a write raises SIGSEGV.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

/// Size and alignment of a huge page, in bytes.
pub(crate) const HUGE: usize = 2 << 20;
