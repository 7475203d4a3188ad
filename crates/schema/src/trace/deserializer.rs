//! The forms of values: each is noted, and a sample of it is given.

use std::any::type_name;

use farcall_protocol::as_bytes;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Visitor};
use serde_json::json;

use super::access::{ListAccess, MapAccess, TupleAccess};
use super::enums::read_enum;
use super::error::{Kind, TraceError};
use super::session::{Container, Session, merge, unreached};
use super::structs::read_fields;
use super::tracer::{Tracer, narrow};
use super::{names, samples};
use crate::types::Type;

macro_rules! integers {
    ($($method:ident $signed:literal $bits:literal)*) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
            *self.out = Type::int($signed, $bits);
            let number = self.number();
            // A `u64` is what visitors of all integers take, as the codecs give it.
            visitor.visit_u64(number.into())
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Tracer<'_> {
    type Error = TraceError;

    fn is_human_readable(&self) -> bool {
        true
    }

    integers! {
        deserialize_i8 true 8
        deserialize_i16 true 16
        deserialize_i32 true 32
        deserialize_i64 true 64
        deserialize_u8 false 8
        deserialize_u16 false 16
        deserialize_u32 false 32
        deserialize_u64 false 64
    }

    fn deserialize_i128<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::int(true, 128);
        visitor.visit_i128(self.number().into())
    }

    fn deserialize_u128<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::int(false, 128);
        visitor.visit_u128(self.number().into())
    }

    /// Gives the value that the codecs cannot tell from another type.
    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        self.opaque("it reads values of any form");
        match samples::any(self.session.attempt()) {
            samples::Any::Map => visitor.visit_map(MapDeserializer::new(std::iter::empty::<(&str, &str)>())),
            samples::Any::Null => visitor.visit_unit(),
            samples::Any::Text => visitor.visit_str(self.text()),
            samples::Any::Number => visitor.visit_u64(self.number().into()),
            samples::Any::Bool => visitor.visit_bool(true),
            samples::Any::List => visitor.visit_seq(SeqDeserializer::new(std::iter::empty::<&str>())),
            samples::Any::Float => visitor.visit_f64(1.5),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        self.opaque("it is ignored");
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::Bool;
        let sample = self.session.attempt().is_multiple_of(2);
        self.session.last_sample = Some(json!(sample));
        visitor.visit_bool(sample)
    }

    fn deserialize_f32<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::Float(32);
        visitor.visit_f64(self.number().into())
    }

    fn deserialize_f64<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::Float(64);
        visitor.visit_f64(self.number().into())
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::Char;
        self.session.last_sample = Some(json!("a"));
        visitor.visit_str("a")
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::Text;
        self.session.accepts_all = names::borrows_text(type_name::<V>());
        visitor.visit_borrowed_str(self.text())
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::ByteList;
        visitor.visit_borrowed_bytes(&[1])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        let Self { session, out, .. } = self;
        let name = names::in_option(type_name::<V::Value>());
        let mut inner = unreached();
        let owner = session.owners.last().cloned().unwrap_or_default();
        let result = if let Some(given) = session.given(names::unwrapped(name)) {
            inner = given.ty.clone();
            let example = given.example.clone();
            visitor.visit_some(example).map_err(|_| TraceError::new(Kind::Refused))
        } else if session.minimal > 0 || session.is_given_up(&owner) {
            visitor.visit_none()
        } else {
            session.enter()?;
            let result = visitor.visit_some(Tracer { session: &mut *session, out: &mut inner, name });
            session.leave();
            if !name.is_empty() {
                narrow(session, &owner, name, &mut inner, result.is_ok());
            }
            result
        };
        *out = inner.option();
        result
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TraceError> {
        *self.out = Type::Null;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        if name == as_bytes::NEWTYPE_NAME {
            *self.out = Type::Bytes;
            self.session.accepts_all = true;
            return visitor.visit_bytes(&[1]);
        }
        if name.starts_with('$') {
            self.opaque("its form depends on the codec");
            return visitor.visit_newtype_struct(json!(1)).map_err(|_| TraceError::new(Kind::Refused));
        }
        let (key, is_minimal) = self.begin(name, type_name::<V::Value>(), || Container::Newtype(unreached()));
        let mut inner = unreached();
        let result = match self.session.enter() {
            Err(error) => Err(error),
            Ok(()) => {
                let session = &mut *self.session;
                let result = visitor.visit_newtype_struct(Tracer { session, out: &mut inner, name: "" });
                self.session.leave();
                result
            }
        };
        match self.session.containers.get_mut(&key) {
            Some(Container::Newtype(known)) => merge(known, inner),
            _ => self.session.dispute(&key),
        }
        self.end(is_minimal);
        result
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        let name = type_name::<V::Value>();
        if !names::is_list(name) {
            self.opaque("its sequence is read by hand");
            let mut ignored = unreached();
            let count = usize::from(self.session.attempt().is_multiple_of(2));
            return visitor.visit_seq(ListAccess { session: self.session, item: &mut ignored, count, name });
        }
        let mut item = unreached();
        let count = self.session.elements_of(name);
        let result = visitor.visit_seq(ListAccess { session: self.session, item: &mut item, count, name });
        *self.out = item.list();
        result
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, TraceError> {
        let Self { session, out, .. } = self;
        let mut items = Vec::new();
        let result = tuple(session, &mut items, len, "tuple", visitor);
        *out = Type::Tuple(items);
        result
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let (key, is_minimal) = self.begin(name, type_name::<V::Value>(), || Container::Tuple(Vec::new()));
        let mut items = Vec::new();
        let result = tuple(self.session, &mut items, len, &key, visitor);
        match self.session.containers.get_mut(&key) {
            Some(Container::Tuple(known)) if known.is_empty() => *known = items,
            Some(Container::Tuple(known)) if known.len() == items.len() => {
                known.iter_mut().zip(items).for_each(|(known, seen)| merge(known, seen));
            }
            _ => self.session.dispute(&key),
        }
        self.end(is_minimal);
        result
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, TraceError> {
        let name = type_name::<V::Value>();
        let count = self.session.elements_of(name);
        let (mut key, mut value, mut has_fields) = (unreached(), unreached(), false);
        let is_map = names::is_map(name);
        let access = MapAccess {
            session: &mut *self.session,
            key: &mut key,
            value: &mut value,
            has_fields: &mut has_fields,
            count,
            name,
        };
        let result = visitor.visit_map(access);
        if has_fields {
            self.opaque("it has flattened fields");
        } else if is_map {
            *self.out = Type::map(key, value);
        } else {
            self.opaque("its map is read by hand");
        }
        result
    }

    fn deserialize_struct<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let (key, is_minimal) = self.begin(name, type_name::<V::Value>(), || Container::of_fields(fields));
        let result = read_fields(self.session, &key, fields, visitor);
        self.end(is_minimal);
        result
    }

    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TraceError> {
        let (key, is_minimal) =
            self.begin(name, type_name::<V::Value>(), || Container::of_variants(variants));
        let result = read_enum(self.session, &key, variants, visitor);
        self.end(is_minimal);
        result
    }
}

/// Reads a sequence whose elements have one form each.
fn tuple<'de, V: Visitor<'de>>(
    session: &mut Session,
    items: &mut Vec<Type>,
    len: usize,
    place: &str,
    visitor: V,
) -> Result<V::Value, TraceError> {
    items.resize_with(len, unreached);
    visitor.visit_seq(TupleAccess { session, items, place, read: 0 })
}
