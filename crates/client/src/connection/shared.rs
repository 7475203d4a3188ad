//! What a connection's task and its callers share: the calls in flight, and the outgoing bytes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use farcall_protocol::{Body, Flags, HeaderRef, Kind, Message, Metadata, Negotiated, Outbox, Seq, TooLarge};
use farcall_transport::Address;
use futures::task::AtomicWaker;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use crate::connection::in_flight::{InFlight, Outcome};
use crate::connection::options::ConnectionOptions;
use crate::deadline::Deadline;

pub(super) struct Shared {
    pub(super) negotiated: Negotiated,
    pub(super) endpoint: Address,
    state: Mutex<State>,
    /// Whether `State::outbox` may hold something, to be read without the lock.
    has_output: AtomicBool,
    /// Whether a deadline came in that is before all that the task knows.
    has_earlier: AtomicBool,
    open: AtomicBool,
    /// Whether the last handle is gone: nobody waits for anything any more.
    left: AtomicBool,
    /// How much of the outgoing stream the socket has taken, in bytes.
    pub(super) written: AtomicU64,
    /// The connection's task.
    pub(super) waker: AtomicWaker,
    /// Places among the calls that the server runs at once. Closed with the connection.
    pub(super) places: Semaphore,
    /// Told when the outbox has been emptied, and when the connection closes.
    pub(super) room: Notify,
    outbox_bytes: usize,
    answer_timeout: Option<Duration>,
    /// Why, and since when, the connection takes no more calls.
    closed: OnceLock<(String, Instant)>,
    /// Why the connection has ended, which may be for another reason.
    ended: OnceLock<String>,
}

struct State {
    in_flight: InFlight,
    /// Bounded by `ConnectionOptions::outbox_bytes` and one message. Beyond that come, at most, a cancel for
    /// each call in flight, a ping, and a goaway.
    outbox: Outbox,
    phase: Phase,
}

/// With so many bytes to write, the kernel is kept busy while more are encoded.
const MUCH_OUTPUT: usize = 32 * 1024;

/// Calls end on a connection long before their numbers pass what JSON carries exactly; the next
/// connection begins at 1 again.
const LAST_SEQ: u64 = Seq::JSON_END / 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// One side has said goaway, or will: what is in flight is finished.
    Closing,
    Closed,
}

/// A request on its way out.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a str,
    pub(crate) body: &'a Body,
    pub(crate) flags: Flags,
    pub(crate) metadata: Option<&'a Metadata>,
    /// When the whole call's time is up.
    pub(crate) deadline: Option<Deadline>,
}

/// Why a request was not sent.
#[derive(Debug)]
pub(crate) enum NotSent {
    /// The server runs as many calls as it allows.
    NoPlace,
    /// As many bytes wait to be written as are allowed.
    NoRoom,
    /// The connection takes no more calls.
    Closed,
    /// Less than a millisecond is left of the call's time.
    TooLate,
    /// It is over what the server accepts.
    TooLarge(TooLarge),
}

impl Shared {
    pub(super) fn new(negotiated: Negotiated, endpoint: Address, options: &ConnectionOptions) -> Self {
        Self {
            places: Semaphore::new(negotiated.max_in_flight.get()),
            negotiated,
            endpoint,
            state: Mutex::new(State {
                in_flight: InFlight::new(),
                outbox: Outbox::new(),
                phase: Phase::Open,
            }),
            has_output: AtomicBool::new(false),
            has_earlier: AtomicBool::new(false),
            open: AtomicBool::new(true),
            left: AtomicBool::new(false),
            written: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            room: Notify::new(),
            outbox_bytes: options.outbox_bytes,
            answer_timeout: options.answer_timeout,
            closed: OnceLock::new(),
            ended: OnceLock::new(),
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.lock().in_flight.unanswered()
    }

    /// Why the connection takes no more calls.
    pub(super) fn why_closed(&self) -> String {
        self.closed.get().map_or_else(|| "the connection is open".to_owned(), |(why, _)| why.clone())
    }

    /// Since when the connection takes no more calls.
    pub(super) fn closed_at(&self) -> Option<Instant> {
        self.closed.get().map(|(_, at)| *at)
    }

    /// Why the connection has ended.
    pub(super) fn why_ended(&self) -> String {
        self.ended.get().cloned().unwrap_or_else(|| self.why_closed())
    }
}

/// What callers do.
impl Shared {
    /// Appends a request, and takes its call in; `waker` is whom its end wakes, if somebody waits
    /// already. Returns the call's number, and the limit of its time.
    pub(super) fn send(
        &self,
        outgoing: &Outgoing<'_>,
        waker: Option<&Waker>,
    ) -> Result<(Seq, Option<Duration>), NotSent> {
        let (deadline, timeout_ms) = time_left(outgoing.deadline, self.answer_timeout)?;
        let mut state = self.lock_open()?;
        let seq = state.in_flight.next_seq();
        let begin = state.outbox.appended();
        self.push_request(&mut state, outgoing, seq, timeout_ms)?;
        let span = (begin, state.outbox.appended());
        let at = deadline.map(|deadline| deadline.at);
        let earlier = state.in_flight.insert(seq, at, span, waker.cloned());
        drop(state);
        if earlier {
            // The task may be held up in writing, so that it does not look at what is new.
            self.has_earlier.store(true, Ordering::Release);
            self.has_output.store(true, Ordering::Release);
            self.waker.wake();
        } else {
            self.wake();
        }
        Ok((seq, deadline.map(|deadline| deadline.limit)))
    }

