//! The serde format of arguments and results: one place to change.
//!
//! A message is the value in the format's encoding, then two bytes: how many fields were written. Formats
//! that do not describe themselves read fields by their position, so a field that one side leaves out
//! would make other values of those behind it. The reader counts too, and refuses a message of which it read
//! another number. Numbers, strings and the like ([`pod`]) have no fields, and travel as their bytes alone.

mod tally;
mod writer;
mod reader;

use std::any::type_name;
use std::cell::Cell;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::remote::encoded::Encoded;
use crate::remote::lease::{NoStore, PayloadStore};
use crate::remote::length_delimited::LengthDelimited;
use crate::remote::pod;
use crate::shared::attachments::{self, Attachments};
use crate::sys;
use tally::Tally;

#[cfg(not(any(feature = "bincode", feature = "postcard")))]
compile_error!("enable the feature `bincode` (on by default) or `postcard`: tasks need a codec");

thread_local! {
    /// Where small values are encoded, again and again. Asked for by `try_with`: the destructor of another
    /// thread-local may submit a task when this one is gone.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// More than this is not kept for the next.
const KEPT: usize = 64 << 10;

/// So few bytes are copied rather than moved: they need not have memory of their own.
const SMALL: usize = 64;

/// What a value is to its task: errors say so.
#[derive(Clone, Copy)]
enum PayloadRole {
    /// The argument of a task, of an item, or of an initializer.
    Argument,
    /// What all items of a map are given.
    Context,
    /// What the function returned.
    Result,
}

impl fmt::Display for PayloadRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argument => "the argument",
            Self::Context => "the context",
            Self::Result => "the result",
        })
    }
}

/// Encodes an argument into at most `limit` bytes.
///
/// # Errors
/// `TooLarge` with the true size, or `Encode`, which names the type.
pub(crate) fn encode<T: Serialize + 'static>(value: &T, limit: u64) -> Result<Encoded, Error> {
    encode_as(PayloadRole::Argument, value, limit)
}

/// As `encode`, of what all items of a map are given.
///
/// # Errors
/// As [`encode`].
pub(crate) fn encode_context<T>(value: &T, limit: u64) -> Result<Encoded, Error>
where
    T: Serialize + 'static,
{
    encode_as(PayloadRole::Context, value, limit)
}

fn encode_as<T>(role: PayloadRole, value: &T, limit: u64) -> Result<Encoded, Error>
where
    T: Serialize + 'static,
{
    match pod::bytes_of(value) {
        Some(bytes) => limited(bytes, limit).map(Encoded::copy),
        None => serialize(role, value, limit, &NoStore),
    }
}

/// As `encode`, into the room if the value is large and there is some; or else takes out of the value
/// what need not be copied.
///
/// # Errors
/// As [`encode`].
pub(crate) fn pack<T: Serialize + 'static>(
    value: &mut T,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    pack_as(PayloadRole::Argument, value, limit, room)
}

fn pack_as<T: Serialize + 'static>(
    role: PayloadRole,
    value: &mut T,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    let Some(bytes) = pod::bytes_of(value) else {
        return serialize(role, value, limit, room);
    };
    let bytes = limited(bytes, limit)?;
    if let Some(lease) = room.store(bytes) {
        return Ok(lease.into());
    }
    let copy = Encoded::copy;
    if bytes.len() <= SMALL {
        return Ok(copy(bytes));
    }
    match pod::take_bytes(value) {
        // What it has reserved beyond that would wait with it.
        Some(bytes) if bytes.capacity() / 2 <= bytes.len() => Ok(bytes.into()),
        Some(bytes) => Ok(copy(&bytes)),
        None => Ok(copy(pod::bytes_of(value).unwrap_or_default())),
    }
}

fn limited(bytes: &[u8], limit: u64) -> Result<&[u8], Error> {
    check_size(bytes.len(), limit).map(|()| bytes)
}

/// Whether so many bytes are no more than the limit.
///
/// # Errors
/// `TooLarge` if they are more.
pub(crate) fn check_size(size: usize, limit: u64) -> Result<(), Error> {
    let size = size as u64;
    match size <= limit {
        true => Ok(()),
        false => Err(Error::TooLarge { size, limit }),
    }
}

fn serialize<T: Serialize>(
    role: PayloadRole,
    value: &T,
    limit: u64,
    room: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    // Taken, since a `Serialize` may encode another value meanwhile.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    let (outcome, named) = attachments::while_writing(|| write(role, value, limit, &mut scratch));
    let bytes = outcome.map(|()| {
        let bytes = match room.store(&scratch) {
            Some(lease) => lease.into(),
            None => Encoded::take(&mut scratch),
        };
        match named.is_empty() {
            true => bytes,
            false => bytes.naming(named),
        }
    });
    if scratch.capacity() <= KEPT {
        // Where the thread's place for it is gone, it is dropped.
        let _ = SCRATCH.try_with(|place| place.set(scratch));
    }
    bytes
}

