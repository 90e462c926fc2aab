//! The serde format of arguments and results: the one place to change it.
//!
//! A message is the value in the format's encoding, then two bytes: how many fields were written. Formats
//! that do not describe themselves read fields by their position. So if one side leaves out a field, the
//! other side would read wrong values for the fields behind it. The reader therefore counts fields, too, and
//! refuses a message of which it read another number. Numbers, strings and other POD values ([`pod`]) have no
//! fields, and travel as their bytes alone.
//!
//! `postcard` and `bincode` are the formats, one of which is compiled in. `tally` counts, `writer` and `reader`
//! wrap the format's serializer and deserializer, `worded` keeps the words of errors. Called by `task`, `context` and the process pool's builder in
//! the program, by `stub` in a worker. Relies on `shared::attachments`, which notes the shared memory that a
//! message names.

mod tally;
mod worded;
mod writer;
mod reader;
#[cfg(feature = "bincode")]
mod bincode;
#[cfg(all(feature = "postcard", not(feature = "bincode")))]
mod postcard;

use std::any::type_name;
use std::cell::Cell;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, LargeValue};
use crate::remote::encoded::Encoded;
use crate::remote::lease::{NoStore, PayloadStore};
use crate::remote::length_delimited::LengthDelimited;
use crate::remote::pod;
use crate::shared::attachments::{self, Attachments};
use crate::sys;
use tally::Tally;

#[cfg(feature = "bincode")]
use self::bincode as format;
#[cfg(all(feature = "postcard", not(feature = "bincode")))]
use self::postcard as format;

#[cfg(not(any(feature = "bincode", feature = "postcard")))]
compile_error!("enable the feature `postcard` (on by default) or `bincode`: tasks need a codec");

thread_local! {
    /// The buffer in which small values are encoded, again and again. It is accessed by `try_with`: the
    /// destructor of another thread-local may submit a task when this one is gone.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The largest capacity, in bytes, with which [`SCRATCH`] is kept for the next value.
const KEPT: usize = 64 << 10;

/// At most this many bytes are copied rather than moved, since they need no memory of their own.
const SMALL: usize = 64;

/// What a value is to its task; named in errors.
#[derive(Clone, Copy)]
enum PayloadRole {
    /// The argument of a task, of an item, or of an initializer.
    Argument,
    /// The context of a map: the value that every item is given.
    Context,
    /// What the function returned.
    Result,
    /// A value that is sent through a channel.
    Sent,
}

impl fmt::Display for PayloadRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Argument => "the argument",
            Self::Context => "the context",
            Self::Result => "the result",
            Self::Sent => "the value sent",
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

/// Encodes the context of a map, which every item is given, into at most `limit` bytes.
///
/// # Errors
/// Those of [`encode`].
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
        Some(bytes) => limited::<T>(role, bytes, limit).map(Encoded::copy),
        None => serialize(role, value, limit, &NoStore),
    }
}

/// Encodes an argument into at most `limit` bytes. A large value goes into `payload_store` if that
/// has space for it. Otherwise bytes that need not be copied are moved out of the value.
///
/// # Errors
/// Those of [`encode`].
pub(crate) fn pack<T: Serialize + 'static>(
    value: &mut T,
    limit: u64,
    payload_store: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    pack_as(PayloadRole::Argument, value, limit, payload_store)
}

fn pack_as<T: Serialize + 'static>(
    role: PayloadRole,
    value: &mut T,
    limit: u64,
    payload_store: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    let Some(bytes) = pod::bytes_of(value) else {
        return serialize(role, value, limit, payload_store);
    };
    let bytes = limited::<T>(role, bytes, limit)?;
    if let Some(lease) = payload_store.store(bytes) {
        return Ok(lease.into());
    }
    let copy = Encoded::copy;
    if bytes.len() <= SMALL {
        return Ok(copy(bytes));
    }
    match pod::take_bytes(value) {
        // A vector that has reserved more than twice its length is copied: the unused capacity would wait
        // with the message.
        Some(bytes) if bytes.capacity() / 2 <= bytes.len() => Ok(bytes.into()),
        Some(bytes) => Ok(copy(&bytes)),
        None => Ok(copy(pod::bytes_of(value).unwrap_or_default())),
    }
}

