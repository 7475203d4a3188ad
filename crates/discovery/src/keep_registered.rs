//! [`keep_registered`]: the loop that keeps an instance known at one place, whatever happens there.
//! The requests to that place are left to a [`Registrar`].

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use farcall_runtime::time::{Instant, sleep, timeout_at};
use farcall_transport::HumanDuration;
use farcall_transport::log::{LogThrottle, escaped_panic};
use futures::FutureExt;
use tracing::{debug, info, warn};

use crate::backoff::{Backoff, Jitter};
use crate::discovery::SourceError;
use crate::instance::Instance;
use crate::registrar::{Registered, Registrar, RegistrarError, RegistrarErrorKind, Renewal};

/// The time limit of a request, unless the heartbeats come more often.
const MAX_STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// The time that deregistering may hold up a server that stops.
const DEREGISTER_TIMEOUT: Duration = Duration::from_secs(2);
/// The part of it that a renewal under way may take.
const LAST_RENEWAL_TIMEOUT: Duration = Duration::from_secs(1);
/// The pauses after failures.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15)).jitter(Jitter::Equal);
/// Requests are given so long at least, however quick the heartbeats are.
const MIN_STEP_TIMEOUT: Duration = Duration::from_secs(1);
/// The minimum time between heartbeats, whatever a registry requests: a zero must not make it spin.
const MIN_HEARTBEAT: Duration = Duration::from_millis(100);
/// The maximum time between heartbeats: that of the longest time to live.
const MAX_HEARTBEAT: Duration = Instance::MAX_TTL;

/// The state of a registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistrationState {
    /// No request was answered yet.
    #[default]
    Registering,
    /// The instance is registered.
    Registered {
        /// Since when without a failure.
        since: Instant,
    },
    /// The last request failed, and is repeated until one succeeds. If only a renewal failed, the
    /// instance may still be known there, until its time to live has passed.
    Failing(SourceError),
    /// The instance was deregistered, as the server stops.
    Deregistered,
}

/// For people: `registered for 90 s`, `failing for 15 s: connection refused`.
impl fmt::Display for RegistrationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole_seconds = |since: &Instant| HumanDuration(Duration::from_secs(since.elapsed().as_secs()));
        match self {
            Self::Registering => f.write_str("registering"),
            Self::Registered { since } => write!(f, "registered for {}", whole_seconds(since)),
            Self::Failing(SourceError { since, reason }) => {
                write!(f, "failing for {}: {reason}", whole_seconds(since))
            }
            Self::Deregistered => f.write_str("deregistered"),
        }
    }
}

/// Registers the instance, keeps renewing it, registers it again if it is no longer known, and
/// takes it away when `stop` is ready. It is ready itself at most 2 s after that.
///
/// - A request may take 10 s. After one that fails, or panics, it tries again: after 1, 2, 4 … 15 s,
///   of which it waits a random half to whole. Where heartbeats come more often than that, neither is
///   longer than the time between two, so that a registry that was away knows all instances within one.
/// - It renews after 0.9 to 1.0 of the time that the registrar requests, at random, so that servers that
///   were started together do not stay together. Times under 100 ms and over a day are taken as such.
/// - Where `stop` comes while a request is under way, that may still end, so that what it registers
///   is taken away as well; a renewal may take 1 s of the 2. A registration that is not answered by
///   then, and one whose answer was lost earlier, goes when its time to live has passed.
///
/// Where it is dropped instead, nothing is taken away.
pub async fn keep_registered<R: Registrar>(registrar: R, instance: Instance, stop: impl Future<Output = ()>) {
    keep_registered_with(registrar, instance, stop, |_| {}).await;
}

/// Does the same as [`keep_registered`], and reports each change of state.
pub async fn keep_registered_with<R: Registrar>(
    registrar: R,
    instance: Instance,
    stop: impl Future<Output = ()>,
    report: impl FnMut(RegistrationState),
) {
    let place = registrar.describe();
    let state = RegistrationState::default();
    let heartbeat = MAX_HEARTBEAT;
    let mut registration = RegistrationLoop {
        registrar,
        instance,
        place,
        lease: None,
        heartbeat,
        backoff: BACKOFF,
        state,
        report,
        log: LogThrottle::new(),
    };
    let mut stop = pin!(stop);
    let mut pause = Duration::ZERO;
    let stopped = loop {
        tokio::select! {
            biased;
            () = &mut stop => break Instant::now(),
            () = sleep(pause) => {}
        }
        let renews = registration.lease.is_some();
        let mut step = pin!(registration.step());
        tokio::select! {
            biased;
            next = &mut step => pause = next,
            () = &mut stop => {
                let stopped = Instant::now();
                // Whoever renews has a lease to give back. Whoever registers gets one only now.
                let limit = if renews { LAST_RENEWAL_TIMEOUT } else { DEREGISTER_TIMEOUT };
                let _ = timeout_at(stopped + limit, step).await;
                break stopped;
            }
        }
    };
    registration.end(stopped + DEREGISTER_TIMEOUT).await;
}

