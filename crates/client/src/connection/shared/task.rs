//! The side of the connection's task: it takes what callers have appended, and completes their calls.

use std::sync::atomic::Ordering;
use std::task::Waker;

use bytes::{Buf, BytesMut};
use farcall_protocol::{Flags, HeaderRef, Inbox, Kind, MessageDecoder, Outbox, ProtocolError, Seq};
use farcall_runtime::time::Instant;
use farcall_transport::BufferPool;

use super::{Phase, Shared, State, WORTHWHILE_OUTPUT};
use crate::connection::in_flight::ReplyParts;
use crate::connection::progress::{End, EndKind};
use crate::connection::streams::{StreamInput, Streams};

/// The bytes of requests that the task of a connection with streams takes at once, up to the end of a message.
const MAX_REQUESTS_TAKEN: usize = 128 * 1024;

/// The replies whose calls are completed under one lock: about a microsecond, for which a caller spins rather than sleeps.
const REPLIES_PER_LOCK: usize = 16;

/// The task's side.
impl Shared {
    /// Returns `true` if there may be bytes to write.
    pub(in crate::connection) fn has_output(&self) -> bool {
        self.has_output.load(Ordering::Acquire)
    }

    /// Moves the bytes to write into `outbox`, which is empty. Returns how many of them come first and have no position in the
    /// outgoing stream. `None`, with nothing moved, if they are not to be written `now` and letting others run first is
    /// better: there are few, and they are not those of the only call, whose caller seems to be `alone`.
    pub(in crate::connection) fn take_output(
        &self,
        outbox: &mut Outbox,
        alone: bool,
        now: bool,
    ) -> Option<usize> {
        let mut state = self.lock();
        let is_worthwhile =
            state.outbox.remaining() >= WORTHWHILE_OUTPUT || (alone && state.in_flight.unanswered() == 1);
        if !now && !is_worthwhile {
            return None;
        }
        // Cleared before anything is taken: what is appended afterwards sets it again.
        self.has_output.store(false, Ordering::Relaxed);
        let Some(streams) = self.streams.get() else {
            let control = self.take_control(&mut state, outbox);
            outbox.append(&mut state.outbox);
            let is_awaited = std::mem::take(&mut state.is_room_awaited);
            drop(state);
            if is_awaited {
                self.room.notify_waiters();
            }
            return Some(control);
        };
        drop(state);
        let control = self.take_output_and_items(streams, outbox);
        self.room.notify_waiters();
        Some(control)
    }

    /// Moves the messages that wait for no request.
    #[inline]
    fn take_control(&self, state: &mut State, outbox: &mut Outbox) -> usize {
        if state.control.has_remaining() {
            // Under the lock, so that they are either here or known to be on their way.
            self.progress.set_control_taken();
            outbox.append(&mut state.control);
        }
        outbox.remaining()
    }

    /// Moves the bytes to write into `outbox`: what waits for no request, then requests, then items. Of many requests, only
    /// the first are taken, so that what comes meanwhile does not wait for all of them.
    fn take_output_and_items(&self, streams: &Streams, outbox: &mut Outbox) -> usize {
        let is_due = self.streams_due.swap(false, Ordering::Acquire);
        let mut state = self.lock();
        self.take_control(&mut state, outbox);
        let (taken, has_many) = (state.taken(), state.outbox.remaining() > MAX_REQUESTS_TAKEN);
        drop(state);
        let mut more = is_due && streams.write_control(outbox, taken);
        let control = outbox.remaining();
        let mut items = Outbox::new();
        if more && !has_many {
            more = streams.write(&mut items);
        }
        let mut state = self.lock();
        if has_many {
            state.outbox.move_messages(outbox, MAX_REQUESTS_TAKEN);
        } else {
            // Through the callers' outbox, whose positions count these bytes as well. The requests of these items are in it
            // already, or were written.
            state.outbox.append(&mut items);
            outbox.append(&mut state.outbox);
        }
        drop(state);
        if more {
            // The rest is written when this is.
            self.streams_due.store(true, Ordering::Relaxed);
        }
        if more || has_many {
            self.has_output.store(true, Ordering::Relaxed);
        }
        control
    }

