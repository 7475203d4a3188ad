//! [`SimServer`]: a server in a simulation, which can be stopped, killed and started again.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall::server::{BuildError, ServerBuilder, ServerHandle};

use crate::node::{Node, SERVER_PORT};

/// Describes a server each time that it starts.
type Describe = Arc<dyn Fn(&Node) -> ServerBuilder + Send + Sync>;

/// A server in a simulation: see [`Cluster::server`](crate::Cluster::server). Cloning is cheap.
#[derive(Clone)]
pub struct SimServer {
    node: Node,
    describe: Describe,
    running: Arc<Mutex<Option<ServerHandle>>>,
}

impl SimServer {
    pub(crate) fn start(node: Node, describe: Describe) -> Result<Self, BuildError> {
        let server = Self { node, describe, running: Arc::default() };
        server.restart()?;
        Ok(server)
    }

    /// Returns the node that the server runs in.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// Returns the handle of the server that runs, or of the last one that did.
    ///
    /// # Panics
    ///
    /// Never: a server that was not started once is no value of this type.
    #[must_use]
    pub fn handle(&self) -> ServerHandle {
        self.running().clone().expect("it was started")
    }

    /// Returns `true` if the server was started and has not ended: it was neither stopped nor killed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.node.network().listens(self.node.id(), SERVER_PORT)
    }

    /// Ends the server at once, as `kill -9` does: its handlers are dropped, and nothing is said to clients or
    /// registries.
    pub fn kill(&self) {
        self.node.kill();
    }

    /// Stops the server gracefully, and returns once it has: it deregisters, says goaway, and finishes its calls.
    pub async fn stop(&self) {
        self.node.network().trace().note(format_args!("{} stops", self.node.name()));
        let handle = self.handle();
        handle.stop();
        handle.ended().await;
    }

    /// Starts the server again, as a new process at the same address. One that still runs is killed.
    ///
    /// # Errors
    ///
    /// The description of the server has a mistake in it.
    pub fn restart(&self) -> Result<(), BuildError> {
        self.node.end();
        let workers = self.node.network().workers().clone();
        let described = (self.describe)(&self.node).reached_at(self.node.address());
        let server = described.offload_runtime(workers).build()?;
        let handle = server.handle();
        *self.running() = Some(handle.clone());
        let network = self.node.network();
        network.trace().note(format_args!("{} starts", self.node.name()));
        network.listen(
            self.node.id(),
            SERVER_PORT,
            Arc::new(move |stream, peer| handle.serve_stream(stream, peer)),
        );
        let (network, life) = (Arc::clone(network), network.incarnation(self.node.id()));
        self.node.spawn(async move {
            server.serve().await;
            network.close_port(life, SERVER_PORT);
        });
        Ok(())
    }

    fn running(&self) -> MutexGuard<'_, Option<ServerHandle>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimServer").field(&self.node.name()).finish()
    }
}
