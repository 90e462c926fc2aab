//! Shared signals of a worker and its parent, the program: a flag, "begin nothing more of this chunk", and a
//! counter of dropped shared memory. `process/host/` and `process/pool.rs` write them, `process/worker/`
//! reads them.
//!
//! Tasks of a chunk are sent ahead, so that short tasks do not wait for the socket. When their map is
//! dropped, the tasks that the worker has not begun must not begin: the worker reads the flag before each
//! task, and answers that it left the task alone. Where the system refuses the memory, they begin all the
//! same.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::sys::handle::OwnedHandle;
use crate::sys::shared_memory::{Access, Mapping, SharedFile};

/// One side's mapping of the signals.
pub(crate) struct SharedSignals {
    /// Holds the [`Words`]. Only the program may write there.
    memory: Mapping,
}

/// The content of the shared memory.
#[repr(C)]
struct Words {
    /// Not 0: the flag is raised.
    raised: AtomicU32,
    /// How many times the parent has dropped shared memory.
    release_epoch: AtomicU32,
}

impl SharedSignals {
    /// Creates the signals, with the flag lowered, and the descriptor by which the worker maps them.
    pub(crate) fn new() -> io::Result<(Self, OwnedHandle)> {
        let bytes = size_of::<Words>();
        let file = SharedFile::create(c"concurrent-futures flag", bytes as u64, bytes)?;
        let memory = file.map(0, bytes, Access::ReadWrite)?;
        Ok((Self { memory }, file.descriptor()?))
    }

    /// Maps the worker's side, which is read-only.
    pub(crate) fn map(memory: OwnedHandle) -> io::Result<Self> {
        let file = SharedFile::received(memory);
        let memory = file.map(0, size_of::<Words>(), Access::ReadOnly)?;
        Ok(Self { memory })
    }

    pub(crate) fn raise(&self) {
        // ORDERING: Relaxed; the flag carries no data, and a worker that sees it late has begun the task
        // before.
        self.words().raised.store(1, Ordering::Relaxed);
    }

    pub(crate) fn lower(&self) {
        // ORDERING: Relaxed; the task that must not see the flag raised is sent afterwards, by a system call.
        self.words().raised.store(0, Ordering::Relaxed);
    }

    pub(crate) fn is_raised(&self) -> bool {
        // ORDERING: Relaxed; as in `raise`.
        self.words().raised.load(Ordering::Relaxed) != 0
    }

    /// Counts that the parent has dropped shared memory.
    pub(crate) fn count_drop(&self) {
        // ORDERING: Release; pairs with `release_epoch`: a worker that sees the count finds the memory closed.
        self.words().release_epoch.fetch_add(1, Ordering::Release);
    }

    /// How many times the parent has dropped shared memory.
    pub(crate) fn release_epoch(&self) -> u32 {
        // ORDERING: Relaxed, as the memory may be read-only, where no other ordering is promised to work.
        let release_epoch = self.words().release_epoch.load(Ordering::Relaxed);
        // ORDERING: Acquire; pairs with `count_drop`.
        fence(Ordering::Acquire);
        release_epoch
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is page-aligned, holds the words, and lives as long as `self`; both sides
        // access them as atomics, the worker's side by relaxed loads alone.
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
        assert_eq!(theirs.release_epoch(), 0);
        ours.count_drop();
        assert_eq!(theirs.release_epoch(), 1);
        assert!(!theirs.is_raised());
    }
}
