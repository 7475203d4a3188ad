//! Changes for watchers, and the memory that they take.

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
