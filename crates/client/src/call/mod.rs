//! Calls: a builder, and the futures that it turns into.
//!
//! A [`Call`] holds a [`Request`]. Awaited, it becomes a [`ResponseFuture`], which sends the request at once if it
//! can and leaves everything else to [`attempts`]; the response is decoded at the end.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use farcall_context::Inherited;
use farcall_protocol::as_bytes::{AsBytes, ByteValue};
use farcall_protocol::{Code, Criticality};
use farcall_transport::BufferPool;
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::broadcast::Broadcast;
use self::channel_core::ChannelCore;
use self::request::Request;
use self::response_future::{ResponseFuture, notify};
use self::retry_policy::RetryPolicy;
use self::stream::{Exchanges, Receives, Sends, StreamCall};
use crate::connection::response::{DecodeFn, Response};
use crate::error::{CallError, RpcError};

pub(crate) mod attempt_report;
mod attempts;
pub(crate) mod broadcast;
pub(crate) mod channel_core;
mod endpoint_choice;
mod goaways;
mod in_flight_call;
mod inherited_metadata;
pub(crate) mod interceptor;
pub(crate) mod layer;
mod once;
pub(crate) mod request;
mod request_error;
pub(crate) mod response_future;
mod retry;
pub(crate) mod retry_budget;
pub(crate) mod retry_policy;
mod routing_key;
mod send_request;
mod sending;
mod span;
pub(crate) mod stream;

/// A call that is about to be made. Nothing happens before it is awaited, or started.
///
/// A call made inside a handler inherits the handler's deadline and metadata. Dropping the future that it turns into
/// cancels it, to the handler. Use [`IntoFuture::into_future`] if a future is needed, as for `tokio::join!`,
/// `tokio::select!` and `tokio::spawn`.
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
/// # let channel = Channel::from(connection);
/// use std::time::Duration;
///
/// let call = channel.call::<i64>("Arith.multiply", &(6, 7));
/// let product = call.timeout(Duration::from_millis(200)).idempotent().metadata("tenant", "blue").await?;
///
/// let twice = channel.call::<i64>("Arith.multiply", &(2, product)).into_future();
/// let thrice = channel.call::<i64>("Arith.multiply", &(3, product)).into_future();
/// let (twice, thrice) = tokio::try_join!(twice, thrice)?;
/// assert_eq!((product, twice, thrice), (42, 84, 126));
/// # Ok(())
/// # }
/// ```
///
/// Its options cannot be changed once it is under way:
///
/// ```compile_fail
/// # async fn example(channel: farcall_client::Channel) {
/// let started = channel.call::<i64>("Arith.multiply", &(6, 7)).start();
/// started.idempotent();
/// # }
/// ```
#[must_use = "a call is made when it is awaited, started, or sent with `notify`"]
pub struct Call<T, E = Infallible> {
    core: Arc<ChannelCore>,
    request: Request,
    decode: DecodeFn<T, E>,
}

/// The future of a [`Call`]. Dropping it cancels the call.
#[must_use = "a call is made when its future is polled"]
pub struct CallFuture<T, E = Infallible> {
    response: ResponseFuture,
    decode: DecodeFn<T, E>,
}

/// A call that is under way. Await it for its outcome; drop it to cancel it.
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
/// # let channel = Channel::from(connection);
/// let first = channel.call::<i64>("Arith.multiply", &(6, 7)).start();
/// let second = channel.call::<i64>("Arith.multiply", &(4, 2)).start();
/// assert_eq!((first.await?, second.await?), (42, 8));
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping a started call cancels it"]
pub struct StartedCall<T, E = Infallible>(CallFuture<T, E>);

impl<T: DeserializeOwned> Call<T> {
    /// Creates a call of a method without an error type.
    #[inline]
    pub(crate) fn new<A: Serialize + ?Sized>(
        core: &Arc<ChannelCore>,
        method: Cow<'static, str>,
        arguments: &A,
    ) -> Self {
        Self::with(core, method, arguments, |outcome| Ok(outcome.and_then(|response| response.decode())?))
    }
}

impl<T: AsBytes> Call<T> {
    /// Creates a call of a method without an error type whose result is byte vectors.
    pub(crate) fn bytes<A: Serialize + ?Sized>(
        core: &Arc<ChannelCore>,
        method: Cow<'static, str>,
        arguments: &A,
    ) -> Self {
        Self::with(core, method, arguments, |outcome| {
            let ByteValue(value) = outcome.and_then(|response| response.decode())?;
            Ok(value)
        })
    }
}

impl<T: AsBytes, E: DeserializeOwned> Call<T, E> {
    /// Creates a call of a method that returns a `Result<T, E>` whose result is byte vectors.
    pub(crate) fn fallible_bytes<A: Serialize + ?Sized>(
        core: &Arc<ChannelCore>,
        method: Cow<'static, str>,
        arguments: &A,
    ) -> Self {
        Self::with(core, method, arguments, |outcome| fallible_outcome(outcome).map(|ByteValue(value)| value))
    }
}

