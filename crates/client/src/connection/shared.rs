//! The state that a connection's task and its callers share: the calls in flight, and the outgoing bytes.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
#[cfg(not(all(test, shuttle)))]
use std::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use farcall_discovery::{Load, LoadReports};
use farcall_protocol::metadata::LOAD;
use farcall_protocol::{Body, HeaderRef, Kind, LoadReport, Metadata, Negotiated, Outbox, Seq};
use farcall_runtime::time::Instant;
use farcall_transport::Address;
#[cfg(not(all(test, shuttle)))]
use futures::task::AtomicWaker;
#[cfg(all(test, shuttle))]
use shuttle::sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool};
#[cfg(not(all(test, shuttle)))]
use tokio::sync::Notify;
use tokio::sync::Semaphore;

use super::in_flight::{InFlight, Outcome};
#[cfg(all(test, shuttle))]
use super::models::steps::{AtomicWaker, Notify};
use super::options::{ConnectionOptions, StreamOptions};
use super::progress::Progress;
use super::request::{EncodedRequest, SendError};
use super::streams::{Directions, Streams};
use crate::deadline::Deadline;
use crate::error::Phase as CallPhase;

/// The state that a connection's task and its callers share.
pub(super) struct Shared {
    pub(super) negotiated: Negotiated,
    pub(super) endpoint: Address,
    state: Mutex<State>,
    /// `true` if `State::outbox` may hold bytes, read without the lock.
    has_output: AtomicBool,
    /// `true` if a call was added whose deadline is before all that the task knows.
    has_earlier: AtomicBool,
    open: AtomicBool,
    /// `true` once the last handle was dropped: no caller waits any more.
    released: AtomicBool,
    /// The outgoing stream, as far as it is written, and the reason why the connection has ended, which may be
    /// another one than why it takes no more calls.
    pub(super) progress: Progress,
    /// Wakes the connection's task.
    pub(super) waker: AtomicWaker,
    /// The slots of the calls that the server runs at once. Closed with the connection.
    pub(super) slots: Semaphore,
    /// Notified when the outbox was emptied, and when the connection closes.
    pub(super) room: Notify,
    /// The streaming calls, since the first of them. Boxed, since most connections have none.
    pub(super) streams: OnceLock<Box<Streams>>,
    /// `true` if streams may have something to write, read without their lock.
    streams_due: AtomicBool,
    pub(super) stream_options: StreamOptions,
    /// `true` if this side offered streams in the handshake.
    pub(super) offers_streams: bool,
    outbox_bytes: usize,
    pub(super) answer_timeout: Option<Duration>,
    /// The reason why the connection takes no more calls, and since when.
    closed: OnceLock<(String, Instant)>,
    /// The place for the load that the server reports; `None` if no balancer sees it, or the connection takes no more calls.
    load: Mutex<Option<LoadReports>>,
}

struct State {
    in_flight: InFlight,
    /// The requests, and what follows them. Bounded by `ConnectionOptions::outbox_bytes` and one message; in addition, at
    /// most a cancel for each of them, and a goaway.
    outbox: Outbox,
    /// The messages that wait for no request: at most a cancel for each call in flight, a ping, and
    /// `ConnectionOptions::outbox_bytes` of pongs. They have no positions in the outgoing stream.
    control: Outbox,
    /// The position in the outgoing stream of this side's goaway, once there is one.
    goaway: Option<u64>,
    /// `true` if a request found no room since it was made last.
    is_room_awaited: bool,
    phase: Phase,
}

/// With this many bytes, a write is worthwhile at once: the kernel works while more are encoded.
const WORTHWHILE_OUTPUT: usize = 32 * 1024;

/// The number after which a connection takes no more calls, long before numbers become inexact in JSON. The next
/// connection begins at 1 again.
const LAST_SEQ: u64 = Seq::JSON_END / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// One side has sent a goaway, or will: calls in flight are finished.
    Closing,
    Closed,
}

impl State {
    /// Returns the position in the outgoing stream up to which the task has taken it.
    fn taken(&self) -> u64 {
        self.outbox.appended() - self.outbox.remaining() as u64
    }
}

