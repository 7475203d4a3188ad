//! Codecs, which encode values as bodies and decode them. Headers are left to the `header` module.

use std::any::type_name;
use std::fmt;
#[cfg(feature = "msgpack")]
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use self::error::{BoxError, DecodeError, EncodeError};
#[cfg(feature = "json")]
pub(crate) use self::json::{is_plain, put_plain};
#[cfg(feature = "msgpack")]
pub(crate) use self::msgpack::uint;
use self::nil::Nil;
#[cfg(feature = "msgpack")]
pub(crate) use self::walk::value_len;
pub(crate) use self::writer::Writer;
use self::writer::assemble;
use crate::body::{Body, SmallBody};
use crate::buffer_source::{BufferSource, MIN_POOLED_BUFFER, Unpooled};

#[cfg(feature = "msgpack")]
mod access;
#[cfg(any(feature = "msgpack", feature = "json"))]
mod compound;
#[cfg(any(feature = "msgpack", feature = "json"))]
mod deep;
#[cfg(feature = "msgpack")]
mod deserializer;
mod error;
#[cfg(any(feature = "msgpack", feature = "json"))]
mod format;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
mod nil;
#[cfg(feature = "msgpack")]
mod reader;
#[cfg(feature = "json")]
mod relaxed;
#[cfg(any(feature = "msgpack", feature = "json"))]
mod serializer;
#[cfg(feature = "msgpack")]
mod walk;
mod writer;

/// The codec of a connection: one of the two that are built in, or a user's.
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
    /// `application/msgpack`, the default: compact and faster than JSON.
    #[cfg(feature = "msgpack")]
    MessagePack,
    /// `application/json`: readable on the wire.
    #[cfg(feature = "json")]
    Json,
    /// A user's codec. It encodes bodies only; headers are encoded in MessagePack.
    #[cfg(feature = "msgpack")]
    Custom(Arc<dyn BodyCodec>),
}

/// A user-defined codec for bodies.
///
/// The bytes to decode are untrusted: the decoder must limit the nesting depth so that no type overflows the stack,
/// treat trailing bytes as an error, and reserve no memory for a count that the bytes cannot hold.
#[cfg(feature = "msgpack")]
pub trait BodyCodec: Send + Sync + 'static {
    /// Returns the name in the Option, such as `application/cbor`; at most 255 bytes.
    fn name(&self) -> &str;

    /// Appends `value`, encoded, to `out`.
    ///
    /// # Errors
    ///
    /// The codec cannot express the value.
    fn encode(&self, value: &dyn erased_serde::Serialize, out: &mut BytesMut) -> Result<(), BoxError>;

    /// Calls `build` with a deserializer over the one value in `bytes`.
    ///
    /// # Errors
    ///
    /// The bytes are malformed, or `build` failed. The error should name the position.
    fn decode(
        &self,
        bytes: &[u8],
        build: &mut dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error>,
    ) -> Result<(), BoxError>;
}

/// The largest body, in bytes, that shares a scratch block of any size with other bodies. A larger one shares a block of
/// ordinary size, which a small body keeps as well, if it leaves room for another one.
const MAX_SCRATCH_BODY: usize = 4 * 1024;

impl Codec {
    /// `true` if at least one codec is built in; without one, no connection can be made.
    pub const ANY: bool = cfg!(any(feature = "msgpack", feature = "json"));

