//! ARCHITECTURE.md, "The path of a call": a connection works for a while, then others do. In paused time, by the order
//! of calls.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use farcall_context::Context;
use farcall_protocol::{ClientOffer, Code, Compression, Execution, Flags, HeaderRef, Kind};
use farcall_server::Limits;
use farcall_transport::{PeerAddress, Stream};
use serde_json::{Value, json};
use support::{Nothing, Raw, Text, builder, none, serve, serve_with, stage};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::advance;

/// Encodes requests of `method` without arguments.
fn requests(client: &mut Raw, method: &str, count: usize) -> Vec<u8> {
    let body = client.codec().encode(&none()).unwrap();
    let request = |client: &mut Raw| {
        let seq = client.next_seq();
        client
            .encode(&HeaderRef { service_method: method, ..HeaderRef::new(Kind::Request, seq) }, body.clone())
    };
    (0..count).flat_map(|_| request(client)).collect()
}

#[tokio::test(start_paused = true)]
async fn turn_of_a_connection_ends_by_the_time_that_its_calls_took() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let (stage, log) = (stage(), Arc::clone(&order));
    let builder = builder(&stage).method("T.work", move |cx: Context, _: Nothing| {
        log.lock().unwrap().push(cx.connection().id);
        // Not so long that it counts as slow.
        async { advance(Duration::from_micros(60)).await }
    });
    let server = serve_with(stage, builder);
    let (mut busy, mut other) = (server.connect().await, server.connect().await);
    for _ in 0..20 {
        busy.call("T.work", none()).await.value();
    }
    order.lock().unwrap().clear();
    let bytes = requests(&mut busy, "T.work", 100);
    busy.write(&bytes).await;
    let bytes = requests(&mut other, "T.work", 1);
    other.write(&bytes).await;
    other.response().await.value();
    for _ in 0..100 {
        busy.response().await.value();
    }
    let order = order.lock().unwrap();
    let id = order.iter().max().unwrap();
    let place = order.iter().position(|client| client == id).unwrap();
    // 200 us are four calls. It may come behind two turns of the other.
    assert!(place <= 8, "{place} calls were before it");
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_start_in_small_groups() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let (stage, log) = (stage(), Arc::clone(&order));
    let builder = builder(&stage).method("T.pend", move |cx: Context, _: Nothing| {
        log.lock().unwrap().push(cx.connection().id);
        std::future::pending::<Value>()
    });
    let server = serve_with(stage, builder.method("T.quick", async |_: Nothing| 1));
    let (mut busy, mut other) = (server.connect().await, server.connect().await);
    for _ in 0..20 {
        other.call("T.quick", none()).await.value();
    }
    let bytes = requests(&mut busy, "T.pend", 500);
    busy.write(&bytes).await;
    let bytes = requests(&mut other, "T.quick", 1);
    other.write(&bytes).await;
    other.response().await.value();
    // No time passes: a turn of 200 us has room for the tasks of 25 calls. It may come behind two turns.
    let started = order.lock().unwrap().len();
    assert!(started <= 50, "{started} calls were before it");
}

fn lz4() -> ClientOffer {
    ClientOffer::default().compression(Compression::built_in())
}

/// Sends a call of `T.thread` with a compressed body, and returns the answer.
async fn compressed(client: &mut Raw, body: Bytes) -> support::Answer {
    let seq = client.next_seq();
    let header = HeaderRef {
        service_method: "T.thread",
        flags: Flags::COMPRESSED,
        ..HeaderRef::new(Kind::Request, seq)
    };
    client.send(&header, body).await;
    client.response().await
}

#[tokio::test(start_paused = true)]
async fn large_bodies_are_decompressed_on_another_thread() {
    let stage = stage();
    let builder = builder(&stage)
        .method("T.thread", async |args: Text| (format!("{:?}", std::thread::current().id()), args.text));
    let server = serve_with(stage, builder);
    let mut client = Raw::connect_with(&server.handle, &lz4()).await;
    let connections = Value::from(format!("{:?}", std::thread::current().id()));
    for (repeated, elsewhere) in [(200, false), (20_000, true), (200, false)] {
        let text = "again ".repeat(repeated);
        let body = client.codec().encode(&json!({"text": text})).unwrap();
        let answer = compressed(&mut client, Compression::Lz4.compress(&body).unwrap()).await;
        assert!(answer.is_compressed());
        let value = answer.value();
        assert_eq!(value[1], text);
        assert_eq!(value[0] != connections, elsewhere, "{repeated}");
    }
    // A length that is possible, and not true.
    let wrong = [&100_000_u32.to_le_bytes()[..], &[0; 1000]].concat();
    compressed(&mut client, wrong.into()).await.assert_error(Code::InvalidArgument, Execution::Refused);
    // One that is not is refused before.
    let bomb = [&300_000_u32.to_le_bytes()[..], &[0; 1000]].concat();
    compressed(&mut client, bomb.into()).await.assert_error(Code::InvalidArgument, Execution::Refused);
    assert_eq!(server.handle.in_flight(), 0);
}

/// Logs a connection when it is dropped.
struct LogEnd(u64, Arc<Mutex<Vec<u64>>>);

impl Drop for LogEnd {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(self.0);
    }
}

/// The calls of a burst, fewer than a connection may have in flight.
const BURST: usize = 1000;
/// The most of them that may be polled before a call of another connection: a turn of 200 us, of which each poll takes 1,
/// and some groups.
const MAX_BEFORE: usize = 300;

