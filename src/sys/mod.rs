//! The system calls that std does not wrap, each in a safe function.

pub(crate) mod fork;
pub(crate) mod handle;
pub(crate) mod image;
pub(crate) mod shared_memory;
pub(crate) mod stack;

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use crate::error::ProcessEnd;

/// Repeats a call that a signal interrupted.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The answer of a call that says -1 for failure.
fn checked<T: PartialEq + From<i8>>(answer: T) -> io::Result<T> {
    if answer == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

// ---- sockets ---------------------------------------------------------------------------------

/// Descriptors that can travel with a message.
pub(crate) const MAX_PASSED: usize = 16;

/// Room for the control message of [`MAX_PASSED`] descriptors, aligned for its header.
#[repr(align(8))]
struct Ancillary([u8; 128]);

/// Sends some of the bytes, and all of the descriptors, without raising SIGPIPE.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    buffers: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    assert!(descriptors.len() <= MAX_PASSED);
    let mut ancillary = Ancillary([0; 128]);
    let mut message = empty_message();
    // IoSlice has the layout of iovec, and sendmsg does not write through it.
    message.msg_iov = buffers.as_ptr().cast_mut().cast();
    message.msg_iovlen = buffers.len().min(libc::UIO_MAXIOV as usize) as _;
    if !descriptors.is_empty() {
        let size = size_of_val(descriptors) as u32;
        message.msg_control = ancillary.0.as_mut_ptr().cast();
        // SAFETY: CMSG_SPACE computes with numbers alone.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(size) } as _;
        // SAFETY: the control buffer is set, aligned, and holds more than one header.
        let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        // SAFETY: as above; nobody else refers to it.
        let header = unsafe { &mut *header };
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN computes with numbers alone.
        header.cmsg_len = unsafe { libc::CMSG_LEN(size) } as _;
        // SAFETY: the data lie inside the control buffer, whose room was computed above.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
        for (at, descriptor) in descriptors.iter().enumerate() {
            // SAFETY: as above; the data may be unaligned for an int.
            let place = unsafe { data.add(at) };
            // SAFETY: as above.
            unsafe { place.write_unaligned(descriptor.as_raw_fd()) };
        }
    }
    retried(|| {
        // SAFETY: the message points to buffers that outlive the call.
        let sent =
            unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        checked(sent).map(isize::unsigned_abs)
    })
}

/// Receives some bytes, and the descriptors that came with them.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut ancillary = Ancillary([0; 128]);
    let mut slice = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    let mut message = empty_message();
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.0.as_mut_ptr().cast();
    message.msg_controllen = ancillary.0.len() as _;
    let received = retried(|| {
        let flags = libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the message points to buffers that outlive the call.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
        checked(received).map(isize::unsigned_abs)
    })?;
    let passed = passed_descriptors(&message).into_iter();
    let passed: io::Result<Vec<_>> = passed.map(above_standard).collect();
    Ok((received, passed?))
}

fn passed_descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // SAFETY: recvmsg has filled the message, whose control buffer is still there.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give pointers inside the control buffer.
        let found = unsafe { header.read() };
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: CMSG_LEN computes with numbers alone.
            let overhead = unsafe { libc::CMSG_LEN(0) } as usize;
            let count = (found.cmsg_len as usize - overhead) / size_of::<RawFd>();
            // SAFETY: the header is inside the control buffer, its data behind it.
            let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
            for at in 0..count {
                // SAFETY: the kernel wrote so many descriptors.
                let place = unsafe { data.add(at) };
                // SAFETY: as above.
                let descriptor = unsafe { place.read_unaligned() };
                // SAFETY: the kernel made this descriptor for us; nobody else has it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
        }
        // SAFETY: as CMSG_FIRSTHDR.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    descriptors
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a msghdr is numbers and pointers, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

/// Waits until one of the descriptors can be read, or is hung up; which.
pub(crate) fn poll_readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    poll_until(descriptors.map(|it| to_poll(it, libc::POLLIN)), deadline)
}

/// Waits until one of the first three descriptors can be read, or the fourth can be written, or one is hung up;
/// which.
pub(crate) fn poll_readable_or_writable(
    readable: [Option<BorrowedFd<'_>>; 3],
    writable: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) -> io::Result<[bool; 4]> {
    let [first, second, third] = readable.map(|it| to_poll(it, libc::POLLIN));
    let fourth = to_poll(writable, libc::POLLOUT);
    poll_until([first, second, third, fourth], deadline)
}

/// What is waited for on a descriptor, if there is one.
fn to_poll(descriptor: Option<BorrowedFd<'_>>, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        // Negative ones are ignored.
        fd: descriptor.map_or(-1, |d| d.as_raw_fd()),
        events,
        revents: 0,
    }
}

/// Waits until something has happened to one of the descriptors; to which.
fn poll_until<const N: usize>(
    mut polled: [libc::pollfd; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    loop {
        let milliseconds = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: never a busy wait for the last fraction.
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // SAFETY: the array outlives the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, milliseconds) };
        match checked(ready) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(polled.map(|p| p.revents != 0)),
        }
    }
}

/// Two sockets that are connected with each other.
pub(crate) fn socket_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (one, other) = UnixStream::pair()?;
    let high = |end: UnixStream| above_standard(end.into()).map(UnixStream::from);
    Ok((high(one)?, high(other)?))
}

