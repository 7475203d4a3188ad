//! The overview of a channel, as a debug page reads it.

use farcall_client::{Channel, EndpointState, OutlierDetection, RetryBudget, RetryPolicy};
use farcall_discovery::{Endpoint, RoundRobin};
use farcall_protocol::{Code, Execution};
use farcall_transport::Address;
use serde_json::{Value, json};

use super::support::{Line, MS, PATIENCE, over, script, serve, serve_at, until, who};

fn overview(channel: &Channel) -> Value {
    serde_json::to_value(channel.overview()).unwrap()
}

/// An address without a listener: its port is reserved for the system.
fn unused_address() -> Address {
    Address::parse("tcp@127.0.0.1:1").unwrap()
}

fn keys(of: &Value) -> Vec<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn overview_of_a_single_address_has_one_endpoint() {
    let server = serve("a");
    let channel = Channel::to(server.address.clone()).unwrap();
    let before = overview(&channel);
    let fields = [
        "source",
        "balancer",
        "retry_policy",
        "endpoints_age_ms",
        "retries_left",
        "in_flight",
        "endpoints",
        "streams",
    ];
    let mut sorted = fields;
    sorted.sort_unstable();
    assert_eq!(keys(&before), sorted);
    assert_eq!(before["source"], format!("the address {}", server.address));
    assert_eq!(before["retry_policy"], "fail over, 3 attempts");
    assert_eq!(before["endpoints_age_ms"], Value::Null);
    assert!((before["retries_left"].as_f64().unwrap() - 100.0).abs() < 0.1, "{before}");
    let mut endpoint = json!({
        "address": server.address.to_string(), "zone": null, "weight": 100, "state": "healthy", "since_ms": null,
        "reason": null, "connections": 0, "in_flight": 0, "latency_us": null, "calls": 0, "failures": 0,
        "reported_load": null,
    });
    assert_eq!(before["endpoints"], json!([endpoint]));

    assert_eq!(who(&channel).await, "a");
    assert_eq!(who(&channel).await, "a");
    server.fails(Code::Internal, Execution::Done);
    channel.call::<String>("T.fail", &()).await.unwrap_err();
    endpoint["connections"] = 1.into();
    endpoint["calls"] = 3.into();
    endpoint["failures"] = 1.into();
    assert_eq!(overview(&channel)["endpoints"], json!([endpoint]));

    // A hanging call is in flight until its caller drops it and the server has confirmed the cancel.
    let hangs = channel.call::<()>("T.slow", &()).start();
    assert_eq!(channel.overview().in_flight, 1);
    assert_eq!(channel.overview().endpoints[0].in_flight, 1);
    drop(hangs);
    until("it is stopped", || channel.overview().in_flight == 0).await;
}

#[tokio::test]
async fn failed_dial_is_shown_with_its_reason() {
    let address = unused_address();
    let channel = Channel::to(address.clone()).unwrap();
    channel.call::<String>("T.who", &()).await.unwrap_err();
    let endpoint = &overview(&channel)["endpoints"][0];
    assert_eq!((&endpoint["state"], &endpoint["calls"]), (&json!("unreachable"), &json!(1)));
    assert!(endpoint["failures"].as_u64() >= Some(1), "{endpoint}");
    assert!(
        endpoint["reason"].as_str().unwrap().starts_with(&format!("connecting to {address}: ")),
        "{endpoint}"
    );
}

#[tokio::test]
async fn successful_dial_clears_the_last_failure() {
    let server = serve("a");
    let address = server.address.clone();
    drop(server);
    let channel = Channel::to(address.clone()).unwrap();
    channel.call::<String>("T.who", &()).await.unwrap_err();
    let state = || channel.overview().endpoints[0].state;
    assert_eq!(state(), EndpointState::Unreachable);

    let _server = serve_at("a", &address.to_string(), |builder| builder);
    let call = channel.call::<String>("T.who", &()).wait_for_ready(true).timeout(PATIENCE);
    assert_eq!(call.await.unwrap(), "a");
    assert_eq!(state(), EndpointState::Healthy);
    // Closing by this side does not change the endpoint's state.
    channel.close();
    until("it is closed", || channel.overview().endpoints[0].connections == 0).await;
    assert_eq!(state(), EndpointState::Healthy);
}