/// Starts a burst of calls that all end by `end`, at the same moment, and a call of another connection after that. Asserts
/// that it does not wait for all of the burst.
async fn assert_burst_lets_others_in(timeout_ms: u64, end: impl AsyncFnOnce(&Notify)) {
    let order = Arc::new(Mutex::new(Vec::new()));
    let (stage, log, go) = (stage(), Arc::clone(&order), Arc::new(Notify::new()));
    let (parked, at_once) = (Arc::clone(&go), Arc::clone(&order));
    let builder = builder(&stage)
        .method("T.park", move |cx: Context, _: Nothing| {
            let ended = LogEnd(cx.connection().id, Arc::clone(&log));
            let go = Arc::clone(&parked);
            async move {
                let _ended = ended;
                go.notified().await;
            }
        })
        .method("T.at_once", move |cx: Context, _: Nothing| {
            at_once.lock().unwrap().push(cx.connection().id);
            async {}
        });
    let server = serve_with(stage, builder);
    let (mut busy, mut other) = (server.connect().await, server.connect().await);
    other.call("T.at_once", none()).await.value();
    let id = order.lock().unwrap().pop().unwrap();
    let body = busy.codec().encode(&none()).unwrap();
    for _ in 0..BURST {
        let seq = busy.next_seq();
        let header = HeaderRef { service_method: "T.park", timeout_ms, ..HeaderRef::new(Kind::Request, seq) };
        let request = busy.encode(&header, body.clone());
        busy.write(&request).await;
    }
    while server.handle.in_flight() < BURST {
        yield_now().await;
    }
    end(&go).await;
    let request = requests(&mut other, "T.at_once", 1);
    other.write(&request).await;
    other.response().await.value();
    for _ in 0..BURST {
        busy.response().await;
    }
    let order = order.lock().unwrap();
    assert_eq!(order.len(), BURST + 1, "every call has ended");
    let place = order.iter().position(|client| *client == id).unwrap();
    assert!(place <= MAX_BEFORE, "{place} calls of the burst were before it");
}

#[tokio::test(start_paused = true)]
async fn handlers_that_wake_together_let_other_connections_in() {
    assert_burst_lets_others_in(0, async |go| go.notify_waiters()).await;
}

#[tokio::test(start_paused = true)]
async fn deadlines_that_pass_together_let_other_connections_in() {
    assert_burst_lets_others_in(5_000, async |_| advance(Duration::from_secs(5)).await).await;
}

/// A stream on which reading takes time: 1 us for each KiB.
struct Slow {
    inner: DuplexStream,
    /// The bytes that were read since a test took them.
    read: Arc<AtomicUsize>,
}

impl AsyncRead for Slow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        let bytes = buf.filled().len() - before;
        self.read.fetch_add(bytes, SeqCst);
        if bytes > 0 {
            // The clock has moved after the first poll, which would wake the task once more.
            let mut cx = TaskContext::from_waker(Waker::noop());
            let _: Poll<()> = pin!(advance(Duration::from_micros(bytes as u64 / 1024))).poll(&mut cx);
        }
        read
    }
}

impl AsyncWrite for Slow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn large_messages_are_read_in_turns_too() {
    const BODY: usize = 4 * 1024 * 1024 - 100;
    // All of them have come, and wait to be read.
    let (near, far) = tokio::io::duplex(16 * 1024 * 1024);
    let server = serve(Limits::default());
    let read = Arc::new(AtomicUsize::new(0));
    let stream = Stream::new(Slow { inner: far, read: Arc::clone(&read) });
    server.handle.serve_stream(stream, PeerAddress::Memory);
    let mut client = Raw::shake(near, &ClientOffer::default().compression(Vec::new())).await.unwrap();
    let body = client.codec().encode(&json!({"text": "a".repeat(BODY)})).unwrap();
    let mut messages = Vec::new();
    for _ in 0..3 {
        let seq = client.next_seq();
        let header = HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, seq) };
        messages.extend(client.encode(&header, body.clone()));
    }
    // Without its last byte.
    messages.pop();
    read.store(0, SeqCst);
    client.write(&messages).await;
    let (mut total, mut most) = (0, 0);
    while total < messages.len() {
        yield_now().await;
        let since = read.swap(0, SeqCst);
        (total, most) = (total + since, most.max(since));
    }
    // A turn of 200 us begins behind its first read, and ends behind the one that is under way then.
    assert!(most <= 3 * 200 * 1024, "{most} bytes were read in one turn");
}

#[tokio::test(start_paused = true)]
async fn few_of_many_busy_connections_run_before_another() {
    const CONNECTIONS: usize = 100;
    const BODY: usize = 600 * 1024;
    let server = serve(Limits::default());
    let read = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let (near, far) = tokio::io::duplex(1024 * 1024);
        let stream = Stream::new(Slow { inner: far, read: Arc::clone(&read) });
        server.handle.serve_stream(stream, PeerAddress::Memory);
        clients.push(Raw::shake(near, &ClientOffer::default().compression(Vec::new())).await.unwrap());
    }
    let mut sent = 0;
    read.store(0, SeqCst);
    for client in &mut clients {
        let body = client.codec().encode(&json!({"text": "a".repeat(BODY)})).unwrap();
        let header =
            HeaderRef { service_method: "T.count", ..HeaderRef::new(Kind::Request, client.next_seq()) };
        let mut message = client.encode(&header, body);
        // Without its last byte.
        message.pop();
        sent += message.len();
        client.write(&message).await;
    }
    let (mut total, mut most) = (read.swap(0, SeqCst), 0);
    while total < sent {
        yield_now().await;
        let since = read.swap(0, SeqCst);
        // Until each has had a turn, it is not known that they are many.
        if total > sent / 2 {
            most = most.max(since);
        }
        total += since;
    }
    // Twice five connections, whose turns are of 20 us, and the reads under way. All of them would read 4 MB.
    assert!(most <= 2 * 5 * 3 * 20 * 1024, "{most} bytes were read in one go");
}
