//! [`Streams`]: the streaming calls of one connection: the outcome of each, and the table of their items.
//!
//! They stand behind a separate lock, so that calls that do not stream never wait for it. Where both are taken, this
//! one comes before that of [`Shared`](super::shared::Shared).

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use farcall_protocol::stream::{
    EncodedItem, ItemBatch, StreamClosed, StreamSettings, StreamSnapshot, StreamTable, TakenItems,
    WindowLimits,
};
use farcall_protocol::{
    Execution, Kind, Message, Negotiated, Outbox, ProtocolError, Seq, StreamTerms, TooLarge,
};
use tokio::sync::{Notify, Semaphore};
use web_time::Instant;

use super::in_flight::{ConnectionLoss, Outcome, ReplyParts};
use super::options::StreamOptions;
use super::request::SendError;

/// The most pieces of memory, of 16 KiB each, that are kept for the small items of a connection: 1 MiB. The number of batches that wait for
/// their readers rises and falls by about as many.
const MAX_SPARE: usize = 64;
/// The most of them that the connection's task takes at once: as much as two reads bring.
const MAX_TAKEN_SPARE: usize = 8;

/// The streaming calls of one connection.
pub(super) struct Streams {
    state: Mutex<State>,
    /// The places of the streaming calls that the server runs at once. Closed with the connection.
    pub(super) places: Semaphore,
    /// Notified when the connection takes no more calls.
    pub(super) closing: Notify,
}

struct State {
    table: StreamTable,
    /// At most as many as the server runs at once, and those whose callers have not let go of them yet.
    calls: HashMap<Seq, StreamingCall>,
    /// Calls that the server has not finished.
    unanswered: usize,
    /// Calls without an item, some of which may be answered: with none, no item is looked at twice.
    without_items: usize,
    /// The memory of small items that were taken, at most [`MAX_SPARE`] pieces.
    spare: Vec<BytesMut>,
    /// Wakes the connection's task.
    task: Waker,
}

/// One streaming call. Its items are in the table.
struct StreamingCall {
    /// The positions of the request's begin and end in the outgoing stream, in bytes.
    span: (u64, u64),
    /// The task that waits for the first item or the outcome.
    waiter: Option<Waker>,
    /// `true` once an item has arrived.
    has_items: bool,
    /// `true` if the server has finished the call, so that its place there is free.
    answered: bool,
    /// `true` if its caller has let go of it.
    abandoned: bool,
    outcome: Option<Outcome>,
}

/// The directions in which a streaming call has items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Directions {
    pub(crate) sends: bool,
    pub(crate) receives: bool,
}

/// The input of a connection for its streams.
#[derive(Debug)]
pub(super) enum StreamInput {
    /// A message.
    Message(Message),
    /// Items of one stream that followed one.
    Items(Seq, ItemBatch),
}

/// The first sign of a streaming call that the server runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FirstSign {
    /// An item.
    Item,
    /// The outcome, without an item before it.
    Outcome,
}

impl Streams {
    /// Creates the streams of a connection with these terms. `task` wakes the connection's task to write.
    pub(super) fn new(
        negotiated: &Negotiated,
        terms: &StreamTerms,
        options: StreamOptions,
        task: Waker,
    ) -> Self {
        let Negotiated { codec, send_limit, .. } = negotiated;
        let mut settings =
            StreamSettings::new(codec.clone(), *send_limit, terms.send_window, terms.receive_window);
        let max = options.max_window.max(terms.receive_window);
        settings.receive_window = WindowLimits { initial: terms.receive_window, max };
        settings.max_growth = options.max_growth;
        settings.max_stall = options.max_stall;
        let mut table = StreamTable::new(settings);
        table.register_task(&task);
        let state =
            State { table, calls: HashMap::new(), unanswered: 0, without_items: 0, spare: Vec::new(), task };
        Self {
            state: Mutex::new(state),
            places: Semaphore::new(terms.max_streams.get()),
            closing: Notify::new(),
        }
    }

    /// Returns the number of calls that the server has not finished.
    pub(super) fn unanswered(&self) -> usize {
        self.lock().unanswered
    }

    /// Returns the calls that are still known, the streams in the table, and the bytes that these hold or have windows
    /// grown by: all zero if nothing is open.
    pub(super) fn held(&self) -> (usize, usize, usize) {
        let state = self.lock();
        let queued: usize = state.table.snapshot().iter().map(|one| one.held as usize + one.queued).sum();
        (state.calls.len(), state.table.len(), queued + state.table.growth())
    }

    /// Returns the state of one stream.
    pub(super) fn snapshot(&self, seq: Seq) -> Option<StreamSnapshot> {
        self.lock().table.snapshot_of(seq)
    }

