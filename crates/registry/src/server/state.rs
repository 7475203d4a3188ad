//! [`RegistryState`]: all parts of a running registry, and the operations on them.
//!
//! It is what the HTTP handlers share. Starting, background work and stopping are left to
//! [`Registry`](super::Registry).

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::HeaderValue;
use farcall_discovery::Instance;
use farcall_protocol::time::millis;
use farcall_transport::PeerAddress;
use farcall_transport::log::PeerLogThrottle;
use farcall_web::{Authority, BodyBuffer, ByteShares, Discards};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::error::RegisterError;
use super::metrics::Metrics;
use super::options::RegistryOptions;
use super::readers::Readers;
use super::shared_store::SharedStore;
use super::snapshots::Snapshots;
use super::store::{Claim, LeaseGrant, Store, StoreFull};
use super::tokens::Tokens;
use super::wake_batches::WakeBatches;
use crate::wire::{self, Counts, Heartbeat, InstanceRecord, Patch, Registration, RegistrationToken};

/// The bytes of a refused body that are read and discarded.
const MAX_DISCARDED_BYTES: usize = 8 * 1024 * 1024;
/// The memory of all request bodies that are being read or handled, in bytes. Half of it is for one peer.
const MAX_BODIES_BYTES: usize = 64 * 1024 * 1024;
/// Bodies of the largest size for which there is room: two of them of one peer.
const BODIES_OF_ANY_SIZE: usize = 4;
/// The size up to which a body has room whatever others hold, in bytes: most instances fit.
const GUARANTEED_BODY_BYTES: usize = BodyBuffer::MIN_BYTES;

/// Changes of overrides by one peer that are logged at once, so that those of an operator all are.
const OVERRIDES_LOGGED: u32 = 50;
/// The time between further ones.
const OVERRIDES_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The state that all clones of a [`Registry`](super::Registry) and its HTTP handlers share.
pub(super) type SharedState = Arc<RegistryState>;

/// The parts of a running registry.
#[derive(Debug)]
pub(super) struct RegistryState {
    pub(super) options: RegistryOptions,
    /// Hosts that requests may name, in addition to the listening addresses and loopback names.
    pub(super) allowed_hosts: Vec<Authority>,
    /// The store's epoch as a header value.
    pub(super) epoch: HeaderValue,
    pub(super) store: SharedStore,
    /// The lists and snapshots that are being sent.
    pub(super) readers: Readers,
    /// The memory of the requests' bodies.
    pub(super) bodies: ByteShares,
    /// The reads of the rest of refused bodies.
    pub(super) discards: Discards,
    /// Spreads the watchers that one change wakes over time.
    wake_batches: WakeBatches,
    /// One permit for each watch and long poll.
    watch_permits: Arc<Semaphore>,
    /// Ends watches and long polls.
    pub(super) closing: CancellationToken,
    tokens: RwLock<Arc<Tokens>>,
    pub(super) metrics: Metrics,
    pub(super) snapshots: Option<Snapshots>,
    overrides_log: PeerLogThrottle,
    started: Instant,
}

impl RegistryState {
    pub(super) fn new(
        options: RegistryOptions,
        allowed_hosts: Vec<Authority>,
        store: Store,
        snapshots: Option<Snapshots>,
    ) -> Self {
        Self {
            allowed_hosts,
            epoch: HeaderValue::try_from(store.epoch()).expect("the epoch is hexadecimal digits"),
            readers: Readers::new(store.retained().clone()),
            discards: Discards::new(MAX_DISCARDED_BYTES),
            bodies: ByteShares::new(
                MAX_BODIES_BYTES.max(options.max_body_bytes.saturating_mul(BODIES_OF_ANY_SIZE)),
            )
            .guaranteed(GUARANTEED_BODY_BYTES),
            store: SharedStore::new(store),
            wake_batches: WakeBatches::default(),
            watch_permits: Arc::new(Semaphore::new(options.max_watchers.min(Semaphore::MAX_PERMITS))),
            closing: CancellationToken::new(),
            tokens: RwLock::new(Arc::new(options.tokens.clone())),
            metrics: Metrics::new(),
            snapshots,
            overrides_log: PeerLogThrottle::with_rate(OVERRIDES_LOGGED, OVERRIDES_LOG_INTERVAL),
            started: Instant::now(),
            options,
        }
    }

    /// Registers or renews an instance; makes a token if the request has none.
    pub(super) fn register(
        &self,
        instance: Instance,
        token: Option<RegistrationToken>,
    ) -> Result<Registration, RegisterError> {
        let instance = instance.check()?;
        let claim = token.map_or_else(|| Claim::Issued(RegistrationToken::random()), Claim::Carried);
        let token = claim.token().clone();
        let grant = self.store.update(|store, now| store.register(instance, claim, now));
        let grant = grant.map_err(|StoreFull| RegisterError::Full(self.options.max_instances))?;
        self.metrics.registrations.increment(1);
        Ok(self.registration(grant, Some(token)))
    }

