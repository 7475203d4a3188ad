//! [`Registry`]: starts a registry, runs its background work and stops it.
//!
//! It spawns no task: all work is done by futures that the caller polls, [`Registry::run`] and the requests'.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use farcall_discovery::Instance;
use farcall_transport::PeerAddress;
use farcall_transport::log::LogThrottle;
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use super::error::{OpenError, OptionsError, RegisterError};
use super::http;
use super::options::RegistryOptions;
use super::snapshots::Snapshots;
use super::state::{RegistryState, SharedState};
use super::store::{LeaseDefaults, ListFilter, ListedInstance, Now, Store, Sweep};
use super::tokens::Tokens;
use crate::wire::{Counts, InstanceRecord, Patch, Registration, RegistrationToken};

/// The interval between sweeps for expired instances. Not a timer for each deadline, because the guard against
/// mass expiry must see together what expires together. Under 1 s, so that a crash is reported within the time
/// to live and 1 s.
const SWEEP_INTERVAL: Duration = Duration::from_millis(900);

/// A registry: which instances of which services are up. Clones share one registry.
///
/// [`router`](Self::router) is its HTTP interface; a program that embeds it can also call it directly:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use farcall_discovery::Instance;
/// use farcall_registry::server::{Registry, RegistryOptions};
/// use farcall_registry::wire::Patch;
///
/// let registry = Registry::open(RegistryOptions::default()).await?;
/// registry.register(Instance::new("Arith", "tcp@10.0.0.5:7001".parse()?))?;
/// assert_eq!(registry.counts().up, 1);
///
/// registry.patch("Arith", "tcp@10.0.0.5:7001", Patch::default().drain(true));
/// assert_eq!(registry.counts().draining, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Registry {
    state: SharedState,
}

impl Registry {
    /// Starts a registry from its snapshot. A damaged snapshot is renamed to `FILE.damaged-<time>` and logged; then,
    /// and without a snapshot, the registry starts empty and is warming.
    ///
    /// # Errors
    ///
    /// [`OpenError`], if an option is invalid or the snapshot cannot be used.
    pub async fn open(options: RegistryOptions) -> Result<Self, OpenError> {
        let allowed_hosts = options.check()?;
        let (snapshots, saved) = match options.snapshot.clone() {
            Some(file) => {
                let (snapshots, saved) = Snapshots::open(file).await?;
                (Some(snapshots), saved)
            }
            None => (None, None),
        };
        let epoch = format!("{:016x}", fastrand::u64(..));
        let defaults = LeaseDefaults { ttl: options.ttl, heartbeat: options.heartbeat_interval() };
        let mut store = Store::new(epoch, defaults, options.max_instances);
        let now = Now::read();
        if saved.as_ref().is_none_or(|saved| saved.warming) {
            store.warm_until(now.at + options.heartbeat_interval());
        }
        if let Some(saved) = saved {
            info!(instances = saved.instances.len(), "restored the instances of the snapshot");
            store.restore(saved, now);
        }
        Ok(Self { state: Arc::new(RegistryState::new(options, allowed_hosts, store, snapshots)) })
    }

    /// Returns the HTTP interface. `listening` are the addresses that it is served at, for the check of `Host`; if
    /// one of them is unspecified (`0.0.0.0`), every IP address is accepted.
    pub fn router(&self, listening: &[SocketAddr]) -> Router {
        http::router(Arc::clone(&self.state), listening)
    }

