//! The overview of a server: its methods, calls, connections and limits.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::metadata::LOAD;
use farcall_protocol::stream::item_cost;
use farcall_protocol::{ClientOffer, Code, Kind, LoadReport};
use farcall_server::{Limits, LoadReporting, Overview, ServerHandle, Tokens};
use farcall_transport::PeerAddress;
use serde_json::json;
use support::feed::serve_feed;
use support::{Raw, builder, millis, none, open_from, secs, serve, serve_with, stage};
use tokio::time::{advance, sleep};

fn limit(overview: &Overview, name: &str) -> (Option<u64>, Option<u64>) {
    let found = overview.limits.iter().find(|limit| limit.name == name).expect("it is listed");
    (found.used, found.limit)
}

fn span(handle: &ServerHandle, method: &str) -> (u64, u64) {
    let overview = handle.overview();
    let method = overview.methods.iter().find(|known| known.name == method).unwrap();
    (method.total.calls, method.last_minute.calls)
}

#[tokio::test(start_paused = true)]
async fn running_call_is_listed_with_age_deadline_and_caller() {
    let tokens = Tokens::fixed([("reports", "the-token-of-reports")]).unwrap();
    let stage = stage();
    let server = serve_with(stage.clone(), builder(&stage).authenticate(tokens));
    let terms = ClientOffer::default().token(Some("the-token-of-reports".to_owned()));
    let stream = open_from(&server.handle, PeerAddress::Tcp(([10, 0, 0, 1], 7).into()));
    let mut client = Raw::shake(stream, &terms).await.unwrap();
    let seq = client.request_with("T.hang", none(), |header| header.timeout_ms = 5_000).await;
    sleep(millis(1_200)).await;

    let overview = server.handle.overview();
    let [call] = &overview.calls[..] else { panic!("{overview:?}") };
    assert_eq!((&*call.method, call.age_ms / 10, call.peer.as_str()), ("T.hang", 120, "tcp@10.0.0.1:7"));
    assert!(call.remaining_ms.is_some_and(|left| (3_790..=3_800).contains(&left)), "{call:?}");
    assert_eq!((call.caller.as_deref(), call.connection), (Some("reports"), Some(1)));
    let [connection] = &overview.connections[..] else { panic!("{overview:?}") };
    assert_eq!(
        (connection.in_flight, connection.calls, connection.caller.as_deref()),
        (1, 1, Some("reports"))
    );
    assert_eq!((connection.scheme, connection.codec.as_deref()), ("memory", Some("application/msgpack")));
    assert!(connection.received_bytes > 0);

    client.cancel(seq).await;
    client.response().await;
    sleep(millis(1)).await;
    let overview = server.handle.overview();
    assert!(overview.calls.is_empty());
    assert!(overview.connections[0].sent_bytes > 0 && overview.connections[0].in_flight == 0);
    let [failed] = &overview.failed[..] else { panic!("{overview:?}") };
    assert_eq!((&*failed.method, failed.code), ("T.hang", Some("cancelled")));
    assert_eq!((&*failed.peer, failed.caller.as_deref()), ("tcp@10.0.0.1:7", Some("reports")));
}

#[tokio::test(start_paused = true)]
async fn slow_and_failed_calls_are_listed() {
    let server = serve(Limits::default().slow_call(millis(50)));
    let mut client = server.connect().await;
    client.call("T.sleep", json!({"n": 49})).await;
    client.call("T.sleep", json!({"n": 51})).await;
    client.call("No.such", none()).await;
    let overview = server.handle.overview();
    let slow: Vec<_> = overview.slow.iter().map(|call| call.took_us / 1_000).collect();
    assert!(matches!(slow[..], [51..=60]), "{slow:?}");
    let [failed] = &overview.failed[..] else { panic!("{overview:?}") };
    assert_eq!((&*failed.method, failed.code), ("No.such", Some("unimplemented")));
    assert_eq!(failed.message.as_deref(), Some("no service `No`"));
}

