//! Metrics of channels, and what a program adds to its pages: metrics and readiness checks.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_http::{HttpOptions, ServeOptions};
use tokio::time::timeout;

use crate::support::{MS, PATIENCE, World, until};

async fn world(options: HttpOptions) -> World {
    World::with("http", options, ServeOptions::default()).await
}

#[tokio::test]
async fn metrics_of_the_program_follow_those_of_the_server() {
    let own = "# HELP shop_orders_total Orders.\n# TYPE shop_orders_total counter\nshop_orders_total 3";
    let options = HttpOptions::default()
        .metrics_text(|| panic!("a mistake of the program"))
        .metrics_text(move || format!("{own}\n# EOF\n"))
        .metrics_text(|| "# TYPE more gauge\nmore 1".to_owned());
    let world = world(options).await;
    let metrics = world.get("/metrics").await;
    assert!(metrics.contains("\nfarcall_server_draining 0\n"), "{metrics}");
    assert!(metrics.contains(&format!("\n{own}\n# TYPE more gauge\nmore 1\n")), "{metrics}");
    assert!(!metrics.contains("# EOF"), "{metrics}");
}

#[tokio::test]
async fn failing_check_makes_the_server_unready_and_is_named() {
    let up = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&up);
    let options = HttpOptions::default().ready_check("cache", async || Ok::<(), Infallible>(())).ready_check(
        "database",
        move || {
            let up = seen.load(Ordering::SeqCst) == 1;
            async move { if up { Ok(()) } else { Err("no route\nto it") } }
        },
    );
    let world = world(options).await;
    let answer = world.get("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nnot ready: database: no route\\nto it\n"), "{answer}");
    assert!(world.get("/healthz").await.starts_with("HTTP/1.1 200 "));

    up.store(1, Ordering::SeqCst);
    let ready = async {
        while !world.get("/readyz").await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(10 * MS).await;
        }
    };
    timeout(PATIENCE, ready).await.unwrap();
}

#[tokio::test]
async fn check_that_panics_or_hangs_has_failed() {
    let options = HttpOptions::default()
        .ready_timeout(50 * MS)
        .ready_check("broken", async || -> Result<(), Infallible> { panic!("a mistake of the program") })
        .ready_check("slow", pending::<Result<(), Infallible>>);
    let world = world(options).await;
    let answer = world.get("/readyz").await;
    let expected = "not ready: broken: the check has panicked; slow: the check took longer than 50 ms\n";
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with(expected), "{answer}");
}

#[tokio::test]
async fn many_readers_cost_what_one_does() {
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let options = HttpOptions::default().ready_check("counted", move || {
        counted.fetch_add(1, Ordering::SeqCst);
        pending::<Result<(), Infallible>>()
    });
    let world = Arc::new(world(options.ready_timeout(200 * MS)).await);
    let readers: Vec<_> = (0..20)
        .map(|_| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.get("/readyz").await })
        })
        .collect();
    until("a check runs", || runs.load(Ordering::SeqCst) > 0).await;
    for reader in readers {
        assert!(reader.await.unwrap().contains("not ready: counted: "));
    }
    // The outcome holds for half a second; on a busy machine, the readers take longer than that.
    assert!(runs.load(Ordering::SeqCst) < 20, "{runs:?}");
}

#[cfg(feature = "client")]
mod channels {
    use farcall_client::{Channel, RetryPolicy};
    use farcall_http::client_router;
    use farcall_server::{LoadReporting, Server};
    use farcall_transport::{Address, Listener};
    use serde_json::{Value, json};

    use super::*;
    use crate::support::no_args;

