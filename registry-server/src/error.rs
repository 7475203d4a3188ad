//! [`ServerError`]: the reasons why the registry cannot start or go on, each with a message and an exit code.

use std::io;
use std::path::PathBuf;
use std::str::Utf8Error;

use farcall_discovery::InstanceError;
use farcall_registry::server::{OpenError, OptionsError, Tokens};
use farcall_tls::TlsError;
use tokio::task::JoinError;

/// The reason why the registry cannot start, or has ended unexpectedly.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// An option of the registry is invalid.
    #[error("{}", with_setting(.0))]
    Options(OptionsError),
    /// An option of the server is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration file cannot be read.
    #[error("the configuration file `{}` cannot be read: {error}", file.display())]
    ConfigFile {
        /// The file.
        file: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// The configuration file is malformed.
    #[error("the configuration file `{}`, line {line}: {error}", file.display())]
    ConfigContent {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The cause.
        error: ConfigSyntaxError,
    },
    /// A token is invalid or cannot be read.
    #[error("{origin}: {error}")]
    Token {
        /// The source of the token, for display.
        origin: String,
        /// The cause.
        error: TokenError,
    },
    /// The certificate or its key cannot be read, or they do not match.
    #[error("TLS: {0}")]
    Tls(TlsError),
    /// An address cannot be listened at.
    #[error("cannot listen on {address}: {}", listen_reason(error))]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        error: io::Error,
    },
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(OpenError),
    /// The runtime cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// The registry's background task failed.
    #[error("the registry's background task failed: {0}")]
    TaskFailed(JoinError),
    /// The registry's background task ended too early.
    #[error("the registry's background task ended unexpectedly")]
    TaskEnded,
}

/// Options of the server that contradict each other, or are out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is a certificate without a key.
    #[error("tls-cert requires tls-key")]
    TlsKeyMissing,
    /// There is a key without a certificate.
    #[error("tls-key requires tls-cert")]
    TlsCertMissing,
    /// The maximum number of connections is zero.
    #[error("max-connections must be 1 or more")]
    MaxConnections,
    /// The time limit for headers is zero.
    #[error("header-timeout must be above zero")]
    HeaderTimeout,
}

/// The reason why a configuration file is malformed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigSyntaxError {
    /// The file is not UTF-8.
    #[error("it is not UTF-8")]
    Utf8(#[from] Utf8Error),
    /// The file is not TOML, or has an unknown key or a value of the wrong type.
    #[error("{}", one_line(.0.message()))]
    Toml(toml::de::Error),
}

/// The reason why a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    /// The file or the environment variable is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The file has no token.
    #[error("there is no token in it")]
    NoToken,
    /// A line of the file is invalid.
    #[error("line {line}: {error}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// The cause.
        error: Box<TokenError>,
    },
    /// The token is empty.
    #[error("a token must not be empty")]
    Empty,
    /// The token is too short: a mistake, or one that can be guessed.
    #[error(
        "a token must have at least {} characters: make one with `openssl rand -hex 32`",
        Tokens::MIN_LEN
    )]
    TooShort,
    /// The token is too long.
    #[error("a token must have at most 4096 characters")]
    TooLong,
    /// The token has spaces or characters that are not visible ASCII.
    #[error("a token must have visible ASCII characters only, without spaces")]
    InvalidCharacter,
    /// A service token has no services.
    #[error("it names no services")]
    NoServices,
    /// A service token has an invalid service name.
    #[error(transparent)]
    Service(#[from] InstanceError),
    /// A service token has neither a token nor a file, or both.
    #[error("it needs either token or token-file")]
    ServiceTokenSource,
}

impl ServerError {
    /// Returns the exit code for scripts; `--help` lists all of them.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Runtime(_) | Self::Signals(_) | Self::TaskFailed(_) | Self::TaskEnded => 1,
            Self::Options(_) | Self::Config(_) => 2,
            Self::ConfigFile { .. } | Self::ConfigContent { .. } => 3,
            Self::Token { .. } => 4,
            Self::Tls(_) => 5,
            Self::Listen { .. } => 6,
            Self::Snapshot(_) => 7,
        }
    }
}

impl From<OptionsError> for ServerError {
    fn from(error: OptionsError) -> Self {
        Self::Options(error)
    }
}

impl From<TlsError> for ServerError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<toml::de::Error> for ConfigSyntaxError {
    fn from(error: toml::de::Error) -> Self {
        Self::Toml(error)
    }
}

impl From<OpenError> for ServerError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Options(error) => Self::Options(error),
            error => Self::Snapshot(error),
        }
    }
}

/// Returns the message for an invalid option, which begins with the name of its setting.
fn with_setting(error: &OptionsError) -> String {
    let setting = match error {
        OptionsError::Ttl { .. } => "ttl",
        OptionsError::Heartbeat { .. } => "heartbeat",
        OptionsError::SimplePath { .. } => "path",
        OptionsError::AllowedHost { .. } => "allowed-host",
        OptionsError::MaxInstances => "max-instances",
        OptionsError::MaxWatchers => "max-watchers",
        OptionsError::MaxBodyBytes { .. } => "max-body-bytes",
        // Tokens have several sources.
        _ => return error.to_string(),
    };
    format!("{setting}: {error}")
}

fn listen_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use: another process listens there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have the address".to_owned(),
        io::ErrorKind::PermissionDenied => format!("it is not allowed ({error})"),
        _ => error.to_string(),
    }
}

fn one_line(message: &str) -> String {
    message.lines().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use farcall_test_support::errors::assert_told_once;

    use super::*;

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let refused = || io::Error::from(io::ErrorKind::PermissionDenied);
        let token = || TokenError::Line { line: 1, error: Box::new(TokenError::Unreadable(refused())) };
        let toml = || toml::from_str::<toml::Table>("a = ").unwrap_err();
        for error in [
            ServerError::ConfigFile { file: "a".into(), error: refused() },
            ServerError::ConfigContent { file: "a".into(), line: 1, error: toml().into() },
            ServerError::Token { origin: "the token file".to_owned(), error: token() },
            ServerError::Listen { address: "a:1".to_owned(), error: refused() },
            ServerError::from(TlsError::other(refused())),
            ServerError::from(OpenError::Snapshot { path: "a".into(), error: refused() }),
            ServerError::Runtime(refused()),
            ServerError::Signals(refused()),
        ] {
            assert_told_once(&error);
        }
    }
}
