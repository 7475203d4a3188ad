//! [`TlsServer`]: the certificate of a server, and which certificates it wants of its clients.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use farcall_tls::{ClientAuth, FileContent, Identity, Pem, Reloaded, TlsError, add_roots, server_config};
use rustls::crypto::ring::Ticketer;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use super::stream::accepting;
use super::{Alpn, RELOAD_EVERY};
use crate::stream::Stream;

/// The server's side of TLS: its certificate, and which certificates it wants of its clients, if
/// any. Cloning is cheap.
///
/// ```no_run
/// use farcall_transport::TlsServer;
///
/// let server = TlsServer::builder()
///     .certificate_files("/etc/shop/server.pem", "/etc/shop/server.key")
///     .client_roots_file("/etc/shop/ca.pem")
///     .build()?;
/// # Ok::<(), farcall_transport::TlsError>(())
/// ```
#[derive(Clone)]
pub struct TlsServer {
    configs: Reloaded<[Arc<ServerConfig>; Alpn::ALL.len()]>,
}

/// Describes a [`TlsServer`].
#[derive(Clone)]
#[must_use]
pub struct TlsServerBuilder {
    parts: Parts,
    reload_interval: Duration,
}

#[derive(Clone, Default)]
struct Parts {
    identity: Option<Identity>,
    client_roots: Vec<Pem>,
    client_certificate_optional: bool,
}

impl TlsServer {
    /// Begins to describe one.
    pub fn builder() -> TlsServerBuilder {
        TlsServerBuilder { parts: Parts::default(), reload_interval: RELOAD_EVERY }
    }

    /// Encrypts a stream that was accepted. The handshake is made when what is returned is first read or
    /// written, so that this never waits; its time limit is left to the caller. If it fails, so do all
    /// reads and writes, with a [`TlsErrorKind`](super::TlsErrorKind) inside.
    pub fn accept<S>(&self, stream: S, alpn: Alpn) -> Stream
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let config = Arc::clone(&self.configs.get()[alpn as usize]);
        accepting(TlsAcceptor::from(config).accept(stream), alpn)
    }

    /// Begins to look at the files, where nothing was accepted yet.
    pub(crate) fn watch(&self) {
        self.configs.get();
    }
}

impl TlsServerBuilder {
    /// Shows the certificate in this PEM file, with those between it and the authority behind it.
    /// The key is in the other file, in PEM and without a passphrase.
    pub fn certificate_files(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.parts.identity = Some(Identity::from_files(chain, key));
        self
    }

    /// Shows the certificate in this PEM, as [`TlsServerBuilder::certificate_files`] does.
    pub fn certificate_pem(mut self, chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.parts.identity = Some(Identity::from_pem(chain, key));
        self
    }

    /// Lets in only clients with a certificate that an authority in this PEM file has signed.
    /// Authorities of several calls all hold. By default no certificate is requested from clients.
    pub fn client_roots_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.parts.client_roots.push(Pem::File(path.into()));
        self
    }

    /// Lets in only clients with a certificate that an authority in this PEM has signed, as
    /// [`TlsServerBuilder::client_roots_file`] does.
    pub fn client_roots_pem(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.parts.client_roots.push(Pem::Text(pem.into()));
        self
    }

    /// Lets in clients without a certificate, too: one that is shown must still be a good one. For
    /// servers that know some clients by their certificates and others by their tokens.
    pub fn client_certificate_optional(mut self) -> Self {
        self.parts.client_certificate_optional = true;
        self
    }

    /// Sets the time between two checks of the files; 2 s by default. New connections have what is new after
    /// two looks, and no session from before is resumed. Connections that are open stay as they are.
    pub fn reload_interval(mut self, every: Duration) -> Self {
        self.reload_interval = every;
        self
    }

    /// Reads the files. Blocks meanwhile.
    ///
    /// # Errors
    ///
    /// A [`TlsError`], which names the file and what is wrong with it.
    pub fn build(self) -> Result<TlsServer, TlsError> {
        let TlsServerBuilder { parts, reload_interval } = self;
        let files = parts.files();
        let configs =
            Reloaded::load("certificates", files, reload_interval, move |files| parts.configs(files))?;
        Ok(TlsServer { configs })
    }
}

impl Parts {
    fn files(&self) -> Vec<PathBuf> {
        let identity = self.identity.iter().flat_map(Identity::paths);
        identity.chain(self.client_roots.iter().filter_map(Pem::path)).map(Path::to_owned).collect()
    }

    fn client_auth(&self, files: &[FileContent]) -> Result<ClientAuth, TlsError> {
        if self.client_roots.is_empty() {
            return Ok(ClientAuth::None);
        }
        let mut roots = RootCertStore::empty();
        for pem in &self.client_roots {
            add_roots(&mut roots, "root certificate of clients", pem, files)?;
        }
        Ok(if self.client_certificate_optional {
            ClientAuth::Optional(roots)
        } else {
            ClientAuth::Required(roots)
        })
    }

    fn configs(&self, files: &[FileContent]) -> Result<[Arc<ServerConfig>; Alpn::ALL.len()], TlsError> {
        let identity = self.identity.as_ref().ok_or(TlsError::NoCertificate)?;
        let mut config = server_config(identity, self.client_auth(files)?, files)?;
        // Sessions are resumed by tickets, which cost the server no memory. Their key belongs to
        // this configuration, so that a client of an older one must present its certificate again.
        config.ticketer = Ticketer::new().map_err(TlsError::other)?;
        Ok(Alpn::ALL.map(|alpn| {
            let mut config = config.clone();
            config.alpn_protocols = alpn.protocols();
            Arc::new(config)
        }))
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").field("files", &self.configs).finish_non_exhaustive()
    }
}

/// Does not show what was given: it may be a key.
impl fmt::Debug for TlsServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServerBuilder").field("files", &self.parts.files()).finish_non_exhaustive()
    }
}
