//! [`ChannelBuilder`]: the settings of a channel.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{Balancer, Discovery, Endpoint, LeastLoaded, Publisher};
use farcall_transport::{Address, AddressError};
use tower_layer::Layer;
use tower_service::Service;

use super::Channel;
use crate::call::attempt_report::{AttemptObserver, AttemptReport};
use crate::call::channel_core::{ChannelCore, Targets};
use crate::call::layer::{self, AddLayer, CallService};
use crate::call::request::Request;
use crate::call::retry_budget::{Budget, RetryBudget};
use crate::call::retry_policy::RetryPolicy;
use crate::connection::options::ConnectionOptions;
use crate::connection::pool::{ConnectionPool, PoolSize};
use crate::connection::response::Response;
use crate::endpoints::Endpoints;
use crate::endpoints::outlier_detection::OutlierDetection;
use crate::endpoints::source::Source;
use crate::error::BuildError;

/// A channel that is not built yet.
///
/// ```
/// use std::time::Duration;
///
/// use farcall_client::{Channel, ConnectionOptions, RetryBudget, RetryPolicy};
/// use farcall_discovery::RoundRobin;
///
/// let channel = Channel::builder()
///     .to("tcp@10.0.0.3:7001")
///     .to("tcp@10.0.0.4:7001")
///     .balancer(RoundRobin)
///     .timeout(Duration::from_secs(2))
///     .retry(RetryPolicy::fail_over().max_attempts(2))
///     .retry_budget(RetryBudget::new(0.1, 1.0))
///     .options(ConnectionOptions::default().connect_timeout(Duration::from_secs(1)))
///     .build()?;
/// # Ok::<(), farcall_client::BuildError>(())
/// ```
#[derive(Default)]
#[must_use]
pub struct ChannelBuilder {
    addresses: Vec<Result<Address, AddressError>>,
    source: Option<Source>,
    balancer: Option<Box<dyn Balancer>>,
    options: ConnectionOptions,
    connections: PoolSize,
    timeout: Option<Duration>,
    retry: RetryPolicy,
    wait_for_ready: bool,
    retry_budget: RetryBudget,
    on_retry: AttemptObserver,
    outlier_detection: OutlierDetection,
    layers: Vec<AddLayer>,
}

// Here, since a channel has to know nothing of its builder.
impl Channel {
    /// Creates a channel to one address, such as `tcp@10.0.0.3:7001`, with the default options.
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

    /// Creates a builder for a channel.
    pub fn builder() -> ChannelBuilder {
        ChannelBuilder::default()
    }
}

