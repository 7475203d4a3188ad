//! A byte string as a parameter or result: bin in MessagePack, base64 in JSON.

use std::cell::RefCell;
use std::fmt;
use std::ops::Deref;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes of an argument or a result.
///
/// A `Vec<u8>` travels as a list of numbers, as serde has it; `Bytes` travels as the codec's byte
/// string: bin in MessagePack, base64 (RFC 4648, with padding) in JSON. Cloning is cheap. In MessagePack large
/// ones are not copied: one that came keeps its message, and one that is sent keeps the memory that it is a
/// part of until it is written.
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

/// Byte strings from here on share the memory of the message that they are read from. Smaller ones are
/// copied: they could keep a whole read buffer alive, which is not much larger than this.
const MIN_SHARED: usize = 32 * 1024;
/// So much of its message a byte string must be for that, as a divisor: what it keeps alive is not many
/// times what it is.
const MIN_SHARE_DIVISOR: usize = 4;

thread_local! {
    /// The message that is being decoded, where it is large.
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

/// Puts back what was being decoded, also where a `Deserialize` of the user's panics.
struct Restore(Option<bytes::Bytes>);

impl Drop for Restore {
    fn drop(&mut self) {
        SOURCE.set(self.0.take());
    }
}

/// The same bytes without a copy, where they are large and of the message that is being decoded.
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

/// Byte strings from here on are sent from where they are: a copy would cost more than a piece of its own.
const MIN_SEGMENT: usize = 16 * 1024;

thread_local! {
    /// The byte string that is being encoded, where it is large.
    static OFFERED: RefCell<Option<bytes::Bytes>> = const { RefCell::new(None) };
}

/// Runs `encode`, in which a writer that is given the bytes of `data` may have them without a copy.
fn with_offered<T>(data: &bytes::Bytes, encode: impl FnOnce() -> T) -> T {
    if data.len() < MIN_SEGMENT {
        return encode();
    }
    OFFERED.set(Some(data.clone()));
    let _withdraw = Withdraw;
    encode()
}

/// Takes back what was offered, also where a serializer of the user's panics.
struct Withdraw;

impl Drop for Withdraw {
    fn drop(&mut self) {
        OFFERED.set(None);
    }
}

/// The same bytes without a copy, where they are large and what is being encoded.
pub(crate) fn take_offered(bytes: &[u8]) -> Option<bytes::Bytes> {
    if bytes.len() < MIN_SEGMENT {
        return None;
    }
    OFFERED.take().filter(|offered| offered.as_ptr() == bytes.as_ptr() && offered.len() == bytes.len())
}

impl Bytes {
    /// The shared buffer inside.
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
        #[cfg(feature = "json")]
        if serializer.is_human_readable() {
            use base64::Engine as _;
            let text = base64::engine::general_purpose::STANDARD.encode(&self.0);
            return serializer.serialize_str(&text);
        }
        with_offered(&self.0, || serializer.serialize_bytes(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            deserializer.deserialize_any(BytesVisitor { base64: true })
        } else {
            deserializer.deserialize_byte_buf(BytesVisitor { base64: false })
        }
    }
}

struct BytesVisitor {
    base64: bool,
}

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.base64 { "a base64 string" } else { "a byte string" })
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
        Ok(shared(bytes).map_or_else(|| bytes.into(), Bytes))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
        Ok(bytes.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Bytes, E> {
        #[cfg(feature = "json")]
        if self.base64 {
            use base64::Engine as _;
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            return decoded.map(Bytes::from).map_err(|error| E::custom(format_args!("base64: {error}")));
        }
        Ok(text.into())
    }

    /// A list of numbers, as a client that knows no byte strings sends it.
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(4096));
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes.into())
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
    fn a_large_one_shares_the_memory_of_its_message() {
        let body = Codec::MessagePack.encode(&Bytes::from(vec![7; MIN_SHARED])).unwrap();
        let read = with_shared_source(&body, || Codec::MessagePack.decode::<Bytes>(&body)).unwrap();
        assert_eq!(read.as_ptr(), body[body.len() - MIN_SHARED..].as_ptr());
        // Another message has nothing to share with this one, and neither has one that came later.
        let other = Codec::MessagePack.encode(&Bytes::from(vec![7; MIN_SHARED])).unwrap();
        let read = with_shared_source(&body, || Codec::MessagePack.decode::<Bytes>(&other)).unwrap();
        assert!(!other.as_ptr_range().contains(&read.as_ptr()));
        let read = Codec::MessagePack.decode::<Bytes>(&body).unwrap();
        assert!(!body.as_ptr_range().contains(&read.as_ptr()));
    }

    #[test]
    fn a_small_one_keeps_no_message_alive() {
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
    fn messages_nest_and_a_panic_leaves_nothing_behind() {
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
    fn text_that_is_no_base64_is_an_error_that_says_so() {
        let error = Codec::Json.decode::<Bytes>(br#""%%%""#).unwrap_err();
        assert!(error.to_string().starts_with("base64: "), "{error}");
    }
}
