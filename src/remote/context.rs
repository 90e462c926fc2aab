//! What all items of a map are given: encoded once, and shared.

use std::sync::{Arc, OnceLock};

use serde::Serialize;

use crate::error::Error;
use crate::remote::codec;
use crate::shared::Shared;
use crate::shared::attachments::Attachments;

/// What all items of a map are given.
pub(crate) struct Context<C> {
    /// As tasks of this process see it.
    value: C,
    /// As others do, once one of them is to.
    encoded: OnceLock<Result<EncodedContext, Error>>,
}

/// A context, encoded.
struct EncodedContext {
    /// The bytes.
    bytes: Shared<u8>,
    /// The shared memory that they name.
    named: Attachments,
}

/// A [`Context`], its type erased.
pub(crate) trait Prefix: Send + Sync {
    /// Says, behind what stands there, where the context is; the shared memory that this names.
    ///
    /// # Errors
    /// Why it cannot be encoded.
    fn append(&self, limit: u64, to: &mut Vec<u8>) -> Result<Attachments, Error>;
}

/// Bytes of the length that stands before it.
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
            return Err(Error::TooLarge { size, limit });
        };
        to[before..before + LENGTH].copy_from_slice(&length.to_le_bytes());
        Ok(named)
    }
}

/// What says where the context is, and what stands behind that.
///
/// # Errors
/// `Decode` if there is no such thing.
pub(crate) fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let parts = bytes.split_first_chunk().and_then(|(length, rest)| {
        let length = u32::from_le_bytes(*length);
        rest.split_at_checked(length as usize)
    });
    parts.ok_or_else(|| Error::Decode("the item does not say where its context is".into()))
}
