//! Connections opened by HTTP upgrades, `CONNECT` and WebSocket, at the level of bytes, and refused requests.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

#[path = "real_programs/authority.rs"]
mod authority;
mod support;

use std::time::Duration;

use bytes::Buf;
use farcall_client::{Channel, ConnectionOptions, RetryPolicy};
use farcall_http::{HttpOptions, ServeOptions};
use farcall_protocol::{Body, Code, Codec, Execution, HeaderRef, Kind, MaxFrameBytes, Outbox, Seq};
use farcall_test_support::http;
use farcall_transport::{Address, Dialer, TlsClient};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::authority::Authority;
use crate::support::{MS, OPTION, PATIENCE, World, channel_to, first_frame, no_args};

const UPGRADE: &str =
    "GET /_farcall_ HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: Farcall\r\n\r\n";
const CONNECT: &str = "CONNECT /_farcall_ HTTP/1.1\r\nHost: h\r\n\r\n";
const WEBSOCKET: &str = "GET /_farcall_ HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Reads the head of an answer.
async fn read_head(stream: &mut TcpStream) -> String {
    let reading = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(head).unwrap()
    };
    timeout(PATIENCE, reading).await.unwrap()
}

/// Sends bytes, and returns the head of the answer and the frame that follows it.
async fn head_and_frame(world: &World, request: &[u8]) -> (String, String) {
    let mut stream = TcpStream::connect(&world.place).await.unwrap();
    stream.write_all(request).await.unwrap();
    let head = read_head(&mut stream).await;
    (head, first_frame(&mut stream).await)
}

#[tokio::test]
async fn bytes_sent_with_the_head_are_not_lost() {
    let world = World::new("http").await;
    for (request, status) in [(UPGRADE, "HTTP/1.1 101 "), (CONNECT, "HTTP/1.1 200 ")] {
        let both = [request.as_bytes(), OPTION].concat();
        let (head, frame) = head_and_frame(&world, &both).await;
        assert!(head.starts_with(status), "{head}");
        assert!(frame.contains("\"magic_number\":3405691582"), "{frame}");
    }
}

#[tokio::test]
async fn websocket_message_sent_with_the_head_is_not_lost() {
    let world = World::new("ws").await;
    // A binary message, masked with zeros, which do not change it.
    let message = [&[0x82, 0x80 | OPTION.len() as u8, 0, 0, 0, 0], OPTION].concat();
    let mut stream = TcpStream::connect(&world.place).await.unwrap();
    stream.write_all(&[WEBSOCKET.as_bytes(), &message].concat()).await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    // The answer to the example key of RFC 6455.
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let mut begin = [0; 1];
    timeout(PATIENCE, stream.read_exact(&mut begin)).await.unwrap().unwrap();
    assert_eq!(begin, [0x82], "the server sends a binary message");
}