#[tokio::test(start_paused = true)]
async fn limits_are_listed_with_their_usage() {
    let server = serve(Limits::default().max_in_flight(10).max_connections(20).handle_timeout(secs(9)));
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    for _ in 0..3 {
        one.request("T.hang", none()).await;
    }
    other.request("T.hang", none()).await;
    sleep(millis(1)).await;
    let overview = server.handle.overview();
    assert_eq!(limit(&overview, "max_connections"), (Some(2), Some(20)));
    assert_eq!(limit(&overview, "max_in_flight"), (Some(3), Some(10)));
    assert_eq!(limit(&overview, "max_in_flight_in_all"), (Some(4), Some(65_536)));
    assert_eq!(limit(&overview, "handle_timeout"), (None, Some(9_000)));
    assert_eq!(overview.connections[0].in_flight, 3, "the busiest comes first");
}

#[tokio::test(start_paused = true)]
async fn last_minute_statistics_expire() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    sleep(millis(1)).await;
    for _ in 0..5 {
        client.call("T.echo", json!({"text": "x"})).await;
    }
    assert_eq!(span(&server.handle, "T.echo"), (5, 5));
    for _ in 0..14 {
        advance(secs(5)).await;
        sleep(millis(1)).await;
    }
    assert_eq!(span(&server.handle, "T.echo"), (5, 0));
    let overview = server.handle.overview();
    let echo = overview.methods.iter().find(|method| method.name == "T.echo").unwrap();
    assert_eq!(echo.history.iter().map(|step| step.calls).sum::<u64>(), 5);
    assert!(overview.uptime_s >= 70.0);
}

#[tokio::test(start_paused = true)]
async fn overview_lists_only_the_oldest_calls() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for _ in 0..Overview::MAX_CALLS + 50 {
        client.request("T.hang", none()).await;
        advance(millis(1)).await;
    }
    sleep(millis(1)).await;
    let overview = server.handle.overview();
    assert_eq!(overview.calls.len(), Overview::MAX_CALLS);
    assert!(overview.calls.windows(2).all(|pair| pair[0].age_ms >= pair[1].age_ms));
    assert!(overview.calls[0].age_ms >= 250);
    assert_eq!(limit(&overview, "max_in_flight").0, Some(250));
}

#[tokio::test(start_paused = true)]
async fn overview_serializes_with_readable_names() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.call("T.echo", json!({"no": "text"})).await;
    let overview = serde_json::to_value(server.handle.overview()).unwrap();
    assert_eq!(overview["health"], "serving");
    let methods = overview["methods"].as_array().unwrap();
    let echo = methods.iter().find(|method| method["name"] == "T.echo").unwrap();
    assert_eq!(echo["total"]["errors"], json!({Code::InvalidArgument.name(): 1}));
    assert_eq!(overview["services"][0]["methods"][0]["params"][0]["name"], "arguments");
}

/// Calls a method, and returns the load in the metadata of the response.
async fn reported_load(client: &mut Raw) -> Option<String> {
    let answer = client.call("T.echo", json!({"text": "x"})).await;
    assert!(!answer.is_error());
    answer.message.header.metadata.as_ref().and_then(|metadata| metadata.get(LOAD)).map(str::to_owned)
}

#[tokio::test(start_paused = true)]
async fn load_is_told_to_each_connection_once_in_an_interval() {
    let (stage, reporting) = (stage(), LoadReporting::default().utilization(|| 0.25));
    let server = serve_with(stage.clone(), builder(&stage).report_load(reporting));
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    for _ in 0..9 {
        assert_eq!(reported_load(&mut one).await, None, "nothing is measured yet");
    }
    advance(millis(500)).await;
    // Ten calls in half a second, none of them with a task.
    let report = reported_load(&mut one).await.expect("it is due");
    assert_eq!(report, "util=0.250,rps=20.0,in_flight=0.000");
    assert_eq!(reported_load(&mut one).await, None);
    assert_eq!(reported_load(&mut other).await, Some(report));
    assert_eq!(reported_load(&mut other).await, None);
    advance(millis(500)).await;
    let report = reported_load(&mut other).await.expect("it is due again");
    assert_eq!(LoadReport::parse(&report).unwrap().calls_per_second, 8.0);
}

