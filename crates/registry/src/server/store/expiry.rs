//! [`Expiry`]: who expires when, in that order, so that a sweep looks at nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::time::Instant;

/// A service and an id.
pub(in crate::server) type Key = (Arc<str>, Arc<str>);

/// The deadlines of all instances: one for each, so that the store's bound bounds it.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    deadlines: BTreeSet<(Instant, Key)>,
}

impl Expiry {
    pub(super) fn insert(&mut self, deadline: Instant, key: Key) {
        self.deadlines.insert((deadline, key));
    }

    pub(super) fn remove(&mut self, deadline: Instant, key: &Key) {
        self.deadlines.remove(&(deadline, key.clone()));
    }

    /// Those whose deadline has come, by service. They stay until they are removed.
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
