//! The attempts of a call that could not simply be sent and answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use farcall_discovery::Asked;
use farcall_protocol::{Code, Execution};
use farcall_transport::Address;
use futures::future::{Either, select};
use tokio::time::{sleep, sleep_until, timeout, timeout_at};

use super::Sent;
use super::again::{Again, again, counts, is_unreachable, told};
use crate::answer::Answer;
use crate::channel::{Inner, Targets};
use crate::connection::{Connection, NotSent, Outgoing};
use crate::endpoints::{Endpoints, Member, Visit};
use crate::error::{Phase, RpcError};
use crate::failure_mode::Kind;
use crate::request::Ready;

/// What was tried for a call so far.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// Tries that count, of which there is a limit.
    counted: u32,
    /// All tries.
    made: u32,
    /// Behind a lock, since two tries may be under way at once.
    been: Mutex<Been>,
    /// How the call would end if no further try could be made.
    before: Option<RpcError>,
}

/// Where a call has been.
#[derive(Debug, Default)]
struct Been {
    ids: Vec<u64>,
    last: Option<Arc<Member>>,
    /// Where it goes next, if that was chosen already.
    next: Option<Visit>,
}

/// The longest pause before the second try, which doubles with each further one up to
/// [`LONGEST_PAUSE`]. The pause is anything from nothing to that: the full jitter of Marc Brooker,
/// "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often a call that waits for an endpoint looks again where nothing tells it to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Attempts {
    /// The first try goes there.
    pub(super) fn to(visit: Option<Visit>) -> Self {
        let attempts = Self::default();
        attempts.been().next = visit;
        attempts
    }

    /// The first try went there.
    pub(super) fn at(visit: Option<&Visit>) -> Self {
        let attempts = Self::default();
        if let Some(visit) = visit {
            attempts.been().go(visit.member());
        }
        attempts
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
        loop {
            match outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => self.until_next(error, &mut ready, inner).await?,
            }
            outcome = self.attempt(&ready, inner).await;
        }
    }

    /// Sends a request that nobody waits for, until it is sent or tried enough.
    pub(super) async fn notify(mut self, mut ready: Ready, inner: &Inner) -> Result<(), RpcError> {
        loop {
            let sent = self.send(&ready, inner, async |connection, outgoing, phase| {
                connection.send_one_way(outgoing, phase).await
            });
            match sent.await {
                Ok(_) => return Ok(()),
                Err(error) => self.until_next(error, &mut ready, inner).await?,
            }
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
        self.made += 1;
        self.counted += u32::from(counts(&error));
        let pause = self.pause(&error, ready, inner);
        let waits = pause.is_none() && is_unreachable(&error) && inner.waits_for_ready(ready);
        let error = told(self.before.take(), error);
        if pause.is_none() && !waits {
            return Err(error);
        }
        if !self.due(pause, ready, inner).await {
            // No time is left for another try, so that the last one has the say.
            return Err(error);
        }
        self.before = Some(error);
        ready.mark(self.made + 1);
        Ok(())
    }

    /// Ready after the pause, or, without one, when there may be somebody to be reached. False where
    /// the call's time is up before.
    async fn due(&self, pause: Option<Duration>, ready: &Ready, inner: &Inner) -> bool {
        let due = async {
            match pause {
                Some(Duration::ZERO) => {}
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
        let mode = inner.on_failure(ready);
        if self.counted >= mode.tries || mode.kind == Kind::Fast {
            return None;
        }
        let stays = mode.kind == Kind::Again && self.been().last.is_some();
        let elsewhere = !stays && self.has_others(inner);
        // An overload may have passed; a method that is not there will not have come.
        let same = again == Again::Anywhere || stays && error.code() != Code::Unimplemented;
        if !elsewhere && !same {
            return None;
        }
        // What never left costs nobody anything, and says nothing of the next one.
        if error.execution() == Execution::NotSent {
            return Some(Duration::ZERO);
        }
        inner.budget.withdraw().then(|| {
            let doubled = FIRST_PAUSE.saturating_mul(1 << self.counted.saturating_sub(1).min(16));
            doubled.min(LONGEST_PAUSE).mul_f64(fastrand::f64())
        })
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
        self.been().ids.clear();
    }

    /// One try; a second one beside it, where that is wanted and the first takes long.
    async fn attempt(&self, ready: &Ready, inner: &Inner) -> Result<Answer, RpcError> {
        let first = self.once(ready, inner);
        let Kind::Backup(delay) = inner.on_failure(ready).kind else { return first.await };
        let mut first = Box::pin(first);
        if let Ok(outcome) = timeout(delay, &mut first).await {
            return outcome;
        }
        if !ready.is_idempotent() || !self.has_others(inner) || !inner.budget.withdraw() {
            return first.await;
        }
        // The one that is dropped in the end is cancelled, to its handler.
        match select(first, Box::pin(self.once(ready, inner))).await {
            Either::Left((Err(_), other)) | Either::Right((Err(_), other)) => other.await,
            Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
        }
    }

    pub(super) async fn once(&self, ready: &Ready, inner: &Inner) -> Result<Answer, RpcError> {
        let sent = self
            .send(ready, inner, async |connection, outgoing, phase| connection.send(outgoing, phase).await);
        let (pending, visit) = sent.await?;
        Sent::new(pending, visit).await
    }

    /// Has `send` send the request to whomever it goes, all of it before the deadline.
    async fn send<T>(
        &self,
        ready: &Ready,
        inner: &Inner,
        send: impl AsyncFnOnce(&Connection, &Outgoing<'_>, &mut Phase) -> Result<T, NotSent>,
    ) -> Result<(T, Option<Visit>), RpcError> {
        match &inner.targets {
            Targets::One(links) => {
                let connect = async { Ok((links.connection().await?, None)) };
                send_in_time(ready, Some(links.endpoint()), connect, send).await
            }
            Targets::Many(endpoints) => {
                send_in_time(ready, None, self.reach(ready, inner, endpoints), send).await
            }
        }
    }

    /// A connection to one of many, dialed if need be.
    async fn reach(
        &self,
        ready: &Ready,
        inner: &Inner,
        endpoints: &Endpoints,
    ) -> Result<(Connection, Option<Visit>), RpcError> {
        let key = ready.key(endpoints.key(), &inner.codec);
        let stays = inner.on_failure(ready).kind == Kind::Again;
        loop {
            let (tried, last, next) = self.been().clone_for_next();
            let last = last.filter(|_| stays);
            let visit = match (next, &last) {
                (Some(next), _) => next,
                (None, Some(member)) => Visit::new(member),
                (None, None) => {
                    let asked = Asked { key: key.as_deref(), tried: &tried };
                    endpoints.visit(&asked, inner.waits_for_ready(ready)).await?
                }
            };
            self.been().go(visit.member());
            let links = visit.member().links();
            // No call waits for a dial where another endpoint can do; the task dials meanwhile.
            if links.is_lost() && last.is_none() && self.has_others(inner) {
                visit.member().lost(links.why_lost());
                continue;
            }
            match links.connection().await {
                Ok(connection) => return Ok((connection, Some(visit))),
                Err(error) => {
                    visit.learn(Some(&error));
                    return Err(error);
                }
            }
        }
    }

    /// Whether the call can go where it has not been.
    fn has_others(&self, inner: &Inner) -> bool {
        match &inner.targets {
            Targets::Many(endpoints) => endpoints.has_others(&self.been().ids),
            Targets::One(_) => false,
        }
    }

    fn been(&self) -> MutexGuard<'_, Been> {
        self.been.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Been {
    /// The ids, the last, and what was chosen already.
    fn clone_for_next(&mut self) -> (Vec<u64>, Option<Arc<Member>>, Option<Visit>) {
        (self.ids.clone(), self.last.clone(), self.next.take())
    }

    fn go(&mut self, member: &Arc<Member>) {
        if !self.ids.contains(&member.id()) {
            self.ids.push(member.id());
        }
        self.last = Some(Arc::clone(member));
    }
}

/// Makes the call once, at this endpoint, before its deadline.
pub(crate) async fn call_at(ready: &Ready, member: &Arc<Member>) -> Result<Answer, RpcError> {
    let visit = Visit::new(member);
    let links = member.links();
    let connect = async {
        let connected = links.connection().await;
        if let Err(error) = &connected {
            visit.learn(Some(error));
        }
        Ok((connected?, Some(visit)))
    };
    let send = async |connection: &Connection, outgoing: &Outgoing<'_>, phase: &mut Phase| {
        connection.send(outgoing, phase).await
    };
    let (pending, visit) = send_in_time(ready, Some(links.endpoint()), connect, send).await?;
    Sent::new(pending, visit).await
}

/// Has `send` send the request over the connection that `connect` makes, all of it before the
/// deadline.
async fn send_in_time<T>(
    ready: &Ready,
    endpoint: Option<&Address>,
    connect: impl Future<Output = Result<(Connection, Option<Visit>), RpcError>>,
    send: impl AsyncFnOnce(&Connection, &Outgoing<'_>, &mut Phase) -> Result<T, NotSent>,
) -> Result<(T, Option<Visit>), RpcError> {
    let mut phase = Phase::Connect;
    let mut endpoint = endpoint.cloned();
    let steps = async {
        let (connection, visit) = connect.await?;
        endpoint.get_or_insert_with(|| connection.endpoint().clone());
        let packed = ready.pack(&connection)?;
        phase = Phase::Queue;
        let sent = send(&connection, &packed.outgoing(ready), &mut phase).await;
        Ok((sent.map_err(|why| ready.not_sent(&why, phase, &connection))?, visit))
    };
    let Some(deadline) = ready.deadline else { return steps.await };
    match timeout_at(deadline.at, steps).await {
        Ok(result) => result,
        Err(_elapsed) => {
            let error = ready.out_of_time(phase);
            Err(match endpoint {
                Some(endpoint) => error.at(&endpoint),
                None => error,
            })
        }
    }
}
