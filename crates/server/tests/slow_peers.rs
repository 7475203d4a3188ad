//! DESIGN.md, "Time", and PROTOCOL.md, 5: peers that are silent, slow, or never read.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use farcall_protocol::{ClientOffer, Code, HeaderRef, KeepAlive, Kind, Seq};
use farcall_server::Limits;
use farcall_transport::{PeerAddress, Stream};
use serde_json::json;
use support::{Counted, Raw, millis, none, secs, serve};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn silent_client_is_pinged_after_10_s_and_dead_after_15() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    let start = Instant::now();
    let message = client.next().await.unwrap();
    assert_eq!((message.header.kind, start.elapsed().as_secs()), (Kind::Ping, 10));
    client.assert_closed().await;
    assert_eq!(start.elapsed().as_secs(), 15);
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn client_that_answers_pings_stays_connected() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let seq = client.request("T.sleep", json!({"n": 120_000})).await;
    assert_eq!(client.response().await.seq(), seq);
}

#[tokio::test(start_paused = true)]
async fn any_byte_counts_as_liveness() {
    let server = serve(Limits::default().frame_timeout(secs(600)));
    let mut client = server.connect().await;
    let bytes = client.encode(
        &HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, Seq(1)) },
        Bytes::new(),
    );
    for byte in &bytes[..bytes.len() - 1] {
        client.write(&[*byte]).await;
        sleep(secs(9)).await;
    }
    client.write(&bytes[bytes.len() - 1..]).await;
    let message = client.next().await.unwrap();
    assert_eq!(message.header.kind, Kind::Response, "not pinged once");
}

#[tokio::test(start_paused = true)]
async fn keep_alive_times_are_configurable() {
    let times = KeepAlive::new(secs(2), secs(1));
    let server = serve(Limits::default().keep_alive(times));
    let mut client = server.connect().await;
    let start = Instant::now();
    assert_eq!(client.next().await.unwrap().header.kind, Kind::Ping);
    assert_eq!(start.elapsed().as_secs(), 2);
    client.assert_closed().await;
    assert_eq!(start.elapsed().as_secs(), 3);
}

/// Asks for an answer of 60,000 bytes and more, over a link that holds a thousand of them.
async fn ask_over_a_narrow_link(server: &support::Running) -> Raw {
    let (near, far) = tokio::io::duplex(1000);
    server.handle.serve_stream(Stream::new(far), PeerAddress::Memory);
    let mut client = Raw::shake(near, &ClientOffer::default()).await.unwrap();
    client.request("T.big", json!({"n": 60_000})).await;
    client
}

