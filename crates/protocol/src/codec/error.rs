//! Errors of encoding and decoding values.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::text::EscapedText;

/// The error of a user's codec.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A value that a codec could not encode.
#[derive(Clone, Debug, Error)]
#[error("encoding `{type_name}`: {source}")]
pub struct EncodeError {
    type_name: &'static str,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

impl EncodeError {
    pub(super) fn new(type_name: &'static str, source: BoxError) -> Self {
        Self { type_name, source: Arc::from(source) }
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
        /// The deserializer's message, escaped and truncated to 1 KiB.
        message: String,
    },
}

impl DecodeError {
    /// Wraps a deserializer's error. Its message quotes bytes of the peer, so it is escaped.
    pub(super) fn value(error: impl fmt::Display) -> Self {
        Self::Value { message: EscapedText(&error.to_string()).to_string() }
    }
}
