//! For a peer in the same process: it takes the items that were sent, and delivers its own, without messages.

use std::task::{Context, Poll};

use super::{StreamClosed, StreamTable, register};
use crate::body::Body;
use crate::limits::Seq;
use crate::stream::credit::item_cost;

/// For a peer in the same process, in place of [`StreamTable::write`] and of what would be received.
impl StreamTable {
    /// Takes the next item that was sent, and grants its sender the credit for as much again. `None` if there is none; the
    /// registered task is woken by the next one.
    pub fn take_sent(&mut self) -> Option<(Seq, Body)> {
        // The peer sees credits and stops by `poll_deliver`.
        while let Some(seq) = self.due.pop_front() {
            if let Some(entry) = self.streams.get_mut(&seq) {
                entry.listed = false;
                entry.due = Default::default();
            }
        }
        let streams = &mut self.streams;
        let seq = self.scheduler.next(usize::MAX, |seq| {
            let entry = streams.get_mut(&seq)?;
            let bytes = entry.queue.next_bytes();
            entry.scheduled = bytes.is_some();
            bytes
        })?;
        let entry = self.streams.get_mut(&seq)?;
        let (body, bytes) = entry.queue.take_body()?;
        self.queued -= bytes;
        let window = entry.state.send_window();
        window.grant(window.limit().saturating_add(item_cost(body.len())));
        entry.starved_since = None;
        entry.written();
        Some((seq, body))
    }

    /// Waits until the peer has credit for an item, which it then passes to [`StreamTable::receive`].
    ///
    /// # Errors
    ///
    /// The application takes no more items, or the stream was removed.
    pub fn poll_deliver(&mut self, seq: Seq, cx: &mut Context<'_>) -> Poll<Result<(), StreamClosed>> {
        let Some(entry) = self.streams.get_mut(&seq).filter(|entry| !entry.over) else {
            return Poll::Ready(Err(StreamClosed::Ended));
        };
        if !entry.receives || !entry.state.receives() {
            return Poll::Ready(Err(StreamClosed::Stopped));
        }
        if entry.state.windows().0.is_open() {
            return Poll::Ready(Ok(()));
        }
        register(&mut entry.feeder, cx.waker());
        Poll::Pending
    }
}
