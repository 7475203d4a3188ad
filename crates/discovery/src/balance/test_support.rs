//! Helpers of the tests of balancers.

use std::sync::Arc;

use farcall_transport::Address;

use super::{Candidate, Candidates, PickRequest, Picker};
use crate::endpoint::Endpoint;

/// Endpoints of these weights, all usable; the address of each is derived from its index.
pub(super) fn candidates(weights: &[u16]) -> Candidates {
    of(weights.iter().enumerate().map(|(place, weight)| endpoint(place).with_weight(*weight)))
}

/// These endpoints, all usable.
pub(super) fn of(endpoints: impl IntoIterator<Item = Endpoint>) -> Candidates {
    let candidate = |(id, endpoint): (usize, Endpoint)| Candidate {
        // Far from any index, so that a test notices if the two are confused.
        id: 1_000_000 + id as u64,
        endpoint: Arc::new(endpoint),
        load: Arc::default(),
    };
    let usable: Arc<[_]> = endpoints.into_iter().enumerate().map(candidate).collect();
    Candidates { known: Arc::clone(&usable), usable }
}

pub(super) fn endpoint(place: usize) -> Endpoint {
    let [.., high, low] = place.to_be_bytes();
    Endpoint::new(Address::parse(&format!("tcp@10.0.{high}.{low}:7001")).unwrap())
}

/// Returns the number of times that each of `endpoints` is picked in this many picks.
pub(super) fn count(picker: &dyn Picker, picks: usize, endpoints: usize) -> Vec<usize> {
    let mut picked = vec![0; endpoints];
    for _ in 0..picks {
        picked[picker.pick(&PickRequest::default())] += 1;
    }
    picked
}

/// Returns the bound of the number of hits in `draws`, each of which hits with this probability, that holds but
/// for once in 10^13: Bernstein's inequality.
pub(super) fn chance_bound(draws: usize, probability: f64) -> f64 {
    let odds = (2.0e13_f64).ln();
    let variance = draws as f64 * probability * (1.0 - probability);
    odds / 3.0 + (odds * odds / 9.0 + 2.0 * odds * variance).sqrt()
}
