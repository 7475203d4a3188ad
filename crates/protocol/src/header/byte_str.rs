//! [`ByteStr`]: text of a message, copied if it is short and shared with the message's buffer otherwise.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
#[cfg(feature = "msgpack")]
use std::str::Utf8Error;

use bytes::Bytes;

use crate::text::EscapedText;

/// Text that was received in a message: a copy if it is short, like most names of methods, else a slice of
/// the receive buffer.
#[derive(Clone)]
pub struct ByteStr(Text);

#[derive(Clone)]
enum Text {
    /// The text, padded with zeros, and its length in the last byte.
    Copied([u8; COPY_BYTES]),
    Shared(Bytes),
}

/// The size of a copy: the size of a `Bytes` minus one word for the discriminant. Copying this much costs
/// less than incrementing and decrementing the reference count of the buffer.
const COPY_BYTES: usize = size_of::<Bytes>() - size_of::<usize>();

impl Text {
    #[inline]
    fn copied(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; COPY_BYTES];
        let [copy @ .., len] = &mut bytes;
        copy.get_mut(..text.len())?.copy_from_slice(text);
        *len = text.len() as u8;
        Some(Self::Copied(bytes))
    }

    /// Returns `true` if the text is ASCII. Nearly all names are, and the check is faster than that for UTF-8.
    #[cfg(feature = "msgpack")]
    fn is_ascii(&self) -> bool {
        match self {
            // The padding and the length are ASCII too, so the length of the check is constant.
            Self::Copied(bytes) => bytes.is_ascii(),
            Self::Shared(bytes) => bytes.is_ascii(),
        }
    }
}

impl ByteStr {
    /// Takes `text`, a part of `message`, if it is UTF-8.
    #[cfg(feature = "msgpack")]
    #[inline]
    pub(super) fn part_of(message: &Bytes, text: &[u8]) -> Result<Self, Utf8Error> {
        let read = Self::slice_of(message, text);
        if !read.0.is_ascii() {
            std::str::from_utf8(text)?;
        }
        Ok(read)
    }

    /// Takes `text`, which is UTF-8 and a part of `message`.
    #[inline]
    pub(super) fn slice_of(message: &Bytes, text: &[u8]) -> Self {
        Self(Text::copied(text).unwrap_or_else(|| Text::Shared(message.slice_ref(text))))
    }

    /// Returns `true` if it is a slice of the message's buffer, which it keeps.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Text::Shared(_))
    }

    /// Returns the bytes of the text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Copied([text @ .., len]) => &text[..usize::from(*len)],
            Text::Shared(bytes) => bytes,
        }
    }

    /// Returns the text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes())
            .expect("constructors accept UTF-8 only, and the text is immutable")
    }
}

impl Default for ByteStr {
    fn default() -> Self {
        Self(Text::Copied([0; COPY_BYTES]))
    }
}

impl PartialEq for ByteStr {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            // With padding and length, for which the compiler needs no call.
            (Text::Copied(one), Text::Copied(other)) => one == other,
            _ => self.as_bytes() == other.as_bytes(),
        }
    }
}

impl Eq for ByteStr {}

impl Hash for ByteStr {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl Deref for ByteStr {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl From<String> for ByteStr {
    fn from(text: String) -> Self {
        Self(Text::copied(text.as_bytes()).unwrap_or_else(|| Text::Shared(text.into())))
    }
}

impl From<&str> for ByteStr {
    fn from(text: &str) -> Self {
        let text = text.as_bytes();
        Self(Text::copied(text).unwrap_or_else(|| Text::Shared(Bytes::copy_from_slice(text))))
    }
}

impl fmt::Debug for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Display for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EscapedText(self).fmt(f)
    }
}

#[cfg(all(test, feature = "msgpack"))]
mod tests {
    use super::*;

    #[test]
    fn copied_text_is_as_large_as_shared_text() {
        assert_eq!(size_of::<ByteStr>(), size_of::<Bytes>());
    }

    #[test]
    fn copied_and_shared_text_are_equal() {
        for len in [0, 1, COPY_BYTES - 2, COPY_BYTES - 1, COPY_BYTES, 100] {
            let text = "é".repeat(len / 2) + &"x".repeat(len % 2);
            assert_eq!(text.len(), len);
            let message = Bytes::from(format!("[{text}]"));
            let read = ByteStr::part_of(&message, &message[1..=len]).unwrap();
            assert_eq!(matches!(read.0, Text::Shared(_)), len >= COPY_BYTES);
            assert_eq!(read.as_str(), text);
            for other in [ByteStr::from(&text[..]), ByteStr::from(text), read.clone()] {
                assert_eq!(read, other);
            }
        }
    }
}
