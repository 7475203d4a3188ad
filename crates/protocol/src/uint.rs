//! [`Uint`]: an integer of the protocol in JSON, in headers, Options and credit. The arguments of methods are left to serde.

use std::fmt;

use serde::de::{Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::limits::Seq;

/// An unsigned integer in any notation of JSON (`7`, `7.0`, `7e0`), or null.
#[derive(Default)]
pub(crate) struct Uint(pub(crate) Option<u64>);

impl<'de> Deserialize<'de> for Uint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UintVisitor)
    }
}

struct UintVisitor;

impl Visitor<'_> for UintVisitor {
    type Value = Uint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unsigned integer")
    }

    fn visit_unit<E>(self) -> Result<Uint, E> {
        Ok(Uint(None))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Uint, E> {
        Ok(Uint(Some(value)))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Uint, E> {
        let exact = value.fract() == 0.0 && (0.0..Seq::JSON_END as f64).contains(&value);
        if exact {
            Ok(Uint(Some(value as u64)))
        } else {
            Err(E::invalid_value(Unexpected::Float(value), &self))
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Uint, E> {
        Err(E::invalid_value(Unexpected::Signed(value), &self))
    }
}

/// Reads a field that may be absent or null.
pub(crate) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    Uint::deserialize(deserializer).map(|Uint(value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_in_any_notation_is_itself() {
        for (text, value) in [
            ("7", Some(7)),
            ("7.0", Some(7)),
            ("70e-1", Some(7)),
            ("3.405691582E9", Some(3_405_691_582)),
            ("18446744073709551615", Some(u64::MAX)),
            ("null", None),
        ] {
            assert_eq!(serde_json::from_str::<Uint>(text).unwrap().0, value, "{text}");
        }
        for text in ["-1", "7.5", "1e300", "9007199254740992.0", "\"7\"", "true", "[7]"] {
            let error = serde_json::from_str::<Uint>(text).err().unwrap().to_string();
            assert!(error.contains("expected an unsigned integer"), "{text}: {error}");
        }
    }
}
