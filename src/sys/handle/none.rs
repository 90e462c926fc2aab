//! Systems on which this crate has no handles: nothing can be owned, and what is borrowed stands for nothing.

use std::convert::Infallible;
use std::fs::{File, Metadata};
use std::io;
use std::marker::PhantomData;
use std::process::{ChildStderr, Stdio};

use crate::sys::unsupported;

/// No value has this type.
#[derive(Debug)]
pub(crate) struct OwnedHandle(Infallible);

/// Stands for no file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BorrowedHandle<'a>(PhantomData<&'a ()>);

pub(crate) trait AsHandle {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        BorrowedHandle(PhantomData)
    }
}

impl<T: ?Sized> AsHandle for T {}

impl OwnedHandle {
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        self.never()
    }

    /// What a value of this type does: there is none.
    pub(in crate::sys) fn never(&self) -> ! {
        match self.0 {}
    }
}

impl From<OwnedHandle> for File {
    fn from(handle: OwnedHandle) -> Self {
        handle.never()
    }
}

impl From<OwnedHandle> for Stdio {
    fn from(handle: OwnedHandle) -> Self {
        handle.never()
    }
}

impl From<OwnedHandle> for ChildStderr {
    fn from(handle: OwnedHandle) -> Self {
        handle.never()
    }
}

pub(crate) fn number_of(_: BorrowedHandle<'_>) -> u32 {
    0
}

pub(crate) fn file_number(_: &Metadata) -> u64 {
    0
}

pub(crate) fn held_file_number(_: u32, _: u32) -> io::Result<Option<u64>> {
    Err(unsupported())
}

pub(crate) fn open_held(_: u32, _: u32) -> io::Result<OwnedHandle> {
    Err(unsupported())
}

pub(crate) fn is_open_to_others() -> bool {
    false
}

pub(crate) fn number_in_proc() -> Option<u32> {
    None
}
