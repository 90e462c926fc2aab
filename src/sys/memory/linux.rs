//! Linux.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

use crate::sys::call::{checked, retried};
use crate::sys::descriptors::system::above_standard;
use crate::sys::limits::may_write;
use crate::sys::memory::{Access, HUGE};

/// Makes an anonymous file in memory (`memfd_create(2)`) that can be sealed. `name` is for debugging.
pub(crate) fn anonymous_file(name: &CStr) -> io::Result<OwnedFd> {
    let create = |flags| {
        // SAFETY: the name outlives the call.
        checked(unsafe { libc::memfd_create(name.as_ptr(), flags) })
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let descriptor = create(flags | libc::MFD_NOEXEC_SEAL)
        // Kernels before 6.3 do not know MFD_NOEXEC_SEAL.
        .or_else(|_| create(flags))?;
    // SAFETY: the kernel made this descriptor for this process; no other code owns it.
    above_standard(unsafe { OwnedFd::from_raw_fd(descriptor) })
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
/// the kernel would answer with SIGXFSZ.
pub(crate) fn set_size(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    if !may_write(bytes) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: no memory is touched.
    checked(unsafe { libc::ftruncate(file.as_raw_fd(), bytes) }).map(|_| ())
}

/// Allocates the memory of a part of a file: accessing it later cannot fail for lack of memory.
pub(crate) fn allocate_part(file: BorrowedFd<'_>, from: u64, bytes: usize) -> io::Result<()> {
    change_part(file, 0, from, bytes)
}

/// Returns the memory of a part of a file to the system; the part then reads as zeros.
pub(crate) fn punch_hole(file: BorrowedFd<'_>, from: u64, bytes: usize) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    change_part(file, mode, from, bytes)
}

fn change_part(file: BorrowedFd<'_>, mode: libc::c_int, from: u64, bytes: usize) -> io::Result<()> {
    let from = libc::off_t::try_from(from).map_err(io::Error::other)?;
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    retried(|| {
        // SAFETY: no memory of this process is touched but that of the file's part, which callers own.
        checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, from, bytes) }).map(|_| ())
    })
}

/// Whether all of a part of a file has memory allocated. Moves the file offset, which no code uses.
pub(crate) fn is_without_holes(file: BorrowedFd<'_>, from: u64, bytes: usize) -> bool {
    let (Ok(from), Ok(bytes)) = (libc::off_t::try_from(from), libc::off_t::try_from(bytes)) else {
        return false;
    };
    // SAFETY: no memory is touched.
    let hole = unsafe { libc::lseek(file.as_raw_fd(), from, libc::SEEK_HOLE) };
    hole.checked_sub(from).is_some_and(|there| there >= bytes)
}

/// Seals the size of an anonymous file: no process can change it any more.
pub(crate) fn seal_size(file: BorrowedFd<'_>) -> io::Result<()> {
    seal(file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)
}

/// Seals the content and the size of an anonymous file: no process can change them any more. The file must
/// have no writable mapping.
pub(crate) fn seal_content(file: BorrowedFd<'_>) -> io::Result<()> {
    seal(file, CONSTANT)
}

/// The seals that make an anonymous file constant, in content and size.
const CONSTANT: libc::c_int = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// Adds seals, and forbids adding more (`F_SEAL_SEAL`).
fn seal(file: BorrowedFd<'_>, seals: libc::c_int) -> io::Result<()> {
    let seals = seals | libc::F_SEAL_SEAL;
    // SAFETY: no memory is touched.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(|_| ())
}

/// Whether the content and the size of a file are sealed: no process can change them any more.
pub(crate) fn is_constant(file: BorrowedFd<'_>) -> bool {
    // SAFETY: no memory is touched. For a file that does not support seals the result is -1.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & CONSTANT == CONSTANT && is_ordinary_memory(file)
}

/// Whether a file lies in memory of ordinary pages (tmpfs), which can be mapped in any length.
fn is_ordinary_memory(file: BorrowedFd<'_>) -> bool {
    // SAFETY: a statfs is numbers, for which zero is valid.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut facts) };
    // The types differ between C libraries.
    answer == 0 && facts.f_type as libc::c_long == libc::TMPFS_MAGIC as libc::c_long
}

/// Keeps a mapping out of forked copies of this process (`MADV_DONTFORK`).
pub(crate) fn keep_from_forks(place: NonNull<u8>, bytes: usize) {
    // SAFETY: callers own the mapping. If the advice is not taken, forked copies have the mapping, and their
    // fork epoch tells them not to use it.
    unsafe { libc::madvise(place.as_ptr().cast(), bytes, libc::MADV_DONTFORK) };
}

