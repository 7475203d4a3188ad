//! The way of a request to a connection with a place for it, and over that. Which endpoint it is, is decided by
//! [`endpoint_choice`](super::endpoint_choice).

use std::sync::Arc;
use std::time::Duration;

use farcall_protocol::{Code, Execution};
use farcall_runtime::time::timeout_at;
use farcall_transport::{Address, HumanDuration};
use futures::future::BoxFuture;
use tracing::debug;

use super::in_flight_call::InFlightCall;
use super::request::Request;
use crate::connection::Connection;
use crate::connection::place::{Place, PlaceKind};
use crate::connection::pool::ConnectionPool;
use crate::connection::request::{EncodedRequest, SendError, no_place};
use crate::connection::response::Response;
use crate::endpoints::Endpoints;
use crate::endpoints::backend::Backend;
use crate::endpoints::guard::InFlightGuard;
use crate::error::{Phase, RpcError};

/// The progress of a request on its way to a connection, for the error if its time ends.
pub(super) struct Progress {
    phase: Phase,
    /// The endpoint, once there is a connection.
    endpoint: Option<Address>,
    /// The limit that leaves no place for the call, while it waits for one.
    full: Option<String>,
}

impl Progress {
    pub(super) const fn new() -> Self {
        Self { phase: Phase::Connect, endpoint: None, full: None }
    }

    /// Notes that the call waits for a place at `pool`.
    ///
    /// # Errors
    ///
    /// The request is larger than the server accepts, so it need not wait.
    pub(super) fn wait_for_place(
        &mut self,
        request: &Request,
        connection: &Connection,
        pool: &ConnectionPool,
        kind: PlaceKind,
    ) -> Result<(), RpcError> {
        request.encode(connection)?;
        let full = pool.describe_full(kind);
        if let Some(link) = request.link() {
            debug!(target: "farcall::client", method = request.method(), full, "waits for a place");
            link.set_full(Some(full.clone()));
        }
        self.phase = Phase::Queue;
        self.endpoint = Some(connection.endpoint().clone());
        self.full = Some(full);
        Ok(())
    }

    /// Notes that there is a place for the call.
    fn placed(&mut self, request: &Request, connection: &Connection) {
        self.stop_waiting(request);
        self.phase = Phase::Queue;
        self.endpoint = Some(connection.endpoint().clone());
    }

    /// Notes that the connection ended at which the call waited for a place.
    pub(super) fn lost_connection(&mut self, request: &Request) {
        self.stop_waiting(request);
        *self = Self::new();
    }

    fn stop_waiting(&mut self, request: &Request) {
        if self.full.take().is_some()
            && let Some(link) = request.link()
        {
            link.set_full(None);
        }
    }

    /// Creates the error of a request whose deadline has passed; that of `unconnected` if there was no connection.
    #[cold]
    pub(super) fn error(self, request: &Request, unconnected: impl FnOnce() -> RpcError) -> RpcError {
        let Some(endpoint) = self.endpoint else { return unconnected() };
        let error = match self.full {
            Some(full) => no_place(request.deadline(), &full),
            None => request.deadline_exceeded(self.phase),
        };
        error.at(&endpoint)
    }
}

/// Waits until there is an outcome; `None` if the deadline of the request passes before.
pub(super) async fn before_deadline<T>(request: &Request, steps: impl Future<Output = T>) -> Option<T> {
    match request.deadline() {
        None => Some(steps.await),
        Some(deadline) => timeout_at(deadline.at, steps).await.ok(),
    }
}

/// Connects, and waits for a place. If the connection ends meanwhile, such as by its largest age, it connects again and
/// waits there: a call that was not sent is not tied to one connection.
pub(super) async fn place_at(
    pool: &ConnectionPool,
    request: &Request,
    kind: PlaceKind,
    progress: &mut Progress,
) -> Result<Place, RpcError> {
    loop {
        // Connections that end at once are dialed with pauses, which are errors here, so the loop ends.
        let connection = pool.connection().await?;
        match pool.try_place(kind, request.body().len()) {
            Err(SendError::TooManyInFlight) => {}
            // It has ended since it was found.
            Err(SendError::Closed) => continue,
            placed => return placed.map_err(|error| unplaced(request, &connection, &error)),
        }
        progress.wait_for_place(request, &connection, pool, kind)?;
        match pool.place(kind, request.body().len()).await {
            Err(SendError::Closed) => progress.lost_connection(request),
            placed => return placed.map_err(|error| unplaced(request, &connection, &error)),
        }
    }
}

