//! Headers as JSON objects.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::byte_str::ByteStr;
use super::types::{Flags, Header, HeaderError, HeaderRef, Kind};
use crate::code::{Code, Execution};
use crate::codec::{Writer, is_plain, put_plain};
use crate::limits::Seq;
use crate::metadata::Metadata;
use crate::object::Object;
use crate::status::Status;
use crate::text::{MAX_PEER_TEXT, truncate};
use crate::uint::Uint;

/// Encodes a header. Keys are written by hand, because serde_json would search each one for characters to
/// escape.
pub(super) fn encode(header: &HeaderRef<'_>, out: &mut BytesMut) {
    out.extend_from_slice(br#"{"kind":""#);
    out.extend_from_slice(header.kind.name().as_bytes());
    put(out, r#"","seq":"#, &header.seq.0);
    if !header.service_method.is_empty() {
        put_text(out, r#","service_method":"#, header.service_method);
    }
    if header.timeout_ms != 0 {
        put(out, r#","timeout_ms":"#, &header.timeout_ms);
    }
    if let Some(status) = header.error {
        put(out, r#","error":"#, &WrittenError(status));
    }
    if let Some(metadata) = header.metadata() {
        put(out, r#","metadata":"#, &WrittenMetadata(metadata));
    }
    if header.flags != Flags::NONE {
        put(out, r#","flags":"#, &header.flags.bits());
    }
    out.extend_from_slice(b"}");
}

fn put<T: Serialize + ?Sized>(out: &mut BytesMut, key: &str, value: &T) {
    out.extend_from_slice(key.as_bytes());
    serde_json::to_writer(Writer::copying(out), value).expect("strings and numbers always encode");
}

fn put_text(out: &mut BytesMut, key: &str, text: &str) {
    if is_plain(text) {
        out.extend_from_slice(key.as_bytes());
        put_plain(&mut Writer::copying(out), text);
    } else {
        put(out, key, text);
    }
}

struct WrittenError<'a>(&'a Status);

impl Serialize for WrittenError<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("code", self.0.code.name())?;
        map.serialize_entry("message", self.0.wire_message())?;
        map.serialize_entry("execution", Execution::from_number(self.0.execution.number().into()).name())?;
        map.end()
    }
}

struct WrittenMetadata<'a>(&'a Metadata);

impl Serialize for WrittenMetadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter())
    }
}

pub(super) fn decode_into(
    message: &Bytes,
    frame: Range<usize>,
    header: &mut Header,
) -> Result<(), HeaderError> {
    let frame = &message[frame];
    *header = match decode_usual(message, frame) {
        Some(header) => header,
        None => decode_any(message, frame)?,
    };
    Ok(())
}

