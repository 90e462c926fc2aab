//! System calls that std does not wrap, each in a safe function. Process pools (`process/`, `transport/`),
//! `shared/` and `idle/` call them; only `error` is used from here. Submodules: `fork` detects forked copies,
//! `handle` identifies children, `image` finds the program's code and build, `shared_memory` maps memory,
//! `stack` sizes stacks.

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

/// The result of a call that returns -1 on failure.
fn checked<T: PartialEq + From<i8>>(answer: T) -> io::Result<T> {
    if answer == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

// ---- sockets ---------------------------------------------------------------------------------

/// The largest number of descriptors that [`send`] passes with one message.
pub(crate) const MAX_PASSED: usize = 16;

/// A buffer for the control message of [`MAX_PASSED`] descriptors, aligned for its header.
#[repr(align(8))]
struct Ancillary([u8; 128]);

/// Sends some of the bytes, and all of the descriptors, without raising SIGPIPE. Returns the number of bytes.
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
        // SAFETY: the pointer lies in the control buffer, see above; no other reference to the header exists.
        let header = unsafe { &mut *header };
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = libc::SCM_RIGHTS;
        // SAFETY: CMSG_LEN computes with numbers alone.
        header.cmsg_len = unsafe { libc::CMSG_LEN(size) } as _;
        // SAFETY: the data lie inside the control buffer; their size was computed above.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<RawFd>();
        for (at, descriptor) in descriptors.iter().enumerate() {
            // SAFETY: the data lie inside the control buffer, for all descriptors.
            let place = unsafe { data.add(at) };
            // SAFETY: the pointer is inside the control buffer; it may be unaligned for an int.
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

/// Receives some bytes, and the descriptors that came with them. Returns the number of bytes; 0: end of file.
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
                // SAFETY: the kernel wrote `count` descriptors.
                let place = unsafe { data.add(at) };
                // SAFETY: the pointer is to one of the `count` descriptors.
                let descriptor = unsafe { place.read_unaligned() };
                // SAFETY: the kernel made this descriptor for this process; no other code owns it.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(descriptor) });
            }
        }
        // SAFETY: recvmsg has filled the message, and the header is one of its control buffer.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    descriptors
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a msghdr is numbers and pointers, for which zero is valid.
    unsafe { std::mem::zeroed() }
}

/// Waits until one of the descriptors can be read, or is hung up, or until the deadline (`None`: for ever).
/// Returns for each descriptor whether it can be read or is hung up; a `None` in the array is ignored.
pub(crate) fn poll_readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    poll_until(descriptors.map(|it| to_poll(it, libc::POLLIN)), deadline)
}

