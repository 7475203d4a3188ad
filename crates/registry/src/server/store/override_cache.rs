//! [`OverrideCache`]: the overrides of instances that have expired, kept for their return.

use std::collections::VecDeque;

use crate::wire::{InstanceName, Overrides};

/// Overrides of expired instances that are kept; past it the oldest are dropped.
const MAX_ENTRIES: usize = 1024;

/// The overrides of expired instances, oldest first. Lookups scan: there are at most [`MAX_ENTRIES`].
#[derive(Debug, Default)]
pub(super) struct OverrideCache {
    entries: VecDeque<(InstanceName, Overrides)>,
}

impl OverrideCache {
    /// Adds the overrides of an instance that has expired; does nothing if there are none.
    pub(super) fn insert(&mut self, service: &str, id: &str, overrides: Overrides) {
        if overrides.is_empty() {
            return;
        }
        if self.entries.len() == MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back((InstanceName { service: service.to_owned(), id: id.to_owned() }, overrides));
    }

    /// Removes and returns the overrides of an instance; `None` if there are none.
    pub(super) fn remove(&mut self, service: &str, id: &str) -> Option<Overrides> {
        let at = self.entries.iter().position(|(name, _)| name.id == id && name.service == service)?;
        self.entries.remove(at).map(|(_, overrides)| overrides)
    }

    /// Returns all entries, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(InstanceName, Overrides)> {
        self.entries.iter()
    }
}
