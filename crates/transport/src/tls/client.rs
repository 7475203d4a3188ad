//! [`TlsClient`]: the authorities that a client trusts, and the certificate that it shows.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farcall_tls::{
    FileContent, Identity, Pem, Reloaded, TlsError, add_roots, add_system_roots, client_config,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::error::TlsCause;
use super::stream::opened;
use super::{Alpn, RELOAD_EVERY, TlsErrorKind};
use crate::stream::Stream;

/// The client's side of TLS: the authorities that it trusts, and the certificate that it shows, if any. Cloning is
/// cheap, and clones resume each other's sessions.
///
/// ```no_run
/// use farcall_transport::TlsClient;
///
/// let client = TlsClient::builder()
///     .roots_file("/etc/shop/ca.pem")
///     .certificate_files("/etc/shop/client.pem", "/etc/shop/client.key")
///     .build()?;
/// # Ok::<(), farcall_transport::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsClient {
    configs: Reloaded<[Arc<ClientConfig>; Alpn::ALL.len()]>,
    server_name: Option<ServerName<'static>>,
}

/// Describes a [`TlsClient`].
#[derive(Clone)]
#[must_use]
pub struct TlsClientBuilder {
    parts: Parts,
    server_name: Option<String>,
    reload_interval: Duration,
}

#[derive(Clone, Default)]
struct Parts {
    roots: Vec<Pem>,
    system_roots: bool,
    identity: Option<Identity>,
}

impl TlsClient {
    /// Begins to describe one that trusts the system's authorities.
    pub fn builder() -> TlsClientBuilder {
        TlsClientBuilder { parts: Parts::default(), server_name: None, reload_interval: RELOAD_EVERY }
    }

    /// Creates one that trusts the system's authorities, and shows no certificate. Blocks while it reads the
    /// system's roots.
    ///
    /// # Errors
    ///
    /// The system has no root certificates.
    pub fn system() -> Result<TlsClient, TlsError> {
        TlsClient::builder().build()
    }

    /// Encrypts a stream to the server that is called `host`, a name or an IP address, which the
    /// server's certificate must be for. There is no limit of time here.
    ///
    /// # Errors
    ///
    /// The handshake failed.
    pub async fn connect<S>(&self, stream: S, host: &str, alpn: Alpn) -> Result<Stream, TlsErrorKind>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(host).map_err(|error| TlsErrorKind::Other { error: TlsCause::new(error) })?,
        };
        let config = Arc::clone(&self.configs.get()[alpn as usize]);
        let connected = TlsConnector::from(config).connect(name, stream).await;
        opened(connected.map_err(TlsErrorKind::of_handshake)?.into(), alpn)
    }
}

impl TlsClientBuilder {
    /// Trusts the authorities in this PEM file: they alone, unless
    /// [`TlsClientBuilder::system_roots`] is called as well.
    pub fn roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.parts.roots.push(Pem::File(path.into()));
        self
    }

    /// Trusts the authorities in this PEM, as [`TlsClientBuilder::roots_file`] does.
    pub fn roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.parts.roots.push(Pem::Text(pem.into()));
        self
    }

    /// Trusts the system's authorities, too. This is the default if no others are set.
    pub fn system_roots(mut self) -> Self {
        self.parts.system_roots = true;
        self
    }

    /// Shows the certificate in this PEM file, with those between it and the authority behind it,
    /// to servers that request it. The key is in the other file, in PEM and without a passphrase.
    pub fn certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.parts.identity = Some(Identity::from_files(chain, key));
        self
    }

    /// Shows the certificate in this PEM, as [`TlsClientBuilder::certificate_files`] does.
    pub fn certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.parts.identity = Some(Identity::from_pem(chain, key));
        self
    }

    /// The name that the certificate of every server must be for, in place of the host of its
    /// address: for servers that are found by IP address and have certificates for one name.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Sets the time between two checks of the files; 2 s by default. New connections have what is new after
    /// two looks. Those that are open stay as they are.
    pub fn reload_interval(mut self, every: Duration) -> Self {
        self.reload_interval = every;
        self
    }

    /// Reads the files, and the system's roots where they are trusted. Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// A [`TlsError`], which names the file and what is wrong with it.
    pub fn build(self) -> Result<TlsClient, TlsError> {
        let TlsClientBuilder { parts, server_name: name, reload_interval } = self;
        let name = name.as_deref().map(server_name).transpose()?;
        let files = parts.files();
        let configs =
            Reloaded::load("certificates", files, reload_interval, move |files| parts.configs(files))?;
        Ok(TlsClient { configs, server_name: name })
    }
}

impl Parts {
    fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(Identity::paths);
        self.roots.iter().filter_map(Pem::path).chain(identity).map(Path::to_owned).collect()
    }

    fn configs(&self, files: &[FileContent]) -> Result<[Arc<ClientConfig>; Alpn::ALL.len()], TlsError> {
        let mut roots = RootCertStore::empty();
        for pem in &self.roots {
            add_roots(&mut roots, "root certificate", pem, files)?;
        }
        if self.system_roots || self.roots.is_empty() {
            add_system_roots(&mut roots)?;
        }
        let config = client_config(roots, self.identity.as_ref(), files)?;
        // The copies share one store of sessions.
        Ok(Alpn::ALL.map(|alpn| {
            let mut config = config.clone();
            config.alpn_protocols = alpn.protocols();
            Arc::new(config)
        }))
    }
}

/// The zone of an IPv6 address is this machine's own business, and in no certificate.
fn server_name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.split('%').next().unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|error| TlsError::server_name(host, error))
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient")
            .field("files", &self.configs)
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}

/// Does not show what was given: it may be a key.
impl fmt::Debug for TlsClientBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClientBuilder")
            .field("files", &self.parts.files())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
