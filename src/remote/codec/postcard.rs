//! The format postcard, in use where its feature is enabled, also if that of bincode is.

use postcard::Deserializer;
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeSeed;

use crate::error::Error;
use crate::remote::codec::Failure;
use crate::remote::codec::tally::Tally;
use crate::remote::codec::writer::CountedValue;

/// The format's id in the hello message.
pub(crate) const ID: u8 = b'p';

pub(super) fn encode<T: Serialize>(
    value: &T,
    tally: &Tally,
    limit: u64,
    into: &mut Vec<u8>,
) -> Result<(), Error> {
    let words = |error: postcard::Error| Error::Encode(error.to_string().into());
    let counted = CountedValue::new(value, tally);
    let size = postcard::experimental::serialized_size(&counted).map_err(words)?;
    super::check_size(size, limit)?;
    tally.reset();
    postcard::serialize_with_flavor(&counted, Behind(into)).map_err(words)
}

/// Appends to a buffer that stays the caller's, whatever happens.
struct Behind<'a>(&'a mut Vec<u8>);

impl Flavor for Behind<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
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
        postcard::Error::SerdeDeCustom => Failure::Said(error.to_string()),
        other => Failure::Garbled(other.to_string()),
    }
}
