//! Memory shared by the program and its workers. It is made and mapped only here; `process/shm/` and
//! `shared/` build on it.
//!
//! A file in memory has its final size from the start, and its size is sealed, so that no worker can shrink
//! it while the program uses it. Each mapping lies between two *guards*: reserved addresses without any
//! access. A loop that runs past the end of a buffer, or before its start, reaches a guard before it reaches
//! shared memory, and ends its own process by SIGSEGV, as it would without shared memory.

use std::ffi::CStr;
use std::io;
use std::ptr::NonNull;

use crate::sys;
use crate::sys::fork::ForkEpoch;
use crate::sys::handle::{AsHandle, BorrowedHandle, OwnedHandle};
use crate::sys::memory::Reservation;

pub(crate) use crate::sys::memory::Access;

/// The minimum size of the guard on each side of a mapping, in bytes. A stride that jumps over it counts as a
/// wild pointer, not as an overrun.
const GUARD: usize = 1 << 20;

/// A file in memory, whose size is fixed.
#[derive(Debug)]
pub(crate) struct SharedFile(
    /// The descriptor: close-on-exec, without a name in any file system.
    OwnedHandle,
);

impl SharedFile {
    /// Makes a file of `bytes` zeros. The first `allocated` bytes have memory from the start; the others get
    /// it at the first access, or by [`allocate`](Self::allocate).
    ///
    /// # Errors
    /// Errors of the system: no memory, no descriptors, a limit on the size of files. Also an error if the
    /// environment says `CONCURRENT_FUTURES_SHARED_MEMORY=never`.
    pub(crate) fn create(name: &CStr, bytes: u64, allocated: usize) -> io::Result<Self> {
        let file = sys::memory::shared_file(name)?;
        sys::memory::set_size(file.as_handle(), bytes)?;
        if allocated > 0 {
            sys::memory::allocate_part(file.as_handle(), 0, allocated)?;
        }
        sys::memory::seal_size(file.as_handle())?;
        Ok(Self(file))
    }

    /// Wraps the descriptor of a file that another process has made by [`create`](Self::create).
    pub(crate) fn received(file: OwnedHandle) -> Self {
        Self(file)
    }

    /// Returns a copy of the descriptor, to be sent to a worker.
    pub(crate) fn descriptor(&self) -> io::Result<OwnedHandle> {
        self.0.try_clone()
    }

    /// Maps a part of the file; `from` must be the start of a page. Forked copies of the process do not have
    /// the mapping.
    pub(crate) fn map(&self, from: u64, bytes: usize, access: Access) -> io::Result<Mapping> {
        let mapping = Mapping::reserve(bytes, Some(ForkEpoch::here()))?;
        let (at, file) = (mapping.offset(), self.0.as_handle());
        mapping.reserved.map_shared(at, file, from, bytes, access)?;
        mapping.reserved.keep_from_forks(at, mapping.bytes);
        if bytes >= sys::memory::HUGE {
            mapping.reserved.prefer_huge_pages(at, mapping.bytes);
        }
        Ok(mapping)
    }

    /// Allocates the memory of a part: accessing it later cannot fail for lack of memory.
    pub(crate) fn allocate(&self, from: u64, bytes: usize) -> io::Result<()> {
        sys::memory::allocate_part(self.0.as_handle(), from, bytes)
    }

    /// Returns the memory of a part to the system; the part then reads as zeros.
    pub(crate) fn purge(&self, from: u64, bytes: usize) -> io::Result<()> {
        sys::memory::punch_hole(self.0.as_handle(), from, bytes)
    }

    /// Whether all of a part has memory allocated.
    pub(crate) fn is_without_holes(&self, from: u64, bytes: usize) -> bool {
        sys::memory::is_without_holes(self.0.as_handle(), from, bytes)
    }
}

/// A mapping of shared memory between two guards; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// The addresses of the guards and of what lies between them.
    reserved: Reservation,
    /// The first mapped byte, at the start of a page.
    place: NonNull<u8>,
    /// The number of mapped bytes: whole pages.
    bytes: usize,
    /// The process that has the mapping. Forked copies of it do not have it: there, other memory may be at
    /// these addresses. `None`: forked copies have the mapping, too.
    fork_epoch: Option<ForkEpoch>,
}