    /// Appends a request that is not answered.
    pub(super) fn send_one_way(&self, outgoing: &Outgoing<'_>) -> Result<(), NotSent> {
        let (_, timeout_ms) = time_left(outgoing.deadline, None)?;
        let mut state = self.lock_open()?;
        let seq = state.in_flight.skip_seq();
        self.push_request(&mut state, outgoing, seq, timeout_ms)?;
        drop(state);
        self.wake();
        Ok(())
    }

    /// The state, if a request may be appended.
    fn lock_open(&self) -> Result<MutexGuard<'_, State>, NotSent> {
        let mut state = self.lock();
        if state.phase != Phase::Open {
            return Err(NotSent::Closed);
        }
        if state.in_flight.last().0 >= LAST_SEQ {
            self.stop_calls(&mut state, "the numbers for its calls are used up".to_owned());
            drop(state);
            self.tell_of_stop();
            return Err(NotSent::Closed);
        }
        if state.outbox.remaining() >= self.outbox_bytes {
            return Err(NotSent::NoRoom);
        }
        Ok(state)
    }

    fn push_request(
        &self,
        state: &mut State,
        outgoing: &Outgoing<'_>,
        seq: Seq,
        timeout_ms: u64,
    ) -> Result<(), NotSent> {
        let header = HeaderRef {
            service_method: outgoing.method,
            timeout_ms,
            metadata: outgoing.metadata,
            flags: outgoing.flags,
            ..HeaderRef::new(Kind::Request, seq)
        };
        let Negotiated { codec, send_limit, .. } = &self.negotiated;
        state.outbox.push(codec, &header, outgoing.body, *send_limit).map_err(NotSent::TooLarge)
    }

    pub(super) fn poll(&self, seq: Seq, waker: &Waker) -> Poll<Outcome> {
        self.lock().in_flight.poll(seq, waker)
    }

    /// The caller of `seq` has gone: the server is told. The cancel stands behind its request in
    /// the outbox, so that it cannot overtake it.
    pub(super) fn abandon(&self, seq: Seq) {
        let mut state = self.lock();
        let abandoned = state.in_flight.abandon(seq);
        let cancel = abandoned.tell_server && state.phase != Phase::Closed;
        if cancel {
            self.push(&mut state, &HeaderRef::new(Kind::Cancel, seq));
        }
        drop(state);
        if cancel {
            self.wake();
        }
    }

    /// Takes no further call, and says so to the server.
    pub(super) fn close(&self) {
        let stopped = self.stop_calls(&mut self.lock(), "this side closed the connection".to_owned());
        if stopped {
            self.tell_of_stop();
        }
    }

    /// Closes, and waits for nothing any more.
    pub(super) fn leave(&self) {
        self.left.store(true, Ordering::Release);
        self.close();
        // Where it was closed before, the task has to look again whether it is done.
        self.wake();
    }
}

/// What the connection's task does.
impl Shared {
    pub(super) fn has_output(&self) -> bool {
        self.has_output.load(Ordering::Acquire)
    }

    /// Whether what waits to be written is worth a write of its own.
    pub(super) fn has_much_output(&self) -> bool {
        self.lock().outbox.remaining() >= MUCH_OUTPUT
    }

    /// Moves what waits to be written into `outbox`.
    pub(super) fn take_output(&self, outbox: &mut Outbox) {
        // Before the lock: whoever appends after it was released sets it again.
        self.has_output.store(false, Ordering::Relaxed);
        outbox.append(&mut self.lock().outbox);
        self.room.notify_waiters();
    }

    /// The earliest deadline, if one came in that is before all that this said before.
    pub(super) fn take_earlier(&self) -> Option<Instant> {
        if !self.has_earlier.load(Ordering::Relaxed) || !self.has_earlier.swap(false, Ordering::Acquire) {
            return None;
        }
        self.lock().in_flight.earliest()
    }

