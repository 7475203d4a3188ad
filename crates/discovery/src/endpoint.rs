//! [`Endpoint`], one place where a service can be called.

use std::collections::BTreeMap;

use farcall_transport::Address;
use serde::{Deserialize, Serialize};

/// One place where a service can be called, as its source describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Endpoint {
    /// The address to dial. No two endpoints of a list have the same.
    pub address: Address,
    /// The endpoint's share of the calls, against the weights of the others. Zero: drained, it gets none.
    pub weight: u16,
    /// The zone, such as part of a datacenter.
    pub zone: Option<String>,
    /// The version of what it runs.
    pub version: Option<String>,
    /// Further pairs of metadata.
    pub metadata: BTreeMap<String, String>,
    /// The state that its source advertises.
    pub state: AdvertisedState,
}

/// The state of an endpoint that its source advertises. The set is closed: the registry's interface has these three.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdvertisedState {
    /// Takes calls.
    #[default]
    Up,
    /// Finishes its calls, and takes no further ones.
    Draining,
    /// Heartbeats are overdue: the endpoint is called if no other is up.
    Stale,
}

impl Endpoint {
    /// The weight of an endpoint without one.
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

    /// Returns `true` if it should get no further calls: it is draining, or of weight zero.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_is_drained_if_it_drains_or_weighs_nothing() {
        let endpoint = || Endpoint::from(Address::parse("a:1").unwrap());
        for (endpoint, is_drained) in [
            (endpoint(), false),
            (endpoint().with_weight(1), false),
            (endpoint().with_weight(0), true),
            (endpoint().with_state(AdvertisedState::Stale), false),
            (endpoint().with_state(AdvertisedState::Draining), true),
        ] {
            assert_eq!(endpoint.is_drained(), is_drained, "{endpoint:?}");
        }
    }
}
