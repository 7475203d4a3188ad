//! A channel: what calls are made through. It dials when the first call needs it to.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farcall_discovery::{Balancer, Discovery, Endpoint, LeastLoaded, Publisher};
use farcall_protocol::Codec;
use farcall_transport::{Address, AddressError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::call::Call;
use crate::call::request::Ready;
use crate::call::retry_budget::{Budget, RetryBudget};
use crate::call::retry_policy::RetryPolicy;
use crate::connection::Connection;
use crate::connection::options::ConnectionOptions;
use crate::connection::pool::Links;
use crate::endpoints::outlier_detection::OutlierDetection;
use crate::endpoints::{EndpointStatus, Endpoints, Source};
use crate::error::{BuildError, RpcError};

pub(crate) mod overview;

/// A way to a server, over which calls are made. Cloning is cheap, and clones share everything.
///
/// It dials when the first call is made, and again after the connection broke: at once the first
/// time, then with pauses that grow from 1 s to 120 s. While it pauses, calls fail at once with
/// what the last dial said, instead of piling up behind a dead server. A server that lets go of
/// every connection within a second is given pauses, too.
///
/// A call that was refused, or of which no byte was sent, is tried again on the next connection,
/// three times at most. When the last clone is gone, the connection closes behind what was sent.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_client::Channel;
///
/// let channel = Channel::to("tcp@127.0.0.1:7001")?;
/// let n: i64 = channel.call("Arith.multiply", &serde_json::json!({"a": 6, "b": 7})).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    pub(crate) inner: Arc<Inner>,
}

/// What the calls of a channel share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) targets: Targets,
    /// What arguments are encoded in.
    pub(crate) codec: Codec,
    /// The time of a call that sets none of its own.
    pub(crate) timeout: Option<Duration>,
    pub(crate) budget: Budget,
    retry: RetryPolicy,
    wait_for_ready: bool,
    /// Tries that have failed, where there is one endpoint; members count their own.
    failures: AtomicU64,
}

/// Who is called.
#[derive(Debug)]
pub(crate) enum Targets {
    /// One address, without choosing, counting and judging.
    One(Links),
    Many(Endpoints),
}

impl Inner {
    /// A try to the only endpoint has failed. Nothing is counted for those that succeed, of which
    /// there are enough to be in each other's way.
    pub(crate) fn failed(&self) {
        if let Targets::One(_) = self.targets {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub(crate) const fn retry_policy(&self) -> RetryPolicy {
        self.retry
    }

    pub(crate) fn retry(&self, ready: &Ready) -> RetryPolicy {
        ready.retry().unwrap_or(self.retry)
    }

    pub(crate) fn waits_for_ready(&self, ready: &Ready) -> bool {
        ready.wait_for_ready().unwrap_or(self.wait_for_ready)
    }
}

impl Channel {
    /// A channel to one address, such as `tcp@10.0.0.3:7001`, with the default options.
    ///
    /// # Errors
    ///
    /// The address does not parse.
    pub fn to<A>(address: A) -> Result<Self, BuildError>
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        Self::builder().to(address).build()
    }

    /// Describes a channel.
    #[must_use]
    pub fn builder() -> ChannelBuilder {
        ChannelBuilder::default()
    }

    /// A call by name, with any value that serializes to a map of arguments by name, or to an
    /// array of them in order.
    pub fn call<T: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Call<T> {
        Call::new(self, method, arguments)
    }

    /// Sends a request by name and wants no answer. See [`Call::notify`].
    ///
    /// # Errors
    ///
    /// It could not be sent; the execution is `not_sent`.
    pub async fn notify(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<(), RpcError> {
        Call::<()>::new(self, method, arguments).notify().await
    }

    /// Dials now, instead of at the first call: the one address, or one of the endpoints that were
    /// found, and others where that one cannot be connected to.
    ///
    /// # Errors
    ///
    /// In the phase that failed last, or, in a pause between dials, what the last one said.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, where it has to dial.
    pub async fn connect(&self) -> Result<(), RpcError> {
        match &self.inner.targets {
            Targets::One(links) => links.connection().await.map(drop),
            Targets::Many(endpoints) => endpoints.connect().await,
        }
    }

    /// Whether there is a connection that takes calls at this moment. A channel without one is
    /// not broken: its next call dials.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.connection().is_some()
    }

    /// A connection that calls go over at this moment; the only one, where there is one address.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        match &self.inner.targets {
            Targets::One(links) => links.any_ready(),
            Targets::Many(endpoints) => endpoints.any_ready(),
        }
    }

    /// The endpoints that were found, with what the channel's calls know of each. Empty for a
    /// channel to one address, and before the first call.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        match &self.inner.targets {
            Targets::One(_) => Vec::new(),
            Targets::Many(endpoints) => endpoints.status(),
        }
    }

    /// How long ago the list of endpoints was last known to be true; none where there is no list.
    /// The gauge `farcall_client_endpoints_age_seconds` shows the same.
    #[must_use]
    pub fn endpoints_age(&self) -> Option<Duration> {
        match &self.inner.targets {
            Targets::One(_) => None,
            Targets::Many(endpoints) => endpoints.age(),
        }
    }

    /// Further tries that the [retry budget](ChannelBuilder::retry_budget) allows at this moment.
    #[must_use]
    pub fn retries_left(&self) -> f64 {
        self.inner.budget.left()
    }

    /// Closes the connections: what is under way is finished, and calls that wait for one to be
    /// dialed fail. A later call dials again.
    pub fn close(&self) {
        match &self.inner.targets {
            Targets::One(links) => links.close(),
            Targets::Many(endpoints) => endpoints.close(),
        }
    }
}

