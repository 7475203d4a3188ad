//! [`Node`]: a process of a simulation, and the ways in which it uses the network.

use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use farcall::client::{ChannelBuilder, ConnectionOptions};
use farcall::transport::{Connect, Connecting, Dialer};
use farcall::{Address, Channel};
use tokio::task::AbortHandle;

use crate::network::{Incarnation, Network, NodeId};

/// The port of a node's server.
pub(crate) const SERVER_PORT: u16 = 7000;

/// A process of a simulation, with a name that others find it by. Cloning is cheap, and clones are the same process.
///
/// Whatever it dials passes over the links of the simulation, and ends with it.
#[derive(Clone)]
pub struct Node {
    network: Arc<Network>,
    id: NodeId,
    name: Arc<str>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Node {
    pub(crate) fn new(network: Arc<Network>, name: &str) -> Self {
        let id = network.node(name);
        Self { network, id, name: name.into(), tasks: Arc::default() }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the address of the node's server, `tcp@NAME:7000`, whether or not there is one.
    ///
    /// # Panics
    ///
    /// The name of the node is none that a host can have.
    #[must_use]
    pub fn address(&self) -> Address {
        let address = Address::parse(&format!("tcp@{}:{SERVER_PORT}", self.name));
        address.expect("the name of a node is that of a host")
    }

    /// Returns a builder of channels that dial from this node; it still needs an address or a discovery.
    pub fn channel_builder(&self) -> ChannelBuilder {
        self.channel_with(ConnectionOptions::default())
    }

    /// As [`Node::channel_builder`], with these options; their dialer is replaced.
    pub fn channel_with(&self, options: ConnectionOptions) -> ChannelBuilder {
        Channel::builder().options(options.dialer(self.dialer()))
    }

    /// Returns a dialer of this node.
    pub fn dialer(&self) -> Dialer {
        let incarnation = self.network.incarnation(self.id);
        Dialer::default().connector(NodeConnector { network: Arc::clone(&self.network), incarnation })
    }

    /// Runs a future in this node: it is dropped if the node is killed.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(future).abort_handle();
        let mut tasks = self.tasks();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
    }

    /// Ends the process at once, as `kill -9` does: what was [spawned](Node::spawn) is dropped, and its connections are
    /// reset. It may be used again after that, as a process that starts.
    pub fn kill(&self) {
        self.network.trace().note(format_args!("{} is killed", self.name));
        self.end();
    }

    pub(crate) fn end(&self) {
        self.network.kill(self.id);
        let tasks = std::mem::take(&mut *self.tasks());
        tasks.iter().for_each(AbortHandle::abort);
    }

    pub(crate) const fn id(&self) -> NodeId {
        self.id
    }

    pub(crate) fn network(&self) -> &Arc<Network> {
        &self.network
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Node").field(&self.name).finish()
    }
}

/// Dials from one life of a node.
struct NodeConnector {
    network: Arc<Network>,
    incarnation: Incarnation,
}

impl Connect for NodeConnector {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let (Some(host), Some(port)) = (address.host(), address.port()) else {
                return Err(io::Error::new(ErrorKind::InvalidInput, "an address without a host and a port"));
            };
            self.network.connect(self.incarnation, host, port).await
        })
    }
}
