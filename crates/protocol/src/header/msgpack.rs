//! Headers as MessagePack arrays. They are encoded and decoded by hand, because this is on the path of every
//! call and serde would allocate a string for the name of the method.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use rmp::Marker;
use rmp::encode::ByteBuf;

use super::byte_str::ByteStr;
use super::types::{Flags, Header, HeaderError, HeaderRef, Kind};
use super::usual::UsualHeader;
use crate::code::{Code, Execution};
use crate::codec::value_len;
use crate::limits::Seq;
use crate::metadata::Metadata;
use crate::status::Status;
use crate::text::{MAX_PEER_TEXT, truncate};

pub(super) fn encode(header: &HeaderRef<'_>, out: &mut BytesMut) {
    let metadata = header.metadata();
    let fields = if header.flags != Flags::NONE {
        7
    } else if metadata.is_some() {
        6
    } else if header.error.is_some() {
        5
    } else if header.timeout_ms != 0 {
        4
    } else if header.service_method.is_empty() {
        2
    } else {
        3
    };
    // Kinds are at most 11, which MessagePack encodes as one byte.
    out.extend_from_slice(&[Marker::FixArray(fields).to_u8(), header.kind as u8]);
    put_uint(out, header.seq.0);
    if fields >= 3 {
        put_str(out, header.service_method);
    }
    if fields >= 4 {
        put_uint(out, header.timeout_ms);
    }
    if fields >= 5 {
        put_error(out, header.error);
    }
    if fields >= 6 {
        put_metadata(out, metadata);
    }
    if fields >= 7 {
        put_uint(out, u64::from(header.flags.bits()));
    }
}

#[inline]
fn put_marker(out: &mut BytesMut, marker: Marker) {
    out.extend_from_slice(&[marker.to_u8()]);
}

#[inline]
fn put_uint(out: &mut BytesMut, value: u64) {
    if value < 128 {
        out.extend_from_slice(&[value as u8]);
    } else if let Ok(value) = u8::try_from(value) {
        out.extend_from_slice(&[Marker::U8.to_u8(), value]);
    } else if let Ok(value) = u16::try_from(value) {
        let [a, b] = value.to_be_bytes();
        out.extend_from_slice(&[Marker::U16.to_u8(), a, b]);
    } else if let Ok(value) = u32::try_from(value) {
        let [a, b, c, d] = value.to_be_bytes();
        out.extend_from_slice(&[Marker::U32.to_u8(), a, b, c, d]);
    } else {
        put_marker(out, Marker::U64);
        out.extend_from_slice(&value.to_be_bytes());
    }
}

#[inline]
fn put_str(out: &mut BytesMut, text: &str) {
    if text.len() < 32 {
        put_marker(out, Marker::FixStr(text.len() as u8));
    } else {
        put_str_len(out, text.len() as u32);
    }
    out.extend_from_slice(text.as_bytes());
}

fn put_str_len(out: &mut BytesMut, len: u32) {
    let mut length = ByteBuf::with_capacity(5);
    rmp::encode::write_str_len(&mut length, len).expect("a vector takes all bytes");
    out.extend_from_slice(length.as_slice());
}

fn put_error(out: &mut BytesMut, error: Option<&Status>) {
    let Some(status) = error else { return put_marker(out, Marker::Null) };
    put_marker(out, Marker::FixArray(3));
    put_uint(out, u64::from(status.code.number()));
    put_str(out, status.wire_message());
    put_uint(out, u64::from(status.execution.number()));
}

fn put_metadata(out: &mut BytesMut, metadata: Option<&Metadata>) {
    let Some(metadata) = metadata else { return put_marker(out, Marker::Null) };
    let mut length = ByteBuf::with_capacity(5);
    rmp::encode::write_map_len(&mut length, metadata.len() as u32).expect("a vector takes all bytes");
    out.extend_from_slice(length.as_slice());
    for (key, value) in metadata.iter() {
        put_str(out, key);
        put_str(out, value);
    }
}

#[inline]
pub(super) fn decode_into(
    message: &Bytes,
    frame: Range<usize>,
    header: &mut Header,
) -> Result<(), HeaderError> {
    let frame = &message[frame];
    if decode_usual(message, frame, header).is_none() {
        *header = decode_any(message, frame)?;
    }
    Ok(())
}

