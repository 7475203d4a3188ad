//! [`Outbox`]: encoded messages to send, many of them in one write.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::body::{Body, Parts, SmallBody};
use crate::codec::Codec;
use crate::header::{self, HeaderRef};
use crate::limits::{LENGTH_BYTES, MaxFrameBytes};
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::header::Kind;
    use crate::limits::Seq;

    fn push(outbox: &mut Outbox, seq: u64, body: usize) {
        let header = HeaderRef::new(Kind::Response, Seq(seq));
        outbox
            .push(
                &Codec::default(),
                &header,
                &Bytes::from(vec![seq as u8; body]).into(),
                MaxFrameBytes::DEFAULT,
            )
            .unwrap();
    }

    #[test]
    fn message_over_the_limit_leaves_the_outbox_unchanged() {
        let mut outbox = Outbox::new();
        push(&mut outbox, 1, 10);
        let before = outbox.remaining();
        let limit = MaxFrameBytes::new(100);
        let header = HeaderRef::new(Kind::Request, Seq(2));
        let error =
            outbox.push(&Codec::default(), &header, &Bytes::from(vec![0; 101]).into(), limit).unwrap_err();
        assert_eq!(
            error.to_string(),
            "body of 101 bytes: the limit is 100 bytes, the receiver's `max_frame_bytes`"
        );
        let name = "m".repeat(200);
        let header = HeaderRef { service_method: &name, ..header };
        let error = outbox.push(&Codec::default(), &header, &Body::default(), limit).unwrap_err();
        assert_eq!(error.part, Part::Header);
        assert_eq!(outbox.remaining(), before);
        assert_eq!(outbox.appended(), before as u64);
    }

    #[test]
    fn large_body_is_not_copied() {
        let mut outbox = Outbox::new();
        let body = Bytes::from(vec![7; MIN_UNCOPIED]);
        let header = HeaderRef::new(Kind::Response, Seq(1));
        outbox.push(&Codec::default(), &header, &body.clone().into(), MaxFrameBytes::DEFAULT).unwrap();
        outbox.advance(outbox.chunk().len());
        assert_eq!(outbox.chunk().as_ptr(), body.as_ptr());
    }

    #[test]
    fn memory_of_a_burst_is_released() {
        let mut outbox = Outbox::new();
        // Fill the buffer almost completely, so that little room is left after the bytes.
        while outbox.remaining() < 1_000_000 || outbox.open.capacity() - outbox.remaining() > MAX_KEPT / 2 {
            push(&mut outbox, 1, 1000);
        }
        outbox.shrink();
        assert!(outbox.remaining() > MAX_KEPT);
        outbox.advance(outbox.remaining() - 1);
        outbox.advance(1);
        outbox.shrink();
        assert_eq!(outbox.open.capacity(), 0);
        // The space before the bytes was released too.
        assert!(!outbox.open.try_reclaim(1));

        for _ in 0..2 {
            push(&mut outbox, 1, 10);
            outbox.advance(outbox.remaining());
            outbox.shrink();
        }
        assert!(outbox.open.try_reclaim(10), "a small buffer is kept");
    }

    #[test]
    fn idle_outbox_has_no_memory_and_keeps_its_position() {
        let mut outbox = Outbox::new();
        for body in [10, MIN_UNCOPIED] {
            push(&mut outbox, 1, body);
            outbox.release();
            assert!(outbox.has_remaining(), "what is left to send is kept");
            outbox.advance(outbox.remaining());
            let appended = outbox.appended();
            outbox.release();
            assert_eq!((outbox.open.capacity(), outbox.closed.capacity()), (0, 0));
            assert!(!outbox.open.try_reclaim(1));
            assert_eq!(outbox.appended(), appended);
        }
    }

    #[test]
    fn burst_as_large_as_the_last_one_is_allocated_at_once() {
        let mut outbox = Outbox::new();
        let burst = |outbox: &mut Outbox, messages: u64| {
            push(outbox, 1, 1000);
            let capacity = outbox.open.capacity();
            for seq in 1..messages {
                push(outbox, seq, 1000);
            }
            outbox.advance(outbox.remaining());
            outbox.shrink();
            capacity
        };
        burst(&mut outbox, 100);
        let capacity = burst(&mut outbox, 100);
        assert!((100_000..120_000).contains(&capacity), "{capacity}");
        burst(&mut outbox, 1);
        let capacity = burst(&mut outbox, 1);
        assert!(capacity < 2000, "a small burst does not get the buffer of a large one: {capacity}");
    }

    proptest! {
        #[test]
        fn messages_are_moved_whole(
            bodies in proptest::collection::vec(0_usize..20_000, 1..12),
            steps in proptest::collection::vec(1_usize..50_000, 1..12),
        ) {
            let (mut all, mut rest) = (Outbox::new(), Outbox::new());
            let mut ends = vec![0];
            for (seq, body) in bodies.into_iter().enumerate() {
                push(&mut all, seq as u64, body);
                push(&mut rest, seq as u64, body);
                ends.push(all.remaining());
            }
            let whole = all.copy_to_bytes(all.remaining());
            let (mut moved, appended) = (Outbox::new(), rest.appended());
            for step in steps.into_iter().chain([usize::MAX]) {
                let (before, most) = (moved.remaining(), moved.remaining().saturating_add(step));
                rest.move_messages(&mut moved, step);
                let first = ends.iter().copied().find(|end| *end > before).unwrap_or(whole.len());
                let last = ends.iter().copied().filter(|end| *end <= most).max().unwrap_or(0);
                prop_assert_eq!(moved.remaining(), first.max(last));
                prop_assert_eq!(moved.remaining() + rest.remaining(), whole.len());
            }
            prop_assert_eq!(rest.appended(), appended);
            prop_assert_eq!(moved.appended(), appended);
            prop_assert_eq!(moved.copy_to_bytes(moved.remaining()), whole);
        }

        #[test]
        fn sizes_of_writes_do_not_change_the_bytes(
            bodies in proptest::collection::vec((0_usize..20_000, any::<bool>()), 1..12),
            step in 1_usize..9000,
        ) {
            let (mut one, mut first, mut second) = (Outbox::new(), Outbox::new(), Outbox::new());
            for (seq, (body, flush)) in bodies.into_iter().enumerate() {
                push(&mut one, seq as u64, body);
                push(&mut second, seq as u64, body);
                if flush {
                    first.append(&mut second);
                }
            }
            first.append(&mut second);
            prop_assert_eq!(first.appended(), one.appended());
            let whole = one.copy_to_bytes(one.remaining());
            let mut taken = Vec::new();
            while first.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 4];
                let filled = first.chunks_vectored(&mut slices);
                prop_assert!(filled > 0);
                let seen: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).take(step).collect();
                first.advance(seen.len());
                taken.extend(seen);
            }
            prop_assert_eq!(taken, whole);
        }
    }
}
