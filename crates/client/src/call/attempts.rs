//! The attempts of a call that could not be sent and answered at once: whether there is another one, and when.
//! [`endpoint_choice`](super::endpoint_choice) decides where it goes.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::Backoff;
use farcall_protocol::{Code, Execution};
use farcall_runtime::time::{sleep, sleep_until, timeout, timeout_at};
use futures::future::select;
use tokio::task::coop::consume_budget;

use super::attempt_report::AttemptReason;
use super::channel_core::{ChannelCore, Targets};
use super::endpoint_choice::EndpointChoice;
use super::goaways::Goaways;
use super::in_flight_call::InFlightCall;
use super::request::Request;
use super::retry::{
    RetryScope, is_bound_to_its_server, is_unreachable, leaves_to_other, most_informative, retry_scope,
};
use super::retry_policy::RetryMode;
use super::span::{record_attempt, retrying};
use super::stream::attempt;
use crate::connection::place::PlaceKind;
use crate::connection::response::Response;
use crate::endpoints::backend::Backend;
use crate::endpoints::guard::InFlightGuard;
use crate::error::RpcError;
use crate::error::attempt_log::AttemptLog;

/// The attempts of one call so far.
#[derive(Debug)]
pub(super) struct Attempts {
    /// Failed attempts that count towards the policy's limit.
    counted: u32,
    goaways: Goaways,
    /// All failed attempts.
    log: AttemptLog,
    endpoint: EndpointChoice,
    /// The pauses between attempts.
    backoff: Backoff,
    /// The error that the call ends with if there is no further attempt.
    last_error: Option<RpcError>,
}

/// The longest pause before the second attempt. It doubles with each further one up to [`MAX_PAUSE`]; the pause is
/// a random part of it.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(20);
pub(super) const MAX_PAUSE: Duration = Duration::from_secs(1);
/// The longest time after which a server may ask for another attempt and gets one.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// The interval in which a call that waits for an endpoint checks without being notified.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The most attempts of a call, those included that were not sent: with ten thousand endpoints that are all
/// dead, a tenth is enough to know, and a list that changes all the time must not keep a call retrying.
const MAX_ATTEMPTS: u32 = 1000;

impl Default for Attempts {
    fn default() -> Self {
        Self::with(EndpointChoice::default())
    }
}

impl Attempts {
    /// Starts with the first attempt, at the endpoint that was picked for it.
    pub(super) fn starting_at(guard: Option<InFlightGuard>) -> Self {
        Self::with(EndpointChoice::starting_at(guard))
    }

    /// Starts after the first attempt, which was made there.
    pub(super) fn after(guard: Option<InFlightGuard>) -> Self {
        Self::with(EndpointChoice::after(guard))
    }

    /// Starts with the first attempt, at another endpoint than this one if there is one.
    pub(super) fn avoiding(backend: Option<Arc<Backend>>) -> Self {
        Self::with(EndpointChoice::avoiding(backend))
    }

    fn with(endpoint: EndpointChoice) -> Self {
        Self {
            counted: 0,
            goaways: Goaways::default(),
            log: AttemptLog::default(),
            endpoint,
            backoff: Backoff::new(FIRST_PAUSE, MAX_PAUSE),
            last_error: None,
        }
    }

    /// Makes the call until it is answered or there is no further attempt. `outcome` is that of the first attempt,
    /// if it was made.
    pub(super) async fn run(
        mut self,
        mut request: Request,
        core: &ChannelCore,
        outcome: Option<Result<Response, RpcError>>,
    ) -> Result<Response, RpcError> {
        let mut outcome = match outcome {
            Some(outcome) => outcome,
            None => self.attempt(&request, core).await,
        };
        while let Err(error) = outcome {
            self.until_next(error, &mut request, core).await?;
            outcome = self.attempt(&request, core).await;
        }
        outcome
    }

