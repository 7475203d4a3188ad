//! [`Gate`]: a relay in front of a server, which can be closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

/// Relays connections to a server, or ends them. It ends when it is dropped.
pub(crate) struct Gate {
    address: SocketAddr,
    /// The target of connections, or `None` to close them. A change ends those that are open.
    to: watch::Sender<Option<SocketAddr>>,
    open: Arc<AtomicUsize>,
    relaying: AbortHandle,
}

impl Gate {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (to, target) = watch::channel(Some(server));
        let open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&open);
        let relaying = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, target.clone(), Arc::clone(&count)));
                while connections.try_join_next().is_some() {}
            }
        })
        .abort_handle();
        Self { address, to, open, relaying }
    }

    /// Returns the address for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends what is open; what comes goes to this server, or nowhere.
    pub(crate) fn lead_to(&self, server: Option<SocketAddr>) {
        self.to.send_replace(server);
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

async fn relay(
    mut client: TcpStream,
    mut target: watch::Receiver<Option<SocketAddr>>,
    open: Arc<AtomicUsize>,
) {
    let Some(server) = *target.borrow_and_update() else { return };
    open.fetch_add(1, Ordering::Relaxed);
    let relayed = async {
        let mut server = TcpStream::connect(server).await?;
        copy_bidirectional(&mut client, &mut server).await
    };
    tokio::select! {
        // Either side has closed, or the relay failed.
        _ = relayed => {}
        _ = target.changed() => {}
    }
    open.fetch_sub(1, Ordering::Relaxed);
}
