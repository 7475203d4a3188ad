//! Expiry, and the guard against mass expiry.

use super::*;

#[test]
fn three_silent_of_ten_expire_and_four_are_withheld() {
    for (silent, expired, withheld) in [(3, 3, 0), (4, 0, 4)] {
        let (mut store, mut clock) = store();
        register_all(&mut store, 10, clock.0);
        let now = clock.after(TTL / 2);
        for n in silent..10 {
            store.renew("A", &id(n), None, now).unwrap();
        }
        let swept = store.sweep(clock.after(TTL / 2).at);
        assert_eq!((swept.expired, swept.withheld), (expired, withheld));
    }
}

#[test]
fn instances_that_fell_silent_together_are_withheld_although_they_expire_apart() {
    let (mut store, mut clock) = store();
    for n in 0..10 {
        store.register(instance("A", n), claim(), clock.0).unwrap();
        clock.after(HEARTBEAT / 10);
    }
    // No further heartbeats: when the first expires, the others are silent as well.
    let mut swept = SweepOutcome::default();
    for _ in 0..40 {
        let now = store.sweep(clock.after(TTL / 20).at);
        swept.expired += now.expired;
        swept.withheld += now.withheld;
        if swept.withheld == 10 {
            break;
        }
    }
    assert_eq!((swept.expired, swept.withheld), (0, 10));
    assert_eq!(states(&mut store), [AdvertisedState::Stale; 10]);
}

#[test]
fn one_dead_instance_expires_although_others_are_late() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 10, clock.0);
    // The last one is dead; the others send each heartbeat late.
    let mut expired = 0;
    while expired == 0 {
        let now = clock.after(TTL / 2);
        expired = store.sweep(now.at).expired;
        for n in 0..9 {
            store.renew("A", &id(n), None, now).unwrap();
        }
    }
    assert_eq!(store.counts().instances, 9);
}

#[test]
fn fewer_than_three_instances_are_never_withheld() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 2, clock.0);
    assert_eq!(store.sweep(clock.after(TTL).at).expired, 2);
    assert_eq!(store.counts(), Counts::default());
}

#[test]
fn stale_instances_are_served_only_without_others_and_expire_after_one_more_ttl() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 3, clock.0);
    let now = clock.after(TTL);
    assert_eq!(store.sweep(now.at).withheld, 3);
    assert_eq!(states(&mut store), [AdvertisedState::Stale; 3]);
    assert_eq!(store.addresses("A").count, 3);
    assert_eq!(list(&mut store, &ListFilter::default()).len(), 3);

    // One comes back: the others are served only on request.
    store.renew("A", &id(1), None, now).unwrap();
    assert_eq!(store.addresses("A").header.as_deref(), Some("tcp@10.0.0.1:1001"));
    assert_eq!(list(&mut store, &ListFilter::default()).len(), 1);
    assert_eq!(list(&mut store, &ListFilter { stale: true, ..ListFilter::default() }).len(), 3);

    assert_eq!(store.sweep(clock.after(TTL - Duration::from_millis(1)).at), SweepOutcome::default());
    store.renew("A", &id(1), None, clock.0).unwrap();
    assert_eq!(store.sweep(clock.after(Duration::from_millis(1)).at).expired, 2);
    assert_eq!(states(&mut store), [AdvertisedState::Up]);
}

#[test]
fn delete_is_never_withheld() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 4, clock.0);
    store.sweep(clock.after(TTL).at);
    for n in 0..4 {
        assert!(store.delete("A", &id(n)));
        assert!(!store.delete("A", &id(n)));
    }
    assert_eq!(store.counts().instances, 0);
}
