//! [`RequestBody`]: reads request bodies, with limits of size, time and memory, and parses them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, FromRequest, Request};
use bytes::Bytes;
use farcall_protocol::text::parse_error;
use farcall_transport::PeerAddress;
use farcall_web::{BodyBuffer, HeldBytes};
use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::HttpError;
use crate::server::state::SharedState;

/// The maximum size of the body of `POST /v1/heartbeats`: 10,000 instances with the longest names fit.
pub(super) const MAX_HEARTBEATS_BYTES: usize = 4 * 1024 * 1024;
/// The maximum number of instances in such a request.
pub(super) const MAX_HEARTBEATS: usize = 20_000;
/// The time in which a body must arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a refused body that are read and discarded, so that a client that sends all of it before it reads receives
/// the response instead of a broken connection.
const MAX_DISCARDED_BYTES: usize = 8 * 1024 * 1024;
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// The time to discard them.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(2);

/// The body of a request, and its part of the memory for bodies.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Body,
    held: HeldBytes,
}

/// A body that was read. Its memory is counted until this is dropped.
#[derive(Debug)]
pub(super) struct ReceivedBody {
    bytes: Bytes,
    _held: HeldBytes,
}

impl FromRequest<SharedState> for RequestBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, registry: &SharedState) -> Result<Self, Infallible> {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(PeerAddress::Memory, |ConnectInfo(peer)| PeerAddress::Tcp(*peer));
        Ok(Self { body: request.into_body(), held: registry.bodies.hold(peer.key()) })
    }
}

impl RequestBody {
    /// Reads the whole body.
    ///
    /// # Errors
    ///
    /// The body is larger than `limit` bytes, too slow or cut off, or there is no memory for it.
    pub(super) async fn read(self, limit: usize) -> Result<ReceivedBody, HttpError> {
        let size = self.body.size_hint().upper().and_then(|size| usize::try_from(size).ok());
        let whole = BodyBuffer::new(self.held, size.map_or(limit, |size| size.min(limit)));
        let mut stream = self.body.into_data_stream();
        let read = timeout(BODY_TIMEOUT, collect(&mut stream, limit, whole)).await;
        let read = read.unwrap_or_else(|_| {
            Err(HttpError::timeout(format!("the body took longer than {BODY_TIMEOUT:?}")))
        });
        if read.as_ref().is_err_and(HttpError::is_limit) {
            // The response is the same if it times out. Nothing is held of the body by then.
            let _ = timeout(DISCARD_TIMEOUT, discard(&mut stream)).await;
        }
        read
    }
}

impl Deref for ReceivedBody {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Parses the body as JSON; `what` names the expected content in errors.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, HttpError> {
    if body.is_empty() {
        return Err(HttpError::bad_request(format!("the body is empty; it must be {what} as JSON")));
    }
    check_beginning(body)?;
    // serde would read a list as the fields in their order, which is not part of the interface.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(HttpError::bad_request(format!(
            "the body is a list; it must be {what} as a JSON object"
        )));
    }
    serde_json::from_slice(body).map_err(|error| {
        HttpError::bad_request(format!("the body is not {what} as JSON: {}", parse_error(&error)))
    })
}

/// Refuses a byte order mark, which some editors and shells write unseen.
pub(super) fn check_beginning(body: &[u8]) -> Result<(), HttpError> {
    if body.starts_with(BYTE_ORDER_MARK) {
        let error =
            "the body begins with a byte order mark (EF BB BF), which JSON does not have: send it without";
        return Err(HttpError::bad_request(error));
    }
    Ok(())
}

async fn collect(
    stream: &mut (impl Stream<Item = Result<Bytes, axum::Error>> + Unpin),
    limit: usize,
    mut whole: BodyBuffer,
) -> Result<ReceivedBody, HttpError> {
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| HttpError::bad_request(format!("the body broke off: {error}")))?;
        if whole.len() + part.len() > limit {
            return Err(HttpError::too_large(format!("the body is larger than {limit} bytes")));
        }
        if !whole.push(&part).await {
            let limit = whole.shared_limit();
            return Err(HttpError::too_many(format!(
                "the memory for the bodies of requests is full: {limit} bytes, half of them for one client"
            )));
        }
    }
    let (bytes, held) = whole.finish();
    Ok(ReceivedBody { bytes, _held: held })
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
