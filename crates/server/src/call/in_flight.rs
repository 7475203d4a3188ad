//! [`InFlightCalls`]: the calls of one connection that have tasks, and the responses they leave.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::Context;
use std::time::Duration;

use bytes::Buf;
use farcall_context::ConnectionInfo;
use farcall_protocol::{Outbox, Seq};
use farcall_transport::PeerKey;
use futures::stream::AbortHandle;
use futures::task::AtomicWaker;
use tokio::time::Instant;

use super::handler_turns::HandlerTurns;
use crate::memory_budget::{MemoryAccount, MemoryReservation};
use crate::peer_usage::{PeerUsage, Sharer};
use crate::service::method::Method;
use crate::stream::call_stream::{CallStream, Cut};
use crate::stream::connection_streams::ConnectionStreams;

/// The connection id of calls that came over none; those of connections start at 1.
pub(crate) const LOCAL_CONNECTION_ID: u64 = 0;

/// The state that a connection's task shares with the tasks of its calls.
#[derive(Debug)]
pub(crate) struct InFlightCalls {
    state: Mutex<State>,
    /// The account of the connection's memory, these calls and their responses included.
    memory: Arc<MemoryAccount>,
    /// `None` if no limits for each peer hold for it, or the calls come over no connection.
    peer: Option<Arc<PeerUsage>>,
    /// The connection as one of those among which places are divided; `None` for calls that come over no connection, whose callers
    /// are many.
    sharer: Option<Sharer>,
    /// The number of `State::calls` that do not stream, to be read without the lock.
    in_flight: AtomicUsize,
    /// The streaming ones among `State::calls`, which are not in `in_flight`.
    streaming: AtomicUsize,
    /// `true` if `State::responses` may not be empty, to be read without the lock.
    has_responses: AtomicBool,
    signal: AtomicU8,
    /// The time of its longest offloaded poll, in microseconds; shorter ones make it forgotten by and by. 0 before
    /// the first.
    longest_poll: AtomicU64,
    /// The time in which the handlers are polled before other connections come in between.
    turns: HandlerTurns,
    /// The connection's task.
    waker: AtomicWaker,
    /// The streams of the connection, for snapshots; empty before its first streaming call.
    streams: OnceLock<Weak<ConnectionStreams>>,
    /// The number of the load report that the peer was told last; 0 before the first.
    load_report: AtomicU64,
}

#[derive(Debug)]
struct State {
    /// Bounded by the `max_in_flight` and the `max_streams` of the connection.
    calls: HashMap<Seq, InFlightCall>,
    /// Bounded by `calls`: each leaves at most one response, and the connection takes no new request
    /// while its outbox is full.
    responses: Outbox,
    /// The bytes that `calls` hold.
    held_bytes: usize,
    /// The bytes of `calls` and `responses`.
    reservation: MemoryReservation,
    /// `true` once responses are no longer sent.
    closed: bool,
    /// `true` once the server's stop has aborted all calls.
    aborted: bool,
}

/// A call that has a task.
#[derive(Clone, Debug)]
pub(crate) struct InFlightCall {
    pub(crate) method: Arc<Method>,
    pub(crate) from: Arc<ConnectionInfo>,
    pub(crate) arrived: Instant,
    pub(crate) deadline: Option<Instant>,
    /// The bytes that it holds until it has ended.
    pub(crate) held_bytes: usize,
    pub(crate) abort: AbortHandle,
    /// `None` if it does not stream.
    pub(crate) stream: Option<Arc<CallStream>>,
}

impl InFlightCall {
    /// Aborts a call since the server stops.
    fn drain(&self) {
        if let Some(stream) = &self.stream {
            stream.cut(Cut::Drained);
        }
        self.abort.abort();
    }
}

/// A request of the server to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Signal {
    /// Keep serving.
    Run = 0,
    /// Send goaway, finish, close.
    Drain = 1,
    /// Give up what waits for the peer, close.
    Shed = 2,
    /// Close now.
    Stop = 3,
}

