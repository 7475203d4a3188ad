//! [`Target`]: the server as an attack sees it, and the steps that all attacks have in common.

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncBufReadExt;

use crate::peer::{Offer, Peer};

/// The line by which an attacker says that it is prepared.
pub(crate) const READY: &str = "ready";
/// The line that lets it begin.
pub(crate) const GO: &str = "go";

/// The server that is attacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The address for calls.
    pub(super) rpc: SocketAddr,
    /// The address for HTTP.
    pub(super) http: SocketAddr,
    /// The address for calls over TLS.
    pub(super) tls: SocketAddr,
}

impl Target {
    /// Opens a connection for calls.
    pub(super) async fn connect(&self) -> io::Result<Peer> {
        Peer::open(self.rpc, &Offer::default()).await
    }

    /// Opens a connection for calls whose answers are read and discarded.
    pub(super) async fn connect_reading(&self, offer: &Offer) -> io::Result<Peer> {
        let mut peer = Peer::open(self.rpc, offer).await?;
        peer.discard_answers();
        Ok(peer)
    }
}

/// Says that all is prepared, and waits for the beginning.
pub(super) async fn begin() -> io::Result<()> {
    println!("{READY}");
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
    Ok(())
}

/// Runs `count` tasks. What one of them meets, such as the end of its connection, ends it alone.
pub(super) fn spawn_each<F>(count: usize, task: impl Fn(usize) -> F)
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    for number in 0..count {
        tokio::spawn(task(number));
    }
}

/// Stays, with all that was opened, until the process is killed.
pub(super) async fn stay() -> io::Result<()> {
    std::future::pending().await
}
