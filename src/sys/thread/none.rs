//! Systems whose threads this crate does not know.

use std::ffi::CStr;
use std::hash::{DefaultHasher, Hash, Hasher};

pub(crate) fn is_main_thread() -> bool {
    false
}

pub(crate) fn is_single_threaded() -> bool {
    false
}

/// Made of std's id of the thread: another one for each thread of this process.
pub(crate) fn native_id() -> u64 {
    let mut hasher = DefaultHasher::new();
    std::thread::current().id().hash(&mut hasher);
    hasher.finish()
}

pub(crate) fn set_title(_: &CStr) {}
