//! Behaviours of a registry that is unreachable or has lost its state.

use farcall_discovery::{Registrar, Renewal, keep_registered};
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::place::{Place, TTL};
use crate::watcher::{Watcher, instance};

pub(crate) async fn renewal_of_a_forgotten_instance_returns_unknown(place: &impl Place) {
    let registrar = place.registrar();
    let mut lease = registrar.register(&instance("Arith", 1)).await.unwrap().lease;
    assert!(matches!(registrar.renew(&instance("Arith", 1), &mut lease).await, Ok(Renewal::Renewed(_))));
    place.forget().await;
    // The first request may use a connection that was closed by the restart.
    let renewal = match registrar.renew(&instance("Arith", 1), &mut lease).await {
        Ok(renewal) => renewal,
        Err(_) => registrar.renew(&instance("Arith", 1), &mut lease).await.unwrap(),
    };
    assert_eq!(renewal, Renewal::Unknown);
    registrar.register(&instance("Arith", 1)).await.unwrap();
    Watcher::of(place, "Arith").until_ports(&[1]).await;
}

pub(crate) async fn forgotten_server_registers_again(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let (_stop, stopped) = oneshot::channel::<()>();
    let registrar = place.registrar();
    tokio::spawn(keep_registered(registrar, instance("Arith", 1), async { drop(stopped.await) }));
    watcher.until_ports(&[1]).await;
    place.forget().await;
    // A watcher that did not see it before.
    Watcher::of(place, "Arith").until_ports(&[1]).await;
    watcher.until_ports(&[1]).await;
}

pub(crate) async fn unreachable_registry_keeps_the_list_and_is_reported(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    watcher.until_registered(place, &instance("Arith", 1)).await;
    place.cut().await;
    let seen = watcher.until("failing", |seen| seen.failing.is_some()).await;
    let failing = seen.failing.unwrap();
    assert!(!failing.reason.is_empty());
    assert!(seen.confirmed.is_some_and(|confirmed| confirmed <= failing.since));
    // The instance expires, but the client cannot learn it.
    sleep(TTL * 3 / 2).await;
    assert_eq!(watcher.ports(), [1]);
    assert_eq!(watcher.last().failing.unwrap().since, failing.since, "since it began");
    place.restore().await;
    watcher.until_ports(&[]).await;
}

pub(crate) async fn registering_at_an_unreachable_registry_fails_with_a_reason(place: &impl Place) {
    let registrar = place.registrar();
    let mut lease = registrar.register(&instance("Arith", 1)).await.unwrap().lease;
    place.cut().await;
    let error = registrar.register(&instance("Arith", 2)).await.map(drop).unwrap_err();
    assert!(!error.to_string().is_empty());
    assert!(registrar.renew(&instance("Arith", 1), &mut lease).await.is_err());
    assert!(registrar.deregister(&instance("Arith", 1), lease).await.is_err());
    place.restore().await;
    registrar.register(&instance("Arith", 2)).await.unwrap();
}

pub(crate) async fn registry_that_comes_back_has_the_right_list(place: &impl Place) {
    let mut watcher = Watcher::of(place, "Arith");
    let (_stop, stopped) = oneshot::channel::<()>();
    let registrar = place.registrar();
    tokio::spawn(keep_registered(registrar, instance("Arith", 1), async { drop(stopped.await) }));
    watcher.until_ports(&[1]).await;
    watcher.until_registered(place, &instance("Arith", 2)).await;
    place.cut().await;
    watcher.until("failing", |seen| seen.failing.is_some()).await;
    assert_eq!(watcher.ports(), [1, 2]);
    sleep(TTL * 3 / 2).await;
    assert_eq!(watcher.ports(), [1, 2]);
    place.restore().await;
    // The first is renewed and kept; the other has expired.
    watcher.until_ports(&[1]).await;
}

pub(crate) async fn changes_during_an_outage_are_discovered_after_it(place: &impl Place) {
    let (registrar, mut watcher) = (place.registrar(), Watcher::of(place, "Arith"));
    let lease = registrar.register(&instance("Arith", 1)).await.unwrap().lease;
    watcher.until_ports(&[1]).await;
    for _ in 0..3 {
        // Short enough to remain unnoticed.
        place.cut().await;
        place.restore().await;
    }
    // The first request may use a connection that was cut.
    let _ = registrar.register(&instance("Arith", 2)).await;
    registrar.register(&instance("Arith", 2)).await.unwrap();
    watcher.until_endpoint("the new one", |endpoint| endpoint.address.port() == Some(2)).await;
    registrar.deregister(&instance("Arith", 1), lease).await.unwrap();
    watcher
        .until("the other one", |seen| {
            seen.failing.is_none() && seen.endpoints.iter().all(|endpoint| endpoint.address.port() != Some(1))
        })
        .await;
}
