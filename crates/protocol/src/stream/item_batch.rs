//! [`ItemBatch`]: items of one stream that arrived one after the other, and wait for the application.

use std::collections::VecDeque;
use std::ops::Deref;

use bytes::{Buf as _, Bytes, BytesMut};

use super::credit::{ITEM_OVERHEAD, item_cost};
use crate::header::Flags;
use crate::limits::LENGTH_BYTES;

/// The smallest body, in bytes, that is kept in place. A slice of a receive buffer keeps the whole buffer alive, so
/// smaller ones are copied: what waits then takes little more memory than it costs credit.
const MIN_KEPT: usize = 4 * 1024;
/// The most memory of small items, in bytes, in one batch. It is released when the last of them was taken.
const MAX_RECORDS: usize = 16 * 1024;
/// The smallest batch, in bytes, that has memory for the largest, which is used again: what waits takes at most a third more
/// than it needs.
const MIN_FULL: usize = MAX_RECORDS / 4 * 3;

/// Items in order, whose marks are the same. One large item, or small ones in one piece of memory.
#[derive(Clone, Debug)]
pub struct ItemBatch {
    memory: Memory,
    compressed: bool,
    items: usize,
    /// The bytes of their bodies.
    bytes: usize,
    /// The bytes of the last body.
    last: usize,
}

#[derive(Clone, Debug)]
enum Memory {
    Large(Bytes),
    Small {
        /// Each item has `head` bytes that are of no use, the length of its body, and the body: as they were received.
        records: BytesMut,
        head: usize,
    },
}

/// The body of an item that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemBody<'a> {
    /// A small one, which the batch keeps.
    Small(&'a [u8]),
    /// A large one.
    Large(Bytes),
}

/// An item that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedItem<'a> {
    /// The encoded value.
    pub body: ItemBody<'a>,
    /// `true` if the body is compressed.
    pub compressed: bool,
}

impl ItemBatch {
    /// Creates a batch of one item.
    pub(super) fn one(body: Bytes, flags: Flags) -> Self {
        let (compressed, bytes) = (flags.contains(Flags::COMPRESSED), body.len());
        let memory = if bytes >= MIN_KEPT {
            Memory::Large(body)
        } else {
            let mut records = BytesMut::with_capacity(LENGTH_BYTES + bytes);
            records.extend_from_slice(&(bytes as u32).to_be_bytes());
            records.extend_from_slice(&body);
            Memory::Small { records, head: 0 }
        };
        Self { memory, compressed, items: 1, bytes, last: bytes }
    }

    /// Takes the messages at the front of `buffer` that begin with `head`: small items of one stream, whose bodies have at
    /// most `limit` bytes. `None` if the next message is another one, or incomplete. Many are copied into memory of `spare`, if there
    /// is some.
    pub(crate) fn cut(
        buffer: &mut BytesMut,
        head: &[u8],
        flags: Flags,
        limit: usize,
        spare: &mut Vec<BytesMut>,
    ) -> Option<Self> {
        let (mut end, mut items, mut bytes, mut last) = (0, 0, 0, 0);
        while let Some(rest) = buffer[end..].strip_prefix(head)
            && let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>()
        {
            let len = u32::from_be_bytes(*length) as usize;
            let record = head.len() + LENGTH_BYTES + len;
            if len >= MIN_KEPT || len > limit || rest.len() < len || end + record > MAX_RECORDS {
                break;
            }
            end += record;
            items += 1;
            bytes += len;
            last = len;
        }
        if items == 0 {
            return None;
        }
        let records = if end < MIN_FULL {
            BytesMut::from(&buffer[..end])
        } else {
            let mut records = spare.pop().unwrap_or_else(|| BytesMut::with_capacity(MAX_RECORDS));
            records.extend_from_slice(&buffer[..end]);
            records
        };
        buffer.advance(end);
        let memory = Memory::Small { records, head: head.len() };
        Some(Self { memory, compressed: flags.contains(Flags::COMPRESSED), items, bytes, last })
    }