/// Writes a value, and how many fields it has, behind what stands there.
fn write<T: Serialize>(
    role: PayloadRole,
    value: &T,
    limit: u64,
    to: &mut Vec<u8>,
) -> Result<(), Error> {
    const COUNT: u64 = Tally::SIZE as u64;

    let too_large = |size: u64| Error::TooLarge {
        size: size.saturating_add(COUNT),
        limit,
    };
    let before = to.len();
    let tally = Tally::default();
    let written = format::encode(value, &tally, limit.saturating_sub(COUNT), to);
    written.map_err(|error| match error {
        Error::TooLarge { size, .. } => too_large(size),
        Error::Encode(words) => {
            let words = tally.take_fault().unwrap_or_else(|| words.to_string());
            Error::Encode(told::<T>(role, &words).into())
        }
        other => other,
    })?;
    if limit < COUNT {
        return Err(too_large((to.len() - before) as u64));
    }
    to.extend(tally.count().to_le_bytes());
    Ok(())
}

/// What is wrong, and with which value.
#[cold]
fn told<T>(role: PayloadRole, words: &str) -> String {
    format!("{role}, of type `{}`: {words}", type_name::<T>())
}

/// As `pack`, of the result of a task that was given this shared memory: what else it names, it
/// brings.
///
/// # Errors
/// As `encode`, and `Encode` if it brings too much.
pub(crate) fn pack_result<T: Serialize + 'static>(
    value: &mut T,
    limit: u64,
    room: &dyn PayloadStore,
    given: &Attachments,
) -> Result<Encoded, Error> {
    let mut bytes = pack_as(PayloadRole::Result, value, limit, room)?;
    if bytes.attachments().is_empty() {
        return Ok(bytes);
    }
    let brought = brought(bytes.take_attachments(), given)?;
    if brought.is_empty() {
        return Ok(bytes);
    }
    // It goes over the link.
    Ok(Encoded::from(Vec::from(bytes)).naming(brought))
}

/// What a result brings that names this.
fn brought(mut named: Attachments, given: &Attachments) -> Result<Attachments, Error> {
    named.leave_out(given);
    let (count, most) = (named.len(), sys::MAX_PASSED);
    if count > most {
        let words = format!("a result brings at most {most} new Shared, and this one {count}");
        return Err(Error::Encode(words.into()));
    }
    Ok(named)
}

/// Encodes an argument behind what stands there, which stays as it is if it cannot; the shared memory that
/// it names.
///
/// # Errors
/// As [`encode`].
#[inline(always)]
pub(crate) fn append<T: Serialize + 'static>(
    value: &T,
    limit: u64,
    to: &mut Vec<u8>,
) -> Result<Attachments, Error> {
    append_as(PayloadRole::Argument, value, limit, to)
}

#[inline(always)]
fn append_as<T: Serialize + 'static>(
    role: PayloadRole,
    value: &T,
    limit: u64,
    to: &mut Vec<u8>,
) -> Result<Attachments, Error> {
    if let Some(bytes) = pod::bytes_of(value) {
        to.extend_from_slice(limited(bytes, limit)?);
        return Ok(Attachments::default());
    }
    append_any(role, value, limit, to)
}

fn append_any<T: Serialize + 'static>(
    role: PayloadRole,
    value: &T,
    limit: u64,
    to: &mut Vec<u8>,
) -> Result<Attachments, Error> {
    let before = to.len();
    let (outcome, named) = attachments::while_writing(|| write(role, value, limit, to));
    if outcome.is_err() {
        to.truncate(before);
    }
    outcome.map(|()| named)
}

/// As `append`, of the result of a task that was given this shared memory; what else it brings.
///
/// # Errors
/// As `pack_result`.
#[inline(always)]
pub(crate) fn append_result<T: Serialize + 'static>(
    value: &T,
    limit: u64,
    to: &mut Vec<u8>,
    given: &Attachments,
) -> Result<Attachments, Error> {
    let before = to.len();
    let named = append_as(PayloadRole::Result, value, limit, to)?;
    if named.is_empty() {
        return Ok(named);
    }
    brought(named, given).inspect_err(|_| to.truncate(before))
}

/// Decodes a result from exactly these bytes.
///
/// # Errors
/// `Decode`, which names the type.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, Error> {
    unpack(Source::Borrowed(bytes))
}

/// As `decode`; bytes that are the value themselves become it without a copy, or with one if they
/// are in memory that another process sees.
pub(crate) fn unpack<T: DeserializeOwned + 'static>(source: Source<'_>) -> Result<T, Error> {
    if pod::is_plain::<T>() {
        let value = (value_of(source), Attachments::default());
        return decoded(PayloadRole::Result, value).map(|(value, _)| value);
    }
    let value = attachments::while_finding(|| value_of(source));
    decoded(PayloadRole::Result, value).map(|(value, _)| value)
}

