//! Tests of [`Subset`]: who is a member, what changes, and how servers are spread over clients.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::test_support::{count, endpoint};
use super::*;
use crate::{Endpoint, RoundRobin, WeightedRoundRobin, ZoneFirst};

/// These endpoints, with their number as id, none of them ejected.
fn found(endpoints: impl IntoIterator<Item = (u64, Endpoint)>) -> Vec<(Candidate, bool)> {
    let one = |(id, endpoint)| (Candidate::new(id, Arc::new(endpoint), Arc::default()), false);
    endpoints.into_iter().map(one).collect()
}

fn servers(numbers: impl IntoIterator<Item = u64>) -> Vec<(Candidate, bool)> {
    found(numbers.into_iter().map(|number| (number, endpoint(number as usize))))
}

/// Returns the ids of those that stay.
fn narrowed(balancer: &dyn Balancer, mut found: Vec<(Candidate, bool)>) -> Vec<u64> {
    balancer.narrow(&mut found);
    found.iter().map(|(candidate, _)| candidate.id).collect()
}

/// Returns the ids of those that get calls.
fn members(balancer: &dyn Balancer, found: &[(Candidate, bool)]) -> BTreeSet<u64> {
    let mut found = found.to_vec();
    balancer.narrow(&mut found);
    let Some(selected) = Candidates::select(&found) else { return BTreeSet::new() };
    let picker = balancer.picker(&selected);
    let members = selected.usable.iter().enumerate().filter(|(index, _)| !picker.is_spare(*index));
    members.map(|(_, candidate)| candidate.id).collect()
}

