//! Length-delimited items: encoded values in one buffer, one behind the other, the format of a batch of
//! arguments and of the outcomes of a map's items in a slot of the shared-memory queue.
//!
//! Each follows two bytes, little-endian: the lower 15 bits hold its length, the upper one says whether it is
//! a fault. All items together take [`EAGER_LIMIT`] bytes at most. Written by `task` (arguments) and the worker
//! process (outcomes); read by the other side, by `codec` and by `task`.

use crate::remote::lease::EAGER_LIMIT;

/// The number of bytes before each item.
pub(crate) const PREFIX: usize = size_of::<u16>();

/// The bit of a prefix that is set if the item is a fault.
const IS_FAULT: u16 = 1 << 15;

// The length of an item that fits has the bits below.
const _: () = assert!(EAGER_LIMIT < IS_FAULT as usize);

/// What an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemKind {
    /// An encoded value: an argument or a result.
    Value,
    /// A report on why there is no result.
    Fault,
}

/// Writes one item behind earlier ones.
pub(crate) struct ItemWriter<'a> {
    /// The earlier items, then the prefix of this item, then this item.
    bytes: &'a mut Vec<u8>,
    /// The number of bytes that the earlier items take.
    start: usize,
    /// Whether this item is a value or a fault.
    kind: ItemKind,
}

impl<'a> ItemWriter<'a> {
    /// Appends a whole value, behind which all items fit.
    #[inline]
    pub(crate) fn append(bytes: &mut Vec<u8>, value: &[u8]) {
        bytes.extend_from_slice(&prefix(value.len(), ItemKind::Value));
        bytes.extend_from_slice(value);
    }

    /// Appends room for a prefix; the caller then appends the item.
    #[inline]
    pub(crate) fn begin(bytes: &mut Vec<u8>) {
        bytes.extend([0; PREFIX]);
    }

    /// Wraps `bytes` after the caller has appended an item. `start` is the number of bytes before its prefix:
    /// those of the earlier items.
    #[inline]
    pub(crate) fn of(bytes: &'a mut Vec<u8>, start: usize) -> Self {
        Self {
            bytes,
            start,
            kind: ItemKind::Value,
        }
    }

    /// Replaces the item.
    pub(crate) fn replace(&mut self, item: &[u8]) {
        self.bytes.truncate(self.start + PREFIX);
        self.bytes.extend_from_slice(item);
    }

    /// Marks the item as a fault.
    pub(crate) fn mark_as_fault(&mut self) {
        self.kind = ItemKind::Fault;
    }

    /// Completes the item: writes its prefix.
    #[inline]
    pub(crate) fn end(&mut self) {
        let prefix = prefix(self.body().len(), self.kind);
        self.bytes[self.start..self.start + PREFIX].copy_from_slice(&prefix);
    }

    /// The number of bytes that the item takes, including its prefix.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn kind(&self) -> ItemKind {
        self.kind
    }

    /// The earlier items and this one with its prefix, if all of them fit into a slot.
    #[inline]
    pub(crate) fn fitting(&self) -> Option<&[u8]> {
        (self.bytes.len() <= EAGER_LIMIT).then_some(&self.bytes[..])
    }

    /// The item, without its prefix.
    #[inline]
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[self.start + PREFIX..]
    }
}

/// The two bytes before an item. An item that fits has a length of 15 bits; the length of any other is never
/// read.
#[inline]
fn prefix(length: usize, kind: ItemKind) -> [u8; PREFIX] {
    let mark = match kind {
        ItemKind::Value => 0,
        ItemKind::Fault => IS_FAULT,
    };
    (length as u16 & !IS_FAULT | mark).to_le_bytes()
}

/// Reads items, one after the other. Ends before an item that is cut short.
pub(crate) struct LengthDelimited<'a>(
    /// The bytes that are not read yet.
    &'a [u8],
);

impl<'a> LengthDelimited<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The number of bytes that are not read yet.
    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }

    /// Reads an item, value or fault; `None`: no whole item is left.
    #[inline]
    pub(crate) fn next_of_any_kind(&mut self) -> Option<(ItemKind, &'a [u8])> {
        let (prefix, item) = self.read(!IS_FAULT)?;
        match prefix & IS_FAULT {
            0 => Some((ItemKind::Value, item)),
            _ => Some((ItemKind::Fault, item)),
        }
    }

    /// Reads an item, whose length is in these bits of its prefix; returns both.
    #[inline]
    fn read(&mut self, length_bits: u16) -> Option<(u16, &'a [u8])> {
        let (prefix, rest) = self.0.split_first_chunk::<PREFIX>()?;
        let prefix = u16::from_le_bytes(*prefix);
        let (item, rest) = rest.split_at_checked(usize::from(prefix & length_bits))?;
        self.0 = rest;
        Some((prefix, item))
    }
}

/// The values, where no fault is expected: ends before one.
impl<'a> Iterator for LengthDelimited<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        // The mark of a fault is read as a part of its length, which is then more than all items take.
        self.read(u16::MAX).map(|(_, value)| value)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// A value, a fault, an empty value.
    fn three() -> Vec<u8> {
        let mut bytes = Vec::new();
        ItemWriter::append(&mut bytes, b"abc");
        let start = bytes.len();
        ItemWriter::begin(&mut bytes);
        bytes.extend(b"replaced");
        let mut item_writer = ItemWriter::of(&mut bytes, start);
        item_writer.replace(b"no");
        item_writer.mark_as_fault();
        item_writer.end();
        assert_eq!((item_writer.len(), item_writer.body()), (4, &b"no"[..]));
        ItemWriter::append(&mut bytes, b"");
        bytes
    }

    /// Workers of another build of the program are refused; the bytes are pinned all the same.
    #[test]
    fn the_prefix_is_a_little_endian_length_with_a_mark_for_faults() {
        assert_eq!(three(), *b"\x03\x00abc\x02\x80no\x00\x00");
        assert_eq!(prefix(0x0102, ItemKind::Value), [2, 1]);
        assert_eq!(prefix(0x0102, ItemKind::Fault), [2, 0x81]);
    }

    #[test]
    fn items_come_back_in_order_with_their_kinds() {
        let bytes = three();
        let mut items = LengthDelimited::new(&bytes);
        assert_eq!(
            items.next_of_any_kind(),
            Some((ItemKind::Value, &b"abc"[..]))
        );
        assert_eq!(
            items.next_of_any_kind(),
            Some((ItemKind::Fault, &b"no"[..]))
        );
        assert_eq!(items.next_of_any_kind(), Some((ItemKind::Value, &b""[..])));
        assert_eq!((items.next_of_any_kind(), items.left()), (None, 0));
    }

    #[test]
    fn values_end_before_a_fault_and_before_what_is_cut_short() {
        let bytes = three();
        let mut values = LengthDelimited::new(&bytes);
        assert_eq!(values.next(), Some(&b"abc"[..]));
        assert_eq!((values.next(), values.left()), (None, 6));
        for cut in 1..5 {
            let mut values = LengthDelimited::new(&bytes[..cut]);
            assert_eq!((values.next(), values.left()), (None, cut));
        }
    }

    #[test]
    fn items_fit_up_to_the_limit() {
        let mut bytes = vec![0; EAGER_LIMIT];
        assert_eq!(
            ItemWriter::of(&mut bytes, 0).fitting(),
            Some(&[0; EAGER_LIMIT][..])
        );
        bytes.push(0);
        assert_eq!(ItemWriter::of(&mut bytes, 0).fitting(), None);
    }
}
