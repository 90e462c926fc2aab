//! How a `Shared` travels: as a reference to its memory or, where there is none to refer to, as a copy of its
//! bytes. Serialised only while a message is written, which [`attachments`] knows.

use std::any::type_name;
use std::fmt;
use std::marker::PhantomData;

use bytemuck::{Pod, cast_slice, pod_collect_to_vec};
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::{self, SerializeTuple};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::shared::region::{RegionId, RegionRef};
use crate::shared::{Shared, Storage, attachments, check_element};

/// The number of encoded parts: five numbers of the region reference, which are 0 if there is none, and the
/// bytes, which are empty if there is one. Numbers, since formats encode small ones in few bytes.
const PARTS: usize = 6;

/// What is encoded in place of a `Shared`.
enum Travelled<'a> {
    /// A reference to the sealed memory.
    Name(RegionRef),
    /// A copy of all its bytes.
    Whole(&'a [u8]),
}

/// A byte slice that is encoded as bytes, not as a sequence of numbers.
struct Raw<'a>(&'a [u8]);

impl<T: Pod> Serialize for Shared<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !attachments::is_writing() {
            return Err(ser::Error::custom(
                "a Shared is serialised only as an argument or a result of a process pool's task",
            ));
        }
        let name = match &self.storage {
            Storage::Sealed(mapped_region) => attachments::name(mapped_region),
            Storage::Own(_) => None,
        };
        let bytes: &[u8] = if name.is_some() {
            &[]
        } else {
            cast_slice(self)
        };
        // No process has the number 0, so 0 stands for "no region reference".
        let (holder, descriptor) = name.map_or((0, 0), |it| (it.holder, it.descriptor));
        let (inode, id) = name.map_or((0, 0), |it| (it.region_id.inode, it.region_id.id));
        let mut parts = serializer.serialize_tuple(PARTS)?;
        parts.serialize_element(&holder)?;
        parts.serialize_element(&descriptor)?;
        parts.serialize_element(&inode)?;
        parts.serialize_element(&id)?;
        parts.serialize_element(&name.map_or(0, |it| it.size))?;
        parts.serialize_element(&Raw(bytes))?;
        parts.end()
    }
}

impl<'de, T: Pod> Deserialize<'de> for Shared<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const { check_element::<T>() };
        deserializer.deserialize_tuple(PARTS, SharedParts(PhantomData))
    }
}

/// Assembles a `Shared` from its encoded parts.
struct SharedParts<T>(PhantomData<T>);

impl<'de, T: Pod> Visitor<'de> for SharedParts<T> {
    type Value = Shared<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of shared memory, or its bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Shared<T>, A::Error> {
        let name = RegionRef {
            holder: next(&mut parts)?,
            descriptor: next(&mut parts)?,
            region_id: RegionId {
                inode: next(&mut parts)?,
                id: next(&mut parts)?,
            },
            size: next(&mut parts)?,
        };
        let bytes: ReceivedBytes<'de> = next(&mut parts)?;
        let travelled = match name.holder {
            0 => Travelled::Whole(bytes.as_ref()),
            _ => Travelled::Name(name),
        };
        Shared::received(travelled).map_err(|words| {
            attachments::blame(&words);
            de::Error::custom(words)
        })
    }
}

impl<T: Pod> Shared<T> {
    /// Makes a handle of what was received: a region reference, or the bytes themselves.
    fn received(travelled: Travelled<'_>) -> Result<Self, String> {
        match travelled {
            Travelled::Name(name) => Self::sealed(attachments::mapped_region(&name)?),
            Travelled::Whole(bytes) if bytes.len() % size_of::<T>() == 0 => {
                Ok(Self::own(pod_collect_to_vec(bytes)))
            }
            Travelled::Whole(bytes) => {
                let (size, name) = (bytes.len(), type_name::<T>());
                Err(format!(
                    "{size} bytes are no whole number of elements of type {name}"
                ))
            }
        }
    }
}

fn next<'de, A: SeqAccess<'de>, P: Deserialize<'de>>(parts: &mut A) -> Result<P, A::Error> {
    let missing = || de::Error::custom("a part of the name of shared memory is missing");
    parts.next_element()?.ok_or_else(missing)
}

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Decoded bytes: borrowed from the message if the format can do so.
enum ReceivedBytes<'de> {
    /// Borrowed from the message.
    Lent(&'de [u8]),
    /// A copy, where the format does not lend.
    Given(Vec<u8>),
}

impl AsRef<[u8]> for ReceivedBytes<'_> {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Given(bytes) => bytes,
        }
    }
}

impl<'de> Deserialize<'de> for ReceivedBytes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = ReceivedBytes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E: de::Error>(
                self,
                bytes: &'de [u8],
            ) -> Result<Self::Value, E> {
                Ok(ReceivedBytes::Lent(bytes))
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(ReceivedBytes::Given(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Whole)
    }
}
