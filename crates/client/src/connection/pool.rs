//! The connections to one endpoint: one, or several that share its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_transport::Address;
use tokio::time::Instant;

use super::Connection;
use super::closing::Closing;
use super::open_progress::OpenProgress;
use super::options::ConnectionOptions;
use super::slot::ConnectionSlot;
use crate::error::RpcError;

/// The connections to one endpoint, used in turn. It has at least one slot.
#[derive(Debug)]
pub(crate) struct ConnectionPool {
    slots: Box<[ConnectionSlot]>,
    turn: AtomicUsize,
}

/// The largest number of connections to one endpoint.
const MAX_CONNECTIONS: usize = 1024;

impl ConnectionPool {
    pub(crate) fn new(endpoint: &Address, options: &Arc<ConnectionOptions>, connections: usize) -> Self {
        let slots = (0..connections.clamp(1, MAX_CONNECTIONS))
            .map(|_| ConnectionSlot::new(endpoint.clone(), Arc::clone(options)));
        Self { slots: slots.collect(), turn: AtomicUsize::new(0) }
    }

    /// Creates a pool of one connection that was opened elsewhere and cannot be dialed again.
    pub(crate) fn over(connection: Connection) -> Self {
        Self { slots: Box::new([ConnectionSlot::over(connection)]), turn: AtomicUsize::new(0) }
    }

    pub(crate) fn endpoint(&self) -> &Address {
        self.slots[0].endpoint()
    }

    /// Returns the connection whose turn it is, if it takes calls.
    pub(crate) fn ready(&self) -> Option<Connection> {
        self.next().ready()
    }

    /// Returns any connection that takes calls.
    pub(crate) fn any_ready(&self) -> Option<Connection> {
        self.slots.iter().find_map(ConnectionSlot::ready)
    }

    /// Returns the number of connections that take calls.
    pub(crate) fn count_ready(&self) -> usize {
        self.slots.iter().filter(|slot| slot.ready().is_some()).count()
    }

    /// Returns the number of calls in flight over all of them.
    pub(crate) fn in_flight(&self) -> usize {
        self.slots.iter().filter_map(ConnectionSlot::ready).map(|connection| connection.in_flight()).sum()
    }

    /// Returns the error of the last dial, if it failed and there is no connection.
    pub(crate) fn last_error(&self) -> Option<RpcError> {
        if self.any_ready().is_some() {
            return None;
        }
        self.slots.iter().find_map(ConnectionSlot::last_error)
    }

    /// Returns a connection, dialed if there is none. One of the missing connections is dialed in any case.
    pub(crate) async fn connection(&self) -> Result<Connection, RpcError> {
        let missing = self.slots.iter().find(|slot| slot.ready().is_none() && slot.next_dial_at().is_none());
        if let Some(ready) = self.any_ready() {
            // The call goes over the one that is there, and the missing one is dialed meanwhile.
            missing.inspect(|slot| slot.dial());
            return Ok(ready);
        }
        let dialed = missing.unwrap_or_else(|| self.next()).connection().await;
        dialed.or_else(|error| self.any_ready().ok_or(error))
    }

    /// Returns `true` if there is no connection, one was lost, and it was not dialed again.
    pub(crate) fn is_lost(&self) -> bool {
        self.any_ready().is_none() && self.slots.iter().any(ConnectionSlot::is_lost)
    }

    /// Creates the error for a connection that was lost.
    pub(crate) fn lost_error(&self) -> RpcError {
        self.slots.iter().find(|slot| slot.is_lost()).unwrap_or(&self.slots[0]).lost_error()
    }

    /// Returns how far the dial under way has come; that of the furthest, if there are several.
    pub(crate) fn dial_progress(&self) -> OpenProgress {
        let all = self.slots.iter().filter_map(ConnectionSlot::dial_progress);
        all.max_by_key(OpenProgress::stage).unwrap_or_default()
    }

    /// Creates the error for a call that stopped waiting while the dial was still under way.
    pub(crate) fn slow_dial_error(&self) -> RpcError {
        self.slots[0].slow_dial_error()
    }

    /// Returns when a connection may be dialed again after a failure; `None` if one may be dialed now.
    pub(crate) fn next_dial_at(&self) -> Option<Instant> {
        // `None` is less than any `Some`.
        self.slots.iter().map(ConnectionSlot::next_dial_at).min().flatten()
    }

    pub(crate) fn close(&self) -> Closing {
        Closing::all(self.slots.iter().filter_map(ConnectionSlot::close).collect())
    }

    /// Waits until all that was sent over the connections in use is handed to the operating system.
    pub(crate) async fn flush(&self) -> Result<(), RpcError> {
        let mut outcome = Ok(());
        for slot in &self.slots {
            outcome = outcome.and(slot.flush().await);
        }
        outcome
    }

    fn next(&self) -> &ConnectionSlot {
        match &*self.slots {
            [only] => only,
            several => &several[self.turn.fetch_add(1, Ordering::Relaxed) % several.len()],
        }
    }
}
