//! [`CallError`]: the error of a request to Consul's agent.

use std::time::Duration;

use farcall_discovery::source::TokenError;
use farcall_discovery::source::http::{BodyError, describe_failure};
use farcall_discovery::{RegistrarError, RegistrarErrorKind};
use farcall_protocol::text;
use farcall_transport::HumanDuration;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {}", HumanDuration(*.0))]
    Timeout(Duration),
    #[error("Consul says `{message}` (status {status}){}", advice(*.status))]
    Refused { status: u16, message: String },
    #[error("its answer is not Consul's: {0}")]
    InvalidAnswer(String),
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("the service has more than {0} instances")]
    TooMany(usize),
    #[error(transparent)]
    Token(#[from] TokenError),
}

impl CallError {
    /// Creates the error of a request without a complete answer. Its text is the innermost cause, such as
    /// `Connection refused`.
    pub(crate) fn unreachable(error: &reqwest::Error) -> Self {
        Self::Unreachable(describe_failure(error))
    }

    /// Returns `true` if the check or the service is not known. Agents before 1.11 say so with status 500.
    pub(crate) fn is_unknown(&self) -> bool {
        match self {
            Self::Refused { status: 404, .. } => true,
            Self::Refused { message, .. } => {
                ["Unknown check", "Unknown service", "does not have associated TTL"]
                    .iter()
                    .any(|sentence| message.contains(sentence))
            }
            _ => false,
        }
    }
}

impl From<BodyError> for CallError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Broken(error) => Self::unreachable(&error),
            BodyError::TooLong(limit) => Self::TooLong(limit),
            BodyError::Compressed(name) => {
                Self::InvalidAnswer(format!("it is compressed ({name}), which was not asked for"))
            }
        }
    }
}

impl From<CallError> for RegistrarError {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::Unreachable(_) => RegistrarErrorKind::Unavailable,
            CallError::Timeout(_) => RegistrarErrorKind::Timeout,
            CallError::Refused { .. } => RegistrarErrorKind::Rejected,
            _ => RegistrarErrorKind::Other,
        };
        Self::from_source(kind, error)
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        401 | 403 => "; the token is missing, wrong, or has no permission",
        _ => "",
    }
}

/// Returns the beginning of foreign text, escaped.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 160; // Consul's own sentences are shorter
    text::excerpt(text.trim(), MAX_CHARS)
}
