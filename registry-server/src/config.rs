//! [`Config`]: the resolved settings of a [`Server`](crate::Server).
//!
//! Flags, environment and configuration file are parsed in [`options`](crate::options).

use std::path::PathBuf;
use std::time::Duration;

use farcall_registry::server::RegistryOptions;

use crate::error::{ConfigError, ServerError};
use crate::files;
use crate::options::{Cli, LogFormat, Options};
use crate::tls::TlsFiles;
use crate::tokens::TokenSources;

/// The settings of a [`Server`](crate::Server).
///
/// ```
/// use registry_server::Config;
/// use farcall_registry::server::RegistryOptions;
///
/// let config = Config::new(RegistryOptions::default()).listen("127.0.0.1:0");
/// ```
#[derive(Clone, Debug)]
#[must_use = "a configuration does nothing until a server is bound"]
pub struct Config {
    pub(crate) listen: Vec<String>,
    pub(crate) registry: RegistryOptions,
    pub(crate) tokens: TokenSources,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) log_format: LogFormat,
}

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) max_connections: usize,
    pub(crate) header_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        // More connections than watches, so that there is room for other requests. A longer time than usual intervals of
        // polls and heartbeats, so that clients keep their connections.
        Self { max_connections: 16_384, header_timeout: Duration::from_secs(60) }
    }
}

impl ConnectionLimits {
    /// Checks that clients can be served.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.max_connections == 0 {
            return Err(ConfigError::MaxConnections);
        }
        if self.header_timeout.is_zero() {
            return Err(ConfigError::HeaderTimeout);
        }
        Ok(())
    }
}

/// The address to listen at if none is given.
const DEFAULT_LISTEN: &str = "127.0.0.1:7100";

impl Config {
    /// Creates the configuration of a registry with these options, without TLS, that listens at `127.0.0.1:7100`. The
    /// tokens of the options are used.
    pub fn new(registry: RegistryOptions) -> Self {
        Self {
            listen: Vec::new(),
            registry,
            tokens: TokenSources::default(),
            tls: None,
            limits: ConnectionLimits::default(),
            log_format: LogFormat::default(),
        }
    }

    /// Adds an address to listen at, `HOST:PORT`, in place of the default. Port 0 is any free port.
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// Sets the PEM files for TLS, a chain of certificates and its key, which are read again when they change. Default: no
    /// TLS.
    pub fn tls(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some(TlsFiles { cert: cert.into(), key: key.into() });
        self
    }

    /// Sets the maximum number of connections. Default 16,384, at least 1. Further connections are closed at once.
    pub const fn max_connections(mut self, max: usize) -> Self {
        self.limits.max_connections = max;
        self
    }

    /// Sets the time limit for a request's header, and for idle connections. Default 60 s. If it is shorter than the clients'
    /// intervals, they connect for each request.
    pub const fn header_timeout(mut self, timeout: Duration) -> Self {
        self.limits.header_timeout = timeout;
        self
    }

    /// Resolves the settings of the command line, the environment and the configuration file.
    pub(crate) fn from_cli(cli: Cli) -> Result<Self, ServerError> {
        let file = cli.config.as_deref().map(Options::read_file).transpose()?;
        let options = cli.options.or(file.unwrap_or_default());
        Self::from_options(options, cli.config)
    }

    fn from_options(options: Options, config_file: Option<PathBuf>) -> Result<Self, ServerError> {
        let tls = match (options.tls_cert, options.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return Err(ConfigError::TlsKeyMissing.into()),
            (None, Some(_)) => return Err(ConfigError::TlsCertMissing.into()),
        };
        let mut limits = ConnectionLimits::default();
        limits.max_connections = options.max_connections.unwrap_or(limits.max_connections);
        limits.header_timeout = options.header_timeout.map_or(limits.header_timeout, |time| time.0);
        let tokens = TokenSources {
            read_file: options.read_token_file,
            write_file: options.write_token_file,
            read: files::token_variable("REGISTRY_READ_TOKEN")?,
            write: files::token_variable("REGISTRY_WRITE_TOKEN")?,
            services: options.service_token,
            config_file,
        };
        let mut registry = RegistryOptions::default();
        if let Some(ttl) = options.ttl {
            registry = registry.ttl(ttl.0);
        }
        if let Some(heartbeat) = options.heartbeat {
            registry = registry.heartbeat(heartbeat.0);
        }
        if let Some(snapshot) = options.snapshot {
            registry = registry.snapshot(snapshot);
        }
        if let Some(path) = options.path {
            registry = registry.simple_path(path);
        }
        if let Some(max) = options.max_instances {
            registry = registry.max_instances(max);
        }
        if let Some(max) = options.max_watchers {
            registry = registry.max_watchers(max);
        }
        if let Some(max) = options.max_body_bytes {
            registry = registry.max_body_bytes(max);
        }
        for host in options.allowed_host.into_iter().flatten() {
            registry = registry.allowed_host(host);
        }
        let listen = options.listen.into_iter().flatten().map(|listen| listen.0).collect();
        Ok(Self { listen, registry, tokens, tls, limits, log_format: options.log_format.unwrap_or_default() })
    }

    /// Returns the addresses to listen at.
    pub(crate) fn listen_addresses(&self) -> Vec<&str> {
        if self.listen.is_empty() {
            vec![DEFAULT_LISTEN]
        } else {
            self.listen.iter().map(String::as_str).collect()
        }
    }
}
