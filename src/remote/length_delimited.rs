//! Encoded values that lie one behind the other.

/// Encoded values, each behind two bytes that tell its length.
pub(crate) struct LengthDelimited<'a>(
    /// Those that are to come.
    &'a [u8],
);

impl<'a> LengthDelimited<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are to come.
    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }
}

impl<'a> Iterator for LengthDelimited<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (item, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(item)
    }
}
