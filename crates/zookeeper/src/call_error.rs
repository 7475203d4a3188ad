//! [`CallError`]: the error of a request to ZooKeeper.

use std::time::Duration;

use farcall_discovery::{RegistrarError, RegistrarErrorKind};
use farcall_protocol::text::excerpt;
use farcall_transport::HumanDuration;
use zookeeper_client::Error;

/// The characters of a path that an error shows: the name of a node can be long.
const MAX_PATH: usize = 160;

/// The error of a request, or of a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("{servers}: no connection: {error}")]
    Connect { servers: String, error: Error },
    #[error("{servers}: no answer within {}", HumanDuration(*.limit))]
    Timeout { servers: String, limit: Duration },
    #[error("{servers}: {}: {error}{}", excerpt(path, MAX_PATH), advice(error))]
    Request { servers: String, path: String, error: Error },
    #[error("{servers}: the connection is lost")]
    Disconnected { servers: String },
    #[error("{servers}: the session is lost")]
    SessionLost { servers: String },
    #[error("{servers}: more than {limit} nodes are there")]
    TooMany { servers: String, limit: usize },
}

impl CallError {
    /// Returns the error of ZooKeeper, if it is one.
    pub(crate) const fn of_zookeeper(&self) -> Option<&Error> {
        match self {
            Self::Request { error, .. } | Self::Connect { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<CallError> for RegistrarError {
    fn from(error: CallError) -> Self {
        let kind = match &error {
            CallError::Timeout { .. } => RegistrarErrorKind::Timeout,
            CallError::Request {
                error: Error::NoAuth | Error::AuthFailed | Error::QuotaExceeded, ..
            }
            | CallError::Connect { error: Error::AuthFailed, .. } => RegistrarErrorKind::Rejected,
            CallError::TooMany { .. } => RegistrarErrorKind::Other,
            _ => RegistrarErrorKind::Unavailable,
        };
        Self::from_source(kind, error)
    }
}

fn advice(error: &Error) -> &'static str {
    match error {
        Error::NoAuth => "; the node belongs to another user",
        Error::Unimplemented => "; ZooKeeper 3.6 or later is needed",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use farcall_test_support::errors::assert_told_once;

    use super::*;

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let servers = || "a:2181".to_owned();
        for error in [
            CallError::Connect { servers: servers(), error: Error::ConnectionLoss },
            CallError::Request { servers: servers(), path: "/a".to_owned(), error: Error::NoAuth },
        ] {
            assert_told_once(&error);
            assert_told_once(&RegistrarError::from(error));
        }
    }

    #[test]
    fn errors_have_the_kind_that_registrars_act_on_and_say_what_to_do() {
        let servers = || "a:2181".to_owned();
        let request = |error| CallError::Request { servers: servers(), path: "/p/Arith".to_owned(), error };
        let connect = |error| CallError::Connect { servers: servers(), error };
        for (error, kind, advice) in [
            (request(Error::NoAuth), RegistrarErrorKind::Rejected, "; the node belongs to another user"),
            (request(Error::AuthFailed), RegistrarErrorKind::Rejected, ""),
            (request(Error::QuotaExceeded), RegistrarErrorKind::Rejected, ""),
            (
                request(Error::Unimplemented),
                RegistrarErrorKind::Unavailable,
                "; ZooKeeper 3.6 or later is needed",
            ),
            (request(Error::ConnectionLoss), RegistrarErrorKind::Unavailable, ""),
            (connect(Error::AuthFailed), RegistrarErrorKind::Rejected, ""),
            (connect(Error::ConnectionLoss), RegistrarErrorKind::Unavailable, ""),
            (
                CallError::Timeout { servers: servers(), limit: Duration::from_secs(5) },
                RegistrarErrorKind::Timeout,
                "no answer within 5 s",
            ),
            (CallError::Disconnected { servers: servers() }, RegistrarErrorKind::Unavailable, ""),
            (CallError::SessionLost { servers: servers() }, RegistrarErrorKind::Unavailable, ""),
            (
                CallError::TooMany { servers: servers(), limit: 7 },
                RegistrarErrorKind::Other,
                "more than 7 nodes",
            ),
        ] {
            let text = error.to_string();
            assert!(text.starts_with("a:2181: ") && text.contains(advice), "{text}");
            assert_eq!(text.contains("; "), advice.starts_with("; "), "{text}");
            assert_eq!(RegistrarError::from(error).kind(), kind, "{text}");
        }
    }
}
