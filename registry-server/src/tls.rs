//! TLS: the certificate and its key, which can be exchanged while the registry runs. Reading them again
//! is left to [`Reloaded`].

use std::path::PathBuf;
use std::sync::Arc;

use farcall_tls::{ClientAuth, Identity, Reloaded, TlsError, server_config};
use rustls::ServerConfig;

use crate::error::ServerError;
use crate::files::CHECK_INTERVAL;

/// The files of the certificate and of its key.
#[derive(Clone, Debug)]
pub(crate) struct TlsFiles {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl TlsFiles {
    /// Reads both, and again when they change.
    pub(crate) fn load(&self) -> Result<CurrentTls, ServerError> {
        let identity = Identity::from_files(&self.cert, &self.key);
        let files = [self.cert.clone(), self.key.clone()];
        let config = Reloaded::load("certificates", files, CHECK_INTERVAL, move |files| {
            let mut config = server_config(&identity, ClientAuth::None, files)?;
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            Ok::<_, TlsError>(config)
        });
        Ok(CurrentTls(config?))
    }
}

/// The configuration that new connections are accepted with.
#[derive(Debug)]
pub(crate) struct CurrentTls(Reloaded<ServerConfig>);

impl CurrentTls {
    pub(crate) fn get(&self) -> Arc<ServerConfig> {
        self.0.get()
    }

    /// Has the files read again now.
    pub(crate) fn check_now(&self) {
        self.0.check_now();
    }
}
