//! [`ConsulOptionsError`]: what can be wrong with options before anything is sent.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::InstanceError;
use farcall_discovery::source::TokenFault;
use farcall_discovery::source::http::innermost_cause;
use farcall_protocol::EscapedText;
use farcall_tls::TlsError;

/// An error in [`ConsulOptions`](crate::ConsulOptions), or in the name of a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsulOptionsError {
    /// The URL is not that of an agent.
    #[error("`{}` is no URL of a Consul agent: {reason}; write `http://127.0.0.1:8500`", EscapedText(.url))]
    #[non_exhaustive]
    Url {
        /// The text, without a password.
        url: String,
        /// The error in it.
        reason: Arc<dyn Error + Send + Sync>,
    },
    /// A time that is too short or too long.
    #[error("the {name} for Consul is {time:?}; it must be from {min:?} to {max:?}")]
    #[non_exhaustive]
    Time {
        /// The setting.
        name: &'static str,
        /// The time that was given.
        time: Duration,
        /// The shortest one.
        min: Duration,
        /// The longest one.
        max: Duration,
    },
    /// The scheme has no hosts and ports.
    #[error("`{0}` is no scheme of services in Consul: they have hosts and ports")]
    Scheme(farcall_transport::Scheme),
    /// A header cannot carry the token.
    #[error("the token of `ConsulOptions::token` {reason}")]
    #[non_exhaustive]
    Token {
        /// The error in it, with its position, and without a part of it.
        reason: String,
    },
    /// A certificate cannot be used.
    #[error("TLS to Consul: {0}")]
    Tls(TlsError),
    /// The HTTP client could not be made.
    #[error("no HTTP client for Consul: {}", innermost_cause(.0))]
    Client(reqwest::Error),
    /// The name of the service is not allowed.
    #[error(transparent)]
    Service(#[from] InstanceError),
}

impl From<TlsError> for ConsulOptionsError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl ConsulOptionsError {
    pub(crate) fn token(fault: TokenFault) -> Self {
        Self::Token { reason: fault.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use farcall_discovery::RegistrarError;
    use farcall_test_support::errors::assert_told_once;

    use super::*;
    use crate::ConsulOptions;
    use crate::call_error::CallError;

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        for url in ["127.0.0.1:8500", "ftp://a", "http://me@a"] {
            assert_told_once(&ConsulOptions::new(url).map(drop).unwrap_err());
        }
        assert_told_once(&ConsulOptionsError::from(TlsError::other(io::Error::other("torn"))));
        let token = farcall_discovery::source::TokenError::Text(TokenFault::Empty);
        assert_told_once(&CallError::from(token.clone()));
        assert_told_once(&RegistrarError::from(CallError::from(token)));
        assert_told_once(&CallError::Unreachable("refused".to_owned()));
    }
}
