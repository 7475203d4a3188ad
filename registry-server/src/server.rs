//! [`Server`]: the registry on its sockets, from the first to the last connection.
//!
//! Accepting is done by `farcall-web`; one connection is served by `connection`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farcall_registry::server::Registry;
use farcall_web::{Connections, StalledPeers};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tracing::{error, info, warn};

use crate::config::{Config, ConnectionLimits};
use crate::connection::{ConnectionServer, STALL_TIMEOUT};
use crate::error::ServerError;
use crate::reload::Reload;
use crate::tls::{CurrentTls, TlsFiles};

/// The time that requests under way have to finish after shutdown began; then they are aborted.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);

/// A registry that listens but does not answer yet.
pub struct Server {
    registry: Registry,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    tls: Option<Arc<CurrentTls>>,
    /// `true` if writing requires a token.
    guarded: bool,
    limits: ConnectionLimits,
    reload: Reload,
    reload_now: Arc<Notify>,
}

impl Server {
    /// Reads tokens and certificates, listens, and loads the snapshot.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; then no socket stays open.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        config.limits.check()?;
        let secrets = config.tokens.read()?;
        let tls = config.tls.as_ref().map(TlsFiles::load).transpose()?.map(Arc::new);
        // Before the snapshot is touched: if another registry runs already, it owns the snapshot.
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for address in config.listen_addresses() {
            let failed = |error| ServerError::Listen { address: address.to_owned(), error };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            addresses.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        let mut options = config.registry.clone();
        if !config.tokens.is_empty() {
            options = options.tokens(secrets.tokens());
        }
        let registry = Registry::open(options).await?;
        let guarded = secrets.guard_writing();
        let reload = Reload::new(registry.clone(), config.tokens, secrets, tls.clone());
        let reload_now = Arc::new(Notify::new());
        Ok(Self { registry, listeners, addresses, tls, guarded, limits: config.limits, reload, reload_now })
    }

    /// Returns the addresses that it listens on, with the ports that it was assigned.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Returns the URLs of these addresses: `http://127.0.0.1:7100`, or `https://...` with TLS.
    pub fn urls(&self) -> impl Iterator<Item = String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.addresses.iter().map(move |address| format!("{scheme}://{address}"))
    }

    /// Returns the registry.
    #[must_use]
    pub const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Returns a notifier that makes the server read token files and certificates again at once.
    #[must_use]
    pub fn reload_now(&self) -> Arc<Notify> {
        Arc::clone(&self.reload_now)
    }

    /// Logs a warning for each address that other machines reach without a token or without TLS.
    pub(crate) fn warn_if_open(&self) {
        for address in self.addresses.iter().filter(|address| !address.ip().to_canonical().is_loopback()) {
            if !self.guarded {
                warn!(
                    %address,
                    "ANY CLIENT THAT REACHES THIS ADDRESS CAN REGISTER, DRAIN AND REMOVE INSTANCES: \
                     set --write-token-file, or listen on a loopback address"
                );
            } else if self.tls.is_none() {
                warn!(
                    %address,
                    "tokens are sent in clear text: set --tls-cert and --tls-key, or use a proxy with TLS"
                );
            }
        }
    }

    /// Serves requests until `stop` is ready; then accepts no more connections, ends watches, writes the
    /// snapshot, and gives requests under way 3 s. Dropping the future ends everything at once.
    ///
    /// # Errors
    ///
    /// [`ServerError::TaskFailed`] or [`ServerError::TaskEnded`], if the registry's background task ended, which is a bug.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        let connections = Connections::new(self.limits.max_connections);
        let _abort_on_drop = connections.abort_on_drop();
        let shutdown = connections.shutdown_token().clone();

        let mut run = {
            let (registry, shutdown) = (self.registry.clone(), shutdown.clone());
            tokio::spawn(async move { registry.run(shutdown.cancelled()).await })
        };
        connections.spawn_until_shutdown(self.reload.run(self.reload_now));
        let server = ConnectionServer {
            router: self.registry.router(&self.addresses),
            tls: self.tls,
            header_timeout: self.limits.header_timeout,
            stall_timeout: STALL_TIMEOUT,
            stalled_peers: StalledPeers::default(),
            shutdown,
        };
        for listener in self.listeners {
            let (accepting, server) = (connections.clone(), server.clone());
            connections.spawn_until_shutdown(async move {
                let serve = move |stream, peer, activity| server.clone().serve(stream, peer, activity);
                accepting.accept(&listener, serve).await;
            });
        }

        let outcome = tokio::select! {
            () = stop => Ok(()),
            // Cancel-safe: the handle is awaited again below.
            ended = &mut run => Err(ended.map_or_else(ServerError::TaskFailed, |()| ServerError::TaskEnded)),
        };
        connections.begin_shutdown();
        self.registry.close().await;
        let aborted = connections.shut_down(Some(SHUTDOWN_TIMEOUT)).await;
        if aborted > 0 {
            info!(connections = aborted, "aborted connections that were still open after 3 s");
        }
        // Again, for the changes of the last requests.
        self.registry.close().await;
        if outcome.is_ok()
            && let Err(error) = run.await
        {
            error!(%error, "the registry's background task failed during shutdown");
        }
        outcome
    }
}
