//! [`Status`]: an error on the wire, with code, message and execution. Errors with an endpoint, a phase and
//! sources are left to the client.

use std::fmt;

use crate::code::{Code, Execution};
use crate::text::{EscapedText, MAX_PEER_TEXT, truncate};

/// The error of a message header.
///
/// ```
/// use farcall_protocol::{Code, Execution, Status};
///
/// let status = Status::refused(Code::Unimplemented, "no service `Arith`");
/// assert_eq!(status.to_string(), "unimplemented (refused): no service `Arith`");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The error code.
    pub code: Code,
    /// A description for people. At most 1 KiB of it is sent, and kept of a received one.
    pub message: String,
    /// The state of execution of the call.
    pub execution: Execution,
}

impl Status {
    /// Creates a status from all its fields.
    #[must_use]
    pub fn new(code: Code, execution: Execution, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, execution }
    }

    /// Creates a status for a call whose handler ran to completion.
    #[must_use]
    pub fn done(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Execution::Done, message)
    }

    /// Creates a status for a call that was never started.
    #[must_use]
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Execution::Refused, message)
    }

    /// Creates a status for a call that was interrupted, or whose state is unknown.
    #[must_use]
    pub fn maybe(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Execution::Maybe, message)
    }

    /// Returns the part of the message that is sent.
    pub(crate) fn wire_message(&self) -> &str {
        truncate(&self.message, MAX_PEER_TEXT)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code, self.execution, EscapedText(&self.message))
    }
}

impl std::error::Error for Status {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_shown_with_code_execution_and_escaped_message() {
        let shown = |status: Status| status.to_string();
        assert_eq!(shown(Status::done(Code::Internal, "a\u{1b}b")), r"internal (done): a\u{1b}b");
        assert_eq!(shown(Status::refused(Code::Unavailable, "full")), "unavailable (refused): full");
        assert_eq!(shown(Status::maybe(Code::Cancelled, "gone")), "cancelled (maybe): gone");
        assert_eq!(
            shown(Status::new(Code::Unavailable, Execution::NotSent, "no server")),
            "unavailable (not_sent): no server"
        );
    }

    #[test]
    fn message_is_sent_up_to_the_limit_of_a_text() {
        let status = Status::done(Code::Internal, "x".repeat(MAX_PEER_TEXT));
        assert_eq!(status.wire_message(), status.message);
        let status = Status::done(Code::Internal, "x".repeat(MAX_PEER_TEXT + 1));
        assert_eq!(status.wire_message().len(), MAX_PEER_TEXT);
    }
}
