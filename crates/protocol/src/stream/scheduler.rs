//! [`ItemScheduler`]: the choice of the stream that sends its next item.

use std::collections::VecDeque;

use crate::limits::Seq;

/// The bytes of items that a stream may send in each of its turns.
pub const ITEM_QUANTUM: usize = 16 * 1024;

/// Deficit round robin over the streams of a connection that have items to send (Shreedhar and Varghese, "Efficient Fair
/// Queueing using Deficit Round Robin", 1995): streams share the connection by bytes, whatever the size of their items.
///
/// ```
/// use farcall_protocol::Seq;
/// use farcall_protocol::stream::ItemScheduler;
///
/// let mut scheduler = ItemScheduler::default();
/// scheduler.insert(Seq(1));
/// scheduler.insert(Seq(2));
/// // Stream 1 has items of 16 KiB, stream 2 of 4 KiB: one of the first for four of the second.
/// let cost = |seq: Seq| Some(if seq == Seq(1) { 16 * 1024 } else { 4 * 1024 });
/// let order: Vec<u64> = (0..5).map(|_| scheduler.next(usize::MAX, cost).unwrap().0).collect();
/// assert_eq!(order, [1, 2, 2, 2, 2]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct ItemScheduler {
    /// The streams in the order of their turns. The first has begun its turn if `in_turn`.
    ready: VecDeque<Turn>,
    in_turn: bool,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    seq: Seq,
    deficit: usize,
}

impl ItemScheduler {
    /// Adds a stream that has an item and credit, behind the others. It must not be in the schedule already.
    pub fn insert(&mut self, seq: Seq) {
        debug_assert!(self.ready.iter().all(|turn| turn.seq != seq));
        self.ready.push_back(Turn { seq, deficit: 0 });
    }

    /// Returns the stream that sends its next item. `cost` returns the bytes of a stream's next item; a stream for which it
    /// returns `None` leaves the schedule, and gives up what is left of its turn. `None` if no stream is left, or the
    /// item does not fit into `room` bytes: then it is the first one of the next call.
    pub fn next(&mut self, room: usize, mut cost: impl FnMut(Seq) -> Option<usize>) -> Option<Seq> {
        loop {
            let turn = self.ready.front_mut()?;
            let Some(bytes) = cost(turn.seq) else {
                self.ready.pop_front();
                self.in_turn = false;
                continue;
            };
            if !self.in_turn {
                turn.deficit = turn.deficit.saturating_add(ITEM_QUANTUM);
                self.in_turn = true;
            }
            // Alone, a stream need not save up for a large item.
            if turn.deficit >= bytes || self.ready.len() == 1 {
                if bytes > room {
                    return None;
                }
                let turn = self.ready.front_mut()?;
                turn.deficit = turn.deficit.saturating_sub(bytes);
                return Some(turn.seq);
            }
            self.ready.rotate_left(1);
            self.in_turn = false;
        }
    }

    /// Returns the number of streams in the schedule.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// Returns `true` if no stream has an item to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn streams_share_the_connection_by_bytes(sizes in prop::collection::vec(64_usize..200_000, 2..12)) {
            let mut scheduler = ItemScheduler::default();
            for seq in 0..sizes.len() {
                scheduler.insert(Seq(seq as u64));
            }
            let mut sent: HashMap<u64, usize> = HashMap::new();
            let mut total = 0;
            while total < 20_000_000 {
                let Seq(seq) = scheduler.next(usize::MAX, |seq| Some(sizes[seq.0 as usize])).unwrap();
                *sent.entry(seq).or_default() += sizes[seq as usize];
                total += sizes[seq as usize];
            }
            let (least, most) = (sent.values().min().unwrap(), sent.values().max().unwrap());
            prop_assert_eq!(sent.len(), sizes.len());
            // Deficit round robin is unfair by at most one quantum and one largest item on either side.
            prop_assert!(most - least <= 2 * (ITEM_QUANTUM + 200_000), "{} and {}", least, most);
        }
    }

    #[test]
    fn stream_without_an_item_leaves_and_may_come_back() {
        let mut scheduler = ItemScheduler::default();
        scheduler.insert(Seq(1));
        scheduler.insert(Seq(2));
        assert_eq!(scheduler.next(usize::MAX, |seq| (seq == Seq(2)).then_some(10)), Some(Seq(2)));
        assert_eq!(scheduler.len(), 1);
        assert_eq!(scheduler.next(usize::MAX, |_| None), None);
        assert!(scheduler.is_empty());
        scheduler.insert(Seq(1));
        assert_eq!(scheduler.next(usize::MAX, |_| Some(usize::MAX)), Some(Seq(1)));
    }

    #[test]
    fn item_waits_for_its_room_and_turn_to_the_byte() {
        let mut scheduler = ItemScheduler::default();
        scheduler.insert(Seq(1));
        assert_eq!(scheduler.next(99, |_| Some(100)), None);
        assert_eq!(scheduler.next(100, |_| Some(100)), Some(Seq(1)));
        // Of two, the first sends one quantum, and then waits for the other.
        let mut scheduler = ItemScheduler::default();
        scheduler.insert(Seq(1));
        scheduler.insert(Seq(2));
        let cost = |seq| Some(if seq == Seq(1) { ITEM_QUANTUM } else { ITEM_QUANTUM + 1 });
        let order: Vec<_> = (0..4).map(|_| scheduler.next(usize::MAX, cost).unwrap().0).collect();
        assert_eq!(order, [1, 1, 2, 1]);
    }
}
