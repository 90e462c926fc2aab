//! Encoding of the outcomes of a map's items in a slot of the shared-memory queue: each outcome follows two
//! bytes that hold its length, and whether it is a fault.

use crate::remote::lease::EAGER_LIMIT;

/// Bit that is set in a length if a fault follows.
const IS_FAULT: u16 = 1 << 15;

// A length has the bits below.
const _: () = assert!(EAGER_LIMIT < IS_FAULT as usize);

/// Writes one outcome behind those of earlier items.
pub(crate) struct ItemWriter<'a> {
    /// The earlier outcomes, then two bytes for this outcome's length, then this outcome.
    bytes: &'a mut Vec<u8>,
    /// The number of bytes that the earlier outcomes take.
    start: usize,
    /// Whether this outcome is a value or a fault.
    kind: ItemOutcome,
}

impl<'a> ItemWriter<'a> {
    /// Appends two bytes for the outcome's length; the caller then appends the outcome.
    pub(crate) fn begin(bytes: &mut Vec<u8>) {
        bytes.extend([0; 2]);
    }

    /// Wraps `bytes` after the caller has appended an outcome. `start` is the number of bytes before its
    /// length: those of the earlier outcomes.
    pub(crate) fn of(bytes: &'a mut Vec<u8>, start: usize) -> Self {
        Self {
            bytes,
            start,
            kind: ItemOutcome::Value,
        }
    }

    /// Replaces the outcome.
    pub(crate) fn replace(&mut self, outcome: &[u8]) {
        self.bytes.truncate(self.start + 2);
        self.bytes.extend_from_slice(outcome);
    }

    /// Marks the outcome as a fault.
    pub(crate) fn mark_as_fault(&mut self) {
        self.kind = ItemOutcome::Fault;
    }

    /// Completes the outcome: writes its length.
    pub(crate) fn end(&mut self) {
        let mark = match self.kind {
            ItemOutcome::Value => 0,
            ItemOutcome::Fault => IS_FAULT,
        };
        // An outcome that fits has a length of 15 bits; the length of any other is never read.
        let length = (self.len() - 2) as u16 & !IS_FAULT;
        let head = &mut self.bytes[self.start..self.start + 2];
        head.copy_from_slice(&(length | mark).to_le_bytes());
    }

    /// The number of bytes that the outcome takes, including its length.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn kind(&self) -> ItemOutcome {
        self.kind
    }

    /// The earlier outcomes and this one with its length, if all of them fit into a slot.
    pub(crate) fn fitting(&self) -> Option<&[u8]> {
        (self.bytes.len() <= EAGER_LIMIT).then_some(&self.bytes[..])
    }

    /// The outcome, without its length.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.start + 2..]
    }
}

/// What an item's outcome is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemOutcome {
    /// An encoded result.
    Value,
    /// A report on why there is no result.
    Fault,
}

/// Decodes the length and the kind of the outcome at offset `at`; `None`: `bytes` does not hold all of the
/// outcome.
pub(crate) fn head(bytes: &[u8], at: usize) -> Option<(usize, ItemOutcome)> {
    let (head, rest) = bytes.get(at..)?.split_first_chunk::<2>()?;
    let head = u16::from_le_bytes(*head);
    let length = usize::from(head & !IS_FAULT);
    let kind = match head & IS_FAULT {
        0 => ItemOutcome::Value,
        _ => ItemOutcome::Fault,
    };
    (length <= rest.len()).then_some((length, kind))
}
