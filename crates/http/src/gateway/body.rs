//! The body of a request: read within limits of size, time and memory, and checked to be JSON.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{CONTENT_ENCODING, EXPECT};
use axum::http::{HeaderMap, StatusCode};
use farcall_protocol::{Code, Status};
use farcall_server::ServerHandle;
use farcall_transport::PeerKey;
use farcall_web::{BodyBuffer, ByteShares, Discards, HeldBytes};
use serde::de::IgnoredAny;
use tokio::time::timeout;

use super::failure::Failure;
use super::options::Gateway;

/// The bytes of a refused body that are read and discarded.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;
/// The size up to which a body has room whatever others hold, in bytes, so that small calls are served.
const MAX_GUARANTEED: usize = 16 * 1024;
/// The largest body that is checked between other requests, in bytes: that takes some 100 µs.
pub(super) const MAX_CHECKED_INLINE: usize = 64 * 1024;

/// A complete body, and its share of the memory for all bodies.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    /// Held until the call has ended, because the call keeps the bytes until then.
    pub(super) held: Option<HeldBytes>,
}

/// The reason why a body is not read to its end.
enum BodyError {
    TooLarge,
    NoMemory,
    Broken(axum::Error),
}

/// The limits of bodies, and the memory that all of them share. A clone shares it.
#[derive(Clone, Debug)]
pub(super) struct BodyLimits {
    max_bytes: usize,
    timeout: Option<Duration>,
    memory: ByteShares,
    discards: Discards,
    /// The server whose threads check large bodies.
    server: ServerHandle,
}

impl BodyLimits {
    pub(super) fn new(server: ServerHandle, options: &Gateway) -> Self {
        Self {
            max_bytes: options.max_body_bytes,
            timeout: options.body_timeout,
            memory: ByteShares::new(options.buffered_bytes).guaranteed(MAX_GUARANTEED),
            discards: Discards::new(MAX_DISCARDED),
            server,
        }
    }

    /// Returns the size of the largest body, in bytes.
    pub(super) const fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// Returns the time limit of a body, or of a line of one that has no end.
    pub(super) const fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Returns a holder of memory for a body of `peer`.
    pub(super) fn hold(&self, peer: PeerKey) -> HeldBytes {
        self.memory.hold(peer)
    }

    /// Counts bytes that have arrived.
    ///
    /// # Errors
    ///
    /// There is no memory left for them.
    pub(super) fn resize(&self, held: &mut HeldBytes, bytes: usize) -> Result<(), Failure> {
        if held.resize(bytes) { Ok(()) } else { Err(self.limit_failure(&BodyError::NoMemory)) }
    }

    /// Reads a body of `peer`.
    ///
    /// # Errors
    ///
    /// The body is compressed, too large, too slow, cut off or not JSON, or there is no memory for it; the
    /// response says which.
    pub(super) async fn receive(
        &self,
        headers: &HeaderMap,
        mut body: Body,
        peer: PeerKey,
    ) -> Result<Received, Failure> {
        if let Some(encoding) = content_encoding(headers) {
            self.discard(headers, body, peer).await;
            return Err(Failure::unsupported_encoding(&encoding));
        }
        let reading = self.read(&mut body, peer);
        let read = match self.timeout {
            None => reading.await,
            Some(limit) => timeout(limit, reading).await.map_err(|_elapsed| {
                let message = format!("the body was not complete within {limit:?}");
                let status = Status::refused(Code::DeadlineExceeded, message);
                Failure::new(StatusCode::REQUEST_TIMEOUT, status)
            })?,
        };
        match read {
            Ok(received) => {
                self.check(&received.bytes, peer, check_json).await?;
                Ok(received)
            }
            Err(BodyError::Broken(error)) => Err(Failure::invalid(format!("the body was cut off: {error}"))),
            Err(error) => {
                self.discard(headers, body, peer).await;
                Err(self.limit_failure(&error))
            }
        }
    }

    /// Discards a part of a refused body of `peer`, so that its sender reads the response.
    pub(super) async fn discard(&self, headers: &HeaderMap, mut body: Body, peer: PeerKey) {
        // A client that waits for `100 Continue` has not sent the body.
        if !headers.contains_key(EXPECT) {
            self.discards.discard(&mut body, peer).await;
        }
    }

    /// Discards a part of what a handler does not take of a body of `peer`.
    pub(super) async fn discard_rest(&self, body: &mut Body, peer: PeerKey) {
        self.discards.discard(body, peer).await;
    }

    /// Discards a part of a refused body of `peer` while the response is sent: the client may wait for that before its end.
    pub(super) fn discard_meanwhile(&self, mut body: Body, peer: PeerKey) {
        let discards = self.discards.clone();
        tokio::spawn(async move { discards.discard(&mut body, peer).await });
    }

    /// Checks what has arrived of `peer`, where slow handlers are polled if that takes long.
    ///
    /// # Errors
    ///
    /// That of the check.
    pub(super) async fn check(
        &self,
        bytes: &Bytes,
        peer: PeerKey,
        check: impl FnOnce(&[u8]) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        if bytes.len() <= MAX_CHECKED_INLINE {
            return check(bytes);
        }
        let bytes = bytes.clone();
        let checked = self.server.offload(peer, move || check(&bytes)).await;
        checked.unwrap_or_else(|| {
            Err(Status::refused(Code::Unavailable, "the body could not be checked").into())
        })
    }

