//! [`Registry`], the store with what it needs to run: the clock, who waits for changes, the snapshot.
//!
//! Each task that runs is a future that the caller polls: [`Registry::run`], and the requests' own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use farcall_discovery::{Instance, InstanceError};
use tokio::sync::Semaphore;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::http::{self, Authority};
use super::metrics::Metrics;
use super::options::RegistryOptions;
use super::snapshots::Snapshots;
use super::store::{Full, Granted, Now, Store, Times};
use super::tokens::Tokens;
use super::turns::Turns;
use super::watchers::Watchers;
use crate::wire::{self, Counts, Listed, Patch, Registration, Timestamp};

/// How often is looked who has expired. Not at each deadline: what expires together must be seen together,
/// for the guard against mass expiry. Under 1 s, so that a crash is told within the time to live and 1 s.
const SWEEP_EVERY: Duration = Duration::from_millis(900);

/// A registry. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Registry {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) settings: RegistryOptions,
    /// By which names it may be called, beside those that are its own anyway.
    pub(super) allowed_hosts: Vec<Authority>,
    /// The store's epoch as a header.
    pub(super) epoch: HeaderValue,
    // A std mutex: it is held for what the processor alone does, never across an await.
    store: Mutex<Store>,
    pub(super) watchers: Watchers,
    /// When each of those who wait is told.
    turns: Turns,
    /// A permit for each watch and long poll.
    pub(super) watching: Arc<Semaphore>,
    /// Ends watches and long polls.
    pub(super) closing: CancellationToken,
    tokens: RwLock<Arc<Tokens>>,
    pub(super) metrics: Metrics,
    pub(super) snapshots: Option<Snapshots>,
    started: Instant,
}

/// Why a registry does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting makes no sense.
    #[error("{0}")]
    RegistryOptions(String),
    /// The snapshot is there and cannot be read, or its directory is not there. One that is read, but
    /// damaged, is no error: it is kept aside.
    #[error("the snapshot `{}` cannot be used: {source}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Why an instance is not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegisterError {
    /// Something is wrong with it.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// There are as many as are allowed. See [`RegistryOptions::max_instances`].
    #[error("the registry has {0} instances, and no room for another")]
    Full(usize),
}