impl Shared {
    pub(super) fn new(negotiated: Negotiated, endpoint: Address, options: &ConnectionOptions) -> Self {
        Self {
            slots: Semaphore::new(negotiated.max_in_flight.get()),
            negotiated,
            endpoint,
            state: Mutex::new(State {
                in_flight: InFlight::new(),
                outbox: Outbox::new(),
                control: Outbox::new(),
                goaway: None,
                is_room_awaited: false,
                phase: Phase::Open,
            }),
            has_output: AtomicBool::new(false),
            has_earlier: AtomicBool::new(false),
            open: AtomicBool::new(true),
            released: AtomicBool::new(false),
            progress: Progress::default(),
            waker: AtomicWaker::new(),
            room: Notify::new(),
            streams: OnceLock::new(),
            streams_due: AtomicBool::new(false),
            stream_options: options.streams,
            offers_streams: options.terms.streams.is_some(),
            outbox_bytes: options.outbox_bytes,
            answer_timeout: options.answer_timeout,
            closed: OnceLock::new(),
            load: Mutex::new(None),
        }
    }

    /// Has the load that the server reports recorded there, as long as the connection takes calls.
    pub(super) fn report_load_to(&self, load: &Arc<Load>) {
        let mut reports = self.load_reports();
        if self.is_open() {
            *reports = Some(load.reports());
        }
    }

    /// Records the load that the metadata of a response reports, if it does. Values that are not valid are ignored.
    #[cold]
    pub(super) fn read_load(&self, metadata: &Metadata) {
        let Some(report) = metadata.get(LOAD).and_then(LoadReport::parse) else { return };
        if let Some(reports) = &*self.load_reports() {
            reports.record(report);
        }
    }

    /// No code of others runs under this lock, so a poisoned one holds a consistent state.
    fn load_reports(&self) -> MutexGuard<'_, Option<LoadReports>> {
        self.load.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight.unanswered() + self.streams_in_flight()
    }

    /// Returns the bytes of large requests that the server has not answered.
    pub(super) fn large_bytes_in_flight(&self) -> u64 {
        self.lock().in_flight.large_bytes()
    }

    /// Returns the number of the last call, and the number of calls that the server has not finished.
    pub(super) fn calls(&self) -> (Seq, usize) {
        let state = self.lock();
        let (last, unanswered) = (state.in_flight.last(), state.in_flight.unanswered());
        drop(state);
        (last, unanswered + self.streams_in_flight())
    }

    /// Returns the number of streaming calls that the server has not finished.
    pub(super) fn streams_in_flight(&self) -> usize {
        self.streams.get().map_or(0, |streams| streams.unanswered())
    }

    /// Returns the reason why the connection takes no more calls.
    pub(super) fn close_reason(&self) -> String {
        self.closed.get().map_or_else(|| "the connection is open".to_owned(), |(reason, _)| reason.clone())
    }

    /// Returns when the connection stopped taking calls.
    pub(super) fn closed_at(&self) -> Option<Instant> {
        self.closed.get().map(|(_, at)| *at)
    }

    /// Returns the reason why the connection has ended.
    pub(super) fn end_reason(&self) -> String {
        self.progress.ended().map_or_else(|| self.close_reason(), |end| end.reason.clone())
    }

    /// Returns the position in the outgoing stream behind all that callers have sent so far.
    pub(super) fn sent(&self) -> u64 {
        let mut state = self.lock();
        let State { outbox, control, .. } = &mut *state;
        // They get positions that can be waited for.
        outbox.append(control);
        state.goaway.unwrap_or_else(|| state.outbox.appended())
    }
}

/// The callers' side.
impl Shared {
    /// Appends a request, and inserts its call; the reply wakes `waker`, if the caller waits already.
    /// Returns the call's number and its time limit.
    pub(super) fn enqueue(
        &self,
        request: &EncodedRequest<'_>,
        waker: Option<&Waker>,
    ) -> Result<(Seq, Option<Duration>), SendError> {
        let (deadline, timeout_ms) = time_left(request.deadline(), self.answer_timeout)?;
        let mut state = self.lock_open()?;
        let seq = state.in_flight.next_seq();
        let begin = state.outbox.appended();
        self.push_request(&mut state, request, seq, timeout_ms)?;
        let span = (begin, state.outbox.appended());
        let at = deadline.map(|deadline| deadline.at);
        let earlier = state.in_flight.insert(seq, at, span, waker.cloned());
        drop(state);
        if earlier {
            // The task may be blocked in a write, so that it would not notice the new deadline.
            self.has_earlier.store(true, Ordering::Release);
            self.has_output.store(true, Ordering::Release);
            self.waker.wake();
        } else {
            self.wake();
        }
        Ok((seq, deadline.map(|deadline| deadline.limit)))
    }

