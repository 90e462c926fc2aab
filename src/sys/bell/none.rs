//! Systems on which this crate has no bells.

use std::io;

use crate::sys::handle::OwnedHandle;
use crate::sys::unsupported;

/// No value has this type.
pub(crate) struct Bell(OwnedHandle);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn ring(&self) {
        self.0.never()
    }

    pub(crate) fn clear(&self) {
        self.0.never()
    }
}