/// Checks that a number of type `T`, which is an argument, has at most `limit` bytes.
///
/// # Errors
/// `TooLarge` if it has more.
pub(crate) fn check_number<T>(limit: u64) -> Result<(), Error> {
    let size = size_of::<T>() as u64;
    match size <= limit {
        true => Ok(()),
        false => Err(too_large::<T>(PayloadRole::Argument, size, limit)),
    }
}

#[inline(always)]
fn limited<T>(role: PayloadRole, bytes: &[u8], limit: u64) -> Result<&[u8], Error> {
    let size = bytes.len() as u64;
    match size <= limit {
        true => Ok(bytes),
        false => Err(too_large::<T>(role, size, limit)),
    }
}

#[cold]
fn too_large<T>(role: PayloadRole, size: u64, limit: u64) -> Error {
    Error::TooLarge(LargeValue::new(described::<T>(role), size, limit))
}

fn serialize<T: Serialize>(
    role: PayloadRole,
    value: &T,
    limit: u64,
    payload_store: &dyn PayloadStore,
) -> Result<Encoded, Error> {
    // Taken out, since a `Serialize` implementation may encode another value meanwhile.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    scratch.clear();
    let (outcome, named) = attachments::while_writing(|| write(role, value, limit, &mut scratch));
    let bytes = outcome.map(|()| {
        let bytes = match payload_store.store(&scratch) {
            Some(lease) => lease.into(),
            None => Encoded::take(&mut scratch),
        };
        match named.is_empty() {
            true => bytes,
            false => bytes.naming(named),
        }
    });
    if scratch.capacity() <= KEPT {
        // If the thread-local is already destroyed, the buffer is dropped.
        let _ = SCRATCH.try_with(|place| place.set(scratch));
    }
    bytes
}

/// Appends a value, and how many fields it has, to `to`.
fn write<T: Serialize>(
    role: PayloadRole,
    value: &T,
    limit: u64,
    to: &mut Vec<u8>,
) -> Result<(), Error> {
    const COUNT: u64 = Tally::SIZE as u64;

    let too_large = |size: u64| too_large::<T>(role, size.saturating_add(COUNT), limit);
    let before = to.len();
    let tally = Tally::default();
    let written = format::encode(value, &tally, limit.saturating_sub(COUNT), to);
    written.map_err(|refusal| match refusal {
        Refusal::TooLarge(size) => too_large(size),
        Refusal::Said(words) => {
            let words = tally.take_fault().unwrap_or(words);
            Error::Encode(told::<T>(role, &words).into())
        }
    })?;
    if limit < COUNT {
        return Err(too_large((to.len() - before) as u64));
    }
    to.extend(tally.count().to_le_bytes());
    Ok(())
}

/// The text of an error: what is wrong, and with which value.
#[cold]
fn told<T>(role: PayloadRole, words: &str) -> String {
    format!("{}: {words}", described::<T>(role))
}

/// What a value is to its task, and its type, as errors name it.
#[cold]
fn described<T>(role: PayloadRole) -> String {
    format!("{role}, of type `{}`", type_name::<T>())
}

/// Encodes the result of a task, by the rules of [`pack`]. `given` is the shared memory that the task's
/// argument names. What the result names beyond that is attached to it.
///
/// # Errors
/// Those of [`encode`], and `Encode` if too much is attached.
pub(crate) fn pack_result<T: Serialize + 'static>(
    value: &mut T,
    limit: u64,
    payload_store: &dyn PayloadStore,
    given: &Attachments,
) -> Result<Encoded, Error> {
    let mut bytes = pack_as(PayloadRole::Result, value, limit, payload_store)?;
    if bytes.attachments().is_empty() {
        return Ok(bytes);
    }
    let brought = brought(bytes.take_attachments(), given)?;
    if brought.is_empty() {
        return Ok(bytes);
    }
    // A result with attachments goes over the worker's connection.
    Ok(Encoded::from(Vec::from(bytes)).naming(brought))
}

