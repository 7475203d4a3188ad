//! The header of a message: its fields, and how they are written and read in either codec.
//! What may follow what is the sessions' business.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
#[cfg(feature = "msgpack")]
use std::str::Utf8Error;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::codec::Codec;
use crate::limits::Seq;
use crate::metadata::Metadata;
use crate::status::Status;
use crate::text::EscapedText;

#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;

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
    const ALL: [Self; 6] =
        [Self::Request, Self::Response, Self::Cancel, Self::Ping, Self::Pong, Self::Goaway];

    #[cfg(feature = "msgpack")]
    fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u64 == number)
    }

    #[cfg(feature = "json")]
    fn from_name(name: &str) -> Option<Self> {
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

    /// Whether all flags of `other` are set.
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
    /// What the message is.
    pub kind: Kind,
    /// The request it is, or is about.
    pub seq: Seq,
    /// `Service.method`, on a request.
    pub service_method: &'a str,
    /// What is left of the caller's time in milliseconds; 0 = no limit.
    pub timeout_ms: u64,
    /// What went wrong, on a response or goaway.
    pub error: Option<&'a Status>,
    /// Pairs beside the body; an empty map is not sent.
    pub metadata: Option<&'a Metadata>,
    /// What is special about the message.
    pub flags: Flags,
}

impl<'a> HeaderRef<'a> {
    /// A header with nothing but its kind and number.
    #[must_use]
    pub const fn new(kind: Kind, seq: Seq) -> Self {
        Self { kind, seq, service_method: "", timeout_ms: 0, error: None, metadata: None, flags: Flags::NONE }
    }

    /// Appends the header as `codec` has it.
    pub(crate) fn encode(&self, codec: &Codec, out: &mut BytesMut) {
        match codec {
            #[cfg(feature = "json")]
            Codec::Json => json::encode(self, out),
            #[cfg(feature = "msgpack")]
            _ => msgpack::encode(self, out),
        }
    }

    /// The metadata, if there is something in it.
    fn metadata(&self) -> Option<&'a Metadata> {
        self.metadata.filter(|metadata| !metadata.is_empty())
    }
}

/// A header as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub kind: Kind,
    /// The request it is, or is about.
    pub seq: Seq,
    /// `Service.method`, on a request.
    pub service_method: ByteStr,
    /// What is left of the caller's time in milliseconds; 0 = no limit.
    pub timeout_ms: u64,
    /// What went wrong, on a response or goaway.
    pub error: Option<Box<Status>>,
    /// Pairs beside the body.
    pub metadata: Option<Box<Metadata>>,
    /// What is special about the message.
    pub flags: Flags,
}

impl Header {
    /// Reads the header that `frame` of `message` is, as `codec` has it.
    pub(crate) fn decode(codec: &Codec, message: &Bytes, frame: Range<usize>) -> Result<Self, HeaderError> {
        match codec {
            #[cfg(feature = "json")]
            Codec::Json => json::decode(message, frame),
            #[cfg(feature = "msgpack")]
            _ => msgpack::decode(message, frame),
        }
    }

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

/// Text that came in a message: a copy where it is short, as names of methods are, else a slice of the
/// buffer it was read into.
#[derive(Clone)]
pub struct ByteStr(Text);

#[derive(Clone)]
enum Text {
    /// The text, zeros, and in the last byte its length.
    Copied([u8; COPY_BYTES]),
    Shared(Bytes),
}

/// So much as fits where a `Bytes` would be, beside the one word that tells the two apart. Such a copy
/// costs less than to count one more owner of the buffer, and later one less.
const COPY_BYTES: usize = size_of::<Bytes>() - size_of::<usize>();

impl Text {
    #[inline]
    fn copied(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; COPY_BYTES];
        let [copy @ .., len] = &mut bytes;
        copy.get_mut(..text.len())?.copy_from_slice(text);
        *len = text.len() as u8;
        Some(Self::Copied(bytes))
    }

    /// Whether it is ASCII, as names nearly always are, which is seen sooner than that it is UTF-8.
    #[cfg(feature = "msgpack")]
    fn is_ascii(&self) -> bool {
        match self {
            // Zeros and a length are ASCII, too: so many bytes are looked at for any text.
            Self::Copied(bytes) => bytes.is_ascii(),
            Self::Shared(bytes) => bytes.is_ascii(),
        }
    }
}

impl ByteStr {
    /// `text`, a part of `message`, if it is UTF-8.
    #[cfg(feature = "msgpack")]
    #[inline]
    fn part_of(message: &Bytes, text: &[u8]) -> Result<Self, Utf8Error> {
        let read = Self::slice_of(message, text);
        if !read.0.is_ascii() {
            std::str::from_utf8(text)?;
        }
        Ok(read)
    }

    /// `text`, which is UTF-8 and a part of `message`.
    #[inline]
    fn slice_of(message: &Bytes, text: &[u8]) -> Self {
        Self(Text::copied(text).unwrap_or_else(|| Text::Shared(message.slice_ref(text))))
    }

    /// The bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Copied([text @ .., len]) => &text[..usize::from(*len)],
            Text::Shared(bytes) => bytes,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("checked when it was made, and immutable since")
    }
}

impl Default for ByteStr {
    fn default() -> Self {
        Self(Text::Copied([0; COPY_BYTES]))
    }
}

impl PartialEq for ByteStr {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for ByteStr {}

impl Hash for ByteStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Deref for ByteStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for ByteStr {
    fn from(text: String) -> Self {
        Self(Text::copied(text.as_bytes()).unwrap_or_else(|| Text::Shared(text.into())))
    }
}

impl From<&str> for ByteStr {
    fn from(text: &str) -> Self {
        let text = text.as_bytes();
        Self(Text::copied(text).unwrap_or_else(|| Text::Shared(Bytes::copy_from_slice(text))))
    }
}

impl fmt::Debug for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedText(self).fmt(f)
    }
}

/// A header that does not decode, which is a protocol error.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The bytes are no header of the codec.
    #[error("header: {message}")]
    Malformed {
        /// What was found, and in which field.
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
    fn malformed(message: impl fmt::Display) -> Self {
        Self::Malformed { message: EscapedText(&message.to_string()).to_string() }
    }

    fn unknown_kind(found: impl fmt::Display) -> Self {
        Self::UnknownKind { found: EscapedText(&found.to_string()).to_string() }
    }
}

#[cfg(all(test, feature = "msgpack", feature = "json"))]
mod tests;
