//! [`Limits`]: what a server allows its clients, with defaults that hold under attack.

use std::time::Duration;

use farcall_protocol::limits::MAX_OPTION_BYTES;
use farcall_protocol::stream::MAX_BUFFERED_ITEMS;
use farcall_protocol::{KeepAlive, MaxFrameBytes, MaxInFlight, MaxStreams, StreamWindow};
use farcall_transport::SendBuffer;

use crate::memory_budget::MemoryLimits;

/// The limits of a server. Setters that take an `Option` take a plain value, too; `None` is no
/// limit. A server with a limit of zero that would keep every client out is not built:
/// [`BuildError::ZeroLimit`](crate::BuildError::ZeroLimit) names it.
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
    max_in_flight_per_peer: Share,
    pub(crate) handle_timeout: Option<Duration>,
    pub(crate) frame_timeout: Option<Duration>,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) outbox_bytes: usize,
    pub(crate) local_send_buffer: SendBuffer,
    pub(crate) buffered_bytes: Option<usize>,
    buffered_bytes_per_peer: Share,
    buffered_bytes_per_connection: Share,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) half_close_timeout: Option<Duration>,
    pub(crate) deregister_pause: Duration,
    pub(crate) drain_timeout: Option<Duration>,
    pub(crate) slow_call: Option<Duration>,
    pub(crate) max_streams: MaxStreams,
    pub(crate) stream_window: StreamWindow,
    pub(crate) max_stream_window: StreamWindow,
    pub(crate) max_stream_growth: usize,
    pub(crate) stream_stall: Option<Duration>,
    pub(crate) max_connection_age: Option<Duration>,
    pub(crate) connection_age_grace: Option<Duration>,
    pub(crate) adaptive: bool,
}

/// A part of what a limit allows all together.
#[derive(Clone, Copy, Debug)]
enum Share {
    /// This part of it, as a divisor.
    Part(usize),
    /// As set, or no limit.
    Set(Option<usize>),
}

impl Share {
    /// Returns the share of `in_all`, at least `min`.
    fn of(self, in_all: Option<usize>, min: usize) -> Option<usize> {
        match self {
            Self::Part(divisor) => in_all.map(|in_all| (in_all / divisor).max(min).min(in_all)),
            Self::Set(limit) => limit,
        }
    }
}

