//! [`Store`], all that the registry knows: services, their instances, when those expire, what changed.
//!
//! It does no I/O and has no clock: `now` is an argument. What it hands out was serialized once for
//! each revision.

mod changes;
mod expiry;
mod kept;
mod record;
mod saved;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use farcall_discovery::Instance;
use tokio::time::Instant;

use self::changes::History;
pub(super) use self::changes::{Since, frame};
use self::expiry::{Expiry, Key};
use self::kept::Kept;
use self::record::Record;
pub(super) use self::saved::Saved;
use self::service::Service;
pub(super) use self::service::{Addresses, View};
use crate::wire::{self, Cause, Counts, Listed, Overrides, Patch, Timestamp};

/// How many services without instances are remembered, so that who polls such a list is told when
/// it moves. Of more of them, the oldest are forgotten; see `Store::floor`.
const MAX_EMPTY: usize = 1024;
/// How far a snapshot for those who watch everything may lie behind. It is sent with the changes since,
/// so that a thousand watchers who come while much changes don't cost a thousand snapshots.
const SNAPSHOT_LAG: u64 = 256;
/// Fewer instances than this that fall silent together are no mass expiry.
const MASS_COUNT: usize = 3;
/// Nor are these, of a hundred of a service, or fewer.
const MASS_PERCENT: usize = 30;

/// A moment, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// What expiry is counted by.
    pub(super) at: Instant,
    /// What people are shown.
    pub(super) clock: Timestamp,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Store {
    history: History,
    services: BTreeMap<Arc<str>, Service>,
    /// How many there are, over all services.
    instances: usize,
    expiry: Expiry,
    kept: Kept,
    /// Services without instances, by the revision that made them so.
    empty: BTreeSet<(u64, Arc<str>)>,
    /// The revision of services that are not in `services`: the last one of those that were forgotten.
    /// Who asks whether such a list moved since then may be told so though it did not; never the reverse.
    floor: u64,
    /// `GET /v1/services`, of the revision that stands beside it.
    services_body: Option<(u64, Bytes)>,
    /// The snapshot for those who watch everything, of the revision that stands beside it.
    snapshot: Option<(u64, Bytes)>,
    warming_until: Option<Instant>,
    times: Times,
    max_instances: usize,
}

/// The times of instances that ask for none of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long they stay without a heartbeat.
    pub(super) ttl: Duration,
    /// How often they are told to send one.
    pub(super) heartbeat: Duration,
}

/// What a registration or a heartbeat gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// How long it stays without a heartbeat.
    pub(super) ttl: Duration,
    /// Whether it asked for that time.
    pub(super) own_ttl: bool,
}

impl Granted {
    /// How often to send a heartbeat, which is `usual` for those with the usual time: of its own, one
    /// that may be lost twice.
    pub(super) fn heartbeat(&self, usual: Duration) -> Duration {
        if self.own_ttl { self.ttl / 3 } else { usual }
    }
}

/// There are as many instances as are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// How many instances are gone.
    pub(super) expired: usize,
    /// How many would be gone, but for the guard against mass expiry.
    pub(super) held_back: usize,
    /// Whether warming ended.
    pub(super) warmed: bool,
}