/// Waits until one of `readable` can be read, or `writable` can be written, or one is hung up, or until the
/// deadline (`None`: for ever). Returns for each descriptor, `writable` last, whether that happened.
pub(crate) fn poll_readable_or_writable(
    readable: [Option<BorrowedFd<'_>>; 3],
    writable: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) -> io::Result<[bool; 4]> {
    let [first, second, third] = readable.map(|it| to_poll(it, libc::POLLIN));
    let fourth = to_poll(writable, libc::POLLOUT);
    poll_until([first, second, third, fourth], deadline)
}

/// The argument of `poll` for `descriptor`; for `None`, one that `poll` ignores.
fn to_poll(descriptor: Option<BorrowedFd<'_>>, events: libc::c_short) -> libc::pollfd {
    libc::pollfd {
        // poll ignores negative descriptors.
        fd: descriptor.map_or(-1, |d| d.as_raw_fd()),
        events,
        revents: 0,
    }
}

/// Waits for an event on one of the descriptors, or until the deadline. Returns which have an event.
fn poll_until<const N: usize>(
    mut polled: [libc::pollfd; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    loop {
        let milliseconds = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: no busy wait for the last fraction of a millisecond.
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

/// Makes two sockets that are connected with each other.
pub(crate) fn socket_pair() -> io::Result<(UnixStream, UnixStream)> {
    let (one, other) = UnixStream::pair()?;
    let high = |end: UnixStream| above_standard(end.into()).map(UnixStream::from);
    Ok((high(one)?, high(other)?))
}

/// Writes as many of the bytes as fit, without waiting, to a file of any type. Returns how many.
///
/// # Errors
/// `WouldBlock` if nothing fits.
pub(crate) fn write_at_once(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    match kind_of(file) {
        Some(libc::S_IFSOCK) => send_at_once(file, bytes),
        Some(libc::S_IFIFO | libc::S_IFCHR) => match open_anew(file) {
            Ok(file) => (&file).write(bytes),
            Err(_) => write_if_ready(file, bytes),
        },
        // A write to a file on a disk does not wait for a reader.
        _ => write(file, bytes),
    }
}

/// The type of a descriptor's file (`S_IFMT`); `None` if the system does not tell.
fn kind_of(file: BorrowedFd<'_>) -> Option<libc::mode_t> {
    // SAFETY: a stat is numbers, for which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::fstat(file.as_raw_fd(), &raw mut stat) };
    (answer == 0).then_some(stat.st_mode & libc::S_IFMT)
}

/// Opens a pipe or a terminal once more, non-blocking. Setting the flag on the descriptor itself would set it
/// for all processes that share its open file description.
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

/// Writes at most the number of bytes that a pipe accepts in one piece (`PIPE_BUF`), if the file is ready.
///
/// # Errors
/// `WouldBlock` if it is not ready.
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

/// Whether the other end of a socket was closed or shut down.
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

/// The inode number of the socket behind a descriptor; `None` if it is no socket.
pub(crate) fn socket_number(descriptor: BorrowedFd<'_>) -> Option<u64> {
    // SAFETY: a stat is numbers, for which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::fstat(descriptor.as_raw_fd(), &raw mut stat) };
    (answer == 0 && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(wide(stat.st_ino))
}

// ---- descriptors -----------------------------------------------------------------------------

/// Returns a close-on-exec copy of a descriptor, with a number (100, or half the limit if that is lower, or
/// more) that programs do not expect to be given or to find free.
pub(crate) fn copy_high(descriptor: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let lowest = descriptor_limit().map_or(100, |limit| (limit / 2).min(100));
    copy_from(descriptor.as_raw_fd(), lowest as RawFd)
}

/// The lowest number that is not standard input, output or error.
const ABOVE_STANDARD: RawFd = libc::STDERR_FILENO + 1;

/// Returns a descriptor of the same file whose number is not standard input, output or error. A program may
/// have closed these: the system then gives their numbers to files that are opened next, and code that prints
/// would write into such a file.
pub(crate) fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    match descriptor.as_raw_fd() {
        number if number >= ABOVE_STANDARD => Ok(descriptor),
        number => copy_from(number, ABOVE_STANDARD),
    }
}

/// Returns a close-on-exec copy of a descriptor, with the lowest free number that is at least `lowest`.
fn copy_from(descriptor: RawFd, lowest: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let copy = checked(unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, lowest) })?;
    // SAFETY: the kernel made this descriptor for this process; no other code owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Makes a pipe. Returns its read end and its write end.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for two numbers, and outlives the call.
    checked(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    let [reader, writer] = ends.map(|end| {
        // SAFETY: the kernel made this descriptor for this process; no other code owns it.
        unsafe { OwnedFd::from_raw_fd(end) }
    });
    Ok((above_standard(reader)?, above_standard(writer)?))
}

/// Makes a file non-blocking: reads fail with `WouldBlock` where they would wait.
pub(crate) fn never_wait(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }).map(|_| ())
}

/// Opens `/dev/null` for writing: data written to it are discarded.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    above_standard(File::options().write(true).open("/dev/null")?.into())
}

/// Whether a descriptor's number lies in the lower half of the descriptor table: then the table has space for
/// others.
pub(crate) fn leaves_room(descriptor: BorrowedFd<'_>) -> bool {
    let number = u64::from(descriptor.as_raw_fd().unsigned_abs());
    descriptor_limit().is_none_or(|limit| number < limit / 2)
}

fn descriptor_limit() -> Option<u64> {
    soft_limit(libc::RLIMIT_NOFILE)
}

/// Whether this process has no limit on the size of files (`ulimit -f unlimited`).
pub(crate) fn has_long_files() -> bool {
    soft_limit(libc::RLIMIT_FSIZE).is_none()
}

/// Whether this process may write a file of `bytes` bytes (`ulimit -f`). Otherwise the kernel would answer
/// the attempt with a signal.
pub(crate) fn may_write(bytes: u64) -> bool {
    soft_limit(libc::RLIMIT_FSIZE).is_none_or(|limit| bytes <= limit)
}

