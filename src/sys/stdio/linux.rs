//! Linux.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Instant;

use rustix::fs::{FileType, OFlags, fcntl_setfl, fstat};
use rustix::io::{FdFlags, fcntl_getfd, retry_on_intr};
use rustix::net::{SendFlags, send};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};

use crate::sys::descriptors::system::{above_standard, copy_above_standard};
use crate::sys::stream::system::{poll_until, to_poll};

/// Writes as many of the bytes as fit, without waiting, to a file of any type. Returns how many.
///
/// # Errors
/// `WouldBlock` if nothing fits.
pub(crate) fn write_at_once(file: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    match kind_of(file) {
        Some(FileType::Socket) => send_at_once(file, bytes),
        Some(FileType::Fifo | FileType::CharacterDevice) => match open_anew(file) {
            Ok(file) => (&file).write(bytes),
            Err(_) => write_if_ready(file, bytes),
        },
        // A write to a file on a disk does not wait for a reader.
        _ => write(file, bytes),
    }
}

/// The type of a descriptor's file; `None` if the system does not tell.
fn kind_of(file: BorrowedFd<'_>) -> Option<FileType> {
    let facts = fstat(file).ok()?;
    Some(FileType::from_raw_mode(facts.st_mode))
}

/// Opens a pipe or a terminal once more, non-blocking. Setting the flag on the descriptor itself would set it
/// for all processes that share its open file description.
fn open_anew(file: BorrowedFd<'_>) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    File::options()
        .write(true)
        .custom_flags(flags.bits() as i32)
        .open(path)
}

fn send_at_once(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    Ok(retry_on_intr(|| send(socket, bytes, flags))?)
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
    Ok(retry_on_intr(|| rustix::io::write(file, bytes))?)
}

/// Makes a pipe. Returns its read end and its write end.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((above_standard(reader)?, above_standard(writer)?))
}

/// Makes a file non-blocking: reads fail with `WouldBlock` where they would wait.
pub(crate) fn never_wait(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::NONBLOCK)?)
}

/// The number of the descriptor of standard input.
pub(crate) const INPUT: RawFd = 0;

/// The number of the descriptor of standard output.
pub(crate) const OUTPUT: RawFd = 1;

/// The number of the descriptor of standard error.
pub(crate) const ERROR: RawFd = 2;

/// The file of the system that is empty, and discards what is written to it.
pub(crate) const NULL: &str = "/dev/null";

/// Opens `/dev/null` for writing: data written to it are discarded.
pub(crate) fn open_null() -> io::Result<OwnedFd> {
    above_standard(File::options().write(true).open(NULL)?.into())
}

/// Makes standard input of this process empty.
pub(crate) fn empty_input() -> io::Result<()> {
    redirect(File::open(NULL)?.as_fd(), INPUT)
}

/// Reads bytes of a file, from the place `start` on, without moving the file's offset. Returns how many.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], start: u64) -> io::Result<usize> {
    file.read_at(bytes, start)
}

/// Makes descriptor number `number` (0, 1 or 2) a copy of `descriptor`.
pub(crate) fn redirect(descriptor: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    retry_on_intr(|| match number {
        INPUT => dup2_stdin(descriptor),
        OUTPUT => dup2_stdout(descriptor),
        _ => dup2_stderr(descriptor),
    })?;
    Ok(())
}

/// Returns a copy of standard input, output or error of this process; `/dev/null` if it was closed, also
/// where another file has taken its number since.
pub(crate) fn standard(number: RawFd) -> io::Result<OwnedFd> {
    let stream = match number {
        INPUT => stdin(),
        OUTPUT => stdout(),
        _ => stderr(),
    };
    match is_inherited(stream) {
        true => copy_above_standard(stream).or_else(|_| open_null()),
        false => open_null(),
    }
}

/// Whether this process has a standard error of its own, and not another file that has got its number.
pub(crate) fn has_error_output() -> bool {
    is_inherited(stderr())
}

/// Whether children inherit this descriptor. They inherit the standard ones; they do not inherit what a
/// library opens, for example the pipe by which std learns that a child could not be started.
fn is_inherited(descriptor: BorrowedFd<'_>) -> bool {
    fcntl_getfd(descriptor).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
}

/// Makes writes through any copy of the descriptor go to the end of the file.
pub(crate) fn append_only(file: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl_setfl(file, OFlags::APPEND)?)
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
