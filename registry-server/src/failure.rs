//! [`Failure`]: why the registry does not start, each with a sentence and an exit code of its own.

use std::io;
use std::path::PathBuf;

use farcall_registry::server::OpenError;
use farcall_tls::TlsError;

/// Why the registry does not start, or ended other than it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// Settings that do not fit together.
    #[error("{0}")]
    RegistryOptions(String),
    /// The configuration file cannot be read.
    #[error("the configuration file `{}` cannot be read: {source}", file.display())]
    ConfigFile {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The configuration file says what it must not say.
    #[error("the configuration file `{}`, line {line}: {what}", file.display())]
    ConfigContent {
        /// The file.
        file: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Tokens that cannot be read, or are none.
    #[error("{place}: {what}")]
    Token {
        /// Where they were to come from, for people.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// The certificate or key cannot be read, or does not fit.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// It cannot listen there.
    #[error("cannot listen on {address}: {}", listen_reason(source))]
    Listen {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The snapshot cannot be used.
    #[error("{0}")]
    Snapshot(OpenError),
    /// Something that should not happen.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The exit code that tells scripts what it was; `--help` lists them.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Other(_) => 1,
            Self::RegistryOptions(_) => 2,
            Self::ConfigFile { .. } | Self::ConfigContent { .. } => 3,
            Self::Token { .. } => 4,
            Self::Tls(_) => 5,
            Self::Listen { .. } => 6,
            Self::Snapshot(_) => 7,
        }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Options(error) => Self::RegistryOptions(error.to_string()),
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
