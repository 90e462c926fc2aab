//! How a worker lays the outcomes of a map's items down on the board: each behind two bytes that tell its
//! length, and whether it is a fault.

use crate::process::shm::queue::layout::INLINE;

/// Set in a length: what follows is a fault.
const IS_FAULT: u16 = 1 << 15;

/// An outcome that is being laid down behind others.
pub(crate) struct ItemWriter<'a> {
    /// The others, then two bytes for the length, then it.
    bytes: &'a mut Vec<u8>,
    /// How many bytes the others take.
    start: usize,
    /// What it is.
    kind: ItemOutcome,
}

impl<'a> ItemWriter<'a> {
    /// Makes room for its length, behind which it is to be appended.
    pub(crate) fn begin(bytes: &mut Vec<u8>) {
        bytes.extend([0; 2]);
    }

    /// It was appended, behind its length, which stands behind so many bytes of others.
    pub(crate) fn of(bytes: &'a mut Vec<u8>, start: usize) -> Self {
        Self {
            bytes,
            start,
            kind: ItemOutcome::Value,
        }
    }

    /// Takes this instead.
    pub(crate) fn replace(&mut self, outcome: &[u8]) {
        self.bytes.truncate(self.start + 2);
        self.bytes.extend_from_slice(outcome);
    }

    /// It is a fault.
    pub(crate) fn mark_as_fault(&mut self) {
        self.kind = ItemOutcome::Fault;
    }

    /// It is whole.
    pub(crate) fn end(&mut self) {
        let mark = match self.kind {
            ItemOutcome::Value => 0,
            ItemOutcome::Fault => IS_FAULT,
        };
        // What fits has a length of 15 bits; the others' is not read.
        let length = (self.len() - 2) as u16 & !IS_FAULT;
        let head = &mut self.bytes[self.start..self.start + 2];
        head.copy_from_slice(&(length | mark).to_le_bytes());
    }

    /// How many bytes it takes, with its length.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn kind(&self) -> ItemOutcome {
        self.kind
    }

    /// The others, and it with its length behind them, if there is room for it.
    pub(crate) fn fitting(&self) -> Option<&[u8]> {
        (self.bytes.len() <= INLINE).then_some(&self.bytes[..])
    }

    /// It, without its length.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.start + 2..]
    }
}

/// What is laid down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemOutcome {
    /// An encoded result.
    Value,
    /// A report on why there is none.
    Fault,
}

/// The length of the outcome that stands there, all of which is there, and what it is.
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
