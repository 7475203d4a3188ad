//! Behaviours of every registry that is reachable, beyond those of every source.

use std::time::Duration;

use farcall_discovery::{AdvertisedState, Registrar, Renewal, keep_registered};
use farcall_test_support::machine::lengthened;
use farcall_test_support::wait::PATIENCE;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::place::{Place, TTL};
use crate::watcher::{Watcher, instance};

/// The time within which a watching client sees a graceful stop.
const SOON: Duration = Duration::from_millis(250);
/// The number of measurements; the quickest counts, since a machine may be busy.
const TRIES: u16 = 10;

pub(crate) async fn registered_instance_is_discovered_with_all_its_fields(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let mut registered = instance("Arith", 7001);
    registered.weight = 70;
    registered.zone = Some("z-1".to_owned());
    registered.version = Some("1.2.3".to_owned());
    registered.metadata.insert("rack".to_owned(), "é \"4\", <b>".to_owned());
    place.registrar().register(&registered).await.unwrap();
    watcher.until_ports(&[7001]).await;
    assert_eq!(*watcher.last().endpoints[0], registered.endpoint(AdvertisedState::Up));
}

pub(crate) async fn empty_list_names_the_other_services(place: &impl Place) {
    for service in ["Arith", "Clock", "Clock.utc", ""] {
        place.registrar().register(&instance(service, 1)).await.unwrap();
        place.registrar().register(&instance(service, 2)).await.unwrap();
    }
    let list = Watcher::of(place, "Arit").until("a note", |list| list.note.is_some()).await;
    let note = list.note.unwrap();
    assert!(note.starts_with("it lists ") && !note.contains(" more"), "{note}");
    for service in ["`Arith`", "`Clock`", "`Clock.utc`", "the plain list of servers"] {
        assert!(note.contains(service), "{note}");
    }
}

pub(crate) async fn services_are_kept_apart(place: &impl Place) {
    let registrar = place.registrar();
    let services = [("", 1), ("A", 2), ("A.b", 3), ("AA", 4), ("a", 5)];
    for (service, port) in services {
        registrar.register(&instance(service, port)).await.unwrap();
    }
    for (service, port) in services {
        let mut watcher = Watcher::of(place, service);
        watcher.until_ports(&[port]).await;
        // Later registrations are kept apart, too.
        registrar.register(&instance("A", 2)).await.unwrap();
        assert_eq!(watcher.ports(), [port], "{service}");
    }
}

pub(crate) async fn instance_registered_twice_is_listed_once(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    place.registrar().register(&instance("Arith", 1)).await.unwrap();
    place.registrar().register(&instance("Arith", 1)).await.unwrap();
    place.registrar().register(&instance("Arith", 2)).await.unwrap();
    watcher.until_ports(&[1, 2]).await;
}

pub(crate) async fn namesake_stays_listed_when_the_first_stops(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let (first, second) = (place.registrar(), place.registrar());
    let lease = first.register(&instance("Arith", 1)).await.unwrap().lease;
    let mut other = second.register(&instance("Arith", 1)).await.unwrap().lease;
    first.deregister(&instance("Arith", 1), lease).await.unwrap();
    // Lists keep the order of changes: a watcher that sees this one has seen the end of the first.
    first.register(&instance("Arith", 2)).await.unwrap();
    watcher.until_ports(&[1, 2]).await;
    let renewed = second.renew(&instance("Arith", 1), &mut other).await.unwrap();
    assert!(matches!(renewed, Renewal::Renewed(_)));
    second.deregister(&instance("Arith", 1), other).await.unwrap();
    watcher.until_ports(&[2]).await;
}

pub(crate) async fn late_removal_after_a_restart_removes_nothing(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let (before, after) = (place.registrar(), place.registrar());
    let lease = before.register(&instance("Arith", 1)).await.unwrap().lease;
    let mut restarted = after.register(&instance("Arith", 1)).await.unwrap().lease;
    before.deregister(&instance("Arith", 1), lease).await.unwrap();
    let renewed = after.renew(&instance("Arith", 1), &mut restarted).await.unwrap();
    assert!(matches!(renewed, Renewal::Renewed(_)));
    after.register(&instance("Arith", 2)).await.unwrap();
    watcher.until_ports(&[1, 2]).await;
}