/// An instance at one place.
struct RegistrationLoop<R: Registrar, F> {
    registrar: R,
    instance: Instance,
    place: String,
    lease: Option<R::Lease>,
    /// The time until the next renewal, as last requested by the registrar.
    heartbeat: Duration,
    /// The pauses after failures in a row, and their number.
    backoff: Backoff,
    state: RegistrationState,
    report: F,
    /// A place that forgets the instance, or fails, again and again must not fill the log.
    log: LogThrottle,
}

impl<R: Registrar, F: FnMut(RegistrationState)> RegistrationLoop<R, F> {
    /// Makes one request; returns how long to wait before the next.
    async fn step(&mut self) -> Duration {
        let limit = Instant::now() + self.heartbeat.clamp(MIN_STEP_TIMEOUT, MAX_STEP_TIMEOUT);
        let Self { registrar, instance, lease, .. } = self;
        let outcome = match lease {
            Some(lease) => guarded(limit, async { registrar.renew(instance, lease).await }).await,
            None => {
                let registered = guarded(limit, async { registrar.register(instance).await }).await;
                registered.map(|Registered { lease: granted, heartbeat }| {
                    *lease = Some(granted);
                    Renewal::Renewed(heartbeat)
                })
            }
        };
        match outcome {
            Ok(Renewal::Renewed(heartbeat)) => {
                self.succeeded();
                self.heartbeat = heartbeat.clamp(MIN_HEARTBEAT, MAX_HEARTBEAT);
                self.heartbeat.mul_f64(0.9 + 0.1 * fastrand::f64())
            }
            Ok(Renewal::Unknown) => {
                if let Some(line) = self.log.permit() {
                    let (id, suppressed) = (&self.instance.id, line.suppressed);
                    info!(place = self.place, id, suppressed, "no longer known; registering again");
                }
                self.lease = None;
                Duration::ZERO
            }
            Err(error) => {
                self.failed(&error);
                self.backoff.next_pause_within(self.heartbeat)
            }
        }
    }

    /// Takes the instance away.
    async fn end(mut self, limit: Instant) {
        let Some(lease) = self.lease.take() else { return };
        let Self { registrar, instance, .. } = &self;
        match guarded(limit, async { registrar.deregister(instance, lease).await }).await {
            Ok(()) => {
                let Instance { service, id, .. } = &self.instance;
                debug!(place = self.place, service, id, "deregistered");
                self.set_state(RegistrationState::Deregistered);
            }
            Err(error) => {
                self.backoff.reset(); // This one is logged, whatever came before.
                self.failed(&error.with_prefix("not deregistered: "));
            }
        }
    }

    fn succeeded(&mut self) {
        self.backoff.reset();
        if !matches!(self.state, RegistrationState::Registered { .. }) {
            if let Some(line) = self.log.permit() {
                let Instance { service, id, .. } = &self.instance;
                info!(place = self.place, service, id, suppressed = line.suppressed, "registered");
            }
            self.set_state(RegistrationState::Registered { since: Instant::now() });
        }
    }

    fn failed(&mut self, error: &RegistrarError) {
        let Instance { service, id, .. } = &self.instance;
        let failures = self.backoff.failures();
        // One warning when it begins, however long it lasts.
        if failures == 0
            && let Some(line) = self.log.permit()
        {
            warn!(place = self.place, service, id, %error, suppressed = line.suppressed, "registering failed");
        } else {
            debug!(place = self.place, service, id, %error, failures, "registering failed again");
        }
        let since = match &self.state {
            RegistrationState::Failing(failing) => failing.since,
            _ => Instant::now(),
        };
        self.set_state(RegistrationState::Failing(SourceError { since, reason: error.to_string().into() }));
    }

    fn set_state(&mut self, state: RegistrationState) {
        self.state = state.clone();
        (self.report)(state);
    }
}

/// Makes an error of a request that takes too long, and of one that panics: a server outlives both.
async fn guarded<T>(
    limit: Instant,
    request: impl Future<Output = Result<T, RegistrarError>>,
) -> Result<T, RegistrarError> {
    let begun = Instant::now();
    // What a panic may leave half done is the registrar's own, which goes on as it would after a
    // future that was dropped.
    let request = AssertUnwindSafe(request).catch_unwind();
    match timeout_at(limit, request).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => {
            let text = format!("the registrar panicked: {}", escaped_panic(&*panic));
            Err(RegistrarError::new(RegistrarErrorKind::Panicked, text))
        }
        Err(_elapsed) => {
            let allowed = HumanDuration(limit.saturating_duration_since(begun));
            Err(RegistrarError::new(RegistrarErrorKind::Timeout, format!("no answer within {allowed}")))
        }
    }
}
