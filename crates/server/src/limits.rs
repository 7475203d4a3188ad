//! [`Limits`]: what a server allows its clients, with defaults that hold under attack.

use std::time::Duration;

use farcall_protocol::limits::MAX_OPTION_BYTES;
use farcall_protocol::{KeepAlive, MaxFrameBytes, MaxInFlight};

/// The limits of a server. Setters that take an `Option` take a plain value, too; `None` is no
/// limit.
///
/// ```
/// use std::time::Duration;
/// use farcall_server::{Limits, Server};
///
/// let limits = Limits::default()
///     .max_connections(100)
///     .handle_timeout(Duration::from_secs(30))
///     .write_timeout(None);
/// let server = Server::builder().limits(limits).build()?;
/// # let _ = server;
/// # Ok::<(), farcall_server::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Limits {
    pub(crate) max_connections: Option<usize>,
    pub(crate) max_connections_per_peer: Option<usize>,
    pub(crate) handshake_timeout: Option<Duration>,
    pub(crate) max_frame_bytes: MaxFrameBytes,
    pub(crate) max_in_flight: MaxInFlight,
    pub(crate) max_in_flight_in_all: Option<usize>,
    pub(crate) handle_timeout: Option<Duration>,
    pub(crate) frame_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) outbox_bytes: usize,
    pub(crate) buffered_bytes: Option<usize>,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) deregister_pause: Duration,
    pub(crate) drain_timeout: Option<Duration>,
    pub(crate) slow_call: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: Some(65_536),
            max_connections_per_peer: Some(8_192),
            handshake_timeout: Some(Duration::from_secs(10)),
            max_frame_bytes: MaxFrameBytes::DEFAULT,
            max_in_flight: MaxInFlight::DEFAULT,
            max_in_flight_in_all: Some(65_536),
            handle_timeout: None,
            frame_timeout: Some(Duration::from_secs(30)),
            write_timeout: Some(Duration::from_secs(30)),
            outbox_bytes: 4 * 1024 * 1024,
            buffered_bytes: Some(1024 * 1024 * 1024),
            keep_alive: KeepAlive::default(),
            deregister_pause: Duration::from_millis(250),
            drain_timeout: Some(Duration::from_secs(30)),
            slow_call: Some(Duration::from_millis(100)),
        }
    }
}

