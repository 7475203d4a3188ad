//! What a server allows its clients, with defaults that hold under attack.

use std::time::Duration;

use farcall_protocol::limits::MAX_OPTION_BYTES;
use farcall_protocol::{KeepAlive, MaxFrameBytes, MaxInFlight};
use tokio::time::Instant;

/// The limits of a server. A time of `Duration::MAX` means never.
///
/// ```
/// use std::time::Duration;
/// use farcall_server::Limits;
///
/// let limits = Limits::default().max_connections(100).handle_timeout(Duration::from_secs(30));
/// # let _ = limits;
/// ```
#[derive(Clone, Debug)]
pub struct Limits {
    pub(crate) max_connections: usize,
    pub(crate) max_connections_per_peer: usize,
    pub(crate) handshake_timeout: Duration,
    pub(crate) max_frame_bytes: MaxFrameBytes,
    pub(crate) max_in_flight: MaxInFlight,
    pub(crate) max_in_flight_in_all: usize,
    pub(crate) handle_timeout: Option<Duration>,
    pub(crate) frame_timeout: Duration,
    pub(crate) write_timeout: Duration,
    pub(crate) outbox_bytes: usize,
    pub(crate) buffered_bytes: usize,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) deregister_pause: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) slow_call: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 65_536,
            max_connections_per_peer: 8_192,
            handshake_timeout: Duration::from_secs(10),
            max_frame_bytes: MaxFrameBytes::DEFAULT,
            max_in_flight: MaxInFlight::DEFAULT,
            max_in_flight_in_all: 65_536,
            handle_timeout: None,
            frame_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            outbox_bytes: 4 * 1024 * 1024,
            buffered_bytes: 1024 * 1024 * 1024,
            keep_alive: KeepAlive::default(),
            deregister_pause: Duration::from_millis(250),
            drain_timeout: Duration::from_secs(30),
            slow_call: Duration::from_millis(100),
        }
    }
}

impl Limits {
    /// Connections in all. Default 65,536. One more is told so in the handshake and closed. Too
    /// high, and the process runs out of file descriptors first, which it survives: it accepts
    /// again as soon as others close.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Connections from one IP address. Default 8,192, since a proxy looks like one peer. Peers
    /// over unix sockets are not counted.
    #[must_use]
    pub const fn max_connections_per_peer(mut self, connections: usize) -> Self {
        self.max_connections_per_peer = connections;
        self
    }

    /// The time for a whole handshake, from accepting on. Default 10 s. Too low, and clients far
    /// away or behind TLS do not get in; too high, and silent connections are held as long.
    #[must_use]
    pub const fn handshake_timeout(mut self, limit: Duration) -> Self {
        self.handshake_timeout = limit;
        self
    }

    /// The largest frame that is accepted, in bytes. Default 4 MiB. It bounds arguments, and, by
    /// what clients state, results.
    #[must_use]
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.max_frame_bytes = MaxFrameBytes::new(bytes);
        self
    }

    /// Calls at once on one connection. Default 1,024. Clients wait for a place; one that does
    /// not is refused with `resource_exhausted`.
    #[must_use]
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = MaxInFlight::new(calls);
        self
    }

    /// Calls at once in all. Default 65,536. One more is refused with `resource_exhausted`. Calls
    /// that end in their first poll are not counted, here and above: they hold nothing.
    #[must_use]
    pub const fn max_in_flight_in_all(mut self, calls: usize) -> Self {
        self.max_in_flight_in_all = calls;
        self
    }

    /// The longest a handler may run. Default: no limit but the caller's own. Zero means none. A
    /// handler is stopped where it awaits: one that blocks its thread ends when it ends.
    #[must_use]
    pub fn handle_timeout(mut self, limit: Duration) -> Self {
        self.handle_timeout = (!limit.is_zero()).then_some(limit);
        self
    }

    /// The time to finish a message once its first byte is there. Default 30 s. Too low, and
    /// large arguments over slow links do not arrive; too high, and half messages hold their
    /// buffers as long.
    #[must_use]
    pub const fn frame_timeout(mut self, limit: Duration) -> Self {
        self.frame_timeout = limit;
        self
    }

    /// How long a peer may take nothing of what waits for it before the connection is closed.
    /// Default 30 s. Too low, and a client that pauses is thrown out; too high, and its answers
    /// are kept as long.
    #[must_use]
    pub const fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// Bytes that may wait for one peer before nothing more is read from it. Default 4 MiB.
    /// Answers to calls that were begun already are kept beyond it. At least 1.
    #[must_use]
    pub const fn outbox_bytes(mut self, bytes: usize) -> Self {
        // With room for nothing, nothing would ever be read.
        self.outbox_bytes = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// Bytes in the buffers of all connections together: what is being read, the bodies of calls
    /// in flight, what waits to be sent. Default 1 GiB. Past it, calls are refused, answers
    /// replaced, and connections that begin a large message closed, with `resource_exhausted`.
    /// What handlers make of their arguments is theirs and not counted.
    #[must_use]
    pub const fn buffered_bytes(mut self, bytes: usize) -> Self {
        self.buffered_bytes = bytes;
        self
    }

    /// When to ping a silent peer, and when to give it up. Default 10 s and 5 s.
    #[must_use]
    pub const fn keep_alive(mut self, times: KeepAlive) -> Self {
        self.keep_alive = times;
        self
    }

    /// How long a server that was registered goes on as before once it is no longer, so that clients
    /// which watch the registry see that it goes before it says so. Default 250 ms. Too low, and
    /// they dial a server that turns them away, and have to try another; too high, and every stop
    /// takes as long. Servers that were not registered do not wait.
    #[must_use]
    pub const fn deregister_pause(mut self, pause: Duration) -> Self {
        self.deregister_pause = pause;
        self
    }

    /// How long calls may go on when the server stops. Default 30 s. What has not ended by then
    /// is stopped and answered `cancelled`; 2 s later all connections are closed.
    #[must_use]
    pub const fn drain_timeout(mut self, limit: Duration) -> Self {
        self.drain_timeout = limit;
        self
    }

    /// From how long on a call counts as slow, and is listed among the
    /// [slow ones](crate::Overview::slow). Default 100 ms. Too low, and those that matter are pushed
    /// out of the list by others; too high, and it stays empty.
    #[must_use]
    pub const fn slow_call(mut self, latency: Duration) -> Self {
        self.slow_call = latency;
        self
    }
}

/// What a connection reads into before it knows how much it will need, in bytes.
pub(crate) const FIRST_READ: usize = MAX_OPTION_BYTES;
/// What a busy connection may always read into, in bytes.
pub(crate) const MOST_READ: usize = 64 * 1024;
/// Reads of one connection in a row before it lets others go on.
pub(crate) const READS_PER_TURN: usize = 8;
/// Messages that are handled before their answers are written, though more have been read: the
/// client works on those while the server goes on. Fewer are more writes, more are two processes
/// that wait for each other in turn: 64 calls in flight were a fifth slower with all in one write.
pub(crate) const MESSAGES_PER_WRITE: usize = 16;
/// How long input is discarded after the last answer, so that closing does not destroy it on its
/// way: a kernel that holds unread input answers a close with a reset.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// The time `limit` after `now`. `Duration::MAX`, by which one may say "never", is no overflow.
pub(crate) fn after(now: Instant, limit: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now + if limit < NEVER { limit } else { NEVER }
}
