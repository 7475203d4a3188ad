//! [`ItemTurn`]: what items of a stream take of the budget after which a task lets others run.

use std::future::poll_fn;
use std::task::{Context, Poll};

use farcall_protocol::stream::MAX_SMALL_ITEM;
use tokio::task::coop::{RestoreOnPending, poll_proceed};

/// The small items for which one unit of the budget is taken. One takes some tens of nanoseconds, far less than the operations that the
/// budget is made for.
const SMALL_ITEMS_A_UNIT: u8 = 4;

/// The turns of a half of a stream. A caller that never has to wait must not keep other tasks of its thread from running.
#[derive(Debug, Default)]
pub(super) struct ItemTurn {
    /// The items that were paid for, and have not come.
    paid: u8,
}

/// The permission for one item. It costs nothing unless it is [spent](ItemTurn::spend).
pub(super) struct Permission(Option<RestoreOnPending>);

impl ItemTurn {
    /// Ready unless it is time to let other tasks run.
    #[inline]
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Permission> {
        if self.paid > 0 { Poll::Ready(Permission(None)) } else { poll_proceed(cx).map(Some).map(Permission) }
    }

    /// Counts an item whose encoded value has `len` bytes.
    #[inline]
    pub(super) fn spend(&mut self, permission: Permission, len: usize) {
        let left = match permission.0 {
            Some(unit) => {
                unit.made_progress();
                SMALL_ITEMS_A_UNIT - 1
            }
            None => self.paid - 1,
        };
        self.paid = if len <= MAX_SMALL_ITEM { left } else { 0 };
    }

    /// Counts an item that is not sent, once other tasks have had their turn: a caller that goes on all the same has its turns,
    /// too. Cancel-safe.
    pub(super) async fn pass(&mut self) {
        poll_fn(|cx| self.poll(cx).map(|permission| self.spend(permission, usize::MAX))).await;
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    /// Returns the number of items of these sizes, by turns, before the task lets others run.
    async fn items_in_a_turn(sizes: &[usize]) -> usize {
        let mut turn = ItemTurn::default();
        let items = sizes.iter().cycle().take_while(|len| {
            let permission = poll_fn(|cx| turn.poll(cx)).now_or_never();
            permission.map(|permission| turn.spend(permission, **len)).is_some()
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
    async fn permission_that_is_not_spent_costs_nothing() {
        let turn = ItemTurn::default();
        for _ in 0..10_000 {
            assert!(poll_fn(|cx| turn.poll(cx)).now_or_never().is_some());
        }
        assert!(items_in_a_turn(&[1]).await > 0);
    }
}
