//! [`UsualHeader`]: a header of the most frequent form in MessagePack, read by position. Others are left to the codec's own
//! file.

use rmp::Marker;

use super::types::{Flags, Kind};
use crate::limits::Seq;

const NIL: u8 = Marker::Null.to_u8();
const U8: u8 = Marker::U8.to_u8();
const U16: u8 = Marker::U16.to_u8();
const U32: u8 = Marker::U32.to_u8();

/// A header without an error and metadata, whose other fields have short encodings.
#[derive(Clone, Copy)]
pub(crate) struct UsualHeader<'a> {
    pub(crate) kind: Kind,
    pub(crate) seq: Seq,
    /// The name as it was received, which may be no UTF-8.
    pub(crate) service_method: &'a [u8],
    pub(crate) timeout_ms: u64,
    pub(crate) flags: Flags,
}

impl<'a> UsualHeader<'a> {
    /// Reads a header. `None` for one of another form, valid or not.
    // As large as it is returned, it costs as much to be moved as to be read.
    #[inline(always)]
    pub(crate) fn read(frame: &'a [u8]) -> Option<Self> {
        let [array, kind, rest @ ..] = frame else { return None };
        let Marker::FixArray(fields @ (2..=4 | 7)) = Marker::from_u8(*array) else { return None };
        let (seq, rest) = short_uint(rest)?;
        let (service_method, rest) = if fields >= 3 { short_str(rest)? } else { (&[][..], rest) };
        let (timeout_ms, rest) = if fields >= 4 { short_uint(rest)? } else { (0, rest) };
        let flags = match rest {
            [] if fields <= 4 => 0,
            [NIL, NIL, flags @ 0..=0x7f] if fields == 7 => *flags,
            _ => return None,
        };
        let kind = Kind::from_number(u64::from(*kind))?;
        let flags = Flags::from_bits(u64::from(flags));
        Some(Self { kind, seq: Seq(seq), service_method, timeout_ms, flags })
    }
}

/// Reads a number below 2^32 in its usual encodings, and returns it with the remaining bytes.
#[inline]
fn short_uint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    Some(match bytes {
        [value @ 0..=0x7f, rest @ ..] | [U8, value, rest @ ..] => (u64::from(*value), rest),
        [U16, a, b, rest @ ..] => (u64::from(u16::from_be_bytes([*a, *b])), rest),
        [U32, a, b, c, d, rest @ ..] => (u64::from(u32::from_be_bytes([*a, *b, *c, *d])), rest),
        _ => return None,
    })
}

/// Reads a string below 32 bytes, and returns it with the remaining bytes.
#[inline]
fn short_str(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (marker, rest) = bytes.split_first()?;
    let Marker::FixStr(len) = Marker::from_u8(*marker) else { return None };
    rest.split_at_checked(usize::from(len))
}
