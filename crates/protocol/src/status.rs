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
