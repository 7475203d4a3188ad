//! What a server is to be, before it runs.

use std::fmt;
use std::sync::Arc;

use farcall_protocol::{Codec, Compression, ServerPolicy};
use farcall_transport::{Address, AddressError, Listener};
#[cfg(feature = "tls")]
use farcall_transport::{ListenError, TlsServer};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::auth::authenticate::Authenticate;
use crate::error::{BuildError, ServeError};
use crate::limits::Limits;
use crate::server::Server;
use crate::server::advertisement::Advertisement;
use crate::server::state::Core;
use crate::service::layer::{CallLayer, Layered};
use crate::service::router::Router;
use crate::service::{AsyncMethod, Service};

/// Describes a server: what it offers, where it listens, what it allows.
///
/// Mistakes (a name used twice, an address that does not parse) are told when it is bound.
#[derive(Default)]
pub struct ServerBuilder {
    services: Vec<Service>,
    layers: Vec<Arc<Layered>>,
    addresses: Vec<Result<Address, BuildError>>,
    /// The first mistake in a name that was given to `method`.
    mistake: Option<BuildError>,
    limits: Limits,
    codecs: Option<Vec<Codec>>,
    without_compression: bool,
    without_reserved_methods: bool,
    authenticate: Option<Arc<dyn Authenticate>>,
    #[cfg(feature = "tls")]
    tls: Option<TlsServer>,
    pub(crate) advertisement: Advertisement,
}

impl ServerBuilder {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a service: what a trait's `into_service()` gives, or a [`Service`] made by hand.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// Adds a closure under the name `Service.method`. It takes the arguments as a type with a
    /// field for each, or a context and the arguments, and returns the result. See
    /// [`Service::method`].
    #[must_use]
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
    #[must_use]
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

    fn with_method(mut self, name: &str, add: impl FnOnce(Service, &str) -> Service) -> Self {
        match name.rsplit_once('.') {
            Some((service, method)) => self.service(add(Service::new(service), method)),
            None => {
                self.mistake.get_or_insert(BuildError::NoService { name: name.to_owned() });
                self
            }
        }
    }

    /// Puts a tower layer around the calls of all services; one that is added later is further
    /// out. The reserved methods are left out, so that health and statistics answer under any
    /// load. See [`CallLayer`].
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "layers are handed over, as tower has it")]
    pub fn layer(mut self, layer: impl CallLayer) -> Self {
        self.layers.push(Arc::new(Layered::new(&layer)));
        self
    }

    /// Adds an address to listen on, such as `tcp@0.0.0.0:7001` or `unix@/run/arith.sock`. Port 0
    /// means any that is free; [`Server::addresses`] tells which.
    #[must_use]
    pub fn listen<A>(mut self, address: A) -> Self
    where
        A: TryInto<Address, Error: Into<AddressError>>,
    {
        let address = address.try_into().map_err(|error| BuildError::Address(error.into()));
        self.addresses.push(address);
        self
    }

    /// The certificate for the `tls@` addresses that it listens on, and which certificates it wants
    /// of its clients.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: TlsServer) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Lets in only clients whose credential passes this check: [`Tokens`](crate::Tokens), or an
    /// `async` closure from [`Credential`](crate::Credential) to `Result<Identity, Status>`. Who is
    /// not let in is told so in the handshake; who is has its identity in the context of its calls.
    /// Default: whoever can connect is let in. See [`Authenticate`].
    ///
    /// A credential that travels unencrypted can be read and used by others: see
    /// [`ServerBuilder::tls`].
    #[must_use]
    pub fn authenticate(mut self, check: impl Authenticate) -> Self {
        self.authenticate = Some(Arc::new(check));
        self
    }

    /// Sets the limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Adds a codec of the user's to those that are built in.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codecs.get_or_insert_with(Codec::built_in).push(codec);
        self
    }

    /// Agrees on no compression, even if a client wants it.
    #[must_use]
    pub const fn without_compression(mut self) -> Self {
        self.without_compression = true;
        self
    }

    /// Does not answer `farcall.services`, `farcall.health` and `farcall.stats`.
    #[must_use]
    pub const fn without_reserved_methods(mut self) -> Self {
        self.without_reserved_methods = true;
        self
    }

    /// Builds the server and binds it to its addresses.
    ///
    /// # Errors
    ///
    /// What was described has a mistake in it, or an address cannot be listened on.
    pub async fn bind(mut self) -> Result<Server, ServeError> {
        let addresses = std::mem::take(&mut self.addresses);
        if addresses.is_empty() {
            return Err(BuildError::NoAddress.into());
        }
        let addresses = addresses.into_iter().collect::<Result<Vec<_>, _>>()?;
        #[cfg(feature = "tls")]
        let tls = self.tls.take();
        let (core, advertisement) = self.core()?;
        let mut listeners = Vec::new();
        for address in addresses {
            #[cfg(feature = "tls")]
            let listener = listen(&address, tls.as_ref()).await?;
            #[cfg(not(feature = "tls"))]
            let listener = Listener::bind(&address).await?;
            listeners.push(listener);
        }
        Ok(Server::new(core, listeners, advertisement)?)
    }

    /// Builds a server that listens nowhere: it serves what
    /// [`ServerHandle::serve_stream`](crate::ServerHandle::serve_stream) hands it.
    ///
    /// # Errors
    ///
    /// What was described has a mistake in it.
    pub fn build(self) -> Result<Server, BuildError> {
        let (core, advertisement) = self.core()?;
        Server::new(core, Vec::new(), advertisement)
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

    fn core(self) -> Result<(Arc<Core>, Advertisement), BuildError> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let router = Router::new(self.services, &self.layers, !self.without_reserved_methods)?;
        let terms = ServerPolicy {
            codecs: self.codecs.unwrap_or_else(Codec::built_in),
            handle_timeout: self.limits.handle_timeout,
            compression: if self.without_compression { Vec::new() } else { Compression::built_in() },
            max_frame_bytes: self.limits.max_frame_bytes,
            max_in_flight: self.limits.max_in_flight,
        };
        Ok((Core::new(router, self.limits, terms, self.authenticate), self.advertisement))
    }
}

#[cfg(feature = "tls")]
async fn listen(address: &Address, tls: Option<&TlsServer>) -> Result<Listener, ListenError> {
    match tls {
        Some(tls) => Listener::bind_with(address, tls).await,
        None => Listener::bind(address).await,
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
