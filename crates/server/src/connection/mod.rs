//! One connection after its handshake: its phases, its turns, and its end. Its stream, timers and messages are for the files
//! below it; so are its calls for [`crate::call`].
//!
//! A single task owns all of it. Calls that need more than one poll run in their tasks and leave their responses in
//! [`InFlightCalls`], from where this task takes many at a time.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use farcall_context::{ConnectionInfo, DrainSignal};
use farcall_protocol::time::later;
use farcall_protocol::{
    Code, HeaderRef, KeepAliveAction, Kind, MIN_POOLED_BUFFER, Message, Negotiated, ProtocolError, Seq,
    Status,
};
use farcall_transport::Stream;
use tokio::time::Instant;
use tracing::debug;

use self::age_limit::{AgeAction, AgeLimit};
use self::dispatch::{Dispatched, Dispatcher};
pub(crate) use self::end::End;
use self::half_close::HalfClose;
use self::io::ConnectionIo;
use self::item_output::{check_stalls, register_created};
use self::output::Output;
use self::phase::Phase;
use self::stats::ConnectionStats;
use self::timers::{Expired, Timers};
use self::turn::Turn;
use crate::call::env::CallEnv;
use crate::call::in_flight::{InFlightCalls, Signal};
use crate::limits::{DRAIN_PROBE, LINGER, MAX_SHED_OUTBOX, MESSAGES_PER_WRITE, READS_PER_TURN};
use crate::memory_budget::{GUARANTEED_BYTES, MemoryReservation};
use crate::server::state::ServerState;

mod age_limit;
mod dispatch;
mod end;
mod half_close;
pub(crate) mod handshake;
mod io;
mod item_output;
mod output;
mod phase;
pub(crate) mod stats;
mod timers;
pub(crate) mod turn;

