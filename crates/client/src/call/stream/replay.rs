//! [`Replay`]: the items that a streaming call has sent, kept while it may be made again.

use farcall_protocol::Body;
use farcall_protocol::stream::EncodedItem;

/// The most bytes of items that are kept. A call that has sent more is not made again.
const MAX_BYTES: usize = 64 * 1024;

/// The items that a call has sent so far, while they are few enough to be sent again.
#[derive(Debug)]
pub(super) struct Replay {
    /// `None` once there were too many, or the call is not made again.
    kept: Option<Vec<Body>>,
    bytes: usize,
}

impl Replay {
    pub(super) const fn new() -> Self {
        Self { kept: Some(Vec::new()), bytes: 0 }
    }

    /// Adds an item that was sent.
    pub(super) fn push(&mut self, item: &EncodedItem<'_>) {
        let Some(kept) = &mut self.kept else { return };
        self.bytes = self.bytes.saturating_add(item.len()).saturating_add(size_of::<Body>());
        if self.bytes > MAX_BYTES {
            self.kept = None;
        } else {
            kept.push(item.to_body());
        }
    }

    /// Returns an item by its number; `None` behind the last.
    pub(super) fn get(&self, index: usize) -> Option<Body> {
        self.kept.as_ref()?.get(index).cloned()
    }

    /// Returns `true` if all items are kept that were sent.
    pub(super) const fn is_whole(&self) -> bool {
        self.kept.is_some()
    }

    /// Drops the items, since the call is not made again.
    pub(super) fn forget(&mut self) {
        self.kept = None;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn items_are_kept_up_to_64_kib() {
        let mut replay = Replay::new();
        for _ in 0..63 {
            replay.push(&EncodedItem::Small(&[0; 900]));
        }
        assert!(replay.is_whole() && replay.get(62).is_some() && replay.get(63).is_none());
        replay.push(&EncodedItem::Body(Bytes::from(vec![0; 16 * 1024]).into()));
        assert!(!replay.is_whole() && replay.get(0).is_none());
    }
}
