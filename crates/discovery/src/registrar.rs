//! [`Registrar`]: where a server makes itself known, and the loop that keeps it known.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use crate::instance::Instance;

/// A place where instances are registered: a registry, etcd, or what a user writes.
///
/// It does one thing at a time and reports how it went; trying again, for ever and with pauses, is
/// the business of [`keep_registered`].
pub trait Registrar: Send + Sync + 'static {
    /// What is held while the instance is registered, such as a lease.
    type Lease: Send;

    /// Where it registers, for people: `http://registry:7100`.
    fn describe(&self) -> String;

    /// Makes the instance known, also if it is already.
    fn register(
        &self,
        instance: &Instance,
    ) -> impl Future<Output = Result<Registered<Self::Lease>, RegistrarError>> + Send;

    /// Says that it lives on.
    fn renew(
        &self,
        instance: &Instance,
        lease: &mut Self::Lease,
    ) -> impl Future<Output = Result<Renewal, RegistrarError>> + Send;

    /// Takes it away, at once.
    fn deregister(
        &self,
        instance: &Instance,
        lease: Self::Lease,
    ) -> impl Future<Output = Result<(), RegistrarError>> + Send;
}

/// A registration.
#[derive(Clone, Debug)]
pub struct Registered<L> {
    /// What is to be renewed and given back.
    pub lease: L,
    /// When to renew.
    pub heartbeat: Duration,
}

/// The outcome of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lives on; when to renew next.
    Renewed(Duration),
    /// Nobody there knows it, so that it must be registered again.
    Unknown,
}

/// Why registering failed: a sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RegistrarError(pub String);

/// How long each step may take.
const STEP_LIMIT: Duration = Duration::from_secs(10);
/// How long taking an instance away may hold up a server that stops.
const DEREGISTER_LIMIT: Duration = Duration::from_secs(2);
/// The first and the longest pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// Registers the instance, renews it for ever, registers it again where it is no longer known, and
/// takes it away when `stop` is ready. It tries again after every failure: pauses of 1, 2, 4 … 15 s
/// with jitter. The end takes at most 2 s.
pub async fn keep_registered<R: Registrar>(registrar: R, instance: Instance, stop: impl Future<Output = ()>) {
    let mut registration =
        Registration { registrar, instance, lease: None, failures: 0, place: String::new() };
    registration.place = registration.registrar.describe();
    let mut stop = pin!(stop);
    loop {
        let pause = tokio::select! {
            biased;
            // A step that is cut off may have registered the instance: taken away below all the same.
            () = &mut stop => break,
            pause = registration.step() => pause,
        };
        tokio::select! {
            () = &mut stop => break,
            () = sleep(pause) => {}
        }
    }
    registration.end().await;
}

struct Registration<R: Registrar> {
    registrar: R,
    instance: Instance,
    lease: Option<R::Lease>,
    failures: u32,
    place: String,
}

impl<R: Registrar> Registration<R> {
    /// Registers or renews; returns how long to wait before the next step.
    async fn step(&mut self) -> Duration {
        let outcome = timeout(STEP_LIMIT, self.attempt()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(RegistrarError("no answer within 10 s".to_owned())));
        let Self { instance: Instance { service, id, .. }, place, failures, .. } = self;
        match outcome {
            Ok(heartbeat) => {
                if std::mem::take(failures) > 0 {
                    info!(place, service, id, "registered again");
                }
                // A little earlier than told, and not all servers at once.
                heartbeat.mul_f64(0.9 + 0.1 * fastrand::f64())
            }
            Err(error) => {
                *failures = failures.saturating_add(1);
                if *failures == 1 {
                    warn!(place, service, id, %error, "registering failed; it is tried again for ever");
                } else {
                    debug!(place, service, id, %error, failures, "registering failed again");
                }
                let doubled = FIRST_PAUSE.saturating_mul(1 << (*failures - 1).min(8));
                doubled.min(LONGEST_PAUSE).mul_f64(0.5 + 0.5 * fastrand::f64())
            }
        }
    }

    async fn attempt(&mut self) -> Result<Duration, RegistrarError> {
        if let Some(lease) = &mut self.lease {
            match self.registrar.renew(&self.instance, lease).await? {
                Renewal::Renewed(heartbeat) => return Ok(heartbeat),
                Renewal::Unknown => {
                    info!(place = self.place, id = self.instance.id, "no longer known; registering again");
                    self.lease = None;
                }
            }
        }
        let Registered { lease, heartbeat } = self.registrar.register(&self.instance).await?;
        self.lease = Some(lease);
        Ok(heartbeat)
    }

    async fn end(self) {
        let Some(lease) = self.lease else { return };
        let Instance { service, id, .. } = &self.instance;
        match timeout(DEREGISTER_LIMIT, self.registrar.deregister(&self.instance, lease)).await {
            Ok(Ok(())) => debug!(place = self.place, service, id, "deregistered"),
            Ok(Err(error)) => warn!(place = self.place, service, id, %error, "not deregistered"),
            Err(_) => warn!(place = self.place, service, id, "not deregistered within 2 s"),
        }
    }
}
