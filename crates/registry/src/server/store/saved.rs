//! [`SavedStore`]: the part of the store that outlives the process, in the snapshot file's format.

use farcall_discovery::Instance;
use serde::{Deserialize, Serialize};

use crate::wire::{InstanceName, Overrides, RegistrationToken, Timestamp};

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
    /// The registrations that keep it. Empty in files of earlier versions, and for clients without tokens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(in crate::server) registrations: Vec<SavedRegistration>,
    #[serde(default, skip_serializing_if = "Overrides::is_empty")]
    pub(in crate::server) overrides: Overrides,
    pub(in crate::server) registered_at: Timestamp,
    pub(in crate::server) last_seen: Timestamp,
    #[serde(default)]
    pub(in crate::server) stale: bool,
}

/// A registration of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::server) struct SavedRegistration {
    pub(in crate::server) token: RegistrationToken,
    /// `true` if its server has used the token.
    #[serde(default)]
    pub(in crate::server) claimed: bool,
}
