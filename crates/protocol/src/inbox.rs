//! [`Inbox`]: received bytes, and the size of the next read.

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use crate::buffer_source::{BufferSource, MIN_POOLED_BUFFER, Unpooled};
use crate::message::{FrameError, Message, MessageDecoder};

/// The size of the first read, in bytes.
const FIRST_READ: usize = 4 * 1024;
/// The largest read of messages that are not large, in bytes.
const MAX_READ: usize = 64 * 1024;
/// The smallest message, in bytes, that is read into separate memory.
const LARGE: usize = MIN_POOLED_BUFFER;
/// The largest message, in bytes, after which another one of the same size is expected: a body of
/// [`MAX_READ`], and its header.
const MAX_EXPECTED: usize = MAX_READ + 4 * 1024;
/// The number of bytes by which that message may be larger, because its numbers may take more bytes.
const LEEWAY: usize = 64;

/// The incoming bytes of a connection, from which messages are cut.
///
/// Messages are slices of the memory that was read into. One read receives many small messages. A large
/// message has separate memory of exactly its size. The bytes after it are read into other memory, so nothing
/// has to be moved except the bytes that arrived before the size was known.
#[derive(Debug)]
pub struct Inbox<B = Unpooled> {
    bytes: BytesMut,
    /// The size of the block that `bytes` are in.
    block: usize,
    /// The size of the next read of messages that are not large.
    read_size: usize,
    /// The size of the last message, if it was large; else 0.
    last_large: usize,
    /// The number of bytes missing of the incomplete message, as far as it is known.
    missing: usize,
    /// The room of the last read, if it was for messages that are not large; else `usize::MAX`.
    offered: usize,
    /// The memory to read into.
    source: B,
}

impl Inbox {
    /// Creates an inbox with memory from the allocator. It begins with the bytes that arrived along with the
    /// handshake.
    #[must_use]
    pub const fn new(bytes: BytesMut) -> Self {
        Self::with_source(bytes, Unpooled)
    }
}

impl<B: BufferSource> Inbox<B> {
    /// Creates an inbox with memory of `source`. It begins with the bytes that arrived along with the handshake.
    #[must_use]
    pub const fn with_source(bytes: BytesMut, source: B) -> Self {
        Self { bytes, block: 0, read_size: FIRST_READ, last_large: 0, missing: 0, offered: 0, source }
    }

    /// Returns `true` if there are no unread bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Returns the number of unread bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the size of the memory in use, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Returns the memory that the next read will allocate for the incomplete message, in bytes: the number of
    /// missing bytes, or 0 if there is room for them.
    #[must_use]
    pub fn wanted(&self) -> usize {
        if self.missing > self.unfilled() { self.missing } else { 0 }
    }

    /// Takes the next message, if it is complete.
    ///
    /// # Errors
    ///
    /// As for [`MessageDecoder::next`].
    pub fn next(&mut self, decoder: &MessageDecoder) -> Result<Option<Message>, FrameError> {
        let before = self.bytes.len();
        let message = decoder.next(&mut self.bytes)?;
        if message.is_some() {
            let size = before - self.bytes.len();
            self.last_large = if size < LARGE { 0 } else { size };
            self.missing = 0;
        } else {
            self.missing = decoder.missing(&self.bytes)?;
        }
        Ok(message)
    }