    /// Appends another batch. Returns it if it does not fit in.
    fn append(&mut self, other: Self) -> Option<Self> {
        match (&mut self.memory, &other.memory) {
            (Memory::Small { records, head }, Memory::Small { records: more, head: other_head })
                if head == other_head
                    && self.compressed == other.compressed
                    && records.len() + more.len() <= MAX_RECORDS =>
            {
                records.extend_from_slice(more);
            }
            _ => return Some(other),
        }
        self.items += other.items;
        self.bytes += other.bytes;
        self.last = other.last;
        None
    }

    /// Returns the memory of small items, if it has the size to be used again.
    fn into_spare(self) -> Option<BytesMut> {
        let Memory::Small { mut records, .. } = self.memory else { return None };
        records.clear();
        (records.capacity() == MAX_RECORDS).then_some(records)
    }

    /// Returns the number of items.
    pub(super) const fn items(&self) -> usize {
        self.items
    }

    /// Returns the bytes of all bodies.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the credit that the items cost.
    pub(super) const fn cost(&self) -> u64 {
        (self.bytes + self.items * ITEM_OVERHEAD) as u64
    }

    /// Returns the credit that the last item costs.
    pub(super) const fn last_cost(&self) -> u64 {
        item_cost(self.last)
    }
}

/// The batches of a stream that wait for the application.
#[derive(Clone, Debug, Default)]
pub(super) struct ItemQueue(VecDeque<ItemBatch>);

impl ItemQueue {
    pub(super) fn push(&mut self, batch: ItemBatch) {
        let rest = match self.0.back_mut() {
            Some(last) => last.append(batch),
            None => Some(batch),
        };
        self.0.extend(rest);
    }

    pub(super) fn pop(&mut self) -> Option<ItemBatch> {
        let batch = self.0.pop_front();
        if self.0.is_empty() {
            // An idle stream keeps no memory.
            self.clear();
        }
        batch
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Items that the application takes, one by one, without a look at their stream. They count as consumed as it takes them,
/// and [`TakenItems::due`] says when their stream has to know.
#[derive(Debug, Default)]
pub struct TakenItems {
    batch: Option<ItemBatch>,
    /// The position of the next one among the small.
    at: usize,
    /// The number of items that are left.
    left: usize,
    /// The cost of the items that were taken, and that their stream was not told of.
    consumed: u64,
    /// The cost with which credit is due.
    credit_at: u64,
}

impl TakenItems {
    /// Begins to take the items of a batch, where credit is due after `credit_at`.
    pub(super) const fn new(batch: ItemBatch, credit_at: u64) -> Self {
        Self { at: 0, left: batch.items(), batch: Some(batch), consumed: 0, credit_at }
    }

    /// Takes the next item.
    #[inline]
    pub fn take_next(&mut self) -> Option<ReceivedItem<'_>> {
        let ItemBatch { memory, compressed, .. } = self.batch.as_mut().filter(|_| self.left > 0)?;
        let body = match memory {
            Memory::Large(body) => ItemBody::Large(std::mem::take(body)),
            Memory::Small { records, head } => {
                let (length, rest) = records[self.at + *head..].split_first_chunk::<LENGTH_BYTES>()?;
                let len = u32::from_be_bytes(*length) as usize;
                self.at += *head + LENGTH_BYTES + len;
                ItemBody::Small(&rest[..len])
            }
        };
        self.left -= 1;
        self.consumed += item_cost(body.len());
        Some(ReceivedItem { body, compressed: *compressed })
    }

    /// Returns the credit that was consumed, if the stream has to be told: credit is due to the peer, or no items are left.
    /// Called behind each item.
    #[inline]
    pub fn due(&mut self) -> Option<u64> {
        if self.left > 0 && self.consumed < self.credit_at {
            return None;
        }
        if self.left == 0 {
            self.batch = None;
        }
        Some(std::mem::take(&mut self.consumed)).filter(|consumed| *consumed > 0)
    }

    /// Returns the memory of items all of which were taken, for [`Inbox::next_items`](crate::Inbox::next_items). `None` if some are
    /// left, or it is not worth it. Called before [`TakenItems::due`], which frees it.
    #[inline]
    pub fn take_spare(&mut self) -> Option<BytesMut> {
        if self.left > 0 { None } else { self.batch.take().and_then(ItemBatch::into_spare) }
    }

    /// Sets the cost with which credit is due next.
    pub const fn set_credit_at(&mut self, credit_at: u64) {
        self.credit_at = credit_at;
    }
}

impl ItemBody<'_> {
    /// Returns the body in separate memory; a large one is not copied.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Small(body) => Bytes::copy_from_slice(body),
            Self::Large(body) => body.clone(),
        }
    }
}