impl State {
    /// Returns the calls in the order in which they came, which is that in which their tasks are woken.
    fn in_order(&self) -> impl Iterator<Item = &InFlightCall> {
        let mut calls: Vec<_> = self.calls.iter().collect();
        calls.sort_unstable_by_key(|(seq, _)| **seq);
        calls.into_iter().map(|(_, call)| call)
    }

    fn resize_reservation(&mut self) {
        self.reservation.resize(self.held_bytes + self.responses.remaining());
    }
}

impl InFlightCalls {
    /// Creates the state of a connection that has just been accepted.
    pub(crate) fn new(
        memory: Arc<MemoryAccount>,
        peer: Option<Arc<PeerUsage>>,
        sharer: Option<Sharer>,
    ) -> Self {
        let state = State {
            calls: HashMap::new(),
            responses: Outbox::new(),
            held_bytes: 0,
            reservation: memory.reserve(),
            closed: false,
            aborted: false,
        };
        Self {
            state: Mutex::new(state),
            memory,
            peer,
            sharer,
            in_flight: AtomicUsize::new(0),
            streaming: AtomicUsize::new(0),
            has_responses: AtomicBool::new(false),
            signal: AtomicU8::new(Signal::Run as u8),
            longest_poll: AtomicU64::new(0),
            turns: HandlerTurns::new(),
            waker: AtomicWaker::new(),
            streams: OnceLock::new(),
            load_report: AtomicU64::new(0),
        }
    }

    /// Returns the account of all that the connection holds.
    pub(crate) const fn memory(&self) -> &Arc<MemoryAccount> {
        &self.memory
    }

    /// Returns what all connections of the peer occupy; `None` if no limits for each peer hold for it.
    pub(crate) const fn peer(&self) -> Option<&Arc<PeerUsage>> {
        self.peer.as_ref()
    }

    /// Returns the connection's share of `places`; all of them for calls that come over none.
    pub(crate) fn share_of(&self, places: usize) -> usize {
        self.sharer.as_ref().map_or(places, |sharer| sharer.share_of(places))
    }

    /// Sets the streams of the connection, once.
    pub(crate) fn set_streams(&self, streams: &Arc<ConnectionStreams>) {
        let _ = self.streams.set(Arc::downgrade(streams));
    }

    /// Returns the streams of the connection; `None` before its first streaming call, and after its end.
    pub(crate) fn streams(&self) -> Option<Arc<ConnectionStreams>> {
        self.streams.get()?.upgrade()
    }

    /// Adds a call, which is in flight until [`InFlightCalls::end`].
    pub(crate) fn begin(&self, seq: Seq, call: InFlightCall) {
        let mut state = self.lock();
        let counter = if call.stream.is_none() { &self.in_flight } else { &self.streaming };
        counter.fetch_add(1, Ordering::Relaxed);
        if state.aborted {
            call.drain();
        }
        if let Some(sharer) = self.sharer.as_ref().filter(|_| state.calls.is_empty()) {
            sharer.became_active();
        }
        state.held_bytes += call.held_bytes;
        state.calls.insert(seq, call);
        state.resize_reservation();
        if let Some(peer) = &self.peer {
            peer.call_began();
        }
    }

    /// Adds to the bytes that a call in flight holds until it has ended.
    pub(crate) fn hold_more(&self, seq: Seq, bytes: usize) {
        let state = &mut *self.lock();
        if let Some(call) = state.calls.get_mut(&seq) {
            call.held_bytes += bytes;
            state.held_bytes += bytes;
            state.resize_reservation();
        }
    }

