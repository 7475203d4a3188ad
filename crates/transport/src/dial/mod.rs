//! [`Dialer`], which turns an address into a stream within limits of time.
//!
//! It puts the layers of an address on top of each other: a stream ([`sockets`] or a [`Connect`]), a
//! proxy's tunnel, TLS, an upgrade over HTTP. What is sent over the stream is left to the crates above.

#[cfg(target_family = "wasm")]
mod browser;
mod connect;
mod error;
#[cfg(not(target_family = "wasm"))]
mod happy_eyeballs;
mod limit;
mod progress;
#[cfg(feature = "http")]
mod proxy;
#[cfg(not(target_family = "wasm"))]
mod sockets;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

#[cfg(target_family = "wasm")]
use self::browser::SocketConnector;
pub use self::connect::{Connect, Connecting};
pub use self::error::{Attempt, Attempts, DialError, DialErrorKind, DialPhase};
use self::limit::ConnectLimit;
pub use self::progress::DialProgress;
#[cfg(feature = "http")]
use self::proxy::ProxyChoice;
#[cfg(not(target_family = "wasm"))]
use self::sockets::SocketConnector;
#[cfg(feature = "tls")]
use self::tls::TlsChoice;
use crate::address::Address;
#[cfg(feature = "http")]
use crate::http_upgrade;
#[cfg(feature = "http")]
use crate::proxy::Proxy;
#[cfg(not(target_family = "wasm"))]
use crate::resolve::Resolve;
use crate::scheme::Scheme;
#[cfg(not(target_family = "wasm"))]
use crate::send_buffer::SendBuffer;
use crate::stream::Stream;
#[cfg(feature = "tls")]
use crate::tls::{Alpn, TlsClient};

/// Opens streams to addresses.
///
/// A name may have several addresses. They are tried by Happy Eyeballs
/// ([RFC 8305](https://www.rfc-editor.org/rfc/rfc8305)): IPv6 and IPv4 in turn, each attempt a
/// moment after the one before, the first to answer wins.
///
/// Nothing is kept between dials; a clone is cheap.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use farcall_transport::{Dialer, Listener};
/// use tokio::io::AsyncWriteExt;
///
/// let listener = Listener::bind(&"127.0.0.1:0".parse()?).await?;
/// let dialer = Dialer::default().connect_timeout(Duration::from_secs(3));
/// let mut stream = dialer.dial(listener.address()).await?;
/// stream.write_all(b"hello").await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Dialer {
    sockets: SocketConnector,
    /// Opens streams in place of `sockets`, if it is set.
    connector: Option<Arc<dyn Connect>>,
    #[cfg(feature = "http")]
    proxy: ProxyChoice,
    #[cfg(feature = "tls")]
    tls: TlsChoice,
}

