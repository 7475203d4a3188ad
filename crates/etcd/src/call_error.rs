//! [`CallError`]: the error of a call of etcd.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use farcall_discovery::RegistrarErrorKind;
use farcall_discovery::source::http::{BodyError, describe_failure};
use farcall_protocol::text;
use farcall_transport::HumanDuration;

use crate::wire::ErrorAnswer;

/// The error of one endpoint, or of each of several. The text names them.
#[derive(Debug)]
pub(crate) struct CallError {
    endpoint: String,
    method: &'static str,
    pub(crate) kind: CallErrorKind,
    /// The errors of the endpoints that were tried before.
    before: Vec<CallError>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallErrorKind {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {}", HumanDuration(*.0))]
    Timeout(Duration),
    #[error("etcd says `{message}`{}{}", code_note(*.code), advice(message))]
    Refused { code: Option<i64>, message: String },
    #[error("its answer is not etcd's: {0}")]
    InvalidAnswer(String),
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("more than {0} keys are there")]
    TooManyKeys(usize),
    #[error("the watch ended: {0}")]
    WatchEnded(String),
}

/// gRPC's codes that matter here.
mod code {
    pub(super) const DEADLINE_EXCEEDED: i64 = 4;
    pub(super) const NOT_FOUND: i64 = 5;
    pub(super) const RESOURCE_EXHAUSTED: i64 = 8;
    pub(super) const FAILED_PRECONDITION: i64 = 9;
    pub(super) const INTERNAL: i64 = 13;
    pub(super) const UNAVAILABLE: i64 = 14;
    pub(super) const UNAUTHENTICATED: i64 = 16;
}

impl CallError {
    pub(crate) fn new(endpoint: &str, method: &'static str, kind: CallErrorKind) -> Self {
        Self { endpoint: endpoint.to_owned(), method, kind, before: Vec::new() }
    }

    /// Adds the errors of the endpoints that were tried before.
    pub(crate) fn after(mut self, before: Vec<Self>) -> Self {
        self.before = before;
        self
    }
}

impl From<BodyError> for CallErrorKind {
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

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in &self.before {
            write!(f, "{error}; ")?;
        }
        write!(f, "{} ({}): {}", self.endpoint, self.method, self.kind)
    }
}

/// There is no source: the text has all of it.
impl Error for CallError {}

impl CallErrorKind {
    /// Parses the body of an answer that is not a success.
    pub(crate) fn refused(status: u16, body: &[u8]) -> Self {
        let answer = serde_json::from_slice::<ErrorAnswer>(body).ok();
        let parsed = answer.as_ref().and_then(|answer| {
            let message = answer.message.as_deref().or_else(|| ErrorAnswer::sentence(&answer.error))?;
            Some((answer.code(), message))
        });
        match parsed {
            Some((code, message)) => Self::Refused { code, message: excerpt(message) },
            None => Self::InvalidAnswer(format!(
                "HTTP status {status}, `{}`",
                excerpt(&String::from_utf8_lossy(body))
            )),
        }
    }

    /// Creates the error of a request without a complete answer. Its text is the innermost cause, such as
    /// `Connection refused`.
    pub(crate) fn unreachable(error: &reqwest::Error) -> Self {
        Self::Unreachable(describe_failure(error))
    }

    /// Returns `true` if another endpoint may succeed: the cause is the endpoint, not the request.
    pub(crate) fn may_differ_elsewhere(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Timeout(_) | Self::InvalidAnswer(_) | Self::TooLong(_) => true,
            Self::TooManyKeys(_) | Self::WatchEnded(_) => false,
            Self::Refused { code, .. } => matches!(
                code,
                None | Some(
                    code::DEADLINE_EXCEEDED | code::RESOURCE_EXHAUSTED | code::INTERNAL | code::UNAVAILABLE
                )
            ),
        }
    }

    /// Returns `true` if a new token may help. etcd uses the same code for these errors and many others, so
    /// their texts are compared.
    pub(crate) fn wants_new_token(&self) -> bool {
        match self {
            Self::Refused { code: Some(code::UNAUTHENTICATED), .. } => true,
            Self::Refused { message, .. } => {
                ["invalid auth token", "user name is empty", "revision of auth store is old"]
                    .iter()
                    .any(|sentence| message.contains(sentence))
            }
            // The only reason that a watch gets if its token is not known any more.
            Self::WatchEnded(reason) => reason.contains("permission denied"),
            _ => false,
        }
    }

    /// Returns the kind of the error for the users of a registrar.
    pub(crate) const fn registrar_error_kind(&self) -> RegistrarErrorKind {
        match self {
            Self::Unreachable(_) => RegistrarErrorKind::Unavailable,
            Self::Timeout(_) => RegistrarErrorKind::Timeout,
            Self::Refused { .. } => RegistrarErrorKind::Rejected,
            Self::InvalidAnswer(_) | Self::TooLong(_) | Self::TooManyKeys(_) | Self::WatchEnded(_) => {
                RegistrarErrorKind::Other
            }
        }
    }

    /// Returns `true` if authentication is not enabled in etcd.
    pub(crate) fn is_auth_off(&self) -> bool {
        let Self::Refused { code, message } = self else { return false };
        *code == Some(code::FAILED_PRECONDITION) && message.contains("authentication is not enabled")
    }

    /// Returns `true` if the object does not exist, such as a lease that expired.
    pub(crate) const fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Some(code::NOT_FOUND), .. })
    }
}

fn code_note(code: Option<i64>) -> String {
    code.map_or_else(String::new, |code| format!(" (gRPC code {code})"))
}

/// Returns advice for errors of etcd that give none.
fn advice(message: &str) -> &'static str {
    if message.contains("user name is empty") {
        "; it wants a user and a password"
    } else if message.contains("invalid user ID or password") {
        "; the user or the password is wrong"
    } else {
        ""
    }
}

/// Returns the beginning of foreign text, escaped.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 160; // etcd's own sentences are shorter
    text::excerpt(text.trim(), MAX_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_endpoint_method_and_code() {
        for (status, body, expected) in [
            (
                400,
                r#"{"error":"e","message":"etcdserver: authentication failed, invalid user ID or password","code":3}"#,
                "http://a:2379 (auth/authenticate): etcd says `etcdserver: authentication failed, invalid user ID or \
                 password` (gRPC code 3); the user or the password is wrong",
            ),
            (
                503,
                r#"{"error":{"grpc_code":14,"http_code":503,"message":"no leader"}}"#,
                "http://a:2379 (auth/authenticate): etcd says `no leader` (gRPC code 14)",
            ),
            (
                502,
                "<html>\n<b>Bad",
                "http://a:2379 (auth/authenticate): its answer is not etcd's: HTTP status 502, `<html>\\n<b>Bad`",
            ),
        ] {
            let error = CallError::new(
                "http://a:2379",
                "auth/authenticate",
                CallErrorKind::refused(status, body.as_bytes()),
            );
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn long_answer_is_cut_in_the_error() {
        let error = CallErrorKind::refused(500, "x".repeat(100_000).as_bytes());
        assert!(error.to_string().len() < 300, "{error}");
    }
}
