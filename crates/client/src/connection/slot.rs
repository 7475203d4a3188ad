//! One connection of a pool: dialed when it is needed, and again after it broke.

use std::any::Any;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use farcall_discovery::{Backoff, Load};
use farcall_protocol::time::later;
use farcall_protocol::{Code, EscapedText, Execution, panic_message};
use farcall_runtime::task::AbortHandle;
use farcall_runtime::time::Instant;
use farcall_transport::{Address, HumanDuration};
use futures::FutureExt as _;
use tokio::sync::{Notify, watch};
use tracing::{debug, error};

use super::Connection;
use super::backoff::reconnect_backoff;
use super::closing::Closing;
use super::open_progress::OpenProgress;
use super::options::ConnectionOptions;
use crate::error::{Phase, RpcError};

/// A connection to an endpoint and the means to dial it. At most one dial is under way, and calls share it.
pub(crate) struct ConnectionSlot {
    shared: Arc<Shared>,
}

/// The part of a slot that its dial task keeps, too.
struct Shared {
    endpoint: Address,
    options: Arc<ConnectionOptions>,
    /// `false` for a connection that was opened elsewhere and cannot be dialed.
    can_dial: bool,
    /// The connection in use, read without a lock.
    current: ArcSwapOption<Connection>,
    /// The place for the load that the server reports; empty if the channel has one endpoint.
    load: OnceLock<Arc<Load>>,
    state: Mutex<State>,
}

struct State {
    backoff: Backoff,
    /// The error of the last dial, and when the next dial may be made.
    failed: Option<(RpcError, Instant)>,
    /// When the connection in use was made.
    connected: Option<Instant>,
    /// `true` if the last connection was closed within [`MIN_HEALTHY_UPTIME`].
    was_short_lived: bool,
    dialing: Option<Dial>,
    /// The number of dials so far, which tells the result of the current dial from that of an abandoned one.
    dials: u64,
}

type DialResult = Option<Result<Connection, RpcError>>;

/// A dial under way.
struct Dial {
    result: DialWait,
    progress: OpenProgress,
    task: AbortHandle,
}

/// The result of a dial, to wait for.
#[derive(Clone)]
struct DialWait {
    result: watch::Receiver<DialResult>,
    /// Wakes the calls that wait in the order in which they came, which `watch` does not.
    ended: Arc<Notify>,
}

/// The task's side of a dial.
struct DialSender {
    /// `None` while it is dropped.
    result: Option<watch::Sender<DialResult>>,
    ended: Arc<Notify>,
}

/// Outcomes of asking for a connection.
enum DialOutcome {
    /// There is one.
    Ready(Connection),
    /// One is being dialed.
    Dialing(DialWait),
}

/// A connection that closed sooner than this does not reset the backoff: a server that accepts connections and
/// closes them at once is dialed with pauses.
const MIN_HEALTHY_UPTIME: Duration = Duration::from_secs(1);

impl ConnectionSlot {
    pub(super) fn new(endpoint: Address, options: Arc<ConnectionOptions>) -> Self {
        Self::with(endpoint, options, None)
    }

    /// Creates a slot for a connection that was opened elsewhere and cannot be dialed again.
    pub(super) fn over(connection: Connection) -> Self {
        Self::with(connection.endpoint().clone(), Arc::default(), Some(connection))
    }

    fn with(endpoint: Address, options: Arc<ConnectionOptions>, connection: Option<Connection>) -> Self {
        let can_dial = connection.is_none();
        let current = ArcSwapOption::from(connection.map(Arc::new));
        Self {
            shared: Arc::new(Shared {
                endpoint,
                options,
                can_dial,
                current,
                load: OnceLock::new(),
                state: Mutex::new(State::new()),
            }),
        }
    }

    /// Has the load that the server reports recorded there, for connections that are dialed from now on.
    pub(super) fn report_load_to(&self, load: &Arc<Load>) {
        // Once, before the first dial.
        let _ = self.shared.load.set(Arc::clone(load));
    }

    /// Returns the other side's address.
    pub(super) fn endpoint(&self) -> &Address {
        &self.shared.endpoint
    }

    /// Returns the connection, if there is one that takes calls.
    pub(super) fn ready(&self) -> Option<Connection> {
        self.shared.ready()
    }

    /// Returns the connection in use, or the one that is dialed now. Dropping the future does not stop the
    /// dial, which other calls may wait for.
    pub(super) async fn connection(&self) -> Result<Connection, RpcError> {
        if let Some(connection) = self.ready() {
            return Ok(connection);
        }
        // Another runtime may have dialed, and end meanwhile: then the call dials itself, once.
        for _ in 0..2 {
            let result = match self.shared.ready_or_dial()? {
                DialOutcome::Ready(connection) => return Ok(connection),
                DialOutcome::Dialing(result) => result,
            };
            if let Some(dialed) = result.dialed().await {
                return dialed;
            }
            if !self.shared.is_orphaned_dial(&result) {
                break;
            }
        }
        Err(self.shared.unavailable("dialing was given up"))
    }