/// Writes as many of the bytes as there is room for, without waiting, whatever the descriptor means.
///
/// # Errors
/// `WouldBlock` where there is no room.
pub(crate) fn write_at_once(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    match kind_of(file) {
        Some(libc::S_IFSOCK) => send_at_once(file, bytes),
        Some(libc::S_IFIFO | libc::S_IFCHR) => match open_anew(file) {
            Ok(file) => (&file).write(bytes),
            Err(_) => write_if_ready(file, bytes),
        },
        // A file on a disk has room.
        _ => write(file, bytes),
    }
}

/// The type that a descriptor's file has.
fn kind_of(file: BorrowedFd<'_>) -> Option<libc::mode_t> {
    // SAFETY: a stat is numbers, for which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) };
    (answer == 0).then_some(stat.st_mode & libc::S_IFMT)
}

/// Opens a pipe or a terminal once more: a flag of ours on the descriptor itself would be everybody's.
fn open_anew(file: BorrowedFd<'_>) -> io::Result<File> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options().write(true).custom_flags(flags).open(path)
}

fn send_at_once(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let (data, flags) = (
        bytes.as_ptr().cast(),
        libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
    );
    retried(|| {
        // SAFETY: the bytes outlive the call.
        let sent = unsafe { libc::send(socket.as_raw_fd(), data, bytes.len(), flags) };
        checked(sent).map(isize::unsigned_abs)
    })
}

/// Writes no more than a pipe takes at once, if it takes anything.
fn write_if_ready(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let [is_ready] = poll_until([to_poll(Some(file), libc::POLLOUT)], Some(Instant::now()))?;
    match is_ready {
        true => write(file, &bytes[..bytes.len().min(libc::PIPE_BUF)]),
        false => Err(io::ErrorKind::WouldBlock.into()),
    }
}

fn write(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    retried(|| {
        // SAFETY: the bytes outlive the call.
        let written = unsafe { libc::write(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
        checked(written).map(isize::unsigned_abs)
    })
}

/// Whether the other side of a socket has gone.
pub(crate) fn is_hung_up(socket: BorrowedFd<'_>) -> bool {
    let mut polled = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: 0,
        revents: 0,
    };
    // SAFETY: the structure outlives the call.
    let ready = unsafe { libc::poll(&raw mut polled, 1, 0) };
    ready > 0 && polled.revents & libc::POLLHUP != 0
}

/// The number of the socket behind a descriptor; `None` if it is none.
pub(crate) fn socket_number(descriptor: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: a stat is numbers, for which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::fstat(descriptor.as_raw_fd(), &raw mut stat) };
    (answer == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(wide(stat.st_ino))
}

// ---- descriptors -----------------------------------------------------------------------------

/// A close-on-exec copy of a descriptor, numbered out of the way of what programs expect.
pub(crate) fn copy_high(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let lowest = descriptor_limit().map_or(100, |limit| (limit / 2).min(100));
    copy_from(descriptor.as_raw_fd(), lowest as RawFd)
}

/// The lowest number that is not standard input, output or error.
const ABOVE_STANDARD: RawFd = libc::STDERR_FILENO + 1;

/// The same file behind a number that is not standard input, output or error. A program may have closed
/// these: the system then gives their numbers to what is opened next, and code that prints would write into
/// it.
pub(crate) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    match descriptor.as_raw_fd() {
        number if number >= ABOVE_STANDARD => Ok(descriptor),
        number => copy_from(number, ABOVE_STANDARD),
    }
}

/// A close-on-exec copy of a descriptor, with the lowest number that is free from `lowest` on.
fn copy_from(descriptor: RawFd, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let copy = checked(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, lowest) })?;
    // SAFETY: the kernel made this descriptor for us; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A pipe: what is read from, and what is written to.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for two numbers, and outlives the call.
    checked(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let [reader, writer] = ends.map(|end| {
        // SAFETY: the kernel made this descriptor for us; nobody else has it.
        unsafe { OwnedFd::from_raw_fd(end) }
    });
    Ok((above_standard(reader)?, above_standard(writer)?))
}

/// Has reads from a file fail as `WouldBlock` where they would wait.
pub(crate) fn never_wait(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }).map(|_| ())
}

/// Where what is written is lost.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    above_standard(File::options().write(true).open("/dev/null")?.into())
}

/// Whether a descriptor lies in the lower half of the table: then others find room besides it.
pub(crate) fn leaves_room(descriptor: BorrowedFd<'_>) -> bool {
    let number = u64::from(descriptor.as_raw_fd().unsigned_abs());
    descriptor_limit().is_none_or(|limit| number < limit / 2)
}

fn descriptor_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_NOFILE)
}

/// Whether the files of this process may be as long as it likes (`ulimit -f unlimited`).
pub(crate) fn has_long_files() -> bool {
    soft_limit(libc::RLIMIT_FSIZE).is_none()
}

/// Whether this process may write a file so long; to try would be answered by a signal.
pub(crate) fn may_write(bytes: u64) -> bool {
    soft_limit(libc::RLIMIT_FSIZE).is_none_or(|limit| bytes <= limit)
}

