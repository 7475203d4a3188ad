//! [`EtcdOptionsError`]: what can be wrong with options before anything is sent.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::InstanceError;
use farcall_discovery::source::http::innermost_cause;
use farcall_tls::TlsError;

/// An error in [`EtcdOptions`](crate::EtcdOptions), or in the name of a service.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdOptionsError {
    /// One of the endpoints is not the address of an etcd.
    #[error(
        "`{endpoint}` is not an etcd endpoint: {reason}; write `http://host:2379`, several separated by commas"
    )]
    #[non_exhaustive]
    Endpoint {
        /// The text, without a password.
        endpoint: String,
        /// The error in it.
        reason: EndpointErrorKind,
    },
    /// The prefix cannot begin keys.
    #[error("`{0}` is not a prefix of etcd keys: it begins with `/` and does not end with one")]
    Prefix(String),
    /// A lease that is too short or too long.
    #[error("an etcd lease of {0:?}: it must be from 1 s to 1 day")]
    Ttl(Duration),
    /// A time limit of zero.
    #[error("the {0} for etcd is zero; nothing could ever be in time")]
    Zero(&'static str),
    /// A certificate or key cannot be used.
    #[error("TLS to etcd: {0}")]
    Tls(TlsError),
    /// The HTTP client could not be made.
    #[error("no HTTP client for etcd: {}", innermost_cause(.0))]
    Client(reqwest::Error),
    /// The name of the service is not allowed.
    #[error(transparent)]
    Service(#[from] InstanceError),
}

impl From<TlsError> for EtcdOptionsError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// The error in the text of an etcd endpoint.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointErrorKind {
    /// There is no text.
    #[error("nothing is there")]
    Empty,
    /// A text that is not a URL.
    #[error(transparent)]
    Url(Arc<dyn Error + Send + Sync>),
    /// Another scheme than `http` and `https`.
    #[error("its scheme is neither `http` nor `https`")]
    Scheme,
    /// A user or a password.
    #[error("user and password do not belong here; set them with `EtcdOptions::user`")]
    Credentials,
    /// A path, a query or a fragment.
    #[error("something stands after the port")]
    Path,
    /// A URL that cannot have a port.
    #[error("it can have no port")]
    Port,
}

#[cfg(test)]
mod tests {
    use std::io;

    use farcall_test_support::errors::assert_told_once;

    use super::*;
    use crate::EtcdOptions;
    use crate::admin::EtcdAdminError;
    use crate::call_error::{CallError, CallErrorKind};

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let wrong = |endpoint: &str| EtcdOptions::new(endpoint).map(drop).unwrap_err();
        for endpoint in ["", "http://", "http://me@a", "ftp://a", "http://a/b"] {
            assert_told_once(&wrong(endpoint));
        }
        assert_told_once(&EtcdOptionsError::from(TlsError::other(io::Error::other("torn"))));
        let failed =
            || CallError::new("http://a", "kv/range", CallErrorKind::Unreachable("refused".to_owned()));
        assert_told_once(&failed().after(vec![failed()]));
        assert_told_once(&EtcdAdminError::from(failed()));
        let reason = Arc::new(io::Error::other("it is no JSON"));
        assert_told_once(&EtcdAdminError::Invalid { id: "a".to_owned(), reason });
    }
}
