//! [`serve_http1`]: one HTTP/1.1 connection, from its first request to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::http::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Serves the requests of one connection, one after the other, until the peer closes it or `shutdown`
/// is cancelled; then the connection ends after its current request.
///
/// `header_timeout` limits the time for the head of a request and the pause before it; `None` means
/// no limit. A handler may upgrade the connection with hyper's `OnUpgrade`, which then holds the
/// stream as `TokioIo<I>`.
///
/// HTTP/1.1 only: upgrades belong to it, and its reader enforces `header_timeout` from the first byte
/// on, which hyper's automatic version detection doesn't.
///
/// # Errors
///
/// The connection failed, or the peer broke HTTP or exceeded a limit.
pub async fn serve_http1<I, H, F>(
    io: I,
    handler: H,
    header_timeout: Option<Duration>,
    shutdown: &CancellationToken,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Result<Response, Infallible>>,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(io), service_fn(handler))
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        served = connection.as_mut() => served,
        // Cancel-safe: the connection is not dropped here, it goes on to its end.
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