/// The C library's type for the number of a resource limit.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = libc::c_int;

/// The soft limit of a resource; `None`: no limit, or it is not known.
fn soft_limit(resource: Resource) -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the buffer outlives the call.
    let answer = unsafe { libc::getrlimit(resource, &raw mut limit) };
    // Where `rlim_t` has 32 bits, the number for "no limit" (RLIM_INFINITY) is a size that files may well
    // have.
    let is_limit = answer == 0 && limit.rlim_cur != libc::RLIM_INFINITY;
    is_limit.then_some(wide(limit.rlim_cur))
}

/// Converts a number of the C library, which has 32 bits on some systems, to 64 bits.
fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// Converts to a number type of the C library; a number that does not fit becomes `largest`.
fn narrow<N: TryFrom<u64>>(number: u64, largest: N) -> N {
    N::try_from(number).unwrap_or(largest)
}

/// Makes descriptor number `number` (0, 1 or 2) a copy of `descriptor`.
pub(crate) fn redirect(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    retried(|| {
        // SAFETY: no memory is touched; no code in particular owns 0, 1 and 2.
        checked(unsafe { libc::dup2(descriptor.as_raw_fd(), number) }).map(|_| ())
    })
}

/// Returns a copy of standard input, output or error of this process; `/dev/null` if it was closed.
pub(crate) fn standard(number: RawFd) -> io::Result<OwnedFd> {
    copy_from(number, ABOVE_STANDARD).or_else(|_| open_null())
}

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

/// Makes writes through any copy of the descriptor go to the end of the file.
pub(crate) fn append_only(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) }).map(|_| ())
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

/// Whether processes of the same user may access the open files of this process through `/proc`
/// (`PR_GET_DUMPABLE`).
pub(crate) fn is_open_to_others() -> bool {
    // SAFETY: no memory is touched.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) == 1 }
}

/// Keeps a mapping out of forked copies of this process (`MADV_DONTFORK`).
pub(crate) fn keep_from_forks(place: NonNull<u8>, bytes: usize) {
    // SAFETY: callers own the mapping. If the advice is not taken, forked copies have the mapping, and their
    // fork epoch tells them not to use it.
    unsafe { libc::madvise(place.as_ptr().cast(), bytes, libc::MADV_DONTFORK) };
}

/// The permitted accesses to a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Reading; a write raises SIGSEGV.
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
            access.protection(),
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
    let answer = unsafe { libc::mprotect(place.as_ptr().cast(), bytes, access.protection()) };
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

/// Size and alignment of a huge page, in bytes.
pub(crate) const HUGE: usize = 2 << 20;

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

// ---- futexes ---------------------------------------------------------------------------------