/// Decodes a header of the most frequent form. `None` for any other header, valid or not; `decode_any` handles it.
// Field by field into the one that is there: a header is large to be moved and dropped.
#[inline]
fn decode_usual(message: &Bytes, frame: &[u8], header: &mut Header) -> Option<()> {
    let usual = UsualHeader::read(frame)?;
    header.service_method = ByteStr::part_of(message, usual.service_method).ok()?;
    header.kind = usual.kind;
    header.seq = usual.seq;
    header.timeout_ms = usual.timeout_ms;
    header.error = None;
    header.metadata = None;
    header.flags = usual.flags;
    Some(())
}

fn decode_any(message: &Bytes, frame: &[u8]) -> Result<Header, HeaderError> {
    let mut read = Reader { rest: frame };
    let fields = read.array_len("header")?;
    if fields < 2 {
        return Err(HeaderError::malformed(format_args!(
            "{fields} fields, at least kind and seq are required"
        )));
    }
    let kind = read.required_uint("kind")?;
    let kind = Kind::from_number(kind).ok_or_else(|| HeaderError::unknown_kind(kind))?;
    let mut header = Header::new(kind, Seq(read.required_uint("seq")?));
    if fields >= 3 {
        header.service_method = ByteStr::slice_of(message, read.str("service_method")?.as_bytes());
    }
    if fields >= 4 {
        header.timeout_ms = read.uint("timeout_ms")?.unwrap_or(0);
    }
    if fields >= 5 {
        header.error = read.error()?;
    }
    if fields >= 6 {
        header.metadata = read.metadata()?;
    }
    if fields >= 7 {
        header.flags = Flags::from_bits(read.uint("flags")?.unwrap_or(0));
    }
    for _ in 7..fields {
        read.skip()?;
    }
    if !read.rest.is_empty() {
        return Err(HeaderError::malformed(format_args!("{} bytes follow it", read.rest.len())));
    }
    Ok(header)
}

/// A reader that takes values from the front of a slice.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize, field: &str) -> Result<&'a [u8], HeaderError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| HeaderError::malformed(format_args!("{field} is cut short")))?;
        self.rest = rest;
        Ok(taken)
    }

    fn marker(&mut self, field: &str) -> Result<Marker, HeaderError> {
        Ok(Marker::from_u8(self.take(1, field)?[0]))
    }

    /// Reads a big-endian number of `width` bytes.
    fn be(&mut self, width: usize, field: &str) -> Result<u64, HeaderError> {
        let taken = self.take(width, field)?;
        Ok(taken.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// Reads a number from 0 to 2^64 - 1 in any legal encoding, or nil.
    fn uint(&mut self, field: &str) -> Result<Option<u64>, HeaderError> {
        let value = match self.marker(field)? {
            Marker::FixPos(value) => return Ok(Some(u64::from(value))),
            Marker::Null => return Ok(None),
            Marker::U8 => return self.be(1, field).map(Some),
            Marker::U16 => return self.be(2, field).map(Some),
            Marker::U32 => return self.be(4, field).map(Some),
            Marker::U64 => return self.be(8, field).map(Some),
            Marker::FixNeg(value) => i64::from(value),
            Marker::I8 => i64::from(self.be(1, field)? as u8 as i8),
            Marker::I16 => i64::from(self.be(2, field)? as u16 as i16),
            Marker::I32 => i64::from(self.be(4, field)? as u32 as i32),
            Marker::I64 => self.be(8, field)? as i64,
            other => return Err(unexpected(field, "an unsigned integer", other)),
        };
        match u64::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(HeaderError::malformed(format_args!("{field} is {value}, below zero"))),
        }
    }

    fn required_uint(&mut self, field: &str) -> Result<u64, HeaderError> {
        self.uint(field)?.ok_or_else(|| HeaderError::malformed(format_args!("{field} is nil")))
    }

    /// Reads a string, or nil as an empty one.
    fn str(&mut self, field: &str) -> Result<&'a str, HeaderError> {
        if self.is_nil() { Ok("") } else { self.text(field) }
    }

    /// Reads a string.
    fn text(&mut self, field: &str) -> Result<&'a str, HeaderError> {
        let len = match self.marker(field)? {
            Marker::FixStr(len) => u64::from(len),
            Marker::Str8 => self.be(1, field)?,
            Marker::Str16 => self.be(2, field)?,
            Marker::Str32 => self.be(4, field)?,
            other => return Err(unexpected(field, "a string", other)),
        };
        let bytes = self.take(len as usize, field)?;
        std::str::from_utf8(bytes).map_err(|error| HeaderError::malformed(format_args!("{field}: {error}")))
    }

    fn array_len(&mut self, field: &str) -> Result<u64, HeaderError> {
        match self.marker(field)? {
            Marker::FixArray(len) => Ok(u64::from(len)),
            Marker::Array16 => self.be(2, field),
            Marker::Array32 => self.be(4, field),
            other => Err(unexpected(field, "an array", other)),
        }
    }

    fn is_nil(&mut self) -> bool {
        let nil = self.rest.first() == Some(&Marker::Null.to_u8());
        if nil {
            self.rest = &self.rest[1..];
        }
        nil
    }

    fn error(&mut self) -> Result<Option<Box<Status>>, HeaderError> {
        if self.is_nil() {
            return Ok(None);
        }
        let fields = self.array_len("error")?;
        let mut status = Status::maybe(Code::Internal, "");
        if fields >= 1 {
            status.code = Code::from_number(self.uint("error code")?.unwrap_or(0));
        }
        if fields >= 2 {
            truncate(self.str("error message")?, MAX_PEER_TEXT).clone_into(&mut status.message);
        }
        if fields >= 3 {
            status.execution = self.uint("error execution")?.map_or(Execution::Maybe, Execution::from_number);
        }
        for _ in 3..fields {
            self.skip()?;
        }
        Ok(Some(Box::new(status)))
    }

    fn metadata(&mut self) -> Result<Option<Box<Metadata>>, HeaderError> {
        let field = "metadata";
        let pairs = match self.marker(field)? {
            Marker::Null => return Ok(None),
            Marker::FixMap(len) => u64::from(len),
            Marker::Map16 => self.be(2, field)?,
            Marker::Map32 => self.be(4, field)?,
            other => return Err(unexpected(field, "a map", other)),
        };
        // The rest is at most the header, and the length of the map is only a claim.
        let metadata = Metadata::from_peer(
            self.rest.len(),
            (0..pairs).map(|_| Ok((self.text("metadata key")?, self.text("metadata value")?))),
        )?;
        Ok((pairs > 0).then(|| Box::new(metadata)))
    }

    fn skip(&mut self) -> Result<(), HeaderError> {
        let len = value_len(self.rest).map_err(HeaderError::malformed)?;
        self.rest = &self.rest[len..];
        Ok(())
    }
}

