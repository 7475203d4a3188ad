//! [`ConnectionStreams`]: the streams of one connection, between its task and the handlers of its calls.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::stream::{
    EncodedItem, ItemBatch, StreamClosed, StreamSettings, StreamSnapshot, StreamTable, StreamTotals,
    TakenItems, WindowLimits,
};
use farcall_protocol::{
    Body, Compression, Header, MaxFrameBytes, Negotiated, Outbox, ProtocolError, Seq, StreamTerms, TooLarge,
};
use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::counters::StreamCounters;
use super::error::SendError;
use crate::limits::Limits;
use crate::memory_budget::{MemoryAccount, MemoryReservation};

/// The streams of one connection. It is created with the first streaming call.
pub(crate) struct ConnectionStreams {
    state: Mutex<State>,
    task: Arc<TaskWaker>,
    /// The same as a waker, for the table.
    waker: Waker,
    account: Arc<MemoryAccount>,
    counters: Arc<StreamCounters>,
    settings: StreamSettings,
    compression: Option<Compression>,
    receive_limit: MaxFrameBytes,
}

struct State {
    table: StreamTable,
    /// The bytes that were granted to the peer, or hold more than that, and those that wait to be written.
    reservation: MemoryReservation,
    /// The totals that `counters` have.
    counted: StreamTotals,
    /// `true` if a handler waits until what is queued was written, since memory is short.
    waits_for_room: bool,
}

/// Wakes the connection's task when there is something to write.
#[derive(Default)]
struct TaskWaker {
    /// `true` if there may be something to write, to be read without the lock.
    due: AtomicBool,
    task: AtomicWaker,
}

impl ConnectionStreams {
    /// Creates the streams of a connection with these terms.
    pub(crate) fn new(
        terms: StreamTerms,
        negotiated: &Negotiated,
        limits: &Limits,
        account: &Arc<MemoryAccount>,
        counters: &Arc<StreamCounters>,
    ) -> Arc<Self> {
        let Negotiated { codec, send_limit, receive_limit, compression, .. } = negotiated;
        let (initial, max) = (terms.receive_window, limits.max_stream_window.max(terms.receive_window));
        let mut settings = StreamSettings::new(codec.clone(), *send_limit, terms.send_window, initial);
        settings.receive_window = WindowLimits { initial, max };
        settings.max_growth = limits.max_stream_growth;
        settings.max_stall = limits.stream_stall.unwrap_or(Duration::MAX);
        let task = Arc::<TaskWaker>::default();
        let mut table = StreamTable::new(settings.clone());
        let waker = Waker::from(Arc::clone(&task));
        table.register_task(&waker);
        let (reservation, counted) = (account.reserve(), StreamTotals::default());
        let state = State { table, reservation, counted, waits_for_room: false };
        Arc::new(Self {
            state: Mutex::new(state),
            task,
            waker,
            account: Arc::clone(account),
            counters: Arc::clone(counters),
            settings,
            compression: *compression,
            receive_limit: *receive_limit,
        })
    }

    /// Returns the settings of all streams.
    pub(crate) const fn settings(&self) -> &StreamSettings {
        &self.settings
    }

    /// Returns the compression that was agreed on.
    pub(super) const fn compression(&self) -> Option<Compression> {
        self.compression
    }

    /// Returns the largest body that is received, in bytes.
    pub(crate) const fn receive_limit(&self) -> MaxFrameBytes {
        self.receive_limit
    }

    /// Registers the connection's task.
    pub(crate) fn register(&self, waker: &Waker) {
        self.task.task.register(waker);
    }

    /// Adds the stream of a call, whose handler takes items if it `receives`.
    pub(crate) fn open(&self, seq: Seq, receives: bool) {
        let mut state = self.lock();
        state.table.open(seq, receives);
        state.resize_reservation();
    }

    /// Handles a message of a stream. See [`StreamTable::receive`].
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub(crate) fn receive(&self, header: &Header, body: Bytes, now: Instant) -> Result<(), ProtocolError> {
        let mut state = self.lock();
        let room = |bytes| self.account.check(bytes).is_ok();
        state.table.receive(header, body, now.into_std(), room)?;
        state.resize_reservation();
        Ok(())
    }

    /// Handles items that followed one that was received. See [`StreamTable::receive_batch`].
    ///
    /// # Errors
    ///
    /// The peer broke the protocol.
    pub(crate) fn receive_batch(&self, seq: Seq, batch: ItemBatch) -> Result<(), ProtocolError> {
        let mut state = self.lock();
        state.table.receive_batch(seq, batch)?;
        state.resize_reservation();
        Ok(())
    }

    /// Returns `true` if there may be something to write.
    pub(crate) fn is_due(&self) -> bool {
        self.task.due.load(Ordering::Acquire)
    }

    /// Returns the bytes of items that wait; `None` if there is nothing to write.
    pub(crate) fn due_bytes(&self) -> Option<usize> {
        self.is_due().then(|| self.lock().table.queued_bytes())
    }

    /// Appends the messages without items that are due to an outbox, which goes before that of responses.
    pub(crate) fn write_control(&self, outbox: &mut Outbox) {
        self.lock().table.write_control(outbox, |_| true);
    }

    /// Appends what is due to an outbox, as far as there is room for items: `ahead` bytes wait before it. Returns `true` if more
    /// items wait for room, and the time of the next check.
    pub(crate) fn write(&self, outbox: &mut Outbox, ahead: usize) -> (bool, Option<Instant>) {
        let mut state = self.lock();
        // Under the lock, which whoever adds something holds as well.
        self.task.due.store(false, Ordering::Release);
        state.table.write_behind(ahead, outbox);
        state.table.register_task(&self.waker);
        state.resize_reservation();
        self.count(&mut state);
        (state.table.has_output(), state.table.check_at().map(Into::into))
    }

