//! Systems on which this crate shares no memory.

use std::convert::Infallible;
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

/// No value has this type.
#[derive(Debug)]
pub(in crate::sys) struct Reservation(Infallible);

impl Reservation {
    pub(in crate::sys) fn new(_: usize) -> io::Result<Self> {
        Err(unsupported())
    }

    pub(in crate::sys) fn start(&self) -> NonNull<u8> {
        match self.0 {}
    }

    pub(in crate::sys) fn map_shared(
        &self,
        _: usize,
        _: BorrowedHandle<'_>,
        _: u64,
        _: usize,
        _: Access,
    ) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::sys) fn map_constant(
        &self,
        _: usize,
        _: BorrowedHandle<'_>,
        _: usize,
    ) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::sys) fn protect(&self, _: usize, _: usize, _: Access) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::sys) fn keep_from_forks(&self, _: usize, _: usize) {
        match self.0 {}
    }

    pub(in crate::sys) fn prefer_huge_pages(&self, _: usize, _: usize) {
        match self.0 {}
    }

    pub(in crate::sys) fn populate_to_write(&self, _: usize, _: usize) -> io::Result<()> {
        match self.0 {}
    }

    pub(in crate::sys) fn populate_to_read(&self, _: usize, _: usize) {
        match self.0 {}
    }

    pub(in crate::sys) fn release(&mut self) {
        match self.0 {}
    }
}

/// As on most systems. What is laid out in pages is not mapped here.
pub(crate) fn page_size() -> usize {
    4096
}

pub(crate) fn prefer_huge_pages<T>(_: &mut [MaybeUninit<T>]) {}
