//! A deserializer around the format's own: it counts the fields that are read, and notes what the format
//! cannot do.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::tally::Tally;
use super::worded::Worded;

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
        let value = self.seed.deserialize(Reader { format, tally });
        value.map_err(Worded::into_inner)
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

/// Values without parts: nothing is counted.
macro_rules! pass_on {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Worded<D::Error>> {
            let visitor = self.counting(visitor, 0);
            self.format.$method(visitor).map_err(Worded)
        })*
    };
}

/// Notes what only formats that describe themselves can do, and lets the format say no.
macro_rules! refuse {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Worded<D::Error>> {
            self.tally.blame(LOOKS_AHEAD.to_owned());
            self.format.$method(visitor).map_err(Worded)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Reader<'_, D> {
    type Error = Worded<D::Error>;

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
    ) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 0);
        self.format
            .deserialize_unit_struct(name, visitor)
            .map_err(Worded)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 0);
        self.format.deserialize_option(visitor).map_err(Worded)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 0);
        self.format
            .deserialize_newtype_struct(name, visitor)
            .map_err(Worded)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 0);
        self.format.deserialize_seq(visitor).map_err(Worded)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 0);
        self.format.deserialize_map(visitor).map_err(Worded)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 1);
        self.format
            .deserialize_tuple(length, visitor)
            .map_err(Worded)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 1);
        self.format
            .deserialize_tuple_struct(name, length, visitor)
            .map_err(Worded)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 1);
        self.format
            .deserialize_struct(name, fields, visitor)
            .map_err(Worded)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Worded<D::Error>> {
        let visitor = self.counting(visitor, 1);
        self.format
            .deserialize_enum(name, variants, visitor)
            .map_err(Worded)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.format.is_human_readable()
    }
}

/// The visitor of a value, whose parts it counts.
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

/// Passes values without parts on to the value's own visitor.
macro_rules! visit {
    ($($method:ident($value:ty))*) => {
        $(#[inline]
        fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.visitor.$method(value).map_err(Worded::into_inner)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for CountingVisitor<'_, V> {
    type Value = V::Value;

    visit! {
        visit_bool(bool)
        visit_i8(i8) visit_i16(i16) visit_i32(i32) visit_i64(i64) visit_i128(i128)
        visit_u8(u8) visit_u16(u16) visit_u32(u32) visit_u64(u64) visit_u128(u128)
        visit_f32(f32) visit_f64(f64)
        visit_char(char)
        visit_str(&str) visit_borrowed_str(&'de str) visit_string(String)
        visit_bytes(&[u8]) visit_borrowed_bytes(&'de [u8]) visit_byte_buf(Vec<u8>)
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_unit().map_err(Worded::into_inner)
    }

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.visitor.visit_none().map_err(Worded::into_inner)
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        let tally = self.tally;
        self.visitor
            .visit_some(Reader { format, tally })
            .map_err(Worded::into_inner)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, format: D) -> Result<V::Value, D::Error> {
        let tally = self.tally;
        self.visitor
            .visit_newtype_struct(Reader { format, tally })
            .map_err(Worded::into_inner)
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
        value.map_err(Worded::into_inner)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let tally = self.tally;
        self.visitor
            .visit_map(MapEntries { entries, tally })
            .map_err(Worded::into_inner)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        let tally = self.tally;
        self.visitor
            .visit_enum(Variant { variant, tally })
            .map_err(Worded::into_inner)
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
    type Error = Worded<A::Error>;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Worded<A::Error>> {
        let tally = self.tally;
        let part = self.parts.next_element_seed(CountedSeed { seed, tally });
        let part = part.map_err(Worded)?;
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
    type Error = Worded<A::Error>;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Worded<A::Error>> {
        let tally = self.tally;
        self.entries
            .next_key_seed(CountedSeed { seed, tally })
            .map_err(Worded)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, Worded<A::Error>> {
        let tally = self.tally;
        self.entries
            .next_value_seed(CountedSeed { seed, tally })
            .map_err(Worded)
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
    type Error = Worded<A::Error>;
    type Variant = Variant<'a, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), Worded<A::Error>> {
        let tally = self.tally;
        // The variant's number is no part of the value, and is asked for as an identifier.
        let (value, variant) = self.variant.variant_seed(seed).map_err(Worded)?;
        Ok((value, Variant { variant, tally }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Variant<'_, A> {
    type Error = Worded<A::Error>;

    #[inline]
    fn unit_variant(self) -> Result<(), Worded<A::Error>> {
        self.variant.unit_variant().map_err(Worded)
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<S::Value, Worded<A::Error>> {
        let tally = self.tally;
        tally.add(1);
        self.variant
            .newtype_variant_seed(CountedSeed { seed, tally })
            .map_err(Worded)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Worded<A::Error>> {
        let visitor = CountingVisitor::new(visitor, 1, self.tally);
        self.variant.tuple_variant(length, visitor).map_err(Worded)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Worded<A::Error>> {
        let visitor = CountingVisitor::new(visitor, 1, self.tally);
        self.variant.struct_variant(fields, visitor).map_err(Worded)
    }
}
