//! How a client connects and what it allows: one set of options for a channel's connections.

use std::time::Duration;

use farcall_protocol::{ClientOffer, Codec, Compression, DEFAULT_CONNECT_TIMEOUT, KeepAlive, MaxFrameBytes};
use farcall_transport::Dialer;
#[cfg(feature = "tls")]
use farcall_transport::TlsClient;

/// The options of a channel's, or a connection's, side of the wire.
#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    pub(crate) dialer: Dialer,
    pub(crate) terms: ClientOffer,
    pub(crate) write_timeout: Duration,
    pub(crate) answer_timeout: Option<Duration>,
    pub(crate) outbox_bytes: usize,
    pub(crate) keep_alive: KeepAlive,
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
}

/// The dialer's default, which it does not tell.
const DEFAULT_RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self {
            dialer: Dialer::default(),
            terms: ClientOffer::default(),
            write_timeout: Duration::from_secs(10),
            answer_timeout: None,
            outbox_bytes: 4 * 1024 * 1024,
            keep_alive: KeepAlive::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ConnectionOptions {
    /// How connections are opened: who resolves names, and so on. Default [`Dialer::default`]. Its
    /// connect timeout is replaced by [`ConnectionOptions::connect_timeout`]'s, and so is its resolve timeout
    /// where that is shorter than the default of 5 s.
    #[must_use]
    pub fn dialer(mut self, dialer: Dialer) -> Self {
        self.dialer = dialer;
        self
    }

    /// Whom to trust at encrypted addresses such as `tls@host:port`, and the certificate to show.
    /// Default: what the dialer has, which is whom the system trusts, and none. See [`Dialer::tls`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, client: TlsClient) -> Self {
        self.tls = Some(client);
        self
    }

    /// The codec of headers and bodies. Default MessagePack.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.terms.codec = codec;
        self
    }

    /// The time for resolving, connecting and the handshake together. Default 10 s. Too low, and
    /// servers that are busy, or far away, are not reached; too high, and calls wait as long for
    /// a server that is gone. Zero means the default.
    #[must_use]
    pub const fn connect_timeout(mut self, limit: Duration) -> Self {
        self.terms.connect_timeout = limit;
        self
    }

    /// The longest that a handler may run for a call of this client. Default: what the server
    /// allows. Zero means no limit of the client's own. Too low, and handlers are stopped in the
    /// middle of their work; too high is as if there were none.
    #[must_use]
    pub fn handle_timeout(mut self, limit: Duration) -> Self {
        self.terms.handle_timeout = (!limit.is_zero()).then_some(limit);
        self
    }

    /// How long the server may take nothing of what is written to it before the connection is
    /// given up. Default 10 s; zero means no limit. Too low, and a server that pauses for a moment
    /// loses its calls; too high, and they wait as long for one that hangs.
    #[must_use]
    pub const fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// The longest to wait for an answer once a request is on its way; the call then fails with
    /// `deadline_exceeded`. Default: none, so that the call's own timeout is what counts. Zero means
    /// no limit. Too low, and slow methods never answer.
    #[must_use]
    pub fn answer_timeout(mut self, limit: Duration) -> Self {
        self.answer_timeout = (!limit.is_zero()).then_some(limit);
        self
    }

    /// Bytes that may wait to be written before further calls wait for room. Default 4 MiB; at
    /// least 1. Too low, and calls wait for each other; too high, and a server that reads slowly
    /// costs as much memory, for each connection.
    #[must_use]
    pub fn outbox_bytes(mut self, bytes: usize) -> Self {
        self.outbox_bytes = bytes.max(1);
        self
    }

    /// The largest frame that is accepted, in bytes. Default 4 MiB. An answer that would be
    /// larger becomes `resource_exhausted`. Too high, and a server can make this side hold as much.
    #[must_use]
    pub fn max_frame_bytes(mut self, bytes: usize) -> Self {
        self.terms.max_frame_bytes = MaxFrameBytes::new(bytes);
        self
    }

    /// The compressions of bodies to ask for, in order of preference. Default: none, since within
    /// a machine room compressing takes longer than sending.
    #[must_use]
    pub fn compression(mut self, compression: Vec<Compression>) -> Self {
        self.terms.compression = compression;
        self
    }

    /// The bearer credential that the handshake carries, for servers that ask for one. Default:
    /// none. It is checked once for each connection; where it is wrong, calls fail with
    /// `unauthenticated`. Whoever sees it can use it, so it belongs into encrypted connections. With
    /// one over some 3.9 KB every handshake fails, since an Option has at most 4 KiB.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.terms.token = Some(token.into());
        self
    }

    /// When to ping a silent server, and when to give it up. Default 10 s and 5 s. An idle time
    /// below half a second makes servers take the pings for a flood, and close; high times let
    /// calls wait as long for a server that vanished.
    #[must_use]
    pub const fn keep_alive(mut self, times: KeepAlive) -> Self {
        self.keep_alive = times;
        self
    }

    pub(crate) const fn connect_limit(&self) -> Duration {
        if self.terms.connect_timeout.is_zero() {
            DEFAULT_CONNECT_TIMEOUT
        } else {
            self.terms.connect_timeout
        }
    }

    /// The dialer, within the limit for connecting.
    pub(crate) fn limited_dialer(&self) -> Dialer {
        let limit = self.connect_limit();
        let dialer = self.dialer.clone().connect_timeout(limit);
        #[cfg(feature = "tls")]
        let dialer = match &self.tls {
            Some(client) => dialer.tls(client.clone()),
            None => dialer,
        };
        // Otherwise a name server that says nothing would look like a server that says nothing.
        if limit < DEFAULT_RESOLVE_TIMEOUT { dialer.resolve_timeout(limit) } else { dialer }
    }

    pub(crate) const fn write_limit(&self) -> Duration {
        if self.write_timeout.is_zero() { Duration::MAX } else { self.write_timeout }
    }
}
