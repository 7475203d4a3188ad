//! One endpoint of a channel: its connection, dialed when it is needed, and again when it broke.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use farcall_protocol::{Code, Execution};
use farcall_transport::{Address, HumanDuration};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::debug;

use crate::connection::Connection;
use crate::connection::backoff::Backoff;
use crate::connection::options::ConnectionOptions;
use crate::error::{Phase, RpcError};

/// An endpoint and the way to it. One dial is under way at a time, and calls wait for it.
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Address,
    options: Arc<ConnectionOptions>,
    /// Whether it may be dialed; not so where its one connection was opened elsewhere.
    dials: bool,
    /// The connection in use, to be found without a lock.
    current: ArcSwapOption<Connection>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    backoff: Backoff,
    /// The last failure, and when the next dial may be made.
    failed: Option<(RpcError, Instant)>,
    /// When the connection in use was made.
    connected: Option<Instant>,
    /// Whether the last connection was let go at once.
    unproven: bool,
    dialing: Option<Dialing>,
    /// Dials that were begun, so that the result of one that was given up is known from others.
    dials: u64,
}

type Dialed = Option<Result<Connection, RpcError>>;

struct Dialing {
    result: watch::Receiver<Dialed>,
    task: AbortHandle,
}

/// How to come by a connection.
enum Way {
    Ready(Connection),
    Dialing(watch::Receiver<Dialed>),
}

/// A connection that ended sooner than this proves nothing: a server that lets go of every
/// connection is not dialed without a pause.
const PROVEN: Duration = Duration::from_secs(1);

impl Link {
    pub(crate) fn new(endpoint: Address, options: Arc<ConnectionOptions>) -> Self {
        Self::with(endpoint, options, None)
    }

    /// A link over a connection that was opened elsewhere, and that nobody can open again.
    pub(crate) fn over(connection: Connection) -> Self {
        Self::with(connection.endpoint().clone(), Arc::default(), Some(connection))
    }

    fn with(endpoint: Address, options: Arc<ConnectionOptions>, connection: Option<Connection>) -> Self {
        let dials = connection.is_none();
        let current = ArcSwapOption::from(connection.map(Arc::new));
        Self { shared: Arc::new(Shared { endpoint, options, dials, current, state: Mutex::default() }) }
    }

    /// The other side.
    pub(crate) fn endpoint(&self) -> &Address {
        &self.shared.endpoint
    }

    /// The connection, if there is one that takes calls.
    pub(crate) fn ready(&self) -> Option<Connection> {
        self.shared.ready()
    }

    /// The connection: the one in use, or the one that is dialed now. Dropping this does not end
    /// the dial, for which others may wait.
    pub(crate) async fn connection(&self) -> Result<Connection, RpcError> {
        if let Some(connection) = self.ready() {
            return Ok(connection);
        }
        let mut result = match self.shared.way()? {
            Way::Ready(connection) => return Ok(connection),
            Way::Dialing(result) => result,
        };
        let dialed = match result.wait_for(Option::is_some).await {
            Ok(dialed) => dialed.clone(),
            Err(_gone) => None,
        };
        dialed.unwrap_or_else(|| Err(self.shared.unavailable("dialing was given up")))
    }

    /// Begins to dial, if there is no connection and it may; nobody waits for it.
    pub(crate) fn dial(&self) {
        let _ = self.shared.way();
    }

    /// Whether the last connection is gone, other than by [`Link::close`], and nobody dials.
    pub(crate) fn is_lost(&self) -> bool {
        let had = self.shared.current.load().as_ref().is_some_and(|connection| !connection.is_available());
        had && {
            let state = self.shared.lock();
            state.connected.is_some() && state.dialing.is_none()
        }
    }

    /// What the last dial has failed with, unless there was a connection since.
    pub(crate) fn trouble(&self) -> Option<RpcError> {
        self.shared.lock().failed.as_ref().map(|(error, _)| error.clone())
    }

    /// What is said of a dial that takes longer than calls wait for it.
    pub(crate) fn why_slow(&self) -> RpcError {
        self.shared.unavailable("it is being dialed, and did not answer yet")
    }

    /// What is said of a connection that was lost.
    pub(crate) fn why_lost(&self) -> RpcError {
        self.shared.unavailable(format!("the connection was lost: {}", self.shared.why_closed()))
    }

    /// When it may be dialed again after a failure; none where it may be at once.
    pub(crate) fn rests_until(&self) -> Option<Instant> {
        let next = self.shared.lock().failed.as_ref().map(|(_, next)| *next);
        next.filter(|next| *next > Instant::now())
    }

