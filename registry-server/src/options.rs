//! [`Options`]: the settings as given, each by a flag, an environment variable or a key of the configuration file.
//!
//! Defaults, and the check of settings against each other, are left to [`Config`](crate::Config).

use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::str::{FromStr, Utf8Error};
use std::time::Duration;

use clap::{Args, Parser, ValueEnum};
use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};

use crate::error::{ConfigSyntaxError, ServerError};
use crate::files;

/// The farcall registry: records which instances of a service are up.
///
/// Servers register and send heartbeats; clients request lists or watch them; `/` is a web page.
/// All data is in memory, and in a snapshot file if one is given.
#[derive(Debug, Parser)]
#[command(name = "registry-server", version, after_long_help = LONG_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    /// A TOML file with any of these settings: the keys are the flags without the leading dashes. A
    /// flag takes precedence over the environment, and the environment over the file.
    #[arg(long, env = "REGISTRY_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) options: Options,
}

const LONG_HELP: &str = "\
Tokens:
  A token file has one token on each line; lines that begin with # are comments. All of them are
  valid, so that servers and clients can change to a new token one after the other. Two environment
  variables, REGISTRY_READ_TOKEN and REGISTRY_WRITE_TOKEN, can each contain one more token. Tokens
  that are limited to some services are in the configuration file:
      [[service-token]]
      services = [\"Arith\", \"Text\"]      # \"~\" is the plain list of servers
      token-file = \"/etc/farcall/arith.token\"      # or: token = \"...\"
  Token files, the service tokens of the configuration file, and certificates are read again when
  they change, and at SIGHUP. If the new ones are invalid, the old ones stay in use, and this is
  logged.

Output:
  One line `listening URL` on stdout for each --listen, once it accepts connections. Logs go to
  stderr; RUST_LOG sets their level, for example RUST_LOG=debug (default: info).

Signals:
  SIGTERM and SIGINT stop it: watches end, and the snapshot is written. SIGHUP reads files again.

Exit codes:
  0  ended by a signal
  1  something else failed while it ran
  2  a flag, an environment variable or a value is wrong, or settings do not fit together
  3  the configuration file is missing or wrong
  4  a token file is missing, empty or wrong
  5  the TLS certificate or key is missing or wrong
  6  it cannot listen: the port is in use, or not allowed
  7  the snapshot file or its directory cannot be used";

/// The settings as given; all are optional.
#[derive(Clone, Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct Options {
    /// An address to listen at, HOST:PORT; port 0 is any free port. May be given several times
    /// [default: 127.0.0.1:7100]
    #[arg(long, env = "REGISTRY_LISTEN", value_name = "HOST:PORT", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) listen: Option<Vec<ListenAddress>>,

    /// The snapshot file, read at the start, and written within 5 s of a change and at the end.
    /// Without it, all servers must register again after a restart.
    #[arg(long, env = "REGISTRY_SNAPSHOT", value_name = "FILE")]
    pub(crate) snapshot: Option<PathBuf>,

    /// The time without a heartbeat after which an instance that requests no time to live expires;
    /// from 1s to 1day [default: 5m]
    #[arg(long, env = "REGISTRY_TTL", value_name = "TIME")]
    pub(crate) ttl: Option<HumanTime>,

    /// The heartbeat interval of instances that request no time to live; must be below --ttl
    /// [default: 4/5 of --ttl, which is 4m]
    #[arg(long, env = "REGISTRY_HEARTBEAT", value_name = "TIME")]
    pub(crate) heartbeat: Option<HumanTime>,

    /// A file with tokens that allow reading. Without read tokens, reading needs no token.
    #[arg(long, env = "REGISTRY_READ_TOKEN_FILE", value_name = "FILE")]
    pub(crate) read_token_file: Option<PathBuf>,

    /// A file with tokens that allow writing and reading. Without tokens of any kind, writing needs no
    /// token.
    #[arg(long, env = "REGISTRY_WRITE_TOKEN_FILE", value_name = "FILE")]
    pub(crate) write_token_file: Option<PathBuf>,

    /// The certificate chain for TLS, as PEM; requires --tls-key. Only https is served then.
    #[arg(long, env = "REGISTRY_TLS_CERT", value_name = "FILE")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The private key for TLS, as PEM; requires --tls-cert.
    #[arg(long, env = "REGISTRY_TLS_KEY", value_name = "FILE")]
    pub(crate) tls_key: Option<PathBuf>,

    /// A host name that clients use for this registry, with or without a port. Loopback names and the
    /// listening addresses are always allowed; requests for other hosts are refused. May be given
    /// several times.
    #[arg(long, env = "REGISTRY_ALLOWED_HOST", value_name = "HOST", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many")]
    pub(crate) allowed_host: Option<Vec<String>>,

    /// The path of the simple interface, which works with headers only [default: /registry]
    #[arg(long, env = "REGISTRY_PATH", value_name = "PATH")]
    pub(crate) path: Option<String>,

    /// The maximum number of instances; more are refused with status 429 [default: 100000]
    #[arg(long, env = "REGISTRY_MAX_INSTANCES", value_name = "N")]
    pub(crate) max_instances: Option<usize>,

    /// The maximum number of open watches and long polls; more are refused with status 429
    /// [default: 10000]
    #[arg(long, env = "REGISTRY_MAX_WATCHERS", value_name = "N")]
    pub(crate) max_watchers: Option<usize>,

    /// The maximum size of a request's body, in bytes; larger ones are refused with status 413
    /// [default: 65536]
    #[arg(long, env = "REGISTRY_MAX_BODY_BYTES", value_name = "BYTES")]
    pub(crate) max_body_bytes: Option<usize>,

    /// The maximum number of connections; more are closed at once [default: 16384]
    #[arg(long, env = "REGISTRY_MAX_CONNECTIONS", value_name = "N")]
    pub(crate) max_connections: Option<usize>,

    /// The time limit for the header of a request, and for idle connections; the limit for a body is
    /// 10 s [default: 60s]
    #[arg(long, env = "REGISTRY_HEADER_TIMEOUT", value_name = "TIME")]
    pub(crate) header_timeout: Option<HumanTime>,

    /// The format of logs [default: human]
    #[arg(long, env = "REGISTRY_LOG_FORMAT", value_name = "FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// Tokens for single services; only in the configuration file.
    #[arg(skip)]
    pub(crate) service_token: Vec<ServiceToken>,
}