impl Store {
    /// An empty one.
    pub(super) fn new(epoch: String, times: Times, max_instances: usize) -> Self {
        Self {
            history: History::new(epoch),
            services: BTreeMap::new(),
            instances: 0,
            expiry: Expiry::default(),
            kept: Kept::default(),
            empty: BTreeSet::new(),
            floor: 0,
            services_body: None,
            snapshot: None,
            warming_until: None,
            times,
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

    pub(super) fn warming(&self) -> bool {
        self.warming_until.is_some()
    }

    /// Says of everything that it may be incomplete, until a sweep after this moment.
    pub(super) fn warm_until(&mut self, until: Instant) {
        self.warming_until = Some(until);
        self.history.warming = true;
    }

    /// Registers the instance, which must have passed [`Instance::check`], or renews it.
    pub(super) fn register(&mut self, instance: Instance, now: Now) -> Result<Granted, Full> {
        let known =
            self.services.get(&*instance.service).and_then(|service| service.instances.get(&*instance.id));
        if known.is_none() {
            if self.instances >= self.max_instances {
                return Err(Full);
            }
            let overrides = self.kept.take(&instance.service, &instance.id).unwrap_or_default();
            return Ok(self.insert(Record::new(instance, overrides, self.times.ttl, now)));
        }
        let ttl = self.times.ttl;
        let change = |record: &mut Record| record.register(instance.clone(), ttl, now);
        Ok(self.change(&instance.service, &instance.id, change).expect("it was found just now"))
    }

    /// Renews it; `None` if it is not known.
    pub(super) fn renew(&mut self, service: &str, id: &str, now: Now) -> Option<Granted> {
        self.change(service, id, |record| record.renew(now))
    }

    /// Sets or takes back what an operator overrides; `None` if the instance is not known.
    pub(super) fn patch(&mut self, service: &str, id: &str, patch: Patch) -> Option<Listed> {
        self.change(service, id, |record| record.patch(patch))?;
        self.one(service, id)
    }

    /// Takes it away, and what was overridden of it; says whether it was there.
    pub(super) fn delete(&mut self, service: &str, id: &str) -> bool {
        // An override that waits for an instance that has expired goes, too.
        self.kept.take(service, id);
        self.remove(service, id, Cause::Deleted).is_some()
    }

    /// Takes away what has expired, or holds it back where much of its service is silent: what cuts
    /// many off at once, a network or this process, lets them expire one after the other.
    pub(super) fn sweep(&mut self, now: Instant) -> Swept {
        let mut swept = Swept::default();
        for (service, ids) in self.expiry.due(now) {
            let Some(known) = self.services.get(&service) else { continue };
            let records = known.instances.values();
            let silent = records.filter(|record| record.is_silent(now, self.times.heartbeat)).count();
            let hold = silent >= MASS_COUNT && silent * 100 > known.instances.len() * MASS_PERCENT;
            let is_fresh = |id: &&Arc<str>| known.instances.get(*id).is_some_and(|record| !record.is_stale());
            let fresh: Vec<_> = ids.iter().filter(is_fresh).cloned().collect();
            for id in &ids {
                if hold && fresh.contains(id) {
                    self.change(&service, id, |record| record.hold_back(now));
                    swept.held_back += 1;
                } else if let Some(overrides) = self.remove(&service, id, Cause::Expired) {
                    self.kept.keep(&service, id, overrides);
                    swept.expired += 1;
                }
            }
        }
        if self.warming_until.is_some_and(|until| until <= now) {
            swept.warmed = true;
            self.end_warming();
        }
        swept
    }

    /// One instance, with `last_seen`.
    pub(super) fn one(&self, service: &str, id: &str) -> Option<Listed> {
        Some(self.services.get(service)?.instances.get(id)?.with_last_seen())
    }

    /// All instances of a service, in whatever state.
    pub(super) fn all(&self, service: &str) -> Vec<Listed> {
        let service = self.services.get(service);
        service
            .map(|service| service.instances.values().map(Record::with_last_seen).collect())
            .unwrap_or_default()
    }

    /// The revision of the last change of a service's list.
    pub(super) fn service_rev(&self, service: &str) -> u64 {
        self.services.get(service).map_or(self.floor, |service| service.rev)
    }

    /// The body of a list. Its revision is [`Store::service_rev`].
    pub(super) fn list(&mut self, service: &str, view: &View) -> Bytes {
        match self.services.get_mut(service) {
            Some(service) => service.list(&self.history, view),
            None => Service::new(Arc::default(), self.floor).list(&self.history, view),
        }
    }

    /// The plain addresses. Their revision is [`Store::service_rev`].
    pub(super) fn addresses(&mut self, service: &str) -> Arc<Addresses> {
        self.services.get_mut(service).map(Service::addresses).unwrap_or_default()
    }

    /// The body of the list of services. Its revision is [`Store::rev`].
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

    /// What changed after this revision, of one service or of all.
    pub(super) fn since(&self, service: Option<&str>, rev: u64) -> Since {
        match service {
            Some(name) => self.history.since_of(name, self.service_rev(name), rev),
            None => self.history.since(rev),
        }
    }

    /// What a watcher is to know first, as a frame; and the revision that changes are to follow from.
    pub(super) fn snapshot(&mut self, service: Option<&str>) -> (u64, Bytes) {
        let Some(name) = service else { return self.snapshot_of_all() };
        let frame = match self.services.get_mut(name) {
            Some(service) => service.snapshot(&self.history),
            None => Service::new(name.into(), self.floor).snapshot(&self.history),
        };
        (self.history.rev, frame)
    }

    /// How much there is. Watchers are not counted here.
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

    /// The services that changed after this revision; `None` if that is not known any more.
    pub(super) fn changed_since(&self, rev: u64) -> Option<BTreeSet<Arc<str>>> {
        self.history.services_since(rev)
    }

    fn snapshot_of_all(&mut self) -> (u64, Bytes) {
        if let Some((rev, frame)) = &self.snapshot
            && self.history.rev - rev <= SNAPSHOT_LAG
        {
            return (*rev, frame.clone());
        }
        let records = self.services.values().flat_map(|service| service.instances.values());
        let frame = changes::snapshot(&self.history, self.history.rev, None, records);
        self.snapshot = Some((self.history.rev, frame.clone()));
        (self.history.rev, frame)
    }

    fn insert(&mut self, mut record: Record) -> Granted {
        let (name, id) = record.key();
        let floor = self.floor;
        let service = self.services.entry(Arc::clone(&name)).or_insert_with(|| Service::new(name, floor));
        if service.instances.is_empty() {
            self.empty.remove(&(service.rev, Arc::clone(&service.name)));
        }
        service.touched(self.history.put(&service.name, service.rev, &mut record));
        self.expiry.insert(record.deadline(), (Arc::clone(&service.name), Arc::clone(&id)));
        self.instances += 1;
        let granted = record.granted();
        service.instances.insert(id, record);
        granted
    }

    /// Changes a record, and says so where that can be seen.
    fn change(&mut self, service: &str, id: &str, change: impl FnOnce(&mut Record)) -> Option<Granted> {
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
            let granted = record.granted();
            service.touched(rev);
            return Some(granted);
        }
        Some(record.granted())
    }

    /// Takes a record away; returns what was overridden of it.
    fn remove(&mut self, service: &str, id: &str, cause: Cause) -> Option<Overrides> {
        let service = self.services.get_mut(service)?;
        let (id, record) = service.instances.remove_entry(id)?;
        self.instances -= 1;
        service.touched(self.history.delete(&service.name, service.rev, &id, cause));
        self.expiry.remove(record.deadline(), &(Arc::clone(&service.name), id));
        if service.instances.is_empty() {
            self.empty.insert((service.rev, Arc::clone(&service.name)));
            self.forget_empty();
        }
        Some(record.overrides())
    }

    fn forget_empty(&mut self) {
        while self.empty.len() > MAX_EMPTY
            && let Some((rev, name)) = self.empty.pop_first()
        {
            self.services.remove(&name);
            self.floor = self.floor.max(rev);
        }
    }

    /// Everything that was serialized says that it may be incomplete.
    fn end_warming(&mut self) {
        self.warming_until = None;
        self.history.warming = false;
        self.services_body = None;
        self.snapshot = None;
        for service in self.services.values_mut() {
            service.forget_views();
        }
    }

    /// All records, in the order of services and ids, from the one after this.
    fn records_after(&self, key: Option<&Key>) -> impl Iterator<Item = &Record> {
        let from = key.map_or(Bound::Unbounded, |(service, _)| Bound::Included(Arc::clone(service)));
        self.services.range((from, Bound::Unbounded)).flat_map(move |(name, service)| {
            let after = key.filter(|(of, _)| of == name).map(|(_, id)| Arc::clone(id));
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            service.instances.range((from, Bound::Unbounded)).map(|(_, record)| record)
        })
    }
}
