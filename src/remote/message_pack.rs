//! [`MessagePack`]: a value that travels in a format that describes itself, inside a message whose format does
//! not.

use std::any::type_name;
use std::fmt;
use std::io::Cursor;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::de::{self, DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser};

/// A value that travels as [MessagePack](https://msgpack.org), which describes itself: any value that serde can
/// write and read, in an argument, in a result, or in a part of one.
///
/// It is for what the formats of messages cannot read: `serde_json::Value`; enums with `#[serde(tag = "…")]`,
/// with or without `content`, or `untagged`; `flatten`; `skip_serializing_if`. It costs the names of fields, and a
/// second encoding. With the feature `messagepack`.
///
/// MessagePack has one word for nothing: an `Option` of what may itself be nothing, `Some(None)` or `Some(())`,
/// arrives as `None`.
///
/// ```
/// use concurrent_futures::{Error, Executor, MessagePack, ProcessPoolExecutor};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Serialize, Deserialize)]
/// #[serde(tag = "shape")]
/// enum Shape { Circle { radius: f64 }, Square { side: f64 } }
///
/// # fn main() -> Result<(), Error> {
/// concurrent_futures::init();
/// let pool = ProcessPoolExecutor::new(1)?;
/// let area = |MessagePack(shape): MessagePack<Shape>| match shape {
///     Shape::Circle { radius } => radius * radius * 3.14,
///     Shape::Square { side } => side * side,
/// };
/// let square = MessagePack(Shape::Square { side: 3.0 });
/// assert_eq!(pool.submit(area, square).result()?, 9.0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessagePack<T>(
    /// The value.
    pub T,
);

impl<T> MessagePack<T> {
    /// The value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for MessagePack<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for MessagePack<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for MessagePack<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Serialize> Serialize for MessagePack<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // With the names of fields: they are what a reader goes by that looks ahead, or finds one left out.
        let bytes = rmp_serde::to_vec_named(&self.0);
        let bytes = bytes.map_err(|error| ser::Error::custom(told::<T>(&error)))?;
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for MessagePack<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(PackedBytes(PhantomData))
    }
}

/// Reads the bytes of a value of type `T`.
struct PackedBytes<T>(PhantomData<T>);

impl<T: DeserializeOwned> Visitor<'_> for PackedBytes<T> {
    type Value = MessagePack<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value in MessagePack")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let mut reader = rmp_serde::Deserializer::new(Cursor::new(bytes));
        let value = T::deserialize(&mut reader).map_err(|error| E::custom(told::<T>(&error)))?;
        match reader.get_ref().position() == bytes.len() as u64 {
            true => Ok(MessagePack(value)),
            false => Err(E::custom(told::<T>(&"bytes are left over"))),
        }
    }
}

/// An error of the format, with the type of the value.
fn told<T>(error: &dyn fmt::Display) -> String {
    format!("{} in MessagePack: {error}", type_name::<T>())
}