/// A connection after its handshake. It is a future that ends when the connection does.
pub(crate) struct Connection {
    io: ConnectionIo,
    timers: Timers,
    dispatcher: Dispatcher,
    stats: Arc<ConnectionStats>,
    memory: MemoryReservation,
    /// The part of it that the inbox holds.
    inbox_bytes: usize,
    phase: Phase,
    half_close: HalfClose,
    /// `true` once the peer has sent goaway, so that closing its half does not mean that it is gone.
    goaway_received: bool,
    /// `true` if the inbox may hold a whole message that waits for room in the outbox.
    unread: bool,
    output: Output,
    turn: Turn,
    /// `true` once the server stops, or the connection has grown old.
    draining: bool,
    /// The ages at which the connection takes no more calls, and at which it gives up the streams that are left.
    age: AgeLimit,
    /// The signal for its own handlers; `None` if the server's is theirs.
    drain_signal: Option<DrainSignal>,
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        input: BytesMut,
        negotiated: Negotiated,
        info: ConnectionInfo,
        calls: Arc<InFlightCalls>,
        stats: Arc<ConnectionStats>,
        server: Arc<ServerState>,
    ) -> Self {
        let now = Instant::now();
        let mut age = AgeLimit::new(&server.limits, now);
        // Handlers are told when their connection has grown old, too, if it may.
        let drain_signal = age.is_limited().then(DrainSignal::new);
        let info = info.with_drain_signal(drain_signal.as_ref().unwrap_or(&server.drain).clone());
        let info = Arc::new(info);
        let mut timers = Timers::new(&server.limits, now);
        if let AgeAction::Until(time) = age.check(now) {
            timers.wake_by(time);
        }
        stats.handshake_done(negotiated.codec.clone(), Arc::clone(&info));
        Self {
            unread: !input.is_empty(),
            io: ConnectionIo::new(stream, input, &server.limits),
            timers,
            stats,
            memory: calls.memory().reserve(),
            inbox_bytes: 0,
            phase: Phase::Open,
            half_close: HalfClose::default(),
            goaway_received: false,
            output: Output::default(),
            turn: Turn::new(Arc::clone(&server.busy), info.peer_key()),
            draining: false,
            age,
            drain_signal,
            dispatcher: Dispatcher::new(
                CallEnv { calls, negotiated: Arc::new(negotiated), info, server },
                now,
            ),
        }
    }

    const fn env(&self) -> &CallEnv {
        &self.dispatcher.env
    }

    /// Does everything that can be done without waiting.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<End>> {
        for _ in 0..READS_PER_TURN {
            match self.phase {
                Phase::Open | Phase::Finishing | Phase::Flushing => {}
                Phase::Shutting(until) => {
                    ready!(self.io.poll_shutdown(cx))?;
                    if self.half_close.has_happened() {
                        return Poll::Ready(Ok(End::Finished));
                    }
                    self.phase = Phase::Lingering(until);
                    continue;
                }
                Phase::Lingering(_) => return self.io.poll_discard(cx).map_ok(|()| End::Finished),
            }
            if let Some(check_at) = self.output.take(cx, &self.dispatcher, &mut self.io, self.phase) {
                self.timers.wake_by(check_at);
            }
            if self.unread && !self.is_outbox_full() && !self.turn.is_over(self.dispatcher.now) {
                self.handle_input(Instant::now());
            }
            let flushed = self.io.poll_flush(cx, &mut self.timers)?.is_ready();
            if self.turn.is_over(self.dispatcher.now) {
                break;
            }
            if self.unread && (flushed || !self.is_outbox_full()) {
                continue;
            }
            // Not before all is with the kernel: what TLS still holds would be lost in the end.
            if flushed && self.is_done() {
                let until = Instant::now() + LINGER;
                self.phase = Phase::Shutting(until);
                self.timers.wake_by(until);
                continue;
            }
            let is_reading = !self.unread && !self.half_close.has_happened() && self.phase != Phase::Flushing;
            let most = self.turn.max_read();
            let read = if is_reading { self.io.poll_read(cx, most) } else { Poll::Pending };
            if read.is_pending() && flushed && self.output.items().wait() {
                continue;
            }
            if ready!(read)? {
                let now = Instant::now();
                self.timers.received(now);
                self.handle_input(now);
            } else if self.goaway_received {
                self.half_closed();
            } else {
                // Without a goaway, the callers have gone; behind one, they wait for responses.
                return Poll::Ready(Ok(End::Vanished));
            }
        }
        self.turn.wait(cx)
    }

    /// Notes that the peer has closed its half, and waits for its responses.
    fn half_closed(&mut self) {
        let limit = self.env().server.limits.half_close_timeout;
        if let Some(deadline) = self.half_close.note(limit) {
            self.timers.wake_by(deadline);
        }
    }

    /// Handles whole messages in the inbox, which have come by `now`, as far as the turn goes.
    #[inline]
    fn handle_input(&mut self, now: Instant) {
        self.unread = false;
        self.dispatcher.begin(now, self.turn.end(now));
        self.handle_messages();
        self.turn.end_at(self.dispatcher.turn_end);
    }

    /// The same, as long as the outbox has room, and no more than should wait for one write.
    fn handle_messages(&mut self) {
        let (mut handled, mut message) = (0, Message::default());
        while self.phase.is_serving() {
            if handled == MESSAGES_PER_WRITE || self.is_outbox_full() {
                self.unread = true;
                return self.timers.frame_finished();
            }
            match self.dispatcher.dispatch_usual(&mut self.io) {
                Ok(true) => {
                    handled += 1;
                    self.timers.frame_finished();
                    if self.dispatcher.now >= self.dispatcher.turn_end {
                        return self.unread = true;
                    }
                    continue;
                }
                Ok(false) => {}
                Err(error) => return self.fail(&error),
            }
            match self.dispatcher.next(&mut self.io.inbox, &mut message) {
                Ok(true) => {
                    if message.body.len() >= MIN_POOLED_BUFFER {
                        // Its bytes are the call's now, and are not counted for the buffer as well.
                        self.memory.resize(self.io.buffered_bytes());
                    }
                    handled += 1;
                    self.timers.frame_finished();
                    match self.dispatcher.dispatch(&mut message, &mut self.io) {
                        Ok(Dispatched::Continue) => {}
                        Ok(Dispatched::Finish) => {
                            (self.goaway_received, self.phase) = (true, Phase::Finishing);
                        }
                        Err(error) => return self.fail(&error),
                    }
                    if self.dispatcher.now >= self.dispatcher.turn_end {
                        return self.unread = true;
                    }
                }
                Ok(false) => return self.await_rest(),
                Err(error) => return self.fail(&error.into()),
            }
        }
        self.io.inbox.clear();
    }

    /// Sets a time limit for the rest of an incomplete message, and checks the memory that it needs.
    fn await_rest(&mut self) {
        if self.io.inbox.is_empty() {
            return;
        }
        self.timers.frame_started(self.dispatcher.now);
        // The buffer is counted at the end of each turn.
        let more = match self.io.inbox.wanted() {
            // What it has filled of memory that it has already.
            0 => self.io.inbox.held_beyond(self.inbox_bytes),
            wanted => (self.io.buffered_bytes() + wanted).saturating_sub(self.memory.bytes()),
        };
        if more == 0 {
            return;
        }
        let env = &self.dispatcher.env;
        let Err(status) = env.server.check_memory(&env.calls, more) else { return };
        match self.dispatcher.give_up(&status, &mut self.io.inbox, &mut self.io.outbox) {
            Ok(true) => {}
            Ok(false) => self.close_with(&Status::maybe(status.code, status.message)),
            Err(error) => self.fail(&error),
        }
    }

    /// Checks the timers when they are due.
    fn poll_timers(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        while self.timers.poll(cx).is_ready() {
            let now = Instant::now();
            if self.half_close.has_happened()
                && self.io.waiting() == 0
                && let Poll::Ready(Err(error)) = self.io.poll_probe(cx)
            {
                return Poll::Ready(End::Io(error));
            }
            let waiting = self.io.waiting();
            match self.check_timers(now) {
                Ok(next) => self.timers.set_next(next, now),
                Err(end) => return Poll::Ready(end),
            }
            if self.io.waiting() > waiting {
                // This turn's writing is over: messages of the timers are for the next.
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }

    /// Acts on deadlines that have passed, and returns the time of the next check.
    ///
    /// # Errors
    ///
    /// The reason why the connection ends.
    fn check_timers(&mut self, now: Instant) -> Result<Instant, End> {
        let (sent, waiting) = (self.io.sent, self.io.waiting());
        let mut next = match self.timers.check(now, sent, waiting) {
            Ok(next) => next,
            Err(Expired::Write) => return Err(End::Dead("it took too little of what waits for it")),
            Err(Expired::Frame(limit)) => {
                let message = format!("a message was not complete within {limit:?}");
                self.close_with(&Status::maybe(Code::DeadlineExceeded, message));
                // The message is no longer waited for.
                self.timers.check(now, sent, waiting).unwrap_or(now)
            }
        };
        match self.phase {
            Phase::Shutting(until) | Phase::Lingering(until) => {
                if now >= until {
                    return Err(End::Finished);
                }
                next = next.min(until);
            }
            Phase::Open | Phase::Finishing => {
                next = next.min(self.check_keep_alive(now)?).min(self.half_close.check(now, self.draining)?);
                next = next.min(self.check_age(now)).min(check_stalls(
                    self.dispatcher.streams.as_deref(),
                    &self.env().calls,
                    now,
                ));
                self.io.shrink();
                match self.timers.check_idle(now) {
                    Some(check_at) => next = next.min(check_at),
                    None => self.dispatcher.release_memory(&mut self.io),
                }
            }
            Phase::Flushing => {}
        }
        Ok(next)
    }

    /// Pings a silent peer, and returns the time of the next check.
    fn check_keep_alive(&mut self, now: Instant) -> Result<Instant, End> {
        // A peer that is not read from, or has closed its half, cannot be heard: its silence is excused.
        let is_excused = self.unread || self.half_close.has_happened();
        match self.timers.check_keep_alive(now, is_excused) {
            KeepAliveAction::Until(time) => Ok(time.into()),
            KeepAliveAction::Ping(time) => {
                self.dispatcher.push(&HeaderRef::new(Kind::Ping, Seq(1)), self.io.control());
                Ok(time.into())
            }
            KeepAliveAction::Dead => Err(End::Dead("it did not answer a ping")),
        }
    }

    /// Gives up a connection that has grown old, step by step, and returns the time of the next check.
    fn check_age(&mut self, now: Instant) -> Instant {
        loop {
            match self.age.check(now) {
                AgeAction::Until(time) => return time,
                AgeAction::Retire if self.draining => {}
                AgeAction::Retire => self.drain("the connection has reached its maximum age"),
                AgeAction::Cut => self.env().calls.drain_streams(),
            }
        }
    }

    /// Returns `true` if no request is handled before the peer has taken some of what waits for it: a lot does, or
    /// more than is guaranteed to it while its share of the memory is nearly used up. Even refusals would add to that.
    fn is_outbox_full(&self) -> bool {
        let waiting = self.io.waiting();
        waiting >= self.io.unasked && self.is_too_much(self.output.items().without(waiting))
    }

    fn is_too_much(&self, waiting: usize) -> bool {
        waiting >= self.env().server.limits.outbox_bytes
            || (waiting >= GUARANTEED_BYTES && self.env().calls.memory().is_scarce())
    }

    /// Returns `true` if the connection has finished what its phase asks for, and is to close.
    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Shutting(_) | Phase::Lingering(_) => false,
            Phase::Finishing => self.io.waiting() == 0 && self.env().calls.is_idle(),
            Phase::Flushing => self.io.waiting() == 0,
        }
    }

    /// Takes no more requests, finishes the calls in flight, closes.
    fn drain(&mut self, reason: &str) {
        self.draining = true;
        if let Some(signal) = &self.drain_signal {
            signal.send();
        }
        match self.phase {
            Phase::Open => self.phase = Phase::Finishing,
            // The host of a peer that is gone answers what is sent to it, and the next probe fails.
            Phase::Finishing if self.half_close.has_happened() => {
                self.timers.wake_by(later(Instant::now(), DRAIN_PROBE));
            }
            _ => return,
        }
        let status = Status::refused(Code::Unavailable, reason);
        self.dispatcher.goaway(&status, self.io.control());
    }

    /// Gives up what it holds for its peer, since others have no room. Returns `false` if the peer does
    /// not even read.
    fn shed(&mut self) -> bool {
        if self.io.waiting() > MAX_SHED_OUTBOX {
            return false;
        }
        let held = self.io.buffered_bytes();
        let message = format!("the server's buffers are full, and {held} bytes of them wait for this peer");
        self.close_with(&Status::maybe(Code::ResourceExhausted, message));
        true
    }

    /// Answers a peer that broke the protocol with a goaway, aborts its calls, closes.
    fn fail(&mut self, error: &ProtocolError) {
        debug!(peer = %self.env().info.peer, %error, "protocol error");
        self.close_with(&Status::maybe(error.code(), error.to_string()));
    }

    /// Aborts all calls, and ends their streams.
    fn close_calls(&self) {
        self.env().calls.close();
        if let Some(streams) = &self.dispatcher.streams {
            streams.close();
        }
    }

    fn close_with(&mut self, status: &Status) {
        self.dispatcher.env.calls.take_responses(&mut self.io.outbox);
        self.dispatcher.goaway(status, &mut self.io.outbox);
        self.close_calls();
        self.io.inbox.clear();
        self.unread = false;
        self.timers.frame_finished();
        self.phase = Phase::Flushing;
    }
}

