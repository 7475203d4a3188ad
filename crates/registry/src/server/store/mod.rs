//! [`Store`]: the services, their instances, the leases of those, and the last changes.
//!
//! No I/O and no clock: `now` is an argument. Under the store's lock nothing visits all instances: readers take pages of
//! the lists in constant time and make their bytes from them later; expiry works in parts. Locking and waking watchers
//! is left to [`shared_store`](super::shared_store).

mod document;
mod expiry;
mod history;
mod lease;
mod listed;
mod lists;
mod override_cache;
mod page;
mod paged;
mod record;
mod registrations;
mod retained;
mod saved;
mod selection;
mod service;
#[cfg(test)]
mod tests;
mod unsaved;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use farcall_discovery::Instance;
use tokio::time::Instant;

use self::document::Items;
pub(super) use self::document::{Document, MAX_PART_BYTES, Parts};
#[cfg(test)]
use self::expiry::SweepOutcome;
use self::expiry::{EXPIRY_STEPS, ExpiryQueue, MAX_SWEEP_STEPS};
pub(super) use self::expiry::{Key, Sweep};
use self::history::History;
pub(super) use self::history::{ChangesSince, frame};
pub(super) use self::lease::{LeaseDefaults, LeaseGrant, Now};
use self::listed::ListedAddress;
pub(super) use self::listed::ListedInstance;
use self::lists::ServiceLists;
use self::override_cache::OverrideCache;
use self::paged::Pages;
use self::record::Record;
pub(super) use self::registrations::Claim;
pub(super) use self::retained::Retained;
pub(super) use self::saved::{SavedInstance, SavedStore};
pub(super) use self::selection::{Addresses, ListFilter, Selection};
use self::service::{Service, StateCounts};
pub(super) use self::unsaved::Unsaved;
use crate::wire::{Cause, Counts, InstanceName, InstanceRecord, Overrides, Patch, RegistrationToken};

/// Services without instances that are kept, so that clients that poll such a list learn of its changes. Past
/// it the oldest are dropped; see `Store::floor`.
const MAX_EMPTY: usize = 1024;
/// All data of a registry. See the module.
#[derive(Debug)]
pub(super) struct Store {
    history: History,
    services: BTreeMap<Arc<str>, Service>,
    lists: ServiceLists,
    /// The pages that only readers hold.
    retained: Retained,
    expiry: ExpiryQueue,
    expired_overrides: OverrideCache,
    /// Services without instances, by the revision of their last removal.
    empty: BTreeSet<(u64, Arc<str>)>,
    /// The revision that services have that are not in `services`: the newest of those that were dropped. A
    /// client may be told that such a list has changed although it has not, but never the reverse.
    floor: u64,
    warming_until: Option<Instant>,
    unsaved: Unsaved,
    /// Counts the changes of registrations that change no revision and are saved.
    registrations: u64,
    defaults: LeaseDefaults,
    max_instances: usize,
}

/// The store has as many instances as it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StoreFull;

impl Store {
    /// Creates an empty store.
    pub(super) fn new(epoch: String, defaults: LeaseDefaults, max_instances: usize) -> Self {
        let retained = Retained::default();
        Self {
            history: History::new(epoch),
            services: BTreeMap::new(),
            lists: ServiceLists::new(&retained),
            retained,
            expiry: ExpiryQueue::default(),
            expired_overrides: OverrideCache::default(),
            empty: BTreeSet::new(),
            floor: 0,
            warming_until: None,
            unsaved: Unsaved::all(),
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
            if self.lists.counts.all() >= self.max_instances {
                return Err(StoreFull);
            }
            let overrides = self.take_expired_overrides(&instance.service, &instance.id).unwrap_or_default();
            return Ok(self.insert(Record::new(instance, claim, overrides, self.defaults.ttl, now)));
        }
        let ttl = self.defaults.ttl;
        let mut saves = false;
        let change = |record: &mut Record| saves = record.register(instance.clone(), claim, ttl, now);
        let grant = self.change(&instance.service, &instance.id, change).expect("it was found above");
        if saves {
            self.registrations_changed(&instance.service, &instance.id);
        }
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
        if saves {
            self.registrations_changed(service, id);
        }
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
        self.registrations_changed(service, id);
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
        self.take_expired_overrides(service, id);
        self.remove(service, id, Cause::Deleted).is_some()
    }

