//! [`ConnectionOptions`]: how a client connects, and what it allows.

use std::time::Duration;

use farcall_protocol::{ClientOffer, Codec, Compression, KeepAlive, MaxFrameBytes, StreamWindow};
use farcall_transport::Dialer;
#[cfg(feature = "tls")]
use farcall_transport::TlsClient;

use super::open_report::{OpenObserver, OpenReport};

/// The options of the connections of a channel.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_client::{Channel, ConnectionOptions};
/// use farcall_protocol::Compression;
///
/// let options = ConnectionOptions::default()
///     .connect_timeout(Duration::from_secs(2))
///     .write_timeout(None)
///     .token("s3cret");
/// let channel = Channel::builder().to("tcp@10.0.0.3:7001").options(options).build()?;
/// # Ok::<(), farcall_client::BuildError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ConnectionOptions {
    pub(crate) dialer: Dialer,
    pub(crate) terms: ClientOffer,
    pub(crate) write_timeout: Option<Duration>,
    pub(crate) answer_timeout: Option<Duration>,
    pub(crate) outbox_bytes: usize,
    pub(crate) keep_alive: KeepAlive,
    pub(super) observer: OpenObserver,
    pub(super) streams: StreamOptions,
    /// The time without calls after which the connection closes.
    pub(super) max_unused: Option<Duration>,
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
}

/// The limits of the streams of a connection, in addition to those that the handshake agrees on.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamOptions {
    /// The largest window of one stream.
    pub(super) max_window: StreamWindow,
    /// The bytes that the windows of one connection together may grow by.
    pub(super) max_growth: usize,
    /// The longest time for which an item waits for the server's credit.
    pub(super) max_stall: Duration,
}

/// The dialer's default, which has no getter.
#[cfg(not(target_family = "wasm"))]
const DEFAULT_RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The shortest time limit. On the wire, times are whole milliseconds, and zero means something else.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

impl Default for ConnectionOptions {
    fn default() -> Self {
        let mut terms = ClientOffer::default();
        terms.streams = Some(StreamWindow::CLIENT_DEFAULT);
        Self {
            dialer: Dialer::default(),
            terms,
            write_timeout: Some(Duration::from_secs(10)),
            answer_timeout: None,
            outbox_bytes: 4 * 1024 * 1024,
            keep_alive: KeepAlive::default(),
            observer: OpenObserver::default(),
            streams: StreamOptions {
                max_window: StreamWindow::new(16 * 1024 * 1024),
                max_growth: 64 * 1024 * 1024,
                max_stall: Duration::from_secs(60),
            },
            max_unused: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ConnectionOptions {
    /// Sets how streams are opened: how names are resolved, and so on. Default [`Dialer::default`]. Its
    /// connect timeout is replaced by [`ConnectionOptions::connect_timeout`]'s, and so is its resolve timeout
    /// if that is shorter than the default of 5 s.
    pub fn dialer(mut self, dialer: Dialer) -> Self {
        self.dialer = dialer;
        self
    }

    /// Sets the trusted roots for encrypted addresses such as `tls@host:port`, and the client's certificate.
    /// Default: those of the dialer, which are the system's roots and no certificate. See [`Dialer::tls`].
    #[cfg(feature = "tls")]
    pub fn tls(mut self, client: TlsClient) -> Self {
        self.tls = Some(client);
        self
    }

    /// Sets the codec of headers and bodies. Default MessagePack.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.terms.codec = codec;
        self
    }

    /// Sets the time for resolving, connecting and the handshake together, at least 1 ms. Default 10 s. Too low, and
    /// servers that are busy, or far away, are not reached; too high, and calls wait as long for
    /// a server that is gone.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.terms.connect_timeout = limit.max(MIN_TIMEOUT);
        self
    }

    /// Sets the longest time that a handler may run for a call of this client, at least 1 ms; `None` leaves that to the
    /// server. Default `None`. Too low, and handlers are stopped in the
    /// middle of their work; too high has the same effect as `None`.
    pub fn handle_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.terms.handle_timeout = at_least_min(limit);
        self
    }

