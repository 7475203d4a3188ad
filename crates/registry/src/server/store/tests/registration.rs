//! Registrations, renewals and overrides.

use super::*;

#[test]
fn renewal_without_a_change_keeps_the_revision() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 2, clock.0);
    let (rev, of_service) = (store.rev(), store.service_rev("A"));
    let now = clock.after(TTL / 2);
    store.register(instance("A", 0), claim(), now).unwrap();
    store.renew("A", &id(1), None, now).unwrap();
    assert_eq!((store.rev(), store.service_rev("A")), (rev, of_service));
    // But both restart the lease.
    assert_eq!(store.sweep(clock.after(TTL * 3 / 4).at).expired, 0);
}

#[test]
fn registration_replaces_all_but_the_time_of_the_first() {
    let (mut store, mut clock) = store();
    let first = instance("A", 0).zone(Some("a".to_owned())).ttl_ms(Some(5000));
    store.register(first, claim(), clock.0).unwrap();
    let registered_at = store.instance("A", &id(0)).unwrap().registered_at;
    let later = clock.after(Duration::from_secs(1));
    store.register(instance("A", 0).weight(7), claim(), later).unwrap();
    let one = store.instance("A", &id(0)).unwrap();
    assert_eq!((one.instance.weight, one.instance.zone, one.instance.ttl_ms), (7, None, Some(10_000)));
    assert_eq!((one.registered_at, one.rev), (registered_at, 2));
}

#[test]
fn override_applies_over_registrations_until_removed() {
    let (mut store, clock) = store();
    register_all(&mut store, 1, clock.0);
    let set = Patch::default().drain(true).weight(3);
    let patched = store.patch("A", &id(0), set).unwrap();
    assert_eq!((patched.state, patched.instance.weight), (AdvertisedState::Draining, 3));
    store.register(instance("A", 0).weight(50), claim(), clock.0).unwrap();
    let one = store.instance("A", &id(0)).unwrap();
    assert_eq!((one.state, one.instance.weight), (AdvertisedState::Draining, 3));
    let back = store.patch("A", &id(0), Patch::default().clear_drain().clear_weight()).unwrap();
    assert_eq!((back.state, back.instance.weight), (AdvertisedState::Up, 50));
    assert!(back.overrides.is_empty());
}

#[test]
fn override_outlives_expiry_but_not_a_delete() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 2, clock.0);
    for n in 0..2 {
        store.patch("A", &id(n), Patch::default().drain(true)).unwrap();
    }
    let now = clock.after(TTL);
    assert!(store.delete("A", &id(1)));
    assert_eq!(store.sweep(now.at).expired, 1);
    register_all(&mut store, 2, now);
    assert_eq!(states(&mut store), [AdvertisedState::Draining, AdvertisedState::Up]);
}

#[test]
fn full_store_refuses_new_instances_and_renews_known_ones() {
    let clock = Clock::new();
    let mut store = Store::new("e".to_owned(), DEFAULTS, 1);
    register_all(&mut store, 1, clock.0);
    assert_eq!(store.register(instance("A", 1), claim(), clock.0), Err(StoreFull));
    assert!(store.register(instance("A", 0), claim(), clock.0).is_ok());
    store.delete("A", &id(0));
    assert!(store.register(instance("A", 1), claim(), clock.0).is_ok());
}
