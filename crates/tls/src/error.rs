//! [`TlsError`]: the reasons why TLS cannot be set up. What goes wrong on a connection is left to the
//! crates that open it.

use std::error::Error;
use std::sync::Arc;

use crate::file::FileError;

/// A cause that is kept for programs, which can downcast it.
type Cause = Arc<dyn Error + Send + Sync>;

/// The reason why one side's TLS cannot be set up. The text names the file, and what is wrong with it.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Some PEM is not what it should be.
    #[error("the {part} in {place} cannot be used: {error}")]
    #[non_exhaustive]
    Pem {
        /// `certificate`, `key` and so on.
        part: &'static str,
        /// The file, or that it was given as text.
        place: String,
        /// The error in it.
        error: PemError,
    },
    /// The key belongs to another certificate.
    #[error("the certificate in {certificate} and the key in {key} do not belong together")]
    #[non_exhaustive]
    Mismatch {
        /// The place of the certificate.
        certificate: String,
        /// The place of the key.
        key: String,
    },
    /// A server without a certificate.
    #[error("a TLS server needs a certificate and its key")]
    NoCertificate,
    /// The system has no root certificate that can be read.
    #[error("no root certificates were found in this system{}", .error.as_ref().map(|e| format!(": {e}")).unwrap_or_default())]
    #[non_exhaustive]
    NoSystemRoots {
        /// The first error of reading them; `None` if there was none.
        error: Option<Cause>,
    },
    /// A text that cannot be the name of a server.
    #[error("{name:?} is not a name that a certificate can have")]
    #[non_exhaustive]
    ServerName {
        /// The text that was given.
        name: String,
        /// The error in it.
        source: Cause,
    },
    /// Any other reason, such as one that rustls gives for the whole configuration.
    #[error("TLS: {0}")]
    Other(Cause),
}

/// An error in some PEM.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// There is no certificate in it.
    #[error("there is no certificate in it, in PEM")]
    NoCertificate,
    /// There is no private key in it.
    #[error("there is no private key in it, in PEM")]
    NoKey,
    /// The private key in it is encrypted with a passphrase, which is not supported: the process would have to ask for it.
    #[error(
        "the private key in it has a passphrase, which is not supported: remove it with `openssl pkey -in KEY -out NEW_KEY`"
    )]
    EncryptedKey,
    /// Damaged PEM.
    #[error(transparent)]
    Syntax(Cause),
    /// rustls rejects the certificate or key that is in it.
    #[error(transparent)]
    Rejected(Cause),
}

impl TlsError {
    /// Creates an error for any other reason.
    pub fn other(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Other(Arc::new(cause))
    }

    /// Creates the error for what cannot be the name of a server.
    pub fn server_name(name: &str, cause: impl Error + Send + Sync + 'static) -> Self {
        Self::ServerName { name: name.to_owned(), source: Arc::new(cause) }
    }

    pub(crate) fn no_system_roots<E: Error + Send + Sync + 'static>(cause: Option<E>) -> Self {
        Self::NoSystemRoots { error: cause.map(|cause| Arc::new(cause) as Cause) }
    }
}

impl PemError {
    pub(crate) fn syntax(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Syntax(Arc::new(cause))
    }

    pub(crate) fn rejected(cause: impl Error + Send + Sync + 'static) -> Self {
        Self::Rejected(Arc::new(cause))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::path::Path;

    use farcall_test_support::errors::assert_told_once;

    use super::*;
    use crate::file::read_file;

    #[test]
    fn chain_of_an_error_has_each_fact_once() {
        let cause = || io::Error::other("it is torn");
        let pem = |error| TlsError::Pem { part: "key", place: "a.pem".to_owned(), error };
        for error in [
            read_file(Path::new("/there/is/none"), 1).unwrap_err().into(),
            pem(PemError::syntax(cause())),
            pem(PemError::rejected(cause())),
            TlsError::no_system_roots(Some(cause())),
            TlsError::server_name("-", cause()),
            TlsError::other(cause()),
        ] {
            assert_told_once(&error);
        }
    }
}
