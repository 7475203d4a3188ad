//! Limits of bodies: their size, their time, and the memory that they share.

use std::time::Duration;

use axum::body::Body;
use farcall_http::{Gateway, HttpOptions, ServeOptions, router, serve_with};
use farcall_test_support::http;
use farcall_test_support::wait::until_async;
use farcall_transport::{Address, Listener, PeerAddress};
use tokio::io::AsyncWriteExt;
use tower_service::Service;

use crate::support::{MS, until};
use crate::world::{World, read};

const KIB: usize = 1024;

async fn world(gateway: Gateway) -> World {
    World::with(HttpOptions::default().gateway(gateway)).await
}

#[tokio::test]
async fn body_over_the_limit_is_413_with_and_without_chunks() {
    let world = world(Gateway::default().max_body_bytes(64)).await;
    let fits = format!("[6,7]{}", " ".repeat(59));
    assert_eq!(world.call("Arith.multiply", &[], &fits).await.body, "42");
    let chunked = |body: &str| format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let answer = world.call("Arith.multiply", &["Transfer-Encoding: chunked"], &chunked(&fits)).await;
    assert_eq!(answer.body, "42");

    let large = fits + " ";
    for answer in [
        world.call("Arith.multiply", &[], &large).await,
        world.call("Arith.multiply", &["Transfer-Encoding: chunked"], &chunked(&large)).await,
    ] {
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (413, "resource_exhausted"), "{answer:?}");
        assert_eq!(message, "the body is over the limit of 64 bytes");
    }
    assert_eq!(world.multiplied(), 2);
}

#[tokio::test]
async fn refusal_of_a_large_body_reaches_a_client_that_sends_all_of_it() {
    let world = world(Gateway::default().max_body_bytes(64)).await;
    // More than the kernel buffers between both sides.
    let answer = world.call("Arith.multiply", &[], &" ".repeat(20_000_000)).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (413, "resource_exhausted"));
}

#[tokio::test]
async fn expect_continue_with_an_oversized_body_is_413() {
    let world = world(Gateway::default().max_body_bytes(64)).await;
    let mut stream = world.connect().await;
    let request = format!(
        "POST /rpc/Arith.multiply HTTP/1.1\r\nHost: {}\r\nExpect: 100-continue\r\nContent-Length: 65\r\n\r\n",
        world.place
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(read(&mut stream).await.status, 413);
}

#[tokio::test]
async fn bodies_share_a_buffer_limit_and_release_it_with_the_answer() {
    let world = world(Gateway::default().buffered_bytes(100 * KIB)).await;
    let padded = |body: &str, size: usize| format!("{body}{}", " ".repeat(size - body.len()));
    let body = padded("{\"ms\":null}", 40 * KIB);
    let call = format!(
        "POST /rpc/Clock.wait HTTP/1.1\r\nHost: {}\r\nContent-Length: 40960\r\n\r\n{body}",
        world.place
    );
    let mut waiting = world.connect().await;
    waiting.write_all(call.as_bytes()).await.unwrap();
    world.wait_for_waiting(1).await;
    // The rest is for others.
    let answer = world.call("Arith.multiply", &[], &padded("[6,7]", 17 * KIB)).await;
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (429, "resource_exhausted"), "{answer:?}");
    assert!(
        message.starts_with("the buffers for bodies are full: 102400 bytes, half of them for"),
        "{message}"
    );
    let small = padded("[6,7]", 16 * KIB);
    assert_eq!(world.call("Arith.multiply", &[], &small).await.body, "42", "a small body has room");

    drop(waiting);
    world.wait_for_waiting(0).await;
    let large = padded("[6,7]", 50 * KIB);
    let has_room = async || world.call("Arith.multiply", &[], &large).await.status == 200;
    until_async("the buffer is released", has_room).await;
}

#[tokio::test(start_paused = true)]
async fn unfinished_bodies_of_one_peer_leave_room_for_those_of_others() {
    let server = farcall_server::Server::builder().method("Small.text", async |_: serde_json::Value| "x");
    let server = server.build().unwrap();
    let gateway = Gateway::default().buffered_bytes(1024 * KIB);
    let router = router(server.handle(), HttpOptions::default().gateway(gateway));
    tokio::spawn(server.serve());
    let call = |peer: u8, body: Body| {
        let request = axum::http::Request::post("/rpc/Small.text").header("host", "localhost");
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(PeerAddress::Tcp(([10, 0, 0, peer], 7).into()));
        let answer = router.clone().call(request);
        async { answer.await.unwrap().status().as_u16() }
    };
    let padded = |kib: usize| Body::from(format!("{{}}{}", " ".repeat(kib * KIB)));
    let part = futures::stream::iter([Ok::<_, std::convert::Infallible>(vec![b' '; 400 * KIB])]);
    let unfinished = Body::from_stream(futures::StreamExt::chain(part, futures::stream::pending()));
    let slow = tokio::spawn(call(1, unfinished));
    tokio::task::yield_now().await;
    assert_eq!(call(1, padded(200)).await, 429);
    assert_eq!(call(1, padded(10)).await, 200, "small bodies have room");
    // Of a body of unknown length the buffer counts: 512 KiB.
    assert_eq!(call(2, padded(250)).await, 200, "others have half of what is left");
    assert_eq!(slow.await.unwrap(), 408);
    assert_eq!(call(1, padded(200)).await, 200);
}

