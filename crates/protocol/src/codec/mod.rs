//! Codecs: how values become bodies and come back. Headers are the `header` module's.

use std::any::type_name;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::blocks;
use crate::body::Body;
use crate::bytes::offered;
use crate::text::EscapedText;

#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "msgpack")]
pub(crate) mod walk;

#[cfg(not(any(feature = "msgpack", feature = "json")))]
compile_error!("farcall needs a codec: enable the feature `msgpack`, or `json`, or both");

/// A codec of a connection: one of the two built in, or one of the user's.
///
/// ```
/// use farcall_protocol::Codec;
///
/// # #[cfg(feature = "json")] {
/// let body = Codec::Json.encode(&vec![6, 7])?;
/// assert_eq!(&body[..], b"[6,7]");
/// assert_eq!(Codec::Json.decode::<Vec<i64>>(&body)?, [6, 7]);
/// # }
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub enum Codec {
    /// `application/msgpack`, the default: compact, and the faster one.
    #[cfg(feature = "msgpack")]
    MessagePack,
    /// `application/json`: readable on the wire.
    #[cfg(feature = "json")]
    Json,
    /// A codec of the user's. It encodes bodies only: its headers are as in MessagePack.
    #[cfg(feature = "msgpack")]
    Custom(Arc<dyn BodyCodec>),
}

/// A codec that a user adds under a name of their own.
///
/// The decoder is given bytes that a stranger may have chosen: it must bound its depth, treat
/// trailing bytes as an error, and reserve no memory for a count that the bytes cannot hold.
#[cfg(feature = "msgpack")]
pub trait BodyCodec: Send + Sync + 'static {
    /// Its name in the Option, such as `application/cbor`; at most 255 bytes.
    fn name(&self) -> &str;

    /// Appends `value`, encoded, to `out`.
    ///
    /// # Errors
    ///
    /// What about the value this codec cannot express.
    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut BytesMut) -> Result<(), BoxError>;

    /// Hands `build` a deserializer over the one value in `bytes`.
    ///
    /// # Errors
    ///
    /// What about the bytes is wrong, and where.
    fn decode(
        &self,
        bytes: &[u8],
        build: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>,
    ) -> Result<(), BoxError>;
}

/// An error of a user's codec.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

thread_local! {
    /// Where bodies are encoded. Small ones are cut from one block, which is used again when all
    /// that was cut from it has been dropped, so that most bodies cost no allocation.
    static SCRATCH: Cell<Option<BytesMut>> = const { Cell::new(None) };
}

/// The block of the scratch buffer, in bytes: some dozens of typical bodies.
const SCRATCH_BLOCK: usize = 16 * 1024;
/// With less room than this left, the next block is due.
const SCRATCH_LEAST: usize = 64;

