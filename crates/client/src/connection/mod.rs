//! Connections: many calls at once over one stream to one server.
//!
//! A [`Connection`] is a handle to a task, the [`driver`], which reads and writes the stream. [`pool`] and
//! [`slot`] dial connections and replace broken ones.

use std::fmt;
use std::sync::Arc;
use std::task::Waker;

use farcall_protocol::time::later;
use farcall_protocol::{Code, Execution, Negotiated};
use farcall_runtime::time::{Instant, timeout_at};
use farcall_transport::{Address, DialPhase, HumanDuration, Stream};
use tracing::debug;

use self::closing::Closing;
use self::driver::Driver;
use self::handle::Handle;
use self::handshake::handshake;
use self::open_progress::{NO_HANDSHAKE, OpenProgress};
use self::options::ConnectionOptions;
use self::pending::Pending;
use self::place::{Place, PlaceKind};
use self::progress::EndKind;
use self::request::{EncodedRequest, SendError};
use self::shared::Shared;
use crate::error::{Phase, RpcError};

pub(crate) mod backoff;
pub(crate) mod closing;
mod driver;
mod extra_connections;
pub(crate) mod handle;
mod handshake;
mod in_flight;
mod io_error;
#[cfg(all(test, shuttle))]
mod models;
pub(crate) mod open_progress;
pub(crate) mod open_report;
pub(crate) mod open_stream;
pub(crate) mod options;
pub(crate) mod pending;
pub(crate) mod place;
pub(crate) mod pool;
mod progress;
pub(crate) mod request;
pub(crate) mod response;
mod shared;
mod slot;
mod stream_waker;
pub(crate) mod streams;
mod time_limits;
mod wake_batch;

/// A connection to one server. Clones are cheap; the connection closes when the last clone, and
/// the last call on it, are gone.
///
/// Most users want a [`Channel`](crate::Channel), which dials, and dials again if a connection breaks. A
/// connection is for streams that were opened elsewhere: `Channel::from(connection)` makes calls on it.
///
/// ```
/// use farcall_client::{Channel, Connection, ConnectionOptions};
/// use farcall_server::Server;
/// use farcall_transport::{Address, PeerAddress, Stream};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = Server::builder().method("Arith.double", async |(n,): (i64,)| 2 * n).build()?;
/// # let (near, far) = tokio::io::duplex(64 * 1024);
/// # server.handle().serve_stream(Stream::new(far), PeerAddress::Memory);
/// // `near` is one end of a pipe, and a server reads the other.
/// let address: Address = "tcp@10.0.0.3:7001".parse()?;
/// let connection = Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await?;
/// assert!(connection.is_available());
/// let doubled: i64 = Channel::from(connection).call("Arith.double", &(21,)).await?;
/// assert_eq!(doubled, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Connection {
    handle: Arc<Handle>,
}

/// Reasons why a request was not sent at once.
#[derive(Debug)]
pub(crate) enum TrySendError {
    /// The connection has no free slot or no room for the request, or it closed: another attempt may have to
    /// wait.
    WouldWait,
    /// The request cannot be sent.
    Failed(RpcError),
}

