//! The endpoint of each attempt of a call: which one, over which connection, and before the deadline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_discovery::PickRequest;
use farcall_protocol::{Code, Execution};
use farcall_transport::HumanDuration;
use tokio::time::{Instant, timeout, timeout_at};

use super::channel_core::{ChannelCore, Targets};
use super::in_flight_call::InFlightCall;
use super::request::Request;
use super::retry_policy::RetryMode;
use crate::connection::Connection;
use crate::connection::pool::ConnectionPool;
use crate::connection::request::{EncodedRequest, SendError};
use crate::connection::response::Response;
use crate::endpoints::Endpoints;
use crate::endpoints::backend::Backend;
use crate::endpoints::guard::InFlightGuard;
use crate::error::{Phase, RpcError};

/// Chooses the endpoint of each attempt of one call, and remembers those that were tried.
#[derive(Debug, Default)]
pub(super) struct EndpointChoice {
    /// Behind a lock, since two attempts of a hedged call may be under way at once.
    history: Mutex<AttemptHistory>,
}

/// The endpoints that a call was sent to.
#[derive(Debug, Default)]
struct AttemptHistory {
    tried: Vec<u64>,
    last: Option<Arc<Backend>>,
    /// `true` if all further attempts go to the last endpoint.
    bound: bool,
    /// The endpoint of the next attempt, if it was picked already.
    next: Option<InFlightGuard>,
    /// The endpoint that the attempt connects to, once it is picked.
    connecting: Option<Arc<Backend>>,
    /// Attempts after the first, hedged requests included.
    retries: u32,
}

/// The longest time that a call waits for a dial if another endpoint can be used; half of the call's time at most.
/// Shorter, and busy servers are skipped until they have answered; longer, and calls wait for dead ones.
const MAX_DIAL_WAIT: Duration = Duration::from_secs(1);

impl EndpointChoice {
    /// Creates a choice whose first attempt goes to the endpoint that `next` names.
    pub(super) fn starting_at(next: Option<InFlightGuard>) -> Self {
        Self { history: Mutex::new(AttemptHistory { next, ..AttemptHistory::default() }) }
    }

    /// Creates a choice whose first attempt was made at the endpoint that `first` names.
    pub(super) fn after(first: Option<InFlightGuard>) -> Self {
        let mut history = AttemptHistory::default();
        if let Some(first) = first {
            history.record(first.backend());
        }
        Self { history: Mutex::new(history) }
    }

    /// Creates a choice whose first attempt goes to another endpoint than this one, if there is one.
    pub(super) fn avoiding(backend: Option<Arc<Backend>>) -> Self {
        let mut history = AttemptHistory::default();
        history.tried.extend(backend.map(|backend| backend.id()));
        Self { history: Mutex::new(history) }
    }

    /// Returns `true` if the call can be sent to an endpoint that was not tried.
    pub(super) fn has_others(&self, core: &ChannelCore) -> bool {
        match &core.targets {
            Targets::Many(endpoints) => endpoints.has_others(&self.history().tried),
            Targets::One(_) => false,
        }
    }

    /// Forgets which endpoints were tried, so that all of them may be tried again.
    pub(super) fn forget(&self) {
        self.history().tried.clear();
    }

    /// Sends all further attempts to the endpoint of the last one, which may have carried out the call.
    pub(super) fn bind_to_last(&self) {
        self.history().bound = true;
    }

    /// Returns `true` after [`EndpointChoice::bind_to_last`].
    pub(super) fn is_bound(&self) -> bool {
        self.history().bound
    }

    /// Counts another attempt, and returns its number. The first attempt is number 1.
    pub(super) fn next_attempt(&self) -> u32 {
        let mut history = self.history();
        history.retries = history.retries.saturating_add(1);
        history.retries.saturating_add(1)
    }

