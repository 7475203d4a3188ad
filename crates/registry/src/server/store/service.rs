//! [`Service`]: its instances, and its lists as they are sent, made once for each revision.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use farcall_discovery::State;

use super::changes::{self, History};
use super::record::Record;
use crate::wire;

/// How many lists of one revision are remembered beside the whole one. They differ by zone, and a
/// list without instances is not remembered, so that together they are a few times the whole list.
const MAX_VIEWS: usize = 16;
/// The longest line of the header `X-Farcall-Servers`, in bytes: what proxies and clients read.
const MAX_HEADER_LINE: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: Arc<str>,
    /// Of the last change of its list.
    pub(super) rev: u64,
    pub(super) instances: BTreeMap<Arc<str>, Record>,
    views: Views,
}

/// What is asked of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct View {
    /// Only those of this zone.
    pub(in crate::server) zone: Option<String>,
    /// The stale ones, too, where others are up.
    pub(in crate::server) stale: bool,
    /// `last_seen` of each; such a list is made each time, as heartbeats move it.
    pub(in crate::server) last_seen: bool,
}

/// The addresses that the simple interface hands out, sorted.
#[derive(Debug)]
pub(in crate::server) struct Addresses {
    /// How many.
    pub(in crate::server) count: usize,
    /// With commas between; none, if that is too long for a header.
    pub(in crate::server) header: Option<String>,
    /// As a JSON array.
    pub(in crate::server) body: Bytes,
}

/// What was made of the service at its revision.
#[derive(Debug, Default)]
struct Views {
    lists: Vec<(View, Bytes)>,
    addresses: Option<Arc<Addresses>>,
    snapshot: Option<Bytes>,
}

impl Service {
    pub(super) fn new(name: Arc<str>, rev: u64) -> Self {
        Self { name, rev, instances: BTreeMap::new(), views: Views::default() }
    }

    /// Its list has changed, at this revision.
    pub(super) fn touched(&mut self, rev: u64) {
        self.rev = rev;
        self.forget_views();
    }

    pub(super) fn forget_views(&mut self) {
        self.views = Views::default();
    }

    pub(super) fn list(&mut self, history: &History, view: &View) -> Bytes {
        if let Some((_, body)) = self.views.lists.iter().find(|(known, _)| known == view) {
            return body.clone();
        }
        let listed = self.viewed(view);
        let body = if view.last_seen {
            let instances = listed.iter().map(|record| record.with_last_seen()).collect();
            Bytes::from(history.json(self.rev, wire::Instances { instances }))
        } else {
            changes::list(history, self.rev, &listed)
        };
        if !view.last_seen && !listed.is_empty() && self.views.lists.len() < MAX_VIEWS {
            self.views.lists.push((view.clone(), body.clone()));
        }
        body
    }

    pub(super) fn addresses(&mut self) -> Arc<Addresses> {
        if let Some(addresses) = &self.views.addresses {
            return Arc::clone(addresses);
        }
        let candidates: Vec<_> = self.instances.values().filter(|record| record.takes_calls()).collect();
        let any_up = candidates.iter().any(|record| record.listed().state == State::Up);
        let served = candidates.iter().filter(|record| !any_up || record.listed().state == State::Up);
        let addresses = Arc::new(Addresses::of(
            &served.map(|record| record.listed().instance.addr.to_string()).collect(),
        ));
        self.views.addresses = Some(Arc::clone(&addresses));
        addresses
    }

    pub(super) fn snapshot(&mut self, history: &History) -> Bytes {
        if let Some(snapshot) = &self.views.snapshot {
            return snapshot.clone();
        }
        let snapshot = changes::snapshot(history, self.rev, Some(&self.name), self.instances.values());
        self.views.snapshot = Some(snapshot.clone());
        snapshot
    }

    pub(super) fn summary(&self) -> wire::Service {
        let mut summary =
            wire::Service { name: self.name.to_string(), rev: self.rev, ..wire::Service::default() };
        for record in self.instances.values() {
            summary.instances += 1;
            match record.listed().state {
                State::Up => summary.up += 1,
                State::Draining => summary.draining += 1,
                State::Stale => summary.stale += 1,
            }
        }
        summary
    }

    fn viewed(&self, view: &View) -> Vec<&Record> {
        let in_zone = |record: &&Record| view.zone.is_none() || record.listed().instance.zone == view.zone;
        let mut viewed: Vec<_> = self.instances.values().filter(in_zone).collect();
        let up = |record: &&Record| record.listed().state == State::Up && record.takes_calls();
        if !view.stale && viewed.iter().any(up) {
            viewed.retain(|record| record.listed().state != State::Stale);
        }
        viewed
    }
}

impl Addresses {
    /// Two instances may have the same address: they are one.
    fn of(addresses: &BTreeSet<String>) -> Self {
        let line =
            "x-farcall-servers: ".len() + addresses.iter().map(|address| address.len() + 1).sum::<usize>();
        let joined = || addresses.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        Self {
            count: addresses.len(),
            header: (line <= MAX_HEADER_LINE).then(joined),
            body: serde_json::to_vec(addresses).expect("it is a list of texts").into(),
        }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::of(&BTreeSet::new())
    }
}
