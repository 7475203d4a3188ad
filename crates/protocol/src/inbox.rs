//! [`Inbox`]: received bytes, and the size of the next read.

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::buffer_source::{BufferSource, MIN_POOLED_BUFFER, Unpooled};
use crate::front::FrontMessage;
use crate::header::{Flags, Header};
use crate::limits::Seq;
use crate::message::{FrameError, Message, MessageDecoder};
use crate::stream::ItemBatch;

/// The size of the first read, in bytes.
const FIRST_READ: usize = 4 * 1024;
/// The largest read of messages that are not large, in bytes.
const MAX_READ: usize = 64 * 1024;
/// The largest read of a large message, in bytes: it takes some 100 µs to copy, and a thread has others to serve.
const MAX_LARGE_READ: usize = 256 * 1024;
/// The smallest message, in bytes, that is read into separate memory.
const LARGE: usize = MIN_POOLED_BUFFER;
/// The largest message, in bytes, after which another one of the same size is expected: a body of
/// [`MAX_READ`], and its header.
const MAX_EXPECTED: usize = MAX_READ + 4 * 1024;
/// The number of bytes by which that message may be larger, because its numbers may take more bytes.
const LEEWAY: usize = 64;
/// The most memory for each byte received of a message whose size is only a claim, from 64 KiB on. What is copied
/// as it grows is at most four thirds of the message.
const GROWTH: usize = 4;

