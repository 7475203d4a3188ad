//! [`Store`]: the services, their instances, the leases of those, and the last changes.
//!
//! No I/O and no clock: `now` is an argument. Lists and events are serialized once for each revision. Locking
//! and waking watchers is left to [`shared_store`](super::shared_store).

mod expiry;
mod history;
mod lease;
mod override_cache;
mod record;
mod registrations;
mod saved;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use farcall_discovery::Instance;
use tokio::time::Instant;

use self::expiry::{ExpiryQueue, Key};
use self::history::History;
pub(super) use self::history::{ChangesSince, frame};
pub(super) use self::lease::{LeaseDefaults, LeaseGrant, Now};
use self::override_cache::OverrideCache;
use self::record::Record;
pub(super) use self::registrations::Claim;
pub(super) use self::saved::{SavedInstance, SavedStore};
use self::service::Service;
pub(super) use self::service::{Addresses, ListFilter};
use crate::wire::{self, Cause, Counts, InstanceName, InstanceRecord, Overrides, Patch, RegistrationToken};

/// Services without instances that are kept, so that clients that poll such a list learn of its changes. Past
/// it the oldest are dropped; see `Store::floor`.
const MAX_EMPTY: usize = 1024;
/// Revisions that a cached snapshot of all services may lag behind. It is sent with the changes since then, so
/// that a thousand watchers that connect during many changes do not cost a thousand snapshots.
const SNAPSHOT_LAG: u64 = 256;
/// Fewer silent instances than this are no mass expiry.
const MASS_EXPIRY_MIN_COUNT: usize = 3;
/// Silent instances are a mass expiry only if they are more than this percentage of their service.
const MASS_EXPIRY_PERCENT: usize = 30;

/// All data of a registry. See the module.
#[derive(Debug)]
pub(super) struct Store {
    history: History,
    services: BTreeMap<Arc<str>, Service>,
    /// The number of instances of all services.
    instances: usize,
    expiry: ExpiryQueue,
    expired_overrides: OverrideCache,
    /// Services without instances, by the revision of their last removal.
    empty: BTreeSet<(u64, Arc<str>)>,
    /// The revision that services have that are not in `services`: the newest of those that were dropped. A
    /// client may be told that such a list has changed although it has not, but never the reverse.
    floor: u64,
    /// The body of `GET /v1/services`, and its revision.
    services_body: Option<(u64, Bytes)>,
    /// The snapshot for watchers of all services, and its revision.
    snapshot: Option<(u64, Bytes)>,
    warming_until: Option<Instant>,
    /// Counts the changes of registrations that change no revision and are saved.
    registrations: u64,
    defaults: LeaseDefaults,
    max_instances: usize,
}

/// The store has as many instances as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreFull;

/// The effects of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SweepOutcome {
    /// The number of instances that were removed.
    pub(super) expired: usize,
    /// The number of expired instances that were kept as stale, by the guard against mass expiry.
    pub(super) withheld: usize,
    /// `true` if warming has ended.
    pub(super) warmed: bool,
}

impl Store {
    /// Creates an empty store.
    pub(super) fn new(epoch: String, defaults: LeaseDefaults, max_instances: usize) -> Self {
        Self {
            history: History::new(epoch),
            services: BTreeMap::new(),
            instances: 0,
            expiry: ExpiryQueue::default(),
            expired_overrides: OverrideCache::default(),
            empty: BTreeSet::new(),
            floor: 0,
            services_body: None,
            snapshot: None,
            warming_until: None,
            registrations: 0,
            defaults,
            max_instances,
        }
    }

    pub(super) fn epoch(&self) -> &str {
        &self.history.epoch
    }

    /// The newest revision, over all services.
    pub(super) fn rev(&self) -> u64 {
        self.history.rev
    }

    /// Changes with each change of registrations that is saved and has no revision.
    pub(super) fn registrations_rev(&self) -> u64 {
        self.registrations
    }

    pub(super) fn is_warming(&self) -> bool {
        self.warming_until.is_some()
    }

    /// Marks all answers as possibly incomplete, until a sweep after `until`.
    pub(super) fn warm_until(&mut self, until: Instant) {
        self.warming_until = Some(until);
        self.history.warming = true;
    }

