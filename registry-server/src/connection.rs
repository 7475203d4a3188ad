//! One connection: TLS, requests one after the other, and their end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower_service::Service;
use tracing::debug;

use crate::tls::CurrentTls;

/// How long a TLS handshake may take.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How long a peer may take nothing of what is sent to it: longer than a network is away for a moment, and
/// no longer, for a watcher that is gone or stuck holds a place. The kernel counts it, on Linux only.
pub(crate) const STUCK_LIMIT: Duration = Duration::from_secs(30);
/// The largest header of a request, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What all connections have in common.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) tls: Option<Arc<CurrentTls>>,
    /// How long a header may take, and a pause between requests; bodies have a limit in the router.
    pub(crate) header_timeout: Duration,
    /// [`STUCK_LIMIT`], but in tests.
    pub(crate) stuck_limit: Duration,
    /// From now on a connection ends after the request that it has.
    pub(crate) stop: CancellationToken,
}

impl Connections {
    /// Serves a connection to its end.
    pub(crate) async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = prepare(&stream, self.stuck_limit) {
            debug!(%peer, %error, "socket options");
        }
        let Some(tls) = &self.tls else { return self.serve_http(stream, peer).await };
        match timeout(HANDSHAKE_LIMIT, TlsAcceptor::from(tls.get()).accept(stream)).await {
            Ok(Ok(stream)) => self.serve_http(stream, peer).await,
            Ok(Err(error)) => debug!(%peer, %error, "the TLS handshake failed"),
            Err(_) => debug!(%peer, "the TLS handshake took longer than 10 s"),
        }
    }

    // HTTP/1.1 only: its reader has a limit of time from the first byte on, which the one that
    // tells versions apart has not.
    async fn serve_http(self, stream: impl AsyncRead + AsyncWrite + Unpin, peer: SocketAddr) {
        let Self { router, header_timeout, stop, .. } = self;
        let service = service_fn(|request: Request<Incoming>| answer(router.clone(), request, peer));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            debug!(%peer, error = %error, "the connection ended");
        }
    }
}

#[cfg_attr(not(target_os = "linux"), expect(unused_variables, reason = "it cannot be set there"))]
fn prepare(stream: &TcpStream, stuck_limit: Duration) -> std::io::Result<()> {
    // Answers are written whole: waiting for more to send would only delay them.
    stream.set_nodelay(true)?;
    // Counts for a peer that is gone, and for one that is there and does not read.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(stuck_limit))?;
    Ok(())
}

async fn answer(
    mut router: Router,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Response, Infallible> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let answer = router.call(request).await?;
    debug!(%peer, %method, path, status = answer.status().as_u16(), "answered");
    Ok(answer)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Far longer than anything takes, also where the machine is busy.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn answers_are_sent_at_once_and_peers_that_take_nothing_have_a_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&peer, STUCK_LIMIT).unwrap();
        assert!(peer.nodelay().unwrap());
        assert_eq!(socket2::SockRef::from(&peer).tcp_user_timeout().unwrap(), Some(STUCK_LIMIT));
    }

    #[tokio::test]
    async fn who_stops_reading_loses_the_connection() {
        let endless = get(async || {
            let chunk = Ok::<_, Infallible>(Bytes::from_static(&[b'.'; 64 * 1024]));
            Body::from_stream(futures::stream::repeat(chunk))
        });
        let connections = Connections {
            router: Router::new().route("/", endless),
            tls: None,
            header_timeout: PATIENCE,
            stuck_limit: Duration::from_secs(1),
            stop: CancellationToken::new(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut watcher = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, peer) = listener.accept().await.unwrap();
        let serving = tokio::spawn(connections.serve(accepted, peer));
        watcher.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        watcher.read_exact(&mut [0; 15]).await.unwrap();
        timeout(PATIENCE, serving).await.expect("it ends, though the peer is there").unwrap();
    }
}