// SAFETY: the memory is not tied to a thread; users access it by atomics or raw copies, or read constant
// data.
unsafe impl Send for Mapping {}

// SAFETY: the memory is not tied to a thread; users access it by atomics or raw copies, or read constant
// data.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps a file whose content is sealed. Forked copies of the process have the mapping, too.
    pub(crate) fn of_constant(file: BorrowedHandle<'_>, bytes: usize) -> io::Result<Self> {
        let mapping = Self::reserve(bytes, None)?;
        mapping
            .reserved
            .map_constant(mapping.offset(), file, bytes)?;
        Ok(mapping)
    }

    /// Reserves addresses for `bytes` bytes and two guards; nothing is mapped there yet.
    fn reserve(bytes: usize, fork_epoch: Option<ForkEpoch>) -> io::Result<Self> {
        let page = sys::memory::page_size();
        let too_much = || io::Error::from(io::ErrorKind::OutOfMemory);
        let alignment = if bytes >= sys::memory::HUGE {
            sys::memory::HUGE
        } else {
            page
        };
        let bytes = bytes.max(1).checked_next_multiple_of(page);
        let bytes = bytes.ok_or_else(too_much)?;
        let around = 2 * GUARD.next_multiple_of(page) + alignment;
        let reserved_bytes = bytes.checked_add(around).ok_or_else(too_much)?;
        let reserved = Reservation::new(reserved_bytes)?;
        let start = reserved.start();
        let first = (start.addr().get() + GUARD).next_multiple_of(alignment);
        let offset = first - start.addr().get();
        // SAFETY: the offset is inside the reserved range, whose size includes the guards and the alignment.
        let place = unsafe { start.add(offset) };
        Ok(Self {
            reserved,
            place,
            bytes,
            fork_epoch,
        })
    }

    /// The first mapped byte, at the start of a page.
    pub(crate) fn place(&self) -> NonNull<u8> {
        self.place
    }

    /// Changes the permitted accesses to the whole mapping.
    pub(crate) fn protect(&self, access: Access) -> io::Result<()> {
        self.reserved.protect(self.offset(), self.bytes, access)
    }

    /// Populates a part of the mapping for writing, all at once: the page tables, and pages that are missing.
    /// `from` is the start of a page.
    ///
    /// # Errors
    /// Errors of the system; `Unsupported` if it cannot do that: pages come at their first access.
    pub(crate) fn populate_to_write(&self, from: usize, bytes: usize) -> io::Result<()> {
        self.reserved.populate_to_write(self.offset() + from, bytes)
    }

    /// Populates the page tables of the first `bytes` for reading, all at once, if the system can do that.
    pub(crate) fn populate_to_read(&self, bytes: usize) {
        self.reserved.populate_to_read(self.offset(), bytes);
    }

    /// The distance of the first mapped byte from the first reserved one.
    fn offset(&self) -> usize {
        self.place.addr().get() - self.reserved.start().addr().get()
    }

    /// Whether the caller runs in a forked copy of the process, which does not have the mapping.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.fork_epoch.is_some_and(ForkEpoch::is_forked_copy)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if !self.is_elsewhere() {
            self.reserved.release();
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

    /// The access rights at an address, as letters of `/proc/self/maps`; `None`: nothing is mapped there.
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
            let behind = place + bytes.next_multiple_of(sys::memory::page_size());
            for guarded in [place - 1, place - GUARD, behind, behind + GUARD - 1] {
                assert_eq!(permissions(guarded).unwrap(), "---p", "{bytes}");
            }
            if bytes >= sys::memory::HUGE {
                assert_eq!(place % sys::memory::HUGE, 0);
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
        assert!(sys::memory::set_size(theirs.as_handle(), 0).is_err());
        assert!(sys::memory::set_size(theirs.as_handle(), 1 << 20).is_err());
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