    /// Returns the codecs that are built in, in order of preference.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        vec![
            #[cfg(feature = "msgpack")]
            Self::MessagePack,
            #[cfg(feature = "json")]
            Self::Json,
        ]
    }

    /// Returns the codec's name in an Option.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack => "application/msgpack",
            #[cfg(feature = "json")]
            Self::Json => "application/json",
            #[cfg(feature = "msgpack")]
            Self::Custom(codec) => codec.name(),
            #[cfg(not(any(feature = "msgpack", feature = "json")))]
            _ => match *self {},
        }
    }

    /// Wraps a user's codec.
    #[cfg(feature = "msgpack")]
    #[must_use]
    pub fn custom(codec: impl BodyCodec) -> Self {
        Self::Custom(Arc::new(codec))
    }

    /// Encodes a value as a body.
    ///
    /// # Errors
    ///
    /// The value's `Serialize` failed, or the codec cannot express the value (for example, a map whose keys
    /// are not strings in JSON).
    pub fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes, EncodeError> {
        self.encode_body(value).map(Body::into_bytes)
    }

    /// Encodes a value as a body to send, in memory from the allocator. See [`Codec::encode_body_in`].
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode`].
    pub fn encode_body<T: Serialize + ?Sized>(&self, value: &T) -> Result<Body, EncodeError> {
        self.encode_body_in(&Unpooled, value)
    }

    /// Encodes a value as a body to send, in memory of `source`. Large [`crate::Bytes`] in the value are not
    /// copied if the codec writes them unchanged.
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode`].
    pub fn encode_body_in<T: Serialize + ?Sized, B: BufferSource>(
        &self,
        source: &B,
        value: &T,
    ) -> Result<Body, EncodeError> {
        source.with_scratch(|out| {
            let mut segments = Vec::new();
            let encoded = self.encode_to(value, Writer::segmented(out, source, &mut segments));
            if segments.capacity() == 0
                && let Some(small) = SmallBody::take(out)
            {
                // It has nothing to drop, which the compiler does not see.
                std::mem::forget(segments);
                return encoded.map(|()| small.into());
            }
            let size = out.capacity();
            let body = out.split().freeze();
            let leaves_room = size <= MIN_POOLED_BUFFER && body.len() <= out.capacity();
            // A large body does not share its block, or small bodies after it would keep all of it alive.
            if body.len() > MAX_SCRATCH_BODY && !leaves_room {
                source.recycle(std::mem::take(out), size);
            }
            encoded.map(|()| assemble(body, segments))
        })
    }

    /// Encodes a value of which `most` bytes are expected into `out`, which is empty. Returns the body if it is another one,
    /// as [`Codec::encode_body_in`] does; `out` is empty then.
    ///
    /// # Errors
    ///
    /// As for [`Codec::encode`].
    pub(crate) fn encode_small_in<T: Serialize + ?Sized, B: BufferSource>(
        &self,
        source: &B,
        value: &T,
        most: usize,
        out: &mut BytesMut,
    ) -> Result<Option<Body>, EncodeError> {
        let mut segments = Vec::new();
        let encoded = self.encode_to(value, Writer::segmented(out, source, &mut segments));
        if encoded.is_ok() && segments.is_empty() && out.len() <= most {
            return Ok(None);
        }
        let size = out.capacity();
        let body = out.split().freeze();
        source.recycle(std::mem::take(out), size);
        encoded.map(|()| Some(assemble(body, segments)))
    }

    #[cfg_attr(
        not(any(feature = "msgpack", feature = "json")),
        expect(clippy::needless_pass_by_value, reason = "without a codec nothing is encoded")
    )]
    fn encode_to<T: Serialize + ?Sized, B: BufferSource>(
        &self,
        value: &T,
        out: Writer<'_, B>,
    ) -> Result<(), EncodeError> {
        let result: Result<(), BoxError> = match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack => msgpack::encode(value, out),
            #[cfg(feature = "json")]
            Self::Json => json::encode(value, out),
            #[cfg(feature = "msgpack")]
            Self::Custom(codec) => codec.encode(&value, out.out),
            #[cfg(not(any(feature = "msgpack", feature = "json")))]
            _ => match *self {},
        };
        result.map_err(|source| EncodeError::new(type_name::<T>(), source))
    }

    /// Decodes the one value in `body`.
    ///
    /// # Errors
    ///
    /// The bytes are not a value of this type, nest too deep, are truncated, or are followed by other bytes.
    pub fn decode<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, DecodeError> {
        match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack => msgpack::decode(body),
            #[cfg(feature = "json")]
            Self::Json => json::decode(body),
            #[cfg(feature = "msgpack")]
            Self::Custom(codec) => decode_custom(&**codec, body),
            #[cfg(not(any(feature = "msgpack", feature = "json")))]
            _ => match *self {},
        }
    }

    /// Decodes the one value that a method takes as a whole: the value that was sent. Nil is also read as a map
    /// without arguments, and such a map as nil, by types that cannot be read otherwise. An empty body is
    /// either of them.
    ///
    /// # Errors
    ///
    /// As for [`Codec::decode`].
    pub fn decode_whole<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, DecodeError> {
        // Nothing, in all its forms, has one byte at most.
        #[cfg(feature = "msgpack")]
        if matches!(self, Self::MessagePack) && body.len() > 1 {
            return msgpack::decode(body);
        }
        let (empty, nil, no_arguments): (bool, bool, bool) = match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack => (body.is_empty(), body == [0xc0], matches!(body, [0x80 | 0x90])),
            #[cfg(feature = "json")]
            Self::Json => {
                let text = body.trim_ascii();
                (text.is_empty(), text == b"null", matches!(text, b"{}" | b"[]"))
            }
            #[cfg(feature = "msgpack")]
            Self::Custom(_) => (body.is_empty(), false, false),
            #[cfg(not(any(feature = "msgpack", feature = "json")))]
            _ => match *self {},
        };
        if !nil && !empty && !no_arguments {
            return self.decode(body);
        }
        let from_nil = || T::deserialize(Nil { is_option: empty || nil }).map_err(DecodeError::value);
        let from_map = || self.decode_arguments(body);
        if nil {
            return from_nil().or_else(|error| from_map().map_err(|named| named.or_missing(error)));
        }
        from_map().or_else(|named| from_nil().map_err(|error| named.or_missing(error)))
    }

    /// Decodes the arguments of a method: a map by name or an array in order. An empty body or nil means no
    /// arguments.
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

    /// Decodes the arguments of a method like [`Codec::decode_arguments`]; they may borrow from `body`.
    ///
    /// A value can be borrowed only if `body` has its bytes unchanged: a `&str` fails if its JSON string has an escape, and a
    /// `&[u8]` always fails in JSON. `Cow<str>` with `#[serde(borrow)]`, and [`as_bytes::borrowed`](crate::as_bytes::borrowed), read these, too.
    ///
    /// # Errors
    ///
    /// As for [`Codec::decode`]; and a [`Codec::Custom`] lends nothing, since it may decode from memory that it made for that.
    pub fn borrow_arguments<'de, T: Deserialize<'de>>(&self, body: &'de [u8]) -> Result<T, DecodeError> {
        match self {
            #[cfg(feature = "msgpack")]
            Self::MessagePack if body.is_empty() || body == [0xc0] => msgpack::decode(&[0x80]),
            #[cfg(feature = "msgpack")]
            Self::MessagePack => msgpack::decode(body),
            #[cfg(feature = "json")]
            Self::Json if matches!(body.trim_ascii(), b"" | b"null") => json::decode(b"{}"),
            #[cfg(feature = "json")]
            Self::Json => json::decode(body),
            #[cfg(feature = "msgpack")]
            Self::Custom(codec) => {
                let message =
                    format!("the method borrows its arguments, which `{}` cannot lend", codec.name());
                Err(DecodeError::Value { message })
            }
            #[cfg(not(any(feature = "msgpack", feature = "json")))]
            _ => match *self {},
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

#[cfg(any(feature = "msgpack", feature = "json"))]
impl Default for Codec {
    /// Returns MessagePack if it is built in, else JSON.
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

#[cfg(all(test, feature = "msgpack", feature = "json"))]
mod tests;