fn unexpected(field: &str, wanted: &str, found: Marker) -> HeaderError {
    HeaderError::malformed(format_args!("{field} is {found:?}, not {wanted}"))
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_header;
    use super::*;

    fn check(frame: &Bytes) -> Result<(), TestCaseError> {
        if let Some(read) = read_usual(frame) {
            prop_assert_eq!(Ok(read), decode_any(frame, frame));
        }
        Ok(())
    }

    /// Reads a header of the usual form over another one.
    fn read_usual(frame: &Bytes) -> Option<Header> {
        let mut header = Header::new(Kind::Goaway, Seq(7));
        header.error = Some(Box::new(Status::maybe(Code::Internal, "")));
        header.metadata = Some(Box::default());
        header.timeout_ms = 5;
        decode_usual(frame, frame, &mut header).map(|()| header)
    }

    proptest! {
        #[test]
        fn usual_header_decodes_the_same_on_both_paths(
            mut header in any_header(),
            seq: u32,
            at in any::<prop::sample::Index>(),
            byte: u8,
        ) {
            header.error = None;
            header.metadata = None;
            header.seq = Seq(u64::from(seq));
            header.timeout_ms %= 1 << 32;
            let mut out = BytesMut::new();
            encode(&header.as_ref(), &mut out);
            let frame = out.clone().freeze();
            prop_assert_eq!(read_usual(&frame).is_some(), header.service_method.len() < 32);
            check(&frame)?;
            let at = at.index(out.len());
            out[at] = byte;
            check(&out.freeze())?;
        }

        #[test]
        fn bytes_that_both_paths_accept_decode_the_same(
            fields in 0x90_u8..0x98,
            kind in 0_u8..16,
            // Mostly the first and last marker of each format.
            rest in proptest::collection::vec(
                prop_oneof![0_u8..4, 0x7e..0x82_u8, 0xa0..0xa4_u8, 0xc0..0xc4_u8, 0xcc..0xd0_u8, any::<u8>()],
                0..16,
            ),
        ) {
            check(&[&[fields, kind], &rest[..]].concat().into())?;
        }
    }
}