/// What the C library calls a limit.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// How much of something this process may have.
fn soft_limit(resource: Resource) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::getrlimit(resource, &raw mut limit) };
    // Where numbers have 32 bits, that for no limit is one that files may well have.
    let is_limit = answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    is_limit.then_some(wide(limit.rlim_cur))
}

/// A number of the C library, which has 32 bits on some systems.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// The same as a number of the C library, or the largest that it has.
fn narrow<N: TryFrom<u64>>(number: u64, largest: N) -> N {
    N::try_from(number).unwrap_or(largest)
}

/// Makes `number` (0, 1 or 2) mean what `descriptor` means.
pub(crate) fn redirect(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    retried(|| {
        // SAFETY: no memory is touched; 0, 1 and 2 belong to nobody in particular.
        checked(unsafe { libc::dup2(descriptor.as_raw_fd(), number) }).map(|_| ())
    })
}

/// Standard input, output or error of this process; `/dev/null` where it was closed.
pub(crate) fn standard(number: RawFd) -> io::Result<OwnedFd> {
    copy_from(number, ABOVE_STANDARD).or_else(|_| open_null())
}

/// Memory that is reached like a file.
pub(crate) fn anonymous_file(name: &CStr) -> io::Result<OwnedFd> {
    let create = |flags| {
        // SAFETY: the name outlives the call.
        checked(unsafe { libc::memfd_create(name.as_ptr(), flags) })
    };
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
    let descriptor = create(flags | libc::MFD_NOEXEC_SEAL)
        // Kernels before 6.3 do not know the last flag.
        .or_else(|_| create(flags))?;
    // SAFETY: the kernel made this descriptor for us; nobody else has it.
    above_standard(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Memory to share with workers.
///
/// # Errors
/// Of the system; also where the environment says `CONCURRENT_FUTURES_SHARED_MEMORY=never`, so that
/// what happens then can be seen anywhere.
pub(crate) fn shared_file(name: &CStr) -> io::Result<OwnedFd> {
    if std::env::var_os("CONCURRENT_FUTURES_SHARED_MEMORY").is_some_and(|it| it == "never") {
        return Err(io::Error::other("the environment says never"));
    }
    anonymous_file(name)
}

/// Has writes go to the end of a file, through whatever copy of the descriptor.
pub(crate) fn append_only(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) }).map(|_| ())
}

/// Makes a file so long.
///
/// # Errors
/// Of the system; `FileTooLarge` where this process may have no file of that size (`ulimit -f`), which
/// the kernel would answer by SIGXFSZ.
pub(crate) fn set_size(file: BorrowedFd<'_>, bytes: u64) -> io::Result<()> {
    if !may_write(bytes) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: no memory is touched.
    checked(unsafe { libc::ftruncate(file.as_raw_fd(), bytes) }).map(|_| ())
}

/// Has the memory of a part of a file there: touching it later cannot fail.
pub(crate) fn allocate_part(file: BorrowedFd<'_>, from: u64, bytes: usize) -> io::Result<()> {
    change_part(file, 0, from, bytes)
}

/// Gives the memory of a part of a file back; it then reads as zeros.
pub(crate) fn punch_hole(file: BorrowedFd<'_>, from: u64, bytes: usize) -> io::Result<()> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    change_part(file, mode, from, bytes)
}

fn change_part(file: BorrowedFd<'_>, mode: libc::c_int, from: u64, bytes: usize) -> io::Result<()> {
    let from = libc::off_t::try_from(from).map_err(io::Error::other)?;
    let bytes = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    retried(|| {
        // SAFETY: no memory of ours is touched, but that which callers own.
        checked(unsafe { libc::fallocate(file.as_raw_fd(), mode, from, bytes) }).map(|_| ())
    })
}

/// Whether a part of a file has memory everywhere. Moves the place of reads and writes, which nobody
/// uses.
pub(crate) fn is_without_holes(file: BorrowedFd<'_>, from: u64, bytes: usize) -> bool {
    let (Ok(from), Ok(bytes)) = (libc::off_t::try_from(from), libc::off_t::try_from(bytes)) else {
        return false;
    };
    // SAFETY: no memory is touched.
    let hole = unsafe { libc::lseek(file.as_raw_fd(), from, libc::SEEK_HOLE) };
    hole.checked_sub(from).is_some_and(|there| there >= bytes)
}

/// Has nobody change the size of an anonymous file any more.
pub(crate) fn seal_size(file: BorrowedFd<'_>) -> io::Result<()> {
    seal(file, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW)
}

/// Has nobody change the content of an anonymous file any more, or its size. It has no mapping that
/// can be written.
pub(crate) fn seal_content(file: BorrowedFd<'_>) -> io::Result<()> {
    seal(file, CONSTANT)
}

/// What keeps everybody from changing an anonymous file.
const CONSTANT: libc::c_int = libc::F_SEAL_WRITE | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW;

/// Sets seals, and has nobody set more.
fn seal(file: BorrowedFd<'_>, seals: libc::c_int) -> io::Result<()> {
    let seals = seals | libc::F_SEAL_SEAL;
    // SAFETY: no memory is touched.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) }).map(|_| ())
}

/// Whether nobody can change the content of a file any more, or its size.
pub(crate) fn is_constant(file: BorrowedFd<'_>) -> bool {
    // SAFETY: no memory is touched. For a file that knows no seals it is -1.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals >= 0 && seals & CONSTANT == CONSTANT && is_ordinary_memory(file)
}

