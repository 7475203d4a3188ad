//! The reading of each type of serde from a [`Reader`].
//!
//! It states that it is human-readable, so that what has a text in serde (addresses, ids, times) has it in
//! MessagePack as in JSON.

use std::fmt;

use rmp::Marker;
use serde::de::value::SeqDeserializer;
use serde::de::{self, Error as _, Unexpected, Visitor};

use super::access::{List, Map, Name, Variant};
use super::error::ValueError;
use super::reader::{Reader, ScalarText, is_scalar, is_string};
use super::walk;
use crate::bytes::BYTES_NAME;

macro_rules! numbers {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            number(self, visitor)
        }
    )*};
}

macro_rules! texts {
    ($($method:ident)*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
            string(self, visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = ValueError;

    #[inline]
    fn is_human_readable(&self) -> bool {
        true
    }

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        any(self, visitor)
    }

    numbers! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    texts! { deserialize_char deserialize_str deserialize_string deserialize_identifier }

    fn deserialize_i128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_i128(self.wide("i128", i128::from_be_bytes)?)
    }

    fn deserialize_u128<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        visitor.visit_u128(self.wide("u128", u128::from_be_bytes)?)
    }

    #[inline]
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        any(self, visitor)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        any(self, visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        if self.peek()? == Marker::Null {
            self.at += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        any(self, visitor)
    }

    /// Accepts an empty array as well, which rmp-serde writes.
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if matches!(self.peek()?, Marker::FixArray(0)) {
            self.at += 1;
            return visitor.visit_unit();
        }
        any(self, visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        if name == BYTES_NAME {
            let marker = self.peek()?;
            if is_string(marker) {
                self.at += 1;
                let len = self.len(marker)?;
                return visitor.visit_borrowed_bytes(self.slice(len)?);
            }
            return any(self, visitor);
        }
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        container(self, visitor)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, ValueError> {
        container(self, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        container(self, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        fields(self, &[], visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        fields(self, names, visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ValueError> {
        let marker = self.peek()?;
        if is_string(marker) {
            return visitor.visit_enum(Name(self));
        }
        if matches!(marker, Marker::FixMap(_) | Marker::Map16 | Marker::Map32) {
            self.at += 1;
            let len = self.len(marker)?;
            if len != 1 {
                return Err(ValueError::invalid_length(len, &"a map with one key, the name of the variant"));
            }
            if is_string(self.peek()?) {
                let name_at = self.at;
                self.enter(len)?;
                let value = visitor.visit_enum(Variant { reader: &mut *self, name_at });
                self.leave();
                return value;
            }
        }
        Err(ValueError::invalid_type(Unexpected::Other("no string"), &"the name of a variant"))
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ValueError> {
        self.at += walk::value_len(self.bytes.get(self.at..).unwrap_or_default())?;
        visitor.visit_unit()
    }
}

/// Reads a number or a bool. In a key it may be a text, as in JSON.
#[inline]
fn number<'de, V: Visitor<'de>>(reader: &mut Reader<'de>, visitor: V) -> Result<V::Value, ValueError> {
    if let Some(value) = reader.small_number() {
        return visitor.visit_u8(value);
    }
    if let Some(value) = reader.large_number().or_else(|| reader.last_number()) {
        return visitor.visit_u64(value);
    }
    let marker = reader.peek()?;
    if is_scalar(marker) {
        reader.at += 1;
        return reader.scalar(marker, visitor);
    }
    if !reader.is_key || !is_string(marker) {
        return any(reader, visitor);
    }
    let text = reader.text()?;
    if let Ok(value) = text.parse::<u64>() {
        visitor.visit_u64(value)
    } else if let Ok(value) = text.parse::<i64>() {
        visitor.visit_i64(value)
    } else if let Ok(value) = text.parse::<bool>() {
        visitor.visit_bool(value)
    } else {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => visitor.visit_f64(value),
            _ => Err(ValueError::invalid_value(Unexpected::Str(text), &visitor)),
        }
    }
}

/// Reads a string. In a key it may be a number or a bool, which stands for its text.
#[inline]
fn string<'de, V: Visitor<'de>>(reader: &mut Reader<'de>, visitor: V) -> Result<V::Value, ValueError> {
    if reader.is_key
        && let Some(key) = reader.likely_key()
    {
        return visitor.visit_borrowed_str(key);
    }
    if let Some(text) = reader.short_text() {
        return visitor.visit_borrowed_str(reader.checked(text)?);
    }
    let marker = reader.peek()?;
    if is_string(marker) {
        reader.at += 1;
        let len = reader.len(marker)?;
        return visitor.visit_borrowed_str(reader.utf8(len)?);
    }
    if reader.is_key && is_scalar(marker) {
        reader.at += 1;
        return visitor.visit_string(reader.scalar(marker, ScalarText)?);
    }
    any(reader, visitor)
}

#[inline]
fn list<'de, V: Visitor<'de>>(
    reader: &mut Reader<'de>,
    len: usize,
    visitor: V,
) -> Result<V::Value, ValueError> {
    reader.enter(len)?;
    let mut list = List { reader: &mut *reader, len, left: len };
    let value = visitor.visit_seq(&mut list);
    let left = list.left;
    reader.leave();
    let value = value?;
    match left {
        0 => Ok(value),
        left => Err(ValueError::invalid_length(len, &Elements(len - left))),
    }
}

/// Reads a map, probably with keys of these names, or any other value that the type accepts in its place.
#[inline]
fn fields<'de, V: Visitor<'de>>(
    reader: &mut Reader<'de>,
    names: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, ValueError> {
    match reader.small_map() {
        Some(len) => map(reader, len, names, visitor),
        None => any(reader, visitor),
    }
}

#[inline]
fn map<'de, V: Visitor<'de>>(
    reader: &mut Reader<'de>,
    len: usize,
    likely: &'static [&'static str],
    visitor: V,
) -> Result<V::Value, ValueError> {
    // A key and a value for each entry; the number of entries is at most that of 32 bits.
    reader.enter(2 * len)?;
    let mut map = Map { reader: &mut *reader, left: len, key_at: 0, likely };
    let value = visitor.visit_map(&mut map);
    let left = map.left;
    reader.leave();
    let value = value?;
    match left {
        0 => Ok(value),
        left => Err(ValueError::invalid_length(len, &Elements(len - left))),
    }
}

#[inline]
fn any<'de, V: Visitor<'de>>(reader: &mut Reader<'de>, visitor: V) -> Result<V::Value, ValueError> {
    let marker = reader.marker()?;
    match marker {
        marker if is_string(marker) => {
            let len = reader.len(marker)?;
            visitor.visit_borrowed_str(reader.utf8(len)?)
        }
        Marker::Bin8 | Marker::Bin16 | Marker::Bin32 => {
            let len = reader.len(marker)?;
            visitor.visit_borrowed_bytes(reader.slice(len)?)
        }
        Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
            let len = reader.len(marker)?;
            list(reader, len, visitor)
        }
        Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
            let len = reader.len(marker)?;
            map(reader, len, &[], visitor)
        }
        _ => reader.scalar(marker, visitor),
    }
}

/// Reads a list or a map; a byte string is a list of numbers.
#[inline]
fn container<'de, V: Visitor<'de>>(reader: &mut Reader<'de>, visitor: V) -> Result<V::Value, ValueError> {
    if let Some(len) = reader.small_list() {
        return list(reader, len, visitor);
    }
    let marker = reader.peek()?;
    if !matches!(marker, Marker::Bin8 | Marker::Bin16 | Marker::Bin32) {
        return any(reader, visitor);
    }
    reader.at += 1;
    let len = reader.len(marker)?;
    let mut numbers = SeqDeserializer::<_, ValueError>::new(reader.slice(len)?.iter().copied());
    let value = visitor.visit_seq(&mut numbers)?;
    numbers.end()?;
    Ok(value)
}

/// The number of elements that were expected.
struct Elements(usize);

impl de::Expected for Elements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.0)
    }
}
