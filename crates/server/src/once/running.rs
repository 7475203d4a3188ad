//! [`Running`]: a call that is carried out once, as all its tries at this server see it while it runs.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Mutex, OnceLock};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::once_call::OnceCall;
use crate::service::handler::Response;

/// The progress of a call whose handler was called.
const STARTED: u8 = 1;
/// The progress of a call whose handler has ended, and whose answer the store gets.
const HANDLED: u8 = 2;

/// A call that runs.
pub(super) struct Running {
    pub(super) call: OnceCall,
    progress: AtomicU8,
    /// The latest deadline of the callers that wait for it; `None` if one has none.
    deadline: Mutex<Option<Instant>>,
    outcome: OnceLock<Response>,
    ended: Notify,
}

impl Running {
    pub(super) fn new(call: OnceCall, deadline: Option<Instant>) -> Self {
        Self {
            call,
            progress: AtomicU8::new(0),
            deadline: Mutex::new(deadline),
            outcome: OnceLock::new(),
            ended: Notify::new(),
        }
    }

    /// Lets the call run until this deadline, too.
    pub(super) fn extend(&self, deadline: Option<Instant>) {
        let mut latest = self.deadline.lock().expect("no code panics under the lock");
        *latest = latest.zip(deadline).map(|(latest, deadline)| latest.max(deadline));
    }

    /// Waits until the deadlines of all its callers have passed.
    pub(super) async fn until_deadline(&self) {
        let latest = || *self.deadline.lock().expect("no code panics under the lock");
        // Another caller may have joined meanwhile.
        loop {
            match latest() {
                Some(deadline) if deadline <= Instant::now() => return,
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Notes that the handler is called.
    pub(super) fn set_started(&self) {
        self.progress.store(STARTED, Relaxed);
    }

    /// Notes that the handler has ended.
    pub(super) fn set_handled(&self) {
        self.progress.store(HANDLED, Relaxed);
    }

    /// Returns `true` once the handler was called.
    pub(super) fn is_started(&self) -> bool {
        self.progress.load(Relaxed) >= STARTED
    }

    /// Returns `true` once the handler has ended.
    pub(super) fn is_handled(&self) -> bool {
        self.progress.load(Relaxed) >= HANDLED
    }

    /// Sets the answer, once, and wakes those who wait for it.
    pub(super) fn end(&self, response: Response) {
        // An error means that it was set: the first one was sent already.
        let _ = self.outcome.set(response);
        self.ended.notify_waiters();
    }

    /// Returns the answer; `None` before there is one.
    pub(super) fn outcome(&self) -> Option<&Response> {
        self.outcome.get()
    }

    /// Waits for the answer.
    pub(super) async fn answer(&self) -> Response {
        // Before the check, so that no end is missed between the two.
        let ended = self.ended.notified();
        if let Some(response) = self.outcome() {
            return response.clone();
        }
        ended.await;
        self.outcome().expect("it is set before the notice").clone()
    }
}