fn subset(size: usize, client: u64) -> Subset {
    Subset::of(size).client(client.to_be_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn client_with_the_same_key_has_the_same_subset(size in 1_usize..20, count in 1_u64..80, client: u64) {
        let all = servers(0..count);
        let these = members(&subset(size, client), &all);
        prop_assert_eq!(these.len(), size.min(count as usize));
        prop_assert_eq!(&these, &members(&subset(size, client).around(RoundRobin), &all));
    }

    #[test]
    fn endpoint_that_leaves_or_joins_changes_its_own_place_only(
        size in 1_usize..20, count in 21_u64..80, client: u64, number in 0_u64..80,
    ) {
        let number = number % count;
        let subset = subset(size, client);
        let with = members(&subset, &servers(0..count));
        let without = members(&subset, &servers((0..count).filter(|other| *other != number)));
        let left: Vec<_> = with.difference(&without).copied().collect();
        prop_assert_eq!(without.len(), size);
        prop_assert_eq!(left, if with.contains(&number) { vec![number] } else { vec![] });
    }

    #[test]
    fn ejected_and_drained_members_are_replaced_and_return(
        size in 1_usize..10, client: u64, bad in proptest::collection::btree_set(0_u64..60, 0..30), drain: bool,
    ) {
        let subset = subset(size, client);
        let before = members(&subset, &servers(0..60));
        let mut all = servers(0..60);
        for (candidate, is_ejected) in all.iter_mut().filter(|(candidate, _)| bad.contains(&candidate.id)) {
            if drain {
                candidate.endpoint = Arc::new((*candidate.endpoint).clone().with_weight(0));
            } else {
                *is_ejected = true;
            }
        }
        let now = members(&subset, &all);
        prop_assert_eq!(now.len(), size);
        prop_assert!(now.is_disjoint(&bad));
        prop_assert!(before.difference(&bad).all(|stays| now.contains(stays)), "the others stay");
        prop_assert_eq!(before, members(&subset, &servers(0..60)));
    }

    #[test]
    fn picker_without_narrowing_chooses_among_the_same_members(size in 1_usize..10, client: u64) {
        let all = servers(0..40);
        let subset = subset(size, client).around(RoundRobin);
        let candidates = Candidates::select(&all).unwrap();
        let picked = count(&*subset.picker(&candidates), 10 * size, 40);
        let picked: Vec<_> = (0_u64..).zip(picked).filter(|(_, calls)| *calls > 0).collect();
        prop_assert!(picked.iter().all(|(_, calls)| *calls == 10), "{:?}", picked);
        prop_assert_eq!(picked.into_iter().map(|(id, _)| id).collect::<BTreeSet<_>>(), members(&subset, &all));
    }
}

#[test]
fn servers_are_spread_over_clients_as_if_drawn_at_random() {
    const CLIENTS: u64 = 500;
    const SERVERS: u64 = 100;
    let all = servers(0..SERVERS);
    let mut connections = [0_i32; SERVERS as usize];
    for client in 0..CLIENTS {
        members(&subset(20, client), &all).iter().for_each(|id| connections[*id as usize] += 1);
    }
    assert_eq!(connections.iter().sum::<i32>(), 10_000);
    // 100 on average, with a standard deviation of 9: what 500 draws with a chance of a fifth have.
    let squares: i32 = connections.iter().map(|connections| (connections - 100).pow(2)).sum();
    assert!((4_000..14_000).contains(&squares), "{connections:?}");
    assert!(connections.iter().all(|connections| (60..140).contains(connections)), "{connections:?}");
}

#[test]
fn one_in_servers_through_size_clients_notices_a_server_that_joins() {
    let (before, after) = (servers(0..100), servers(0..101));
    let changed =
        |client: &u64| members(&subset(10, *client), &before) != members(&subset(10, *client), &after);
    let changed = (0..500).filter(changed).count();
    // A chance of 10 / 101.
    assert!((25..80).contains(&changed), "{changed} of 500");
}

#[test]
fn subsets_of_default_keys_differ() {
    let all = servers(0..100);
    let one = Subset::of(5);
    assert_eq!(members(&one, &all), members(&one.clone(), &all), "a clone is the same client");
    assert_ne!(members(&one, &all), members(&Subset::of(5), &all));
    assert_eq!(members(&Subset::of(0), &all).len(), 1);
}

/// The hash must never change: clients with keys of old and new versions would disagree about their subsets.
#[test]
fn order_of_a_client_is_pinned() {
    let all = servers(0..1_000);
    let members = members(&Subset::of(4).client("shop-7"), &all);
    assert_eq!(members, BTreeSet::from([323, 781, 782, 997]));
}

#[test]
fn call_that_has_been_to_all_members_goes_to_a_spare() {
    let mut all = servers(0..50);
    let subset = subset(3, 5);
    let members = members(&subset, &all);
    subset.narrow(&mut all);
    let candidates = Candidates::select(&all).unwrap();
    assert_eq!(candidates.usable.len(), 3 + SPARES);
    let picker = subset.picker(&candidates);
    let mut tried = Vec::new();
    for _ in 0..candidates.usable.len() {
        let picked = candidates.usable[picker.pick(&PickRequest::new(None, &tried))].id;
        assert!(!tried.contains(&picked));
        tried.push(picked);
    }
    assert_eq!(tried[..3].iter().copied().collect::<BTreeSet<_>>(), members);
    assert!(members.contains(&candidates.usable[picker.pick(&PickRequest::new(None, &tried))].id));
}

#[test]
fn client_that_is_cut_off_does_not_reach_for_all_servers() {
    let mut all = servers(0..1_000);
    all.iter_mut().for_each(|(_, is_ejected)| *is_ejected = true);
    assert_eq!(narrowed(&subset(20, 1), all.clone()).len(), 80);
    assert_eq!(narrowed(&subset(3, 1), all.clone()).len(), Subset::MIN_REACH);
    // The members of the subset come first, as long as all look bad.
    let mut left = all.clone();
    let subset = subset(20, 1).around(RoundRobin);
    subset.narrow(&mut left);
    let candidates = Candidates::select(&left).unwrap();
    let picked = count(&*subset.picker(&candidates), 200, candidates.usable.len());
    let picked = candidates.usable.iter().zip(picked).filter(|(_, calls)| *calls > 0);
    let picked: BTreeSet<u64> = picked.map(|(candidate, _)| candidate.id).collect();
    all.iter_mut().for_each(|(_, is_ejected)| *is_ejected = false);
    assert_eq!(picked, members(&subset, &all));
}

#[test]
fn later_priorities_are_used_when_no_first_one_can_be() {
    let priority = |number: u64| if number < 200 { AdvertisedState::Up } else { AdvertisedState::Stale };
    let endpoints = (0..400).map(|number| (number, endpoint(number as usize).with_state(priority(number))));
    let mut all = found(endpoints);
    let subset = subset(5, 3);
    assert!(members(&subset, &all).iter().all(|id| *id < 200));
    all.iter_mut().take(200).for_each(|(_, is_ejected)| *is_ejected = true);
    let later = members(&subset, &all);
    assert!(later.len() == 5 && later.iter().all(|id| *id >= 200), "{later:?}");
}

#[test]
fn zones_around_a_subset_have_one_each() {
    let zone = |number: u64| if number.is_multiple_of(2) { "a" } else { "b" };
    let all = found((0..100).map(|number| (number, endpoint(number as usize).with_zone(zone(number)))));
    let balancer = ZoneFirst::new("a", subset(5, 9).around(RoundRobin));
    assert!(narrowed(&balancer, all.clone()).is_sorted());
    let kept = members(&balancer, &all);
    assert_eq!(kept.iter().filter(|id| id.is_multiple_of(2)).count(), 5);
    assert_eq!(kept.len(), 10);
    let mut left = all;
    balancer.narrow(&mut left);
    let candidates = Candidates::select(&left).unwrap();
    let picked = count(&*balancer.picker(&candidates), 100, candidates.usable.len());
    assert_eq!(picked.iter().filter(|calls| **calls == 20).count(), 5, "all calls stay: {picked:?}");
    assert_eq!(balancer.describe(), "zone `a` first, subset of 5, round robin");
}

#[test]
fn weights_count_once() {
    const CLIENTS: u64 = 400;
    let weight = |number: u64| if number < 50 { 100 } else { 300 };
    let all = found((0..100).map(|number| (number, endpoint(number as usize).with_weight(weight(number)))));
    let mut calls = [0_usize; 100];
    for client in 0..CLIENTS {
        let balancer = subset(20, client).around(WeightedRoundRobin);
        let mut left = all.clone();
        balancer.narrow(&mut left);
        let candidates = Candidates::select(&left).unwrap();
        let picked = count(&*balancer.picker(&candidates), 100, candidates.usable.len());
        for (candidate, picked) in candidates.usable.iter().zip(picked) {
            calls[candidate.id as usize] += picked;
        }
    }
    let (light, heavy) = calls.split_at(50);
    let ratio = heavy.iter().sum::<usize>() as f64 / light.iter().sum::<usize>() as f64;
    assert!((2.6..3.2).contains(&ratio), "{ratio}");
}
