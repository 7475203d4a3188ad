//! Channels: the entry to all calls. A channel dials when the first call needs it to.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use farcall_protocol::as_bytes::AsBytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tower_service::Service;

use self::metrics::ChannelMetrics;
use self::overview::ChannelOverview;
use crate::call::channel_core::{ChannelCore, Targets};
use crate::call::request::Request;
use crate::call::response_future::ResponseFuture;
use crate::call::{Call, describe};
use crate::connection::Connection;
use crate::connection::closing::Closing;
use crate::connection::pool::ConnectionPool;
use crate::connection::response::Response;
use crate::endpoints::status::EndpointStatus;
use crate::error::RpcError;

pub(crate) mod builder;
pub(crate) mod metrics;
pub(crate) mod overview;

/// A client of one server, or of several among which it chooses. Clones are cheap and share everything.
///
/// It dials when the first call is made, and again after the connection broke: at once the first
/// time, then with pauses that grow from 1 s to 120 s. During a pause, calls fail at once with
/// the last dial's error, instead of waiting for a dead server. A server that closes
/// every connection within a second is also dialed with pauses.
///
/// A call that was refused, or of which no byte was sent, is tried again on the next connection,
/// three times at most. When the last clone is gone, the connection closes after everything was sent.
///
/// A channel can be used in several runtimes, one after another, for example from a `static`: its connections, and the tasks
/// that follow a source of endpoints, end with the runtime that started them, and the next call starts new ones.
///
/// ```
/// use farcall_client::Channel;
/// use farcall_server::Server;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::builder().method("Arith.double", async |(n,): (i64,)| 2 * n);
/// let server = server.listen("tcp@127.0.0.1:0").bind().await?;
/// let address = server.addresses().next().expect("it listens on one").clone();
/// tokio::spawn(server.serve());
///
/// let channel = Channel::to(address)?;
/// let doubled: i64 = channel.call("Arith.double", &(21,)).await?;
/// assert_eq!(doubled, 42);
/// # Ok(())
/// # }
/// ```
///
/// It is also a [`tower_service::Service`] of [`Request`]s, which are not decoded:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use farcall_client::{Channel, Connection, ConnectionOptions};
/// # use farcall_transport::{PeerAddress, Stream};
/// # let server = farcall_server::Server::builder().method("Arith.multiply", async |(a, b): (i64, i64)| a * b);
/// # let (near, far) = tokio::io::duplex(1024);
/// # server.build()?.handle().serve_stream(Stream::new(far), PeerAddress::Memory);
/// # let address = "tcp@10.0.0.3:7001".parse()?;
/// # let connection = Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await?;
/// # let mut channel = Channel::from(connection);
/// use tower_service::Service;
///
/// let mut request = channel.request("Arith.multiply", &(6, 7));
/// request.set_metadata("tenant", "blue");
/// let response = Service::call(&mut channel, request).await?;
/// assert_eq!(response.decode::<i64>()?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Channel {
    core: Arc<ChannelCore>,
}

impl Channel {
    const fn from_core(core: Arc<ChannelCore>) -> Self {
        Self { core }
    }

    /// Creates a call by name, of a method without an error type. `arguments` serialize to a map by parameter name, or
    /// to an array in order.
    #[inline]
    pub fn call<T: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Call<T> {
        Call::new(&self.core, method.into(), arguments)
    }

    /// Creates a call by name, of a method that returns a `Result<T, E>`: if it returns an error, the call fails
    /// with [`CallError::Application`](crate::CallError::Application). `arguments` are as for [`Channel::call`].
    #[inline]
    pub fn call_fallible<T: DeserializeOwned, E: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Call<T, E> {
        Call::fallible(&self.core, method.into(), arguments)
    }

