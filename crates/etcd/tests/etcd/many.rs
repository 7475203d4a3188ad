//! Services of many instances, and values that are too long.

use serde_json::json;

use crate::server::EtcdServer;
use crate::support::{Follower, base64, config, put};

#[tokio::test]
async fn service_of_2500_instances_is_found_completely() {
    let etcd = EtcdServer::start().await;
    let ports: Vec<u16> = (10_000..12_500).collect();
    for ports in ports.chunks(100) {
        let puts: Vec<_> = ports
            .iter()
            .map(|port| {
                let key = base64(&format!("/farcall/v1/Arith/{port}"));
                let value = base64(&format!(r#"{{"addr":"tcp@10.0.0.1:{port}"}}"#));
                json!({"request_put": {"key": key, "value": value}})
            })
            .collect();
        etcd.ask("kv/txn", json!({"success": puts})).await;
    }
    let config = config(&etcd.url());
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&ports).await;
    // All of them at once, over the watch.
    let (key, range_end) = (base64("/farcall/v1/Arith/"), base64("/farcall/v1/Arith0"));
    etcd.ask("kv/deleterange", json!({"key": key, "range_end": range_end})).await;
    follower.until_ports(&[]).await;
}

#[tokio::test]
async fn values_that_make_an_answer_too_long_leave_out_only_their_own_keys() {
    let etcd = EtcdServer::start().await;
    let long = "x".repeat(1_000_000);
    put(&etcd, "/farcall/v1/Arith/a", r#"{"addr": "tcp@10.0.0.1:7001"}"#).await;
    for number in 0..12 {
        put(&etcd, &format!("/farcall/v1/Arith/long{number}"), &long).await;
    }
    put(&etcd, "/farcall/v1/Arith/z", r#"{"addr": "tcp@10.0.0.1:7002"}"#).await;
    let mut follower = Follower::new(&config(&etcd.url()), "Arith");
    follower.until_ports(&[7001, 7002]).await;
    // Over the watch, too.
    put(&etcd, "/farcall/v1/Arith/long", &long).await;
    put(&etcd, "/farcall/v1/Arith/b", r#"{"addr": "tcp@10.0.0.1:7003"}"#).await;
    follower.until_ports(&[7001, 7002, 7003]).await;
}

#[tokio::test]
async fn all_services_are_listed_though_other_keys_are_between() {
    let etcd = EtcdServer::start().await;
    let instance = r#"{"addr": "tcp@10.0.0.1:7001"}"#;
    let names: Vec<String> = (10..40).map(|number| format!("S{number}")).collect();
    for name in &names {
        put(&etcd, &format!("/farcall/v1/{name}/a"), instance).await;
    }
    for stray in ["/farcall/v1//a", "/farcall/v1/S20", "/farcall/v1/\u{1b}[2J/a", "/farcall/v1/S 1/a"] {
        put(&etcd, stray, instance).await;
    }
    let admin = farcall_etcd::EtcdAdmin::new(&config(&etcd.url())).unwrap();
    assert_eq!(admin.services().await.unwrap(), names);
}