/// Whether a file lies in memory of the usual pages, which is mapped in any length.
fn is_ordinary_memory(file: BorrowedFd<'_>) -> bool {
    // SAFETY: a statfs is numbers, for which zero is valid.
    let mut facts: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut facts) };
    // C libraries differ in the types.
    answer == 0 && facts.f_type as libc::c_long == libc::TMPFS_MAGIC as libc::c_long
}

/// Whether processes of the same user may look at what this one has open.
pub(crate) fn is_open_to_others() -> bool {
    // SAFETY: no memory is touched.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) == 1 }
}

/// Has copies of this process that are forked without exec not have a mapping.
pub(crate) fn keep_from_forks(place: NonNull<u8>, bytes: usize) {
    // SAFETY: callers own the mapping. Where the advice is not taken, copies have it, and are told
    // by their number to leave it alone.
    unsafe { libc::madvise(place.as_ptr().cast(), bytes, libc::MADV_DONTFORK) };
}

/// What a mapping may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading; a write is a SIGSEGV.
    ReadOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    fn protection(self) -> libc::c_int {
        match self {
            Self::ReadOnly => libc::PROT_READ,
            Self::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// Addresses of which none can be touched: any access is a SIGSEGV. They cost no memory.
pub(crate) fn reserve(bytes: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the kernel chooses the place; nothing that is mapped is replaced.
    let place = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    mapped_at(place)
}

/// Maps a part of a file, shared with all processes that map it, in place of reserved addresses.
pub(crate) fn map_shared(
    reserved: NonNull<u8>,
    file: BorrowedFd<'_>,
    from: u64,
    bytes: usize,
    access: Access,
) -> io::Result<()> {
    map_over(reserved, file, from, bytes, access, libc::MAP_SHARED)
}

/// Maps a constant file for reading, in place of reserved addresses. All processes that do share the memory: a
/// private mapping differs from a shared one in what is written, and kernels before 6.7 refuse the
/// latter.
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
    // SAFETY: callers have reserved these addresses, and use them for nothing else.
    let place = unsafe {
        libc::mmap(
            reserved.as_ptr().cast(),
            bytes,
            access.protection(),
            flags | libc::MAP_FIXED,
            file.as_raw_fd(),
            from,
        )
    };
    mapped_at(place).map(|_| ())
}

/// The answer of `mmap`.
fn mapped_at(place: *mut libc::c_void) -> io::Result<NonNull<u8>> {
    if place == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(place.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

/// Changes what a mapping may be used for.
pub(crate) fn protect(place: NonNull<u8>, bytes: usize, access: Access) -> io::Result<()> {
    // SAFETY: callers own the mapping, and have no reference into it.
    let answer = unsafe { libc::mprotect(place.as_ptr().cast(), bytes, access.protection()) };
    checked(answer).map(|_| ())
}

/// Undoes `reserve`, and what was mapped there.
pub(crate) fn unmap(place: NonNull<u8>, bytes: usize) {
    // SAFETY: callers own the addresses, and are done with them. Fails only for what is none.
    unsafe { libc::munmap(place.as_ptr().cast(), bytes) };
}

/// Bytes of a page, of which mappings consist.
pub(crate) fn page_size() -> usize {
    // SAFETY: no memory is touched.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// What huge pages are made of, and aligned to.
pub(crate) const HUGE: usize = 2 << 20;

/// Memory that is about to be written for the first time, and large, gets huge pages where it can:
/// fresh small ones cost more than what is copied into them.
pub(crate) fn prefer_huge_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let bytes = size_of_val(memory);
    let start: *mut u8 = memory.as_mut_ptr().cast();
    let before = start.align_offset(HUGE);
    let inside = bytes.saturating_sub(before) / HUGE * HUGE;
    if inside > HUGE {
        advise_huge_pages(start.wrapping_add(before), inside);
    }
}

/// As `prefer_huge_pages`, for a mapping.
pub(crate) fn prefer_huge_pages_in(place: NonNull<u8>, bytes: usize) {
    if bytes >= HUGE {
        advise_huge_pages(place.as_ptr(), bytes);
    }
}

fn advise_huge_pages(place: *mut u8, bytes: usize) {
    // SAFETY: callers own the memory, which keeps what it holds. Where the advice is not taken,
    // pages are small.
    unsafe { libc::madvise(place.cast(), bytes, libc::MADV_HUGEPAGE) };
}

/// Maps the pages of a mapping of ours all at once, to be written; those that are not there are
/// made.
///
/// # Errors
/// Of the system; `Unsupported` where it does not know how, as before Linux 5.14, or where a filter refuses the call.
pub(crate) fn populate_to_write(place: NonNull<u8>, bytes: usize) -> io::Result<()> {
    // SAFETY: callers own the mapping, which keeps what it holds.
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

/// As `populate_to_write`, to be read; where the system does not know how, it does so page by page
/// later.
pub(crate) fn populate_to_read(place: NonNull<u8>, bytes: usize) {
    // SAFETY: as above.
    unsafe { libc::madvise(place.as_ptr().cast(), bytes, libc::MADV_POPULATE_READ) };
}

// ---- futexes ---------------------------------------------------------------------------------

/// Sleeps until a `futex_wake`, if the word is as expected, or until the deadline. Across
/// processes. May return for nothing.
#[cfg_attr(loom, allow(dead_code, reason = "models sleep otherwise"))]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    /// Seconds of the longest sleep, after which callers look again: they fit a number of 32 bits.
    const LONGEST: u64 = 1 << 30;

    let timeout = deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        libc::timespec {
            tv_sec: left.as_secs().min(LONGEST) as _,
            tv_nsec: left.subsec_nanos() as _,
        }
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout outlive the call. Whatever it answers, callers look again.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            timeout,
        )
    };
}

/// Wakes those that sleep on the word.
#[cfg_attr(loom, allow(dead_code, reason = "models sleep otherwise"))]
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word outlives the call, which only uses its address.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            libc::c_int::MAX,
        )
    };
}

