//! [`Candidates`]: which of the endpoints that were found may be chosen.
//!
//! The caller decides which endpoints are ejected, and for how long.

use std::sync::Arc;

use super::Load;
use crate::endpoint::{AdvertisedState, Endpoint};

/// The endpoints that a picker is made for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidates {
    /// Those to choose among, in the order of addresses: not drained, and stale or ejected ones only
    /// if no other is left. Never empty.
    pub usable: Arc<[Candidate]>,
    /// All that were found and are not drained, usable or not, in the order of addresses.
    pub known: Arc<[Candidate]>,
}

/// An endpoint that may be chosen. Cloning is cheap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Candidate {
    /// Tells endpoints of a channel from each other, for as long as the channel lives.
    pub id: u64,
    /// The endpoint, as its source describes it.
    pub endpoint: Arc<Endpoint>,
    /// The load that this client has measured.
    pub load: Arc<Load>,
}

impl Candidates {
    /// Creates the candidates of a picker, for tests of balancers. See [`Candidates::select`] for a
    /// channel's.
    #[must_use]
    pub const fn new(usable: Arc<[Candidate]>, known: Arc<[Candidate]>) -> Self {
        Self { usable, known }
    }

    /// Those of `all` that may be chosen, where the flag is `true` if one is ejected: left out for a
    /// time because it failed. The order stays.
    ///
    /// Usable are those that are up and not ejected. Where there are none, those that are stale and
    /// not ejected: no heartbeat was seen for a while, but they may well be there. If there are
    /// none of these either, all look bad, and all are used, since a guess is better than an error.
    /// A drained endpoint is never used. `None` if no endpoint is left.
    #[must_use]
    pub fn select(all: &[(Candidate, bool)]) -> Option<Self> {
        let known = || all.iter().filter(|(candidate, _)| !candidate.endpoint.is_drained());
        let healthy = |state| {
            let those = known().filter(move |(one, ejected)| !ejected && one.endpoint.state == state);
            those.map(|(candidate, _)| candidate.clone()).collect::<Arc<[_]>>()
        };
        let known: Arc<[Candidate]> = known().map(|(candidate, _)| candidate.clone()).collect();
        if known.is_empty() {
            return None;
        }
        let choices = [healthy(AdvertisedState::Up), healthy(AdvertisedState::Stale)];
        let usable = choices.into_iter().find(|some| !some.is_empty()).unwrap_or_else(|| Arc::clone(&known));
        Some(Self { usable, known })
    }
}

impl Candidate {
    /// Creates one.
    #[must_use]
    pub const fn new(id: u64, endpoint: Arc<Endpoint>, load: Arc<Load>) -> Self {
        Self { id, endpoint, load }
    }

    /// Returns the weight against others, at least 1.
    pub(super) fn weight(&self) -> u64 {
        u64::from(self.endpoint.weight.max(1))
    }
}

#[cfg(test)]
mod tests {
    use farcall_transport::Address;
    use proptest::prelude::*;

    use super::*;

    fn found() -> impl Strategy<Value = Vec<(Candidate, bool)>> {
        let state = prop_oneof![
            Just(AdvertisedState::Up),
            Just(AdvertisedState::Draining),
            Just(AdvertisedState::Stale)
        ];
        let one = (state, prop_oneof![Just(0_u16), 1_u16..300], any::<bool>());
        proptest::collection::vec(one, 0..12).prop_map(|all| {
            let candidate = |(id, (state, weight, ejected)): (usize, (AdvertisedState, u16, bool))| {
                let address = Address::parse(&format!("tcp@10.0.0.1:{}", id + 1)).unwrap();
                let endpoint = Arc::new(Endpoint::new(address).with_weight(weight).with_state(state));
                (Candidate { id: id as u64, endpoint, load: Arc::default() }, ejected)
            };
            all.into_iter().enumerate().map(candidate).collect()
        })
    }

    fn ids(candidates: &[Candidate]) -> Vec<u64> {
        candidates.iter().map(|candidate| candidate.id).collect()
    }

    proptest! {
        #[test]
        fn drained_endpoint_is_neither_usable_nor_known(all in found()) {
            if let Some(candidates) = Candidates::select(&all) {
                prop_assert!(!candidates.usable.is_empty());
                for candidate in candidates.usable.iter().chain(candidates.known.iter()) {
                    prop_assert!(!candidate.endpoint.is_drained());
                }
            } else {
                prop_assert!(all.iter().all(|(candidate, _)| candidate.endpoint.is_drained()));
            }
        }

        #[test]
        fn usable_are_all_endpoints_of_the_best_state_and_no_others(all in found()) {
            let rank = |(candidate, ejected): &(Candidate, bool)| match (candidate.endpoint.state, ejected) {
                (AdvertisedState::Up, false) => 0,
                (AdvertisedState::Stale, false) => 1,
                _ => 2,
            };
            let alive: Vec<_> = all.iter().filter(|(one, _)| !one.endpoint.is_drained()).cloned().collect();
            let best = alive.iter().map(rank).min();
            let wanted: Vec<_> = alive.iter().filter(|one| Some(rank(one)) == best).map(|(c, _)| c.id).collect();
            let selected = Candidates::select(&all);
            let usable = selected.as_ref().map(|selected| ids(&selected.usable)).unwrap_or_default();
            prop_assert_eq!(usable, wanted);
            let known = selected.as_ref().map(|selected| ids(&selected.known)).unwrap_or_default();
            prop_assert_eq!(known, alive.iter().map(|(one, _)| one.id).collect::<Vec<_>>());
        }
    }
}
