//! The connections to one endpoint: one, or several that share its calls.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use farcall_discovery::Load;
use farcall_runtime::time::{Instant, sleep_until};
use farcall_transport::Address;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use super::Connection;
use super::closing::Closing;
use super::extra_connections::{ExtraConnections, least_loaded};
use super::open_progress::OpenProgress;
use super::options::ConnectionOptions;
use super::place::{Place, PlaceKind};
use super::request::{LARGE_REQUEST, SendError};
use super::slot::ConnectionSlot;
use crate::error::RpcError;

/// The connections to one endpoint, used in turn. It has at least one slot.
#[derive(Debug)]
pub(crate) struct ConnectionPool {
    slots: Box<[ConnectionSlot]>,
    turn: AtomicUsize,
    extra: ExtraConnections,
}

/// The number of connections to one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolSize {
    /// Those that take turns, at least one.
    pub(crate) usual: usize,
    /// All of them, with those for large requests that overlap.
    pub(crate) max: usize,
}

impl Default for PoolSize {
    fn default() -> Self {
        Self { usual: 1, max: 4 }
    }
}

/// The pause after a failed dial of a connection that calls wait for while the others are full.
const REDIAL_PAUSE: Duration = Duration::from_secs(1);

/// The largest number of connections to one endpoint.
const MAX_CONNECTIONS: usize = 1024;

impl ConnectionPool {
    pub(crate) fn new(endpoint: &Address, options: &Arc<ConnectionOptions>, size: PoolSize) -> Self {
        let usual = size.usual.clamp(1, MAX_CONNECTIONS);
        let extra = size.max.min(MAX_CONNECTIONS).saturating_sub(usual);
        let slots = (0..usual).map(|_| ConnectionSlot::new(endpoint.clone(), Arc::clone(options)));
        Self {
            slots: slots.collect(),
            turn: AtomicUsize::new(0),
            extra: ExtraConnections::new(endpoint.clone(), Arc::clone(options), extra),
        }
    }

    /// Creates a pool of one connection that was opened elsewhere and cannot be dialed again.
    pub(crate) fn over(connection: Connection) -> Self {
        let extra = ExtraConnections::new(connection.endpoint().clone(), Arc::default(), 0);
        Self { slots: Box::new([ConnectionSlot::over(connection)]), turn: AtomicUsize::new(0), extra }
    }

    /// Has the load that the server reports recorded there.
    pub(crate) fn report_load_to(&self, load: &Arc<Load>) {
        self.slots.iter().for_each(|slot| slot.report_load_to(load));
        self.extra.report_load_to(load);
    }

    pub(crate) fn endpoint(&self) -> &Address {
        self.slots[0].endpoint()
    }

    /// Returns the connection for a request of this many bytes, if there is one that takes calls: that whose turn it is; for a
    /// large request, the one with the fewest bytes of other large ones.
    #[inline]
    pub(crate) fn ready(&self, bytes: usize) -> Option<Connection> {
        if bytes >= LARGE_REQUEST {
            return self.ready_for_large();
        }
        self.next().ready()
    }

    /// Returns the connection for a large request. If all carry one already, one more is dialed for the next ones: a usual one
    /// that is missing, or else an extra one.
    #[cold]
    fn ready_for_large(&self) -> Option<Connection> {
        let (connection, bytes) = least_loaded(self.all())?;
        if bytes > 0 {
            match self.slots.iter().find(|slot| slot.ready().is_none()) {
                Some(missing) => missing.dial(),
                None => self.extra.dial(),
            }
        }
        Some(connection)
    }

    /// Returns any connection that takes calls.
    pub(crate) fn any_ready(&self) -> Option<Connection> {
        self.slots.iter().find_map(ConnectionSlot::ready)
    }

    /// Returns the number of connections that take calls.
    pub(crate) fn count_ready(&self) -> usize {
        self.all().filter(|slot| slot.ready().is_some()).count()
    }