/// A call that waits for a place at an endpoint, and may be made elsewhere.
pub(super) struct WaitingCall(Option<InFlightGuard>);

impl WaitingCall {
    pub(super) fn into_guard(mut self) -> Option<InFlightGuard> {
        self.0.take()
    }
}

impl Drop for WaitingCall {
    /// Ends the count of the call at the endpoint, where it was not made.
    fn drop(&mut self) {
        if let Some(guard) = self.0.take() {
            guard.forget();
        }
    }
}

/// Waits for a place at an endpoint.
pub(super) fn wait_at(
    guard: InFlightGuard,
    kind: PlaceKind,
    bytes: usize,
) -> BoxFuture<'static, (Result<Place, SendError>, WaitingCall)> {
    let backend = Arc::clone(guard.backend());
    let waiting = WaitingCall(Some(guard));
    Box::pin(async move { (backend.pool().place(kind, bytes).await, waiting) })
}

/// Creates the error of a call that no connection has a place for.
#[cold]
pub(super) fn unplaced(request: &Request, connection: &Connection, error: &SendError) -> RpcError {
    match request.encode(connection) {
        Ok(encoded) => connection.handle().send_error(&encoded, error, Phase::Queue),
        Err(too_large) => too_large,
    }
}

/// Sends the request with `send` over the connection of the place.
pub(super) async fn send_over<T>(
    place: Place,
    request: &Request,
    progress: &mut Progress,
    send: impl AsyncFnOnce(Place, &EncodedRequest<'_>, &mut Phase) -> Result<T, SendError>,
) -> Result<T, RpcError> {
    let connection = Connection::of(&place);
    progress.placed(request, &connection);
    let encoded = request.encode(&connection)?;
    // Before it is sent: the call may be dropped while it is written.
    request.sent_over(&connection);
    let sent = send(place, &encoded, &mut progress.phase).await;
    sent.map_err(|error| {
        let error = connection.handle().send_error(&encoded, &error, progress.phase);
        request.lost_in_flight(&error);
        error
    })
}

/// Makes a call once, at this backend, before its deadline.
pub(super) async fn call_backend(request: &Request, backend: &Arc<Backend>) -> Result<Response, RpcError> {
    let pool = backend.pool();
    let mut progress = Progress::new();
    let steps = async {
        let (_, guard) = InFlightGuard::new(backend).connected(pool.connection().await)?;
        let place = place_at(pool, request, PlaceKind::Call, &mut progress).await?;
        let send = async |place: Place, request: &EncodedRequest<'_>, phase: &mut Phase| {
            place.send(request, phase).await
        };
        Ok((send_over(place, request, &mut progress, send).await?, guard))
    };
    let sent = before_deadline(request, steps).await;
    let (pending, guard) = sent.unwrap_or_else(|| {
        Err(progress.error(request, || no_connection(request, &Unconnected::Dialing(pool))))
    })?;
    InFlightCall::new(pending, Some(guard), None).await
}

/// The thing that a call without a connection waits for.
pub(super) enum Unconnected<'a> {
    /// An endpoint to call.
    Picking(&'a Endpoints),
    /// A connection to this one.
    Dialing(&'a ConnectionPool),
}

/// Creates the error of a request whose deadline passed before there was a connection.
pub(super) fn no_connection_to(request: &Request, endpoints: &Endpoints) -> RpcError {
    no_connection(request, &Unconnected::Picking(endpoints))
}

pub(super) fn no_connection(request: &Request, waits_for: &Unconnected<'_>) -> RpcError {
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