    /// Starts a dial if there is no connection and the backoff allows it, without waiting for it. Outside of a runtime, where
    /// calls are made as long as there are connections, it does nothing.
    pub(super) fn dial(&self) {
        if can_spawn() {
            let _ = self.shared.ready_or_dial();
        }
    }

    /// Returns `true` if the last connection is gone, other than by [`ConnectionSlot::close`] or with its runtime, and
    /// no dial is under way.
    pub(super) fn is_lost(&self) -> bool {
        let is_lost = |connection: &Arc<Connection>| !connection.is_available() && !connection.is_orphaned();
        let had = self.shared.current.load().as_ref().is_some_and(is_lost);
        had && {
            let state = self.shared.lock();
            state.connected.is_some() && state.dialing.is_none()
        }
    }

    /// Returns the error of the last dial, unless there was a connection since.
    pub(super) fn last_error(&self) -> Option<RpcError> {
        self.shared.lock().failed.as_ref().map(|(error, _)| error.clone())
    }

    /// Creates the error for a call that stopped waiting while the dial was still under way.
    pub(super) fn slow_dial_error(&self) -> RpcError {
        self.shared.unavailable("it is being dialed, and did not answer yet")
    }

    /// Returns how far the dial under way has come.
    pub(super) fn dial_progress(&self) -> Option<OpenProgress> {
        self.shared.lock().dialing.as_ref().map(|dial| dial.progress.clone())
    }

    /// Creates the error for a connection that was lost.
    pub(super) fn lost_error(&self) -> RpcError {
        self.shared.unavailable(format!("the connection was lost: {}", self.shared.close_reason()))
    }

    /// Returns when it may be dialed again after a failure; `None` if it may be dialed now.
    pub(super) fn next_dial_at(&self) -> Option<Instant> {
        let next = self.shared.lock().failed.as_ref().map(|(_, next)| *next);
        next.filter(|next| *next > Instant::now())
    }

    /// Closes the connection and stops the dial that may be under way. The slot may be dialed again.
    pub(super) fn close(&self) -> Option<Closing> {
        self.stop_dialing();
        self.shared.current.load().as_ref().map(|connection| connection.close())
    }

    /// Waits until all that was sent over the connection in use is handed to the operating system.
    pub(super) async fn flush(&self) -> Result<(), RpcError> {
        match self.shared.current.load_full() {
            Some(connection) => connection.flush().await,
            None => Ok(()),
        }
    }

    fn stop_dialing(&self) {
        let mut state = self.shared.lock();
        // A connection that this side closed does not count as short-lived.
        state.connected = None;
        let dialing = state.dialing.take();
        drop(state);
        if let Some(dialing) = dialing {
            dialing.task.abort();
        }
    }
}

impl Drop for ConnectionSlot {
    /// Stops the dial, which no call waits for any more. The connection closes with its last handle.
    fn drop(&mut self) {
        self.stop_dialing();
    }
}

impl fmt::Debug for ConnectionSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionSlot")
            .field("endpoint", self.endpoint())
            .field("ready", &self.ready())
            .finish()
    }
}

impl Dial {
    /// Returns `true` if its task has ended without a result: its runtime was shut down.
    fn is_orphaned(&self) -> bool {
        self.result.has_ended()
    }
}

impl DialWait {
    /// Waits for the result; `None` if there is none.
    async fn dialed(&self) -> Option<Result<Connection, RpcError>> {
        loop {
            let mut ended = pin!(self.ended.notified());
            // Before looking, so that an end in between is not missed.
            ended.as_mut().enable();
            if self.has_ended() {
                return self.result.borrow().clone();
            }
            ended.await;
        }
    }

    /// Returns `true` if the task of the dial has ended.
    fn has_ended(&self) -> bool {
        self.result.has_changed().is_err()
    }
}

impl DialSender {
    fn send(&self, dialed: Result<Connection, RpcError>) {
        if let Some(result) = &self.result {
            // The calls that waited may be gone.
            let _ = result.send(Some(dialed));
        }
    }
}

/// Wakes the calls that wait, also if the task is dropped with its runtime. Only after the channel is closed, so that
/// none of them waits again.
impl Drop for DialSender {
    fn drop(&mut self) {
        self.result = None;
        self.ended.notify_waiters();
    }
}

impl State {
    const fn new() -> Self {
        Self {
            backoff: reconnect_backoff(),
            failed: None,
            connected: None,
            was_short_lived: false,
            dialing: None,
            dials: 0,
        }
    }
}

impl Shared {
    #[inline]
    fn ready(&self) -> Option<Connection> {
        let current = self.current.load();
        current
            .as_ref()
            .filter(|connection| connection.is_available())
            .map(|connection| (**connection).clone())
    }