impl Registry {
    /// Starts from the snapshot. One that is damaged is renamed to `FILE.damaged-<time>` and named in
    /// the log; then, and where there is none, the registry is empty and warming.
    ///
    /// # Errors
    ///
    /// [`OpenError`].
    pub async fn open(settings: RegistryOptions) -> Result<Self, OpenError> {
        let allowed_hosts = settings.check()?;
        let (snapshots, saved) = match settings.snapshot.clone() {
            Some(file) => {
                let (snapshots, saved) = Snapshots::open(file).await?;
                (Some(snapshots), saved)
            }
            None => (None, None),
        };
        let epoch = format!("{:016x}", fastrand::u64(..));
        let header = HeaderValue::try_from(&epoch).expect("they are hexadecimal digits");
        let times = Times { ttl: settings.ttl, heartbeat: settings.heartbeat_interval() };
        let mut store = Store::new(epoch, times, settings.max_instances);
        let now = now();
        if saved.as_ref().is_none_or(|saved| saved.warming) {
            store.warm_until(now.at + settings.heartbeat_interval());
        }
        if let Some(saved) = saved {
            info!(instances = saved.instances.len(), "restored from the snapshot");
            store.restore(saved, now);
        }
        let inner = Inner {
            epoch: header,
            watching: Arc::new(Semaphore::new(settings.max_watchers.min(Semaphore::MAX_PERMITS))),
            tokens: RwLock::new(Arc::new(settings.tokens.clone())),
            store: Mutex::new(store),
            watchers: Watchers::default(),
            turns: Turns::default(),
            closing: CancellationToken::new(),
            metrics: Metrics::new(),
            snapshots,
            started: now.at,
            allowed_hosts,
            settings,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The HTTP interface. `listening` is where it listens, for the check of `Host`; where that is
    /// every address of a machine, all IP addresses are taken for its own.
    pub fn router(&self, listening: &[SocketAddr]) -> Router {
        http::router(self.clone(), listening)
    }

    /// Expires what is silent and writes the snapshot, until `stop` is ready. Nothing expires, and
    /// nothing is written, while nobody polls this.
    pub async fn run(&self, stop: impl Future<Output = ()>) {
        // None of them loses anything where it is dropped: a write that is under way ends by itself, and
        // the next one waits for it.
        tokio::select! {
            () = stop => {}
            () = self.sweep_for_ever() => {}
            () = self.save_for_ever() => {}
        }
    }

    /// Ends watches and long polls, for good, and writes the last snapshot. To be called when the
    /// process is to end, so that a server that shuts down gracefully does not wait for watchers; and
    /// again after it has, if requests may have come in between.
    pub async fn close(&self) {
        self.inner.closing.cancel();
        if let Some(snapshots) = &self.inner.snapshots
            && snapshots.is_behind(self.saved_state())
        {
            // A failure is logged there; there is nobody else to tell.
            let _ = snapshots.save(self).await;
        }
    }

    /// Exchanges the tokens, for instance when their file has changed. Open watches go on.
    pub fn set_tokens(&self, tokens: Tokens) {
        *self.inner.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// Registers or renews an instance, as `PUT` does.
    ///
    /// # Errors
    ///
    /// [`RegisterError`]; then nothing has changed.
    pub fn register(&self, instance: Instance) -> Result<Registration, RegisterError> {
        let instance = instance.check()?;
        let granted = self.update(|store, now| store.register(instance, now));
        let granted = granted.map_err(|Full| RegisterError::Full(self.inner.settings.max_instances))?;
        self.inner.metrics.registrations.increment(1);
        Ok(self.registration(granted))
    }

    /// Renews an instance; `None` if it is not known, and has to be registered again.
    pub fn renew(&self, service: &str, id: &str) -> Option<Registration> {
        let granted = self.update(|store, now| store.renew(service, id, now))?;
        self.inner.metrics.heartbeats.increment(1);
        Some(self.registration(granted))
    }

    /// Sets or takes back what an operator overrides; `None` if the instance is not known.
    pub fn patch(&self, service: &str, id: &str, patch: Patch) -> Option<Listed> {
        let listed = self.update(|store, _| store.patch(service, id, patch))?;
        info!(service, id, ?patch, "overridden");
        Some(listed)
    }

    /// Takes an instance away; returns whether it was there.
    pub fn deregister(&self, service: &str, id: &str) -> bool {
        self.update(|store, _| store.delete(service, id))
    }

    /// All instances of a service in whatever state, sorted by id.
    #[must_use]
    pub fn list(&self, service: &str) -> Vec<Listed> {
        self.store().all(service)
    }

    /// Whether the registry started without knowing what was registered before, a moment ago.
    #[must_use]
    pub fn is_warming(&self) -> bool {
        self.store().warming()
    }

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { watchers: self.watching(), ..self.store().counts() }
    }

    /// When a watch that has something to tell is to tell it; none if it is now.
    pub(super) fn take_turn(&self) -> Option<Instant> {
        self.inner.turns.take(self.watching())
    }

    /// Waits until a long poll that has something to tell is to tell it.
    pub(super) async fn wait_turn(&self) {
        if let Some(turn) = self.take_turn() {
            sleep_until(turn).await;
        }
    }

    /// How many watches and long polls there are.
    fn watching(&self) -> usize {
        self.inner.settings.max_watchers.saturating_sub(self.inner.watching.available_permits())
    }

    /// What `GET /v1/status` tells.
    pub(super) fn status(&self) -> wire::Status {
        let settings = &self.inner.settings;
        wire::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: millis(self.inner.started.elapsed()),
            counts: self.counts(),
            limits: wire::Limits {
                ttl_ms: millis(settings.ttl),
                heartbeat_ms: millis(settings.heartbeat_interval()),
                max_instances: settings.max_instances,
                max_watchers: settings.max_watchers,
                max_body_bytes: settings.max_body_bytes,
            },
            snapshot: self.inner.snapshots.as_ref().map(Snapshots::status),
        }
    }

    /// The store, for a moment.
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        // What panicked there was between two changes of a record at worst: expiry mends the rest.
        self.inner.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the store, and wakes those who wait for what changed.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Store, Now) -> T) -> T {
        let now = now();
        let (outcome, changed) = {
            let mut store = self.store();
            let before = store.rev();
            let outcome = change(&mut store, now);
            (outcome, (store.rev() != before).then(|| store.changed_since(before)))
        };
        match changed {
            None => {}
            Some(Some(services)) => self.inner.watchers.wake(&services),
            // More changed than is remembered.
            Some(None) => self.inner.watchers.wake_all(),
        }
        outcome
    }

    pub(super) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.inner.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What tells one content of the snapshot from another.
    pub(super) fn saved_state(&self) -> (u64, bool) {
        let store = self.store();
        (store.rev(), store.warming())
    }

    pub(super) fn registration(&self, granted: Granted) -> Registration {
        let heartbeat = granted.heartbeat(self.inner.settings.heartbeat_interval());
        Registration { ttl_ms: millis(granted.ttl), heartbeat_ms: millis(heartbeat) }
    }

    async fn sweep_for_ever(&self) {
        let mut ticks = interval(SWEEP_EVERY);
        // After a pause of the process one sweep is as good as many.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let swept = self.update(|store, now| store.sweep(now.at));
            let metrics = &self.inner.metrics;
            metrics.expirations.increment(swept.expired as u64);
            metrics.held_back.increment(swept.held_back as u64);
            metrics.upkeep();
            if swept.expired > 0 {
                debug!(instances = swept.expired, "expired");
            }
            if swept.held_back > 0 {
                warn!(
                    instances = swept.held_back,
                    "much of a service fell silent at once: kept as stale for one more time to live"
                );
            }
            if swept.warmed {
                info!("warming has ended");
                // Watchers are told by a new snapshot.
                self.inner.watchers.wake_all();
            }
        }
    }

    async fn save_for_ever(&self) {
        match &self.inner.snapshots {
            Some(snapshots) => snapshots.save_for_ever(self).await,
            None => std::future::pending().await,
        }
    }
}

pub(super) fn now() -> Now {
    Now { at: Instant::now(), clock: Timestamp::now() }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
