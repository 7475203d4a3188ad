//! [`SettingsError`]: invalid settings, found before anything is sent.

use std::str::FromStr;

use farcall_discovery::InstanceError;
use farcall_tls::TlsError;
use reqwest::Url;

/// An invalid setting of a registrar or a discovery.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The URL is not that of a registry.
    #[error("`{url}` is not the URL of a registry: {error}; write one like http://127.0.0.1:7100/registry")]
    Url {
        /// The URL, escaped and shortened, without a password.
        url: String,
        /// The cause.
        error: UrlError,
    },
    /// The name of the service is invalid.
    #[error(transparent)]
    Service(#[from] InstanceError),
    /// The certificates to trust cannot be used.
    #[error(transparent)]
    Roots(#[from] TlsError),
}

/// The reason why a URL is not that of a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// The text is not a URL.
    #[error(transparent)]
    Malformed(<Url as FromStr>::Err),
    /// The URL has a user or a password, which belong into a token.
    #[error("it has a user or password in it")]
    Credentials,
    /// The scheme is neither `http` nor `https`.
    #[error("it begins with neither http:// nor https://, as in http://127.0.0.1:7100")]
    Scheme,
    /// The URL has a query or a fragment.
    #[error("it has a ? or # in it")]
    Query,
    /// The port is 0, which cannot be connected to.
    #[error("port 0 is any port")]
    Port,
}