/// Decodes some values, each from exactly one of these bytes, one after the other, behind those that
/// are there: what has panicked is missing, and ends it.
pub(crate) fn unpack_all<T: DeserializeOwned + 'static>(
    values: &mut LengthDelimited<'_>,
    to: &mut Vec<Result<T, Error>>,
) {
    if pod::is_number::<T>() {
        for bytes in values {
            // Each is pushed as what it is: one that is put together before is read before it is written.
            match pod::number(bytes) {
                Some(number) => to.push(Ok(number)),
                None => to.push(unpack(Source::Borrowed(bytes))),
            }
        }
        return;
    }
    let (_, _) = attachments::while_finding(|| {
        for bytes in values {
            // Once more by itself where it cannot be decoded, to be told why.
            let value = value_of(Source::Borrowed(bytes));
            to.push(value.or_else(|_| unpack(Source::Borrowed(bytes))));
        }
    });
}

/// As `unpack`, of an argument, in a worker; and the shared memory that it names.
///
/// # Errors
/// As `decode`.
#[inline(always)]
pub(crate) fn unpack_argument<T>(source: Source<'_>) -> Result<(T, Attachments), Error>
where
    T: DeserializeOwned + 'static,
{
    if let Source::Borrowed(bytes) = source {
        if let Some(number) = pod::number(bytes) {
            return Ok((number, Attachments::default()));
        }
    }
    fetch(PayloadRole::Argument, source)
}

/// As `unpack`, of what all items of a map are given.
///
/// # Errors
/// As `decode`.
pub(crate) fn unpack_context<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, Error> {
    fetch(PayloadRole::Context, Source::Borrowed(bytes)).map(|(value, _)| value)
}

fn fetch<T>(role: PayloadRole, source: Source<'_>) -> Result<(T, Attachments), Error>
where
    T: DeserializeOwned + 'static,
{
    if pod::is_plain::<T>() {
        return decoded(role, (value_of(source), Attachments::default()));
    }
    decoded(role, attachments::while_fetching(|| value_of(source)))
}

fn value_of<T: DeserializeOwned + 'static>(source: Source<'_>) -> Result<T, String> {
    let mut bytes = match source {
        Source::Borrowed(bytes) => {
            return pod::from_source(bytes).unwrap_or_else(read);
        }
        Source::Owned(bytes) => bytes,
    };
    // What the bytes name is there as long as it is looked up.
    let _named = bytes.take_attachments();
    match bytes.into_lease() {
        Ok(lease) => pod::from_source(lease)
            .unwrap_or_else(|lease| lease.read::<u8>().and_then(|bytes| read(&bytes))),
        Err(bytes) if bytes.len() <= SMALL => value_of(Source::Borrowed(&bytes)),
        Err(bytes) => pod::from_source(Vec::from(bytes)).unwrap_or_else(|bytes| read(&bytes)),
    }
}

/// Reads a value, and whether it has as many fields as were written.
///
/// # Errors
/// What is wrong with the bytes.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let Some((bytes, count)) = bytes.split_last_chunk() else {
        return Err("the message is cut short".to_owned());
    };
    let tally = Tally::default();
    let value = format::decode(reader::WatchedReader::new(&tally), bytes);
    let (written, read) = (u16::from_le_bytes(*count), tally.count());
    match value {
        Ok(value) if written == read => Ok(value),
        Ok(_) => Err(differing(&format!(
            "{written} fields were written, and {read} were read"
        ))),
        Err(failure) => Err(tally.take_fault().unwrap_or_else(|| match failure {
            Failure::Said(words) => words,
            Failure::Garbled(words) => differing(&words),
        })),
    }
}

/// What is wrong with the bytes, and what the reason is where nothing has meddled with them.
#[cold]
fn differing(words: &str) -> String {
    format!(
        "{words}: most likely its `Serialize` and `Deserialize` differ, as with a field that has \
         `skip_serializing` or `skip_deserializing` alone (`skip` is both), or a struct with `tag`"
    )
}

/// Why bytes are no value.
enum Failure {
    /// The words of a `Deserialize`, as far as the format keeps them.
    Said(String),
    /// The bytes are none of such a value, in the format's words.
    Garbled(String),
}

/// What was decoded, and the shared memory that it names.
fn decoded<T>(
    role: PayloadRole,
    (value, mut named): (Result<T, String>, Attachments),
) -> Result<(T, Attachments), Error> {
    match value {
        Ok(value) => Ok((value, named)),
        Err(words) => {
            // Formats may keep the words of what they call.
            let words = named.fault().unwrap_or(words);
            Err(Error::Decode(told::<T>(role, &words).into()))
        }
    }
}

