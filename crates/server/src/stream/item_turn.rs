//! [`ItemTurn`]: the items that a handler sends or receives before other tasks run.

use std::task::{Context, Poll};
use std::time::Duration;

use farcall_protocol::stream::MAX_SMALL_ITEM;
use tokio::time::Instant;

use crate::yield_turn::yield_turn;

/// The cost of the items of one turn. Small ones of 16 bytes take about 60 ns each, so that a turn of them takes some 30 µs, and they
/// leave in few writes.
const MAX_COST: u32 = 512;
/// The cost of an item that is not small.
const LARGE_COST: u32 = 4;
/// The cost after which the clock is read.
const COST_BETWEEN_LOOKS: u32 = 128;
/// The time of a turn: half of what makes a poll a slow one. Items that cost more than a copy take longer than 60 ns.
const MAX_TIME: Duration = Duration::from_micros(50);

/// The part of its turn that a handler has used: the items since it last had to wait.
#[derive(Debug, Default)]
pub(super) struct ItemTurn {
    cost: u32,
    /// The cost with which the clock is read next.
    next_look: u32,
    /// `None` before the first item.
    began: Option<Instant>,
}

impl ItemTurn {
    /// Returns pending and wakes the task at once if the turn is over, so that other tasks run and a cancelled handler can be
    /// stopped.
    #[inline]
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.cost < self.next_look { Poll::Ready(()) } else { self.poll_end(cx) }
    }

    #[inline(never)]
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now);
        if self.cost < MAX_COST && now - began < MAX_TIME {
            self.next_look = (self.cost + COST_BETWEEN_LOOKS).min(MAX_COST);
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
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::time::advance;

    use super::*;

    /// Returns the number of items of this size in a turn, each of which takes so long.
    async fn items_in_a_turn(turn: &mut ItemTurn, len: usize, takes: Duration) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        let mut count = 0;
        while turn.poll(&mut cx).is_ready() {
            turn.count(len);
            count += 1;
            if !takes.is_zero() {
                advance(takes).await;
            }
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn turn_has_512_small_items_or_128_others() {
        let mut turn = ItemTurn::default();
        for (len, expected) in [(0, 512), (MAX_SMALL_ITEM, 512), (MAX_SMALL_ITEM + 1, 128)] {
            assert_eq!(items_in_a_turn(&mut turn, len, Duration::ZERO).await, expected);
        }
        turn.count(1000);
        turn.count(1);
        assert_eq!(items_in_a_turn(&mut turn, 16, Duration::ZERO).await, 507);
        turn.count(1000);
        turn.end();
        assert_eq!(items_in_a_turn(&mut turn, 16, Duration::ZERO).await, 512);
    }

    #[tokio::test(start_paused = true)]
    async fn turn_of_items_that_take_long_is_shorter() {
        let mut turn = ItemTurn::default();
        for (len, takes_ns, expected) in
            [(16, 1000, 128), (16, 200, 256), (1000, 1000, 64), (1000, 10_000, 32)]
        {
            assert_eq!(items_in_a_turn(&mut turn, len, Duration::from_nanos(takes_ns)).await, expected);
        }
        assert_eq!(items_in_a_turn(&mut turn, 16, Duration::ZERO).await, 512, "the next one begins anew");
    }
}
