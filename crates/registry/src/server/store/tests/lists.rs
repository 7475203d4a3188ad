//! Lists, warming, saving and restoring.

use serde_json::Value;

use super::*;
use crate::wire::Timestamp;

#[test]
fn drained_and_weightless_instances_have_no_address_in_the_simple_list() {
    let (mut store, clock) = store();
    register_all(&mut store, 3, clock.0);
    store.patch("A", &id(0), Patch::default().drain(true)).unwrap();
    store.register(instance("A", 1).weight(0), claim(), clock.0).unwrap();
    assert_eq!(addresses(&store, "A").body.bytes(), r#"["tcp@10.0.0.1:1002"]"#);
}

#[test]
fn addresses_are_sorted_and_unique() {
    let (mut store, clock) = store();
    for (id, n) in [("z", 2), ("y", 1), ("x", 2)] {
        store.register(instance("A", n).id(id.to_owned()), claim(), clock.0).unwrap();
    }
    let addresses = addresses(&store, "A");
    assert_eq!(addresses.header.as_deref(), Some("tcp@10.0.0.1:1001,tcp@10.0.0.1:1002"));
    assert_eq!(addresses.count, 2);
}

#[test]
fn too_long_address_header_is_omitted() {
    let (mut store, clock) = store();
    register_all(&mut store, 113, clock.0);
    let long = addresses(&store, "A");
    assert_eq!((long.count, long.header.is_none()), (113, true));
    assert_eq!(serde_json::from_slice::<Vec<String>>(&long.body.bytes()).unwrap().len(), 113);
    // With 112, name and value take 2,034 of 2,048 bytes.
    store.delete("A", &id(112));
    assert_eq!(addresses(&store, "A").header.as_ref().map(String::len), Some(112 * 18 - 1));
}

#[test]
fn all_bodies_carry_warming_until_it_ends() {
    let (mut store, mut clock) = store();
    store.warm_until(clock.0.at + TTL);
    register_all(&mut store, 1, clock.0);
    let warming = |store: &mut Store| {
        let list = body(store, "A", &ListFilter::default());
        let snapshots = [store.snapshot(None).1.bytes(), store.snapshot(Some("A")).1.bytes()];
        let bodies = [list, store.services().bytes(), snapshots[0].clone(), snapshots[1].clone()];
        bodies.map(|body| String::from_utf8(body.to_vec()).unwrap().contains(r#""warming":true"#))
    };
    assert_eq!(warming(&mut store), [true; 4]);
    store.renew("A", &id(0), None, clock.after(TTL)).unwrap();
    assert!(store.sweep(clock.0.at).warmed);
    assert_eq!(warming(&mut store), [false; 4]);
    assert!(!store.sweep(clock.0.at).warmed);
}

#[test]
fn restored_store_has_full_leases_and_removable_overrides() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 5, clock.0);
    store.patch("A", &id(1), Patch::default().drain(true).weight(9)).unwrap();
    store.register(instance("", 7).ttl_ms(Some(60_000)), claim(), clock.0).unwrap();
    let mut saved = store.saved_header();
    let mut after = None;
    while let Some((instances, last)) = store.saved_instances_after(after.as_ref(), 2) {
        saved.instances.extend(instances);
        after = Some(last);
    }
    let saved: SavedStore = serde_json::from_slice(&serde_json::to_vec(&saved).unwrap()).unwrap();

    let mut restored = Store::new("f".to_owned(), DEFAULTS, 1000);
    let now = clock.after(TTL * 5);
    restored.restore(saved, now);
    assert_eq!(restored.counts(), store.counts());
    assert_eq!(restored.sweep((now.at + TTL) - Duration::from_millis(1)), SweepOutcome::default());
    let back = restored.patch("A", &id(1), Patch::default().clear_drain().clear_weight()).unwrap();
    assert_eq!((back.state, back.instance.weight), (AdvertisedState::Up, 100));
    assert_eq!(back.registered_at, store.instance("A", &id(1)).unwrap().registered_at);
}

#[test]
fn list_has_the_size_that_it_says_with_every_filter() {
    let (mut store, clock) = store();
    for n in 0..400 {
        let zone = (n % 3 > 0).then(|| format!("z{}", n % 3));
        let metadata = BTreeMap::from([("k".to_owned(), "x".repeat(usize::from(n) * 3))]);
        store.register(instance("A", n).zone(zone).metadata(metadata), claim(), clock.0).unwrap();
    }
    store.patch("A", &id(5), Patch::default().drain(true)).unwrap();
    for zone in [None, Some("z1"), Some("z2"), Some("none")] {
        for (stale, last_seen) in [(false, false), (true, false), (false, true), (true, true)] {
            let filter = ListFilter { zone: zone.map(str::to_owned), stale, last_seen };
            let listed = list(&mut store, &filter);
            let expected = match zone {
                None => 400,
                Some("none") => 0,
                Some(_) => 133,
            };
            assert_eq!(listed.len(), expected, "{filter:?}");
            assert!(listed.iter().all(|record| record.last_seen.is_some() == last_seen));
            assert!(listed.iter().all(|record| zone.is_none() || record.instance.zone.as_deref() == zone));
            assert!(listed.is_sorted_by_key(|record| record.instance.id.clone()));
        }
    }
}

#[test]
fn last_seen_is_that_of_the_last_heartbeat_without_a_new_revision() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 1, clock.0);
    let filter = ListFilter { last_seen: true, ..ListFilter::default() };
    let before = list(&mut store, &filter);
    clock.0.clock = Timestamp::from_millis(clock.0.clock.millis() + 1234);
    store.renew("A", &id(0), None, clock.0).unwrap();
    let after = list(&mut store, &filter);
    assert_eq!(after[0].rev, before[0].rev);
    assert_eq!(after[0].last_seen, Some(clock.0.clock));
    assert_eq!(after[0], store.instance("A", &id(0)).unwrap());
}

