//! [`Reach`]: the endpoints that a channel deals with, if its balancer leaves some out.

use std::collections::HashSet;

use farcall_discovery::{Balancer, Candidate};

use super::snapshot::SnapshotEntry;

/// The endpoints that a channel deals with. The others have no connection and no probes.
#[derive(Debug, Default)]
pub(super) struct Reach {
    /// The ids of backends; `None` if there are no others.
    ids: Option<HashSet<u64>>,
}

impl Reach {
    /// Lets the balancer leave out some of the endpoints that were found.
    pub(super) fn narrow(balancer: &dyn Balancer, found: &mut Vec<(Candidate, bool)>) -> Self {
        let before = found.len();
        balancer.narrow(found);
        let ids = || found.iter().map(|(candidate, _)| candidate.id).collect();
        Self { ids: (found.len() < before).then(ids) }
    }

    pub(super) fn has(&self, entry: &SnapshotEntry) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(&entry.backend.id()))
    }

    /// Closes the connections to endpoints that get no calls, of which calls before, or a broadcast, have left some.
    pub(super) fn close_outside(entries: &[SnapshotEntry]) {
        let outside = entries.iter().filter(|entry| entry.backend.is_outside());
        outside.for_each(|entry| entry.backend.close_if_idle());
    }
}
