//! Fields: numbers, byte strings and texts as bytes, one behind the other, the numbers little-endian. Frames,
//! messages and references consist of them.
//!
//! Used by `transport`, and by what travels inside its frames: references to functions (`function`), to blocks
//! of the arena (`lease`) and to contexts (`context`). A reader trusts no byte from the other side further than
//! its own bounds check.

/// The maximum length of a text or byte string, in bytes; the rest is cut off.
const MAX_TEXT: usize = 64 << 10;

/// Takes fields, one behind the other.
pub(crate) trait FieldWriter {
    /// Writes these bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    #[inline]
    fn put_u8(&mut self, number: u8) {
        self.put(&[number]);
    }

    fn put_bool(&mut self, truth: bool) {
        self.put_u8(u8::from(truth));
    }

    #[inline]
    fn put_u32(&mut self, number: u32) {
        self.put(&number.to_le_bytes());
    }

    #[inline]
    fn put_u64(&mut self, number: u64) {
        self.put(&number.to_le_bytes());
    }

    /// Writes the length of these bytes, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(MAX_TEXT)];
        // At most MAX_TEXT, so the length fits into 32 bits.
        self.put_u32(bytes.len() as u32);
        self.put(bytes);
    }

    /// Writes whether there is a text, then the text.
    fn put_text(&mut self, text: Option<&str>) {
        self.put_bool(text.is_some());
        if let Some(text) = text {
            self.put_bytes(text.as_bytes());
        }
    }
}

impl FieldWriter for Vec<u8> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// For fields of fixed size: writes to the front of a slice, and goes on with the rest of it. A slice that is
/// too short for its fields is a bug of this crate, and panics.
impl FieldWriter for &mut [u8] {
    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        let (to, rest) = std::mem::take(self).split_at_mut(bytes.len());
        to.copy_from_slice(bytes);
        *self = rest;
    }
}

/// Reads fields, one after the other; `None` wherever the bytes are too few.
pub(crate) struct FieldReader<'a>(
    /// The bytes that are not read yet.
    &'a [u8],
);

impl<'a> FieldReader<'a> {
    #[inline]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(crate) fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    #[inline]
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    pub(crate) fn text(&mut self) -> Option<Option<String>> {
        match self.bool()? {
            false => Some(None),
            true => Some(Some(String::from_utf8_lossy(self.bytes()?).into_owned())),
        }
    }

    /// All bytes that are not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Returns the value if all bytes were read; `None`: some are left over.
    #[inline]
    pub(crate) fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn put_each(fields: &mut impl FieldWriter) {
        fields.put_u8(1);
        fields.put_bool(true);
        fields.put_u32(0x0203_0405);
        fields.put_u64(6);
        fields.put_bytes(b"ab");
        fields.put_text(None);
        fields.put_text(Some("c"));
    }

    const EACH: &[u8] =
        b"\x01\x01\x05\x04\x03\x02\x06\0\0\0\0\0\0\0\x02\0\0\0ab\x00\x01\x01\0\0\0c";

    #[test]
    fn a_vector_and_an_array_get_the_same_bytes() {
        let mut body = Vec::new();
        put_each(&mut body);
        assert_eq!(body, EACH);
        let mut array = [9; EACH.len() + 1];
        let mut fields = &mut array[..];
        put_each(&mut fields);
        assert_eq!(*fields, [9]);
        assert_eq!(array[..EACH.len()], *EACH);
    }

    #[test]
    fn fields_come_back() {
        let mut reader = FieldReader::new(EACH);
        assert_eq!((reader.u8(), reader.bool()), (Some(1), Some(true)));
        assert_eq!((reader.u32(), reader.u64()), (Some(0x0203_0405), Some(6)));
        assert_eq!(reader.bytes(), Some(&b"ab"[..]));
        assert_eq!(reader.text(), Some(None));
        assert_eq!(reader.end(()), None);
        assert_eq!(reader.text(), Some(Some("c".to_owned())));
        assert_eq!(reader.end(7), Some(7));
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let mut reader = FieldReader::new(&[2, 0, 0]);
        assert_eq!((reader.u32(), reader.u64()), (None, None));
        assert_eq!((reader.take(4), reader.bool()), (None, None));
        let mut reader = FieldReader::new(b"\xff\xff\xff\xffabc");
        assert_eq!(reader.bytes(), None);
        assert_eq!(reader.rest(), b"abc");
    }
}
