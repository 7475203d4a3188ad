//! [`Outbox`]: encoded messages to send, many of them in one write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::body::{Body, Parts, SmallBody};
use crate::codec::Codec;
use crate::header::{self, HeaderRef, Kind};
use crate::limits::{LENGTH_BYTES, MaxFrameBytes, Seq};
use crate::message::{Part, TooLarge};

/// The smallest piece of a body, in bytes, that is sent in place instead of being copied after its header.
const MIN_UNCOPIED: usize = 8 * 1024;

/// The smallest buffer, in bytes: room for the head of a message, which is written in one piece, and some more.
const MIN_BUFFER: usize = 512;

/// The largest buffer, in bytes, that an empty outbox keeps.
const MAX_KEPT: usize = 64 * 1024;

/// The largest buffer, in bytes, that is allocated for a burst because the last one was as large.
const MAX_EXPECTED: usize = 1024 * 1024;

/// The outgoing bytes of a connection, in order.
///
/// It implements [`Buf`], so that one vectored write sends as much as the socket accepts.
/// It is unbounded: callers must check [`Buf::remaining`] before they append.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Large bodies, and the bytes before them.
    closed: VecDeque<Bytes>,
    /// The buffer that the next message is appended to.
    open: BytesMut,
    /// The number of bytes in `closed`.
    closed_len: usize,
    /// The number of bytes appended since the creation.
    appended: u64,
    /// The number of bytes that left `open` since the last [`Outbox::shrink`].
    burst: usize,
    /// The size of the burst whose buffer was released, 0 if the buffer was kept. The next burst is likely to be as
    /// large: one allocation instead of many that double and copy.
    expected: usize,
}

impl Outbox {
    /// Creates an empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a message whose receiver accepts frames up to `limit`.
    ///
    /// # Errors
    ///
    /// The header or body exceeds the limit; nothing is appended.
    pub fn push(
        &mut self,
        codec: &Codec,
        header: &HeaderRef<'_>,
        body: &Body,
        limit: MaxFrameBytes,
    ) -> Result<(), TooLarge> {
        let body_len = body.len();
        if body_len > limit.get() {
            return Err(TooLarge::new(Part::Body, body_len, limit.get()));
        }
        if self.open.capacity() == 0 {
            self.open.reserve(self.expected.max(MIN_BUFFER));
        }
        let (small, pieces): (_, &[Bytes]) = match body.parts() {
            Parts::Small(small) => (small, &[]),
            Parts::Shared(pieces) => (&SmallBody::EMPTY, pieces),
        };
        let limit = limit.for_header();
        let size = match header::put_short(header, codec, body_len as u32, small, limit, &mut self.open) {
            Some(size) => size,
            None => self.push_head(codec, header, body_len, small, limit)?,
        };
        self.appended += (size + 2 * LENGTH_BYTES + body_len) as u64;
        for piece in pieces {
            if piece.len() < MIN_UNCOPIED {
                self.open.extend_from_slice(piece);
            } else {
                self.close_open();
                self.closed_len += piece.len();
                self.closed.push_back(piece.clone());
            }
        }
        Ok(())
    }

    /// Appends a message as [`Outbox::push`] does, if its header has nothing but these parts, and if it is one of the usual form:
    /// small, and in MessagePack. Returns `false`, with nothing appended, if it is another one.
    #[inline]
    #[must_use]
    pub fn push_usual(
        &mut self,
        codec: &Codec,
        (kind, seq, service_method): (Kind, Seq, &str),
        body: &Body,
        limit: MaxFrameBytes,
    ) -> bool {
        let Parts::Small(small) = body.parts() else { return false };
        // No such message has that many bytes. The first message of a burst makes room for all of it.
        if limit.get() < MIN_BUFFER || self.open.capacity() == 0 || !header::is_msgpack(codec) {
            return false;
        }
        self.put_usual(kind, seq, service_method, small)
    }

    // Not inlined, so that a message of another form passes by a few comparisons.
    #[inline(never)]
    fn put_usual(&mut self, kind: Kind, seq: Seq, service_method: &str, small: &SmallBody) -> bool {
        let Some(len) = header::put_message(kind, seq, service_method, small, &mut self.open) else {
            return false;
        };
        self.appended += len as u64;
        true
    }

    /// Appends the two lengths of a message with the header between them, and a small body. Returns the length of the header.
    fn push_head(
        &mut self,
        codec: &Codec,
        header: &HeaderRef<'_>,
        body_len: usize,
        small: &SmallBody,
        limit: usize,
    ) -> Result<usize, TooLarge> {
        let start = self.open.len();
        self.open.extend_from_slice(&[0; LENGTH_BYTES]);
        header::encode(header, codec, &mut self.open);
        let size = self.open.len() - start - LENGTH_BYTES;
        if size > limit {
            self.open.truncate(start);
            return Err(TooLarge::new(Part::Header, size, limit));
        }
        self.open[start..start + LENGTH_BYTES].copy_from_slice(&(size as u32).to_be_bytes());
        self.open.extend_from_slice(&(body_len as u32).to_be_bytes());
        self.open.extend_from_slice(small.as_slice());
        Ok(size)
    }

    /// Appends one frame that is not a message: an Option.
    pub fn push_frame(&mut self, frame: &[u8]) {
        self.open.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        self.open.extend_from_slice(frame);
        self.appended += (LENGTH_BYTES + frame.len()) as u64;
    }

