//! [`Service`]: a service's instances, and the lists of them that readers take.

use std::collections::BTreeMap;
use std::sync::Arc;

use farcall_discovery::AdvertisedState;

use super::listed::{ListedAddress, ListedInstance, ListedService};
use super::paged::{Paged, Pages};
use super::record::Record;
use super::retained::Retained;
use crate::wire;

/// A service and its instances.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    /// The revision of the last change of its list.
    pub(super) rev: u64,
    pub(super) instances: BTreeMap<Arc<str>, Record>,
    pub(super) counts: StateCounts,
    listed: Paged<ListedInstance>,
    /// The addresses of instances that are up and accept calls, and of stale ones that would.
    up: Paged<ListedAddress>,
    stale: Paged<ListedAddress>,
}

/// The numbers of instances by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct StateCounts {
    pub(super) up: usize,
    pub(super) draining: usize,
    pub(super) stale: usize,
    /// The number of those that are up and accept calls.
    pub(super) serving: usize,
}

impl Service {
    pub(super) fn new(name: Arc<str>, rev: u64, retained: &Retained) -> Self {
        Self {
            name,
            rev,
            instances: BTreeMap::new(),
            counts: StateCounts::default(),
            listed: Paged::new(retained),
            up: Paged::new(retained),
            stale: Paged::new(retained),
        }
    }

    /// Replaces an instance in all lists; `None` if it was removed.
    pub(super) fn list(&mut self, id: &str, listed: Option<Arc<ListedInstance>>) {
        let before = self.listed.get(id).cloned();
        let address = |listed: &Option<Arc<ListedInstance>>| {
            let listed = listed.as_ref().filter(|listed| listed.accepts_calls())?;
            Some((listed.state(), listed.public().instance.addr.clone()))
        };
        let (address_before, address_after) = (address(&before), address(&listed));
        if address_before != address_after {
            if let Some((state, address)) = address_before {
                self.count_address(state, &address.to_string(), false);
            }
            if let Some((state, address)) = address_after {
                self.count_address(state, &address.to_string(), true);
            }
        }
        if let Some(before) = before {
            self.counts.count(&before, |count| *count -= 1);
        }
        match listed {
            Some(listed) => {
                self.counts.count(&listed, |count| *count += 1);
                self.listed.insert(listed);
            }
            None => self.listed.remove(id),
        }
    }

    /// Returns the instances at this moment.
    pub(super) fn pages(&self) -> Pages<ListedInstance> {
        self.listed.pages()
    }

    pub(super) fn page_count(&self) -> usize {
        self.listed.page_count()
    }

    /// Returns the addresses that the simple interface lists, at this moment.
    pub(super) fn addresses(&self) -> Pages<ListedAddress> {
        if self.counts.serving > 0 { self.up.pages() } else { self.stale.pages() }
    }

    /// Returns the service as the list of services has it.
    pub(super) fn listed(&self) -> ListedService {
        let StateCounts { up, draining, stale, .. } = self.counts;
        let (name, instances) = (self.name.to_string(), self.instances.len());
        let summary = wire::ServiceSummary { name, instances, up, draining, stale, rev: self.rev };
        ListedService::new(Arc::clone(&self.name), &summary, self.pages())
    }

    /// Counts one instance more or less at an address: several may have the same.
    fn count_address(&mut self, state: AdvertisedState, address: &str, added: bool) {
        let list = if state == AdvertisedState::Up { &mut self.up } else { &mut self.stale };
        let known = list.get(address).map_or(0, |listed| listed.instances);
        let instances = if added { known + 1 } else { known.saturating_sub(1) };
        if instances == 0 {
            list.remove(address);
        } else {
            list.insert(Arc::new(ListedAddress::new(address, instances)));
        }
    }
}

impl StateCounts {
    /// Changes the counts that an instance belongs to.
    fn count(&mut self, listed: &ListedInstance, change: impl Fn(&mut usize)) {
        change(match listed.state() {
            AdvertisedState::Up => &mut self.up,
            AdvertisedState::Draining => &mut self.draining,
            AdvertisedState::Stale => &mut self.stale,
        });
        if listed.is_serving() {
            change(&mut self.serving);
        }
    }

    /// The number of instances.
    pub(super) fn all(&self) -> usize {
        self.up + self.draining + self.stale
    }

    /// Replaces a part of these counts.
    pub(super) fn replace(&mut self, before: Self, after: Self) {
        self.up = self.up - before.up + after.up;
        self.draining = self.draining - before.draining + after.draining;
        self.stale = self.stale - before.stale + after.stale;
        self.serving = self.serving - before.serving + after.serving;
    }
}