// ---- processes -------------------------------------------------------------------------------

/// Which child a call waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Child<'a> {
    /// The one of this number.
    Number(u32),
    /// The one that a descriptor means: since Linux 5.4.
    Descriptor(BorrowedFd<'a>),
}

/// A descriptor that means a process for ever; since Linux 5.3.
pub(crate) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let descriptor = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel made this descriptor for us, close-on-exec; nobody else has it.
    above_standard(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// Whether a child can be waited for.
///
/// # Errors
/// `ECHILD` if it is no child, or was reaped; `EINVAL` where the system does not wait by descriptors.
pub(crate) fn look_after(child: Child<'_>) -> io::Result<()> {
    wait_id(child, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG).map(|_| ())
}

/// Blocks until the child has ended, and leaves it to be reaped.
pub(crate) fn wait_for_end(child: Child<'_>) -> io::Result<()> {
    wait_id(child, libc::WEXITED | libc::WNOWAIT).map(|_| ())
}

/// Waits as `waitid` does; what has happened, and what the child has used.
fn wait_id(child: Child<'_>, flags: libc::c_int) -> io::Result<(libc::siginfo_t, libc::rusage)> {
    let (kind, id) = match child {
        Child::Number(pid) => (libc::P_PID, pid),
        Child::Descriptor(descriptor) => (libc::P_PIDFD, descriptor.as_raw_fd().unsigned_abs()),
    };
    // SAFETY: a siginfo_t is numbers and pointers, for which zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: a rusage is numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let (told, used) = (&raw mut info, &raw mut usage);
    retried(|| {
        // SAFETY: both buffers outlive the call. The kernel's own fills in the usage; the C library's does not.
        checked(unsafe { libc::syscall(libc::SYS_waitid, kind, id, told, flags, used) })
    })?;
    Ok((info, usage))
}

/// The most memory that this process has used so far, in bytes.
pub(crate) fn own_peak_memory() -> u64 {
    // SAFETY: a rusage is numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call, which cannot fail for oneself.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    wide(usage.ru_maxrss.unsigned_abs()) * 1024
}

/// Reaps a child that has ended: how it ended, and the most memory that it used, in bytes.
pub(crate) fn reap(child: Child<'_>) -> io::Result<(ProcessEnd, u64)> {
    let (info, usage) = wait_id(child, libc::WEXITED)?;
    // SAFETY: the kernel has filled it in, of a child that has ended.
    let status = unsafe { info.si_status() };
    let end = match info.si_code {
        libc::CLD_EXITED => ProcessEnd::Exited(status),
        _ => ProcessEnd::Signalled(status),
    };
    Ok((end, wide(usage.ru_maxrss.unsigned_abs()) * 1024))
}

/// Sends SIGKILL to the process group that a child, which was not reaped, leads or led.
pub(crate) fn kill_group(pid: u32) {
    // SAFETY: no memory is touched. The group's name is the child's until it is reaped. Failure
    // means that nobody is left in it.
    unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
}

/// Sends a signal to a child that was not reaped.
pub(crate) fn signal(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::kill(pid as libc::pid_t, signal) }).map(|_| ())
}

/// Sends a signal to the process that a descriptor means.
///
/// # Errors
/// `ESRCH` if it was reaped.
pub(crate) fn signal_by(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    signal_with(process, signal, 0)
}

/// Sends SIGKILL to the process group that the process leads or led which a descriptor means, also if it was
/// reaped.
///
/// # Errors
/// `ESRCH` if nobody is in it; `EINVAL` before Linux 6.9.
pub(crate) fn kill_group_by(process: BorrowedFd<'_>) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    signal_with(process, libc::SIGKILL, PIDFD_SIGNAL_PROCESS_GROUP)
}

fn signal_with(process: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    let (process, facts) = (process.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    let number = libc::SYS_pidfd_send_signal;
    // SAFETY: no memory is touched: the signal's facts are the usual ones.
    checked(unsafe { libc::syscall(number, process, signal, facts, flags) }).map(|_| ())
}

/// The number by which /proc lists this process; `None` where it does not. In a namespace of process numbers
/// that shows the /proc of the one around it, this is another than the process's own, which may be a
/// stranger's there.
pub(crate) fn number_in_proc() -> Option<u32> {
    let target = std::fs::read_link("/proc/self").ok()?;
    target.to_str()?.parse().ok()
}

/// Whether the calling thread is the one that runs `main`.
pub(crate) fn is_main_thread() -> bool {
    // SAFETY: no memory is touched.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    u32::try_from(thread) == Ok(std::process::id())
}

/// Whether the calling thread is known to be the only one of this process.
pub(crate) fn is_single_threaded() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

// ---- rights ----------------------------------------------------------------------------------

/// The path that the kernel was asked to execute, as it was given.
pub(crate) fn started_path() -> Option<&'static Path> {
    // SAFETY: reads what the kernel told this process.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let path: *const libc::c_char = ptr::with_exposed_provenance(path as usize);
    if path.is_null() {
        return None;
    }
    // SAFETY: the kernel has put a text there, which stays as long as the process.
    let path = unsafe { CStr::from_ptr(path) };
    Some(Path::new(OsStr::from_bytes(path.to_bytes())))
}