/// Takes a thousand bytes each second of virtual time, and answers no ping.
async fn take_slowly(client: &mut Raw, seconds: u64) {
    for _ in 0..seconds {
        sleep(secs(1)).await;
        client.frames.stream.read_exact(&mut [0; 1000]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn answer_may_take_longer_to_be_sent_than_a_client_may_be_silent() {
    let server = serve(Limits::default());
    let mut client = ask_over_a_narrow_link(&server).await;
    // The answer, and the ping behind it.
    take_slowly(&mut client, 60).await;
    assert_eq!(server.handle.connections(), 1);
    client.send(&HeaderRef::new(Kind::Pong, Seq(1)), Bytes::new()).await;
    sleep(secs(9)).await;
    assert_eq!(server.handle.connections(), 1);
}

#[tokio::test(start_paused = true)]
async fn client_that_no_longer_takes_an_answer_is_dead_after_5_s() {
    let server = serve(Limits::default());
    let mut client = ask_over_a_narrow_link(&server).await;
    take_slowly(&mut client, 30).await;
    sleep(millis(4900)).await;
    assert_eq!(server.handle.connections(), 1);
    sleep(millis(200)).await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn client_that_takes_nothing_is_dead_after_15_s() {
    let server = serve(Limits::default());
    let _client = ask_over_a_narrow_link(&server).await;
    sleep(millis(14_900)).await;
    assert_eq!(server.handle.connections(), 1);
    sleep(millis(200)).await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_than_10_pings_in_5_s_are_a_protocol_error() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for n in 1..=30 {
        client.send(&HeaderRef::new(Kind::Ping, Seq(n)), Bytes::new()).await;
        let pong = client.recv().await.header;
        assert_eq!((pong.kind, pong.seq), (Kind::Pong, Seq(n)));
        sleep(millis(500)).await;
    }
    for n in 0..11 {
        client.send(&HeaderRef::new(Kind::Ping, Seq(n)), Bytes::new()).await;
    }
    loop {
        let header = client.recv().await.header;
        if header.kind == Kind::Goaway {
            assert_eq!(header.error.unwrap().message, "more than 10 pings in 5 s");
            break;
        }
        assert_eq!(header.kind, Kind::Pong);
    }
    client.assert_closed().await;
}

#[tokio::test(start_paused = true)]
async fn incomplete_message_times_out() {
    let server = serve(Limits::default().frame_timeout(secs(3)));
    let mut client = server.connect().await;
    client.call("T.count", none()).await.value();
    sleep(secs(5)).await;
    client.request("T.hang", none()).await;
    let start = Instant::now();
    for _ in 0..2 {
        client.write(&[0]).await;
        sleep(secs(1)).await;
    }
    let said = client.assert_goaway(2, Code::DeadlineExceeded).await;
    assert_eq!((&said[..], start.elapsed().as_secs()), ("a message was not complete within 3s", 3));
    // The goaway is sent once, and not again while it closes.
    client.assert_closed().await;
    server.assert_nothing_left().await;
    sleep(secs(2)).await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn incomplete_message_of_a_peer_that_reads_nothing_closes_the_connection() {
    let limits = Limits::default().frame_timeout(secs(3)).write_timeout(secs(5));
    let server = serve(limits);
    let mut client = server.connect().await;
    client.request("T.big", json!({"n": 200_000})).await;
    client.write(&[0]).await;
    sleep(secs(4)).await;
    let buffered = server.handle.buffered_bytes();
    sleep(millis(900)).await;
    assert_eq!(server.handle.buffered_bytes(), buffered, "one goaway, not one after the other");
    sleep(secs(2)).await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_nothing_is_closed_at_the_write_timeout() {
    let server = serve(Limits::default().write_timeout(secs(7)));
    let mut client = server.connect().await;
    client.request("T.big", json!({"n": 200_000})).await;
    sleep(millis(6900)).await;
    assert_eq!(server.handle.connections(), 1);
    sleep(millis(200)).await;
    assert_eq!((server.handle.connections(), server.handle.buffered_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn peer_that_reads_nothing_after_a_protocol_error_is_closed() {
    let server = serve(Limits::default().write_timeout(secs(7)));
    let mut client = server.connect().await;
    client.request("T.big", json!({"n": 200_000})).await;
    sleep(millis(1)).await;
    client.write(&[0xff; 4]).await;
    sleep(secs(8)).await;
    assert_eq!((server.handle.connections(), server.handle.buffered_bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn slow_reader_stays_connected() {
    let server = serve(Limits::default().write_timeout(secs(3)));
    let mut client = server.connect().await;
    client.request("T.big", json!({"n": 500_000})).await;
    let mut left = 500_000;
    let mut buffer = vec![0; 20_000];
    while left > 0 {
        sleep(secs(2)).await;
        left -= client.frames.stream.read(&mut buffer).await.expect("it is open").min(left);
        client.send(&HeaderRef::new(Kind::Pong, Seq(0)), Bytes::new()).await;
    }
    assert_eq!(server.handle.connections(), 1);
}

/// Requests more than the outbox and the pipe hold, without reading; returns the number of requests.
async fn ask_without_reading(client: &mut Raw, limit: usize) -> u64 {
    for n in 0..limit {
        let seq = client.next_seq();
        let header = HeaderRef { service_method: "T.big", ..HeaderRef::new(Kind::Request, seq) };
        let body = client.codec().encode(&json!({"n": 10_000})).unwrap();
        let bytes = client.encode(&header, body);
        if tokio::time::timeout(millis(100), client.write(&bytes)).await.is_err() {
            return n as u64;
        }
    }
    panic!("the server reads without end");
}

#[tokio::test(start_paused = true)]
async fn full_outbox_stops_reading_from_that_peer_only() {
    let server = serve(Limits::default().outbox_bytes(100_000));
    let mut client = server.connect().await;
    let mut other = server.connect().await;
    let asked = ask_without_reading(&mut client, 20_000).await;
    assert!(server.handle.buffered_bytes() < 400_000, "{}", server.handle.buffered_bytes());
    assert_eq!(other.call("T.echo", json!({"text": "quick"})).await.value(), "quick");
    // The last write was cut in the middle, so no more is requested. The server goes on when the client reads.
    for seq in 1..=asked {
        let answer = client.response().await;
        assert_eq!(answer.seq(), Seq(seq));
    }
    drop(client);
    sleep(millis(1)).await;
    assert_eq!(server.handle.connections(), 1);
    drop(other);
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn peer_that_is_not_read_from_does_not_time_out() {
    let limits = Limits::default().outbox_bytes(100_000).frame_timeout(secs(5)).write_timeout(secs(100));
    let server = serve(limits);
    let mut client = server.connect().await;
    let asked = ask_without_reading(&mut client, 20_000).await;
    sleep(secs(60)).await;
    for seq in 1..=asked {
        let message = client.recv().await;
        assert_eq!((message.header.kind, message.header.seq), (Kind::Response, Seq(seq)));
    }
}

#[tokio::test(start_paused = true)]
async fn incomplete_message_does_not_time_out_while_reading_is_paused() {
    let limits = Limits::default().outbox_bytes(1000).frame_timeout(secs(5)).write_timeout(secs(100));
    let server = serve(limits);
    let mut client = server.connect().await;
    let first = client.request("T.big_later", json!({"n": 200_000})).await;
    let seq = client.next_seq();
    let header = HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, seq) };
    let bytes = client.encode(&header, Bytes::new());
    client.write(&bytes[..1]).await;
    // The answer fills the outbox, so that nothing more is read.
    sleep(millis(50)).await;
    client.write(&bytes[1..2]).await;
    sleep(secs(30)).await;
    assert_eq!(client.response().await.seq(), first);
    client.write(&bytes[2..]).await;
    assert_eq!(client.response().await.seq(), seq);
}

#[tokio::test(start_paused = true)]
async fn answers_of_tasks_count_against_the_outbox() {
    let server = serve(Limits::default().outbox_bytes(1));
    let mut client = server.connect().await;
    for n in 0..300 {
        client.request("T.yields", json!({"n": n % 3})).await;
    }
    for _ in 0..300 {
        client.response().await.value();
    }
    client.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn outbox_limit_of_zero_still_answers() {
    let server = serve(Limits::default().outbox_bytes(0));
    let mut client = server.connect().await;
    client.call("T.count", none()).await.value();
    client.call("T.sleep", json!({"n": 1})).await.value();
}

#[tokio::test(start_paused = true)]
async fn full_buffers_refuse_large_messages_and_serve_small_calls() {
    let server = serve(Limits::default().buffered_bytes(300_000));
    let mut greedy = server.connect().await;
    let mut other = server.connect().await;
    greedy.request("T.big", json!({"n": 390_000})).await;
    sleep(millis(1)).await;
    other.call("T.count", none()).await.value();
    // What it has sent of a large message is discarded, and the connection goes on.
    let answer = other.call("T.count", json!({"ignored": "x".repeat(200_000)})).await;
    let said = answer.assert_error(Code::ResourceExhausted, farcall_protocol::Execution::Refused);
    assert_eq!(said, "the server's buffers are full: 300000 bytes");
    other.call("T.count", none()).await.value();
    // When the first client reads, there is space again.
    greedy.response().await.value();
    sleep(millis(1)).await;
    other.call("T.count", json!({"ignored": "x".repeat(100_000)})).await.value();
}

#[tokio::test(start_paused = true)]
async fn bodies_of_calls_in_flight_count_against_the_buffer_limit() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(client.request("T.wait", json!({"ignored": "x".repeat(200_000)})).await);
    }
    sleep(millis(1)).await;
    assert!(server.handle.buffered_bytes() >= 3 * 196_000, "{}", server.handle.buffered_bytes());
    for seq in calls {
        client.cancel(seq).await;
        client.response().await;
    }
    drop(client);
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn answer_without_buffer_space_is_replaced_by_an_error() {
    let server = serve(Limits::default().buffered_bytes(300_000));
    let (mut client, mut greedy) = (server.connect().await, server.connect().await);
    let seq = client.request("T.big_later", json!({"n": 40_000})).await;
    greedy.request("T.big", json!({"n": 390_000})).await;
    let answer = client.response().await;
    assert_eq!(answer.seq(), seq);
    answer.assert_error(Code::ResourceExhausted, farcall_protocol::Execution::Done);
    greedy.response().await.value();
}

#[tokio::test(start_paused = true)]
async fn connection_is_not_polled_needlessly() {
    let server = serve(Limits::default().keep_alive(KeepAlive::new(secs(50), secs(5))));
    let (near, far) = tokio::io::duplex(support::PIPE);
    let polls = Arc::default();
    let counted = Counted { inner: far, polls: Arc::clone(&polls) };
    server.handle.serve_stream(Stream::new(counted), PeerAddress::Memory);
    let mut client = Raw::shake(near, &ClientOffer::default()).await.unwrap();
    let over = |what: &str, most: usize| {
        let polls = polls.swap(0, SeqCst);
        assert!(polls <= most, "{what}: {polls} polls");
    };
    over("the handshake", 40);
    sleep(secs(9)).await;
    over("idle", 4);
    client.request("T.wait", none()).await;
    client.write(&[0]).await;
    sleep(secs(9)).await;
    over("with a call in flight and half a message", 16);
    server.stage.gate.add_permits(1);
    client.response().await.value();
    sleep(secs(9)).await;
    over("an answer", 16);
    client.write(&[0, 0, 3, 0x92, 3, 1, 0, 0, 0, 0]).await;
    client.request("T.big", json!({"n": 200_000})).await;
    sleep(secs(20)).await;
    over("a peer that reads nothing", 60);
    client.response().await.value();
    client.request("T.wait", none()).await;
    client.goaway().await;
    tokio::io::AsyncWriteExt::shutdown(&mut client.frames.stream).await.unwrap();
    sleep(secs(60)).await;
    over("a peer that has half closed", 40);
    server.stage.gate.add_permits(1);
    client.response().await.value();
    client.assert_closed().await;
}