    /// Returns the connection, or the result of the dial that is under way or starts now.
    fn ready_or_dial(self: &Arc<Self>) -> Result<DialOutcome, RpcError> {
        if !self.can_dial {
            let reason = self.close_reason();
            return Err(self.unavailable(format!("{reason}, and this channel cannot dial again")));
        }
        let mut state = self.lock();
        // Checked again under the lock, since a dial may have ended in between.
        if let Some(connection) = self.ready() {
            return Ok(DialOutcome::Ready(connection));
        }
        // A dial without a task is one whose runtime was shut down.
        if let Some(dialing) = state.dialing.as_ref().filter(|dialing| !dialing.is_orphaned()) {
            return Ok(DialOutcome::Dialing(dialing.result.clone()));
        }
        self.judge_last_connection(&mut state);
        let now = Instant::now();
        if let Some((error, next)) = state.failed.as_ref().filter(|(_, next)| *next > now) {
            return Err(backing_off(error, *next - now, &self.endpoint));
        }
        state.dials += 1;
        let number = state.dials;
        let (sender, result) = watch::channel(None);
        let ended = Arc::new(Notify::new());
        let result = DialWait { result, ended: Arc::clone(&ended) };
        let (shared, progress) = (Arc::clone(self), OpenProgress::default());
        let observed = progress.clone();
        // Owned by the state: a later dial, or the end of the slot, aborts it.
        let sender = DialSender { result: Some(sender), ended };
        let task = farcall_runtime::spawn(async move {
            let dialing =
                AssertUnwindSafe(Connection::open_observed(&shared.endpoint, &shared.options, &observed));
            let dialed = match dialing.catch_unwind().await {
                Ok(dialed) => {
                    shared.finish_dial(number, &dialed);
                    dialed
                }
                Err(panic) => Err(shared.dial_panicked(number, &*panic)),
            };
            sender.send(dialed);
        });
        state.dialing = Some(Dial { result: result.clone(), progress, task: task.abort_handle() });
        Ok(DialOutcome::Dialing(result))
    }

    /// Returns `true` if this is the current dial, and the runtime that it ran in was shut down.
    fn is_orphaned_dial(&self, dial: &DialWait) -> bool {
        let state = self.lock();
        state
            .dialing
            .as_ref()
            .is_some_and(|dialing| dialing.result.result.same_channel(&dial.result) && dialing.is_orphaned())
    }

    /// Resets the backoff if the last connection lasted; starts it if two in a row did not.
    fn judge_last_connection(&self, state: &mut State) {
        let Some(connected) = state.connected.take() else { return };
        let current = self.current.load();
        // One that ended with its runtime says nothing about the server.
        let last = current.as_ref().filter(|connection| !connection.is_orphaned());
        let Some(closed) = last.and_then(|connection| connection.closed_at()) else { return };
        if closed.saturating_duration_since(connected) >= MIN_HEALTHY_UPTIME {
            state.backoff.reset();
            state.was_short_lived = false;
        } else if std::mem::replace(&mut state.was_short_lived, true) {
            let message = format!("the last connection did not last: {}", self.close_reason());
            state.failed = Some((self.unavailable(message), later(closed, state.backoff.next_pause())));
        }
        // The first redial after a connection broke is made at once.
    }

    fn finish_dial(&self, number: u64, dialed: &Result<Connection, RpcError>) {
        let mut state = self.lock();
        if number != state.dials || state.dialing.take().is_none() {
            // The dial was abandoned just before it was done.
            return;
        }
        let now = Instant::now();
        match dialed {
            Ok(connection) => {
                state.connected = Some(now);
                state.failed = None;
                if let Some(load) = self.load.get() {
                    connection.handle().shared().report_load_to(load);
                }
                self.current.store(Some(Arc::new(connection.clone())));
            }
            Err(error) => {
                let delay = state.backoff.next_pause();
                debug!(endpoint = %self.endpoint, %error, ?delay, "dialing failed");
                state.failed = Some((error.clone(), later(now, delay)));
            }
        }
    }

    fn close_reason(&self) -> String {
        self.current.load().as_ref().map_or_else(String::new, |connection| connection.close_reason())
    }

    /// Ends a dial that panicked, in a user's dialer or resolver. It says nothing about the server, so the next call
    /// dials again.
    fn dial_panicked(&self, number: u64, panic: &(dyn Any + Send)) -> RpcError {
        let mut state = self.lock();
        if number == state.dials {
            state.dialing = None;
        }
        drop(state);
        let message = format!("dialing panicked: {}", EscapedText(panic_message(panic)));
        error!(endpoint = %self.endpoint, "{message}");
        self.unavailable(message)
    }

    fn unavailable(&self, message: impl Into<String>) -> RpcError {
        RpcError::new(Code::Unavailable, Execution::NotSent, Phase::Connect, message).at(&self.endpoint)
    }

    /// Locks the state. Nothing is awaited, and no user code runs, under this lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns `true` if a task can be started here.
fn can_spawn() -> bool {
    // A page has one event loop.
    cfg!(target_family = "wasm") || tokio::runtime::Handle::try_current().is_ok()
}

/// Creates the error that calls get until the next dial is due, so that they do not wait for a dead peer.
fn backing_off(error: &RpcError, left: Duration, endpoint: &Address) -> RpcError {
    let left = HumanDuration(Duration::from_millis(left.as_millis() as u64 + 1));
    let message = format!("{} (dialed again in {left})", error.message());
    RpcError::new(error.code(), Execution::NotSent, error.phase(), message)
        .at(endpoint)
        .with_source(error.clone())
}
