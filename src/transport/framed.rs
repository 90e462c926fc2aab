//! Frames over a Unix socket: one end of a connection between the program and a worker process. Used by both
//! sides (`process/host/`, `process/worker/`); the format of the frames is in [`wire`].

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::sync::Arc;

use crate::remote::encoded::Encoded;
use crate::sync::deadline::Deadline;
use crate::sys;
use crate::sys::handle::{AsHandle, BorrowedHandle, OwnedHandle};
use crate::sys::stream::Stream;
use crate::transport::wire::{self, Header, Kind};

/// One end of a connection: sends bytes, and receives frames.
pub(crate) struct FramedStream {
    /// The connected socket.
    stream: Arc<Stream>,
    /// Bytes that were received and not consumed: `buffer[start..end]`.
    buffer: Box<[u8]>,
    /// Start of the bytes in `buffer` that were not consumed.
    start: usize,
    /// End of the bytes in `buffer` that were received.
    end: usize,
    /// Whole frames that were received before one that was needed first (`receive_first`), and not consumed:
    /// they come before those of `buffer`.
    set_aside: VecDeque<u8>,
    /// Descriptors that were received and not taken, at most [`sys::stream::MAX_PASSED`].
    passed: Vec<OwnedHandle>,
    /// When waiting for bytes fails as `TimedOut`.
    deadline: Deadline,
}

/// The result of a receive on a framed stream.
pub(crate) enum Received<T> {
    /// A frame, or a part of one, was received.
    Some(T),
    /// The other side closed its end, between two frames.
    Closed,
}

/// The size of the receive buffer in bytes; many small frames are received in one call.
const BUFFER: usize = 64 << 10;

impl FramedStream {
    pub(crate) fn new(stream: Arc<Stream>) -> Self {
        Self {
            stream,
            buffer: vec![0; BUFFER].into(),
            start: 0,
            end: 0,
            set_aside: VecDeque::new(),
            passed: Vec::new(),
            deadline: Deadline::never(),
        }
    }

