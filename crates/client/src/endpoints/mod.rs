//! The endpoints of a channel that come and go, and the choice among them.
//!
//! A [`Backend`] is what is known of one of them; the task in [`watch`] keeps all of them and replaces the
//! [`Snapshot`] that calls read.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{Balancer, KeySource, PickRequest};
use farcall_protocol::{Code, Execution};
use farcall_runtime::time::timeout;
use farcall_transport::HumanDuration;
use tokio::task::yield_now;
use tokio_util::sync::CancellationToken;

use self::backend::Backend;
use self::guard::InFlightGuard;
use self::outlier_detection::OutlierDetection;
use self::shared::{Follower, Shared};
use self::snapshot::{Snapshot, SnapshotEntry};
use self::source::Source;
use self::status::EndpointStatus;
use self::watch::follow;
use crate::connection::Connection;
use crate::connection::closing::Closing;
use crate::connection::options::ConnectionOptions;
use crate::connection::pool::PoolSize;
use crate::error::{Phase, RpcError};
use crate::totals::Totals;

pub(crate) mod backend;
pub(crate) mod guard;
pub(crate) mod outlier_detection;
mod probe;
mod reach;
mod shared;
mod snapshot;
pub(crate) mod source;
pub(crate) mod status;
mod watch;

/// Endpoints that come and go, and the choice among them. Dropping it ends its task and, after the calls in
/// flight, its connections.
///
/// The first call starts the task, in its runtime. When that runtime has ended, the next call starts another one.
pub(crate) struct Endpoints {
    shared: Arc<Shared>,
    source: Arc<Source>,
    /// Ends the task when this is dropped.
    dropped: CancellationToken,
}

impl Endpoints {
    pub(crate) fn new(
        source: Source,
        balancer: Box<dyn Balancer>,
        options: Arc<ConnectionOptions>,
        connections: PoolSize,
        outlier_detection: OutlierDetection,
    ) -> Self {
        let shared = Shared::new(source.origin.clone(), balancer, options, connections, outlier_detection);
        Self { shared: Arc::new(shared), source: Arc::new(source), dropped: CancellationToken::new() }
    }

    /// Returns where the balancer takes the key of a call from.
    pub(crate) fn key_source(&self) -> &KeySource {
        &self.shared.key_source
    }

    /// Picks the endpoint of a call; `None` if no endpoint is known that takes calls.
    pub(crate) fn pick(&self, request: &PickRequest<'_>) -> Option<InFlightGuard> {
        self.shared.snapshot.load().pick(request)
    }

    /// Picks the endpoint of a call once there is a list, which the first call starts to look for. With
    /// `wait`, it also waits until there is an endpoint that takes calls.
    ///
    /// # Errors
    ///
    /// No endpoint takes calls; the error names the reason.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, for the first call.
    pub(crate) async fn pick_when_known(
        &self,
        request: &PickRequest<'_>,
        wait: bool,
    ) -> Result<InFlightGuard, RpcError> {
        self.find(wait, |snapshot| snapshot.pick(request)).await
    }

    /// Returns all endpoints that are not drained, at least one, once there is a list. Everything else is as
    /// for [`Endpoints::pick_when_known`].
    pub(crate) async fn all_when_known(&self, wait: bool) -> Result<Vec<Arc<Backend>>, RpcError> {
        let all = |snapshot: &Snapshot| -> Vec<_> { snapshot.undrained().cloned().collect() };
        self.find(wait, |snapshot| Some(all(snapshot)).filter(|all| !all.is_empty())).await
    }

    /// Connects to an endpoint; to another one if that fails, until all have been tried.
    pub(crate) async fn connect(&self) -> Result<(), RpcError> {
        let mut tried = Vec::new();
        loop {
            let guard = self.pick_when_known(&PickRequest::new(None, &tried), false).await?;
            let backend = Arc::clone(guard.backend());
            let Err(error) = guard.connected(backend.pool().connection().await) else { return Ok(()) };
            tried.push(backend.id());
            if !self.has_others(&tried) {
                return Err(error);
            }
        }
    }

