//! PROTOCOL.md, 3: goaway from either side, protocol errors, and how a connection ends.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use bytes::Bytes;
use farcall_protocol::{ClientOffer, Code, Codec, Execution, HeaderRef, Kind, Seq};
use farcall_server::Limits;
use serde_json::json;
use support::{Raw, millis, none, secs, serve};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(start_paused = true)]
async fn calls_before_the_clients_goaway_are_answered_before_closing() {
    for half_closed in [false, true] {
        let server = serve(Limits::default());
        let mut client = server.connect().await;
        let seq = client.request("T.wait", none()).await;
        client.goaway().await;
        if half_closed {
            client.frames.stream.shutdown().await.unwrap();
        }
        sleep(millis(1)).await;
        server.stage.gate.add_permits(1);
        let answer = client.response().await;
        assert_eq!((answer.seq(), answer.value()), (seq, json!("done")));
        client.assert_closed().await;
        drop(client);
        server.assert_nothing_left().await;
        assert_eq!(server.handle.connections(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn half_closed_client_after_goaway_is_not_pinged() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.sleep", json!({"n": 60_000})).await;
    client.goaway().await;
    client.frames.stream.shutdown().await.unwrap();
    // It could not answer a ping.
    let message = client.next().await.unwrap();
    assert_eq!(message.header.kind, Kind::Response, "{message:?}");
    client.assert_closed().await;
}

#[tokio::test(start_paused = true)]
async fn idle_client_that_sends_goaway_is_closed() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.goaway().await;
    client.assert_closed().await;
    // The client keeps its own half open.
    sleep(millis(1100)).await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn request_after_the_clients_goaway_is_a_protocol_error() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    client.goaway().await;
    client.request("T.count", none()).await;
    let said = client.assert_goaway(1, Code::InvalidArgument).await;
    assert_eq!(said, "request 2 follows a goaway");
    client.assert_closed().await;
    server.assert_nothing_left().await;
    assert_eq!(server.stage.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_server_finishes_running_calls() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let mut idle = server.connect().await;
    let seq = client.request("T.wait", none()).await;
    sleep(millis(1)).await;
    server.handle.stop();
    assert_eq!(client.assert_goaway(1, Code::Unavailable).await, "the server is stopping");
    idle.assert_goaway(0, Code::Unavailable).await;
    idle.assert_closed().await;
    assert_eq!(server.handle.health(), farcall_protocol::describe::HealthStatus::Draining);
    // Later requests get no answer, but pings do.
    client.request("T.count", none()).await;
    client.send(&HeaderRef::new(Kind::Ping, Seq(5)), Bytes::new()).await;
    assert_eq!(client.recv().await.header.kind, Kind::Pong);
    client.assert_silent().await;
    server.stage.gate.add_permits(1);
    let answer = client.response().await;
    assert_eq!((answer.seq(), answer.value()), (seq, json!("done")));
    client.assert_closed().await;
    drop((client, idle));
    timeout(secs(1), server.serving).await.unwrap().unwrap();
    assert_eq!((server.stage.begun(), server.handle.connections()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn stopping_server_cancels_hanging_handlers_at_the_drain_timeout() {
    let server = serve(Limits::default().drain_timeout(secs(5)));
    let mut client = server.connect().await;
    let seq = client.request("T.hang", none()).await;
    sleep(millis(1)).await;
    server.handle.stop();
    client.assert_goaway(1, Code::Unavailable).await;
    let start = Instant::now();
    let answer = client.response().await;
    assert_eq!((answer.seq(), start.elapsed().as_secs()), (seq, 5));
    let said = answer.assert_error(Code::Cancelled, Execution::Maybe);
    assert_eq!(said, "`T.hang` was stopped: the server was stopped");
    client.assert_closed().await;
    server.serving.await.unwrap();
    assert!(start.elapsed() <= secs(8));
    assert_eq!(
        (server.stage.alive(), server.handle.connections(), server.handle.buffered_bytes()),
        (0, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_nothing_does_not_block_a_stop() {
    let server = serve(Limits::default().drain_timeout(secs(5)));
    let mut client = server.connect().await;
    client.request("T.big", json!({"n": 1_000_000})).await;
    sleep(millis(1)).await;
    server.handle.stop();
    let start = Instant::now();
    server.serving.await.unwrap();
    assert!(start.elapsed() <= secs(8), "{:?}", start.elapsed());
    assert_eq!((server.handle.connections(), server.handle.buffered_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn dropped_serve_future_stops_everything() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    let mut shaking = support::open(&server.handle);
    sleep(millis(1)).await;
    server.serving.abort();
    client.assert_closed().await;
    let mut said = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut shaking, &mut said).await.unwrap();
    server.assert_nothing_left().await;
    assert_eq!(server.handle.connections(), 0);
    assert_eq!(server.handle.health(), farcall_protocol::describe::HealthStatus::Draining);
}

#[tokio::test(start_paused = true)]
async fn server_without_listeners_serves_until_stopped() {
    let server = serve(Limits::default());
    sleep(secs(100)).await;
    assert!(!server.serving.is_finished());
    server.connect().await.call("T.count", none()).await.value();
    server.handle.stop();
    server.serving.await.unwrap();
}

/// Every protocol error, as bytes in MessagePack behind one request that was accepted.
fn broken() -> Vec<(&'static str, Vec<u8>, Code)> {
    let header = |bytes: &[u8]| [&support::frame(bytes)[..], &[0; 4]].concat();
    let invalid = Code::InvalidArgument;
    vec![
        ("an unknown kind", header(&[0x92, 7, 9]), invalid),
        ("a kind of streams", header(&[0x92, 8, 9]), invalid),
        ("a kind that is the server's", header(&[0x92, 2, 9]), invalid),
        ("a header that is no array", header(&[0xc0]), invalid),
        ("an empty header", header(&[]), invalid),
        ("a header cut short", header(&[0x93, 1, 9]), invalid),
        ("a header with bytes behind it", header(&[0x92, 1, 9, 0]), invalid),
        ("a seq that is no number", header(&[0x92, 1, 0xa1, b'9']), invalid),
        ("a seq that did not grow", header(&[0x92, 1, 1]), invalid),
        ("a seq of zero", header(&[0x92, 1, 0]), invalid),
        ("a header over 64 KiB", 65_537_u32.to_be_bytes().to_vec(), Code::ResourceExhausted),
        ("a frame of 4 GiB", vec![0xff; 4], Code::ResourceExhausted),
        (
            "a body over the limit",
            [&support::frame(&[0x92, 1, 9])[..], &4_194_305_u32.to_be_bytes()].concat(),
            Code::ResourceExhausted,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn protocol_error_is_reported_drops_calls_and_closes_within_a_second() {
    for (what, bytes, code) in broken() {
        let server = serve(Limits::default());
        let mut client = server.connect().await;
        client.request("T.hang", none()).await;
        sleep(millis(1)).await;
        client.write(&bytes).await;
        let said = client.assert_goaway(1, code).await;
        assert!(!said.is_empty(), "{what}");
        // Its sending side is shut, and calls in flight are dropped.
        client.assert_closed().await;
        server.assert_nothing_left().await;
        assert_eq!(server.handle.connections(), 1, "{what}: it discards input");
        let start = Instant::now();
        while client.frames.stream.write_all(b"more of it").await.is_ok() {
            sleep(millis(50)).await;
        }
        assert!(start.elapsed() <= millis(1100), "{what}: {:?}", start.elapsed());
        assert_eq!(server.handle.connections(), 0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn protocol_error_is_reported_on_a_json_connection() {
    let server = serve(Limits::default());
    let terms = ClientOffer::default().codec(Codec::Json);
    for header in [&b"{\"kind\":\"teapot\",\"seq\":1}"[..], b"{\"kind\":\"request\"}", b"[]", b"{"] {
        let mut client = Raw::connect_with(&server.handle, &terms).await;
        client.write(&[&support::frame(header)[..], &[0; 4]].concat()).await;
        client.assert_goaway(0, Code::InvalidArgument).await;
        client.assert_closed().await;
    }
}

#[tokio::test(start_paused = true)]
async fn ready_answers_are_sent_before_the_goaway() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let seq = client.next_seq();
        let header = HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, seq) };
        bytes.extend(client.encode(&header, Bytes::new()));
    }
    bytes.extend([0xff; 4]);
    client.write(&bytes).await;
    for seq in 1..=3 {
        assert_eq!(client.response().await.seq(), Seq(seq));
    }
    client.assert_goaway(3, Code::ResourceExhausted).await;
    client.assert_closed().await;
}

/// The answer is left, and the place given back, in one step: a connection that looks in between
/// must not close as if there were nothing to say.
#[test]
fn last_answer_is_sent_before_the_connection_closes() {
    let stage = support::stage();
    let builder = support::builder(&stage);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    runtime.block_on(async {
        let server = support::serve_with(stage, builder);
        for n in 0..500 {
            let mut client = server.connect().await;
            client.request("T.yields", json!({"n": n % 5 + 1})).await;
            client.goaway().await;
            assert_eq!(client.response().await.value(), n % 5 + 1);
        }
    });
}
