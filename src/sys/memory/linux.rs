//! Linux: files in memory that can be sealed (memfd).

use std::ffi::{CStr, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, SeekFrom, fallocate, fcntl_add_seals, fcntl_get_seals,
    fstatfs, ftruncate, memfd_create, seek,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::mm::{Advice, MapFlags, MprotectFlags, ProtFlags};

use crate::sys::descriptors::system::above_standard;
use crate::sys::limits::may_write;
use crate::sys::memory::{Access, HUGE};

/// Makes an anonymous file in memory (`memfd_create(2)`) that can be sealed. `name` is for debugging.
pub(crate) fn anonymous_file(name: &CStr) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL)
        // Kernels before 6.3 do not know NOEXEC_SEAL.
        .or_else(|_| memfd_create(name, flags))?;
    above_standard(file)
}

/// Makes an anonymous file for memory that is shared with workers.
///
/// # Errors
/// Errors of the system. Also an error if the environment says `CONCURRENT_FUTURES_SHARED_MEMORY=never`, so
/// that operation without shared memory can be tested on any system.
pub(crate) fn shared_file(name: &CStr) -> io::Result<OwnedFd> {
    if std::env::var_os("CONCURRENT_FUTURES_SHARED_MEMORY").is_some_and(|it| it == "never") {
        return Err(io::Error::other("the environment says never"));
    }
    anonymous_file(name)
}

/// Sets the size of a file to `bytes`.
///
/// # Errors
/// Errors of the system; `FileTooLarge` if this process may not have a file of that size (`ulimit -f`), which
/// the kernel would answer with SIGXFSZ, or if its address space has no room for so much.
pub(crate) fn set_size(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    if !may_write(bytes) || isize::try_from(bytes).is_err() {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(ftruncate(file, bytes)?)
}

/// Allocates the memory of a part of a file: accessing it later cannot fail for lack of memory.
pub(crate) fn allocate_part(file: BorrowedFd<'_>, from: u64, bytes: usize) -> io::Result<()> {
    change_part(file, FallocateFlags::empty(), from, bytes)
}

/// Returns the memory of a part of a file to the system; the part then reads as zeros.
pub(crate) fn punch_hole(file: BorrowedFd<'_>, from: u64, bytes: usize) -> io::Result<()> {
    let mode = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    change_part(file, mode, from, bytes)
}

fn change_part(
    file: BorrowedFd<'_>,
    mode: FallocateFlags,
    from: u64,
    bytes: usize,
) -> io::Result<()> {
    Ok(retry_on_intr(|| fallocate(file, mode, from, bytes as u64))?)
}

/// Whether all of a part of a file has memory allocated. Moves the file offset, which no code uses.
pub(crate) fn is_without_holes(file: BorrowedFd<'_>, from: u64, bytes: usize) -> bool {
    let hole = seek(file, SeekFrom::Hole(from));
    hole.is_ok_and(|hole| {
        hole.checked_sub(from)
            .is_some_and(|there| there >= bytes as u64)
    })
}

/// Seals the size of an anonymous file: no process can change it any more.
pub(crate) fn seal_size(file: BorrowedFd<'_>) -> io::Result<()> {
    seal(file, SealFlags::SHRINK | SealFlags::GROW)
}

/// Seals the content and the size of an anonymous file: no process can change them any more. The file must
/// have no writable mapping.
pub(crate) fn seal_content(file: BorrowedFd<'_>) -> io::Result<()> {
    seal(file, CONSTANT)
}

/// The seals that make an anonymous file constant, in content and size.
const CONSTANT: SealFlags = SealFlags::WRITE
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW);

/// Adds seals, and forbids adding more (`F_SEAL_SEAL`).
fn seal(file: BorrowedFd<'_>, seals: SealFlags) -> io::Result<()> {
    Ok(fcntl_add_seals(file, seals | SealFlags::SEAL)?)
}

/// Whether the content and the size of a file are sealed: no process can change them any more.
pub(crate) fn is_constant(file: BorrowedFd<'_>) -> bool {
    // A file that does not support seals is an error.
    fcntl_get_seals(file).is_ok_and(|seals| seals.contains(CONSTANT)) && is_ordinary_memory(file)
}

/// Whether a file lies in memory of ordinary pages (tmpfs), which can be mapped in any length.
fn is_ordinary_memory(file: BorrowedFd<'_>) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    fstatfs(file).is_ok_and(|facts| u64::try_from(facts.f_type) == Ok(TMPFS_MAGIC))
}

/// Address space of this process. It is reserved: no other code gets these addresses. Any access raises
/// SIGSEGV, except where something is mapped. Users call [`release`](Self::release) when they do not need it
/// any more; they own what they have mapped, and no reference into it may live across a change of it.
#[derive(Debug)]
pub(in crate::sys) struct Reservation {
    /// The first address.
    start: NonNull<u8>,
    /// The number of bytes.
    bytes: usize,
}