    /// Chooses and connects an endpoint, then sends the request with `send`, all before the deadline.
    pub(super) async fn send<T>(
        &self,
        request: &Request,
        core: &ChannelCore,
        send: impl AsyncFnOnce(&Connection, &EncodedRequest<'_>, &mut Phase) -> Result<T, SendError>,
    ) -> Result<(T, Option<InFlightGuard>), RpcError> {
        match &core.targets {
            Targets::One(pool) => {
                let connect = async { Ok((pool.connection().await?, None)) };
                let waits_for = || Unconnected::Dialing(pool);
                send_before_deadline(request, connect, send)
                    .await
                    .map_err(|stuck| stuck.error(request, waits_for))
            }
            Targets::Many(endpoints) => {
                self.history().connecting = None;
                let sent = send_before_deadline(request, self.connect(request, core, endpoints), send).await;
                sent.map_err(|stuck| {
                    let connecting = self.history().connecting.take();
                    stuck.error(request, || match &connecting {
                        Some(backend) => Unconnected::Dialing(backend.pool()),
                        None => Unconnected::Picking(endpoints),
                    })
                })
            }
        }
    }

    /// Picks an endpoint, and dials it if need be.
    async fn connect(
        &self,
        request: &Request,
        core: &ChannelCore,
        endpoints: &Endpoints,
    ) -> Result<(Connection, Option<InFlightGuard>), RpcError> {
        let same_endpoint = self.is_bound() || core.retry_policy(request).mode == RetryMode::SameEndpoint;
        loop {
            let guard = self.pick(request, core, endpoints, same_endpoint).await?;
            self.history().record_connecting(guard.backend());
            let pool = guard.backend().pool();
            let replaceable = !same_endpoint && self.has_others(core);
            // If another endpoint can be used, no call waits for a dial: the endpoints' task dials meanwhile.
            if replaceable && pool.is_lost() {
                guard.backend().mark_unreachable(pool.lost_error());
                continue;
            }
            let dialed = if replaceable {
                let Ok(dialed) = timeout(dial_timeout(request), pool.connection()).await else {
                    guard.backend().mark_unreachable(pool.slow_dial_error());
                    continue;
                };
                dialed
            } else {
                pool.connection().await
            };
            return guard.connected(dialed).map(|(connection, guard)| (connection, Some(guard)));
        }
    }

    /// Picks the endpoint of this attempt.
    async fn pick(
        &self,
        request: &Request,
        core: &ChannelCore,
        endpoints: &Endpoints,
        same_endpoint: bool,
    ) -> Result<InFlightGuard, RpcError> {
        let (next, last, tried) = {
            let mut history = self.history();
            (history.next.take(), history.last.clone().filter(|_| same_endpoint), history.tried.clone())
        };
        if let Some(guard) = next.or_else(|| last.as_ref().map(InFlightGuard::new)) {
            return Ok(guard);
        }
        let key = request.routing_key(endpoints.key_source(), &core.codec);
        let pick = PickRequest::new(key.as_deref(), &tried);
        endpoints.pick_when_known(&pick, core.waits_for_ready(request)).await
    }

    fn history(&self) -> MutexGuard<'_, AttemptHistory> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AttemptHistory {
    fn record(&mut self, backend: &Arc<Backend>) {
        if !self.tried.contains(&backend.id()) {
            self.tried.push(backend.id());
        }
        self.last = Some(Arc::clone(backend));
    }

    fn record_connecting(&mut self, backend: &Arc<Backend>) {
        self.record(backend);
        self.connecting = Some(Arc::clone(backend));
    }
}

/// The reason why a request was not sent.
enum Unsent {
    /// An error of connecting or sending.
    Failed(RpcError),
    /// The deadline passed before there was a connection.
    Unconnected,
}

/// The thing that a call without a connection waits for.
enum Unconnected<'a> {
    /// An endpoint to call.
    Picking(&'a Endpoints),
    /// A connection to this one.
    Dialing(&'a ConnectionPool),
}

impl Unsent {
    #[cold]
    fn error<'a>(self, request: &Request, waits_for: impl FnOnce() -> Unconnected<'a>) -> RpcError {
        match self {
            Self::Failed(error) => error,
            Self::Unconnected => no_connection(request, &waits_for()),
        }
    }
}

/// Creates the error of a request whose deadline passed before there was a connection.
pub(super) fn no_connection_to(request: &Request, endpoints: &Endpoints) -> RpcError {
    no_connection(request, &Unconnected::Picking(endpoints))
}

fn no_connection(request: &Request, waits_for: &Unconnected<'_>) -> RpcError {
    let limit = request.deadline().map_or(Duration::ZERO, |deadline| deadline.limit);
    let exceeded = |phase, message| RpcError::new(Code::DeadlineExceeded, Execution::NotSent, phase, message);
    match waits_for {
        Unconnected::Picking(endpoints) => {
            let found = endpoints.unavailable_reason();
            exceeded(Phase::Pick, format!("no endpoint within {}: {found}", HumanDuration(limit)))
        }
        Unconnected::Dialing(pool) => {
            let (phase, message) = pool.dial_progress().unfinished("no connection", limit);
            exceeded(phase, message).at(pool.endpoint())
        }
    }
}

/// Returns how long this call waits for a dial if another endpoint can be used.
fn dial_timeout(request: &Request) -> Duration {
    let left = request.deadline().map(|deadline| deadline.at.saturating_duration_since(Instant::now()));
    left.map_or(MAX_DIAL_WAIT, |left| MAX_DIAL_WAIT.min(left / 2))
}

/// Makes a call once, at this backend, before its deadline.
pub(super) async fn call_backend(request: &Request, backend: &Arc<Backend>) -> Result<Response, RpcError> {
    let pool = backend.pool();
    let guard = InFlightGuard::new(backend);
    let connect = async {
        let (connection, guard) = guard.connected(pool.connection().await)?;
        Ok((connection, Some(guard)))
    };
    let send = async |connection: &Connection, request: &EncodedRequest<'_>, phase: &mut Phase| {
        connection.send(request, phase).await
    };
    let sent = send_before_deadline(request, connect, send).await;
    let (pending, guard) = sent.map_err(|stuck| stuck.error(request, || Unconnected::Dialing(pool)))?;
    InFlightCall::new(pending, guard, None).await
}

/// Sends the request with `send` over the connection that `connect` returns, all before the deadline.
async fn send_before_deadline<T>(
    request: &Request,
    connect: impl Future<Output = Result<(Connection, Option<InFlightGuard>), RpcError>>,
    send: impl AsyncFnOnce(&Connection, &EncodedRequest<'_>, &mut Phase) -> Result<T, SendError>,
) -> Result<(T, Option<InFlightGuard>), Unsent> {
    let mut phase = Phase::Connect;
    let mut endpoint = None;
    let steps = async {
        let (connection, guard) = connect.await?;
        endpoint = Some(connection.endpoint().clone());
        let encoded = request.encode(&connection)?;
        phase = Phase::Queue;
        let sent = send(&connection, &encoded, &mut phase).await;
        let sent = sent.map_err(|error| connection.handle().send_error(&encoded, &error, phase))?;
        Ok((sent, guard))
    };
    let Some(deadline) = request.deadline() else { return steps.await.map_err(Unsent::Failed) };
    match timeout_at(deadline.at, steps).await {
        Ok(result) => result.map_err(Unsent::Failed),
        Err(_elapsed) => Err(match endpoint {
            Some(endpoint) => Unsent::Failed(request.deadline_exceeded(phase).at(&endpoint)),
            None => Unsent::Unconnected,
        }),
    }
}