    /// Returns what `wanted` finds in the snapshot, once there is a list; with `wait`, once it finds something.
    async fn find<T>(&self, wait: bool, wanted: impl Fn(&Snapshot) -> Option<T>) -> Result<T, RpcError> {
        let found = async {
            loop {
                // Created before the check, so that a snapshot replaced in between is noticed.
                let replaced = self.shared.replaced.notified();
                // Each time, since the runtime of the last task may have ended meanwhile.
                self.start();
                let snapshot = self.shared.snapshot.load_full();
                if let Some(found) = wanted(&snapshot) {
                    return Some(found);
                }
                if snapshot.is_final() || snapshot.is_known() && !wait {
                    return None;
                }
                drop(snapshot);
                replaced.await;
                // A runtime that is being shut down drops the task at once, which is a replacement, too: it must get to
                // drop this one as well.
                yield_now().await;
            }
        };
        // A call that waits is limited by its deadline, which its caller enforces.
        if wait {
            return found.await.ok_or_else(|| self.unavailable_error(None));
        }
        let limit = self.shared.options.connect_limit();
        let found = timeout(limit, found).await;
        found.ok().flatten().ok_or_else(|| self.unavailable_error(Some(limit)))
    }

    /// Waits until the endpoints, or what is known of them, change.
    pub(crate) async fn changed(&self) {
        self.shared.replaced.notified().await;
    }

    /// Returns the endpoints with what is known of each, drained ones included.
    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        let snapshot = self.shared.snapshot.load();
        snapshot.entries.iter().map(|SnapshotEntry { endpoint, backend }| backend.status(endpoint)).collect()
    }

    /// Returns the counters of the channel.
    pub(crate) fn totals(&self) -> &Arc<Totals> {
        &self.shared.totals
    }

    /// Returns the description of the source of the endpoints.
    pub(crate) fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// Returns the description of the balancer.
    pub(crate) fn balancer(&self) -> String {
        self.shared.balancer.describe()
    }

    /// Returns the time since the list was last known to be true.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.shared.age()
    }

    /// Returns `true` if there is an endpoint to pick that is not among these.
    pub(crate) fn has_others(&self, tried: &[u64]) -> bool {
        self.shared.snapshot.load().has_others(tried)
    }

    /// Returns any connection that takes calls.
    pub(crate) fn any_ready(&self) -> Option<Connection> {
        self.shared.snapshot.load().entries.iter().find_map(|entry| entry.backend.pool().any_ready())
    }

    /// Closes all connections; a later call dials again.
    pub(crate) fn close(&self) -> Closing {
        let snapshot = self.shared.snapshot.load();
        Closing::all(snapshot.entries.iter().map(|entry| entry.backend.pool().close()).collect())
    }

    /// Waits until all that was sent over the connections in use is handed to the operating system.
    pub(crate) async fn flush(&self) -> Result<(), RpcError> {
        let snapshot = self.shared.snapshot.load_full();
        let mut outcome = Ok(());
        for entry in &snapshot.entries {
            outcome = outcome.and(entry.backend.pool().flush().await);
        }
        outcome
    }

    /// Returns `true` if there is no endpoint to pick, and waiting for one is of no use.
    pub(crate) fn is_hopeless(&self) -> bool {
        let snapshot = self.shared.snapshot.load();
        snapshot.is_final() && snapshot.usable().is_empty()
    }

    /// Starts the task in this runtime, unless it runs in one.
    fn start(&self) {
        let Some(follower) = Follower::claim(&self.shared) else { return };
        // It gives the right back if there is no runtime, or the runtime drops the task at once.
        let task = follow(follower, Arc::clone(&self.source));
        // Its errors are in the snapshot.
        farcall_runtime::spawn(self.dropped.clone().run_until_cancelled_owned(task));
    }

    /// Returns the source of the endpoints, and the reason why none of them takes calls.
    pub(crate) fn unavailable_reason(&self) -> String {
        let reason = self.shared.snapshot.load().unavailable_reason();
        let reason = reason.unwrap_or_else(|| "it has not answered yet".to_owned());
        format!("{}: {reason}", self.shared.origin)
    }

    fn unavailable_error(&self, limit: Option<Duration>) -> RpcError {
        let reason = self.shared.snapshot.load().unavailable_reason();
        let reason = reason.unwrap_or_else(|| match limit {
            Some(limit) => format!("nothing was found within {}", HumanDuration(limit)),
            None => "nothing was found".to_owned(),
        });
        let message = format!("no endpoint: {}: {reason}", self.shared.origin);
        RpcError::new(Code::Unavailable, Execution::NotSent, Phase::Pick, message)
    }
}

impl fmt::Debug for Endpoints {
    /// Shows counts only, since there may be ten thousand endpoints.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.shared.snapshot.load();
        f.debug_struct("Endpoints")
            .field("origin", &self.shared.origin)
            .field("balancer", &self.shared.balancer)
            .field("found", &snapshot.entries.len())
            .field("usable", &snapshot.usable().len())
            .finish_non_exhaustive()
    }
}

impl Drop for Endpoints {
    /// Ends the task, which otherwise would run on with its clone of the shared state.
    fn drop(&mut self) {
        self.dropped.cancel();
    }
}
