//! The endpoint of each attempt of a call: which one, over which connection, and before the deadline.

use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_discovery::PickRequest;
use farcall_runtime::time::{Instant, timeout};
use farcall_transport::Address;
use futures::StreamExt as _;
use futures::future::{Either, select};
use futures::stream::FuturesUnordered;

use super::channel_core::{ChannelCore, Targets};
use super::request::Request;
use super::retry_policy::RetryMode;
use super::sending::{
    Progress, Unconnected, before_deadline, no_connection, place_at, send_over, unplaced, wait_at,
};
use crate::connection::Connection;
use crate::connection::place::{Place, PlaceKind};
use crate::connection::request::{EncodedRequest, SendError};
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

/// The most endpoints at which a call waits for a place at once.
const MAX_FULL: usize = 8;
/// The interval in which a call that waits for a place looks for other endpoints without being notified.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

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

    /// Returns the endpoint that was chosen last.
    pub(super) fn last(&self) -> Option<Address> {
        self.history().last.as_ref().map(|backend| backend.pool().endpoint().clone())
    }

    /// Counts another attempt, and returns its number. The first attempt is number 1.
    pub(super) fn next_attempt(&self) -> u32 {
        let mut history = self.history();
        history.retries = history.retries.saturating_add(1);
        history.retries.saturating_add(1)
    }

    /// Chooses and connects an endpoint, waits for a place of this kind, then sends the request with `send`, all before the
    /// deadline.
    pub(super) async fn send<T>(
        &self,
        request: &Request,
        core: &ChannelCore,
        kind: PlaceKind,
        send: impl AsyncFnOnce(Place, &EncodedRequest<'_>, &mut Phase) -> Result<T, SendError>,
    ) -> Result<(T, Option<InFlightGuard>), RpcError> {
        self.history().connecting = None;
        let mut progress = Progress::new();
        let steps = async {
            let (place, guard) = match &core.targets {
                Targets::One(pool) => (place_at(pool, request, kind, &mut progress).await?, None),
                Targets::Many(endpoints) => {
                    let (place, guard) = self.place(request, core, endpoints, kind, &mut progress).await?;
                    (place, Some(guard))
                }
            };
            Ok((send_over(place, request, &mut progress, send).await?, guard))
        };
        match before_deadline(request, steps).await {
            Some(sent) => sent,
            None => {
                Err(progress.error(request, || match (&core.targets, self.history().connecting.take()) {
                    (Targets::One(pool), _) => no_connection(request, &Unconnected::Dialing(pool)),
                    (Targets::Many(_), Some(backend)) => {
                        no_connection(request, &Unconnected::Dialing(backend.pool()))
                    }
                    (Targets::Many(endpoints), None) => {
                        no_connection(request, &Unconnected::Picking(endpoints))
                    }
                }))
            }
        }
    }

    /// Picks and connects an endpoint that has a place for the call. If the one that is picked first has none, others are
    /// asked; then it waits at those that have none. If the connections end meanwhile, such as those of an endpoint that has
    /// left the list, it begins again: a call that was not sent is not tied to one endpoint.
    async fn place(
        &self,
        request: &Request,
        core: &ChannelCore,
        endpoints: &Endpoints,
        kind: PlaceKind,
        progress: &mut Progress,
    ) -> Result<(Place, InFlightGuard), RpcError> {
        let same_endpoint = self.is_bound() || core.retry_policy(request).mode == RetryMode::SameEndpoint;
        loop {
            // An endpoint whose connections end at once is dialed with pauses, which are errors here, so the loop ends.
            let (connection, guard) = self.connect(request, core, endpoints, same_endpoint).await?;
            match guard.backend().pool().try_place(kind, request.body().len()) {
                Err(SendError::TooManyInFlight) => {}
                Err(SendError::Closed) => {
                    guard.forget();
                    continue;
                }
                placed => {
                    let place = placed.map_err(|error| unplaced(request, &connection, &error))?;
                    return Ok((place, guard));
                }
            }
            // A call with a key is for one endpoint.
            let may_move =
                !same_endpoint && request.routing_key(endpoints.key_source(), &core.codec).is_none();
            progress.wait_for_place(request, &connection, guard.backend().pool(), kind)?;
            match self.wait_at_several(request, core, endpoints, kind, guard, may_move).await {
                Err(SendError::Closed) => progress.lost_connection(request),
                placed => return placed.map_err(|error| unplaced(request, &connection, &error)),
            }
        }
    }

    /// Waits for a place at the endpoint of `guard`, which has none; if the call may be made elsewhere, at others as well,
    /// which have to be picked first.
    async fn wait_at_several(
        &self,
        request: &Request,
        core: &ChannelCore,
        endpoints: &Endpoints,
        kind: PlaceKind,
        guard: InFlightGuard,
        may_move: bool,
    ) -> Result<(Place, InFlightGuard), SendError> {
        let mut full = vec![guard.backend().id()];
        // Those that are dropped in the end give back the places that they were given in the same moment.
        let bytes = request.body().len();
        let mut waits: FuturesUnordered<_> = std::iter::once(wait_at(guard, kind, bytes)).collect();
        let placed = loop {
            let look = async {
                if !may_move || full.len() >= MAX_FULL {
                    return pending().await;
                }
                if self.has_others(core) {
                    return self.connect(request, core, endpoints, false).await.ok();
                }
                // Others may come.
                let _ = timeout(POLL_INTERVAL, endpoints.changed()).await;
                None
            };
            let found = match select(waits.next(), pin!(look)).await {
                Either::Left((waited, _)) => Err(waited),
                Either::Right((found, _)) => Ok(found),
            };
            let found = match found {
                Err(Some((Ok(place), waiting))) => match waiting.into_guard() {
                    Some(guard) => break Ok((place, guard)),
                    None => continue,
                },
                Err(Some((Err(error), _))) if waits.is_empty() => break Err(error),
                Err(None) => break Err(SendError::Closed),
                Err(Some(_)) | Ok(None) => continue,
                Ok(Some((_, guard))) => guard,
            };
            match found.backend().pool().try_place(kind, bytes) {
                Ok(place) => break Ok((place, found)),
                Err(_) => {
                    full.push(found.backend().id());
                    waits.push(wait_at(found, kind, bytes));
                }
            }
        };
        let mut history = self.history();
        // They were not tried.
        history.tried.retain(|id| !full.contains(id));
        if let Ok((_, guard)) = &placed {
            history.record(guard.backend());
        }
        drop(history);
        placed
    }

    /// Picks an endpoint, and dials it if need be.
    async fn connect(
        &self,
        request: &Request,
        core: &ChannelCore,
        endpoints: &Endpoints,
        same_endpoint: bool,
    ) -> Result<(Connection, InFlightGuard), RpcError> {
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
            return guard.connected(dialed);
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

/// Returns how long this call waits for a dial if another endpoint can be used.
fn dial_timeout(request: &Request) -> Duration {
    let left = request.deadline().map(|deadline| deadline.at.saturating_duration_since(Instant::now()));
    left.map_or(MAX_DIAL_WAIT, |left| MAX_DIAL_WAIT.min(left / 2))
}
