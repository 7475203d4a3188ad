//! The encoding of each type of serde in any [`Format`]. What cannot be carried is an error here, with its
//! place, because a decoder would read another value.

use serde::{Serialize, ser};

use super::compound::{Entries, Fields, Items};
use super::error::ValueError;
use super::format::{Format, Serializer};
use crate::buffer_source::BufferSource;
use crate::bytes::BYTES_NAME;

/// The name of the struct as which serde_json's numbers of any size are serialized, with their text.
const JSON_NUMBER: &str = "$serde_json::private::Number";
/// The name of the struct as which serde_json's raw values are serialized, with their text.
const JSON_RAW: &str = "$serde_json::private::RawValue";
/// The name of the newtype as which rmp-serde's users serialize extension types.
const MESSAGE_PACK_EXTENSION: &str = "_ExtStruct";

impl<'s, 'a, F: Format, B: BufferSource> ser::Serializer for &'s mut Serializer<'a, F, B> {
    type Ok = ();
    type Error = ValueError;
    type SerializeSeq = Items<'s, 'a, F, B>;
    type SerializeTuple = Items<'s, 'a, F, B>;
    type SerializeTupleStruct = Items<'s, 'a, F, B>;
    type SerializeTupleVariant = Items<'s, 'a, F, B>;
    type SerializeMap = Entries<'s, 'a, F, B>;
    type SerializeStruct = Fields<'s, 'a, F, B>;
    type SerializeStructVariant = Fields<'s, 'a, F, B>;

    #[inline]
    fn is_human_readable(&self) -> bool {
        !self.is_in_bytes
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), ValueError> {
        F::bool(&mut self.out, value)
    }

    #[inline]
    fn serialize_i8(self, value: i8) -> Result<(), ValueError> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i16(self, value: i16) -> Result<(), ValueError> {
        self.serialize_i64(value.into())
    }

    #[inline]
    fn serialize_i32(self, value: i32) -> Result<(), ValueError> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), ValueError> {
        F::signed(&mut self.out, value)
    }

    /// Writes an integer beyond 64 bits as its decimal text: MessagePack has no such integers, and most
    /// readers of JSON round them.
    fn serialize_i128(self, value: i128) -> Result<(), ValueError> {
        match (u64::try_from(value), i64::try_from(value)) {
            (Ok(value), _) => self.serialize_u64(value),
            (_, Ok(value)) => self.serialize_i64(value),
            _ => F::str(&mut self.out, &value.to_string()),
        }
    }

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<(), ValueError> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u16(self, value: u16) -> Result<(), ValueError> {
        self.serialize_u64(value.into())
    }

    #[inline]
    fn serialize_u32(self, value: u32) -> Result<(), ValueError> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), ValueError> {
        F::unsigned(&mut self.out, value)
    }

    fn serialize_u128(self, value: u128) -> Result<(), ValueError> {
        match u64::try_from(value) {
            Ok(value) => self.serialize_u64(value),
            Err(_) => F::str(&mut self.out, &value.to_string()),
        }
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<(), ValueError> {
        F::f32(&mut self.out, value)
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<(), ValueError> {
        F::f64(&mut self.out, value)
    }

    fn serialize_char(self, value: char) -> Result<(), ValueError> {
        F::str(&mut self.out, value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), ValueError> {
        F::str(&mut self.out, value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), ValueError> {
        if self.is_in_bytes { F::bytes(&mut self.out, value) } else { F::foreign_bytes(self, value) }
    }

    #[inline]
    fn serialize_none(self) -> Result<(), ValueError> {
        F::null(&mut self.out)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), ValueError> {
        let at = self.out.position();
        value.serialize(&mut *self)?;
        if self.out.byte(at) == Some(F::NULL) {
            return Err(ValueError::new(
                "`Some` of nothing has the form of `None`, as which it would arrive",
            ));
        }
        Ok(())
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), ValueError> {
        F::null(&mut self.out)
    }

    #[inline]
    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), ValueError> {
        F::null(&mut self.out)
    }

    #[inline]
    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), ValueError> {
        F::str(&mut self.out, variant)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<(), ValueError> {
        if name == BYTES_NAME {
            self.is_in_bytes = true;
            value.serialize(&mut *self)?;
            self.is_in_bytes = false;
            return Ok(());
        }
        if name == MESSAGE_PACK_EXTENSION {
            return Err(ValueError::new("farcall has no extension types of MessagePack"));
        }
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), ValueError> {
        self.begin_variant(variant)?;
        value.serialize(&mut *self).map_err(|error| error.under(variant))?;
        self.end_variant()
    }

    #[inline]
    fn serialize_seq(self, len: Option<usize>) -> Result<Items<'s, 'a, F, B>, ValueError> {
        let at = self.begin_seq(len)?;
        Ok(Items::new(self, len.ok_or(at), None))
    }

    #[inline]
    fn serialize_tuple(self, len: usize) -> Result<Items<'s, 'a, F, B>, ValueError> {
        self.serialize_seq(Some(len))
    }

    #[inline]
    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        len: usize,
    ) -> Result<Items<'s, 'a, F, B>, ValueError> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Items<'s, 'a, F, B>, ValueError> {
        self.begin_variant(variant)?;
        self.begin_seq(Some(len))?;
        Ok(Items::new(self, Ok(len), Some(variant)))
    }

    #[inline]
    fn serialize_map(self, len: Option<usize>) -> Result<Entries<'s, 'a, F, B>, ValueError> {
        let at = self.begin_map(len)?;
        Ok(Entries::new(self, len.ok_or(at)))
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Fields<'s, 'a, F, B>, ValueError> {
        if name == JSON_NUMBER || name == JSON_RAW {
            return Ok(Fields::json_text(self));
        }
        self.begin_map(Some(len))?;
        Ok(Fields::new(self, len, None))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Fields<'s, 'a, F, B>, ValueError> {
        self.begin_variant(variant)?;
        self.begin_map(Some(len))?;
        Ok(Fields::new(self, len, Some(variant)))
    }
}
