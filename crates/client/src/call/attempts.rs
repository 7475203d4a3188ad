//! The attempts of a call that could not simply be sent and answered: whether there is a next one,
//! and when. How one of them gets to an endpoint is for [`endpoint_choice`](super::endpoint_choice) to say.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_protocol::{Code, Execution};
use futures::future::select;
use tokio::task::coop::consume_budget;
use tokio::time::{sleep, sleep_until, timeout, timeout_at};

use super::endpoint_choice::Been;
use super::retry::{Again, again, counts, is_thinkable, is_unreachable, told};
use super::state::Sent;
use crate::call::request::Ready;
use crate::call::retry_policy::Kind;
use crate::call::span::tried_again;
use crate::channel::{Inner, Targets};
use crate::connection::response::Answer;
use crate::endpoints::Visit;
use crate::error::RpcError;
use crate::error::attempt_log::Tries;

/// What was tried for a call so far.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Tries that count, of which there is a limit.
    counted: u32,
    /// All tries that have failed.
    tries: Tries,
    /// Behind a lock, since two tries may be under way at once.
    been: Mutex<Been>,
    /// How the call would end if no further try could be made.
    before: Option<RpcError>,
}

/// The longest pause before the second try, which doubles with each further one up to
/// [`LONGEST_PAUSE`]. The pause is anything from nothing to that: the full jitter of Marc Brooker,
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a call that waits for an endpoint looks again where nothing tells it to.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The tries of a call, those that found nobody included: of ten thousand endpoints that all are
/// dead it is enough to know a tenth, and a list that always changes must keep no call for ever.
const MOST_TRIES: u32 = 1000;

impl Attempts {
    /// The first try goes there.
    pub(super) fn to(visit: Option<Visit>) -> Self {
        Self { been: Mutex::new(Been::to(visit)), ..Self::default() }
    }

    /// The first try went there.
    pub(super) fn at(visit: Option<Visit>) -> Self {
        Self { been: Mutex::new(Been::at(visit)), ..Self::default() }
    }

    /// Makes the call until it is answered or tried enough. `outcome` is that of the first try, if
    /// one was made.
    pub(super) async fn run(
        mut self,
        mut ready: Ready,
        inner: &Inner,
        outcome: Option<Result<Answer, RpcError>>,
    ) -> Result<Answer, RpcError> {
        let mut outcome = match outcome {
            Some(outcome) => outcome,
            None => self.attempt(&ready, inner).await,
        };
        while let Err(error) = outcome {
            outcome = match self.until_next(error, &mut ready, inner).await {
                Ok(()) => self.attempt(&ready, inner).await,
                Err(last) => return Answer::named(Err(last), ready.into_method()),
            };
        }
        Answer::named(outcome, ready.into_method())
    }

    /// Sends a request that nobody waits for, until it is sent or tried enough.
    pub(super) async fn notify(mut self, mut ready: Ready, inner: &Inner) -> Result<(), RpcError> {
        loop {
            let sent = self.send(&ready, inner, async |connection, outgoing, phase| {
                connection.send_one_way(outgoing, phase).await
            });
            let Err(error) = sent.await else { return Ok(()) };
            let next = self.until_next(error, &mut ready, inner).await;
            next.map_err(|last| last.of(ready.method().clone()))?;
        }
    }

    /// Ready when the next try is due.
    ///
    /// # Errors
    ///
    /// There is none.
    async fn until_next(
        &mut self,
        error: RpcError,
        ready: &mut Ready,
        inner: &Inner,
    ) -> Result<(), RpcError> {
        inner.failed();
        self.tries.add(&error);
        self.counted += u32::from(counts(&error));
        let pause = self.pause(&error, ready, inner);
        let waits = pause.is_none() && is_unreachable(&error) && inner.waits_for_ready(ready);
        let error = told(self.before.take(), error);
        let none = pause.is_none() && !waits;
        if none || !self.due(pause, ready, inner).await {
            // There is none, or no time is left for it, so that the last one has the say.
            return Err(error.after(std::mem::take(&mut self.tries)));
        }
        tried_again(&error);
        self.before = Some(error);
        ready.mark(self.been().next_number());
        Ok(())
    }

