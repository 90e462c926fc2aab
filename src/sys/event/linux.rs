//! Linux: an eventfd.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

use crate::sys::descriptors::system::above_standard;

/// A descriptor that can be read from when the event is set until it is [cleared](Self::clear).
pub(crate) struct Event(
    /// The eventfd.
    OwnedFd,
);

impl Event {
    /// Makes an event that is not set.
    pub(crate) fn new() -> io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        above_standard(descriptor).map(Self)
    }

    /// Sets the event. Does not block.
    pub(crate) fn set(&self) {
        // Fails only when it was set some 2^64 times and not cleared: it can be read from all the same.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Resets the event. Does not block.
    pub(crate) fn clear(&self) {
        // Fails if it was not set.
        let _ = rustix::io::read(&self.0, &mut [0; size_of::<u64>()]);
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
