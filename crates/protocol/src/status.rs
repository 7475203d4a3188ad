//! An error as it travels: code, message, execution. What a caller knows beyond that (endpoint,
//! phase, sources) is the client's.

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
pub struct Status {
    /// The error.
    pub code: Code,
    /// A sentence for a person. On the wire at most 1 KiB of it is sent, or kept.
    pub message: String,
    /// The state of the work.
    pub execution: Execution,
}

impl Status {
    /// An error with everything said.
    #[must_use]
    pub fn new(code: Code, execution: Execution, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message, execution }
    }

    /// The handler ran to its end.
    #[must_use]
    pub fn done(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Execution::Done, message)
    }

    /// The call was never started.
    #[must_use]
    pub fn refused(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Execution::Refused, message)
    }

    /// The call was started and cut off, or nobody can know.
    #[must_use]
    pub fn maybe(code: Code, message: impl Into<String>) -> Self {
        Self::new(code, Execution::Maybe, message)
    }

    /// What of the message goes on the wire.
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
