//! Routing keys that are a field of a call's arguments.

use std::collections::HashMap;
use std::fmt;

use farcall_protocol::Codec;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Returns the value of the argument `name`, as bytes that are the same in every codec: the text of a
/// string, the digits of a number, `true` or `false`. `None` if there is no such field, if it is
/// of another type, and if the arguments are an array, which has no names.
pub(super) fn of_argument(name: &str, arguments: &[u8], codec: &Codec) -> Option<Vec<u8>> {
    let mut fields = codec.decode::<HashMap<String, Field>>(arguments).ok()?;
    fields.remove(name)?.0
}

/// A field's value, if it can be a key.
struct Field(Option<Vec<u8>>);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor).map(Self)
    }
}

struct FieldVisitor;

impl<'de> Visitor<'de> for FieldVisitor {
    type Value = Option<Vec<u8>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Some(value.to_string().into_bytes()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string().into_bytes()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string().into_bytes()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Some(value.to_string().into_bytes()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(value.as_bytes().to_vec()))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Self::Value, E> {
        Ok(Some(value.to_vec()))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Arguments {
        user: &'static str,
        number: i64,
        open: bool,
        nested: Vec<Option<i64>>,
        map: HashMap<&'static str, i64>,
        none: Option<i64>,
    }

    #[test]
    fn field_gives_the_same_key_in_every_codec() {
        let map = HashMap::from([("user", 3)]);
        let arguments =
            Arguments { user: "ann", number: -7, open: true, nested: vec![Some(1), None], map, none: None };
        for codec in Codec::built_in() {
            let body = codec.encode(&arguments).unwrap();
            let key = |name| of_argument(name, &body, &codec).map(|key| String::from_utf8(key).unwrap());
            assert_eq!(key("user").as_deref(), Some("ann"), "{codec}");
            assert_eq!(key("number").as_deref(), Some("-7"), "{codec}");
            assert_eq!(key("open").as_deref(), Some("true"), "{codec}");
            for other in ["nested", "map", "none", "absent"] {
                assert_eq!(key(other), None, "{codec}: {other}");
            }
        }
    }

    #[test]
    fn arguments_without_names_have_no_key() {
        for codec in Codec::built_in() {
            let body = codec.encode(&(1, 2)).unwrap();
            assert_eq!(of_argument("0", &body, &codec), None);
            assert_eq!(of_argument("0", b"", &codec), None);
        }
    }
}
