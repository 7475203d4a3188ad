//! Properties of every balancer, for any endpoints, any load, and any calls made before.

use std::sync::Arc;
use std::time::Duration;

use farcall_discovery::{
    AdvertisedState, Balancer, Candidate, Candidates, ConsistentHash, Endpoint, KeySource, LeastLoaded,
    PeakEwma, PickRequest, Random, ReportedLoad, RoundRobin, Subset, WeightedRoundRobin, ZoneFirst,
};
use farcall_transport::Address;
use proptest::prelude::*;

fn balancers() -> Vec<Box<dyn Balancer>> {
    vec![
        Box::new(Random),
        Box::new(RoundRobin),
        Box::new(WeightedRoundRobin),
        Box::new(LeastLoaded),
        Box::new(PeakEwma),
        Box::new(ReportedLoad::default()),
        Box::new(ConsistentHash::by_key()),
        Box::new(ConsistentHash::by_key().unbounded()),
        Box::new(ConsistentHash::by_key().load_factor(1.0)),
        Box::new(ZoneFirst::new("zone-0", LeastLoaded)),
        Box::new(ZoneFirst::new("zone-1", WeightedRoundRobin)),
        Box::new(ZoneFirst::new("zone-1", ZoneFirst::new("zone-2", ConsistentHash::by_key()))),
        Box::new(Subset::of(3).client("a")),
        Box::new(Subset::of(1).client("b").around(WeightedRoundRobin)),
        Box::new(Subset::of(4).client("c").around(ZoneFirst::new("zone-1", ConsistentHash::by_key()))),
        Box::new(ZoneFirst::new("zone-1", Subset::of(2).client("d").around(PeakEwma))),
    ]
}

/// The properties of one endpoint.
#[derive(Clone, Debug)]
struct Known {
    weight: u16,
    zone: u8,
    state: AdvertisedState,
    ejected: bool,
    in_flight: usize,
    latency: u64,
}

prop_compose! {
    fn known()(
        weight in prop_oneof![1 => Just(0_u16), 8 => 1_u16..4, 8 => 1_u16..=u16::MAX],
        zone in 0_u8..3,
        state in prop_oneof![4 => Just(AdvertisedState::Up), 1 => Just(AdvertisedState::Stale), 1 => Just(AdvertisedState::Draining)],
        ejected in prop::bool::weighted(0.2),
        in_flight in prop_oneof![Just(0_usize), 0_usize..50],
        latency in prop_oneof![Just(0_u64), 1_u64..1_000_000_000],
    ) -> Known {
        Known { weight, zone, state, ejected, in_flight, latency }
    }
}

fn all(known: &[Known]) -> Vec<(Candidate, bool)> {
    let candidate = |(place, known): (usize, &Known)| {
        let address = Address::parse(&format!("tcp@10.0.0.1:{}", place + 1)).expect("it is well formed");
        let endpoint =
            Endpoint::new(address).with_weight(known.weight).with_zone(format!("zone-{}", known.zone));
        let endpoint = Arc::new(endpoint.with_state(known.state));
        let candidate = Candidate::new(700 + place as u64, endpoint, Arc::default());
        (0..known.in_flight).for_each(|_| candidate.load.started());
        if known.latency > 0 {
            candidate.load.record_latency(Duration::from_nanos(known.latency));
        }
        (candidate, known.ejected)
    };
    known.iter().enumerate().map(candidate).collect()
}

