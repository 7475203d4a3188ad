//! Addresses and ports of this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Returns a loopback address with port 0 that nothing else uses: a port there stays free while its
/// process is dead, and no client gets that port as its own.
#[must_use]
pub fn own_address() -> String {
    static LAST: AtomicU8 = AtomicU8::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let [.., high, low] = std::process::id().to_be_bytes();
    // Not 127.0.0.1, and no network or broadcast address.
    format!("127.{}.{low}.{}:0", 64 + high % 128, 1 + number % 254)
}

/// Returns an address of which nothing uses the port, for a server that has to be told its port. The
/// port stays free until then, as at each [`own_address`].
#[must_use]
pub fn free_address() -> SocketAddr {
    TcpListener::bind(own_address()).unwrap().local_addr().unwrap()
}

/// Returns a port of 127.0.0.1 that is free for TCP and UDP, for programs that take no [`free_address`]. It
/// is below those that the system assigns to other connections, so that it is still free when a server is
/// started there again.
#[must_use]
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        let place = (Ipv4Addr::LOCALHOST, port);
        if let (Ok(_tcp), Ok(_udp)) = (TcpListener::bind(place), UdpSocket::bind(place)) {
            return port;
        }
    }
}

/// Returns an address at which connections are refused: its listener was closed.
#[must_use]
pub fn refusing_address() -> SocketAddr {
    free_address()
}

/// A listener whose backlog is full: the kernel drops further connections without an answer.
pub struct FullBacklog {
    /// The address of the listener.
    pub address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _filling: JoinSet<std::io::Result<TcpStream>>,
}

impl FullBacklog {
    /// Binds a listener and fills its backlog.
    pub async fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut filling = JoinSet::new();
        for _ in 0..3 {
            filling.spawn(TcpStream::connect(address));
        }
        // Two fit. The third never connects.
        for _ in 0..2 {
            filling.join_next().await.unwrap().unwrap().unwrap();
        }
        Self { address, _listener: listener, _filling: filling }
    }
}