    /// Removes a call whose handler has ended. `respond` appends its response; it is not called if
    /// the connection is closed.
    pub(crate) fn end(&self, seq: Seq, respond: impl FnOnce(&mut Outbox)) {
        let mut state = self.lock();
        let mut counter = &self.in_flight;
        if let Some(call) = state.calls.remove(&seq) {
            if call.stream.is_some() {
                counter = &self.streaming;
            }
            state.held_bytes -= call.held_bytes;
            if let Some(sharer) = self.sharer.as_ref().filter(|_| state.calls.is_empty()) {
                sharer.became_idle();
            }
            if let Some(peer) = &self.peer {
                peer.call_ended();
            }
        }
        if !state.closed {
            respond(&mut state.responses);
            self.has_responses.store(true, Ordering::Relaxed);
        }
        state.resize_reservation();
        // After the response: a connection that finds no call in flight closes unless it sees one.
        counter.fetch_sub(1, Ordering::Release);
        drop(state);
        self.waker.wake();
    }

    /// Returns the number of calls in flight that do not stream.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Acquire)
    }

    /// Returns the number of streaming calls in flight.
    pub(crate) fn streaming(&self) -> usize {
        self.streaming.load(Ordering::Acquire)
    }

    /// Returns the number of streaming calls in flight of this peer.
    #[cold]
    pub(crate) fn streaming_from(&self, peer: PeerKey) -> usize {
        let state = self.lock();
        let streaming = state.calls.values().filter(|call| call.stream.is_some());
        streaming.filter(|call| call.from.peer_key() == peer).count()
    }

    /// Returns the number of all calls in flight.
    pub(crate) fn all_in_flight(&self) -> usize {
        self.in_flight() + self.streaming()
    }

    /// Returns the calls in flight, in no order.
    pub(crate) fn list(&self) -> Vec<InFlightCall> {
        self.lock().calls.values().cloned().collect()
    }

    /// Returns the streaming calls in flight.
    pub(crate) fn list_streams(&self) -> HashMap<Seq, InFlightCall> {
        let state = self.lock();
        let streaming = state.calls.iter().filter(|(_, call)| call.stream.is_some());
        streaming.map(|(seq, call)| (*seq, call.clone())).collect()
    }

    /// Returns `true` if no call is in flight and no response is left to be taken.
    pub(crate) fn is_idle(&self) -> bool {
        // In this order: see `end`.
        self.all_in_flight() == 0 && !self.has_responses()
    }

    /// Aborts a call, if it is in flight. It ends, and is answered, when its handler has ended.
    pub(crate) fn cancel(&self, seq: Seq) {
        if let Some(call) = self.lock().calls.get(&seq) {
            call.abort.abort();
        }
    }

    /// Gives up a streaming call, if it is in flight. It ends, and is answered, when its handler has ended.
    pub(crate) fn cut(&self, seq: Seq, reason: Cut) {
        if let Some(call) = self.lock().calls.get(&seq)
            && let Some(stream) = &call.stream
        {
            stream.cut(reason);
            call.abort.abort();
        }
    }

    /// Gives up all streaming calls, which may go on elsewhere.
    pub(crate) fn drain_streams(&self) {
        self.lock().in_order().filter(|call| call.stream.is_some()).for_each(InFlightCall::drain);
    }

    /// Aborts all calls, and those that are still added. They end, and are answered, when their
    /// handlers have ended.
    pub(crate) fn abort_all(&self) {
        let mut state = self.lock();
        state.aborted = true;
        state.in_order().for_each(InFlightCall::drain);
    }

    /// Aborts all calls, and drops their responses.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.in_order().for_each(|call| call.abort.abort());
        let responses = std::mem::take(&mut state.responses);
        state.resize_reservation();
        drop(state);
        self.turns.close();
        // After unlocking: a body may be user memory whose `Drop` runs arbitrary code.
        drop(responses);
    }

    /// Returns why a call was cancelled, for its response.
    pub(crate) fn cancel_reason(&self) -> &'static str {
        if self.lock().aborted { "the server was stopped" } else { "its caller cancelled it" }
    }

    /// Returns `true` if there are responses to be taken.
    pub(crate) fn has_responses(&self) -> bool {
        self.has_responses.load(Ordering::Acquire)
    }

    /// Records the time of an offloaded poll.
    pub(crate) fn offloaded(&self, worked: Duration) {
        let worked = u64::try_from(worked.as_micros()).unwrap_or(u64::MAX);
        // Of two that race, one may be lost. A long one counts for about a hundred short ones.
        let longest = self.longest_poll.load(Ordering::Relaxed);
        self.longest_poll.store(worked.max(longest - longest / 64).max(1), Ordering::Relaxed);
    }

    /// Assumes that the first offloaded poll is as short as those before, which were made on the connection's task.
    pub(crate) fn assume_short_polls(&self) {
        let _ = self.longest_poll.compare_exchange(0, 1, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns `true` if offloaded polls are known to take at most `limit`.
    pub(crate) fn offloads_are_within(&self, limit: Duration) -> bool {
        let longest = self.longest_poll.load(Ordering::Relaxed);
        longest > 0 && u128::from(longest) <= limit.as_micros()
    }

    /// Returns `true` if the calls come over no connection.
    pub(crate) const fn is_local(&self) -> bool {
        self.sharer.is_none()
    }

    /// Returns `true` if the peer was not told the load report of this number, which it is now.
    pub(crate) fn is_new_load_report(&self, number: u64) -> bool {
        self.load_report.load(Ordering::Relaxed) != number
            && self.load_report.swap(number, Ordering::Relaxed) != number
    }

    /// Moves the responses into `outbox`.
    pub(crate) fn take_responses(&self, outbox: &mut Outbox) {
        if self.has_responses.swap(false, Ordering::Acquire) {
            let mut state = self.lock();
            outbox.append(&mut state.responses);
            state.resize_reservation();
        }
    }

    /// Releases the memory for calls and responses, as far as there are none.
    pub(crate) fn release_memory(&self) {
        let mut state = self.lock();
        state.calls.shrink_to_fit();
        state.responses.release();
        drop(state);
        self.turns.release_memory();
    }

    /// Begins the next turn of the connection's task and of its handlers. Returns `true` if handlers are left that wait
    /// for the one after it.
    #[inline]
    pub(crate) fn begin_turn(&self, length: Duration) -> bool {
        self.turns.begin(length)
    }

    /// Returns `true` if a handler may be polled; otherwise its task is woken when it may. `has_waited` is the handler's
    /// own.
    #[inline]
    pub(crate) fn try_begin_poll(&self, cx: &Context<'_>, has_waited: &mut bool) -> bool {
        let may_begin = self.turns.try_begin(cx, has_waited);
        if !may_begin {
            self.waker.wake();
        }
        may_begin
    }

    /// Takes the time of a handler's poll from the turn.
    #[inline]
    pub(crate) fn poll_ended(&self, took: Duration) {
        self.turns.spend(took);
    }

    /// Registers the connection's task, to be woken by responses and signals.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.waker.register(waker);
    }

    /// Sends the connection a signal. A signal is never taken back.
    pub(crate) fn signal(&self, signal: Signal) {
        self.signal.fetch_max(signal as u8, Ordering::Release);
        self.waker.wake();
    }

    /// Returns the last signal.
    pub(crate) fn signalled(&self) -> Signal {
        match self.signal.load(Ordering::Acquire) {
            0 => Signal::Run,
            1 => Signal::Drain,
            2 => Signal::Shed,
            _ => Signal::Stop,
        }
    }

    /// No user code runs under this lock, so a poisoned one holds a consistent state.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::memory_budget::MemoryBudget;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn one_long_offloaded_poll_counts_until_many_were_short() {
        let calls =
            InFlightCalls::new(MemoryBudget::new(Limits::default().memory()).local_account(), None, None);
        assert!(!calls.offloads_are_within(MS), "nothing is known");
        calls.assume_short_polls();
        assert!(calls.offloads_are_within(MS));
        calls.offloaded(4 * MS);
        assert!(!calls.offloads_are_within(3 * MS) && calls.offloads_are_within(4 * MS));
        calls.assume_short_polls();
        for _ in 0..50 {
            calls.offloaded(Duration::ZERO);
        }
        assert!(!calls.offloads_are_within(MS));
        for _ in 0..50 {
            calls.offloaded(Duration::ZERO);
        }
        assert!(calls.offloads_are_within(MS));
    }
}
