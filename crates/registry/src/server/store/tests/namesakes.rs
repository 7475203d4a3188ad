//! Several registrations of one instance: each ends or expires by itself, and the last takes the instance with it.

use super::*;

fn token(text: &str) -> RegistrationToken {
    RegistrationToken::parse(text).unwrap()
}

fn register(store: &mut Store, text: &str, now: Now) {
    store.register(instance("A", 0), Claim::Carried(token(text)), now).unwrap();
}

fn end(store: &mut Store, text: &str, now: Now) -> bool {
    store.end_registration("A", &id(0), &token(text), now.at)
}

fn renew(store: &mut Store, text: &str, now: Now) -> bool {
    store.renew("A", &id(0), Some(&token(text)), now).is_some()
}

#[test]
fn instance_lives_until_its_last_registration_ends() {
    for first in ["a", "b"] {
        let last = if first == "a" { "b" } else { "a" };
        let (mut store, clock) = store();
        register(&mut store, "a", clock.0);
        register(&mut store, "b", clock.0);
        let rev = store.rev();
        assert!(!end(&mut store, first, clock.0));
        assert!(!renew(&mut store, first, clock.0));
        assert_eq!((store.counts().up, store.rev()), (1, rev), "no client sees a change");
        assert!(end(&mut store, last, clock.0));
        assert_eq!((store.counts().instances, store.expiry.len()), (0, 0));
    }
}

#[test]
fn late_removal_after_a_restart_removes_nothing() {
    let (mut store, clock) = store();
    register(&mut store, "before", clock.0);
    register(&mut store, "after", clock.0);
    for _ in 0..2 {
        assert!(!end(&mut store, "before", clock.0));
    }
    assert!(!end(&mut store, "never-registered", clock.0));
    assert_eq!(store.counts().up, 1);
    // Also if the one that was registered again is another instance by now.
    store.delete("A", &id(0));
    register(&mut store, "third", clock.0);
    assert!(!end(&mut store, "after", clock.0));
    assert_eq!(store.counts().up, 1);
}

#[test]
fn crashed_registration_expires_while_another_is_renewed() {
    let (mut store, mut clock) = store();
    register(&mut store, "crashed", clock.0);
    let now = clock.after(TTL / 2);
    register(&mut store, "alive", now);
    let now = clock.after(TTL / 2);
    assert_eq!(store.sweep(now.at).expired, 0);
    assert!(renew(&mut store, "alive", now));
    assert!(!renew(&mut store, "crashed", now), "it must register again");
    assert!(end(&mut store, "alive", now));
    assert_eq!(store.counts().instances, 0);
}

#[test]
fn registration_that_has_expired_does_not_outlive_the_last_one() {
    let (mut store, mut clock) = store();
    register(&mut store, "crashed", clock.0);
    let now = clock.after(TTL / 2);
    register(&mut store, "alive", now);
    // No renewal has removed the other one yet.
    assert!(end(&mut store, "alive", clock.after(TTL / 2)));
}

#[test]
fn instance_expires_with_the_registration_that_expires_last() {
    let (mut store, mut clock) = store();
    register(&mut store, "a", clock.0);
    register(&mut store, "b", clock.after(TTL / 2));
    let now = clock.after(TTL / 4);
    assert!(!end(&mut store, "b", now));
    // "a" alone is left, of which three quarters have passed.
    assert_eq!(store.sweep(clock.after(TTL / 4).at).expired, 1);
}

#[test]
fn operators_removal_takes_all_registrations() {
    let (mut store, clock) = store();
    register(&mut store, "a", clock.0);
    register(&mut store, "b", clock.0);
    assert!(store.delete("A", &id(0)));
    assert!(!renew(&mut store, "a", clock.0) && !renew(&mut store, "b", clock.0));
}

#[test]
fn clients_without_tokens_keep_and_end_their_instance_as_one() {
    let (mut store, mut clock) = store();
    for _ in 0..3 {
        store.register(instance("A", 0), claim(), clock.0).unwrap();
        clock.after(TTL / 4);
    }
    store.renew("A", &id(0), None, clock.0).unwrap();
    // As `HttpRegistrar` leaves through the simple interface.
    let farewell = instance("A", 0).weight(0).ttl_ms(Some(1000));
    store.register(farewell, claim(), clock.0).unwrap();
    assert_eq!(store.sweep(clock.after(Duration::from_secs(1)).at).expired, 1);
}

#[test]
fn client_without_tokens_does_not_end_a_server_that_has_one() {
    let (mut store, mut clock) = store();
    register(&mut store, "a", clock.0);
    let short = instance("A", 0).ttl_ms(Some(1000));
    store.register(short, claim(), clock.0).unwrap();
    let now = clock.after(Duration::from_secs(1));
    assert_eq!(store.sweep(now.at).expired, 0);
    assert!(renew(&mut store, "a", now));
    assert!(store.renew("A", &id(0), None, now).is_some());
    assert!(!end(&mut store, "a", now), "the client without tokens is still there");
}

#[test]
fn registrations_of_an_instance_are_bounded_and_those_of_servers_with_tokens_stay() {
    let (mut store, clock) = store();
    register(&mut store, "a", clock.0);
    for _ in 0..1000 {
        store.register(instance("A", 0), claim(), clock.0).unwrap();
    }
    assert!(renew(&mut store, "a", clock.0));
    let record = &store.services["A"].instances[&*id(0)];
    assert_eq!(SavedInstance::from(record).registrations.len(), 64);
}

#[test]
fn registrations_are_saved_and_restored() {
    let (mut store, mut clock) = store();
    register(&mut store, "a", clock.0);
    let before = store.registrations_rev();
    register(&mut store, "b", clock.0);
    assert_ne!(
        store.registrations_rev(),
        before,
        "the second changes no revision, and is saved all the same"
    );
    let (instances, _) = store.saved_instances_after(None, 10).unwrap();
    let text = serde_json::to_string(&instances).unwrap();

    let (mut restored, _) = self::store();
    let saved = SavedStore { instances: serde_json::from_str(&text).unwrap(), ..SavedStore::default() };
    restored.restore(saved, clock.after(TTL * 5));
    assert!(renew(&mut restored, "a", clock.0));
    assert!(!end(&mut restored, "a", clock.0));
    assert!(end(&mut restored, "b", clock.0));
}

#[test]
fn instance_of_an_earlier_snapshot_is_renewed_and_removed_without_tokens() {
    let (mut store, clock) = store();
    store.register(instance("A", 0), claim(), clock.0).unwrap();
    let (mut instances, _) = store.saved_instances_after(None, 10).unwrap();
    instances[0].registrations.clear();
    let (mut restored, _) = self::store();
    restored.restore(SavedStore { instances, ..SavedStore::default() }, clock.0);
    assert!(restored.renew("A", &id(0), None, clock.0).is_some());
    assert!(!renew(&mut restored, "a", clock.0));
    assert!(restored.delete("A", &id(0)));
}