impl Deref for ItemBody<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Small(body) => body,
            Self::Large(body) => body,
        }
    }
}

impl From<Bytes> for ItemBody<'_> {
    fn from(body: Bytes) -> Self {
        Self::Large(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts messages with the head `ab`.
    fn cut(buffer: &mut BytesMut, limit: usize) -> Option<ItemBatch> {
        ItemBatch::cut(buffer, b"ab", Flags::NONE, limit, &mut Vec::new())
    }

    /// Takes all items.
    fn taken(batch: ItemBatch) -> Vec<Vec<u8>> {
        let mut items = TakenItems::new(batch, u64::MAX);
        std::iter::from_fn(|| items.take_next().map(|item| item.body.to_vec())).collect()
    }

    /// Messages with the head `ab`, or another one.
    fn messages(heads: &[&[u8]], sizes: &[usize]) -> BytesMut {
        let mut buffer = BytesMut::new();
        for (n, (head, size)) in heads.iter().zip(sizes).enumerate() {
            buffer.extend_from_slice(head);
            buffer.extend_from_slice(&(*size as u32).to_be_bytes());
            buffer.extend_from_slice(&vec![n as u8; *size]);
        }
        buffer
    }

    #[test]
    fn items_come_in_order_whatever_their_sizes() {
        let mut queue = ItemQueue::default();
        let sizes = [3, 5000, 0, MIN_KEPT, MIN_KEPT - 1, 1];
        for (n, size) in sizes.into_iter().enumerate() {
            queue.push(ItemBatch::one(Bytes::from(vec![n as u8; size]), Flags::NONE));
        }
        queue.push(ItemBatch::one(Bytes::from_static(b"x"), Flags::COMPRESSED));
        let mut came = Vec::new();
        while let Some(batch) = queue.pop() {
            assert_eq!(batch.compressed, came.len() == sizes.len());
            came.extend(taken(batch));
        }
        let sent = sizes.into_iter().enumerate().map(|(n, size)| vec![n as u8; size]);
        assert_eq!(came, sent.chain([b"x".to_vec()]).collect::<Vec<_>>());
    }

    #[test]
    fn small_item_does_not_keep_the_receive_buffer() {
        let buffer = Bytes::from(vec![7; 64 * 1024]);
        let mut queue = ItemQueue::default();
        queue.push(ItemBatch::one(buffer.slice(..16), Flags::NONE));
        assert!(buffer.is_unique());
        queue.push(ItemBatch::one(buffer.slice(..MIN_KEPT), Flags::NONE));
        assert!(!buffer.is_unique());
    }

    #[test]
    fn messages_with_the_same_head_are_cut_at_once() {
        let mut buffer = messages(&[b"ab", b"ab", b"ab", b"ac"], &[3, 0, 5, 1]);
        let batch = cut(&mut buffer, 1000).unwrap();
        assert_eq!((batch.items(), batch.bytes(), batch.cost(), batch.last_cost()), (3, 8, 200, 69));
        assert_eq!(buffer.len(), 7);
        assert_eq!(taken(batch), [vec![0; 3], vec![], vec![2; 5]]);
        assert!(cut(&mut buffer, 1000).is_none());
    }

    #[test]
    fn incomplete_large_and_illegal_messages_are_not_cut() {
        for (size, limit) in [(MIN_KEPT, usize::MAX), (11, 10)] {
            let mut buffer = messages(&[b"ab"], &[size]);
            assert!(cut(&mut buffer, limit).is_none());
        }
        for (size, limit) in [(MIN_KEPT - 1, usize::MAX), (10, 10)] {
            let mut buffer = messages(&[b"ab"], &[size]);
            assert!(cut(&mut buffer, limit).is_some());
        }
        let whole = messages(&[b"ab", b"ab"], &[10, 10]);
        for len in 0..whole.len() {
            let mut buffer = BytesMut::from(&whole[..len]);
            let batch = cut(&mut buffer, usize::MAX);
            assert_eq!(batch.map_or(0, |batch| batch.items()), len / 16);
            assert_eq!(buffer.len(), len % 16);
        }
    }

    #[test]
    fn batch_has_little_memory() {
        let count = 4 * MAX_RECORDS / 106;
        let mut buffer = messages(&vec![&b"ab"[..]; count], &vec![100; count]);
        let mut queue = ItemQueue::default();
        while let Some(batch) = cut(&mut buffer, usize::MAX) {
            queue.push(batch);
        }
        assert!(buffer.is_empty());
        let mut items = 0;
        while let Some(batch) = queue.pop() {
            assert!(batch.bytes() <= MAX_RECORDS);
            items += taken(batch).len();
        }
        assert_eq!(items, count);
    }

    #[test]
    fn stream_is_told_when_credit_is_due_and_behind_the_last_item() {
        let mut buffer = messages(&[&b"ab"[..]; 5], &[36; 5]);
        let batch = cut(&mut buffer, usize::MAX).unwrap();
        let mut items = TakenItems::new(batch, 150);
        let mut told = Vec::new();
        while items.take_next().is_some() {
            told.push(items.due());
            if told.last().is_some_and(Option::is_some) {
                items.set_credit_at(1000);
            }
        }
        assert_eq!(told, [None, Some(200), None, None, Some(300)]);
        assert_eq!(items.due(), None);
    }

    #[test]
    fn memory_of_a_batch_is_used_again_for_another_as_large() {
        let mut spare = Vec::new();
        let cut = |size: usize, count: usize, spare: &mut Vec<BytesMut>| {
            let mut buffer = messages(&vec![&b"ab"[..]; count], &vec![size; count]);
            ItemBatch::cut(&mut buffer, b"ab", Flags::NONE, usize::MAX, spare).unwrap()
        };
        let address = |batch: &ItemBatch| match &batch.memory {
            Memory::Small { records, .. } => records.as_ptr(),
            Memory::Large(body) => body.as_ptr(),
        };
        let batch = cut(1000, 15, &mut spare);
        let (first, mut items) = (address(&batch), TakenItems::new(batch, u64::MAX));
        for _ in 0..15 {
            assert_eq!(items.take_spare(), None, "some are left");
            items.take_next().unwrap();
        }
        spare.extend(items.take_spare());
        assert_eq!((items.due(), spare.len()), (Some(15 * 1064), 1));
        let small = cut(1000, 11, &mut spare);
        assert_ne!(address(&small), first, "it would keep far more than it needs");
        let large = cut(1000, 13, &mut spare);
        assert_eq!((address(&large), spare.len(), taken(large).len()), (first, 0, 13));
        // Neither little memory nor that of a large item.
        for batch in [small, ItemBatch::one(Bytes::from(vec![0; MIN_KEPT]), Flags::NONE)] {
            let mut items = TakenItems::new(batch, u64::MAX);
            while items.take_next().is_some() {}
            assert_eq!(items.take_spare(), None);
        }
    }
}