    /// Does a part of a sweep; returns `true` if it was the last. Removes expired instances, or keeps them as stale if
    /// much of their service is silent: a network failure or a pause of this process cuts off many at once, and they
    /// then expire one after the other.
    pub(super) fn sweep_part(&mut self, sweep: &mut Sweep) -> bool {
        let mut steps = MAX_SWEEP_STEPS;
        while steps > 0 {
            let Some((service, id)) = self.expiry.first_due(sweep.now) else {
                if self.warming_until.is_some_and(|until| until <= sweep.now) {
                    sweep.outcome.warmed = true;
                    self.unsaved.warming = true;
                    self.warming_until = None;
                    self.history.warming = false;
                }
                return true;
            };
            match sweep.withheld.get(&service) {
                Some(withheld) => {
                    self.expire(&service, &id, *withheld, sweep);
                    steps = steps.saturating_sub(EXPIRY_STEPS);
                }
                None => {
                    let known = self.services.get(&service);
                    steps -= sweep.count_silent(&service, known, self.defaults.heartbeat, steps);
                }
            }
        }
        false
    }

    /// Does a whole sweep.
    #[cfg(test)]
    pub(super) fn sweep(&mut self, now: Instant) -> SweepOutcome {
        let mut sweep = Sweep::new(now);
        while !self.sweep_part(&mut sweep) {}
        sweep.outcome
    }

    /// Returns one instance, with `last_seen`.
    pub(super) fn instance(&self, service: &str, id: &str) -> Option<InstanceRecord> {
        Some(self.services.get(service)?.instances.get(id)?.with_last_seen())
    }

    /// Returns the revision of the last change of a service's list.
    pub(super) fn service_rev(&self, service: &str) -> u64 {
        self.services.get(service).map_or(self.floor, |service| service.rev)
    }

    /// Returns a list whose instances are still to be selected. Its revision is [`Store::service_rev`].
    pub(super) fn list(&self, service: &str, filter: &ListFilter) -> Selection {
        let known = self.services.get(service);
        let (pages, counts) = known.map(|known| (known.pages(), known.counts)).unwrap_or_default();
        let head = self.history.list_head(self.service_rev(service), "instances");
        let items = Items::Instances { pages: Arc::clone(&pages), last_seen: filter.last_seen };
        let document = Document { head, items, tail: b"]}" };
        Selection::new(document, pages, filter, (counts.serving, counts.stale))
    }

    /// Returns the addresses for the simple interface. Their revision is [`Store::service_rev`].
    pub(super) fn addresses(&self, service: &str) -> Pages<ListedAddress> {
        self.services.get(service).map(Service::addresses).unwrap_or_default()
    }

    /// Brings a part of the list of services up to date; returns `true` if little is left for those who take it then. Callers
    /// unlock the store in between.
    pub(super) fn refresh_services(&mut self) -> bool {
        self.lists.refresh(&self.services)
    }

    /// Returns the list of services. Its revision is [`Store::rev`].
    pub(super) fn services(&mut self) -> Document {
        let head = self.history.list_head(self.rev(), "services");
        Document { head, items: Items::Services(self.lists.pages(&self.services)), tail: b"]}" }
    }

    #[cfg(test)]
    pub(super) fn since(&self, service: Option<&str>, rev: u64) -> ChangesSince {
        match service {
            Some(name) => self.history.since_of(name, self.service_rev(name), rev, self.rev()),
            None => self.history.since(rev, self.rev()),
        }
    }

    /// Returns `true` if all changes after `rev` are known, of one service or of all.
    pub(super) fn knows_since(&self, service: Option<&str>, rev: u64) -> bool {
        match service {
            Some(name) => self.history.since_of(name, self.service_rev(name), rev, rev) != ChangesSince::Lost,
            None => self.history.since(rev, rev) != ChangesSince::Lost,
        }
    }

    /// The revision up to which watchers are told.
    pub(super) fn published_rev(&self) -> u64 {
        self.history.published_rev()
    }

    /// Publishes the changes for watchers, at most once in 50 ms; returns when to read again, if there are others.
    pub(super) fn publish(&mut self, now: Instant) -> Option<Instant> {
        self.history.publish(now)
    }

    /// Returns the published changes after `rev`, of one service or of all.
    pub(super) fn published_since(&mut self, service: Option<&Arc<str>>, rev: u64) -> ChangesSince {
        let service = service.map(|name| (name, self.service_rev(name)));
        self.history.published_since(service, rev)
    }

    /// Returns a watcher's first event, with all instances, and the revision after which changes follow.
    pub(super) fn snapshot(&mut self, service: Option<&str>) -> (u64, Document) {
        let (rev, items) = match service {
            None => (self.rev(), Items::InstancesOf(self.lists.pages(&self.services))),
            Some(name) => {
                let pages = self.services.get(name).map(Service::pages).unwrap_or_default();
                (self.service_rev(name), Items::Instances { pages, last_seen: false })
            }
        };
        let head = self.history.snapshot_head(rev, service);
        (self.history.rev, Document { head, items, tail: b"]}\n\n" })
    }

