//! Encoding and decoding of message headers in either codec. Legal sequences are left to the sessions.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

pub use self::byte_str::ByteStr;
pub use self::types::{Flags, Header, HeaderError, HeaderRef, Kind};
use crate::codec::Codec;

mod byte_str;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
mod types;

/// Appends `header`, encoded for `codec`.
pub(crate) fn encode(header: &HeaderRef<'_>, codec: &Codec, out: &mut BytesMut) {
    match codec {
        #[cfg(feature = "json")]
        Codec::Json => json::encode(header, out),
        #[cfg(feature = "msgpack")]
        _ => msgpack::encode(header, out),
        #[cfg(not(any(feature = "msgpack", feature = "json")))]
        _ => match *codec {},
    }
}

/// Decodes the header in `frame`, a range of `message`, for `codec`.
#[inline]
pub(crate) fn decode(codec: &Codec, message: &Bytes, frame: Range<usize>) -> Result<Header, HeaderError> {
    match codec {
        #[cfg(feature = "json")]
        Codec::Json => json::decode(message, frame),
        #[cfg(feature = "msgpack")]
        _ => msgpack::decode(message, frame),
        #[cfg(not(any(feature = "msgpack", feature = "json")))]
        _ => match *codec {},
    }
}

#[cfg(all(test, feature = "msgpack", feature = "json"))]
mod tests;
