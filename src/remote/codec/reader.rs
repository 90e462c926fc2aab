//! A deserializer around the format's own: it counts the fields that are read, and notes what the format
//! cannot do.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::tally::Tally;

/// The fault of a value that is read by looking ahead at what comes.
const LOOKS_AHEAD: &str = "`#[serde(untagged)]`, `tag`, `tag` with `content`, `flatten`, and \
    `serde_json::Value` need a format that describes itself: derive the enum without these, \
    or send it as a `MessagePack` (feature `messagepack`)";

/// Decodes a value whose fields are counted.
pub(super) struct CountedSeed<'a, S> {
    /// What to decode.
    seed: S,
    /// Where its fields are counted.
    tally: &'a Tally,
}

impl<'a, T> CountedSeed<'a, PhantomData<T>> {
    #[inline]
    pub(super) fn new(tally: &'a Tally) -> Self {
        let seed = PhantomData;
        Self { seed, tally }
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for CountedSeed<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, format: D) -> Result<S::Value, D::Error> {
        let tally = self.tally;
        self.seed.deserialize(Reader { format, tally })
    }
}

/// The deserializer around the format's own.
struct Reader<'a, D> {
    /// The format's own deserializer.
    format: D,
    /// Where fields are counted.
    tally: &'a Tally,
}

impl<'a, D> Reader<'a, D> {
    /// A visitor of a value whose parts are each worth this many fields.
    #[inline]
    fn counting<V>(&self, visitor: V, worth: usize) -> CountingVisitor<'a, V> {
        CountingVisitor::new(visitor, worth, self.tally)
    }
}

/// Passes the visitors of values without parts on to the format as they are.
macro_rules! pass_on {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.format.$method(visitor)
        })*
    };
}

/// Notes what only formats that describe themselves can do, and lets the format say no.
macro_rules! refuse {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.tally.blame(LOOKS_AHEAD.to_owned());
            self.format.$method(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<'_, D> {
    type Error = D::Error;

    pass_on! {
        deserialize_bool
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf
        deserialize_unit
    }

    refuse! { deserialize_any deserialize_identifier deserialize_ignored_any }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.format.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 0);
        self.format.deserialize_option(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 0);
        self.format.deserialize_newtype_struct(name, visitor)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 0);
        self.format.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 0);
        self.format.deserialize_map(visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 1);
        self.format.deserialize_tuple(length, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 1);
        self.format.deserialize_tuple_struct(name, length, visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 1);
        self.format.deserialize_struct(name, fields, visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.counting(visitor, 1);
        self.format.deserialize_enum(name, variants, visitor)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.format.is_human_readable()
    }
}

/// The visitor of a value that has parts. Formats that do not describe themselves call what was asked for,
/// which is one of these.
struct CountingVisitor<'a, V> {
    /// The value's own visitor.
    visitor: V,
    /// How many fields each of its parts is: one, or none for an element of a sequence.
    worth: usize,
    /// Where fields are counted.
    tally: &'a Tally,
}

impl<'a, V> CountingVisitor<'a, V> {
    #[inline]
    fn new(visitor: V, worth: usize, tally: &'a Tally) -> Self {
        Self {
            visitor,
            worth,
            tally,
        }
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for CountingVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        let tally = self.tally;
        self.visitor.visit_some(Reader { format, tally })
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        let tally = self.tally;
        self.visitor.visit_newtype_struct(Reader { format, tally })
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, parts: A) -> Result<V::Value, A::Error> {
        let Self {
            visitor,
            worth,
            tally,
        } = self;
        let mut read = 0;
        let value = visitor.visit_seq(ReadParts {
            parts,
            read: &mut read,
            tally,
        });
        tally.add(read * worth);
        value
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let tally = self.tally;
        self.visitor.visit_map(MapEntries { entries, tally })
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let tally = self.tally;
        self.visitor.visit_enum(Variant { variant, tally })
    }
}

/// The parts of a struct, a tuple or a sequence.
struct ReadParts<'a, A> {
    /// The format's own access to the parts.
    parts: A,
    /// How many were read.
    read: &'a mut usize,
    /// Where their fields are counted.
    tally: &'a Tally,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for ReadParts<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let tally = self.tally;
        let part = self.parts.next_element_seed(CountedSeed { seed, tally })?;
        *self.read += usize::from(part.is_some());
        Ok(part)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.parts.size_hint()
    }
}

/// The entries of a map.
struct MapEntries<'a, A> {
    /// The format's own access to the entries.
    entries: A,
    /// Where the fields in them are counted.
    tally: &'a Tally,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for MapEntries<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        let tally = self.tally;
        self.entries.next_key_seed(CountedSeed { seed, tally })
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let tally = self.tally;
        self.entries.next_value_seed(CountedSeed { seed, tally })
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.entries.size_hint()
    }
}

/// Which variant of an enum it is, then the variant.
struct Variant<'a, A> {
    /// The format's own access to the variant.
    variant: A,
    /// Where its fields are counted.
    tally: &'a Tally,
}

impl<'de, 'a, A: EnumAccess<'de>> EnumAccess<'de> for Variant<'a, A> {
    type Error = A::Error;
    type Variant = Variant<'a, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        let tally = self.tally;
        // The variant's number is no part of the value, and is asked for as an identifier.
        let (value, variant) = self.variant.variant_seed(seed)?;
        Ok((value, Variant { variant, tally }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Variant<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.variant.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let tally = self.tally;
        tally.add(1);
        self.variant
            .newtype_variant_seed(CountedSeed { seed, tally })
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = CountingVisitor::new(visitor, 1, self.tally);
        self.variant.tuple_variant(length, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = CountingVisitor::new(visitor, 1, self.tally);
        self.variant.struct_variant(fields, visitor)
    }
}
