//! Encoded values in one buffer, one behind the other: the format of a batch of arguments and of a run of
//! results. Read by `codec`, `task`, and the worker process.

/// Iterates over encoded values, each of which has a two-byte length prefix (little-endian). Ends before a
/// value that is cut short.
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