    /// Renews an instance; `None` if it is unknown, or its registration with this token is.
    pub(super) fn renew(
        &self,
        service: &str,
        id: &str,
        token: Option<RegistrationToken>,
    ) -> Option<Registration> {
        let grant = self.store.update(|store, now| store.renew(service, id, token.as_ref(), now))?;
        self.metrics.heartbeats.increment(1);
        Some(self.registration(grant, token))
    }

    /// Renews several instances while the store is locked once; returns for each the interval in milliseconds in which
    /// it must be renewed, or `None` if it is unknown.
    pub(super) fn renew_each(&self, heartbeats: &[Heartbeat]) -> Vec<Option<u64>> {
        let grants: Vec<_> = self.store.update(|store, now| {
            let renew = |heartbeat: &Heartbeat| {
                store.renew(&heartbeat.service, &heartbeat.id, heartbeat.token.as_ref(), now)
            };
            heartbeats.iter().map(renew).collect()
        });
        let renewed = grants.iter().filter(|grant| grant.is_some()).count();
        self.metrics.heartbeats.increment(renewed as u64);
        grants.into_iter().map(|grant| Some(self.registration(grant?, None).heartbeat_ms)).collect()
    }

    /// Sets or removes overrides; `None` if the instance is unknown. `peer` is the sender, for the log.
    pub(super) fn patch(
        &self,
        service: &str,
        id: &str,
        patch: Patch,
        peer: PeerAddress,
    ) -> Option<InstanceRecord> {
        let record = self.store.update(|store, _| store.patch(service, id, patch))?;
        if let Some(line) = self.overrides_log.permit(peer.key()) {
            // Not its port, which tells nothing.
            let peer = peer.ip().map(tracing::field::display);
            info!(service, id, ?patch, peer, suppressed = line.suppressed, "overrides changed");
        }
        Some(record)
    }

    /// Removes an instance; returns `true` if it was there.
    pub(super) fn deregister(&self, service: &str, id: &str) -> bool {
        self.store.update(|store, _| store.delete(service, id))
    }

    /// Ends one registration of an instance; returns `true` if it was the last, so that the instance is gone.
    pub(super) fn end_registration(&self, service: &str, id: &str, token: &RegistrationToken) -> bool {
        self.store.update(|store, now| store.end_registration(service, id, token, now.at))
    }

    /// Acquires a permit for a watch or a long poll; `None` if there are too many.
    pub(super) fn watch_permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.watch_permits).try_acquire_owned().ok()
    }

    /// Returns when a watch that has changes to send may send them; `None` if at once.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.wake_batches.next_wake(self.watchers())
    }

    /// Waits until a long poll that has changes to send may send them.
    pub(super) async fn wait_for_wake(&self) {
        if let Some(at) = self.next_wake() {
            sleep_until(at).await;
        }
    }

    /// Returns the numbers of services, instances and watchers.
    pub(super) fn counts(&self) -> Counts {
        Counts { watchers: self.watchers(), ..self.store.lock().counts() }
    }

    /// Returns the body of `GET /v1/status`.
    pub(super) fn status(&self) -> wire::Status {
        let options = &self.options;
        wire::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: millis(self.started.elapsed()),
            counts: self.counts(),
            limits: wire::Limits {
                ttl_ms: millis(options.ttl),
                heartbeat_ms: self.default_heartbeat_ms(),
                max_instances: options.max_instances,
                max_watchers: options.max_watchers,
                max_body_bytes: options.max_body_bytes,
            },
            snapshot: self.snapshots.as_ref().map(Snapshots::status),
        }
    }

    /// Returns the heartbeat interval of instances that request no time to live.
    pub(super) fn default_heartbeat_ms(&self) -> u64 {
        millis(self.options.heartbeat_interval())
    }

    pub(super) fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.tokens.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn set_tokens(&self, tokens: Tokens) {
        *self.tokens.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
    }

    /// The number of watches and long polls.
    fn watchers(&self) -> usize {
        self.options.max_watchers.saturating_sub(self.watch_permits.available_permits())
    }

    fn registration(&self, grant: LeaseGrant, token: Option<RegistrationToken>) -> Registration {
        let heartbeat = grant.heartbeat(self.options.heartbeat_interval());
        Registration { token, ttl_ms: millis(grant.ttl), heartbeat_ms: millis(heartbeat) }
    }
}
