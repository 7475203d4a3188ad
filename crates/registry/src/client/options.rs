//! [`ClientOptions`]: the settings that the registrar and the discovery share.

use std::path::PathBuf;
use std::time::Duration;

use farcall_discovery::source::Token;
use farcall_protocol::time::MAX_WAIT;
use farcall_tls::Pem;
use farcall_transport::Dialer;

use super::dialed_http::DialedHttp;
use super::http_client;
use super::settings::SettingsError;
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
    /// Sends the requests in place of the HTTP client, if it is set.
    pub(super) dialed: Option<DialedHttp>,
}

impl ClientOptions {
    pub(super) fn new(url: &str) -> Result<Self, SettingsError> {
        let (urls, token, timeout) = (Urls::parse(url)?, Token::None, DEFAULT_TIMEOUT);
        Ok(Self { urls, token, roots: Vec::new(), timeout, dialed: None })
    }

    pub(super) fn set_token(&mut self, token: String) {
        self.token = Token::Text(token);
    }

    pub(super) fn set_token_file(&mut self, path: PathBuf) {
        self.token = Token::File(path);
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout.clamp(MIN_TIMEOUT, MAX_WAIT);
    }

    pub(super) fn set_dialer(&mut self, dialer: Dialer) {
        self.dialed = Some(DialedHttp::new(dialer));
    }

    pub(super) fn add_roots(&mut self, pem: &[u8]) -> Result<(), SettingsError> {
        self.roots.push(http_client::parse_roots(pem)?);
        Ok(())
    }
}