#[tokio::test]
async fn incomplete_body_times_out() {
    let world = world(Gateway::default().body_timeout(200 * MS)).await;
    let mut stream = world.connect().await;
    let request =
        format!("POST /rpc/Arith.multiply HTTP/1.1\r\nHost: {}\r\nContent-Length: 5\r\n\r\n[6,", world.place);
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = read(&mut stream).await;
    assert_eq!((answer.status, answer.error().0.as_str()), (408, "deadline_exceeded"), "{answer:?}");
    assert_eq!(world.multiplied(), 0);
}

#[tokio::test]
async fn truncated_body_starts_no_call() {
    let world = world(Gateway::default().body_timeout(Duration::MAX)).await;
    let mut stream = world.connect().await;
    let request =
        format!("POST /rpc/Odd.tagged HTTP/1.1\r\nHost: {}\r\nContent-Length: 500\r\n\r\n[6,7]", world.place);
    stream.write_all(request.as_bytes()).await.unwrap();
    drop(stream);
    // A call over the next connection shows that the server still serves.
    assert_eq!(world.call("Arith.multiply", &[], "[6,7]").await.body, "42");
    let calls_of =
        |name: &str| world.handle.stats().into_iter().find(|stats| stats.name == name).unwrap().calls;
    until("the call is counted", || calls_of("Arith.multiply") == 1 || world.multiplied() == 1).await;
    assert_eq!(calls_of("Odd.tagged"), 0);
}

#[tokio::test]
async fn metadata_over_the_protocols_limit_is_refused() {
    let world = world(Gateway::default()).await;
    let headers = ["farcall-meta-a", "farcall-meta-b"].map(|name| format!("{name}: {}", "x".repeat(29_000)));
    let answer = world.call("Arith.multiply", &[&headers[0], &headers[1]], "[6,7]").await;
    assert_eq!(answer.status, 200, "58 kB are carried");

    // `serve` limits heads to about the same size, and may refuse the request first: call the router itself.
    let settings = HttpOptions::default().gateway(Gateway::default());
    let large = "x".repeat(40_000);
    let request = axum::http::Request::post("/rpc/Arith.multiply").header("host", "localhost");
    let request = request.header("farcall-meta-a", &large).header("farcall-meta-b", &large);
    let request = request.body(Body::from("[6,7]")).unwrap();
    let answer = router(world.handle.clone(), settings).call(request).await.unwrap();
    assert_eq!(answer.status(), 431);
    assert_eq!(world.multiplied(), 1);
}

#[tokio::test]
async fn client_that_reads_nothing_frees_its_connection_slot() {
    let server = farcall_server::Server::builder()
        .method("Big.text", |_: serde_json::Value| async { "x".repeat(3_900_000) })
        .build()
        .unwrap();
    let handle = server.handle();
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let place = listener.address().socket_addr().unwrap();
    let router = router(handle.clone(), HttpOptions::default().gateway(Gateway::default()));
    let options = ServeOptions::default().max_connections(1).write_timeout(Duration::from_millis(200));
    tokio::spawn(async move { serve_with(listener, router, options, std::future::pending()).await });
    tokio::spawn(server.serve());
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut client = socket.connect(place).await.unwrap();
    let request = format!("POST /rpc/Big.text HTTP/1.1\r\nHost: {place}\r\nContent-Length: 0\r\n\r\n");
    client.write_all(request.repeat(8).as_bytes()).await.unwrap();
    until("the method is called", || handle.stats().iter().any(|stats| stats.calls > 0)).await;
    // The server closes the connection at once while there is no slot.
    let is_served =
        async || http::ask(place, "GET", "/healthz").await.is_ok_and(|answer| answer.status == 200);
    until_async("there is a slot", is_served).await;
}

#[tokio::test]
async fn answers_that_are_not_read_have_a_limit_and_leave_small_calls_alone() {
    let server = farcall_server::Server::builder()
        .method("Big.text", |_: serde_json::Value| async { "x".repeat(3_900_000) })
        .method("Small.text", |_: serde_json::Value| async { "x" })
        .build()
        .unwrap();
    let handle = server.handle();
    let listener = Listener::bind(&Address::parse("127.0.0.1:0").unwrap()).await.unwrap();
    let place = listener.address().socket_addr().unwrap();
    // Room for two answers of one peer.
    let gateway = Gateway::default().buffered_bytes(16_000_000);
    let router = router(handle.clone(), HttpOptions::default().gateway(gateway));
    tokio::spawn(async move {
        serve_with(listener, router, ServeOptions::default(), std::future::pending()).await;
    });
    tokio::spawn(server.serve());
    let mut clients = Vec::new();
    for calls in 1..=2 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(place).await.unwrap();
        let request = format!("POST /rpc/Big.text HTTP/1.1\r\nHost: {place}\r\nContent-Length: 0\r\n\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        // Its answer begins, and is held as a whole.
        client.readable().await.unwrap();
        assert_eq!(handle.stats().iter().map(|stats| stats.calls).sum::<u64>(), calls);
        clients.push(client);
    }
    let refused = http::ask(place, "POST", "/rpc/Big.text").await.unwrap();
    let text = String::from_utf8_lossy(&refused.body);
    assert_eq!(refused.status, 429, "{text}");
    assert!(text.contains("no room for the answer of 3900002 bytes") && text.contains("done"), "{text}");
    assert_eq!(http::ask(place, "POST", "/rpc/Small.text").await.unwrap().status, 200);

    clients.clear();
    let has_room =
        async || http::ask(place, "POST", "/rpc/Big.text").await.is_ok_and(|answer| answer.status == 200);
    until_async("there is room again", has_room).await;
}
