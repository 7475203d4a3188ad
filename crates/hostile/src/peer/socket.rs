//! Sockets: how they are opened, and readers that take little or nothing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpSocket, TcpStream};

/// The address of this machine that attacks come from which test a server's limits for each peer.
pub(crate) const OTHER_ADDRESS: &str = "127.0.0.2:0";

/// A receive buffer so small that nearly all that is sent waits at the server, in bytes.
const SMALL_BUFFER: u32 = 4096;

/// Opens a connection whose receive buffer is small.
pub(crate) async fn connect_reluctantly(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SMALL_BUFFER)?;
    socket.connect(address).await
}

/// Opens a connection from another address of this machine.
pub(crate) async fn connect_from_elsewhere(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(OTHER_ADDRESS.parse().map_err(io::Error::other)?)?;
    socket.connect(address).await
}

/// Reads and discards all that arrives, until the stream ends.
pub(crate) async fn discard(mut stream: impl AsyncRead + Unpin) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// Reads a byte in each interval, until the stream ends.
pub(crate) async fn sip(mut stream: impl AsyncRead + Unpin, interval: Duration) {
    while let Ok(1) = stream.read(&mut [0]).await {
        tokio::time::sleep(interval).await;
    }
}
