//! The buffer that serializers write to: it grows into memory of a source, and keeps large byte strings as
//! separate segments.

use std::io;

use bytes::{Bytes, BytesMut};

use crate::body::Body;
use crate::buffer_source::{BufferSource, MIN_POOLED_BUFFER, Unpooled};
use crate::bytes::take_offered;

/// A large byte string that was not copied into the written bytes.
pub(super) struct Segment {
    /// The number of bytes written before it.
    at: usize,
    bytes: Bytes,
}

/// Returns the body that consists of `written` with each segment in its place.
#[inline]
pub(super) fn assemble(written: Bytes, segments: Vec<Segment>) -> Body {
    if segments.is_empty() { Body::from(written) } else { assemble_segments(written, segments) }
}

fn assemble_segments(mut written: Bytes, segments: Vec<Segment>) -> Body {
    let mut pieces = Vec::with_capacity(2 * segments.len() + 1);
    let mut begin = 0;
    for Segment { at, bytes } in segments {
        pieces.extend([written.split_to(at - begin), bytes]);
        begin = at;
    }
    pieces.push(written);
    pieces.retain(|piece| !piece.is_empty());
    Body::from_pieces(pieces)
}

/// An [`io::Write`] that appends to a buffer.
pub(crate) struct Writer<'a, B = Unpooled> {
    pub(super) out: &'a mut BytesMut,
    /// The memory to grow into, and the segments that were not copied; `None` if everything is copied.
    segments: Option<(&'a B, &'a mut Vec<Segment>)>,
}

impl<'a> Writer<'a> {
    /// Creates a writer that copies everything.
    #[cfg(feature = "json")]
    pub(crate) const fn copying(out: &'a mut BytesMut) -> Self {
        Self { out, segments: None }
    }
}

impl<'a, B: BufferSource> Writer<'a, B> {
    /// Creates a writer that grows into buffers of `source` and keeps large byte strings as segments.
    pub(super) const fn segmented(
        out: &'a mut BytesMut,
        source: &'a B,
        segments: &'a mut Vec<Segment>,
    ) -> Self {
        Self { out, segments: Some((source, segments)) }
    }

    /// Returns the number of bytes that were written into the buffer.
    #[inline]
    pub(super) fn position(&self) -> usize {
        self.out.len()
    }

    /// Returns a written byte; `None` behind the last.
    #[inline]
    pub(super) fn byte(&self, at: usize) -> Option<u8> {
        self.out.get(at).copied()
    }

    /// Returns the bytes that were written into the buffer.
    pub(super) fn written(&self) -> &[u8] {
        self.out
    }

    /// Appends a few bytes: `write_all` for a number of them that the compiler knows.
    #[inline]
    pub(super) fn put<const LEN: usize>(&mut self, bytes: [u8; LEN]) {
        if self.out.capacity() - self.out.len() < LEN {
            return self.grow_and_put(&bytes);
        }
        self.out.extend_from_slice(&bytes);
    }

    /// Appends the first `len` of a few bytes, which costs less than a copy whose length is not known.
    #[cfg(feature = "msgpack")]
    #[inline]
    pub(super) fn put_first<const LEN: usize>(&mut self, bytes: [u8; LEN], len: usize) {
        let end = self.out.len() + len;
        self.put(bytes);
        self.out.truncate(end);
    }

    /// Appends a short text behind `head`, such as its length or a quotation mark.
    #[inline]
    pub(super) fn put_short(&mut self, head: u8, text: &[u8]) {
        self.put([head]);
        if self.out.capacity() - self.out.len() < text.len() {
            return self.grow_and_put(text);
        }
        self.out.extend_from_slice(text);
    }

    #[cold]
    fn grow_and_put(&mut self, bytes: &[u8]) {
        self.grow(bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// Replaces the byte at `at`, which was written, by `bytes`, which are one or more.
    pub(super) fn replace(&mut self, at: usize, bytes: &[u8]) {
        let (old, more) = (self.out.len(), bytes.len() - 1);
        if more > 0 {
            // The new bytes at the end only make room.
            let _ = io::Write::write_all(self, &bytes[1..]);
            self.out.copy_within(at + 1..old, at + bytes.len());
            if let Some((_, segments)) = &mut self.segments {
                for segment in segments.iter_mut().rev().take_while(|segment| segment.at > at) {
                    segment.at += more;
                }
            }
        }
        self.out[at..at + bytes.len()].copy_from_slice(bytes);
    }

    #[cold]
    fn grow(&mut self, additional: usize) {
        let size = self.out.capacity();
        let needed = (self.out.len() + additional).max(2 * self.out.len());
        // A copying writer appends to its caller's buffer, which may be a part of a larger block.
        let Some((source, _)) = &self.segments else { return self.out.reserve(additional) };
        if needed < MIN_POOLED_BUFFER {
            return self.out.reserve(additional);
        }
        let mut larger = source.take(needed);
        larger.extend_from_slice(self.out);
        source.recycle(std::mem::replace(self.out, larger), size);
    }
}

impl<B: BufferSource> io::Write for Writer<'_, B> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes).map(|()| bytes.len())
    }

    // Inlined, because serializers write one or two bytes at a time.
    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.out.capacity() - self.out.len() < bytes.len() {
            if let Some((_, segments)) = &mut self.segments
                && let Some(bytes) = take_offered(bytes)
            {
                segments.push(Segment { at: self.out.len(), bytes });
                return Ok(());
            }
            self.grow(bytes.len());
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    #[inline]
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
