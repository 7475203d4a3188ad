//! [`ConnectionServer`]: serves one connection, from its TLS handshake to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use farcall_transport::has_peer_closed;
use farcall_web::{ConnectionActivity, StalledPeers, WriteTimeout, serve_http1};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::debug;

use crate::tls::CurrentTls;

/// The time limit of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time after which a connection whose peer takes no data is closed: longer than a short network
/// outage, and no longer, because a watcher that is gone occupies a connection. On Linux the kernel enforces it
/// as well, also for the data that it has taken over.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The parts that all connections share. A clone is cheap.
#[derive(Clone)]
pub(crate) struct ConnectionServer {
    pub(crate) router: Router,
    pub(crate) tls: Option<Arc<CurrentTls>>,
    /// The longest time for a header, and the longest pause between requests; the router limits bodies.
    pub(crate) header_timeout: Duration,
    /// [`STALL_TIMEOUT`], except in tests.
    pub(crate) stall_timeout: Duration,
    /// The connections whose peers take nothing at the moment.
    pub(crate) stalled_peers: StalledPeers,
    /// When it is cancelled, a connection ends after its current request.
    pub(crate) shutdown: CancellationToken,
}

impl ConnectionServer {
    /// Serves a connection to its end.
    pub(crate) async fn serve(self, stream: TcpStream, peer: SocketAddr, activity: ConnectionActivity) {
        if let Err(error) = prepare(&stream, self.stall_timeout) {
            debug!(%peer, %error, "socket options could not be set");
        }
        // Below TLS, which has buffers, too.
        let stream = WriteTimeout::new(stream, self.stall_timeout, self.stalled_peers.clone())
            .with_hang_up(has_peer_closed);
        // Boxed: or the task had room for both kinds of streams, several times.
        let Some(tls) = &self.tls else { return Box::pin(self.serve_http(stream, peer, activity)).await };
        match timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(tls.get()).accept(stream)).await {
            Ok(Ok(stream)) => Box::pin(self.serve_http(stream, peer, activity)).await,
            Ok(Err(error)) => debug!(%peer, %error, "the TLS handshake failed"),
            Err(_) => debug!(%peer, "the TLS handshake took longer than 10 s"),
        }
    }

    async fn serve_http(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        peer: SocketAddr,
        activity: ConnectionActivity,
    ) {
        let Self { router, header_timeout, shutdown, .. } = self;
        let handler = move |request| answer(router.clone(), request, peer);
        if let Err(error) = serve_http1(stream, handler, Some(header_timeout), &shutdown, activity).await {
            debug!(%peer, %error, "the connection ended");
        }
    }
}

#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "it cannot be set on other systems"))]
fn prepare(stream: &TcpStream, stall_timeout: Duration) -> std::io::Result<()> {
    // Responses are written whole: waiting for more data would only delay them.
    stream.set_nodelay(true)?;
    // Covers a peer that is gone, and one that is there and does not read.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(stall_timeout))?;
    Ok(())
}

async fn answer(
    mut router: Router,
    mut request: Request<Body>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    request.extensions_mut().insert(ConnectInfo(peer));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = router.call(request).await?;
    debug!(%peer, %method, path, status = answer.status().as_u16(), "answered");
    Ok(answer)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use axum::body::Bytes;
    use axum::routing::get;
    use farcall_test_support::wait::{PATIENCE, within_patience};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn sockets_send_at_once_and_have_a_stall_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&peer, STALL_TIMEOUT).unwrap();
        assert!(peer.nodelay().unwrap());
        assert_eq!(socket2::SockRef::from(&peer).tcp_user_timeout().unwrap(), Some(STALL_TIMEOUT));
    }

    #[tokio::test]
    async fn connection_of_a_peer_that_has_left_is_closed_though_another_request_is_there() {
        let waiting = get(async || std::future::pending::<()>().await);
        let server = ConnectionServer {
            router: Router::new().route("/", waiting),
            tls: None,
            header_timeout: PATIENCE,
            stall_timeout: PATIENCE,
            stalled_peers: StalledPeers::default(),
            shutdown: CancellationToken::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut poller = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let serving = tokio::spawn(server.serve(accepted, peer, ConnectionActivity::detached()));
        poller.write_all(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000)).await.unwrap();
        poller.shutdown().await.unwrap();
        within_patience("it ends, though nothing is read", serving).await.unwrap();
    }

    #[tokio::test]
    async fn connection_of_a_peer_that_stops_reading_is_closed() {
        let endless = get(async || {
            let chunk = Ok::<_, Infallible>(Bytes::from_static(&[b'.'; 64 * 1024]));
            Body::from_stream(futures::stream::repeat(chunk))
        });
        let server = ConnectionServer {
            router: Router::new().route("/", endless),
            tls: None,
            header_timeout: PATIENCE,
            stall_timeout: Duration::from_secs(1),
            stalled_peers: StalledPeers::default(),
            shutdown: CancellationToken::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut watcher = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let serving = tokio::spawn(server.serve(accepted, peer, ConnectionActivity::detached()));
        watcher.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        watcher.read_exact(&mut [0; 15]).await.unwrap();
        within_patience("it ends, though the peer is there", serving).await.unwrap();
    }
}
