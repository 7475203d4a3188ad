//! [`SimRegistry`]: farcall's registry in a simulation, with its HTTP interface over the simulated network.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall::registry::{HttpDiscovery, HttpRegistrar};
use farcall_registry::server::{OpenError, Registry, RegistryOptions};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::time::sleep;

use crate::node::Node;

/// The virtual time in which the tasks of a process that was killed are dropped.
const TASKS_DROP: Duration = Duration::from_millis(1);

/// The port of a registry.
const PORT: u16 = 7100;

/// A registry in a simulation: see [`Cluster::registry`](crate::Cluster::registry). Cloning is cheap.
///
/// It runs the same code as the program `registry-server`, and servers and clients use the real HTTP client. Only the
/// sockets are replaced, by streams of the simulated network.
#[derive(Clone)]
pub struct SimRegistry {
    node: Node,
    options: RegistryOptions,
    running: Arc<Mutex<Option<Registry>>>,
}

impl SimRegistry {
    pub(crate) async fn start(node: Node, options: RegistryOptions) -> io::Result<Self> {
        let options = options.allowed_host(node.name());
        let registry = Self { node, options, running: Arc::default() };
        registry.restart().await?;
        Ok(registry)
    }

    /// Returns the node that the registry runs in.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Returns the registry itself, for a look at what it knows.
    ///
    /// # Panics
    ///
    /// While a registry with a snapshot is started again.
    #[must_use]
    pub fn registry(&self) -> Registry {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.clone().expect("it was started")
    }

    /// Returns a registrar for a server of this node.
    ///
    /// # Panics
    ///
    /// The name of the registry's node is none that a host can have.
    pub fn registrar(&self, node: &Node) -> HttpRegistrar {
        HttpRegistrar::new(&self.url()).expect("the name of a node is that of a host").dialer(node.dialer())
    }

    /// Returns a discovery of a service for a channel of this node.
    ///
    /// # Panics
    ///
    /// The name is none that a service can have.
    pub fn discovery(&self, node: &Node, service: &str) -> HttpDiscovery {
        let discovery = HttpDiscovery::new(&self.url(), service);
        discovery.expect("the names of a host and of a service").dialer(node.dialer())
    }

    /// Ends the registry at once, as `kill -9` does.
    pub fn kill(&self) {
        self.node.kill();
    }

    /// Starts the registry again, as a new process: with what its snapshot has, or empty if it has none. One that still
    /// runs is killed.
    ///
    /// # Errors
    ///
    /// The options have a mistake in them, or the snapshot cannot be used.
    pub async fn restart(&self) -> io::Result<()> {
        self.node.end();
        let registry = match Registry::open(self.options.clone()).await {
            Err(OpenError::SnapshotInUse { .. }) => {
                // By the process that was killed: its tasks are dropped when they are next run.
                *self.running.lock().unwrap_or_else(PoisonError::into_inner) = None;
                sleep(TASKS_DROP).await;
                Registry::open(self.options.clone()).await
            }
            opened => opened,
        };
        let registry = registry.map_err(io::Error::other)?;
        let network = self.node.network();
        network.trace().note(format_args!("{} starts", self.node.name()));
        let router = registry.router(&[SocketAddr::from(([127, 0, 0, 1], PORT))]);
        let node = self.node.clone();
        network.listen(
            self.node.id(),
            PORT,
            Arc::new(move |stream, _| {
                let service = TowerToHyperService::new(router.clone());
                node.spawn(async move {
                    let mut http = http1::Builder::new();
                    // It would be that of the machine.
                    http.auto_date_header(false);
                    // The error of a client that is gone is for the client to notice.
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }),
        );
        let running = registry.clone();
        self.node.spawn(async move { running.run(std::future::pending()).await });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(registry);
        Ok(())
    }

    fn url(&self) -> String {
        format!("http://{}:{PORT}", self.node.name())
    }
}

impl fmt::Debug for SimRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimRegistry").field(&self.node.name()).finish()
    }
}
