//! [`Record`]: one instance, with what its server registered, what an operator has overridden, and the result of both.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farcall_discovery::{AdvertisedState, Instance};
use farcall_protocol::time::millis;
use tokio::time::Instant;

use super::lease::{LeaseGrant, Now};
use super::listed::ListedInstance;
use super::registrations::{Claim, Registrations};
use super::saved::SavedInstance;
use crate::wire::{InstanceRecord, Overrides, Patch, RegistrationToken, Timestamp};

/// One instance of the store.
#[derive(Debug)]
pub(super) struct Record {
    /// The instance as clients receive it, overrides applied. Its `overrides` are authoritative.
    public: Arc<InstanceRecord>,
    /// `public` as the lists have it; `None` if it has changed since.
    listed: Option<Arc<ListedInstance>>,
    /// The registered weight; that of `public` may be an override.
    weight: u16,
    /// The requested time to live; `public` has the one that was granted.
    ttl_ms: Option<u64>,
    ttl: Duration,
    stale: bool,
    last_seen: Timestamp,
    registrations: Registrations,
    /// That of the registration that expires last.
    deadline: Instant,
}

impl Record {
    /// Creates the record of an instance that is new to the store.
    pub(super) fn new(
        instance: Instance,
        claim: Claim,
        overrides: Overrides,
        default_ttl: Duration,
        now: Now,
    ) -> Self {
        let ttl = granted_ttl(instance.ttl_ms, default_ttl);
        let mut record = Self {
            weight: instance.weight,
            ttl_ms: instance.ttl_ms,
            public: Arc::new(InstanceRecord {
                instance: instance.ttl_ms(Some(millis(ttl))),
                state: AdvertisedState::Up,
                rev: 0,
                registered_at: now.clock,
                last_seen: None,
                overrides,
            }),
            listed: None,
            ttl,
            stale: false,
            last_seen: now.clock,
            registrations: Registrations::new(claim, now.at + ttl),
            deadline: now.at + ttl,
        };
        record.refresh();
        record
    }

    /// Replaces what was registered before, by this server or by another of the same instance. Returns `true` if the
    /// registrations have changed so that they must be saved.
    pub(super) fn register(
        &mut self,
        instance: Instance,
        claim: Claim,
        default_ttl: Duration,
        now: Now,
    ) -> bool {
        let mut changed = (self.weight, self.ttl_ms) != (instance.weight, instance.ttl_ms);
        (self.weight, self.ttl_ms) = (instance.weight, instance.ttl_ms);
        // Clients see the effective weight and time to live, not the registered ones.
        let (weight, ttl_ms) = (self.public.instance.weight, self.public.instance.ttl_ms);
        let registered = instance.weight(weight).ttl_ms(ttl_ms);
        changed |= registered != self.public.instance;
        if changed {
            self.ttl = granted_ttl(self.ttl_ms, default_ttl);
            self.change_public().instance = registered.ttl_ms(Some(millis(self.ttl)));
        }
        let saves = self.registrations.register(claim, now.at + self.ttl, now.at);
        self.seen(now);
        saves
    }

    /// Restarts the lease of one registration, after a heartbeat; without a token, of those without one. Returns
    /// `true` if the registrations have changed so that they must be saved.
    pub(super) fn renew(&mut self, token: Option<&RegistrationToken>, now: Now) -> bool {
        let saves = self.registrations.renew(token, now.at + self.ttl, now.at);
        self.seen(now);
        saves
    }

    /// Returns `true` if the instance has the registration with this token.
    pub(super) fn is_registered_by(&self, token: &RegistrationToken) -> bool {
        self.registrations.contains(token)
    }

    /// Returns `true` if it is the only registration that has not expired.
    pub(super) fn is_last_registration(&self, token: &RegistrationToken, now: Instant) -> bool {
        self.registrations.is_last(token, now)
    }

    /// Ends a registration that is not the last.
    pub(super) fn end_registration(&mut self, token: &RegistrationToken) {
        self.registrations.remove(token);
        self.update_deadline();
    }

    fn seen(&mut self, now: Now) {
        self.stale = false;
        self.last_seen = now.clock;
        if let Some(listed) = &self.listed {
            listed.set_last_seen(now.clock);
        }
        self.update_deadline();
    }

    fn update_deadline(&mut self) {
        self.deadline = self.registrations.deadline().unwrap_or(self.deadline);
    }

