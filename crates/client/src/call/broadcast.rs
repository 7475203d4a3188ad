//! Calls of all endpoints at once.

use std::error::Error;
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::Backoff;
use farcall_runtime::time::{sleep, timeout_at};
use farcall_transport::Address;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::attempts::{Attempts, FIRST_PAUSE, MAX_PAUSE};
use super::channel_core::{ChannelCore, Targets};
use super::goaways::Goaways;
use super::request::{BroadcastTarget, Request};
use super::response_future::through_layers;
use super::sending::{call_backend, no_connection_to};
use super::span::{CallSpan, RecordError, within_span};
use crate::connection::response::{DecodeFn, Response};
use crate::endpoints::backend::Backend;
use crate::error::{CallError, RpcError};

/// A call of all endpoints at once: of all that are known and not drained, including those that
/// get no other calls at the moment because they failed, or are outside of a [`Subset`](farcall_discovery::Subset). Each is tried once, whatever the retry policy is, but
/// for connections that end before the call has begun there, such as by their largest age. The call
/// is carried out at every one of them, whether or not it is idempotent.
///
/// Awaited, all must succeed: the first error cancels the rest and is returned with its endpoint.
/// [`Broadcast::any`] waits for one success, [`Broadcast::each`] for all outcomes. The layers of the channel see
/// a request for each endpoint.
///
/// The call's timeout is that of the whole broadcast. Dropping it cancels the calls in flight.
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
/// for reply in channel.call::<i64>("Arith.multiply", &(6, 7)).broadcast().await? {
///     println!("{} answers {}", reply.endpoint, reply.value);
/// }
/// // Any endpoint will do:
/// assert_eq!(channel.call::<i64>("Arith.multiply", &(6, 7)).broadcast().any().await?.value, 42);
/// # Ok(())
/// # }
/// ```
#[must_use = "a broadcast is made when it is awaited"]
pub struct Broadcast<T, E> {
    core: Arc<ChannelCore>,
    request: Request,
    decode: DecodeFn<T, E>,
}

/// The reply of one endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointReply<R> {
    /// The address of the endpoint.
    pub endpoint: Address,
    /// The result.
    pub value: R,
}

/// The error of a broadcast, with at least one failure.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BroadcastError<E> {
    /// The failures, in the order in which they came: the first one only, if all had to succeed.
    pub failures: Vec<EndpointFailure<E>>,
}

/// The failure of one endpoint, or the reason why there was none to call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointFailure<E> {
    /// The address of the endpoint; `None` if there was none to call.
    pub endpoint: Option<Address>,
    /// The error of the call.
    pub error: CallError<E>,
}

/// The number of goaways after which a call is made again with a pause.
const AT_ONCE: u32 = 3;

/// The outcomes, in the order in which they come.
type Outcomes<T, E> = FuturesUnordered<BoxFuture<'static, EndpointReply<Result<T, CallError<E>>>>>;

impl<T, E> Broadcast<T, E> {
    pub(super) fn new(core: Arc<ChannelCore>, request: Request, decode: DecodeFn<T, E>) -> Self {
        Self { core, request, decode }
    }
}

impl<T: Send + 'static, E: Send + 'static> Broadcast<T, E> {
    /// Returns the first success; the other calls are cancelled.
    ///
    /// # Errors
    ///
    /// All calls failed: the error has every failure, each with its endpoint.
    pub async fn any(mut self) -> Result<EndpointReply<T>, BroadcastError<E>> {
        let span = CallSpan::open(&mut self.request);
        within_span(span, async {
            let mut outcomes = self.begin().await?;
            let mut failures = Vec::new();
            while let Some(EndpointReply { endpoint, value }) = outcomes.next().await {
                match value {
                    Ok(value) => return Ok(EndpointReply { endpoint, value }),
                    Err(error) => failures.push(EndpointFailure { endpoint: Some(endpoint), error }),
                }
            }
            Err(BroadcastError { failures })
        })
        .await
    }

    /// Returns all outcomes, in the order of the addresses.
    ///
    /// # Errors
    ///
    /// There was no endpoint to call.
    pub async fn each(mut self) -> Result<Vec<EndpointReply<Result<T, CallError<E>>>>, RpcError> {
        let span = CallSpan::open(&mut self.request);
        within_span(span, async {
            let mut all: Vec<_> = self.begin().await?.collect().await;
            all.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
            Ok(all)
        })
        .await
    }

    /// Returns all results, in the order of the addresses, if all succeed.
    async fn all(mut self) -> Result<Vec<EndpointReply<T>>, BroadcastError<E>> {
        let span = CallSpan::open(&mut self.request);
        within_span(span, self.all_untraced()).await
    }

    async fn all_untraced(self) -> Result<Vec<EndpointReply<T>>, BroadcastError<E>> {
        let mut outcomes = self.begin().await?;
        let mut all = Vec::with_capacity(outcomes.len());
        while let Some(EndpointReply { endpoint, value }) = outcomes.next().await {
            match value {
                Ok(value) => all.push(EndpointReply { endpoint, value }),
                Err(error) => {
                    let failure = EndpointFailure { endpoint: Some(endpoint), error };
                    return Err(BroadcastError { failures: vec![failure] });
                }
            }
        }
        all.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
        Ok(all)
    }

