//! The errors of an upgrade: between an accepted connection and a farcall stream.

use std::io;
use std::time::Duration;

use farcall_protocol::text;

use crate::human::HumanDuration;

/// The reason why a server that accepted the connection gave no stream, in a sentence about "it".
///
/// The text of the peer is quoted escaped and cut short, so it is safe to log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpUpgradeError {
    /// An answer that is no success, such as that of a proxy whose server is gone.
    #[error("it answered {line}{}", .message.as_ref().map(|message| format!(": {message}")).unwrap_or_default())]
    Refused {
        /// The status, such as 502.
        status: u16,
        /// The status and its reason, such as `502 Bad Gateway`.
        line: String,
        /// The first line of the body; `None` if there is none or it is HTML.
        message: Option<String>,
    },
    /// A success that opens no stream: a web server answered that does not know farcall.
    #[error("it answered {status} with a page, not with a stream: no farcall server is there")]
    Page {
        /// The status and its reason, such as `200 OK`.
        status: String,
    },
    /// The server switched to another protocol than the one that was requested.
    #[error("it switched to another protocol: `Upgrade: {protocol}`")]
    WrongProtocol {
        /// The value of its header.
        protocol: String,
    },
    /// The answer to the WebSocket's key is wrong: it belongs to another request, perhaps from a cache.
    #[error("its Sec-WebSocket-Accept does not fit the key that was sent")]
    WrongKey,
    /// The answer does not begin with the head of an HTTP/1 response.
    #[error("what it answered is no HTTP/1.1: {error}")]
    NotHttp {
        /// The error in it.
        error: httparse::Error,
    },
    /// The head of the answer is too long.
    #[error("the head of its answer is longer than {limit} bytes")]
    HeadTooLong {
        /// The maximum length, in bytes.
        limit: usize,
    },
    /// The server closed before the head was complete.
    #[error("it closed the connection instead of answering")]
    Closed,
    /// The server sent nothing, or not all of the head, for too long.
    #[error("it accepted the connection, and did not answer within {}", HumanDuration(*limit))]
    Timeout {
        /// The time limit, connecting included; see
        /// [`Dialer::connect_timeout`](crate::Dialer::connect_timeout).
        limit: Duration,
    },
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Returns the beginning of a peer's text for an error message, escaped.
pub(super) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    text::excerpt(text, MAX_CHARS)
}
