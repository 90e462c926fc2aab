//! Systems on which this crate shares no memory.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use crate::sys::handle::{BorrowedHandle, OwnedHandle};
use crate::sys::memory::Access;
use crate::sys::unsupported;

pub(crate) fn anonymous_file(_: &CStr) -> io::Result<OwnedHandle> {
    Err(unsupported())
}

pub(crate) fn shared_file(_: &CStr) -> io::Result<OwnedHandle> {
    Err(unsupported())
}

pub(crate) fn set_size(_: BorrowedHandle<'_>, _: u64) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn allocate_part(_: BorrowedHandle<'_>, _: u64, _: usize) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn punch_hole(_: BorrowedHandle<'_>, _: u64, _: usize) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn is_without_holes(_: BorrowedHandle<'_>, _: u64, _: usize) -> bool {
    false
}

pub(crate) fn seal_size(_: BorrowedHandle<'_>) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn seal_content(_: BorrowedHandle<'_>) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn is_constant(_: BorrowedHandle<'_>) -> bool {
    false
}

pub(crate) fn keep_from_forks(_: NonNull<u8>, _: usize) {}

pub(crate) fn reserve(_: usize) -> io::Result<NonNull<u8>> {
    Err(unsupported())
}

pub(crate) fn map_shared(
    _: NonNull<u8>,
    _: BorrowedHandle<'_>,
    _: u64,
    _: usize,
    _: Access,
) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn map_constant(_: NonNull<u8>, _: BorrowedHandle<'_>, _: usize) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn protect(_: NonNull<u8>, _: usize, _: Access) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn unmap(_: NonNull<u8>, _: usize) {}

/// As on most systems. What is laid out in pages is not mapped here.
pub(crate) fn page_size() -> usize {
    4096
}

pub(crate) fn prefer_huge_pages<T>(_: &mut [MaybeUninit<T>]) {}

pub(crate) fn prefer_huge_pages_in(_: NonNull<u8>, _: usize) {}

pub(crate) fn populate_to_write(_: NonNull<u8>, _: usize) -> io::Result<()> {
    Err(unsupported())
}

pub(crate) fn populate_to_read(_: NonNull<u8>, _: usize) {}