/// Decodes a header of the most frequent form, as [`encode`] writes it: without an error and metadata, and with
/// a name in ASCII that has no escapes. `None` for any other header, valid or not; `decode_any` handles it.
fn decode_usual(message: &Bytes, frame: &[u8]) -> Option<Header> {
    let (kind, rest) = plain_text(frame.strip_prefix(br#"{"kind":""#)?)?;
    let (seq, rest) = short_uint(rest.strip_prefix(br#","seq":"#)?)?;
    let (name, rest) = match rest.strip_prefix(br#","service_method":""#) {
        Some(rest) => plain_text(rest)?,
        None => (&b""[..], rest),
    };
    let (timeout_ms, rest) = match rest.strip_prefix(br#","timeout_ms":"#) {
        Some(rest) => short_uint(rest)?,
        None => (0, rest),
    };
    let (flags, rest) = match rest.strip_prefix(br#","flags":"#) {
        Some(rest) => short_uint(rest)?,
        None => (0, rest),
    };
    if rest != b"}" {
        return None;
    }
    Some(Header {
        kind: Kind::ALL.into_iter().find(|known| known.name().as_bytes() == kind)?,
        seq: Seq(seq),
        service_method: ByteStr::slice_of(message, name),
        timeout_ms,
        error: None,
        metadata: None,
        flags: Flags::from_bits(flags),
    })
}

/// Reads ASCII without escapes up to the quotation mark that ends it, and returns it with the remaining bytes.
fn plain_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| !matches!(byte, 0x20..=0x7e) || matches!(byte, b'"' | b'\\'))?;
    let (text, rest) = bytes.split_at(end);
    Some((text, rest.strip_prefix(b"\"")?))
}

/// Reads a number of at most 15 digits, all of which are allowed, and returns it with the remaining bytes.
fn short_uint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = bytes.split_at(digits);
    // JSON has no zeros in front.
    if !(1..=15).contains(&digits) || (digits > 1 && number[0] == b'0') {
        return None;
    }
    Some((number.iter().fold(0, |value, digit| 10 * value + u64::from(digit - b'0')), rest))
}

fn decode_any(message: &Bytes, frame: &[u8]) -> Result<Header, HeaderError> {
    let Object(read): Object<Read<'_>> = serde_json::from_slice(frame).map_err(HeaderError::malformed)?;
    let kind = Kind::from_name(&read.kind).ok_or_else(|| HeaderError::unknown_kind(&read.kind))?;
    let seq = read.seq.0.ok_or_else(|| HeaderError::malformed("seq is null"))?;
    if seq >= Seq::JSON_END {
        return Err(HeaderError::malformed(format_args!("seq is {seq}, the maximum in JSON is 2^53 - 1")));
    }
    let service_method = match read.service_method {
        None => ByteStr::default(),
        Some(Cow::Borrowed(name)) => ByteStr::slice_of(message, name.as_bytes()),
        Some(Cow::Owned(name)) => ByteStr::from(name),
    };
    Ok(Header {
        kind,
        seq: Seq(seq),
        service_method,
        timeout_ms: read.timeout_ms.0.unwrap_or(0),
        error: read.error.map(|Object(error)| Box::new(error.into_status())),
        metadata: read.metadata.and_then(ReadMetadata::into_metadata),
        flags: Flags::from_bits(read.flags.0.unwrap_or(0)),
    })
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    seq: Uint,
    #[serde(borrow, default, deserialize_with = "borrowed_if_possible")]
    service_method: Option<Cow<'a, str>>,
    #[serde(default)]
    timeout_ms: Uint,
    error: Option<Object<ReadError>>,
    #[serde(borrow)]
    metadata: Option<ReadMetadata<'a>>,
    #[serde(default)]
    flags: Uint,
}

/// Borrows the text if it contains no escapes. serde does not borrow a `Cow` inside of an `Option`.
fn borrowed_if_possible<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Cow<'de, str>>, D::Error> {
    Ok(Option::<Text<'de>>::deserialize(deserializer)?.map(|name| name.0))
}

#[derive(Deserialize)]
struct ReadError {
    code: Option<String>,
    message: Option<String>,
    execution: Option<String>,
}

impl ReadError {
    fn into_status(self) -> Status {
        Status {
            code: self.code.as_deref().map_or(Code::Internal, Code::from_name),
            message: truncate(&self.message.unwrap_or_default(), MAX_PEER_TEXT).to_owned(),
            execution: self.execution.as_deref().map_or(Execution::Maybe, Execution::from_name),
        }
    }
}

/// The pairs of metadata in the order in which they came.
struct ReadMetadata<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl ReadMetadata<'_> {
    fn into_metadata(self) -> Option<Box<Metadata>> {
        let bytes = self.0.iter().map(|(key, value)| key.len() + value.len()).sum();
        let pairs = self.0.iter().map(|(key, value)| Ok((&**key, &**value)));
        let Ok(metadata) = Metadata::from_peer::<Infallible>(bytes, pairs);
        (!self.0.is_empty()).then(|| Box::new(metadata))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for ReadMetadata<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MetadataVisitor(PhantomData))
    }
}

struct MetadataVisitor<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for MetadataVisitor<'a> {
    type Value = ReadMetadata<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        // Bounded by the header: a pair is five bytes of it at least.
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry::<Text<'a>, Text<'a>>()? {
            pairs.push((pair.0.0, pair.1.0));
        }
        Ok(ReadMetadata(pairs))
    }
}

/// A string, borrowed if it contains no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(all(test, feature = "msgpack"))]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::any_header;
    use super::*;

    fn check(frame: &Bytes) -> Result<(), TestCaseError> {
        if let Some(read) = decode_usual(frame, frame) {
            prop_assert_eq!(Ok(read), decode_any(frame, frame));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn usual_header_decodes_the_same_on_both_paths(
            mut header in any_header(),
            name in "[A-Za-z.]{0,40}",
            seq in 0_u64..1_000_000_000_000_000,
            at in any::<prop::sample::Index>(),
            byte in prop_oneof![any::<u8>(), Just(b'0'), Just(b'"'), Just(b'\\'), Just(b'}'), Just(b'.')],
        ) {
            header.error = None;
            header.metadata = None;
            header.seq = Seq(seq);
            header.timeout_ms %= 1 << 32;
            check(&encoded(&header))?;
            header.service_method = ByteStr::from(name);
            let frame = encoded(&header);
            prop_assert!(decode_usual(&frame, &frame).is_some());
            check(&frame)?;
            let mut changed = BytesMut::from(&frame[..]);
            let at = at.index(changed.len());
            changed[at] = byte;
            check(&changed.freeze())?;
        }
    }

    fn encoded(header: &Header) -> Bytes {
        let mut out = BytesMut::new();
        encode(&header.as_ref(), &mut out);
        out.freeze()
    }
}