impl Connection {
    /// Opens a connection: resolves the name, connects and performs the handshake, all within the options'
    /// [`connect_timeout`](ConnectionOptions::connect_timeout).
    ///
    /// # Errors
    ///
    /// The error names the phase that failed. Its execution is `not_sent`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(address: &Address, options: &ConnectionOptions) -> Result<Self, RpcError> {
        Self::open_observed(address, options, &OpenProgress::default()).await
    }

    /// Opens a connection, and reports how far it has come.
    pub(crate) async fn open_observed(
        address: &Address,
        options: &ConnectionOptions,
        progress: &OpenProgress,
    ) -> Result<Self, RpcError> {
        let start = Instant::now();
        let outcome = Self::open_unreported(address, options, progress).await;
        options.observer.report(address, start, progress, outcome.as_ref().err());
        outcome
    }

    async fn open_unreported(
        address: &Address,
        options: &ConnectionOptions,
        progress: &OpenProgress,
    ) -> Result<Self, RpcError> {
        let deadline = later(Instant::now(), options.connect_limit());
        let stream = match timeout_at(
            deadline,
            options.limited_dialer().progress(progress.dial.clone()).dial(address),
        )
        .await
        {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let phase = match error.phase() {
                    DialPhase::Resolve => Phase::Resolve,
                    _ => Phase::Connect,
                };
                let message = match error.hint() {
                    Some(hint) => format!("{}: {hint}", error.reason()),
                    None => error.reason().to_string(),
                };
                return Err(unavailable(phase, message).at(address).with_source(error));
            }
            Err(_elapsed) => {
                let (phase, message) = progress.unfinished("no answer", options.connect_limit());
                return Err(unavailable(phase, message).at(address));
            }
        };
        progress.start_handshake();
        Self::negotiate(stream, address, options, deadline).await
    }

    /// Performs the handshake over a stream that was opened elsewhere: in memory, for tests, or by the
    /// upgrade of another protocol. Errors name the other side `address`.
    ///
    /// # Errors
    ///
    /// The handshake failed. The execution is `not_sent`.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn over(
        stream: Stream,
        address: &Address,
        options: &ConnectionOptions,
    ) -> Result<Self, RpcError> {
        Self::negotiate(stream, address, options, later(Instant::now(), options.connect_limit())).await
    }

    async fn negotiate(
        mut stream: Stream,
        address: &Address,
        options: &ConnectionOptions,
        deadline: Instant,
    ) -> Result<Self, RpcError> {
        match timeout_at(deadline, handshake(&mut stream, options)).await {
            Ok(Ok((negotiated, input))) => {
                debug!(endpoint = %address, codec = %negotiated.codec, "connected");
                let shared = Arc::new(Shared::new(negotiated, address.clone(), options));
                // The task ends when the connection does, at the latest after the last handle was dropped.
                // Its failure is returned to every caller.
                farcall_runtime::spawn(Driver::new(stream, input, Arc::clone(&shared), options));
                Ok(Self { handle: Arc::new(Handle::new(shared)) })
            }
            Ok(Err(error)) => Err(error.at(address)),
            Err(_elapsed) => {
                let limit = options.connect_limit();
                let message = format!("{NO_HANDSHAKE} within {}", HumanDuration(limit));
                Err(unavailable(Phase::Handshake, message).at(address))
            }
        }
    }

    /// Returns `true` if it takes calls: it is open, and neither side has sent a goaway.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.shared().is_open()
    }

    /// Closes it: no further calls are made, those in flight are finished, and the server gets a goaway. This begins at
    /// once; await the result to know that all was sent and that the server has closed in turn.
    #[expect(clippy::must_use_candidate, reason = "closing goes on by itself")]
    pub fn close(&self) -> Closing {
        self.shared().close();
        Closing::new(self.handle.unended())
    }

    /// Waits until all that was sent over it before is handed to the operating system: calls, one-way calls and
    /// cancellations.
    ///
    /// # Errors
    ///
    /// `unavailable`, `maybe`: the connection ended before.
    pub async fn flush(&self) -> Result<(), RpcError> {
        let shared = self.shared();
        if shared.progress.ended().is_some() || shared.until_all_flushed().await {
            return Ok(());
        }
        let (code, execution) = (Code::Unavailable, Execution::Maybe);
        Err(RpcError::new(code, execution, Phase::Write, shared.end_reason()).at(self.endpoint()))
    }

    /// Returns the other side's address, as errors name it.
    #[must_use]
    pub fn endpoint(&self) -> &Address {
        self.handle.endpoint()
    }

    /// Returns what the handshake agreed on.
    #[must_use]
    pub fn negotiated(&self) -> &Negotiated {
        self.handle.negotiated()
    }

    /// Returns the name of the server's store of keys; `None` if it carries out no calls once.
    pub(crate) fn once_store(&self) -> Option<&Arc<str>> {
        self.negotiated().once_store.as_ref()
    }

    /// Returns the number of calls in flight, including cancelled ones that the server has not confirmed yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared().in_flight()
    }

    /// Returns the bytes of large requests that the server has not answered.
    pub(crate) fn large_bytes_in_flight(&self) -> u64 {
        self.shared().large_bytes_in_flight()
    }

    /// Returns `true` if it ended because its runtime was shut down.
    pub(crate) fn is_orphaned(&self) -> bool {
        self.shared().progress.ended().is_some_and(|end| end.kind == EndKind::Orphaned)
    }

    /// Returns the connection of a place.
    pub(crate) fn of(place: &Place) -> Self {
        Self { handle: Arc::clone(place.handle()) }
    }

    /// Returns the handle that keeps it open.
    pub(crate) const fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }

    /// Returns the reason why it takes no more calls.
    pub(crate) fn close_reason(&self) -> String {
        self.shared().close_reason()
    }

    /// Returns when it stopped taking calls.
    pub(crate) fn closed_at(&self) -> Option<Instant> {
        self.shared().closed_at()
    }

    /// Sends a request if that is possible without waiting. The response wakes `waker`, if one is given.
    pub(crate) fn try_send(
        self,
        request: &EncodedRequest<'_>,
        waker: Option<&Waker>,
    ) -> Result<Pending, TrySendError> {
        let shared = self.shared();
        let sent = match shared.slots.try_acquire() {
            // The reply returns the slot.
            Ok(slot) => shared.enqueue(request, waker).inspect(|_| slot.forget()),
            Err(_) => Err(SendError::TooManyInFlight),
        };
        match sent {
            Ok((seq, limit)) => Ok(Pending::new(self.handle, seq, limit)),
            Err(SendError::TooManyInFlight | SendError::OutboxFull | SendError::Closed) => {
                Err(TrySendError::WouldWait)
            }
            Err(error) => Err(TrySendError::Failed(self.handle.send_error(request, &error, Phase::Prepare))),
        }
    }

    /// Sends a request as soon as there are a place and room for it; `phase` is set to what it waits for. If the future is
    /// dropped before it is ready, nothing was sent and no place is taken.
    pub(crate) async fn send(
        &self,
        request: &EncodedRequest<'_>,
        phase: &mut Phase,
    ) -> Result<Pending, SendError> {
        *phase = Phase::Queue;
        PlaceKind::Call.take(&self.handle).await?.send(request, phase).await
    }

    /// Returns what is kept for streaming calls: calls, streams, and bytes of items and windows. All are zero when no
    /// stream is open, and the server has answered those that were cancelled.
    #[doc(hidden)]
    #[must_use]
    pub fn held_by_streams(&self) -> (usize, usize, usize) {
        self.shared().streams.get().map_or((0, 0, 0), |streams| streams.held())
    }

    fn shared(&self) -> &Shared {
        self.handle.shared()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("endpoint", self.endpoint())
            .field("available", &self.is_available())
            .field("in_flight", &self.in_flight())
            .finish()
    }
}

fn unavailable(phase: Phase, message: String) -> RpcError {
    RpcError::new(Code::Unavailable, Execution::NotSent, phase, message)
}