    /// Starts a call of every endpoint.
    async fn begin(self) -> Result<Outcomes<T, E>, RpcError> {
        let Self { core, mut request, decode } = self;
        request.start().map_err(|error| error.of(request.method_name()))?;
        request.forget_tries();
        core.budget.deposit();
        let targets = targets(&core, &request).await.map_err(|error| error.of(request.method_name()))?;
        core.totals().count_broadcast(targets.len());
        let request = Arc::new(request);
        let outcomes = targets.into_iter().map(|(endpoint, target)| {
            let (core, request) = (Arc::clone(&core), Arc::clone(&request));
            let call: BoxFuture<'static, _> = Box::pin(async move {
                let outcome = call_one(&request, &core, target).await;
                let value = decode(outcome).map_err(|error| error.of(request.method_name()));
                EndpointReply { endpoint, value }
            });
            call
        });
        Ok(outcomes.collect())
    }
}

/// Returns the endpoints to call, once they are known and before the deadline.
async fn targets(core: &ChannelCore, request: &Request) -> Result<Vec<(Address, BroadcastTarget)>, RpcError> {
    let endpoints = match &core.targets {
        Targets::One(pool) => return Ok(vec![(pool.endpoint().clone(), BroadcastTarget::Only)]),
        Targets::Many(endpoints) => endpoints,
    };
    let all = endpoints.all_when_known(core.waits_for_ready(request));
    let all = match request.deadline() {
        None => all.await?,
        Some(deadline) => timeout_at(deadline.at, all)
            .await
            .unwrap_or_else(|_elapsed| Err(no_connection_to(request, endpoints)))?,
    };
    let target = |backend: Arc<Backend>| {
        let endpoint = backend.pool().endpoint().clone();
        (endpoint, BroadcastTarget::Backend(backend))
    };
    Ok(all.into_iter().map(target).collect())
}

/// Calls one endpoint, through the channel's layers if there are any.
async fn call_one(
    request: &Request,
    core: &ChannelCore,
    target: BroadcastTarget,
) -> Result<Response, RpcError> {
    let Some(layers) = &core.layers else { return call_target(request, core, &target).await };
    let mut request = request.clone();
    request.set_broadcast_target(target);
    through_layers(&**layers, request).await
}

/// Calls one endpoint once: again only if a goaway has refused the call, over the next connection.
pub(super) async fn call_target(
    request: &Request,
    core: &ChannelCore,
    target: &BroadcastTarget,
) -> Result<Response, RpcError> {
    let (mut goaways, mut backoff) = (Goaways::default(), Backoff::new(FIRST_PAUSE, MAX_PAUSE));
    let mut error = match send_to(request, core, target).await {
        Err(error) if goaways.forgive(&error) => error,
        outcome => return outcome,
    };
    let mut request = request.clone();
    loop {
        let pause = if goaways.count() <= AT_ONCE { Duration::ZERO } else { backoff.next_pause() };
        if request.is_over_after(pause) {
            return Err(error);
        }
        sleep(pause).await;
        core.totals().count_retry();
        request.set_attempt(goaways.count() + 1);
        error = match send_to(&request, core, target).await {
            Err(error) if goaways.forgive(&error) => error,
            outcome => return outcome,
        };
    }
}

/// Sends the request to one endpoint.
async fn send_to(
    request: &Request,
    core: &ChannelCore,
    target: &BroadcastTarget,
) -> Result<Response, RpcError> {
    let outcome = match target {
        BroadcastTarget::Only => Attempts::default().once(request, core).await,
        BroadcastTarget::Backend(backend) => call_backend(request, backend).await,
    };
    outcome.inspect_err(|error| core.count_failure(error))
}

impl<T: Send + 'static, E: Send + 'static> IntoFuture for Broadcast<T, E> {
    type Output = Result<Vec<EndpointReply<T>>, BroadcastError<E>>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.all())
    }
}

impl<T, E> fmt::Debug for Broadcast<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broadcast").field("method", &self.request.method()).finish_non_exhaustive()
    }
}

impl<E> BroadcastError<E> {
    /// Returns the first failure.
    #[must_use]
    pub fn first(&self) -> &EndpointFailure<E> {
        &self.failures[0]
    }
}

impl<E> RecordError for BroadcastError<E> {
    fn record_error(&self, span: &mut CallSpan) {
        self.first().error.record_error(span);
    }
}

impl<E> From<RpcError> for BroadcastError<E> {
    /// Creates the error of a broadcast that called no endpoint.
    fn from(error: RpcError) -> Self {
        let failure = EndpointFailure { endpoint: error.endpoint().cloned(), error: CallError::Rpc(error) };
        Self { failures: vec![failure] }
    }
}

impl<E: fmt::Display> fmt::Display for BroadcastError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, EndpointFailure { endpoint, error }) in self.failures.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            // An `RpcError` names its endpoint itself.
            match (endpoint, error) {
                (Some(endpoint), CallError::Application(error)) => write!(f, "{endpoint}: {error}")?,
                (_, error) => error.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl<E: Error + 'static> Error for BroadcastError<E> {
    /// Returns the source of the first failure's error, whose text is part of this one's; see [`BroadcastError::first`].
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.first().error.source()
    }
}
