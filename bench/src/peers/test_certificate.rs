//! [`TestCertificate`]: the certificate of a server on this machine, the same kind for all peers.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair};

/// A self-signed certificate for 127.0.0.1, with a key of ECDSA on P-256.
pub(super) struct TestCertificate {
    /// In PEM.
    pub(super) certificate: String,
    /// In PEM.
    pub(super) key: String,
    /// The file of the certificate, which clients trust.
    pub(super) roots: PathBuf,
}

impl TestCertificate {
    /// Creates one, and its file in `directory`.
    pub(super) fn create(directory: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?.self_signed(&key)?.pem();
        let roots = directory.join("roots.pem");
        std::fs::write(&roots, &certificate)?;
        Ok(Self { certificate, key: key.serialize_pem(), roots })
    }
}
