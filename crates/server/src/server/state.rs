//! [`ServerState`]: what all connections and calls of one server share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use farcall_context::DrainSignal;
use farcall_protocol::{Code, MaxInFlight, MaxStreams, ServerPolicy, Status};
use tokio_util::task::TaskTracker;

use super::connections::ConnectionTable;
use crate::auth::authenticate::Authenticate;
use crate::call::in_flight::{InFlightCalls, LOCAL_CONNECTION_ID};
use crate::call::offload::OffloadPool;
use crate::call::offload_runtime::OffloadRuntime;
use crate::connection::turn::BusyConnections;
use crate::limits::Limits;
use crate::memory_budget::{MemoryBudget, Shortage};
use crate::observe::load::{LoadReporter, LoadReporting};
use crate::observe::recent::RecentCalls;
use crate::observe::refusals::Refusals;
use crate::once::calls::OnceCalls;
use crate::overload::admission::Overload;
use crate::overload::control::RefusedCalls;
use crate::service::handler::Response;
use crate::service::router::Router;
use crate::stream::counters::StreamCounters;

/// Responses below this, in bytes, are never refused for lack of memory: an error would hardly be
/// shorter.
const MIN_REFUSED_RESPONSE: usize = 4096;

/// The part of the places that no connection gets beyond its share, as a divisor.
const SPARE_PLACES_PART: usize = 4;

