//! [`serve`]: a router on its socket, from the first to the last connection.
//!
//! Accepting and HTTP/1.1 are in `farcall-web`; TLS and calls without HTTP are added here.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use farcall_server::ServerHandle;
#[cfg(feature = "tls")]
use farcall_transport::{Alpn, Scheme, TlsServer};
use farcall_transport::{Listener, PeerAddress, Stream};
use farcall_web::{ConnectionActivity, Connections, StalledPeers, WriteTimeout, serve_http1};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::debug;

use crate::protocol_sniff::{Detected, sniff};

/// The settings of [`serve_with`]. A connection that was opened for calls is subject to the server's
/// limits: those here are for HTTP requests.
///
/// ```
/// use std::time::Duration;
/// use farcall_http::ServeOptions;
///
/// let options = ServeOptions::default()
///     .max_connections(256)
///     .head_timeout(Duration::from_secs(5))
///     .stop_timeout(None); // waits for the last request, however long it takes
/// # let _ = options;
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ServeOptions {
    max_connections: Option<usize>,
    head_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    stop_timeout: Option<Duration>,
    plain_rpc: Option<ServerHandle>,
    #[cfg(feature = "tls")]
    tls: Option<TlsServer>,
}

/// The shortest limits of times: with zero, no request would be answered.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: Some(4096),
            head_timeout: Some(Duration::from_secs(10)),
            write_timeout: Some(Duration::from_secs(30)),
            stop_timeout: Some(Duration::from_secs(3)),
            plain_rpc: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ServeOptions {
    /// Sets the maximum number of HTTP connections. Default 4,096, at least 1; `None` means no limit. Too high, and the process runs
    /// out of file descriptors first, which it survives.
    ///
    /// One peer ([`PeerKey`](farcall_transport::PeerKey)) may have 7 connections for each that is still free, which is 7/8 of all if it is alone. Where
    /// there is no room, the longest idle connection of the peer with most connections is closed for the new one; if
    /// none is idle, the new one is closed at once.
    pub fn max_connections(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.max_connections = connections.into().map(|max| max.max(1));
        self
    }

    /// Also serves calls without HTTP: a client that dials the port as `tcp@` is handed over to this
    /// server at once, and the server's limits apply. With [`ServeOptions::tls`] that is `tls@`, and nothing on
    /// the port is unencrypted. Default: only HTTP is served.
    ///
    /// The protocol is detected by the first byte, or by what TLS negotiated (ALPN). In neither does the
    /// server send first, so a client that sends nothing is closed after [`ServeOptions::head_timeout`].
    pub fn plain_rpc(mut self, server: ServerHandle) -> Self {
        self.plain_rpc = Some(server);
        self
    }

    /// Encrypts all connections, for `https@` and `wss@`; the listener stays one for `tcp`. A client that
    /// doesn't use TLS receives a TLS alert and is closed. Default: no encryption.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the time limit for the head of a request, including the TLS handshake and the pause before it.
    /// Default 10 s, at least 1 ms; `None` means no limit. Too low, and browsers reconnect for each request; too high, and
    /// silent connections stay open as long. With [`ServeOptions::plain_rpc`], the first byte of a
    /// connection may take as long, and the head after it as long again.
    pub fn head_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.head_timeout = limit.into().map(|limit| limit.max(MIN_TIMEOUT));
        self
    }

    /// Sets the time after which a client that reads nothing of its response is closed. Default 30 s, at least 1 ms;
    /// `None` means no limit. Too low, and clients that pause are closed; too high, and those that never
    /// read occupy memory as long.
    pub fn write_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.write_timeout = limit.into().map(|limit| limit.max(MIN_TIMEOUT));
        self
    }

    /// Sets the time that requests under way have to finish after the server was stopped. Default 3 s;
    /// `None` means no limit.
    pub fn stop_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.stop_timeout = limit.into();
        self
    }
}

/// Serves a router on a listener until `stop` is ready, with the default [`ServeOptions`].
///
/// Pass [`ServerHandle::ended`](farcall_server::ServerHandle::ended) as `stop`, so that `/readyz` reports
/// the server as draining while it drains. Connections that were opened for calls belong to the
/// server, which drains them itself. Dropping the future ends the other connections at once.
pub async fn serve(listener: Listener, router: Router, stop: impl Future<Output = ()>) {
    serve_with(listener, router, ServeOptions::default(), stop).await;
}

