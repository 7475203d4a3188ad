//! [`ServerBuilder`]: the description of a server before it runs.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::Registrar;
use farcall_protocol::{BoxError, Codec, IntoMethodError};
#[cfg(not(feature = "tls"))]
use farcall_transport::Listener;
#[cfg(feature = "tls")]
use farcall_transport::TlsServer;
use farcall_transport::{Address, AddressError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::task::TaskTracker;
use tower_layer::Layer;
use tower_service::Service as TowerService;

use super::Server;
use super::advertisement::Advertisement;
#[cfg(feature = "tls")]
use super::assembly::listen;
use super::assembly::{assemble, check, declare_once, policy};
use super::registrations::Target;
use super::state::ServerState;
use crate::auth::authenticate::Authenticate;
use crate::call::offload_runtime::{OffloadRuntime, TokioOffload};
use crate::error::{BuildError, ServeError};
use crate::limits::Limits;
use crate::observe::load::LoadReporting;
use crate::once::calls::OnceCalls;
use crate::once::options::OnceOptions;
use crate::service::handler::{Request, Response};
use crate::service::layer::{HandlerService, SharedLayer};
use crate::service::router::Router;
use crate::service::stream_method::{AsyncExchangeMethod, AsyncStreamMethod};
use crate::service::{AsyncMethod, Service};
use crate::stream::receiver::Receiver;
use crate::stream::sender::Sender;

/// Describes a server: what it offers, where it listens, what it allows.
///
/// Mistakes (a name used twice, an address that does not parse) are errors when it is bound.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), farcall_server::ServeError> {
/// use std::time::Duration;
/// use farcall_server::{Limits, Server};
///
/// let server = Server::builder()
///     .method("Arith.double", async |n: i64| n * 2)
///     .limits(Limits::default().handle_timeout(Duration::from_secs(5)))
///     .listen("tcp@127.0.0.1:0")
///     .bind()
///     .await?;
/// # let _ = server;
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
#[must_use = "a builder does nothing until it is bound or built"]
pub struct ServerBuilder {
    services: Vec<Service>,
    layers: Vec<Arc<SharedLayer>>,
    addresses: Vec<Result<Address, BuildError>>,
    /// The first mistake in a name for `method`.
    mistake: Option<BuildError>,
    limits: Limits,
    /// The methods that are declared `once` by their full names.
    once: Vec<String>,
    once_options: OnceOptions,
    load: Option<LoadReporting>,
    codecs: Option<Vec<Codec>>,
    without_compression: bool,
    without_reserved_methods: bool,
    authenticate: Option<Arc<dyn Authenticate>>,
    #[cfg(feature = "tls")]
    tls: Option<TlsServer>,
    advertisement: Advertisement,
    offload: Option<Arc<dyn OffloadRuntime>>,
}

impl ServerBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a service: that of a trait's `into_service()`, or a [`Service`] made by hand.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Adds a closure under the name `Service.method`. It takes the arguments as a type with a
    /// field for each, or a context and the arguments, and returns the result. See
    /// [`Service::method`].
    pub fn method<F, Args, Marker>(self, name: &str, method: F) -> Self
    where
        F: AsyncMethod<Args, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.method(name, method))
    }

    /// Adds a closure that can fail under the name `Service.method`. See [`Service::try_method`].
    pub fn try_method<F, Args, Marker, T, E>(self, name: &str, method: F) -> Self
    where
        F: AsyncMethod<Args, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        T: Serialize + Send + 'static,
        E: Serialize + fmt::Display + Send + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.try_method(name, method))
    }

    /// Adds a closure that sends items to its caller under the name `Service.method`. See [`Service::stream_out`].
    pub fn stream_out<F, Args, T, Marker>(self, name: &str, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Sender<T>, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        T: Serialize + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.stream_out(name, method))
    }

    /// Adds a closure that sends items and can fail under the name `Service.method`. See [`Service::try_stream_out`].
    pub fn try_stream_out<F, Args, Item, Marker, T, E>(self, name: &str, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Sender<Item>, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        Item: Serialize + 'static,
        T: Serialize + Send + 'static,
        E: IntoMethodError + Send + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.try_stream_out(name, method))
    }

    /// Adds a closure that receives items from its caller under the name `Service.method`. See [`Service::stream_in`].
    pub fn stream_in<F, Args, T, Marker>(self, name: &str, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Receiver<T>, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        T: DeserializeOwned + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.stream_in(name, method))
    }

    /// Adds a closure that receives items and can fail under the name `Service.method`. See [`Service::try_stream_in`].
    pub fn try_stream_in<F, Args, Item, Marker, T, E>(self, name: &str, method: F) -> Self
    where
        F: AsyncStreamMethod<Args, Receiver<Item>, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        Item: DeserializeOwned + 'static,
        T: Serialize + Send + 'static,
        E: IntoMethodError + Send + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.try_stream_in(name, method))
    }

    /// Adds a closure that receives items and sends some under the name `Service.method`. See [`Service::stream_both`].
    pub fn stream_both<F, Args, In, Out, Marker>(self, name: &str, method: F) -> Self
    where
        F: AsyncExchangeMethod<Args, In, Out, Marker>,
        F::Output: Serialize,
        Args: DeserializeOwned + 'static,
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.stream_both(name, method))
    }

    /// Adds a closure that receives items, sends some and can fail under the name `Service.method`. See
    /// [`Service::try_stream_both`].
    pub fn try_stream_both<F, Args, In, Out, Marker, T, E>(self, name: &str, method: F) -> Self
    where
        F: AsyncExchangeMethod<Args, In, Out, Marker, Output = Result<T, E>>,
        Args: DeserializeOwned + 'static,
        In: DeserializeOwned + 'static,
        Out: Serialize + 'static,
        T: Serialize + Send + 'static,
        E: IntoMethodError + Send + 'static,
        Marker: 'static,
    {
        self.with_method(name, |service, name| service.try_stream_both(name, method))
    }

    /// Declares that the calls of the method `Service.method` with the same `farcall-idempotency-key` are carried out once.
    /// See [`Service::once`].
    pub fn once(mut self, name: impl Into<String>) -> Self {
        self.once.push(name.into());
        self
    }

    fn with_method(mut self, name: &str, add: impl FnOnce(Service, &str) -> Service) -> Self {
        match name.rsplit_once('.') {
            Some((service, method)) => self.service(add(Service::new(service), method)),
            None => {
                self.mistake.get_or_insert(BuildError::NoService { name: name.to_owned() });
                self
            }
        }
    }

    /// Puts a tower layer around the calls of all services; one that is added later is further out.
    /// The layer is applied once, so that limits and counters in it hold for all calls together.
    /// The reserved methods are left out, so that health and statistics answer under any load.
    ///
    /// An error of a layer becomes the call's [`Status`](farcall_protocol::Status): itself if it is
    /// one, else `internal`; `refused` if the handler was not called yet, else `maybe`.
    ///
    /// [`interceptor`](crate::interceptor) makes a layer of an `async` closure. Those of tower that map and filter requests do, too:
    ///
    /// ```
    /// use farcall_protocol::{Code, Status};
    /// use farcall_server::{Request, Server};
    /// use tower::filter::FilterLayer;
    ///
    /// let refuse = FilterLayer::new(|request: Request| match request.context().metadata("tenant") {
    ///     Some(_) => Ok(request),
    ///     None => Err(Status::refused(Code::InvalidArgument, "the tenant is missing")),
    /// });
    /// let builder = Server::builder().layer(refuse);
    /// # let _ = builder;
    /// ```
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<HandlerService>,
        L::Service: TowerService<Request, Response = Response, Error: Into<BoxError>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.layers.push(SharedLayer::new(layer.layer(HandlerService::new())));
        self
    }

    /// Adds an address to listen on, such as `tcp@0.0.0.0:7001` or `unix@/run/arith.sock`. Port 0
    /// means any free one; [`Server::addresses`] returns which.
    pub fn listen<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(|error| BuildError::Address(error.into()));
        self.addresses.push(address);
        self
    }

    /// Sets the certificate for the `tls@` addresses that it listens on, and the certificates that it
    /// requires of its clients.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets in only clients whose credential passes this check: [`Tokens`](crate::Tokens), or an
    /// `async` closure from [`Credential`](crate::Credential) to `Result<Identity, Status>`. Others are
    /// refused in the handshake. The identity is in the context of the client's calls. Default: all
    /// clients that can connect are let in. See [`Authenticate`].
    ///
    /// A credential that travels unencrypted can be read and used by others: see
    /// [`ServerBuilder::tls`].
    pub fn authenticate(mut self, check: impl Authenticate) -> Self {
        self.authenticate = Some(Arc::new(check));
        self
    }

    /// Sets the limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets how the calls of methods that are declared `once` are kept, and where. Default: for 10 minutes, in 64 MiB of this
    /// server's memory.
    pub fn once_options(mut self, options: OnceOptions) -> Self {
        self.once_options = options;
        self
    }

    /// Reports the server's load to its clients, in the metadata of responses, for balancers such as
    /// [`ReportedLoad`](farcall_discovery::ReportedLoad). Default: it is not reported.
    pub fn report_load(mut self, reporting: LoadReporting) -> Self {
        self.load = Some(reporting);
        self
    }

    /// Adds a codec to those that are built in.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codecs.get_or_insert_with(Codec::built_in).push(codec);
        self
    }

    /// Negotiates no compression, even if a client wants it.
    pub const fn without_compression(mut self) -> Self {
        self.without_compression = true;
        self
    }

    /// Leaves out the reserved methods `farcall.services`, `farcall.schema`, `farcall.health` and `farcall.stats`.
    pub const fn without_reserved_methods(mut self) -> Self {
        self.without_reserved_methods = true;
        self
    }

    /// Registers the server in this registry while it serves; call it again for further ones.
    ///
    /// For each service that it offers, and for each address that it advertises, there is one
    /// [`Instance`](farcall_discovery::Instance). They are registered when
    /// [`serve_until`](ServerBuilder::serve_until) starts, renewed while it serves, and removed as the
    /// first step of a graceful stop; see [`keep_registered`](farcall_discovery::keep_registered). A
    /// registry that does not answer, or fails, or panics, does not affect the server otherwise: it
    /// starts, serves and stops without it, and [`ServerHandle::registrations`](crate::ServerHandle::registrations) returns the state.
    ///
    /// The setters below have no effect without this one.
    pub fn register_with(mut self, registrar: impl Registrar) -> Self {
        self.advertisement.targets.push(Target::new(registrar));
        self
    }

    /// Adds an address that others dial, such as `tcp@10.0.0.5:7001`: one that leads to this server
    /// from their machines. Default: the addresses that it listens on, which must then be ones that
    /// can be dialed, and not `0.0.0.0`. Port 0 stands for the port of the first address with the same
    /// scheme that it listens on.
    pub fn advertise<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(|error| BuildError::Address(error.into()));
        self.advertisement.addresses.push(address);
        self
    }

    /// Sets the address of a server that listens on none, since a test's network hands its connections over: the default of
    /// [`advertise`](Self::advertise).
    #[doc(hidden)]
    pub fn reached_at(mut self, address: Address) -> Self {
        self.advertisement.reached_at = Some(address);
        self
    }

    /// Registers under this name instead of the names of the services; call it again for further
    /// ones. `""` is the plain list of servers, of the registry's simple interface.
    pub fn register_as(mut self, name: impl Into<String>) -> Self {
        self.advertisement.names.push(name.into());
        self
    }

    /// Sets the id among the instances of a service, at most 512 bytes; a server that comes back
    /// with the same id takes its predecessor's place. Default: the advertised address. Two servers
    /// with one id push each other out; so do two addresses of one server, which is refused.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.advertisement.id = Some(id.into());
        self
    }

    /// Sets the server's share of the calls, relative to the weights of the others. Default 100. With
    /// 0 it is registered and gets none.
    pub const fn weight(mut self, weight: u16) -> Self {
        self.advertisement.weight = weight;
        self
    }

    /// Sets the server's zone, for clients that prefer their zone: 1 to 128 letters, digits, `.`, `_`,
    /// `-`. Default: none.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.advertisement.zone = Some(zone.into());
        self
    }

    /// Sets the version of the server's program, such as `1.4.2`; as a zone, it has 1 to 128 letters,
    /// digits, `.`, `_`, `-`. Default: none.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.advertisement.version = Some(version.into());
        self
    }

    /// Adds a pair to the metadata of the server's instances: at most 32 pairs, with 4 KiB in all. It is
    /// visible to everyone who can read the registry.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.advertisement.labels.insert(key.into(), value.into());
        self
    }

    /// Sets how long the server stays registered without a heartbeat, 1 s to 1 day. Default: the
    /// registry's. Too low, and a server is gone from the lists whenever the network pauses; too
    /// high, and one that crashed stays in them as long.
    pub const fn registration_ttl(mut self, ttl: Duration) -> Self {
        self.advertisement.ttl = Some(ttl);
        self
    }

    /// Replaces the clock and the threads that poll slow handlers, for deterministic tests: see
    /// [`OffloadRuntime`]. Default: [`TokioOffload`].
    #[doc(hidden)]
    pub fn offload_runtime(mut self, runtime: impl OffloadRuntime) -> Self {
        self.offload = Some(Arc::new(runtime));
        self
    }

    /// Builds the server and binds it to its addresses.
    ///
    /// # Errors
    ///
    /// The description has a mistake in it, or an address cannot be listened on.
    pub async fn bind(mut self) -> Result<Server, ServeError> {
        let addresses = std::mem::take(&mut self.addresses);
        if addresses.is_empty() {
            return Err(BuildError::NoAddress.into());
        }
        let addresses = addresses.into_iter().collect::<Result<Vec<_>, _>>()?;
        #[cfg(feature = "tls")]
        let tls = self.tls.take();
        let send_buffer = self.limits.local_send_buffer;
        let (state, advertisement) = self.into_state()?;
        let mut listeners = Vec::new();
        for address in addresses {
            #[cfg(feature = "tls")]
            let listener = listen(&address, tls.as_ref()).await?;
            #[cfg(not(feature = "tls"))]
            let listener = Listener::bind(&address).await?;
            listeners.push(listener.local_send_buffer(send_buffer));
        }
        Ok(assemble(state, listeners, advertisement)?)
    }

    /// Builds a server that listens nowhere: it serves the streams that
    /// [`ServerHandle::serve_io`](crate::ServerHandle::serve_io) hands it, and the calls of [`ServerHandle::invoke`](crate::ServerHandle::invoke).
    ///
    /// # Errors
    ///
    /// The description has a mistake in it.
    pub fn build(self) -> Result<Server, BuildError> {
        let (state, advertisement) = self.into_state()?;
        assemble(state, Vec::new(), advertisement)
    }

    /// Binds the server and serves until `signal` is ready. See [`Server::serve_until`].
    ///
    /// # Errors
    ///
    /// As for [`ServerBuilder::bind`].
    pub async fn serve_until<T>(self, signal: impl Future<Output = T>) -> Result<(), ServeError> {
        self.bind().await?.serve_until(signal).await;
        Ok(())
    }

    fn into_state(mut self) -> Result<(Arc<ServerState>, Advertisement), BuildError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        check(&self.limits)?;
        declare_once(&mut self.services, std::mem::take(&mut self.once))?;
        let once = OnceCalls::new(&self.once_options, TaskTracker::new());
        let router = Router::new(self.services, &self.layers, !self.without_reserved_methods, &once)?;
        let once_store = router.has_once().then(|| once.store_name()).transpose()?;
        let policy = policy(&self.limits, self.codecs, self.without_compression).once_store(once_store);
        let offload = self.offload.unwrap_or_else(|| Arc::new(TokioOffload::new()));
        let state =
            ServerState::new(router, self.limits, policy, self.authenticate, offload, once, self.load);
        Ok((state, self.advertisement))
    }
}

impl Server {
    /// Starts the description of a server.
    // Here, since the builder stands on the server that it builds.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::new()
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("services", &self.services)
            .field("addresses", &self.addresses)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