/// The attachments of a result: what it names (`named`) and its argument did not (`given`).
///
/// # Errors
/// `Encode` if there are more than fit into one message, or a channel.
fn brought(mut named: Attachments, given: &Attachments) -> Result<Attachments, Error> {
    named.leave_out(given);
    if named.has_channels() {
        return Err(Error::Encode("a Sender cannot be a result".into()));
    }
    let (count, most) = (named.len(), sys::stream::MAX_PASSED);
    if count > most {
        let words = format!("a result brings at most {most} new Shared, and this one {count}");
        return Err(Error::Encode(words.into()));
    }
    Ok(named)
}

/// Appends an encoded argument of at most `limit` bytes to `to`; returns the shared memory that it names. If
/// the argument cannot be encoded, `to` stays as it is.
///
/// # Errors
/// Those of [`encode`].
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
        to.extend_from_slice(limited::<T>(role, bytes, limit)?);
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

/// Appends an encoded result of at most `limit` bytes to `to`. `given` is the shared memory that the task's
/// argument names; returns what the result names beyond that. If the result cannot be encoded, `to` stays as
/// it is.
///
/// # Errors
/// Those of [`pack_result`].
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

/// Appends an encoded value, which is sent through a channel, of at most `limit` bytes to `to`. It can name no
/// shared memory and no channel, since nothing would keep them until it is decoded.
///
/// # Errors
/// Those of [`encode`]; what `to` has gained is then of no use.
pub(crate) fn append_sent<T: Serialize + 'static>(
    value: &T,
    limit: u64,
    to: &mut Vec<u8>,
) -> Result<(), Error> {
    let Some(bytes) = pod::bytes_of(value) else {
        return write(PayloadRole::Sent, value, limit, to);
    };
    to.extend_from_slice(limited::<T>(PayloadRole::Sent, bytes, limit)?);
    Ok(())
}

/// Decodes a value that was sent through a channel.
///
/// # Errors
/// `Decode`, which names the type.
pub(crate) fn unpack_sent<T: DeserializeOwned + 'static>(bytes: Vec<u8>) -> Result<T, Error> {
    let value = value_of(Source::Owned(bytes.into()));
    decoded(PayloadRole::Sent, (value, Attachments::default())).map(|(value, _)| value)
}

/// Decodes a result from exactly these bytes.
///
/// # Errors
/// `Decode`, which names the type.
#[cfg(any(test, fuzzing))]
pub(crate) fn decode<T: DeserializeOwned + 'static>(bytes: &[u8]) -> Result<T, Error> {
    unpack(Source::Borrowed(bytes))
}

/// Decodes a result from exactly these bytes. Bytes that are the value itself (a `Vec<u8>`, a `String`)
/// become it without a copy, or with one copy if they are in memory that another process can access.
///
/// # Errors
/// `Decode`, which names the type.
pub(crate) fn unpack<T: DeserializeOwned + 'static>(source: Source<'_>) -> Result<T, Error> {
    if pod::is_plain::<T>() {
        let value = (value_of(source), Attachments::default());
        return decoded(PayloadRole::Result, value).map(|(value, _)| value);
    }
    let value = attachments::while_finding(|| value_of(source));
    decoded(PayloadRole::Result, value).map(|(value, _)| value)
}

/// Decodes values in order, each from exactly one element of `values`, and appends them to `to`. If decoding
/// a value panics, that ends the call, and this value is missing in `to`.
pub(crate) fn unpack_all<T: DeserializeOwned + 'static>(
    values: &mut LengthDelimited<'_>,
    to: &mut Vec<Result<T, Error>>,
) {
    if pod::is_number::<T>() {
        for bytes in values {
            // Each arm pushes its own `Result`: one that is put together before the push is read before it is
            // written.
            match pod::number(bytes) {
                Some(number) => to.push(Ok(number)),
                None => to.push(unpack(Source::Borrowed(bytes))),
            }
        }
        return;
    }
    let (_, _) = attachments::while_finding(|| {
        for bytes in values {
            // A value that cannot be decoded is decoded once more by itself, for the reason.
            let value = value_of(Source::Borrowed(bytes));
            to.push(value.or_else(|_| unpack(Source::Borrowed(bytes))));
        }
    });
}