/// Whether the file of this process has given it rights that its real user may not have: by a setuid or
/// setgid bit, or by capabilities. Real root had them all before.
pub(crate) fn has_gained_rights() -> bool {
    // SAFETY: reads what the kernel told this process.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    is_secure && real_user() != 0
}

/// Whether the kernel would say the same of this program, were that file of it executed.
pub(crate) fn would_gain_rights(program: &Path) -> bool {
    let (user, group) = (real_user(), real_group());
    let Ok(facts) = std::fs::metadata(program) else {
        return false; // it cannot be executed either
    };
    let Ok(program) = CString::new(program.as_os_str().as_bytes()) else {
        return false; // as above
    };
    let do_files_count = do_files_give_rights(&program);
    let gives = |bits: libc::mode_t| do_files_count && facts.mode() & bits == bits;
    let next_user = match gives(libc::S_ISUID) {
        true => facts.uid(),
        false => effective_user(),
    };
    let next_group = match gives(libc::S_ISGID | libc::S_IXGRP) {
        true => facts.gid(),
        false => effective_group(),
    };
    let has_others = next_user != user || next_group != group;
    user != 0 && (has_others || (do_files_count && has_capabilities(&program)))
}

/// Whether a file may give rights to the process that executes this program.
fn do_files_give_rights(program: &CStr) -> bool {
    const UNUSED: libc::c_ulong = 0;
    let question = libc::PR_GET_NO_NEW_PRIVS;
    // SAFETY: no memory is touched.
    let answer = unsafe { libc::prctl(question, UNUSED, UNUSED, UNUSED, UNUSED) };
    let no_new_rights = answer == 1;
    // SAFETY: a statvfs is numbers, for which zero is valid.
    let mut facts: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path and the buffer outlive the call.
    let answer = unsafe { libc::statvfs(program.as_ptr(), &raw mut facts) };
    let is_nosuid = answer == 0 && facts.f_flag & libc::ST_NOSUID != 0;
    !no_new_rights && !is_nosuid
}

/// Whether the program's file gives capabilities to the process that executes it.
fn has_capabilities(program: &CStr) -> bool {
    let name = c"security.capability";
    // SAFETY: both texts outlive the call, which is given no place for the value.
    let size = unsafe { libc::getxattr(program.as_ptr(), name.as_ptr(), ptr::null_mut(), 0) };
    size >= 0
}

/// Whose process this is.
pub(crate) fn real_user() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::getuid() }
}

/// As whom this process acts.
pub(crate) fn effective_user() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::geteuid() }
}

fn real_group() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::getgid() }
}

fn effective_group() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::getegid() }
}

/// As whom the process acted that made the pair of which this socket is one.
pub(crate) fn peer_user(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut size = size_of_val(&peer) as libc::socklen_t;
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERCRED);
    let place = (&raw mut peer).cast();
    // SAFETY: the buffer is as large as said, and outlives the call.
    let answer =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, place, &raw mut size) };
    checked(answer).map(|_| peer.uid)
}

// ---- a worker's own settings -----------------------------------------------------------------

/// Has the kernel kill this process when the thread that started it ends.
pub(crate) fn die_with_parent() {
    // SAFETY: no memory is touched; this option cannot fail for a valid signal.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Starts a thread that ends this process and its process group once the other side of the socket has shut
/// it, whatever other threads do. The kernel's own signal for the parent's end is not enough: a process that
/// changes its user or group disarms it, and it is refused where the parent has laid its rights down.
///
/// The thread sleeps in the kernel, hears no signals, and allocates nothing: a fork finds no lock in its
/// hands.
///
/// # Errors
/// Of the system, where there may be no more threads or descriptors.
pub(crate) fn end_when_hung_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let epoll = hang_up_of(socket)?;
    start_guard(epoll.as_fd())?;
    // It is the thread's, which never ends before the process.
    let _ = epoll.into_raw_fd();
    Ok(())
}

/// A descriptor to wait on until the other side of a socket has shut it. A thread that waits on it does not
/// hold the socket open, unlike one in `poll`: a task may close it.
fn hang_up_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let epoll = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel made this descriptor for us; nobody else has it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    // Numbered out of the way of what programs expect.
    let epoll = copy_high(epoll.as_fd())?;
    // A hang-up is always told.
    let mut event = libc::epoll_event {
        events: 0,
        u64: HUNG_UP,
    };
    let (add, number) = (libc::EPOLL_CTL_ADD, socket.as_raw_fd());
    // SAFETY: the event outlives the call.
    checked(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), add, number, &raw mut event) })?;
    Ok(epoll)
}