impl ChannelBuilder {
    /// Adds an address. With several, the channel chooses among them.
    /// [`ChannelBuilder::build`] fails if it does not parse.
    pub fn to<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        self.addresses.push(address.try_into().map_err(Into::into));
        self
    }

    /// Sets the source of the addresses: a registry, DNS, a file, or a user's own. It is started by
    /// the first call, and followed for as long as the channel lives. If the runtime of that call ends before, the next
    /// call runs the source again in its own; see [`Discovery::try_clone`].
    pub fn discover(mut self, discovery: impl Discovery) -> Self {
        self.source = Some(Source::new(discovery));
        self
    }

    /// Sets what chooses among several endpoints. Default [`LeastLoaded`].
    pub fn balancer(mut self, balancer: impl Balancer) -> Self {
        self.balancer = Some(Box::new(balancer));
        self
    }

    /// Sets how connections are made: codec, limits, credential. Default: [`ConnectionOptions::default`].
    pub fn options(mut self, options: ConnectionOptions) -> Self {
        self.options = options;
        self
    }

    /// Sets the number of connections to each endpoint, which take turns. Default 1, at most 1,024. One is right for most: a
    /// connection carries many calls at once. More help if one is bound by a core of the server,
    /// and cost as many sockets on both sides.
    pub const fn connections(mut self, connections: usize) -> Self {
        self.connections.usual = connections;
        self
    }

    /// Sets the largest number of connections to each endpoint. Default 4, at most 1,024. One connection reads and writes by
    /// turns, and encrypts on one core. So when all of them carry a request of 256 KiB or more, one more is dialed, which
    /// takes such requests only, and is closed after 30 s without any. As many as
    /// [`ChannelBuilder::connections`], or fewer: none.
    pub const fn max_connections(mut self, connections: usize) -> Self {
        self.connections.max = connections;
        self
    }

    /// Sets the time for a whole call, for calls that set none. Default: no limit. Too low,
    /// and calls fail that would have succeeded; without a limit, a handler that hangs holds its caller.
    pub fn timeout(mut self, limit: impl Into<Option<Duration>>) -> Self {
        self.timeout = limit.into();
        self
    }

    /// Sets what is done about a call that failed, if it may be made again. Default
    /// [`RetryPolicy::fail_over`].
    pub const fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets whether calls wait while no endpoint can be reached, as long as their time allows, instead of
    /// failing at once. Default: they fail.
    pub const fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// Sets how many retries the channel's calls may make together. Default: a fifth of the
    /// calls, or 10 a second if that is more.
    pub const fn retry_budget(mut self, budget: RetryBudget) -> Self {
        self.retry_budget = budget;
        self
    }

    /// Calls `observe` before each further attempt of a call, with the reason: the error of the one before, or that a hedged
    /// request is due. For tools that show where a call went; it runs on the task of the call, and must not block.
    ///
    /// ```
    /// let channel = farcall_client::Channel::builder()
    ///     .to("tcp@10.0.0.3:7001")
    ///     .on_retry(|attempt| eprintln!("attempt {}: {:?}", attempt.number, attempt.reason))
    ///     .build()?;
    /// # Ok::<(), farcall_client::BuildError>(())
    /// ```
    pub fn on_retry(mut self, observe: impl Fn(&AttemptReport) + Send + Sync + 'static) -> Self {
        self.on_retry = AttemptObserver::new(observe);
        self
    }

    /// Sets when an endpoint that keeps failing is ejected. Default: after 5 failures in a row.
    pub const fn outlier_detection(mut self, outlier_detection: OutlierDetection) -> Self {
        self.outlier_detection = outlier_detection;
        self
    }

    /// Puts a tower layer around all calls of the channel, also those of generated clients; a layer that is added
    /// later is further out.
    ///
    /// A layer sees a call as a whole: the [`Request`] before it is encoded for a connection, and the [`Response`] or
    /// [`RpcError`](crate::RpcError) after all retries, which happen inside. Decoding comes after the layers, so an
    /// error of the method's own is an [`RpcError`](crate::RpcError) with the code `application` here. A layer sees
    /// one request for each endpoint of a broadcast, and [`Request::is_one_way`] for notifications, of which the
    /// response is empty. If the caller drops its call, the layer's future is dropped. The call's timeout includes the
    /// time in layers.
    ///
    /// An error of a layer becomes an [`RpcError`](crate::RpcError): itself if it is one, a
    /// [`Status`](farcall_protocol::Status) with its code, and any other error with the code `internal`.
    ///
    /// [`interceptor`](crate::interceptor) makes a layer of an `async` closure. Each call through layers costs some
    /// allocations; a channel without layers pays nothing.
    ///
    /// ```
    /// use std::task::{Context, Poll};
    ///
    /// use farcall_client::{CallService, Channel, Request, Response, RpcError};
    /// use farcall_protocol::Code;
    /// # use farcall_server::Server;
    /// use futures::future::BoxFuture;
    /// use tower_service::Service;
    ///
    /// /// Sends a tenant along, refuses administrative calls, and prints the outcome.
    /// #[derive(Clone)]
    /// struct Tenant(CallService);
    ///
    /// impl Service<Request> for Tenant {
    ///     type Response = Response;
    ///     type Error = RpcError;
    ///     type Future = BoxFuture<'static, Result<Response, RpcError>>;
    ///
    ///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
    ///         self.0.poll_ready(cx)
    ///     }
    ///
    ///     fn call(&mut self, mut request: Request) -> Self::Future {
    ///         if request.method().starts_with("Admin.") {
    ///             let refusal = RpcError::not_sent(Code::PermissionDenied, "not for tenants");
    ///             return Box::pin(std::future::ready(Err(refusal)));
    ///         }
    ///         request.set_metadata("tenant", "blue");
    ///         let (method, call) = (request.method().to_owned(), self.0.call(request));
    ///         Box::pin(async move {
    ///             let outcome = call.await;
    ///             println!("{method}: {}", outcome.as_ref().map_or_else(|e| e.code().name(), |_| "ok"));
    ///             outcome
    ///         })
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = Server::builder().method("Arith.double", async |(n,): (i64,)| 2 * n);
    /// # let server = server.listen("tcp@127.0.0.1:0").bind().await?;
    /// # let address = server.addresses().next().expect("it listens on one").clone();
    /// # tokio::spawn(server.serve());
    /// let channel = Channel::builder().to(address).layer(tower_layer::layer_fn(Tenant)).build()?;
    /// assert_eq!(channel.call::<i64>("Arith.double", &(21,)).await?, 42);
    /// let refused = channel.call::<()>("Admin.stop", &()).await.unwrap_err();
    /// assert_eq!(refused.code(), Code::PermissionDenied);
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<CallService> + Send + 'static,
        L::Service: Service<Request, Response = Response, Error: Into<Box<dyn Error + Send + Sync>>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.layers.push(layer::add(layer));
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
            (None, [one]) => {
                let options = Arc::new(self.options.clone());
                Targets::One(ConnectionPool::new(one, &options, self.connections))
            }
            (None, _) => self.many(Source::new(Fixed(addresses))),
            (Some(source), []) => self.many(source),
        };
        let codec = self.options.terms.codec.clone();
        let mut core = ChannelCore::new(targets, codec).with_retry(self.retry, self.wait_for_ready);
        core.timeout = self.timeout;
        core.budget = Budget::new(self.retry_budget);
        core.on_retry = self.on_retry;
        Ok(Channel::from_core(layered(core, self.layers)))
    }

    fn many(&mut self, source: Source) -> Targets {
        let balancer = self.balancer.take().unwrap_or_else(|| Box::new(LeastLoaded));
        let options = Arc::new(self.options.clone());
        Targets::Many(Endpoints::new(source, balancer, options, self.connections, self.outlier_detection))
    }
}

impl fmt::Debug for ChannelBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelBuilder")
            .field("addresses", &self.addresses)
            .field("source", &self.source)
            .field("balancer", &self.balancer)
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}

/// Puts the layers around the calls of `core`, the first one innermost.
fn layered(core: ChannelCore, layers: Vec<AddLayer>) -> Arc<ChannelCore> {
    if layers.is_empty() {
        return Arc::new(core);
    }
    Arc::new_cyclic(|this| {
        let innermost = CallService::innermost(this.clone());
        let outermost = layers.into_iter().fold(innermost, |service, add| add(service));
        core.with_layers(Box::new(outermost))
    })
}

/// The addresses that a channel was built with.
#[derive(Clone)]
struct Fixed(Vec<Address>);

impl Discovery for Fixed {
    fn describe(&self) -> String {
        "the addresses of the channel".to_owned()
    }

    async fn run(self, publisher: Publisher) {
        publisher.publish(self.0.into_iter().map(Endpoint::new).collect());
    }

    fn try_clone(&self) -> Option<Self> {
        Some(self.clone())
    }
}
