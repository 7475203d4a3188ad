//! TLS: the certificate and its key, which can be exchanged while the registry runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::failure::Failure;
use crate::files;

/// Where the certificate and its key are.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

/// What the files had in them.
#[derive(PartialEq, Eq)]
pub(crate) struct TlsContent {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl TlsFiles {
    /// Reads both.
    pub(crate) fn read(&self) -> Result<TlsContent, Failure> {
        let read = |file: &Path| {
            files::read(file).map_err(|error| failed(file, format!("it cannot be read: {error}")))
        };
        Ok(TlsContent { cert: read(&self.cert)?, key: read(&self.key)? })
    }

    /// Makes of what was read what connections need.
    pub(crate) fn config(&self, content: &TlsContent) -> Result<Arc<ServerConfig>, Failure> {
        let chain = CertificateDer::pem_slice_iter(&content.cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| failed(&self.cert, format!("it is no PEM file of certificates: {error}")))?;
        if chain.is_empty() {
            return Err(failed(&self.cert, "there is no certificate in it".to_owned()));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|error| failed(&self.key, format!("it is no PEM file with a private key: {error}")))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Failure::Other(error.to_string()))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| {
                failed(&self.cert, format!("it does not go with the key `{}`: {error}", self.key.display()))
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn failed(file: &Path, what: String) -> Failure {
    Failure::Tls { file: file.to_owned(), what }
}

/// What new connections are accepted with.
#[derive(Debug)]
pub(crate) struct CurrentTls(RwLock<Arc<ServerConfig>>);

impl CurrentTls {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self(RwLock::new(config))
    }

    pub(crate) fn get(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}
