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
/// How long a peer may take nothing of what is sent to it.
#[cfg(target_os = "linux")]
const STUCK_LIMIT: Duration = Duration::from_secs(60);
/// The largest header of a request, in bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What all connections have in common.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) router: Router,
    pub(crate) tls: Option<Arc<CurrentTls>>,
    /// How long a header may take, and a pause between requests; bodies have a limit in the router.
    pub(crate) header_timeout: Duration,
    /// From now on a connection ends after the request that it has.
    pub(crate) stop: CancellationToken,
}

impl Connections {
    /// Serves a connection to its end.
    pub(crate) async fn serve(self, stream: TcpStream, peer: SocketAddr) {
        if let Err(error) = prepare(&stream) {
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

fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    // Answers are written whole: waiting for more to send would only delay them.
    stream.set_nodelay(true)?;
    // A watcher that takes nothing any more would hold its place for ever.
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(stream).set_tcp_user_timeout(Some(STUCK_LIMIT))?;
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
