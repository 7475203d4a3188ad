//! What all connections of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use farcall_protocol::ServerPolicy;
use tokio_util::task::TaskTracker;

use crate::auth::authenticate::Authenticate;
use crate::call::handler_task::Turn;
use crate::call::offload::Aside;
use crate::limits::Limits;
use crate::memory_budget::Budget;
use crate::observe::recent::Recent;
use crate::service::router::Router;

/// A running server, seen from its connections.
pub(crate) struct Core {
    pub(crate) router: Arc<Router>,
    pub(crate) limits: Limits,
    pub(crate) terms: ServerPolicy,
    /// Who finds out who a client is; none where nobody asks.
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    pub(crate) budget: Arc<Budget>,
    /// The last slow and failed calls.
    pub(crate) recent: Recent,
    /// Calls in tasks of their own, over all connections.
    pub(crate) in_flight: AtomicUsize,
    /// Where slow methods are polled.
    pub(crate) aside: Arc<Aside<Turn>>,
    /// Owns the tasks of connections and of calls: the server has stopped when it is empty.
    pub(crate) tasks: TaskTracker,
}

impl Core {
    pub(crate) fn new(
        router: Arc<Router>,
        limits: Limits,
        terms: ServerPolicy,
        authenticate: Option<Arc<dyn Authenticate>>,
    ) -> Arc<Self> {
        let budget = Budget::new(limits.buffered_bytes);
        let recent = Recent::new(limits.slow_call);
        Arc::new(Self {
            router,
            limits,
            terms,
            authenticate,
            budget,
            recent,
            in_flight: AtomicUsize::new(0),
            aside: Aside::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// Whether the limit of calls in all is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.load(Relaxed) >= self.limits.max_in_flight_in_all
    }
}
