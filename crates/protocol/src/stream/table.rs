//! [`StreamTable`]: the streams of one connection, as one side sees them. The connection's task passes messages in and
//! takes messages out; the two halves of each stream, which the application has, take items and append them.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustc_hash::FxBuildHasher;
use web_time::Instant;

use super::MAX_BUFFERED_ITEMS;
use super::credit::{decode_credit, encode_credit};
use super::entry::{Due, Entry, Traffic, register};
use super::item_batch::{ItemBatch, TakenItems};
use super::receive_window::WindowLimits;
use super::scheduler::ItemScheduler;
use super::snapshot::StreamSnapshot;
use super::state::{ItemAction, StreamState};
use crate::body::Body;
use crate::codec::Codec;
use crate::header::{Header, HeaderRef, Kind};
use crate::limits::{MaxFrameBytes, Seq, StreamWindow};
use crate::outbox::Outbox;
use crate::session::ProtocolError;
use crate::time::later;

/// The values that the streams of a connection have in common.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StreamSettings {
    /// The codec of the connection.
    pub codec: Codec,
    /// The largest frame that the peer accepts.
    pub send_limit: MaxFrameBytes,
    /// The credit that the peer grants to each stream at its beginning.
    pub send_window: StreamWindow,
    /// The credit that this side grants.
    pub receive_window: WindowLimits,
    /// The bytes that all windows together may grow by.
    pub max_growth: usize,
    /// The longest time for which an item waits for credit.
    pub max_stall: Duration,
}

impl StreamSettings {
    /// Creates the settings of a connection. Windows do not grow, and an item waits for 60 s.
    #[must_use]
    pub const fn new(
        codec: Codec,
        send_limit: MaxFrameBytes,
        send_window: StreamWindow,
        receive_window: StreamWindow,
    ) -> Self {
        let receive_window = WindowLimits { initial: receive_window, max: receive_window };
        let max_stall = Duration::from_secs(60);
        Self { codec, send_limit, send_window, receive_window, max_growth: 0, max_stall }
    }
}

/// The items that streams have sent and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamTotals {
    /// The items that applications on this side have sent.
    pub sent: Traffic,
    /// The items that have arrived, without those that were dropped at once.
    pub received: Traffic,
    /// The number of times that an item had to wait for credit.
    pub stalls: u64,
}

/// The reason why a half of a stream takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamClosed {
    /// The peer reads no more items; the call goes on.
    Stopped,
    /// The call has ended, or its connection has.
    Ended,
}

/// The streams of one connection.
///
/// Both the connection's task and the application work on it, so it stands behind a lock. It wakes them: the task that was
/// [registered](StreamTable::register_task) when there is something to [write](StreamTable::write), the halves when they can
/// go on.
///
/// A stream is [opened](StreamTable::open) with its request. It ends by [`finish`](StreamTable::finish) on the side that
/// sends the response, by [`complete`](StreamTable::complete) on the one that receives it, and by
/// [`remove`](StreamTable::remove) where it is given up.
pub struct StreamTable {
    settings: StreamSettings,
    /// A quick hash: the peer chooses the numbers, but there are no more of them than it may have streams.
    // Boxed: the table has up to twice as many places as streams.
    streams: HashMap<Seq, Box<Entry>, FxBuildHasher>,
    /// The streams with credit, a stop or an end to send.
    due: VecDeque<Seq>,
    scheduler: ItemScheduler,
    growth_left: usize,
    queued: usize,
    /// The bytes that the peer can make this side hold: see [`Entry::measure`].
    inbound: usize,
    totals: StreamTotals,
    /// The next time at which [`StreamTable::expire`] may have something to do.
    check_at: Option<Instant>,
    task: Option<Waker>,
}

impl StreamTable {
    /// Creates a table without streams.
    #[must_use]
    pub fn new(settings: StreamSettings) -> Self {
        Self {
            growth_left: settings.max_growth,
            settings,
            streams: HashMap::with_hasher(FxBuildHasher),
            due: VecDeque::new(),
            scheduler: ItemScheduler::default(),
            queued: 0,
            inbound: 0,
            totals: StreamTotals::default(),
            check_at: None,
            task: None,
        }
    }

