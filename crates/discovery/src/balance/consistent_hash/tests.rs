//! The promises of [`ConsistentHash`]: which keys move, and how much an endpoint takes.

use proptest::prelude::*;

use super::super::test_support::{candidates, chance_bound, count, endpoint, of};
use super::*;

const KEYS: usize = 5_000;

/// Which endpoint, by its number among all that there ever are, each key belongs to.
fn owners(there: &[usize], weights: &[u16]) -> Vec<usize> {
    let picker = ConsistentHash::by_key()
        .picker(&of(there.iter().map(|place| endpoint(*place).with_weight(weights[*place]))));
    let owner = |key: usize| there[pick(&*picker, key)];
    (0..KEYS).map(owner).collect()
}

fn pick(picker: &dyn Picker, key: usize) -> usize {
    picker.pick(&PickRequest { key: Some(format!("user-{key}").as_bytes()), tried: &[] })
}

fn any_weights() -> impl Strategy<Value = Vec<u16>> {
    prop_oneof![
        proptest::collection::vec(Just(100_u16), 2..30),
        proptest::collection::vec(1_u16..6, 2..30),
        proptest::collection::vec(1_u16..=u16::MAX, 2..30),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn only_the_keys_of_an_endpoint_that_leaves_or_joins_move(
        weights in any_weights(),
        leaves in any::<prop::sample::Index>(),
    ) {
        let all: Vec<usize> = (0..weights.len()).collect();
        let leaves = leaves.index(all.len());
        let rest: Vec<usize> = all.iter().copied().filter(|place| *place != leaves).collect();
        let (before, after) = (owners(&all, &weights), owners(&rest, &weights));
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            if before == after {
                continue;
            }
            // Read backwards this is one that joins: what moves, moves to it.
            prop_assert_eq!(*before, leaves);
            moved += 1;
        }
        let share = f64::from(weights[leaves]) / weights.iter().map(|weight| f64::from(*weight)).sum::<f64>();
        // How points lie makes its part of the circle differ by some 9%: eight times that, and what
        // chance does to keys.
        let most = KEYS as f64 * share * (1.0 + 8.0 / 128_f64.sqrt()) + chance_bound(KEYS, share);
        prop_assert!(f64::from(moved) <= most, "{moved} moved of {KEYS}, its share is {share}");
    }

    #[test]
    fn no_endpoint_exceeds_its_bound_of_calls_in_flight(
        weights in any_weights(),
        keys in 1_usize..40,
        factor in 1.0_f64..2.0,
    ) {
        let candidates = candidates(&weights);
        let picker = ConsistentHash::by_key().load_factor(factor).picker(&candidates);
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        for call in 1..=400_usize {
            let index = pick(&*picker, call % keys);
            let load = &candidates.usable[index].load;
            load.started();
            let share = f64::from(weights[index]) / total;
            // The same product in another order may be rounded otherwise.
            let bound = (factor * call as f64 * share + 1e-9).ceil();
            prop_assert!(load.in_flight() as f64 <= bound, "{} in flight, {bound} allowed", load.in_flight());
        }
    }
}

#[test]
fn keys_are_spread_by_weight() {
    let weights = [1, 2, 3, 4, 5, 1_000];
    let owners = owners(&[0, 1, 2, 3, 4, 5], &weights);
    for (index, weight) in weights.into_iter().enumerate() {
        let owned = owners.iter().filter(|owner| **owner == index).count();
        let share = f64::from(weight) / 1_015.0;
        let expected = KEYS as f64 * share;
        let most = expected * 0.5 * (1.0 - share) + chance_bound(KEYS, share);
        assert!((owned as f64 - expected).abs() < most, "{index}: {owned}, not {expected}");
    }
}

#[test]
fn clients_agree_whatever_order_they_know_endpoints_in() {
    let forwards: Vec<usize> = (0..20).collect();
    let backwards: Vec<usize> = (0..20).rev().collect();
    assert_eq!(owners(&forwards, &[100; 20]), owners(&backwards, &[100; 20]));
}

/// Values that must never change: clients of different versions would no longer agree.
#[test]
fn keys_belong_to_the_endpoints_that_all_other_versions_say() {
    assert_eq!(
        owners(&[0, 1, 2, 3, 4], &[100, 100, 200, 300, 50])[..12],
        [3, 2, 2, 0, 3, 3, 2, 3, 3, 2, 1, 2]
    );
}

#[test]
fn key_stays_with_its_endpoint_while_calls_come_and_go() {
    let candidates = candidates(&[100; 5]);
    let picker = ConsistentHash::by_key().picker(&candidates);
    let first = pick(&*picker, 1);
    for _ in 0..1_000 {
        assert_eq!(pick(&*picker, 1), first);
        candidates.usable[first].load.started();
        candidates.usable[first].load.ended();
    }
}

#[test]
fn without_a_bound_a_key_stays_however_many_calls_are_in_flight() {
    let candidates = candidates(&[100; 5]);
    let picker = ConsistentHash::by_key().unbounded().picker(&candidates);
    let first = pick(&*picker, 1);
    (0..1_000).for_each(|_| candidates.usable[first].load.started());
    assert_eq!(pick(&*picker, 1), first);
}

#[test]
fn calls_sent_by_other_balancers_are_counted() {
    let candidates = candidates(&[100; 50]);
    let picker = ConsistentHash::by_key().picker(&candidates);
    candidates.usable.iter().for_each(|candidate| (0..100).for_each(|_| candidate.load.started()));
    // Fifty endpoints, two with each pick: now all have been looked at.
    count(&*picker, 25, 50);
    let first = pick(&*picker, 1);
    for _ in 0..20 {
        assert_eq!(pick(&*picker, 1), first, "a quarter more than its share is allowed");
        candidates.usable[first].load.started();
    }
}

#[test]
fn second_try_goes_where_the_key_would_be_without_the_first() {
    let weights = [100; 6];
    let candidates = candidates(&weights);
    let picker = ConsistentHash::by_key().picker(&candidates);
    for key in 0..200 {
        let first = pick(&*picker, key);
        let tried = [candidates.usable[first].id];
        let second = picker.pick(&PickRequest { key: Some(format!("user-{key}").as_bytes()), tried: &tried });
        let rest: Vec<usize> = (0..6).filter(|place| *place != first).collect();
        assert_eq!(second, owners(&rest, &weights)[key]);
    }
}

#[test]
fn calls_without_a_key_go_to_the_less_loaded() {
    let candidates = candidates(&[100, 100]);
    candidates.usable[0].load.started();
    let picker = ConsistentHash::by_metadata("user").picker(&candidates);
    assert_eq!(count(&*picker, 100, 2), [0, 100]);
}

#[test]
fn load_factor_that_makes_no_sense_is_taken_for_one() {
    for factor in [f64::NAN, -3.0, 0.0] {
        assert_eq!(ConsistentHash::by_key().load_factor(factor), ConsistentHash::by_key().load_factor(1.0));
    }
}