#[test]
fn lists_of_two_revisions_share_all_pages_but_the_changed_one() {
    let (mut store, clock) = store();
    for n in 0..1000 {
        let metadata = BTreeMap::from([("k".to_owned(), "x".repeat(4000))]);
        store.register(instance("A", n).metadata(metadata), claim(), clock.0).unwrap();
    }
    let size = body(&store, "A", &ListFilter::default()).len();
    let mut held = Vec::new();
    for n in 0..40 {
        store.patch("A", &id(500), Patch::default().weight(n)).unwrap();
        held.push(store.list("A", &ListFilter::default()).document());
        held.push(store.snapshot(Some("A")).1);
        held.push(store.snapshot(None).1);
    }
    // The last is that of the store; each of the others holds one page, and what it was made of.
    let retained = store.retained().bytes();
    assert!(retained > 0 && retained <= 40 * 3 * page::MAX_PAGE_BYTES, "{retained} bytes");
    assert!(retained < size * 3, "{retained} bytes are not 40 lists of {size}");
    drop(held);
    store.services();
    assert_eq!(store.retained().bytes(), 0);
}

#[test]
fn zone_lists_of_two_revisions_share_their_pages() {
    let (mut store, clock) = store();
    for n in 0..1000 {
        let zone = Some(format!("z{}", n % 2));
        store.register(instance("A", n).zone(zone), claim(), clock.0).unwrap();
    }
    let filter = ListFilter { zone: Some("z1".to_owned()), ..ListFilter::default() };
    let first = body(&store, "A", &filter);
    store.patch("A", &id(1), Patch::default().weight(1)).unwrap();
    let part = |store: &Store, at: usize| {
        let mut selection = store.list("A", &filter);
        while !selection.step() {}
        selection.document().parts().nth(at).unwrap()
    };
    // Without the comma before it, the first one is another slice of the same bytes.
    let (last, again) = (part(&store, 4), part(&store, 4));
    assert_eq!((last.as_ptr(), last.len()), (again.as_ptr(), again.len()), "serialized once");
    store.patch("A", &id(1), Patch::default().weight(2)).unwrap();
    assert_eq!(part(&store, 4).as_ptr(), last.as_ptr(), "also after a change of another page");
    assert_ne!(first, body(&store, "A", &filter));
}

#[test]
fn outdated_services_are_listed_in_parts_of_bounded_size() {
    const SERVICES: usize = 100;
    let mut store = Store::new("e".to_owned(), DEFAULTS, 20_000);
    let now = Clock::new().0;
    let metadata: BTreeMap<_, _> = [("k".to_owned(), "x".repeat(4000))].into_iter().collect();
    let name = |service: usize| format!("S{service:02}");
    for service in 0..SERVICES {
        // With so much of metadata, these are over eight pages.
        for n in 0..140 {
            let instance = instance(&name(service), n).metadata(metadata.clone());
            store.register(instance, claim(), now).unwrap();
        }
    }
    while !store.refresh_services() {}
    let _ = store.services();
    for service in 0..SERVICES {
        store.patch(&name(service), &id(0), Patch::default().drain(true)).unwrap();
    }
    let mut parts = 1;
    while !store.refresh_services() {
        parts += 1;
    }
    assert_eq!(parts, SERVICES.div_ceil(32) - 1);
    let services: Value = serde_json::from_slice(&store.services().bytes()).unwrap();
    let services = services["services"].as_array().unwrap();
    assert_eq!(services.len(), SERVICES);
    assert!(services.iter().all(|service| service["draining"] == 1), "{services:?}");
}
