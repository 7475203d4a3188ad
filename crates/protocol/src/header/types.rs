//! The types of a header: to be encoded, as decoded, and the error of an invalid one.

use std::fmt;

use thiserror::Error;

use super::byte_str::ByteStr;
use crate::limits::Seq;
use crate::metadata::Metadata;
use crate::status::Status;
use crate::text::{EscapedText, parse_error};

/// The kind of a message. The numbers are those of the MessagePack header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Kind {
    /// A call of a method; sent by clients.
    Request = 1,
    /// The answer to a request; sent by servers.
    Response = 2,
    /// The cancellation of a call; sent by clients.
    Cancel = 3,
    /// A request for a pong; sent by both sides.
    Ping = 4,
    /// The answer to a ping; sent by both sides.
    Pong = 5,
    /// The notice that no request after the given one is handled; sent by both sides.
    Goaway = 6,
    /// A value of a stream; sent by both sides.
    Item = 8,
    /// The notice that the client sends no further items of a call.
    End = 9,
    /// A grant of credit for items; sent by both sides.
    Credit = 10,
    /// The notice that the sender reads no further items of a call; sent by both sides.
    Stop = 11,
}

impl Kind {
    #[cfg(any(feature = "json", test))]
    pub(super) const ALL: [Self; 10] = [
        Self::Request,
        Self::Response,
        Self::Cancel,
        Self::Ping,
        Self::Pong,
        Self::Goaway,
        Self::Item,
        Self::End,
        Self::Credit,
        Self::Stop,
    ];

    #[cfg(feature = "msgpack")]
    pub(super) const fn from_number(number: u64) -> Option<Self> {
        Some(match number {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Cancel,
            4 => Self::Ping,
            5 => Self::Pong,
            6 => Self::Goaway,
            8 => Self::Item,
            9 => Self::End,
            10 => Self::Credit,
            11 => Self::Stop,
            _ => return None,
        })
    }

    #[cfg(feature = "json")]
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Returns the name in a JSON header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Cancel => "cancel",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Goaway => "goaway",
            Self::Item => "item",
            Self::End => "end",
            Self::Credit => "credit",
            Self::Stop => "stop",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The flag bits of a message. Unknown bits are dropped when they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The body is compressed.
    pub const COMPRESSED: Self = Self(1);
    /// The server must not send a response.
    pub const ONE_WAY: Self = Self(1 << 1);
    /// Executing the call twice has the effect of executing it once.
    pub const IDEMPOTENT: Self = Self(1 << 2);
    /// The caller sends or takes items. Ignored where the connection has no streams.
    pub const STREAMING: Self = Self(1 << 3);
    /// The sender of the item had waited for credit.
    pub const STARVED: Self = Self(1 << 4);

    const KNOWN: u64 = 0b1_1111;

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self((bits & Self::KNOWN) as u8)
    }

    pub(crate) const fn bits(self) -> u8 {
        self.0
    }

    /// Returns `true` if all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns these flags combined with those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A header to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct HeaderRef<'a> {
    /// The kind of the message.
    pub kind: Kind,
    /// The number of the request that the message is or refers to.
    pub seq: Seq,
    /// The full name of the method, `Service.method`, on a request.
    pub service_method: &'a str,
    /// The time left until the caller's deadline, in milliseconds; 0 if there is none.
    pub timeout_ms: u64,
    /// The error, on a response or goaway.
    pub error: Option<&'a Status>,
    /// The metadata of the message; an empty map is not sent.
    pub metadata: Option<&'a Metadata>,
    /// The flags of the message.
    pub flags: Flags,
}

impl<'a> HeaderRef<'a> {
    /// Creates a header with only a kind and a number.
    #[must_use]
    pub const fn new(kind: Kind, seq: Seq) -> Self {
        Self { kind, seq, service_method: "", timeout_ms: 0, error: None, metadata: None, flags: Flags::NONE }
    }

    /// Returns the metadata, if it is not empty.
    pub(super) fn metadata(&self) -> Option<&'a Metadata> {
        self.metadata.filter(|metadata| !metadata.is_empty())
    }
}

/// A decoded header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of the message.
    pub kind: Kind,
    /// The number of the request that the message is or refers to.
    pub seq: Seq,
    /// The full name of the method, `Service.method`, on a request.
    pub service_method: ByteStr,
    /// The time left until the caller's deadline, in milliseconds; 0 if there is none.
    pub timeout_ms: u64,
    /// The error, on a response or goaway.
    pub error: Option<Box<Status>>,
    /// The metadata of the message.
    pub metadata: Option<Box<Metadata>>,
    /// The flags of the message.
    pub flags: Flags,
}

impl Header {
    /// Creates a header with only a kind and a number.
    #[must_use]
    pub fn new(kind: Kind, seq: Seq) -> Self {
        Self {
            kind,
            seq,
            service_method: ByteStr::default(),
            timeout_ms: 0,
            error: None,
            metadata: None,
            flags: Flags::NONE,
        }
    }

    /// Borrows the header, to encode it.
    #[must_use]
    pub fn as_ref(&self) -> HeaderRef<'_> {
        HeaderRef {
            kind: self.kind,
            seq: self.seq,
            service_method: &self.service_method,
            timeout_ms: self.timeout_ms,
            error: self.error.as_deref(),
            metadata: self.metadata.as_deref(),
            flags: self.flags,
        }
    }
}

/// The error of a header that does not decode, which is a protocol error.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes are not a header in the connection's codec.
    #[error("header: {message}")]
    Malformed {
        /// The mistake and its field.
        message: String,
    },
    /// The kind is unknown to this version.
    #[error("header: kind {found} is unknown")]
    UnknownKind {
        /// The kind as received.
        found: String,
    },
}

impl HeaderError {
    pub(super) fn malformed(message: impl fmt::Display) -> Self {
        Self::Malformed { message: parse_error(&message) }
    }

    pub(super) fn unknown_kind(found: impl fmt::Display) -> Self {
        Self::UnknownKind { found: EscapedText(&found.to_string()).to_string() }
    }
}
