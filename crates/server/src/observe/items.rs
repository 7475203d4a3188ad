//! [`MethodItems`]: the items of all streaming calls of one method.
//!
//! Each call counts by itself: a counter that all calls write would move between cores with each item.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The items of a method since the server was built.
#[derive(Debug, Default)]
pub(crate) struct MethodItems(Mutex<State>);

/// The items of one call, which are those of its method, too. When it is dropped, the call has ended.
#[derive(Debug)]
pub(crate) struct CallItems {
    method: Arc<MethodItems>,
    counts: Arc<Counts>,
}

/// Numbers of items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ItemTotals {
    /// Items that handlers have sent.
    pub(crate) sent: u64,
    /// Items that handlers have received.
    pub(crate) received: u64,
}

#[derive(Debug, Default)]
struct State {
    /// The items of the calls that have ended.
    ended: ItemTotals,
    /// The open calls, at most as many as there are streams; by the address of their counts.
    open: HashMap<usize, Arc<Counts>>,
}

/// Each has one writer, a half of the stream.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

impl MethodItems {
    /// Adds a call.
    pub(crate) fn open(self: &Arc<Self>) -> CallItems {
        let counts = Arc::<Counts>::default();
        self.lock().open.insert(Arc::as_ptr(&counts).addr(), Arc::clone(&counts));
        CallItems { method: Arc::clone(self), counts }
    }

    /// Returns the items of all calls, the open ones included. It never gets less.
    pub(crate) fn totals(&self) -> ItemTotals {
        let state = self.lock();
        state.open.values().fold(state.ended, |totals, counts| totals.and(counts))
    }

    /// No code of users runs under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CallItems {
    /// Sets the number of items that the handler has sent.
    #[inline]
    pub(crate) fn set_sent(&self, items: u64) {
        self.counts.sent.store(items, Relaxed);
    }

    /// Sets the number of items that the handler has received.
    #[inline]
    pub(crate) fn set_received(&self, items: u64) {
        self.counts.received.store(items, Relaxed);
    }
}

impl Drop for CallItems {
    /// Both at once: an item is counted among those of open calls or of ended ones.
    fn drop(&mut self) {
        let mut state = self.method.lock();
        if let Some(counts) = state.open.remove(&Arc::as_ptr(&self.counts).addr()) {
            state.ended = state.ended.and(&counts);
        }
    }
}

impl ItemTotals {
    fn and(self, counts: &Counts) -> Self {
        Self {
            sent: self.sent + counts.sent.load(Relaxed),
            received: self.received + counts.received.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_open_and_ended_calls_are_added_up() {
        let items = Arc::<MethodItems>::default();
        let (first, second) = (items.open(), items.open());
        first.set_sent(3);
        first.set_received(5);
        second.set_sent(4);
        assert_eq!(items.totals(), ItemTotals { sent: 7, received: 5 });
        drop(first);
        second.set_sent(9);
        assert_eq!(items.totals(), ItemTotals { sent: 12, received: 5 });
        drop(second);
        assert_eq!(items.totals(), ItemTotals { sent: 12, received: 5 });
        assert!(items.lock().open.is_empty());
    }
}
