//! The format postcard, in use unless the feature `bincode` is enabled.

use postcard::Deserializer;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeSeed;

use crate::remote::codec::tally::Tally;
use crate::remote::codec::worded::take_words;
use crate::remote::codec::writer::CountedValue;
use crate::remote::codec::{Failure, Refusal};

/// The format's id in the hello message.
pub(crate) const ID: u8 = b'p';

pub(super) fn encode<T: Serialize>(
    value: &T,
    tally: &Tally,
    limit: u64,
    into: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let counted = CountedValue::new(value, tally);
    let bounded = Bounded::new(into, limit);
    postcard::serialize_with_flavor(&counted, bounded).map_err(|error| match error {
        postcard::Error::SerializeBufferFull => Refusal::TooLarge(size_of(&counted)),
        other => refused(other),
    })
}

/// The size of a value of which not all bytes were written. It is encoded once more, to measure it.
#[cold]
fn size_of<T: Serialize>(value: &CountedValue<'_, T>) -> u64 {
    let size = postcard::experimental::serialized_size(value);
    size.map_or(u64::MAX, |size| size as u64)
}

#[cold]
fn refused(error: postcard::Error) -> Refusal {
    let words = match error {
        postcard::Error::SerdeSerCustom => take_words(),
        _ => None,
    };
    Refusal::Said(words.unwrap_or_else(|| error.to_string()))
}

/// Appends to a buffer that stays the caller's, whatever happens.
struct Bounded<'a> {
    /// The buffer.
    into: &'a mut Vec<u8>,
    /// At most this long does the buffer become, in bytes.
    most: usize,
}

impl<'a> Bounded<'a> {
    /// Appends at most `limit` bytes to `into`.
    fn new(into: &'a mut Vec<u8>, limit: u64) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let most = into.len().saturating_add(limit);
        Self { into, most }
    }
}

impl Flavor for Bounded<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.into.len() >= self.most {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.into.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if bytes.len() > self.most - self.into.len() {
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.into.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

pub(super) fn decode<'a, S>(seed: S, bytes: &'a [u8]) -> Result<S::Value, Failure>
where
    S: DeserializeSeed<'a>,
{
    let mut source = Deserializer::from_bytes(bytes);
    let value = seed.deserialize(&mut source).map_err(failure)?;
    match source.finalize().map_err(failure)? {
        [] => Ok(value),
        rest => Err(Failure::Garbled(format!(
            "{} bytes are left over",
            rest.len()
        ))),
    }
}

fn failure(error: postcard::Error) -> Failure {
    match error {
        postcard::Error::SerdeDeCustom => {
            Failure::Said(take_words().unwrap_or_else(|| error.to_string()))
        }
        other => Failure::Garbled(other.to_string()),
    }
}
