//! The endpoints of a channel: one that is fixed, or many that come and go.
//!
//! What is known of one of many is in [`backend`]; the task that keeps all of them is in [`watch`].

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use farcall_discovery::{Balancer, KeySource, PickRequest, Subscription};
use farcall_protocol::{Code, Execution};
use farcall_transport::HumanDuration;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::timeout;

pub(crate) use self::backend::Member;
pub(crate) use self::guard::Visit;
use self::snapshot::{Seat, Snapshot};
pub use self::status::{EndpointStatus, Health};
pub(crate) use self::watch::Source;
use self::watch::Watch;
use crate::connection::Connection;
use crate::connection::options::ConnectionOptions;
use crate::endpoints::outlier_detection::OutlierDetection;
use crate::error::{Phase, RpcError};

mod backend;
mod guard;
pub(crate) mod outlier_detection;
mod probe;
mod snapshot;
mod status;
mod watch;

/// Endpoints that come and go, and the choice among them. Dropping it ends its task and, behind
/// what is under way, its connections.
pub(crate) struct Endpoints {
    shared: Arc<Shared>,
    /// What the task will be made of, until the first call starts it.
    source: Mutex<Option<Source>>,
    task: Mutex<Option<AbortHandle>>,
}

/// What the calls and the task share.
pub(crate) struct Shared {
    /// Who there is to choose among, replaced as a whole by the task.
    snapshot: ArcSwap<Snapshot>,
    /// Told when the snapshot was replaced.
    replaced: Notify,
    /// What the source says, once it was asked. That a list was confirmed makes no new snapshot, so
    /// that its age is to be found only here.
    list: OnceLock<Subscription>,
    /// Told by members whose health has changed.
    unwell: Arc<Notify>,
    balancer: Box<dyn Balancer>,
    key: KeySource,
    options: Arc<ConnectionOptions>,
    connections: usize,
    outlier_detection: OutlierDetection,
    /// Where the endpoints come from, for people.
    origin: String,
}

impl Endpoints {
    pub(crate) fn new(
        source: Source,
        balancer: Box<dyn Balancer>,
        options: Arc<ConnectionOptions>,
        connections: usize,
        outlier_detection: OutlierDetection,
    ) -> Self {
        let shared = Shared {
            snapshot: ArcSwap::default(),
            replaced: Notify::new(),
            list: OnceLock::new(),
            unwell: Arc::default(),
            key: balancer.key(),
            balancer,
            options,
            connections,
            outlier_detection,
            origin: source.origin.clone(),
        };
        Self { shared: Arc::new(shared), source: Mutex::new(Some(source)), task: Mutex::default() }
    }

    /// Where the key of a call comes from.
    pub(crate) fn key(&self) -> &KeySource {
        &self.shared.key
    }

    /// Where a call goes; none where nobody can be called as far as is known.
    pub(crate) fn pick(&self, asked: &PickRequest<'_>) -> Option<Visit> {
        self.shared.snapshot.load().pick(asked)
    }

    /// Where a call goes, once there has been a list; the first call has it made. With `patience`,
    /// as soon as there is anybody to be called.
    ///
    /// # Errors
    ///
    /// There is nobody, and why.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, for the first call.
    pub(crate) async fn visit(&self, asked: &PickRequest<'_>, patience: bool) -> Result<Visit, RpcError> {
        self.find(patience, |snapshot| snapshot.pick(asked)).await
    }

    /// All that may be called, once there has been a list; never empty. For the rest it is as
    /// [`Endpoints::visit`].
    pub(crate) async fn everybody(&self, patience: bool) -> Result<Vec<Arc<Member>>, RpcError> {
        let everybody = |snapshot: &Snapshot| -> Vec<_> { snapshot.known().cloned().collect() };
        self.find(patience, |snapshot| Some(everybody(snapshot)).filter(|all| !all.is_empty())).await
    }

    /// Has a connection made to somebody.
    pub(crate) async fn connect(&self) -> Result<(), RpcError> {
        let mut tried = Vec::new();
        loop {
            let visit = self.visit(&PickRequest::new(None, &tried), false).await?;
            let member = Arc::clone(visit.member());
            let Err(error) = visit.over(member.links().connection().await) else { return Ok(()) };
            tried.push(member.id());
            if !self.has_others(&tried) {
                return Err(error);
            }
        }
    }

