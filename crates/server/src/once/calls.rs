//! [`OnceCalls`]: the calls of one server that are carried out once, and the tasks of those whose callers have gone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use farcall_discovery::Backoff;
use farcall_protocol::{BoxError, Code, Execution, Status};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span, warn};

use super::answer::encode;
use super::once_call::{OnceCall, OnceKey};
use super::options::OnceOptions;
use super::running::Running;
use super::store::DedupStore;
use crate::error::BuildError;
use crate::service::handler::Response;

/// The number of times that a store is asked to keep an answer.
const KEEP_ATTEMPTS: u32 = 3;
/// The pauses between them.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The calls of one server that are carried out once.
pub(crate) struct OnceCalls {
    pub(super) store: Arc<dyn DedupStore>,
    max_running: usize,
    // A std mutex: it is held for a few lookups, and never across an await. No code panics under it.
    running: Mutex<RunningCalls>,
    /// Owns the tasks of calls whose callers have gone.
    tasks: TaskTracker,
    /// Stops those tasks.
    stopped: CancellationToken,
}

#[derive(Default)]
struct RunningCalls {
    calls: HashMap<Arc<OnceKey>, Arc<Running>>,
    /// The number of calls of each caller.
    shares: HashMap<Arc<str>, usize>,
}

/// The part of a try in its call.
pub(super) enum Part {
    /// The first one here, which carries the call out.
    First(Arc<Running>),
    /// One that waits for the first one.
    Joined(Arc<Running>),
}

