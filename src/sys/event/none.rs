//! Systems on which this crate has no events of that kind.

use std::io;

use crate::sys::handle::OwnedHandle;
use crate::sys::unsupported;

/// No value has this type.
pub(crate) struct Event(OwnedHandle);

impl Event {
    pub(crate) fn new() -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn set(&self) {
        self.0.never()
    }

    pub(crate) fn clear(&self) {
        self.0.never()
    }
}