    /// Creates a call like [`Channel::call`] whose result is byte vectors. Generated clients use it.
    #[doc(hidden)]
    pub fn call_bytes<T: AsBytes>(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Call<T> {
        Call::bytes(&self.core, method.into(), arguments)
    }

    /// Creates a call like [`Channel::call_fallible`] whose result is byte vectors. Generated clients use it.
    #[doc(hidden)]
    pub fn call_fallible_bytes<T: AsBytes, E: DeserializeOwned>(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Call<T, E> {
        Call::fallible_bytes(&self.core, method.into(), arguments)
    }

    /// Creates a request for the channel as a [`tower_service::Service`], with the channel's codec and timeout, and
    /// what the current handler hands on. `arguments` are as for [`Channel::call`].
    pub fn request(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Request {
        describe(&self.core, method.into(), arguments)
    }

    /// Sends a request by name that is not answered. See [`Call::notify`].
    ///
    /// # Errors
    ///
    /// It could not be sent; the execution is `not_sent`.
    pub async fn notify(
        &self,
        method: impl Into<Cow<'static, str>>,
        arguments: &(impl Serialize + ?Sized),
    ) -> Result<(), RpcError> {
        self.call::<()>(method, arguments).notify().await
    }

    /// Dials now, instead of at the first call: the one address, or one of the endpoints that were
    /// found, and others if that one cannot be connected to.
    ///
    /// # Errors
    ///
    /// Returns the last dial's error. During a pause between dials no new dial is made, and the previous error is
    /// returned.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, if it has to dial.
    pub async fn connect(&self) -> Result<(), RpcError> {
        match &self.core.targets {
            Targets::One(pool) => pool.connection().await.map(drop),
            Targets::Many(endpoints) => endpoints.connect().await,
        }
    }

    /// Returns `true` if there is a connection that takes calls at this moment. A channel without one is
    /// not broken: its next call dials.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.connection().is_some()
    }

    /// Returns a connection that takes calls at this moment; the only one, if there is one address.
    #[must_use]
    pub fn connection(&self) -> Option<Connection> {
        match &self.core.targets {
            Targets::One(pool) => pool.any_ready(),
            Targets::Many(endpoints) => endpoints.any_ready(),
        }
    }

    /// Returns the endpoints that were found, with what the channel's calls know of each. Empty for a
    /// channel to one address, and before the first call.
    #[must_use]
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        match &self.core.targets {
            Targets::One(_) => Vec::new(),
            Targets::Many(endpoints) => endpoints.status(),
        }
    }

    /// Returns the time since the list of endpoints was last known to be true; `None` if there is no list.
    /// `/metrics` of `farcall-http` shows the same as `farcall_client_endpoints_age_seconds`.
    #[must_use]
    pub fn endpoints_age(&self) -> Option<Duration> {
        match &self.core.targets {
            Targets::One(_) => None,
            Targets::Many(endpoints) => endpoints.age(),
        }
    }

    /// Returns the number of retries that the [retry budget](crate::ChannelBuilder::retry_budget) allows at this moment.
    #[must_use]
    pub fn retries_left(&self) -> f64 {
        self.core.budget.left()
    }

    /// Returns the state of the channel at this moment. It reads all endpoints, and costs calls nothing.
    #[must_use]
    pub fn overview(&self) -> ChannelOverview {
        ChannelOverview::of(&self.core)
    }

    /// Returns the figures of the channel since it was built. It reads all endpoints, and costs calls nothing.
    #[must_use]
    pub fn metrics(&self) -> ChannelMetrics {
        ChannelMetrics::of(&self.core)
    }

    /// Measures the latency of all further calls for [`Channel::metrics`]. A channel that chooses among endpoints does
    /// that in any case; with one address it costs two readings of the clock for each call. It cannot be undone.
    pub fn measure_latency(&self) {
        self.core.totals().time_only_endpoint();
    }

    /// Waits until all that was sent over it before is handed to the operating system: calls, one-way calls and
    /// cancellations.
    ///
    /// # Errors
    ///
    /// `unavailable`, `maybe`: a connection ended before.
    pub async fn flush(&self) -> Result<(), RpcError> {
        match &self.core.targets {
            Targets::One(pool) => pool.flush().await,
            Targets::Many(endpoints) => endpoints.flush().await,
        }
    }

    /// Closes the connections: calls in flight are finished, and calls that wait for one to be
    /// dialed fail. A later call dials again. This begins at once; await the result to know that all was sent and
    /// that the servers have closed in turn, as at the end of a program.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use farcall_client::{Channel, Connection, ConnectionOptions};
    /// # use farcall_transport::{PeerAddress, Stream};
    /// # let server = farcall_server::Server::builder().method("Log.line", async |_: (String,)| ());
    /// # let (near, far) = tokio::io::duplex(1024);
    /// # server.build()?.handle().serve_stream(Stream::new(far), PeerAddress::Memory);
    /// # let address = "tcp@10.0.0.3:7001".parse()?;
    /// # let connection = Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await?;
    /// # let channel = Channel::from(connection);
    /// channel.notify("Log.line", &("the last words",)).await?;
    /// channel.close().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[expect(clippy::must_use_candidate, reason = "closing goes on by itself")]
    pub fn close(&self) -> Closing {
        match &self.core.targets {
            Targets::One(pool) => pool.close(),
            Targets::Many(endpoints) => endpoints.close(),
        }
    }
}

impl From<Connection> for Channel {
    /// Creates a channel over a connection that was opened elsewhere. It cannot dial: when the connection
    /// has closed, calls fail with `unavailable`, `not_sent`.
    fn from(connection: Connection) -> Self {
        let codec = connection.negotiated().codec.clone();
        let targets = Targets::One(ConnectionPool::over(connection));
        Self::from_core(Arc::new(ChannelCore::new(targets, codec)))
    }
}

impl Service<Request> for Channel {
    type Response = Response;
    type Error = RpcError;
    type Future = ResponseFuture;

    /// Returns ready: a channel without room lets its calls wait.
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        Poll::Ready(Ok(()))
    }

    /// Creates the future of a call, through the channel's layers if there are any.
    fn call(&mut self, request: Request) -> ResponseFuture {
        ResponseFuture::new(request, Arc::clone(&self.core))
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("targets", &self.core.targets).finish_non_exhaustive()
    }
}
