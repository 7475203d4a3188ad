//! [`Gate`]: a relay in front of a server, which can be closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_test_support::ending::OpenConnections;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Relays connections to a server, or ends them. It ends when it is dropped.
pub(crate) struct Gate {
    address: SocketAddr,
    /// The target of connections, or `None` to close them.
    to: watch::Sender<Option<SocketAddr>>,
    connections: Arc<OpenConnections>,
    open: Arc<AtomicUsize>,
    relaying: AbortHandle,
}

impl Gate {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, target) = watch::channel(Some(server));
        let open = Arc::new(AtomicUsize::new(0));
        let connections = Arc::<OpenConnections>::default();
        let (count, joined) = (Arc::clone(&open), Arc::clone(&connections));
        let relaying = tokio::spawn(async move {
            let mut tasks = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // Joined before the target is read: a change ends those that go to the one before.
                let connection = joined.join();
                if let Some(server) = *target.borrow() {
                    tasks.spawn(connection.run(relay(client, server, Arc::clone(&count))));
                }
                while tasks.try_join_next().is_some() {}
            }
        })
        .abort_handle();
        Self { address, to, connections, open, relaying }
    }

    /// Returns the address for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends what is open; what comes goes to this server, or nowhere. When this returns, nothing more passes to the
    /// server before.
    pub(crate) async fn lead_to(&self, server: Option<SocketAddr>) {
        self.to.send_replace(server);
        self.connections.end().await;
    }

    pub(crate) fn open_connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.relaying.abort();
    }
}

async fn relay(mut client: TcpStream, server: SocketAddr, open: Arc<AtomicUsize>) {
    let _counted = CountOpen::new(open);
    // Either side has closed, or the relay failed.
    if let Ok(mut server) = TcpStream::connect(server).await {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// One of the open connections.
struct CountOpen(Arc<AtomicUsize>);

impl CountOpen {
    fn new(open: Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open)
    }
}

/// Also if it is ended with all others.
impl Drop for CountOpen {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
