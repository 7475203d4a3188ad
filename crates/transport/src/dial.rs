//! [`Dialer`], which turns an address into a stream within limits of time.
//!
//! It leaves the order of addresses to [`crate::resolve`] and the race between them to
//! [`crate::happy_eyeballs`]. What is said over the stream is for the crates above.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::time::timeout;

use crate::address::Address;
use crate::dial_error::{Attempts, DialError, DialErrorKind};
#[cfg(feature = "http")]
use crate::dial_http::ProxyChoice;
#[cfg(feature = "tls")]
use crate::dial_tls::TlsChoice;
use crate::happy_eyeballs::race;
#[cfg(feature = "http")]
use crate::http_upgrade;
use crate::resolve::{Resolve, SystemResolver, in_turn};
use crate::scheme::Scheme;
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::Alpn;

/// Opens streams to addresses.
///
/// A name may have several addresses. They are tried as Happy Eyeballs says
/// ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)): IPv6 and IPv4 in turn, each attempt a
/// moment after the one before, the first to answer wins.
///
/// Nothing is kept between dials; a clone is cheap.
///
/// ```
/// use std::time::Duration;
/// use farcall_transport::Dialer;
///
/// let dialer = Dialer::default().connect_timeout(Duration::from_secs(3));
/// ```
#[derive(Clone)]
pub struct Dialer {
    resolver: Arc<dyn Resolve>,
    resolve_timeout: Duration,
    connect_timeout: Duration,
    attempt_delay: Duration,
    nodelay: bool,
    #[cfg(feature = "http")]
    proxy: ProxyChoice,
    #[cfg(feature = "tls")]
    tls: TlsChoice,
}

impl Default for Dialer {
    fn default() -> Dialer {
        Dialer {
            resolver: Arc::new(SystemResolver),
            resolve_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            attempt_delay: Duration::from_millis(250),
            nodelay: true,
            #[cfg(feature = "http")]
            proxy: ProxyChoice::default(),
            #[cfg(feature = "tls")]
            tls: TlsChoice::default(),
        }
    }
}

impl Dialer {
    /// How long to wait for the addresses of a name; 5 s by default.
    ///
    /// Too low, and a name that is in no cache fails: a resolver commonly repeats a lost
    /// question after 5 s. Too high, and a dead name server holds up every dial for as long.
    #[must_use]
    pub fn resolve_timeout(mut self, limit: Duration) -> Dialer {
        self.resolve_timeout = limit;
        self
    }

    /// How long to try to connect, all addresses of a name together; 10 s by default. What is
    /// said before a stream is there, to a proxy, in HTTP or for TLS, has what is left of it.
    ///
    /// Too low, and a lost packet fails the dial: the kernel repeats the first one after 1 s,
    /// 3 s and 7 s. Too high, and a host that is gone is noticed late.
    #[must_use]
    pub fn connect_timeout(mut self, limit: Duration) -> Dialer {
        self.connect_timeout = limit;
        self
    }

    /// How long to wait for one address before trying the next as well; 250 ms by default,
    /// which is what RFC 8305 recommends.
    ///
    /// Too low, and healthy hosts see attempts that nobody needs; the RFC sets 100 ms as the
    /// least. Too high, and an address that doesn't answer costs that much more.
    #[must_use]
    pub fn attempt_delay(mut self, delay: Duration) -> Dialer {
        self.attempt_delay = delay;
        self
    }

    /// Whether TCP sends small writes at once (`TCP_NODELAY`); on by default.
    ///
    /// Off, a small request may wait for the acknowledgement of the one before, which a peer
    /// may delay by 40 ms or more.
    #[must_use]
    pub fn nodelay(mut self, nodelay: bool) -> Dialer {
        self.nodelay = nodelay;
        self
    }

