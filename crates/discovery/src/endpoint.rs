//! [`Endpoint`], one place where a service can be called.

use std::collections::BTreeMap;

use farcall_transport::Address;
use serde::{Deserialize, Serialize};

/// One place where a service can be called, as whoever found it describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// Where it is dialed. No two endpoints of a list have the same.
    pub address: Address,
    /// Its share of the calls, against the weights of the others. Zero: drained, it gets none.
    pub weight: u16,
    /// Where it stands, such as the name of a datacenter's part.
    pub zone: Option<String>,
    /// What it runs.
    pub version: Option<String>,
    /// What else is said of it.
    pub metadata: BTreeMap<String, String>,
    /// How it is.
    pub state: AdvertisedState,
}

/// How an endpoint is, by what is known where it was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvertisedState {
    /// It takes calls.
    #[default]
    Up,
    /// It finishes what it has, and takes no further calls.
    Draining,
    /// Nothing was heard of it for longer than was agreed; it is called where no other is up.
    Stale,
}

impl Endpoint {
    /// The weight of one that says nothing of it.
    pub const DEFAULT_WEIGHT: u16 = 100;

    /// An endpoint that is up, of the default weight, of which nothing else is known.
    #[must_use]
    pub const fn new(address: Address) -> Self {
        Self {
            address,
            weight: Self::DEFAULT_WEIGHT,
            zone: None,
            version: None,
            metadata: BTreeMap::new(),
            state: AdvertisedState::Up,
        }
    }

    /// The same with this weight. See [`Endpoint::weight`].
    #[must_use]
    pub const fn with_weight(mut self, weight: u16) -> Self {
        self.weight = weight;
        self
    }

    /// The same in this zone.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets the version that it runs.
    #[must_use]
    pub fn with_version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// Adds a pair of metadata.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The same in this state.
    #[must_use]
    pub const fn with_state(mut self, state: AdvertisedState) -> Self {
        self.state = state;
        self
    }

    /// Whether it is to get no further calls: it is draining, or of weight zero.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.state == AdvertisedState::Draining || self.weight == 0
    }
}

impl From<Address> for Endpoint {
    fn from(address: Address) -> Self {
        Self::new(address)
    }
}