fn protection(access: Access) -> libc::c_int {
    match access {
        Access::ReadOnly => libc::PROT_READ,
        Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    }
}

/// Reserves `bytes` of address space without access: any access raises SIGSEGV. It costs no memory.
pub(crate) fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel chooses the address; no existing mapping is replaced.
    let place = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    mapped_at(place)
}

/// Maps a part of a file over reserved addresses, shared with all processes that map it.
pub(crate) fn map_shared(
    reserved: NonNull<u8>,
    file: BorrowedFd<'_>,
    from: u64,
    bytes: usize,
    access: Access,
) -> io::Result<()> {
    map_over(reserved, file, from, bytes, access, libc::MAP_SHARED)
}

/// Maps a constant file for reading, over reserved addresses. All processes that map it share the memory: a
/// private mapping differs from a shared one only after a write. Kernels before 6.7 refuse a shared mapping
/// of a sealed file.
pub(crate) fn map_constant(
    reserved: NonNull<u8>,
    file: BorrowedFd<'_>,
    bytes: usize,
) -> io::Result<()> {
    map_over(
        reserved,
        file,
        0,
        bytes,
        Access::ReadOnly,
        libc::MAP_PRIVATE,
    )
}

fn map_over(
    reserved: NonNull<u8>,
    file: BorrowedFd<'_>,
    from: u64,
    bytes: usize,
    access: Access,
    flags: libc::c_int,
) -> io::Result<()> {
    let from = libc::off_t::try_from(from).map_err(io::Error::other)?;
    // SAFETY: callers have reserved these addresses, and do not use them for anything else.
    let place = unsafe {
        libc::mmap(
            reserved.as_ptr().cast(),
            bytes,
            protection(access),
            flags | libc::MAP_FIXED,
            file.as_raw_fd(),
            from,
        )
    };
    mapped_at(place).map(|_| ())
}

/// The result of `mmap`.
fn mapped_at(place: *mut libc::c_void) -> io::Result<NonNull<u8>> {
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(place.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Changes the permitted accesses to a mapping.
pub(crate) fn protect(place: NonNull<u8>, bytes: usize, access: Access) -> io::Result<()> {
    // SAFETY: callers own the mapping, and have no reference into it.
    let answer = unsafe { libc::mprotect(place.as_ptr().cast(), bytes, protection(access)) };
    checked(answer).map(|_| ())
}

/// Releases addresses of [`reserve`], and the mappings over them.
pub(crate) fn unmap(place: NonNull<u8>, bytes: usize) {
    // SAFETY: callers own the addresses, and no longer use them. Fails only for invalid addresses.
    unsafe { libc::munmap(place.as_ptr().cast(), bytes) };
}

/// The size of a page in bytes; mappings consist of whole pages.
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
        advise_huge_pages(start.wrapping_add(before), inside);
    }
}

/// Asks for huge pages for a mapping, for the reason given at [`prefer_huge_pages`].
pub(crate) fn prefer_huge_pages_in(place: NonNull<u8>, bytes: usize) {
    if bytes >= HUGE {
        advise_huge_pages(place.as_ptr(), bytes);
    }
}

fn advise_huge_pages(place: *mut u8, bytes: usize) {
    // SAFETY: callers own the memory, whose content does not change. If the advice is not taken, the pages
    // are small.
    unsafe { libc::madvise(place.cast(), bytes, libc::MADV_HUGEPAGE) };
}

/// Populates the page tables of a mapping for writing, all at once; missing pages are allocated
/// (`MADV_POPULATE_WRITE`).
///
/// # Errors
/// Errors of the system; `Unsupported` if it does not know the advice (before Linux 5.14) or a system call
/// filter refuses it.
pub(crate) fn populate_to_write(place: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: callers own the mapping, whose content does not change.
    let answer = unsafe { libc::madvise(place.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) };
    match checked(answer) {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINVAL | libc::EPERM | libc::EACCES | libc::ENOSYS) => {
                Err(io::ErrorKind::Unsupported.into())
            }
            _ => Err(error),
        },
    }
}

/// Populates the page tables of a mapping for reading, all at once (`MADV_POPULATE_READ`). If the system does
/// not know the advice, it maps page by page at the first access.
pub(crate) fn populate_to_read(place: NonNull<u8>, bytes: usize) {
    // SAFETY: callers own the mapping, whose content does not change.
    unsafe { libc::madvise(place.as_ptr().cast(), bytes, libc::MADV_POPULATE_READ) };
}
