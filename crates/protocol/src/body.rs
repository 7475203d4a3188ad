//! [`Body`]: an encoded value to send.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

/// An encoded value to send: in place if it is small, one piece of memory, or several if it contains large byte strings that
/// are not copied.
#[derive(Clone, Debug)]
pub struct Body(Repr);

#[derive(Clone, Debug)]
enum Repr {
    One(Bytes),
    Other(Other),
}

/// The other forms of a body, apart so that a [`Body`] is as large as a [`Bytes`].
#[derive(Clone, Debug)]
enum Other {
    Small(SmallBody),
    Many(Arc<[Bytes]>),
}

/// A body of a few bytes, for which no memory is counted and freed.
#[derive(Clone, Debug)]
pub(crate) struct SmallBody {
    len: u8,
    /// The bytes, padded with zeros: a copy of them all costs less than one whose length is not known.
    bytes: [u8; Self::MAX],
}

/// The bytes of a body, as they are sent.
pub(crate) enum Parts<'a> {
    Small(&'a SmallBody),
    /// The pieces in order.
    Shared(&'a [Bytes]),
}

impl Body {
    /// Creates a body of these pieces, in order.
    pub(crate) fn from_pieces(pieces: Vec<Bytes>) -> Self {
        Self(Repr::Other(Other::Many(pieces.into())))
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Repr::One(bytes) => bytes.len(),
            Repr::Other(Other::Small(small)) => small.len(),
            Repr::Other(Other::Many(pieces)) => pieces.iter().map(Bytes::len).sum(),
        }
    }

    /// Returns `true` if the body has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the whole body in one piece, copying if it is small or there are several.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::One(bytes) => bytes,
            Repr::Other(Other::Small(small)) => Bytes::copy_from_slice(small.as_slice()),
            Repr::Other(Other::Many(pieces)) => pieces.concat().into(),
        }
    }

    /// Returns the bytes as they are sent.
    #[inline]
    pub(crate) fn parts(&self) -> Parts<'_> {
        match &self.0 {
            Repr::One(bytes) => Parts::Shared(std::slice::from_ref(bytes)),
            Repr::Other(Other::Small(small)) => Parts::Small(small),
            Repr::Other(Other::Many(pieces)) => Parts::Shared(pieces),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::One(bytes))
    }
}

impl From<SmallBody> for Body {
    #[inline]
    fn from(small: SmallBody) -> Self {
        Self(Repr::Other(Other::Small(small)))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::from(SmallBody::EMPTY)
    }
}

impl SmallBody {
    /// The most bytes of a small body.
    pub(crate) const MAX: usize = size_of::<Bytes>() - size_of::<usize>() - 2;
    /// The one without bytes.
    pub(crate) const EMPTY: Self = Self { len: 0, bytes: [0; Self::MAX] };

    /// Takes the bytes out of a buffer, which is empty afterwards. `None` if there are more than fit.
    #[inline]
    pub(crate) fn take(buffer: &mut BytesMut) -> Option<Self> {
        let len = buffer.len();
        if len > Self::MAX {
            return None;
        }
        buffer.extend_from_slice(&Self::EMPTY.bytes);
        let bytes = *buffer.first_chunk()?;
        buffer.clear();
        Some(Self { len: len as u8, bytes })
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.into()
    }

    /// Returns the bytes and the zeros behind them.
    #[cfg(feature = "msgpack")]
    #[inline]
    pub(crate) const fn padded(&self) -> &[u8; Self::MAX] {
        &self.bytes
    }

    /// Returns the bytes.
    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len()]
    }
}

#[cfg(test)]
impl Body {
    /// Returns the pieces in order; of a small body, none.
    pub(crate) fn pieces(&self) -> &[Bytes] {
        match self.parts() {
            Parts::Small(_) => &[],
            Parts::Shared(pieces) => pieces,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_whole_body() {
        let pieces = vec![Bytes::from_static(b"ab"), Bytes::new(), Bytes::from_static(b"c")];
        let body = Body::from_pieces(pieces.clone());
        assert_eq!((body.len(), body.is_empty(), body.pieces()), (3, false, &pieces[..]));
        assert_eq!(body.into_bytes(), "abc");
        let one = Body::from(Bytes::from_static(b"d"));
        assert_eq!((one.len(), one.is_empty(), one.pieces()), (1, false, &[Bytes::from_static(b"d")][..]));
        for empty in [Body::default(), Body::from_pieces(vec![Bytes::new()])] {
            assert!(empty.is_empty() && empty.into_bytes().is_empty());
        }
    }

    #[test]
    fn small_body_is_taken_out_of_a_buffer() {
        assert_eq!(size_of::<Body>(), size_of::<Bytes>());
        for len in [0, 1, SmallBody::MAX] {
            let text = &"0123456789".repeat(3).into_bytes()[..len];
            let mut buffer = BytesMut::from(text);
            let small = SmallBody::take(&mut buffer).unwrap();
            assert!(buffer.is_empty());
            let body = Body::from(small);
            assert_eq!((body.len(), body.is_empty()), (len, len == 0));
            assert_eq!(body.clone().into_bytes(), text);
        }
        let mut buffer = BytesMut::from(&[7; SmallBody::MAX + 1][..]);
        assert!(SmallBody::take(&mut buffer).is_none());
        assert_eq!(buffer.len(), SmallBody::MAX + 1);
    }
}