/// Sleeps until a [`futex_wake`] of the word or until the deadline; returns at once if the word is not
/// `expected`. Works across processes. May return spuriously.
#[cfg_attr(loom, allow(dead_code, reason = "models sleep otherwise"))]
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    /// The longest sleep, in seconds, after which callers check again: it fits into 32 bits.
    const LONGEST: u64 = 1 << 30;

    let timeout = deadline.map(|deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        libc::timespec {
            tv_sec: left.as_secs().min(LONGEST) as _,
            tv_nsec: left.subsec_nanos() as _,
        }
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the word and the timeout outlive the call. Whatever it returns, callers check again.
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

/// Wakes all threads that sleep on the word, in all processes.
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

/// The child that a call waits for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Child<'a> {
    /// The child with this process id.
    Number(u32),
    /// The child that a pidfd refers to; since Linux 5.4.
    Descriptor(BorrowedFd<'a>),
}

/// Opens a pidfd: a descriptor that always refers to this process, even after its id was reused. Since
/// Linux 5.3.
pub(crate) fn open_process(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let descriptor = checked(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel made this descriptor for this process, close-on-exec; no other code owns it.
    above_standard(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// Checks that a child can be waited for; does not block.
///
/// # Errors
/// `ECHILD` if it is no child, or was reaped; `EINVAL` if the system cannot wait by a pidfd.
pub(crate) fn look_after(child: Child<'_>) -> io::Result<()> {
    wait_id(child, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG).map(|_| ())
}

/// Blocks until the child has ended, and does not reap it.
pub(crate) fn wait_for_end(child: Child<'_>) -> io::Result<()> {
    wait_id(child, libc::WEXITED | libc::WNOWAIT).map(|_| ())
}

/// Calls `waitid(2)`. Returns what has happened to the child, and its resource usage.
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
        // SAFETY: both buffers outlive the call. The kernel's `waitid` fills in the usage; the C library's
        // does not.
        checked(unsafe { libc::syscall(libc::SYS_waitid, kind, id, told, flags, used) })
    })?;
    Ok((info, usage))
}

/// The peak memory (maximum resident set size) of this process so far, in bytes.
pub(crate) fn own_peak_memory() -> u64 {
    // SAFETY: a rusage is numbers, for which zero is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call, which cannot fail for RUSAGE_SELF.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    wide(usage.ru_maxrss.unsigned_abs()) * 1024
}

/// Reaps a child that has ended. Returns how it ended, and its peak memory in bytes.
pub(crate) fn reap(child: Child<'_>) -> io::Result<(ProcessEnd, u64)> {
    let (info, usage) = wait_id(child, libc::WEXITED)?;
    // SAFETY: the kernel has filled `info` in, for a child that has ended.
    let status = unsafe { info.si_status() };
    let end = match info.si_code {
        libc::CLD_EXITED => ProcessEnd::Exited(status),
        _ => ProcessEnd::Signalled(status),
    };
    Ok((end, wide(usage.ru_maxrss.unsigned_abs()) * 1024))
}

/// Sends SIGKILL to the process group that a child leads or led. The child must not have been reaped.
pub(crate) fn kill_group(pid: u32) {
    // SAFETY: no memory is touched. The group's id is the child's id, which is not reused until the child is
    // reaped. Failure means that no process is left in the group.
    unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
}

/// Sends a signal to a child, by its id. The child must not have been reaped.
pub(crate) fn signal(pid: u32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::kill(pid as libc::pid_t, signal) }).map(|_| ())
}

/// Sends a signal to the process that a pidfd refers to.
///
/// # Errors
/// `ESRCH` if the process was reaped.
pub(crate) fn signal_by(process: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    signal_with(process, signal, 0)
}

/// Sends SIGKILL to the process group that the process of a pidfd leads or led, even if that process was
/// reaped.
///
/// # Errors
/// `ESRCH` if no process is in the group; `EINVAL` before Linux 6.9.
pub(crate) fn kill_group_by(process: BorrowedFd<'_>) -> io::Result<()> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    signal_with(process, libc::SIGKILL, PIDFD_SIGNAL_PROCESS_GROUP)
}

fn signal_with(process: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> io::Result<()> {
    let (process, facts) = (process.as_raw_fd(), ptr::null::<libc::siginfo_t>());
    let number = libc::SYS_pidfd_send_signal;
    // SAFETY: no memory is touched: with a null pointer the kernel fills in the signal's usual data.
    checked(unsafe { libc::syscall(number, process, signal, facts, flags) }).map(|_| ())
}

/// The id by which /proc lists this process; `None` if it does not. In a PID namespace that sees the /proc of
/// its parent namespace, this differs from the process's own id, which may belong to another process there.
pub(crate) fn number_in_proc() -> Option<u32> {
    let target = std::fs::read_link("/proc/self").ok()?;
    target.to_str()?.parse().ok()
}

/// Whether the calling thread is the process's main thread, which runs `main`.
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

/// The path that the kernel was asked to execute (`AT_EXECFN`), unchanged; `None` if it is not known.
pub(crate) fn started_path() -> Option<&'static Path> {
    // SAFETY: reads the auxiliary vector that the kernel gave to this process.
    let path = unsafe { libc::getauxval(libc::AT_EXECFN) };
    let path: *const libc::c_char = ptr::with_exposed_provenance(path as usize);
    if path.is_null() {
        return None;
    }
    // SAFETY: the kernel has put a C string there, which stays as long as the process.
    let path = unsafe { CStr::from_ptr(path) };
    Some(Path::new(OsStr::from_bytes(path.to_bytes())))
}

/// Whether the executable file gave this process rights that its real user may not have: by a setuid or
/// setgid bit, or by capabilities. False for real root, which had all rights before.
pub(crate) fn has_gained_rights() -> bool {
    // SAFETY: reads the auxiliary vector that the kernel gave to this process.
    let is_secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    is_secure && real_user() != 0
}