    /// What `wanted` finds in the list, once there has been one, or with `patience`, once it is found.
    async fn find<T>(&self, patience: bool, wanted: impl Fn(&Snapshot) -> Option<T>) -> Result<T, RpcError> {
        self.start();
        let waiting = async {
            loop {
                // Made before it is looked: it hears of what is replaced from here on.
                let replaced = self.shared.replaced.notified();
                let snapshot = self.shared.snapshot.load_full();
                if let Some(found) = wanted(&snapshot) {
                    return Some(found);
                }
                if snapshot.is_known() && !patience {
                    return None;
                }
                drop(snapshot);
                replaced.await;
            }
        };
        // However patient a call is, its own deadline is around this.
        let limit = if patience { Duration::MAX } else { self.shared.options.connect_limit() };
        let found = timeout(limit, waiting).await;
        found.ok().flatten().ok_or_else(|| self.nobody(limit))
    }

    /// Ready when the endpoints, or what is known of them, change from now on.
    pub(crate) async fn changed(&self) {
        self.shared.replaced.notified().await;
    }

    /// The endpoints with what is known of each, drained ones included.
    pub(crate) fn status(&self) -> Vec<EndpointStatus> {
        let snapshot = self.shared.snapshot.load();
        snapshot.seats.iter().map(|Seat { endpoint, member }| member.status(endpoint)).collect()
    }

    /// Where the endpoints come from, for people.
    pub(crate) fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// Who chooses among them, for people.
    pub(crate) fn balancer(&self) -> String {
        self.shared.balancer.describe()
    }

    /// How long ago the list was last known to be true.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.shared.age()
    }

    /// Whether a call that has been to these can go elsewhere.
    pub(crate) fn has_others(&self, tried: &[u64]) -> bool {
        self.shared.snapshot.load().has_others(tried)
    }

    /// A connection that takes calls.
    pub(crate) fn any_ready(&self) -> Option<Connection> {
        self.shared.snapshot.load().seats.iter().find_map(|seat| seat.member.links().any_ready())
    }

    /// Closes all connections; a later call dials again.
    pub(crate) fn close(&self) {
        for seat in &self.shared.snapshot.load().seats {
            seat.member.links().close();
        }
    }

    /// Starts the task, unless that was done.
    pub(crate) fn start(&self) {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        if source.is_none() {
            return;
        }
        // Panics, if it does, while the source is still there for a call from within a runtime.
        let runtime = Handle::current();
        if let Some(source) = source.take() {
            // Owned by this: it ends with it. What goes wrong in it is in the snapshot.
            let task = runtime.spawn(Watch::new(Arc::clone(&self.shared), source).run());
            *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.abort_handle());
        }
    }

    fn nobody(&self, limit: Duration) -> RpcError {
        let snapshot = self.shared.snapshot.load();
        let why = snapshot
            .why_nobody()
            .unwrap_or_else(|| format!("nothing was found within {}", HumanDuration(limit)));
        let message = format!("no endpoint: {}: {why}", self.shared.origin);
        RpcError::new(Code::Unavailable, Execution::NotSent, Phase::Pick, message)
    }
}

impl Shared {
    /// Puts this snapshot in place of the last one.
    fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
        self.replaced.notify_waiters();
    }

    fn age(&self) -> Option<Duration> {
        let confirmed = self.list.get()?.borrow().confirmed;
        confirmed.map(|confirmed| confirmed.elapsed())
    }
}

impl fmt::Debug for Endpoints {
    /// Briefly, since there may be ten thousand.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.shared.snapshot.load();
        f.debug_struct("Endpoints")
            .field("origin", &self.shared.origin)
            .field("balancer", &self.shared.balancer)
            .field("found", &snapshot.seats.len())
            .field("usable", &snapshot.usable().len())
            .finish_non_exhaustive()
    }
}

impl Drop for Endpoints {
    /// The task holds what it works on: left alone it would go on for ever.
    fn drop(&mut self) {
        if let Some(task) = self.task.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }
}
