//! [`ServiceLists`]: the list of services, and the numbers of instances, kept up to date by each change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::listed::{ListedInstance, ListedService};
use super::paged::{Paged, Pages};
use super::retained::Retained;
use super::service::{Service, StateCounts};

/// Services with more pages of instances than this are entered in the list of services when that is read, not at each
/// change: the entry would share their pages, which the next change then copies.
const MAX_EAGER_PAGES: usize = 8;

/// Entries of outdated services that are replaced at once, while the store is locked: well under a millisecond.
const REFRESHED_AT_ONCE: usize = 32;

/// The services that have instances, as readers take them.
#[derive(Debug)]
pub(super) struct ServiceLists {
    listed: Paged<ListedService>,
    /// Services whose entry in `listed` must be replaced before it is read.
    outdated: BTreeSet<Arc<str>>,
    /// The instances of all services, by state.
    pub(super) counts: StateCounts,
}

impl ServiceLists {
    pub(super) fn new(retained: &Retained) -> Self {
        Self { listed: Paged::new(retained), outdated: BTreeSet::new(), counts: StateCounts::default() }
    }

    /// Replaces an instance in the lists of its service, which has it already; `None` if it was removed.
    pub(super) fn replace(&mut self, service: &mut Service, id: &str, listed: Option<Arc<ListedInstance>>) {
        if service.page_count() > MAX_EAGER_PAGES && self.outdated.insert(Arc::clone(&service.name)) {
            self.listed.insert(Arc::new(ListedService::outdated(Arc::clone(&service.name))));
        }
        let before = service.counts;
        service.list(id, listed);
        self.counts.replace(before, service.counts);
        if service.instances.is_empty() {
            self.listed.remove(&service.name);
            self.outdated.remove(&service.name);
        } else if !self.outdated.contains(&service.name) {
            self.listed.insert(Arc::new(service.listed()));
        }
    }

    /// Replaces some of the outdated entries; returns `true` if no more are left than one step replaces.
    pub(super) fn refresh(&mut self, services: &BTreeMap<Arc<str>, Service>) -> bool {
        if self.outdated.len() <= REFRESHED_AT_ONCE {
            return true;
        }
        for _ in 0..REFRESHED_AT_ONCE {
            self.refresh_first(services);
        }
        self.outdated.len() <= REFRESHED_AT_ONCE
    }

    /// Returns the services at this moment.
    pub(super) fn pages(&mut self, services: &BTreeMap<Arc<str>, Service>) -> Pages<ListedService> {
        while self.refresh_first(services) {}
        self.listed.pages()
    }

    /// Replaces the first outdated entry; returns `false` if there is none.
    fn refresh_first(&mut self, services: &BTreeMap<Arc<str>, Service>) -> bool {
        let Some(name) = self.outdated.pop_first() else { return false };
        if let Some(service) = services.get(&name) {
            self.listed.insert(Arc::new(service.listed()));
        }
        true
    }
}