impl Dialer {
    /// Sets how long to wait for the addresses of a name; 5 s by default, `None` for no limit.
    ///
    /// Too low, and a name that is in no cache fails: a resolver commonly repeats a lost
    /// question after 5 s. Too high, and a dead name server holds up every dial for as long.
    #[cfg(not(target_family = "wasm"))]
    pub fn resolve_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.sockets.resolve_timeout = limit.into();
        self
    }

    /// Sets how long to try to connect, all addresses of a name together; 10 s by default, `None` for
    /// no limit. Handshakes before the stream is there, with a proxy, in HTTP or of TLS, have what is
    /// left of it.
    ///
    /// Too low, and a lost packet fails the dial: the kernel repeats the first one after 1 s,
    /// 3 s and 7 s. Too high, and a host that is gone is noticed late.
    pub fn connect_timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.sockets.connect_timeout = limit.into();
        self
    }

    /// Sets how long to wait for one address before trying the next as well; 250 ms by default,
    /// which is what RFC 8305 recommends.
    ///
    /// Too low, and healthy hosts see attempts that are not needed; the RFC sets 100 ms as the
    /// minimum. Too high, and an address that does not answer costs that much more.
    #[cfg(not(target_family = "wasm"))]
    pub fn attempt_delay(mut self, delay: Duration) -> Self {
        self.sockets.attempt_delay = delay;
        self
    }

    /// Sets `TCP_NODELAY`: with `true`, the default, TCP sends small writes at once.
    ///
    /// With `false`, a small request may wait for the acknowledgement of the one before, which a peer
    /// may delay by 40 ms or more.
    #[cfg(not(target_family = "wasm"))]
    pub fn nodelay(mut self, nodelay: bool) -> Self {
        self.sockets.nodelay = nodelay;
        self
    }

    /// Sets the size of the kernel's send buffer for TCP connections to servers on this machine. Default:
    /// [`SendBuffer::ByMessageSize`].
    #[cfg(not(target_family = "wasm"))]
    pub fn local_send_buffer(mut self, size: SendBuffer) -> Self {
        self.sockets.local_send_buffer = size;
        self
    }

    /// Sets the resolver of names; [`SystemResolver`](crate::SystemResolver) by default.
    #[cfg(not(target_family = "wasm"))]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.sockets.resolver = Arc::new(resolver);
        self
    }

    /// Sets what opens streams, in place of TCP and Unix sockets: see [`Connect`]. By default none.
    ///
    /// It takes the place of resolving, of the sockets, and of the proxies that the environment
    /// names. A proxy that was set with [`Dialer::proxy`] is still used: the connector opens a stream to its
    /// address, except for `unix` addresses. TLS and the upgrade over HTTP are made in the stream that it
    /// returns if the scheme says so.
    pub fn connector(mut self, connector: impl Connect) -> Self {
        self.connector = Some(Arc::new(connector));
        self
    }

    /// Reaches everything but `unix` addresses through this forward proxy, by `CONNECT`, without regard to
    /// the environment: `Dialer::default().proxy("http://proxy:3128")?`. See [`Proxy`] for credentials.
    /// Names are resolved by the proxy then.
    ///
    /// By default the proxy for `http`, `connect` and `ws` is what the environment variables
    /// `http_proxy`, `HTTP_PROXY`, `all_proxy` or `ALL_PROXY` say, for `https` and `wss` it is
    /// `https_proxy` and so on; but for addresses of this machine, and those in `no_proxy` or
    /// `NO_PROXY`. `tcp` and `tls` use none then.
    ///
    /// # Errors
    ///
    /// The text is not a proxy.
    #[cfg(feature = "http")]
    pub fn proxy<P: TryInto<Proxy>>(mut self, proxy: P) -> Result<Self, P::Error> {
        self.proxy = ProxyChoice::Given(proxy.try_into()?);
        Ok(self)
    }

    /// Uses no proxy for any address, and ignores the environment.
    #[cfg(feature = "http")]
    pub fn without_proxy(mut self) -> Self {
        self.proxy = ProxyChoice::Never;
        self
    }

    /// Sets the authorities to trust if an address is encrypted, and the certificate to show. By default
    /// the system's authorities, and no certificate.
    ///
    /// The server's certificate must be for the host of the address, a name or an IP address, unless
    /// [`TlsClientBuilder::server_name`](crate::TlsClientBuilder::server_name) sets another.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, client: TlsClient) -> Self {
        self.tls = TlsChoice::given(client);
        self
    }

    /// Sets where dials report how far they have come, and when; for a dialer that makes one dial.
    pub fn progress(mut self, progress: DialProgress) -> Self {
        self.sockets.progress = progress;
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
    /// built in, the address is [unspecified](Address::is_unspecified), its name does not
    /// resolve, no server accepts, the server that does gives no stream, or a limit has passed.
    pub async fn dial(&self, address: &Address) -> Result<Stream, DialError> {
        let outcome = self.open(address).await;
        match &outcome {
            Ok(_) => tracing::debug!(%address, "connected"),
            Err(error) => tracing::debug!(%address, %error, "dial failed"),
        }
        outcome.map_err(|reason| DialError::new(address, reason))
    }

    /// Opens a stream with all layers of the address's scheme.
    async fn open(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        match address.scheme() {
            #[cfg(target_family = "wasm")]
            Scheme::Ws | Scheme::Wss => self.connect(address).await,
            #[cfg(target_family = "wasm")]
            Scheme::Tcp | Scheme::Unix if self.connector.is_some() => self.connect(address).await,
            #[cfg(not(target_family = "wasm"))]
            Scheme::Tcp | Scheme::Unix => self.reach(address).await,
            #[cfg(feature = "tls")]
            Scheme::Tls => self.reach_encrypted(address, Alpn::Farcall).await,
            #[cfg(feature = "http")]
            Scheme::Http => self.upgrade(address, |to| http_upgrade::upgrade(to, address)).await,
            #[cfg(feature = "http")]
            Scheme::Connect => self.upgrade(address, |to| http_upgrade::connect(to, address)).await,
            #[cfg(feature = "ws")]
            Scheme::Ws => self.upgrade(address, |to| http_upgrade::websocket(to, address)).await,
            #[cfg(all(feature = "http", feature = "tls"))]
            Scheme::Https => self.upgrade(address, |to| http_upgrade::upgrade(to, address)).await,
            #[cfg(all(feature = "ws", feature = "tls"))]
            Scheme::Wss => self.upgrade(address, |to| http_upgrade::websocket(to, address)).await,
            #[allow(unreachable_patterns, reason = "all schemes are built in with all features")]
            scheme => Err(DialErrorKind::NotBuiltIn { scheme }),
        }
    }

    /// Opens a stream inside HTTP: reaches the address, and has `open` request it.
    #[cfg(feature = "http")]
    async fn upgrade<Opening>(
        &self,
        address: &Address,
        open: impl FnOnce(Stream) -> Opening,
    ) -> Result<Stream, DialErrorKind>
    where
        Opening: Future<Output = Result<Stream, http_upgrade::HttpUpgradeError>>,
    {
        let limit = self.start_limit();
        let stream = match address.scheme() {
            #[cfg(feature = "tls")]
            Scheme::Https | Scheme::Wss => self.reach_encrypted(address, Alpn::Http1).await?,
            _ => self.reach(address).await?,
        };
        Ok(proxy::upgraded(open(stream), limit).await?)
    }

    /// Opens an encrypted stream to an address, in which `alpn` will be spoken.
    #[cfg(feature = "tls")]
    async fn reach_encrypted(&self, address: &Address, alpn: Alpn) -> Result<Stream, DialErrorKind> {
        let client = self.tls.client().await?;
        let limit = self.start_limit();
        let stream = self.reach(address).await?;
        let encrypted =
            tls::encrypt(&client, stream, address.host().unwrap_or_default(), alpn, limit).await?;
        self.sockets.progress.set_encrypted();
        Ok(encrypted)
    }

    /// Opens a stream to the address itself, through a proxy if there is one for it.
    #[cfg(not(target_family = "wasm"))]
    async fn reach(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        #[cfg(feature = "http")]
        if address.path().is_none() {
            let proxy = match &self.connector {
                Some(_) => self.proxy.given().cloned(),
                None if address.is_unspecified() => return Err(DialErrorKind::Unspecified),
                None => self.proxy.proxy_for(address)?,
            };
            if let Some(proxy) = proxy {
                let limit = self.start_limit();
                return proxy::tunnel(self.connect(proxy.address()), &proxy, address, limit).await;
            }
        }
        self.connect(address).await
    }

    /// Opens a stream to the address itself.
    async fn connect(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        let stream = self.connect_unobserved(address).await?;
        self.sockets.progress.set_connected();
        Ok(stream)
    }

    /// Opens a stream to the address itself, by the connector or by sockets.
    async fn connect_unobserved(&self, address: &Address) -> Result<Stream, DialErrorKind> {
        let Some(connector) = &self.connector else { return self.sockets.connect(address).await };
        match self.start_limit().run(connector.connect(address)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(DialErrorKind::failed(address, error)),
            Err(limit) => Err(DialErrorKind::timeout(limit, Attempts::literal([]))),
        }
    }

    fn start_limit(&self) -> ConnectLimit {
        ConnectLimit::start(self.sockets.connect_timeout)
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Dialer");
        fields.field("connect_timeout", &self.sockets.connect_timeout);
        #[cfg(not(target_family = "wasm"))]
        fields
            .field("resolve_timeout", &self.sockets.resolve_timeout)
            .field("attempt_delay", &self.sockets.attempt_delay)
            .field("nodelay", &self.sockets.nodelay);
        fields.finish_non_exhaustive()
    }
}
