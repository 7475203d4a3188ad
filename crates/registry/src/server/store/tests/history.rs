//! Changes for watchers, and the memory that they take.

use super::super::history::MAX_CHANGES;
use super::*;

#[test]
fn number_of_empty_services_is_bounded() {
    let (mut store, clock) = store();
    for n in 0..5000 {
        let name = format!("S{n}");
        store.register(instance(&name, 0), claim(), clock.0).unwrap();
        store.delete(&name, &id(0));
    }
    assert_eq!(store.services.len(), MAX_EMPTY);
    assert_eq!(store.expiry.len(), 0);
    // A client that has the list of a dropped one is told that it has changed.
    assert!(store.service_rev("S0") >= 2);
    assert_eq!(store.since(Some("S0"), 1), ChangesSince::Lost);
}

#[test]
fn changes_of_other_services_do_not_drop_those_of_a_quiet_one() {
    let (mut store, clock) = store();
    register_all(&mut store, 1, clock.0);
    let known = store.rev();
    for n in 0..10_000 {
        store.register(instance("B", 0).weight(1 + n), claim(), clock.0).unwrap();
    }
    assert_eq!(store.since(Some("A"), known), ChangesSince::Known { frames: Vec::new(), rev: store.rev() });
    store.register(instance("A", 1), claim(), clock.0).unwrap();
    let ChangesSince::Known { frames, rev } = store.since(Some("A"), known) else {
        panic!("no change was dropped")
    };
    assert_eq!((frames.len(), rev), (1, store.rev()));
    assert_eq!(store.since(None, known), ChangesSince::Lost);
    let oldest = store.rev() - MAX_CHANGES as u64;
    assert!(matches!(store.since(None, oldest), ChangesSince::Known { .. }));
    assert_eq!(store.since(None, oldest - 1), ChangesSince::Lost);
    assert_eq!(store.since(None, store.rev() + 1), ChangesSince::Lost);
    assert_eq!(store.since(Some("B"), known), ChangesSince::Lost);
}

#[test]
fn changes_are_returned_in_contiguous_batches() {
    let (mut store, clock) = store();
    register_all(&mut store, 600, clock.0);
    for service in [None, Some("A")] {
        let (mut at, mut seen) = (0, 0);
        while at < store.rev() {
            let ChangesSince::Known { frames, rev } = store.since(service, at) else {
                panic!("no change was dropped")
            };
            assert!(!frames.is_empty() && rev > at);
            (at, seen) = (rev, seen + frames.len());
        }
        assert_eq!(seen, 600);
    }
}

#[test]
fn event_has_the_same_instance_as_the_list() {
    let (mut store, clock) = store();
    let odd = instance("A", 0).metadata(BTreeMap::from([("k\n".to_owned(), "\"<b>\r\n".to_owned())]));
    store.register(odd, claim(), clock.0).unwrap();
    let ChangesSince::Known { frames, .. } = store.since(None, 0) else { panic!("no change was dropped") };
    let text = std::str::from_utf8(&frames[0]).unwrap();
    let data = text.strip_prefix("event: put\nid: e-1\ndata: ").unwrap().strip_suffix("\n\n").unwrap();
    assert!(!data.contains(['\n', '\r']));
    let put: Envelope<Put> = serde_json::from_str(data).unwrap();
    assert_eq!((put.rev, put.body.service.as_str()), (1, "A"));
    assert_eq!(vec![put.body.instance], list(&mut store, &ListFilter::default()));
}

#[test]
fn watchers_that_keep_up_share_the_joined_events() {
    let (mut store, clock) = store();
    register_all(&mut store, 3, clock.0);
    assert_eq!(store.publish(clock.0.at), None);
    let before = store.published_rev();
    let service: Arc<str> = "A".into();
    for n in 3..8 {
        store.register(instance("A", n), claim(), clock.0).unwrap();
    }
    // Within the interval, nothing more is published.
    let due = store.publish(clock.0.at).unwrap();
    assert_eq!(store.published_since(None, before), ChangesSince::Known { frames: Vec::new(), rev: before });
    assert_eq!(store.publish(due), None);
    for of in [None, Some(&service)] {
        let mut pointers = BTreeSet::new();
        for _ in 0..3 {
            let ChangesSince::Known { frames, rev } = store.published_since(of, before) else { panic!() };
            assert_eq!((frames.len(), rev), (1, store.rev()));
            assert_eq!(frames[0].windows(7).filter(|part| part == b"event: ").count(), 5);
            pointers.insert(frames[0].as_ptr());
        }
        assert_eq!(pointers.len(), 1, "joined once");
        // One that lags behind gets the same events, one by one.
        let ChangesSince::Known { frames, rev } = store.published_since(of, 0) else { panic!() };
        assert_eq!((frames.len(), rev), (8, store.rev()));
    }
}

#[test]
fn changes_are_bounded_in_bytes() {
    let (mut store, clock) = store();
    for n in 0..6000_u16 {
        let metadata = BTreeMap::from([("k".to_owned(), "x".repeat(4090))]);
        store.register(instance("A", 0).weight(n).metadata(metadata), claim(), clock.0).unwrap();
    }
    assert_eq!(store.since(None, store.rev() - 4096), ChangesSince::Lost);
    assert!(store.knows_since(None, store.rev() - 3000));
    // What is returned at once is bounded, too.
    let ChangesSince::Known { frames, .. } = store.since(None, store.rev() - 3000) else { panic!() };
    assert!(frames.iter().map(Bytes::len).sum::<usize>() <= 32 * 1024);
}
