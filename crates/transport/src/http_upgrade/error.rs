//! The errors between a connection that was accepted and a stream of farcall's.

use std::io;
use std::time::Duration;

use crate::human::HumanDuration;

/// The reason why a server that accepted the connection gave no stream, in a sentence about "it".
///
/// What the other side wrote is quoted escaped and cut short, so it is safe to log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpUpgradeError {
    /// An answer that is no success, as a proxy gives it whose server is gone.
    #[error("it answered {line}{}", .said.as_ref().map(|said| format!(": {said}")).unwrap_or_default())]
    Refused {
        /// The status, such as 502.
        status: u16,
        /// The status and its reason, such as `502 Bad Gateway`.
        line: String,
        /// The first line of the body, unless there is none or it is HTML.
        said: Option<String>,
    },
    /// A success that opens nothing: a web server answered, which knows no farcall.
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
    /// The answer to a WebSocket's key is wrong: it is another request's, out of some cache.
    #[error("its Sec-WebSocket-Accept does not fit the key that was sent")]
    WrongKey,
    /// The answer does not begin with the head of an HTTP/1 response.
    #[error("what it answered is no HTTP/1.1: {source}")]
    NotHttp {
        /// The error in it.
        source: httparse::Error,
    },
    /// The head goes on and on.
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

/// A peer's text for an error message: escaped, and cut short.
pub(super) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let mut shown: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        shown.push('…');
    }
    shown
}
