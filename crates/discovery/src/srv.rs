//! [`SrvDiscovery`], the SRV records of a name (RFC 2782), which is asked for again and again.
//!
//! The questions themselves are asked by hickory-resolver; what an answer means is in `records`.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::EscapedText;
use farcall_protocol::time::MAX_WAIT;
use farcall_transport::log::LogThrottle;
use farcall_transport::{HumanDuration, Scheme};
use futures::StreamExt;
use futures::stream;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use self::records::Answered;
use crate::backoff::{Backoff, Jitter};
use crate::discovery::{Discovery, Publisher};
use crate::endpoint::Endpoint;
use crate::source::publish;

mod records;

/// Endpoints from the SRV records of a name, such as those of a headless service of Kubernetes, of Consul and of Nomad.
///
/// Each address of a record's target is an endpoint with the port and the weight of the record. A weight of 0 counts as 1
/// beside greater ones, and all are alike if every weight is 0. Records of a later priority are
/// [stale](crate::AdvertisedState::Stale): they are called while no endpoint of the first priority can be. All later
/// priorities count alike.
///
/// The name is asked for again when its answer has expired by its time to live (TTL): after 1 s at least, and
/// [`SrvDiscovery::DEFAULT_PAUSE`] at most. Answers are not cached here. Those that do not fit into a datagram are asked
/// for over TCP. A failure keeps the last list, and is repeated after 1, 2, 4 … 15 s: no answer within 10 s, a name that
/// does not exist, no record, no target that has an address. A target that cannot be resolved keeps the addresses that it
/// had last. At most 1,024 records are used. A record with the target `.` says that there is no server: the
/// list is empty then.
///
/// With the schemes `tls`, `https` and `wss` the endpoints are the names of the targets, since a certificate is checked
/// against the name. They are resolved when they are dialed, by the resolver of the connection.
///
/// ```
/// use farcall_discovery::{Discovery, SrvDiscovery};
///
/// let source = SrvDiscovery::new("srv@_farcall._tcp.arith.internal")?;
/// assert_eq!(source.describe(), "the SRV records of _farcall._tcp.arith.internal");
/// let encrypted = SrvDiscovery::new("tls@_farcall._tcp.arith.internal")?;
/// // Consul's name server.
/// let consul = SrvDiscovery::new("arith.service.consul")?.name_servers(["127.0.0.1:8600".parse()?]);
/// # let _ = (encrypted, consul);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SrvDiscovery {
    scheme: Scheme,
    name: Name,
    longest_pause: Duration,
    /// Those of the system if there are none.
    name_servers: Arc<[SocketAddr]>,
}

/// The reason why a text is no name of SRV records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrvDiscoveryError {
    /// The scheme is unknown, or has no hosts and ports.
    #[error(
        "`{}` is no scheme of servers that SRV records tell; write srv@name for plain TCP, or scheme@name, as in \
         tls@_farcall._tcp.arith.internal",
        EscapedText(.scheme)
    )]
    Scheme {
        /// The scheme.
        scheme: String,
    },
    /// The name is none of DNS.
    #[error("`{}` is no name of DNS: {reason}", EscapedText(.name))]
    Name {
        /// The name.
        name: String,
        /// The fault.
        reason: String,
    },
}

/// The reason why an answer is not a list.
#[derive(Debug, thiserror::Error)]
enum AnswerError {
    #[error("no answer within {}", HumanDuration(ANSWER_LIMIT))]
    Silence,
    #[error("the name does not exist")]
    NoName,
    #[error("there are no SRV records")]
    Empty,
    #[error("no record has a port and a target")]
    NoPort,
    #[error("no target of {targets} is the name of a host")]
    NoHost { targets: usize },
    #[error("no target of {targets} has an address")]
    NoAddress { targets: usize },
    #[error(transparent)]
    Failed(#[from] NetError),
}

/// The time for a whole answer: the records, and the addresses of their targets.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The time for one question to one name server, which leaves time for another one.
const QUESTION_LIMIT: Duration = Duration::from_secs(3);
/// The pauses after failures.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15)).jitter(Jitter::Equal);
/// Name servers are shared: they should not be asked more often than this, whatever the TTL.
const MIN_PAUSE: Duration = Duration::from_secs(1);
/// The targets that are resolved at once.
const TARGETS_AT_ONCE: usize = 16;

impl SrvDiscovery {
    /// The longest time between an answer and the next question, by default.
    pub const DEFAULT_PAUSE: Duration = Duration::from_secs(30);