impl From<Connection> for Channel {
    /// A channel over a connection that was opened elsewhere. It cannot dial: when the connection
    /// has closed, calls fail with `unavailable`, `not_sent`.
    fn from(connection: Connection) -> Self {
        let codec = connection.negotiated().codec.clone();
        let targets = Targets::One(Links::over(connection));
        ChannelBuilder::default().with(targets, codec)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("targets", &self.inner.targets).finish_non_exhaustive()
    }
}

/// Describes a channel: whom it calls, and how.
#[derive(Debug, Default)]
pub struct ChannelBuilder {
    addresses: Vec<Result<Address, AddressError>>,
    source: Option<Source>,
    balancer: Option<Box<dyn Balancer>>,
    options: ConnectionOptions,
    connections: usize,
    timeout: Option<Duration>,
    retry: RetryPolicy,
    wait_for_ready: bool,
    retry_budget: RetryBudget,
    outlier_detection: OutlierDetection,
}

impl ChannelBuilder {
    /// An address that is called; given several times, one of several among which is chosen.
    /// [`ChannelBuilder::build`] fails if it does not parse.
    #[must_use]
    pub fn to<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        self.addresses.push(address.try_into().map_err(Into::into));
        self
    }

    /// Where the addresses come from: a registry, DNS, a file, or what a user writes. It is asked
    /// from the first call on, and followed for as long as the channel lives.
    #[must_use]
    pub fn discover(mut self, discovery: impl Discovery) -> Self {
        self.source = Some(Source::new(discovery));
        self
    }

    /// Which of several endpoints a call goes to. Default [`LeastLoaded`].
    #[must_use]
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        self.balancer = Some(Box::new(balancer));
        self
    }

    /// How connections are made: codec, limits, credential. Default: [`ConnectionOptions::default`].
    #[must_use]
    pub fn options(mut self, options: ConnectionOptions) -> Self {
        self.options = options;
        self
    }

    /// Connections to each endpoint, which take turns. Default 1, which is right for most: a
    /// connection carries many calls at once. More help where one is bound by a core of the server,
    /// and cost as many sockets on both sides.
    #[must_use]
    pub const fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The time for a whole call, where the call sets none of its own. Default: none. Too low,
    /// and calls fail that would have succeeded; none, and a handler that hangs holds its caller.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }

    /// What is done about a call that failed, where it may be made again. Default
    /// [`RetryPolicy::fail_over`].
    #[must_use]
    pub const fn retry(mut self, mode: RetryPolicy) -> Self {
        self.retry = mode;
        self
    }

    /// Whether calls wait while nobody can be reached, as long as their time allows, instead of
    /// failing at once. Default: they fail.
    #[must_use]
    pub const fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// How many further tries the channel's calls may make together. Default: a fifth of the
    /// calls, and 10 a second.
    #[must_use]
    pub const fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.retry_budget = budget;
        self
    }

    /// When an endpoint that keeps failing is left out. Default: after 5 failures in a row.
    #[must_use]
    pub const fn outlier_detection(mut self, outlier_detection: OutlierDetection) -> Self {
        self.outlier_detection = outlier_detection;
        self
    }

    /// Builds the channel. It dials when the first call is made.
    ///
    /// # Errors
    ///
    /// There is no address and no source of them, or both, or an address does not parse.
    pub fn build(mut self) -> Result<Channel, BuildError> {
        let addresses = std::mem::take(&mut self.addresses).into_iter().collect::<Result<Vec<_>, _>>()?;
        let source = self.source.take();
        let targets = match (source, &addresses[..]) {
            (None, []) => return Err(BuildError::NoAddress),
            (Some(_), [_, ..]) => return Err(BuildError::AddressesAndDiscovery),
            (None, [one]) => Targets::One(Links::new(one, &Arc::new(self.options.clone()), self.connections)),
            (None, _) => self.many(Source::new(Fixed(addresses))),
            (Some(source), []) => self.many(source),
        };
        let codec = self.options.terms.codec.clone();
        Ok(self.with(targets, codec))
    }

    fn many(&mut self, source: Source) -> Targets {
        let balancer = self.balancer.take().unwrap_or_else(|| Box::new(LeastLoaded));
        let options = Arc::new(self.options.clone());
        Targets::Many(Endpoints::new(source, balancer, options, self.connections, self.outlier_detection))
    }

    fn with(self, targets: Targets, codec: Codec) -> Channel {
        Channel {
            inner: Arc::new(Inner {
                targets,
                codec,
                timeout: self.timeout,
                budget: Budget::new(self.retry_budget),
                retry: self.retry,
                wait_for_ready: self.wait_for_ready,
                failures: AtomicU64::new(0),
            }),
        }
    }
}

/// The addresses that a channel was built with.
struct Fixed(Vec<Address>);

impl Discovery for Fixed {
    fn describe(&self) -> String {
        "the addresses of the channel".to_owned()
    }

    async fn run(self, publisher: Publisher) {
        publisher.publish(self.0.into_iter().map(Endpoint::new).collect());
    }
}
