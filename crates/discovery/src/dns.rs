//! [`DnsDiscovery`], the addresses of a name, which is resolved again and again.
//!
//! The query itself is behind [`Resolve`] of `farcall-transport`.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::time::MAX_WAIT;
use farcall_transport::log::LogThrottle;
use farcall_transport::{Address, AddressError, HumanDuration, Resolve, Scheme, SystemResolver};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::backoff::{Backoff, Jitter};
use crate::discovery::{Discovery, Publisher};
use crate::endpoint::Endpoint;
use crate::source::publish;

/// Endpoints from a name with several addresses, such as a headless service of Kubernetes: each
/// address is one, with the scheme and the port that were given with the name.
///
/// The name is resolved every 30 s (10% more or less, so that clients which began together do not query
/// together), and after 1, 2, 4 … 15 s while that fails. A failure keeps the last list: an error, no
/// answer within 10 s, an answer without addresses. Of an answer, unspecified addresses such as
/// `0.0.0.0` are left out, an IPv4 address in IPv6 form (`::ffff:10.0.0.1`) is taken for the IPv4
/// address, and at most 1,024 addresses are used, the smallest.
///
/// A name has no weights, zones or draining, and an address stays in an answer until the owner
/// of the name takes it out. How long a server that left is still called depends on caches on the
/// way, too; channels notice by themselves that it does not answer.
///
/// An IP address in the place of the name is the only endpoint then, and nothing is resolved.
///
/// The schemes `tls`, `https` and `wss` are not supported yet: a certificate is checked against the
/// name, which an endpoint by its IP address no longer has. With `http`, `connect` and `ws` the server
/// sees the IP address in the `Host` header; a reverse proxy that chooses by name needs the name dialed.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_discovery::{Discovery, DnsDiscovery};
///
/// let source = DnsDiscovery::new("tcp@arith.internal:7001")?.poll_interval(Duration::from_secs(10));
/// assert_eq!(source.describe(), "the addresses of arith.internal, port 7001");
/// # Ok::<(), farcall_discovery::DnsDiscoveryError>(())
/// ```
#[derive(Clone)]
pub struct DnsDiscovery {
    address: Address,
    poll_interval: Duration,
    resolver: Arc<dyn Resolve>,
}

/// The reason why the name in an address cannot be resolved to endpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DnsDiscoveryError {
    /// The address does not parse.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The scheme needs the name when it is dialed.
    #[error(
        "{address}: the certificate of a {} server is checked against its name, which is lost when the \
         name is resolved to endpoints; this is not supported yet, dial the name itself",
        address.scheme()
    )]
    NameNeeded {
        /// The address.
        address: Address,
    },
    /// There is no name in it.
    #[error("{address}: a path has no name that can be resolved")]
    NoName {
        /// The address.
        address: Address,
    },
    /// The address can be listened at, but not dialed.
    #[error("{address}: port 0 and unspecified addresses cannot be dialed")]
    Undialable {
        /// The address.
        address: Address,
    },
}

/// The reason why an answer is not a list.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("no answer within {}", HumanDuration(ANSWER_LIMIT))]
    Silence,
    #[error(transparent)]
    Failed(#[from] io::Error),
    #[error("it has no addresses")]
    Empty,
}

/// Resolvers ask the next name server after 5 s; this leaves the second one time to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The pauses after failures.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15)).jitter(Jitter::Equal);
/// Name servers are shared: they should not be queried more often than this.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// More than a name has anywhere; it bounds what a wrong answer can do.
const MAX_ADDRESSES: usize = 1024;

impl DnsDiscovery {
    /// The time between an answer and the next question, by default.
    pub const DEFAULT_PAUSE: Duration = Duration::from_secs(30);

    /// Endpoints from the name in this address, `scheme@name:port`.
    ///
    /// # Errors
    ///
    /// The address does not parse, has no name, is unspecified, or its scheme is one of `tls`,
    /// `https` and `wss`.
    pub fn new<A>(address: A) -> Result<Self, DnsDiscoveryError>
    where
        A: TryInto<Address>,
        AddressError: From<A::Error>,
    {
        let address = address.try_into().map_err(AddressError::from)?;
        match address.scheme() {
            Scheme::Tls | Scheme::Https | Scheme::Wss => Err(DnsDiscoveryError::NameNeeded { address }),
            _ if address.host().is_none() => Err(DnsDiscoveryError::NoName { address }),
            _ if address.is_unspecified() => Err(DnsDiscoveryError::Undialable { address }),
            _ => Ok(Self { address, poll_interval: Self::DEFAULT_PAUSE, resolver: Arc::new(SystemResolver) }),
        }
    }

