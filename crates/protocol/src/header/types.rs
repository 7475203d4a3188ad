//! The fields of a header: as they are written, as they are read, and the error of one that is not valid.

use std::fmt;

use thiserror::Error;

use super::byte_str::ByteStr;
use crate::limits::Seq;
use crate::metadata::Metadata;
use crate::status::Status;
use crate::text::EscapedText;

/// What a message is. The numbers are those of the MessagePack header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Call a method; from a client.
    Request = 1,
    /// The answer to a request; from a server.
    Response = 2,
    /// The caller has gone; from a client.
    Cancel = 3,
    /// Answer this; from both.
    Ping = 4,
    /// The answer to a ping.
    Pong = 5,
    /// No request after this one is, or will be, handled; from both.
    Goaway = 6,
}

impl Kind {
    pub(super) const ALL: [Self; 6] =
        [Self::Request, Self::Response, Self::Cancel, Self::Ping, Self::Pong, Self::Goaway];

    #[cfg(feature = "msgpack")]
    pub(super) fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }

    #[cfg(feature = "json")]
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The name in a JSON header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Cancel => "cancel",
            Self::Ping => "ping",
            Self::Pong => "pong",
            Self::Goaway => "goaway",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The flag bits of a message. Bits that nobody knows are dropped when they are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The body is compressed.
    pub const COMPRESSED: Self = Self(1);
    /// No response is to be sent.
    pub const ONE_WAY: Self = Self(1 << 1);
    /// The call may be made twice with the effect of once.
    pub const IDEMPOTENT: Self = Self(1 << 2);

    const KNOWN: u64 = 0b111;

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

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// A header as it is written.
#[derive(Clone, Copy, Debug)]
pub struct HeaderRef<'a> {
    /// The kind of the message.
    pub kind: Kind,
    /// The request it is, or is about.
    pub seq: Seq,
    /// `Service.method`, on a request.
    pub service_method: &'a str,
    /// The rest of the caller's time in milliseconds; 0 = no limit.
    pub timeout_ms: u64,
    /// The error, on a response or goaway.
    pub error: Option<&'a Status>,
    /// Pairs beside the body; an empty map is not sent.
    pub metadata: Option<&'a Metadata>,
    /// The flags of the message.
    pub flags: Flags,
}

impl<'a> HeaderRef<'a> {
    /// A header with nothing but its kind and number.
    #[must_use]
    pub const fn new(kind: Kind, seq: Seq) -> Self {
        Self { kind, seq, service_method: "", timeout_ms: 0, error: None, metadata: None, flags: Flags::NONE }
    }

    /// The metadata, if there is something in it.
    pub(super) fn metadata(&self) -> Option<&'a Metadata> {
        self.metadata.filter(|metadata| !metadata.is_empty())
    }
}

/// A header as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The kind of the message.
    pub kind: Kind,
    /// The request it is, or is about.
    pub seq: Seq,
    /// `Service.method`, on a request.
    pub service_method: ByteStr,
    /// The rest of the caller's time in milliseconds; 0 = no limit.
    pub timeout_ms: u64,
    /// The error, on a response or goaway.
    pub error: Option<Box<Status>>,
    /// Pairs beside the body.
    pub metadata: Option<Box<Metadata>>,
    /// The flags of the message.
    pub flags: Flags,
}

impl Header {
    /// The same header, to be written.
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

/// A header that does not decode, which is a protocol error.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes are no header of the codec.
    #[error("header: {message}")]
    Malformed {
        /// The finding, and in which field.
        message: String,
    },
    /// A kind that this version does not know, or that was not agreed on.
    #[error("header: kind {found} is unknown")]
    UnknownKind {
        /// The kind as sent.
        found: String,
    },
}

impl HeaderError {
    pub(super) fn malformed(message: impl fmt::Display) -> Self {
        Self::Malformed { message: EscapedText(&message.to_string()).to_string() }
    }

    pub(super) fn unknown_kind(found: impl fmt::Display) -> Self {
        Self::UnknownKind { found: EscapedText(&found.to_string()).to_string() }
    }
}
