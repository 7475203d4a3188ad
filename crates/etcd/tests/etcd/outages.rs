//! Outages: etcd stopped, restarted, compacted; watches that are cut off or silent; endpoints that fail.

use std::time::Duration;

use farcall_discovery::Registrar;
use farcall_etcd::EtcdRegistrar;
use serde_json::json;

use crate::proxy::{Mode, Proxy};
use crate::server::EtcdServer;
use crate::support::{Follower, Kept, config, delete, instance, put, register};

#[tokio::test]
async fn list_stays_while_etcd_is_down_and_is_correct_after_its_restart() {
    let mut etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let kept = Kept::new(&config, instance("Arith", 7001));
    register(&config, &instance("Arith", 7002)).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001, 7002]).await;

    etcd.kill();
    let found = follower.until_failing("Connection refused").await;
    assert_eq!(follower.ports(), [7001, 7002]);
    // Further failures keep the time of the first one, and the list.
    follower.until_further_failures(3).await;
    assert_eq!(follower.now().failing.unwrap().since, found.failing.unwrap().since);
    assert_eq!(follower.ports(), [7001, 7002]);

    // Changes before the next watch are seen, too.
    etcd.start_again().await;
    delete(&etcd, "/farcall/v1/Arith/tcp@10.0.0.1:7002").await;
    put(&etcd, "/farcall/v1/Arith/c", r#"{"addr": "tcp@10.0.0.1:7003"}"#).await;
    follower.until_ports(&[7001, 7003]).await;
    kept.stop().await;
    follower.until_ports(&[7003]).await;
}

#[tokio::test]
async fn server_that_starts_before_etcd_is_registered_later() {
    let mut etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    etcd.kill();
    let mut follower = Follower::new(&config, "Arith");
    let kept = Kept::new(&config, instance("Arith", 7001));
    follower.until_failing("connecting failed").await;
    assert!(follower.now().confirmed.is_none());
    etcd.start_again().await;
    follower.until_ports(&[7001]).await;
    kept.stop().await;
}

#[tokio::test]
async fn watch_that_is_cut_repeatedly_misses_no_change() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let mut follower = Follower::new(&config(&proxy.url()), "Arith");
    follower.until_ports(&[]).await;
    for round in 0..5 {
        let port = 7001 + round;
        proxy.cut().await;
        put(&etcd, "/farcall/v1/Arith/a", &format!(r#"{{"addr": "tcp@10.0.0.1:{port}"}}"#)).await;
        follower.until_ports(&[port]).await;
    }
}

#[tokio::test]
async fn compaction_between_two_watches_loses_no_change() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let direct = config(&etcd.url());
    for port in [7001, 7002] {
        register(&direct, &instance("Arith", port)).await;
    }
    let mut follower = Follower::new(&config(&proxy.url()), "Arith");
    follower.until_ports(&[7001, 7002]).await;

    proxy.set(Mode::Refuse);
    proxy.cut().await;
    follower.until_failing(&proxy.url()).await;
    delete(&etcd, "/farcall/v1/Arith/tcp@10.0.0.1:7001").await;
    put(&etcd, "/farcall/v1/Arith/c", r#"{"addr": "tcp@10.0.0.1:7003"}"#).await;
    let now = etcd.ask("kv/range", json!({"key": "YQ=="})).await;
    etcd.ask("kv/compaction", json!({"revision": now["header"]["revision"], "physical": true})).await;
    assert_eq!(follower.ports(), [7001, 7002]);
    proxy.set(Mode::Forward);
    follower.until_ports(&[7002, 7003]).await;
    // And the watch stands again.
    put(&etcd, "/farcall/v1/Arith/d", r#"{"addr": "tcp@10.0.0.1:7004"}"#).await;
    follower.until_ports(&[7002, 7003, 7004]).await;
}

#[tokio::test]
async fn watch_that_reports_no_changes_is_detected() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let config = config(&proxy.url()).request_timeout(Duration::from_secs(1));
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[]).await;
    // The watch stands: a change comes through.
    put(&etcd, "/farcall/v1/Arith/a", r#"{"addr": "tcp@10.0.0.1:7001"}"#).await;
    follower.until_ports(&[7001]).await;

    proxy.set(Mode::FreezeWatches);
    put(&etcd, "/farcall/v1/Arith/b", r#"{"addr": "tcp@10.0.0.1:7002"}"#).await;
    follower.until_ports(&[7001, 7002]).await;
    delete(&etcd, "/farcall/v1/Arith/a").await;
    follower.until_ports(&[7002]).await;
}

#[tokio::test]
async fn silent_watch_of_a_quiet_service_is_confirmed_repeatedly() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    register(&config, &instance("Arith", 7001)).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001]).await;
    for round in 0..4 {
        // Keys of other programs do not end the watch of this service.
        put(&etcd, "/other/key", &round.to_string()).await;
        follower.until_confirmed_again().await;
        assert_eq!(follower.ports(), [7001]);
    }
}