impl<T: DeserializeOwned, E: DeserializeOwned> Call<T, E> {
    /// Creates a call of a method that returns a `Result<T, E>`.
    #[inline]
    pub(crate) fn fallible<A: Serialize + ?Sized>(
        core: &Arc<ChannelCore>,
        method: Cow<'static, str>,
        arguments: &A,
    ) -> Self {
        Self::with(core, method, arguments, fallible_outcome)
    }
}

/// Turns the outcome of a call into the types of a method that returns a `Result<T, E>`.
fn fallible_outcome<T: DeserializeOwned, E: DeserializeOwned>(
    outcome: Result<Response, RpcError>,
) -> Result<T, CallError<E>> {
    match outcome {
        Ok(response) => Ok(response.decode()?),
        Err(error) if error.code() == Code::Application => match error.details() {
            Some(Ok(details)) => Err(CallError::Application(details)),
            // Not the error type of the method: the message has to do.
            _ => Err(error.into()),
        },
        Err(error) => Err(error.into()),
    }
}

impl<T, E> Call<T, E> {
    #[inline]
    fn with<A: Serialize + ?Sized>(
        core: &Arc<ChannelCore>,
        method: Cow<'static, str>,
        arguments: &A,
        decode: DecodeFn<T, E>,
    ) -> Self {
        let core = Arc::clone(core);
        let request = describe(&core, method, arguments);
        Self { core, request, decode }
    }

    /// Sets the time for the whole call, including connecting and retries, from when it is awaited
    /// or started. Default: the channel's, which is none unless it was set. An inherited deadline
    /// that is earlier counts. With less than a millisecond, zero included, nothing is sent.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.request.set_timeout(limit);
        self
    }

    /// Sends `value` along under `key`, which must be lower case; otherwise the call fails with
    /// `invalid_argument`.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.request.set_metadata(key, value);
        self
    }

    /// Sets how much the call matters when a server has more calls than it can serve: `sheddable` calls are refused first,
    /// `critical` ones last, by servers with [`Limits::adaptive`](https://docs.rs/farcall-server/latest/farcall_server/struct.Limits.html).
    /// Default: that of the call that is being handled, which is what calls made by its handler inherit; else `default`.
    ///
    /// ```
    /// # async fn example(channel: farcall_client::Channel) -> Result<(), farcall_client::RpcError> {
    /// use farcall_protocol::Criticality;
    ///
    /// let prefetched: String = channel.call("Page.text", &("next",)).criticality(Criticality::Sheddable).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn criticality(mut self, criticality: Criticality) -> Self {
        self.request.set_criticality(criticality);
        self
    }

    /// Declares that the call may be made twice with the effect of once, **also at two servers**: it only reads, or the
    /// servers share the state that it changes, such as a database. If it is interrupted, it is made again, with
    /// [`RetryPolicy::fail_over`] at another server; it can be [hedged](RetryPolicy::hedge_after). Default: it may not.
    ///
    /// For state that each server keeps for itself, use [`Call::idempotent_at_same_server`].
    pub fn idempotent(mut self) -> Self {
        self.request.set_idempotent();
        self
    }

    /// Declares that the call may be made twice with the effect of once, but **only at the same server**, which keeps the
    /// state that it changes for itself. If it is interrupted, it is made again at the endpoint that it was sent to and
    /// nowhere else, whatever the [`RetryPolicy`] is; it is not hedged. Default: it may not.
    ///
    /// A server is told by its address: if a load balancer, or a name with several addresses, stands for several servers,
    /// do not declare it.
    pub fn idempotent_at_same_server(mut self) -> Self {
        self.request.set_idempotent_at_same_server();
        self
    }

    /// Has the server carry the call out once, however often it is made. The method must be declared `once` by the server:
    /// `#[rpc(once)]`, or [`Service::once`](https://docs.rs/farcall-server/latest/farcall_server/struct.Service.html).
    ///
    /// The call gets a key, `farcall-idempotency-key`, which is the same in all its tries. If it is interrupted, it is made
    /// again at the endpoint that it was sent to, for up to two minutes, and joins the first try or gets its answer. It is not
    /// made again once that server has restarted, which it would not know of: then the call fails, with `maybe`. If the call
    /// is dropped, the server carries it out all the same.
    ///
    /// A key of the caller's, such as the number of an order, is set by
    /// [`metadata`](Call::metadata)`("farcall-idempotency-key", ..)`: then another call with that key, also of another
    /// process, is a try of the same call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use farcall_client::{Channel, Connection, ConnectionOptions};
    /// # use farcall_transport::{PeerAddress, Stream};
    /// # let pay = async |cents: u64| cents;
    /// # let server = farcall_server::Server::builder().method("Bank.pay", pay).once("Bank.pay");
    /// # let (near, far) = tokio::io::duplex(1024);
    /// # server.build()?.handle().serve_stream(Stream::new(far), PeerAddress::Memory);
    /// # let address = "tcp@10.0.0.3:7001".parse()?;
    /// # let connection = Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await?;
    /// # let channel = Channel::from(connection);
    /// let paid = channel.call::<u64>("Bank.pay", &500).once().await?;
    /// assert_eq!(paid, 500);
    /// # Ok(())
    /// # }
    /// ```
    pub fn once(mut self) -> Self {
        self.request.set_once();
        self
    }

    /// Does the same as [`Call::once`] for servers that share a store of keys: an interrupted call is also made again at
    /// another one, and can be [hedged](RetryPolicy::hedge_after). A server with another store is not asked.
    pub fn once_anywhere(mut self) -> Self {
        self.request.set_once_anywhere();
        self
    }

    /// Sets the key for balancers that use the call's own, such
    /// as `ConsistentHash::by_key()`: calls with the same key go to the same endpoint. Default: none.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.request.set_key(key);
        self
    }

    /// Sets what is done if the call fails. Default: the channel's policy.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.request.set_retry(policy);
        self
    }

    /// Sets whether the call waits, as long as its time allows, while no endpoint can be reached, instead of failing
    /// at once. Without a timeout it may wait without end. Default: the channel's setting, which is to fail.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.request.set_wait_for_ready(wait);
        self
    }

    /// Makes it a streaming call that takes items of type `I`. Awaited, it becomes an
    /// [`ItemStream`](crate::ItemStream); `T` is the type of the final value.
    ///
    /// ```
    /// # async fn example(channel: farcall_client::Channel) -> Result<(), farcall_client::RpcError> {
    /// let mut numbers = channel.call::<u64>("Feed.count", &(1, 10)).receive::<u64>().await?;
    /// while let Some(number) = numbers.next().await {
    ///     println!("{}", number?);
    /// }
    /// println!("{} numbers", numbers.finish().await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn receive<I>(self) -> StreamCall<Receives<I>, T, E> {
        StreamCall::new(self.core, self.request, self.decode)
    }

    /// Makes it a streaming call that sends items of type `S`. Awaited, it becomes an [`ItemSink`](crate::ItemSink); `T`
    /// is the type of the final value.
    pub fn send_items<S>(self) -> StreamCall<Sends<S>, T, E> {
        StreamCall::new(self.core, self.request, self.decode)
    }

    /// Makes it a streaming call that sends items of type `S` and takes items of type `I`. Awaited, it becomes an
    /// [`Exchange`](crate::Exchange); `T` is the type of the final value.
    pub fn exchange<S, I>(self) -> StreamCall<Exchanges<S, I>, T, E> {
        StreamCall::new(self.core, self.request, self.decode)
    }

    /// Calls every endpoint of the channel at once, instead of one. See [`Broadcast`].
    pub fn broadcast(self) -> Broadcast<T, E> {
        Broadcast::new(self.core, self.request, self.decode)
    }

    /// Sends the call now, and returns a future for its outcome. Dropping that cancels it.
    ///
    /// The call makes progress without being awaited, even if the channel has to connect first. If
    /// the server refuses it, or the connection breaks before it was written, the next attempt is made
    /// when the future is awaited.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(self) -> StartedCall<T, E> {
        let mut future = self.into_future();
        future.response.start();
        StartedCall(future)
    }

    /// Sends the call without asking for a response: whether the handler runs, and how it ends, stays
    /// unknown. Ready once the request is handed to the operating system, so that it is not lost if the program ends then.
    /// The call takes no slot among those that the server runs at once. If the future is dropped before it is ready, the
    /// request may or may not be sent.
    ///
    /// Many at once, as with [`futures::future::join_all`](https://docs.rs/futures/latest/futures/future/fn.join_all.html),
    /// are written together.
    ///
    /// # Errors
    ///
    /// The request could not be sent: no connection, no time left, arguments that do not encode, a request
    /// over the server's size limit. The execution is `not_sent`; it is `maybe` if the connection broke, or
    /// the time passed, while the request was written.
    pub async fn notify(self) -> Result<(), RpcError> {
        notify(self.request, &self.core).await
    }
}

