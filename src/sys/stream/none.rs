//! Systems on which this crate has no streams.

use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use crate::sys::handle::{BorrowedHandle, OwnedHandle};
use crate::sys::unsupported;

/// No value has this type.
#[derive(Debug)]
pub(crate) struct Stream(OwnedHandle);

impl Stream {
    pub(crate) fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        self.0.never()
    }

    pub(crate) fn set_write_timeout(&self, _: Option<Duration>) -> io::Result<()> {
        self.0.never()
    }
}

impl Read for &Stream {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.never()
    }
}

impl From<OwnedHandle> for Stream {
    fn from(handle: OwnedHandle) -> Self {
        Self(handle)
    }
}

impl From<Stream> for OwnedHandle {
    fn from(stream: Stream) -> Self {
        stream.0
    }
}

pub(crate) fn send(
    _: BorrowedHandle<'_>,
    _: &[IoSlice<'_>],
    _: &[BorrowedHandle<'_>],
) -> io::Result<usize> {
    Err(unsupported())
}

pub(crate) fn receive(
    _: BorrowedHandle<'_>,
    _: &mut [u8],
) -> io::Result<(usize, Vec<OwnedHandle>)> {
    Err(unsupported())
}

pub(crate) fn poll_readable<const N: usize>(
    _: [Option<BorrowedHandle<'_>>; N],
    _: Option<Instant>,
) -> io::Result<[bool; N]> {
    Err(unsupported())
}

pub(crate) fn poll_any_readable(_: &[BorrowedHandle<'_>]) -> io::Result<Vec<bool>> {
    Err(unsupported())
}

pub(crate) fn poll_readable_or_any_hung_up(
    _: BorrowedHandle<'_>,
    _: &[BorrowedHandle<'_>],
) -> io::Result<Vec<bool>> {
    Err(unsupported())
}

pub(crate) fn poll_readable_or_writable(
    _: [Option<BorrowedHandle<'_>>; 6],
    _: Option<BorrowedHandle<'_>>,
    _: Option<Instant>,
) -> io::Result<[bool; 7]> {
    Err(unsupported())
}

pub(crate) fn socket_pair() -> io::Result<(Stream, Stream)> {
    Err(unsupported())
}

pub(crate) fn is_hung_up(_: BorrowedHandle<'_>) -> bool {
    true
}

pub(crate) fn is_half_closed(_: BorrowedHandle<'_>) -> bool {
    false
}

pub(crate) fn socket_number(_: BorrowedHandle<'_>) -> Option<u64> {
    None
}
