//! Systems whose users this crate does not know. No worker is started there, and no process takes itself for
//! one.

use std::io;
use std::path::Path;

use crate::sys::handle::BorrowedHandle;
use crate::sys::unsupported;

pub(crate) fn has_gained_rights() -> bool {
    false
}

pub(crate) fn would_gain_rights(_: &Path) -> bool {
    false
}

pub(crate) fn real_user() -> u32 {
    0
}

pub(crate) fn effective_user() -> u32 {
    0
}

pub(crate) fn peer_user(_: BorrowedHandle<'_>) -> io::Result<u32> {
    Err(unsupported())
}
