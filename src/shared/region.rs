//! Memory that was written once, is sealed, and mapped for reading.

use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::sys;
use crate::sys::shared_memory::Mapping;

/// Sealed memory, mapped here.
pub(crate) struct Region {
    /// The memory, for reading.
    memory: Mapping,
    /// How many bytes there are; not 0.
    size: usize,
    /// By which others map it; `None` where descriptors are short, or once closed.
    file: Option<File>,
    /// Which memory it is.
    region_id: RegionId,
    /// By which number /proc lists this process; `None` where it does not.
    holder: Option<u32>,
}

/// Tells memory from all other, whoever has mapped it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RegionId {
    /// The kernel's number of it; another's once it is gone.
    pub(crate) inode: u64,
    /// What its maker called it.
    pub(crate) id: u64,
}

/// What travels in place of the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RegionRef {
    /// The process that has it open, as /proc lists it.
    pub(crate) holder: u32,
    /// As which descriptor.
    pub(crate) descriptor: u32,
    /// Which memory it is.
    pub(crate) region_id: RegionId,
    /// Bytes of it.
    pub(crate) size: u64,
}

/// Less than this is not worth a descriptor and a page.
pub(crate) const LEAST: usize = 4096;

impl Region {
    /// A copy of these bytes, of which there is one at least.
    ///
    /// # Errors
    /// Where the system refuses the memory, or the descriptor, or would not let workers have it.
    pub(crate) fn copy_of(bytes: &[u8]) -> io::Result<Self> {
        let is_found = sys::is_open_to_others() && sys::number_in_proc().is_some();
        if bytes.is_empty() || !is_found || !sys::may_write(bytes.len() as u64) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let memory = sys::shared_file(c"concurrent-futures shared")?;
        if !sys::leaves_room(memory.as_fd()) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let mut file = File::from(memory);
        // Written as a file is: no page is cleared first, and a lack of memory is an error.
        file.write_all(bytes)?;
        sys::seal_content(file.as_fd())?;
        Self::of_file(file, fresh_id())
    }

    /// What a process has named.
    ///
    /// # Errors
    /// Where it is not, or not any more, what the name says.
    pub(crate) fn open(name: &RegionRef) -> io::Result<Self> {
        // Looked at first: to open what is no file may have effects, or take for ever.
        if !name.is_held()? {
            return Err(io::Error::other("its holder has let go of it"));
        }
        let file = File::options()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(name.path())?;
        let region = Self::of_descriptor(sys::above_standard(file.into())?, name.region_id.id)?;
        if region.region_id != name.region_id || region.size as u64 != name.size {
            return Err(io::Error::other("it is not what its name says"));
        }
        Ok(region)
    }

    /// What a process has sent the descriptor of.
    ///
    /// # Errors
    /// Where it can be changed, or cannot be mapped.
    pub(crate) fn of_descriptor(memory: OwnedFd, id: u64) -> io::Result<Self> {
        Self::of_file(memory.into(), id)
    }

    fn of_file(file: File, id: u64) -> io::Result<Self> {
        let facts = file.metadata()?;
        if !sys::is_constant(file.as_fd()) {
            return Err(io::Error::other("it is not sealed"));
        }
        let size = usize::try_from(facts.size()).map_err(io::Error::other)?;
        // The pages of a hole would be ours to provide. Seals keep holes from being made. The number of
        // blocks does not tell: it counts what is allocated behind the end, too.
        if size == 0 || !sys::is_without_holes(file.as_fd(), 0, size) {
            return Err(io::Error::other("it has holes"));
        }
        let memory = Mapping::of_constant(file.as_fd(), size)?;
        let inode = facts.ino();
        Ok(Self {
            memory,
            size,
            file: sys::leaves_room(file.as_fd()).then_some(file),
            region_id: RegionId { inode, id },
            holder: sys::number_in_proc(),
        })
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped for as long as `self` lives. They are initialised, and
        // change no more: the file was sealed against that before it was mapped, which the kernel
        // refuses while somebody can write. It has no holes, so that no read can fail.
        unsafe { std::slice::from_raw_parts(self.memory.place().as_ptr(), self.size) }
    }

    pub(crate) fn region_id(&self) -> RegionId {
        self.region_id
    }

    /// The descriptor; `None` where it was not kept.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// By what others find it here; `None` where they cannot.
    pub(crate) fn name(&self) -> Option<RegionRef> {
        use std::os::fd::AsRawFd;
        Some(RegionRef {
            holder: self.holder?,
            descriptor: self.descriptor()?.as_raw_fd().unsigned_abs(),
            region_id: self.region_id,
            size: self.size as u64,
        })
    }

    /// Others do not find it here any more.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }
}

impl RegionRef {
    /// Whether its holder is known to have that memory open.
    pub(crate) fn is_good(&self) -> bool {
        self.is_held().unwrap_or(false)
    }

    /// Whether its holder has that memory open.
    ///
    /// # Errors
    /// Where this process may not look, having another user's rights, say.
    fn is_held(&self) -> io::Result<bool> {
        match fs::metadata(self.path()) {
            Ok(facts) => Ok(facts.is_file() && facts.ino() == self.region_id.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", self.holder, self.descriptor)
    }
}

/// A number that no other memory has, in whatever process.
fn fresh_id() -> u64 {
    static MADE: AtomicU64 = AtomicU64::new(0);
    static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    // ORDERING: Relaxed; only the uniqueness of the number matters.
    SEED.hash_one(MADE.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests;