impl Codec {
    /// The codecs that are built in, in order of preference.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        vec![
            #[cfg(feature = "msgpack")]
            Self::MessagePack,
            #[cfg(feature = "json")]
            Self::Json,
        ]
    }

    /// The codec's name in an Option.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack => "application/msgpack",
            #[cfg(feature = "json")]
            Self::Json => "application/json",
            #[cfg(feature = "msgpack")]
            Self::Custom(codec) => codec.name(),
        }
    }

    /// A user's codec.
    #[cfg(feature = "msgpack")]
    #[must_use]
    pub fn custom(codec: impl BodyCodec) -> Self {
        Self::Custom(Arc::new(codec))
    }

    /// Encodes a value as a body.
    ///
    /// # Errors
    ///
    /// The value's own `Serialize` failed, or it is of a kind that the codec cannot express (a
    /// map with keys that are no strings, in JSON).
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes, EncodeError> {
        self.encode_body(value).map(Body::into_bytes)
    }

    /// Encodes a value as a body that is to be sent: large [`crate::Bytes`] in it are not copied, where
    /// the codec has them as they are.
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode`].
    pub fn encode_body<T: Serialize + ?Sized>(&self, value: &T) -> Result<Body, EncodeError> {
        // Taken out rather than borrowed: a `Serialize` of the user's may encode something itself.
        let mut out = SCRATCH.take().unwrap_or_default();
        if out.capacity() < SCRATCH_LEAST {
            out.reserve(SCRATCH_BLOCK);
        }
        let mut apart = Vec::new();
        let encoded = self.encode_to(value, Writer { out: &mut out, apart: Some(&mut apart) });
        let size = out.capacity();
        let body = out.split().freeze();
        // A large body keeps its block to itself, or small ones behind it would keep it alive.
        if body.len() <= SCRATCH_BLOCK / 4 {
            SCRATCH.with(|scratch| scratch.set(Some(out)));
        } else {
            blocks::keep(out, size);
        }
        encoded.map(|()| if apart.is_empty() { Body::from(body) } else { together(body, apart) })
    }

    fn encode_to<T: Serialize + ?Sized>(&self, value: &T, out: Writer<'_>) -> Result<(), EncodeError> {
        let result = match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack => msgpack::encode(value, out),
            #[cfg(feature = "json")]
            Self::Json => json::encode(value, out),
            #[cfg(feature = "msgpack")]
            Self::Custom(codec) => codec.encode(&value, out.out),
        };
        result.map_err(|source| EncodeError { type_name: type_name::<T>(), source: Arc::from(source) })
    }

    /// Reads the one value that `body` holds.
    ///
    /// # Errors
    ///
    /// The bytes are no value of this type, too deep, cut short, or followed by others.
    pub fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, DecodeError> {
        match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack => msgpack::decode(body),
            #[cfg(feature = "json")]
            Self::Json => json::decode(body),
            #[cfg(feature = "msgpack")]
            Self::Custom(codec) => decode_custom(&**codec, body),
        }
    }

    /// Reads the arguments of a method: a map by name or an array in order, and what stands for
    /// no arguments at all, which is an empty body or nil.
    ///
    /// # Errors
    ///
    /// As for [`Codec::decode`].
    pub fn decode_arguments<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, DecodeError> {
        match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack if body.is_empty() || body == [0xc0] => msgpack::decode(&[0x80]),
            #[cfg(feature = "json")]
            Self::Json if matches!(body.trim_ascii(), b"" | b"null") => json::decode(b"{}"),
            #[cfg(feature = "msgpack")]
            Self::Custom(_) if body.is_empty() => {
                let none = serde::de::value::MapDeserializer::new(std::iter::empty::<(&str, ())>());
                T::deserialize(none).map_err(|error: serde::de::value::Error| DecodeError::value(error))
            }
            _ => self.decode(body),
        }
    }
}

#[cfg(feature = "msgpack")]
fn decode_custom<T: DeserializeOwned>(codec: &dyn BodyCodec, body: &[u8]) -> Result<T, DecodeError> {
    let mut value = None;
    codec
        .decode(body, &mut |deserializer| {
            value = Some(T::deserialize(deserializer)?);
            Ok(())
        })
        .map_err(DecodeError::value)?;
    value.ok_or_else(|| DecodeError::Value { message: "the codec read no value".to_owned() })
}

impl Default for Codec {
    /// MessagePack where it is built in, else JSON.
    fn default() -> Self {
        #[cfg(feature = "msgpack")]
        return Self::MessagePack;
        #[cfg(not(feature = "msgpack"))]
        return Self::Json;
    }
}

impl PartialEq for Codec {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Codec {}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A value that a codec could not encode.
#[derive(Clone, Debug, Error)]
#[error("encoding `{type_name}`: {source}")]
pub struct EncodeError {
    type_name: &'static str,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

/// Bytes that are not the value that was asked for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within the value, or a count promises more than they can hold.
    #[error("the value is cut short at byte {at}")]
    Truncated {
        /// Where more was expected.
        at: usize,
    },
    /// The value nests deeper than any reader should follow.
    #[error("the value nests deeper than {limit} levels at byte {at}")]
    TooDeep {
        /// Where the level too many begins.
        at: usize,
        /// [`MAX_DEPTH`](crate::limits::MAX_DEPTH).
        limit: usize,
    },
    /// A byte that MessagePack never uses (0xc1).
    #[error("byte {at} is 0xc1, which is no MessagePack")]
    Reserved {
        /// Where it stands.
        at: usize,
    },
    /// Bytes follow the value.
    #[error("{extra} bytes follow the value, which ends at byte {at}")]
    Trailing {
        /// Where the value ends.
        at: usize,
        /// How many bytes follow.
        extra: usize,
    },
    /// The bytes are well formed, or seem so, but not the value that was asked for.
    #[error("{message}")]
    Value {
        /// What the deserializer found, escaped and cut at 1 KiB.
        message: String,
    },
}

impl DecodeError {
    /// serde quotes what it found, which a stranger wrote.
    fn value(error: impl fmt::Display) -> Self {
        Self::Value { message: EscapedText(&error.to_string()).to_string() }
    }
}

/// What was written as the body `written`, with each byte string that was set apart in its place.
fn together(mut written: Bytes, apart: Vec<Apart>) -> Body {
    let mut pieces = Vec::with_capacity(2 * apart.len() + 1);
    let mut begin = 0;
    for Apart { at, bytes } in apart {
        pieces.extend([written.split_to(at - begin), bytes]);
        begin = at;
    }
    pieces.push(written);
    pieces.retain(|piece| !piece.is_empty());
    Body::of(pieces)
}

/// A large byte string that was not copied into what is written.
struct Apart {
    /// How much was written before it.
    at: usize,
    bytes: Bytes,
}

/// Lets serializers that want an [`io::Write`] append to a buffer, which grows into blocks that were
/// used before.
pub(crate) struct Writer<'a> {
    out: &'a mut BytesMut,
    /// Where large byte strings go, if they may be set apart.
    apart: Option<&'a mut Vec<Apart>>,
}

impl<'a> Writer<'a> {
    /// One that copies all that it is given.
    #[cfg(feature = "json")]
    pub(crate) const fn copying(out: &'a mut BytesMut) -> Self {
        Self { out, apart: None }
    }

    #[cold]
    fn grow(&mut self, room: usize) {
        let size = self.out.capacity();
        let least = (self.out.len() + room).max(2 * self.out.len());
        // What is copied goes into a buffer of somebody else's, of whose block this may be a part.
        if least < blocks::LEAST || self.apart.is_none() {
            return self.out.reserve(room);
        }
        let mut larger = blocks::take(least);
        larger.extend_from_slice(self.out);
        blocks::keep(std::mem::replace(self.out, larger), size);
    }
}

impl io::Write for Writer<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    // Serializers write a byte or two at a time.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.out.capacity() - self.out.len() < bytes.len() {
            if let Some(apart) = &mut self.apart
                && let Some(bytes) = offered(bytes)
            {
                apart.push(Apart { at: self.out.len(), bytes });
                return Ok(());
            }
            self.grow(bytes.len());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, feature = "msgpack", feature = "json"))]
mod tests;