    /// Ends the connection, and the dial that may be under way. It may be dialed again.
    pub(crate) fn close(&self) {
        self.give_up_dialing();
        if let Some(connection) = self.shared.current.load().as_ref() {
            connection.close();
        }
    }

    fn give_up_dialing(&self) {
        let mut state = self.shared.lock();
        // That this side ends the connection says nothing of the server.
        state.connected = None;
        let dialing = state.dialing.take();
        drop(state);
        if let Some(dialing) = dialing {
            dialing.task.abort();
        }
    }
}

impl Drop for Link {
    /// Nobody waits for the dial any more. The connection ends with its last handle.
    fn drop(&mut self) {
        self.give_up_dialing();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("endpoint", self.endpoint()).field("ready", &self.ready()).finish()
    }
}

impl Shared {
    fn ready(&self) -> Option<Connection> {
        let current = self.current.load();
        current
            .as_ref()
            .filter(|connection| connection.is_available())
            .map(|connection| (**connection).clone())
    }

    /// The result of the dial that is under way, or is begun now.
    fn way(self: &Arc<Self>) -> Result<Way, RpcError> {
        if !self.dials {
            let why = self.why_closed();
            return Err(self.unavailable(format!("{why}, and this channel cannot dial again")));
        }
        let mut state = self.lock();
        // Looked at again, since a dial may have ended in between.
        if let Some(connection) = self.ready() {
            return Ok(Way::Ready(connection));
        }
        // One that is finished and still here panicked, or its runtime was shut down.
        if let Some(dialing) = state.dialing.as_ref().filter(|dialing| !dialing.task.is_finished()) {
            return Ok(Way::Dialing(dialing.result.clone()));
        }
        self.judge_last(&mut state);
        let now = Instant::now();
        if let Some((error, next)) = state.failed.as_ref().filter(|(_, next)| *next > now) {
            return Err(resting(error, *next - now, &self.endpoint));
        }
        state.dials += 1;
        let number = state.dials;
        let (tell, result) = watch::channel(None);
        let shared = Arc::clone(self);
        // Owned by the state: a later dial, or the link's end, ends it.
        let task = tokio::spawn(async move {
            let dialed = Connection::open(&shared.endpoint, &shared.options).await;
            shared.dialed(number, &dialed);
            // Whoever waited may have gone meanwhile.
            let _ = tell.send(Some(dialed));
        });
        state.dialing = Some(Dialing { result: result.clone(), task: task.abort_handle() });
        Ok(Way::Dialing(result))
    }

    /// Draws the conclusion from how long the last connection was of use.
    fn judge_last(&self, state: &mut State) {
        let Some(connected) = state.connected.take() else { return };
        let current = self.current.load();
        let Some(closed) = current.as_ref().and_then(|connection| connection.closed_at()) else { return };
        if closed.saturating_duration_since(connected) >= PROVEN {
            state.backoff.reset();
            state.unproven = false;
        } else if std::mem::replace(&mut state.unproven, true) {
            let message = format!("the last connection did not last: {}", self.why_closed());
            state.failed = Some((self.unavailable(message), closed + state.backoff.failed()));
        }
        // Else the first retry is made at once.
    }

    fn dialed(&self, number: u64, dialed: &Result<Connection, RpcError>) {
        let mut state = self.lock();
        if number != state.dials || state.dialing.take().is_none() {
            // Given up, just before it was done.
            return;
        }
        let now = Instant::now();
        match dialed {
            Ok(connection) => {
                state.connected = Some(now);
                state.failed = None;
                self.current.store(Some(Arc::new(connection.clone())));
            }
            Err(error) => {
                let delay = state.backoff.failed();
                debug!(endpoint = %self.endpoint, %error, ?delay, "dialing failed");
                state.failed = Some((error.clone(), now + delay));
            }
        }
    }

    fn why_closed(&self) -> String {
        self.current.load().as_ref().map_or_else(String::new, |connection| connection.why_closed())
    }

    fn unavailable(&self, message: impl Into<String>) -> RpcError {
        RpcError::new(Code::Unavailable, Execution::NotSent, Phase::Connect, message).at(&self.endpoint)
    }

    /// Nothing is awaited, and no code of a user's runs, under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What calls are told until the next dial is due, so that they do not pile up behind a dead peer.
fn resting(error: &RpcError, left: Duration, endpoint: &Address) -> RpcError {
    let left = HumanDuration(Duration::from_millis(left.as_millis() as u64 + 1));
    let message = format!("{} (dialed again in {left})", error.message());
    RpcError::new(error.code(), Execution::NotSent, error.phase(), message)
        .at(endpoint)
        .with_source(error.clone())
}