    /// Returns the buffer for one read.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        let unfilled = self.unfilled();
        let most = if self.missing >= LARGE {
            self.missing
        } else if (LARGE..=MAX_EXPECTED).contains(&self.last_large) {
            // The size is not known yet: expect the same as that of the last message.
            (self.last_large + LEEWAY).saturating_sub(self.bytes.len()).max(self.missing).max(LEEWAY)
        } else {
            if unfilled < self.read_size / 4 || unfilled < self.missing {
                self.grow(self.read_size.max(self.missing));
            }
            self.offered = self.unfilled().min(MAX_READ);
            return (&mut self.bytes).limit(self.offered);
        };
        if unfilled < most {
            self.grow(most);
        }
        self.offered = usize::MAX;
        (&mut self.bytes).limit(most)
    }

    /// Records that a read put `count` bytes into the [`Inbox::room`].
    pub fn advance(&mut self, count: usize) {
        if count == self.offered {
            // The read filled the room, so more bytes are likely to wait: read more at once.
            self.read_size = (self.read_size * 4).min(MAX_READ);
        }
    }

    /// Discards all unread bytes.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.missing = 0;
    }

    /// Releases the memory, unless it contains unread bytes.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            (self.block, self.read_size) = (0, FIRST_READ);
            (self.last_large, self.missing, self.offered) = (0, 0, 0);
        }
        self.source.release_idle();
    }

    fn unfilled(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Makes room for `room` bytes and little more; `reserve` would double the capacity.
    fn grow(&mut self, room: usize) {
        if !self.bytes.try_reclaim(room) {
            let mut larger = self.source.take(self.bytes.len() + room);
            larger.extend_from_slice(&self.bytes);
            let size = std::mem::replace(&mut self.block, larger.capacity());
            self.source.recycle(std::mem::replace(&mut self.bytes, larger), size);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;
    use proptest::prelude::*;

    use super::*;
    use crate::{Codec, HeaderRef, Kind, MaxFrameBytes, Outbox, Seq};

    fn decoder() -> MessageDecoder {
        MessageDecoder::new(Codec::default(), MaxFrameBytes::DEFAULT)
    }

    fn messages(bodies: &[usize]) -> Vec<u8> {
        let mut outbox = Outbox::new();
        for (n, body) in bodies.iter().enumerate() {
            let header = HeaderRef::new(Kind::Response, Seq(n as u64 + 1));
            outbox
                .push(
                    &Codec::default(),
                    &header,
                    &bytes::Bytes::from(vec![n as u8; *body]).into(),
                    MaxFrameBytes::DEFAULT,
                )
                .unwrap();
        }
        outbox.copy_to_bytes(outbox.remaining()).to_vec()
    }

    /// Performs one read of at most `most` bytes.
    fn read(inbox: &mut Inbox, stream: &mut &[u8], most: usize) -> usize {
        let mut room = inbox.room();
        let count = stream.len().min(most).min(room.remaining_mut()).min(room.chunk_mut().len());
        assert!(count > 0 || stream.is_empty() || most == 0, "there is room for something");
        room.put_slice(&stream[..count]);
        stream.advance(count);
        inbox.advance(count);
        count
    }

    #[test]
    fn large_messages_are_read_into_separate_memory() {
        const BODY: usize = MAX_READ;
        let stream = messages(&[BODY; 4]);
        let mut stream = &stream[..];
        let mut inbox = Inbox::new(BytesMut::new());
        let mut taken = Vec::new();
        let mut reads = 0;
        while taken.len() < 4 {
            read(&mut inbox, &mut stream, usize::MAX);
            reads += 1;
            while let Some(message) = inbox.next(&decoder()).unwrap() {
                taken.push(message);
                assert!(inbox.bytes.len() <= LEEWAY, "only a few bytes of the next message have to be moved");
            }
        }
        assert_eq!(reads, 2 + 3, "one read for each, once the size is known");
        assert!(taken.iter().all(|message| message.body.len() == BODY));
    }

    #[test]
    fn one_read_receives_many_small_messages() {
        let stream = messages(&[100; 10_000]);
        let mut stream = &stream[..];
        let mut inbox = Inbox::new(BytesMut::new());
        let (mut reads, mut taken) = (0, 0);
        while taken < 10_000 {
            reads += 1;
            assert!(read(&mut inbox, &mut stream, usize::MAX) <= MAX_READ);
            while inbox.next(&decoder()).unwrap().is_some() {
                taken += 1;
            }
        }
        assert!(reads < 40, "{reads} reads for a megabyte");
        inbox.shrink();
        assert_eq!(inbox.capacity(), 0);
    }

    proptest! {
        #[test]
        fn sizes_of_reads_do_not_change_the_messages(
            bodies in proptest::collection::vec(
                prop_oneof![0_usize..200, 10_000_usize..40_000, 100_000_usize..300_000], 1..12,
            ),
            reads in proptest::collection::vec(1_usize..100_000, 1..20),
            hold in any::<bool>(),
        ) {
            let stream = messages(&bodies);
            let mut stream = &stream[..];
            let mut inbox = Inbox::new(BytesMut::new());
            let mut reads = reads.into_iter().cycle();
            let (mut held, mut taken) = (Vec::new(), 0);
            while taken < bodies.len() {
                prop_assert!(read(&mut inbox, &mut stream, reads.next().unwrap()) > 0, "all bytes have arrived");
                while let Some(message) = inbox.next(&decoder()).unwrap() {
                    prop_assert_eq!(message.header.seq, Seq(taken as u64 + 1));
                    prop_assert_eq!(message.body.len(), bodies[taken]);
                    prop_assert!(message.body.iter().all(|byte| *byte == taken as u8));
                    taken += 1;
                    if hold {
                        held.push(message);
                    }
                }
                prop_assert_eq!(inbox.missing == 0, inbox.is_empty());
            }
            prop_assert!(stream.is_empty() && inbox.is_empty());
            for (n, message) in held.iter().enumerate() {
                prop_assert!(message.body.iter().all(|byte| *byte == n as u8), "its memory was not reused");
            }
        }
    }
}
