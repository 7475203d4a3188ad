//! The parser of files of endpoints: from bytes to a list, or to the position of the mistake.
//!
//! Finding and reading the file is left to [`super::watched`].

use std::collections::BTreeMap;
use std::fmt;

use farcall_protocol::text::parse_error;
use farcall_transport::{Address, AddressError};
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::endpoint::{AdvertisedState, Endpoint};
use crate::instance::{default_weight, or_default, or_default_weight};

/// The most endpoints of a file: as many as a registry holds.
pub(super) const MAX_ENDPOINTS: usize = 100_000;

/// The reason why the bytes of a file are not a list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("line {line}, column {column}: what follows is not UTF-8")]
    NotUtf8 { line: usize, column: usize },
    /// The text ends with the line and the column.
    #[error("{}", parse_error(.0))]
    Json(serde_json::Error),
    #[error("line {line}, column {column}: {error}")]
    Address { line: usize, column: usize, error: AddressError },
    #[error("line {line}, column {column}: {}", Undialable(address))]
    Undialable { line: usize, column: usize, address: Address },
    #[error("line {line}: there are more than {MAX_ENDPOINTS} addresses")]
    TooMany { line: usize },
    /// A file that is about to be written looks like this, too.
    #[error("there is no address in it; an empty list is written []")]
    Nobody,
}

/// Reads a list, as the documentation of [`super::FileDiscovery`] has it.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Endpoint>, ListError> {
    let text = str::from_utf8(bytes).map_err(|error| not_utf8(bytes, error.valid_up_to()))?;
    // Some editors begin every file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_json(text) {
        let List(endpoints) = serde_json::from_str(text).map_err(ListError::Json)?;
        Ok(endpoints)
    } else {
        read_lines(text)
    }
}

fn not_utf8(bytes: &[u8], valid: usize) -> ListError {
    let before = &bytes[..valid];
    let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
    let begin = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    ListError::NotUtf8 { line, column: 1 + valid - begin }
}

/// An IPv6 address begins with a bracket, too, but a hexadecimal digit or a colon follows there.
fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    match text.strip_prefix('[') {
        Some(rest) => !rest.trim_start().starts_with(|c: char| c.is_ascii_hexdigit() || c == ':'),
        None => text.starts_with('{'),
    }
}

fn read_lines(text: &str) -> Result<Vec<Endpoint>, ListError> {
    let mut endpoints = Vec::new();
    for (line, whole) in (1..).zip(text.lines()) {
        let address = without_comment(whole).trim();
        if address.is_empty() {
            continue;
        }
        if endpoints.len() == MAX_ENDPOINTS {
            return Err(ListError::TooMany { line });
        }
        let column = 1 + whole.len() - whole.trim_start().len();
        let address = Address::parse(address).map_err(|error| {
            let into = if let AddressError::ForbiddenCharacter { at, .. } = error { at } else { 0 };
            ListError::Address { line, column: column + into, error }
        })?;
        if address.is_unspecified() {
            return Err(ListError::Undialable { line, column, address });
        }
        endpoints.push(Endpoint::new(address));
    }
    if endpoints.is_empty() { Err(ListError::Nobody) } else { Ok(endpoints) }
}

/// A comment begins the line or follows white space: the path of a `unix` address may have a `#`.
fn without_comment(line: &str) -> &str {
    let begins = |at: usize| at == 0 || line[..at].ends_with(char::is_whitespace);
    match line.match_indices('#').find(|(at, _)| begins(*at)) {
        Some((at, _)) => &line[..at],
        None => line,
    }
}

struct Undialable<'a>(&'a Address);

impl fmt::Display for Undialable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} can be listened at, but not dialed", self.0)
    }
}

/// The JSON array.
struct List(Vec<Endpoint>);

impl<'de> Deserialize<'de> for List {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements;

        impl<'de> Visitor<'de> for Elements {
            type Value = List;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of endpoints")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<List, A::Error> {
                let mut list = Vec::new();
                while let Some(Element(endpoint)) = elements.next_element()? {
                    if list.len() == MAX_ENDPOINTS {
                        return Err(de::Error::custom(format_args!("more than {MAX_ENDPOINTS} endpoints")));
                    }
                    list.push(endpoint);
                }
                Ok(List(list))
            }
        }

        deserializer.deserialize_seq(Elements)
    }
}

/// One element of it: an address, or an object.
struct Element(Endpoint);

/// An endpoint as an object. A field that is misspelt is an error: ignored, a weight of 0 might
/// not drain.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    #[serde(alias = "addr")]
    address: Address,
    #[serde(default = "default_weight", deserialize_with = "or_default_weight")]
    weight: u16,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    metadata: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "or_default")]
    state: AdvertisedState,
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By hand, as an untagged enum would lose both the place and the reason of a mistake.
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, or an object with an `address`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Endpoint, E> {
                Address::parse(text).map(Endpoint::new).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Endpoint, A::Error> {
                let Object { address, weight, zone, version, metadata, state } =
                    Object::deserialize(MapAccessDeserializer::new(fields))?;
                Ok(Endpoint { address, weight, zone, version, metadata, state })
            }
        }

        let endpoint = deserializer.deserialize_any(Either)?;
        if endpoint.address.is_unspecified() {
            return Err(de::Error::custom(Undialable(&endpoint.address)));
        }
        Ok(Self(endpoint))
    }
}

#[cfg(test)]
mod tests;
