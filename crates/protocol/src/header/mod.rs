//! Encoding and decoding of message headers in either codec. Legal sequences are left to the sessions.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

pub use self::byte_str::ByteStr;
pub use self::types::{Flags, Header, HeaderError, HeaderRef, Kind};
use crate::codec::Codec;
use crate::limits::LENGTH_BYTES;

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

/// Appends `header`, encoded for `codec`, behind its length. It has a kind, a number and flags: nothing that may be long.
pub(crate) fn encode_frame(header: &HeaderRef<'_>, codec: &Codec, out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    encode(header, codec, out);
    let size = (out.len() - start - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&size.to_be_bytes());
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