    /// Sets or removes overrides.
    pub(super) fn patch(&mut self, patch: Patch) {
        let mut overrides = self.public.overrides;
        if let Some(drain) = patch.drain {
            // `false` is the default: it needs no override.
            overrides.drain = drain.filter(|drain| *drain);
        }
        if let Some(weight) = patch.weight {
            overrides.weight = weight;
        }
        if overrides != self.public.overrides {
            self.change_public().overrides = overrides;
        }
    }

    /// Keeps the expired instance as stale for one more time to live.
    pub(super) fn withhold(&mut self, now: Instant) {
        self.stale = true;
        self.registrations.extend(now + self.ttl);
        self.update_deadline();
    }

    /// Updates the public record; returns `true` if it has changed and needs a new revision.
    pub(super) fn refresh(&mut self) -> bool {
        let weight = self.public.overrides.weight.unwrap_or(self.weight);
        let state = match (self.public.overrides.drain, self.stale) {
            (Some(true), _) => AdvertisedState::Draining,
            (_, true) => AdvertisedState::Stale,
            (_, false) => AdvertisedState::Up,
        };
        if (weight, state) != (self.public.instance.weight, self.public.state) {
            let public = self.change_public();
            (public.instance.weight, public.state) = (weight, state);
        }
        self.listed.is_none()
    }

    /// Sets the revision of the last change. [`set_json`](Self::set_json) must follow.
    pub(super) fn set_rev(&mut self, rev: u64) {
        self.change_public().rev = rev;
    }

    /// Sets the public record as JSON, of the last revision.
    pub(super) fn set_json(&mut self, json: Bytes) {
        let listed = ListedInstance::new(Arc::clone(&self.public), json, self.last_seen);
        self.listed = Some(Arc::new(listed));
    }

    /// Returns the instance as the lists have it; `None` before its first revision.
    pub(super) fn listed(&self) -> Option<Arc<ListedInstance>> {
        self.listed.clone()
    }

    /// Returns the public record to be changed: a copy, if lists have it.
    fn change_public(&mut self) -> &mut InstanceRecord {
        self.listed = None;
        Arc::make_mut(&mut self.public)
    }

    /// The instance as clients receive it, without `last_seen`.
    pub(super) fn public(&self) -> &InstanceRecord {
        &self.public
    }

    /// Returns the instance as clients receive it, with `last_seen`.
    pub(super) fn with_last_seen(&self) -> InstanceRecord {
        InstanceRecord { last_seen: Some(self.last_seen), ..(*self.public).clone() }
    }

    /// Returns what the server registered, without overrides.
    pub(super) fn registered(&self) -> Instance {
        self.public.instance.clone().weight(self.weight).ttl_ms(self.ttl_ms)
    }

    /// Restores a saved instance. Each of its registrations gets a full time to live from `now` on.
    pub(super) fn restore(saved: SavedInstance, default_ttl: Duration, now: Now) -> Self {
        let SavedInstance { registered, registrations, overrides, registered_at, last_seen, stale } = saved;
        let claim = Claim::Issued(RegistrationToken::random());
        let mut record = Self::new(registered, claim, overrides, default_ttl, now);
        record.registrations = Registrations::restore(registrations, record.deadline);
        record.change_public().registered_at = registered_at;
        record.last_seen = last_seen;
        record.stale = stale;
        record.refresh();
        record
    }

    pub(super) fn key(&self) -> (Arc<str>, Arc<str>) {
        (self.public.instance.service.as_str().into(), self.public.instance.id.as_str().into())
    }

    pub(super) fn overrides(&self) -> Overrides {
        self.public.overrides
    }

    pub(super) fn last_seen(&self) -> Timestamp {
        self.last_seen
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale
    }

    /// Returns `true` if the instance has been silent for so long that a heartbeat is surely missing.
    /// `heartbeat` is the interval of instances that requested no time to live.
    pub(super) fn is_silent(&self, now: Instant, heartbeat: Duration) -> bool {
        let heartbeat = self.grant().heartbeat(heartbeat);
        let silence = (self.ttl * 7 / 10).max(heartbeat * 6 / 5).min(self.ttl);
        self.stale || now + self.ttl >= self.deadline + silence
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn grant(&self) -> LeaseGrant {
        LeaseGrant { ttl: self.ttl, requested: self.ttl_ms.is_some() }
    }
}

impl From<&Record> for SavedInstance {
    fn from(record: &Record) -> Self {
        Self {
            registered: record.registered(),
            registrations: record.registrations.saved(),
            overrides: record.overrides(),
            registered_at: record.public().registered_at,
            last_seen: record.last_seen(),
            stale: record.is_stale(),
        }
    }
}

fn granted_ttl(requested_ms: Option<u64>, default: Duration) -> Duration {
    requested_ms.map_or(default, Duration::from_millis)
}