    /// Reads to the end; memory is held only for bytes that have arrived.
    async fn read(&self, body: &mut Body, peer: PeerKey) -> Result<Received, BodyError> {
        let max = self.max_bytes;
        // The announced size.
        if body.size_hint().lower() > u64::try_from(max).unwrap_or(u64::MAX) {
            return Err(BodyError::TooLarge);
        }
        let size = body.size_hint().upper().and_then(|size| usize::try_from(size).ok());
        let mut bytes = BodyBuffer::new(self.hold(peer), size.map_or(max, |size| size.min(max)));
        while let Some(data) = next(body).await.transpose().map_err(BodyError::Broken)? {
            if data.len() > max - bytes.len() {
                return Err(BodyError::TooLarge);
            }
            if !bytes.push(&data).await {
                return Err(BodyError::NoMemory);
            }
        }
        let (bytes, held) = bytes.finish();
        Ok(Received { bytes, held: Some(held) })
    }

    fn limit_failure(&self, error: &BodyError) -> Failure {
        if matches!(error, BodyError::TooLarge) {
            let message = format!("the body is over the limit of {} bytes", self.max_bytes);
            let status = Status::refused(Code::ResourceExhausted, message);
            return Failure::new(StatusCode::PAYLOAD_TOO_LARGE, status);
        }
        let message = format!(
            "the buffers for bodies are full: {} bytes, half of them for one peer (`Gateway::buffered_bytes`)",
            self.memory.limit()
        );
        Status::refused(Code::ResourceExhausted, message).into()
    }
}

/// Returns the encodings of a body other than none: `gzip`.
pub(super) fn content_encoding(headers: &HeaderMap) -> Option<String> {
    let values =
        headers.get_all(CONTENT_ENCODING).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let encodings: Vec<_> = values.collect();
    let encodings = encodings.join(", ");
    let is_none = encodings.split(',').all(|one| {
        let one = one.trim();
        one.is_empty() || one.eq_ignore_ascii_case("identity")
    });
    (!is_none).then_some(encodings)
}

/// Returns the next bytes of a body; `None` at its end, or if trailers follow, which are ignored.
pub(super) async fn next(body: &mut Body) -> Option<Result<Bytes, axum::Error>> {
    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await?;
    frame.map(|frame| frame.into_data().ok()).transpose()
}

/// Checks that a body is JSON or empty. Its types are left to the method.
///
/// # Errors
///
/// The body is not JSON: with line and column.
fn check_json(body: &[u8]) -> Result<(), Failure> {
    if body.trim_ascii().is_empty() {
        return Ok(());
    }
    // Which some editors and shells write unseen.
    if body.starts_with(b"\xEF\xBB\xBF") {
        let message =
            "the body begins with a byte order mark (EF BB BF), which JSON does not have: send it without";
        return Err(Failure::invalid(message));
    }
    // The first bytes of gzip, which no text has; its sender forgot the header.
    if body.starts_with(&[0x1f, 0x8b]) {
        return Err(Failure::unsupported_encoding("gzip"));
    }
    serde_json::from_slice::<IgnoredAny>(body).map(drop).map_err(|error| {
        Failure::invalid(format!(
            "the body is not JSON: {error}; arguments are by name, as in {{\"a\": 6, \"b\": 7}}"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::HeaderValue;
    use farcall_server::Server;
    use farcall_transport::PeerAddress;
    use futures::stream;

    use super::*;
    use crate::gateway::Gateway;

    #[tokio::test]
    async fn body_without_a_length_has_the_same_limit() {
        let server = Server::builder().build().unwrap().handle();
        let limits = BodyLimits::new(server, &Gateway::default());
        let half = Bytes::from(vec![b' '; limits.max_bytes() / 2]);
        for more in ["", " "] {
            let pieces = [half.clone(), half.clone(), Bytes::from(more)].map(Ok::<_, Infallible>);
            let mut body = Body::from_stream(stream::iter(pieces));
            let read = limits.read(&mut body, PeerAddress::Memory.key()).await;
            assert_eq!(matches!(read, Err(BodyError::TooLarge)), !more.is_empty());
            assert_eq!(read.is_ok(), more.is_empty());
        }
    }

    #[test]
    fn compressed_body_is_known_by_its_header() {
        let encoding = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, HeaderValue::from_static(value));
            }
            content_encoding(&headers)
        };
        for none in [&[][..], &["identity"], &["IDENTITY, identity"], &[""]] {
            assert_eq!(encoding(none), None, "{none:?}");
        }
        assert_eq!(encoding(&["gzip"]).as_deref(), Some("gzip"));
        assert_eq!(encoding(&["identity", "br"]).as_deref(), Some("identity, br"));
    }

    #[test]
    fn error_for_malformed_json_names_its_position() {
        for good in ["", " \r\n", "{}", "[6, 7]\n", "null", "42"] {
            assert!(check_json(good.as_bytes()).is_ok(), "{good}");
        }
        for (wrong, place) in [
            ("a=6&b=7", "line 1 column 1"),
            ("{\"a\": 6,\n \"b\": }", "line 2 column 7"),
            ("{\"a\": 6", "line 1 column 7"),
            ("{} {}", "line 1 column 4"),
            ("\u{feff}{}", "byte order mark"),
        ] {
            let refused = format!("{:?}", check_json(wrong.as_bytes()).unwrap_err());
            assert!(refused.contains(place), "{wrong}: {refused}");
        }
    }
}
