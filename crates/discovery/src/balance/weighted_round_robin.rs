//! [`WeightedRoundRobin`]: each endpoint in turn, exactly as often as it weighs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Balancer, Candidate, Candidates, PickRequest, Picker};

/// Takes endpoints in turn, each exactly as often as it weighs, and evenly in between.
///
/// With weights 1, 2 and 3 any six calls that follow each other are one, two and three, not in a row
/// but mixed. It looks neither at load nor at latency.
///
/// # How
///
/// Endpoints lie side by side on a circle of W places, each as wide as its weight; W is the sum of
/// weights, without their common divisor. A counter `k` is all the state: the call goes to the
/// endpoint at the place `k × step mod W`. A `step` without a common divisor with W comes to every
/// place once in W calls, so that shares are exact. How evenly it does so is a question of the
/// continued fraction of `step / W`: the smaller its terms, the closer any number of calls in a row
/// is to the right shares (the three-distance theorem; Niederreiter, "Quasi-Monte Carlo Methods and
/// Pseudo-Random Numbers", 1978; that some step has small terms for every W is Zaremba's conjecture,
/// true wherever it was checked). Steps near W divided by the golden ratio, all of whose terms are 1,
/// are tried, and the best of them is taken. Then no endpoint is ever more than about `½ ln W` calls off
/// its share, over however many calls: three where W is a hundred, seven where it is a million.
///
/// That costs one atomic addition and a binary search, no lock, and no table of W entries. The
/// classical smooth algorithm (nginx's) needs a lock and looks at all endpoints for each call.
#[derive(Clone, Copy, Debug, Default)]
pub struct WeightedRoundRobin;

#[derive(Debug)]
// Every call writes to it, so it has a separate cache line (two, since they are fetched in pairs).
#[repr(align(128))]
struct WeightedRoundRobinPicker {
    turn: AtomicU64,
    /// W, at least 1.
    places: u64,
    step: u64,
    /// The end of each endpoint's places on the circle.
    ends: Box<[u64]>,
    usable: Arc<[Candidate]>,
}

/// 1 divided by the golden ratio.
const GOLDEN_SECTION: f64 = 0.618_033_988_749_894_9;

/// The number of steps that are tried for the best.
const STEPS: u64 = 128;

/// The number of further turns that a call that is tried again takes before it takes the next endpoint.
const FURTHER_TURNS: usize = 4;

impl Balancer for WeightedRoundRobin {
    fn picker(&self, candidates: &Candidates) -> Box<dyn Picker> {
        let usable = Arc::clone(&candidates.usable);
        let divisor = usable.iter().map(Candidate::weight).fold(0, greatest_common_divisor).max(1);
        let mut end = 0;
        let until = |candidate: &Candidate| {
            end += candidate.weight() / divisor;
            end
        };
        let ends: Box<[u64]> = usable.iter().map(until).collect();
        let places = ends.last().copied().unwrap_or(1);
        // Many clients that begin at once must not begin with the same endpoint.
        let turn = AtomicU64::new(fastrand::u64(..places));
        Box::new(WeightedRoundRobinPicker { turn, places, step: best_step(places), ends, usable })
    }

    fn describe(&self) -> String {
        "weighted round robin".to_owned()
    }
}

impl WeightedRoundRobinPicker {
    fn next(&self) -> usize {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.places;
        let place = match turn.checked_mul(self.step) {
            Some(product) => product % self.places,
            None => (u128::from(turn) * u128::from(self.step) % u128::from(self.places)) as u64,
        };
        self.ends.partition_point(|end| *end <= place)
    }
}

impl Picker for WeightedRoundRobinPicker {
    fn pick(&self, request: &PickRequest<'_>) -> usize {
        let mut picked = self.next();
        if request.tried.is_empty() {
            return picked;
        }
        for _ in 0..FURTHER_TURNS {
            if !request.has_been_to(&self.usable, picked) {
                return picked;
            }
            picked = self.next();
        }
        request.next_untried(&self.usable, picked)
    }
}

/// The step by which `places` places are visited most evenly, of those near the golden section.
fn best_step(places: u64) -> u64 {
    let golden = (places as f64 * GOLDEN_SECTION) as u64;
    let near = golden.saturating_sub(STEPS / 2).max(1)..(golden + STEPS / 2).min(places);
    let evenness = near.filter_map(|step| Some((unevenness(step, places)?, step.abs_diff(golden), step)));
    evenness.min().map_or(1, |(.., step)| step)
}

