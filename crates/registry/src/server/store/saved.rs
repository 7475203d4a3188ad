//! [`Saved`]: what outlives the process, as the snapshot on disk has it.

use farcall_discovery::Instance;
use serde::{Deserialize, Serialize};

use super::{Key, Now, Record, Store};
use crate::wire::{Name, Overrides, Timestamp};

/// A part of a store or all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct Saved {
    /// Whether something may be missing.
    #[serde(default)]
    pub(in crate::server) warming: bool,
    pub(in crate::server) instances: Vec<SavedInstance>,
    /// What was overridden of instances that have expired.
    #[serde(default)]
    pub(in crate::server) kept: Vec<(Name, Overrides)>,
}

/// What the server registered, and beside it what the operator overrode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct SavedInstance {
    pub(in crate::server) registered: Instance,
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub(in crate::server) overrides: Overrides,
    pub(in crate::server) registered_at: Timestamp,
    pub(in crate::server) last_seen: Timestamp,
    #[serde(default)]
    pub(in crate::server) stale: bool,
}

impl Store {
    /// Everything but the instances.
    pub(in crate::server) fn saved_frame(&self) -> Saved {
        Saved { warming: self.warming(), instances: Vec::new(), kept: self.kept.iter().cloned().collect() }
    }

    /// Some instances, from the one after this; `None` where there are no more. So the store need not be held
    /// for as long as all of them take.
    pub(in crate::server) fn save_after(
        &self,
        key: Option<&Key>,
        at_most: usize,
    ) -> Option<(Vec<SavedInstance>, Key)> {
        let records: Vec<_> = self.records_after(key).take(at_most).collect();
        let last = records.last()?.key();
        Some((records.into_iter().map(SavedInstance::of).collect(), last))
    }

    /// Puts what was saved into an empty store. Every instance has its full time to live from `now` on, and
    /// the bound on instances is not asked: they were here.
    pub(in crate::server) fn restore(&mut self, saved: Saved, now: Now) {
        for SavedInstance { registered, overrides, registered_at, last_seen, stale } in saved.instances {
            let mut record = Record::new(registered, overrides, self.times.ttl, now);
            record.restore(registered_at, last_seen, stale);
            // A file that was written by hand may name one twice.
            let (service, id) = record.key();
            self.delete(&service, &id);
            self.insert(record);
        }
        for (Name { service, id }, overrides) in saved.kept {
            self.kept.keep(&service, &id, overrides);
        }
    }
}

impl SavedInstance {
    fn of(record: &Record) -> Self {
        Self {
            registered: record.registered(),
            overrides: record.overrides(),
            registered_at: record.listed().registered_at,
            last_seen: record.last_seen(),
            stale: record.is_stale(),
        }
    }
}
