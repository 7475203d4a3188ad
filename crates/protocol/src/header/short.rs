//! All that precedes the body of a usual message, written by position in one piece. Headers with errors,
//! metadata or long names are left to the codec's own file.

use bytes::BytesMut;

use super::types::{Flags, HeaderRef, Kind};
use crate::body::SmallBody;
use crate::codec::uint;
use crate::limits::{LENGTH_BYTES, Seq};

/// The longest name of a method in a short head, in bytes: its length is one byte.
const MAX_NAME: usize = 31;
/// The size of the largest head: two lengths, marker and kind, number, name, timeout, and the other fields.
const MAX_HEAD: usize = 2 * LENGTH_BYTES + 2 + MAX_UINT + 1 + MAX_NAME + MAX_UINT + 3;
/// The size of the largest number.
const MAX_UINT: usize = 9;
/// The room for a head and a small body: those of the largest, and for all bytes of a number, which are written whatever it is.
const ROOM: usize = MAX_HEAD + MAX_UINT + SmallBody::MAX;

/// The marker of an array, with its length in the low bits.
const ARRAY: u8 = 0x90;
/// The marker of a string below 32 bytes, with its length in the low bits.
const STR: u8 = 0xa0;
const NIL: u8 = 0xc0;
/// The markers of numbers with one, two and four bytes.
const U8: u8 = 0xcc;
const U16: u8 = 0xcd;
const U32: u8 = 0xce;

/// The room for a message of [`put_message`]: for the largest.
const MESSAGE_ROOM: usize = LENGTH_BYTES + 2 + 5 + 1 + MAX_NAME + LENGTH_BYTES + SmallBody::MAX;

/// Appends a message whose header has a kind, a number and a name in MessagePack, or no name, with a small body. Returns the
/// length of the message; `None`, with nothing appended, if the number or the name is a long one.
// The number is nearly all that varies: with a function for each of its sizes, the compiler knows the other places.
#[inline]
pub(super) fn put_message(
    kind: Kind,
    seq: Seq,
    name: &[u8],
    small: &SmallBody,
    out: &mut BytesMut,
) -> Option<usize> {
    if name.len() > MAX_NAME {
        return None;
    }
    let [.., a, b, c, d] = seq.0.to_be_bytes();
    match seq.0 {
        0..=0x7f => put_numbered([d], kind, name, small, out),
        0x80..=0xff => put_numbered([U8, d], kind, name, small, out),
        0x100..=0xffff => put_numbered([U16, c, d], kind, name, small, out),
        0x1_0000..=0xffff_ffff => put_numbered([U32, a, b, c, d], kind, name, small, out),
        _ => None,
    }
}

/// Does so for an encoded number of this size.
#[inline]
fn put_numbered<const LEN: usize>(
    number: [u8; LEN],
    kind: Kind,
    name: &[u8],
    small: &SmallBody,
    out: &mut BytesMut,
) -> Option<usize> {
    let start = out.len();
    out.extend_from_slice(&[0; MESSAGE_ROOM]);
    let bytes: &mut [u8; MESSAGE_ROOM] = out[start..].first_chunk_mut()?;
    let mut at = LENGTH_BYTES + 2 + LEN;
    bytes[LENGTH_BYTES..at - LEN].copy_from_slice(&[ARRAY | 2, kind as u8]);
    bytes[at - LEN..at].copy_from_slice(&number);
    if !name.is_empty() {
        bytes[LENGTH_BYTES] = ARRAY | 3;
        bytes[at] = STR | name.len() as u8;
        copy_short(&mut bytes[at + 1..at + 1 + name.len()], name);
        at += 1 + name.len();
    }
    // Both lengths are below 256.
    bytes[LENGTH_BYTES - 1] = (at - LENGTH_BYTES) as u8;
    let body = at + LENGTH_BYTES;
    bytes[body - 1] = small.len() as u8;
    bytes[body..body + SmallBody::MAX].copy_from_slice(small.padded());
    let len = body + small.len();
    out.truncate(start + len);
    Some(len)
}