    /// Endpoints from the SRV records of a name: `name` or `srv@name` for plain TCP, and `scheme@name` for other schemes,
    /// as in `tls@_farcall._tcp.arith.internal`. A name without a dot at its end is looked for in the system's search
    /// domains too.
    ///
    /// # Errors
    ///
    /// The name is none of DNS, or the scheme is unknown or `unix`.
    pub fn new(address: &str) -> Result<Self, SrvDiscoveryError> {
        let (scheme, name) = match address.split_once('@') {
            None | Some(("srv", _)) => (Scheme::Tcp, address.strip_prefix("srv@").unwrap_or(address)),
            Some((text, name)) => match Scheme::ALL.into_iter().find(|scheme| scheme.as_str() == text) {
                None | Some(Scheme::Unix) => {
                    return Err(SrvDiscoveryError::Scheme { scheme: text.to_owned() });
                }
                Some(scheme) => (scheme, name),
            },
        };
        let refused = |reason: String| SrvDiscoveryError::Name { name: name.to_owned(), reason };
        if let Some(found) = name.chars().find(|c| !c.is_ascii_graphic() || "@:/[]\\".contains(*c)) {
            let hint = if found == ':' { "; the records tell the port" } else { "" };
            return Err(refused(format!("it contains {found:?}{hint}")));
        }
        let parsed = Name::from_ascii(name).map_err(|error| refused(error.to_string()))?;
        if parsed.is_root() || parsed.num_labels() == 0 {
            return Err(refused("it is empty".to_owned()));
        }
        Ok(Self { scheme, name: parsed, longest_pause: Self::DEFAULT_PAUSE, name_servers: Arc::new([]) })
    }

    /// Sets the longest time between an answer and the next question, if the answer does not expire before; by default
    /// [`SrvDiscovery::DEFAULT_PAUSE`], at least 1 s.
    ///
    /// Too high, and new servers get calls late where the time to live is long.
    #[must_use]
    pub fn poll_interval(mut self, pause: Duration) -> Self {
        self.longest_pause = pause.clamp(MIN_PAUSE, MAX_WAIT);
        self
    }

    /// Sets the name servers to ask, by UDP and TCP; by default, or if there are none, those of the system.
    #[must_use]
    pub fn name_servers(mut self, servers: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.name_servers = servers.into_iter().collect();
        self
    }

    /// Creates the resolver, in the runtime in which it is used.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.name_servers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.name_servers.iter().map(|server| {
                let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
                for connection in &mut connections {
                    connection.port = server.port();
                }
                NameServerConfig::new(server.ip(), true, connections)
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        options.cache_size = 0; // the pauses follow the TTL
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        options.timeout = QUESTION_LIMIT;
        builder.build()
    }

