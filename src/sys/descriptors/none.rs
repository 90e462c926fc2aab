//! Systems on which this crate has no handles.

use std::io;

use crate::sys::handle::{BorrowedHandle, OwnedHandle};
use crate::sys::unsupported;

pub(crate) fn copy_high(_: BorrowedHandle<'_>) -> io::Result<OwnedHandle> {
    Err(unsupported())
}

pub(crate) fn leaves_room(_: BorrowedHandle<'_>) -> bool {
    false
}
