//! The program's end of a socket into which one worker sends: bytes in, encoded values out. What a worker sends
//! is never trusted: memory grows with the bytes that have come, and what is no value ends the stream.
//!
//! Made by `registry.rs`, read by `reader.rs`. A value is a header of [`HEADER`] bytes and its encoding.

use std::collections::VecDeque;
use std::io::{self, Read};

use crate::sys::handle::{AsHandle, BorrowedHandle};
use crate::sys::stream::Stream;

/// The program's end of a worker's socket.
pub(super) struct WorkerStream {
    /// The socket; `None`: nothing more comes. It is closed then, although what has come may have to wait.
    stream: Option<Stream>,
    /// The maximum length of a value, in bytes.
    limit: u64,
    /// Bytes that were received and are no whole value yet.
    rest: Vec<u8>,
    /// What was received whole.
    sent: VecDeque<SentValue>,
}

/// What a worker has sent.
pub(super) enum SentValue {
    /// An encoded value.
    Encoded(Vec<u8>),
    /// Something that is no value. Nothing of this worker's comes after it.
    Garbage,
}

/// Length of the header before each value, in bytes: [`MAGIC`] and the length of the value.
pub(super) const HEADER: usize = 16;

/// The first eight bytes of each value.
const MAGIC: [u8; 8] = *b"cf-value";

/// The header of a value of that many bytes.
pub(super) fn header_of(length: u64) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..8].copy_from_slice(&MAGIC);
    header[8..].copy_from_slice(&length.to_le_bytes());
    header
}

impl WorkerStream {
    pub(super) fn new(stream: Stream, limit: u64) -> Self {
        Self {
            stream: Some(stream),
            limit,
            rest: Vec::new(),
            sent: VecDeque::new(),
        }
    }

    /// Takes the next value that has come whole.
    pub(super) fn next_value(&mut self) -> Option<SentValue> {
        self.sent.pop_front()
    }

    /// Whether all was taken, and nothing more comes.
    pub(super) fn is_over(&self) -> bool {
        self.stream.is_none() && self.sent.is_empty()
    }

    /// The descriptor, to wait for bytes; `None`: nothing more comes.
    pub(super) fn descriptor(&self) -> Option<BorrowedHandle<'_>> {
        self.stream.as_ref().map(AsHandle::as_handle)
    }

    /// Receives what is there, at most as much as fits into `buffer`. The caller has found that the socket can
    /// be read from.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) {
        let Some(mut stream) = self.stream.as_ref() else {
            return;
        };
        match stream.read(buffer) {
            Ok(0) => self.end(),
            Ok(count) => self.take_in(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => self.end(),
        }
    }

    /// Ends the stream for a reason other than the worker's.
    pub(super) fn give_up(&mut self) {
        self.end();
        self.sent.push_back(SentValue::Garbage);
    }

    /// Nothing more comes.
    fn end(&mut self) {
        self.stream = None;
        self.rest = Vec::new();
    }

    fn take_in(&mut self, bytes: &[u8]) {
        self.rest.extend_from_slice(bytes);
        let mut start = 0;
        while let Some(header) = self.rest[start..].first_chunk() {
            let Some(length) = length_in(header).filter(|length| *length <= self.limit) else {
                return self.give_up();
            };
            let first = start + HEADER;
            let whole = usize::try_from(length)
                .ok()
                .and_then(|length| self.rest.get(first..first.checked_add(length)?));
            let Some(value) = whole else {
                break;
            };
            self.sent.push_back(SentValue::Encoded(value.to_vec()));
            start = first + value.len();
        }
        self.rest.drain(..start);
        if self.rest.is_empty() {
            self.rest = Vec::new(); // a large value has come
        }
    }
}

/// The length that a header says; `None`: it is no header.
fn length_in(header: &[u8; HEADER]) -> Option<u64> {
    let (magic, length) = header.split_first_chunk::<8>()?;
    let length = <[u8; 8]>::try_from(length).ok()?;
    (*magic == MAGIC).then(|| u64::from_le_bytes(length))
}
