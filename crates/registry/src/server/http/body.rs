//! Reads request bodies, with limits of size and time, and parses them.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::error::HttpError;
use crate::server::state::RegistryState;

/// The maximum size of the body of `POST /v1/heartbeats`: 10,000 instances with the longest names fit.
pub(super) const MAX_HEARTBEATS_BYTES: usize = 4 * 1024 * 1024;
/// The maximum number of instances in such a request, because other requests wait meanwhile.
pub(super) const MAX_HEARTBEATS: usize = 20_000;
/// The maximum size of a body that is parsed between other requests, in bytes: that takes well under a millisecond.
const MAX_PARSED_INLINE_BYTES: usize = 64 * 1024;
/// The time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a too long body that are read and discarded, so that a client that sends all of it before it reads receives
/// the response instead of a broken connection.
const MAX_DISCARDED_BYTES: usize = 8 * 1024 * 1024;
/// The time for that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads the whole body.
pub(super) async fn read(body: Body, limit: usize) -> Result<Bytes, HttpError> {
    let mut stream = body.into_data_stream();
    let read = timeout(BODY_TIMEOUT, collect(&mut stream, limit)).await;
    let read = read
        .unwrap_or_else(|_| Err(HttpError::timeout(format!("the body took longer than {BODY_TIMEOUT:?}"))));
    if matches!(&read, Err(error) if error.is_too_large()) {
        // The response is the same if it times out.
        let _ = timeout(DISCARD_TIMEOUT, discard(&mut stream)).await;
    }
    read
}

/// Parses the body as JSON; `what` names the expected content in errors.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, HttpError> {
    if body.is_empty() {
        return Err(HttpError::bad_request(format!("the body is empty; it must be {what} as JSON")));
    }
    // serde would read a list as the fields in their order, which is not part of the interface.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(HttpError::bad_request(format!(
            "the body is a list; it must be {what} as a JSON object"
        )));
    }
    serde_json::from_slice(body)
        .map_err(|error| HttpError::bad_request(format!("the body is not {what} as JSON: {error}")))
}

/// Parses the body like [`parse`], a large one on another thread, so that no request waits for it.
pub(super) async fn parse_aside<T: DeserializeOwned + Send + 'static>(
    registry: &RegistryState,
    body: Bytes,
    what: &'static str,
) -> Result<T, HttpError> {
    if body.len() <= MAX_PARSED_INLINE_BYTES {
        return parse(&body, what);
    }
    let unavailable = || HttpError::unavailable("the body could not be parsed; try again");
    let _permit = registry.parse_permits.acquire().await.map_err(|_| unavailable())?;
    spawn_blocking(move || parse(&body, what)).await.map_err(|_| unavailable())?
}

async fn collect(
    stream: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin),
    limit: usize,
) -> Result<Bytes, HttpError> {
    let mut whole = BytesMut::new();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| HttpError::bad_request(format!("the body broke off: {error}")))?;
        if part.len() > limit - whole.len() {
            return Err(HttpError::too_large(format!("the body is larger than {limit} bytes")));
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.freeze())
}

async fn discard(stream: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin)) {
    let mut discarded = 0;
    while let Some(Ok(part)) = stream.next().await {
        discarded += part.len();
        if discarded > MAX_DISCARDED_BYTES {
            return;
        }
    }
}
