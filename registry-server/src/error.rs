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
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// An option of the server is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The configuration file cannot be read.
    #[error("the configuration file `{}` cannot be read: {source}", file.display())]
    ConfigFile {
        /// The file.
        file: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The configuration file is malformed.
    #[error("the configuration file `{}`, line {line}: {source}", file.display())]
    ConfigContent {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The cause.
        source: ConfigSyntaxError,
    },
    /// A token is invalid or cannot be read.
    #[error("{origin}: {source}")]
    Token {
        /// The source of the token, for display.
        origin: String,
        /// The cause.
        source: TokenError,
    },
    /// The certificate or its key cannot be read, or they do not match.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// An address cannot be listened at.
    #[error("cannot listen on {address}: {}", listen_reason(source))]
    Listen {
        /// The address.
        address: String,
        /// The cause.
        source: io::Error,
    },
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(OpenError),
    /// The runtime cannot be started.
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] io::Error),
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] io::Error),
    /// The registry's background task failed.
    #[error("the registry's background task failed: {0}")]
    TaskFailed(#[source] JoinError),
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
    Toml(#[from] toml::de::Error),
}

/// The reason why a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The file or the environment variable is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// The file has no token.
    #[error("there is no token in it")]
    NoToken,
    /// A line of the file is invalid.
    #[error("line {line}: {source}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// The cause.
        source: Box<TokenError>,
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

impl From<OpenError> for ServerError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Options(error) => Self::Options(error),
            error => Self::Snapshot(error),
        }
    }
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