    /// Hands over the answers of one read. Whoever waited for them is to be woken.
    pub(super) fn answer(&self, messages: &mut Vec<Message>, wakers: &mut Vec<Waker>) {
        let mut freed = 0;
        let mut state = self.lock();
        for message in messages.drain(..) {
            if let Some(waker) = state.in_flight.answer(message) {
                freed += 1;
                wakers.extend(waker);
            }
        }
        drop(state);
        if freed > 0 {
            self.places.add_permits(freed);
        }
    }

    /// Ends calls whose deadline has passed. Returns before when none will.
    pub(super) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut expired = Vec::new();
        let mut state = self.lock();
        let written = self.written.load(Ordering::Relaxed);
        state.in_flight.expire(now, written, |seq, waker| expired.push((seq, waker)));
        for (seq, _) in &expired {
            self.push(&mut state, &HeaderRef::new(Kind::Cancel, *seq));
        }
        let earliest = state.in_flight.earliest();
        drop(state);
        if !expired.is_empty() {
            self.wake();
        }
        expired.into_iter().filter_map(|(_, waker)| waker).for_each(Waker::wake);
        earliest
    }

    /// Asks the server whether it lives.
    pub(super) fn ping(&self) {
        self.push(&mut self.lock(), &HeaderRef::new(Kind::Ping, Seq(1)));
        self.wake();
    }

    /// Answers a ping, unless the server reads so little that answers pile up.
    pub(super) fn pong(&self, seq: Seq) {
        let mut state = self.lock();
        if state.outbox.remaining() < self.outbox_bytes {
            self.push(&mut state, &HeaderRef::new(Kind::Pong, seq));
        }
        drop(state);
        self.wake();
    }

    /// The server starts no call above `last`.
    pub(super) fn goaway(&self, last: Seq, why: String) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let stopped = self.stop_calls(&mut state, why);
        state.in_flight.refuse_above(last, |waker| wakers.extend(waker));
        drop(state);
        if stopped {
            self.tell_of_stop();
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The connection has ended.
    pub(super) fn end(&self, why: String) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let _ = self.ended.set(why.clone());
        let stopped = self.stop_calls(&mut state, why);
        state.phase = Phase::Closed;
        // Bodies may be memory of the user's, with a drop of its own, which is not for under the lock.
        let unsent = std::mem::take(&mut state.outbox);
        state.in_flight.lose_all(self.written.load(Ordering::Relaxed), |waker| wakers.extend(waker));
        drop(state);
        drop(unsent);
        if stopped {
            self.tell_of_stop();
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether the connection may end: nobody will call, nobody waits, and nothing is unsaid.
    pub(super) fn is_done(&self) -> bool {
        if self.is_open() {
            return false;
        }
        let state = self.lock();
        let nobody_waits = state.in_flight.unanswered() == 0 || self.left.load(Ordering::Acquire);
        nobody_waits && !state.outbox.has_remaining()
    }
}

impl Shared {
    /// Whether it took calls until now. If so, [`Shared::tell_of_stop`] is due after the lock.
    fn stop_calls(&self, state: &mut State, why: String) -> bool {
        if state.phase != Phase::Open {
            return false;
        }
        state.phase = Phase::Closing;
        let _ = self.closed.set((why, Instant::now()));
        self.open.store(false, Ordering::Release);
        // Also after the server's own: an end of stream without it would stop what was sent one-way.
        let last = state.in_flight.last();
        self.push(state, &HeaderRef::new(Kind::Goaway, last));
        true
    }

    /// Who waits for a place or for room finds the connection closed, and the task what to write.
    fn tell_of_stop(&self) {
        self.places.close();
        self.room.notify_waiters();
        self.wake();
    }

    fn push(&self, state: &mut State, header: &HeaderRef<'_>) {
        // Such headers have a kind and a number only, which fit any limit that a server can
        // state and still be of use; where they do not, there is no better thing to send.
        let _ =
            state.outbox.push(&self.negotiated.codec, header, &Body::default(), self.negotiated.send_limit);
    }

    fn wake(&self) {
        // Whoever finds it set already knows that the task has been woken, and not yet looked.
        if !self.has_output.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// No waker is woken under this lock: what it runs may call back.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a call that is sent now is given up, and what the server is told of it.
fn time_left(
    call: Option<Deadline>,
    answer_timeout: Option<Duration>,
) -> Result<(Option<Deadline>, u64), NotSent> {
    if call.is_none() && answer_timeout.is_none() {
        return Ok((None, 0));
    }
    let now = Instant::now();
    if call.is_some_and(|call| call.is_over(now)) {
        return Err(NotSent::TooLate);
    }
    let answer = answer_timeout.map(|limit| Deadline::after(now, limit));
    let deadline = Deadline::first(call, answer);
    Ok((deadline, deadline.map_or(0, |deadline| deadline.millis_left(now))))
}

#[cfg(test)]
mod tests;
