//! Streaming calls without a connection: the same rules hold for them.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::net::SocketAddr;

use bytes::Bytes;
use farcall_protocol::{Code, Codec, Execution, Status};
use farcall_server::{InputError, Invocation, InvokedEvent, InvokedStream, Limits, Response};
use farcall_transport::PeerAddress;
use serde_json::{Value, json};
use support::feed::serve_feed;
use support::{Running, millis, secs};
use tokio::time::{Instant, sleep};

fn invocation(method: &str, args: &Value) -> Invocation {
    Invocation::new(method, Codec::Json, Bytes::from(args.to_string()))
}

async fn invoke(server: &Running, method: &str, args: Value) -> InvokedStream {
    server.handle.invoke_stream(invocation(method, &args)).await
}

/// Takes all items, and the response.
async fn take(stream: &mut InvokedStream) -> (Vec<Bytes>, Response) {
    let mut items = Vec::new();
    loop {
        match stream.next().await.unwrap() {
            InvokedEvent::Item(item) => items.push(item),
            InvokedEvent::Response(response) => {
                assert!(stream.next().await.is_none());
                return (items, response);
            }
            _ => unreachable!(),
        }
    }
}

async fn item(stream: &mut InvokedStream) -> Bytes {
    match stream.next().await.unwrap() {
        InvokedEvent::Item(item) => item,
        other => panic!("{other:?}"),
    }
}

fn error(response: &Response) -> (Code, Execution) {
    let Status { code, execution, .. } = response.status().expect("it failed");
    (*code, *execution)
}