    /// Takes the next item that was sent, for a peer in this process. See [`StreamTable::take_sent`].
    pub(crate) fn take_sent(&self) -> Option<Body> {
        let mut state = self.lock();
        self.task.due.store(false, Ordering::Release);
        let taken = state.table.take_sent();
        state.table.register_task(&self.waker);
        state.resize_reservation();
        self.count(&mut state);
        taken.map(|(_, body)| body)
    }

    /// Waits until a peer in this process may deliver an item.
    pub(crate) fn poll_deliver(&self, seq: Seq, cx: &mut Context<'_>) -> Poll<Result<(), StreamClosed>> {
        self.lock().table.poll_deliver(seq, cx)
    }

    /// Does the same as [`ConnectionStreams::expire`], and has the task woken when the time of the next check gets earlier.
    pub(crate) fn check_stalls(&self, now: Instant) -> (Vec<Seq>, Option<Instant>) {
        let checked = self.expire(now);
        self.lock().table.register_task(&self.waker);
        // What was missed before that.
        let next = self.lock().table.check_at().map(Into::into);
        (checked.0, next)
    }

    /// Appends the items of a call that were sent before its response, and removes the stream.
    pub(super) fn finish(&self, seq: Seq, outbox: &mut Outbox) {
        let mut state = self.lock();
        state.table.finish(seq, outbox);
        state.resize_reservation();
        self.count(&mut state);
    }

    /// Removes a stream with all that waits for it.
    pub(super) fn remove(&self, seq: Seq) {
        let mut state = self.lock();
        state.table.remove(seq);
        state.resize_reservation();
        self.count(&mut state);
    }

    /// Removes all streams, since the connection has ended.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.table.remove_all();
        state.resize_reservation();
        self.count(&mut state);
    }

    /// Returns the streams that have waited for credit too long, and the time of the next check.
    pub(crate) fn expire(&self, now: Instant) -> (Vec<Seq>, Option<Instant>) {
        let mut state = self.lock();
        let expired = state.table.expire(now.into_std());
        state.resize_reservation();
        (expired, state.table.check_at().map(Into::into))
    }

    /// Returns the state of each stream.
    pub(crate) fn snapshot(&self) -> Vec<StreamSnapshot> {
        self.lock().table.snapshot()
    }

    /// Takes the next items that have arrived for a call.
    pub(super) fn poll_items(
        &self,
        seq: Seq,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<TakenItems>, StreamClosed>> {
        self.lock().table.poll_items(seq, cx)
    }

    /// Accounts for items of this cost that a handler has taken. Returns the cost after which credit is due again.
    pub(super) fn consume(&self, seq: Seq, cost: u64) -> u64 {
        let mut state = self.lock();
        let credit_at = state.table.consume(seq, cost, || Instant::now().into_std());
        state.resize_reservation();
        credit_at
    }

    /// Reads no more items of a call.
    pub(super) fn stop(&self, seq: Seq) {
        let mut state = self.lock();
        state.table.stop(seq);
        state.resize_reservation();
    }

    /// Waits until an item of a call can be sent.
    pub(super) fn poll_ready(&self, seq: Seq, cx: &mut Context<'_>) -> Poll<Result<(), StreamClosed>> {
        self.poll_room(&mut self.lock(), seq, 0, cx)
    }

    /// Ends a wait for credit without an item.
    pub(super) fn stop_waiting(&self, seq: Seq) {
        self.lock().table.stop_waiting(seq);
    }

    /// Appends an item of a call for which there is room.
    pub(super) fn send(&self, seq: Seq, item: EncodedItem<'_>, compressed: bool) -> Result<(), TooLarge> {
        let mut state = self.lock();
        state.table.send(seq, item, compressed)?;
        state.resize_reservation();
        Ok(())
    }

    /// Waits until an item of a call can be sent, and appends it: `item` is taken then.
    pub(super) fn poll_send(
        &self,
        seq: Seq,
        item: &mut Option<(EncodedItem<'_>, bool)>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        let mut state = self.lock();
        let len = item.as_ref().map_or(0, |(item, _)| item.len());
        match self.poll_room(&mut state, seq, len, cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(closed)) => return Poll::Ready(Err(closed.into())),
            Poll::Pending => return Poll::Pending,
        }
        if let Some((item, compressed)) = item.take() {
            state.table.send(seq, item, compressed)?;
            state.resize_reservation();
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until an item of `len` bytes can be sent. If the shares of memory are full, that is not before the connection
    /// has nothing else to write: then its next item is all that it holds.
    fn poll_room(
        &self,
        state: &mut State,
        seq: Seq,
        len: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), StreamClosed>> {
        ready!(state.table.poll_ready(seq, cx, || Instant::now().into_std()))?;
        let is_short =
            self.account.is_scarce() && state.table.queued_bytes() > 0 && self.account.check(len).is_err();
        if is_short {
            state.waits_for_room = true;
            state.table.wait_for_room(seq, cx);
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    /// Adds what has passed since the last time to the server's counters.
    fn count(&self, state: &mut State) {
        let totals = *state.table.totals();
        self.counters.add(&state.counted, &totals);
        state.counted = totals;
    }

    /// Wakers run under this lock, and no other code of users, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn resize_reservation(&mut self) {
        self.reservation.resize(self.table.memory_bytes());
        if self.waits_for_room && self.table.queued_bytes() == 0 {
            self.waits_for_room = false;
            self.table.wake_writers();
        }
    }
}

impl std::fmt::Debug for ConnectionStreams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionStreams").finish_non_exhaustive()
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.due.store(true, Ordering::Release);
        self.task.wake();
    }
}