pub(crate) async fn changed_weight_is_discovered(place: &impl Place) {
    let (registrar, mut watcher) = (place.registrar(), Watcher::of(place, "Arith"));
    let mut registered = instance("Arith", 1);
    for weight in [10, 20, 65535] {
        registered.weight = weight;
        registrar.register(&registered).await.unwrap();
        watcher.until_endpoint(&format!("weight {weight}"), |endpoint| endpoint.weight == weight).await;
        assert_eq!(watcher.ports(), [1]);
    }
}

pub(crate) async fn instance_of_weight_zero_is_drained(place: &impl Place) {
    let (registrar, mut watcher) = (place.registrar(), Watcher::of(place, "Arith"));
    let mut registered = instance("Arith", 1);
    registrar.register(&registered).await.unwrap();
    watcher.until_ports(&[1]).await;
    registered.weight = 0;
    registrar.register(&registered).await.unwrap();
    watcher.until_endpoint("drained", |endpoint| endpoint.is_drained()).await;
    assert_eq!(watcher.ports(), [1], "it is there, so that it can be said why it is not called");
}

pub(crate) async fn renewals_keep_an_instance_listed(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let (stop, stopped) = oneshot::channel::<()>();
    let registrar = place.registrar();
    let kept = tokio::spawn(keep_registered(registrar, instance("Arith", 1), async { drop(stopped.await) }));
    watcher.until_ports(&[1]).await;
    let begun = Instant::now();
    // Longer than the time after which it would expire.
    let (mut until, mut looked) = (begun + TTL * 5 / 2, begun);
    while Instant::now() < until {
        let is_listed = watcher.ports() == [1];
        if looked.elapsed() > TTL / 6 {
            // The machine stood still, perhaps for so long that no renewal came in time: once more, then.
            assert!(begun.elapsed() < PATIENCE, "the machine stands still too often");
            watcher.until_ports(&[1]).await;
            until = Instant::now() + TTL * 5 / 2;
        } else {
            assert!(is_listed, "{:?}", watcher.last());
        }
        looked = Instant::now();
        sleep(Duration::from_millis(20)).await;
    }
    drop(stop);
    kept.await.unwrap();
}

pub(crate) async fn instance_expires_without_renewal(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let registered = Instant::now();
    watcher.until_registered(place, &instance("Arith", 1)).await;
    watcher.until_ports(&[]).await;
    let gone = registered.elapsed();
    assert!(gone > TTL / 2, "it was taken away after {gone:?}");
}

pub(crate) async fn deregistered_instance_is_removed_at_once(place: &impl Place) {
    let (registrar, mut watcher) = (place.registrar(), Watcher::of(place, "Arith"));
    let (mut soonest, mut limit) = (Duration::MAX, SOON);
    for port in 1..=TRIES {
        let lease = registrar.register(&instance("Arith", port)).await.unwrap().lease;
        watcher.until_ports(&[port]).await;
        limit = limit.max(lengthened(SOON));
        let begin = Instant::now();
        registrar.deregister(&instance("Arith", port), lease).await.unwrap();
        watcher.until_ports(&[]).await;
        soonest = soonest.min(begin.elapsed());
    }
    assert!(soonest < limit, "the quickest of {TRIES} took {soonest:?}, the limit is {limit:?}");
}

pub(crate) async fn stopped_server_is_removed_at_once(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let (mut soonest, mut limit) = (Duration::MAX, SOON);
    for port in 1..=TRIES {
        let (stop, stopped) = oneshot::channel::<()>();
        let registrar = place.registrar();
        let stopped = async { drop(stopped.await) };
        let kept = tokio::spawn(keep_registered(registrar, instance("Arith", port), stopped));
        watcher.until_ports(&[port]).await;
        limit = limit.max(lengthened(SOON));
        let begin = Instant::now();
        drop(stop);
        kept.await.unwrap();
        watcher.until_ports(&[]).await;
        soonest = soonest.min(begin.elapsed());
    }
    assert!(soonest < limit, "the quickest of {TRIES} took {soonest:?}, the limit is {limit:?}");
}

pub(crate) async fn undialable_and_misnamed_instances_are_refused(place: &impl Place) {
    let mut undialable = instance("Arith", 1);
    undialable.addr = "tcp@0.0.0.0:7001".parse().unwrap();
    let error = place.registrar().register(&undialable).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("tcp@0.0.0.0:7001"), "{error}");
    let mut misnamed = instance("Arith", 1);
    misnamed.service = "a/b".to_owned();
    let error = place.registrar().register(&misnamed).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("a/b"), "{error}");
}
