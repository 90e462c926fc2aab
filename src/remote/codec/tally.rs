//! What is noted of one value while it is encoded or decoded.

use std::cell::Cell;

/// Notes on one value. Its [`Writer`](super::writer) and its [`Reader`](super::reader) count the same fields,
/// so that the two counts differ where `Serialize` leaves out what `Deserialize` expects.
#[derive(Default)]
pub(super) struct Tally {
    /// The number of fields so far: those of structs, tuples, arrays and of an enum's variants.
    fields: Cell<usize>,
    /// Why the value cannot travel, once that is known. It says more than the error of the format that
    /// follows.
    fault: Cell<Option<String>>,
}

impl Tally {
    /// Size of the encoded count, in bytes.
    pub(super) const SIZE: usize = size_of::<u16>();

    /// Counts this many fields more.
    #[inline]
    pub(super) fn add(&self, fields: usize) {
        self.fields.set(self.fields.get().wrapping_add(fields));
    }

    /// The count as a message ends with it, modulo 2^16.
    pub(super) fn count(&self) -> u16 {
        self.fields.get() as u16
    }

    /// Notes why the value cannot travel; the first reason is kept.
    #[cold]
    pub(super) fn blame(&self, fault: String) {
        self.fault.set(self.fault.take().or(Some(fault)));
    }

    /// The reason that was noted.
    pub(super) fn take_fault(&self) -> Option<String> {
        self.fault.take()
    }
}
