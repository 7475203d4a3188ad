//! [`ServerInner`]: what the handles of one server share.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use farcall_transport::Address;
use tokio_util::sync::CancellationToken;

use super::connections::ConnectionTable;
use super::registrations::Registrations;
use super::state::ServerState;
use crate::call::in_flight::Signal;
use crate::call::local::LocalCalls;
use crate::observe::history::History;

/// A server as its handles see it: its state, its connections, and the steps of its stop.
pub(crate) struct ServerInner {
    pub(crate) state: Arc<ServerState>,
    pub(crate) connections: Arc<ConnectionTable>,
    pub(crate) local_calls: LocalCalls,
    pub(crate) history: History,
    pub(crate) addresses: Vec<Address>,
    pub(crate) registrations: Registrations,
    /// Requests a graceful stop: deregister, then drain.
    pub(crate) stop_requested: CancellationToken,
    /// Ends handshakes and refusals where they are.
    pub(crate) killed: CancellationToken,
    /// Announces that nothing is served any more.
    pub(crate) ended: CancellationToken,
}

impl ServerInner {
    pub(crate) fn new(
        state: Arc<ServerState>,
        addresses: Vec<Address>,
        registrations: Registrations,
    ) -> Self {
        Self {
            connections: Arc::clone(&state.connections),
            local_calls: LocalCalls::new(Arc::clone(&state)),
            state,
            history: History::new(),
            addresses,
            registrations,
            stop_requested: CancellationToken::new(),
            killed: CancellationToken::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Returns the number of calls that have tasks, over all connections.
    pub(crate) fn in_flight(&self) -> usize {
        self.state.in_flight.load(Relaxed)
    }

    /// Stops everything at once.
    pub(crate) fn kill(&self) {
        self.state.router.drain();
        self.state.drain.send();
        self.killed.cancel();
        self.connections.close(Signal::Stop);
        self.local_calls.close();
        self.state.once.stop();
    }
}
