//! Linux.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Instant;

use crate::sys::call::{checked, retried, wide};
use crate::sys::descriptors::system::above_standard;
use crate::sys::stream::MAX_PASSED;

/// One end of a pair of connected sockets.
pub(crate) use std::os::unix::net::UnixStream as Stream;

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

/// Waits for an event on one of the descriptors, or until the deadline. Returns which have an event.
pub(in crate::sys) fn poll_until<const N: usize>(
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
pub(crate) fn socket_pair() -> io::Result<(Stream, Stream)> {
    let (one, other) = Stream::pair()?;
    let high = |end: Stream| above_standard(end.into()).map(Stream::from);
    Ok((high(one)?, high(other)?))
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