#[tokio::test]
async fn overview_shows_the_state_of_each_endpoint() {
    let (good, bad, drained) = (serve("good"), serve("bad"), serve("drained"));
    let dead = unused_address();
    bad.fails(Code::Internal, Execution::Done);
    let (say, script) = script();
    let endpoints = [
        good.endpoint().with_zone("a").with_weight(7),
        bad.endpoint(),
        drained.endpoint().with_weight(0),
        Endpoint::new(dead.clone()),
    ];
    say.send(Line::List(endpoints.to_vec())).unwrap();
    let channel = Channel::builder()
        .discover(script)
        .balancer(RoundRobin)
        .retry(RetryPolicy::fail_fast())
        .outlier_detection(OutlierDetection::failures(1))
        .retry_budget(RetryBudget::unlimited())
        .build()
        .unwrap();
    assert_eq!(overview(&channel)["endpoints"], json!([]), "no list was requested yet");
    let find = |all: &Value, of: &Address| {
        let all = all["endpoints"].as_array().unwrap();
        all.iter().find(|one| one["address"] == of.to_string()).cloned().unwrap_or_default()
    };
    // One snapshot, since excluded endpoints are readmitted after a while.
    let all = loop {
        let all = overview(&channel);
        let calls = find(&all, &good.address)["calls"].as_u64();
        if find(&all, &bad.address)["state"] == "ejected"
            && find(&all, &dead)["state"] == "unreachable"
            && calls >= Some(1)
        {
            break all;
        }
        let _ = channel.call::<String>("T.fail", &()).await;
        tokio::time::sleep(MS).await;
    };
    let state = |of: &Address| find(&all, of);
    assert_eq!(all["source"], "T in a script");
    assert_eq!(all["balancer"], "round robin");
    assert_eq!(all["retry_policy"], "fail fast");
    assert_eq!(all["retries_left"], Value::Null, "there is no limit");
    assert!(all["endpoints_age_ms"].is_u64(), "{all}");

    let bad = state(&bad.address);
    assert!(
        bad["since_ms"].is_u64() && bad["reason"].as_str().unwrap().contains("(internal, done)"),
        "{bad}"
    );
    assert_eq!(bad["failures"], bad["calls"]);
    assert!(state(&dead)["reason"].as_str().unwrap().contains("connecting to"));
    let good = state(&good.address);
    assert_eq!((&good["state"], &good["zone"], &good["weight"]), (&json!("healthy"), &json!("a"), &json!(7)));
    assert!(good["latency_us"].is_u64() && good["calls"].as_u64() >= Some(1), "{good}");
    assert_eq!(good["failures"], 0);
    assert_eq!(state(&drained.address)["state"], "draining");
}

#[tokio::test]
async fn overview_lists_at_most_a_thousand_endpoints() {
    let (say, script) = script();
    let drained = |n: u32| {
        let address = Address::parse(&format!("tcp@10.0.{}.{}:7001", n / 250, n % 250)).unwrap();
        Endpoint::new(address).with_weight(0)
    };
    say.send(Line::List((0..1_200).map(drained).collect())).unwrap();
    let channel = Channel::builder().discover(script).build().unwrap();
    channel.connect().await.unwrap_err();
    assert_eq!(channel.endpoints().len(), 1_200);
    assert_eq!(channel.overview().endpoints.len(), 1_000);
}

#[tokio::test]
async fn calls_are_counted_at_their_endpoint() {
    let servers = [serve("a"), serve("b")];
    let channel = over(&[&servers[0], &servers[1]]).balancer(RoundRobin).build().unwrap();
    for _ in 0..10 {
        who(&channel).await;
    }
    let overview = channel.overview();
    let calls: Vec<u64> = overview.endpoints.iter().map(|one| one.calls).collect();
    assert_eq!(calls, [5, 5]);
    assert_eq!(overview.in_flight, 0);
}