    /// Adds the stream of a call that begins. If it does not `receive`, the peer is told to stop with its first item.
    pub fn open(&mut self, seq: Seq, receives: bool) {
        let state = StreamState::new(seq, self.settings.send_window, self.settings.receive_window);
        let mut entry = Box::new(Entry::new(state, receives));
        entry.measure(&mut self.inbound);
        self.streams.insert(seq, entry);
    }

    /// Returns the number of streams that were opened and not yet finished or removed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.len()
    }

    /// Returns `true` if there is no stream.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Returns the bytes of all items that wait to be written.
    #[must_use]
    pub const fn queued_bytes(&self) -> usize {
        self.queued
    }

    /// Returns the bytes to reserve: what was granted to the peer, what has come beyond that and was not taken, and what
    /// waits to be written.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.inbound.saturating_add(self.queued)
    }

    /// Returns what all streams have sent and received since the table was created.
    #[must_use]
    pub const fn totals(&self) -> &StreamTotals {
        &self.totals
    }

    /// Returns the bytes that windows have grown by, over those that streams begin with.
    #[must_use]
    pub const fn growth(&self) -> usize {
        self.settings.max_growth - self.growth_left
    }

    /// Returns the state of one stream; `None` if it was finished or removed.
    #[must_use]
    pub fn snapshot_of(&self, seq: Seq) -> Option<StreamSnapshot> {
        self.streams.get(&seq).map(|entry| StreamSnapshot::new(seq, entry))
    }

    /// Returns the state of each stream, in the order of their calls.
    #[must_use]
    pub fn snapshot(&self) -> Vec<StreamSnapshot> {
        let mut streams: Vec<_> =
            self.streams.iter().map(|(seq, entry)| StreamSnapshot::new(*seq, entry)).collect();
        streams.sort_unstable_by_key(|stream| stream.seq);
        streams
    }
}

/// For the task of the connection.
impl StreamTable {
    /// Registers the task that is woken when there is something to write. Before its first wake-up it must look itself.
    pub fn register_task(&mut self, waker: &Waker) {
        register(&mut self.task, waker);
    }

