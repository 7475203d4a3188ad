//! [`Listener`]: accepts the streams that peers open to an address.
//!
//! Handling errors of accepting, and limiting the number of streams, is left to the server.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::time::timeout;

use crate::address::Address;
use crate::human::HumanDuration;
use crate::peer::PeerAddress;
use crate::scheme::Scheme;
use crate::send_buffer::SendBuffer;
use crate::socket_file::{Obstacle, SocketFile};
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::{Alpn, TlsServer};
use crate::unsent::bound_unsent;

/// The number of connections that may wait to be accepted. Many clients come at once when a server is
/// restarted; the kernel lowers it to its own limit (`net.core.somaxconn`, 4096 on Linux).
const BACKLOG: u16 = 4096;

/// The time to wait for the addresses of a name to listen at, which a hosts file mostly knows.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The silence after which the system asks a peer for a sign of life.
const KEEP_ALIVE_TIME: Duration = Duration::from_secs(10);
/// The pause until it asks again; nine unanswered questions, on Linux, end the connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Accepts the streams that peers open to an address.
///
/// Dropping it closes the address; connections that were not accepted yet are reset.
///
/// ```
/// use farcall_transport::{Address, Dialer, Listener};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // Port 0: the system chooses a free one.
/// let listener = Listener::bind(&Address::parse("127.0.0.1:0")?).await?;
/// assert_ne!(listener.address().port(), Some(0));
///
/// let _near = Dialer::default().dial(listener.address()).await?;
/// let (_far, peer) = listener.accept().await?;
/// assert!(peer.ip().is_some_and(|ip| ip.is_loopback()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener {
    address: Address,
    socket: Socket,
    local_send_buffer: SendBuffer,
    #[cfg(feature = "tls")]
    tls: Option<TlsServer>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    // Fields are dropped in this order, and the file must go first: see `SocketFile`.
    Unix { _file: SocketFile, listener: UnixListener },
}

/// The reason why an address could not be listened at. The text names the address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address is fine, but its scheme is not one that this build can listen at.
    #[error("listening at {address}: the scheme {scheme} is not built in")]
    NotBuiltIn {
        /// The address to listen at.
        address: Address,
        /// The scheme of the address.
        scheme: Scheme,
    },
    /// The address is encrypted, and there is no certificate for it.
    #[error("listening at {address}: it needs a certificate, and none is set")]
    NoCertificate {
        /// The address to listen at.
        address: Address,
    },
    /// The host is a name, and has no addresses.
    #[error("listening at {address}: the name does not resolve: {error}")]
    Resolve {
        /// The address to listen at.
        address: Address,
        /// The resolver's error, or that it did not answer in time.
        error: io::Error,
    },
    /// Another process listens there already.
    #[error("listening at {address}: {error}")]
    InUse {
        /// The address to listen at.
        address: Address,
        /// The system's error.
        error: io::Error,
    },
    /// Something is at the path of a `unix` address that is no socket, and is not replaced.
    #[error("listening at {address}: there is a file that is no socket")]
    NotASocket {
        /// The address to listen at.
        address: Address,
    },
    /// The system refused.
    #[error("listening at {address}: {error}")]
    Bind {
        /// The address to listen at.
        address: Address,
        /// The system's error.
        error: io::Error,
    },
}

impl ListenError {
    /// The address that was to be listened at.
    pub fn address(&self) -> &Address {
        match self {
            ListenError::NotBuiltIn { address, .. }
            | ListenError::NoCertificate { address }
            | ListenError::Resolve { address, .. }
            | ListenError::InUse { address, .. }
            | ListenError::NotASocket { address }
            | ListenError::Bind { address, .. } => address,
        }
    }

    fn system(address: &Address, error: io::Error) -> ListenError {
        let address = address.clone();
        match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { address, error },
            _ => ListenError::Bind { address, error },
        }
    }
}

impl Listener {
    /// Listens at an address.
    ///
    /// A name is resolved, and the first of its addresses that this machine has is taken. Port
    /// 0 lets the system choose; [`Listener::address`] returns its choice.
    ///
    /// At a `unix` address, the socket file of a server that is gone is replaced. That of a
    /// live one is not, and neither is a file that is no socket. To find out, the old socket is
    /// connected to, so a live server sees a connection that closes at once. The directory is
    /// locked (`flock`) for that moment, which needs leave to read it. Who may connect is
    /// decided by the rights on the directory and by the umask.
    ///
    /// # Errors
    ///
    /// A [`ListenError`], which names the address.
    pub async fn bind(address: &Address) -> Result<Listener, ListenError> {
        let listener = match (address.scheme(), address.path()) {
            (Scheme::Tcp, _) => Listener::bind_tcp(address).await?,
            (Scheme::Unix, Some(path)) => Listener::bind_unix(address, path).await?,
            #[cfg(feature = "tls")]
            (Scheme::Tls, _) => return Err(ListenError::NoCertificate { address: address.clone() }),
            (scheme, _) => {
                return Err(ListenError::NotBuiltIn { address: address.clone(), scheme });
            }
        };
        tracing::debug!(address = %listener.address, "listening");
        Ok(listener)
    }

    /// Listens at an address, with what a `tls` address needs. An address of another scheme has no
    /// use for it, and is as plain as with [`Listener::bind`].
    ///
    /// # Errors
    ///
    /// As for [`Listener::bind`].
    #[cfg(feature = "tls")]
    pub async fn bind_with(address: &Address, tls: &TlsServer) -> Result<Listener, ListenError> {
        if address.scheme() != Scheme::Tls {
            return Listener::bind(address).await;
        }
        let plain = Listener::bind_tcp(address).await?;
        tls.watch();
        let listener =
            Listener { address: plain.address.with_scheme(Scheme::Tls), tls: Some(tls.clone()), ..plain };
        tracing::debug!(address = %listener.address, "listening");
        Ok(listener)
    }

