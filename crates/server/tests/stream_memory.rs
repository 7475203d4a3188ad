//! The memory of open streams that are idle. The only test of its program, since it looks at the memory of its process.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::Kind;
use farcall_server::{Limits, Sender};
use support::feed::feed;
use support::{Nothing, none, serve_with, stage};

const CONNECTIONS: usize = 40;
/// Streams of a connection, which has at most 256 by default.
const STREAMS: usize = 250;
/// The most that one of them takes, in bytes.
const MAX_BYTES: usize = 3200;

/// Returns the resident memory of this process, in bytes.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test(start_paused = true)]
async fn idle_stream_takes_little_memory() {
    let stage = stage();
    let builder = feed(&stage).limits(Limits::default()).stream_out(
        "Feed.idle",
        async |_: Nothing, mut out: Sender<u64>| {
            let _ = out.send(1).await;
            std::future::pending::<()>().await;
        },
    );
    let server = serve_with(stage, builder);
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(server.connect_streams(64 * 1024).await);
    }
    let mut before = 0;
    for round in 0..STREAMS {
        if round == 1 {
            // The first stream of a connection has all be there that it needs once.
            before = resident_bytes();
        }
        for client in &mut clients {
            let seq = client.stream("Feed.idle", none()).await;
            client.expect(Kind::Item, seq).await;
        }
    }
    assert_eq!(server.handle.stream_metrics().open, (CONNECTIONS * STREAMS) as u64);
    let each = resident_bytes().saturating_sub(before) / (CONNECTIONS * (STREAMS - 1));
    println!("{each} bytes for each stream");
    assert!(each < MAX_BYTES, "{each} bytes for each stream");
}