    /// Locks the streams. No waker of a caller is woken under this lock but by the table.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The callers' side.
impl Streams {
    /// Begins a call: `push` appends its request, and returns its number and where the request is in the outgoing stream.
    pub(super) fn begin(
        &self,
        directions: Directions,
        push: impl FnOnce() -> Result<(Seq, (u64, u64)), SendError>,
    ) -> Result<Seq, SendError> {
        let mut state = self.lock();
        // Under the lock, so that the task finds the call when it writes the request.
        let (seq, span) = push()?;
        state.table.open(seq, directions.receives);
        if !directions.sends {
            // A handler that takes items as well must not wait for any.
            state.table.end(seq);
        }
        let call = StreamingCall {
            span,
            waiter: None,
            has_items: false,
            answered: false,
            abandoned: false,
            outcome: None,
        };
        state.calls.insert(seq, call);
        state.unanswered += 1;
        state.without_items += 1;
        Ok(seq)
    }

    /// Takes the next items; `None` if no more come.
    pub(super) fn poll_items(&self, seq: Seq, cx: &mut Context<'_>) -> Poll<Option<TakenItems>> {
        self.lock().table.poll_items(seq, cx).map(|items| items.unwrap_or(None))
    }

    /// Accounts for items of this cost that the caller has taken, whose memory may be used again. Returns the cost after which
    /// credit is due again.
    pub(super) fn consume(&self, seq: Seq, cost: u64, spare: Option<BytesMut>) -> u64 {
        let mut state = self.lock();
        state.spare.extend(spare);
        let excess = if state.spare.len() > MAX_SPARE { state.spare.pop() } else { None };
        let now = || farcall_runtime::time::Instant::now().into_std();
        let credit_at = state.table.consume(seq, cost, now);
        // Freed outside of the lock.
        drop(state);
        drop(excess);
        credit_at
    }

    /// Waits until an item can be sent.
    pub(super) fn poll_ready(&self, seq: Seq, cx: &mut Context<'_>) -> Poll<Result<(), StreamClosed>> {
        let now = || farcall_runtime::time::Instant::now().into_std();
        self.lock().table.poll_ready(seq, cx, now)
    }

    /// Ends a wait of [`Streams::poll_ready`] without an item.
    pub(super) fn stop_waiting(&self, seq: Seq) {
        self.lock().table.stop_waiting(seq);
    }

    /// Sends an item, after [`Streams::poll_ready`].
    pub(super) fn send(&self, seq: Seq, item: EncodedItem<'_>, compressed: bool) -> Result<(), TooLarge> {
        self.lock().table.send(seq, item, compressed)
    }

    /// Sends no more items.
    pub(super) fn end(&self, seq: Seq) {
        self.lock().table.end(seq);
    }

    /// Reads no more items.
    pub(super) fn stop(&self, seq: Seq) {
        self.lock().table.stop(seq);
    }

    /// Waits for the first item or the outcome.
    pub(super) fn poll_first(&self, seq: Seq, cx: &mut Context<'_>) -> Poll<FirstSign> {
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&seq) else { return Poll::Ready(FirstSign::Outcome) };
        if call.has_items {
            return Poll::Ready(FirstSign::Item);
        }
        if call.outcome.is_some() || call.abandoned {
            return Poll::Ready(FirstSign::Outcome);
        }
        call.wait(cx);
        Poll::Pending
    }

