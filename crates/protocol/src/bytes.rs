//! [`Bytes`]: a byte string as a parameter or result, which is bin in MessagePack and base64 in JSON.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The name of the newtype as which [`Bytes`] are serialized. The codecs know it, and write the bytes inside as
/// a byte string of theirs.
pub(crate) const BYTES_NAME: &str = "$farcall::Bytes";

/// A byte string in an argument or a result.
///
/// serde encodes a `Vec<u8>` as a list of numbers, which takes far longer. `Bytes` is encoded as the codec's
/// byte string: bin in MessagePack, base64 (RFC 4648, with padding) in JSON. Cloning is cheap. In MessagePack, large byte strings
/// are not copied: a received one keeps the memory of its message alive, and a sent one keeps its own memory
/// alive until it is written.
///
/// ```
/// use farcall_protocol::Bytes;
///
/// let data = Bytes::from(b"hello".as_slice());
/// assert_eq!(data.len(), 5);
/// # #[cfg(feature = "json")]
/// assert_eq!(&farcall_protocol::Codec::Json.encode(&data)?[..], br#""aGVsbG8=""#);
/// # Ok::<_, farcall_protocol::EncodeError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(bytes::Bytes);

/// The smallest byte string, in bytes, that shares the memory of the message that it is read from. Smaller
/// ones are copied: they could keep a whole read buffer alive, which is not much larger than this.
const MIN_SHARED: usize = 32 * 1024;
/// The divisor of a message's length that gives the smallest byte string that shares its memory, so that a
/// byte string never keeps alive many times its own size.
const MIN_SHARE_DIVISOR: usize = 4;

thread_local! {
    /// The message that is being decoded, if it is large.
    static SOURCE: RefCell<Option<bytes::Bytes>> = const { RefCell::new(None) };
}

/// Runs `decode`, in which large [`Bytes`] that are read from `source` share its memory instead of being
/// copied.
pub fn with_shared_source<T>(source: &bytes::Bytes, decode: impl FnOnce() -> T) -> T {
    if source.len() < MIN_SHARED {
        return decode();
    }
    let _restore = Restore(SOURCE.replace(Some(source.clone())));
    decode()
}

/// Restores the previous message on drop, also if a user's `Deserialize` panics.
struct Restore(Option<bytes::Bytes>);

impl Drop for Restore {
    fn drop(&mut self) {
        SOURCE.set(self.0.take());
    }
}

/// Returns the same bytes without a copy, if they are large and a part of the message that is being decoded.
fn shared(bytes: &[u8]) -> Option<bytes::Bytes> {
    if bytes.len() < MIN_SHARED {
        return None;
    }
    SOURCE.with_borrow(|source| {
        let source = source.as_ref()?;
        let (all, part) = (source.as_ptr_range(), bytes.as_ptr_range());
        let is_worth_it = bytes.len() >= source.len() / MIN_SHARE_DIVISOR;
        (is_worth_it && all.start <= part.start && part.end <= all.end).then(|| source.slice_ref(bytes))
    })
}

/// The smallest byte string, in bytes, that is sent without a copy: copying smaller ones costs less than
/// sending them as separate pieces.
const MIN_SEGMENT: usize = 16 * 1024;

thread_local! {
    /// The byte string that is being encoded, if it is large.
    static OFFERED: RefCell<Option<bytes::Bytes>> = const { RefCell::new(None) };
}

/// Runs `encode`, in which a writer that receives the bytes of `data` can take them without a copy.
fn with_offered<T>(data: &bytes::Bytes, encode: impl FnOnce() -> T) -> T {
    if data.len() < MIN_SEGMENT {
        return encode();
    }
    OFFERED.set(Some(data.clone()));
    let _withdraw = Withdraw;
    encode()
}

/// Withdraws the offered bytes on drop, also if a user's serializer panics.
struct Withdraw;

impl Drop for Withdraw {
    fn drop(&mut self) {
        OFFERED.set(None);
    }
}

/// Returns the same bytes without a copy, if they are large and the byte string that is being encoded.
pub(crate) fn take_offered(bytes: &[u8]) -> Option<bytes::Bytes> {
    if bytes.len() < MIN_SEGMENT {
        return None;
    }
    OFFERED.take().filter(|offered| offered.as_ptr() == bytes.as_ptr() && offered.len() == bytes.len())
}

