//! [`SettingsError`]: what can be wrong before anything is sent.

use farcall_discovery::InstanceError;
use farcall_tls::TlsError;

/// What is wrong with how a registrar or a discovery was set up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The URL is not that of a registry.
    #[error("`{url}` is not the URL of a registry: {why}; write one like http://127.0.0.1:7100/registry")]
    Url {
        /// What was given, escaped and cut short, without a password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The name of the service is none.
    #[error("{0}")]
    Service(#[from] InstanceError),
    /// The certificates to trust cannot be used.
    #[error("{0}")]
    Roots(#[from] TlsError),
}