/// Whether this process would gain rights, as defined at [`has_gained_rights`], if it executed the file
/// `program`.
pub(crate) fn would_gain_rights(program: &Path) -> bool {
    let (user, group) = (real_user(), real_group());
    let Ok(facts) = std::fs::metadata(program) else {
        return false; // it cannot be executed either
    };
    let Ok(program) = CString::new(program.as_os_str().as_bytes()) else {
        return false; // a path with a NUL byte cannot be executed either
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

/// Whether the file `program` can give rights to the process that executes it: not after
/// `PR_SET_NO_NEW_PRIVS`, and not on a file system mounted `nosuid`.
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

/// Whether the file `program` gives capabilities to the process that executes it.
fn has_capabilities(program: &CStr) -> bool {
    let name = c"security.capability";
    // SAFETY: both strings outlive the call, which is given no buffer for the value.
    let size = unsafe { libc::getxattr(program.as_ptr(), name.as_ptr(), ptr::null_mut(), 0) };
    size >= 0
}

/// The real user id of this process.
pub(crate) fn real_user() -> u32 {
    // SAFETY: no memory is touched; cannot fail.
    unsafe { libc::getuid() }
}

/// The effective user id of this process.
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

/// The effective user id of the process that made the pair of which this socket is one, at that time
/// (`SO_PEERCRED`).
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

/// Makes the kernel kill this process when the thread that started it ends (`PR_SET_PDEATHSIG`).
pub(crate) fn die_with_parent() {
    // SAFETY: no memory is touched; this option cannot fail for a valid signal.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// Starts a thread that kills this process and its process group once the other end of the socket was closed,
/// whatever other threads do. The parent-death signal ([`die_with_parent`]) is not enough: a process that
/// changes its user or group disarms it, and the kernel refuses to send it if the parent has dropped its
/// rights.
///
/// The thread sleeps in the kernel, blocks all signals, and allocates nothing: so it holds no lock at the
/// moment of a fork.
///
/// # Errors
/// Errors of the system, if no more threads or descriptors are allowed.
pub(crate) fn end_when_hung_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let epoll = hang_up_of(socket)?;
    start_guard(epoll.as_fd())?;
    // The thread owns the descriptor, and never ends before the process.
    let _ = epoll.into_raw_fd();
    Ok(())
}

/// Returns an epoll descriptor that becomes ready once the other end of a socket was closed. A thread that
/// waits on it does not keep the socket open, unlike a thread in `poll`: a task may close the socket.
fn hang_up_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: no memory is touched.
    let epoll = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel made this descriptor for this process; no other code owns it.
    let epoll = unsafe { OwnedFd::from_raw_fd(epoll) };
    // With a number that programs do not expect.
    let epoll = copy_high(epoll.as_fd())?;
    // epoll always reports a hang-up.
    let mut event = libc::epoll_event {
        events: 0,
        u64: HUNG_UP,
    };
    let (add, number) = (libc::EPOLL_CTL_ADD, socket.as_raw_fd());
    // SAFETY: the event outlives the call.
    checked(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), add, number, &raw mut event) })?;
    Ok(epoll)
}

/// Marks the event that the thread of [`end_when_hung_up`] waits for. A task may close all descriptors, and
/// have opened another epoll descriptor with the same number when a signal interrupts that thread.
const HUNG_UP: u64 = u64::from_le_bytes(*b"hung up!");

/// Starts the thread of [`end_when_hung_up`], with all signals blocked except those that the C library uses
/// itself.
fn start_guard(epoll: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: a sigset_t is numbers, for which zero is valid.
    let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: a sigset_t is numbers, for which zero is valid.
    let mut before: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set outlives the call.
    unsafe { libc::sigfillset(&raw mut all) };
    // SAFETY: both sets outlive the call.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before) };
    let started = start_thread(end_at_hang_up, epoll);
    // SAFETY: the set outlives the call, which is given no buffer for the old one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut()) };
    started
}