impl Options {
    /// Reads a configuration file.
    pub(crate) fn read_file(file: &Path) -> Result<Self, ServerError> {
        let bytes =
            files::read(file).map_err(|error| ServerError::ConfigFile { file: file.to_owned(), error })?;
        let text = std::str::from_utf8(&bytes).map_err(|error: Utf8Error| {
            let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
            ServerError::ConfigContent { file: file.to_owned(), line, error: error.into() }
        })?;
        Self::parse(text, file)
    }

    /// Parses the content of a configuration file; `file` is for errors.
    pub(crate) fn parse(text: &str, file: &Path) -> Result<Self, ServerError> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| text[..span.start].matches('\n').count() + 1);
            let error = ConfigSyntaxError::from(error);
            ServerError::ConfigContent { file: file.to_owned(), line: line.unwrap_or(1), error }
        })
    }

    /// Returns these settings, completed by those of `file`.
    pub(crate) fn or(self, file: Self) -> Self {
        Self {
            listen: self.listen.or(file.listen),
            snapshot: self.snapshot.or(file.snapshot),
            ttl: self.ttl.or(file.ttl),
            heartbeat: self.heartbeat.or(file.heartbeat),
            read_token_file: self.read_token_file.or(file.read_token_file),
            write_token_file: self.write_token_file.or(file.write_token_file),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            allowed_host: self.allowed_host.or(file.allowed_host),
            path: self.path.or(file.path),
            max_instances: self.max_instances.or(file.max_instances),
            max_watchers: self.max_watchers.or(file.max_watchers),
            max_body_bytes: self.max_body_bytes.or(file.max_body_bytes),
            max_connections: self.max_connections.or(file.max_connections),
            header_timeout: self.header_timeout.or(file.header_timeout),
            log_format: self.log_format.or(file.log_format),
            service_token: file.service_token,
        }
    }
}

/// A token for single services, `[[service-token]]` in the configuration file.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct ServiceToken {
    pub(crate) services: Vec<String>,
    pub(crate) token: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
}

/// Shows the services, never the token.
impl fmt::Debug for ServiceToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceToken").field("services", &self.services).finish_non_exhaustive()
    }
}

/// The format of logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// A line of text for each event.
    #[default]
    Human,
    /// A JSON object on a line for each event.
    Json,
}

/// An address to listen at, `HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenAddress(pub(crate) String);

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let places = ["http://", "https://", "tcp://", "http@", "https@", "tcp@", "tls@"];
        if let Some(place) = places.iter().find_map(|scheme| text.strip_prefix(scheme)) {
            let place = place.trim_end_matches('/');
            return Err(format!(
                "`{text}` is not HOST:PORT: write {place}; whether it is encrypted is set by the certificate"
            ));
        }
        let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
        match port.map(str::parse::<u16>) {
            Some(Ok(_)) => Ok(Self(text.to_owned())),
            _ => Err(format!("`{text}` is not HOST:PORT, such as 127.0.0.1:7100 or [::1]:7100")),
        }
    }
}