impl Limits {
    /// Sets the maximum number of connections. Default 65,536. Further ones are refused in the
    /// handshake. Too high, and the process runs out of file descriptors first, which it survives: it
    /// accepts again as soon as others close.
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = connections.into();
        self
    }

    /// Sets the maximum number of connections from one IP address. Default 8,192, since a proxy looks
    /// like one peer. Peers over Unix sockets are not counted.
    pub fn max_connections_per_peer(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections_per_peer = connections.into();
        self
    }

    /// Sets the time for a whole handshake, from accepting on. Default 10 s. Too low, and clients far
    /// away or behind TLS do not get in; too high, and silent connections are held as long.
    pub fn handshake_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.handshake_timeout = limit.into();
        self
    }

    /// Sets the size of the largest frame that is accepted, in bytes. Default 4 MiB. It bounds
    /// arguments, and, as clients state theirs, results.
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.max_frame_bytes = MaxFrameBytes::new(bytes);
        self
    }

    /// Sets the maximum number of calls in flight on one connection. Default 1,024. Clients queue
    /// further calls; a call beyond the limit is refused with `resource_exhausted`.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = MaxInFlight::new(calls);
        self
    }

    /// Sets the maximum number of calls in flight on all connections. Default 65,536. Further ones
    /// are refused with `resource_exhausted`. Calls that end in their first poll are not counted, here
    /// and in [`Limits::max_in_flight`]: they hold nothing.
    pub fn max_in_flight_in_all(mut self, calls: impl Into<Option<usize>>) -> Self {
        self.max_in_flight_in_all = calls.into();
        self
    }

    /// Sets the maximum time of a handler, at least 1 ms. Default: no limit but the caller's deadline.
    /// A handler is stopped where it awaits: one that blocks its thread runs to its end.
    pub fn handle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        // Zero would mean "no limit" on the wire.
        self.handle_timeout = limit.into().map(|limit| limit.max(Duration::from_millis(1)));
        self
    }

    /// Sets the time to complete a message once its first byte has come. Default 30 s. Too low, and
    /// large arguments over slow links do not arrive; too high, and incomplete messages hold their
    /// buffers as long.
    pub fn frame_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.frame_timeout = limit.into();
        self
    }

    /// Sets how long a peer may take nothing of what waits for it before its connection is closed.
    /// Default 30 s. Too low, and a client that pauses is disconnected; too high, and its responses
    /// are kept as long.
    pub fn write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = limit.into();
        self
    }

    /// Sets how many bytes may wait for one peer before nothing more is read from it. Default 4 MiB,
    /// at least 1. Responses to calls that were started already are kept beyond it.
    pub const fn outbox_bytes(mut self, bytes: usize) -> Self {
        // With room for nothing, nothing would ever be read.
        self.outbox_bytes = if bytes == 0 { 1 } else { bytes };
        self
    }

    /// Sets the maximum size of the buffers of all connections together, in bytes: what is being
    /// read, the bodies of calls in flight, what waits to be sent. Default 1 GiB. Beyond it, calls are
    /// refused, responses replaced, and connections that start a large message closed, with
    /// `resource_exhausted`. Memory that handlers allocate is not counted.
    pub fn buffered_bytes(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.buffered_bytes = bytes.into();
        self
    }

    /// Sets when a silent peer is pinged, and when it is given up. Default 10 s and 5 s.
    pub const fn keep_alive(mut self, times: KeepAlive) -> Self {
        self.keep_alive = times;
        self
    }

    /// Sets how long a server keeps serving once it is deregistered, so that clients which watch the
    /// registry see that it goes before it refuses them. Default 250 ms. Too low, and they dial a
    /// server that turns them away, and have to try another; too high, and every stop takes as long.
    /// Servers that were not registered do not wait.
    pub const fn deregister_pause(mut self, pause: Duration) -> Self {
        self.deregister_pause = pause;
        self
    }

    /// Sets how long calls may continue when the server stops. Default 30 s. Calls that have not ended
    /// by then are stopped and answered `cancelled`; 2 s later all connections are closed. Handlers
    /// that wait for something can end earlier: see
    /// [`Context::draining`](farcall_context::Context::draining).
    pub fn drain_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.drain_timeout = limit.into();
        self
    }

    /// Sets the latency from which on a call is listed among the [slow ones](crate::Overview::slow).
    /// Default 100 ms. Too low, and those that matter are pushed out of the list by others; too high,
    /// or `None`, and it stays empty.
    pub fn slow_call(mut self, latency: impl Into<Option<Duration>>) -> Self {
        self.slow_call = latency.into();
        self
    }
}

/// The size of a connection's buffer during the handshake, in bytes.
pub(crate) const HANDSHAKE_BUFFER: usize = MAX_OPTION_BYTES;
/// The size that a busy connection's read buffer may always have, in bytes.
pub(crate) const MAX_IDLE_BUFFER: usize = 64 * 1024;
/// Reads of one connection in a row before it lets other tasks run.
pub(crate) const READS_PER_TURN: usize = 8;
/// The time that a connection works before it lets other tasks run, whatever its messages are: about that of the
/// messages of [`READS_PER_TURN`] reads if they are small and quick.
pub(crate) const MAX_TURN: Duration = Duration::from_micros(200);
/// The calls of a connection that must have ended on its task before its first slow one is taken for short.
pub(crate) const MIN_SHORT_CALLS: u64 = 16;
/// The size of a body from which on it is compressed and decompressed on the threads for slow handlers, in bytes.
pub(crate) const MIN_OFFLOADED_COMPRESSION: usize = 64 * 1024;
/// The size of a message's header from which on the time of decoding it is measured, in bytes. It is the connection's,
/// and not the method's.
pub(crate) const MIN_TIMED_HEADER: usize = 512;
/// Messages that are handled before their responses are written, even if more have been read: the
/// client works on those while the server continues. Fewer mean more writes, more mean two processes
/// that wait for each other in turn: 64 calls in flight were a fifth slower with all in one write.
pub(crate) const MESSAGES_PER_WRITE: usize = 16;
/// The time for which input is discarded after the last response, so that closing does not destroy it
/// on its way: a kernel that holds unread input answers a close with a reset.
pub(crate) const LINGER: Duration = Duration::from_secs(1);