    /// Handles what came for streams in one read, and adds memory for the items of the next ones to `spare`. Returns when the
    /// streams have to be [checked](Shared::expire) next.
    ///
    /// # Errors
    ///
    /// The server broke the protocol.
    pub(in crate::connection) fn receive_items(
        &self,
        input: &mut Vec<StreamInput>,
        spare: &mut Vec<BytesMut>,
        now: Instant,
    ) -> Result<Option<Instant>, ProtocolError> {
        let Some(streams) = self.streams.get() else {
            // Of calls that are not in flight.
            input.clear();
            return Ok(None);
        };
        streams.receive(input, spare, now.into_std())?;
        Ok(streams.check_at().map(Instant::from_std))
    }

    /// Returns when the streams have to be checked next.
    pub(in crate::connection) fn streams_check_at(&self) -> Option<Instant> {
        self.streams.get()?.check_at().map(Instant::from_std)
    }

    /// Returns the earliest deadline, if it is earlier than all that this returned before.
    pub(in crate::connection) fn take_earlier(&self) -> Option<Instant> {
        if !self.has_earlier.load(Ordering::Relaxed) || !self.has_earlier.swap(false, Ordering::Acquire) {
            return None;
        }
        self.lock().in_flight.earliest()
    }

    /// Completes the calls whose replies are at the front of the input, as far as they are of the usual form, and adds the
    /// wakers of their callers to `wakers`. Returns the number of replies.
    pub(in crate::connection) fn complete_usual(
        &self,
        input: &mut Inbox<BufferPool>,
        decoder: &MessageDecoder,
        wakers: &mut Vec<Waker>,
    ) -> usize {
        let (mut replies, mut freed) = (0, 0);
        let mut locked = None;
        while let Some((mut front, name)) = input.front(decoder) {
            // A name, which no reply of a server has, may be malformed.
            if front.kind != Kind::Response || front.flags != Flags::NONE || !name.is_empty() {
                break;
            }
            if replies % REPLIES_PER_LOCK == 0 {
                locked = None;
            }
            let in_flight = &mut locked.get_or_insert_with(|| self.lock()).in_flight;
            // It may be that of a streaming call.
            let Some(index) = in_flight.find(front.seq.0) else { break };
            replies += 1;
            let reply = ReplyParts::from_body(input.take_front(&mut front));
            if let Some(waker) = in_flight.complete_at(index, reply) {
                freed += 1;
                wakers.extend(waker);
            }
        }
        drop(locked);
        if freed > 0 {
            self.slots.add_permits(freed);
        }
        replies
    }

    /// Completes the calls that were answered in one read, and adds the wakers of their callers to `wakers`.
    pub(in crate::connection) fn complete(
        &self,
        replies: &mut Vec<(Seq, ReplyParts)>,
        wakers: &mut Vec<Waker>,
    ) {
        let mut freed = 0;
        let mut others = Vec::new();
        let mut state = self.lock();
        for (seq, reply) in replies.drain(..) {
            let Some(index) = state.in_flight.find(seq.0) else {
                others.push((seq, reply));
                continue;
            };
            if let Some(waker) = state.in_flight.complete_at(index, reply) {
                freed += 1;
                wakers.extend(waker);
            }
        }
        drop(state);
        if freed > 0 {
            self.slots.add_permits(freed);
        }
        if !others.is_empty() {
            self.complete_streams(others);
        }
    }

    /// Completes the streaming calls among those that were answered; the others are not in flight.
    #[cold]
    fn complete_streams(&self, replies: Vec<(Seq, ReplyParts)>) {
        let Some(streams) = self.streams.get() else { return };
        let completed = replies.into_iter().map(|(seq, reply)| streams.complete(seq, reply));
        let freed = completed.filter(|was| *was).count();
        if freed > 0 {
            streams.places.add_permits(freed);
            if !self.is_open() {
                // It may have been the last call.
                self.wake();
            }
        }
    }

