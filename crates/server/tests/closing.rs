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
async fn behind_the_clients_goaway_what_is_in_flight_is_answered_and_then_it_closes() {
    for half_closed in [false, true] {
        let server = serve(Limits::default());
        let mut client = server.connect().await;
        let seq = client.request("T.wait", none()).await;
        client.goaway().await;
        if half_closed {
            client.stream.shutdown().await.unwrap();
        }
        sleep(millis(1)).await;
        server.stage.gate.add_permits(1);
        let answer = client.response().await;
        assert_eq!((answer.seq(), answer.value()), (seq, json!("done")));
        client.expect_end().await;
        drop(client);
        server.expect_nothing_left().await;
        assert_eq!(server.handle.connections(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_said_goodbye_and_closed_its_half_is_not_asked_whether_it_lives() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.sleep", json!({"n": 60_000})).await;
    client.goaway().await;
    client.stream.shutdown().await.unwrap();
    // It cannot answer a ping any more.
    let message = client.next().await.unwrap();
    assert_eq!(message.header.kind, Kind::Response, "{message:?}");
    client.expect_end().await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_that_says_goaway_is_closed() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.goaway().await;
    client.expect_end().await;
    // Though it keeps its own half open.
    sleep(millis(1100)).await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_behind_the_clients_goaway_is_a_protocol_error() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    client.goaway().await;
    client.request("T.count", none()).await;
    let said = client.expect_goaway(1, Code::InvalidArgument).await;
    assert_eq!(said, "request 2 follows a goaway");
    client.expect_end().await;
    server.expect_nothing_left().await;
    assert_eq!(server.stage.begun(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_finishes_what_it_began() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let mut idle = server.connect().await;
    let seq = client.request("T.wait", none()).await;
    sleep(millis(1)).await;
    server.handle.stop();
    assert_eq!(client.expect_goaway(1, Code::Unavailable).await, "the server is stopping");
    idle.expect_goaway(0, Code::Unavailable).await;
    idle.expect_end().await;
    assert_eq!(server.handle.health(), farcall_protocol::describe::HealthStatus::Draining);
    // Later requests get no answer, but pings do.
    client.request("T.count", none()).await;
    client.send(&HeaderRef::new(Kind::Ping, Seq(5)), Bytes::new()).await;
    assert_eq!(client.recv().await.header.kind, Kind::Pong);
    client.expect_silence().await;
    server.stage.gate.add_permits(1);
    let answer = client.response().await;
    assert_eq!((answer.seq(), answer.value()), (seq, json!("done")));
    client.expect_end().await;
    drop((client, idle));
    timeout(secs(1), server.serving).await.unwrap().unwrap();
    assert_eq!((server.stage.begun(), server.handle.connections()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_is_done_within_its_limit_though_handlers_hang() {
    let server = serve(Limits::default().drain_timeout(secs(5)));
    let mut client = server.connect().await;
    let seq = client.request("T.hang", none()).await;
    sleep(millis(1)).await;
    server.handle.stop();
    client.expect_goaway(1, Code::Unavailable).await;
    let start = Instant::now();
    let answer = client.response().await;
    assert_eq!((answer.seq(), start.elapsed().as_secs()), (seq, 5));
    let said = answer.expect_error(Code::Cancelled, Execution::Maybe);
    assert_eq!(said, "`T.hang` was stopped: the server was stopped");
    client.expect_end().await;
    server.serving.await.unwrap();
    assert!(start.elapsed() <= secs(8));
    assert_eq!(
        (server.stage.alive(), server.handle.connections(), server.handle.buffered_bytes()),
        (0, 0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_does_not_keep_the_server_from_stopping() {
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
async fn serving_that_is_dropped_stops_everything_at_once() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    let mut shaking = support::open(&server.handle);
    sleep(millis(1)).await;
    server.serving.abort();
    client.expect_end().await;
    let mut said = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut shaking, &mut said).await.unwrap();
    server.expect_nothing_left().await;
    assert_eq!(server.handle.connections(), 0);
    assert_eq!(server.handle.health(), farcall_protocol::describe::HealthStatus::Draining);
}

#[tokio::test(start_paused = true)]
async fn a_server_without_listeners_serves_until_it_is_stopped() {
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
async fn a_protocol_error_is_told_cuts_what_is_in_flight_and_closes_within_a_second() {
    for (what, bytes, code) in broken() {
        let server = serve(Limits::default());
        let mut client = server.connect().await;
        client.request("T.hang", none()).await;
        sleep(millis(1)).await;
        client.write(&bytes).await;
        let said = client.expect_goaway(1, code).await;
        assert!(!said.is_empty(), "{what}");
        // Its sending side is shut, and what is in flight cut.
        client.expect_end().await;
        server.expect_nothing_left().await;
        assert_eq!(server.handle.connections(), 1, "{what}: it discards input");
        let start = Instant::now();
        while client.stream.write_all(b"more of it").await.is_ok() {
            sleep(millis(50)).await;
        }
        assert!(start.elapsed() <= millis(1100), "{what}: {:?}", start.elapsed());
        assert_eq!(server.handle.connections(), 0, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_protocol_error_is_told_in_json_too() {
    let server = serve(Limits::default());
    let terms = ClientOffer { codec: Codec::Json, ..ClientOffer::default() };
    for header in [&b"{\"kind\":\"teapot\",\"seq\":1}"[..], b"{\"kind\":\"request\"}", b"[]", b"{"] {
        let mut client = Raw::connect_with(&server.handle, &terms).await;
        client.write(&[&support::frame(header)[..], &[0; 4]].concat()).await;
        client.expect_goaway(0, Code::InvalidArgument).await;
        client.expect_end().await;
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_were_there_leave_before_the_goaway() {
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
    client.expect_goaway(3, Code::ResourceExhausted).await;
    client.expect_end().await;
}

/// The answer is left, and the place given back, in one step: a connection that looks in between
/// must not close as if there were nothing to say.
#[test]
fn the_last_answer_is_not_lost_when_a_connection_closes() {
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
