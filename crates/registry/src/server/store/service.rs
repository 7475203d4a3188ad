//! [`Service`]: a service's instances, and its lists in serialized form, each made once for a revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use farcall_discovery::AdvertisedState;

use super::history::History;
use super::record::Record;
use crate::wire;

/// Serialized lists of one revision that are kept. They differ by zone, and lists without instances are not
/// kept, so that together they take a few times the whole list.
const MAX_CACHED_LISTS: usize = 16;
/// The longest line of the header `X-Farcall-Servers`, in bytes: proxies such as nginx refuse a head of more than one
/// page, 4 KiB, and the other headers need a part of it.
const MAX_HEADER_LINE: usize = 2 * 1024;

/// A service and its instances.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    /// The revision of the last change of its list.
    pub(super) rev: u64,
    pub(super) instances: BTreeMap<Arc<str>, Record>,
    cache: RenderCache,
}

/// The instances that a list request selects, and their fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct ListFilter {
    /// Only the instances of this zone; all if `None`.
    pub(in crate::server) zone: Option<String>,
    /// `true` to include stale instances even if others are up.
    pub(in crate::server) stale: bool,
    /// `true` to include `last_seen`. Heartbeats change it, so such a list is serialized for each request.
    pub(in crate::server) last_seen: bool,
}

/// The addresses that the simple interface returns, sorted.
#[derive(Debug)]
pub(in crate::server) struct Addresses {
    /// The number of addresses.
    pub(in crate::server) count: usize,
    /// The addresses separated by commas; `None` if they are too long for a header.
    pub(in crate::server) header: Option<String>,
    /// The addresses as a JSON array.
    pub(in crate::server) body: Bytes,
}

/// The serialized forms of the service at its revision.
#[derive(Debug, Default)]
struct RenderCache {
    lists: Vec<(ListFilter, Bytes)>,
    addresses: Option<Arc<Addresses>>,
    snapshot: Option<Bytes>,
}

impl Service {
    pub(super) fn new(name: Arc<str>, rev: u64) -> Self {
        Self { name, rev, instances: BTreeMap::new(), cache: RenderCache::default() }
    }

    /// Sets the revision of the last change.
    pub(super) fn set_rev(&mut self, rev: u64) {
        self.rev = rev;
        self.clear_cache();
    }

    pub(super) fn clear_cache(&mut self) {
        self.cache = RenderCache::default();
    }

    /// Returns the body of a list.
    pub(super) fn list(&mut self, history: &History, filter: &ListFilter) -> Bytes {
        if let Some((_, body)) = self.cache.lists.iter().find(|(cached, _)| cached == filter) {
            return body.clone();
        }
        let selected = self.select(filter);
        let body = if filter.last_seen {
            let instances = selected.iter().map(|record| record.with_last_seen()).collect();
            Bytes::from(history.json(self.rev, wire::Instances { instances }))
        } else {
            history.list(self.rev, &selected)
        };
        if !filter.last_seen && !selected.is_empty() && self.cache.lists.len() < MAX_CACHED_LISTS {
            self.cache.lists.push((filter.clone(), body.clone()));
        }
        body
    }

    /// Returns the addresses that the simple interface lists.
    pub(super) fn addresses(&mut self) -> Arc<Addresses> {
        if let Some(addresses) = &self.cache.addresses {
            return Arc::clone(addresses);
        }
        let candidates: Vec<_> = self.instances.values().filter(|record| record.accepts_calls()).collect();
        let any_up = candidates.iter().any(|record| record.public().state == AdvertisedState::Up);
        let served =
            candidates.iter().filter(|record| !any_up || record.public().state == AdvertisedState::Up);
        let addresses = Arc::new(Addresses::new(
            &served.map(|record| record.public().instance.addr.to_string()).collect(),
        ));
        self.cache.addresses = Some(Arc::clone(&addresses));
        addresses
    }

    /// Returns the event that carries all instances.
    pub(super) fn snapshot(&mut self, history: &History) -> Bytes {
        if let Some(snapshot) = &self.cache.snapshot {
            return snapshot.clone();
        }
        let snapshot = history.snapshot(self.rev, Some(&self.name), self.instances.values());
        self.cache.snapshot = Some(snapshot.clone());
        snapshot
    }

    /// Returns the numbers of instances by state.
    pub(super) fn summary(&self) -> wire::ServiceSummary {
        let mut summary = wire::ServiceSummary {
            name: self.name.to_string(),
            rev: self.rev,
            ..wire::ServiceSummary::default()
        };
        for record in self.instances.values() {
            summary.instances += 1;
            match record.public().state {
                AdvertisedState::Up => summary.up += 1,
                AdvertisedState::Draining => summary.draining += 1,
                AdvertisedState::Stale => summary.stale += 1,
            }
        }
        summary
    }

    fn select(&self, filter: &ListFilter) -> Vec<&Record> {
        let in_zone =
            |record: &&Record| filter.zone.is_none() || record.public().instance.zone == filter.zone;
        let mut selected: Vec<_> = self.instances.values().filter(in_zone).collect();
        let is_up = |record: &&Record| record.public().state == AdvertisedState::Up && record.accepts_calls();
        if !filter.stale && selected.iter().any(is_up) {
            selected.retain(|record| record.public().state != AdvertisedState::Stale);
        }
        selected
    }
}

impl Addresses {
    /// A set, because several instances may have the same address.
    fn new(addresses: &BTreeSet<String>) -> Self {
        let line =
            "x-farcall-servers: ".len() + addresses.iter().map(|address| address.len() + 1).sum::<usize>();
        let joined = || addresses.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        Self {
            count: addresses.len(),
            header: (line <= MAX_HEADER_LINE).then(joined),
            body: serde_json::to_vec(addresses).expect("a list of strings is valid JSON").into(),
        }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::new(&BTreeSet::new())
    }
}
