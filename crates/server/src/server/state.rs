//! [`ServerState`]: what all connections and calls of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use farcall_context::DrainSignal;
use farcall_protocol::ServerPolicy;
use tokio_util::task::TaskTracker;

use crate::auth::authenticate::Authenticate;
use crate::call::offload::OffloadPool;
use crate::call::offload_runtime::OffloadRuntime;
use crate::limits::Limits;
use crate::memory_budget::MemoryBudget;
use crate::observe::recent::RecentCalls;
use crate::service::router::Router;

/// The state of a server that its connections and calls use.
pub(crate) struct ServerState {
    pub(crate) router: Arc<Router>,
    pub(crate) limits: Limits,
    /// The limit of calls in flight, `usize::MAX` if there is none.
    pub(crate) max_in_flight: usize,
    pub(crate) policy: ServerPolicy,
    /// `None` if the server asks for no credentials.
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) recent_calls: RecentCalls,
    /// Calls that have tasks, over all connections.
    pub(crate) in_flight: AtomicUsize,
    /// Polls the handlers of slow methods.
    pub(crate) offload: Arc<OffloadPool>,
    /// Owns the tasks of connections and of calls: the server has stopped when it is empty.
    pub(crate) tasks: TaskTracker,
    /// Sent when the server drains: handshakes are refused, and handlers can end early.
    pub(crate) drain: DrainSignal,
}

impl ServerState {
    pub(crate) fn new(
        router: Arc<Router>,
        limits: Limits,
        policy: ServerPolicy,
        authenticate: Option<Arc<dyn Authenticate>>,
        offload: Arc<dyn OffloadRuntime>,
    ) -> Arc<Self> {
        let memory = MemoryBudget::new(limits.buffered_bytes);
        let recent_calls = RecentCalls::new(limits.slow_call);
        Arc::new(Self {
            router,
            max_in_flight: limits.max_in_flight_in_all.unwrap_or(usize::MAX),
            limits,
            policy,
            authenticate,
            memory,
            recent_calls,
            in_flight: AtomicUsize::new(0),
            offload: OffloadPool::new(offload),
            tasks: TaskTracker::new(),
            drain: DrainSignal::new(),
        })
    }

    /// Returns `true` if as many calls are in flight as the limits allow.
    pub(crate) fn is_full(&self) -> bool {
        self.in_flight.load(Relaxed) >= self.max_in_flight
    }
}