    /// Registers or renews an instance, which must have passed [`Instance::check`]. What other registrations of it
    /// said is replaced, but they count until they end or expire.
    pub(super) fn register(
        &mut self,
        instance: Instance,
        claim: Claim,
        now: Now,
    ) -> Result<LeaseGrant, StoreFull> {
        let known =
            self.services.get(&*instance.service).and_then(|service| service.instances.get(&*instance.id));
        if known.is_none() {
            if self.instances >= self.max_instances {
                return Err(StoreFull);
            }
            let overrides =
                self.expired_overrides.remove(&instance.service, &instance.id).unwrap_or_default();
            return Ok(self.insert(Record::new(instance, claim, overrides, self.defaults.ttl, now)));
        }
        let ttl = self.defaults.ttl;
        let mut saves = false;
        let change = |record: &mut Record| saves = record.register(instance.clone(), claim, ttl, now);
        let grant = self.change(&instance.service, &instance.id, change).expect("it was found above");
        self.registrations += u64::from(saves);
        Ok(grant)
    }

    /// Renews the lease of an instance; `None` if the instance is unknown, or the registration with this token is.
    pub(super) fn renew(
        &mut self,
        service: &str,
        id: &str,
        token: Option<&RegistrationToken>,
        now: Now,
    ) -> Option<LeaseGrant> {
        if let Some(token) = token
            && !self.services.get(service)?.instances.get(id)?.is_registered_by(token)
        {
            return None;
        }
        let mut saves = false;
        let grant = self.change(service, id, |record| saves = record.renew(token, now))?;
        self.registrations += u64::from(saves);
        Some(grant)
    }

    /// Ends one registration of an instance, and removes the instance if no other is left; returns `true` then.
    /// A registration that is unknown, because it has ended or expired or is of another server, changes nothing.
    pub(super) fn end_registration(
        &mut self,
        service: &str,
        id: &str,
        token: &RegistrationToken,
        now: Instant,
    ) -> bool {
        let known = self.services.get(service).and_then(|service| service.instances.get(id));
        let Some(record) = known.filter(|record| record.is_registered_by(token)) else { return false };
        if record.is_last_registration(token, now) {
            return self.delete(service, id);
        }
        self.change(service, id, |record| record.end_registration(token));
        self.registrations += 1;
        false
    }

    /// Sets or removes overrides; `None` if the instance is unknown.
    pub(super) fn patch(&mut self, service: &str, id: &str, patch: Patch) -> Option<InstanceRecord> {
        self.change(service, id, |record| record.patch(patch))?;
        self.instance(service, id)
    }

    /// Removes an instance and its overrides; returns `true` if it was there.
    pub(super) fn delete(&mut self, service: &str, id: &str) -> bool {
        // Also the overrides that were kept for its return.
        self.expired_overrides.remove(service, id);
        self.remove(service, id, Cause::Deleted).is_some()
    }

    /// Removes expired instances, or keeps them as stale if much of their service is silent: a network failure or
    /// a pause of this process cuts off many at once, and they then expire one after the other.
    pub(super) fn sweep(&mut self, now: Instant) -> SweepOutcome {
        let mut outcome = SweepOutcome::default();
        for (service, ids) in self.expiry.due(now) {
            let Some(known) = self.services.get(&service) else { continue };
            let records = known.instances.values();
            let silent = records.filter(|record| record.is_silent(now, self.defaults.heartbeat)).count();
            let withhold =
                silent >= MASS_EXPIRY_MIN_COUNT && silent * 100 > known.instances.len() * MASS_EXPIRY_PERCENT;
            let is_fresh = |id: &&Arc<str>| known.instances.get(*id).is_some_and(|record| !record.is_stale());
            let fresh: Vec<_> = ids.iter().filter(is_fresh).cloned().collect();
            for id in &ids {
                if withhold && fresh.contains(id) {
                    self.change(&service, id, |record| record.withhold(now));
                    outcome.withheld += 1;
                } else if let Some(overrides) = self.remove(&service, id, Cause::Expired) {
                    self.expired_overrides.insert(&service, id, overrides);
                    outcome.expired += 1;
                }
            }
        }
        if self.warming_until.is_some_and(|until| until <= now) {
            outcome.warmed = true;
            self.end_warming();
        }
        outcome
    }

