//! Encoding and decoding of message headers in either codec. Legal sequences are left to the sessions.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

pub use self::byte_str::ByteStr;
pub use self::types::{Flags, Header, HeaderError, HeaderRef, Kind};
#[cfg(feature = "msgpack")]
pub(crate) use self::usual::UsualHeader;
use crate::body::SmallBody;
use crate::codec::Codec;
use crate::limits::{LENGTH_BYTES, Seq};

mod byte_str;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(feature = "msgpack")]
mod short;
mod types;
#[cfg(feature = "msgpack")]
mod usual;

/// Appends the two lengths of a message with `header` encoded for `codec` between them, if the header is of the usual form
/// and at most `limit` bytes long. Returns the length of the header; `None` if nothing was appended.
#[cfg_attr(
    not(feature = "msgpack"),
    expect(unused_variables, reason = "without MessagePack no header is written by position")
)]
#[inline]
pub(crate) fn put_short(
    header: &HeaderRef<'_>,
    codec: &Codec,
    body_len: u32,
    small: &SmallBody,
    limit: usize,
    out: &mut BytesMut,
) -> Option<usize> {
    match codec {
        #[cfg(feature = "json")]
        Codec::Json => None,
        #[cfg(feature = "msgpack")]
        _ => short::put(header, body_len, small, limit, out),
        #[cfg(not(any(feature = "msgpack", feature = "json")))]
        _ => match *codec {},
    }
}

/// Returns `true` if the headers of connections with this codec are in MessagePack.
#[inline]
pub(crate) const fn is_msgpack(codec: &Codec) -> bool {
    match codec {
        #[cfg(feature = "json")]
        Codec::Json => false,
        #[cfg(feature = "msgpack")]
        _ => true,
        #[cfg(not(any(feature = "msgpack", feature = "json")))]
        _ => match *codec {},
    }
}

/// Appends a whole message in MessagePack, if its header has a kind, a number and a name, or no name, and both are short.
/// Returns the length of the message; `None` if nothing was appended.
#[cfg_attr(
    not(feature = "msgpack"),
    expect(unused_variables, reason = "without MessagePack no header is written by position")
)]
#[inline]
pub(crate) fn put_message(
    kind: Kind,
    seq: Seq,
    name: &str,
    small: &SmallBody,
    out: &mut BytesMut,
) -> Option<usize> {
    #[cfg(feature = "msgpack")]
    return short::put_message(kind, seq, name.as_bytes(), small, out);
    #[cfg(not(feature = "msgpack"))]
    None
}

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
pub(crate) fn decode(codec: &Codec, message: &Bytes, frame: Range<usize>) -> Result<Header, HeaderError> {
    let mut header = Header::new(Kind::Pong, Seq::default());
    decode_into(codec, message, frame, &mut header)?;
    Ok(header)
}

/// Does the same as [`decode`] into a header that is there, which is not moved.
#[inline]
pub(crate) fn decode_into(
    codec: &Codec,
    message: &Bytes,
    frame: Range<usize>,
    header: &mut Header,
) -> Result<(), HeaderError> {
    match codec {
        #[cfg(feature = "json")]
        Codec::Json => json::decode_into(message, frame, header),
        #[cfg(feature = "msgpack")]
        _ => msgpack::decode_into(message, frame, header),
        #[cfg(not(any(feature = "msgpack", feature = "json")))]
        _ => match *codec {},
    }
}

#[cfg(all(test, feature = "msgpack", feature = "json"))]
pub(crate) mod tests;
