//! Frames over a socket: one end of a link.

use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Instant;

use crate::remote::encoded::Encoded;
use crate::sys;
use crate::transport::wire::{self, Header, Kind};

/// One end of a link, which sends bytes and receives frames.
pub(crate) struct FramedStream {
    /// The socket.
    stream: Arc<UnixStream>,
    /// Received and not consumed: `buffer[start..end]`.
    buffer: Box<[u8]>,
    /// See `buffer`.
    start: usize,
    /// See `buffer`.
    end: usize,
    /// Descriptors that came along.
    passed: Vec<OwnedFd>,
    /// When waiting for bytes gives up; `None`: never.
    deadline: Option<Instant>,
}

/// What a channel heard.
pub(crate) enum Received<T> {
    /// This.
    Some(T),
    /// The other side closed its end, between two frames.
    Closed,
}

/// Small frames are received many at a time.
const BUFFER: usize = 64 << 10;

impl FramedStream {
    pub(crate) fn new(stream: Arc<UnixStream>) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            passed: Vec::new(),
            deadline: None,
        }
    }

    /// From now on, waiting for bytes fails at this moment as `TimedOut`.
    pub(crate) fn give_up_at(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(crate) fn stream(&self) -> &Arc<UnixStream> {
        &self.stream
    }

    /// Sends all of these, one after the other.
    pub(crate) fn send(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.send_with(parts, &[])
    }

    /// Sends all of these, and descriptors along with the first byte.
    pub(crate) fn send_with(
        &self,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        self.send_counting(parts, descriptors, &mut 0)
    }

    /// Sends a frame whose body brings what shared memory it has in its manifest.
    pub(crate) fn send_bringing(&self, header: Header, body: &Encoded) -> io::Result<()> {
        let brought = body.attachments();
        if brought.is_empty() {
            return self.send(&[&header.to_bytes(), body]);
        }
        let memory = wire::frame(Kind::Memory, &brought.ids());
        let parts: [&[u8]; 3] = [&memory, &header.to_bytes(), body];
        self.send_with(&parts, &brought.descriptors())
    }

    /// As `send_with`, and counts the bytes that were sent, also before an error.
    pub(crate) fn send_counting(
        &self,
        parts: &[&[u8]],
        descriptors: &[BorrowedFd<'_>],
        count: &mut usize,
    ) -> io::Result<()> {
        send_counting(&self.stream, parts, descriptors, count)
    }

    /// The next header.
    ///
    /// # Errors
    /// Of the socket; `InvalidData` if what came is none; `UnexpectedEof` inside of one.
    pub(crate) fn receive_header(&mut self) -> io::Result<Received<Header>> {
        while self.end - self.start < Header::SIZE {
            if self.fill()? == 0 {
                if self.start == self.end {
                    return Ok(Received::Closed);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let Some(bytes) = self.buffer[self.start..self.end].first_chunk() else {
            unreachable!("the loop leaves at least a header")
        };
        let header = Header::from_bytes(bytes);
        self.start += Header::SIZE;
        match header {
            Some(header) => Ok(Received::Some(header)),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no frame header",
            )),
        }
    }

    /// The next bytes, replacing what `body` holds. Memory grows with what has come, not with
    /// what was announced.
    pub(crate) fn receive_body(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        body.clear();
        let buffered = (self.end - self.start).min(usize::try_from(length).unwrap_or(usize::MAX));
        body.extend_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        let mut rest = length - buffered as u64;
        while rest > 0 {
            let part = rest.min(make_room(body, rest) as u64);
            // std reads into memory that nobody has cleared.
            let read = match self.deadline {
                None => (&*self.stream).take(part).read_to_end(body)?,
                Some(_) => AwaitedBytes(self).take(part).read_to_end(body)?,
            };
            if read as u64 != part {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest -= part;
        }
        Ok(())
    }

    /// Whether something was received and not consumed.
    pub(crate) fn has_buffered(&self) -> bool {
        self.start < self.end
    }

    /// The descriptors that came with the last header.
    pub(crate) fn take_passed(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.passed)
    }

    /// Receives some bytes into the buffer; 0: the other side has closed its end.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            self.passed.clear(); // nobody has asked for them
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.await_bytes()?;
        let (received, passed) = sys::receive(self.stream.as_fd(), &mut self.buffer[self.end..])?;
        self.end += received;
        self.passed.extend(passed);
        // Who sends more than a frame can have gets nothing kept open by it.
        self.passed.truncate(sys::MAX_PASSED);
        Ok(received)
    }

    /// Waits for bytes, where that has an end. Not left to a time limit of the socket: that would
    /// begin anew after each signal, and after each stop at the terminal.
    fn await_bytes(&self) -> io::Result<()> {
        if self.deadline.is_none() {
            return Ok(());
        }
        match sys::poll_readable([Some(self.stream.as_fd())], self.deadline)? {
            [true] => Ok(()),
            [false] => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// Sends a frame that has no body over a socket.
pub(crate) fn send_signal(stream: &UnixStream, frame: &[u8; Header::SIZE]) -> io::Result<()> {
    send_counting(stream, &[frame], &[], &mut 0)
}

/// Sends all of these, and descriptors along with the first byte; counts the bytes that were sent.
fn send_counting(
    stream: &UnixStream,
    parts: &[&[u8]],
    descriptors: &[BorrowedFd<'_>],
    count: &mut usize,
) -> io::Result<()> {
    let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    let mut descriptors = descriptors;
    IoSlice::advance_slices(&mut rest, 0); // skips empty ones
    while !rest.is_empty() {
        let sent = sys::send(stream.as_fd(), rest, descriptors)?;
        descriptors = &[];
        *count += sent;
        IoSlice::advance_slices(&mut rest, sent);
    }
    Ok(())
}

/// Makes room for some of so many bytes: the more, the more have come.
fn make_room(body: &mut Vec<u8>, rest: u64) -> usize {
    /// So many come before it begins.
    const FIRST: usize = 64 << 10;

    let wanted = usize::try_from(rest).unwrap_or(usize::MAX);
    let part = wanted.min(body.len().max(FIRST));
    if body.len() >= FIRST && body.capacity() - body.len() < part {
        body.reserve_exact(part);
        sys::prefer_huge_pages(body.spare_capacity_mut());
    }
    part
}

/// The bytes of a channel behind those that it has buffered.
struct AwaitedBytes<'a>(&'a FramedStream);

impl Read for AwaitedBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Whoever sends without a pause is late, too.
        if self.0.deadline.is_some_and(|end| end <= Instant::now()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.await_bytes()?;
        (&*self.0.stream).read(buffer)
    }
}

#[cfg(test)]
mod tests;