#[tokio::test]
async fn progress_notice_of_a_watch_confirms_the_list() {
    let etcd = EtcdServer::start_with("http", &["--experimental-watch-progress-notify-interval", "1s"]).await;
    // Nothing else confirms it.
    let config = config(&etcd.url()).check_after(Duration::from_secs(3600));
    register(&config, &instance("Arith", 7001)).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001]).await;
    follower.until_confirmed_again().await;
    assert_eq!(follower.ports(), [7001]);
}

#[tokio::test]
async fn next_endpoint_answers_if_one_cannot() {
    let etcd = EtcdServer::start().await;
    let first = Proxy::to(etcd.host_and_port()).await;
    let second = Proxy::to(etcd.host_and_port()).await;
    // Nothing listens at the first one.
    let config = config(&format!("http://127.0.0.1:1,{},{}", first.url(), second.url()));
    let mut follower = Follower::new(&config, "Arith");
    let kept = Kept::new(&config, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;

    for (broken, whole, port) in [(&first, &second, 7002), (&second, &first, 7003)] {
        whole.set(Mode::Forward);
        broken.set(Mode::Refuse);
        broken.cut().await;
        put(&etcd, "/farcall/v1/Arith/b", &format!(r#"{{"addr": "tcp@10.0.0.1:{port}"}}"#)).await;
        follower.until_ports(&[7001, port]).await;
        // Each is sent after a third of the lease: these renew it over the other endpoint for twice its time.
        whole.until_renewals(7).await;
        assert_eq!(follower.ports(), [7001, port]);
    }
    kept.stop().await;
    follower.until_ports(&[7003]).await;
}

#[tokio::test]
async fn cluster_serves_without_its_preferred_member() {
    let mut members = EtcdServer::start_cluster(3).await;
    let urls: Vec<_> = members.iter().map(EtcdServer::url).collect();
    let config = config(&urls.join(","));
    let mut follower = Follower::new(&config, "Arith");
    let kept = Kept::new(&config, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;
    members[0].kill();
    register(&config, &instance("Arith", 7002)).await;
    follower.until_ports(&[7001, 7002]).await;
    kept.stop().await;
    follower.until_ports(&[7002]).await;
}

#[tokio::test]
async fn answers_of_a_member_without_quorum_are_not_used() {
    let mut members = EtcdServer::start_cluster(3).await;
    // Without checks, so that it is the watch itself that must not go on in silence.
    let config = config(&members[0].url()).check_after(Duration::from_secs(3600));
    register(&config, &instance("Arith", 7001)).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001]).await;
    // The watch stands.
    register(&config, &instance("Arith", 7002)).await;
    follower.until_ports(&[7001, 7002]).await;
    for member in &mut members[1..] {
        member.kill();
    }
    follower.until_failing(&members[0].url()).await;
    assert_eq!(follower.ports(), [7001, 7002]);
    // Two of three are a majority.
    members[1].start_again().await;
    follower.until_ports(&[7001, 7002]).await;
}

#[tokio::test]
async fn error_names_every_endpoint_with_its_reason() {
    let registrar = EtcdRegistrar::new(&config("http://127.0.0.1:1,http://127.0.0.1:2")).unwrap();
    let error = registrar.register(&instance("Arith", 7001)).await.unwrap_err().to_string();
    for expected in [
        "http://127.0.0.1:1 (lease/grant): connecting failed: Connection refused",
        "; http://127.0.0.1:2 (lease/grant): connecting failed: Connection refused",
    ] {
        assert!(error.contains(expected), "{error}");
    }
}
