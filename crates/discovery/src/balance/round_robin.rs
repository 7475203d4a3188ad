//! [`RoundRobin`]: each endpoint in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Balancer, Candidate, Candidates, PickRequest, Picker};

/// Takes endpoints in turn, in the order of their addresses, beginning with any.
///
/// All get the same number of calls: weights other than zero are not looked at, for which there is
/// [`WeightedRoundRobin`](crate::WeightedRoundRobin).
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundRobin;

#[derive(Debug)]
// Every call writes to it, so it has a separate cache line (two, since they are fetched in pairs).
#[repr(align(128))]
struct RoundRobinPicker {
    turn: AtomicUsize,
    usable: Arc<[Candidate]>,
}

impl Balancer for RoundRobin {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let usable = Arc::clone(&candidates.usable);
        // Many clients that begin at once must not begin with the same endpoint.
        let turn = AtomicUsize::new(fastrand::usize(..usable.len().max(1)));
        Box::new(RoundRobinPicker { turn, usable })
    }

    fn describe(&self) -> String {
        "round robin".to_owned()
    }
}

impl Picker for RoundRobinPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        request.next_untried(&self.usable, turn % self.usable.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_support::{candidates, count};
    use super::*;

    proptest! {
        #[test]
        fn all_get_as_many_calls_whatever_they_weigh(
            weights in proptest::collection::vec(1_u16..=u16::MAX, 1..20),
            rounds in 1_usize..20,
        ) {
            let picker = RoundRobin.picker(&candidates(&weights));
            let picked = count(&*picker, rounds * weights.len(), weights.len());
            prop_assert!(picked.iter().all(|count| *count == rounds), "{picked:?}");
        }
    }
}