/// Appends the two lengths of a message with `header` in MessagePack between them, and a small body. Returns the length of the
/// header; `None`, with nothing appended, if the header is not of the usual form, or over `limit`.
// All that there is room for is appended, written by position, and cut to the length: that costs less than copies whose length
// is not known.
#[inline]
pub(super) fn put(
    header: &HeaderRef<'_>,
    body_len: u32,
    small: &SmallBody,
    limit: usize,
    out: &mut BytesMut,
) -> Option<usize> {
    let name = header.service_method.as_bytes();
    if header.error.is_some() || header.metadata().is_some() || name.len() > MAX_NAME {
        return None;
    }
    let fields = if header.flags != Flags::NONE {
        7
    } else if header.timeout_ms != 0 {
        4
    } else if name.is_empty() {
        2
    } else {
        3
    };
    let start = out.len();
    out.extend_from_slice(&[0; ROOM]);
    let mut head = ShortHead { bytes: out[start..].first_chunk_mut()?, len: LENGTH_BYTES };
    head.put([ARRAY | fields, header.kind as u8]);
    head.put_uint(header.seq.0);
    if fields >= 3 {
        head.put_name(name);
    }
    if fields >= 4 {
        head.put_uint(header.timeout_ms);
    }
    if fields >= 7 {
        head.put([NIL, NIL, header.flags.bits()]);
    }
    let header_len = head.len - LENGTH_BYTES;
    head.bytes[..LENGTH_BYTES].copy_from_slice(&(header_len as u32).to_be_bytes());
    head.put(body_len.to_be_bytes());
    head.put(*small.padded());
    let is_within = header_len <= limit;
    let len = if is_within { header_len + 2 * LENGTH_BYTES + small.len() } else { 0 };
    out.truncate(start + len);
    is_within.then_some(header_len)
}

/// The room for the head of a message and a small body, and how much of it is written.
struct ShortHead<'a> {
    bytes: &'a mut [u8; ROOM],
    len: usize,
}

impl ShortHead<'_> {
    #[inline]
    fn put<const LEN: usize>(&mut self, piece: [u8; LEN]) {
        self.bytes[self.len..self.len + LEN].copy_from_slice(&piece);
        self.len += LEN;
    }

    #[inline]
    fn put_uint(&mut self, value: u64) {
        let (bytes, len) = uint(value);
        self.bytes[self.len..self.len + MAX_UINT].copy_from_slice(&bytes);
        self.len += len;
    }

    #[inline]
    fn put_name(&mut self, name: &[u8]) {
        self.put([STR | name.len() as u8]);
        copy_short(&mut self.bytes[self.len..self.len + name.len()], name);
        self.len += name.len();
    }
}

/// Copies a text below 32 bytes to as many bytes.
#[inline]
fn copy_short(to: &mut [u8], text: &[u8]) {
    if !copy_in_two::<16>(to, text) && !copy_in_two::<8>(to, text) {
        to.copy_from_slice(text);
    }
}

/// Copies a text of `PIECE` to twice as many bytes as its first and its last ones, which may overlap: the compiler needs no
/// call for two pieces of a length that it knows. Returns `false`, with nothing copied, if the text is shorter or longer.
#[inline]
fn copy_in_two<const PIECE: usize>(to: &mut [u8], text: &[u8]) -> bool {
    let (Some(first), Some(last)) = (text.first_chunk::<PIECE>(), text.last_chunk::<PIECE>()) else {
        return false;
    };
    if text.len() > 2 * PIECE {
        return false;
    }
    if let Some(to) = to.first_chunk_mut() {
        *to = *first;
    }
    if let Some(to) = to.last_chunk_mut() {
        *to = *last;
    }
    true
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_header;
    use super::*;
    use crate::codec::Codec;
    use crate::header;

    /// Returns what is appended to a byte that is there, with the length of the header.
    fn written(header: &HeaderRef<'_>, body_len: u32, limit: usize) -> Option<(BytesMut, usize)> {
        let mut out = BytesMut::from(&[7][..]);
        let len = put(header, body_len, &SmallBody::EMPTY, limit, &mut out);
        let appended = out.split_off(1);
        assert_eq!((&out[..], len.is_some()), (&[7][..], !appended.is_empty()));
        Some((appended, len?))
    }

    proptest! {
        #[test]
        fn short_head_is_what_is_written_field_by_field(header in any_header(), body_len: u32) {
            let header = header.as_ref();
            let short = written(&header, body_len, MAX_HEAD);
            let is_usual = header.error.is_none() && header.metadata().is_none();
            prop_assert_eq!(short.is_some(), is_usual && header.service_method.len() <= MAX_NAME);
            if let Some((short, len)) = short {
                let mut fields = BytesMut::new();
                header::encode(&header, &Codec::MessagePack, &mut fields);
                prop_assert_eq!(len, fields.len());
                let expected = [&(fields.len() as u32).to_be_bytes(), &fields[..], &body_len.to_be_bytes()].concat();
                prop_assert_eq!(&short[..], expected);
                prop_assert!(written(&header, body_len, fields.len()).is_some());
                prop_assert!(written(&header, body_len, fields.len() - 1).is_none());
            }
        }
    }

    #[test]
    fn largest_head_fits() {
        let name = "m".repeat(MAX_NAME);
        let mut header = HeaderRef::new(Kind::Stop, Seq(u64::MAX));
        (header.service_method, header.timeout_ms) = (&name, u64::MAX);
        header.flags = Flags::from_bits(u64::MAX);
        assert_eq!(written(&header, u32::MAX, MAX_HEAD).unwrap().0.len(), MAX_HEAD);
    }
}