    /// Sets the time between an answer and the next question; by default
    /// [`DnsDiscovery::DEFAULT_PAUSE`], at least 1 s.
    ///
    /// Too low, and name servers are burdened for nothing, as answers are cached on the way. Too high,
    /// and new servers get calls late.
    #[must_use]
    pub fn poll_interval(mut self, pause: Duration) -> Self {
        self.poll_interval = pause.clamp(MIN_INTERVAL, MAX_WAIT);
        self
    }

    /// Sets the resolver; [`SystemResolver`] by default.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Resolves the name once.
    async fn ask(&self) -> Result<Vec<Endpoint>, AnswerError> {
        let host = self.address.host().unwrap_or_default();
        let port = self.address.port().unwrap_or_default();
        let query = timeout(ANSWER_LIMIT, self.resolver.resolve(host, port));
        let sockets = query.await.map_err(|_| AnswerError::Silence)??;
        let endpoints = endpoints(self.address.scheme(), sockets);
        if endpoints.is_empty() { Err(AnswerError::Empty) } else { Ok(endpoints) }
    }
}

impl Discovery for DnsDiscovery {
    fn describe(&self) -> String {
        let (host, port) = (self.address.host().unwrap_or_default(), self.address.port().unwrap_or_default());
        format!("the addresses of {host}, port {port}")
    }

    async fn run(self, publisher: Publisher) {
        if self.address.socket_addr().is_some() {
            publisher.publish(vec![self.address.into()]);
            return;
        }
        let place = self.describe();
        let (mut backoff, log) = (BACKOFF, LogThrottle::new());
        loop {
            let pause = match self.ask().await {
                Ok(endpoints) => {
                    if backoff.failures() > 0
                        && let Some(line) = log.permit()
                    {
                        info!(place, suppressed = line.suppressed, "they are answered again");
                    }
                    backoff.reset();
                    publish(&publisher, endpoints).await;
                    self.poll_interval.mul_f64(0.9 + 0.2 * fastrand::f64())
                }
                Err(error) => {
                    let failures = backoff.failures();
                    if failures == 0
                        && let Some(line) = log.permit()
                    {
                        let suppressed = line.suppressed;
                        warn!(place, %error, suppressed, "they can't be found; the last list is kept");
                    } else {
                        debug!(place, %error, failures, "they still can't be found");
                    }
                    publisher.failed(format!("{place}: {error}"));
                    backoff.next_pause_within(self.poll_interval)
                }
            };
            sleep(pause).await;
        }
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl fmt::Debug for DnsDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DnsDiscovery")
            .field("address", &self.address)
            .field("poll_interval", &self.poll_interval)
            .finish_non_exhaustive()
    }
}

/// The endpoints of an answer, in order, each once.
fn endpoints(scheme: Scheme, mut sockets: Vec<SocketAddr>) -> Vec<Endpoint> {
    for socket in &mut sockets {
        // Only where something changes: a new socket address has lost the zone of the old one.
        let canonical = socket.ip().to_canonical();
        if canonical != socket.ip() {
            *socket = SocketAddr::new(canonical, socket.port());
        }
    }
    sockets.retain(|socket| !socket.ip().is_unspecified() && socket.port() != 0);
    sockets.sort_unstable();
    sockets.dedup();
    if sockets.len() > MAX_ADDRESSES {
        warn!(addresses = sockets.len(), used = MAX_ADDRESSES, "a name has very many addresses");
        sockets.truncate(MAX_ADDRESSES);
    }
    sockets.into_iter().filter_map(|socket| address(scheme, socket)).map(Endpoint::new).collect()
}

/// A socket's address in a scheme. Every scheme but `unix`, which has no sockets, writes it alike.
fn address(scheme: Scheme, socket: SocketAddr) -> Option<Address> {
    let tcp = Address::tcp(socket);
    if scheme == Scheme::Tcp {
        return Some(tcp);
    }
    let text = tcp.to_string();
    let (_, place) = text.split_once('@')?;
    Address::parse(&format!("{scheme}@{place}")).ok()
}

#[cfg(test)]
mod tests;
