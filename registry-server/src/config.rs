//! [`Config`]: what was set, by whatever way, as one thing that a [`Server`](crate::Server) starts from.

use std::path::{Path, PathBuf};
use std::time::Duration;

use farcall_registry::server::RegistryOptions;

use crate::failure::Failure;
use crate::files;
use crate::options::{Cli, LogFormat, Options};
use crate::tls::TlsFiles;
use crate::tokens::TokenSources;

/// What a [`Server`](crate::Server) is told before it starts.
///
/// ```
/// use registry_server::Config;
/// use farcall_registry::server::RegistryOptions;
///
/// let config = Config::new(RegistryOptions::default()).listen("127.0.0.1:0");
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) listen: Vec<String>,
    pub(crate) settings: RegistryOptions,
    pub(crate) tokens: TokenSources,
    pub(crate) tls: Option<TlsFiles>,
    pub(crate) limits: ConnectionLimits,
    pub(crate) log_format: LogFormat,
}

/// What one connection, and all together, may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionLimits {
    pub(crate) max_connections: usize,
    pub(crate) header_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        // More than watchers are allowed, so that there is room for short requests beside them. Longer than
        // clients poll and send heartbeats where that is set short, so that they keep their connections.
        Self { max_connections: 16_384, header_timeout: Duration::from_secs(60) }
    }
}

/// Where it listens if nothing is said.
const DEFAULT_LISTEN: &str = "127.0.0.1:7100";

impl Config {
    /// A registry with these settings, without TLS, which listens on `127.0.0.1:7100`. Tokens that
    /// the settings have hold as they are.
    #[must_use]
    pub fn new(settings: RegistryOptions) -> Self {
        Self {
            listen: Vec::new(),
            settings,
            tokens: TokenSources::default(),
            tls: None,
            limits: ConnectionLimits::default(),
            log_format: LogFormat::default(),
        }
    }

    /// One more place to listen, `HOST:PORT`, in place of the default. Port 0 is any that is free.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen.push(address.into());
        self
    }

    /// TLS with these PEM files, a chain of certificates and its key; they are read again when they
    /// change. Default: none.
    #[must_use]
    pub fn tls(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls = Some(TlsFiles { cert: cert.into(), key: key.into() });
        self
    }

    /// The most connections at once. Default 16384. More are closed as they come.
    #[must_use]
    pub const fn max_connections(mut self, max: usize) -> Self {
        self.limits.max_connections = max;
        self
    }

    /// How long a request's header may take, and how long a connection may be idle. Default 60 s. Shorter than clients' pauses: they connect anew each time.
    #[must_use]
    pub const fn header_timeout(mut self, timeout: Duration) -> Self {
        self.limits.header_timeout = timeout;
        self
    }

    /// What the command line, the environment and the configuration file say together.
    pub(crate) fn from_cli(cli: Cli) -> Result<Self, Failure> {
        let file = cli.config.as_deref().map(read_file).transpose()?;
        let options = cli.options.or(file.unwrap_or_default());
        Self::from_options(options, cli.config)
    }

    fn from_options(options: Options, config_file: Option<PathBuf>) -> Result<Self, Failure> {
        let tls = match (options.tls_cert, options.tls_key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert, key }),
            (None, None) => None,
            (Some(_), None) => return refuse("tls-cert needs tls-key beside it"),
            (None, Some(_)) => return refuse("tls-key needs tls-cert beside it"),
        };
        let mut limits = ConnectionLimits::default();
        limits.max_connections = options.max_connections.unwrap_or(limits.max_connections);
        limits.header_timeout = options.header_timeout.map_or(limits.header_timeout, |time| time.0);
        if limits.max_connections == 0 {
            return refuse("max-connections must be 1 or more");
        }
        if limits.header_timeout.is_zero() {
            return refuse("header-timeout must be above zero");
        }
        let tokens = TokenSources {
            read_file: options.read_token_file,
            write_file: options.write_token_file,
            read: files::variable("REGISTRY_READ_TOKEN")?,
            write: files::variable("REGISTRY_WRITE_TOKEN")?,
            services: options.service_token,
            config_file,
        };
        let mut settings = RegistryOptions::default();
        if let Some(ttl) = options.ttl {
            settings = settings.ttl(ttl.0);
        }
        if let Some(heartbeat) = options.heartbeat {
            settings = settings.heartbeat(heartbeat.0);
        }
        if let Some(snapshot) = options.snapshot {
            settings = settings.snapshot(snapshot);
        }
        if let Some(path) = options.path {
            settings = settings.simple_path(path);
        }
        if let Some(max) = options.max_instances {
            settings = settings.max_instances(max);
        }
        if let Some(max) = options.max_watchers {
            settings = settings.max_watchers(max);
        }
        if let Some(max) = options.max_body_bytes {
            settings = settings.max_body_bytes(max);
        }
        for host in options.allowed_host.into_iter().flatten() {
            settings = settings.allowed_host(host);
        }
        let listen = options.listen.into_iter().flatten().map(|listen| listen.0).collect();
        Ok(Self { listen, settings, tokens, tls, limits, log_format: options.log_format.unwrap_or_default() })
    }

    /// Where to listen.
    pub(crate) fn places(&self) -> Vec<&str> {
        if self.listen.is_empty() {
            vec![DEFAULT_LISTEN]
        } else {
            self.listen.iter().map(String::as_str).collect()
        }
    }
}

/// Reads a configuration file.
pub(crate) fn read_file(file: &Path) -> Result<Options, Failure> {
    let failed = |source| Failure::ConfigFile { file: file.to_owned(), source };
    let bytes = files::read(file).map_err(failed)?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Options::read(text, file),
        Err(error) => {
            let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
            Err(Failure::ConfigContent { file: file.to_owned(), line, what: "it is not UTF-8".to_owned() })
        }
    }
}

fn refuse<T>(what: &str) -> Result<T, Failure> {
    Err(Failure::RegistryOptions(what.to_owned()))
}
