//! [`ExpiryQueue`]: the instances in the order of their deadlines, so that a sweep visits only those that are due; and
//! [`Sweep`], a sweep in parts.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::service::Service;

/// Steps of a part of a sweep: well under a millisecond. To see whether an instance is silent is one.
pub(super) const MAX_SWEEP_STEPS: usize = 256;
/// The steps for which an instance counts that is removed, or kept as stale: it changes all lists that it is in.
pub(super) const EXPIRY_STEPS: usize = 8;
/// Fewer silent instances than this are no mass expiry.
const MASS_EXPIRY_MIN_COUNT: usize = 3;
/// Silent instances are a mass expiry only if they are more than this percentage of their service.
const MASS_EXPIRY_PERCENT: usize = 30;

/// A service and an id.
pub(in crate::server) type Key = (Arc<str>, Arc<str>);

/// The deadlines of all instances: one for each, so the store's limit of instances bounds it.
#[derive(Debug, Default)]
pub(super) struct ExpiryQueue {
    deadlines: BTreeSet<(Instant, Key)>,
}

impl ExpiryQueue {
    pub(super) fn insert(&mut self, deadline: Instant, key: Key) {
        self.deadlines.insert((deadline, key));
    }

    pub(super) fn remove(&mut self, deadline: Instant, key: &Key) {
        self.deadlines.remove(&(deadline, key.clone()));
    }

    /// Returns the instance whose deadline came first; `None` if none has come.
    pub(super) fn first_due(&self, now: Instant) -> Option<Key> {
        let (deadline, key) = self.deadlines.first()?;
        (*deadline <= now).then(|| key.clone())
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}

/// A sweep for expired instances, of which parts are done one after the other: between them the store is free for
/// others.
#[derive(Debug)]
pub(in crate::server) struct Sweep {
    pub(super) now: Instant,
    /// `true` for services of which much is silent. Decided once for a sweep.
    pub(super) withheld: HashMap<Arc<str>, bool>,
    /// The service whose silent instances are being counted.
    count: Option<SilentCount>,
    pub(in crate::server) outcome: SweepOutcome,
}

/// The silent instances of a service, counted up to an id.
#[derive(Debug)]
struct SilentCount {
    service: Arc<str>,
    after: Option<Arc<str>>,
    silent: usize,
}

/// The effects of a sweep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct SweepOutcome {
    /// The number of instances that were removed.
    pub(in crate::server) expired: usize,
    /// The number of expired instances that were kept as stale, by the guard against mass expiry.
    pub(in crate::server) withheld: usize,
    /// `true` if warming has ended.
    pub(in crate::server) warmed: bool,
}

impl Sweep {
    /// Begins a sweep for the instances that have expired by `now`.
    pub(in crate::server) fn new(now: Instant) -> Self {
        Self { now, withheld: HashMap::new(), count: None, outcome: SweepOutcome::default() }
    }

    /// Counts silent instances of a service, at most `limit`, until it is known if it is a mass expiry; returns how many
    /// were visited, at least one. `heartbeat` is the interval of instances that requested no time to live.
    pub(super) fn count_silent(
        &mut self,
        name: &Arc<str>,
        service: Option<&Service>,
        heartbeat: Duration,
        limit: usize,
    ) -> usize {
        let Some(service) = service else {
            self.withheld.insert(Arc::clone(name), false);
            return 1;
        };
        let new = || SilentCount { service: Arc::clone(name), after: None, silent: 0 };
        let mut count = self.count.take().filter(|count| count.service == *name).unwrap_or_else(new);
        let from = count.after.clone().map_or(Bound::Unbounded, Bound::Excluded);
        let mut visited = 0;
        for (id, record) in service.instances.range((from, Bound::Unbounded)).take(limit) {
            visited += 1;
            count.silent += usize::from(record.is_silent(self.now, heartbeat));
            count.after = Some(Arc::clone(id));
        }
        let is_mass = count.silent >= MASS_EXPIRY_MIN_COUNT
            && count.silent * 100 > service.instances.len() * MASS_EXPIRY_PERCENT;
        if is_mass || visited < limit {
            self.withheld.insert(Arc::clone(name), is_mass);
        } else {
            self.count = Some(count);
        }
        visited.max(1)
    }
}
