//! The numbers of credit: the cost of an item, and the body of a credit message.

use bytes::Bytes;

use crate::body::Body;
use crate::codec::{Codec, DecodeError, EncodeError};
#[cfg(feature = "json")]
use crate::uint::Uint;

/// The cost of an item in addition to the bytes of its body, so that a flood of empty items needs credit too.
pub const ITEM_OVERHEAD: usize = 64;

/// Returns the credit that an item costs, from the length of its body as sent.
#[must_use]
pub const fn item_cost(body_len: usize) -> u64 {
    (body_len as u64).saturating_add(ITEM_OVERHEAD as u64)
}

/// Encodes the body of a credit message: what the peer may have spent on a direction since the call began.
///
/// # Errors
///
/// The codec, if it is not built in, cannot encode a number.
pub fn encode_credit(codec: &Codec, limit: u64) -> Result<Body, EncodeError> {
    codec.encode_body(&limit)
}

/// Decodes the body of a credit message.
///
/// # Errors
///
/// The body is not an unsigned integer, which is a protocol error:
/// [`ProtocolError::InvalidCredit`](crate::ProtocolError::InvalidCredit).
pub fn decode_credit(codec: &Codec, body: &Bytes) -> Result<u64, DecodeError> {
    #[cfg(feature = "json")]
    if matches!(codec, Codec::Json) {
        // Null is left to the type below, which refuses it.
        if let Uint(Some(limit)) = codec.decode(body)? {
            return Ok(limit);
        }
    }
    codec.decode(body)
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use super::*;

    #[test]
    fn credit_is_an_integer_in_any_notation_of_json() {
        let decode = |text: &str| decode_credit(&Codec::Json, &Bytes::copy_from_slice(text.as_bytes()));
        for text in ["327680", " 327680\n", "327680.0", "3.2768e5"] {
            assert_eq!(decode(text), Ok(327_680), "{text}");
        }
        assert_eq!(decode("18446744073709551615"), Ok(u64::MAX));
        for text in ["", "null", "-1", "1.5", "\"5\"", "[5]", "5 5"] {
            assert!(decode(text).is_err(), "{text}");
        }
    }

    #[test]
    #[cfg(feature = "msgpack")]
    fn number_with_a_fraction_is_no_credit_in_messagepack() {
        let decode = |bytes: &'static [u8]| decode_credit(&Codec::MessagePack, &Bytes::from_static(bytes));
        assert_eq!(decode(b"\xcf\0\0\0\0\0\x05\0\0"), Ok(327_680));
        assert!(decode(b"\xcb\x41\x14\0\0\0\0\0\0").is_err(), "327680.0");
        assert!(decode(b"\xc0").is_err(), "nil");
    }
}
