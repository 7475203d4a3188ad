//! Where certificates and keys come from, how they read, and [`TlsError`] where they do not.

use std::path::PathBuf;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::address_error::Excerpt;
use crate::reload::{FileContent, FileError};

/// Why one side's TLS cannot be set up. The text names the file, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was given does not read as what it should be.
    #[error("the {part} in {place} cannot be used: {what}")]
    Part {
        /// `certificate`, `key` and so on.
        part: &'static str,
        /// The file, or that it was given as such.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// The key is another certificate's.
    #[error("the certificate in {certificate} and the key in {key} do not belong together")]
    Mismatch {
        /// Where the certificate is.
        certificate: String,
        /// Where the key is.
        key: String,
    },
    /// A server without a certificate.
    #[error("a TLS server needs a certificate and its key")]
    NoCertificate,
    /// There is nobody to trust.
    #[error("no root certificates were found in this system{why}")]
    NoSystemRoots {
        /// What reading them ended with, after a colon; empty where there is nothing to tell.
        why: String,
    },
    /// What should be the name of a server is none.
    #[error("{name} is no name that a certificate could have")]
    ServerName {
        /// What was given.
        name: Excerpt,
    },
    /// rustls refuses the whole for another reason.
    #[error("TLS: {what}")]
    Other {
        /// What it says.
        what: String,
    },
}

impl TlsError {
    pub(super) fn other(error: &dyn std::fmt::Display) -> TlsError {
        TlsError::Other { what: error.to_string() }
    }
}

/// Where some PEM is.
#[derive(Clone)]
pub(super) enum Pem {
    File(PathBuf),
    Given(Vec<u8>),
}

impl Pem {
    pub(super) fn file(&self) -> Option<PathBuf> {
        match self {
            Pem::File(path) => Some(path.clone()),
            Pem::Given(_) => None,
        }
    }

    fn place(&self) -> String {
        match self {
            Pem::File(path) => path.display().to_string(),
            Pem::Given(_) => "the given PEM".to_owned(),
        }
    }

    fn wrong(&self, part: &'static str, what: impl std::fmt::Display) -> TlsError {
        TlsError::Part { part, place: self.place(), what: what.to_string() }
    }

    fn bytes<'a>(&'a self, files: &'a [FileContent]) -> &'a [u8] {
        match self {
            Pem::Given(bytes) => bytes,
            Pem::File(path) => {
                let found = files.iter().find(|file| file.path == *path);
                &found.expect("every file that is named is read").bytes
            }
        }
    }

    fn certificates(
        &self,
        part: &'static str,
        files: &[FileContent],
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = CertificateDer::pem_slice_iter(self.bytes(files)).collect::<Result<Vec<_>, _>>();
        match found {
            Err(error) => Err(self.wrong(part, error)),
            Ok(none) if none.is_empty() => Err(self.wrong(part, "there is no certificate in it, in PEM")),
            Ok(found) => Ok(found),
        }
    }
}

/// A certificate with its chain, and its key.
#[derive(Clone)]
pub(super) struct Identity {
    pub(super) chain: Pem,
    pub(super) key: Pem,
}

/// What is made of an [`Identity`].
pub(super) type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Identity {
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        [self.chain.file(), self.key.file()].into_iter().flatten()
    }

    pub(super) fn read(&self, files: &[FileContent]) -> Result<ChainAndKey, TlsError> {
        let chain = self.chain.certificates("certificate", files)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.bytes(files)).map_err(|error| match error {
            rustls::pki_types::pem::Error::NoItemsFound => self
                .key
                .wrong("key", "there is no private key in it, in PEM (one with a passphrase is not read)"),
            error => self.key.wrong("key", error),
        })?;
        Ok((chain, key))
    }

    /// What rustls says of the two.
    pub(super) fn refused(&self, error: &rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.chain.place(), key: self.key.place() }
            }
            rustls::Error::InvalidCertificate(_) => self.chain.wrong("certificate", error),
            _ => self.key.wrong("key", error),
        }
    }
}

/// Adds the certificates of authorities.
pub(super) fn add_roots(
    roots: &mut RootCertStore,
    part: &'static str,
    pem: &Pem,
    files: &[FileContent],
) -> Result<(), TlsError> {
    for certificate in pem.certificates(part, files)? {
        roots.add(certificate).map_err(|error| pem.wrong(part, error))?;
    }
    Ok(())
}

/// Adds the authorities that the system trusts. Blocks while it reads them.
pub(super) fn add_system_roots(roots: &mut RootCertStore) -> Result<(), TlsError> {
    let native = rustls_native_certs::load_native_certs();
    // Old ones that rustls does not take are common in the stores of systems.
    let (added, _ignored) = roots.add_parsable_certificates(native.certs);
    match native.errors.first() {
        _ if added > 0 => Ok(()),
        None => Err(TlsError::NoSystemRoots { why: String::new() }),
        Some(error) => Err(TlsError::NoSystemRoots { why: format!(": {error}") }),
    }
}