    /// Ready after the pause, or, without one, when there may be somebody to be reached. False where
    /// the call's time is up before.
    async fn due(&self, pause: Option<Duration>, ready: &Ready, inner: &Inner) -> bool {
        let due = async {
            match pause {
                // Where many fail at once, others on this thread get on in between.
                Some(Duration::ZERO) => consume_budget().await,
                Some(pause) => sleep(pause).await,
                None => self.changed(inner).await,
            }
        };
        let Some(deadline) = ready.deadline else {
            due.await;
            return true;
        };
        timeout_at(deadline.at, due).await.is_ok()
    }

    /// How long to wait before the next try; none where there is no next.
    fn pause(&self, error: &RpcError, ready: &Ready, inner: &Inner) -> Option<Duration> {
        let again = again(error, ready.is_idempotent())?;
        let mode = inner.retry(ready);
        if mode.kind == Kind::Fast || self.counted >= mode.tries || self.tries.made() >= MOST_TRIES {
            return None;
        }
        // What never left costs nobody anything, and says nothing of the next one.
        let never_left = error.execution() == Execution::NotSent;
        let stays = mode.kind == Kind::Again;
        let elsewhere = !stays && self.has_others(inner);
        // An overload may have passed; a method that is not there will not have come, and who could
        // not be connected to rests.
        let same = again == Again::Anywhere || stays && !never_left && error.code() != Code::Unimplemented;
        if !elsewhere && !same {
            return None;
        }
        let pause = if never_left { Duration::ZERO } else { self.jitter() };
        // Only a try that is made is paid for.
        let possible = !ready.is_over_after(pause) && (never_left || inner.budget.withdraw());
        possible.then_some(pause)
    }

    fn jitter(&self) -> Duration {
        let doubled = FIRST_PAUSE.saturating_mul(1 << self.counted.saturating_sub(1).min(16));
        doubled.min(LONGEST_PAUSE).mul_f64(fastrand::f64())
    }

    /// Ready when there may be somebody to be reached again.
    async fn changed(&self, inner: &Inner) {
        match &inner.targets {
            Targets::Many(endpoints) => {
                // A change makes it known at once; that a pause between dials is over, nobody tells.
                let _ = timeout(LOOK_EVERY, endpoints.changed()).await;
            }
            Targets::One(links) => match links.rests_until() {
                Some(until) => sleep_until(until).await,
                None => sleep(FIRST_PAUSE).await,
            },
        }
        self.been().forget();
    }

    /// One try; a second one beside it, where that is wanted and the first takes long.
    async fn attempt(&self, ready: &Ready, inner: &Inner) -> Result<Answer, RpcError> {
        match inner.retry(ready).kind {
            // Only what may be done twice is sent twice.
            Kind::Backup(delay) if ready.is_idempotent() => self.with_backup(delay, ready, inner).await,
            _ => self.once(ready, inner).await,
        }
    }

    async fn with_backup(&self, delay: Duration, ready: &Ready, inner: &Inner) -> Result<Answer, RpcError> {
        let mut first = Box::pin(self.once(ready, inner));
        if let Ok(outcome) = timeout(delay, &mut first).await {
            return outcome;
        }
        if !self.has_others(inner) || !inner.budget.withdraw() {
            return first.await;
        }
        let mut ready = ready.clone();
        ready.mark(self.been().next_number());
        let second = Box::pin(self.once(&ready, inner));
        // The one that is dropped in the end is cancelled, to its handler.
        let (outcome, other) = select(first, second).await.factor_first();
        match outcome {
            Err(error) if is_thinkable(&error, &ready) => other.await.map_err(|last| told(Some(error), last)),
            // An answer, or an error that the other would get, too.
            last => last,
        }
    }

    pub(super) async fn once(&self, ready: &Ready, inner: &Inner) -> Result<Answer, RpcError> {
        let sent = self
            .send(ready, inner, async |connection, outgoing, phase| connection.send(outgoing, phase).await);
        let (pending, visit) = sent.await?;
        Sent::new(pending, visit).await
    }

    /// Whether the call can go where it has not been.
    pub(super) fn has_others(&self, inner: &Inner) -> bool {
        match &inner.targets {
            Targets::Many(endpoints) => endpoints.has_others(self.been().tried()),
            Targets::One(_) => false,
        }
    }

    pub(super) fn been(&self) -> MutexGuard<'_, Been> {
        self.been.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