/// By what the thread of [`end_when_hung_up`] knows its own event. A task may close all descriptors, and have
/// others to wait on behind the same number when a signal interrupts that thread.
const HUNG_UP: u64 = u64::from_le_bytes(*b"hung up!");

/// Starts the thread of [`end_when_hung_up`], with all signals blocked but those of the C library.
fn start_guard(epoll: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a sigset_t is numbers, for which zero is valid.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets outlive the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let started = start_thread(end_at_hang_up, epoll);
    // SAFETY: the set outlives the call, which is given no place for the old one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    started
}

/// Starts a detached thread of the C library alone, on a small stack: std's threads allocate, and a second
/// thread that allocates costs a process 64 MiB of addresses.
fn start_thread(
    run: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    const STACK: usize = 64 << 10;
    let argument = ptr::without_provenance_mut(descriptor.as_raw_fd().unsigned_abs() as usize);
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the place is ours, and large enough.
    answered(unsafe { libc::pthread_attr_init(attributes) })?;
    // SAFETY: the attributes were initialized above.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut create = || {
        // SAFETY: as above; the function takes a number as its argument, and touches no memory of ours.
        answered(unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run, argument) })
    };
    let resize = |bytes: usize| {
        // SAFETY: as above.
        answered(unsafe { libc::pthread_attr_setstacksize(attributes, bytes) })
    };
    let mut start = |stack: usize| resize(stack).and_then(|()| create());
    // Where thread-locals do not fit, it has what std gives a thread.
    let started = start(STACK.max(libc::PTHREAD_STACK_MIN)).or_else(|_| start(2 << 20));
    // SAFETY: they were initialized above, and are not used any more.
    unsafe { libc::pthread_attr_destroy(attributes) };
    started
}

/// The answer of a call that gives the error's number, or 0.
fn answered(number: libc::c_int) -> io::Result<()> {
    match number {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Waits on the descriptor that the argument numbers, then ends the process and its group.
extern "C" fn end_at_hang_up(epoll: *mut libc::c_void) -> *mut libc::c_void {
    let epoll = epoll.addr() as libc::c_int;
    set_title(c"link guard");
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let told = retried(|| {
        // SAFETY: the event outlives the call.
        checked(unsafe { libc::epoll_wait(epoll, &raw mut event, 1, -1) })
    });
    // Otherwise there is nothing to wait on any more.
    let is_own = event.u64 == HUNG_UP;
    if told.is_ok() && is_own {
        end_tree();
    }
    ptr::null_mut()
}

/// Ends this process, and the process group that it leads or led.
fn end_tree() -> ! {
    const KILLED: libc::c_int = 128 + libc::SIGKILL;
    // SAFETY: no memory is touched; cannot fail.
    let pid = unsafe { libc::getpid() };
    for target in [-pid, pid] {
        // SAFETY: no memory is touched. The group's name is this process's own.
        unsafe { libc::kill(target, libc::SIGKILL) };
    }
    // Where a filter of system calls refuses even that.
    // SAFETY: ends the process; nothing of it runs any more.
    unsafe { libc::_exit(KILLED) }
}

/// What the process list calls the calling thread.
pub(crate) fn set_title(title: &CStr) {
    // SAFETY: the text outlives the call, which copies it.
    unsafe { libc::prctl(libc::PR_SET_NAME, title.as_ptr()) };
}

/// Has allocations beyond so many bytes fail, in this process and those that it starts.
pub(crate) fn limit_memory(bytes: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives the call.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) })?;
    // A limit that the process has already is not to be raised.
    limit.rlim_max = limit.rlim_max.min(narrow(bytes, libc::rlim_t::MAX));
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the structure outlives the call.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) }).map(|_| ())
}

/// Has signals that this process ignores do what they usually do: it inherited that from the program, as
/// would what tasks execute. Not SIGPIPE, which every Rust program ignores, and not SIGHUP, which `nohup`
/// means for workers, too.
pub(crate) fn heed_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        if ![libc::SIGPIPE, libc::SIGHUP].contains(&signal) && is_ignored(signal) {
            // SAFETY: SIG_DFL runs nothing of ours.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a sigaction is numbers and pointers, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call, which changes nothing. It fails for signals that the C library
    // keeps to itself.
    let answer = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    answer == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Leaves it to the program to react to Ctrl-C, and lets background output through: SIGINT does
/// nothing here, by a handler, which unlike SIG_IGN is not inherited by what tasks execute. SIGTTOU is the
/// one signal that is blocked, whatever the program has blocked: a worker that did not hear SIGTERM could
/// not be asked to end.
pub(crate) fn stand_aside_from_terminal() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing, which is safe at any point.
    unsafe { libc::signal(libc::SIGINT, handler as libc::sighandler_t) };
    // SAFETY: a sigset_t is numbers, for which zero is valid.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call.
    unsafe { libc::sigemptyset(&raw mut set) };
    // SAFETY: the set outlives the call.
    unsafe { libc::sigaddset(&raw mut set, libc::SIGTTOU) };
    // SAFETY: the set outlives the call, which is given no place for the old one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// Flushes what C code has printed to standard output, if there is something.
pub(crate) fn flush_c_output() {
    unsafe extern "C" {
        /// The C library's stream.
        static stdout: *mut libc::FILE;
        /// How many bytes a stream has buffered.
        fn __fpending(stream: *mut libc::FILE) -> libc::size_t;
    }
    // SAFETY: the C library has set it before any code of ours runs.
    let stream = unsafe { stdout };
    // SAFETY: the stream is the C library's own; a racing writer makes the answer old, no more.
    if unsafe { __fpending(stream) } > 0 {
        // SAFETY: as above.
        unsafe { libc::fflush(stream) };
    }
}

/// Waits for the signal that ends this process, for at most so long.
pub(crate) fn park_until_killed(limit: Duration) {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::park_timeout(left);
    }
}