/// The part of the calls in flight that one peer may have, as a divisor: half, since all clients
/// behind a proxy are one peer.
const CALLS_PER_PEER: usize = 2;
/// The part of the buffers that one peer may hold, as a divisor.
const BYTES_PER_PEER: usize = 4;
/// The part of the buffers that one connection may hold, as a divisor.
const BYTES_PER_CONNECTION: usize = 8;
/// The messages of the largest size that any share has room for.
const MIN_FRAMES_PER_SHARE: usize = 4;
/// The most calls in flight that are guaranteed to each connection, whatever the others do. Together
/// they may exceed the limit in all by this for each connection.
const MAX_GUARANTEED_CALLS: usize = 4;
/// The part of the calls in flight up to which they are guaranteed to one connection, as a divisor:
/// a server with a small limit means it.
const GUARANTEED_CALLS_PART: usize = 256;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: Some(65_536),
            max_connections_per_peer: Some(8_192),
            handshake_timeout: Some(Duration::from_secs(10)),
            max_frame_bytes: MaxFrameBytes::DEFAULT,
            max_in_flight: MaxInFlight::DEFAULT,
            max_in_flight_in_all: Some(65_536),
            max_in_flight_per_peer: Share::Part(CALLS_PER_PEER),
            handle_timeout: None,
            frame_timeout: Some(Duration::from_secs(30)),
            write_timeout: Some(Duration::from_secs(30)),
            outbox_bytes: 4 * 1024 * 1024,
            local_send_buffer: SendBuffer::default(),
            buffered_bytes: Some(1024 * 1024 * 1024),
            buffered_bytes_per_peer: Share::Part(BYTES_PER_PEER),
            buffered_bytes_per_connection: Share::Part(BYTES_PER_CONNECTION),
            keep_alive: KeepAlive::default(),
            half_close_timeout: Some(Duration::from_secs(120)),
            deregister_pause: Duration::from_millis(250),
            drain_timeout: Some(Duration::from_secs(30)),
            slow_call: Some(Duration::from_millis(100)),
            max_streams: MaxStreams::DEFAULT,
            stream_window: StreamWindow::DEFAULT,
            max_stream_window: StreamWindow::new(4 * 1024 * 1024),
            max_stream_growth: 16 * 1024 * 1024,
            stream_stall: Some(Duration::from_secs(60)),
            max_connection_age: None,
            connection_age_grace: Some(Duration::from_secs(30)),
            adaptive: false,
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

    /// Sets the maximum number of connections of one peer: of an IPv4 address, an IPv6 network of 64 bits, or, over Unix
    /// sockets, a user of this machine ([`PeerKey`](farcall_transport::PeerKey)). Default 8,192, since a proxy looks like one
    /// peer. Those without an address ([`PeerAddress::Memory`](farcall_transport::PeerAddress::Memory)) are not counted.
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
    ///
    /// Of the last quarter of it, each connection gets no more than its share: that of its peer, among the peers with calls in
    /// flight, divided by the peer's connections. So others are served although a few clients have many calls.
    ///
    /// A 256th of it, at least 1 and at most 4 calls, is guaranteed to each connection in addition: so
    /// that others are served although a few clients occupy all places.
    pub fn max_in_flight_in_all(mut self, calls: impl Into<Option<usize>>) -> Self {
        self.max_in_flight_in_all = calls.into();
        self
    }

    /// Sets the maximum number of calls in flight on all connections of one peer, as
    /// [`Limits::max_connections_per_peer`] counts it. Default: half of [`Limits::max_in_flight_in_all`], since a proxy looks
    /// like one peer. Too high, and one client can take the places of all others; too low, and clients behind a proxy are
    /// refused.
    pub fn max_in_flight_per_peer(mut self, calls: impl Into<Option<usize>>) -> Self {
        self.max_in_flight_per_peer = Share::Set(calls.into());
        self
    }

    /// Has the server find out by itself how many calls may run at once, and keep what it answers quick when more come than it
    /// can work on. Default: off, and all calls start up to the other limits.
    ///
    /// The limit follows the latencies of handlers: it rises while calls that wait for a place find others as quick as without
    /// load, and falls if they are slower. Calls past it wait, for half of the usual latency in overload, the newest first, and
    /// callers take turns; then they are refused with `resource_exhausted` and `farcall-retry-after-ms`. By their
    /// [`Criticality`](farcall_protocol::Criticality), sheddable calls are refused first and critical ones last. A call whose deadline is
    /// nearer than the shortest of its method's last calls took is refused before it starts.
    ///
    /// A call is identified by the name of its caller's identity, else by its connection. Calls of methods that end in their first
    /// poll are not limited, and neither are streaming calls; the other limits remain. `docs/OVERLOAD.md` has the control law and figures.
    pub const fn adaptive(mut self) -> Self {
        self.adaptive = true;
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

    /// Sets the time in which a peer must take some of what waits for it, or its connection is closed:
    /// a 32nd of the most that has waited, and at least 8 KiB. So a slow reader has taken all after 32
    /// such times. Default 30 s. Too low, and a client that pauses is disconnected; too high, and its
    /// responses are kept longer.
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

    /// Sets the size of the kernel's send buffer for TCP connections from the server's own machine. Default: 256 KiB, and 1 MiB
    /// while messages are large; see [`SendBuffer`]. The bytes in it are counted by no limit.
    pub const fn local_send_buffer(mut self, size: SendBuffer) -> Self {
        self.local_send_buffer = size;
        self
    }

    /// Sets the maximum size of the buffers of all connections together, in bytes: what was read of
    /// incomplete messages, the metadata and twice the bodies of calls in flight (once for what is
    /// decoded from them), what waits to be sent. Default 1 GiB. Beyond it, calls are refused, and
    /// responses replaced, with `resource_exhausted`; a connection that holds many times more than
    /// what there is no room for, and waits for its peer, is closed. What handlers allocate otherwise
    /// is not counted.
    ///
    /// 24 KiB are guaranteed to each connection in addition: so that small calls are served although
    /// others hold all the rest.
    pub fn buffered_bytes(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.buffered_bytes = bytes.into();
        self
    }

    /// Sets the share of [`Limits::buffered_bytes`] that all connections of one peer, as
    /// [`Limits::max_connections_per_peer`] counts it, may hold together, in bytes. Default: a quarter of it, at least 4
    /// messages of [`Limits::max_frame_bytes`]. Too high, and one client can take the memory of all others; too low, and large
    /// calls of clients behind a proxy are refused.
    pub fn buffered_bytes_per_peer(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.buffered_bytes_per_peer = Share::Set(bytes.into());
        self
    }

    /// Sets the share of [`Limits::buffered_bytes`] that one connection may hold, in bytes. Default: an
    /// eighth of it, at least 4 messages of [`Limits::max_frame_bytes`]. Too high, and one client can
    /// take the memory of others of its peer; too low, and its large calls at the same time are
    /// refused.
    pub fn buffered_bytes_per_connection(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.buffered_bytes_per_connection = Share::Set(bytes.into());
        self
    }

    /// Sets when a silent peer is pinged, and when it is given up. Default 10 s and 5 s.
    pub const fn keep_alive(mut self, times: KeepAlive) -> Self {
        self.keep_alive = times;
        self
    }

    /// Sets how long the calls of a client may go on once it has closed its half of the stream, which
    /// it may after a goaway. Default 2 minutes. It cannot answer pings any more: that its host
    /// has given it up is noticed, but not that it hangs. Too low, and it misses the last responses;
    /// too high, and the calls of one that is gone occupy the server as long.
    pub fn half_close_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.half_close_timeout = limit.into();
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

    /// Sets the maximum number of streaming calls in flight on one connection, in addition to
    /// [`Limits::max_in_flight`] others. Default 256. Further ones are refused with `resource_exhausted`. Each
    /// counts for [`Limits::max_in_flight_in_all`], too. Calls that came over no connection, such as those of the HTTP
    /// gateway, are counted by the peer that they came from.
    pub fn max_streams(mut self, calls: usize) -> Self {
        self.max_streams = MaxStreams::new(calls);
        self
    }

    /// Sets the window of each stream of items that callers send, in bytes: what a caller may send
    /// before the handler has taken some of it, and one item more. Default 64 KiB. It is reserved in
    /// [`Limits::buffered_bytes`] for each call of a method that takes items. Too low, and callers far away wait for credit
    /// until windows have grown; too high, and streams whose handlers stand still fill the buffers.
    pub fn stream_window(mut self, bytes: usize) -> Self {
        self.stream_window = StreamWindow::new(bytes);
        self
    }

    /// Sets the size up to which the window of a stream may grow, in bytes. Default 4 MiB. It grows if its sender had
    /// to wait although the handler had taken everything, and shrinks after 10 s in which no sender had to. Beyond 1 MiB it doubles
    /// only if the last window was consumed within twice the delay of the path, or within 1 ms. Too
    /// low, and streams from far away are slow. A value below [`Limits::stream_window`] has no effect.
    pub fn max_stream_window(mut self, bytes: usize) -> Self {
        self.max_stream_window = StreamWindow::new(bytes);
        self
    }

    /// Sets by how many bytes the windows of one connection together may grow. Default 16 MiB. Too high, and one
    /// connection may fill its share of [`Limits::buffered_bytes`].
    pub const fn max_stream_growth(mut self, bytes: usize) -> Self {
        self.max_stream_growth = bytes;
        self
    }

    /// Sets how long an item that a handler sends may wait for the caller's credit. Default 60 s. Then the call is
    /// stopped, and answered `resource_exhausted`. Too low, and callers that pause lose their streams; too high, or
    /// `None`, and those that take nothing occupy the server as long.
    pub fn stream_stall(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.stream_stall = limit.into();
        self
    }

    /// Sets the age from which on a connection takes no further calls: clients then connect again, also to other
    /// servers, so that long streams are spread again. Default: no limit. A tenth of it, at random, is added or
    /// subtracted, so that not all connections end at once. Calls in flight continue; see
    /// [`Limits::connection_age_grace`]. Too low, and clients connect all the time; lower than the time that a
    /// request takes to arrive, and it is refused on each connection.
    pub fn max_connection_age(mut self, age: impl Into<Option<Duration>>) -> Self {
        self.max_connection_age = age.into();
        self
    }

    /// Sets how long streaming calls may continue on a connection that has reached
    /// [`Limits::max_connection_age`]. Default 30 s. What is left then is stopped, and answered `unavailable`, with metadata
    /// that tells the caller to go on elsewhere. Handlers that wait for something can end earlier: see
    /// [`Context::draining`](farcall_context::Context::draining). `None` waits for their own ends.
    pub fn connection_age_grace(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.connection_age_grace = limit.into();
        self
    }

    /// Returns the limits of memory.
    pub(crate) fn memory(&self) -> MemoryLimits {
        let min = self.max_frame_bytes.get().saturating_mul(MIN_FRAMES_PER_SHARE);
        let share = |share: Share| share.of(self.buffered_bytes, min).unwrap_or(usize::MAX);
        MemoryLimits {
            in_all: self.buffered_bytes.unwrap_or(usize::MAX),
            per_peer: share(self.buffered_bytes_per_peer),
            per_connection: share(self.buffered_bytes_per_connection),
        }
    }

    /// Returns the limit of calls in flight of one peer, if there is one.
    pub(crate) fn calls_per_peer(&self) -> Option<usize> {
        self.max_in_flight_per_peer.of(self.max_in_flight_in_all, 1)
    }

    /// Returns the number of calls in flight that are guaranteed to each connection.
    pub(crate) fn guaranteed_calls(&self) -> usize {
        let part = self.max_in_flight_in_all.unwrap_or(usize::MAX) / GUARANTEED_CALLS_PART;
        part.clamp(1, MAX_GUARANTEED_CALLS)
    }
}