/// Decodes an argument, in a worker; returns it with the shared memory that it names.
///
/// # Errors
/// `Decode`, which names the type.
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

/// Decodes the context of a map, in a worker.
///
/// # Errors
/// `Decode`, which names the type.
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
    // Keeps the shared memory that the bytes name until it has been looked up.
    let _named = bytes.take_attachments();
    match bytes.into_lease() {
        Ok(lease) => pod::from_source(lease)
            .unwrap_or_else(|lease| lease.read::<u8>().and_then(|bytes| read(&bytes))),
        Err(bytes) if bytes.len() <= SMALL => value_of(Source::Borrowed(&bytes)),
        Err(bytes) => pod::from_source(Vec::from(bytes)).unwrap_or_else(|bytes| read(&bytes)),
    }
}

/// Decodes a value, and checks that it has as many fields as were written.
///
/// # Errors
/// A text that says what is wrong with the bytes.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let Some((bytes, count)) = bytes.split_last_chunk() else {
        return Err("the message is cut short".to_owned());
    };
    let tally = Tally::default();
    let value = format::decode(reader::CountedSeed::new(&tally), bytes);
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

/// The text of an error: what is wrong with the bytes, and the most likely reason if nothing has corrupted
/// them.
#[cold]
fn differing(words: &str) -> String {
    format!(
        "{words}: most likely its `Serialize` and `Deserialize` differ, as with a field that has \
         `skip_serializing` or `skip_deserializing` alone (`skip` is both), or a struct with `tag`"
    )
}

/// Why a value cannot be encoded.
enum Refusal {
    /// It has this many bytes, which is more than the limit.
    TooLarge(u64),
    /// The format's own error text, or that of a `Serialize` implementation.
    Said(String),
}

/// Why bytes cannot be decoded.
enum Failure {
    /// The error text of a `Deserialize` implementation, as far as the format keeps it.
    Said(String),
    /// The bytes are no encoding of such a value; the format's own error text.
    Garbled(String),
}

/// Returns what was decoded, and the shared memory that it names.
///
/// # Errors
/// `Decode`, which names the role and the type of the value.
fn decoded<T>(
    role: PayloadRole,
    (value, mut named): (Result<T, String>, Attachments),
) -> Result<(T, Attachments), Error> {
    match value {
        Ok(value) => Ok((value, named)),
        Err(words) => {
            // A format may drop the error text of what it calls. So a fault of shared memory is kept with the
            // attachments.
            let words = named.fault().unwrap_or(words);
            Err(Error::Decode(told::<T>(role, &words).into()))
        }
    }
}

/// An encoded value on its way to the code that decodes it.
pub(crate) enum Source<'a> {
    /// Bytes that the decoder may only read.
    Borrowed(&'a [u8]),
    /// Bytes that the decoder may keep.
    Owned(Encoded),
}

impl Source<'_> {
    /// The number of bytes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Borrowed(bytes) => bytes.len(),
            Self::Owned(bytes) => bytes.len(),
        }
    }

    /// Returns the bytes as a value to keep; copies them if they are borrowed.
    pub(crate) fn into_bytes(self) -> Encoded {
        match self {
            Self::Borrowed(bytes) => Encoded::copy(bytes),
            Self::Owned(bytes) => bytes,
        }
    }
}

pub(crate) use format::ID;

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
            Err(Error::TooLarge(value)) => (value.size(), value.limit()),
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
        // These bytes are an encoding of a value of either type.
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
            Err(Error::TooLarge(value)) => Some((value.size(), value.limit())),
            outcome => outcome.map(|_| None).unwrap(),
        };
        assert_eq!(size(0), Some((2, 0)));
        assert_eq!(size(1), Some((2, 1)));
        assert_eq!(size(2), None);
    }
}