#[tokio::test(start_paused = true)]
async fn items_come_before_the_response_and_are_counted() {
    let server = serve_feed(Limits::default());
    // Few, which its first poll sends, and many, which wait for the caller.
    for to in [0, 3, 100_000] {
        let (items, response) =
            take(&mut invoke(&server, "Feed.count", json!({"from": 0, "to": to})).await).await;
        assert_eq!(items.len(), to);
        assert!(items.iter().enumerate().all(|(n, item)| *item == n.to_string()));
        assert_eq!((response.status(), &response.body()[..]), (None, to.to_string().as_bytes()));
    }
    let (items, response) = take(&mut invoke(&server, "Feed.fail_after", json!({"n": 2})).await).await;
    assert_eq!((items.len(), error(&response)), (2, (Code::Unavailable, Execution::Done)));
    let metrics = server.handle.stream_metrics();
    assert_eq!((metrics.open, metrics.items_sent), (0, 100_005));
    let stats = server.handle.stats();
    let counted = stats.iter().find(|stats| stats.name == "Feed.count").unwrap();
    assert_eq!(counted.calls, 3);
    assert_eq!(server.handle.in_flight(), 0);
    assert_eq!(server.handle.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn refused_call_is_a_response_only() {
    let server = serve_feed(Limits::default());
    for (method, args, code) in [
        ("Feed.none", json!({}), Code::Unimplemented),
        ("T.echo", json!({"text": "x"}), Code::InvalidArgument),
        ("Feed.count", json!({"from": "x"}), Code::InvalidArgument),
    ] {
        let (items, response) = take(&mut invoke(&server, method, args).await).await;
        assert_eq!((items.len(), error(&response)), (0, (code, Execution::Refused)), "{method}");
    }
    let plain = server.handle.invoke(invocation("Feed.count", &json!({"from": 0, "to": 1}))).await;
    assert_eq!(error(&plain), (Code::InvalidArgument, Execution::Refused));
}

#[tokio::test(start_paused = true)]
async fn caller_that_takes_nothing_holds_the_handler_back_and_loses_the_call() {
    let server = serve_feed(Limits::default());
    let mut stream = invoke(&server, "Feed.blobs", json!({"n": 1000, "bytes": 10_000})).await;
    sleep(millis(1)).await;
    let sent = server.handle.stream_metrics();
    assert_eq!(sent.open, 1);
    assert!(server.handle.buffered_bytes() < 128 * 1024);
    let shown = server.handle.overview().streams;
    assert_eq!((shown.len(), shown[0].connection, shown[0].waits_for), (1, 0, "credit"));
    assert!(shown[0].items_sent < 10, "{shown:?}");
    // A wait that is shorter is none.
    sleep(secs(59)).await;
    assert!(!item(&mut stream).await.is_empty());
    sleep(secs(59)).await;
    assert_eq!(server.handle.in_flight(), 1);
    sleep(secs(2)).await;
    assert_eq!(server.handle.in_flight(), 0);
    assert!(server.handle.stream_metrics().stalls > 0);
    let (_, response) = take(&mut stream).await;
    assert_eq!(error(&response), (Code::ResourceExhausted, Execution::Maybe));
    assert!(response.status().unwrap().message.contains("stream_stall"));
}

#[tokio::test(start_paused = true)]
async fn items_pass_both_ways_at_once() {
    let server = serve_feed(Limits::default());
    let mut stream = invoke(&server, "Feed.echo", json!({})).await;
    let mut input = stream.take_input().unwrap();
    assert!(stream.take_input().is_none());
    for n in 0..3 {
        let sent = Bytes::from(serde_json::to_string(&format!("{n}AAA")).unwrap());
        input.send(sent.clone()).await.unwrap();
        assert_eq!(item(&mut stream).await, sent);
    }
    input.finish();
    let (items, response) = take(&mut stream).await;
    assert_eq!((items.len(), &response.body()[..]), (0, &b"3"[..]));
}

#[tokio::test(start_paused = true)]
async fn handler_that_takes_slowly_holds_the_input_back() {
    let server = serve_feed(Limits::default().stream_stall(secs(5)));
    let mut stream = invoke(&server, "Feed.sum", json!({})).await;
    let mut input = stream.take_input().unwrap();
    for _ in 0..10_000 {
        input.send("7".into()).await.unwrap();
    }
    input.finish();
    let (_, response) = take(&mut stream).await;
    assert_eq!(&response.body()[..], b"70000");

    let mut stream = invoke(&server, "Feed.hold", json!({})).await;
    let mut input = stream.take_input().unwrap();
    let began = Instant::now();
    let mut sent = 0;
    let stalled = loop {
        match input.send("7".into()).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    // The window is 64 KiB, and each costs 65 bytes.
    assert_eq!(sent, (64 * 1024_usize).div_ceil(65));
    assert!(matches!(stalled, InputError::Stalled(limit) if limit == secs(5) && began.elapsed() == limit));
    let (limit, large) = (input.max_item_bytes(), input.send(vec![b' '; 5 << 20].into()).await);
    assert!(matches!(large, Err(InputError::TooLarge(_))), "{limit}: {large:?}");
    drop(input);
    let (_, response) = take(&mut stream).await;
    assert_eq!(error(&response), (Code::Cancelled, Execution::Maybe));
    assert_eq!(server.stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn input_ends_when_the_handler_takes_no_more() {
    let server = serve_feed(Limits::default());
    let mut stream = invoke(&server, "Feed.first", json!({"n": 1})).await;
    let mut input = stream.take_input().unwrap();
    input.send("1".into()).await.unwrap();
    let refused = loop {
        match input.send("2".into()).await {
            Ok(()) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, InputError::Stopped | InputError::Ended), "{refused:?}");
    drop(input);
    let (_, response) = take(&mut stream).await;
    assert_eq!((response.status(), &response.body()[..]), (None, &b"1"[..]));
}

#[tokio::test(start_paused = true)]
async fn dropped_stream_or_input_stops_its_handler() {
    let server = serve_feed(Limits::default());
    let mut stream = invoke(&server, "Feed.ticks", json!({"n": 10})).await;
    assert_eq!(item(&mut stream).await, "0");
    drop(stream);
    sleep(millis(1)).await;
    assert_eq!((server.stage.alive(), server.handle.in_flight()), (0, 0));
    let mut stream = invoke(&server, "Feed.echo", json!({})).await;
    drop(stream.take_input());
    let (_, response) = take(&mut stream).await;
    assert_eq!(error(&response), (Code::Cancelled, Execution::Maybe));
}

#[tokio::test(start_paused = true)]
async fn streams_of_one_address_are_limited() {
    let server = serve_feed(Limits::default().max_streams(2));
    let from = async |address: &str| {
        let peer = PeerAddress::Tcp(address.parse::<SocketAddr>().unwrap());
        server.handle.invoke_stream(invocation("Feed.ticks", &json!({"n": 10})).peer(peer)).await
    };
    let mut open = Vec::new();
    for address in ["10.0.0.1:1", "10.0.0.1:2", "10.0.0.2:1"] {
        let mut stream = from(address).await;
        assert_eq!(item(&mut stream).await, "0", "{address}");
        open.push(stream);
    }
    let (_, response) = take(&mut from("10.0.0.1:3").await).await;
    assert_eq!(error(&response), (Code::ResourceExhausted, Execution::Refused));
    assert_eq!(response.status().unwrap().message, "2 streaming calls are in flight from this peer");
    drop(open.remove(0));
    sleep(millis(1)).await;
    assert_eq!(item(&mut from("10.0.0.1:3").await).await, "0");
}

#[tokio::test(start_paused = true)]
async fn time_limits_hold_for_streams() {
    let server = serve_feed(Limits::default().handle_timeout(secs(1)));
    // The server's limit is for the first item.
    let (_, response) = take(&mut invoke(&server, "Feed.hold", json!({})).await).await;
    assert_eq!(error(&response), (Code::DeadlineExceeded, Execution::Maybe));
    let mut ticks = invoke(&server, "Feed.ticks", json!({"n": 500})).await;
    for n in 0..5 {
        assert_eq!(item(&mut ticks).await, n.to_string());
    }
    // The caller's is for the whole.
    let ticks = invocation("Feed.ticks", &json!({"n": 500})).timeout(secs(2));
    let (items, response) = take(&mut server.handle.invoke_stream(ticks).await).await;
    assert_eq!((items.len(), error(&response)), (4, (Code::DeadlineExceeded, Execution::Maybe)));
}

#[tokio::test(start_paused = true)]
async fn stream_that_is_left_when_the_server_stops_may_resume_elsewhere() {
    let server = serve_feed(Limits::default().drain_timeout(secs(1)));
    let mut told = invoke(&server, "Feed.ticks", json!({"n": 77})).await;
    let mut left = invoke(&server, "Feed.ticks", json!({"n": 10})).await;
    assert_eq!((item(&mut told).await, item(&mut left).await), ("0".into(), "0".into()));
    server.handle.stop();
    let (_, response) = take(&mut told).await;
    assert_eq!(response.status(), None);
    let (_, response) = take(&mut left).await;
    assert_eq!(error(&response), (Code::Unavailable, Execution::Maybe));
    assert_eq!(response.metadata().unwrap().get("farcall-resume"), Some("1"));
    let (_, response) = take(&mut invoke(&server, "Feed.ticks", json!({"n": 10})).await).await;
    assert_eq!(error(&response), (Code::Unavailable, Execution::Refused));
}
