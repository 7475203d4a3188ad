//! [`serve`]: a router on its socket, from the first to the last connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use farcall_server::ServerHandle;
#[cfg(feature = "tls")]
use farcall_transport::{Alpn, Scheme, TlsServer};
use farcall_transport::{Listener, PeerAddress, Stream, is_exhaustion, is_transient};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use tracing::{debug, warn};

use crate::one_port::{Spoken, first_words};
use crate::write_limit::WriteTimeout;

/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// How long accepting pauses where the system has no file descriptor or memory left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often the same trouble is logged.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// How [`serve_with`] serves. A connection that was opened for calls is the server's and has its
/// limits: those here are for what is still HTTP.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    max_connections: usize,
    head_timeout: Duration,
    write_timeout: Duration,
    stop_timeout: Duration,
    plain_rpc: Option<ServerHandle>,
    #[cfg(feature = "tls")]
    tls: Option<TlsServer>,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            head_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            stop_timeout: Duration::from_secs(3),
            plain_rpc: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }
}

impl ServeOptions {
    /// HTTP connections at once. Default 4,096. One more is closed at once. Too high, and the process
    /// runs out of file descriptors first, which it survives.
    #[must_use]
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Serves calls without HTTP, too: who dials the port as `tcp@` is handed to this server at once, and its
    /// limits hold. With [`ServeOptions::tls`] that is `tls@`, and nothing at the port is in plain text. Default:
    /// only HTTP is served.
    ///
    /// The first byte tells which it is, or what was agreed on in TLS (ALPN). Neither speaks before the client
    /// does, so a client that says nothing is closed after [`ServeOptions::head_timeout`].
    #[must_use]
    pub fn plain_rpc(mut self, server: ServerHandle) -> Self {
        self.plain_rpc = Some(server);
        self
    }

    /// Encrypts all connections, for `https@` and `wss@`; the listener stays one for `tcp`. A client that
    /// speaks no TLS gets its alert, and is closed. Default: none are.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How long the head of a request may take, with TLS before it, and the pause before that. Default 10 s. Too low, and
    /// browsers connect anew for each request; too high, and silent connections are held as long. With
    /// [`ServeOptions::plain_rpc`], the first byte of a connection may take as long, and the head behind it
    /// as long again.
    #[must_use]
    pub const fn head_timeout(mut self, limit: Duration) -> Self {
        self.head_timeout = limit;
        self
    }

    /// How long a client may take nothing of what it asked for. Default 30 s. Too low, and clients that
    /// pause are thrown out; too high, and those that never read hold their answers as long.
    #[must_use]
    pub const fn write_timeout(mut self, limit: Duration) -> Self {
        self.write_timeout = limit;
        self
    }

    /// How long requests under way may go on once it is to stop. Default 3 s.
    #[must_use]
    pub const fn stop_timeout(mut self, limit: Duration) -> Self {
        self.stop_timeout = limit;
        self
    }
}

/// Serves a router at a listener until `stop` is ready, with the default [`ServeOptions`].
///
/// Let `stop` be [`ServerHandle::ended`](farcall_server::ServerHandle::ended), and `/readyz` tells
/// that the server drains for as long as it does. Connections that were opened for calls are the
/// server's, which drains them itself. Dropping this ends the other ones at once.
pub async fn serve(listener: Listener, router: Router, stop: impl Future<Output = ()>) {
    serve_with(listener, router, ServeOptions::default(), stop).await;
}

/// As [`serve`], in another way.
pub async fn serve_with(
    listener: Listener,
    router: Router,
    options: ServeOptions,
    stop: impl Future<Output = ()>,
) {
    let tracker = TaskTracker::new();
    let (stopping, cut) = (CancellationToken::new(), CancellationToken::new());
    let _on_drop = cut.clone().drop_guard();
    let stop_timeout = options.stop_timeout;
    let connections = Connections {
        router,
        head_timeout: options.head_timeout,
        write_timeout: options.write_timeout,
        stop: stopping.clone(),
        cut: cut.clone(),
        plain_rpc: options.plain_rpc,
        #[cfg(feature = "tls")]
        tls: options.tls,
    };
    let room = Arc::new(Semaphore::new(options.max_connections.min(Semaphore::MAX_PERMITS)));
    tokio::select! {
        // Accepting loses nothing where it ends: every connection has its task by then.
        () = accept(listener, connections, room, &tracker) => {}
        () = stop => {}
    }
    stopping.cancel();
    tracker.close();
    if timeout(stop_timeout, tracker.wait()).await.is_err() {
        debug!(connections = tracker.len(), "cutting off HTTP requests that have not ended");
        cut.cancel();
        tracker.wait().await;
    }
}

