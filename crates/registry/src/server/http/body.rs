//! [`RequestBody`]: reads request bodies, with limits of size, time and memory, and parses them.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Deref;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use axum::extract::{ConnectInfo, FromRequest, Request};
use bytes::Bytes;
use farcall_protocol::text::parse_error;
use farcall_transport::{PeerAddress, PeerKey};
use farcall_web::{BodyBuffer, HeldBytes};
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
/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The body of a request, and its part of the memory for bodies.
#[derive(Debug)]
pub(super) struct RequestBody {
    body: Body,
    peer: PeerKey,
    registry: SharedState,
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
        Ok(Self { body: request.into_body(), peer: peer.key(), registry: registry.clone() })
    }
}

impl RequestBody {
    /// Reads the whole body.
    ///
    /// # Errors
    ///
    /// The body is larger than `limit` bytes, too slow or cut off, or there is no memory for it.
    pub(super) async fn read(self, limit: usize) -> Result<ReceivedBody, HttpError> {
        let Self { mut body, peer, registry } = self;
        let size = body.size_hint().upper().and_then(|size| usize::try_from(size).ok());
        let held = registry.bodies.hold(peer);
        let whole = BodyBuffer::new(held, size.map_or(limit, |size| size.min(limit)));
        let read = timeout(BODY_TIMEOUT, collect(&mut body, limit, whole)).await;
        let read = read.unwrap_or_else(|_| {
            Err(HttpError::timeout(format!("the body took longer than {BODY_TIMEOUT:?}")))
        });
        if read.as_ref().is_err_and(HttpError::is_limit) {
            // Nothing is held of the body by then.
            registry.discards.discard(&mut body, peer).await;
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

async fn collect(body: &mut Body, limit: usize, mut whole: BodyBuffer) -> Result<ReceivedBody, HttpError> {
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
        let frame = frame.map_err(|error| HttpError::bad_request(format!("the body broke off: {error}")))?;
        // Trailers are ignored.
        let Ok(part) = frame.into_data() else { continue };
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