    /// Sends a request that is not answered, until it is sent or there is no further attempt.
    pub(super) async fn send_one_way(
        mut self,
        mut request: Request,
        core: &ChannelCore,
    ) -> Result<Response, RpcError> {
        loop {
            let sent =
                self.endpoint.send(&request, core, PlaceKind::OneWay, async |place, request, phase| {
                    place.send_one_way(request, phase).await
                });
            match sent.await {
                Ok((response, _)) => return Ok(response),
                Err(error) => self.until_next(error, &mut request, core).await?,
            }
        }
    }

    /// Makes the call once.
    pub(super) async fn once(&self, request: &Request, core: &ChannelCore) -> Result<Response, RpcError> {
        let sent = self.endpoint.send(request, core, PlaceKind::Call, async |place, request, phase| {
            place.send(request, phase).await
        });
        let (pending, guard) = sent.await?;
        // Guards measure the latency of their endpoints.
        let timer = if guard.is_none() { core.totals().timer() } else { None };
        InFlightCall::new(pending, guard, timer).await.inspect_err(|error| request.lost_in_flight(error))
    }

    /// Waits until the next attempt is due.
    ///
    /// # Errors
    ///
    /// There is no further attempt.
    async fn until_next(
        &mut self,
        error: RpcError,
        request: &mut Request,
        core: &ChannelCore,
    ) -> Result<(), RpcError> {
        core.count_failure(&error);
        self.log.record(error.endpoint());
        if request.link().is_some_and(|link| !link.retry(error.execution())) {
            // What has reached the caller cannot be taken back.
            return Err(error.with_attempts(std::mem::take(&mut self.log)));
        }
        let is_free = self.is_free(&error);
        self.counted += u32::from(!is_free);
        request.failed(&error);
        if is_bound_to_its_server(&error, request.idempotence()) {
            self.endpoint.bind_to_last();
        }
        let pause = self.pause(&error, is_free, request, core);
        let waits =
            pause.is_none() && is_unreachable(&error) && core.waits_for_ready(request) && !core.is_hopeless();
        let error = most_informative(self.last_error.take(), error);
        let is_last = pause.is_none() && !waits;
        if is_last || !self.wait(pause, request, core).await {
            // Either there is no further attempt, or no time for one.
            return Err(error.with_attempts(std::mem::take(&mut self.log)));
        }
        retrying(&error);
        core.totals().count_retry();
        let attempt = self.endpoint.next_attempt();
        core.on_retry.report(attempt, || (error.endpoint().cloned(), AttemptReason::Failed(error.clone())));
        self.last_error = Some(error);
        request.set_attempt(attempt);
        record_attempt(attempt);
        Ok(())
    }

    /// Waits for the pause, or, without one, until an endpoint may be reachable. Returns `false` if the call's
    /// deadline passes before.
    async fn wait(&self, pause: Option<Duration>, request: &Request, core: &ChannelCore) -> bool {
        let due = async {
            match pause {
                // If many calls fail at once, other tasks on this thread run in between.
                Some(Duration::ZERO) => consume_budget().await,
                Some(pause) => sleep(pause).await,
                None => self.wait_for_endpoint(core).await,
            }
        };
        let Some(deadline) = request.deadline() else {
            due.await;
            return true;
        };
        timeout_at(deadline.at, due).await.is_ok()
    }

    /// Returns `true` if an attempt that failed with this error cost no server more than to read it: it was not sent, or it
    /// was refused by a goaway. Such attempts are not limited by the policy, and take nothing from the budget: otherwise a
    /// call would fail once that many connections have reached their largest age under it, though its server is up.
    fn is_free(&mut self, error: &RpcError) -> bool {
        error.execution() == Execution::NotSent || self.goaways.forgive(error)
    }

