//! [`CallError`]: the error of a request to the API server.

use std::time::Duration;

use farcall_discovery::source::TokenError;
use farcall_discovery::source::http::{BodyError, describe_failure, innermost_cause};
use farcall_protocol::text;
use farcall_tls::{FileError, TlsError};
use farcall_transport::HumanDuration;

use crate::wire::Status;

/// The longest pause that an API server can request.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{0}")]
    Unreachable(String),
    #[error("no answer within {}", HumanDuration(*.0))]
    Timeout(Duration),
    #[error("status {status}: {message}{}", advice(*.status))]
    Refused { status: u16, message: String, retry_after: Option<Duration> },
    /// The version that a watch or a page goes on from is forgotten.
    #[error("the version is too old: {0}")]
    Expired(String),
    #[error("its answer is not that of an API server: {0}")]
    InvalidAnswer(String),
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
    #[error("there are more than {0} EndpointSlices")]
    TooManySlices(usize),
    #[error("its EndpointSlices have more than {0} bytes")]
    TooManyBytes(usize),
    #[error("the list was not complete within {}", HumanDuration(*.0))]
    ListTimeout(Duration),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("TLS: {0}")]
    Tls(TlsError),
    #[error("the files of the service account cannot be read: {0}")]
    Reading(tokio::task::JoinError),
    #[error("no HTTP client: {}", innermost_cause(.0))]
    Client(reqwest::Error),
}

impl CallError {
    /// Parses an answer that is no success.
    pub(crate) fn refused(status: u16, retry_after: Option<u64>, body: &[u8]) -> Self {
        match serde_json::from_slice::<Status>(body).ok().filter(|status| !status.message.is_empty()) {
            Some(body) => Self::of_status(&Status { code: status, ..body }, retry_after),
            None if status == GONE => Self::Expired(excerpt(&String::from_utf8_lossy(body))),
            None => Self::Refused {
                status,
                message: format!("`{}`", excerpt(&String::from_utf8_lossy(body))),
                retry_after: pause(retry_after),
            },
        }
    }

    /// Takes the error from a status.
    pub(crate) fn of_status(status: &Status, retry_after: Option<u64>) -> Self {
        let message = excerpt(&status.message);
        if status.code == GONE || matches!(&*status.reason, "Expired" | "Gone") {
            return Self::Expired(message);
        }
        Self::Refused { status: status.code, message, retry_after: pause(retry_after) }
    }

    /// Creates the error of a request without a complete answer. Its text is the innermost cause, such as
    /// `Connection refused`.
    pub(crate) fn unreachable(error: &reqwest::Error) -> Self {
        Self::Unreachable(describe_failure(error))
    }

    /// Returns the pause that the API server requests.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

impl From<TlsError> for CallError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
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

/// The status of a version that is too old.
const GONE: u16 = 410;

fn pause(retry_after: Option<u64>) -> Option<Duration> {
    retry_after.map(|seconds| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

fn advice(status: u16) -> &'static str {
    match status {
        401 => "; the token is missing, wrong or expired",
        403 => "; its role must allow to list and watch endpointslices of discovery.k8s.io in the namespace",
        _ => "",
    }
}

/// Returns the beginning of foreign text, escaped.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 200; // sentences of API servers are shorter, mostly
    text::excerpt(text.trim(), MAX_CHARS)
}

#[cfg(test)]
mod tests {
    use std::io;

    use farcall_test_support::errors::assert_told_once;
    use farcall_tls::read_file;

    use super::*;
    use crate::{KubernetesOptions, KubernetesOptionsError};

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let torn = || TlsError::other(io::Error::other("torn"));
        let unreadable = || read_file("/there/is/none".as_ref(), 1).unwrap_err();
        for error in [
            CallError::from(torn()),
            CallError::from(unreadable()),
            CallError::from(TokenError::from(unreadable())),
            CallError::Unreachable("refused".to_owned()),
        ] {
            assert_told_once(&error);
        }
        assert_told_once(&KubernetesOptionsError::from(unreadable()));
        for url in ["127.0.0.1", "ftp://a", "https://me@a"] {
            assert_told_once(&KubernetesOptions::new(url, "shop").map(drop).unwrap_err());
        }
    }

    #[test]
    fn errors_have_the_sentence_of_the_status() {
        let forbidden =
            r#"{"kind":"Status","code":403,"reason":"Forbidden","message":"endpointslices is forbidden"}"#;
        let error = CallError::refused(403, None, forbidden.as_bytes()).to_string();
        assert!(error.starts_with("status 403: endpointslices is forbidden; its role must allow"), "{error}");
        let error = CallError::refused(502, None, b"<html>\nBad").to_string();
        assert_eq!(error, "status 502: `<html>\\nBad`");
        let expired = br#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#;
        assert!(matches!(CallError::refused(410, None, expired), CallError::Expired(_)));
        assert!(matches!(CallError::refused(410, None, b""), CallError::Expired(_)));
    }

    #[test]
    fn requested_pause_has_a_bound() {
        for (seconds, expected) in [(2, 2), (u64::MAX, 60)] {
            let error = CallError::refused(429, Some(seconds), b"slow down");
            assert_eq!(error.retry_after(), Some(Duration::from_secs(expected)));
        }
    }
}
