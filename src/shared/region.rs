//! A region: memory that was written once, is sealed against changes, and mapped for reading.
//!
//! `registry.rs` makes and opens regions. What keeps a reader safe, from any writer in any process, is
//! checked here: the kernel confirms the seals, and that there are no holes, before the memory is mapped
//! (`sys/shared_memory.rs`).

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;
use crate::sys::handle::{AsHandle, BorrowedHandle, OwnedHandle};
use crate::sys::shared_memory::Mapping;

/// Sealed memory, mapped in this process.
pub(crate) struct Region {
    /// The mapping, for reading.
    memory: Mapping,
    /// The number of bytes that were written; not 0.
    size: usize,
    /// The descriptor by which other processes map it; `None` where descriptors are short
    /// (`sys::descriptors::leaves_room`), or once it is closed.
    file: Option<File>,
    /// The id of the memory.
    region_id: RegionId,
    /// The number by which /proc lists this process; `None` if it does not.
    holder: Option<u32>,
}

/// The id of sealed memory, the same in all processes that have mapped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RegionId {
    /// The kernel's inode number; it may be reused once the memory is gone.
    pub(crate) inode: u64,
    /// The number that the maker of the memory gave it: a hash with a seed that is random in each process.
    pub(crate) id: u64,
}

/// A region reference: what travels in place of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegionRef {
    /// The process that has the memory open, by its number in /proc.
    pub(crate) holder: u32,
    /// The descriptor, in that process.
    pub(crate) descriptor: u32,
    /// The id of the memory, which the descriptor may not stand for any more.
    pub(crate) region_id: RegionId,
    /// The number of bytes.
    pub(crate) size: u64,
}

/// The least number of bytes to share: fewer are not worth a descriptor and a page.
pub(crate) const LEAST: usize = 4096;

impl Region {
    /// Copies these bytes, of which there is at least one, to sealed memory.
    ///
    /// # Errors
    /// If the system refuses the memory or the descriptor, or if workers could not open it.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        Self::written(bytes.len() as u64, |memory| memory.write_all(bytes))
    }

    /// Copies the next bytes of a file to sealed memory, `size` at most. The kernel copies them, if it can, so that
    /// they are nowhere else in this process.
    ///
    /// # Errors
    /// Those of reading, and those of [`copy_of`](Self::copy_of).
    pub(crate) fn copy_of_file(file: &File, size: u64) -> io::Result<Self> {
        Self::written(size, |memory| {
            io::copy(&mut file.take(size), memory).map(drop)
        })
    }

    /// Seals what `write` writes to a new file in memory, `size` bytes at most.
    fn written(size: u64, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<Self> {
        let is_found = sys::handle::is_open_to_others() && sys::handle::number_in_proc().is_some();
        if size == 0 || !is_found || !sys::limits::may_write(size) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let memory = sys::memory::shared_file(c"concurrent-futures shared")?;
        if !sys::descriptors::leaves_room(memory.as_handle()) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mut file = File::from(memory);
        // Written through the descriptor: no page is cleared first, and a lack of memory is an error.
        write(&mut file)?;
        sys::memory::seal_content(file.as_handle())?;
        Self::of_file(file, fresh_id())
    }

    /// Maps the memory that a region reference says.
    ///
    /// # Errors
    /// If the process does not hold it, or not any more, or if the memory differs from what the reference
    /// says.
    pub(crate) fn open(name: &RegionRef) -> io::Result<Self> {
        // Checked first: opening something that is not a file may have effects, or block for ever.
        if !name.is_held()? {
            return Err(io::Error::other("its holder has let go of it"));
        }
        let memory = sys::handle::open_held(name.holder, name.descriptor)?;
        Self::received(memory, name)
    }

    /// Maps the memory of a region reference from a descriptor of it.
    ///
    /// # Errors
    /// If the memory differs from what the reference says, can be changed, or cannot be mapped.
    pub(crate) fn received(memory: OwnedHandle, name: &RegionRef) -> io::Result<Self> {
        let region = Self::of_descriptor(memory, name.region_id.id)?;
        if region.region_id != name.region_id || region.size as u64 != name.size {
            return Err(io::Error::other("it is not what its name says"));
        }
        Ok(region)
    }

    /// Maps memory from the descriptor that a process has sent, with the `id` that the process gave it.
    ///
    /// # Errors
    /// If the memory can be changed, or cannot be mapped.
    pub(crate) fn of_descriptor(memory: OwnedHandle, id: u64) -> io::Result<Self> {
        Self::of_file(memory.into(), id)
    }

    fn of_file(file: File, id: u64) -> io::Result<Self> {
        let facts = file.metadata()?;
        if !sys::memory::is_constant(file.as_handle()) {
            return Err(io::Error::other("it is not sealed"));
        }
        let size = usize::try_from(facts.len()).map_err(io::Error::other)?;
        // This process would have to provide the pages of a hole as it reads them. Seals prevent new holes,
        // not those that are there. The number of blocks does not tell: it also counts what is allocated
        // behind the end.
        if size == 0 || !sys::memory::is_without_holes(file.as_handle(), 0, size) {
            return Err(io::Error::other("it has holes"));
        }
        let memory = Mapping::of_constant(file.as_handle(), size)?;
        let inode = sys::handle::file_number(&facts);
        Ok(Self {
            memory,
            size,
            file: sys::descriptors::leaves_room(file.as_handle()).then_some(file),
            region_id: RegionId { inode, id },
            holder: sys::handle::number_in_proc(),
        })
    }

    /// The bytes, which never change.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: `size` bytes are mapped for as long as `self` lives. They are initialised, and do not
        // change any more: the file was sealed against that before it was mapped, and the kernel refuses the
        // seal while a process can write. It has no holes, so no read can fail.
        unsafe { std::slice::from_raw_parts(self.memory.place().as_ptr(), self.size) }
    }

    pub(crate) fn region_id(&self) -> RegionId {
        self.region_id
    }

    /// The descriptor; `None` if it was not kept.
    pub(crate) fn descriptor(&self) -> Option<BorrowedHandle<'_>> {
        self.file.as_ref().map(AsHandle::as_handle)
    }

    /// The reference by which other processes find the memory here; `None` if they cannot.
    pub(crate) fn name(&self) -> Option<RegionRef> {
        Some(RegionRef {
            holder: self.holder?,
            descriptor: sys::handle::number_of(self.descriptor()?),
            region_id: self.region_id,
            size: self.size as u64,
        })
    }

    /// Closes the descriptor, so that other processes do not find the memory here any more.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }
}

impl RegionId {
    pub(crate) const SIZE: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Self::SIZE] {
        (u128::from(self.inode) << 64 | u128::from(self.id)).to_le_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let both = u128::from_le_bytes(bytes);
        Self {
            inode: (both >> 64) as u64,
            id: both as u64,
        }
    }
}

impl RegionRef {
    /// Whether the holder is known to have that memory open; `false` also if this process may not look.
    pub(crate) fn is_good(&self) -> bool {
        self.is_held().unwrap_or(false)
    }

    /// Whether the holder has that memory open.
    ///
    /// # Errors
    /// If this process may not look, for example because it has another user's rights.
    fn is_held(&self) -> io::Result<bool> {
        let held = sys::handle::held_file_number(self.holder, self.descriptor)?;
        Ok(held == Some(self.region_id.inode))
    }
}

/// A number for what is being made, memory or a channel, which no other has, in any process. No process can guess
/// it.
pub(crate) fn fresh_id() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    // ORDERING: Relaxed; only the uniqueness of the number matters.
    SEED.hash_one(MADE.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests;
