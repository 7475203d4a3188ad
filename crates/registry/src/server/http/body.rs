//! Reading bodies: bounded in bytes and in time.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::failure::Failure;

/// The largest body of `POST /v1/heartbeats`: 10,000 instances with the longest names fit.
pub(super) const HEARTBEATS_LIMIT: usize = 4 * 1024 * 1024;
/// The most instances of one such request, which keeps the others waiting.
pub(super) const MAX_HEARTBEATS: usize = 20_000;
/// How long a body may take.
const TIME: Duration = Duration::from_secs(10);
/// How much of a body that is too long is read and thrown away, and for how long, so that who sends
/// it all before it reads sees the answer, and not a connection that breaks.
const SWALLOWED: usize = 8 * 1024 * 1024;
const SWALLOW_TIME: Duration = Duration::from_secs(2);

/// The whole body.
pub(super) async fn bytes(body: Body, limit: usize) -> Result<Bytes, Failure> {
    let mut stream = body.into_data_stream();
    let read = timeout(TIME, collect(&mut stream, limit)).await;
    let read = read.unwrap_or_else(|_| Err(Failure::timeout(format!("the body took longer than {TIME:?}"))));
    if matches!(&read, Err(failure) if failure.is_too_large()) {
        // Whether it ends in time or not, the answer is the same.
        let _ = timeout(SWALLOW_TIME, swallow(&mut stream)).await;
    }
    read
}

/// What the body says as JSON; `what` is what it should say.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, Failure> {
    if body.is_empty() {
        return Err(Failure::bad_request(format!("the body is empty; it must be {what} as JSON")));
    }
    // Lists would be read as fields in their order, which is nobody's interface.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Failure::bad_request(format!("the body is a list; it must be {what} as a JSON object")));
    }
    serde_json::from_slice(body)
        .map_err(|error| Failure::bad_request(format!("the body is not {what} as JSON: {error}")))
}

async fn collect(
    stream: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin),
    limit: usize,
) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| Failure::bad_request(format!("the body broke off: {error}")))?;
        if part.len() > limit - whole.len() {
            return Err(Failure::too_large(format!("the body is larger than {limit} bytes")));
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

async fn swallow(stream: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin)) {
    let mut swallowed = 0;
    while let Some(Ok(part)) = stream.next().await {
        swallowed += part.len();
        if swallowed > SWALLOWED {
            return;
        }
    }
}
