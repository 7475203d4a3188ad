//! [`Settings`]: of the command line, the environment and a file, in this order.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Parser;
use farcall::Address;
use serde::Deserialize;

/// The server of my-service. A flag takes precedence over its variable, and that over the file.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// File with settings (TOML), whose keys are the names of the flags.
    #[arg(long, env = "MY_SERVICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub settings: Settings,
}

/// The settings as they were given; the methods return their defaults, too.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    /// Address to serve at: `tcp@host:port`, or `tls@host:port` with a certificate. Port 0 is any
    /// free one. [default: tcp@127.0.0.1:7001]
    #[arg(long, env = "MY_SERVICE_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Address>,
    /// Address of the health checks, the metrics and the debug page; without it there are none.
    #[arg(long, env = "MY_SERVICE_HTTP", value_name = "ADDRESS")]
    pub http: Option<Address>,
    /// File with this server's certificate and its chain (PEM), for `tls@`. A file that changes
    /// is read again; so are the other ones.
    #[arg(long, env = "MY_SERVICE_CERTIFICATE", value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// File with the key of the certificate (PEM).
    #[arg(long, env = "MY_SERVICE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// File with the authorities of callers' certificates (PEM); with it, callers need one.
    #[arg(long, env = "MY_SERVICE_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// File with the tokens of callers, on each line a name and a token; with it, callers need one.
    #[arg(long, env = "MY_SERVICE_TOKENS", value_name = "FILE")]
    pub tokens: Option<PathBuf>,
    /// URL of the registry, such as http://127.0.0.1:7100/registry; without it, callers need the
    /// address.
    #[arg(long, env = "MY_SERVICE_REGISTRY", value_name = "URL")]
    pub registry: Option<String>,
    /// File with the token for the registry.
    #[arg(long, env = "MY_SERVICE_REGISTRY_TOKEN_FILE", value_name = "FILE")]
    pub registry_token_file: Option<PathBuf>,
    /// File with the authority of the registry's certificate (PEM), if the system does not trust it.
    #[arg(long, env = "MY_SERVICE_REGISTRY_CA", value_name = "FILE")]
    pub registry_ca: Option<PathBuf>,
    /// Address that the registry gives to callers, if it is not the one to serve at, such as in a
    /// container.
    #[arg(long, env = "MY_SERVICE_ADVERTISE", value_name = "ADDRESS")]
    pub advertise: Option<Address>,
    /// Seconds for which calls may go on when the server stops. [default: 30]
    #[arg(long, env = "MY_SERVICE_DRAIN_SECONDS", value_name = "SECONDS")]
    pub drain_seconds: Option<u64>,
    /// Words to greet with. [default: Hello]
    #[arg(long, env = "MY_SERVICE_WORDS", value_name = "TEXT")]
    pub words: Option<String>,
}

impl Cli {
    /// Returns the settings of all sources.
    ///
    /// # Errors
    ///
    /// The file cannot be read, has a key that is unknown, or a value that is not valid.
    pub fn settings(self) -> anyhow::Result<Settings> {
        let file = match &self.config {
            Some(path) => Settings::read(path)?,
            None => Settings::default(),
        };
        Ok(self.settings.or(file))
    }
}

impl Settings {
    /// Reads a file of settings.
    fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("reading {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("in {}", path.display()))
    }

    /// Takes what is missing from others.
    fn or(self, others: Self) -> Self {
        Self {
            listen: self.listen.or(others.listen),
            http: self.http.or(others.http),
            certificate: self.certificate.or(others.certificate),
            key: self.key.or(others.key),
            client_ca: self.client_ca.or(others.client_ca),
            tokens: self.tokens.or(others.tokens),
            registry: self.registry.or(others.registry),
            registry_token_file: self.registry_token_file.or(others.registry_token_file),
            registry_ca: self.registry_ca.or(others.registry_ca),
            advertise: self.advertise.or(others.advertise),
            drain_seconds: self.drain_seconds.or(others.drain_seconds),
            words: self.words.or(others.words),
        }
    }

    /// Returns the words to greet with.
    pub fn words(&self) -> &str {
        self.words.as_deref().unwrap_or("Hello")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_take_precedence_over_the_file() {
        let flags = ["my-service-server", "--words", "Hi"];
        let flags = Cli::try_parse_from(flags).unwrap().settings;
        let file = "words = 'Hello'\nlisten = 'tcp@127.0.0.1:0'\n";
        let settings = flags.or(toml::from_str(file).unwrap());
        assert_eq!(settings.words(), "Hi");
        assert_eq!(settings.listen.unwrap().to_string(), "tcp@127.0.0.1:0");
    }

    #[test]
    fn example_of_the_file_is_valid() {
        toml::from_str::<Settings>(include_str!("../../deploy/config.toml")).unwrap();
    }

    #[test]
    fn unknown_keys_are_refused() {
        let error = toml::from_str::<Settings>("wrods = 'Hi'").unwrap_err();
        assert!(error.to_string().contains("wrods"), "{error}");
    }
}
