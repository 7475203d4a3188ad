//! PROTOCOL.md, 3: requests and their answers, one-way calls, sizes, compression, flags.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::{
    ClientOffer, Code, Codec, Compression, Execution, Flags, HeaderRef, Kind, MaxFrameBytes, Metadata, Seq,
};
use farcall_server::{Handler, Limits, Request, Response, ResponseFuture};
use serde_json::{Value, json};
use support::{Raw, builder, none, serve, serve_with, stage};

const REFUSED: Execution = Execution::Refused;
const DONE: Execution = Execution::Done;

#[tokio::test(start_paused = true)]
async fn answers_are_sent_as_soon_as_they_are_ready() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let slow = client.request("T.sleep", json!({"n": 50})).await;
    let quick = client.request("T.sleep", json!({"n": 20})).await;
    let now = client.request("T.echo", json!({"text": "now"})).await;
    let start = tokio::time::Instant::now();
    for seq in [now, quick, slow] {
        assert_eq!(client.response().await.seq(), seq);
    }
    // They are sent as soon as they are ready.
    assert!(start.elapsed() < support::millis(60));
    client.assert_silent().await;
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn json_request_gets_a_json_answer() {
    let server = serve(Limits::default());
    let terms = ClientOffer::default().codec(Codec::Json);
    let mut client = Raw::connect_with(&server.handle, &terms).await;
    let answer = client.call("T.echo", json!({"text": "hello"})).await;
    assert_eq!(&answer.message.body[..], br#""hello""#);
    let answer = client.call("T.fails", json!({"text": "no"})).await;
    assert_eq!(answer.assert_error(Code::Application, DONE), "no");
    assert_eq!(&answer.message.body[..], br#""no""#);
}

#[tokio::test(start_paused = true)]
async fn unknown_method_is_unimplemented() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for (name, said) in [
        ("T.nothing", "no method `nothing` in service `T`"),
        ("U.echo", "no service `U`"),
        ("echo", "no method `echo`: a name is `Service.method`"),
        ("", "no method ``: a name is `Service.method`"),
        ("U.\u{1b}[2J", "no service `U`"),
    ] {
        let answer = client.call(name, none()).await;
        assert_eq!(answer.assert_error(Code::Unimplemented, REFUSED), said);
    }
    client.call("T.count", none()).await.value();
}

#[tokio::test(start_paused = true)]
async fn undecodable_body_is_refused_and_the_connection_stays_open() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for body in
        [&b"\xc1"[..], b"\x81\xa4text", b"\x93\x01\x02\x03", b"\x80\x80", b"\xdd\xff\xff\xff\xff", b""]
    {
        let seq = client.next_seq();
        let header = HeaderRef { service_method: "T.echo", ..HeaderRef::new(Kind::Request, seq) };
        client.send(&header, body.to_vec()).await;
        let answer = client.response().await;
        assert_eq!(answer.seq(), seq);
        let said = answer.assert_error(Code::InvalidArgument, REFUSED);
        assert!(said.starts_with("arguments of `T.echo`: "), "{said}");
    }
    assert_eq!(client.call("T.echo", json!({"text": "on"})).await.value(), "on");
}

#[tokio::test(start_paused = true)]
async fn arguments_may_be_a_map_an_array_or_nothing() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    assert_eq!(client.call("T.echo", json!(["list"])).await.value(), "list");
    assert_eq!(client.call("T.echo", json!({"text": "map", "more": 1})).await.value(), "map");
    assert_eq!(client.call("T.count", json!(null)).await.value(), Value::Null);
    let seq = client.next_seq();
    let header = HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, seq) };
    client.send(&header, "").await;
    assert_eq!(client.response().await.value(), Value::Null);
}

