//! [`ItemTurn`]: what items of a stream take of the budget after which a task lets others run.

use std::task::{Context, Poll, ready};

use farcall_protocol::stream::MAX_SMALL_ITEM;
use tokio::task::coop::poll_proceed;

/// The small items for which one unit of the budget is taken. One takes some tens of nanoseconds, far less than the operations that the
/// budget is made for.
const SMALL_ITEMS_A_UNIT: u8 = 4;

/// The turns of a half of a stream. A caller that never has to wait must not keep other tasks of its thread from running.
#[derive(Debug, Default)]
pub(super) struct ItemTurn {
    /// The items that were paid for, and have not come.
    paid: u8,
}

impl ItemTurn {
    /// Calls `poll` for one item, unless it is time to let other tasks run. If it is ready, it has the length of the item's encoded
    /// value, or `None` if it had no item.
    #[inline]
    pub(super) fn poll<R>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<(R, Option<usize>)>,
    ) -> Poll<R> {
        if let Some(left) = self.paid.checked_sub(1) {
            let (result, len) = ready!(poll(cx));
            self.paid = if len.is_some_and(|len| len <= MAX_SMALL_ITEM) { left } else { 0 };
            return Poll::Ready(result);
        }
        let unit = ready!(poll_proceed(cx));
        let (result, len) = ready!(poll(cx));
        if let Some(len) = len {
            unit.made_progress();
            self.paid = if len <= MAX_SMALL_ITEM { SMALL_ITEMS_A_UNIT - 1 } else { 0 };
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Returns the number of items of these sizes, in turn, before the task lets others run.
    async fn items_in_a_turn(sizes: &[usize]) -> usize {
        let mut turn = ItemTurn::default();
        let items = sizes.iter().cycle().take_while(|len| {
            let item = std::future::poll_fn(|cx| turn.poll(cx, |_| Poll::Ready(((), Some(**len)))));
            item.now_or_never().is_some()
        });
        let count = items.count();
        tokio::task::yield_now().await;
        count
    }

    #[tokio::test]
    async fn four_small_items_cost_as_much_as_another() {
        let others = items_in_a_turn(&[MAX_SMALL_ITEM + 1]).await;
        assert!(others > 0);
        assert_eq!(items_in_a_turn(&[MAX_SMALL_ITEM]).await, 4 * others);
        assert_eq!(items_in_a_turn(&[0, 1000]).await, 2 * others);
    }

    #[tokio::test]
    async fn wait_and_end_cost_nothing() {
        let mut turn = ItemTurn::default();
        for _ in 0..10_000 {
            let wait = std::future::poll_fn(|cx| turn.poll(cx, |_| Poll::<((), _)>::Pending));
            assert!(wait.now_or_never().is_none());
            let end = std::future::poll_fn(|cx| turn.poll(cx, |_| Poll::Ready(((), None))));
            assert!(end.now_or_never().is_some());
        }
        assert!(items_in_a_turn(&[1]).await > 0);
    }
}
