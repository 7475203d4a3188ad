//! [`Network`]: addresses of servers in memory, and the dialer that finds them.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::duplex;
use tokio::task::JoinHandle;

use crate::client::{ChannelBuilder, ConnectionOptions};
use crate::server::{BuildError, ServerBuilder, ServerHandle};
use crate::transport::{AddressError, Connect, Connecting, Dialer, PeerAddress, Stream};
use crate::{Address, Channel};

/// Bytes that a pipe holds in each direction before its writer waits, as a socket's buffer does.
const PIPE_BYTES: usize = 64 * 1024;

/// Servers in memory, each at an address of the test's choice. Cloning is cheap, and clones share everything.
///
/// Addresses are names: nothing is resolved, and no port is bound. An address without a server refuses connections,
/// and so does one whose server has stopped, which makes failover and `wait_for_ready` testable.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use farcall::Server;
/// use farcall::discovery::MemoryRegistry;
/// use farcall::testing::Network;
///
/// #[farcall::service]
/// trait Host {
///     async fn name(&self) -> String;
/// }
///
/// struct Named(&'static str);
///
/// impl Host for Named {
///     async fn name(&self) -> String {
///         self.0.to_owned()
///     }
/// }
///
/// let network = Network::new();
/// let registry = MemoryRegistry::new();
/// let serve = |address: &'static str| {
///     let server = Server::builder().service(Named(address).into_service());
///     network.serve(address, server.register_with(registry.registrar()))
/// };
/// let first = serve("tcp@first:1")?;
/// let second = serve("tcp@second:1")?;
///
/// let channel = network.channel_builder().discover(registry.discovery("Host")).wait_for_ready(true).build()?;
/// let host = HostClient::new(channel);
/// first.stop().await;
/// assert_eq!(host.name().timeout(Duration::from_secs(5)).await?, "tcp@second:1");
/// # second.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Network {
    hosts: Arc<Hosts>,
}

/// The servers of a network by their addresses.
#[derive(Default)]
struct Hosts {
    /// One entry for each server that runs.
    servers: Mutex<HashMap<Address, Host>>,
    /// The number of the next server.
    next_id: AtomicU64,
    /// Servers that end with the network instead of with a [`TestServer`] in the hands of the test.
    kept: Mutex<Vec<TestServer>>,
}

struct Host {
    /// Tells a server from an earlier one at the same address.
    id: u64,
    server: ServerHandle,
}

impl Network {
    /// Creates a network without servers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Builds a server and serves it at `address` until [`TestServer::stop`], or until the value is dropped. A server
    /// that is there already is no longer reached by new connections.
    ///
    /// The builder needs no `listen`. What it registers is `address`, unless it advertises others.
    ///
    /// # Errors
    ///
    /// The builder has a mistake in it, or the address does not parse.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn serve<A>(&self, address: A, server: ServerBuilder) -> Result<TestServer, BuildError>
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(|error| BuildError::Address(error.into()))?;
        let server = server.reached_at(address.clone()).build()?;
        let handle = server.handle();
        let id = self.hosts.next_id.fetch_add(1, Ordering::Relaxed);
        lock(&self.hosts.servers).insert(address.clone(), Host { id, server: handle.clone() });
        // Weak, since the network may own the server.
        let (hosts, at) = (Arc::downgrade(&self.hosts), address.clone());
        let serving = tokio::spawn(async move {
            server.serve().await;
            if let Some(hosts) = hosts.upgrade() {
                hosts.remove(&at, id);
            }
        });
        Ok(TestServer { address, handle, serving: Some(serving) })
    }

    /// Returns a channel to one address, with default options.
    ///
    /// # Panics
    ///
    /// The address does not parse.
    #[must_use]
    pub fn channel<A>(&self, address: A) -> Channel
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        self.channel_builder().to(address).build().expect("the address parses")
    }

    /// Returns a builder of channels that dial within this network; it still needs an address or a discovery.
    pub fn channel_builder(&self) -> ChannelBuilder {
        Channel::builder().options(ConnectionOptions::default().dialer(self.dialer()))
    }

    /// Returns a dialer of this network, for options of the test's own.
    pub fn dialer(&self) -> Dialer {
        Dialer::default().connector(self.clone())
    }

    /// Keeps a server until the network's last clone is gone.
    pub(super) fn keep(&self, server: TestServer) {
        lock(&self.hosts.kept).push(server);
    }
}

impl Connect for Network {
    fn connect<'a>(&'a self, address: &'a Address) -> Connecting<'a> {
        Box::pin(async move {
            let server = lock(&self.hosts.servers).get(address).map(|host| host.server.clone());
            let refused = || io::Error::new(ErrorKind::ConnectionRefused, "no server at this address");
            let server = server.ok_or_else(refused)?;
            let (near, far) = duplex(PIPE_BYTES);
            server.serve_io(far, PeerAddress::Memory);
            Ok(Stream::new(near))
        })
    }
}

impl Hosts {
    /// Removes a server that has ended, unless another one has taken its address.
    fn remove(&self, address: &Address, id: u64) {
        let mut servers = lock(&self.servers);
        if servers.get(address).is_some_and(|host| host.id == id) {
            servers.remove(address);
        }
    }
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(lock(&self.servers).keys()).finish()
    }
}

/// A server in memory. Dropping it stops the server in the background, gracefully.
#[derive(Debug)]
#[must_use = "dropping it stops the server"]
pub struct TestServer {
    address: Address,
    handle: ServerHandle,
    serving: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Returns the address at which the network has the server.
    #[must_use]
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Returns the handle of the server: its overview, statistics and registrations.
    #[must_use]
    pub const fn handle(&self) -> &ServerHandle {
        &self.handle
    }

    /// Stops the server gracefully, and returns once it has: it deregisters, says goaway, finishes its calls.
    pub async fn stop(mut self) {
        self.handle.stop();
        if let Some(serving) = self.serving.take() {
            // A panic while serving is the test's to see.
            serving.await.expect("the server ends without a panic");
        }
    }
}

impl Drop for TestServer {
    /// Stops what nothing else would: the task of a server that a test forgets serves until its runtime ends.
    fn drop(&mut self) {
        self.handle.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
