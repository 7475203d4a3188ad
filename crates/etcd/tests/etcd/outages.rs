//! etcd away, restarted, compacted; watches cut off and gone silent; endpoints that fail.

use std::time::Duration;

use farcall_discovery::Registrar;
use farcall_etcd::EtcdRegistrar;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::proxy::{Mode, Proxy};
use crate::server::{EtcdServer, PATIENCE};
use crate::support::{Follower, Kept, config, delete, instance, put, register};

#[tokio::test]
async fn a_list_outlives_etcd_and_is_right_again_soon_after_it() {
    let mut etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    let kept = Kept::new(&config, instance("Arith", 7001));
    register(&config, &instance("Arith", 7002)).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001, 7002]).await;

    etcd.kill();
    let found = follower.until_failing("Connection refused").await;
    assert_eq!(follower.ports(), [7001, 7002]);
    // It goes on failing, since the same moment, with the same list.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(follower.now().failing.unwrap().since, found.failing.unwrap().since);
    assert_eq!(follower.ports(), [7001, 7002]);

    // What changes before the watch stands again is seen, too.
    etcd.start_again().await;
    delete(&etcd, "/farcall/v1/Arith/tcp@10.0.0.1:7002").await;
    put(&etcd, "/farcall/v1/Arith/c", r#"{"addr": "tcp@10.0.0.1:7003"}"#).await;
    follower.until_ports(&[7001, 7003]).await;
    kept.stop().await;
    follower.until_ports(&[7003]).await;
}

#[tokio::test]
async fn a_server_that_starts_without_etcd_is_registered_when_it_comes() {
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
async fn a_watch_that_is_cut_off_again_and_again_misses_nothing() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let mut follower = Follower::new(&config(&proxy.url()), "Arith");
    follower.until_ports(&[]).await;
    for round in 0..5 {
        let port = 7001 + round;
        proxy.cut();
        put(&etcd, "/farcall/v1/Arith/a", &format!(r#"{{"addr": "tcp@10.0.0.1:{port}"}}"#)).await;
        follower.until_ports(&[port]).await;
    }
}

#[tokio::test]
async fn a_compaction_while_the_watch_is_away_costs_no_change() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let direct = config(&etcd.url());
    for port in [7001, 7002] {
        register(&direct, &instance("Arith", port)).await;
    }
    let mut follower = Follower::new(&config(&proxy.url()), "Arith");
    follower.until_ports(&[7001, 7002]).await;

    proxy.set(Mode::Refuse);
    proxy.cut();
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
async fn a_watch_that_keeps_changes_to_itself_is_found_out() {
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
async fn a_silent_watch_of_a_quiet_service_is_confirmed_now_and_then() {
    let etcd = EtcdServer::start().await;
    let config = config(&etcd.url());
    register(&config, &instance("Arith", 7001)).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001]).await;
    let mut confirmed = follower.now().confirmed;
    for round in 0..4 {
        // What others write does not end the watch of this service.
        put(&etcd, "/somebody/else", &round.to_string()).await;
        let begun = Instant::now();
        while follower.now().confirmed == confirmed {
            assert!(begun.elapsed() < PATIENCE);
            sleep(Duration::from_millis(20)).await;
        }
        confirmed = follower.now().confirmed;
        assert_eq!(follower.ports(), [7001]);
    }
}

#[tokio::test]
async fn a_watch_that_says_that_nothing_changed_confirms_the_list() {
    let etcd = EtcdServer::start_with("http", &["--experimental-watch-progress-notify-interval", "1s"]).await;
    // Nothing else confirms it.
    let config = config(&etcd.url()).check_after(Duration::from_secs(3600));
    register(&config, &instance("Arith", 7001)).await;
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001]).await;
    let confirmed = follower.now().confirmed;
    let begun = Instant::now();
    while follower.now().confirmed == confirmed {
        assert!(begun.elapsed() < PATIENCE);
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(follower.ports(), [7001]);
}

#[tokio::test]
async fn next_endpoint_answers_if_one_cannot() {
    let etcd = EtcdServer::start().await;
    let first = Proxy::to(etcd.host_and_port()).await;
    let second = Proxy::to(etcd.host_and_port()).await;
    // Nobody listens at the first, ever.
    let config = config(&format!("http://127.0.0.1:1,{},{}", first.url(), second.url()));
    let mut follower = Follower::new(&config, "Arith");
    let kept = Kept::new(&config, instance("Arith", 7001));
    follower.until_ports(&[7001]).await;

    for (broken, whole, port) in [(&first, &second, 7002), (&second, &first, 7003)] {
        whole.set(Mode::Forward);
        broken.set(Mode::Refuse);
        broken.cut();
        put(&etcd, "/farcall/v1/Arith/b", &format!(r#"{{"addr": "tcp@10.0.0.1:{port}"}}"#)).await;
        follower.until_ports(&[7001, port]).await;
        // Renewed over the other one, too, for longer than the lease.
        sleep(Duration::from_secs(4)).await;
        assert_eq!(follower.ports(), [7001, port]);
    }
    kept.stop().await;
    follower.until_ports(&[7003]).await;
}

#[tokio::test]
async fn a_cluster_goes_on_without_the_member_that_was_asked() {
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
async fn a_member_that_is_cut_off_from_its_cluster_is_not_believed() {
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
async fn an_error_names_every_endpoint_and_what_was_wrong_there() {
    let registrar = EtcdRegistrar::new(&config("http://127.0.0.1:1,http://127.0.0.1:2")).unwrap();
    let error = registrar.register(&instance("Arith", 7001)).await.unwrap_err().to_string();
    for expected in [
        "http://127.0.0.1:1 (lease/grant): connecting failed: Connection refused",
        "; http://127.0.0.1:2 (lease/grant): connecting failed: Connection refused",
    ] {
        assert!(error.contains(expected), "{error}");
    }
}