#[tokio::test(start_paused = true)]
async fn request_past_max_in_flight_is_refused() {
    let server = serve(Limits::default().max_in_flight(2));
    let mut client = server.connect().await;
    let first = client.request("T.wait", none()).await;
    client.request("T.wait", none()).await;
    let answer = client.call("T.wait", none()).await;
    let said = answer.assert_error(Code::ResourceExhausted, REFUSED);
    assert_eq!(said, "2 calls are in flight on this connection");
    // Other connections are not affected.
    server.connect().await.call("T.count", none()).await.value();
    client.cancel(first).await;
    assert_eq!(client.response().await.seq(), first);
    // The slot is free as soon as the call is answered.
    client.request("T.wait", none()).await;
    server.stage.gate.add_permits(2);
    for _ in 0..2 {
        assert_eq!(client.response().await.value(), "done");
    }
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn request_past_max_in_flight_in_all_is_refused() {
    let server = serve(Limits::default().max_in_flight_in_all(2));
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    one.request("T.wait", none()).await;
    other.request("T.wait", none()).await;
    tokio::time::sleep(support::millis(1)).await;
    for client in [&mut one, &mut other] {
        let answer = client.call("T.wait", none()).await;
        let said = answer.assert_error(Code::ResourceExhausted, REFUSED);
        assert_eq!(said, "2 calls are in flight on this server");
    }
    server.stage.gate.add_permits(1);
    assert_eq!(one.response().await.value(), "done");
    other.request("T.wait", none()).await;
    server.stage.gate.add_permits(2);
    for _ in 0..2 {
        assert_eq!(other.response().await.value(), "done");
    }
}

#[tokio::test(start_paused = true)]
async fn one_way_call_is_never_answered() {
    let server = serve(Limits::default().max_in_flight(1));
    let mut client = server.connect().await;
    let one_way = |header: &mut HeaderRef<'_>| header.flags = Flags::ONE_WAY;
    for (method, args) in [
        ("T.count", none()),
        ("T.nothing", none()),
        ("T.echo", none()),
        ("T.panic_first", none()),
        ("T.panic_later", none()),
        ("T.fails", json!({"text": ""})),
    ] {
        client.request_with(method, args, one_way).await;
        tokio::time::sleep(support::millis(5)).await;
    }
    let held = client.request_with("T.wait", none(), one_way).await;
    // Past the limit it is dropped.
    client.request_with("T.count", none(), one_way).await;
    client.cancel(held).await;
    client.assert_silent().await;
    assert_eq!(server.stage.begun(), 2);
    server.assert_nothing_left().await;
    assert_eq!(server.in_flight_stats(), 0);
}

#[tokio::test(start_paused = true)]
async fn unknown_flags_and_unmatched_pongs_and_cancels_are_ignored() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    // Flags 0xf0 and an eighth element, as a later version may send them.
    client.write(&[0, 0, 0, 17, 0x98, 1, 1, 0xa7]).await;
    client.write(b"T.count").await;
    client.write(&[0, 0xc0, 0xc0, 0xcc, 0xf0, 1]).await;
    client.write(&[0, 0, 0, 0]).await;
    let _ = client.next_seq();
    client.send(&HeaderRef::new(Kind::Pong, Seq(77)), "").await;
    client.cancel(Seq(1)).await;
    client.cancel(Seq(99)).await;
    assert_eq!(client.response().await.value(), Value::Null);
    client.call("T.count", none()).await.value();
    client.assert_silent().await;
}

fn lz4() -> ClientOffer {
    ClientOffer::default().compression(Compression::built_in())
}

#[tokio::test(start_paused = true)]
async fn bodies_are_compressed_both_ways_if_worthwhile() {
    let server = serve(Limits::default());
    let mut client = Raw::connect_with(&server.handle, &lz4()).await;
    let text = "tell me again ".repeat(1000);
    let seq = client.next_seq();
    let body = client.codec().encode(&json!({"text": text})).unwrap();
    let body = client.negotiated.compression.unwrap().compress(&body).unwrap();
    let header = HeaderRef {
        service_method: "T.echo",
        flags: Flags::COMPRESSED,
        ..HeaderRef::new(Kind::Request, seq)
    };
    client.send(&header, body).await;
    let answer = client.response().await;
    assert!(answer.is_compressed() && answer.message.body.len() < 1000);
    assert_eq!(answer.value(), text);
    // Short or incompressible bodies are not compressed.
    assert!(!client.call("T.big", json!({"n": 100})).await.is_compressed());
    assert!(!client.call("T.noise", json!({"n": 5000})).await.is_compressed());
}

