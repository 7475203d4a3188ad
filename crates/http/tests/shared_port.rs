//! One port for HTTP and for calls without it: the server detects the protocol from the first bytes.
//!
//! The suite of calls over such a port is in `transports.rs`.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use farcall_client::{Channel, RetryPolicy};
use farcall_http::{HttpOptions, ServeOptions};
use farcall_test_support::wait::until_async;
use farcall_transport::{Alpn, Stream};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{MS, OPTION, PATIENCE, S, World, channel_to, first_frame, no_args, tls_client, until};

const REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn connect(world: &World) -> TcpStream {
    let stream = TcpStream::connect(&world.place).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads until the server closes the connection.
async fn all(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    answer
}

/// Sends each byte in a separate packet, as far as the system allows.
async fn trickle(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    for byte in bytes {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
        sleep(MS).await;
    }
}

/// Opens a TLS connection and negotiates this protocol.
async fn encrypted(world: &World, alpn: Alpn) -> Stream {
    let stream = connect(world).await;
    tls_client().connect(stream, "127.0.0.1", alpn).await.unwrap()
}

#[tokio::test]
async fn protocols_are_detected_byte_by_byte() {
    let world = World::new("one_port_tcp").await;
    let mut stream = connect(&world).await;
    trickle(&mut stream, OPTION).await;
    assert!(first_frame(&mut stream).await.contains("\"magic_number\":3405691582"));
    assert_eq!(world.handle.connections(), 1, "the server counts the connection");

    let mut stream = connect(&world).await;
    trickle(&mut stream, REQUEST).await;
    assert!(all(&mut stream).await.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(world.handle.connections(), 1);
}

#[tokio::test]
async fn silent_client_is_closed_in_time_and_frees_its_slot() {
    let limits = ServeOptions::default().head_timeout(200 * MS).max_connections(1);
    let world = World::with("one_port_tcp", HttpOptions::default(), limits).await;
    let mut silent = connect(&world).await;
    assert_eq!(all(&mut silent).await, b"");
    for _ in 0..3 {
        drop(connect(&world).await);
    }
    // There is one slot, which each connection above must have freed.
    until_it_answers(&world.channel()).await;
    assert_eq!(all(&mut connect(&world).await).await, b"");
}

/// Calls until there is an answer: a connection that ends keeps its slot for a moment.
async fn until_it_answers(channel: &Channel) {
    let args = json!({"text": "in"});
    let answered = async || channel.call::<String>("Echo.echo", &args).timeout(PATIENCE).await.is_ok();
    until_async("the call is answered", answered).await;
}

#[tokio::test]
async fn connection_for_calls_does_not_count_as_http() {
    let limits = ServeOptions::default().head_timeout(200 * MS).max_connections(1);
    let world = World::with("one_port_tcp", HttpOptions::default(), limits).await;
    let channels = [world.channel(), world.channel(), world.channel()];
    for channel in &channels {
        until_it_answers(channel).await;
    }
    assert_eq!(world.handle.connections(), 3);
    // A silent connection that is opened later is closed by the limit, which doesn't apply to calls.
    let start = Instant::now();
    while start.elapsed() < 200 * MS {
        assert_eq!(all(&mut connect(&world).await).await, b"");
    }
    assert_eq!(world.handle.connections(), 3);
}

#[tokio::test]
async fn garbage_is_answered_by_http() {
    let world = World::new("one_port_tcp").await;
    for garbage in [&b"\xff\xfe\xfd\xfc\r\n\r\n"[..], b"hello\r\n\r\n", b"\x01\0\0\0\r\n\r\n"] {
        let mut stream = connect(&world).await;
        stream.write_all(garbage).await.unwrap();
        let answer = all(&mut stream).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{garbage:?}: {}", String::from_utf8_lossy(&answer));
    }
    // The length of a frame that is too long for an Option is recognized as one, and refused with an error.
    let mut stream = connect(&world).await;
    stream.write_all(b"\0\0\x20\0").await.unwrap();
    assert!(first_frame(&mut stream).await.contains("resource_exhausted"));
}

#[tokio::test]
async fn tls_client_learns_that_the_port_is_not_encrypted() {
    let world = World::new("one_port_tcp").await;
    let call = channel_to(&format!("tls@{}", world.place)).call::<()>("Echo.echo", &no_args());
    let error = timeout(PATIENCE, call.retry(RetryPolicy::fail_fast())).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("it does not speak TLS"), "{error}");
}

#[tokio::test]
async fn alpn_decides_inside_tls() {
    let world = World::new("one_port_tls").await;
    let mut stream = encrypted(&world, Alpn::Farcall).await;
    trickle(&mut stream, OPTION).await;
    assert!(first_frame(&mut stream).await.contains("\"magic_number\":3405691582"));

    let mut stream = encrypted(&world, Alpn::Http1).await;
    trickle(&mut stream, REQUEST).await;
    assert!(all(&mut stream).await.starts_with(b"HTTP/1.1 200 OK\r\n"));

    // A client that negotiated HTTP cannot send an Option.
    let mut stream = encrypted(&world, Alpn::Http1).await;
    stream.write_all(OPTION).await.unwrap();
    stream.write_all(b"\r\n\r\n").await.unwrap();
    assert!(all(&mut stream).await.starts_with(b"HTTP/1.1 400 "));
}

#[tokio::test]
async fn tls_port_accepts_nothing_unencrypted() {
    let world = World::new("one_port_tls").await;
    for plain in [OPTION, REQUEST] {
        let mut stream = connect(&world).await;
        stream.write_all(plain).await.unwrap();
        let answer = all(&mut stream).await;
        // One TLS record with a fatal alert.
        assert!(answer.starts_with(&[0x15, 3]) && answer[5] == 2 && answer.len() == 7, "{answer:?}");
    }
    let call = channel_to(&format!("tcp@{}", world.place)).call::<()>("Echo.echo", &no_args());
    let error = timeout(PATIENCE, call.retry(RetryPolicy::fail_fast())).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("it speaks TLS there"), "{error}");
    assert_eq!(world.handle.connections(), 0);
}

#[tokio::test]
async fn silent_tls_client_is_closed_in_time() {
    let limits = ServeOptions::default().head_timeout(200 * MS);
    let world = World::with("one_port_tls", HttpOptions::default(), limits).await;
    assert_eq!(all(&mut connect(&world).await).await, b"");
    let mut shaken = encrypted(&world, Alpn::Farcall).await;
    // The server closes without `close_notify`, which TLS reports as an error.
    let read = timeout(PATIENCE, shaken.read(&mut [0])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)));
}

#[tokio::test]
async fn silent_clients_do_not_delay_the_shutdown() {
    let limits = ServeOptions::default().head_timeout(60 * S).stop_timeout(60 * S);
    let world = World::with("one_port_tcp", HttpOptions::default(), limits).await;
    let mut silent = connect(&world).await;
    let channel = world.channel();
    channel.connect().await.unwrap();
    until("the channel is connected", || world.handle.connections() == 1).await;
    world.handle.stop();
    timeout(PATIENCE, world.ended).await.unwrap().unwrap();
    assert_eq!(all(&mut silent).await, b"");
}