    /// Returns the real address: with the port that the system chose if it was 0, and with an
    /// IP address in place of a name. It is still [unspecified](Address::is_unspecified) if it
    /// listens at every address of the machine, as in `tcp@0.0.0.0:7001`.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Sets the size of the kernel's send buffer for TCP connections from this machine. Default:
    /// [`SendBuffer::ByMessageSize`].
    #[must_use]
    pub fn local_send_buffer(self, size: SendBuffer) -> Listener {
        Listener { local_send_buffer: size, ..self }
    }

    /// Takes the next connection.
    ///
    /// Cancel-safe: dropping the future loses no connection. A TCP stream has `TCP_NODELAY` set, on Linux
    /// `TCP_NOTSENT_LOWAT` of 128 KiB, and
    /// `SO_KEEPALIVE`: a peer whose host has given the connection up is noticed though nothing is sent.
    /// The handshake of a TLS stream is made when it is first read or written, not here: a client
    /// that sends nothing delays no other.
    ///
    /// # Errors
    ///
    /// The error of the system. Most such errors are no reason to stop: see
    /// [`is_transient`](crate::is_transient) and [`is_exhaustion`](crate::is_exhaustion).
    pub async fn accept(&self) -> io::Result<(Stream, PeerAddress)> {
        // Nothing is awaited after the accept, or a drop there would lose the connection.
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                if let Err(error) = stream.set_nodelay(true).and_then(|()| keep_alive(&stream)) {
                    // The peer is gone already, which the next read reports.
                    tracing::debug!(%peer, %error, "TCP_NODELAY or SO_KEEPALIVE not set");
                }
                if let Err(error) = bound_unsent(&stream) {
                    tracing::debug!(%peer, %error, "TCP_NOTSENT_LOWAT not set");
                }
                Ok((self.open(stream), PeerAddress::Tcp(peer)))
            }
            Socket::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = match stream.peer_cred() {
                    Ok(credentials) => PeerAddress::unix(credentials.pid(), Some(credentials.uid())),
                    Err(_) => PeerAddress::unix(None, None),
                };
                Ok((Stream::new(stream).with_scheme(Scheme::Unix), peer))
            }
        }
    }

    #[cfg(feature = "tls")]
    fn open(&self, stream: TcpStream) -> Stream {
        match &self.tls {
            Some(tls) => {
                self.local_send_buffer.apply(&stream);
                tls.accept(stream, Alpn::Farcall).with_scheme(Scheme::Tls)
            }
            None => Stream::tcp(stream, self.local_send_buffer).with_scheme(Scheme::Tcp),
        }
    }

    #[cfg(not(feature = "tls"))]
    fn open(&self, stream: TcpStream) -> Stream {
        Stream::tcp(stream, self.local_send_buffer).with_scheme(Scheme::Tcp)
    }

    fn plain(address: Address, socket: Socket) -> Listener {
        Listener {
            address,
            socket,
            local_send_buffer: SendBuffer::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    async fn bind_tcp(address: &Address) -> Result<Listener, ListenError> {
        let candidates = match address.socket_addr() {
            Some(literal) => vec![literal],
            None => resolve(address)
                .await
                .map_err(|error| ListenError::Resolve { address: address.clone(), error })?,
        };
        let socket = listen_at_first(&candidates).map_err(|e| ListenError::system(address, e))?;
        let real = socket.local_addr().map_err(|e| ListenError::system(address, e))?;
        Ok(Listener::plain(Address::tcp(real), Socket::Tcp(socket)))
    }

    async fn bind_unix(address: &Address, path: &Path) -> Result<Listener, ListenError> {
        let bound = SocketFile::bind(path, i32::from(BACKLOG)).await;
        let (file, listener) = bound.map_err(|obstacle| match obstacle {
            Obstacle::InUse(error) => ListenError::InUse { address: address.clone(), error },
            Obstacle::NotASocket => ListenError::NotASocket { address: address.clone() },
            Obstacle::Io(error) => ListenError::system(address, error),
        })?;
        let listener = UnixListener::from_std(listener).map_err(|e| ListenError::system(address, e))?;
        let socket = Socket::Unix { _file: file, listener };
        Ok(Listener::plain(address.clone(), socket))
    }
}

/// Has the system ask for signs of life of a peer that sends nothing. The protocol's pings do that, too, but
/// not for a client that has closed its half and waits for its answers.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let times = TcpKeepalive::new().with_time(KEEP_ALIVE_TIME).with_interval(KEEP_ALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&times)
}

async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    let place = (address.host().unwrap_or_default(), address.port().unwrap_or_default());
    match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host(place)).await {
        Ok(found) => Ok(found?.collect()),
        Err(_) => {
            let text = format!("no answer within {}", HumanDuration(RESOLVE_TIMEOUT));
            Err(io::Error::new(io::ErrorKind::TimedOut, text))
        }
    }
}

/// Listens at the first address that is one of this machine's. One that is in use ends the
/// search, or a second server would quietly get the other address of `localhost`.
fn listen_at_first(candidates: &[SocketAddr]) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    for &candidate in candidates {
        match listen_at(candidate) {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn listen_at(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Without it a server that restarts can't bind while connections of its predecessor are in
    // TIME_WAIT. On Unix it does not allow a second listener at the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(u32::from(BACKLOG))
}
