//! [`SocketConnector`]: connects to addresses by the sockets of the operating system.
//!
//! The order of the addresses of a name is left to [`crate::resolve`], and the race between them to
//! [`super::happy_eyeballs`].

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};

use super::error::{Attempts, DialErrorKind};
use super::happy_eyeballs::race;
use super::limit::ConnectLimit;
use super::progress::DialProgress;
use crate::address::Address;
use crate::resolve::{Resolve, SystemResolver, in_turn};
use crate::send_buffer::SendBuffer;
use crate::stream::Stream;
use crate::unsent::bound_unsent;

/// The settings of connecting by TCP and Unix sockets. [`Dialer`](crate::Dialer) documents them.
#[derive(Clone)]
pub(super) struct SocketConnector {
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) resolve_timeout: Option<Duration>,
    pub(super) connect_timeout: Option<Duration>,
    pub(super) attempt_delay: Duration,
    pub(super) nodelay: bool,
    pub(super) local_send_buffer: SendBuffer,
    pub(super) progress: DialProgress,
}

impl Default for SocketConnector {
    fn default() -> Self {
        Self {
            resolver: Arc::new(SystemResolver),
            resolve_timeout: Some(Duration::from_secs(5)),
            connect_timeout: Some(Duration::from_secs(10)),
            attempt_delay: Duration::from_millis(250),
            nodelay: true,
            local_send_buffer: SendBuffer::default(),
            progress: DialProgress::default(),
        }
    }
}

impl SocketConnector {
    /// Connects to the path of an address, or by TCP to its host and port, whatever its scheme.
    pub(super) async fn connect(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        match address.path() {
            Some(path) => self.connect_unix(address, path).await.map(Stream::new),
            None => {
                let socket = self.race_tcp(address, |to| connect_tcp(to, self.nodelay)).await?;
                Ok(Stream::tcp(socket, self.local_send_buffer))
            }
        }
    }

    /// Resolves the host and races its addresses, with `connect` for each of them.
    pub(super) async fn race_tcp<T, Attempt>(
        &self,
        address: &Address,
        connect: impl Fn(SocketAddr) -> Attempt,
    ) -> Result<T, DialErrorKind>
    where
        Attempt: Future<Output = io::Result<T>>,
    {
        if address.is_unspecified() {
            return Err(DialErrorKind::Unspecified);
        }
        let literal = address.socket_addr();
        let candidates = match literal {
            Some(literal) => vec![literal],
            None => self.resolve(address).await?,
        };

        let mut failures = Vec::new();
        let race = race(candidates, self.attempt_delay, connect, &mut failures);
        let outcome = ConnectLimit::start(self.connect_timeout).run(race).await;

        let failed = failures.into_iter().map(|(to, error)| (Address::tcp(to), error));
        let attempts = match literal {
            Some(_) => Attempts::literal(failed),
            None => Attempts::from_a_name(failed),
        };
        match outcome {
            Ok(Some(connected)) => {
                if !attempts.is_empty() {
                    tracing::debug!(%address, %attempts, "connected after failures");
                }
                Ok(connected)
            }
            Ok(None) => Err(DialErrorKind::Connect { attempts }),
            Err(limit) => Err(DialErrorKind::timeout(limit, attempts)),
        }
    }

    /// Returns the socket addresses of a name, in the order to try them; at least one.
    async fn resolve(&self, address: &Address) -> Result<Vec<SocketAddr>, DialErrorKind> {
        let host = address.host().unwrap_or_default();
        let port = address.port().unwrap_or_default();
        let resolving = self.resolver.resolve(host, port);
        match ConnectLimit::start(self.resolve_timeout).run(resolving).await {
            Err(limit) => Err(DialErrorKind::ResolveTimeout { host: host.to_owned(), limit }),
            Ok(Err(error)) => Err(DialErrorKind::Resolve { host: host.to_owned(), error }),
            Ok(Ok(found)) => match in_turn(found) {
                none if none.is_empty() => Err(DialErrorKind::NoAddresses { host: host.to_owned() }),
                candidates => {
                    self.progress.set_resolved();
                    Ok(candidates)
                }
            },
        }
    }

    async fn connect_unix(&self, address: &Address, path: &Path) -> Result<UnixStream, DialErrorKind> {
        match ConnectLimit::start(self.connect_timeout).run(UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(DialErrorKind::failed(address, error)),
            Err(limit) => Err(DialErrorKind::timeout(limit, Attempts::literal([]))),
        }
    }
}

async fn connect_tcp(address: SocketAddr, nodelay: bool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(nodelay)?;
    if let Err(error) = bound_unsent(&socket) {
        tracing::debug!(%address, %error, "TCP_NOTSENT_LOWAT not set");
    }
    refuse_self_connection(socket.connect(address).await?)
}

/// Refuses a socket that is connected to itself.
///
/// If no server listens at an ephemeral port of this machine, the kernel may give the same port
/// to the end that dials it, and TCP connects the two (a simultaneous open,
/// [RFC 9293, section 3.5](https://www.rfc-editor.org/rfc/rfc9293#section-3.5)). A client that dials a
/// restarting server often enough meets this, and then the server cannot have its port back.
fn refuse_self_connection(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(test)]
mod tests;