/// The size of a connection's buffer during the handshake, in bytes.
pub(crate) const HANDSHAKE_BUFFER: usize = MAX_OPTION_BYTES;
/// The least that a peer must take within `write_timeout` if so much waits for it, in bytes: one that
/// takes a byte now and then would hold everything without end.
pub(crate) const MIN_TAKEN: usize = 8 * 1024;
/// The part of the most that has waited for a peer which it must take within `write_timeout`, as a
/// divisor: the number of such times in which it has taken all.
pub(crate) const MIN_TAKEN_PART: usize = 32;
/// The time between probes of peers that have closed their half, while the server stops.
pub(crate) const DRAIN_PROBE: Duration = Duration::from_secs(1);
/// A connection that is to give up what it holds sends a goaway behind this much, in bytes, and is cut
/// off behind more: the peer does not read.
pub(crate) const MAX_SHED_OUTBOX: usize = 64 * 1024;
/// Reads of one connection in a row before it lets other tasks run.
pub(crate) const READS_PER_TURN: usize = 8;
/// The time that a connection works before it lets other tasks run, whatever its messages are: about that of the
/// messages of [`READS_PER_TURN`] reads if they are small and quick.
pub(crate) const MAX_TURN: Duration = Duration::from_micros(200);
/// The time that the turns of all connections take together that have more to do than fits into one: with more than ten of
/// them, turns get shorter.
pub(crate) const MAX_ROUND: Duration = Duration::from_millis(2);
/// The bytes that one read may copy for each microsecond of a turn, so that a read takes no longer than a turn. Memory that
/// is used for the first time takes as long to be prepared as to be filled.
pub(crate) const READ_BYTES_PER_MICROSECOND: usize = 1024;
/// The shortest turn, whose begin and end still cost little of it.
pub(crate) const MIN_TURN: Duration = Duration::from_micros(20);
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
/// More items are taken into an outbox with less than this in it, in bytes: half of what may wait there.
pub(crate) const MIN_ITEM_ROOM: usize = MAX_BUFFERED_ITEMS / 2;
/// The time for which input is discarded after the last response, so that closing does not destroy it
/// on its way: a kernel that holds unread input answers a close with a reset.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn shares_are_parts_of_the_whole_unless_they_are_set() {
        let limits = Limits::default();
        let expected = MemoryLimits { in_all: 1024 * MIB, per_peer: 256 * MIB, per_connection: 128 * MIB };
        assert_eq!(limits.memory(), expected);
        assert_eq!((limits.calls_per_peer(), limits.guaranteed_calls()), (Some(32_768), 4));

        let small = Limits::default().buffered_bytes(24 * MIB).max_in_flight_in_all(1);
        let expected = MemoryLimits { in_all: 24 * MIB, per_peer: 16 * MIB, per_connection: 16 * MIB };
        assert_eq!(small.memory(), expected, "each has room for four messages");
        assert_eq!((small.calls_per_peer(), small.guaranteed_calls()), (Some(1), 1));
        assert_eq!(small.buffered_bytes(1000).memory().per_connection, 1000);

        let set = Limits::default().buffered_bytes_per_peer(10 * MIB).buffered_bytes_per_connection(None);
        assert_eq!(set.memory().per_peer, 10 * MIB);
        assert_eq!(set.memory().per_connection, usize::MAX);

        let none = Limits::default().buffered_bytes(None).max_in_flight_in_all(None);
        let unlimited = MemoryLimits { in_all: usize::MAX, per_peer: usize::MAX, per_connection: usize::MAX };
        assert_eq!(none.memory(), unlimited);
        assert_eq!((none.calls_per_peer(), none.guaranteed_calls()), (None, 4));
    }
}
