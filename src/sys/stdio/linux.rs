//! Linux.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

use crate::sys::call::{checked, retried};
use crate::sys::descriptors::system::{ABOVE_STANDARD, above_standard, copy_from};
use crate::sys::stream::system::{poll_until, to_poll};

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

/// The number of the descriptor of standard input.
pub(crate) const INPUT: RawFd = libc::STDIN_FILENO;

/// The number of the descriptor of standard output.
pub(crate) const OUTPUT: RawFd = libc::STDOUT_FILENO;

/// The number of the descriptor of standard error.
pub(crate) const ERROR: RawFd = libc::STDERR_FILENO;

/// The file of the system that is empty, and discards what is written to it.
pub(crate) const NULL: &str = "/dev/null";

/// Opens `/dev/null` for writing: data written to it are discarded.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    above_standard(File::options().write(true).open(NULL)?.into())
}

/// Makes standard input of this process empty.
pub(crate) fn empty_input() -> io::Result<()> {
    redirect(File::open(NULL)?.as_fd(), libc::STDIN_FILENO)
}

/// Reads bytes of a file, from the place `start` on, without moving the file's offset. Returns how many.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<usize> {
    file.read_at(bytes, start)
}

/// Makes descriptor number `number` (0, 1 or 2) a copy of `descriptor`.
pub(crate) fn redirect(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    retried(|| {
        // SAFETY: no memory is touched; no code in particular owns 0, 1 and 2.
        checked(unsafe { libc::dup2(descriptor.as_raw_fd(), number) }).map(|_| ())
    })
}

/// Returns a copy of standard input, output or error of this process; `/dev/null` if it was closed, also
/// where another file has taken its number since.
pub(crate) fn standard(number: RawFd) -> io::Result<OwnedFd> {
    match is_inherited(number) {
        true => copy_from(number, ABOVE_STANDARD).or_else(|_| open_null()),
        false => open_null(),
    }
}

/// Whether children inherit this descriptor. They inherit the standard ones; they do not inherit what a
/// library opens, for example the pipe by which std learns that a child could not be started.
fn is_inherited(number: RawFd) -> bool {
    // SAFETY: no memory is touched.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// Makes writes through any copy of the descriptor go to the end of the file.
pub(crate) fn append_only(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is touched.
    checked(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) }).map(|_| ())
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
