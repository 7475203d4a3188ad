//! One connection: its state, its phases, and its end. What is due by the clock, the reading and
//! writing, and the requests have rooms of their own; so have its calls.
//!
//! A single task owns all of it. Calls that need more than one poll run in tasks of their own and
//! leave their answers in [`Calls`], from where this task takes many at a time.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use farcall_context::ConnectionInfo;
use farcall_protocol::{
    Body, Code, HeaderRef, Inbox, KeepAliveTimer, Kind, MessageDecoder, Negotiated, Outbox, ProtocolError,
    ServerSession, Status,
};
use farcall_transport::{BufferPool, Stream};
use tokio::time::{Instant, Sleep, sleep_until};
use tracing::debug;

use self::stats::{Facts, Traffic};
use crate::call::Home;
use crate::call::in_flight::{Calls, Signal};
use crate::limits::after;
use crate::memory_budget::Held;
use crate::server::state::Core;

mod dispatch;
pub(crate) mod handshake;
mod io;
pub(crate) mod stats;
mod timers;

/// A connection after its handshake. It is a future that ends when the connection does.
pub(crate) struct Connection {
    stream: Stream,
    input: Inbox<BufferPool>,
    /// Whether the peer has closed its half.
    eof: bool,
    /// Whether the peer has said goaway, so that closing its half does not mean that it is gone.
    goodbye: bool,
    /// Whether `input` may hold a whole message that waits for room in the outbox.
    unread: bool,
    /// Bounded by `outbox_bytes`, beyond which no request is taken, and by the answers to those
    /// that were.
    outbox: Outbox,
    decoder: MessageDecoder,
    session: ServerSession,
    home: Home,
    facts: Arc<Facts>,
    /// What has passed by now; shown in `facts` once a turn.
    traffic: Traffic,
    held: Held,
    phase: Phase,
    silence: KeepAliveTimer,
    /// When the message that is read now was begun. None while it is this side that does not
    /// read.
    frame_begun: Option<Instant>,
    /// Since when the peer takes nothing.
    write_stalled: Option<Instant>,
    /// Whether this task let others go first since it found answers to send.
    yielded: bool,
    timer: Pin<Box<Sleep>>,
}

/// How far a connection is on its way to its end. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are taken.
    Open,
    /// What runs is finished and answered; then it closes.
    Finishing,
    /// What is in the outbox is sent; then it closes.
    Flushing,
    /// Nothing more is sent; the sending side is being shut, until this time at most.
    Shutting(Instant),
    /// Input is discarded until the peer has closed, or this time: closing earlier could destroy
    /// the last answers on their way.
    Lingering(Instant),
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// Both sides were done with it.
    Finished,
    /// The peer closed without a goodbye.
    Vanished,
    /// The peer was silent, or took nothing, for too long.
    Dead(&'static str),
    /// The server was stopped.
    Stopped,
    /// Reading or writing failed.
    Io(std::io::Error),
}

impl Connection {
    pub(crate) fn new(
        stream: Stream,
        input: BytesMut,
        negotiated: Negotiated,
        info: ConnectionInfo,
        calls: Arc<Calls>,
        facts: Arc<Facts>,
        core: Arc<Core>,
    ) -> Self {
        let now = Instant::now();
        let info = Arc::new(info);
        // Nobody else sets it: a place is one connection's.
        let _ = facts.shaken.set((negotiated.codec.clone(), Arc::clone(&info)));
        Self {
            stream,
            unread: !input.is_empty(),
            input: Inbox::with_source(input, BufferPool),
            eof: false,
            goodbye: false,
            outbox: Outbox::new(),
            decoder: MessageDecoder::new(negotiated.codec.clone(), negotiated.receive_limit),
            session: ServerSession::new(),
            facts,
            traffic: Traffic::default(),
            held: core.budget.hold(0),
            phase: Phase::Open,
            silence: KeepAliveTimer::new(core.limits.keep_alive, now.into_std()),
            frame_begun: None,
            write_stalled: None,
            yielded: false,
            timer: Box::pin(sleep_until(after(now, core.limits.keep_alive.idle))),
            home: Home { calls, negotiated: Arc::new(negotiated), info, core },
        }
    }

    fn is_outbox_full(&self) -> bool {
        self.outbox.remaining() >= self.home.core.limits.outbox_bytes
    }

    /// Whether what is asked of this connection, or its peer's goodbye, has been done.
    fn is_done(&self) -> bool {
        match self.phase {
            Phase::Open | Phase::Shutting(_) | Phase::Lingering(_) => false,
            Phase::Finishing => !self.outbox.has_remaining() && self.home.calls.is_idle(),
            Phase::Flushing => !self.outbox.has_remaining(),
        }
    }

    fn push(&mut self, header: &HeaderRef<'_>) {
        let negotiated = &self.home.negotiated;
        // A header without text fits any limit that a handshake lets through; a goaway whose
        // sentence does not is sent without it.
        if self.outbox.push(&negotiated.codec, header, &Body::default(), negotiated.send_limit).is_err() {
            let bare = HeaderRef::new(header.kind, header.seq);
            let _ = self.outbox.push(&negotiated.codec, &bare, &Body::default(), negotiated.send_limit);
        }
    }

    fn goaway(&mut self, status: &Status) {
        let seq = self.session.goaway();
        self.push(&HeaderRef { error: Some(status), ..HeaderRef::new(Kind::Goaway, seq) });
    }

    /// Takes no more requests, finishes what runs, closes.
    fn drain(&mut self) {
        self.goaway(&Status::refused(Code::Unavailable, "the server is stopping"));
        self.phase = Phase::Finishing;
    }

    /// The peer broke the protocol: says so, cuts what is in flight, closes.
    fn fail(&mut self, error: &ProtocolError) {
        debug!(peer = %self.home.info.peer, %error, "protocol error");
        self.close_with(&Status::maybe(error.code(), error.to_string()));
    }

    fn close_with(&mut self, status: &Status) {
        self.home.calls.take_answers(&mut self.outbox);
        self.goaway(status);
        self.home.calls.close();
        self.input.clear();
        self.unread = false;
        self.frame_begun = None;
        self.phase = Phase::Flushing;
    }
}

impl Future for Connection {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        // Before anything is looked at, or what comes in between would wake nobody.
        this.home.calls.register(cx.waker());
        match this.home.calls.signalled() {
            Signal::Drain if this.phase == Phase::Open => this.drain(),
            Signal::None | Signal::Drain => {}
            Signal::Stop => return Poll::Ready(End::Stopped),
        }
        let ended = match this.poll_io(cx) {
            Poll::Ready(ended) => Poll::Ready(ended.unwrap_or_else(End::Io)),
            Poll::Pending => this.poll_timer(cx),
        };
        this.held.set(this.outbox.remaining() + this.input.capacity());
        this.facts.show(this.traffic);
        ended
    }
}

impl Drop for Connection {
    /// Stops what still runs for this peer: also where the task is dropped rather than ended.
    fn drop(&mut self) {
        self.home.calls.close();
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Vanished => f.write_str("it closed without a goodbye"),
            Self::Dead(why) => f.write_str(why),
            Self::Stopped => f.write_str("the server was stopped"),
            Self::Io(error) => error.fmt(f),
        }
    }
}