impl Bytes {
    /// Returns the underlying shared buffer.
    #[must_use]
    pub fn into_inner(self) -> bytes::Bytes {
        self.0
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<bytes::Bytes> for Bytes {
    fn from(bytes: bytes::Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes::Bytes::copy_from_slice(bytes))
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        with_offered(&self.0, || serialize_slice(&self.0, serializer))
    }
}

/// Serializes a byte string.
pub(crate) fn serialize_slice<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_newtype_struct(BYTES_NAME, &Content(bytes))
}

/// The bytes in the newtype [`BYTES_NAME`].
struct Content<'a>(&'a [u8]);

impl Serialize for Content<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The codecs say that these bytes are not read by humans, and serializers of others mean it.
        #[cfg(feature = "json")]
        if serializer.is_human_readable() {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(self.0);
            return serializer.serialize_str(&text);
        }
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer, |bytes| shared(bytes).map_or_else(|| bytes.into(), Self), Self::from)
    }
}

/// Deserializes a byte string. `borrowed` converts bytes of the message, `owned` others.
pub(crate) fn deserialize<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    borrowed: impl FnOnce(&[u8]) -> T,
    owned: impl FnOnce(Vec<u8>) -> T,
) -> Result<T, D::Error> {
    deserializer.deserialize_newtype_struct(BYTES_NAME, BytesVisitor { borrowed, owned, base64: true })
}

/// Reads a byte string, directly or in the newtype [`BYTES_NAME`].
struct BytesVisitor<F, G> {
    borrowed: F,
    owned: G,
    /// `true` if a string is base64; otherwise it is the bytes themselves.
    base64: bool,
}

impl<'de, T, F: FnOnce(&[u8]) -> T, G: FnOnce(Vec<u8>) -> T> Visitor<'de> for BytesVisitor<F, G> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.base64 { "bytes, which are a base64 string in JSON" } else { "a byte string" })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(self)
        } else {
            deserializer.deserialize_byte_buf(Self { base64: false, ..self })
        }
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<T, E> {
        Ok((self.borrowed)(bytes))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<T, E> {
        Ok((self.owned)(bytes))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        #[cfg(feature = "json")]
        if self.base64 {
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            return decoded.map(self.owned).map_err(|error| E::custom(format_args!("base64: {error}")));
        }
        Ok((self.borrowed)(text.as_bytes()))
    }

    /// Reads a list of numbers, which clients without byte strings send.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<T, A::Error> {
        let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok((self.owned)(bytes))
    }
}

/// Deserializes a byte string that borrows from the message where it stands there as it is.
pub(crate) fn deserialize_borrowed<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Cow<'de, [u8]>, D::Error> {
    deserializer.deserialize_newtype_struct(BYTES_NAME, BorrowedVisitor { base64: true })
}

/// Reads a byte string like [`BytesVisitor`].
struct BorrowedVisitor {
    base64: bool,
}

impl BorrowedVisitor {
    /// Returns the visitor for what cannot be borrowed.
    fn copying<'de>(&self) -> impl Visitor<'de, Value = Cow<'de, [u8]>> + use<'de> {
        BytesVisitor {
            borrowed: |bytes: &[u8]| Cow::Owned(bytes.to_vec()),
            owned: Cow::Owned,
            base64: self.base64,
        }
    }
}

impl<'de> Visitor<'de> for BorrowedVisitor {
    type Value = Cow<'de, [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.copying().expecting(f)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(self)
        } else {
            deserializer.deserialize_byte_buf(Self { base64: false })
        }
    }

    fn visit_borrowed_bytes<E: Error>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(bytes))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        self.copying().visit_bytes(bytes)
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Self::Value, E> {
        self.copying().visit_byte_buf(bytes)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        self.copying().visit_str(text)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        self.copying().visit_seq(seq)
    }
}

#[cfg(all(test, feature = "msgpack", feature = "json"))]
mod tests {
    use super::*;
    use crate::Codec;