/// The sum of the terms of the continued fraction of `step / places`, which bounds how far a number
/// of steps in a row is from even. `None` if the two have a common divisor.
fn unevenness(step: u64, places: u64) -> Option<u64> {
    let (mut dividend, mut divisor, mut terms) = (places, step, 0);
    while divisor != 0 {
        terms += dividend / divisor;
        (dividend, divisor) = (divisor, dividend % divisor);
    }
    (dividend == 1).then_some(terms)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::test_support::{candidates, count};
    use super::*;

    fn weights() -> impl Strategy<Value = Vec<u16>> {
        proptest::collection::vec(prop_oneof![3 => 1_u16..12, 1 => 1_u16..2_000], 1..16)
    }

    fn cycle(weights: &[u16]) -> (u64, usize) {
        let divisor = weights.iter().map(|weight| u64::from(*weight)).fold(0, greatest_common_divisor);
        (divisor, (weights.iter().map(|weight| u64::from(*weight)).sum::<u64>() / divisor) as usize)
    }

    proptest! {
        #[test]
        fn every_cycle_honours_the_weights_exactly(weights in weights(), lead_in in 0_usize..3_000) {
            let (divisor, cycle) = cycle(&weights);
            let picker = WeightedRoundRobin.picker(&candidates(&weights));
            count(&*picker, lead_in, weights.len());
            let picked = count(&*picker, cycle, weights.len());
            for (weight, picked) in weights.iter().zip(picked) {
                prop_assert_eq!(u64::from(*weight) / divisor, picked as u64);
            }
        }

        #[test]
        fn any_number_of_calls_in_a_row_is_close_to_the_weights(weights in weights()) {
            let (divisor, cycle) = cycle(&weights);
            let picker = WeightedRoundRobin.picker(&candidates(&weights));
            let mut picked = vec![0_u32; weights.len()];
            for calls in 1..=cycle {
                picked[picker.pick(&PickRequest::default())] += 1;
                for (weight, picked) in weights.iter().zip(&picked) {
                    let share = f64::from(*weight) / divisor as f64 / cycle as f64;
                    let off = (f64::from(*picked) - share * calls as f64).abs();
                    prop_assert!(off < most_off(cycle), "{off} off after {calls} of {cycle} for {weight}");
                }
            }
        }

        #[test]
        fn step_comes_to_every_place(places in 1_u64..1 << 48) {
            let step = best_step(places);
            prop_assert!(step < places || places == 1);
            prop_assert_eq!(greatest_common_divisor(step, places), 1);
        }
    }

    /// Grows with the logarithm of the cycle: half of it was the worst in thousands of cycles of up to
    /// 4 million. This leaves some room.
    fn most_off(cycle: usize) -> f64 {
        2.0 + 0.57 * (cycle as f64).ln()
    }

    #[test]
    fn long_cycles_are_even_too() {
        let weights: Vec<u16> = (0..300).map(|place| 1 + place * 211 % 1_999).collect();
        let (divisor, cycle) = cycle(&weights);
        let picker = WeightedRoundRobin.picker(&candidates(&weights));
        let mut picked = vec![0_u32; weights.len()];
        for calls in 1..=cycle {
            let index = picker.pick(&PickRequest::default());
            picked[index] += 1;
            let share = f64::from(weights[index]) / divisor as f64 / cycle as f64;
            let off = (f64::from(picked[index]) - share * calls as f64).abs();
            assert!(off < most_off(cycle), "{off} off after {calls} of {cycle} for {}", weights[index]);
        }
    }

    #[test]
    fn second_tries_leave_the_shares_of_the_others_close_to_their_weights() {
        let weights = [3, 1, 2, 4];
        let candidates = candidates(&weights);
        let picker = WeightedRoundRobin.picker(&candidates);
        let mut picked = [0_i32; 4];
        for _ in 0..7_000 {
            // All calls that come to the first endpoint fail there, and are tried again.
            let mut index = picker.pick(&PickRequest::default());
            if index == 0 {
                index = picker.pick(&PickRequest { key: None, tried: &[candidates.usable[0].id] });
            }
            picked[index] += 1;
        }
        assert_eq!(picked[0], 0);
        for (index, weight) in weights.into_iter().enumerate().skip(1) {
            assert!(picked[index].abs_diff(1_000 * i32::from(weight)) < 200, "{picked:?}");
        }
    }

    #[test]
    fn threads_share_one_cycle() {
        let weights = [5, 1, 3];
        let candidates = candidates(&weights);
        let picker = WeightedRoundRobin.picker(&candidates);
        let counts: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| count(&*picker, 9_000, 3))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let all = |index: usize| counts.iter().map(|count| count[index]).sum::<usize>();
        assert_eq!([all(0), all(1), all(2)], [20_000, 4_000, 12_000]);
    }
}
