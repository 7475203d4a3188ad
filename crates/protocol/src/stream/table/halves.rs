//! For the halves of a stream, which the application has.

use std::task::{Context, Poll};

use web_time::Instant;

use super::super::item::EncodedItem;
use super::{StreamClosed, StreamTable, TakenItems, check_by, close, register};
use crate::header::Flags;
use crate::limits::Seq;
use crate::message::{Part, TooLarge};
use crate::time::later;

/// For the halves of a stream.
impl StreamTable {
    /// Takes the items that have arrived, as many as are in one batch. `None` if the peer said that no more come, or the
    /// response has come.
    ///
    /// # Errors
    ///
    /// The stream was removed.
    pub fn poll_items(
        &mut self,
        seq: Seq,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<TakenItems>, StreamClosed>> {
        let Some(entry) = self.streams.get_mut(&seq) else { return Poll::Ready(Err(StreamClosed::Ended)) };
        let Some(batch) = entry.inbox.pop() else {
            if entry.ended || entry.over || !entry.state.receives() {
                return Poll::Ready(Ok(None));
            }
            register(&mut entry.reader, cx.waker());
            return Poll::Pending;
        };
        let credit_at = entry.state.windows().0.until_credit();
        Poll::Ready(Ok(Some(TakenItems::new(batch, credit_at))))
    }

    /// Accounts for items of this cost that the application has taken of those of [`StreamTable::poll_items`]. Returns the
    /// cost after which credit is due again. `now` is called if it is due now.
    pub fn consume(&mut self, seq: Seq, cost: u64, now: impl FnOnce() -> Instant) -> u64 {
        let Some(entry) = self.streams.get_mut(&seq) else { return u64::MAX };
        let credit = entry.state.consume(cost, now);
        entry.measure(&mut self.inbound);
        let credit_at = entry.state.windows().0.until_credit();
        if let Some(limit) = credit
            && !entry.over
        {
            entry.due.credit = Some(limit);
            entry.wake_feeder();
            self.list(seq);
        }
        credit_at
    }

    /// Reads no more items: those that wait are dropped, and the peer is told to stop.
    pub fn stop(&mut self, seq: Seq) {
        let Some(entry) = self.streams.get_mut(&seq) else { return };
        entry.inbox.clear();
        let stopped = entry.state.stop();
        // Items that had arrived before the end are dropped as well.
        entry.ended = false;
        entry.measure(&mut self.inbound);
        if stopped && !entry.over {
            entry.due.stop = true;
            entry.due.credit = None;
            entry.wake_feeder();
            self.list(seq);
        }
    }

    /// Waits until an item can be sent: there is credit for it, and not too much waits to be written. `now` is called if
    /// the wait for credit begins.
    ///
    /// # Errors
    ///
    /// No item can be sent any more.
    pub fn poll_ready(
        &mut self,
        seq: Seq,
        cx: &mut Context<'_>,
        now: impl FnOnce() -> Instant,
    ) -> Poll<Result<(), StreamClosed>> {
        let Some(entry) = self.streams.get_mut(&seq) else { return Poll::Ready(Err(StreamClosed::Ended)) };
        if entry.over {
            return Poll::Ready(Err(StreamClosed::Ended));
        }
        if !entry.state.sends() {
            return Poll::Ready(Err(StreamClosed::Stopped));
        }
        if entry.is_full() {
            register(&mut entry.writer, cx.waker());
            return Poll::Pending;
        }
        if entry.state.send_window().poll_open() {
            entry.starved_since = None;
            return Poll::Ready(Ok(()));
        }
        register(&mut entry.writer, cx.waker());
        if entry.starved_since.is_none() {
            let now = now();
            entry.starved_since = Some(now);
            entry.stalls += 1;
            self.totals.stalls += 1;
            if check_by(&mut self.check_at, Some(later(now, self.settings.max_stall))) {
                self.wake_task();
            }
        }
        Poll::Pending
    }

    /// Has the task of `cx`, for whose item there is no room, woken by [`StreamTable::wake_writers`], or by the end of the
    /// stream.
    pub fn wait_for_room(&mut self, seq: Seq, cx: &Context<'_>) {
        if let Some(entry) = self.streams.get_mut(&seq) {
            register(&mut entry.writer, cx.waker());
        }
    }

    /// Wakes the tasks of all streams that wait to send an item.
    pub fn wake_writers(&mut self) {
        self.streams.values_mut().for_each(|entry| entry.wake_writer());
    }

    /// Ends a wait of [`StreamTable::poll_ready`] without an item: its time is no longer counted.
    pub fn stop_waiting(&mut self, seq: Seq) {
        if let Some(entry) = self.streams.get_mut(&seq) {
            (entry.writer, entry.starved_since) = (None, None);
        }
    }

    /// Appends an item. Called after [`StreamTable::poll_ready`].
    ///
    /// # Errors
    ///
    /// The encoded value is larger than a frame of the peer may be.
    pub fn send(&mut self, seq: Seq, item: EncodedItem<'_>, compressed: bool) -> Result<(), TooLarge> {
        let (len, limit) = (item.len(), self.settings.send_limit.get());
        if len > limit {
            return Err(TooLarge::new(Part::Body, len, limit));
        }
        // A stream that ended in between takes the item as one that ended a moment later would.
        let Some(entry) = self.streams.get_mut(&seq).filter(|entry| !entry.over && entry.state.sends())
        else {
            return Ok(());
        };
        let flags = entry.state.send_window().spend(len);
        let flags = if compressed { flags.with(Flags::COMPRESSED) } else { flags };
        entry.sent.count(len);
        self.totals.sent.count(len);
        self.queued += entry.queue.push(&self.settings.codec, seq, item, flags);
        if !std::mem::replace(&mut entry.scheduled, true) {
            let idle = !self.has_output();
            self.scheduler.insert(seq);
            if idle {
                self.wake_task();
            }
        }
        Ok(())
    }

    /// Sends no more items, as a client that has sent all of them.
    pub fn end(&mut self, seq: Seq) {
        let Some(entry) = self.streams.get_mut(&seq) else { return };
        if entry.state.end() && !entry.over {
            entry.due.end = true;
            self.list(seq);
        }
    }

    /// Removes a stream with everything that waits for it.
    pub fn remove(&mut self, seq: Seq) {
        if let Some(mut entry) = self.streams.remove(&seq) {
            self.queued -= close(&mut entry);
            entry.measure(&mut self.inbound);
            let window = entry.state.receive_window();
            self.growth_left +=
                (window.size() as usize).saturating_sub(self.settings.receive_window.initial.get());
        }
    }
}
