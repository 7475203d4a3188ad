//! [`Cluster`]: the nodes of a simulation, and the faults that a scenario makes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use farcall::server::{BuildError, ServerBuilder};
use farcall_registry::server::RegistryOptions;
use fastrand::Rng;

use crate::network::{Link, Network};
use crate::node::Node;
use crate::registry::SimRegistry;
use crate::server::SimServer;

/// The nodes of a simulation and the network between them, for a scenario to start, cut and kill. Cloning is cheap.
///
/// Nodes are named; a name that is new makes a node.
#[derive(Clone, Debug)]
pub struct Cluster {
    seed: u64,
    network: Arc<Network>,
    random: Arc<Mutex<Rng>>,
}

impl Cluster {
    pub(crate) fn new(seed: u64, network: Arc<Network>, random: Rng) -> Self {
        Self { seed, network, random: Arc::new(Mutex::new(random)) }
    }

    /// Returns the seed of the simulation.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns a generator of random numbers for the scenario, another one each time. What the scenario draws changes
    /// nothing of what the network and farcall draw.
    #[must_use]
    pub fn random(&self) -> Rng {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// Returns a node, such as that of a client.
    #[must_use]
    pub fn node(&self, name: &str) -> Node {
        Node::new(Arc::clone(&self.network), name)
    }

    /// Starts a server at the node of this name. `describe` is called now, and at each
    /// [restart](SimServer::restart); it needs no `listen`, and registers the node's address unless it advertises others.
    ///
    /// # Errors
    ///
    /// The description of the server has a mistake in it.
    pub fn server(
        &self,
        name: &str,
        describe: impl Fn(&Node) -> ServerBuilder + Send + Sync + 'static,
    ) -> Result<SimServer, BuildError> {
        SimServer::start(self.node(name), Arc::new(describe))
    }

    /// Starts a registry at the node of this name.
    ///
    /// # Errors
    ///
    /// The options have a mistake in them, or the snapshot cannot be used.
    pub async fn registry(&self, name: &str, options: RegistryOptions) -> io::Result<SimRegistry> {
        SimRegistry::start(self.node(name), options).await
    }

    /// Sets the properties of all ways that have no others, for connections that are opened after this.
    pub fn links(&self, link: Link) {
        self.network.set_default_link(link);
    }

    /// Sets the properties of the way from one node to another, for connections that are opened after this.
    pub fn link(&self, from: &str, to: &str, link: Link) {
        self.network.set_link(self.network.node(from), self.network.node(to), link);
    }

    /// Cuts the way from one node to another: nothing arrives until it is healed, in this direction. What is sent
    /// waits, as TCP repeats it, and acknowledgements of the other direction are lost.
    pub fn cut(&self, from: &str, to: &str) {
        self.network.trace().note(format_args!("{from} -> {to} is cut"));
        self.network.set_cut(self.network.node(from), self.network.node(to), true);
    }

    /// Cuts all ways between the nodes of one list and those of another, in both directions.
    pub fn partition(&self, one: &[&str], other: &[&str]) {
        for (one, other) in one.iter().flat_map(|one| other.iter().map(move |other| (one, other))) {
            self.cut(one, other);
            self.cut(other, one);
        }
    }

    /// Heals all ways that were cut.
    pub fn heal(&self) {
        self.network.trace().note(format_args!("all ways are healed"));
        self.network.heal();
    }

    /// Resets the connections between two nodes, as a firewall does that forgets them.
    pub fn reset(&self, one: &str, other: &str) {
        self.network.trace().note(format_args!("connections between {one} and {other} are reset"));
        self.network.reset(self.network.node(one), self.network.node(other));
    }

    /// Freezes a node, as `SIGSTOP` does to a process: its kernel still accepts connections and bytes, but nothing is
    /// read or sent. Its timers go on, which is all that differs from the signal.
    pub fn freeze(&self, name: &str) {
        self.network.trace().note(format_args!("{name} freezes"));
        self.network.set_frozen(self.network.node(name), true);
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, name: &str) {
        self.network.trace().note(format_args!("{name} goes on"));
        self.network.set_frozen(self.network.node(name), false);
    }

    /// Lets the clocks of all nodes jump ahead, as that of a machine does which was suspended: every timer that is due
    /// by then fires late.
    pub async fn jump(&self, time: Duration) {
        self.network.trace().note(format_args!("clocks jump by {} ms", time.as_millis()));
        tokio::time::advance(time).await;
    }

    /// Adds a line to the trace.
    pub fn note(&self, event: impl AsRef<str>) {
        self.network.trace().note(format_args!("{}", event.as_ref()));
    }

    /// Returns the number of connections that are open, over all nodes.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.network.connections()
    }
}
