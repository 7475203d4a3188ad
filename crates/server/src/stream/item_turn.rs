//! [`ItemTurn`]: the items that a handler sends or receives before other tasks run.

use std::task::{Context, Poll};

use farcall_protocol::stream::MAX_SMALL_ITEM;

use crate::yield_turn::yield_turn;

/// The cost of the items of one turn. Small ones of 16 bytes take about 60 ns each, so that a turn of them takes some 30 µs, and they
/// leave in few writes.
const MAX_COST: u32 = 512;
/// The cost of an item that is not small.
const LARGE_COST: u32 = 4;

/// The part of its turn that a handler has used: the items since it last had to wait.
#[derive(Debug, Default)]
pub(super) struct ItemTurn {
    cost: u32,
}

impl ItemTurn {
    /// Returns pending, with the task woken at once, if the turn is over: others are to run, and the handler is to be stopped if
    /// it must.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.cost < MAX_COST {
            return Poll::Ready(());
        }
        self.end();
        // Behind the connection's task, which was woken by the first item: it writes what there is by now.
        yield_turn(cx)
    }

    /// Counts an item whose encoded value has `len` bytes.
    #[inline]
    pub(super) fn count(&mut self, len: usize) {
        self.cost += if len <= MAX_SMALL_ITEM { 1 } else { LARGE_COST };
    }

    /// Ends the turn of a handler that has to wait.
    pub(super) fn end(&mut self) {
        self.cost = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// Returns the number of items of this size in a turn.
    fn items_in_a_turn(turn: &mut ItemTurn, len: usize) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        (0..).take_while(|_| turn.poll(&mut cx).map(|()| turn.count(len)).is_ready()).count()
    }

    #[test]
    fn turn_has_512_small_items_or_128_others() {
        let mut turn = ItemTurn::default();
        assert_eq!(items_in_a_turn(&mut turn, 0), 512);
        assert_eq!(items_in_a_turn(&mut turn, MAX_SMALL_ITEM), 512);
        assert_eq!(items_in_a_turn(&mut turn, MAX_SMALL_ITEM + 1), 128);
        turn.count(1000);
        turn.count(1);
        assert_eq!(items_in_a_turn(&mut turn, 16), 507);
        turn.count(1000);
        turn.end();
        assert_eq!(items_in_a_turn(&mut turn, 16), 512);
    }
}