impl Future for Connection {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        // Before anything is checked, or an event in between would wake no task.
        this.env().calls.register(cx.waker());
        let had_streams = this.dispatcher.streams.is_some();
        if let Some(streams) = &this.dispatcher.streams {
            streams.register(cx.waker());
        }
        match this.env().calls.signalled() {
            Signal::Drain if !this.draining => this.drain("the server is stopping"),
            Signal::Shed if this.phase.is_serving() && !this.shed() => return Poll::Ready(End::Shed),
            Signal::Run | Signal::Drain | Signal::Shed => {}
            Signal::Stop => return Poll::Ready(End::Stopped),
        }
        let handlers_wait = this.dispatcher.env.calls.begin_turn(this.turn.begin());
        let ended = match this.poll_io(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.unwrap_or_else(End::Io)),
            Poll::Pending => this.poll_timers(cx),
        };
        this.turn.note_end(this.dispatcher.now, !this.io.inbox.is_empty());
        if handlers_wait {
            let _: Poll<()> = this.turn.wait(cx);
        }
        if let Some(streams) = this.dispatcher.streams.as_ref().filter(|_| !had_streams) {
            register_created(streams, cx);
        }
        if this.env().calls.memory().is_scarce() {
            // It reads small pieces again, within what is guaranteed to it.
            this.io.inbox.shrink();
        }
        this.inbox_bytes = this.io.inbox.held_bytes();
        this.memory.resize(this.io.buffered_bytes());
        this.stats.publish_waiting(this.io.buffered_bytes());
        this.stats.publish(this.io.traffic(this.dispatcher.requests));
        ended
    }
}

impl Drop for Connection {
    /// Aborts the peer's calls, also if the task is dropped before the connection has ended.
    fn drop(&mut self) {
        self.close_calls();
    }
}
