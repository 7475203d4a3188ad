//! [`SavedStore`]: the part of the store that outlives the process, in the snapshot file's format.

use farcall_discovery::Instance;
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::wire::{InstanceName, Overrides, Timestamp};

/// All that is saved of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct SavedStore {
    /// `true` if instances may be missing, because the registry was warming.
    #[serde(default)]
    pub(in crate::server) warming: bool,
    pub(in crate::server) instances: Vec<SavedInstance>,
    /// The overrides of instances that have expired.
    #[serde(default, rename = "kept")]
    pub(in crate::server) expired_overrides: Vec<(InstanceName, Overrides)>,
}

/// An instance: what its server registered, and separately what an operator has overridden.
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

impl From<&Record> for SavedInstance {
    fn from(record: &Record) -> Self {
        Self {
            registered: record.registered(),
            overrides: record.overrides(),
            registered_at: record.public().registered_at,
            last_seen: record.last_seen(),
            stale: record.is_stale(),
        }
    }
}