    /// Returns the number of calls in flight over all of them.
    pub(crate) fn in_flight(&self) -> usize {
        self.all().filter_map(ConnectionSlot::ready).map(|connection| connection.in_flight()).sum()
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

    /// Takes a place for a call with a request of this many bytes at the connection with the most of them. Of several, it is
    /// the one whose turn it is. A large request takes one at the connection with the fewest bytes of other large ones, if
    /// there is one.
    ///
    /// # Errors
    ///
    /// [`SendError::TooManyInFlight`] if there is none at the moment.
    pub(crate) fn try_place(&self, kind: PlaceKind, bytes: usize) -> Result<Place, SendError> {
        if kind == PlaceKind::Call
            && bytes >= LARGE_REQUEST
            && let Some(connection) = self.ready_for_large()
            && let Ok(place) = kind.try_take(connection.handle())
        {
            return Ok(place);
        }
        // Calls that are not answered keep their order as long as they take the same connection.
        let turn = if kind == PlaceKind::OneWay { 0 } else { self.turn.fetch_add(1, Ordering::Relaxed) };
        let begin = turn % self.slots.len();
        let (behind, from) = self.slots.split_at(begin);
        let mut ready: Vec<_> = from.iter().chain(behind).filter_map(ConnectionSlot::ready).collect();
        // A stable sort keeps the turns.
        ready.sort_by_key(|connection| Reverse(kind.free(connection.handle())));
        let mut last = SendError::Closed;
        for connection in ready {
            match kind.try_take(connection.handle()) {
                Ok(place) => return Ok(place),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Waits for a place at any of the usual connections, behind the calls that wait already. Connections that are missing are
    /// dialed meanwhile.
    ///
    /// # Errors
    ///
    /// [`SendError::Closed`] if no connection takes calls any more.
    pub(crate) async fn place(&self, kind: PlaceKind, bytes: usize) -> Result<Place, SendError> {
        match self.try_place(kind, bytes) {
            Err(SendError::TooManyInFlight) => {}
            other => return other,
        }
        // One for each slot. Those that are dropped give back the places that they were given in the same moment.
        let mut waits: FuturesUnordered<_> =
            self.slots.iter().map(|slot| wait_at(slot, slot.ready(), kind)).collect();
        while let Some((slot, waited)) = waits.next().await {
            match waited {
                Waited::Place(place) => return Ok(place),
                Waited::Error(error) if !matches!(error, SendError::Closed) => return Err(error),
                Waited::Error(_) | Waited::Dialed => {}
            }
            if self.any_ready().is_none() {
                break;
            }
            waits.push(wait_at(slot, slot.ready(), kind));
        }
        Err(SendError::Closed)
    }

    /// Describes the limit that leaves no place for a call of this kind.
    pub(crate) fn describe_full(&self, kind: PlaceKind) -> String {
        let ready: Vec<_> = self.slots.iter().filter_map(ConnectionSlot::ready).collect();
        let most = ready.iter().map(|connection| kind.max(connection.handle())).max().unwrap_or_default();
        let (calls, limit) = match kind {
            PlaceKind::Stream => ("streaming calls", "max_streams"),
            _ => ("calls", "max_in_flight"),
        };
        let over = match ready.len() {
            1 => "the connection".to_owned(),
            several => format!("each of {several} connections"),
        };
        format!("{over} has as many {calls} as the server runs at once, {most} (its `Limits::{limit}`)")
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
        Closing::all(self.all().filter_map(ConnectionSlot::close).collect())
    }

    /// Waits until all that was sent over the connections in use is handed to the operating system.
    pub(crate) async fn flush(&self) -> Result<(), RpcError> {
        let mut outcome = Ok(());
        for slot in self.all() {
            outcome = outcome.and(slot.flush().await);
        }
        outcome
    }

    /// Returns the usual connections, then the extra ones.
    fn all(&self) -> impl Iterator<Item = &ConnectionSlot> {
        self.slots.iter().chain(self.extra.slots())
    }

    fn next(&self) -> &ConnectionSlot {
        match &*self.slots {
            [only] => only,
            several => &several[self.turn.fetch_add(1, Ordering::Relaxed) % several.len()],
        }
    }
}

/// The end of a wait for a place at one connection.
enum Waited {
    Place(Place),
    Error(SendError),
    /// There was no connection, and it was dialed.
    Dialed,
}

/// Waits for a place at a connection; if there is none, until it was dialed.
fn wait_at(
    slot: &ConnectionSlot,
    connection: Option<Connection>,
    kind: PlaceKind,
) -> BoxFuture<'_, (&ConnectionSlot, Waited)> {
    Box::pin(async move {
        let Some(connection) = connection else {
            if let Some(at) = slot.next_dial_at() {
                sleep_until(at).await;
            }
            if slot.connection().await.is_err() {
                sleep_until(Instant::now() + REDIAL_PAUSE).await;
            }
            return (slot, Waited::Dialed);
        };
        (slot, kind.take(connection.handle()).await.map_or_else(Waited::Error, Waited::Place))
    })
}