    /// Appends a request that is not answered. Returns where it begins and ends in the outgoing stream.
    pub(super) fn enqueue_one_way(&self, request: &EncodedRequest<'_>) -> Result<(u64, u64), SendError> {
        let (_, timeout_ms) = time_left(request.deadline(), None)?;
        let mut state = self.lock_open()?;
        let seq = state.in_flight.skip_seq();
        let begin = state.outbox.appended();
        self.push_request(&mut state, request, seq, timeout_ms)?;
        let span = (begin, state.outbox.appended());
        drop(state);
        self.wake();
        Ok(span)
    }

    /// Appends a streaming request, and opens its stream.
    pub(super) fn enqueue_stream(
        &self,
        streams: &Streams,
        request: &EncodedRequest<'_>,
        directions: Directions,
    ) -> Result<Seq, SendError> {
        let (_, timeout_ms) = time_left(request.deadline(), None)?;
        let seq = streams.begin(directions, || {
            let mut state = self.lock_open()?;
            let seq = state.in_flight.skip_seq();
            let begin = state.outbox.appended();
            self.push_request(&mut state, request, seq, timeout_ms)?;
            Ok((seq, (begin, state.outbox.appended())))
        })?;
        self.wake();
        Ok(seq)
    }

    /// Appends a message with `enqueue` as soon as there is room; `phase` is set if it has to wait.
    pub(super) async fn when_room<T>(
        &self,
        phase: &mut CallPhase,
        mut enqueue: impl FnMut() -> Result<T, SendError>,
    ) -> Result<T, SendError> {
        loop {
            // Created before the check, so that room made in between is noticed.
            let room = self.room.notified();
            match enqueue() {
                Err(SendError::OutboxFull) => {
                    *phase = CallPhase::Write;
                    room.await;
                }
                other => return other,
            }
        }
    }

    /// Wakes the task to write what streams have to send.
    pub(super) fn streams_have_output(&self) {
        self.streams_due.store(true, Ordering::Release);
        self.wake();
    }

    /// Waits until the outgoing stream was flushed up to `end`. Returns `false` if the connection ended before.
    pub(super) async fn until_flushed(&self, end: u64) -> bool {
        self.progress.until_flushed(|progress| progress.is_flushed(end), &self.waker).await
    }

    /// Waits until all that callers have sent so far was flushed, cancels included. Returns `false` if the connection ended
    /// before.
    pub(super) async fn until_all_flushed(&self) -> bool {
        let end = self.sent();
        let is_flushed = |progress: &Progress| progress.is_flushed(end) && progress.is_control_flushed();
        self.progress.until_flushed(is_flushed, &self.waker).await
    }

    #[inline]
    fn push_request(
        &self,
        state: &mut State,
        request: &EncodedRequest<'_>,
        seq: Seq,
        timeout_ms: u64,
    ) -> Result<(), SendError> {
        let Negotiated { codec, send_limit, .. } = &self.negotiated;
        if timeout_ms == 0
            && let Some(method) = request.only_method()
            && state.outbox.push_usual(codec, (Kind::Request, seq, method), request.body(), *send_limit)
        {
            return Ok(());
        }
        let header = request.header(seq, timeout_ms);
        state.outbox.push(codec, &header, request.body(), *send_limit).map_err(SendError::TooLarge)
    }

