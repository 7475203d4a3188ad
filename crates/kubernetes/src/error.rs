//! [`KubernetesOptionsError`]: what can be wrong with options before anything is sent.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::source::TokenFault;
use farcall_protocol::EscapedText;
use farcall_tls::FileError;

/// An error in [`KubernetesOptions`](crate::KubernetesOptions), or in a name.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubernetesOptionsError {
    /// The process runs in no pod.
    #[error(
        "the environment has no {variable}: this is no pod of Kubernetes; name the API server with \
         `KubernetesOptions::new`"
    )]
    #[non_exhaustive]
    NotInCluster {
        /// The variable that is missing.
        variable: &'static str,
    },
    /// The URL is not that of an API server.
    #[error("`{}` is no URL of an API server: {reason}; write `https://host:6443`", EscapedText(.url))]
    #[non_exhaustive]
    Url {
        /// The text, without a password.
        url: String,
        /// The error in it.
        reason: Arc<dyn Error + Send + Sync>,
    },
    /// A name that Kubernetes does not allow.
    #[error(
        "`{}` is no {kind}: it must be 1 to 63 small letters, digits and `-`, with a letter or a digit at both ends",
        EscapedText(.name)
    )]
    #[non_exhaustive]
    Name {
        /// The thing that it should name.
        kind: NameKind,
        /// The name that was given.
        name: String,
    },
    /// The scheme has no hosts and ports.
    #[error("`{0}` is no scheme of servers in pods: they have hosts and ports")]
    Scheme(farcall_transport::Scheme),
    /// A time limit that is zero, or a watch that is too short or too long.
    #[error("the {name} for Kubernetes is {time:?}; it must be from {min:?} to {max:?}")]
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
    /// A header cannot carry the token.
    #[error("the token of `KubernetesOptions::token` {reason}")]
    #[non_exhaustive]
    Token {
        /// The error in it, with its position, and without a part of it.
        reason: String,
    },
    /// A file of the pod cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl KubernetesOptionsError {
    pub(crate) fn token(fault: TokenFault) -> Self {
        Self::Token { reason: fault.to_string() }
    }
}

/// The thing that a name is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameKind {
    /// A namespace.
    Namespace,
    /// A service.
    Service,
    /// A port.
    Port,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Namespace => "namespace",
            Self::Service => "service",
            Self::Port => "port name",
        })
    }
}

/// Checks a DNS label, which these names are.
pub(crate) fn check_name(kind: NameKind, name: &str) -> Result<(), KubernetesOptionsError> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=63).contains(&name.len()) && name.bytes().all(known);
    if fits && !name.starts_with('-') && !name.ends_with('-') {
        Ok(())
    } else {
        Err(KubernetesOptionsError::Name { kind, name: name.to_owned() })
    }
}