    /// Appends whole messages that were encoded elsewhere.
    pub(crate) fn push_messages(&mut self, messages: BytesMut) {
        self.appended += messages.len() as u64;
        if messages.len() < MIN_UNCOPIED {
            self.open.extend_from_slice(&messages);
        } else {
            self.close_open();
            self.closed_len += messages.len();
            self.closed.push_back(messages.freeze());
        }
    }

    /// Moves all bytes of `other` to the end of this outbox.
    pub fn append(&mut self, other: &mut Self) {
        if self.remaining() == 0 {
            let appended = self.appended + other.remaining() as u64;
            std::mem::swap(self, other);
            other.appended = std::mem::replace(&mut self.appended, appended);
            return;
        }
        self.appended += other.remaining() as u64;
        if other.closed.is_empty() && other.open.len() < MIN_UNCOPIED {
            self.open.extend_from_slice(&other.open);
            other.open.clear();
            return;
        }
        self.close_open();
        other.close_open();
        self.closed_len += std::mem::take(&mut other.closed_len);
        self.closed.append(&mut other.closed);
    }

    /// Moves messages from the front of this outbox to the end of `other`: as many whole ones as have `len` bytes together, and
    /// at least one. This outbox must begin with a whole message.
    pub fn move_messages(&mut self, other: &mut Self, len: usize) {
        let mut left = self.end_of_message(len);
        other.close_open();
        other.appended += left as u64;
        while left > 0 {
            let chunk = match self.closed.pop_front() {
                Some(mut chunk) if chunk.len() > left => {
                    let front = chunk.split_to(left);
                    self.closed.push_front(chunk);
                    self.closed_len -= left;
                    front
                }
                Some(chunk) => {
                    self.closed_len -= chunk.len();
                    chunk
                }
                None => {
                    self.burst += left;
                    self.open.split_to(left).freeze()
                }
            };
            left -= chunk.len();
            other.closed_len += chunk.len();
            other.closed.push_back(chunk);
        }
    }

    /// Returns the last position up to `len` at which a message ends, or the end of the first message, if that is behind it.
    /// Counted from the beginning of a message.
    fn end_of_message(&self, len: usize) -> usize {
        let mut bytes = Cursor { outbox: self, chunk: 0, begin: 0 };
        let mut at = 0;
        while at < self.remaining() {
            let mut end = at;
            // The header, then the body.
            for _ in 0..2 {
                end += LENGTH_BYTES + bytes.length_at(end);
            }
            if at > 0 && end > len {
                break;
            }
            at = end;
        }
        at.min(self.remaining())
    }

    /// Returns the number of bytes appended since the creation, which is the position of the next message in the
    /// stream.
    #[must_use]
    pub const fn appended(&self) -> u64 {
        self.appended
    }

    /// Releases the memory of a burst of messages, if nothing is left to send.
    pub fn shrink(&mut self) {
        // Not `capacity`, which excludes the space before the bytes that were taken last.
        if self.remaining() == 0 {
            let burst = std::mem::take(&mut self.burst);
            // Half of it, since a buffer doubles when it grows.
            let may_be_large = burst.max(self.expected) > MAX_KEPT / 2;
            if may_be_large && self.open.try_reclaim(MAX_KEPT + 1) {
                self.open = BytesMut::new();
                self.expected = burst.min(MAX_EXPECTED);
            }
        }
    }

    /// Releases all memory, if nothing is left to send: for a connection that is idle.
    pub fn release(&mut self) {
        self.shrink();
        if self.remaining() == 0 {
            self.open = BytesMut::new();
            self.closed = VecDeque::new();
        }
    }

    fn close_open(&mut self) {
        if !self.open.is_empty() {
            self.burst += self.open.len();
            self.closed_len += self.open.len();
            self.closed.push_back(self.open.split().freeze());
        }
    }
}

/// Reads the lengths of frames, each at or behind the one before.
struct Cursor<'a> {
    outbox: &'a Outbox,
    /// The chunk that was read last, and its position.
    chunk: usize,
    begin: usize,
}

impl Cursor<'_> {
    /// Returns the length that the frame at this position has.
    fn length_at(&mut self, at: usize) -> usize {
        let bytes: [u8; LENGTH_BYTES] = std::array::from_fn(|offset| {
            loop {
                let chunk = match self.outbox.closed.get(self.chunk) {
                    Some(closed) => &closed[..],
                    None => &self.outbox.open[..],
                };
                match chunk.get(at + offset - self.begin) {
                    Some(byte) => return *byte,
                    // Behind the end, which no whole message is.
                    None if self.chunk >= self.outbox.closed.len() => return 0,
                    None => {
                        self.begin += chunk.len();
                        self.chunk += 1;
                    }
                }
            }
        });
        u32::from_be_bytes(bytes) as usize
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.closed_len + self.open.len()
    }

    fn chunk(&self) -> &[u8] {
        self.closed.front().map_or(&self.open[..], |bytes| &bytes[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let open = std::iter::once(&self.open[..]).filter(|open| !open.is_empty());
        let chunks = self.closed.iter().map(|bytes| &bytes[..]).chain(open);
        let mut count = 0;
        for (slice, chunk) in slices.iter_mut().zip(chunks) {
            *slice = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(front) = self.closed.front_mut() {
            if count < front.len() {
                self.closed_len -= count;
                front.advance(count);
                return;
            }
            count -= front.len();
            self.closed_len -= front.len();
            self.closed.pop_front();
        }
        self.burst += count;
        if count == self.open.len() {
            // Unlike `advance`, this keeps the room at the front.
            self.open.clear();
        } else {
            self.open.advance(count);
        }
    }
}

#[cfg(test)]
mod tests;