#[tokio::test(start_paused = true)]
async fn compressed_body_with_a_wrong_length_is_refused() {
    let server = serve(Limits::default());
    let mut client = Raw::connect_with(&server.handle, &lz4()).await;
    let bomb = [&u32::MAX.to_le_bytes()[..], &[0; 100]].concat();
    let short = [&1_000_000_u32.to_le_bytes()[..], &[0; 100]].concat();
    for body in [bomb, short, vec![1, 2], Vec::new()] {
        let seq = client.next_seq();
        let header = HeaderRef {
            service_method: "T.echo",
            flags: Flags::COMPRESSED,
            ..HeaderRef::new(Kind::Request, seq)
        };
        client.send(&header, body).await;
        client.response().await.assert_error(Code::InvalidArgument, REFUSED);
    }
    client.call("T.count", none()).await.value();
}

#[tokio::test(start_paused = true)]
async fn compressed_body_without_negotiation_is_refused() {
    let stage = stage();
    let builder = builder(&stage).without_compression();
    let server = serve_with(stage, builder);
    let mut client = Raw::connect_with(&server.handle, &lz4()).await;
    assert_eq!(client.negotiated.compression, None);
    client.request_with("T.count", none(), |header| header.flags = Flags::COMPRESSED).await;
    client.response().await.assert_error(Code::InvalidArgument, REFUSED);
    assert!(!client.call("T.big", json!({"n": 5000})).await.is_compressed());
}

#[tokio::test(start_paused = true)]
async fn response_over_the_clients_limit_is_replaced_by_an_error() {
    let server = serve(Limits::default());
    for compression in [Vec::new(), Compression::built_in()] {
        let terms = ClientOffer::default().max_frame_bytes(MaxFrameBytes::new(1000)).compression(compression);
        let mut client = Raw::connect_with(&server.handle, &terms).await;
        // The limit holds before compression too.
        let answer = client.call("T.big", json!({"n": 2000})).await;
        let said = answer.assert_error(Code::ResourceExhausted, DONE);
        assert_eq!(
            said,
            "the answer's body of 2003 bytes: the limit is 1000 bytes, the receiver's `max_frame_bytes`"
        );
        assert_eq!(client.call("T.big", json!({"n": 3})).await.value(), "xxx");
        // The text of an error is part of the header.
        let answer = client.call("T.fails", json!({"text": "e".repeat(990)})).await;
        let said = answer.assert_error(Code::ResourceExhausted, DONE);
        assert!(said.starts_with("the answer's header of "), "{said}");
    }
}

struct Chatty;

impl Handler for Chatty {
    fn call(&self, _request: Request) -> ResponseFuture {
        let mut metadata = Metadata::new();
        metadata.insert("farcall-retry-after-ms", "250").expect("a good key");
        metadata.insert("much", "m".repeat(70_000)).expect("a good key");
        ResponseFuture::ready(Response::default().with_metadata(metadata))
    }
}

#[tokio::test(start_paused = true)]
async fn response_with_a_too_large_header_is_replaced_by_an_error() {
    let stage = stage();
    let chatty = farcall_server::Service::new("C")
        .handler(farcall_protocol::describe::MethodInfo::new("chat"), Chatty);
    let builder = builder(&stage).service(chatty);
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    let answer = client.call("C.chat", none()).await;
    let said = answer.assert_error(Code::ResourceExhausted, DONE);
    assert!(said.starts_with("the answer's header of 70"), "{said}");
    // A peer with a tiny limit still gets its answer.
    for limit in [30, 1] {
        let terms = ClientOffer::default().max_frame_bytes(MaxFrameBytes::new(limit));
        let mut client = Raw::connect_with(&server.handle, &terms).await;
        assert_eq!(client.call("C.chat", none()).await.assert_error(Code::ResourceExhausted, DONE), "");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_in_one_write_are_each_answered_once() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let mut bytes = Vec::new();
    for n in 0..500_u64 {
        let seq = client.next_seq();
        // Every other call needs a task, and is answered from it.
        let method = if n % 2 == 0 { "T.yields" } else { "T.sleep" };
        let header = HeaderRef { service_method: method, ..HeaderRef::new(Kind::Request, seq) };
        let body = client.codec().encode(&json!({"n": n % 7})).unwrap();
        bytes.extend(client.encode(&header, body));
    }
    client.write(&bytes).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..500 {
        let answer = client.response().await;
        assert_eq!(answer.value(), (answer.seq().0 - 1) % 7);
        assert!(seen.insert(answer.seq()), "answered twice");
    }
    client.assert_silent().await;
    server.assert_nothing_left().await;
}
