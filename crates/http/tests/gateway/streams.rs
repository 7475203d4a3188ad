//! Streams of items to the client, as lines of JSON and as server-sent events.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::Request;
use farcall_http::{Gateway, HttpOptions, ServeOptions, router, serve_with};
use farcall_server::{Limits, Tokens};
use farcall_transport::{Address, Listener};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::support::{PATIENCE, until};
use crate::world::{World, read};

pub(crate) const LINES: &str = "Accept: application/x-ndjson";
pub(crate) const EVENTS: &str = "Accept: text/event-stream";

/// Reads until the bytes have `text` in them, and returns all of them.
pub(crate) async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(text) {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0, "{}", String::from_utf8_lossy(&read));
        }
    };
    let waited = timeout(PATIENCE, reading).await;
    let read = String::from_utf8(read).unwrap();
    assert!(waited.is_ok(), "no `{text}` in {read}");
    read
}

/// Begins a request without a body.
async fn begin(world: &World, method: &str, accept: &str, args: &str) -> TcpStream {
    let mut stream = world.connect().await;
    let len = args.len();
    let head = format!("POST /rpc/{method} HTTP/1.1\r\nHost: {}\r\n{accept}\r\n", world.place);
    stream.write_all(format!("{head}Content-Length: {len}\r\n\r\n{args}").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn items_are_lines_and_the_last_line_is_the_result() {
    let world = World::new().await;
    for accept in [LINES, "Accept: */*", "X-No: accept"] {
        let answer = world.call("Feed.count", &[accept], r#"{"from":3,"to":5}"#).await;
        let lines = "{\"item\":3}\n{\"item\":4}\n{\"result\":2}\n";
        assert_eq!((answer.status, &*answer.body), (200, lines), "{accept}");
        assert_eq!(answer.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(answer.header("x-accel-buffering"), Some("no"));
        assert_eq!(answer.header("cache-control"), Some("no-store, no-transform"));
    }
    let answer = world.call("Feed.count", &[LINES], r#"{"from":0,"to":20000}"#).await;
    let lines: Vec<_> = answer.body.lines().collect();
    assert_eq!((lines.len(), lines[19_999]), (20_001, "{\"item\":19999}"));
    // Bytes are base64, as everywhere in JSON.
    let answer = world.call("Feed.blobs", &[LINES], r#"{"n":1,"bytes":3}"#).await;
    assert_eq!(answer.body, "{\"item\":\"BwcH\"}\n{\"result\":1}\n");
}

#[tokio::test]
async fn large_items_keep_their_order() {
    let world = World::new().await;
    for accept in [LINES, EVENTS] {
        let answer = world.call("Feed.blobs", &[accept], r#"{"n":5,"bytes":200000}"#).await;
        let places: Vec<_> = answer.body.match_indices("item").map(|(at, _)| at).collect();
        // Base64 of 200,000 bytes, and a line or an event around it.
        let apart = places.windows(2).all(|pair| (266_668..266_700).contains(&(pair[1] - pair[0])));
        assert!(answer.status == 200 && places.len() == 5 && apart, "{places:?}");
        let end = answer.body.rsplit_once("result").unwrap().1.trim_end();
        assert!(answer.body.ends_with('\n') && matches!(end, "\":5}" | "\ndata: 5"), "{end}");
    }
}

#[tokio::test]
async fn items_are_events_and_the_last_event_is_the_result() {
    let world = World::new().await;
    let answer = world.call("Feed.count", &[EVENTS], r#"{"from":3,"to":5}"#).await;
    let events = "event: item\ndata: 3\n\nevent: item\ndata: 4\n\nevent: result\ndata: 2\n\n";
    assert_eq!((answer.status, &*answer.body), (200, events));
    assert_eq!(answer.header("content-type"), Some("text/event-stream"));
    assert_eq!(answer.header("x-accel-buffering"), Some("no"));
    let answer = world.call("Feed.fail", &[EVENTS], r#"{"from":0,"to":1}"#).await;
    assert!(
        answer.body.starts_with("event: item\ndata: 0\n\nevent: error\ndata: {\"code\":\"permission"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn error_before_the_first_item_has_a_status_and_a_later_one_is_the_last_line() {
    let world = World::new().await;
    for form in [LINES, EVENTS] {
        for (method, args, status, code) in [
            ("Feed.fail", r#"{"from":0,"to":0}"#, 403, "permission_denied"),
            ("Feed.count", r#"{"from":"x"}"#, 400, "invalid_argument"),
            ("Feed.count", "{", 400, "invalid_argument"),
            ("Feed.none", "{}", 404, "unimplemented"),
        ] {
            let answer = world.call(method, &[form], args).await;
            assert_eq!((answer.status, &*answer.error().0), (status, code), "{answer:?}");
            assert_eq!(answer.header("content-type"), Some("application/json"));
        }
        let silent = [form, "farcall-timeout-ms: 50"];
        assert_eq!(world.call("Feed.silent", &silent, "{}").await.status, 504);
    }
    let answer = world.call("Feed.fail", &[LINES], r#"{"from":0,"to":2}"#).await;
    let error =
        json!({"code": "permission_denied", "message": "it fails", "execution": "done", "details": null});
    let lines: Vec<serde_json::Value> =
        answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answer.status, 200);
    assert_eq!(lines, [json!({"item": 0}), json!({"item": 1}), json!({ "error": error })]);
}

#[tokio::test]
async fn plain_json_is_refused_with_the_types_to_ask_for() {
    let world = World::new().await;
    let answer = world.call("Feed.count", &["Accept: application/json"], r#"{"from":3,"to":5}"#).await;
    let (code, message) = answer.error();
    assert_eq!((answer.status, &*code), (406, "invalid_argument"));
    assert!(
        message.starts_with("`Feed.count` sends items: send `Accept: application/x-ndjson`"),
        "{message}"
    );
    // A method without items answers as before.
    assert_eq!(world.call("Arith.multiply", &[LINES], "[6,7]").await.body, "42");
}

#[tokio::test]
async fn credential_metadata_and_timeout_are_those_of_plain_calls() {
    let settings = HttpOptions::default().gateway(Gateway::default());
    let world =
        World::of(settings, |builder| builder.authenticate(Tokens::fixed([("web", "secret-1")]).unwrap()))
            .await;
    let answer = world.call("Feed.ticks", &[LINES], r#"{"every_ms":10}"#).await;
    assert_eq!((answer.status, &*answer.error().0), (401, "unauthenticated"));
    let headers =
        [LINES, "Authorization: Bearer secret-1", "farcall-meta-tenant: blue", "farcall-timeout-ms: 3000"];
    let answer = world.call("Feed.ticks", &headers, r#"{"every_ms":10}"#).await;
    assert!(answer.body.starts_with("{\"item\":\"blue\"}\n"), "{answer:?}");
    let last = answer.body.lines().last().unwrap();
    assert!(last.starts_with(r#"{"error":{"code":"deadline_exceeded""#), "{last}");
}

#[tokio::test]
async fn client_that_leaves_stops_the_handler() {
    let world = World::new().await;
    for form in [LINES, EVENTS] {
        let mut stream = begin(&world, "Feed.ticks", form, r#"{"every_ms":5}"#).await;
        read_until(&mut stream, "item").await;
        world.wait_for_waiting(1).await;
        assert_eq!(world.handle.stream_metrics().open, 1);
        drop(stream);
        world.wait_for_waiting(0).await;
    }
}

#[tokio::test]
async fn open_stream_is_in_the_metrics_and_in_the_snapshot_of_the_debug_page() {
    let world = World::new().await;
    let mut stream = begin(&world, "Feed.ticks", LINES, r#"{"every_ms":3600000}"#).await;
    read_until(&mut stream, "item").await;
    let metrics = world.get("/metrics").await.body;
    for sample in [
        "farcall_server_streams_open 1",
        r#"farcall_server_stream_items_total{direction="sent"} 1"#,
        r#"farcall_server_stream_items_total{direction="received"} 0"#,
        r#"farcall_server_stream_bytes_total{direction="received"} 0"#,
        "farcall_server_stream_stalls_total 0",
    ] {
        assert!(metrics.lines().any(|line| line == sample), "no {sample} in:\n{metrics}");
    }
    let overview = world.get("/debug/farcall/overview.json").await.json();
    let streams = &overview["server"]["streams"];
    assert_eq!(streams.as_array().map(Vec::len), Some(1), "{overview}");
    let shown = ["method", "items_sent", "items_received", "waits_for"].map(|name| streams[0][name].clone());
    assert_eq!(shown, [json!("Feed.ticks"), json!(1), json!(0), json!("handler")]);
    assert!(streams[0]["peer"].as_str().unwrap().contains("127.0.0.1"), "{streams}");
}

#[tokio::test]
async fn client_that_reads_nothing_holds_the_handler_back_until_the_write_timeout() {
    let world = World::new().await;
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let place = listener.address().socket_addr().unwrap();
    let router = router(world.handle.clone(), HttpOptions::default().gateway(Gateway::default()));
    let options = ServeOptions::default().write_timeout(Duration::from_millis(300));
    let serving = tokio::spawn(serve_with(listener, router, options, std::future::pending()));
    let mut stream = TcpStream::connect(place).await.unwrap();
    let args = r#"{"n":100000,"bytes":100000}"#;
    let head = format!("POST /rpc/Feed.blobs HTTP/1.1\r\nHost: {place}\r\n{LINES}\r\n");
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n{args}", args.len()).as_bytes()).await.unwrap();
    world.wait_for_waiting(1).await;
    // Of 10 GB, only what the sockets and the buffers hold was ever sent.
    world.wait_for_waiting(0).await;
    until("the items are counted", || world.handle.stream_metrics().open == 0).await;
    let sent = world.handle.stream_metrics().bytes_sent;
    assert!(sent < 64 << 20, "{sent}");
    assert!(world.handle.buffered_bytes() < 1 << 20);
    serving.abort();
}

#[tokio::test]
async fn stream_that_is_left_when_the_server_stops_ends_with_resume() {
    let settings = HttpOptions::default().gateway(Gateway::default());
    let limits = Limits::default().drain_timeout(Duration::from_millis(100));
    let world = World::of(settings, |builder| builder.limits(limits)).await;
    let mut stream = begin(&world, "Feed.ticks", LINES, r#"{"every_ms":5}"#).await;
    read_until(&mut stream, "item").await;
    world.handle.stop();
    let rest = read_until(&mut stream, "\r\n0\r\n\r\n").await;
    let error = r#"{"error":{"code":"unavailable","message":"the server is stopping","execution":"maybe","details":null,"resume":true}}"#;
    assert!(rest.contains(&format!("{error}\n")), "{rest}");
    world.ended.await.unwrap();
}

#[tokio::test]
async fn stream_ends_and_the_connection_stays() {
    let world = World::new().await;
    let mut stream = begin(&world, "Feed.count", LINES, r#"{"from":0,"to":1}"#).await;
    read_until(&mut stream, "\r\n0\r\n\r\n").await;
    let request =
        format!("POST /rpc/Arith.multiply HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", world.place);
    stream.write_all(format!("{request}Content-Length: 5\r\n\r\n[6,7]").as_bytes()).await.unwrap();
    assert_eq!(read(&mut stream).await.body, "42");
}

#[tokio::test(start_paused = true)]
async fn comments_are_sent_while_there_are_no_items() {
    let world = World::new().await;
    let mut router = router(world.handle.clone(), HttpOptions::default().gateway(Gateway::default()));
    let request = |accept: &str| {
        Request::post("/rpc/Feed.silent")
            .header("host", "localhost")
            .header("accept", accept)
            .body(Body::from("{}"))
    };
    let began = Instant::now();
    let mut events = router.call(request("text/event-stream").unwrap()).await.unwrap();
    // The head waits for the first item that long.
    assert_eq!((events.status().as_u16(), began.elapsed().as_secs()), (200, 15));
    let mut next = async || {
        let body = std::pin::Pin::new(events.body_mut());
        let mut body = body;
        let frame = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await;
        frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap())
    };
    for seconds in [15, 30, 45] {
        assert_eq!(next().await.as_deref(), Some(":\n\n"));
        assert_eq!(began.elapsed().as_secs(), seconds);
    }
    world.counts.release.cancel();
    assert_eq!(next().await.as_deref(), Some("event: result\ndata: \"released\"\n\n"));
    assert_eq!(next().await, None);
}
