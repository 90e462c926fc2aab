//! A serializer around the format's own: it counts fields, and refuses a value of which a field is left out.

use std::fmt::Display;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::tally::Tally;
use super::worded::Worded;

/// The fault of a map whose length is not known.
const FLATTENED: &str = "a map of unknown length, which is what `flatten` writes, needs a format that describes \
    itself: do without `flatten`, or send it as a `MessagePack` (feature `messagepack`)";

/// The fault of a sequence whose length is not known.
const WITHOUT_LENGTH: &str =
    "a sequence of unknown length cannot be written: collect it into a `Vec` before";

/// A value whose fields are counted while it is encoded.
pub(super) struct CountedValue<'a, T: ?Sized> {
    /// The value.
    value: &'a T,
    /// Where its fields are counted.
    tally: &'a Tally,
}

impl<'a, T: ?Sized> CountedValue<'a, T> {
    #[inline]
    pub(super) fn new(value: &'a T, tally: &'a Tally) -> Self {
        Self { value, tally }
    }
}

impl<T: Serialize + ?Sized> Serialize for CountedValue<'_, T> {
    #[inline]
    fn serialize<S: Serializer>(&self, format: S) -> Result<S::Ok, S::Error> {
        let writer = Writer {
            format,
            tally: self.tally,
        };
        self.value.serialize(writer).map_err(Worded::into_inner)
    }
}

/// The serializer around the format's own.
struct Writer<'a, S> {
    /// The format's own serializer.
    format: S,
    /// Where fields are counted.
    tally: &'a Tally,
}

/// Passes these values on to the format as they are.
macro_rules! pass_on {
    ($($method:ident($value:ty))*) => {
        $(#[inline]
        fn $method(self, value: $value) -> Result<S::Ok, Worded<S::Error>> {
            self.format.$method(value).map_err(Worded)
        })*
    };
}

impl<'a, S: Serializer> Serializer for Writer<'a, S> {
    type Ok = S::Ok;
    type Error = Worded<S::Error>;
    type SerializeSeq = WrittenParts<'a, S::SerializeSeq>;
    type SerializeTuple = WrittenParts<'a, S::SerializeTuple>;
    type SerializeTupleStruct = WrittenParts<'a, S::SerializeTupleStruct>;
    type SerializeTupleVariant = WrittenParts<'a, S::SerializeTupleVariant>;
    type SerializeMap = WrittenParts<'a, S::SerializeMap>;
    type SerializeStruct = WrittenParts<'a, S::SerializeStruct>;
    type SerializeStructVariant = WrittenParts<'a, S::SerializeStructVariant>;

