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
/// The longest time limit for a head: 30 years.
const MAX_HEADER_TIMEOUT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

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
        // hyper adds it to the present, which panics if there is no such time.
        .header_read_timeout(header_timeout.map(|limit| limit.min(MAX_HEADER_TIMEOUT)))
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use farcall_test_support::extremes::{TIMES, count_panics};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_time_limit_is_taken() {
        let before = count_panics();
        for time in TIMES {
            let (mut near, far) = tokio::io::duplex(1024);
            let handler = |_| async { Ok(Response::new(Body::empty())) };
            let serving = tokio::spawn(async move {
                let _ = serve_http1(far, handler, Some(time), &CancellationToken::new()).await;
            });
            let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let _ = near.write_all(request).await;
            let _ = near.read_to_end(&mut Vec::new()).await;
            serving.await.expect("it does not panic");
        }
        assert_eq!(count_panics(), before);
    }
}
