//! Memory that the program and its workers share: the one place where it is made and mapped.
//!
//! A file in memory has its final size from the start, and is sealed, so that no worker can shrink it
//! under the program. Each mapping lies between two *guards*: addresses that nobody can touch. A loop
//! that runs past the end of a buffer, or in front of its start, reaches a guard before it reaches shared
//! memory, and ends its own process by SIGSEGV, as it would without shared memory.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use crate::sys;
use crate::sys::fork::ForkEpoch;

pub(crate) use crate::sys::Access;

/// Bytes of the guard on either side of a mapping, at least. A stride that jumps over it is a wild pointer,
/// and no overrun.
const GUARD: usize = 1 << 20;

/// A file in memory, whose size is final.
#[derive(Debug)]
pub(crate) struct SharedFile(
    /// Close-on-exec, without a name in any file system.
    OwnedFd,
);

impl SharedFile {
    /// A file of zeros. The first `allocated` bytes have memory from the start; the others get it when they
    /// are touched, or by [`allocate`](Self::allocate).
    ///
    /// # Errors
    /// Of the system: no memory, no descriptors, a limit on the size of files. Also where the environment
    /// says `CONCURRENT_FUTURES_SHARED_MEMORY=never`.
    pub(crate) fn create(name: &CStr, bytes: u64, allocated: usize) -> io::Result<Self> {
        let file = sys::shared_file(name)?;
        sys::set_size(file.as_fd(), bytes)?;
        if allocated > 0 {
            sys::allocate_part(file.as_fd(), 0, allocated)?;
        }
        sys::seal_size(file.as_fd())?;
        Ok(Self(file))
    }

    /// The file of another process that has made it.
    pub(crate) fn received(file: OwnedFd) -> Self {
        Self(file)
    }

    /// A copy of the descriptor, to be sent to a worker.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Maps a part, which begins at a page. Copies of the process that are forked without exec do not have the
    /// mapping.
    pub(crate) fn map(&self, from: u64, bytes: usize, access: Access) -> io::Result<Mapping> {
        let mapping = Mapping::reserve(bytes, Some(ForkEpoch::here()))?;
        sys::map_shared(mapping.place, self.0.as_fd(), from, bytes, access)?;
        sys::keep_from_forks(mapping.place, mapping.bytes);
        if bytes >= sys::HUGE {
            sys::prefer_huge_pages_in(mapping.place, mapping.bytes);
        }
        Ok(mapping)
    }

    /// Has the memory of a part there: touching it later cannot fail.
    pub(crate) fn allocate(&self, from: u64, bytes: usize) -> io::Result<()> {
        sys::allocate_part(self.0.as_fd(), from, bytes)
    }

    /// Gives the memory of a part back; it then reads as zeros.
    pub(crate) fn purge(&self, from: u64, bytes: usize) -> io::Result<()> {
        sys::punch_hole(self.0.as_fd(), from, bytes)
    }

    /// Whether a part has memory everywhere.
    pub(crate) fn is_without_holes(&self, from: u64, bytes: usize) -> bool {
        sys::is_without_holes(self.0.as_fd(), from, bytes)
    }
}

/// Shared memory, mapped between guards; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The first address that is ours, that of a guard.
    reserved: NonNull<u8>,
    /// How many addresses are ours.
    reserved_bytes: usize,
    /// The first byte between the guards, at the start of a page.
    place: NonNull<u8>,
    /// How many bytes are mapped: whole pages.
    bytes: usize,
    /// The process that has the mapping, where forked copies of it do not: there the addresses may be in
    /// use for something else. `None` where they have it, too.
    fork_epoch: Option<ForkEpoch>,
}

// SAFETY: the memory is not tied to a thread; users reach it as atomics, by raw copies, or read what is
// constant.
unsafe impl Send for Mapping {}

// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file whose content cannot change any more. Forked copies of the process have the mapping.
    pub(crate) fn of_constant(file: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let mapping = Self::reserve(bytes, None)?;
        sys::map_constant(mapping.place, file, bytes)?;
        Ok(mapping)
    }

    /// Addresses for so many bytes, and guards around them; nothing is mapped there.
    fn reserve(bytes: usize, fork_epoch: Option<ForkEpoch>) -> io::Result<Self> {
        let page = sys::page_size();
        let too_much = || io::Error::from(io::ErrorKind::OutOfMemory);
        let alignment = if bytes >= sys::HUGE { sys::HUGE } else { page };
        let bytes = bytes.max(1).checked_next_multiple_of(page);
        let bytes = bytes.ok_or_else(too_much)?;
        let around = 2 * GUARD.next_multiple_of(page) + alignment;
        let reserved_bytes = bytes.checked_add(around).ok_or_else(too_much)?;
        let reserved = sys::reserve(reserved_bytes)?;
        let first = (reserved.addr().get() + GUARD).next_multiple_of(alignment);
        let offset = first - reserved.addr().get();
        // SAFETY: the guards and the alignment were added to what was reserved.
        let place = unsafe { reserved.add(offset) };
        Ok(Self {
            reserved,
            reserved_bytes,
            place,
            bytes,
            fork_epoch,
        })
    }

    /// The first byte, at the start of a page.
    pub(crate) fn place(&self) -> NonNull<u8> {
        self.place
    }

    /// Changes what all of the mapping may be used for.
    pub(crate) fn protect(&self, access: Access) -> io::Result<()> {
        sys::protect(self.place, self.bytes, access)
    }

    /// Whether this is a forked copy of the process, which does not have the mapping.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.fork_epoch.is_some_and(ForkEpoch::is_forked_copy)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.is_elsewhere() {
            sys::unmap(self.reserved, self.reserved_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(bytes: u64) -> SharedFile {
        SharedFile::create(c"test", bytes, 0).unwrap()
    }

    /// What may be done at an address: the letters of `/proc/self/maps`.
    fn permissions(address: usize) -> Option<String> {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().find_map(|line| {
            let (range, rest) = line.split_once(' ')?;
            let (start, end) = range.split_once('-')?;
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
            let is_there = (start..end).contains(&address);
            is_there.then(|| rest[..4].to_owned())
        })
    }

    #[test]
    fn mappings_lie_between_guards() {
        for (bytes, access, expected) in [
            (1, Access::ReadOnly, "r--s"),
            (100_000, Access::ReadWrite, "rw-s"),
            (5 << 20, Access::ReadWrite, "rw-s"),
        ] {
            let mapping = file(5 << 20).map(0, bytes, access).unwrap();
            let place = mapping.place().addr().get();
            for inside in [place, place + bytes - 1] {
                assert_eq!(permissions(inside).unwrap(), expected);
            }
            let behind = place + bytes.next_multiple_of(sys::page_size());
            for guarded in [place - 1, place - GUARD, behind, behind + GUARD - 1] {
                assert_eq!(permissions(guarded).unwrap(), "---p", "{bytes}");
            }
            if bytes >= sys::HUGE {
                assert_eq!(place % sys::HUGE, 0);
            }
        }
    }

    #[test]
    fn what_is_protected_can_be_read() {
        let mapping = file(4096).map(0, 4096, Access::ReadWrite).unwrap();
        mapping.protect(Access::ReadOnly).unwrap();
        assert_eq!(permissions(mapping.place().addr().get()).unwrap(), "r--s");
        mapping.protect(Access::ReadWrite).unwrap();
        assert_eq!(permissions(mapping.place().addr().get()).unwrap(), "rw-s");
    }

    #[test]
    fn nobody_changes_the_size() {
        let file = file(4096);
        let theirs = file.descriptor().unwrap();
        assert!(sys::set_size(theirs.as_fd(), 0).is_err());
        assert!(sys::set_size(theirs.as_fd(), 1 << 20).is_err());
    }

    #[test]
    fn sizes_that_no_address_space_has_are_errors() {
        assert!(file(1).map(0, usize::MAX, Access::ReadOnly).is_err());
        assert!(
            file(1)
                .map(0, usize::MAX - GUARD, Access::ReadOnly)
                .is_err()
        );
    }
}