    pass_on! {
        serialize_bool(bool)
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_f32(f32) serialize_f64(f64)
        serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_unit_struct(&'static str)
    }

    #[inline]
    fn serialize_unit(self) -> Result<S::Ok, Worded<S::Error>> {
        self.format.serialize_unit().map_err(Worded)
    }

    #[inline]
    fn serialize_none(self) -> Result<S::Ok, Worded<S::Error>> {
        self.format.serialize_none().map_err(Worded)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, Worded<S::Error>> {
        self.format
            .serialize_some(&CountedValue::new(value, self.tally))
            .map_err(Worded)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, Worded<S::Error>> {
        let value = CountedValue::new(value, self.tally);
        self.format
            .serialize_newtype_struct(name, &value)
            .map_err(Worded)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, Worded<S::Error>> {
        self.format
            .serialize_unit_variant(name, index, variant)
            .map_err(Worded)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, Worded<S::Error>> {
        self.tally.add(1);
        let value = CountedValue::new(value, self.tally);
        self.format
            .serialize_newtype_variant(name, index, variant, &value)
            .map_err(Worded)
    }

    #[inline]
    fn serialize_seq(self, length: Option<usize>) -> Result<Self::SerializeSeq, Worded<S::Error>> {
        if length.is_none() {
            self.tally.blame(WITHOUT_LENGTH.to_owned());
        }
        let parts = self.format.serialize_seq(length).map_err(Worded)?;
        Ok(WrittenParts::new(parts, ("", ""), self.tally))
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Self::SerializeMap, Worded<S::Error>> {
        if length.is_none() {
            self.tally.blame(FLATTENED.to_owned());
        }
        let parts = self.format.serialize_map(length).map_err(Worded)?;
        Ok(WrittenParts::new(parts, ("", ""), self.tally))
    }

    #[inline]
    fn serialize_tuple(self, length: usize) -> Result<Self::SerializeTuple, Worded<S::Error>> {
        let parts = self.format.serialize_tuple(length).map_err(Worded)?;
        Ok(WrittenParts::new(parts, ("", ""), self.tally))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleStruct, Worded<S::Error>> {
        let parts = self
            .format
            .serialize_tuple_struct(name, length)
            .map_err(Worded)?;
        Ok(WrittenParts::new(parts, (name, ""), self.tally))
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeTupleVariant, Worded<S::Error>> {
        let format = self.format;
        let parts = format
            .serialize_tuple_variant(name, index, variant, length)
            .map_err(Worded)?;
        Ok(WrittenParts::new(parts, (name, variant), self.tally))
    }

    #[inline]
    fn serialize_struct(
        self,
        name: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStruct, Worded<S::Error>> {
        let parts = self.format.serialize_struct(name, length).map_err(Worded)?;
        Ok(WrittenParts::new(parts, (name, ""), self.tally))
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Self::SerializeStructVariant, Worded<S::Error>> {
        let format = self.format;
        let parts = format
            .serialize_struct_variant(name, index, variant, length)
            .map_err(Worded)?;
        Ok(WrittenParts::new(parts, (name, variant), self.tally))
    }

    #[inline]
    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, Worded<S::Error>> {
        self.format.collect_str(value).map_err(Worded)
    }

    #[inline]
    fn is_human_readable(&self) -> bool {
        self.format.is_human_readable()
    }
}

/// The serializer of a value that has several parts.
struct WrittenParts<'a, P> {
    /// The format's own serializer of the parts.
    parts: P,
    /// The names of the type and of its variant; empty where there is none.
    owner: (&'static str, &'static str),
    /// The number of fields so far.
    fields: usize,
    /// Where fields are counted, once all are there.
    tally: &'a Tally,
}

impl<'a, P> WrittenParts<'a, P> {
    #[inline]
    fn new(parts: P, owner: (&'static str, &'static str), tally: &'a Tally) -> Self {
        Self {
            parts,
            owner,
            fields: 0,
            tally,
        }
    }

    /// Counts a field; the fields of its value are counted as it is encoded.
    #[inline]
    fn field<'v, T: ?Sized>(&mut self, value: &'v T) -> CountedValue<'v, T>
    where
        'a: 'v,
    {
        self.fields += 1;
        CountedValue::new(value, self.tally)
    }

    /// Adds the fields to the tally; returns the format's own serializer of the parts, to be ended.
    #[inline]
    fn counted(self) -> P {
        self.tally.add(self.fields);
        self.parts
    }

    /// The error of a field that is left out.
    #[cold]
    fn left_out<E: Error>(&self, field: &str) -> E {
        let (name, variant) = self.owner;
        let colons = if variant.is_empty() { "" } else { "::" };
        let fault = format!(
            "field `{field}` of `{name}{colons}{variant}` is left out (`skip_serializing_if`), \
             but fields are read by their position: write it always, or `skip` it"
        );
        self.tally.blame(fault.clone());
        E::custom(fault)
    }
}

/// Elements of sequences and maps are not counted, since their number is encoded.
impl<P: SerializeSeq> SerializeSeq for WrittenParts<'_, P> {
    type Ok = P::Ok;
    type Error = Worded<P::Error>;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), Worded<P::Error>> {
        let value = CountedValue::new(value, self.tally);
        self.parts.serialize_element(&value).map_err(Worded)
    }

    #[inline]
    fn end(self) -> Result<P::Ok, Worded<P::Error>> {
        self.parts.end().map_err(Worded)
    }
}

impl<P: SerializeMap> SerializeMap for WrittenParts<'_, P> {
    type Ok = P::Ok;
    type Error = Worded<P::Error>;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Worded<P::Error>> {
        self.parts
            .serialize_key(&CountedValue::new(key, self.tally))
            .map_err(Worded)
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(
        &mut self,
        value: &T,
    ) -> Result<(), Worded<P::Error>> {
        self.parts
            .serialize_value(&CountedValue::new(value, self.tally))
            .map_err(Worded)
    }

    #[inline]
    fn end(self) -> Result<P::Ok, Worded<P::Error>> {
        self.parts.end().map_err(Worded)
    }
}

/// Implements the serializer of values with fields that are found by their position: the trait, and its
/// method for one field.
macro_rules! count_positions {
    ($($kind:ident::$method:ident)*) => {
        $(impl<P: $kind> $kind for WrittenParts<'_, P> {
            type Ok = P::Ok;
            type Error = Worded<P::Error>;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Worded<P::Error>> {
                let value = self.field(value);
                self.parts.$method(&value).map_err(Worded)
            }

            #[inline]
            fn end(self) -> Result<P::Ok, Worded<P::Error>> {
                self.counted().end().map_err(Worded)
            }
        })*
    };
}

count_positions! {
    SerializeTuple::serialize_element
    SerializeTupleStruct::serialize_field
    SerializeTupleVariant::serialize_field
}

/// Implements the serializer of values with named fields, of which one may be left out.
macro_rules! count_names {
    ($($kind:ident)*) => {
        $(impl<P: $kind> $kind for WrittenParts<'_, P> {
            type Ok = P::Ok;
            type Error = Worded<P::Error>;

            #[inline]
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Worded<P::Error>> {
                let value = self.field(value);
                self.parts.serialize_field(key, &value).map_err(Worded)
            }

            #[inline]
            fn skip_field(&mut self, key: &'static str) -> Result<(), Worded<P::Error>> {
                Err(self.left_out(key))
            }

            #[inline]
            fn end(self) -> Result<P::Ok, Worded<P::Error>> {
                self.counted().end().map_err(Worded)
            }
        })*
    };
}

count_names! { SerializeStruct SerializeStructVariant }