/// Deserializes `"a"` like `["a"]`, because most lists have one element.
fn one_or_many<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    struct OneOrMany<T>(PhantomData<T>);

    impl<'de, T: FromStr<Err: fmt::Display>> Visitor<'de> for OneOrMany<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
            text.parse().map(|one| vec![one]).map_err(E::custom)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut many = Vec::new();
            while let Some(text) = list.next_element::<String>()? {
                many.push(text.parse().map_err(de::Error::custom)?);
            }
            Ok(many)
        }
    }

    deserializer.deserialize_any(OneOrMany(PhantomData)).map(Some)
}

/// A duration with units: `30s`, `5m`, `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct HumanTime(pub(crate) Duration);

impl FromStr for HumanTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("`{text}` is not a duration such as 30s or 5m: {error}"))
    }
}

impl TryFrom<String> for HumanTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_the_same_name_in_the_environment_and_in_the_file() {
        for argument in Cli::command().get_arguments() {
            let Some(flag) = argument.get_long() else { continue };
            if ["help", "version"].contains(&flag) {
                continue;
            }
            let variable = argument.get_env().and_then(|name| name.to_str()).map(str::to_owned);
            assert_eq!(
                variable,
                Some(format!("REGISTRY_{}", flag.replace('-', "_").to_uppercase())),
                "{flag}"
            );
            if flag == "config" {
                continue;
            }
            // No key takes a table, so this is an error, but not one about an unknown key.
            let error = Options::parse(&format!("{flag} = {{}}"), Path::new("f")).unwrap_err().to_string();
            assert!(!error.contains("unknown"), "{flag}: {error}");
        }
    }

    #[test]
    fn operations_page_has_every_setting_and_valid_examples() {
        let page = include_str!("../../docs/OPERATIONS.md");
        for argument in Cli::command().get_arguments() {
            let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else { continue };
            let variable = variable.to_str().unwrap();
            let row = page.lines().find(|line| line.starts_with(&format!("| `--{flag}`")));
            let row = row.unwrap_or_else(|| panic!("--{flag} is missing"));
            assert!(row.contains(&format!("`{variable}`")), "{row}");
            assert!(flag == "config" || row.contains(&format!("`{flag}`")), "{row}");
        }
        let examples: Vec<_> =
            page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(examples.len(), 2);
        for example in examples {
            Options::parse(example, Path::new("example")).unwrap();
        }
    }

    #[test]
    fn operations_page_and_help_have_the_same_exit_codes() {
        let page = include_str!("../../docs/OPERATIONS.md");
        for code in 0..=7 {
            let line = LONG_HELP.lines().find_map(|line| line.strip_prefix(&format!("  {code}  "))).unwrap();
            // The page names the signals, the help does not.
            let meaning = if code == 0 { "ended by" } else { line };
            assert!(page.contains(&format!("| {code} | {meaning}")), "{code}: {meaning}");
        }
    }

    #[test]
    fn unknown_key_is_reported_with_its_line() {
        let error =
            Options::parse("ttl = \"10s\"\n\nlisen = [\"a:1\"]\n", Path::new("/etc/r.toml")).unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("/etc/r.toml") && text.contains("line 3") && text.contains("`lisen`"),
            "{text}"
        );
        assert!(!text.contains('\n'), "{text}");
    }

    #[test]
    fn listen_address_needs_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "[::1]:7100", "localhost:80"] {
            assert!(good.parse::<ListenAddress>().is_ok(), "{good}");
        }
        for bad in ["", "7100", ":7100", "127.0.0.1", "127.0.0.1:65536", "host:http"] {
            assert!(bad.parse::<ListenAddress>().is_err(), "{bad}");
        }
        for other in ["http://[::1]:80/", "tcp@[::1]:80"] {
            let error = other.parse::<ListenAddress>().err().unwrap_or_default();
            assert!(error.contains("write [::1]:80;"), "{error}");
        }
    }

    #[test]
    fn flags_take_precedence_over_the_file() {
        let file = Options::parse("ttl = \"10s\"\nmax-instances = 5", Path::new("f")).unwrap();
        let flags = Options { ttl: Some("20s".parse().unwrap()), ..Options::default() };
        let both = flags.or(file);
        assert_eq!(both.ttl, Some(HumanTime(Duration::from_secs(20))));
        assert_eq!(both.max_instances, Some(5));
    }
}
