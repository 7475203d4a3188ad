//! [`Random`]: any endpoint, by weight.

use std::sync::Arc;

use super::alias_table::AliasTable;
use super::{Balancer, Candidate, Candidates, PickRequest, Picker};

/// Draws an endpoint for each call, each with a probability in proportion to its weight.
///
/// It remembers nothing and shares nothing between threads, so that it costs least; chance gives some
/// endpoint more than its share for a while, and a slow one gets as many calls as the others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Random;

#[derive(Debug)]
struct RandomPicker {
    usable: Arc<[Candidate]>,
    draw: AliasTable,
}

impl Balancer for Random {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let usable = Arc::clone(&candidates.usable);
        Box::new(RandomPicker { draw: AliasTable::new(&usable), usable })
    }

    fn describe(&self) -> String {
        "random".to_owned()
    }
}

impl Picker for RandomPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        self.draw.untried(&self.usable, request)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_support::{candidates, chance_bound, count};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn each_is_drawn_in_proportion_to_its_weight(
            weights in proptest::collection::vec(prop_oneof![1_u16..10, 1_u16..=u16::MAX], 1..20),
            seed in any::<u64>(),
        ) {
            const PICKS: usize = 20_000;
            fastrand::seed(seed);
            let picker = Random.picker(&candidates(&weights));
            let picked = count(&*picker, PICKS, weights.len());
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (index, weight) in weights.iter().enumerate() {
                let share = f64::from(*weight) / total;
                let off = (picked[index] as f64 - share * PICKS as f64).abs();
                prop_assert!(off <= chance_bound(PICKS, share), "{index} of {weights:?}: {picked:?}");
            }
        }
    }

    #[test]
    fn second_try_is_spread_over_all_others() {
        fastrand::seed(7);
        let candidates = candidates(&[100; 4]);
        let picker = Random.picker(&candidates);
        let request = PickRequest { key: None, tried: &[candidates.usable[1].id] };
        let mut picked = [0_usize; 4];
        for _ in 0..9_000 {
            picked[picker.pick(&request)] += 1;
        }
        assert_eq!(picked[1], 0);
        assert!([0, 2, 3].iter().all(|index| picked[*index].abs_diff(3_000) < 500), "{picked:?}");
    }
}
