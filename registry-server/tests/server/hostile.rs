//! Bytes that are not HTTP, requests that never end, and too many of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use farcall_test_support::wait::{PATIENCE, until_async};

use crate::support::Running;

fn connect(registry: &Running) -> TcpStream {
    let stream = TcpStream::connect(registry.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Returns the bytes received until the connection is closed; `None` if it stays open.
fn received(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received) {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        _ => Some(received),
    }
}

#[tokio::test]
async fn bytes_that_are_not_http_only_end_their_connection() {
    let registry = Running::start(&[]);
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let noise: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let long_header = [b"GET / HTTP/1.1\r\nHost: a\r\nX: ".as_slice(), &vec![b'a'; 500_000]].concat();
    let long_path = [b"GET /".as_slice(), &vec![b'a'; 500_000]].concat();
    let many_headers = [b"GET / HTTP/1.1\r\n".as_slice(), &b"A: b\r\n".repeat(20_000), b"\r\n"].concat();
    let hostile: [&[u8]; 9] = [
        &noise,
        b"\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /registry HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        &long_header,
        &long_path,
        &many_headers,
    ];
    for bytes in hostile {
        let mut stream = connect(&registry);
        // The registry may close the connection during the write.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let received = received(&mut stream).expect("the connection is closed");
        assert!(
            received.is_empty() || received.starts_with(b"HTTP/1.1 4"),
            "{}",
            String::from_utf8_lossy(&received)
        );
    }
    assert_eq!(registry.addresses("Arith").await, ["tcp@127.0.0.1:7001"]);
    registry.end();
}

#[tokio::test]
async fn too_slow_header_or_body_ends_the_connection() {
    let registry = Running::start(&["--header-timeout", "1s"]);
    for begun in [
        "",
        "GET /registry HT",
        "POST /registry HTTP/1.1\r\nHost: localhost\r\nX-Farcall-Server: tcp@127.0.0.1:7001\r\nContent-Length: 10\r\n\r\n{",
    ] {
        let since = Instant::now();
        let mut stream = connect(&registry);
        stream.write_all(begun.as_bytes()).unwrap();
        assert!(received(&mut stream).is_some(), "it is still open: {begun:?}");
        assert!(since.elapsed() > Duration::from_millis(500), "it was closed too early: {begun:?}");
    }
    assert_eq!(registry.addresses("").await, Vec::<String>::new());
}

#[tokio::test]
async fn idle_connection_is_closed_and_a_watch_is_not() {
    let registry = Running::start(&["--header-timeout", "1s"]);
    let mut watcher = registry.get("/v1/watch").send().await.unwrap();
    watcher.chunk().await.unwrap().expect("a snapshot");
    let mut idle = connect(&registry);
    idle.write_all(b"GET /registry HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    assert!(received(&mut idle).expect("it is closed").starts_with(b"HTTP/1.1 200"));
    registry.register("tcp@127.0.0.1:7001", "Arith").await;
    let mut seen = String::new();
    until_async("the watcher receives the change", async || {
        seen.push_str(&String::from_utf8_lossy(
            &watcher.chunk().await.unwrap().expect("the watch continues"),
        ));
        seen.contains("tcp@127.0.0.1:7001")
    })
    .await;
}

#[tokio::test]
async fn too_many_connections_are_closed_at_once() {
    let registry = Running::start(&["--max-connections", "3"]);
    let watch = |stream: &mut TcpStream| {
        stream.write_all(b"GET /v1/watch HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 15]).map(|()| true)
    };
    let mut held: Vec<_> = (0..3).map(|_| connect(&registry)).collect();
    for stream in &mut held {
        assert!(watch(stream).unwrap());
    }
    assert_eq!(received(&mut connect(&registry)), Some(Vec::new()));
    registry.wait_for_log("too many connections").await;
    drop(held);
    until_async("a connection is accepted again", async || registry.get("/healthz").send().await.is_ok())
        .await;
}