#[tokio::test]
async fn response_heads_follow_the_protocol() {
    let world = World::new("http").await;
    let mut stream = TcpStream::connect(&world.place).await.unwrap();
    stream.write_all(UPGRADE.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(
        head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: farcall\r\n"),
        "{head}"
    );

    let mut stream = TcpStream::connect(&world.place).await.unwrap();
    stream.write_all(CONNECT.as_bytes()).await.unwrap();
    let head = read_head(&mut stream).await.to_ascii_lowercase();
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
}

#[tokio::test]
async fn get_without_upgrade_is_426_and_says_how_to_connect() {
    let world = World::new("http").await;
    let answer = world.get("/_farcall_").await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    let lower = answer.to_ascii_lowercase();
    assert!(lower.contains("\r\nupgrade: farcall, websocket\r\n"), "{answer}");
    assert!(answer.contains("dial it as http@host:port"), "{answer}");
    for request in [
        // `Connection: Upgrade` is missing, as behind a proxy that drops it.
        "GET /_farcall_ HTTP/1.1\r\nHost: h\r\nUpgrade: farcall\r\nConnection: close\r\n\r\n",
        "GET /_farcall_ HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade, close\r\n\r\n",
        // HTTP/1.0 has no upgrades.
        "GET /_farcall_ HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: farcall\r\n\r\n",
    ] {
        let answer = world.ask(request).await;
        assert!(answer.contains(" 426 "), "{request}{answer}");
    }
}

#[tokio::test]
async fn other_method_is_405_and_lists_the_allowed_ones() {
    let world = World::new("http").await;
    for method in ["POST", "PUT", "HEAD", "OPTIONS", "BREW"] {
        let answer =
            world.ask(&format!("{method} /_farcall_ HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("\r\nallow: get, connect\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn connect_to_other_targets_is_refused() {
    let world = World::new("connect").await;
    for place in ["calc.example:443", "/", "/metrics", "http://calc.example/_farcall"] {
        let answer = world
            .ask(&format!("CONNECT {place} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))
            .await;
        let status = answer.split(' ').nth(1).unwrap();
        assert!(["400", "403", "404", "405"].contains(&status), "{place}: {answer}");
    }
}

#[tokio::test]
async fn websocket_handshake_follows_rfc_6455() {
    let world = World::new("ws").await;
    let old = WEBSOCKET.replace("Version: 13", "Version: 8").replace("Upgrade\r\n", "Upgrade, close\r\n");
    let answer = world.ask(&old).await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nsec-websocket-version: 13\r\n"), "{answer}");
    let short =
        WEBSOCKET.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhl").replace("Upgrade\r\n", "Upgrade, close\r\n");
    let answer = world.ask(&short).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("16 bytes"), "{answer}");
}

#[tokio::test]
async fn pages_of_foreign_origins_open_no_connection() {
    let settings = HttpOptions::default().allowed_origin("https://app.example.com");
    let world = World::with("ws", settings, ServeOptions::default()).await;
    let opened = async |origin: &str, host: &str| {
        let request = WEBSOCKET.replace("Host: h\r\n", &format!("Host: {host}\r\nOrigin: {origin}\r\n"));
        let mut stream = TcpStream::connect(&world.place).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        read_head(&mut stream).await.split(' ').nth(1).unwrap().to_owned()
    };
    let place = &world.place;
    assert_eq!(opened("https://app.example.com", place).await, "101");
    assert_eq!(opened(&format!("http://{place}"), place).await, "101");
    assert_eq!(opened("http://evil.example", place).await, "403");
    assert_eq!(opened("null", place).await, "403");
    // DNS rebinding: the page's host name resolves to this server.
    assert_eq!(opened("http://evil.example", "evil.example").await, "403");
}

#[tokio::test]
async fn text_message_is_closed_with_1003() {
    let world = World::new("ws").await;
    let mut stream = TcpStream::connect(&world.place).await.unwrap();
    stream.write_all(WEBSOCKET.as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut close = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut close)).await.unwrap().unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 1003));
}

#[tokio::test]
async fn incomplete_head_times_out() {
    let limits = ServeOptions::default().head_timeout(200 * MS);
    let world = World::with("http", HttpOptions::default(), limits).await;
    let answer = world.ask("GET /_farcall_ HTTP/1.1\r\nHost: h\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn idle_connection_makes_room_and_upgraded_ones_do_not_count() {
    let limits = ServeOptions::default().max_connections(1);
    let world = World::with("http", HttpOptions::default(), limits).await;
    // One after the other: an upgraded connection no longer counts as HTTP.
    let channels = [world.channel(), world.channel()];
    for channel in &channels {
        let echoed = channel.call::<String>("Echo.echo", &json!({"text": "in"}));
        assert_eq!(timeout(PATIENCE, echoed).await.unwrap().unwrap(), "in");
    }
    let mut silent = TcpStream::connect(&world.place).await.unwrap();
    silent.write_all(b"GET").await.unwrap();
    let mut second = TcpStream::connect(&world.place).await.unwrap();
    second.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0; 15];
    timeout(PATIENCE, second.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    // The first one is closed or reset.
    let read = timeout(PATIENCE, silent.read(&mut [0])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn handler_sees_the_callers_address() {
    for scheme in ["http", "connect", "ws", "https", "wss"] {
        let world = World::new(scheme).await;
        let peer = world.channel().call::<String>("Probe.peer", &no_args()).await.unwrap();
        assert!(peer.starts_with("tcp@127.0.0.1:"), "{scheme}: {peer}");
        assert_ne!(peer, format!("tcp@{}", world.place));
    }
}

#[tokio::test]
async fn handler_sees_the_verified_name_of_its_caller() {
    let authority = Authority::new();
    for (opening, scheme) in [("http", "https"), ("ws", "wss"), ("one_port_tcp", "tls")] {
        let options = ServeOptions::default().tls(authority.server(true));
        let world = World::with(opening, HttpOptions::default(), options).await;
        let called = async |tls: TlsClient| {
            let options = ConnectionOptions::default().dialer(Dialer::default().tls(tls));
            let channel = Channel::builder().to(format!("{scheme}@{}", world.place)).options(options);
            let channel = channel.build().unwrap();
            let call = channel.call::<Option<String>>("Probe.certificate", &no_args());
            timeout(PATIENCE, call.retry(RetryPolicy::fail_fast())).await.unwrap()
        };
        let name = called(authority.client()).await.unwrap();
        assert_eq!(name.as_deref(), Some("billing.example"), "{scheme}");
        let anonymous = TlsClient::builder().roots_file(authority.path("root.pem")).build().unwrap();
        let refused = called(anonymous).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.execution()),
            (Code::Unavailable, Execution::NotSent),
            "{scheme}: {refused}"
        );
        assert!(refused.to_string().contains("it wants a certificate of this side"), "{scheme}: {refused}");
    }
}

/// Returns the error of dialing a server that sends `answer`.
async fn dial_error(scheme: &str, answer: &'static [u8]) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("{scheme}@{}", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        http::read_head(&mut stream).await.unwrap();
        stream.write_all(answer).await.unwrap();
    });
    let call = channel_to(&address).call::<()>("Echo.echo", &no_args()).retry(RetryPolicy::fail_fast());
    let error = timeout(PATIENCE, call).await.unwrap().unwrap_err();
    server.await.unwrap();
    error.to_string()
}

#[tokio::test]
async fn dial_error_includes_the_servers_answer() {
    for scheme in ["http", "connect", "ws"] {
        let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 12\r\n\r\nnot from you";
        let error = dial_error(scheme, refused).await;
        assert!(error.contains("it answered 403 Forbidden: not from you"), "{scheme}: {error}");
        let page = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        let error = dial_error(scheme, page).await;
        assert!(error.contains("no farcall server is there"), "{scheme}: {error}");
    }
    let error =
        dial_error("ws", b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n")
            .await;
    assert!(error.contains("Sec-WebSocket-Accept"), "{error}");
}

#[tokio::test]
async fn silent_server_fails_after_the_connect_timeout() {
    for scheme in ["http", "connect", "ws"] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::parse(&format!("{scheme}@{}", listener.local_addr().unwrap())).unwrap();
        let dialer = Dialer::default().connect_timeout(200 * MS);
        let error = timeout(PATIENCE, dialer.dial(&address)).await.unwrap().unwrap_err().to_string();
        assert!(error.ends_with("it accepted the connection, and did not answer within 200 ms"), "{error}");
    }
}

/// Opens a WebSocket, sends a frame in pieces, and answers the server's Close without closing TCP. Returns the
/// status of the Close and the time until the server closed.
async fn closed_by_server(world: &World, frame: &[u8]) -> (u16, Duration) {
    let mut stream = TcpStream::connect(&world.place).await.unwrap();
    stream.write_all(WEBSOCKET.as_bytes()).await.unwrap();
    read_head(&mut stream).await;
    stream.write_all(frame).await.unwrap();
    let mut head = [0; 4];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[0], 0x88);
    stream.write_all(&[0x88, 0x82, 0, 0, 0, 0, head[2], head[3]]).await.unwrap();
    let answered = Instant::now();
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    (u16::from_be_bytes([head[2], head[3]]), answered.elapsed())
}

#[tokio::test]
async fn tcp_is_closed_once_both_sides_have_sent_a_close() {
    let world = World::new("ws").await;
    let too_large = [&[0x82, 0xff][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
    for (frame, status) in [
        (&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'][..], 1003),
        (&too_large, 1009),
        (&[0x82, 2, b'h', b'i'], 1002),
        (&[0xc2, 0x80, 0, 0, 0, 0], 1002),
        (&[0x88, 0x82, 0, 0, 0, 0, 3, 0xe8], 1000),
    ] {
        let (said, took) = closed_by_server(&world, frame).await;
        assert_eq!(said, status);
        // Silent peers are pinged after 10 s, which would close it as well.
        assert!(took < Duration::from_secs(8), "{status}: {took:?}");
    }
}

/// Puts bytes into one binary message of a client, with the mask 0.
fn message(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).unwrap();
    [&[0x82, 0xfe][..], &len.to_be_bytes(), &[0; 4], bytes].concat()
}

#[tokio::test]
async fn websocket_that_is_closed_with_calls_under_way_ends_at_once() {
    let world = World::new("ws").await;
    let mut stream = TcpStream::connect(&world.place).await.unwrap();
    stream.write_all(&[WEBSOCKET.as_bytes(), &message(OPTION)].concat()).await.unwrap();
    read_head(&mut stream).await;
    let mut outbox = Outbox::new();
    let request = HeaderRef { service_method: "Probe.sleep", ..HeaderRef::new(Kind::Request, Seq(1)) };
    let body = Codec::MessagePack.encode_body(&json!({"ms": 3_600_000})).unwrap();
    outbox.push(&Codec::MessagePack, &request, &body, MaxFrameBytes::DEFAULT).unwrap();
    outbox
        .push(
            &Codec::MessagePack,
            &HeaderRef::new(Kind::Goaway, Seq(0)),
            &Body::default(),
            MaxFrameBytes::DEFAULT,
        )
        .unwrap();
    let bytes = outbox.copy_to_bytes(outbox.remaining());
    stream.write_all(&message(&bytes)).await.unwrap();
    world.wait_for_running(1).await;
    stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    let closed = Instant::now();
    timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    assert!(closed.elapsed() < Duration::from_secs(8), "{:?}", closed.elapsed());
    world.wait_for_running(0).await;
}
