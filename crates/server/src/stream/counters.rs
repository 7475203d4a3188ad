//! [`StreamCounters`]: the items of a server's streaming calls since it was built.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use farcall_protocol::stream::StreamTotals;

/// The counts of all connections, to which each adds what has passed since it last did.
#[derive(Debug, Default)]
pub(crate) struct StreamCounters {
    items_sent: AtomicU64,
    bytes_sent: AtomicU64,
    items_received: AtomicU64,
    bytes_received: AtomicU64,
    stalls: AtomicU64,
}

impl StreamCounters {
    /// Adds the difference between two totals of one connection.
    pub(super) fn add(&self, before: &StreamTotals, now: &StreamTotals) {
        let add = |counter: &AtomicU64, before: u64, now: u64| {
            if now > before {
                counter.fetch_add(now - before, Relaxed);
            }
        };
        add(&self.items_sent, before.sent.items, now.sent.items);
        add(&self.bytes_sent, before.sent.bytes, now.sent.bytes);
        add(&self.items_received, before.received.items, now.received.items);
        add(&self.bytes_received, before.received.bytes, now.received.bytes);
        add(&self.stalls, before.stalls, now.stalls);
    }

    /// Returns the counts.
    pub(crate) fn totals(&self) -> StreamTotals {
        let mut totals = StreamTotals::default();
        totals.sent.items = self.items_sent.load(Relaxed);
        totals.sent.bytes = self.bytes_sent.load(Relaxed);
        totals.received.items = self.items_received.load(Relaxed);
        totals.received.bytes = self.bytes_received.load(Relaxed);
        totals.stalls = self.stalls.load(Relaxed);
        totals
    }
}
