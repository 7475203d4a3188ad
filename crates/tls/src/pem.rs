//! [`Pem`] and [`Identity`]: where certificates and keys come from, and how they are parsed. Making a
//! configuration of them is left to [`crate::client_config`] and [`crate::server_config`].

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::error::{PemError, TlsError};
use crate::file::FileContent;

/// Text in PEM, given as such or as the file that has it.
#[derive(Clone)]
#[non_exhaustive]
pub enum Pem {
    /// The path of a file.
    File(PathBuf),
    /// The text.
    Text(Vec<u8>),
}

/// A certificate with those between it and its authority, and its key.
#[derive(Clone, Debug)]
pub struct Identity {
    chain: Pem,
    key: Pem,
}

/// The parsed form of an [`Identity`].
pub type ChainAndKey = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Pem {
    /// Returns the path, if it is a file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Text(_) => None,
        }
    }

    /// Parses all certificates in it, at least one. `part` names them in errors, such as
    /// `root certificate`; `files` has the content of the file, if it is one.
    ///
    /// # Errors
    ///
    /// There is none, one is damaged, or the file is not among `files`.
    pub fn certificates(
        &self,
        part: &'static str,
        files: &[FileContent],
    ) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = CertificateDer::pem_slice_iter(self.bytes(files)).collect::<Result<Vec<_>, _>>();
        match found {
            Err(error) => Err(self.error(part, PemError::syntax(error))),
            Ok(none) if none.is_empty() => Err(self.error(part, PemError::NoCertificate)),
            Ok(found) => Ok(found),
        }
    }

    fn key(&self, files: &[FileContent]) -> Result<PrivateKeyDer<'static>, TlsError> {
        let bytes = self.bytes(files);
        PrivateKeyDer::from_pem_slice(bytes).map_err(|error| match error {
            _ if is_encrypted(bytes) => self.error("key", PemError::EncryptedKey),
            pem::Error::NoItemsFound => self.error("key", PemError::NoKey),
            error => self.error("key", PemError::syntax(error)),
        })
    }

    pub(crate) fn error(&self, part: &'static str, error: PemError) -> TlsError {
        TlsError::Pem { part, place: self.place(), error }
    }

    fn place(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Text(_) => "the given PEM".to_owned(),
        }
    }

    /// Returns the text; empty for a file that was not read, which then has no certificate in it.
    fn bytes<'a>(&'a self, files: &'a [FileContent]) -> &'a [u8] {
        match self {
            Self::Text(bytes) => bytes,
            Self::File(path) => files.iter().find(|file| file.path == *path).map_or(&[], |file| &file.bytes),
        }
    }
}

/// Never shows the text: it may be a key.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pem({})", self.place())
    }
}

impl Identity {
    /// Creates one of a chain of certificates and the key of its first.
    #[must_use]
    pub const fn new(chain: Pem, key: Pem) -> Self {
        Self { chain, key }
    }

    /// Creates one of two files.
    pub fn from_files(chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self::new(Pem::File(chain.into()), Pem::File(key.into()))
    }

    /// Creates one of two texts.
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self::new(Pem::Text(chain.into()), Pem::Text(key.into()))
    }

    /// Returns the paths of its files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        [self.chain.path(), self.key.path()].into_iter().flatten()
    }

    /// Parses both.
    ///
    /// # Errors
    ///
    /// There is no certificate or no key, or one of them is damaged.
    pub fn read(&self, files: &[FileContent]) -> Result<ChainAndKey, TlsError> {
        Ok((self.chain.certificates("certificate", files)?, self.key.key(files)?))
    }

    /// Creates the error for a pair that rustls rejects.
    pub(crate) fn rejected(&self, error: rustls::Error) -> TlsError {
        match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: self.chain.place(), key: self.key.place() }
            }
            rustls::Error::InvalidCertificate(_) => {
                self.chain.error("certificate", PemError::rejected(error))
            }
            error => self.key.error("key", PemError::rejected(error)),
        }
    }
}

/// Returns `true` if the text is a key with a passphrase: in PKCS #8, or in the older form of RFC 1421.
fn is_encrypted(pem: &[u8]) -> bool {
    let contains = |text: &[u8]| pem.windows(text.len()).any(|part| part == text);
    contains(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || contains(b"Proc-Type: 4,ENCRYPTED")
}

#[cfg(test)]
mod tests {
    use farcall_test_support::pki::Certificate;

    use super::*;

    #[test]
    fn key_with_a_passphrase_is_called_that() {
        let pkcs8 = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let traditional = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
                           MIIB\n-----END RSA PRIVATE KEY-----\n";
        for key in [pkcs8, traditional] {
            let error = Pem::Text(key.into()).key(&[]).unwrap_err();
            assert!(matches!(error, TlsError::Pem { error: PemError::EncryptedKey, .. }), "{error}");
            assert!(error.to_string().contains("passphrase"), "{error}");
        }
        let error = Pem::Text(b"hello".to_vec()).key(&[]).unwrap_err();
        assert!(matches!(error, TlsError::Pem { error: PemError::NoKey, .. }), "{error}");
    }

    #[test]
    fn missing_and_damaged_parts_are_named() {
        let none = Pem::Text(b"hello".to_vec()).certificates("root certificate", &[]).unwrap_err();
        assert_eq!(
            none.to_string(),
            "the root certificate in the given PEM cannot be used: there is no certificate in it, in PEM"
        );
        let damaged = Pem::Text(b"-----BEGIN CERTIFICATE-----\nhello\n".to_vec());
        let error = damaged.certificates("certificate", &[]).unwrap_err();
        assert!(matches!(error, TlsError::Pem { error: PemError::Syntax(_), .. }), "{error}");
    }

    #[test]
    fn file_is_read_from_the_content_of_its_path() {
        let Certificate { chain, key } = Certificate::self_signed(&["localhost"]);
        let files = [FileContent::new("/c", chain), FileContent::new("/k", key)];
        let identity = Identity::from_files("/c", "/k");
        assert_eq!(identity.paths().collect::<Vec<_>>(), [Path::new("/c"), Path::new("/k")]);
        assert_eq!(identity.read(&files).unwrap().0.len(), 1);
        let error = Identity::from_files("/c", "/c").read(&files).unwrap_err();
        assert_eq!(error.to_string(), "the key in /c cannot be used: there is no private key in it, in PEM");
        assert!(identity.read(&files[..1]).is_err() && identity.read(&files[1..]).is_err());
        assert_eq!(Identity::from_pem("chain", "key").paths().count(), 0);
    }

    #[test]
    fn text_is_never_shown() {
        let identity = Identity::from_pem("chain", "hush");
        assert!(!format!("{identity:?}").contains("hush"));
    }
}