/// Starts a detached thread by `pthread_create`, on a small stack. A thread of std allocates, and a second
/// thread that allocates costs a process 64 MiB of address space.
fn start_thread(
    run: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    descriptor: BorrowedFd<'_>,
) -> io::Result<()> {
    const STACK: usize = 64 << 10;
    let argument = ptr::without_provenance_mut(descriptor.as_raw_fd().unsigned_abs() as usize);
    let mut thread = MaybeUninit::<libc::pthread_t>::uninit();
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::uninit();
    let attributes = attributes.as_mut_ptr();
    // SAFETY: the memory is a local variable of the right type.
    answered(unsafe { libc::pthread_attr_init(attributes) })?;
    // SAFETY: the attributes were initialized above.
    unsafe { libc::pthread_attr_setdetachstate(attributes, libc::PTHREAD_CREATE_DETACHED) };
    let mut create = || {
        // SAFETY: the attributes were initialized above; `run` takes a number as its argument, and accesses
        // no memory of this function.
        answered(unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes, run, argument) })
    };
    let resize = |bytes: usize| {
        // SAFETY: the attributes were initialized above.
        answered(unsafe { libc::pthread_attr_setstacksize(attributes, bytes) })
    };
    let mut start = |stack: usize| resize(stack).and_then(|()| create());
    // If the thread-locals do not fit, the stack is as large as std's default.
    let started = start(STACK.max(libc::PTHREAD_STACK_MIN)).or_else(|_| start(2 << 20));
    // SAFETY: the attributes were initialized above, and are not used any more.
    unsafe { libc::pthread_attr_destroy(attributes) };
    started
}