    /// Returns the value of the metric whose line begins with `sample`.
    fn value(metrics: &str, sample: &str) -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {sample} in:\n{metrics}")).parse().unwrap()
    }

    /// Serves the pages of a process that is only a client, and returns where.
    async fn pages(options: &HttpOptions) -> std::net::SocketAddr {
        let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
        let address = listener.address().socket_addr().unwrap();
        tokio::spawn(farcall_http::serve(listener, client_router(options), pending::<()>()));
        address
    }

    async fn get(address: std::net::SocketAddr, path: &str) -> String {
        let answer = farcall_test_support::http::ask(address, "GET", path).await.unwrap();
        String::from_utf8(answer.bytes).unwrap()
    }

    #[tokio::test]
    async fn channels_are_in_the_metrics_of_a_client() {
        let server = World::new("tcp").await;
        let gone = "tcp@127.0.0.1:1";
        let many = Channel::builder().to(server.address()).to(gone).retry(RetryPolicy::fail_over());
        let many = many.build().unwrap();
        let one = server.channel();
        let options = HttpOptions::default().channel("many \"1\"", many.clone()).channel("one", one.clone());
        let address = pages(&options.channel("one", one.clone())).await;
        for channel in [&many, &one] {
            for _ in 0..3 {
                channel.call::<String>("Echo.echo", &json!({"text": "x"})).await.unwrap();
            }
            channel.call::<()>("Echo.fail", &no_args()).await.unwrap_err();
        }
        let _sleeping = one.call::<String>("Probe.sleep", &no_args()).start();
        server.wait_for_running(1).await;

        let metrics = get(address, "/metrics").await;
        assert!(!metrics.contains("farcall_server_"), "{metrics}");
        for (sample, expected) in [
            (r#"farcall_client_calls_total{channel="many \"1\""}"#, 4.0),
            (r#"farcall_client_errors_total{channel="many \"1\"",code="application"}"#, 1.0),
            (r#"farcall_client_attempt_duration_seconds_count{channel="many \"1\""}"#, 4.0),
            (r#"farcall_client_attempt_duration_seconds_bucket{le="+Inf",channel="many \"1\""}"#, 4.0),
            (r#"farcall_client_calls_in_flight{channel="many \"1\""}"#, 0.0),
            (r#"farcall_client_endpoints{channel="many \"1\"",state="ejected"}"#, 0.0),
            (r#"farcall_client_calls_total{channel="one"}"#, 5.0),
            (r#"farcall_client_attempts_total{channel="one"}"#, 5.0),
            (r#"farcall_client_retries_total{channel="one"}"#, 0.0),
            (r#"farcall_client_ejections_total{channel="one"}"#, 0.0),
            (r#"farcall_client_attempt_duration_seconds_count{channel="one"}"#, 4.0),
            (r#"farcall_client_calls_in_flight{channel="one"}"#, 1.0),
            (r#"farcall_client_connections{channel="one"}"#, 1.0),
            (r#"farcall_client_streams_total{channel="one"}"#, 0.0),
            (r#"farcall_client_items_received_total{channel="one"}"#, 0.0),
            (r#"farcall_client_streams_open{channel="one"}"#, 0.0),
            (r#"farcall_client_calls_total{channel="one-2"}"#, 5.0),
        ] {
            assert_eq!(value(&metrics, sample), expected, "{sample} in:\n{metrics}");
        }
        let age = value(&metrics, r#"farcall_client_endpoints_age_seconds{channel="many \"1\""}"#);
        assert!((0.0..PATIENCE.as_secs_f64()).contains(&age), "{age}");
        assert!(!metrics.contains(r#"farcall_client_endpoints_age_seconds{channel="one"}"#), "{metrics}");
        // Both endpoints are known, whatever was found out about the one that is gone.
        let states = ["healthy", "draining", "unreachable", "ejected"]
            .map(|state| format!(r#"farcall_client_endpoints{{channel="many \"1\"",state="{state}"}}"#));
        assert_eq!(states.iter().map(|sample| value(&metrics, sample)).sum::<f64>(), 2.0);
    }

    #[tokio::test]
    async fn loads_that_servers_report_are_in_the_metrics() {
        let reporting = LoadReporting::default().interval(10 * MS).utilization(|| 0.25);
        let server = Server::builder().report_load(reporting).method("T.hello", async |_: Value| {});
        let server = server.listen("tcp@127.0.0.1:0").bind().await.unwrap();
        let endpoint = server.addresses().next().unwrap().to_string();
        tokio::spawn(server.serve());
        let channel = Channel::builder().to(endpoint.as_str()).to("tcp@127.0.0.1:1").build().unwrap();
        let address = pages(&HttpOptions::default().channel("calc", channel.clone())).await;
        let is_reported = async {
            while channel.metrics().reported_loads.is_empty() {
                channel.call::<()>("T.hello", &json!({})).await.unwrap();
            }
        };
        timeout(PATIENCE, is_reported).await.expect("it is reported");
        let metrics = get(address, "/metrics").await;
        let sample =
            |name: &str| format!(r#"farcall_client_reported_{name}{{channel="calc",endpoint="{endpoint}"}}"#);
        assert_eq!(value(&metrics, &sample("utilization")), 0.25);
        for name in ["calls_per_second", "calls_in_flight", "load_age_seconds"] {
            assert!(value(&metrics, &sample(name)) >= 0.0, "{metrics}");
        }
        let of_others = r#"endpoint="tcp@127.0.0.1:1""#;
        assert!(!metrics.contains(of_others), "it reports nothing: {metrics}");
    }

    #[tokio::test]
    async fn client_can_be_unready_too() {
        let options = HttpOptions::default().ready_check("queue", async || Err("full"));
        let answer = get(pages(&options).await, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("queue: full"), "{answer}");
    }
}