/// Ends a forked copy of a worker, without a trace.
pub(crate) fn exit_forked_copy() -> ! {
    // SAFETY: ends the process; nothing of it runs any more.
    unsafe { libc::_exit(0) }
}

/// The core that the calling thread runs on, if that is known.
pub(crate) fn current_core() -> Option<u32> {
    if cfg!(miri) {
        return None; // it knows of none
    }
    // SAFETY: sched_getcpu reads nothing of ours.
    let core = unsafe { libc::sched_getcpu() };
    u32::try_from(core).ok()
}

/// Moves the calling thread off that core, if it may run on another; from then on it may be moved
/// anywhere that it might before.
pub(crate) fn leave_core(core: u32) {
    drop(stay_off(core));
}

/// Moves the calling thread off that core, and keeps it off until the answer is dropped, by the same thread;
/// `None`: it may run nowhere else.
pub(crate) fn stay_off(core: u32) -> Option<AffinityGuard> {
    let core = core as usize;
    let before = allowed_cores().filter(|_| core < libc::CPU_SETSIZE as usize)?;
    let mut others = before;
    // SAFETY: the core is within the set.
    unsafe { libc::CPU_CLR(core, &mut others) };
    // SAFETY: the set is ours.
    if unsafe { libc::CPU_COUNT(&others) } == 0 {
        return None;
    }
    allow_cores(&others);
    Some(AffinityGuard { before, others })
}

/// A thread that is kept off a core.
pub(crate) struct AffinityGuard {
    /// Where it might run before.
    before: libc::cpu_set_t,
    /// Where it may meanwhile.
    others: libc::cpu_set_t,
}

impl std::fmt::Debug for AffinityGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Away").finish_non_exhaustive()
    }
}

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        // If somebody else has said meanwhile where it may run, that stands.
        // SAFETY: both sets are ours.
        let stands = |now: &libc::cpu_set_t| unsafe { libc::CPU_EQUAL(now, &self.others) };
        if allowed_cores().as_ref().is_some_and(stands) {
            allow_cores(&self.before);
        }
    }
}

/// Says where the calling thread may run; where that is refused, all stays as it was.
fn allow_cores(set: &libc::cpu_set_t) {
    // SAFETY: the set is as large as said, and only read.
    unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
}

/// Where the calling thread may run; `None`: there are more cores than the set has room for, say.
fn allowed_cores() -> Option<libc::cpu_set_t> {
    // SAFETY: a set of cores is plain bits, of which all may be 0.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as said, and ours.
    let read = unsafe { libc::sched_getaffinity(0, size_of_val(&allowed), &raw mut allowed) };
    (read == 0).then_some(allowed)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_socket_tells_who_made_it() {
        let (one, other) = UnixStream::pair().unwrap();
        for end in [one, other] {
            assert_eq!(peer_user(end.as_fd()).unwrap(), effective_user());
        }
        assert!(peer_user(File::open("/dev/null").unwrap().as_fd()).is_err());
    }

    #[test]
    fn tests_have_no_more_rights_than_their_user() {
        assert!(!has_gained_rights() && !would_gain_rights(Path::new("/proc/self/exe")));
    }

    fn allowed() -> Vec<usize> {
        let set = allowed_cores().unwrap();
        let cores = 0..libc::CPU_SETSIZE as usize;
        // SAFETY: the core is within the set.
        cores
            .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
            .collect()
    }

    #[test]
    fn who_leaves_a_core_may_run_where_it_might_before() {
        let before = allowed();
        let core = current_core().unwrap();
        assert!(before.contains(&(core as usize)));
        leave_core(core);
        assert_eq!(allowed(), before);
        leave_core(u32::MAX); // there is none
        assert_eq!(allowed(), before);
    }

    #[test]
    fn who_stays_off_a_core_may_not_run_there_until_he_comes_back() {
        let before = allowed();
        let core = current_core().unwrap();
        let Some(away) = stay_off(core) else {
            return assert_eq!(before, [core as usize], "there is no other");
        };
        assert!(!allowed().contains(&(core as usize)));
        assert_ne!(current_core(), Some(core));
        drop(away);
        assert_eq!(allowed(), before);
    }

    #[test]
    fn where_somebody_has_put_a_thread_meanwhile_it_stays() {
        let before = allowed_cores().unwrap();
        let core = current_core().unwrap() as usize;
        let Some(away) = stay_off(core as u32) else {
            return; // there is no other
        };
        // SAFETY: a set of cores is plain bits, of which all may be 0.
        let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the core is within the set.
        unsafe { libc::CPU_SET(core, &mut one) };
        allow_cores(&one);
        drop(away);
        assert_eq!(allowed(), [core]);
        allow_cores(&before);
    }
}
