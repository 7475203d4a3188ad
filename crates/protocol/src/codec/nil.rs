//! [`Nil`]: the deserializer of arguments that were not sent.

use serde::de::{Deserializer, Error as _, Visitor};
use serde::forward_to_deserialize_any;

/// The deserializer of nothing, which reads unit, and `None` if it `is_option`: not where a value without parts
/// was sent.
pub(super) struct Nil {
    pub(super) is_option: bool,
}

impl<'de> Deserializer<'de> for Nil {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_unit()
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.is_option { visitor.visit_none() } else { Err(Self::Error::custom("nothing was sent")) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