    /// Locks the state, if a request may be appended.
    fn lock_open(&self) -> Result<MutexGuard<'_, State>, SendError> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Err(SendError::Closed);
        }
        if state.in_flight.last().0 >= LAST_SEQ {
            self.stop_calls(&mut state, "the numbers for its calls are used up".to_owned());
            drop(state);
            self.notify_stopped();
            return Err(SendError::Closed);
        }
        if state.outbox.remaining() >= self.outbox_bytes {
            state.is_room_awaited = true;
            return Err(SendError::OutboxFull);
        }
        Ok(state)
    }

    /// Takes the outcome of a call; registers `waker` if there is none yet.
    pub(super) fn poll(&self, seq: Seq, waker: &Waker) -> Poll<Outcome> {
        self.lock().in_flight.poll(seq, waker)
    }

    /// Cancels a call whose caller dropped it.
    pub(super) fn abandon(&self, seq: Seq) {
        let mut state = self.lock();
        let abandoned = state.in_flight.abandon(seq);
        let cancel = abandoned.cancel && state.phase != Phase::Closed;
        if cancel {
            self.push_cancel(&mut state, seq, abandoned.request_end);
        }
        drop(state);
        if cancel {
            self.wake();
        }
    }

    /// Cancels a streaming call whose caller has let go of it. Its request ends at this position.
    pub(super) fn cancel(&self, seq: Seq, request_end: u64) {
        let mut state = self.lock();
        if state.phase != Phase::Closed {
            self.push_cancel(&mut state, seq, request_end);
            drop(state);
            self.wake();
        }
    }

    /// Takes no further calls, and sends a goaway.
    pub(super) fn close(&self) {
        self.stop("this side closed the connection".to_owned());
    }

    /// Takes no further calls for this reason, and sends a goaway.
    pub(super) fn stop(&self, reason: String) {
        let stopped = self.stop_calls(&mut self.lock(), reason);
        if stopped {
            self.notify_stopped();
        }
    }

    /// Closes the connection after its last handle was dropped.
    pub(super) fn release(&self) {
        self.released.store(true, Ordering::Release);
        self.close();
        // If it was closed before, the task has to check again whether it is done.
        self.wake();
    }
}

impl Shared {
    /// Stops taking calls. Returns `true` if it took calls until now: then the caller has to unlock the state and call
    /// [`Shared::notify_stopped`].
    fn stop_calls(&self, state: &mut State, reason: String) -> bool {
        if state.phase != Phase::Open {
            return false;
        }
        state.phase = Phase::Closing;
        let _ = self.closed.set((reason, Instant::now()));
        self.open.store(false, Ordering::Release);
        // The server may have a successor, of which they would say nothing.
        *self.load_reports() = None;
        state.goaway = Some(state.outbox.appended());
        // Also sent after the server's own: without it, the end of the stream would stop one-way requests.
        let last = state.in_flight.last();
        self.push(&mut state.outbox, &HeaderRef::new(Kind::Goaway, last));
        true
    }

    /// Lets callers that wait for a slot or for room fail, and wakes the task to write the goaway.
    fn notify_stopped(&self) {
        self.slots.close();
        if let Some(streams) = self.streams.get() {
            streams.places.close();
            streams.closing.notify_waiters();
        }
        self.room.notify_waiters();
        self.wake();
    }

    /// Appends a message without a body.
    fn push(&self, outbox: &mut Outbox, header: &HeaderRef<'_>) {
        // Such headers have a kind and a number only, which fit into any useful frame limit. If they do not, there
        // is nothing else to send.
        let _ = outbox.push(&self.negotiated.codec, header, &Body::default(), self.negotiated.send_limit);
    }

    /// Appends a cancel: before requests that wait, unless that of its call is among them.
    fn push_cancel(&self, state: &mut State, seq: Seq, request_end: u64) {
        let is_taken = request_end <= state.taken();
        let outbox = if is_taken { &mut state.control } else { &mut state.outbox };
        self.push(outbox, &HeaderRef::new(Kind::Cancel, seq));
    }

    /// Wakes the task.
    fn wake(&self) {
        // If it was set before, the task has been woken already, and has not read it yet.
        if !self.has_output.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Locks the state. No waker is woken under this lock, since it may run code that comes back here.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the deadline of a call that is sent now, and the time that the request tells the server.
fn time_left(
    call: Option<Deadline>,
    answer_timeout: Option<Duration>,
) -> Result<(Option<Deadline>, u64), SendError> {
    if call.is_none() && answer_timeout.is_none() {
        return Ok((None, 0));
    }
    let now = Instant::now();
    if call.is_some_and(|call| call.is_over(now)) {
        return Err(SendError::DeadlineExceeded);
    }
    let answer = answer_timeout.map(|limit| Deadline::after(now, limit));
    let deadline = Deadline::first(call, answer);
    Ok((deadline, deadline.map_or(0, |deadline| deadline.millis_left(now))))
}

mod task;
#[cfg(test)]
mod tests;
