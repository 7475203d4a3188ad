//! [`Entry`]: one streaming call in the table of its connection.

use std::task::Waker;

use web_time::Instant;

use super::item_batch::{ItemBatch, ItemQueue};
use super::send_queue::SendQueue;
use super::state::StreamState;

/// The most bytes of one stream's items that wait for their turn, before one item more.
const MAX_QUEUED: usize = 64 * 1024;

/// The messages without items that are to be sent for a stream.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Due {
    pub(super) credit: Option<u64>,
    pub(super) stop: bool,
    pub(super) end: bool,
}

/// Items and bytes of one direction since the call began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// The number of items.
    pub items: u64,
    /// The bytes of their bodies as sent.
    pub bytes: u64,
}

impl Traffic {
    pub(super) const fn count(&mut self, body_len: usize) {
        self.items += 1;
        self.bytes += body_len as u64;
    }

    pub(super) const fn count_batch(&mut self, batch: &ItemBatch) {
        self.items += batch.items() as u64;
        self.bytes += batch.bytes() as u64;
    }
}

/// A streaming call. Both halves of the application and the connection's task work on it.
pub(super) struct Entry {
    pub(super) state: StreamState,
    /// `false` if items that arrive are stopped and dropped.
    pub(super) receives: bool,
    /// `true` once the response has come, or the connection has ended: what has arrived may still be taken.
    pub(super) over: bool,
    /// `true` once the peer said that no more items come.
    pub(super) ended: bool,
    pub(super) inbox: ItemQueue,
    pub(super) reader: Option<Waker>,
    /// Woken when the peer may send more, if it is in this process.
    pub(super) feeder: Option<Waker>,
    pub(super) queue: SendQueue,
    pub(super) writer: Option<Waker>,
    /// The time since which the writer has waited for credit.
    pub(super) starved_since: Option<Instant>,
    pub(super) due: Due,
    /// `true` if it is among those with something due.
    pub(super) listed: bool,
    /// `true` if it is in the schedule of those with items.
    pub(super) scheduled: bool,
    pub(super) received: Traffic,
    pub(super) sent: Traffic,
    /// The number of times that the writer has waited for credit.
    pub(super) stalls: u64,
    /// The memory that the table counts for it.
    measured: usize,
}

impl Entry {
    pub(super) fn new(state: StreamState, receives: bool) -> Self {
        Self {
            state,
            receives,
            over: false,
            ended: false,
            inbox: ItemQueue::default(),
            reader: None,
            feeder: None,
            queue: SendQueue::default(),
            writer: None,
            starved_since: None,
            due: Due { credit: None, stop: false, end: false },
            listed: false,
            scheduled: false,
            received: Traffic { items: 0, bytes: 0 },
            sent: Traffic { items: 0, bytes: 0 },
            stalls: 0,
            measured: 0,
        }
    }

    /// Counts the memory that its peer can make this side hold in `total`: what was granted, and what has come beyond that.
    pub(super) fn measure(&mut self, total: &mut usize) {
        let (receive, _) = self.state.windows();
        let bytes = if !self.receives || self.over {
            0
        } else if self.ended {
            receive.held()
        } else if self.state.receives() {
            receive.held().max(receive.reserved())
        } else {
            0
        };
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        *total = *total - std::mem::replace(&mut self.measured, bytes) + bytes;
    }

    /// Drops the items that were not written, since their receiver takes no more. Returns their bytes.
    pub(super) fn drop_queue(&mut self) -> usize {
        self.due.end = false;
        self.starved_since = None;
        self.queue.clear()
    }

    /// Returns `true` if so much waits to be written that the writer waits, too.
    pub(super) const fn is_full(&self) -> bool {
        self.queue.bytes() >= MAX_QUEUED
    }

    /// Wakes the writer if there is room, after items were written.
    pub(super) fn written(&mut self) {
        if self.queue.bytes() <= MAX_QUEUED / 2 {
            self.wake_writer();
        }
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_feeder(&mut self) {
        if let Some(waker) = self.feeder.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

/// Keeps `waker` for the next wake-up.
pub(super) fn register(slot: &mut Option<Waker>, waker: &Waker) {
    match slot {
        Some(registered) => registered.clone_from(waker),
        None => *slot = Some(waker.clone()),
    }
}
