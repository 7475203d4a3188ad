//! [`Settings`]: where the servers are, and how to reach them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use farcall::client::ConnectionOptions;
use farcall::registry::HttpDiscovery;
use farcall::transport::TlsClient;
use farcall::{Address, Channel};
use serde::Deserialize;

/// The time limit of a call where none is set.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The settings' sources. A flag takes precedence over its variable, and that over the file.
#[derive(Debug, clap::Args)]
pub struct Cli {
    /// File with settings (TOML), whose keys are the names of the flags.
    #[arg(long, env = "MY_SERVICE_CLIENT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// The settings as they were given.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Address of a server, without a registry. [default: tcp@127.0.0.1:7001]
    #[arg(long, env = "MY_SERVICE_SERVER", value_name = "ADDRESS")]
    server: Option<Address>,
    /// URL of the registry that knows the servers, such as http://127.0.0.1:7100/registry.
    #[arg(long, env = "MY_SERVICE_REGISTRY", value_name = "URL")]
    registry: Option<String>,
    /// File with the token for the registry.
    #[arg(long, env = "MY_SERVICE_REGISTRY_TOKEN_FILE", value_name = "FILE")]
    registry_token_file: Option<PathBuf>,
    /// File with the authority of the registry's certificate (PEM), if the system does not trust it.
    #[arg(long, env = "MY_SERVICE_REGISTRY_CA", value_name = "FILE")]
    registry_ca: Option<PathBuf>,
    /// File with the authority of the servers' certificates (PEM), for `tls@` addresses. Without
    /// it, the authorities of the system are trusted.
    #[arg(long, env = "MY_SERVICE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File with this caller's certificate and its chain (PEM), if servers ask for one.
    #[arg(long, env = "MY_SERVICE_CLIENT_CERTIFICATE", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// File with the key of the certificate (PEM).
    #[arg(long, env = "MY_SERVICE_CLIENT_KEY", value_name = "FILE")]
    key: Option<PathBuf>,
    /// File with the token that is shown to servers.
    #[arg(long, env = "MY_SERVICE_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Milliseconds that a call may take in all. [default: 5000]
    #[arg(long, env = "MY_SERVICE_TIMEOUT_MS", value_name = "MS")]
    timeout_ms: Option<u64>,
}

impl Cli {
    /// Returns the settings of all sources.
    pub fn settings(self) -> anyhow::Result<Settings> {
        let file = match &self.config {
            Some(path) => Settings::read(path)?,
            None => Settings::default(),
        };
        Ok(self.settings.or(file))
    }
}

impl Settings {
    fn read(path: &Path) -> anyhow::Result<Self> {
        toml::from_str(&read(path)?).with_context(|| format!("in {}", path.display()))
    }

    fn or(self, others: Self) -> Self {
        Self {
            server: self.server.or(others.server),
            registry: self.registry.or(others.registry),
            registry_token_file: self.registry_token_file.or(others.registry_token_file),
            registry_ca: self.registry_ca.or(others.registry_ca),
            ca: self.ca.or(others.ca),
            certificate: self.certificate.or(others.certificate),
            key: self.key.or(others.key),
            token_file: self.token_file.or(others.token_file),
            timeout_ms: self.timeout_ms.or(others.timeout_ms),
        }
    }

    /// Creates a channel to the servers of a service. Nothing is dialed before the first call.
    pub fn channel(&self, service: &str) -> anyhow::Result<Channel> {
        let mut options = ConnectionOptions::default();
        if let Some(tls) = self.tls()? {
            options = options.tls(tls);
        }
        if let Some(file) = &self.token_file {
            options = options.token(read(file)?.trim());
        }
        let timeout = self.timeout_ms.map_or(TIMEOUT, Duration::from_millis);
        let channel = Channel::builder().options(options).timeout(timeout);
        let channel = match (&self.registry, &self.server) {
            // Within its time limit, a call waits for a server to appear.
            (Some(url), None) => channel
                .discover(self.discovery(url, service)?)
                .wait_for_ready(true),
            (None, Some(address)) => channel.to(address.clone()),
            (None, None) => channel.to("tcp@127.0.0.1:7001"),
            (Some(_), Some(_)) => anyhow::bail!("set either `server` or `registry`"),
        };
        Ok(channel.build()?)
    }

    fn tls(&self) -> anyhow::Result<Option<TlsClient>> {
        if self.ca.is_none() && self.certificate.is_none() && self.key.is_none() {
            return Ok(None);
        }
        let tls = match &self.ca {
            Some(authority) => TlsClient::builder().roots_file(authority),
            None => TlsClient::builder().system_roots(),
        };
        let tls = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => tls.certificate_files(certificate, key),
            (None, None) => tls,
            _ => anyhow::bail!("a certificate needs both `certificate` and `key`"),
        };
        Ok(Some(tls.build()?))
    }

    fn discovery(&self, url: &str, service: &str) -> anyhow::Result<HttpDiscovery> {
        let mut discovery = HttpDiscovery::new(url, service)?;
        if let Some(file) = &self.registry_token_file {
            discovery = discovery.token_file(file);
        }
        if let Some(file) = &self.registry_ca {
            discovery = discovery.extra_roots(read(file)?.as_bytes())?;
        }
        Ok(discovery)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