    /// Expires silent instances and writes the snapshot, until `stop` is ready. Without a call that polls this,
    /// nothing expires and nothing is written.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        // Cancel-safe: a write that has begun runs to its end on a blocking thread, and the next one waits for it.
        tokio::select! {
            biased;
            () = stop => {}
            () = self.sweep() => {}
            () = self.save() => {}
        }
    }

    /// Ends watches and long polls for good, writes the last snapshot, and leaves it to others. Call it when the process is about to
    /// end, so that a server that shuts down gracefully does not wait for watchers; and once more after that, if
    /// requests may have arrived in between.
    pub async fn close(&self) {
        self.state.closing.cancel();
        if let Some(snapshots) = &self.state.snapshots {
            if snapshots.is_behind(self.state.store.version()) {
                // A failure is logged by `save`.
                let _ = snapshots.save(&self.state.store, &self.state.metrics).await;
            }
            snapshots.release().await;
        }
    }

    /// Replaces the tokens, for example when their file has changed. Open watches continue.
    ///
    /// # Errors
    ///
    /// [`OptionsError::ShortToken`]; then the old ones stay.
    pub fn set_tokens(&self, tokens: Tokens) -> Result<(), OptionsError> {
        tokens.check()?;
        self.state.set_tokens(tokens);
        Ok(())
    }

    /// Registers an instance, as `PUT` does. The answer's token identifies this registration: other servers may
    /// register the same instance, which lives until the last registration has ended.
    ///
    /// # Errors
    ///
    /// [`RegisterError`], if the instance is invalid or the registry is full; then nothing has changed.
    pub fn register(&self, instance: Instance) -> Result<Registration, RegisterError> {
        self.state.register(instance, None)
    }

    /// Registers an instance under this token, or replaces what was registered under it.
    ///
    /// # Errors
    ///
    /// As for [`register`](Self::register).
    pub fn register_as(
        &self,
        instance: Instance,
        token: RegistrationToken,
    ) -> Result<Registration, RegisterError> {
        self.state.register(instance, Some(token))
    }

    /// Renews an instance; `None` if it is unknown and must be registered again.
    #[must_use = "an unknown instance must be registered again"]
    pub fn renew(&self, service: &str, id: &str) -> Option<Registration> {
        self.state.renew(service, id, None)
    }

    /// Renews one registration of an instance; `None` if it is unknown and must be made again.
    #[must_use = "an unknown registration must be made again"]
    pub fn renew_registration(
        &self,
        service: &str,
        id: &str,
        token: RegistrationToken,
    ) -> Option<Registration> {
        self.state.renew(service, id, Some(token))
    }

    /// Ends one registration of an instance, as a server does that stops; returns `true` if it was the last, so that
    /// the instance is gone. Nothing happens if the registration is unknown.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn end_registration(&self, service: &str, id: &str, token: &RegistrationToken) -> bool {
        self.state.end_registration(service, id, token)
    }

    /// Sets or removes an operator's overrides, and returns the result; `None` if the instance is unknown.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn patch(&self, service: &str, id: &str, patch: Patch) -> Option<InstanceRecord> {
        self.state.patch(service, id, patch, PeerAddress::Memory)
    }

    /// Removes an instance with all its registrations, as an operator does; returns `true` if it was there.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn deregister(&self, service: &str, id: &str) -> bool {
        self.state.deregister(service, id)
    }

    /// Returns all instances of a service in any state, sorted by id.
    #[must_use]
    pub fn list(&self, service: &str) -> Vec<InstanceRecord> {
        let filter = ListFilter { stale: true, ..ListFilter::default() };
        let list = self.state.store.lock().list(service, &filter).document();
        list.instances().map(ListedInstance::with_last_seen).collect()
    }

    /// Returns `true` for the first heartbeat interval of a registry that started without a complete snapshot:
    /// instances may be missing.
    #[must_use]
    pub fn is_warming(&self) -> bool {
        self.state.store.rev_and_warming().1
    }

    /// Returns the numbers of services, instances and watchers.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.state.counts()
    }

    /// Removes expired instances at intervals. Never ready.
    async fn sweep(&self) {
        let RegistryState { store, metrics, readers, .. } = &*self.state;
        let mut ticks = interval(SWEEP_INTERVAL);
        let (withheld_log, ended_log) = (LogThrottle::new(), LogThrottle::new());
        // After a pause of the process one sweep does the work of all that were missed.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut sweep = Sweep::new(Instant::now());
            // In parts, so that a mass expiry delays no request.
            while !store.update(|store, _| store.sweep_part(&mut sweep)) {
                yield_now().await;
            }
            let outcome = sweep.outcome;
            metrics.expirations.increment(outcome.expired as u64);
            metrics.withheld.increment(outcome.withheld as u64);
            metrics.upkeep();
            let (readers, now) = (readers.clone(), Instant::now());
            let ended = spawn_blocking(move || readers.end_slow(now)).await.unwrap_or_default();
            if ended > 0
                && let Some(line) = ended_log.permit()
            {
                let suppressed = line.suppressed;
                info!(readers = ended, suppressed, "ended readers of lists and watches that took too little");
            }
            if outcome.expired > 0 {
                debug!(instances = outcome.expired, "instances expired");
            }
            if outcome.withheld > 0
                && let Some(line) = withheld_log.permit()
            {
                warn!(
                    instances = outcome.withheld,
                    suppressed = line.suppressed,
                    "many instances of a service expired at once: they stay listed as stale for one more time to live"
                );
            }
            if outcome.warmed {
                info!("no longer warming: the lists count as complete");
                // Watchers get a new snapshot.
                store.wake_all();
            }
        }
    }

    /// Writes the snapshot after changes. Never ready.
    async fn save(&self) {
        match &self.state.snapshots {
            Some(snapshots) => snapshots.run(&self.state.store, &self.state.metrics).await,
            None => std::future::pending().await,
        }
    }
}