    /// Asks once. `known` has the last addresses of each target.
    async fn ask(
        &self,
        resolver: &TokioResolver,
        known: &mut HashMap<Name, Vec<IpAddr>>,
    ) -> Result<(Vec<Endpoint>, Duration), AnswerError> {
        let lookup = resolver.lookup(self.name.clone(), RecordType::SRV).await.map_err(|error| {
            match (error.is_nx_domain(), error.is_no_records_found()) {
                (true, _) => AnswerError::NoName,
                (_, true) => AnswerError::Empty,
                _ => AnswerError::Failed(error),
            }
        })?;
        let Answered { records, mut ttl, mut addresses } =
            records::read(lookup.answers(), lookup.additionals());
        if records.is_empty() {
            return Err(AnswerError::Empty);
        }
        if records::says_none(&records) {
            known.clear();
            return Ok((Vec::new(), ttl));
        }
        let mut targets: Vec<&Name> =
            records.iter().filter(|record| record.is_usable()).map(|record| &record.target).collect();
        targets.sort_unstable();
        targets.dedup();
        if targets.is_empty() {
            return Err(AnswerError::NoPort);
        }
        if self.scheme.is_encrypted() {
            let endpoints = records::by_name(self.scheme, &records);
            let none = endpoints.is_empty().then_some(AnswerError::NoHost { targets: targets.len() });
            return none.map_or(Ok((endpoints, ttl)), Err);
        }
        let unknown: Vec<Name> = targets
            .iter()
            .filter(|target| !addresses.contains_key(**target))
            .map(|&name| name.clone())
            .collect();
        let count = targets.len();
        let mut answers = stream::iter(unknown)
            .map(|target| async { (resolver.lookup_ip(target.clone()).await, target) })
            .buffer_unordered(TARGETS_AT_ONCE);
        while let Some((answer, target)) = answers.next().await {
            match answer {
                Ok(found) => {
                    ttl = ttl.min(records::shortest_ttl(found.as_lookup().answers()));
                    addresses.insert(target, found.iter().collect());
                }
                // The owner of the name has taken it out.
                Err(error) if error.is_no_records_found() => {}
                Err(error) => {
                    debug!(%target, %error, "the addresses of a target can't be found; the last ones are kept");
                    if let Some(last) = known.get(&target) {
                        addresses.insert(target, last.clone());
                    }
                }
            }
        }
        let endpoints = records::by_address(self.scheme, &records, &addresses);
        if endpoints.is_empty() {
            return Err(AnswerError::NoAddress { targets: count });
        }
        *known = addresses;
        Ok((endpoints, ttl))
    }
}

impl Discovery for SrvDiscovery {
    fn describe(&self) -> String {
        format!("the SRV records of {}", EscapedText(&self.name.to_ascii()))
    }

    async fn run(self, publisher: Publisher) {
        let place = self.describe();
        let (mut backoff, log) = (BACKOFF, LogThrottle::new());
        let mut known = HashMap::new();
        let mut resolver = None;
        loop {
            let answer = match resolver.take().map_or_else(|| self.resolver(), Ok) {
                Ok(made) => {
                    let answer = timeout(ANSWER_LIMIT, self.ask(&made, &mut known)).await;
                    let answer = answer.unwrap_or(Err(AnswerError::Silence));
                    // After a failure with what the system then says of its name servers.
                    resolver = answer.is_ok().then_some(made);
                    answer
                }
                Err(error) => Err(AnswerError::Failed(error)),
            };
            let pause = match answer {
                Ok((endpoints, ttl)) => {
                    if backoff.failures() > 0
                        && let Some(line) = log.permit()
                    {
                        info!(place, suppressed = line.suppressed, "they are answered again");
                    }
                    backoff.reset();
                    publish(&publisher, endpoints).await;
                    // Later than the TTL, or the cache of a name server would give the same answer.
                    ttl.clamp(MIN_PAUSE, self.longest_pause).mul_f64(1.0 + 0.1 * fastrand::f64())
                }
                Err(error) => {
                    let failures = backoff.failures();
                    let reason = error.to_string();
                    if failures == 0
                        && let Some(line) = log.permit()
                    {
                        let suppressed = line.suppressed;
                        warn!(place, reason, suppressed, "they can't be found; the last list is kept");
                    } else {
                        debug!(place, reason, failures, "they still can't be found");
                    }
                    publisher.failed(format!("{place}: {reason}"));
                    backoff.next_pause_within(self.longest_pause)
                }
            };
            // Neither loses anything when the other one completes.
            tokio::select! {
                () = publisher.closed() => return,
                () = sleep(pause) => {}
            }
        }
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl fmt::Debug for SrvDiscovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrvDiscovery")
            .field("scheme", &self.scheme)
            .field("name", &self.name.to_ascii())
            .field("longest_pause", &self.longest_pause)
            .field("name_servers", &self.name_servers)
            .finish()
    }
}

#[cfg(test)]
mod tests;
