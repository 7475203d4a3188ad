//! Behaviours of every source of endpoints, whatever keeps its lists: they know no registrar.

use farcall_discovery::{Discovery, publisher};
use farcall_test_support::wait::until;

use crate::place::Source;
use crate::watcher::Watcher;

pub(crate) async fn endpoints_listed_before_watching_are_discovered(source: &impl Source) {
    source.list("arith", &[1, 2]).await;
    Watcher::of(source, "arith").until_ports(&[1, 2]).await;
}

pub(crate) async fn service_without_endpoints_has_an_empty_list(source: &impl Source) {
    source.list("none", &[]).await;
    Watcher::of(source, "none").until_ports(&[]).await;
}

pub(crate) async fn changes_are_discovered(source: &impl Source) {
    source.list("arith", &[1]).await;
    let mut watcher = Watcher::of(source, "arith");
    watcher.until_ports(&[1]).await;
    for ports in [&[1, 2][..], &[2], &[], &[3]] {
        source.list("arith", ports).await;
        watcher.until_ports(ports).await;
    }
}

pub(crate) async fn lists_of_services_are_kept_apart(source: &impl Source) {
    let services = [("arith", 1), ("arith-2", 2), ("text", 3)];
    for (service, port) in services {
        source.list(service, &[port]).await;
    }
    for (service, port) in services {
        let mut watcher = Watcher::of(source, service);
        watcher.until_ports(&[port]).await;
        source.list("other", &[port]).await;
        assert_eq!(watcher.ports(), [port], "{service}");
    }
}

pub(crate) async fn fifty_endpoints_are_all_discovered(source: &impl Source) {
    source.list("arith", &[]).await;
    let mut watcher = Watcher::of(source, "arith");
    let ports: Vec<u16> = (1..=50).collect();
    source.list("arith", &ports).await;
    watcher.until_ports(&ports).await;
}

pub(crate) async fn all_watchers_see_the_same_list(source: &impl Source) {
    source.list("arith", &[]).await;
    let mut watchers: Vec<_> = (0..5).map(|_| Watcher::of(source, "arith")).collect();
    for ports in [&[1][..], &[]] {
        source.list("arith", ports).await;
        for watcher in &mut watchers {
            watcher.until_ports(ports).await;
        }
    }
}

pub(crate) async fn clone_discovers_the_same(source: &impl Source) {
    source.list("arith", &[1]).await;
    let first = source.discovery("arith");
    let clone = first.try_clone().unwrap();
    assert_eq!(clone.describe(), first.describe());
    // The clone is of use when the first has ended with its runtime.
    drop(first);
    Watcher::with(clone).until_ports(&[1]).await;
}

pub(crate) async fn discovery_ends_without_subscribers(source: &impl Source) {
    let (publisher, seen) = publisher();
    let running = tokio::spawn(source.discovery("arith").run(publisher));
    drop(seen);
    until("it ends", || running.is_finished()).await;
}

pub(crate) async fn dropped_discovery_closes_its_connections(source: &impl Source) {
    source.list("arith", &[]).await;
    let Some(before) = source.connections() else { return };
    let mut watcher = Watcher::of(source, "arith");
    watcher.until_ports(&[]).await;
    assert!(source.connections() > Some(before), "it watches over a connection");
    drop(watcher);
    until("no connection is left", || source.connections() <= Some(before)).await;
}

pub(crate) async fn discovery_started_in_an_outage_recovers(source: &impl Source) {
    source.list("arith", &[1]).await;
    source.cut().await;
    let mut watcher = Watcher::of(source, "arith");
    let seen = watcher.until("failing", |seen| seen.failing.is_some()).await;
    assert!(seen.confirmed.is_none() && seen.endpoints.is_empty());
    source.restore().await;
    watcher.until_ports(&[1]).await;
}

/// Only of sources whose lists can be changed while they cannot be reached; a registry's are, by expiry.
pub(crate) async fn outage_keeps_the_list_and_what_changed_is_discovered_after_it(source: &impl Source) {
    source.list("arith", &[1]).await;
    let mut watcher = Watcher::of(source, "arith");
    watcher.until_ports(&[1]).await;
    source.cut().await;
    let seen = watcher.until("failing", |seen| seen.failing.is_some()).await;
    let failing = seen.failing.unwrap();
    assert!(!failing.reason.is_empty());
    assert!(seen.confirmed.is_some_and(|confirmed| confirmed <= failing.since));
    source.list("arith", &[2]).await;
    assert_eq!(watcher.ports(), [1]);
    source.restore().await;
    watcher.until_ports(&[2]).await;
}
