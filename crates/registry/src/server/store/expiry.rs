//! [`ExpiryQueue`]: the instances in the order of their deadlines, so that a sweep visits only those that are due.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

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

    /// Returns the instances whose deadline has come, by service. They stay in the queue until removed.
    pub(super) fn due(&self, now: Instant) -> BTreeMap<Arc<str>, BTreeSet<Arc<str>>> {
        let mut due = BTreeMap::<_, BTreeSet<_>>::new();
        for (_, (service, id)) in self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now) {
            due.entry(Arc::clone(service)).or_default().insert(Arc::clone(id));
        }
        due
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.deadlines.len()
    }
}