/// Accepts connections, for as long as it is polled. `room` bounds how many there are.
async fn accept(listener: Listener, connections: Connections, room: Arc<Semaphore>, tracker: &TaskTracker) {
    let mut complaints = LogThrottle::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match Arc::clone(&room).try_acquire_owned() {
                Ok(permit) => {
                    let connections = connections.clone();
                    tracker.spawn(async move {
                        connections.serve(stream, peer).await;
                        drop(permit);
                    });
                }
                // Closed at once: to be told so is better than to wait for nothing.
                Err(_) if complaints.are_due() => warn!(%peer, "there are too many HTTP connections"),
                Err(_) => {}
            },
            Err(error) if is_transient(&error) => {
                debug!(%error, "a connection ended before it was accepted");
            }
            Err(error) => {
                if complaints.are_due() {
                    let kind = if is_exhaustion(&error) { "out of resources" } else { "failed" };
                    warn!(address = %listener.address(), %error, kind, "accepting pauses");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections have in common.
#[derive(Clone)]
struct Connections {
    router: Router,
    head_timeout: Duration,
    write_timeout: Duration,
    /// From now on a connection ends after the request that it has.
    stop: CancellationToken,
    /// Ends connections where they are.
    cut: CancellationToken,
    plain_rpc: Option<ServerHandle>,
    #[cfg(feature = "tls")]
    tls: Option<TlsServer>,
}

impl Connections {
    /// Serves a connection until it ends, or is handed over.
    async fn serve(self, stream: Stream, peer: PeerAddress) {
        let stream = self.encrypted(stream);
        let cut = self.cut.clone();
        match self.plain_rpc.clone() {
            None => cut.run_until_cancelled(self.serve_http(stream, peer)).await,
            Some(server) => cut.run_until_cancelled(self.serve_either(stream, peer, server)).await,
        };
    }

    /// Its handshake is made by the first read, under the limit of time for the head.
    #[cfg(feature = "tls")]
    fn encrypted(&self, stream: Stream) -> Stream {
        let alpn = if self.plain_rpc.is_some() { Alpn::FarcallOrHttp1 } else { Alpn::Http1 };
        match &self.tls {
            // The scheme is that of calls: those that are opened inside HTTP get their own.
            Some(tls) => tls.accept(stream, alpn).with_scheme(Scheme::Tls),
            None => stream,
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "there is nothing to choose")]
    fn encrypted(&self, stream: Stream) -> Stream {
        stream
    }

    /// Serves HTTP, or hands the connection to the server, as the client would have it.
    async fn serve_either(self, stream: Stream, peer: PeerAddress, server: ServerHandle) {
        let heard = tokio::select! {
            heard = timeout(self.head_timeout, first_words(stream)) => heard,
            // The connection ends with what was read of it: nobody is left to serve it.
            () = self.stop.cancelled() => return,
        };
        match heard {
            Ok(Ok(Some((Spoken::Calls, stream)))) => server.serve_stream(stream, peer),
            Ok(Ok(Some((Spoken::Http, stream)))) => self.serve_http(stream, peer).await,
            Ok(Ok(None)) => {}
            Ok(Err(error)) => debug!(%peer, %error, "the connection ended before it said what it speaks"),
            Err(_elapsed) => debug!(%peer, "closed: it said nothing"),
        }
    }

    // HTTP/1.1 only: upgrades are its own, and its reader has a limit of time from the first byte on.
    async fn serve_http(self, stream: Stream, peer: PeerAddress) {
        let Self { router, head_timeout, write_timeout, stop, .. } = self;
        let tls = stream.tls_later();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let mut router = router.clone();
            request.extensions_mut().insert(peer);
            if let Some(tls) = tls() {
                request.extensions_mut().insert(tls);
            }
            if let PeerAddress::Tcp(address) = peer {
                request.extensions_mut().insert(ConnectInfo(address));
            }
            async move { Ok::<_, Infallible>(router.call(request).await.unwrap_or_else(|never| match never {})) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(MAX_HEAD_BYTES)
            .serve_connection(TokioIo::new(WriteTimeout::new(stream, write_timeout)), service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            // It is not dropped here, but goes on to its end.
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            debug!(%peer, %error, "the HTTP connection ended");
        }
    }
}

/// Lets the same trouble be logged only now and then.
#[derive(Default)]
struct LogThrottle {
    last: Option<Instant>,
}

impl LogThrottle {
    fn are_due(&mut self) -> bool {
        let due = self.last.is_none_or(|last| last.elapsed() >= LOG_EVERY);
        if due {
            self.last = Some(Instant::now());
        }
        due
    }
}
