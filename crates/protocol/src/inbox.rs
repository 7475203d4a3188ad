//! Bytes on their way in, and how much is read at once.

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};

use crate::buffer_source::{BufferSource, MIN_POOLED_BUFFER, Unpooled};
use crate::message::{FrameError, Message, MessageDecoder};

/// What is read at once while little comes, in bytes.
const FIRST_READ: usize = 4 * 1024;
/// What is read at once of messages that are not large, in bytes.
const MAX_READ: usize = 64 * 1024;
/// Messages from here on, in bytes, are read into memory of their own.
const LARGE: usize = MIN_POOLED_BUFFER;
/// A large message up to this, in bytes, is expected to be followed by one of its size: a body of
/// [`MAX_READ`], and its header.
const MAX_EXPECTED: usize = MAX_READ + 4 * 1024;
/// By how many bytes that one may be larger: its numbers may be longer.
const LEEWAY: usize = 64;

/// The incoming bytes of a connection, from which messages are cut.
///
/// Messages are slices of the memory that was read into. Small ones come many in a read. A large
/// one has memory of its own, which is as large as it is and into which nothing behind it is read,
/// so that neither has to be moved, but for what came of it before its size was known.
#[derive(Debug)]
pub struct Inbox<B = Unpooled> {
    bytes: BytesMut,
    /// The size of the block that `bytes` are in.
    block: usize,
    /// What is read at once of messages that are not large.
    read_size: usize,
    /// The size of the message that was taken last, if it was large.
    last_large: usize,
    /// How many bytes are missing of the message that was begun, as far as can be told.
    missing: usize,
    /// The room of the last read, if it was for messages that are not large.
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

    /// Returns `true` if no byte waits here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The memory that this holds, in bytes.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// How much memory the next read takes for the message that was begun, in bytes: what is missing
    /// of it, unless there is room for that.
    #[must_use]
    pub fn wanted(&self) -> usize {
        if self.missing > self.unfilled() { self.missing } else { 0 }
    }

    /// Takes the next message, if all of it is there.
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

    /// Room for one read.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        let unfilled = self.unfilled();
        let most = if self.missing >= LARGE {
            self.missing
        } else if (LARGE..=MAX_EXPECTED).contains(&self.last_large) {
            // The rest of one like the last, where this one has not told its size yet.
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

    /// Is told how many bytes came into the [`Inbox::room`].
    pub fn advance(&mut self, count: usize) {
        if count == self.offered {
            // There is more than fits: larger reads are fewer reads.
            self.read_size = (self.read_size * 4).min(MAX_READ);
        }
    }

    /// Forgets all that waits here.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.missing = 0;
    }

    /// Gives its memory back, unless something waits in it.
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

    /// Makes room for so many bytes, and hardly more: `reserve` would double.
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

    /// One read, of at most so many bytes.
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
    fn large_messages_are_read_into_memory_of_their_own() {
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
                assert!(inbox.bytes.len() <= LEEWAY, "little of the next one has to be moved");
            }
        }
        assert_eq!(reads, 2 + 3, "one read for each, once the size is known");
        assert!(taken.iter().all(|message| message.body.len() == BODY));
    }

    #[test]
    fn small_messages_come_many_in_a_read() {
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
        fn however_it_is_read_the_messages_are_the_same(
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
                prop_assert!(read(&mut inbox, &mut stream, reads.next().unwrap()) > 0, "all has come");
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
                prop_assert!(message.body.iter().all(|byte| *byte == n as u8), "nobody wrote over it");
            }
        }
    }
}
