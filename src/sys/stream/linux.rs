//! Linux.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use crate::sys::call::{checked, wide};
use crate::sys::descriptors::system::above_standard;
use crate::sys::stream::MAX_PASSED;

/// One end of a pair of connected sockets.
pub(crate) use std::os::unix::net::UnixStream as Stream;

/// Sends some of the bytes, and all of the descriptors, without raising SIGPIPE. Returns the number of bytes.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    buffers: &[IoSlice<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    assert!(descriptors.len() <= MAX_PASSED);
    let mut space = CONTROL_SPACE;
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors));
    assert!(fits, "the buffer has room for MAX_PASSED descriptors");
    let buffers = &buffers[..buffers.len().min(MAX_BUFFERS)];
    let sent = retry_on_intr(|| sendmsg(socket, buffers, &mut control, SendFlags::NOSIGNAL))?;
    Ok(sent)
}

/// Receives some bytes, and the descriptors that came with them. Returns the number of bytes; 0: end of file.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = CONTROL_SPACE;
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(buffer)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let received = retry_on_intr(|| recvmsg(socket, &mut buffers, &mut control, flags))?;
    let passed: io::Result<_> = control
        .drain()
        .flat_map(descriptors_of)
        .map(above_standard)
        .collect();
    Ok((received.bytes, passed?))
}

/// Space for the control message of [`MAX_PASSED`] descriptors.
const CONTROL_SPACE: [MaybeUninit<u8>; rustix::cmsg_space!(ScmRights(MAX_PASSED))] =
    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_PASSED))];

/// The largest number of buffers that the kernel takes at once (`UIO_MAXIOV`).
const MAX_BUFFERS: usize = 1024;

/// The descriptors in a control message.
fn descriptors_of(message: RecvAncillaryMessage<'_>) -> impl Iterator<Item = OwnedFd> {
    let descriptors = match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    };
    descriptors.into_iter().flatten()
}

/// Waits until one of the descriptors can be read, or is hung up, or until the deadline (`None`: for ever).
/// Returns for each descriptor whether it can be read or is hung up; a `None` in the array is ignored.
pub(crate) fn poll_readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    poll_until(descriptors.map(|it| to_poll(it, libc::POLLIN)), deadline)
}

/// Waits, without limit, until one of the descriptors can be read, or is hung up. Returns for each descriptor
/// whether that is so.
pub(crate) fn poll_any_readable(descriptors: &[BorrowedFd<'_>]) -> io::Result<Vec<bool>> {
    poll_any(
        descriptors
            .iter()
            .map(|it| to_poll(Some(*it), libc::POLLIN)),
    )
}

/// Waits, without limit, until `readable` can be read, or one of the descriptors is hung up. Returns for each
/// descriptor, `readable` first, whether that is so.
pub(crate) fn poll_readable_or_any_hung_up(
    readable: BorrowedFd<'_>,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<Vec<bool>> {
    let first = to_poll(Some(readable), libc::POLLIN);
    // A descriptor that is hung up is always reported.
    let others = descriptors.iter().map(|it| to_poll(Some(*it), 0));
    poll_any([first].into_iter().chain(others))
}

/// Waits, without limit, for an event on one of the descriptors. Returns which have an event.
fn poll_any(polled: impl Iterator<Item = libc::pollfd>) -> io::Result<Vec<bool>> {
    let mut polled: Vec<_> = polled.collect();
    await_event(&mut polled, None)?;
    Ok(polled.iter().map(|p| p.revents != 0).collect())
}

/// Waits until one of `readable` can be read, or `writable` can be written, or one is hung up, or until the
/// deadline (`None`: for ever). Returns for each descriptor, `writable` last, whether that happened.
pub(crate) fn poll_readable_or_writable(
    readable: [Option<BorrowedFd<'_>>; 6],
    writable: Option<BorrowedFd<'_>>,
    deadline: Option<Instant>,
) -> io::Result<[bool; 7]> {
    let [first, second, third, fourth, fifth, sixth] = readable.map(|it| to_poll(it, libc::POLLIN));
    let last = to_poll(writable, libc::POLLOUT);
    poll_until([first, second, third, fourth, fifth, sixth, last], deadline)
}

/// The argument of `poll` for `descriptor`; for `None`, one that `poll` ignores.
pub(in crate::sys) fn to_poll(
    descriptor: Option<BorrowedFd<'_>>,
    events: libc::c_short,
) -> libc::pollfd {
    libc::pollfd {
        // poll ignores negative descriptors.
        fd: descriptor.map_or(-1, |d| d.as_raw_fd()),
        events,
        revents: 0,
    }
}

/// Waits for an event on one of the descriptors, or until the deadline. Returns which have an event. Calls the
/// C library: rustix's type has no value for a descriptor that is not there, which `poll` ignores.
pub(in crate::sys) fn poll_until<const N: usize>(
    mut polled: [libc::pollfd; N],
    deadline: Option<Instant>,
) -> io::Result<[bool; N]> {
    await_event(&mut polled, deadline)?;
    Ok(polled.map(|p| p.revents != 0))
}

/// Waits for an event on one of the descriptors, or until the deadline.
fn await_event(polled: &mut [libc::pollfd], deadline: Option<Instant>) -> io::Result<()> {
    let count = polled.len() as libc::nfds_t;
    loop {
        let milliseconds = deadline.map_or(-1, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: no busy wait for the last fraction of a millisecond.
            i32::try_from(left.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        });
        // SAFETY: the slice has so many elements, and outlives the call.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds) };
        match checked(ready) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(()),
        }
    }
}

/// Makes two sockets that are connected with each other.
pub(crate) fn socket_pair() -> io::Result<(Stream, Stream)> {
    let (one, other) = Stream::pair()?;
    let high = |end: Stream| above_standard(end.into()).map(Stream::from);
    Ok((high(one)?, high(other)?))
}

/// Whether the other end of a socket was closed or shut down.
pub(crate) fn is_hung_up(socket: BorrowedFd<'_>) -> bool {
    has_now(socket, PollFlags::HUP)
}

/// Whether the other end of a socket sends nothing any more: it was closed, or shut down for sending.
pub(crate) fn is_half_closed(socket: BorrowedFd<'_>) -> bool {
    has_now(socket, PollFlags::RDHUP)
}

/// Whether a descriptor has this event; does not block.
fn has_now(descriptor: BorrowedFd<'_>, event: PollFlags) -> bool {
    const AT_ONCE: Timespec = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut polled = [PollFd::from_borrowed_fd(descriptor, event)];
    let ready = poll(&mut polled, Some(&AT_ONCE));
    ready.is_ok() && polled[0].revents().contains(event)
}

/// The inode number of the socket behind a descriptor; `None` if it is no socket.
pub(crate) fn socket_number(descriptor: BorrowedFd<'_>) -> Option<u64> {
    let facts = fstat(descriptor).ok()?;
    let is_socket = FileType::from_raw_mode(facts.st_mode) == FileType::Socket;
    is_socket.then_some(wide(facts.st_ino))
}