    /// Who is asked for the addresses of a name; [`SystemResolver`] by default.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Dialer {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Opens a stream to an address.
    ///
    /// Takes at most the resolve timeout and the connect timeout together. Dropping the future
    /// gives up every attempt under way.
    ///
    /// # Errors
    ///
    /// A [`DialError`], which names the address, the phase, and the reason: the scheme is not
    /// built in, the address is [unspecified](Address::is_unspecified), its name doesn't
    /// resolve, nobody accepts, who does gives no stream, or a limit has passed.
    pub async fn dial(&self, address: &Address) -> Result<Stream, DialError> {
        let outcome = match (address.scheme(), address.path()) {
            #[cfg(not(feature = "http"))]
            (Scheme::Tcp, _) => self.dial_directly(address).await,
            #[cfg(feature = "http")]
            (Scheme::Tcp, _) => self.reach(address).await,
            #[cfg(feature = "tls")]
            (Scheme::Tls, _) => self.reach_encrypted(address, Alpn::Farcall).await,
            #[cfg(feature = "http")]
            (Scheme::Http, _) => {
                self.dial_http_upgrade(address, |to| http_upgrade::upgrade(to, address)).await
            }
            #[cfg(feature = "http")]
            (Scheme::Connect, _) => {
                self.dial_http_upgrade(address, |to| http_upgrade::connect(to, address)).await
            }
            #[cfg(feature = "ws")]
            (Scheme::Ws, _) => {
                self.dial_http_upgrade(address, |to| http_upgrade::websocket(to, address)).await
            }
            #[cfg(all(feature = "http", feature = "tls"))]
            (Scheme::Https, _) => {
                self.dial_http_upgrade(address, |to| http_upgrade::upgrade(to, address)).await
            }
            #[cfg(all(feature = "ws", feature = "tls"))]
            (Scheme::Wss, _) => {
                self.dial_http_upgrade(address, |to| http_upgrade::websocket(to, address)).await
            }
            (Scheme::Unix, Some(path)) => self.dial_unix(address, path).await.map(Stream::new),
            (scheme, _) => Err(DialErrorKind::NotBuiltIn { scheme }),
        };
        match &outcome {
            Ok(_) => tracing::debug!(%address, "connected"),
            Err(error) => tracing::debug!(%address, %error, "dial failed"),
        }
        outcome.map_err(|reason| DialError::new(address, reason))
    }

    /// Dials TCP at the host and port of an address, whatever its scheme.
    pub(crate) async fn dial_directly(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        let connect = |to| connect_tcp(to, self.nodelay);
        self.dial_tcp(address, connect).await.map(Stream::new)
    }

    /// Dials TCP, with `connect` to reach one socket address.
    async fn dial_tcp<T, Attempt>(
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

        let limit = self.connect_timeout;
        let mut failures = Vec::new();
        let race = race(candidates, self.attempt_delay, connect, &mut failures);
        let outcome = timeout(limit, race).await;

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
            Err(_) => Err(DialErrorKind::ConnectTimeout { limit, attempts }),
        }
    }

    /// The socket addresses of a name, in the order to try them; at least one.
    async fn resolve(&self, address: &Address) -> Result<Vec<SocketAddr>, DialErrorKind> {
        let host = address.host().unwrap_or_default();
        let port = address.port().unwrap_or_default();
        let limit = self.resolve_timeout;
        match timeout(limit, self.resolver.resolve(host, port)).await {
            Err(_) => Err(DialErrorKind::ResolveTimeout { host: host.to_owned(), limit }),
            Ok(Err(source)) => Err(DialErrorKind::Resolve { host: host.to_owned(), source }),
            Ok(Ok(found)) => match in_turn(found) {
                none if none.is_empty() => Err(DialErrorKind::NoAddresses { host: host.to_owned() }),
                candidates => Ok(candidates),
            },
        }
    }

    async fn dial_unix(&self, address: &Address, path: &Path) -> Result<UnixStream, DialErrorKind> {
        let limit = self.connect_timeout;
        match timeout(limit, UnixStream::connect(path)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => {
                let attempts = Attempts::literal([(address.clone(), error)]);
                Err(DialErrorKind::Connect { attempts })
            }
            Err(_) => Err(DialErrorKind::ConnectTimeout { limit, attempts: Attempts::literal([]) }),
        }
    }
}

#[cfg(feature = "http")]
impl Dialer {
    pub(crate) fn with_proxy(mut self, choice: ProxyChoice) -> Dialer {
        self.proxy = choice;
        self
    }

    pub(crate) const fn proxy_choice(&self) -> &ProxyChoice {
        &self.proxy
    }
}

#[cfg(feature = "tls")]
impl Dialer {
    pub(crate) fn with_tls(mut self, choice: TlsChoice) -> Dialer {
        self.tls = choice;
        self
    }

    pub(crate) const fn tls_choice(&self) -> &TlsChoice {
        &self.tls
    }
}

#[cfg(any(feature = "http", feature = "tls"))]
impl Dialer {
    pub(crate) const fn connect_limit(&self) -> Duration {
        self.connect_timeout
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("resolve_timeout", &self.resolve_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("attempt_delay", &self.attempt_delay)
            .field("nodelay", &self.nodelay)
            .finish_non_exhaustive()
    }
}

async fn connect_tcp(address: SocketAddr, nodelay: bool) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(nodelay)?;
    refuse_oneself(socket.connect(address).await?)
}

/// Refuses a socket that is connected to itself.
///
/// When nobody listens at an ephemeral port of this machine, the kernel may give the same port
/// to the end that dials it, and TCP connects the two (a simultaneous open,
/// [RFC 9293, section 3.5](https://www.rfc-editor.org/rfc/rfc9293#section-3.5)). One who dials a
/// restarting server often enough meets this, and then the server can't have its port back.
fn refuse_oneself(stream: TcpStream) -> io::Result<TcpStream> {
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(stream)
}

#[cfg(test)]
#[path = "dial_tests.rs"]
mod tests;