/// An encoded value on its way to whoever decodes it.
pub(crate) enum Source<'a> {
    /// To look at.
    Borrowed(&'a [u8]),
    /// To keep.
    Owned(Encoded),
}

impl Source<'_> {
    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// To keep, a copy if need be.
    pub(crate) fn into_bytes(self) -> Encoded {
        match self {
            Self::Borrowed(bytes) => Encoded::copy(bytes),
            Self::Owned(bytes) => bytes,
        }
    }
}

pub(crate) use format::ID;

#[cfg(feature = "postcard")]
mod format {
    use postcard::Deserializer;
    use postcard::ser_flavors::Flavor;

    use serde::de::DeserializeSeed;

    use super::writer::WatchedWriter;
    use super::{Error, Failure, Serialize, Tally};

    /// What hello calls the format.
    pub(crate) const ID: u8 = b'p';

    pub(super) fn encode<T: Serialize>(
        value: &T,
        tally: &Tally,
        limit: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let words = |error: postcard::Error| Error::Encode(error.to_string().into());
        let watched = WatchedWriter::new(value, tally);
        let size = postcard::experimental::serialized_size(&watched).map_err(words)?;
        super::check_size(size, limit)?;
        tally.reset();
        postcard::serialize_with_flavor(&watched, Behind(into)).map_err(words)
    }

    /// Writes behind what stands in a buffer, which stays the caller's whatever happens.
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
}

#[cfg(all(feature = "bincode", not(feature = "postcard")))]
mod format {
    use bincode::{DefaultOptions, ErrorKind, Options};

    use serde::de::DeserializeSeed;

    use super::writer::WatchedWriter;
    use super::{Error, Failure, Serialize, Tally};

    /// What hello calls the format.
    pub(crate) const ID: u8 = b'b';

    pub(super) fn encode<T: Serialize>(
        value: &T,
        tally: &Tally,
        limit: u64,
        into: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let options = DefaultOptions::new();
        let watched = WatchedWriter::new(value, tally);
        let measured = options.with_limit(limit).serialized_size(&watched);
        let encoded = measured.and_then(|_| {
            tally.reset();
            options.with_no_limit().serialize_into(into, &watched)
        });
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
                ErrorKind::Custom(words) => Failure::Said(words),
                other => Failure::Garbled(other.to_string()),
            })
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
        let sizes = |outcome: Result<Encoded, Error>| match outcome {
            Err(Error::TooLarge { size, limit }) => (size, limit),
            _ => panic!("it fits into 64 bytes"),
        };
        assert_eq!(sizes(encode(&vec![1_u8; 100], 64)), (100, 64));
        assert_eq!(sizes(encode(&vec![true; 100], 64)), (103, 64));
    }

    #[test]
    fn what_is_given_becomes_the_value_without_a_copy() {
        let mut text = "x".repeat(1000);
        let address = text.as_ptr();
        let bytes = pack(&mut text, 1000, &NoStore).unwrap();
        let back: String = unpack(Source::Owned(bytes)).unwrap();
        assert_eq!((back.as_ptr(), back.len()), (address, 1000));
        let mut reserved = Vec::with_capacity(1 << 20);
        reserved.resize(1000, 7_u8);
        let bytes = Vec::from(pack(&mut reserved, 1000, &NoStore).unwrap());
        assert!(bytes.capacity() < 2000);
        let given = Source::Owned(pack(&mut 7_u64, 100, &NoStore).unwrap());
        assert_eq!(unpack::<u64>(given).unwrap(), 7);
        let given = Source::Owned(pack(&mut vec![0.5_f64; 100], 800, &NoStore).unwrap());
        assert_eq!(unpack::<Vec<f64>>(given).unwrap(), [0.5; 100]);
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
        assert!(matches!(decode::<bool>(&[1]), Err(Error::Decode(_))));
    }

    #[test]
    fn another_number_of_fields_is_refused() {
        // As bytes, it is a value of either type.
        let bytes = encode(&(true, Some(0_u8)), 100).unwrap();
        assert_eq!(
            decode::<(bool, Option<u8>)>(&bytes).unwrap(),
            (true, Some(0))
        );
        let Err(Error::Decode(words)) = decode::<((bool, bool), Option<u8>)>(&bytes) else {
            panic!("one field was not written")
        };
        assert!(
            words
                .as_str()
                .contains("2 fields were written, and 4 were read")
        );
    }

    #[test]
    fn the_number_of_fields_is_part_of_the_size() {
        let size = |limit| match encode(&((), ()), limit) {
            Err(Error::TooLarge { size, limit: told }) => Some((size, told)),
            outcome => outcome.map(|_| None).unwrap(),
        };
        assert_eq!(size(0), Some((2, 0)));
        assert_eq!(size(1), Some((2, 1)));
        assert_eq!(size(2), None);
    }
}