    /// Returns the numbers of services and instances. Watchers are not counted here.
    pub(super) fn counts(&self) -> Counts {
        let StateCounts { up, draining, stale, .. } = self.lists.counts;
        let (services, instances) = (self.services.len() - self.empty.len(), self.lists.counts.all());
        Counts { services, instances, up, draining, stale, ..Counts::default() }
    }

    pub(super) fn retained(&self) -> &Retained {
        &self.retained
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

    /// Returns what has changed since it was last taken, which the caller saves.
    pub(super) fn take_unsaved(&mut self) -> Unsaved {
        std::mem::replace(&mut self.unsaved, Unsaved::nothing())
    }

    /// Takes back what could not be saved.
    pub(super) fn put_back_unsaved(&mut self, unsaved: Unsaved) {
        self.unsaved.extend(unsaved);
    }

    /// Returns an instance to be saved; `None` if it is gone.
    pub(super) fn saved_instance(&self, (service, id): &Key) -> Option<SavedInstance> {
        self.services.get(service)?.instances.get(id).map(SavedInstance::from)
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

    fn take_expired_overrides(&mut self, service: &str, id: &str) -> Option<Overrides> {
        let overrides = self.expired_overrides.remove(service, id);
        self.unsaved.overrides |= overrides.is_some();
        overrides
    }

    /// Records a change of an instance's registrations, which has no revision and is saved all the same.
    fn registrations_changed(&mut self, service: &str, id: &str) {
        self.registrations += 1;
        self.unsaved.insert((service.into(), id.into()));
    }

    fn insert(&mut self, mut record: Record) -> LeaseGrant {
        let (name, id) = record.key();
        self.unsaved.insert((Arc::clone(&name), Arc::clone(&id)));
        let (floor, retained) = (self.floor, &self.retained);
        let service = self
            .services
            .entry(Arc::clone(&name))
            .or_insert_with(|| Service::new(Arc::clone(&name), floor, retained));
        if service.instances.is_empty() {
            self.empty.remove(&(service.rev, Arc::clone(&name)));
        }
        service.rev = self.history.put(&name, service.rev, &mut record);
        self.expiry.insert(record.deadline(), (Arc::clone(&name), Arc::clone(&id)));
        let (grant, listed) = (record.grant(), record.listed());
        service.instances.insert(Arc::clone(&id), record);
        self.lists.replace(service, &id, listed);
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
            self.expiry.insert(record.deadline(), key.clone());
        }
        let grant = record.grant();
        if record.refresh() {
            service.rev = self.history.put(&key.0, service.rev, record);
            let listed = record.listed();
            self.lists.replace(service, &key.1, listed);
            self.unsaved.insert(key);
        }
        Some(grant)
    }

    /// Removes a record; returns its overrides.
    fn remove(&mut self, service: &str, id: &str, cause: Cause) -> Option<Overrides> {
        let service = self.services.get_mut(service)?;
        let (id, record) = service.instances.remove_entry(id)?;
        let name = Arc::clone(&service.name);
        service.rev = self.history.delete(&name, service.rev, &id, cause);
        let is_empty = service.instances.is_empty();
        if is_empty {
            self.empty.insert((service.rev, Arc::clone(&name)));
        }
        self.expiry.remove(record.deadline(), &(Arc::clone(&name), Arc::clone(&id)));
        self.lists.replace(service, &id, None);
        self.unsaved.insert((name, id));
        if is_empty {
            self.drop_oldest_empty();
        }
        Some(record.overrides())
    }

    /// Removes an expired instance, or keeps it as stale.
    fn expire(&mut self, service: &Arc<str>, id: &Arc<str>, withhold: bool, sweep: &mut Sweep) {
        let record = self.services.get(service).and_then(|service| service.instances.get(id));
        if withhold && record.is_some_and(|record| !record.is_stale()) {
            self.change(service, id, |record| record.withhold(sweep.now));
            sweep.outcome.withheld += 1;
        } else if let Some(overrides) = self.remove(service, id, Cause::Expired) {
            self.unsaved.overrides |= !overrides.is_empty();
            self.expired_overrides.insert(service, id, overrides);
            sweep.outcome.expired += 1;
        }
    }

    fn drop_oldest_empty(&mut self) {
        while self.empty.len() > MAX_EMPTY
            && let Some((rev, name)) = self.empty.pop_first()
        {
            self.services.remove(&name);
            self.floor = self.floor.max(rev);
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
