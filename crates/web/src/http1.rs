//! [`serve_http1`]: one HTTP/1.1 connection, from its first request to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::busy_body::BusyBody;
use crate::connection_table::ConnectionActivity;
use crate::http_stream::{HeadMemory, HttpStream};
use crate::turned_body::TurnedBody;
use crate::turns::Turns;

/// The largest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 64 * 1024;
/// The longest time limit for a head: 30 years.
const MAX_HEADER_TIMEOUT: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// Serves the requests of one connection, one after the other, until the peer closes it or `shutdown`
/// is cancelled; then the connection ends after its current request.
///
/// `header_timeout` limits the time for the head of a request and the pause before it; `None` means
/// no limit. A head of more than 64 KiB is answered with 431, and the connection ends; so is one of over 8 KiB if those
/// of all connections take more than 64 MiB of memory, half of it for one peer. A handler may upgrade the connection with
/// hyper's `OnUpgrade`, of which [`HttpStream::unwrap`] returns the stream. `activity` is told when requests are under
/// way.
///
/// Requests that come one behind the other without end are handled in turns with other tasks. Of a body that is larger
/// than 64 KiB, or of unknown size, what is behind the first 16 KiB is read in turns with the large bodies of other connections, few of
/// them at a time.
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
    activity: ConnectionActivity,
) -> hyper::Result<()>
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Fn(Request<Body>) -> F,
    F: Future<Output = Result<Response, Infallible>>,
{
    let turns = Turns::default();
    let heads = HeadMemory::new(activity.hold_head());
    let service = service_fn(|request: Request<Incoming>| {
        let busy = (activity.busy(), heads.begin_request());
        let (heads, is_connect) = (&heads, request.method() == Method::CONNECT);
        let request = request.map(|body| TurnedBody::wrap(body, || activity.place()));
        let answer = (head_bytes(&request) <= MAX_HEAD_BYTES).then(|| handler(request));
        let turns = &turns;
        async move {
            turns.next().await;
            let answer = match answer {
                Some(answer) => answer.await?,
                None => head_too_large(),
            };
            busy.1.release();
            let status = answer.status();
            if status == StatusCode::SWITCHING_PROTOCOLS || is_connect && status.is_success() {
                heads.upgraded();
            }
            Ok::<_, Infallible>(answer.map(|body| BusyBody::new(body, busy)))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // hyper adds it to the present, which panics if there is no such time.
        .header_read_timeout(header_timeout.map(|limit| limit.min(MAX_HEADER_TIMEOUT)))
        // Only the size at which reading stops: what was read by then may be as much again.
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(HttpStream::new(io, Arc::clone(&heads))), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        served = turns.run(connection.as_mut()) => served,
        // Cancel-safe: the connection is not dropped here, it goes on to its end.
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            turns.run(connection).await
        }
    }
}

/// Returns the size of a request's head, as HTTP/1.1 writes it without needless spaces.
fn head_bytes<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let host = uri.authority().map_or(0, |authority| authority.as_str().len() + "http://".len());
    let target = uri.path().len() + uri.query().map_or(0, |query| query.len() + 1) + host;
    let line = request.method().as_str().len() + target + "  HTTP/1.1\r\n\r\n".len();
    request
        .headers()
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len())
        .sum::<usize>()
        + line
}

fn head_too_large() -> Response {
    let text = format!("the request's head is larger than {MAX_HEAD_BYTES} bytes, the limit\n");
    let headers = [
        (CONNECTION, HeaderValue::from_static("close")),
        (CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
    ];
    (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use farcall_test_support::extremes::{TIMES, count_panics};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::connection_table::ConnectionTable;

    /// Returns the answer to these bytes.
    async fn answer(request: &[u8]) -> String {
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let handler = async |_| Ok("hello".into_response());
        let (shutdown, activity) = (CancellationToken::new(), ConnectionActivity::detached());
        let serve = serve_http1(near, handler, None, &shutdown, activity);
        let client = async move {
            far.write_all(request).await.unwrap();
            let mut answer = String::new();
            far.read_to_string(&mut answer).await.unwrap();
            answer
        };
        // What the server thinks of it is not asked here.
        tokio::join!(serve, client).1
    }

    #[tokio::test]
    async fn heads_up_to_64_kib_are_served_and_larger_ones_refused() {
        let head = |size: usize| {
            let begin = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: ";
            format!("{begin}{}\r\n\r\n", "x".repeat(size - begin.len() - 4)).into_bytes()
        };
        for size in [1000, MAX_HEAD_BYTES - 1, MAX_HEAD_BYTES] {
            let answer = answer(&head(size)).await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{size}: {answer}");
        }
        for size in [MAX_HEAD_BYTES + 1, 100_000, 130_000, 200_000, 500_000] {
            let answer = answer(&head(size)).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{size}: {answer}");
        }
    }

    #[tokio::test]
    async fn connection_is_busy_until_the_body_was_sent() {
        let table = ConnectionTable::new(Some(1));
        let slot = table.open(farcall_transport::PeerAddress::Memory.key()).unwrap();
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let (body, parts) = tokio::sync::mpsc::channel::<Result<&'static str, Infallible>>(1);
        let parts = std::sync::Mutex::new(Some(parts));
        let handler = move |_| {
            let mut parts = parts.lock().unwrap().take().unwrap();
            let stream = futures::stream::poll_fn(move |cx| parts.poll_recv(cx));
            std::future::ready(Ok(Body::from_stream(stream).into_response()))
        };
        let activity = slot.activity();
        let serving = tokio::spawn(async move {
            serve_http1(near, handler, None, &CancellationToken::new(), activity).await
        });
        far.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        body.send(Ok("part")).await.unwrap();
        assert!(far.read(&mut [0; 1024]).await.unwrap() > 0);
        assert!(
            table.open(farcall_transport::PeerAddress::Memory.key()).is_none(),
            "a response is being sent"
        );
        drop(body);
        let mut rest = Vec::new();
        while !rest.ends_with(b"0\r\n\r\n") {
            far.read_buf(&mut rest).await.unwrap();
        }
        while table.open(farcall_transport::PeerAddress::Memory.key()).is_none() {
            tokio::task::yield_now().await;
        }
        drop(far);
        serving.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn every_time_limit_is_taken() {
        let before = count_panics();
        for time in TIMES {
            let (mut near, far) = tokio::io::duplex(1024);
            let handler = |_| async { Ok(Response::new(Body::empty())) };
            let serving = tokio::spawn(async move {
                let _ = serve_http1(
                    far,
                    handler,
                    Some(time),
                    &CancellationToken::new(),
                    ConnectionActivity::detached(),
                )
                .await;
            });
            let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
            let _ = near.write_all(request).await;
            let _ = near.read_to_end(&mut Vec::new()).await;
            serving.await.expect("it does not panic");
        }
        assert_eq!(count_panics(), before);
    }
}