/// Describes a call with the channel's settings and what the current handler hands on.
#[inline]
pub(crate) fn describe<A: Serialize + ?Sized>(
    core: &ChannelCore,
    method: Cow<'static, str>,
    arguments: &A,
) -> Request {
    Request::new(
        method,
        core.codec.encode_body_in(&BufferPool, arguments),
        core.timeout,
        Inherited::current(),
    )
}

impl<T, E> IntoFuture for Call<T, E> {
    type Output = Result<T, CallError<E>>;
    type IntoFuture = CallFuture<T, E>;

    #[inline]
    fn into_future(self) -> CallFuture<T, E> {
        CallFuture { response: ResponseFuture::new(self.request, self.core), decode: self.decode }
    }
}

impl<T, E> Future for CallFuture<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = ready!(Pin::new(&mut self.response).poll(cx));
        // Errors have their method already, but for those of results that do not decode.
        Poll::Ready((self.decode)(outcome).map_err(|error| error.of(self.response.method_name())))
    }
}

impl<T, E> Future for StartedCall<T, E> {
    type Output = Result<T, CallError<E>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T, E> fmt::Debug for Call<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("method", &self.request.method()).finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for CallFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").field("method", &self.response.method()).finish_non_exhaustive()
    }
}

impl<T, E> fmt::Debug for StartedCall<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartedCall").field("method", &self.0.response.method()).finish_non_exhaustive()
    }
}
