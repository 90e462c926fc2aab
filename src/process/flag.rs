//! A flag in memory that a worker and its parent share: "begin nothing more of this chunk"; and beside
//! it a count, of shared memory that the parent has let go.
//!
//! Tasks of a chunk are sent ahead, so that short ones do not wait for the socket. When their map is
//! dropped, those that the worker has not begun are not to begin: the worker looks at the flag
//! before each, and answers that it left the task alone. Where the system refuses the memory, they begin
//! all the same.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::sys;

/// One side of the flag.
pub(crate) struct Flag {
    /// The shared memory, mapped until this is dropped.
    words: NonNull<Words>,
}

/// What lies in the shared memory.
#[repr(C)]
struct Words {
    /// Not 0: the flag is raised.
    raised: AtomicU32,
    /// How often shared memory was let go.
    drops: AtomicU32,
}

// SAFETY: the memory is not tied to a thread, and is only reached as an atomic.
unsafe impl Send for Flag {}

// SAFETY: as above.
unsafe impl Sync for Flag {}

impl Flag {
    /// A lowered flag, and the descriptor by which the other side maps it.
    pub(crate) fn new() -> io::Result<(Self, OwnedFd)> {
        let memory = sys::shared_file(c"concurrent-futures flag")?;
        sys::set_size(memory.as_fd(), size_of::<Words>())?;
        Ok((Self::map(memory.as_fd())?, memory))
    }

    /// The other side of a flag.
    pub(crate) fn map(memory: BorrowedFd<'_>) -> io::Result<Self> {
        let words = sys::map_shared(memory, size_of::<Words>())?;
        Ok(Self {
            words: words.cast(),
        })
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
        // ORDERING: Acquire, from `count_drop`.
        self.words().drops.load(Ordering::Acquire)
    }

    fn words(&self) -> &Words {
        // SAFETY: the mapping is page-aligned, holds the words, and lives as long as `self`; all sides
        // reach them as atomics. What a worker writes there can only lower or raise the flag.
        unsafe { self.words.as_ref() }
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        sys::unmap(self.words.cast(), size_of::<Words>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_see_the_flag() {
        let (ours, memory) = Flag::new().unwrap();
        let theirs = Flag::map(memory.as_fd()).unwrap();
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
