//! A call of every endpoint at once.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::sync::Arc;

use farcall_transport::Address;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::timeout_at;

use crate::call::Read;
use crate::call::endpoint_choice::call_at;
use crate::call::request::{Ready, Request};
use crate::call::span::{CallSpan, Fails, within as within_span};
use crate::channel::{Inner, Targets};
use crate::connection::response::Answer;
use crate::error::{CallError, Phase, RpcError};

/// A call of every endpoint at once: of all that are known and not drained, those included that
/// are left out at the moment because they failed. Each is tried once, whatever the failure mode.
///
/// Awaited, all must succeed: the first error cancels the rest and is returned with its endpoint.
/// [`Broadcast::any`] wants one success, [`Broadcast::each`] every outcome.
///
/// The call's timeout is that of the whole broadcast. Dropping it cancels what is under way.
#[must_use = "a broadcast is made when it is awaited"]
pub struct Broadcast<T, E> {
    inner: Arc<Inner>,
    request: Request,
    read: Read<T, E>,
}

/// What one endpoint said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointReply<R> {
    /// Who.
    pub endpoint: Address,
    /// What.
    pub value: R,
}

/// A broadcast that failed: who said what. There is at least one failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BroadcastError<E> {
    /// Each failure, in the order in which they came: the first one only, where all had to succeed.
    pub failures: Vec<EndpointFailure<E>>,
}

/// One endpoint's failure, or that there was none to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointFailure<E> {
    /// Who; none where there was nobody.
    pub endpoint: Option<Address>,
    /// What went wrong.
    pub error: CallError<E>,
}

/// The outcomes, as they come.
type Outcomes<T, E> = FuturesUnordered<BoxFuture<'static, EndpointReply<Result<T, CallError<E>>>>>;

impl<T, E> Broadcast<T, E> {
    pub(crate) fn new(inner: Arc<Inner>, request: Request, read: Read<T, E>) -> Self {
        Self { inner, request, read }
    }
}

impl<T: Send + 'static, E: Send + 'static> Broadcast<T, E> {
    /// The first success, whoever's it is; the rest is cancelled.
    ///
    /// # Errors
    ///
    /// Nobody succeeded: every failure, each with its endpoint.
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

    /// What each of them said, in the order of their addresses.
    ///
    /// # Errors
    ///
    /// There was nobody to ask.
    pub async fn each(mut self) -> Result<Vec<EndpointReply<Result<T, CallError<E>>>>, RpcError> {
        let span = CallSpan::open(&mut self.request);
        within_span(span, async {
            let outcomes = self.begin().await.map_err(|nobody| match nobody.failures.into_iter().next() {
                Some(EndpointFailure { error: CallError::Rpc(error), .. }) => error,
                _ => unreachable!("a broadcast that does not begin has one error, which is farcall's"),
            })?;
            let mut all: Vec<_> = outcomes.collect().await;
            all.sort_by(|a, b| a.endpoint.cmp(&b.endpoint));
            Ok(all)
        })
        .await
    }

    /// What each of them said, in the order of their addresses, where all succeeded.
    async fn all(mut self) -> Result<Vec<EndpointReply<T>>, BroadcastError<E>> {
        let span = CallSpan::open(&mut self.request);
        within_span(span, self.all_unseen()).await
    }

    async fn all_unseen(self) -> Result<Vec<EndpointReply<T>>, BroadcastError<E>> {
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

    /// Calls everybody.
    async fn begin(self) -> Result<Outcomes<T, E>, BroadcastError<E>> {
        let Self { inner, request, read } = self;
        let ready = Arc::new(request.ready()?);
        inner.budget.deposit();
        let outcomes = Outcomes::new();
        match &inner.targets {
            Targets::One(links) => {
                let endpoint = links.endpoint().clone();
                let inner = Arc::clone(&inner);
                outcomes.push(Box::pin(async move {
                    let answer = inner.call_once(&ready).await;
                    EndpointReply { endpoint, value: read(Answer::named(answer, ready.method().clone())) }
                }));
            }
            Targets::Many(endpoints) => {
                let everybody = endpoints.everybody(inner.waits_for_ready(&ready));
                for member in within(&ready, everybody).await? {
                    let ready = Arc::clone(&ready);
                    outcomes.push(Box::pin(async move {
                        let answer = call_at(&ready, &member).await;
                        let value = read(Answer::named(answer, ready.method().clone()));
                        EndpointReply { endpoint: member.links().endpoint().clone(), value }
                    }));
                }
            }
        }
        Ok(outcomes)
    }
}

/// The outcome of `finding`, if it is there in time.
async fn within<F>(ready: &Ready, finding: impl Future<Output = Result<F, RpcError>>) -> Result<F, RpcError> {
    let found = match ready.deadline {
        None => finding.await,
        Some(deadline) => {
            let found = timeout_at(deadline.at, finding).await;
            found.unwrap_or_else(|_| Err(ready.out_of_time(Phase::Connect)))
        }
    };
    found.map_err(|error| error.of(ready.method().clone()))
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
    /// The first failure.
    #[must_use]
    pub fn first(&self) -> &EndpointFailure<E> {
        &self.failures[0]
    }
}

impl<E> Fails for BroadcastError<E> {
    fn tell(&self, span: &mut CallSpan) {
        self.first().error.tell(span);
    }
}

impl<E> From<RpcError> for BroadcastError<E> {
    /// Nobody was asked.
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
            // farcall's own errors name their endpoint themselves.
            match (endpoint, error) {
                (Some(endpoint), CallError::Application(error)) => write!(f, "{endpoint}: {error}")?,
                (_, error) => error.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for BroadcastError<E> {}
