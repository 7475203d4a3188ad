//! Integers of 128 bits for `#[serde(with = "...")]` within `#[serde(flatten)]`, `#[serde(untagged)]` and
//! internally tagged types, where serde itself reads no `u128` and no `i128`.
//!
//! The form is the usual one: a number, or beyond 64 bits its decimal text.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Account {
//!     owner: String,
//!     #[serde(flatten)]
//!     balance: Balance,
//! }
//!
//! #[derive(Serialize, Deserialize)]
//! struct Balance {
//!     #[serde(with = "farcall_protocol::as_int128")]
//!     cents: u128,
//! }
//!
//! # #[cfg(feature = "json")] {
//! let account = Account { owner: "a".to_owned(), balance: Balance { cents: 1 << 100 } };
//! let body = farcall_protocol::Codec::Json.encode(&account)?;
//! assert_eq!(&body[..], br#"{"owner":"a","cents":"1267650600228229401496703205376"}"#);
//! assert_eq!(farcall_protocol::Codec::Json.decode::<Account>(&body)?.balance.cents, 1 << 100);
//! # }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserializer, Serialize, Serializer};

/// Serializes an integer as a number, or beyond 64 bits as its decimal text.
///
/// # Errors
///
/// The serializer's.
pub fn serialize<T: Int128, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    if let Ok(value) = TryInto::<u64>::try_into(*value) {
        serializer.serialize_u64(value)
    } else if let Ok(value) = TryInto::<i64>::try_into(*value) {
        serializer.serialize_i64(value)
    } else {
        serializer.collect_str(value)
    }
}

/// Deserializes an integer from a number, or from its decimal text.
///
/// # Errors
///
/// The deserializer's; the value is no integer of this type.
pub fn deserialize<'de, T: Int128, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_any(IntVisitor(PhantomData))
}

/// `i128` or `u128`.
pub trait Int128:
    Serialize + fmt::Display + FromStr + TryFrom<u64> + TryFrom<i64> + TryInto<u64> + TryInto<i64> + Copy
{
}

impl Int128 for i128 {}
impl Int128 for u128 {}

struct IntVisitor<T>(PhantomData<T>);

impl<T: Int128> Visitor<'_> for IntVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an integer of 128 bits")
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::try_from(value).map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}