/// The state of a server that its connections and calls use.
pub(crate) struct ServerState {
    pub(crate) router: Arc<Router>,
    pub(crate) limits: Limits,
    /// The limit of calls in flight, `usize::MAX` if there is none.
    pub(crate) max_in_flight: usize,
    /// The same for each peer.
    max_in_flight_per_peer: usize,
    /// While fewer calls are in flight, neither is exceeded, and places are not short.
    in_flight_unchecked_below: usize,
    /// The open connections.
    pub(crate) connections: Arc<ConnectionTable>,
    pub(crate) refusals: Refusals,
    pub(crate) policy: ServerPolicy,
    /// `None` if the server asks for no credentials.
    pub(crate) authenticate: Option<Arc<dyn Authenticate>>,
    pub(crate) memory: Arc<MemoryBudget>,
    pub(crate) recent_calls: RecentCalls,
    pub(crate) stream_counters: Arc<StreamCounters>,
    /// The calls that are carried out once.
    pub(crate) once: Arc<OnceCalls>,
    /// Calls that have tasks, over all connections.
    pub(crate) in_flight: AtomicUsize,
    /// The connections that share a round of turns.
    pub(crate) busy: Arc<BusyConnections>,
    /// `None` without an adaptive limit.
    pub(crate) overload: Option<Arc<Overload>>,
    /// Polls the handlers of slow methods.
    pub(crate) offload: Arc<OffloadPool>,
    /// Owns the tasks of connections and of calls: the server has stopped when it is empty.
    pub(crate) tasks: TaskTracker,
    /// Responses of this many bytes and more are looked at before they are sent: all of them, if load is reported.
    min_watched_response: usize,
    /// `None` if the server does not report its load.
    load: Option<LoadReporter>,
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
        once: Arc<OnceCalls>,
        load: Option<LoadReporting>,
    ) -> Arc<Self> {
        let memory = MemoryBudget::new(limits.memory());
        let max_in_flight = limits.max_in_flight_in_all.unwrap_or(usize::MAX);
        let max_in_flight_per_peer = limits.calls_per_peer().unwrap_or(usize::MAX);
        let recent_calls = RecentCalls::new(limits.slow_call);
        let overload = limits.adaptive.then(|| Overload::new(router.method_count()));
        Arc::new(Self {
            router,
            max_in_flight,
            max_in_flight_per_peer,
            in_flight_unchecked_below: short_from(max_in_flight).min(max_in_flight_per_peer),
            connections: Arc::new(ConnectionTable::new(Arc::clone(&memory))),
            refusals: Refusals::default(),
            limits,
            policy,
            authenticate,
            memory,
            recent_calls,
            stream_counters: Arc::default(),
            in_flight: AtomicUsize::new(0),
            busy: Arc::default(),
            overload,
            offload: OffloadPool::new(offload),
            tasks: once.tasks().clone(),
            once,
            min_watched_response: if load.is_some() { 0 } else { MIN_REFUSED_RESPONSE },
            load: load.map(LoadReporter::new),
            drain: DrainSignal::new(),
        })
    }

    /// Returns how often each limit has refused something, by the name of its setting.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        let mut refusals = self.refusals.by_limit().to_vec();
        if let Some(overload) = &self.overload {
            let RefusedCalls { overloaded, sheddable, deadline } = overload.overview().refused;
            refusals.extend([
                ("adaptive", overloaded),
                ("adaptive_sheddable", sheddable),
                ("adaptive_deadline", deadline),
            ]);
        }
        refusals
    }

    /// Checks that one more call may be in flight, apart from the connection's own limit.
    ///
    /// # Errors
    ///
    /// The status to answer, `refused`.
    #[inline]
    pub(crate) fn check_places(&self, calls: &InFlightCalls) -> Result<(), Status> {
        if self.has_unchecked_places() { Ok(()) } else { self.check_shared_places(calls) }
    }

    /// Returns `true` if so few calls are in flight that no limit but the connection's own needs to be looked at.
    #[inline]
    pub(crate) fn has_unchecked_places(&self) -> bool {
        self.in_flight.load(Relaxed) < self.in_flight_unchecked_below
    }

    #[cold]
    fn check_shared_places(&self, calls: &InFlightCalls) -> Result<(), Status> {
        if calls.all_in_flight() < self.limits.guaranteed_calls() {
            return Ok(());
        }
        let in_flight = self.in_flight.load(Relaxed);
        if in_flight >= self.max_in_flight {
            self.refusals.calls_in_all.count();
            return Err(exhausted(format!("{} calls are in flight on this server", self.max_in_flight)));
        }
        if in_flight >= short_from(self.max_in_flight) {
            let share = calls.share_of(self.max_in_flight);
            if calls.all_in_flight() >= share {
                self.refusals.share_of_connection.count();
                let message = format!(
                    "{share} calls are in flight on this connection, its share while the server has few places left"
                );
                return Err(exhausted(message));
            }
        }
        let of_peer = calls.peer().map_or(0, |peer| peer.calls());
        if of_peer >= self.max_in_flight_per_peer {
            self.refusals.calls_of_peer.count();
            let limit = self.max_in_flight_per_peer;
            return Err(exhausted(format!("{limit} calls are in flight from this peer")));
        }
        Ok(())
    }

    /// Returns the status to answer to a call beyond the limit of its connection.
    #[cold]
    pub(crate) fn no_place_on_connection(&self, limit: MaxInFlight) -> Status {
        self.refusals.calls_of_connection.count();
        exhausted(format!("{limit} calls are in flight on this connection"))
    }

    /// Returns the status to answer to a streaming call beyond the limit of its connection, or of its client's address if it
    /// came over none.
    #[cold]
    pub(crate) fn no_place_for_stream(&self, limit: MaxStreams, connection: u64) -> Status {
        self.refusals.streams_of_connection.count();
        let place = if connection == LOCAL_CONNECTION_ID { "from this peer" } else { "on this connection" };
        exhausted(format!("{} streaming calls are in flight {place}", limit.get()))
    }

    /// Checks that a connection may hold `bytes` more.
    ///
    /// # Errors
    ///
    /// The status to answer, `refused`.
    #[inline]
    pub(crate) fn check_memory(&self, calls: &InFlightCalls, bytes: usize) -> Result<(), Status> {
        if calls.memory().is_unchecked(bytes) { Ok(()) } else { self.check_shared_memory(calls, bytes) }
    }

    #[inline(never)]
    fn check_shared_memory(&self, calls: &InFlightCalls, bytes: usize) -> Result<(), Status> {
        let memory = calls.memory();
        let Err(shortage) = memory.check(bytes) else { return Ok(()) };
        if self.make_room(calls, shortage, bytes) {
            return Ok(());
        }
        self.refusals.of_memory(shortage).count();
        Err(exhausted(memory.shortage_message(shortage)))
    }

    /// Closes a connection that holds many times more than is needed, and waits for its peer, if there
    /// is one. Returns `true` if so.
    fn make_room(&self, calls: &InFlightCalls, shortage: Shortage, bytes: usize) -> bool {
        let peer = match shortage {
            Shortage::Connection => return false,
            Shortage::Peer => calls.peer(),
            Shortage::InAll => None,
        };
        self.connections.shed(peer, calls.memory().used().saturating_add(bytes))
    }

    /// Replaces a response by an error if its connection may not hold it. A share is exceeded by one response
    /// at most. Attaches the load of the server, if that is reported and due.
    // In place, since a response is large to be moved.
    #[inline]
    pub(crate) fn keep_within_budget(&self, response: &mut Response, calls: &InFlightCalls) {
        let bytes = response.body.len();
        if bytes >= self.min_watched_response {
            self.watch_response(response, bytes, calls);
        }
    }

    #[inline(never)]
    fn watch_response(&self, response: &mut Response, bytes: usize, calls: &InFlightCalls) {
        if bytes >= MIN_REFUSED_RESPONSE {
            self.keep_within_shares(response, bytes, calls);
        }
        if let Some(load) = self.load.as_ref().filter(|_| !calls.is_local()) {
            load.attach(response, calls, self.in_flight.load(Relaxed), self.overload.as_deref());
        }
    }

    fn keep_within_shares(&self, response: &mut Response, bytes: usize, calls: &InFlightCalls) {
        let Err(shortage) = calls.memory().check_response(bytes) else { return };
        if self.make_room(calls, shortage, bytes) {
            return;
        }
        self.refusals.of_memory(shortage).count();
        let message = calls.memory().shortage_message(shortage);
        *response = Response::error(Status::done(Code::ResourceExhausted, message));
    }
}

/// Returns the number of calls in flight from which on places are short, and divided: so that who comes later finds some, when
/// others have taken more than their share.
const fn short_from(max_in_flight: usize) -> usize {
    max_in_flight - max_in_flight / SPARE_PLACES_PART
}

fn exhausted(message: String) -> Status {
    Status::refused(Code::ResourceExhausted, message)
}