    /// Sets how long the server may accept no byte of what is written to it before the connection is
    /// closed, at least 1 ms; `None` for no limit. Default 10 s. Too low, and a server that pauses for a moment
    /// loses its calls; too high, and they wait as long for one that hangs.
    pub fn write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = at_least_min(limit);
        self
    }

    /// Sets the longest time to wait for a response once a request was sent, at least 1 ms; the call then fails with
    /// `deadline_exceeded`. Default `None`: only the call's own timeout counts. Too low, and slow methods never succeed.
    pub fn answer_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.answer_timeout = at_least_min(limit);
        self
    }

    /// Sets how many bytes may wait to be written before further calls wait for room. Default 4 MiB; at
    /// least 1. Too low, and calls wait for each other; too high, and a server that reads slowly
    /// costs as much memory, for each connection.
    pub fn outbox_bytes(mut self, bytes: usize) -> Self {
        self.outbox_bytes = bytes.max(1);
        self
    }

    /// Sets the largest frame that is accepted, in bytes. Default 4 MiB. A response that would be
    /// larger becomes `resource_exhausted`. Too high, and a server can make this side use as much memory.
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.terms.max_frame_bytes = MaxFrameBytes::new(bytes);
        self
    }

    /// Sets the compressions of bodies to offer, in order of preference. Default: none, since within
    /// a data center compressing takes longer than sending.
    pub fn compression(mut self, compression: Vec<Compression>) -> Self {
        self.terms.compression = compression;
        self
    }

    /// Sets the bearer credential that the handshake carries, for servers that require one. Default:
    /// none. It is checked once for each connection; if it is wrong, calls fail with
    /// `unauthenticated`. Anyone who sees it can use it, so use encrypted connections. With
    /// one over some 3.9 KB every handshake fails, since an Option has at most 4 KiB.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.terms.token = Some(token.into());
        self
    }

    /// Sets when a silent server is pinged, and when it is given up. Default 10 s and 5 s. An idle time
    /// below half a second makes servers take the pings for a flood, and close; high times let
    /// calls wait as long for a server that vanished.
    pub const fn keep_alive(mut self, times: KeepAlive) -> Self {
        self.keep_alive = times;
        self
    }

    /// Sets what is called after each attempt to open a connection, with the time that each of its phases took. It runs
    /// on the task that opens the connection, and must not block. Default: nothing.
    ///
    /// ```
    /// use farcall_client::ConnectionOptions;
    ///
    /// let options = ConnectionOptions::default().on_open(|report| {
    ///     for (phase, time) in &report.phases {
    ///         eprintln!("{}: {phase} {time:?}", report.endpoint);
    ///     }
    /// });
    /// ```
    pub fn on_open(mut self, observe: impl Fn(&OpenReport) + Send + Sync + 'static) -> Self {
        self.observer = OpenObserver::new(observe);
        self
    }

    /// Sets how many bytes of items a server may send on each stream before this side has taken some, at the beginning;
    /// `None` offers no streams, so that streaming calls fail. Default 256 KiB, at least 1 byte and at most 1 GiB. Too low,
    /// and a stream from far away is slow until its window has grown; too high, and each stream that is not read holds as
    /// much memory.
    pub fn stream_window(mut self, bytes: impl Into<Option<usize>>) -> Self {
        self.terms.streams = bytes.into().map(StreamWindow::new);
        self
    }

    /// Sets how large the window of one stream may grow, in bytes, while its sender has to wait for credit and the
    /// application takes all that comes. Default 16 MiB. Beyond 1 MiB, a window doubles only if the last one was consumed within
    /// twice the delay of the path, or within 1 ms. Below [`ConnectionOptions::stream_window`], windows do not grow:
    /// then a stream is limited to one window for each round trip. Too high, and one stream may hold as much memory,
    /// and as many bytes may be in front of the responses of calls on the same connection.
    pub fn max_stream_window(mut self, bytes: usize) -> Self {
        self.streams.max_window = StreamWindow::new(bytes);
        self
    }

    /// Sets how many bytes the windows of all streams of one connection may grow by together. Default 64 MiB. Too low, and
    /// streams from far away are slow; too high, and a connection may hold as much memory.
    pub const fn max_stream_growth(mut self, bytes: usize) -> Self {
        self.streams.max_growth = bytes;
        self
    }

    /// Sets how long an item may wait for the server's credit, at least 1 ms, before its call is cancelled, with
    /// `resource_exhausted`, `maybe`. Default 60 s. Too low, and a server that pauses loses its uploads; too high, and they
    /// wait as long for a handler that does not read.
    pub fn stream_stall(mut self, limit: Duration) -> Self {
        self.streams.max_stall = limit.max(MIN_TIMEOUT);
        self
    }

    /// Returns the time for resolving, connecting and the handshake together.
    pub(crate) const fn connect_limit(&self) -> Duration {
        self.terms.connect_timeout
    }

    /// Returns the dialer, with the time limit for connecting.
    pub(super) fn limited_dialer(&self) -> Dialer {
        let limit = self.connect_limit();
        let dialer = self.dialer.clone().connect_timeout(limit);
        #[cfg(feature = "tls")]
        let dialer = match &self.tls {
            Some(client) => dialer.tls(client.clone()),
            None => dialer,
        };
        // Otherwise a silent name server would look like a silent server. A browser resolves and connects in one.
        #[cfg(not(target_family = "wasm"))]
        let dialer = if limit < DEFAULT_RESOLVE_TIMEOUT { dialer.resolve_timeout(limit) } else { dialer };
        dialer
    }

    /// Returns the time after which a stalled write closes the connection; [`Duration::MAX`] for no limit.
    pub(super) fn write_limit(&self) -> Duration {
        self.write_timeout.unwrap_or(Duration::MAX)
    }
}