    #[test]
    fn bytes_are_bin_in_messagepack_and_base64_in_json() {
        let data = Bytes::from(vec![0xde, 0xad, 0xbe]);
        assert_eq!(&Codec::MessagePack.encode(&data).unwrap()[..], [0xc4, 3, 0xde, 0xad, 0xbe]);
        assert_eq!(&Codec::Json.encode(&data).unwrap()[..], br#""3q2+""#);
        assert_eq!(Codec::MessagePack.decode::<Bytes>(&[0xc4, 3, 0xde, 0xad, 0xbe]).unwrap(), data);
        assert_eq!(Codec::Json.decode::<Bytes>(br#""3q2+""#).unwrap(), data);
    }

    #[test]
    fn large_byte_string_shares_the_memory_of_its_message() {
        let body = Codec::MessagePack.encode(&Bytes::from(vec![7; MIN_SHARED])).unwrap();
        let read = with_shared_source(&body, || Codec::MessagePack.decode::<Bytes>(&body)).unwrap();
        assert_eq!(read.as_ptr(), body[body.len() - MIN_SHARED..].as_ptr());
        // Other messages and later reads share nothing with it.
        let other = Codec::MessagePack.encode(&Bytes::from(vec![7; MIN_SHARED])).unwrap();
        let read = with_shared_source(&body, || Codec::MessagePack.decode::<Bytes>(&other)).unwrap();
        assert!(!other.as_ptr_range().contains(&read.as_ptr()));
        let read = Codec::MessagePack.decode::<Bytes>(&body).unwrap();
        assert!(!body.as_ptr_range().contains(&read.as_ptr()));
    }

    #[test]
    fn small_byte_string_keeps_no_message_alive() {
        let read = |data: (Bytes, Bytes)| {
            let body = Codec::MessagePack.encode(&data).unwrap();
            let read =
                with_shared_source(&body, || Codec::MessagePack.decode::<(Bytes, Bytes)>(&body)).unwrap();
            assert_eq!(read, data);
            [read.0, read.1].map(|read| body.as_ptr_range().contains(&read.as_ptr()))
        };
        let of = |len: usize| Bytes::from(vec![7; len]);
        assert_eq!(read((of(MIN_SHARED - 1), of(MIN_SHARED))), [false, true]);
        assert_eq!(read((of(MIN_SHARED), of(MIN_SHARE_DIVISOR * MIN_SHARED))), [false, true]);
    }

    #[test]
    fn byte_strings_are_shared_from_the_stated_sizes_on() {
        assert_eq!((MIN_SHARED, MIN_SHARE_DIVISOR, MIN_SEGMENT), (32_768, 4, 16_384));
        let pieces = |len: usize| {
            let data = Bytes::from(vec![7; len]);
            let body = Codec::MessagePack.encode_body(&data).unwrap();
            let is_shared = body.pieces().iter().any(|piece| piece.as_ptr() == data.as_ptr());
            (body.pieces().len() > 1, is_shared)
        };
        assert_eq!(pieces(16_383), (false, false));
        assert_eq!(pieces(16_384), (true, true));
        // Exactly at the smallest share of its message, and one byte below it.
        let share = |len: usize| {
            let source = bytes::Bytes::from(vec![7; 4 * 32_768]);
            with_shared_source(&source, || shared(&source[9..9 + len]).map(|part| part.as_ptr()))
                == Some(source[9..].as_ptr())
        };
        assert!(share(32_768) && !share(32_767));
        let larger = bytes::Bytes::from(vec![7; 4 * 32_769]);
        with_shared_source(&larger, || {
            assert!(shared(&larger[..32_769]).is_some() && shared(&larger[..32_768]).is_none());
        });
        let smallest = bytes::Bytes::from(vec![7; 32_768]);
        assert!(with_shared_source(&smallest, || shared(&smallest)).is_some());
    }

    #[test]
    fn bytes_are_made_of_what_has_bytes() {
        let expected = bytes::Bytes::from_static(b"text");
        for bytes in
            [Bytes::from("text"), "text".to_owned().into(), (&b"text"[..]).into(), b"text".to_vec().into()]
        {
            assert_eq!((bytes.as_ref(), format!("{bytes:?}")), (&b"text"[..], format!("{expected:?}")));
            assert_eq!(bytes.into_inner(), expected);
        }
    }

    #[test]
    fn sources_nest_and_are_restored_after_a_panic() {
        let body = Codec::MessagePack.encode(&Bytes::from(vec![7; MIN_SHARED])).unwrap();
        let inner = body.clone();
        with_shared_source(&body, || {
            assert!(
                std::panic::catch_unwind(|| with_shared_source(&inner, || panic!("in a Deserialize")))
                    .is_err()
            );
            assert!(SOURCE.with_borrow(Option::is_some));
        });
        assert!(SOURCE.with_borrow(Option::is_none));
    }

    #[test]
    fn invalid_base64_is_named_in_the_error() {
        let error = Codec::Json.decode::<Bytes>(br#""%%%""#).unwrap_err();
        assert!(error.to_string().starts_with("base64: "), "{error}");
    }
}
