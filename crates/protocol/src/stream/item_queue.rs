//! [`ItemQueue`]: the items of one stream that have arrived and wait for the application.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::header::Flags;

/// The smallest body, in bytes, that is kept in place. A slice of a receive buffer keeps the whole buffer alive, so
/// smaller ones are copied: what waits then takes little more memory than it costs credit.
const MIN_KEPT: usize = 4 * 1024;

/// An item that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceivedItem {
    /// The encoded value.
    pub body: Bytes,
    /// `true` if the body is compressed.
    pub compressed: bool,
}

/// Items in order. Small ones share one buffer.
#[derive(Clone, Debug, Default)]
pub(super) struct ItemQueue {
    items: VecDeque<Queued>,
    small: BytesMut,
}

#[derive(Clone, Debug)]
struct Queued {
    /// `None` if it is the next of the small ones.
    large: Option<Bytes>,
    len: usize,
    compressed: bool,
}

impl ItemQueue {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn push(&mut self, body: Bytes, flags: Flags) {
        let (len, compressed) = (body.len(), flags.contains(Flags::COMPRESSED));
        let large = if len >= MIN_KEPT {
            Some(body)
        } else {
            self.small.extend_from_slice(&body);
            None
        };
        self.items.push_back(Queued { large, len, compressed });
    }

    pub(super) fn pop(&mut self) -> Option<ReceivedItem> {
        let Queued { large, len, compressed } = self.items.pop_front()?;
        let body = large.unwrap_or_else(|| self.small.split_to(len).freeze());
        if self.items.is_empty() {
            // An idle stream keeps no buffer.
            *self = Self::default();
        }
        Some(ReceivedItem { body, compressed })
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_in_order_whatever_their_sizes() {
        let mut queue = ItemQueue::default();
        let sizes = [3, 5000, 0, MIN_KEPT, MIN_KEPT - 1, 1];
        for (n, size) in sizes.into_iter().enumerate() {
            queue.push(Bytes::from(vec![n as u8; size]), Flags::NONE);
        }
        queue.push(Bytes::from_static(b"x"), Flags::COMPRESSED);
        for (n, size) in sizes.into_iter().enumerate() {
            let item = queue.pop().unwrap();
            assert_eq!(item.body, vec![n as u8; size]);
            assert!(!item.compressed);
        }
        assert!(queue.pop().unwrap().compressed);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn small_item_does_not_keep_the_receive_buffer() {
        let buffer = Bytes::from(vec![7; 64 * 1024]);
        let mut queue = ItemQueue::default();
        queue.push(buffer.slice(..16), Flags::NONE);
        assert!(buffer.is_unique());
        queue.push(buffer.slice(..MIN_KEPT), Flags::NONE);
        assert!(!buffer.is_unique());
    }
}