fn at_least_min(limit: impl Into<Option<Duration>>) -> Option<Duration> {
    limit.into().map(|limit| limit.max(MIN_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_at_least_a_millisecond() {
        let options = ConnectionOptions::default()
            .connect_timeout(Duration::ZERO)
            .handle_timeout(Duration::ZERO)
            .write_timeout(Duration::ZERO)
            .answer_timeout(Duration::ZERO)
            .stream_stall(Duration::ZERO)
            .outbox_bytes(0);
        assert_eq!((options.connect_limit(), options.write_limit()), (MIN_TIMEOUT, MIN_TIMEOUT));
        assert_eq!(
            (options.terms.handle_timeout, options.answer_timeout),
            (Some(MIN_TIMEOUT), Some(MIN_TIMEOUT))
        );
        assert_eq!((options.streams.max_stall, options.outbox_bytes), (MIN_TIMEOUT, 1));
    }

    #[test]
    fn limits_are_what_was_set() {
        let (second, options) = (Duration::from_secs(1), ConnectionOptions::default());
        assert_eq!((options.connect_limit(), options.write_limit()), (10 * second, 10 * second));
        assert_eq!((options.terms.handle_timeout, options.answer_timeout), (None, None));
        let options = options.connect_timeout(second).handle_timeout(2 * second).write_timeout(3 * second);
        let options = options.answer_timeout(4 * second).stream_stall(5 * second).outbox_bytes(7);
        assert_eq!((options.connect_limit(), options.write_limit()), (second, 3 * second));
        assert_eq!(
            (options.terms.handle_timeout, options.answer_timeout),
            (Some(2 * second), Some(4 * second))
        );
        assert_eq!((options.streams.max_stall, options.outbox_bytes), (5 * second, 7));
        assert_eq!(options.write_timeout(None).write_limit(), Duration::MAX);
        let window = |options: ConnectionOptions| options.terms.streams.map(StreamWindow::get);
        assert_eq!(window(ConnectionOptions::default()), Some(256 * 1024));
        assert_eq!(window(ConnectionOptions::default().stream_window(5)), Some(5));
        assert_eq!(window(ConnectionOptions::default().stream_window(None)), None);
    }
}
