//! The serde format of arguments and results: one file, one place to change.

use serde::Serialize;
use serde::de::DeserializeOwned;

use std::cell::Cell;

use crate::error::Error;
use crate::process::bytes::Bytes;
use crate::process::memory::manifest::{self, Manifest};
use crate::process::{plain, sys};

#[cfg(not(any(feature = "bincode", feature = "postcard")))]
compile_error!("enable the feature `bincode` (on by default) or `postcard`: tasks need a codec");

thread_local! {
    /// Where small values are encoded, again and again.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More than this is not kept for the next.
const KEPT: usize = 64 << 10;

/// Encodes a value into at most `limit` bytes.
///
/// # Errors
/// `TooLarge` with the true size, or `Encode` with the format's words.
pub(crate) fn encode<T: Serialize + 'static>(value: &T, limit: u64) -> Result<Bytes, Error> {
    if let Some(bytes) = plain::bytes_of(value) {
        let size = bytes.len() as u64;
        return match size <= limit {
            true => Ok(Bytes::copy(bytes)),
            false => Err(Error::TooLarge { size, limit }),
        };
    }
    // Taken, since a `Serialize` may encode another value meanwhile.
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let (outcome, named) = manifest::while_writing(|| format::encode(value, limit, &mut scratch));
    let bytes = outcome.map(|()| Bytes::take(&mut scratch).naming(named));
    if scratch.capacity() <= KEPT {
        SCRATCH.set(scratch);
    }
    bytes
}

/// As `encode`, of the result of a task that was given this shared memory: what else it names, it
/// brings.
///
/// # Errors
/// As `encode`, and `Encode` if it brings too much.
pub(crate) fn encode_result<T: Serialize + 'static>(
    value: &T,
    limit: u64,
    given: &Manifest,
) -> Result<Bytes, Error> {
    let mut bytes = encode(value, limit)?;
    let mut brought = bytes.take_manifest();
    brought.leave_out(given);
    let (count, most) = (brought.len(), sys::MAX_PASSED);
    if count > most {
        let words = format!("a result brings at most {most} new Shared, and this one {count}");
        return Err(Error::Encode(words.into()));
    }
    Ok(bytes.naming(brought))
}

/// Decodes a value from exactly these bytes.
///
/// # Errors
/// `Decode` with the format's words.
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, Error> {
    match plain::from_bytes(bytes) {
        Some(value) => value.map_err(|words| Error::Decode(words.into())),
        None => decoded(manifest::while_finding(|| format::decode(bytes))).map(|it| it.0),
    }
}

/// As `decode`, of an argument, in a worker; and the shared memory that it names.
///
/// # Errors
/// As `decode`.
pub(crate) fn decode_argument<T>(bytes: &[u8]) -> Result<(T, Manifest), Error>
where
    T: DeserializeOwned + 'static,
{
    match plain::from_bytes(bytes) {
        Some(Ok(value)) => Ok((value, Manifest::default())),
        Some(Err(words)) => Err(Error::Decode(words.into())),
        None => decoded(manifest::while_fetching(|| format::decode(bytes))),
    }
}

/// What was decoded, and the shared memory that it names.
fn decoded<T>((value, mut named): (Result<T, String>, Manifest)) -> Result<(T, Manifest), Error> {
    match value {
        Ok(value) => Ok((value, named)),
        // Formats may keep the words of what they call.
        Err(words) => Err(Error::Decode(named.fault().unwrap_or(words).into())),
    }
}

pub(crate) use format::ID;

#[cfg(feature = "postcard")]
mod format {
    use super::{DeserializeOwned, Error, Serialize};

    /// What hello calls the format.
    pub(crate) const ID: u8 = b'p';

    pub(super) fn encode<T: Serialize>(
        value: &T,
        limit: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let words = |error: postcard::Error| Error::Encode(error.to_string().into());
        let size = postcard::experimental::serialized_size(value).map_err(words)?;
        if size as u64 > limit {
            let size = size as u64;
            return Err(Error::TooLarge { size, limit });
        }
        *into = postcard::to_extend(value, std::mem::take(into)).map_err(words)?;
        Ok(())
    }

    pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(format!("{} bytes are left over", rest.len())),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(all(feature = "bincode", not(feature = "postcard")))]
mod format {
    use bincode::{DefaultOptions, ErrorKind, Options};

    use super::{DeserializeOwned, Error, Serialize};

    /// What hello calls the format.
    pub(crate) const ID: u8 = b'b';

    pub(super) fn encode<T: Serialize>(
        value: &T,
        limit: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let bounded = DefaultOptions::new().with_limit(limit);
        let encoded = bounded.serialize_into(into, value);
        encoded.map_err(|error| match *error {
            ErrorKind::SizeLimit => Error::TooLarge {
                size: size_of(value),
                limit,
            },
            other => Error::Encode(other.to_string().into()),
        })
    }

    fn size_of<T: Serialize>(value: &T) -> u64 {
        let unbounded = DefaultOptions::new().with_no_limit();
        unbounded.serialized_size(value).unwrap_or(u64::MAX)
    }

    pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
        let exact = DefaultOptions::new()
            .with_limit(bytes.len() as u64)
            .reject_trailing_bytes();
        exact.deserialize(bytes).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back() {
        let value = (7_u64, "seven".to_owned(), vec![0.5_f64; 3], Some(()));
        let bytes = encode(&value, 1000).unwrap();
        assert_eq!(
            decode::<(u64, String, Vec<f64>, Option<()>)>(&bytes).unwrap(),
            value
        );
    }

    #[test]
    fn the_limit_holds_and_both_sizes_are_told() {
        let sizes = |outcome: Result<Bytes, Error>| match outcome {
            Err(Error::TooLarge { size, limit }) => (size, limit),
            _ => panic!("it fits into 64 bytes"),
        };
        assert_eq!(sizes(encode(&vec![1_u8; 100], 64)), (100, 64));
        assert_eq!(sizes(encode(&vec![true; 100], 64)), (101, 64));
    }

    #[test]
    fn lying_lengths_and_leftovers_are_refused() {
        let long = encode(&u64::MAX, 100).unwrap();
        assert!(matches!(decode::<Vec<bool>>(&long), Err(Error::Decode(_))));
        assert!(matches!(decode::<Box<str>>(&long), Err(Error::Decode(_))));
        assert!(matches!(
            decode::<Vec<(u64, u64)>>(&long),
            Err(Error::Decode(_))
        ));
        assert!(matches!(decode::<u8>(&[1, 2]), Err(Error::Decode(_))));
    }
}