    /// Returns one instance, with `last_seen`.
    pub(super) fn instance(&self, service: &str, id: &str) -> Option<InstanceRecord> {
        Some(self.services.get(service)?.instances.get(id)?.with_last_seen())
    }

    /// Returns all instances of a service in any state, with `last_seen`.
    pub(super) fn instances(&self, service: &str) -> Vec<InstanceRecord> {
        let service = self.services.get(service);
        service
            .map(|service| service.instances.values().map(Record::with_last_seen).collect())
            .unwrap_or_default()
    }

    /// Returns the revision of the last change of a service's list.
    pub(super) fn service_rev(&self, service: &str) -> u64 {
        self.services.get(service).map_or(self.floor, |service| service.rev)
    }

    /// Returns the body of a list. Its revision is [`Store::service_rev`].
    pub(super) fn list(&mut self, service: &str, filter: &ListFilter) -> Bytes {
        match self.services.get_mut(service) {
            Some(service) => service.list(&self.history, filter),
            None => Service::new(Arc::default(), self.floor).list(&self.history, filter),
        }
    }

    /// Returns the addresses for the simple interface. Their revision is [`Store::service_rev`].
    pub(super) fn addresses(&mut self, service: &str) -> Arc<Addresses> {
        self.services.get_mut(service).map(Service::addresses).unwrap_or_default()
    }

    /// Returns the body of the list of services. Its revision is [`Store::rev`].
    pub(super) fn services(&mut self) -> Bytes {
        if let Some((rev, body)) = &self.services_body
            && *rev == self.history.rev
        {
            return body.clone();
        }
        let services = self.services.values().filter(|service| !service.instances.is_empty());
        let body = wire::Services { services: services.map(Service::summary).collect() };
        let body = Bytes::from(self.history.json(self.history.rev, body));
        self.services_body = Some((self.history.rev, body.clone()));
        body
    }

    /// Returns the changes after `rev`, of one service or of all.
    pub(super) fn since(&self, service: Option<&str>, rev: u64) -> ChangesSince {
        match service {
            Some(name) => self.history.since_of(name, self.service_rev(name), rev),
            None => self.history.since(rev),
        }
    }

    /// Returns a watcher's first event, with all instances, and the revision after which changes follow.
    pub(super) fn snapshot(&mut self, service: Option<&str>) -> (u64, Bytes) {
        let Some(name) = service else { return self.snapshot_of_all() };
        let frame = match self.services.get_mut(name) {
            Some(service) => service.snapshot(&self.history),
            None => Service::new(name.into(), self.floor).snapshot(&self.history),
        };
        (self.history.rev, frame)
    }

