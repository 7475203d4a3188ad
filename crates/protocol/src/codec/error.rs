//! Errors of encoding and decoding values.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde::{de, ser};

use thiserror::Error;

use crate::text::{parse_error, truncate};

/// The error of a user's codec.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A value that a codec could not encode.
#[derive(Clone, Debug, Error)]
#[error("encoding `{type_name}`: {cause}")]
pub struct EncodeError {
    type_name: &'static str,
    cause: Arc<dyn std::error::Error + Send + Sync>,
}

impl EncodeError {
    pub(super) fn new(type_name: &'static str, cause: BoxError) -> Self {
        Self { type_name, cause: Arc::from(cause) }
    }

    /// Returns the error of the codec, which can be downcast. Its text is part of this one's.
    #[must_use]
    pub fn cause(&self) -> &(dyn std::error::Error + 'static) {
        &*self.cause
    }
}

/// An error of decoding: the bytes are not a value of the requested type.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within the value, or a count is larger than they can hold.
    #[error("the value is cut short at byte {at}")]
    Truncated {
        /// The position at which more bytes were expected.
        at: usize,
    },
    /// The value nests deeper than [`MAX_DEPTH`](crate::limits::MAX_DEPTH).
    #[error("the value nests deeper than {limit} levels at byte {at}")]
    TooDeep {
        /// The position at which the first level past the limit begins.
        at: usize,
        /// The limit, in levels.
        limit: usize,
    },
    /// A byte that MessagePack never uses (0xc1).
    #[error("byte {at} is 0xc1, which is no MessagePack")]
    Reserved {
        /// The position of the byte.
        at: usize,
    },
    /// Bytes follow the value.
    #[error("{extra} bytes follow the value, which ends at byte {at}")]
    Trailing {
        /// The position at which the value ends.
        at: usize,
        /// The number of bytes that follow.
        extra: usize,
    },
    /// The deserializer refused the bytes: they are malformed, or not a value of the requested type.
    #[error("{message}")]
    Value {
        /// The deserializer's message, escaped, and without its middle if that is long: see [`parse_error`].
        message: String,
    },
}

impl DecodeError {
    /// Wraps a deserializer's error. Its message quotes bytes of the peer, so it is escaped.
    pub(super) fn value(error: impl fmt::Display) -> Self {
        let text = error.to_string();
        let mut message = parse_error(&text);
        // serde's own sentence, which does not say what to do.
        if text.contains("128 is not supported") {
            message.push_str(", within `flatten`, `untagged` or `tag`: use `with = \"farcall::as_int128\"`");
        }
        Self::Value { message }
    }

    /// Returns this error if it names a missing field, which says more than that nothing is no value of the
    /// type; else `other`.
    pub(super) fn or_missing(self, other: Self) -> Self {
        match &self {
            Self::Value { message } if message.starts_with("missing field") => self,
            _ => other,
        }
    }
}

/// The longest part of a place that is quoted, in bytes. A key may be a peer's text.
const MAX_PART: usize = 64;

/// The error of a serializer or deserializer, with the place of the value within the body.
///
/// It is one pointer, since every step of encoding and decoding returns it.
#[derive(Debug)]
pub(super) struct ValueError(Box<Details>);

#[derive(Debug)]
struct Details {
    message: String,
    /// The parts of the place, the innermost first.
    place: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Key(String),
    Index(usize),
}

impl ValueError {
    #[cold]
    pub(super) fn new(message: impl fmt::Display) -> Self {
        Self(Box::new(Details { message: message.to_string(), place: Vec::new() }))
    }

    /// Adds that the value is that of a field, of a key, or of a variant.
    #[cold]
    pub(super) fn under(mut self, key: &str) -> Self {
        self.0.place.push(Part::Key(truncate(key, MAX_PART).to_owned()));
        self
    }

    /// Adds that the value is an element of a list.
    #[cold]
    pub(super) fn at(mut self, index: usize) -> Self {
        self.0.place.push(Part::Index(index));
        self
    }

    /// Returns the place, such as `points[3].x`; empty for the whole value.
    fn place(&self) -> String {
        let mut place = String::new();
        for part in self.0.place.iter().rev() {
            let _ = match part {
                Part::Key(key) if place.is_empty() => write!(place, "{key}"),
                Part::Key(key) => write!(place, ".{key}"),
                Part::Index(index) => write!(place, "[{index}]"),
            };
        }
        place
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match self.place() {
            place if place.is_empty() => Ok(()),
            place => write!(f, " at `{place}`"),
        }
    }
}

impl std::error::Error for ValueError {}

impl ser::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

impl de::Error for ValueError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

impl From<DecodeError> for ValueError {
    fn from(error: DecodeError) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn cause_of_an_encode_error_is_told_by_its_text_alone() {
        let error = EncodeError::new("u8", Box::new(fmt::Error));
        assert!(error.to_string().ends_with(&fmt::Error.to_string()), "{error}");
        assert!(error.source().is_none() && error.cause().is::<fmt::Error>());
    }
}
