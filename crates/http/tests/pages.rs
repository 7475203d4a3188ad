//! Health, readiness and metrics, and the requests that may read them.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use farcall_http::{HttpOptions, ServeOptions};
use serde_json::json;
use tokio::time::timeout;

use crate::support::{PATIENCE, World, no_args};

#[tokio::test]
async fn server_is_ready_until_it_drains_and_healthy_until_it_ends() {
    let world = World::new("http").await;
    assert!(world.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(world.get("/readyz").await.starts_with("HTTP/1.1 200 "));

    let channel = world.channel();
    let call = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;
    world.handle.stop();
    let answer = async {
        loop {
            let answer = world.get("/readyz").await;
            if !answer.starts_with("HTTP/1.1 200 ") {
                return answer;
            }
        }
    };
    let answer = timeout(PATIENCE, answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("stopping"), "{answer}");
    assert!(world.get("/healthz").await.starts_with("HTTP/1.1 200 "));
    assert!(world.get("/metrics").await.contains("\nfarcall_server_draining 1\n"));

    drop(call);
    timeout(PATIENCE, world.ended).await.unwrap().unwrap();
}

/// Returns the value of the metric whose line begins with `sample`.
fn value(metrics: &str, sample: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {sample} in:\n{metrics}")).parse().unwrap()
}

#[tokio::test]
async fn metrics_count_calls_errors_and_time_by_method() {
    let world = World::new("http").await;
    let channel = world.channel();
    for _ in 0..3 {
        channel.call::<String>("Echo.echo", &json!({"text": "x"})).await.unwrap();
    }
    for _ in 0..2 {
        channel.call::<()>("Echo.fail", &no_args()).await.unwrap_err();
    }
    channel.call::<String>("Probe.sleep", &json!({"ms": 60})).await.unwrap();
    let sleeping = channel.call::<String>("Probe.sleep", &no_args()).start();
    world.wait_for_running(1).await;

    let metrics = world.get("/metrics").await;
    for (sample, expected) in [
        (r#"farcall_server_calls_total{service="Echo",method="echo"}"#, 3.0),
        (r#"farcall_server_calls_total{service="Echo",method="fail"}"#, 2.0),
        (r#"farcall_server_errors_total{service="Echo",method="fail",code="application"}"#, 2.0),
        (r#"farcall_server_calls_in_flight{service="Probe",method="sleep"}"#, 1.0),
        (r#"farcall_server_call_duration_seconds_count{service="Echo",method="echo"}"#, 3.0),
        (r#"farcall_server_call_duration_seconds_bucket{le="0.025",service="Probe",method="sleep"}"#, 0.0),
        (r#"farcall_server_call_duration_seconds_bucket{le="+Inf",service="Probe",method="sleep"}"#, 1.0),
        ("farcall_server_connections", 1.0),
        ("farcall_server_tasks_in_flight", 1.0),
        ("farcall_server_draining", 0.0),
    ] {
        assert_eq!(value(&metrics, sample), expected, "{sample} in:\n{metrics}");
    }
    let slept =
        value(&metrics, r#"farcall_server_call_duration_seconds_sum{service="Probe",method="sleep"}"#);
    assert!((0.05..30.0).contains(&slept), "{slept}");
    assert!(metrics.contains("\nfarcall_server_buffered_bytes "), "{metrics}");
    assert!(metrics.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    assert!(metrics.contains("\n# TYPE farcall_server_calls_total counter\n"), "{metrics}");
    assert!(metrics.contains("\n# HELP farcall_server_calls_total Calls that have ended.\n"), "{metrics}");
    assert!(!metrics.contains("# EOF") && !metrics.contains("# UNIT"), "{metrics}");
    drop(sleeping);
}

#[tokio::test]
async fn pages_are_refused_for_unknown_hosts_and_foreign_origins() {
    let settings = HttpOptions::default().allowed_host("calc.example.com");
    let world = World::with("http", settings, ServeOptions::default()).await;
    for (host, status) in [
        ("localhost", "200"),
        ("10.0.0.5:7080", "200"),
        ("calc.example.com:443", "200"),
        ("evil.example", "403"),
        ("", "403"),
    ] {
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = world.ask(&request).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{host}: {answer}");
    }
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nConnection: close\r\n\r\n";
    assert!(world.ask(request).await.starts_with("HTTP/1.1 403 "));
}

#[tokio::test]
async fn unknown_path_is_404_and_other_method_is_405() {
    let world = World::new("http").await;
    let answer = world.get("/nothing").await;
    assert!(
        answer.starts_with("HTTP/1.1 404 ") && answer.contains("there is nothing at /nothing"),
        "{answer}"
    );
    let request =
        "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let answer = world.ask(request).await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nallow: get,head\r\n"), "{answer}");
}
