//! [`ClientOptions`]: the settings that the registrar and the discovery share.

use std::path::PathBuf;
use std::time::Duration;

use farcall_protocol::time::MAX_WAIT;
use farcall_tls::Pem;

use super::http_client;
use super::settings::SettingsError;
use super::token::Token;
use super::urls::Urls;

/// The default of [`ClientOptions::timeout`].
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// The minimum of [`ClientOptions::timeout`].
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

/// The settings of requests to one registry. The public setters, with their documentation, are those of
/// [`HttpRegistrar`](super::HttpRegistrar) and [`HttpDiscovery`](super::HttpDiscovery).
#[derive(Clone, Debug)]
pub(super) struct ClientOptions {
    pub(super) urls: Urls,
    pub(super) token: Token,
    /// Certificates that are trusted in addition to the system's.
    pub(super) roots: Vec<Pem>,
    /// The limit of each step of a request: connecting, the response's beginning, each pause in its body.
    pub(super) timeout: Duration,
}

impl ClientOptions {
    pub(super) fn new(url: &str) -> Result<Self, SettingsError> {
        Ok(Self { urls: Urls::parse(url)?, token: Token::None, roots: Vec::new(), timeout: DEFAULT_TIMEOUT })
    }

    pub(super) fn set_token(&mut self, token: String) {
        self.token = Token::Literal(token);
    }

    pub(super) fn set_token_file(&mut self, path: PathBuf) {
        self.token = Token::File(path);
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout.clamp(MIN_TIMEOUT, MAX_WAIT);
    }

    pub(super) fn add_roots(&mut self, pem: &[u8]) -> Result<(), SettingsError> {
        self.roots.push(http_client::parse_roots(pem)?);
        Ok(())
    }
}
