//! Registering and finding without outages, and servers that start, stop and crash.

use std::time::Duration;

use farcall_discovery::{Discovery, Registrar, Renewal};
use farcall_etcd::{EtcdDiscovery, EtcdRegistrar};
use farcall_test_support::machine::lengthened;
use farcall_test_support::wait::within_patience;
use farcall_transport::Address;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::proxy::Proxy;
use crate::server::EtcdServer;
use crate::support::{Follower, Kept, config, delete, instance, put, register, value};

#[tokio::test]
async fn instance_is_found_with_all_its_fields() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let mut instance = instance("Arith", 7001);
    instance.weight = 7;
    instance.zone = Some("north".to_owned());
    instance.version = Some("1.2.3".to_owned());
    instance.metadata.insert("key".to_owned(), "välue".to_owned());
    register(&config, &instance).await;

    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001]).await;
    let found = follower.now();
    assert_eq!(*found.endpoints[0], instance.endpoint(farcall_discovery::AdvertisedState::Up));
}

#[tokio::test]
async fn instance_is_json_under_its_key_and_a_lease_of_15_s() {
    let etcd = EtcdServer::start().await;
    let config = farcall_etcd::EtcdOptions::new(&etcd.url()).unwrap();
    let registrar = EtcdRegistrar::new(&config).unwrap();
    let address = Address::parse("unix@/run/a.sock").unwrap();
    let registered = registrar.register(&farcall_discovery::Instance::new("", address)).await.unwrap();
    assert_eq!(registered.heartbeat, Duration::from_secs(5));

    let (instance, lease) = value(&etcd, "/farcall/v1/~/unix@%2Frun%2Fa.sock").await.unwrap();
    let expected =
        json!({"service": "", "id": "unix@/run/a.sock", "addr": "unix@/run/a.sock", "weight": 100});
    assert_eq!(instance, expected);
    let lease = etcd.ask("lease/timetolive", json!({"ID": lease})).await;
    assert_eq!(lease["grantedTTL"], "15");
}

#[tokio::test]
async fn ttl_of_an_instance_is_the_time_of_its_lease() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let mut instance = instance("Arith", 7001);
    instance.ttl_ms = Some(29_001);
    let registered = EtcdRegistrar::new(&config).unwrap().register(&instance).await.unwrap();
    assert_eq!(registered.heartbeat, Duration::from_secs(10));
}

#[tokio::test]
async fn changes_reach_a_watcher() {
    let etcd = EtcdServer::start().await;
    // Nothing is renewed.
    let config = config(&etcd.url()).ttl(Duration::from_secs(3600));
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[]).await;

    let registrar = EtcdRegistrar::new(&config).unwrap();
    let mut one = instance("Arith", 7001);
    let first = registrar.register(&one).await.unwrap().lease;
    follower.until_ports(&[7001]).await;
    let two = registrar.register(&instance("Arith", 7002)).await.unwrap().lease;
    follower.until_ports(&[7001, 7002]).await;

    one.weight = 3;
    let one_again = registrar.register(&one).await.unwrap().lease;
    follower.until("the weight", |found| found.endpoints[0].weight == 3).await;
    // The key has another lease now: the end of the first one removes nothing.
    registrar.deregister(&one, first).await.unwrap();
    registrar.deregister(&instance("Arith", 7002), two).await.unwrap();
    follower.until_ports(&[7001]).await;
    registrar.deregister(&one, one_again).await.unwrap();
    follower.until_ports(&[]).await;
}

#[tokio::test]
async fn services_and_prefixes_are_separate() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let elsewhere = config.clone().prefix("/elsewhere");
    let mut followers = Vec::new();
    for (config, service, port) in
        [(&config, "Arith", 1), (&config, "Arith2", 2), (&config, "", 3), (&elsewhere, "Arith", 4)]
    {
        register(config, &instance(service, port)).await;
        followers.push((Follower::new(config, service), port));
    }
    for (follower, port) in &mut followers {
        follower.until_ports(&[*port]).await;
    }
}

