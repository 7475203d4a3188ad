//! [`LeastLoaded`]: a balancer that takes the one of two endpoints with fewer calls in flight.

use std::sync::Arc;

use super::alias_table::AliasTable;
use super::{Balancer, Candidate, Candidates, PickRequest, Picker};

/// Draws two endpoints by weight, and takes the one with fewer calls in flight for its weight; the
/// first drawn where they are alike.
///
/// Two choices do nearly as well as looking at all of them, and keep clients from running all to the
/// same idle endpoint (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
/// Drawing by weight, and not only comparing by it, is what keeps shares right where little is in
/// flight (Berenbrink, Brinkmann, Friedetzky, Nagel, "Balls into non-uniform bins", 2010).
///
/// It counts the calls of this client only. An endpoint that fails at once has little in flight and
/// attracts calls: leaving out endpoints that fail is left to the caller.
///
/// ```
/// use std::sync::Arc;
///
/// use farcall_discovery::{Balancer, Candidate, Candidates, Endpoint, LeastLoaded, Load, PickRequest};
///
/// # fn main() -> Result<(), farcall_transport::AddressError> {
/// let busy = Arc::new(Load::default());
/// busy.started();
/// let usable: Arc<[_]> = Arc::new([
///     Candidate::new(1, Arc::new(Endpoint::new("10.0.0.1:7001".parse()?)), busy),
///     Candidate::new(2, Arc::new(Endpoint::new("10.0.0.2:7001".parse()?)), Arc::default()),
/// ]);
/// let picker = LeastLoaded.picker(&Candidates::new(Arc::clone(&usable), usable));
/// // The second endpoint has no call in flight.
/// assert_eq!(picker.pick(&PickRequest::default()), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct LeastLoaded;

#[derive(Debug)]
pub(super) struct LeastLoadedPicker {
    usable: Arc<[Candidate]>,
    draw: AliasTable,
}

impl Balancer for LeastLoaded {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        Box::new(LeastLoadedPicker::new(candidates))
    }

    fn describe(&self) -> String {
        "least loaded".to_owned()
    }
}

impl LeastLoadedPicker {
    pub(super) fn new(candidates: &Candidates) -> Self {
        let usable = Arc::clone(&candidates.usable);
        Self { draw: AliasTable::new(&usable), usable }
    }
}

impl Picker for LeastLoadedPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        let (first, second) = self.draw.two_untried(&self.usable, request);
        match (self.usable.get(first), self.usable.get(second)) {
            (Some(one), Some(other)) if is_less_loaded(other, one) => second,
            _ => first,
        }
    }
}

/// Compares calls in flight per weight; multiplied out, so that nothing is rounded.
fn is_less_loaded(one: &Candidate, other: &Candidate) -> bool {
    let loaded =
        |by: &Candidate, against: &Candidate| (by.load.in_flight() as u64).saturating_mul(against.weight());
    loaded(one, other) < loaded(other, one)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_support::{candidates, chance_bound, count};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn idle_endpoints_are_taken_by_weight(
            weights in proptest::collection::vec(1_u16..300, 1..12),
            seed in any::<u64>(),
        ) {
            const PICKS: usize = 20_000;
            fastrand::seed(seed);
            let picked = count(&*LeastLoaded.picker(&candidates(&weights)), PICKS, weights.len());
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (index, weight) in weights.iter().enumerate() {
                let share = f64::from(*weight) / total;
                let off = (picked[index] as f64 - share * PICKS as f64).abs();
                prop_assert!(off <= chance_bound(PICKS, share), "{index} of {weights:?}: {picked:?}");
            }
        }

        #[test]
        fn calls_that_never_end_are_spread_by_weight(
            weights in proptest::collection::vec(1_u16..10, 2..12),
            seed in any::<u64>(),
        ) {
            const EACH: u64 = 100;
            fastrand::seed(seed);
            let candidates = candidates(&weights);
            let picker = LeastLoaded.picker(&candidates);
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for _ in 0..EACH * total {
                candidates.usable[picker.pick(&PickRequest::default())].load.started();
            }
            for candidate in candidates.usable.iter() {
                // Two choices keep the most loaded within a few calls of the mean.
                let off = (candidate.load.in_flight() as u64).abs_diff(EACH * candidate.weight());
                prop_assert!(off <= 10 + EACH * candidate.weight() / 10, "{} of {EACH} × {weights:?}", off);
            }
        }
    }

    #[test]
    fn of_two_endpoints_the_busier_one_gets_nothing() {
        let candidates = candidates(&[100, 100]);
        candidates.usable[0].load.started();
        let picker = LeastLoaded.picker(&candidates);
        assert!((0..1_000).all(|_| picker.pick(&PickRequest::default()) == 1));
    }

    #[test]
    fn load_counts_per_weight() {
        let candidates = candidates(&[300, 100]);
        (0..2).for_each(|_| candidates.usable[0].load.started());
        candidates.usable[1].load.started();
        let picker = LeastLoaded.picker(&candidates);
        assert!((0..1_000).all(|_| picker.pick(&PickRequest::default()) == 0), "2/300 is less than 1/100");
    }
}