    /// Handles an item, end, credit or stop that arrived at `now`. A message for a call that is not in flight is ignored.
    /// `room` returns `true` if a window may grow by a number of bytes.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub fn receive(
        &mut self,
        header: &Header,
        body: Bytes,
        now: Instant,
        room: impl FnOnce(usize) -> bool,
    ) -> Result<(), ProtocolError> {
        let seq = header.seq;
        if header.kind == Kind::Credit {
            // Checked also for a call that is over: what it says does not depend on when it comes.
            let limit = decode_credit(&self.settings.codec, &body)
                .map_err(|error| ProtocolError::InvalidCredit { message: error.to_string() })?;
            if let Some(entry) = self.streams.get_mut(&seq)
                && entry.state.receive_credit(limit)
            {
                entry.starved_since = None;
                entry.wake_writer();
            }
            return Ok(());
        }
        let Some(entry) = self.streams.get_mut(&seq).filter(|entry| !entry.over) else { return Ok(()) };
        match header.kind {
            Kind::Item => self.receive_item(header, body, now, room)?,
            Kind::End if entry.state.receive_end() => {
                entry.ended = true;
                entry.measure(&mut self.inbound);
                entry.wake_reader();
            }
            Kind::Stop if entry.state.receive_stop() => {
                self.queued -= entry.drop_queue();
                entry.wake_writer();
            }
            _ => {}
        }
        Ok(())
    }

    fn receive_item(
        &mut self,
        header: &Header,
        body: Bytes,
        now: Instant,
        room: impl FnOnce(usize) -> bool,
    ) -> Result<(), ProtocolError> {
        let Some(entry) = self.streams.get_mut(&header.seq) else { return Ok(()) };
        if !entry.receives && entry.state.stop() {
            entry.due.stop = true;
        }
        let growth_left = &mut self.growth_left;
        let grow = |bytes: usize| {
            let grows = bytes <= *growth_left && room(bytes);
            *growth_left -= if grows { bytes } else { 0 };
            grows
        };
        let action = entry.state.receive_item(body.len(), header.flags, now, grow)?;
        if let ItemAction::Deliver { credit } = action {
            entry.received.count(body.len());
            self.totals.received.count(body.len());
            entry.inbox.push(ItemBatch::one(body, header.flags));
            entry.wake_reader();
            if credit.is_some() {
                entry.due.credit = credit;
                let shrink_at = entry.state.receive_window().shrink_at();
                check_by(&mut self.check_at, shrink_at);
            }
        }
        entry.measure(&mut self.inbound);
        self.list(header.seq);
        Ok(())
    }

    /// Handles items that followed one that was [received](StreamTable::receive).
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub fn receive_batch(&mut self, seq: Seq, batch: ItemBatch) -> Result<(), ProtocolError> {
        let Some(entry) = self.streams.get_mut(&seq).filter(|entry| !entry.over) else { return Ok(()) };
        if entry.state.receive_batch(&batch)? {
            entry.received.count_batch(&batch);
            self.totals.received.count_batch(&batch);
            entry.inbox.push(batch);
            entry.wake_reader();
        }
        entry.measure(&mut self.inbound);
        Ok(())
    }

    /// Returns `true` if there is something to [write](StreamTable::write).
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.due.is_empty() || !self.scheduler.is_empty()
    }

    /// Appends the credits, stops and ends of the streams for which `may` returns `true`. The end of a stream with items
    /// that wait is left to [`StreamTable::write`].
    pub fn write_control(&mut self, outbox: &mut Outbox, mut may: impl FnMut(Seq) -> bool) {
        for _ in 0..self.due.len() {
            let Some(seq) = self.due.pop_front() else { return };
            if !may(seq) {
                self.due.push_back(seq);
            } else if self
                .streams
                .get(&seq)
                .is_some_and(|entry| entry.due.end && entry.queue.next_bytes().is_some())
            {
                self.write_due_but_end(seq, outbox);
                self.due.push_back(seq);
            } else {
                self.write_due(seq, outbox);
            }
        }
    }

    /// Appends the credit and the stop that are due.
    fn write_due_but_end(&mut self, seq: Seq, outbox: &mut Outbox) {
        let Some(entry) = self.streams.get_mut(&seq) else { return };
        let rest = Due { end: entry.due.end, ..Due::default() };
        let Due { credit, stop, .. } = std::mem::replace(&mut entry.due, rest);
        let credit = credit.and_then(|limit| encode_credit(&self.settings.codec, limit).ok());
        if let Some(body) = credit {
            self.push(&HeaderRef::new(Kind::Credit, seq), &body, outbox);
        }
        if stop {
            self.push(&HeaderRef::new(Kind::Stop, seq), &Body::default(), outbox);
        }
    }

    /// Appends what is due: credits, stops and ends, then items, until `outbox` has 128 KiB that wait.
    pub fn write(&mut self, outbox: &mut Outbox) {
        self.write_behind(0, outbox);
    }

    /// Does the same where `ahead` bytes are written before those of `outbox`, and count as its own.
    pub fn write_behind(&mut self, ahead: usize, outbox: &mut Outbox) {
        while let Some(seq) = self.due.pop_front() {
            self.write_due(seq, outbox);
        }
        loop {
            let waiting = ahead + outbox.remaining();
            // An item of any size passes if nothing else waits.
            let room = if waiting == 0 { usize::MAX } else { MAX_BUFFERED_ITEMS.saturating_sub(waiting) };
            let streams = &mut self.streams;
            let next = self.scheduler.next(room, |seq| {
                let entry = streams.get_mut(&seq)?;
                let bytes = entry.queue.next_bytes();
                entry.scheduled = bytes.is_some();
                bytes
            });
            let Some(seq) = next else { return };
            self.write_next(seq, outbox);
        }
    }

    fn write_due(&mut self, seq: Seq, outbox: &mut Outbox) {
        self.write_due_but_end(seq, outbox);
        let Some(entry) = self.streams.get_mut(&seq) else { return };
        entry.listed = false;
        if std::mem::take(&mut entry.due.end) {
            // Behind the stream's own items, and not behind those of others.
            while self.write_next(seq, outbox) {}
            self.push(&HeaderRef::new(Kind::End, seq), &Body::default(), outbox);
        }
    }

    /// Appends the next items of a stream. Returns `false` if it has none.
    fn write_next(&mut self, seq: Seq, outbox: &mut Outbox) -> bool {
        let Some(entry) = self.streams.get_mut(&seq) else { return false };
        let StreamSettings { codec, send_limit, .. } = &self.settings;
        let Some(bytes) = entry.queue.write_next(codec, seq, *send_limit, outbox) else { return false };
        self.queued -= bytes;
        entry.written();
        true
    }

    fn push(&self, header: &HeaderRef<'_>, body: &Body, outbox: &mut Outbox) {
        // Such headers fit any limit that a handshake lets through.
        let _ = outbox.push(&self.settings.codec, header, body, self.settings.send_limit);
    }

    /// Ends a stream on the side that sends the response: appends the items that were sent before it. The response is to
    /// follow.
    pub fn finish(&mut self, seq: Seq, outbox: &mut Outbox) {
        while self.write_next(seq, outbox) {}
        self.remove(seq);
    }

    /// Ends a stream whose response has come: what was not sent is dropped, and what has arrived can still be taken, until
    /// the stream is [removed](StreamTable::remove).
    pub fn complete(&mut self, seq: Seq) {
        if let Some(entry) = self.streams.get_mut(&seq) {
            self.queued -= close(entry);
            entry.measure(&mut self.inbound);
        }
    }

    /// Ends all streams, since the connection has ended.
    pub fn complete_all(&mut self) {
        let mut streams: Vec<_> = self.streams.iter_mut().collect();
        // Those who wait are woken in the order of the calls.
        streams.sort_unstable_by_key(|(seq, _)| **seq);
        for (_, entry) in streams {
            self.queued -= close(entry);
            entry.measure(&mut self.inbound);
        }
    }

    /// Removes all streams, since the connection has ended.
    pub fn remove_all(&mut self) {
        self.complete_all();
        self.streams.clear();
        self.growth_left = self.settings.max_growth;
    }

    /// Returns the time at which [`StreamTable::expire`] is due. It never gets earlier without a wake-up of the task.
    #[must_use]
    pub const fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Shrinks windows that have not been needed, and returns the streams whose items have waited for credit too long.
    /// Their calls are to be given up.
    pub fn expire(&mut self, now: Instant) -> Vec<Seq> {
        if self.check_at.is_none_or(|at| now < at) {
            return Vec::new();
        }
        let mut expired = Vec::new();
        let mut next = None;
        for (seq, entry) in &mut self.streams {
            let window = entry.state.receive_window();
            self.growth_left += window.shrink(now);
            check_by(&mut next, window.shrink_at());
            entry.measure(&mut self.inbound);
            let stalled = entry.starved_since.map(|since| later(since, self.settings.max_stall));
            if stalled.is_some_and(|until| until <= now) {
                expired.push(*seq);
            } else {
                check_by(&mut next, stalled);
            }
        }
        self.check_at = next;
        expired.sort_unstable();
        expired
    }
}

impl StreamTable {
    /// Lists a stream among those with something to send, if there is.
    fn list(&mut self, seq: Seq) {
        let Some(entry) = self.streams.get_mut(&seq) else { return };
        let is_due = entry.due.credit.is_some() || entry.due.stop || entry.due.end;
        if is_due && !std::mem::replace(&mut entry.listed, true) {
            let idle = !self.has_output();
            self.due.push_back(seq);
            if idle {
                self.wake_task();
            }
        }
    }

    fn wake_task(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

/// Closes both directions of a stream. Returns the cost of the items that were not written.
fn close(entry: &mut Entry) -> usize {
    entry.over = true;
    entry.due = Default::default();
    entry.wake_reader();
    entry.wake_feeder();
    entry.wake_writer();
    entry.drop_queue()
}

/// Moves `at` forward to `time` if that is earlier. Returns `true` if it did.
fn check_by(at: &mut Option<Instant>, time: Option<Instant>) -> bool {
    let Some(time) = time else { return false };
    let is_earlier = at.is_none_or(|at| time < at);
    if is_earlier {
        *at = Some(time);
    }
    is_earlier
}

mod halves;
mod in_process;
#[cfg(test)]
mod tests;