impl Reservation {
    /// Reserves `bytes` of address space, which costs no memory.
    pub(in crate::sys) fn new(bytes: usize) -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        let nothing = ProtFlags::empty();
        // SAFETY: the kernel chooses the address; no existing mapping is replaced.
        let place = unsafe { rustix::mm::mmap_anonymous(ptr::null_mut(), bytes, nothing, flags) }?;
        let start = NonNull::new(place.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// The first address.
    pub(in crate::sys) fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Maps a part of a file at the offset `at`, shared with all processes that map it.
    pub(in crate::sys) fn map_shared(
        &self,
        at: usize,
        file: BorrowedFd<'_>,
        from: u64,
        bytes: usize,
        access: Access,
    ) -> io::Result<()> {
        self.map(at, file, from, bytes, access, MapFlags::SHARED)
    }

    /// Maps the first `bytes` of a constant file for reading, at the offset `at`. All processes that map it
    /// share the memory: a private mapping differs from a shared one only after a write. Kernels before 6.7
    /// refuse a shared mapping of a sealed file.
    pub(in crate::sys) fn map_constant(
        &self,
        at: usize,
        file: BorrowedFd<'_>,
        bytes: usize,
    ) -> io::Result<()> {
        self.map(at, file, 0, bytes, Access::ReadOnly, MapFlags::PRIVATE)
    }

    fn map(
        &self,
        at: usize,
        file: BorrowedFd<'_>,
        from: u64,
        bytes: usize,
        access: Access,
        flags: MapFlags,
    ) -> io::Result<()> {
        let (place, flags) = (self.at(at, bytes), flags | MapFlags::FIXED);
        // SAFETY: the addresses are reserved for this value; nothing else is replaced.
        unsafe { rustix::mm::mmap(place, bytes, protection(access), flags, file, from) }?;
        Ok(())
    }

    /// Changes the permitted accesses to what is mapped at the offset `at`.
    pub(in crate::sys) fn protect(
        &self,
        at: usize,
        bytes: usize,
        access: Access,
    ) -> io::Result<()> {
        let access = match access {
            Access::ReadOnly => MprotectFlags::READ,
            Access::ReadWrite => MprotectFlags::READ | MprotectFlags::WRITE,
        };
        // SAFETY: the addresses are reserved for this value.
        Ok(unsafe { rustix::mm::mprotect(self.at(at, bytes), bytes, access) }?)
    }

    /// Keeps what is mapped at the offset `at` out of forked copies of this process (`MADV_DONTFORK`). If the
    /// advice is not taken, forked copies have the mapping, and their fork epoch tells them not to use it.
    pub(in crate::sys) fn keep_from_forks(&self, at: usize, bytes: usize) {
        let _ = self.advise(at, bytes, Advice::LinuxDontFork);
    }

    /// Asks for huge pages, for the reason given at [`prefer_huge_pages`].
    pub(in crate::sys) fn prefer_huge_pages(&self, at: usize, bytes: usize) {
        let _ = self.advise(at, bytes, Advice::LinuxHugepage);
    }

    /// Populates the page tables of what is mapped at the offset `at` for writing, all at once; missing pages
    /// are allocated (`MADV_POPULATE_WRITE`).
    ///
    /// # Errors
    /// Errors of the system; `Unsupported` if it does not know the advice (before Linux 5.14) or a system
    /// call filter refuses it.
    pub(in crate::sys) fn populate_to_write(&self, at: usize, bytes: usize) -> io::Result<()> {
        match self.advise(at, bytes, Advice::LinuxPopulateWrite) {
            Err(Errno::INVAL | Errno::PERM | Errno::ACCESS | Errno::NOSYS) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            outcome => Ok(outcome?),
        }
    }

    /// Populates the page tables of what is mapped at the offset `at` for reading, all at once
    /// (`MADV_POPULATE_READ`). If the system does not know the advice, it maps page by page at the first
    /// access.
    pub(in crate::sys) fn populate_to_read(&self, at: usize, bytes: usize) {
        let _ = self.advise(at, bytes, Advice::LinuxPopulateRead);
    }

    /// Gives up the addresses, and what is mapped there. Nobody may use them any more.
    pub(in crate::sys) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // SAFETY: the addresses are reserved for this value. Fails only for invalid ones, and for none.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), bytes) };
    }

    /// Gives advice that changes no content.
    fn advise(&self, at: usize, bytes: usize, advice: Advice) -> Result<(), Errno> {
        // SAFETY: the addresses are reserved for this value; no advice of this file changes what is there.
        unsafe { rustix::mm::madvise(self.at(at, bytes), bytes, advice) }
    }

    /// The address at the offset `at`, with room for `bytes`.
    fn at(&self, at: usize, bytes: usize) -> *mut c_void {
        let end = at.checked_add(bytes);
        assert!(
            end.is_some_and(|end| end <= self.bytes),
            "outside of what is reserved"
        );
        self.start.as_ptr().wrapping_add(at).cast()
    }
}

fn protection(access: Access) -> ProtFlags {
    match access {
        Access::ReadOnly => ProtFlags::READ,
        Access::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
    }
}

/// The size of a page in bytes; mappings consist of whole pages. The C library's: rustix reads the whole
/// auxiliary vector for it, which under valgrind has addresses where nothing is.
pub(crate) fn page_size() -> usize {
    // SAFETY: no memory is touched.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Asks for huge pages for memory that is large and is about to be written for the first time: faulting in
/// small pages costs more than copying data into them.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let bytes = size_of_val(memory);
    let start: *mut u8 = memory.as_mut_ptr().cast();
    let before = start.align_offset(HUGE);
    let inside = bytes.saturating_sub(before) / HUGE * HUGE;
    if inside > HUGE {
        let place = start.wrapping_add(before).cast();
        // SAFETY: the memory is the caller's, and its content does not change. If the advice is not taken,
        // the pages are small.
        let _ = unsafe { rustix::mm::madvise(place, inside, Advice::LinuxHugepage) };
    }
}