#[tokio::test(start_paused = true)]
async fn load_without_utilization_is_that_of_calls() {
    let stage = stage();
    // The application panics, and has no number.
    for (reporting, expected) in [
        (LoadReporting::default(), "rps=2.0,in_flight=1.000"),
        (LoadReporting::default().utilization(|| f64::NAN), "rps=2.0,in_flight=1.000"),
        (LoadReporting::default().utilization(|| panic!("on purpose")), "rps=2.0,in_flight=1.000"),
    ] {
        let server = serve_with(stage.clone(), builder(&stage).report_load(reporting));
        let mut client = server.connect().await;
        let slow = client.request("T.sleep", json!({"n": 10_000})).await;
        advance(millis(500)).await;
        assert_eq!(reported_load(&mut client).await.as_deref(), Some(expected));
        client.cancel(slow).await;
        client.response().await;
    }
}

#[tokio::test(start_paused = true)]
async fn load_is_not_reported_unless_the_server_is_told_to() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for _ in 0..3 {
        assert_eq!(reported_load(&mut client).await, None);
        advance(secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn open_stream_is_shown_with_what_has_passed_and_what_it_waits_for() {
    let server = serve_feed(Limits::default());
    let mut client = server.connect_streams(1000).await;
    let ticks = client.stream("Feed.ticks", json!({"n": 3_600_000})).await;
    let first = client.expect(Kind::Item, ticks).await.body.len();
    let echo = client.stream("Feed.echo", none()).await;
    for (item, limit) in [(vec![1; 100], 2000), (vec![2; 200], 3000)] {
        client.item(echo, &farcall_protocol::Bytes::from(item)).await;
        client.expect(Kind::Item, echo).await;
        client.credit(echo, limit).await;
    }
    let count = client.stream("Feed.count", json!({"from": 0, "to": 1_000_000})).await;
    let mut spent = 0;
    while spent < 1000 {
        spent += item_cost(client.expect(Kind::Item, count).await.body.len());
    }
    sleep(secs(2)).await;

    let shown = server.handle.overview().streams;
    let waits: Vec<_> = shown.iter().map(|stream| (&*stream.method, stream.waits_for)).collect();
    assert_eq!(waits, [("Feed.ticks", "handler"), ("Feed.echo", "peer"), ("Feed.count", "credit")]);
    let [ticking, echoing, counting] = &shown[..] else { panic!("{shown:?}") };
    assert_eq!((ticking.seq, ticking.age_ms / 10, &*ticking.peer), (ticks.0, 200, &*echoing.peer));
    assert_eq!((ticking.items_sent, ticking.bytes_sent, ticking.items_received), (1, first as u64, 0));
    assert_eq!((ticking.window, ticking.credit), (None, Some(1000 - item_cost(first))));
    let bytes = 102 + 202;
    assert_eq!((echoing.items_received, echoing.bytes_received), (2, bytes));
    assert_eq!((echoing.items_sent, echoing.bytes_sent, echoing.held_bytes), (2, bytes, 0));
    assert_eq!((echoing.window, echoing.credit), (Some(64 * 1024), Some(3000 - bytes - 2 * 64)));
    assert_eq!((counting.credit, counting.queued_bytes, counting.stalls), (Some(0), 0, 1));

    // A client that grants much and reads nothing.
    let mut other = server.connect_streams(1 << 30).await;
    other.stream("Feed.blobs", json!({"n": 1000, "bytes": 100_000})).await;
    sleep(secs(1)).await;
    let shown = server.handle.overview().streams;
    let blobs = shown.iter().find(|stream| stream.method == "Feed.blobs").unwrap();
    assert_eq!((blobs.waits_for, blobs.connection), ("socket", 2));
    assert!(blobs.queued_bytes >= 100_000, "{blobs:?}");
}