#[tokio::test]
async fn malformed_value_leaves_out_only_its_own_key() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    put(&etcd, "/farcall/v1/Arith/a", "<html>").await;
    put(&etcd, "/farcall/v1/Arith/b", r#"{"addr": "tcp@10.0.0.1:7002"}"#).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7002]).await;
    put(&etcd, "/farcall/v1/Arith/a", r#"{"addr": "tcp@10.0.0.1:7001"}"#).await;
    follower.until_ports(&[7001, 7002]).await;
    put(&etcd, "/farcall/v1/Arith/a", r#"{"addr": "tcp@0.0.0.0:7001"}"#).await;
    follower.until_ports(&[7002]).await;
    // Two checks of the silent watch: keys that are left out count as known.
    follower.until_confirmed_again().await;
    follower.until_confirmed_again().await;
    assert_eq!(follower.ports(), [7002]);
}

#[tokio::test]
async fn instance_is_registered_again_after_its_lease_is_lost() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let mut follower = Follower::new(&config, "Arith");
    let kept = Kept::new(&config, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;
    for _ in 0..2 {
        let (_, lease) = value(&etcd, "/farcall/v1/Arith/tcp@10.0.0.1:7001").await.unwrap();
        etcd.ask("lease/revoke", json!({"ID": lease})).await;
        follower.until_ports(&[]).await;
        follower.until_ports(&[7001]).await;
    }
    kept.stop().await;
    follower.until_ports(&[]).await;
}

#[tokio::test]
async fn deleted_key_is_registered_again() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let mut follower = Follower::new(&config, "Arith");
    let kept = Kept::new(&config, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;
    delete(&etcd, "/farcall/v1/Arith/tcp@10.0.0.1:7001").await;
    follower.until_ports(&[]).await;
    follower.until_ports(&[7001]).await;
    kept.stop().await;
    let leases = etcd.ask("lease/leases", json!({})).await;
    assert_eq!(leases["leases"], json!(null), "no lease is left behind");
}

#[tokio::test]
async fn renewals_keep_an_instance_beyond_its_lease() {
    const TTL: Duration = Duration::from_secs(1);
    // A lease lasts for one and a half elections at least.
    let quick = ["--heartbeat-interval", "10", "--election-timeout", "100"];
    let etcd = EtcdServer::start_with("http", &quick).await;
    let config = config(&etcd.url()).ttl(TTL);
    let registrar = EtcdRegistrar::new(&config).unwrap();
    let instance = instance("Arith", 7001);
    let mut lease = registrar.register(&instance).await.unwrap().lease;
    let begun = Instant::now();
    let mut registered = begun;
    loop {
        match registrar.renew(&instance, &mut lease).await.unwrap() {
            Renewal::Renewed(next) => {
                assert!(next > Duration::ZERO && next < TTL, "{next:?}");
                if registered.elapsed() > 2 * TTL {
                    break;
                }
            }
            // The machine stood still for the whole time of the lease.
            _ => {
                lease = registrar.register(&instance).await.unwrap().lease;
                registered = Instant::now();
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "no registration lasts");
        sleep(TTL / 5).await;
    }
    assert!(value(&etcd, "/farcall/v1/Arith/tcp@10.0.0.1:7001").await.is_some());
}

#[tokio::test]
async fn graceful_stop_is_seen_within_250_ms() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let mut follower = Follower::new(&config, "Arith");
    let mut took: Vec<(Duration, Duration)> = Vec::new();
    // One quick stop is enough: a busy machine may delay others.
    while took.iter().all(|(time, limit)| time > limit) {
        assert!(took.len() < 20, "{took:?}");
        let kept = Kept::new(&config, instance("Arith", 7001));
        follower.until_ports(&[7001]).await;
        let begun = Instant::now();
        kept.stop().await;
        follower.until_ports(&[]).await;
        took.push((begun.elapsed(), lengthened(Duration::from_millis(250))));
    }
}

#[tokio::test]
async fn crashed_server_is_removed_when_its_lease_expires() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let mut follower = Follower::new(&config, "Arith");
    let crashing = Kept::new(&config, instance("Arith", 7001));
    let living = Kept::new(&config, instance("Arith", 7002));
    follower.until_ports(&[7001, 7002]).await;
    crashing.crash().await;
    follower.until_ports(&[7002]).await;
    living.stop().await;
}

#[tokio::test]
async fn stop_of_a_server_keeps_the_successor_with_its_id() {
    let etcd = EtcdServer::start().await;
    // A busy machine may be late with renewals.
    let with_lease = |url: &str| config(url).ttl(Duration::from_secs(6));
    let config = with_lease(&etcd.url());
    let mut follower = Follower::new(&config, "Arith");
    let old = Kept::new(&config, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;
    let mut again = instance("Arith", 7001);
    again.version = Some("2".to_owned());
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let new = Kept::new(&with_lease(&proxy.url()), again);
    let is_new = |found: &farcall_discovery::EndpointList| {
        found.endpoints.first().is_some_and(|first| first.version.as_deref() == Some("2"))
    };
    follower.until("the new version", is_new).await;
    old.stop().await;
    // The second one is sent after the new server has finished the first, which would find a missing key.
    proxy.until_renewals(3).await;
    assert!(is_new(&follower.now()));
    new.stop().await;
    follower.until_ports(&[]).await;
}

#[tokio::test]
async fn invalid_instance_is_refused_before_any_request() {
    let registrar = EtcdRegistrar::new(&config("http://127.0.0.1:1")).unwrap();
    let error = registrar.register(&instance("Ar ith", 7001)).await.unwrap_err().to_string();
    assert!(error.contains("service `Ar ith` must be"), "{error}");
    let error = EtcdDiscovery::new(&config("http://127.0.0.1:1"), "a/b").unwrap_err().to_string();
    assert!(error.contains("service `a/b` must be"), "{error}");
}

#[tokio::test]
async fn descriptions_name_the_endpoints() {
    let config = config("http://127.0.0.1:1,https://b");
    let describe = |service| EtcdDiscovery::new(&config, service).unwrap().describe();
    assert_eq!(describe("Arith"), "Arith at etcd http://127.0.0.1:1,https://b:2379");
    assert_eq!(describe(""), "servers at etcd http://127.0.0.1:1,https://b:2379");
    let registrar = EtcdRegistrar::new(&config).unwrap();
    assert_eq!(registrar.describe(), "etcd at http://127.0.0.1:1,https://b:2379");
}

#[tokio::test]
async fn discovery_ends_without_subscribers() {
    let etcd = EtcdServer::start().await;
    let (publisher, mut found) = farcall_discovery::publisher();
    let task = tokio::spawn(EtcdDiscovery::new(&config(&etcd.url()), "Arith").unwrap().run(publisher));
    found.changed().await.unwrap();
    drop(found);
    within_patience("the discovery ends", task).await.unwrap();
}