    /// Sets the deadline after which waiting for bytes fails as `TimedOut`.
    pub(crate) fn give_up_at(&mut self, deadline: Deadline) {
        self.deadline = deadline;
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    pub(crate) fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Sends all parts, one after the other.
    pub(crate) fn send(&self, parts: &[&[u8]]) -> io::Result<()> {
        self.send_with(parts, &[])
    }

    /// Sends all parts, one after the other, and the descriptors along with the first byte.
    pub(crate) fn send_with(
        &self,
        parts: &[&[u8]],
        descriptors: &[BorrowedHandle<'_>],
    ) -> io::Result<()> {
        self.send_counting(parts, descriptors, &mut 0)
    }

    /// Sends a frame; if shared memory is attached to its body, a `Memory` frame with the descriptors goes
    /// first.
    pub(crate) fn send_bringing(&self, header: Header, body: &Encoded) -> io::Result<()> {
        let brought = body.attachments();
        if brought.is_empty() {
            return self.send(&[&header.to_bytes(), body]);
        }
        let memory = wire::frame(Kind::Memory, &brought.ids());
        let parts: [&[u8]; 3] = [&memory, &header.to_bytes(), body];
        self.send_with(&parts, &brought.descriptors())
    }

    /// Like `send_with`; also adds the number of bytes that were sent to `count`, even if an error follows.
    pub(crate) fn send_counting(
        &self,
        parts: &[&[u8]],
        descriptors: &[BorrowedHandle<'_>],
        count: &mut usize,
    ) -> io::Result<()> {
        send_counting(&self.stream, parts, descriptors, count)
    }

    /// Receives the next header.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` if the bytes are no header; `UnexpectedEof` if the other side
    /// closed its end inside a header.
    pub(crate) fn receive_header(&mut self) -> io::Result<Received<Header>> {
        if !self.set_aside.is_empty() {
            let mut bytes = [0; Header::SIZE];
            // Only whole frames are set aside.
            self.set_aside.read_exact(&mut bytes)?;
            return header_of(&bytes);
        }
        self.receive_new_header()
    }

    /// Receives the next header that does not lie aside.
    fn receive_new_header(&mut self) -> io::Result<Received<Header>> {
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
        let header = header_of(bytes);
        self.start += Header::SIZE;
        header
    }

    /// Receives the next frame of this kind, which has no body. Frames that come before it are set aside, and
    /// are received afterwards.
    ///
    /// # Errors
    /// Those of `receive_header`.
    pub(crate) fn receive_first(&mut self, kind: Kind) -> io::Result<Received<Header>> {
        let mut body = Vec::new();
        loop {
            let header = match self.receive_new_header()? {
                Received::Some(header) if header.kind != kind => header,
                received => return Ok(received),
            };
            self.receive_new_body(header.length, &mut body)?;
            self.set_aside.extend(header.to_bytes());
            self.set_aside.extend(&body);
        }
    }

    /// Receives the next `length` bytes, replacing the contents of `body`. Memory grows with the bytes that
    /// have come, not with the length that was announced.
    pub(crate) fn receive_body(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        if self.set_aside.is_empty() {
            return self.receive_new_body(length, body);
        }
        body.clear();
        // Only whole frames are set aside.
        (&mut self.set_aside).take(length).read_to_end(body)?;
        Ok(())
    }

    fn receive_new_body(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        body.clear();
        let buffered = (self.end - self.start).min(usize::try_from(length).unwrap_or(usize::MAX));
        body.extend_from_slice(&self.buffer[self.start..self.start + buffered]);
        self.start += buffered;
        let mut rest = length - buffered as u64;
        while rest > 0 {
            let part = rest.min(make_room(body, rest) as u64);
            // std reads into memory that was not cleared first.
            let read = match self.deadline.is_never() {
                true => (&*self.stream).take(part).read_to_end(body)?,
                false => AwaitedBytes(self).take(part).read_to_end(body)?,
            };
            if read as u64 != part {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            rest -= part;
        }
        Ok(())
    }

    /// Whether bytes were received and not consumed.
    pub(crate) fn has_buffered(&self) -> bool {
        self.start < self.end || !self.set_aside.is_empty()
    }

    /// Takes the descriptors that came with the last header.
    pub(crate) fn take_passed(&mut self) -> Vec<OwnedHandle> {
        std::mem::take(&mut self.passed)
    }

    /// Receives some bytes into the buffer, and returns how many; 0: the other side has closed its end.
    fn fill(&mut self) -> io::Result<usize> {
        if self.start == self.end {
            self.passed.clear(); // they were not asked for: close them
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.await_bytes()?;
        let (received, passed) =
            sys::stream::receive(self.stream.as_handle(), &mut self.buffer[self.end..])?;
        self.end += received;
        self.passed.extend(passed);
        // A sender of more descriptors than a frame can have does not make this side keep them open.
        self.passed.truncate(sys::stream::MAX_PASSED);
        Ok(received)
    }

    /// Waits for bytes, if there is a deadline. A time limit of the socket would not do: it would begin anew
    /// after each signal, and after each stop at the terminal.
    fn await_bytes(&self) -> io::Result<()> {
        if self.deadline.is_never() {
            return Ok(());
        }
        let deadline = self.deadline.moment();
        match sys::stream::poll_readable([Some(self.stream.as_handle())], deadline)? {
            [true] => Ok(()),
            [false] => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

fn header_of(bytes: &[u8; Header::SIZE]) -> io::Result<Received<Header>> {
    match Header::from_bytes(bytes) {
        Some(header) => Ok(Received::Some(header)),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no frame header",
        )),
    }
}

/// Sends a frame without a body over a socket.
pub(crate) fn send_signal(stream: &Stream, frame: &[u8; Header::SIZE]) -> io::Result<()> {
    send_counting(stream, &[frame], &[], &mut 0)
}

/// Sends all parts, and the descriptors along with the first byte; adds the number of bytes that were sent to
/// `count`.
fn send_counting(
    stream: &Stream,
    parts: &[&[u8]],
    descriptors: &[BorrowedHandle<'_>],
    count: &mut usize,
) -> io::Result<()> {
    let mut slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    let mut descriptors = descriptors;
    IoSlice::advance_slices(&mut rest, 0); // skips empty parts
    while !rest.is_empty() {
        let sent = sys::stream::send(stream.as_handle(), rest, descriptors)?;
        descriptors = &[];
        *count += sent;
        IoSlice::advance_slices(&mut rest, sent);
    }
    Ok(())
}

/// Reserves memory for a part of the `rest` bytes to come, and returns its length: the more bytes have come,
/// the longer the part.
fn make_room(body: &mut Vec<u8>, rest: u64) -> usize {
    /// The length of the first part, in bytes: no memory is reserved before as many bytes have come.
    const FIRST: usize = 64 << 10;

    let wanted = usize::try_from(rest).unwrap_or(usize::MAX);
    let part = wanted.min(body.len().max(FIRST));
    if body.len() >= FIRST && body.capacity() - body.len() < part {
        body.reserve_exact(part);
        sys::memory::prefer_huge_pages(body.spare_capacity_mut());
    }
    part
}

/// The bytes that come from the socket of a framed stream, after those in its buffer, until its deadline.
struct AwaitedBytes<'a>(&'a FramedStream);

impl Read for AwaitedBytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // A sender that never pauses must be late, too: the deadline is checked before each read.
        if self.0.deadline.has_passed() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.await_bytes()?;
        (&*self.0.stream).read(buffer)
    }
}

#[cfg(test)]
mod tests;