/// The incoming bytes of a connection, from which messages are cut.
///
/// Messages are slices of the memory that was read into. One read receives many small messages. A large
/// message has separate memory of exactly its size. The bytes after it are read into other memory, so nothing
/// has to be moved except the bytes that arrived before the size was known.
///
/// The size of a message is a claim until its bytes have arrived. So the buffer of a message that is larger than all before
/// it grows in proportion to the bytes received: a peer that claims a large size and sends few bytes causes a small allocation.
#[derive(Debug)]
pub struct Inbox<B = Unpooled> {
    bytes: BytesMut,
    /// The size of the block that `bytes` are in.
    block: usize,
    /// The end of the block, in bytes, that was not asked for. It stays unused until it is, so that what a process did before changes no
    /// read: a simulation is the same each time.
    unasked: usize,
    /// `true` if the incomplete message has outgrown smaller blocks, a third of the present one together. They are free, but
    /// an allocator keeps what lies between blocks in use.
    has_outgrown: bool,
    /// The size of the next read of messages that are not large.
    read_size: usize,
    /// The size of the last message, if it was large; else 0.
    last_large: usize,
    /// The number of bytes missing of the incomplete message, as far as it is known.
    missing: usize,
    /// The size of the largest message that has come whole: the next one of that size gets its memory at once.
    proven: usize,
    /// The number of bytes still to come of a message that was given up.
    discarding: usize,
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
        Self {
            bytes,
            block: 0,
            unasked: 0,
            has_outgrown: false,
            read_size: FIRST_READ,
            last_large: 0,
            missing: 0,
            proven: 0,
            discarding: 0,
            offered: 0,
            source,
        }
    }

    /// Returns `true` if there are no unread bytes, and none are expected of a message that was given up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.discarding == 0
    }

    /// Returns the number of unread bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the size of the memory in use, in bytes. Memory for bytes that were only claimed so far counts up to
    /// a few times what was received; with the smaller blocks that the message had before, up to a third more.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let capacity = self.bytes.capacity();
        // The rest of a block keeps all of it.
        let block = if capacity == 0 { 0 } else { capacity.max(self.block) };
        let held = block.min(MAX_READ.max(self.bytes.len().saturating_mul(GROWTH)));
        if self.has_outgrown { held + held / (GROWTH - 1) } else { held }
    }

    /// Returns how much more than `counted` bytes is in use, beyond the 64 KiB of an ordinary buffer.
    #[must_use]
    pub fn held_beyond(&self, counted: usize) -> usize {
        // A block of a pool may be larger than the message ever needs.
        let whole = self.bytes.len().saturating_add(self.missing);
        let most = whole.saturating_add(whole / (GROWTH - 1));
        self.held_bytes().min(most).saturating_sub(counted.max(MAX_READ))
    }

    /// Returns the memory that the next read will allocate for the incomplete message, in bytes, or 0 if there is
    /// room for what it can receive.
    #[must_use]
    pub fn wanted(&self) -> usize {
        let step = self.step();
        let is_due = self.unfilled() < if step < self.missing { step.min(LARGE) } else { step };
        if is_due { step } else { 0 }
    }

    /// Returns the number of bytes of the incomplete message to make room for: all that are missing, unless they
    /// are only a claim.
    fn step(&self) -> usize {
        let received = self.bytes.len();
        if received + self.missing <= self.proven {
            return self.missing;
        }
        let least = if received < FIRST_READ { FIRST_READ } else { MAX_READ };
        self.missing.min(least.max(received.saturating_mul(GROWTH - 1)))
    }

    /// Takes the next message, if it is complete.
    ///
    /// # Errors
    ///
    /// As for [`MessageDecoder::next`].
    pub fn next(&mut self, decoder: &MessageDecoder) -> Result<Option<Message>, FrameError> {
        let mut message = Message::default();
        Ok(self.read(decoder, &mut message)?.then_some(message))
    }

    /// Takes the next message into one that is there, if it is complete. Returns `false` if it is not.
    ///
    /// # Errors
    ///
    /// As for [`MessageDecoder::next`]; `message` has no meaning then.
    // Not as a result, since a message is large to be moved.
    #[inline]
    pub fn read(&mut self, decoder: &MessageDecoder, message: &mut Message) -> Result<bool, FrameError> {
        if self.discarding > 0 && !self.discard() {
            return Ok(false);
        }
        let Some(whole) = decoder.whole(&self.bytes)? else {
            self.missing = decoder.missing(&self.bytes)?;
            return Ok(false);
        };
        self.taken(whole.end);
        decoder.take(&whole, &mut self.bytes, message)?;
        Ok(true)
    }

    /// Looks at the message at the front, if it is complete, not large, and of the usual form in MessagePack. Returns it with
    /// the name of its method as it was received, which may be no UTF-8. [`Inbox::read`] takes it as any other message.
    #[cfg_attr(
        not(feature = "msgpack"),
        expect(unused_variables, reason = "without MessagePack no header is read by position")
    )]
    #[inline]
    #[must_use]
    pub fn front(&self, decoder: &MessageDecoder) -> Option<(FrontMessage, &[u8])> {
        #[cfg(feature = "msgpack")]
        if self.discarding == 0
            && let Some((whole, header)) = decoder.front(&self.bytes, LARGE)
        {
            return Some((FrontMessage::new(&header, whole), header.service_method));
        }
        None
    }

    /// Returns the body of the message at the front, where it was received. Empty once that was taken.
    #[inline]
    #[must_use]
    pub fn front_body(&self, front: &FrontMessage) -> &[u8] {
        self.bytes.get(front.body()).unwrap_or_default()
    }

    /// Takes the message at the front, unless it was taken, and returns its body.
    pub fn take_front(&mut self, front: &mut FrontMessage) -> Bytes {
        let body = front.body();
        let len = front.taken().min(self.bytes.len());
        self.taken(len);
        let mut message = self.bytes.split_to(len).freeze();
        message.advance(body.start.min(len));
        message
    }

    /// Discards the message at the front, unless it was taken.
    #[inline]
    pub fn skip_front(&mut self, front: &mut FrontMessage) {
        let len = front.taken().min(self.bytes.len());
        self.taken(len);
        self.bytes.advance(len);
    }

    /// Notes that a message of this length is taken.
    #[inline]
    fn taken(&mut self, len: usize) {
        self.last_large = if len < LARGE { 0 } else { len };
        self.proven = self.proven.max(len);
        (self.missing, self.has_outgrown) = (0, false);
    }

    /// Takes the small items that follow one of this stream, as far as they have come, and as one batch has room for. `None`
    /// if the next message is another one. Those that are starved are left to [`Inbox::next`], as are all whose headers are
    /// not encoded as this crate does. `spare` has memory of earlier batches, if there is some: see
    /// [`TakenItems::take_spare`](crate::stream::TakenItems::take_spare).
    pub fn next_items(
        &mut self,
        decoder: &MessageDecoder,
        seq: Seq,
        compressed: bool,
        spare: &mut Vec<BytesMut>,
    ) -> Option<ItemBatch> {
        if self.bytes.is_empty() || self.last_large > 0 {
            return None;
        }
        let flags = if compressed { Flags::COMPRESSED } else { Flags::NONE };
        ItemBatch::cut(&mut self.bytes, &decoder.item_head(seq, flags), flags, decoder.limit(), spare)
    }

    /// Gives up the incomplete message: its body is discarded, as far as it has come and as it comes. Returns its
    /// header; `None` if that is incomplete, too, and nothing is given up.
    ///
    /// # Errors
    ///
    /// As for [`MessageDecoder::next`].
    pub fn give_up(&mut self, decoder: &MessageDecoder) -> Result<Option<Header>, FrameError> {
        let Some((header, body_len)) = decoder.next_header(&mut self.bytes)? else { return Ok(None) };
        let received = self.bytes.len().min(body_len);
        self.bytes.advance(received);
        self.discarding = body_len - received;
        (self.missing, self.has_outgrown) = (0, false);
        if self.bytes.is_empty() {
            let size = std::mem::take(&mut self.block);
            self.unasked = 0;
            self.source.recycle(std::mem::take(&mut self.bytes), size);
        }
        Ok(Some(header))
    }

    /// Discards what has come of the message that was given up. Returns `true` if that was the rest of it.
    fn discard(&mut self) -> bool {
        let received = self.bytes.len().min(self.discarding);
        self.bytes.advance(received);
        self.discarding -= received;
        self.discarding == 0
    }

    /// Returns the buffer for one read, with room for at most 256 KiB.
    pub fn room(&mut self) -> Limit<&mut BytesMut> {
        let unfilled = self.unfilled();
        let most = if self.missing >= LARGE {
            let step = self.step();
            if step < self.missing {
                // Not before it is nearly full, since what was received is moved.
                if unfilled < step.min(LARGE) {
                    self.outgrow(step);
                }
                self.offered = usize::MAX;
                let most = self.unfilled().min(self.missing).min(MAX_LARGE_READ);
                return (&mut self.bytes).limit(most);
            }
            step
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
            self.outgrow(most);
        }
        self.offered = usize::MAX;
        (&mut self.bytes).limit(most.min(MAX_LARGE_READ))
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
        (self.missing, self.has_outgrown, self.discarding) = (0, false, 0);
    }

    /// Releases the memory, unless it contains unread bytes.
    pub fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            (self.block, self.unasked, self.has_outgrown, self.read_size) = (0, 0, false, FIRST_READ);
            (self.last_large, self.missing, self.offered, self.proven) = (0, 0, 0, 0);
        }
        self.source.release_idle();
    }

    fn unfilled(&self) -> usize {
        (self.bytes.capacity() - self.bytes.len()).saturating_sub(self.unasked)
    }

    /// Makes room for `room` bytes of a large message, and notes if it outgrows a block that it has filled.
    fn outgrow(&mut self, room: usize) {
        let has_filled = self.bytes.len() >= LARGE;
        let is_replaced = self.grow(room);
        self.has_outgrown |= has_filled && is_replaced;
    }

    /// Makes room for `room` bytes and little more; `reserve` would double the capacity. Returns `true` if that took another block.
    fn grow(&mut self, room: usize) -> bool {
        let lacking = room.saturating_sub(self.unfilled());
        let is_whole = self.bytes.capacity() == self.block;
        if is_whole && lacking <= self.unasked {
            // As much as another block would have.
            self.unasked -= lacking;
            return false;
        }
        if self.bytes.try_reclaim(room + self.unasked) {
            return false;
        }
        let asked = self.bytes.len() + room;
        let mut larger = self.source.take(asked);
        self.unasked = larger.capacity() - asked;
        larger.extend_from_slice(&self.bytes);
        let size = std::mem::replace(&mut self.block, larger.capacity());
        self.source.recycle(std::mem::replace(&mut self.bytes, larger), size);
        true
    }
}

#[cfg(test)]
mod tests;
