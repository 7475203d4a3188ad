//! The memory of connections over which nothing comes.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::{HeaderRef, Kind, Seq};
use farcall_server::Limits;
use serde_json::json;
use support::{millis, secs, serve};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn idle_connection_holds_no_buffer_after_two_seconds() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    // The 4 KiB for small calls are within what is guaranteed to each connection, and do not count.
    for length in [10_000, 100_000] {
        client.call("T.echo", json!({"text": "x".repeat(length)})).await;
        assert!(server.handle.buffered_bytes() > 0, "the next call finds a buffer");
        // The check after a second may come just after the call.
        sleep(millis(2_010)).await;
        assert_eq!(server.handle.buffered_bytes(), 0);
    }
    // A ping is no reason to hold one until the next.
    assert_eq!(client.next().await.unwrap().header.kind, Kind::Ping);
    client.send(&HeaderRef::new(Kind::Pong, Seq(1)), "").await;
    sleep(millis(2_010)).await;
    assert_eq!(server.handle.buffered_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn part_of_a_message_is_kept_while_nothing_comes() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let seq = client.next_seq();
    let header = HeaderRef { service_method: "T.echo", ..HeaderRef::new(Kind::Request, seq) };
    let body = client.codec().encode(&json!({"text": "x".repeat(20_000)})).unwrap();
    let message = client.encode(&header, body);
    let (begin, rest) = message.split_at(message.len() / 2);
    client.write(begin).await;
    sleep(secs(5)).await;
    assert!(server.handle.buffered_bytes() > 0);
    client.write(rest).await;
    assert_eq!(client.response().await.seq(), seq);
}
