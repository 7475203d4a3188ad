//! [`Body`]: an encoded value to send.

use std::sync::Arc;

use bytes::Bytes;

/// An encoded value to send: one piece of memory, or several if it contains large byte strings that are not
/// copied.
#[derive(Clone, Debug)]
pub struct Body(Pieces);

#[derive(Clone, Debug)]
enum Pieces {
    One(Bytes),
    Many(Arc<[Bytes]>),
}

impl Body {
    /// Creates a body of these pieces, in order.
    pub(crate) fn from_pieces(pieces: Vec<Bytes>) -> Self {
        Self(Pieces::Many(pieces.into()))
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Pieces::One(bytes) => bytes.len(),
            Pieces::Many(pieces) => pieces.iter().map(Bytes::len).sum(),
        }
    }

    /// Returns `true` if the body has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the whole body in one piece, copying if there are several.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Pieces::One(bytes) => bytes,
            Pieces::Many(pieces) => pieces.concat().into(),
        }
    }

    /// Returns the pieces in order.
    #[must_use]
    pub fn pieces(&self) -> &[Bytes] {
        match &self.0 {
            Pieces::One(bytes) => std::slice::from_ref(bytes),
            Pieces::Many(pieces) => pieces,
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self(Pieces::One(bytes))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::from(Bytes::new())
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
}
