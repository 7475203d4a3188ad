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
    assert_eq!(addresses(&store, "A").count, 3);
    assert_eq!(list(&mut store, &ListFilter::default()).len(), 3);

    // One comes back: the others are served only on request.
    store.renew("A", &id(1), None, now).unwrap();
    assert_eq!(addresses(&store, "A").header.as_deref(), Some("tcp@10.0.0.1:1001"));
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

#[test]
fn mass_expiry_is_done_in_parts_of_bounded_size() {
    for (others, expired, withheld) in [(0, 0, 600), (1800, 600, 0)] {
        let mut clock = Clock::new();
        let mut store = Store::new("e".to_owned(), DEFAULTS, 10_000);
        register_all(&mut store, 600, clock.0);
        let now = clock.after(TTL / 2);
        for n in 1000..1000 + others {
            store.register(instance("A", n), claim(), now).unwrap();
        }
        let mut sweep = Sweep::new(clock.after(TTL / 2).at);
        let mut parts = 0;
        loop {
            let (rev, done) = (store.rev(), store.sweep_part(&mut sweep));
            parts += 1;
            assert!(store.rev() - rev <= (MAX_SWEEP_STEPS / EXPIRY_STEPS) as u64);
            // The store is whole between the parts.
            assert_eq!(store.counts().instances, instances(&store, "A").len());
            assert_eq!(store.expiry.len(), store.counts().instances);
            if done {
                break;
            }
        }
        assert_eq!((sweep.outcome.expired, sweep.outcome.withheld), (expired, withheld));
        // Each instance is visited at most once to count, and once if it is due.
        let steps = 600 * (1 + EXPIRY_STEPS) + usize::from(others);
        assert!((18..=steps.div_ceil(MAX_SWEEP_STEPS) + 1).contains(&parts), "{parts} parts");
    }
}

#[test]
fn instance_that_is_renewed_during_a_sweep_stays() {
    let (mut store, mut clock) = store();
    register_all(&mut store, 900, clock.0);
    let now = clock.after(TTL);
    let mut sweep = Sweep::new(now.at);
    assert!(!store.sweep_part(&mut sweep));
    store.renew("A", &id(899), None, now).unwrap();
    while !store.sweep_part(&mut sweep) {}
    assert_eq!(sweep.outcome.withheld, 899);
    assert_eq!(store.instance("A", &id(899)).unwrap().state, AdvertisedState::Up);
}