proptest! {
    #[test]
    fn tried_endpoints_are_avoided_while_others_are_left(
        known in proptest::collection::vec(known(), 1..24),
        tried in proptest::collection::vec(any::<prop::sample::Index>(), 0..24),
        keys in proptest::collection::vec(proptest::option::of(any::<[u8; 3]>()), 8),
    ) {
        let Some(candidates) = Candidates::select(&all(&known)) else { return Ok(()) };
        let usable = &candidates.usable;
        let tried: Vec<u64> = tried.iter().map(|index| 700 + index.index(known.len()) as u64).collect();
        let left = usable.iter().any(|candidate| !tried.contains(&candidate.id));
        for balancer in balancers() {
            let picker = balancer.picker(&candidates);
            for key in &keys {
                let request = PickRequest::new(key.as_ref().map(|key| &key[..]), &tried);
                let picked = picker.pick(&request);
                prop_assert!(picked < usable.len(), "{balancer:?} picked {picked} of {}", usable.len());
                prop_assert!(!left || !request.has_tried(&usable[picked]), "{balancer:?} picked one again");
                // The call goes there, as far as the picker knows.
                usable[picked].load.started();
            }
        }
    }

    #[test]
    fn drained_and_ejected_endpoints_are_avoided_while_others_are_up(
        known in proptest::collection::vec(known(), 1..24),
        tried in proptest::collection::vec(any::<prop::sample::Index>(), 0..24),
    ) {
        let Some(candidates) = Candidates::select(&all(&known)) else { return Ok(()) };
        let is_up = |known: &Known| known.state == AdvertisedState::Up && known.weight > 0 && !known.ejected;
        let any_up = known.iter().any(is_up);
        let tried: Vec<u64> = tried.iter().map(|index| 700 + index.index(known.len()) as u64).collect();
        for balancer in balancers() {
            let picker = balancer.picker(&candidates);
            for key in 0_u8..16 {
                let picked = picker.pick(&PickRequest::new((key > 4).then_some(&[key]), &tried));
                let picked = &known[candidates.usable[picked].id as usize - 700];
                prop_assert!(picked.state != AdvertisedState::Draining && picked.weight > 0, "{balancer:?}: {picked:?}");
                prop_assert!(!any_up || is_up(picked), "{balancer:?}: {picked:?}");
            }
        }
    }
}

/// Candidates are never empty by their contract; one that is by mistake must not bring down a client.
#[test]
fn no_picker_panics_without_endpoints() {
    let empty = Candidates::new(Arc::new([]), Arc::new([]));
    for balancer in balancers() {
        let picker = balancer.picker(&empty);
        for key in [None, Some(&b"key"[..])] {
            assert_eq!(picker.pick(&PickRequest::new(key, &[1, 2])), 0, "{balancer:?}");
        }
    }
}

#[test]
fn key_that_is_wanted_is_named() {
    use farcall_discovery::KeySource;

    let argument = KeySource::Argument("user_id".to_owned());
    assert_eq!(ConsistentHash::by_argument("user_id").key(), argument);
    assert_eq!(ConsistentHash::by_key().key(), KeySource::Call);
    let boxed: Box<dyn Balancer> = Box::new(ConsistentHash::by_argument("user_id"));
    assert_eq!(ZoneFirst::new("zone-a", boxed).key(), argument);
    assert_eq!(ZoneFirst::new("zone-a", LeastLoaded).key(), KeySource::None);
}

#[test]
fn balancer_in_a_box_or_shared_is_the_same_balancer() {
    let (hash, key) = (ConsistentHash::by_metadata("tenant"), KeySource::Metadata("tenant".to_owned()));
    let described = hash.describe();
    let shared: Arc<dyn Balancer> = Arc::new(hash.clone());
    let boxed: Box<dyn Balancer> = Box::new(hash);
    for balancer in [&shared as &dyn Balancer, &boxed] {
        assert_eq!((balancer.key(), balancer.describe()), (key.clone(), described.clone()));
    }
    assert!(described.starts_with("consistent hash by the metadata `tenant`"), "{described}");
    assert_eq!((Random.key(), Arc::new(Random).key()), (KeySource::None, KeySource::None));
}

#[test]
fn each_balancer_describes_itself_for_overviews() {
    let described: Vec<_> = balancers().iter().map(|balancer| balancer.describe()).collect();
    let hash = "consistent hash by the call's key, load factor 1.25";
    let expected = [
        "random",
        "round robin",
        "weighted round robin",
        "least loaded",
        "peak EWMA of latency",
        "reported load",
        hash,
        "consistent hash by the call's key, unbounded",
        "consistent hash by the call's key, load factor 1",
        "zone `zone-0` first, least loaded",
        "zone `zone-1` first, weighted round robin",
        &format!("zone `zone-1` first, zone `zone-2` first, {hash}"),
        "subset of 3, least loaded",
        "subset of 1, weighted round robin",
        &format!("subset of 4, zone `zone-1` first, {hash}"),
        "zone `zone-1` first, subset of 2, peak EWMA of latency",
    ];
    assert_eq!(described, expected);
}
