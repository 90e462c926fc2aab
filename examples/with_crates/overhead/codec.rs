//! The serde format that the crate was built with, with the options that it uses.

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use format::{NAME, decode, encode};

#[cfg(all(feature = "postcard", not(feature = "bincode")))]
mod format {
    use std::hint::black_box;

    use super::{DeserializeOwned, Serialize};

    pub const NAME: &str = "postcard";

    /// `None` for what the format cannot hold.
    pub fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Option<()> {
        // The crate asks for the size first, to hold it against its limit.
        black_box(postcard::experimental::serialized_size(value).ok()?);
        *into = postcard::to_extend(value, std::mem::take(into)).ok()?;
        Some(())
    }

    pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
        postcard::from_bytes(bytes).ok()
    }
}

#[cfg(feature = "bincode")]
mod format {
    use bincode::{DefaultOptions, Options};

    use super::{DeserializeOwned, Serialize};

    pub const NAME: &str = "bincode";

    /// `None` for what the format cannot hold.
    pub fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Option<()> {
        let bounded = DefaultOptions::new().with_limit(u64::MAX);
        bounded.serialize_into(into, value).ok()
    }

    pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
        let exact = DefaultOptions::new()
            .with_limit(bytes.len() as u64)
            .reject_trailing_bytes();
        exact.deserialize(bytes).ok()
    }
}
