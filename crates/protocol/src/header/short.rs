//! [`ShortHead`]: all that precedes the body of a usual message, written by position into one piece. Headers with errors,
//! metadata or long names are left to the codec's own file.

use bytes::BytesMut;

use super::types::{Flags, HeaderRef};
use crate::body::SmallBody;
use crate::codec::uint;
use crate::limits::LENGTH_BYTES;

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

/// A header in MessagePack between its length and that of its body.
pub(crate) struct ShortHead {
    bytes: [u8; ROOM],
    len: usize,
}

impl ShortHead {
    /// Writes the head of a message whose body has `body_len` bytes. `None` if the header is not of the usual form.
    #[inline]
    pub(crate) fn new(header: &HeaderRef<'_>, body_len: u32) -> Option<Self> {
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
        let mut head = Self { bytes: [0; ROOM], len: LENGTH_BYTES };
        head.put([ARRAY | fields, header.kind as u8]);
        head.put_uint(header.seq.0);
        if fields >= 3 {
            head.put([STR | name.len() as u8]);
            head.bytes[head.len..head.len + name.len()].copy_from_slice(name);
            head.len += name.len();
        }
        if fields >= 4 {
            head.put_uint(header.timeout_ms);
        }
        if fields >= 7 {
            head.put([NIL, NIL, header.flags.bits()]);
        }
        head.bytes[..LENGTH_BYTES].copy_from_slice(&((head.len - LENGTH_BYTES) as u32).to_be_bytes());
        head.put(body_len.to_be_bytes());
        Some(head)
    }

    /// Returns the length of the header, in bytes.
    #[inline]
    pub(crate) const fn header_len(&self) -> usize {
        self.len - 2 * LENGTH_BYTES
    }

    /// Appends the head and a small body, once: all that there is room for, and cut to the length, which costs less than a
    /// copy whose length is not known.
    #[inline]
    pub(crate) fn write(&mut self, small: &SmallBody, out: &mut BytesMut) {
        self.bytes[self.len..self.len + SmallBody::MAX].copy_from_slice(small.padded());
        let end = out.len() + self.len + small.len();
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }

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
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_header;
    use super::*;
    use crate::codec::Codec;
    use crate::header;

    fn written(mut head: ShortHead) -> BytesMut {
        let mut out = BytesMut::new();
        head.write(&SmallBody::EMPTY, &mut out);
        out
    }

    proptest! {
        #[test]
        fn short_head_is_what_is_written_field_by_field(header in any_header(), body_len: u32) {
            let header = header.as_ref();
            let short = ShortHead::new(&header, body_len);
            let is_usual = header.error.is_none() && header.metadata().is_none();
            prop_assert_eq!(short.is_some(), is_usual && header.service_method.len() <= MAX_NAME);
            if let Some(short) = short {
                let mut fields = BytesMut::new();
                header::encode(&header, &Codec::MessagePack, &mut fields);
                prop_assert_eq!(short.header_len(), fields.len());
                let expected = [&(fields.len() as u32).to_be_bytes(), &fields[..], &body_len.to_be_bytes()].concat();
                prop_assert_eq!(&written(short)[..], expected);
            }
        }
    }

    #[test]
    fn largest_head_fits() {
        let name = "m".repeat(MAX_NAME);
        let mut header = HeaderRef::new(crate::Kind::Stop, crate::Seq(u64::MAX));
        (header.service_method, header.timeout_ms) = (&name, u64::MAX);
        header.flags = Flags::from_bits(u64::MAX);
        assert_eq!(written(ShortHead::new(&header, u32::MAX).unwrap()).len(), MAX_HEAD);
    }
}