    /// Returns the pause before the next attempt; `None` if there is none.
    fn pause(
        &mut self,
        error: &RpcError,
        is_free: bool,
        request: &Request,
        core: &ChannelCore,
    ) -> Option<Duration> {
        let scope = retry_scope(error, request.idempotence())?;
        let policy = core.retry_policy(request);
        if policy.mode == RetryMode::FailFast
            || self.counted >= policy.max_attempts
            || self.log.attempts() >= MAX_ATTEMPTS
        {
            return None;
        }
        let not_sent = error.execution() == Execution::NotSent;
        let same_endpoint = policy.mode == RetryMode::SameEndpoint || self.endpoint.is_bound();
        let other_possible = !same_endpoint && self.endpoint.has_others(core);
        // Only for the server that said it: another one may be idle.
        let asked = if other_possible || not_sent { None } else { error.retry_after() };
        if asked.is_some_and(|asked| asked > MAX_RETRY_AFTER) {
            return None;
        }
        // An overload may pass; a method that does not exist will not appear, and an endpoint that could not be
        // connected to backs off.
        let same_possible = scope == RetryScope::AnyEndpoint
            || (same_endpoint || asked.is_some()) && !not_sent && error.code() != Code::Unimplemented;
        if !other_possible && !same_possible {
            return None;
        }
        // Connections that end again and again before they take the request do cost them something.
        let at_once =
            is_free && (scope == RetryScope::OtherEndpoint || self.log.attempts() <= policy.max_attempts);
        let pause = if at_once { Duration::ZERO } else { self.backoff.next_pause() };
        let pause = asked.map_or(pause, |asked| pause.max(asked.mul_f64(1.0 + fastrand::f64() / 4.0)));
        // Only an attempt that is made is withdrawn from the budget.
        let possible = !request.is_over_after(pause) && (is_free || core.budget.withdraw());
        if possible && asked.is_some() {
            // All were tried, and one of them is to be tried again.
            self.endpoint.forget();
        }
        possible.then_some(pause)
    }

    /// Waits until an endpoint may be reachable again.
    async fn wait_for_endpoint(&self, core: &ChannelCore) {
        match &core.targets {
            Targets::Many(endpoints) => {
                // A change is notified; the end of a pause between dials is not.
                let _ = timeout(POLL_INTERVAL, endpoints.changed()).await;
            }
            Targets::One(pool) => match pool.next_dial_at() {
                Some(at) => sleep_until(at).await,
                None => sleep(FIRST_PAUSE).await,
            },
        }
        self.endpoint.forget();
    }

    /// Makes one attempt, hedged if the policy says so.
    async fn attempt(&self, request: &Request, core: &ChannelCore) -> Result<Response, RpcError> {
        if let Some(link) = request.link() {
            return attempt::attempt(&self.endpoint, request, link, core).await;
        }
        match core.retry_policy(request).mode {
            // Only calls that may be done at two servers are sent to two.
            RetryMode::Hedge(delay) if request.is_idempotent() => self.hedged(delay, request, core).await,
            _ => self.once(request, core).await,
        }
    }

    /// Makes an attempt, and sends a second request to another endpoint if no reply arrives within `delay`.
    async fn hedged(
        &self,
        delay: Duration,
        request: &Request,
        core: &ChannelCore,
    ) -> Result<Response, RpcError> {
        let mut first = Box::pin(self.once(request, core));
        if let Ok(outcome) = timeout(delay, &mut first).await {
            return outcome;
        }
        if !self.endpoint.has_others(core) || !core.budget.withdraw() {
            return first.await;
        }
        core.totals().count_retry();
        let mut request = request.clone();
        let attempt = self.endpoint.next_attempt();
        core.on_retry.report(attempt, || (self.endpoint.last(), AttemptReason::Slow(delay)));
        request.set_attempt(attempt);
        record_attempt(attempt);
        let second = Box::pin(self.once(&request, core));
        // The future that is dropped in the end cancels its request on the server.
        let (outcome, other) = select(first, second).await.factor_first();
        match outcome {
            Err(error) if leaves_to_other(&error, request.idempotence()) => {
                other.await.map_err(|last| most_informative(Some(error), last))
            }
            // A result, or an error of a handler.
            last => last,
        }
    }
}
