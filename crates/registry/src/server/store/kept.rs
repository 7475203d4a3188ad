//! [`Kept`]: what operators overrode of instances that have expired, for when they come back.

use std::collections::VecDeque;

use crate::wire::{Name, Overrides};

/// Of more than this, the oldest are forgotten.
const MAX_KEPT: usize = 1024;

/// See the module. A few at most, so that looking through all of them is no matter.
#[derive(Debug, Default)]
pub(super) struct Kept {
    overrides: VecDeque<(Name, Overrides)>,
}

impl Kept {
    pub(super) fn keep(&mut self, service: &str, id: &str, overrides: Overrides) {
        if overrides.is_empty() {
            return;
        }
        if self.overrides.len() == MAX_KEPT {
            self.overrides.pop_front();
        }
        self.overrides.push_back((Name { service: service.to_owned(), id: id.to_owned() }, overrides));
    }

    pub(super) fn take(&mut self, service: &str, id: &str) -> Option<Overrides> {
        let at = self.overrides.iter().position(|(name, _)| name.id == id && name.service == service)?;
        self.overrides.remove(at).map(|(_, overrides)| overrides)
    }

    /// From the oldest on.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(Name, Overrides)> {
        self.overrides.iter()
    }
}