    /// Returns the numbers of services and instances. Watchers are not counted here.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { services: self.services.len() - self.empty.len(), ..Counts::default() };
        for service in self.services.values().map(Service::summary) {
            counts.instances += service.instances;
            counts.up += service.up;
            counts.draining += service.draining;
            counts.stale += service.stale;
        }
        counts
    }

    /// Returns the services that changed after `rev`; `None` if some of the changes were dropped.
    pub(super) fn changed_since(&self, rev: u64) -> Option<BTreeSet<Arc<str>>> {
        self.history.services_since(rev)
    }

    /// Returns what is saved, without the instances.
    pub(super) fn saved_header(&self) -> SavedStore {
        SavedStore {
            warming: self.is_warming(),
            instances: Vec::new(),
            expired_overrides: self.expired_overrides.iter().cloned().collect(),
        }
    }

    /// Returns up to `limit` instances after `key`, to be saved, and the last one's key; `None` if there are no
    /// more. Parts, so that the store need not stay locked while all of them are copied.
    pub(super) fn saved_instances_after(
        &self,
        key: Option<&Key>,
        limit: usize,
    ) -> Option<(Vec<SavedInstance>, Key)> {
        let records: Vec<_> = self.records_after(key).take(limit).collect();
        let last = records.last()?.key();
        Some((records.into_iter().map(SavedInstance::from).collect(), last))
    }

    /// Restores what was saved into an empty store. Each instance gets a full time to live from `now` on. The
    /// limit of instances does not apply: they were registered before.
    pub(super) fn restore(&mut self, saved: SavedStore, now: Now) {
        for saved in saved.instances {
            let record = Record::restore(saved, self.defaults.ttl, now);
            // A file that was edited by hand may contain an instance twice.
            let (service, id) = record.key();
            self.delete(&service, &id);
            self.insert(record);
        }
        for (InstanceName { service, id }, overrides) in saved.expired_overrides {
            self.expired_overrides.insert(&service, &id, overrides);
        }
    }

    fn snapshot_of_all(&mut self) -> (u64, Bytes) {
        if let Some((rev, frame)) = &self.snapshot
            && self.history.rev - rev <= SNAPSHOT_LAG
        {
            return (*rev, frame.clone());
        }
        let records = self.services.values().flat_map(|service| service.instances.values());
        let frame = self.history.snapshot(self.history.rev, None, records);
        self.snapshot = Some((self.history.rev, frame.clone()));
        (self.history.rev, frame)
    }

    fn insert(&mut self, mut record: Record) -> LeaseGrant {
        let (name, id) = record.key();
        let floor = self.floor;
        let service = self.services.entry(Arc::clone(&name)).or_insert_with(|| Service::new(name, floor));
        if service.instances.is_empty() {
            self.empty.remove(&(service.rev, Arc::clone(&service.name)));
        }
        service.set_rev(self.history.put(&service.name, service.rev, &mut record));
        self.expiry.insert(record.deadline(), (Arc::clone(&service.name), Arc::clone(&id)));
        self.instances += 1;
        let grant = record.grant();
        service.instances.insert(id, record);
        grant
    }

    /// Changes a record, and makes a new revision if clients can see the change.
    fn change(&mut self, service: &str, id: &str, change: impl FnOnce(&mut Record)) -> Option<LeaseGrant> {
        let service = self.services.get_mut(service)?;
        let (id, _) = service.instances.get_key_value(id)?;
        let key: Key = (Arc::clone(&service.name), Arc::clone(id));
        let record = service.instances.get_mut(&key.1)?;
        let before = record.deadline();
        change(record);
        if record.deadline() != before {
            self.expiry.remove(before, &key);
            self.expiry.insert(record.deadline(), key);
        }
        if record.refresh() {
            let rev = self.history.put(&service.name, service.rev, record);
            let grant = record.grant();
            service.set_rev(rev);
            return Some(grant);
        }
        Some(record.grant())
    }

    /// Removes a record; returns its overrides.
    fn remove(&mut self, service: &str, id: &str, cause: Cause) -> Option<Overrides> {
        let service = self.services.get_mut(service)?;
        let (id, record) = service.instances.remove_entry(id)?;
        self.instances -= 1;
        service.set_rev(self.history.delete(&service.name, service.rev, &id, cause));
        self.expiry.remove(record.deadline(), &(Arc::clone(&service.name), id));
        if service.instances.is_empty() {
            self.empty.insert((service.rev, Arc::clone(&service.name)));
            self.drop_oldest_empty();
        }
        Some(record.overrides())
    }

    fn drop_oldest_empty(&mut self) {
        while self.empty.len() > MAX_EMPTY
            && let Some((rev, name)) = self.empty.pop_first()
        {
            self.services.remove(&name);
            self.floor = self.floor.max(rev);
        }
    }

    /// Ends warming. All cached bodies carry `warming`, so they are dropped.
    fn end_warming(&mut self) {
        self.warming_until = None;
        self.history.warming = false;
        self.services_body = None;
        self.snapshot = None;
        for service in self.services.values_mut() {
            service.clear_cache();
        }
    }

    /// Returns the records after `key`, by service and id; all if it is `None`.
    fn records_after(&self, key: Option<&Key>) -> impl Iterator<Item = &Record> {
        let from = key.map_or(Bound::Unbounded, |(service, _)| Bound::Included(Arc::clone(service)));
        self.services.range((from, Bound::Unbounded)).flat_map(move |(name, service)| {
            let after = key.filter(|(of, _)| of == name).map(|(_, id)| Arc::clone(id));
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            service.instances.range((from, Bound::Unbounded)).map(|(_, record)| record)
        })
    }
}
