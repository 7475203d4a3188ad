//! The numbers of credit: the cost of an item, and the body of a credit message.

use bytes::Bytes;

use crate::body::Body;
use crate::codec::{Codec, DecodeError, EncodeError};

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
    codec.decode(body)
}