/// Serves a router like [`serve`], with these options.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_http::{HttpOptions, ServeOptions, router, serve_with};
/// use farcall_server::Server;
/// use farcall_transport::{Address, Listener};
///
/// let server = Server::builder().build()?;
/// let handle = server.handle();
/// let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
/// // One port for HTTP and for calls without it.
/// let options = ServeOptions::default().plain_rpc(handle.clone());
/// let router = router(handle.clone(), HttpOptions::default());
/// let http = serve_with(listener, router, options, handle.ended());
/// # handle.stop();
/// tokio::join!(server.serve(), http);
/// # Ok(())
/// # }
/// ```
pub async fn serve_with(
    listener: Listener,
    router: Router,
    options: ServeOptions,
    stop: impl Future<Output = ()>,
) {
    let connections = Connections::new(options.max_connections);
    let _abort_on_drop = connections.abort_on_drop();
    let server = ConnectionServer {
        router,
        head_timeout: options.head_timeout,
        write_timeout: options.write_timeout,
        stalled_peers: StalledPeers::default(),
        shutdown: connections.shutdown_token().clone(),
        plain_rpc: options.plain_rpc,
        #[cfg(feature = "tls")]
        tls: options.tls,
    };
    tokio::select! {
        // Cancel-safe: every accepted connection has its task.
        () = connections.accept(&listener, |stream, peer, activity| server.clone().serve(stream, peer, activity)) => {}
        () = stop => {}
    }
    drop(listener);
    let aborted = connections.shut_down(options.stop_timeout).await;
    if aborted > 0 {
        debug!(connections = aborted, "aborted HTTP connections that did not end");
    }
}

/// The state that all connections share.
#[derive(Clone)]
struct ConnectionServer {
    router: Router,
    head_timeout: Option<Duration>,
    write_timeout: Option<Duration>,
    /// The connections whose peers take nothing at the moment.
    stalled_peers: StalledPeers,
    /// When it is cancelled, a connection ends after its current request.
    shutdown: CancellationToken,
    plain_rpc: Option<ServerHandle>,
    #[cfg(feature = "tls")]
    tls: Option<TlsServer>,
}

impl ConnectionServer {
    /// Serves a connection until it ends or is handed over.
    async fn serve(self, stream: Stream, peer: PeerAddress, activity: ConnectionActivity) {
        let stream = self.encrypted(stream);
        match self.plain_rpc.clone() {
            // Boxed: or the task had room for both, several times.
            None => Box::pin(self.serve_http(stream, peer, activity)).await,
            Some(server) => Box::pin(self.serve_either(stream, peer, server, activity)).await,
        }
    }

    /// Adds TLS. The first read makes the handshake, within the time limit for the head.
    #[cfg(feature = "tls")]
    fn encrypted(&self, stream: Stream) -> Stream {
        let alpn = if self.plain_rpc.is_some() { Alpn::FarcallOrHttp1 } else { Alpn::Http1 };
        match &self.tls {
            // The scheme of calls without HTTP: an upgrade sets another one.
            Some(tls) => tls.accept(stream, alpn).with_scheme(Scheme::Tls),
            None => stream,
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "used with the feature `tls`")]
    fn encrypted(&self, stream: Stream) -> Stream {
        stream
    }

    /// Serves HTTP or hands the connection over to the server, by the protocol that the client uses.
    async fn serve_either(
        self,
        stream: Stream,
        peer: PeerAddress,
        server: ServerHandle,
        activity: ConnectionActivity,
    ) {
        let detected = tokio::select! {
            detected = with_limit(self.head_timeout, sniff(stream)) => detected,
            // The connection ends with what was read of it: it could not be served any more.
            () = self.shutdown.cancelled() => return,
        };
        match detected {
            Some(Ok(Some((Detected::Calls, stream)))) => server.serve_stream(stream, peer),
            Some(Ok(Some((Detected::Http, stream)))) => self.serve_http(stream, peer, activity).await,
            Some(Ok(None)) => {}
            Some(Err(error)) => debug!(%peer, %error, "the connection ended before its first byte"),
            None => debug!(%peer, "closed: the client sent nothing in time"),
        }
    }

    async fn serve_http(self, stream: Stream, peer: PeerAddress, activity: ConnectionActivity) {
        let Self { router, head_timeout, write_timeout, stalled_peers, shutdown, .. } = self;
        let tls = stream.tls_later();
        let handler = move |mut request: Request<Body>| {
            let mut router = router.clone();
            request.extensions_mut().insert(peer);
            if let Some(tls) = tls() {
                request.extensions_mut().insert(tls);
            }
            if let PeerAddress::Tcp(address) = peer {
                request.extensions_mut().insert(ConnectInfo(address));
            }
            async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
        };
        let stream =
            WriteTimeout::new(stream, write_timeout, stalled_peers).with_hang_up(Stream::has_peer_closed);
        if let Err(error) = serve_http1(stream, handler, head_timeout, &shutdown, activity).await {
            debug!(%peer, %error, "the HTTP connection ended");
        }
    }
}

/// Waits for `future`, at most for `limit`; `None` if the time is over.
async fn with_limit<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}
