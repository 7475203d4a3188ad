//! PROTOCOL.md, 2: the handshake, and the connections that are refused.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::{ClientOffer, Code, Codec, HandshakeError, HeaderRef, Kind, Seq};
use farcall_server::Limits;
use farcall_transport::PeerAddress;
use serde_json::{Value, json};
use support::{Raw, builder, frame, none, open, open_from, read_option, secs, serve, serve_with, stage};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, timeout};

/// Sends bytes as a first frame, and returns the refusal's fields; the server closes after it.
async fn refused(mut stream: DuplexStream, bytes: &[u8]) -> Value {
    stream.write_all(bytes).await.unwrap();
    refusal(&mut stream).await
}

async fn refusal(stream: &mut DuplexStream) -> Value {
    let option = read_option(stream).await.expect("an Option that says why");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    let option: Value = serde_json::from_slice(&option).unwrap();
    assert_eq!(option["version"], 1);
    assert_eq!(option["codecs"], json!(["application/msgpack", "application/json"]));
    option["error"].clone()
}

#[tokio::test(start_paused = true)]
async fn refusal_names_the_invalid_field_of_the_option() {
    let server = serve(Limits::default());
    let good = json!({"magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/json"});
    for (field, value, named) in [
        ("magic_number", json!(7), "magic_number `7`"),
        ("magic_number", json!(null), "magic_number is missing"),
        ("version", json!(2), "version `2`"),
        ("codec_type", json!("application/xml"), "codec_type `application/xml`"),
    ] {
        let mut option = good.clone();
        option[field] = value;
        let error = refused(open(&server.handle), &frame(option.to_string().as_bytes())).await;
        assert_eq!(error["code"], "invalid_argument");
        assert!(error["message"].as_str().unwrap().starts_with(named), "{error}");
    }
    for bytes in [&b"GET / HTTP"[..], b"[1, 2]", b"", b"\xff\xfe"] {
        let error = refused(open(&server.handle), &frame(bytes)).await;
        assert_eq!(error["code"], "invalid_argument", "{error}");
    }
    server.assert_nothing_left().await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn option_over_4_kib_is_refused_by_its_length() {
    let server = serve(Limits::default());
    let error = refused(open(&server.handle), &4097_u32.to_be_bytes()).await;
    assert_eq!(error["code"], "resource_exhausted");
}

#[tokio::test(start_paused = true)]
async fn unknown_option_fields_are_ignored() {
    let server = serve(Limits::default());
    let mut stream = open(&server.handle);
    let option = json!({
        "magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/json",
        "features": ["tea", "streams"], "colour": {"red": 1},
    });
    stream.write_all(&frame(option.to_string().as_bytes())).await.unwrap();
    let answer: Value = serde_json::from_slice(&read_option(&mut stream).await.unwrap()).unwrap();
    assert_eq!(
        answer,
        json!({
            "magic_number": 3_405_691_582_u32, "version": 1, "codec_type": "application/json",
            "handle_timeout_ms": 0, "max_frame_bytes": 4_194_304, "max_in_flight": 1024,
            "features": ["streams"], "stream_window": 65_536, "max_streams": 256,
        })
    );
}

#[tokio::test(start_paused = true)]
async fn incomplete_handshake_is_refused_at_its_timeout() {
    for sent in [&b""[..], b"\0\0", b"\0\0\0\x20{\"magic"] {
        let server = serve(Limits::default().handshake_timeout(secs(3)));
        let start = Instant::now();
        let error = refused(open(&server.handle), sent).await;
        assert_eq!(error["code"], "deadline_exceeded");
        assert_eq!(start.elapsed().as_secs(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn handshake_timeout_covers_writing_the_answer() {
    let server = serve(Limits::default().handshake_timeout(secs(3)));
    // The answer is not read, and does not fit into the pipe.
    let (mut near, far) = tokio::io::duplex(128);
    server.handle.serve_stream(farcall_transport::Stream::new(far), PeerAddress::Memory);
    tokio::time::sleep(secs(2)).await;
    near.write_all(&frame(&ClientOffer::default().encode().unwrap())).await.unwrap();
    tokio::time::sleep(secs(2)).await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn aborted_handshake_releases_its_connection() {
    let server = serve(Limits::default());
    drop(open(&server.handle));
    server.assert_nothing_left().await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn bytes_after_the_option_are_kept() {
    for cut in [0, 3, 7] {
        let server = serve(Limits::default());
        let mut stream = open(&server.handle);
        let terms = ClientOffer::default();
        let negotiated = terms.accept_answer(&farcall_protocol::ServerPolicy::encode_accept(&{
            let asked =
                farcall_protocol::ServerPolicy::default().negotiate(&terms.encode().unwrap()).unwrap();
            asked.negotiated
        }));
        let mut bytes = frame(&terms.encode().unwrap());
        let header = HeaderRef { service_method: "T.echo", ..HeaderRef::new(Kind::Request, Seq(1)) };
        let (unused, _) = tokio::io::duplex(1);
        let encoder = Raw::after_handshake(unused, negotiated.clone().unwrap());
        let body = Codec::default().encode(&json!({"text": "early"})).unwrap();
        bytes.extend(encoder.encode(&header, body));
        let rest = bytes.split_off(bytes.len() - cut);
        stream.write_all(&bytes).await.unwrap();
        read_option(&mut stream).await.unwrap();
        let mut client = Raw::after_handshake(stream, negotiated.unwrap());
        client.write(&rest).await;
        assert_eq!(client.response().await.value(), "early");
    }
}

#[tokio::test(start_paused = true)]
async fn option_may_arrive_byte_by_byte() {
    let server = serve(Limits::default());
    let mut stream = open(&server.handle);
    for byte in frame(&ClientOffer::default().encode().unwrap()) {
        stream.write_u8(byte).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(read_option(&mut stream).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn connection_past_max_connections_is_refused() {
    let server = serve(Limits::default().max_connections(2));
    let first = server.connect().await;
    let _second = server.connect().await;
    let Err(HandshakeError::Refused { status, .. }) =
        Raw::try_connect(&server.handle, &ClientOffer::default()).await
    else {
        panic!("one too many");
    };
    assert_eq!(status.code, Code::ResourceExhausted);
    assert_eq!(status.message, "2 connections are open on this server");
    drop(first);
    tokio::task::yield_now().await;
    server.connect().await.call("T.count", none()).await.value();
}

#[tokio::test(start_paused = true)]
async fn connection_past_max_connections_per_peer_is_refused() {
    let server = serve(Limits::default().max_connections_per_peer(1));
    let peer = |last: u8, port: u16| PeerAddress::Tcp(([10, 0, 0, last], port).into());
    let connect = async |peer| Raw::shake(open_from(&server.handle, peer), &ClientOffer::default()).await;
    let first = connect(peer(1, 1)).await.unwrap();
    let Err(HandshakeError::Refused { status, .. }) = connect(peer(1, 2)).await else { panic!("too many") };
    assert_eq!(status.message, "1 connections are open from 10.0.0.1");
    let _other = connect(peer(2, 1)).await.unwrap();
    drop(first);
    tokio::task::yield_now().await;
    connect(peer(1, 3)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn connection_to_a_stopping_server_is_refused() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.wait", none()).await;
    let mut half = open(&server.handle);
    half.write_all(b"\0\0\0").await.unwrap();
    tokio::task::yield_now().await;
    server.handle.stop();
    // A handshake in progress, and a new one.
    assert_eq!(refusal(&mut half).await["code"], "unavailable");
    let ask = frame(&ClientOffer::default().encode().unwrap());
    assert_eq!(refused(open(&server.handle), &ask).await["code"], "unavailable");
    server.stage.gate.add_permits(1);
    client.assert_goaway(1, Code::Unavailable).await;
    assert_eq!(client.response().await.value(), "done");
    drop(client);
    timeout(secs(2), server.serving).await.unwrap().unwrap();
    // A server that has ended sends no refusal.
    assert!(read_option(&mut open(&server.handle)).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn refused_peer_that_never_closes_is_dropped_after_a_second() {
    let server = serve(Limits::default().max_connections(1));
    let _client = server.connect().await;
    let mut stream = open(&server.handle);
    read_option(&mut stream).await.unwrap();
    let start = Instant::now();
    while stream.write_all(b"more").await.is_ok() {
        tokio::time::sleep(support::millis(10)).await;
    }
    assert!(start.elapsed() <= secs(2));
}

#[tokio::test(start_paused = true)]
async fn unlimited_times_do_not_overflow() {
    let never = std::time::Duration::MAX;
    let limits = Limits::default()
        .handshake_timeout(never)
        .handle_timeout(never)
        .frame_timeout(never)
        .write_timeout(never)
        .drain_timeout(never)
        .keep_alive(farcall_protocol::KeepAlive::new(never, never));
    let stage = stage();
    let builder = builder(&stage).limits(limits);
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    let seq = client.request_with("T.sleep", json!({"n": 5}), |header| header.timeout_ms = u64::MAX).await;
    let answer = client.response().await;
    assert_eq!((answer.seq(), answer.value()), (seq, json!(5)));
    // Half a message, and one that is not read.
    client.write(b"\0\0").await;
    tokio::time::sleep(secs(1)).await;
    assert_eq!(server.handle.connections(), 1);
}
