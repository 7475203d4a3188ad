//! [`HandshakeError`]: the error of a handshake that failed, seen from the client.

use thiserror::Error;

use crate::limits::MAX_OPTION_BYTES;
use crate::status::Status;
use crate::text::EscapedText;

/// The error of a handshake that failed, seen from the client.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server refused.
    #[error("refused: {status}{}", spoken(.codecs))]
    Refused {
        /// The reason.
        status: Status,
        /// The codecs that the server supports.
        codecs: Vec<String>,
    },
    /// The server's answer is not an Option.
    #[error("the answer is no Option: {}", EscapedText(.message))]
    Malformed {
        /// The message of the JSON parser.
        message: String,
    },
    /// The server answered with a term that was not requested.
    #[error("the answer's {field} {found} is not what was asked for")]
    Unasked {
        /// The name of the field.
        field: &'static str,
        /// The value of the field, quoted, or "is missing".
        found: String,
    },
    /// The client's Option would exceed 4 KiB.
    #[error("the Option has {size} bytes, {MAX_OPTION_BYTES} are allowed: the token is too long")]
    OptionTooLarge {
        /// The size in bytes.
        size: usize,
    },
}

fn spoken(codecs: &[String]) -> String {
    if codecs.is_empty() {
        return String::new();
    }
    format!(" (it speaks {})", EscapedText(&codecs.join(", ")))
}
