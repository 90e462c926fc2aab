//! What the other files of the room share: results and numbers of system calls, as std has them.

use std::io;

/// Repeats a call that a signal interrupted.
pub(super) fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// The result of a call that returns -1 on failure.
pub(super) fn checked<T: PartialEq + From<i8>>(answer: T) -> io::Result<T> {
    if answer == T::from(-1) {
        Err(io::Error::last_os_error())
    } else {
        Ok(answer)
    }
}

/// Converts a number of the C library, which has 32 bits on some systems, to 64 bits.
pub(super) fn wide(number: impl Into<u64>) -> u64 {
    number.into()
}

/// The result of a call that returns an error number, or 0 for success.
pub(super) fn answered(number: libc::c_int) -> io::Result<()> {
    match number {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}