/// The result of a call that returns an error number, or 0 for success.
fn answered(number: libc::c_int) -> io::Result<()> {
    match number {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Waits on the epoll descriptor whose number is the argument, then kills the process and its process group.
extern "C" fn end_at_hang_up(epoll: *mut libc::c_void) -> *mut libc::c_void {
    let epoll = epoll.addr() as libc::c_int;
    set_title(c"link guard");
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let told = retried(|| {
        // SAFETY: the event outlives the call.
        checked(unsafe { libc::epoll_wait(epoll, &raw mut event, 1, -1) })
    });
    // Otherwise a task has closed the epoll descriptor, and the thread has nothing to wait on any more.
    let is_own = event.u64 == HUNG_UP;
    if told.is_ok() && is_own {
        end_tree();
    }
    ptr::null_mut()
}

/// Kills this process, and the process group that it leads or led.
fn end_tree() -> ! {
    const KILLED: libc::c_int = 128 + libc::SIGKILL;
    // SAFETY: no memory is touched; cannot fail.
    let pid = unsafe { libc::getpid() };
    for target in [-pid, pid] {
        // SAFETY: no memory is touched. The group's id is this process's own id.
        unsafe { libc::kill(target, libc::SIGKILL) };
    }
    // For the case that a system call filter refuses even SIGKILL.
    // SAFETY: ends the process; no code of it runs any more.
    unsafe { libc::_exit(KILLED) }
}

/// Sets the name of the calling thread in process lists.
pub(crate) fn set_title(title: &CStr) {
    // SAFETY: the string outlives the call, which copies it.
    unsafe { libc::prctl(libc::PR_SET_NAME, title.as_ptr()) };
}

/// Makes allocations beyond `bytes` bytes (`RLIMIT_DATA`) fail, in this process and those that it starts.
pub(crate) fn limit_memory(bytes: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure outlives the call.
    checked(unsafe { libc::getrlimit(libc::RLIMIT_DATA, &raw mut limit) })?;
    // A lower limit that the process already has is not raised.
    limit.rlim_max = limit.rlim_max.min(narrow(bytes, libc::rlim_t::MAX));
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: the structure outlives the call.
    checked(unsafe { libc::setrlimit(libc::RLIMIT_DATA, &raw const limit) }).map(|_| ())
}

/// Restores the default action of signals that this process ignores: it inherited that from the program, and
/// programs that tasks execute would inherit it in turn. Except SIGPIPE, which every Rust program ignores,
/// and SIGHUP, which `nohup` wants ignored in workers, too.
pub(crate) fn heed_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        if ![libc::SIGPIPE, libc::SIGHUP].contains(&signal) && is_ignored(signal) {
            // SAFETY: SIG_DFL runs no code of this program.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
}

/// Whether this process ignores a signal.
fn is_ignored(signal: libc::c_int) -> bool {
    // SAFETY: a sigaction is numbers and pointers, for which zero is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the buffer outlives the call, which changes nothing. It fails for signals that the C library
    // reserves for itself.
    let answer = unsafe { libc::sigaction(signal, ptr::null(), &raw mut action) };
    answer == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Leaves the reaction to Ctrl-C to the program, and lets background output through. SIGINT does nothing in
/// this process: by a handler, which unlike SIG_IGN is not inherited by programs that tasks execute. SIGTTOU
/// is the only blocked signal, whatever the program has blocked: a worker that blocked SIGTERM could not be
/// asked to end.
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
    // SAFETY: the set outlives the call, which is given no buffer for the old one.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// Flushes the C library's buffer of standard output, if it is not empty.
pub(crate) fn flush_c_output() {
    unsafe extern "C" {
        /// The C library's stream of standard output.
        static stdout: *mut libc::FILE;
        /// Returns the number of bytes that a stream has buffered.
        fn __fpending(stream: *mut libc::FILE) -> libc::size_t;
    }
    // SAFETY: the C library sets it before any code of this program runs.
    let stream = unsafe { stdout };
    // SAFETY: the stream is the C library's own; a racing writer can only make the result outdated.
    if unsafe { __fpending(stream) } > 0 {
        // SAFETY: the stream is the C library's own.
        unsafe { libc::fflush(stream) };
    }
}

/// Waits for the signal that ends this process, for at most the time `limit`.
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

/// Ends a forked copy of a worker: runs no exit handlers and flushes nothing.
pub(crate) fn exit_forked_copy() -> ! {
    // SAFETY: ends the process; no code of it runs any more.
    unsafe { libc::_exit(0) }
}

/// The number of the core that the calling thread runs on; `None` if it is not known.
pub(crate) fn current_core() -> Option<u32> {
    if cfg!(miri) {
        return None; // Miri does not know it
    }
    // SAFETY: sched_getcpu accesses no memory of this program.
    let core = unsafe { libc::sched_getcpu() };
    u32::try_from(core).ok()
}

/// Moves the calling thread off `core`, if it may run on another one. Afterwards its affinity mask is as
/// before, so that the kernel may move it back.
pub(crate) fn leave_core(core: u32) {
    drop(stay_off(core));
}

/// Moves the calling thread off `core`, and excludes `core` from its affinity mask until the guard is
/// dropped, by the same thread. `None`: the thread may not run on another core, or its mask is not known.
pub(crate) fn stay_off(core: u32) -> Option<AffinityGuard> {
    let core = core as usize;
    let before = allowed_cores().filter(|_| core < libc::CPU_SETSIZE as usize)?;
    let mut others = before;
    // SAFETY: the core is within the set.
    unsafe { libc::CPU_CLR(core, &mut others) };
    // SAFETY: the set is a local variable.
    if unsafe { libc::CPU_COUNT(&others) } == 0 {
        return None;
    }
    allow_cores(&others);
    Some(AffinityGuard { before, others })
}

/// Keeps the thread that made it off a core; dropping it restores the thread's affinity mask.
pub(crate) struct AffinityGuard {
    /// The thread's mask before.
    before: libc::cpu_set_t,
    /// The thread's mask while the guard lives.
    others: libc::cpu_set_t,
}

impl std::fmt::Debug for AffinityGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AffinityGuard").finish_non_exhaustive()
    }
}

impl Drop for AffinityGuard {
    fn drop(&mut self) {
        // If the mask was changed by other code meanwhile, that change stays.
        // SAFETY: both sets are valid, and only read.
        let stands = |now: &libc::cpu_set_t| unsafe { libc::CPU_EQUAL(now, &self.others) };
        if allowed_cores().as_ref().is_some_and(stands) {
            allow_cores(&self.before);
        }
    }
}

/// Sets the affinity mask of the calling thread; if the system refuses, the mask stays as it was.
fn allow_cores(set: &libc::cpu_set_t) {
    // SAFETY: the set is as large as said, and only read.
    unsafe { libc::sched_setaffinity(0, size_of_val(set), set) };
}

/// The affinity mask of the calling thread; `None` on failure, for example if there are more cores than the
/// set can hold.
fn allowed_cores() -> Option<libc::cpu_set_t> {
    // SAFETY: a cpu_set_t is bits, for which zero is valid.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is as large as said, and a local variable.
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
        leave_core(u32::MAX); // no such core
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
            return; // there is no other core
        };
        // SAFETY: a cpu_set_t is bits, for which zero is valid.
        let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the core is within the set.
        unsafe { libc::CPU_SET(core, &mut one) };
        allow_cores(&one);
        drop(away);
        assert_eq!(allowed(), [core]);
        allow_cores(&before);
    }
}
