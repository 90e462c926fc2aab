//! The format bincode, in use where its feature is enabled. DESIGN.md says why it is version 1.3.3.

use bincode::{DefaultOptions, ErrorKind, Options};
use serde::Serialize;
use serde::de::DeserializeSeed;

use crate::remote::codec::tally::Tally;
use crate::remote::codec::worded::take_words;
use crate::remote::codec::writer::CountedValue;
use crate::remote::codec::{Failure, Refusal};

/// The format's id in the hello message.
pub(crate) const ID: u8 = b'b';

pub(super) fn encode<T: Serialize>(
    value: &T,
    tally: &Tally,
    limit: u64,
    into: &mut Vec<u8>,
) -> Result<(), Refusal> {
    let options = DefaultOptions::new();
    // The value is encoded twice, and its fields are counted once.
    let first = Tally::default();
    let measured = options
        .with_limit(limit)
        .serialized_size(&CountedValue::new(value, &first));
    if let Some(fault) = first.take_fault() {
        tally.blame(fault);
    }
    let counted = CountedValue::new(value, tally);
    let encoded = measured.and_then(|_| options.with_no_limit().serialize_into(into, &counted));
    encoded.map_err(|error| match *error {
        ErrorKind::SizeLimit => Refusal::TooLarge(size_of(value)),
        ErrorKind::Custom(words) => Refusal::Said(take_words().unwrap_or(words)),
        other => Refusal::Said(other.to_string()),
    })
}

fn size_of<T: Serialize>(value: &T) -> u64 {
    let unbounded = DefaultOptions::new().with_no_limit();
    unbounded.serialized_size(value).unwrap_or(u64::MAX)
}

pub(super) fn decode<'a, S>(seed: S, bytes: &'a [u8]) -> Result<S::Value, Failure>
where
    S: DeserializeSeed<'a>,
{
    let exact = DefaultOptions::new()
        .with_limit(bytes.len() as u64)
        .reject_trailing_bytes();
    exact
        .deserialize_seed(seed, bytes)
        .map_err(|error| match *error {
            ErrorKind::Custom(words) => Failure::Said(take_words().unwrap_or(words)),
            other => Failure::Garbled(other.to_string()),
        })
}