    /// Ends calls whose deadline has passed. Returns a lower bound of the other deadlines.
    pub(in crate::connection) fn expire(&self, now: Instant) -> Option<Instant> {
        let mut expired = Vec::new();
        let mut state = self.lock();
        let written = self.progress.written();
        state.in_flight.expire(now, written, |seq, end, waker| expired.push((seq, end, waker)));
        for (seq, request_end, _) in &expired {
            self.push_cancel(&mut state, *seq, *request_end);
        }
        let earliest = state.in_flight.earliest();
        drop(state);
        if !expired.is_empty() {
            self.wake();
        }
        expired.into_iter().filter_map(|(.., waker)| waker).for_each(Waker::wake);
        let Some(streams) = self.streams.get() else { return earliest };
        for (seq, request_end) in streams.expire(now.into_std()) {
            self.cancel(seq, request_end);
        }
        [earliest, self.streams_check_at()].into_iter().flatten().min()
    }

    /// Releases the memory for calls and their bytes, as far as there are none.
    pub(in crate::connection) fn release_memory(&self) {
        let mut state = self.lock();
        state.in_flight.release_memory();
        state.outbox.release();
        state.control.release();
        drop(state);
        if let Some(streams) = self.streams.get() {
            streams.release_spare();
        }
    }

    /// Sends a ping.
    pub(in crate::connection) fn ping(&self) {
        self.push(&mut self.lock().control, &HeaderRef::new(Kind::Ping, Seq(1)));
        self.wake();
    }

    /// Answers a ping, unless the server reads so slowly that pongs would pile up.
    pub(in crate::connection) fn pong(&self, seq: Seq) {
        let mut state = self.lock();
        if state.control.remaining() < self.outbox_bytes {
            self.push(&mut state.control, &HeaderRef::new(Kind::Pong, seq));
        }
        drop(state);
        self.wake();
    }

    /// Ends the calls above `last`, which the server will not start.
    pub(in crate::connection) fn goaway(&self, last: Seq, reason: String) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        let stopped = self.stop_calls(&mut state, reason);
        state.in_flight.refuse_above(last, |waker| wakers.extend(waker));
        drop(state);
        if let Some(streams) = self.streams.get() {
            streams.refuse_above(last);
        }
        if stopped {
            self.notify_stopped();
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Ends all calls, since the connection has ended. Only the first end counts.
    pub(in crate::connection) fn end(&self, reason: String, kind: EndKind) {
        let mut wakers = Vec::new();
        let mut state = self.lock();
        self.progress.set_ended(End { reason: reason.clone(), kind });
        let stopped = self.stop_calls(&mut state, reason);
        state.phase = Phase::Closed;
        // Drop bodies after unlocking: they may own user memory whose `Drop` runs arbitrary code.
        let unsent = (std::mem::take(&mut state.outbox), std::mem::take(&mut state.control));
        state.in_flight.lose_all(self.progress.written(), |waker| wakers.extend(waker));
        drop(state);
        drop(unsent);
        if let Some(streams) = self.streams.get() {
            streams.lose_all(self.progress.written());
        }
        if stopped {
            self.notify_stopped();
        }
        self.progress.notify_ended();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Returns `true` if the connection may end: it takes no calls, no caller waits, and nothing is left to write.
    pub(in crate::connection) fn is_done(&self) -> bool {
        if self.is_open() {
            return false;
        }
        let released = self.released.load(Ordering::Acquire);
        let no_stream_waits = released || self.streams_in_flight() == 0;
        let state = self.lock();
        let no_caller_waits = released || state.in_flight.unanswered() == 0;
        no_stream_waits && no_caller_waits && !state.outbox.has_remaining() && !state.control.has_remaining()
    }
}