    /// Takes the outcome of a call. `None` if it was abandoned.
    pub(super) fn poll_outcome(&self, seq: Seq, cx: &mut Context<'_>) -> Poll<Option<Outcome>> {
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&seq).filter(|call| !call.abandoned) else {
            return Poll::Ready(None);
        };
        match call.outcome.take() {
            Some(outcome) => Poll::Ready(Some(outcome)),
            None => {
                call.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Lets go of a call, with all its items. Returns the end of its request in the outgoing stream if it has to be cancelled
    /// at the server.
    pub(super) fn abandon(&self, seq: Seq) -> Option<u64> {
        let mut state = self.lock();
        state.table.remove(seq);
        let call = state.calls.get_mut(&seq)?;
        let (answered, known) = (call.answered, std::mem::replace(&mut call.abandoned, true));
        let request_end = call.span.1;
        // Dropped, and woken, outside of the lock.
        let waiter = call.waiter.take();
        let call = if answered { state.forget(seq) } else { None };
        drop(state);
        drop(call);
        waiter.into_iter().for_each(Waker::wake);
        (!answered && !known).then_some(request_end)
    }
}

/// The task's side.
impl Streams {
    /// Handles what came for streams in one read. Memory for the items of the next ones is added to `spare`, up to
    /// [`MAX_TAKEN_SPARE`] pieces.
    ///
    /// # Errors
    ///
    /// The server broke the protocol.
    pub(super) fn receive(
        &self,
        input: &mut Vec<StreamInput>,
        spare: &mut Vec<BytesMut>,
        now: Instant,
    ) -> Result<(), ProtocolError> {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let left = state.spare.len().saturating_sub(MAX_TAKEN_SPARE - spare.len());
        spare.extend(state.spare.drain(left..));
        let State { table, calls, without_items, .. } = &mut *state;
        let received = input.drain(..).try_for_each(|input| {
            let Message { header, body, .. } = match input {
                StreamInput::Message(message) => message,
                StreamInput::Items(seq, batch) => return table.receive_batch(seq, batch),
            };
            table.receive(&header, body, now, |_| true)?;
            if header.kind == Kind::Item
                && *without_items > 0
                && let Some(call) = calls.get_mut(&header.seq)
                && !std::mem::replace(&mut call.has_items, true)
            {
                *without_items -= 1;
                wakers.extend(call.waiter.take());
            }
            Ok(())
        });
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        received
    }

    /// Frees the memory that is kept for small items.
    pub(super) fn release_spare(&self) {
        let spare = std::mem::take(&mut self.lock().spare);
        drop(spare);
    }

    /// Completes a call with its response. `false` if no such call is in flight.
    pub(super) fn complete(&self, seq: Seq, reply: ReplyParts) -> bool {
        let mut state = self.lock();
        let Some(call) = state.calls.get_mut(&seq).filter(|call| !call.answered) else { return false };
        let waiter = call.end(Ok(reply));
        state.unanswered -= 1;
        let ended = state.end(seq);
        drop(state);
        drop(ended);
        waiter.into_iter().for_each(Waker::wake);
        true
    }

    /// Appends the messages without items of the calls whose requests end before `taken` in the outgoing stream. Returns
    /// `true` if there is more to write.
    pub(super) fn write_control(&self, outbox: &mut Outbox, taken: u64) -> bool {
        let mut state = self.lock();
        let State { table, calls, task, .. } = &mut *state;
        table.write_control(outbox, |seq| calls.get(&seq).is_none_or(|call| call.span.1 <= taken));
        // It was taken when it was woken.
        table.register_task(task);
        table.has_output()
    }

    /// Appends the items and the other messages that are due, as many as may wait in a connection's buffer. Returns `true`
    /// if there are more.
    pub(super) fn write(&self, outbox: &mut Outbox) -> bool {
        let mut state = self.lock();
        let State { table, task, .. } = &mut *state;
        table.write(outbox);
        // It was taken when it was woken.
        table.register_task(task);
        table.has_output()
    }

    /// Returns when [`Streams::expire`] is due.
    pub(super) fn check_at(&self) -> Option<Instant> {
        self.lock().table.check_at()
    }

    /// Gives up the calls that have waited for credit too long. Returns those that have to be cancelled, and the ends of their
    /// requests in the outgoing stream.
    pub(super) fn expire(&self, now: Instant) -> Vec<(Seq, u64)> {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let stalled = state.table.expire(now).into_iter();
        let expired = stalled.filter_map(|seq| {
            let call = state.calls.get_mut(&seq).filter(|call| call.outcome.is_none())?;
            wakers.extend(call.end_here(ConnectionLoss::Stalled));
            let request_end = call.span.1;
            state.table.complete(seq);
            Some((seq, request_end))
        });
        let expired = expired.collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        expired
    }

    /// Ends the calls above `last`, which the server will not start.
    pub(super) fn refuse_above(&self, last: Seq) {
        self.end_where(|seq, _| (seq > last).then_some(ConnectionLoss::Goaway));
    }

    /// Ends all calls, since the connection has ended after it had `written` this many bytes.
    pub(super) fn lose_all(&self, written: u64) {
        self.end_where(|_, call| {
            let begun = call.span.0 < written;
            Some(ConnectionLoss::Closed(if begun { Execution::Maybe } else { Execution::NotSent }))
        });
    }

    fn end_where(&self, loss: impl Fn(Seq, &StreamingCall) -> Option<ConnectionLoss>) {
        let (mut wakers, mut done) = (Vec::new(), Vec::new());
        let mut state = self.lock();
        let lost = state.calls.iter().filter(|(_, call)| !call.answered);
        let mut lost: Vec<_> = lost.filter_map(|(seq, call)| Some((*seq, loss(*seq, call)?))).collect();
        // Their callers are woken in the order of the calls.
        lost.sort_unstable_by_key(|(seq, _)| *seq);
        for (seq, loss) in lost {
            let Some(call) = state.calls.get_mut(&seq) else { continue };
            wakers.extend(call.end(Err(loss)));
            state.unanswered -= 1;
            done.extend(state.end(seq));
        }
        drop(state);
        drop(done);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Ends the stream of a call that was answered: what has arrived may still be taken. Returns the call if its caller
    /// has let go of it.
    fn end(&mut self, seq: Seq) -> Option<StreamingCall> {
        self.table.complete(seq);
        let abandoned = self.calls.get(&seq).is_some_and(|call| call.abandoned);
        if abandoned { self.forget(seq) } else { None }
    }

    fn forget(&mut self, seq: Seq) -> Option<StreamingCall> {
        let call = self.calls.remove(&seq)?;
        self.without_items -= usize::from(!call.has_items);
        Some(call)
    }
}

impl StreamingCall {
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waiter {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
    }

    /// Ends the call, since the server has finished it. Returns the task to wake.
    fn end(&mut self, outcome: Outcome) -> Option<Waker> {
        self.answered = true;
        // A call that was given up here keeps its error.
        self.outcome.get_or_insert(outcome);
        self.waiter.take()
    }

    /// Ends the call on this side: the server still runs it.
    fn end_here(&mut self, loss: ConnectionLoss) -> Option<Waker> {
        self.outcome = Some(Err(loss));
        self.waiter.take()
    }
}
