//! A flag in memory that a worker and its parent share: "begin nothing more of this chunk"; and beside
//! it a count, of shared memory that the parent has let go.
//!
//! Tasks of a chunk are sent ahead, so that short ones do not wait for the socket. When their map is
//! dropped, those that the worker has not begun are not to begin: the worker looks at the flag
//! before each, and answers that it left the task alone. Where the system refuses the memory, they begin
//! all the same.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::sys::shared_memory::{Access, Mapping, SharedFile};

/// One side of the flag.
pub(crate) struct SharedSignals {
    /// Holds the [`Words`]. Only the program may write there.
    memory: Mapping,
}

/// What lies in the shared memory.
#[repr(C)]
struct Words {
    /// Not 0: the flag is raised.
    raised: AtomicU32,
    /// How often shared memory was let go.
    drops: AtomicU32,
}

impl SharedSignals {
    /// A lowered flag, and the descriptor by which the other side maps it.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let bytes = size_of::<Words>();
        let file = SharedFile::create(c"concurrent-futures flag", bytes as u64, bytes)?;
        let memory = file.map(0, bytes, Access::ReadWrite)?;
        Ok((Self { memory }, file.descriptor()?))
    }

    /// The worker's side, which can only be looked at.
    pub(crate) fn map(memory: OwnedFd) -> io::Result<Self> {
        let file = SharedFile::received(memory);
        let memory = file.map(0, size_of::<Words>(), Access::ReadOnly)?;
        Ok(Self { memory })
    }

    pub(crate) fn raise(&self) {
        // ORDERING: Relaxed; the flag carries no data, and a worker that sees it late has begun the
        // task before.
        self.words().raised.store(1, Ordering::Relaxed);
    }

    pub(crate) fn lower(&self) {
        // ORDERING: Relaxed; the task that is not to see it raised is sent afterwards, by a system
        // call.
        self.words().raised.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_raised(&self) -> bool {
        // ORDERING: Relaxed; as in `raise`.
        self.words().raised.load(Ordering::Relaxed) != 0
    }

    /// The parent has let go of shared memory.
    pub(crate) fn count_drop(&self) {
        // ORDERING: Release, to `drops`: who sees the count finds the memory closed.
        self.words().drops.fetch_add(1, Ordering::Release);
    }

    /// How often the parent has let go of shared memory.
    pub(crate) fn drops(&self) -> u32 {
        // ORDERING: Relaxed, as the memory may be read-only, where no other order is promised to work.
        let drops = self.words().drops.load(Ordering::Relaxed);
        // ORDERING: Acquire, from `count_drop`.
        fence(Ordering::Acquire);
        drops
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is page-aligned, holds the words, and lives as long as `self`; both sides
        // reach them as atomics, the worker's side by relaxed loads alone.
        unsafe { self.memory.place().cast().as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_flag() {
        let (ours, memory) = SharedSignals::new().unwrap();
        let theirs = SharedSignals::map(memory).unwrap();
        assert!(!theirs.is_raised());
        ours.raise();
        assert!(theirs.is_raised());
        ours.lower();
        assert!(!theirs.is_raised());
        assert_eq!(theirs.drops(), 0);
        ours.count_drop();
        assert_eq!(theirs.drops(), 1);
        assert!(!theirs.is_raised());
    }
}
