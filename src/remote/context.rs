//! The context of a map: a value that every item is given. It is encoded once, and shared. Made by
//! `executor`, named in items by `task`, found again by `stub` in a worker. Relies on `shared`.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::error::{Error, LargeValue};
use crate::remote::codec;
use crate::remote::fields::{FieldReader, FieldWriter};
use crate::shared::Shared;
use crate::shared::attachments::Attachments;

/// The context of a map: the value that every item is given.
pub(crate) struct Context<C> {
    /// For items that run in this process.
    value: C,
    /// For items that run in other processes; made when the first of them needs it.
    encoded: OnceLock<Result<EncodedContext, Error>>,
}

/// An encoded context.
struct EncodedContext {
    /// The encoding, which items name.
    bytes: Shared<u8>,
    /// The shared memory that the encoding names.
    named: Attachments,
}

/// A [`Context`] with its type erased: the source of the prefix that stands before each item's argument.
pub(crate) trait Prefix: Send + Sync {
    /// Appends to `to` where the encoded context is; returns the shared memory that this names.
    ///
    /// # Errors
    /// The reason why the context cannot be encoded.
    fn append(&self, limit: u64, to: &mut Vec<u8>) -> Result<Attachments, Error>;
}

/// Size, in bytes, of the length that stands before the reference to the context.
const LENGTH: usize = size_of::<u32>();

impl<C> Context<C> {
    pub(crate) fn new(value: C) -> Arc<Self> {
        Arc::new(Self {
            value,
            encoded: OnceLock::new(),
        })
    }

    pub(crate) fn value(&self) -> &C {
        &self.value
    }
}

impl<C: Serialize + Send + Sync + 'static> Prefix for Context<C> {
    fn append(&self, limit: u64, to: &mut Vec<u8>) -> Result<Attachments, Error> {
        let encoded = self.encoded.get_or_init(|| {
            let mut bytes = codec::encode_context(&self.value, limit)?;
            let named = bytes.take_attachments();
            let bytes = Shared::of_context(&bytes);
            Ok(EncodedContext { bytes, named })
        });
        let encoded = encoded.as_ref().map_err(Clone::clone)?;
        let before = to.len();
        to.extend([0; LENGTH]);
        let mut named = codec::append(&encoded.bytes, limit, to)?;
        named.join(&encoded.named);
        let length = to.len() - before - LENGTH;
        let Ok(length) = u32::try_from(length) else {
            let (size, limit) = (length as u64, u32::MAX.into());
            let value = "the reference to the context";
            return Err(Error::TooLarge(LargeValue::new(value, size, limit)));
        };
        (&mut to[before..]).put_u32(length);
        Ok(named)
    }
}

/// Splits an item's bytes into the reference to its context and the encoded argument behind it.
///
/// # Errors
/// `Decode` if there is no such reference.
pub(crate) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut reader = FieldReader::new(bytes);
    match reader.bytes() {
        Some(reference) => Ok((reference, reader.rest())),
        None => Err(Error::Decode(
            "the item does not say where its context is".into(),
        )),
    }
}