impl OnceCalls {
    /// Creates the table. `tasks` are those of the server.
    pub(crate) fn new(options: &OnceOptions, tasks: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            store: options.build_store(),
            max_running: options.max_running,
            running: Mutex::default(),
            tasks,
            stopped: CancellationToken::new(),
        })
    }

    /// Returns the tasks of the server.
    pub(crate) const fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Returns the name of the store.
    ///
    /// # Errors
    ///
    /// The name is empty, which tells clients that the server has no store.
    pub(crate) fn store_name(&self) -> Result<Arc<str>, BuildError> {
        let name = self.store.name();
        if name.is_empty() { Err(BuildError::NoStoreName) } else { Ok(name.into()) }
    }

    /// Returns the number of calls that run, also without their callers.
    pub(crate) fn running(&self) -> usize {
        self.table().calls.len()
    }

    /// Stops the calls whose callers have gone.
    pub(crate) fn stop(&self) {
        self.stopped.cancel();
    }

    /// Joins the call with this key that runs, or starts it.
    ///
    /// # Errors
    ///
    /// The status to answer, `refused`: other arguments, or too many calls.
    pub(super) fn enter(&self, call: OnceCall, deadline: Option<Instant>) -> Result<Part, Status> {
        let mut table = self.table();
        let RunningCalls { calls, shares } = &mut *table;
        let len = calls.len();
        match calls.entry(Arc::clone(call.place())) {
            Entry::Occupied(running) => {
                let running = running.get();
                if running.call.fingerprint() != call.fingerprint() {
                    return Err(other_arguments(&call));
                }
                running.extend(deadline);
                Ok(Part::Joined(Arc::clone(running)))
            }
            Entry::Vacant(free) => {
                let share = shares.get(&call.owner).copied().unwrap_or_default();
                check_running(len, share, self.max_running)?;
                *shares.entry(Arc::clone(&call.owner)).or_default() += 1;
                let running = Arc::new(Running::new(call, deadline));
                Ok(Part::First(Arc::clone(free.insert(running))))
            }
        }
    }

    /// Ends a call: has its answer kept, unless nothing was done, then gives it to those who wait.
    pub(super) async fn end(&self, running: &Running, response: Response, is_claimed: bool) {
        if is_claimed {
            let call = &running.call;
            let is_undone = response.status().is_some_and(|status| status.execution == Execution::Refused);
            if is_undone {
                persistently(call, || self.store.release(call)).await;
            } else {
                let answer = encode(&response);
                persistently(call, || self.store.keep(call, answer.clone())).await;
            }
        }
        running.end(response);
        self.leave(running);
    }

    /// Removes a call that has ended. Repeated, it does nothing.
    pub(super) fn leave(&self, running: &Running) {
        let mut table = self.table();
        let RunningCalls { calls, shares } = &mut *table;
        // A later call with the same key is another one.
        if calls.get(running.call.place()).is_none_or(|known| !std::ptr::eq(&**known, running)) {
            return;
        }
        calls.remove(running.call.place());
        if let Some(share) = shares.get_mut(&running.call.owner) {
            *share -= 1;
            if *share == 0 {
                shares.remove(&running.call.owner);
            }
        }
    }

    /// Lets a call go on whose caller has gone: its connection broke, or it was cancelled, and it may come back for the
    /// answer.
    pub(super) fn adopt(self: &Arc<Self>, running: Arc<Running>, execution: BoxFuture<'static, ()>) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Outside of a runtime nothing can go on.
            drop(execution);
            return;
        };
        let calls = Arc::clone(self);
        let task = async move { calls.finish(&running, execution).await };
        self.tasks.spawn_on(task.instrument(Span::current()), &runtime);
    }

    /// Polls a call to its end, the deadline of its last caller, or the stop of the server.
    async fn finish(&self, running: &Arc<Running>, mut execution: BoxFuture<'static, ()>) {
        let (code, why) = tokio::select! {
            biased;
            // All are used once only.
            () = self.stopped.cancelled() => (Code::Cancelled, "the server is stopping"),
            () = &mut execution => return,
            () = running.until_deadline() => (Code::DeadlineExceeded, "the time of its callers ran out"),
        };
        if running.is_handled() {
            // The store gets its answer, which no deadline stops.
            return execution.await;
        }
        let message = format!("`{}` was stopped: {why}", running.call.method());
        // Before the drop, which sets another answer if there is none.
        if running.is_started() {
            let response = Response::error(Status::maybe(code, message));
            let answer = encode(&response);
            persistently(&running.call, || self.store.keep(&running.call, answer.clone())).await;
            running.end(response);
        } else {
            running.end(Response::error(Status::refused(code, message)));
        }
        // `AssertUnwindSafe`: it is gone afterwards. A panic while a handler is dropped is the handler's.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(execution)));
    }

    fn table(&self) -> MutexGuard<'_, RunningCalls> {
        self.running.lock().expect("no code panics under the lock")
    }
}

/// Checks the limits for one more call that runs; `len` run in all, and `share` of the caller.
///
/// # Errors
///
/// `resource_exhausted`, `refused`.
fn check_running(len: usize, share: usize, max: usize) -> Result<(), Status> {
    let full = if len >= max {
        format!("{max} calls that are carried out once run on this server (`OnceOptions::max_running`)")
    } else if share >= max.div_ceil(2) {
        let half = max.div_ceil(2);
        format!(
            "{half} calls that are carried out once run for this caller (half of `OnceOptions::max_running`)"
        )
    } else {
        return Ok(());
    };
    Err(Status::refused(Code::ResourceExhausted, full))
}

/// Returns the status for a key that was used with other arguments.
pub(super) fn other_arguments(call: &OnceCall) -> Status {
    let message = format!(
        "`{}`: its `farcall-idempotency-key` was used for a call with other arguments; each call needs another key",
        call.method()
    );
    Status::refused(Code::InvalidArgument, message)
}

/// Asks a store up to three times.
async fn persistently<'a>(call: &OnceCall, ask: impl Fn() -> BoxFuture<'a, Result<(), BoxError>>) {
    let mut backoff = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
    for attempt in 1.. {
        let Err(error) = ask().await else { return };
        if attempt == KEEP_ATTEMPTS {
            let method = call.method();
            warn!(method, %error, "the store of calls that are carried out once keeps no answer");
            return;
        }
        sleep(backoff.next_pause()).await;
    }
}
