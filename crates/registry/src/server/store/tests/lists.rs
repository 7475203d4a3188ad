//! Lists, warming, saving and restoring.

use super::*;

#[test]
fn drained_and_weightless_instances_have_no_address_in_the_simple_list() {
    let (mut store, clock) = store();
    register_all(&mut store, 3, clock.0);
    store.patch("A", &id(0), Patch::default().drain(true)).unwrap();
    store.register(instance("A", 1).weight(0), claim(), clock.0).unwrap();
    assert_eq!(store.addresses("A").body, r#"["tcp@10.0.0.1:1002"]"#);
}

#[test]
fn addresses_are_sorted_and_unique() {
    let (mut store, clock) = store();
    for (id, n) in [("z", 2), ("y", 1), ("x", 2)] {
        store.register(instance("A", n).id(id.to_owned()), claim(), clock.0).unwrap();
    }
    let addresses = store.addresses("A");
    assert_eq!(addresses.header.as_deref(), Some("tcp@10.0.0.1:1001,tcp@10.0.0.1:1002"));
    assert_eq!(addresses.count, 2);
}

#[test]
fn too_long_address_header_is_omitted() {
    let (mut store, clock) = store();
    register_all(&mut store, 113, clock.0);
    let addresses = store.addresses("A");
    assert_eq!((addresses.count, addresses.header.is_none()), (113, true));
    assert_eq!(serde_json::from_slice::<Vec<String>>(&addresses.body).unwrap().len(), 113);
    // With 112, name and value take 2,034 of 2,048 bytes.
    store.delete("A", &id(112));
    assert_eq!(store.addresses("A").header.as_ref().map(String::len), Some(112 * 18 - 1));
}

#[test]
fn all_bodies_carry_warming_until_it_ends() {
    let (mut store, mut clock) = store();
    store.warm_until(clock.0.at + TTL);
    register_all(&mut store, 1, clock.0);
    let warming = |store: &mut Store| {
        let list = store.list("A", &ListFilter::default());
        let bodies = [list, store.services(), store.snapshot(None).1, store.snapshot(Some("A")).1];
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
