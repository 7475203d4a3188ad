//! Answers that are not etcd's, or not complete: the last list stays, and the reason is reported.

use std::time::Duration;

use farcall_discovery::Registrar;
use farcall_etcd::EtcdRegistrar;
use futures::future::join_all;
use tokio::time::{Instant, sleep};

use crate::proxy::{Lie, Mode, Proxy};
use crate::server::EtcdServer;
use crate::support::{Follower, config, instance, put, register};

fn answer(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

const SILENCE: &str = "no answer within 2 s";

/// An answer to every request, and its name in the test.
fn lies() -> Vec<(Lie, &'static str)> {
    let ok = |body: &str| Lie::Complete(answer("200 OK", body));
    let key = r#"{"key":"YQ=="}"#;
    vec![
        (ok("<html><body>Welcome"), "its answer is not etcd's"),
        (
            Lie::Complete(answer("502 Bad Gateway", "<html>Bad gateway")),
            "HTTP status 502, `<html>Bad gateway`",
        ),
        (Lie::Complete(answer("302 Found\r\nLocation: http://127.0.0.1:1/", "")), "HTTP status 302"),
        (ok(""), "its answer is not etcd's"),
        (ok("{}"), "missing field `header`"),
        (ok("[]"), "its answer is not etcd's"),
        (ok(&"[".repeat(100_000)), "its answer is not etcd's"),
        (ok(r#"{"header":{"revision":"9"},"kvs":[{"key":"L2Zhc"#), "its answer is not etcd's"),
        (ok(r#"{"header":{"revision":"9"},"kvs":[{"key":"???"}]}"#), "its answer is not etcd's"),
        (ok(r#"{"header":{"revision":"9"},"kvs":[],"more":true}"#), "an empty page, and more to come"),
        (
            ok(&format!(r#"{{"header":{{"revision":"9"}},"kvs":[{}]}}"#, vec![key; 100_001].join(","))),
            "more than 100000 keys",
        ),
        (
            Lie::Complete(
                "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"header\":{\"revision\":\"9\"}}".to_owned(),
            ),
            "the connection broke",
        ),
        (
            Lie::ThenEndless("HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n".to_owned()),
            "longer than 8388608 bytes",
        ),
        (Lie::ThenEndless("HTTP/1.1 200 OK\r\n\r\n".to_owned()), "longer than 8388608 bytes"),
        (Lie::Complete("SSH-2.0-OpenSSH\r\n".to_owned()), "the connection broke"),
        (
            Lie::Complete(answer("503 Service Unavailable", r#"{"error":"etcdserver: no leader"}"#)),
            "no leader",
        ),
        (Lie::Complete(String::new()), "the connection broke"),
        (Lie::ThenSilence(String::new()), SILENCE),
        (Lie::ThenSilence("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_owned()), SILENCE),
    ]
}

#[tokio::test]
async fn only_answers_of_etcd_replace_the_list() {
    let etcd = EtcdServer::start().await;
    register(&config(&etcd.url()), &instance("Arith", 7001)).await;
    join_all(lies().into_iter().map(|(lie, expected)| lied_to(&etcd, lie, expected))).await;
}

async fn lied_to(etcd: &EtcdServer, lie: Lie, expected: &str) {
    let proxy = Proxy::to(etcd.host_and_port()).await;
    // Only silence runs into the limit, not a slow answer of a busy machine.
    let limit = if expected == SILENCE { 2 } else { 20 };
    let config = config(&proxy.url()).request_timeout(Duration::from_secs(limit));
    let mut follower = Follower::new(&config, "Arith");
    follower.until_ports(&[7001]).await;
    proxy.set(Mode::Lie(lie));
    proxy.cut().await;
    let found = follower.until_failing(expected).await;
    let reason = found.failing.unwrap().reason;
    assert!(reason.starts_with(&format!("{} (kv/range): ", proxy.url())), "{reason}");
    assert!(reason.len() < 500, "{reason}");
    assert_eq!(follower.ports(), [7001], "after {expected}");
    // Cut, since some of the lies never end.
    proxy.set(Mode::Forward);
    proxy.cut().await;
    follower.until_ports(&[7001]).await;
}

#[tokio::test]
async fn registrar_error_describes_the_answer() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    let registrar = EtcdRegistrar::new(&config(&proxy.url())).unwrap();
    for lie in [
        Lie::Complete(answer("200 OK", "<html>")),
        Lie::Complete(answer("404 Not Found", "404 page not found\n")),
    ] {
        proxy.set(Mode::Lie(lie));
        let error = registrar.register(&instance("Arith", 7001)).await.unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{} (lease/grant): its answer is not etcd's: ", proxy.url())),
            "{error}"
        );
    }
}

#[tokio::test]
async fn list_is_read_repeatedly_if_watches_fail() {
    let created = r#"{"result":{"header":{"revision":"1"},"created":true}}"#;
    let stream = |lines: &str| format!("HTTP/1.1 200 OK\r\n\r\n{lines}\n");
    let etcd = EtcdServer::start().await;
    let lies = [
        Lie::Complete(answer("404 Not Found", "<html>")),
        Lie::Complete(stream("<html>")),
        Lie::Complete(stream(created)),
        Lie::ThenSilence(stream(created)),
        Lie::ThenSilence(String::new()),
        Lie::ThenEndless(format!("HTTP/1.1 200 OK\r\n\r\n{created}\n{{")),
        Lie::Complete(stream(&format!("{created}\n{{\"result\":{{}}}}"))),
        Lie::ThenSilence(stream(&format!(
            "{created}\n{}",
            r#"{"result":{"header":{"revision":"9"},"canceled":true,"compact_revision":"9"}}"#
        ))),
        Lie::ThenSilence(stream(&format!(
            "{created}\n{}",
            r#"{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}"#
        ))),
    ];
    join_all(lies.into_iter().enumerate().map(|(number, lie)| watches_lied_to(&etcd, number, lie))).await;
}

async fn watches_lied_to(etcd: &EtcdServer, number: usize, lie: Lie) {
    let proxy = Proxy::to(etcd.host_and_port()).await;
    proxy.set(Mode::LieToWatches(lie));
    let service = format!("Service{number}");
    let mut follower = Follower::new(&config(&proxy.url()).request_timeout(Duration::from_secs(1)), &service);
    for port in [7001, 7002] {
        put(etcd, &format!("/farcall/v1/{service}/a"), &format!(r#"{{"addr": "tcp@10.0.0.1:{port}"}}"#))
            .await;
        follower.until_ports(&[port]).await;
    }
}

#[tokio::test]
async fn reads_have_a_limited_rate_while_watches_end_at_once() {
    let etcd = EtcdServer::start().await;
    let proxy = Proxy::to(etcd.host_and_port()).await;
    proxy.set(Mode::LieToWatches(Lie::Complete(answer("404 Not Found", "<html>"))));
    put(&etcd, "/farcall/v1/Arith/a", r#"{"addr": "tcp@10.0.0.1:7001"}"#).await;
    let mut follower = Follower::new(&config(&proxy.url()), "Arith");
    let begun = Instant::now();
    follower.until_ports(&[7001]).await;
    // Long enough for four pauses; without them there are many more reads.
    sleep(Duration::from_secs(2)).await;
    let (reads, took) = (proxy.reads(), begun.elapsed());
    // Two without a pause, then one after each, of which the shorter half is certain.
    let (mut most, mut pause) = (2, Duration::from_millis(125));
    let mut until = pause;
    while until <= took {
        most += 1;
        pause = (2 * pause).min(Duration::from_millis(2500));
        until += pause;
    }
    assert!((2..=most).contains(&reads), "{reads} reads in {took:?}, at most {most} are right");
}
