//! The life of a connection: keep-alive, closing, loss, batching.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use farcall_client::{Channel, Connection, ConnectionOptions};
use farcall_protocol::{
    Code, Execution, HeaderRef, KeepAlive, Kind, MaxFrameBytes, Outbox, Seq, ServerPolicy,
};
use farcall_transport::{Address, Stream};
use support::{MEMORY, MS, Peer, S, channel, connect, connect_for, connect_with, rpc, settle};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::{Duration, Instant};

#[tokio::test(start_paused = true)]
async fn lost_connection_reports_written_requests_as_maybe_and_others_as_not_sent() {
    let (connection, mut peer) =
        connect_with(&ConnectionOptions::default(), &ServerPolicy::default(), 1000).await;
    let channel = Channel::from(connection);
    let written = channel.call::<()>("A.a", &()).start();
    peer.request().await;
    let begun = channel.call::<()>("A.b", &(vec![0_u8; 10_000],)).start();
    settle().await;
    let behind = channel.call::<()>("A.c", &()).start();
    drop(peer);
    for call in [written, begun] {
        let error = rpc(call.await);
        assert_error!(error, Unavailable, Maybe, Wait, MEMORY);
    }
    let error = rpc(behind.await);
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
}

#[tokio::test(start_paused = true)]
async fn end_of_stream_is_reported() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<()>("A.a", &()).start();
    peer.request().await;
    drop(peer);
    assert_error!(rpc(call.await), Unavailable, Maybe, Wait, MEMORY);
    assert_error!(rpc(channel.call::<()>("A.b", &()).await), Unavailable, NotSent, Connect, MEMORY);
}

#[tokio::test]
async fn connection_reset_is_reported() {
    let listener = support::Listener::bind().await;
    let channel = Channel::to(&*listener.address).unwrap();
    let call = channel.call::<()>("A.a", &()).start();
    let mut peer = listener.accept().await;
    peer.request().await;
    // Closing with no time to linger sends a reset.
    peer.frames.stream.set_zero_linger().unwrap();
    drop(peer);
    let error = rpc(call.await);
    assert_error!(error, Unavailable, Maybe, Wait, listener.address);
}

#[tokio::test(start_paused = true)]
async fn protocol_error_of_the_server_closes_the_connection() {
    let too_large = (MaxFrameBytes::DEFAULT.get() as u32 + 1).to_be_bytes();
    let frames: [Vec<u8>; 5] = [
        // A request, which only clients send.
        vec![0, 0, 0, 3, 0x92, 1, 1, 0, 0, 0, 0],
        // A message of an unknown kind.
        vec![0, 0, 0, 3, 0x92, 9, 1, 0, 0, 0, 0],
        // A header that does not decode.
        vec![0, 0, 0, 1, 0xc1, 0, 0, 0, 0],
        // A result of the second call, with a name in its header that is not UTF-8.
        vec![0, 0, 0, 5, 0x93, 2, 2, 0xa1, 0xff, 0, 0, 0, 1, 0x2a],
        // A body over the limit.
        [&[0, 0, 0, 3, 0x92, 2, 1], &too_large[..]].concat(),
    ];
    for frame in frames {
        let (channel, mut peer) = channel().await;
        let [answered, cut] = [(); 2].map(|()| channel.call::<i32>("A.a", &()).start());
        let seq = peer.request().await.header.seq;
        peer.request().await;
        // An answer before the protocol error is delivered.
        let mut outbox = Outbox::new();
        let body = peer.codec().encode(&7).unwrap();
        let header = HeaderRef::new(Kind::Response, seq);
        outbox.push(&peer.codec(), &header, &body.into(), MaxFrameBytes::DEFAULT).unwrap();
        let mut bytes = outbox.copy_to_bytes(outbox.remaining()).to_vec();
        bytes.extend(frame);
        peer.raw(&bytes).await;
        assert_eq!(answered.await.unwrap(), 7);
        let error = rpc(cut.await);
        assert_error!(error, Unavailable, Maybe, Wait, MEMORY);
        assert_eq!(peer.next().await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn ping_flood_is_a_protocol_error() {
    let (connection, mut peer) = connect(&ConnectionOptions::default()).await;
    for seq in 0..11 {
        peer.say(Kind::Ping, seq).await;
    }
    settle().await;
    assert!(!connection.is_available());
}

#[tokio::test(start_paused = true)]
async fn ping_is_answered_with_its_seq() {
    let (_connection, mut peer) = connect(&ConnectionOptions::default()).await;
    for seq in [9, 0, 1 << 52] {
        peer.say(Kind::Ping, seq).await;
        assert_eq!(peer.expect(Kind::Pong).await.header.seq, Seq(seq));
    }
}

#[tokio::test(start_paused = true)]
async fn silent_server_is_pinged_after_10_s_and_dead_after_15() {
    let (channel, mut peer) = channel().await;
    let begin = Instant::now();
    let call = channel.call::<()>("A.a", &()).start();
    peer.request().await;
    peer.expect(Kind::Ping).await;
    assert_eq!(begin.elapsed(), 10 * S);
    assert_error!(rpc(call.await), Unavailable, Maybe, Wait, MEMORY);
    assert_eq!(begin.elapsed(), 15 * S);
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn any_byte_counts_as_liveness() {
    let (connection, mut peer) = connect(&ConnectionOptions::default()).await;
    let begin = Instant::now();
    // A response to no request, a byte every 8 s.
    for byte in [0, 0, 0, 3, 0x92, 2, 1, 0, 0, 0, 0] {
        tokio::time::sleep(8 * S).await;
        peer.raw(&[byte]).await;
        settle().await;
    }
    let last = Instant::now();
    peer.expect(Kind::Ping).await;
    assert_eq!(last.elapsed(), 10 * S, "no ping before: {:?}", begin.elapsed());
    peer.raw(&[0]).await;
    peer.expect(Kind::Ping).await;
    assert!(connection.is_available());
}

#[tokio::test(start_paused = true)]
async fn pings_of_a_server_that_hears_nothing_are_no_signs_of_life() {
    let (connection, mut peer) = connect(&ConnectionOptions::default()).await;
    // The server's pings arrive, and nothing arrives at the server.
    for seq in 1..=3 {
        tokio::time::sleep(4 * S).await;
        peer.say(Kind::Ping, seq).await;
        settle().await;
        assert!(connection.is_available());
    }
    tokio::time::sleep(4 * S).await;
    assert!(!connection.is_available(), "16 s after the last byte that was no ping");
}

#[tokio::test(start_paused = true)]
async fn pong_together_with_a_ping_is_a_sign_of_life() {
    let (connection, mut peer) = connect(&ConnectionOptions::default()).await;
    for _ in 0..5 {
        // Both sides ping at the same moment, and the server's ping and pong arrive together.
        let seq = loop {
            let message = peer.next().await.unwrap();
            if message.header.kind == Kind::Ping {
                break message.header.seq;
            }
        };
        peer.say(Kind::Pong, seq.0).await;
        peer.say(Kind::Ping, 1).await;
        settle().await;
    }
    assert!(connection.is_available());
}

/// Opens a channel over a link that holds a thousand bytes; returns it and the server's end.
async fn channel_over_a_narrow_link() -> (Channel, Peer) {
    let (connection, peer) =
        connect_with(&ConnectionOptions::default(), &ServerPolicy::default(), 1000).await;
    (connection.into(), peer)
}

/// Takes a thousand bytes each second of virtual time.
async fn take_slowly(peer: &mut Peer, seconds: u64) {
    for _ in 0..seconds {
        tokio::time::sleep(S).await;
        peer.frames.stream.read_exact(&mut [0; 1000]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn request_may_take_longer_to_be_sent_than_a_server_may_be_silent() {
    let (channel, mut peer) = channel_over_a_narrow_link().await;
    let call = channel.call::<i32>("A.a", &(vec![0_u8; 60_000],)).start();
    take_slowly(&mut peer, 60).await;
    peer.answer(Seq(1), &7).await;
    assert_eq!(call.await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn server_that_no_longer_takes_a_request_is_dead_after_5_s() {
    let (channel, mut peer) = channel_over_a_narrow_link().await;
    let begin = Instant::now();
    let call = channel.call::<()>("A.a", &(vec![0_u8; 60_000],)).start();
    take_slowly(&mut peer, 30).await;
    assert_error!(rpc(call.await), Unavailable, Maybe, Wait, MEMORY);
    assert_eq!(begin.elapsed(), 35 * S);
}

#[tokio::test(start_paused = true)]
async fn keep_alive_times_are_configurable() {
    let times = KeepAlive::new(S, 500 * MS);
    let (connection, mut peer) = connect(&ConnectionOptions::default().keep_alive(times)).await;
    let begin = Instant::now();
    peer.expect(Kind::Ping).await;
    assert_eq!(begin.elapsed(), S);
    assert_eq!(peer.next().await, None);
    assert_eq!(begin.elapsed(), 1500 * MS);
    assert!(!connection.is_available());
}

#[tokio::test(start_paused = true)]
async fn close_sends_goaway_and_finishes_calls_in_flight() {
    let (connection, mut peer) = connect_for(1).await;
    let channel = connection;
    let connection = channel.connection().unwrap();
    let call = channel.call::<i32>("A.a", &()).start();
    let waiting = channel.call::<i32>("A.b", &()).start();
    let seq = peer.request().await.header.seq;
    connection.close();
    assert!(!connection.is_available());
    assert_eq!(peer.expect(Kind::Goaway).await.header.seq, seq);
    for error in [rpc(waiting.await), rpc(channel.call::<i32>("A.c", &()).await)] {
        assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
    }
    peer.assert_silent(60 * MS).await;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
    assert_eq!(peer.next().await, None, "the client's half is closed");
}

#[tokio::test(start_paused = true)]
async fn call_lost_after_close_reports_how_the_connection_was_lost() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    peer.request().await;
    channel.close();
    drop(peer);
    assert_error!(rpc(call.await), Unavailable, Maybe, Wait, MEMORY);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_closes_the_connection() {
    let (connection, mut peer) = connect(&ConnectionOptions::default()).await;
    let channel = Channel::from(connection.clone());
    let clone = channel.clone();
    channel.notify("A.a", &()).await.unwrap();
    drop((channel, clone));
    assert!(connection.is_available(), "another handle exists");
    drop(connection);
    let note = peer.request().await;
    assert_eq!(peer.expect(Kind::Goaway).await.header.seq, note.header.seq);
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn call_in_flight_keeps_its_connection_open() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    drop(channel);
    let seq = peer.request().await.header.seq;
    peer.assert_silent(S).await;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
    peer.expect(Kind::Goaway).await;
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn abandoned_connection_ends_though_the_server_never_answers() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    peer.request().await;
    drop((channel, call));
    let gone = Instant::now();
    peer.expect(Kind::Cancel).await;
    peer.expect(Kind::Goaway).await;
    assert_eq!(peer.next().await, None);
    // The server never answers the cancelled call, but is alive.
    while tokio::io::AsyncWriteExt::write_all(&mut peer.frames.stream, &[0]).await.is_ok() {
        tokio::time::sleep(S).await;
        assert!(gone.elapsed() < 20 * S, "the task of the connection is still there");
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_of_a_closed_connection_stops_waiting_for_answers() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    channel.close();
    drop(call);
    for kind in [Kind::Request, Kind::Goaway, Kind::Cancel] {
        peer.expect(kind).await;
    }
    settle().await;
    drop(channel);
    let gone = Instant::now();
    assert_eq!(peer.next().await, None);
    assert_eq!(gone.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn calls_up_to_the_seq_of_a_goaway_finish() {
    let (channel, mut peer) = channel().await;
    let [kept, refused] = [(); 2].map(|()| channel.call::<i32>("A.a", &()).start());
    let seq = peer.request().await.header.seq;
    peer.request().await;
    peer.goaway(seq, "draining").await;
    // This channel cannot dial again, so that the retry fails, too.
    let refused = rpc(refused.await);
    assert_error!(refused, Unavailable, NotSent, Connect, MEMORY);
    assert_eq!(refused.attempts(), 2);
    // The client's own goaway, so that its end of stream cancels no call.
    assert_eq!(peer.expect(Kind::Goaway).await.header.seq, Seq(2));
    peer.answer(seq, &1).await;
    assert_eq!(kept.await.unwrap(), 1);
    assert_eq!(peer.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn answer_just_before_a_goaway_is_delivered() {
    let (channel, mut peer) = channel().await;
    let [first, second] = [(); 2].map(|()| channel.call::<i32>("A.a", &()).start());
    let (one, two) = (peer.request().await.header.seq, peer.request().await.header.seq);
    let mut outbox = Outbox::new();
    let codec = peer.codec();
    for seq in [two, one] {
        let header = HeaderRef::new(Kind::Response, seq);
        outbox.push(&codec, &header, &codec.encode_body(&seq.0).unwrap(), MaxFrameBytes::DEFAULT).unwrap();
    }
    outbox
        .push(&codec, &HeaderRef::new(Kind::Goaway, Seq(0)), &Bytes::new().into(), MaxFrameBytes::DEFAULT)
        .unwrap();
    peer.raw(&outbox.copy_to_bytes(outbox.remaining())).await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn client_reads_while_its_writes_are_blocked() {
    let (connection, mut peer) =
        connect_with(&ConnectionOptions::default(), &ServerPolicy::default(), 256).await;
    let channel = Channel::from(connection);
    let asked = channel.call::<Vec<u8>>("A.a", &()).start();
    let seq = peer.request().await.header.seq;
    // The client writes a large request, which the server reads only after it has written a large answer.
    let large = channel.call::<i32>("A.b", &(vec![1_u8; 100_000],)).start();
    settle().await;
    peer.answer(seq, &vec![2_u8; 100_000]).await;
    assert_eq!(asked.await.unwrap().len(), 100_000);
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    assert_eq!(large.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn calls_waiting_for_outbox_space_all_get_it() {
    let options = ConnectionOptions::default().outbox_bytes(1);
    let (connection, mut peer) = connect_with(&options, &ServerPolicy::default(), 64).await;
    let channel = Channel::from(connection);
    let calls: Vec<_> =
        (0..100_u32).map(|n| channel.call::<u32>("A.a", &(n, vec![0_u8; 100])).start()).collect();
    for _ in 0..100 {
        let request = peer.request().await;
        let (n, _) = peer.codec().decode::<(u32, Vec<u8>)>(&request.body).unwrap();
        peer.answer(request.header.seq, &n).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), n as u32);
    }
}

/// Counts its reads and writes; there is one read for each poll of the connection's task.
struct Counted(DuplexStream, Arc<AtomicUsize>, Arc<AtomicUsize>);

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.2.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

async fn counted() -> (Channel, Peer, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (reads, writes) = (Arc::default(), Arc::default());
    let stream = Stream::new(Counted(near, Arc::clone(&reads), Arc::clone(&writes)));
    let (address, options) = (Address::parse(MEMORY).unwrap(), ConnectionOptions::default());
    let terms = ServerPolicy::default();
    let (near, far) = tokio::join!(Connection::over(stream, &address, &options), Peer::accept(far, &terms));
    settle().await;
    (near.unwrap().into(), far, reads, writes)
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_not_polled() {
    let (channel, mut peer, reads, _) = counted().await;
    let call = channel.call::<()>("A.a", &()).timeout(3600 * S).start();
    peer.request().await;
    let before = reads.load(Ordering::Relaxed);
    for _ in 0..10 {
        let seq = peer.expect(Kind::Ping).await.header.seq;
        peer.say(Kind::Pong, seq.0).await;
    }
    // A timer, a yield, a write and a read for each ping.
    let polls = reads.load(Ordering::Relaxed) - before;
    assert!(polls <= 60, "{polls} polls in 100 s");
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_are_batched_into_one_write() {
    let (channel, mut peer, _, writes) = counted().await;
    let before = writes.load(Ordering::Relaxed);
    let calls: Vec<_> = (0..100).map(|n| channel.call::<()>("A.a", &(n,)).start()).collect();
    for _ in 0..100 {
        peer.request().await;
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
    drop(calls);
}

#[tokio::test(start_paused = true)]
async fn ready_callers_join_the_batch_before_it_is_written() {
    let (channel, mut peer, _, writes) = counted().await;
    let before = writes.load(Ordering::Relaxed);
    let first = channel.call::<()>("A.a", &()).start();
    // It runs after the connection's task, which was woken by the first call.
    let second = tokio::spawn(async move { channel.call::<()>("A.b", &()).await });
    for _ in 0..2 {
        peer.request().await;
    }
    assert_eq!(writes.load(Ordering::Relaxed) - before, 1);
    drop((first, second));
}

#[test]
fn runtime_shutdown_ends_its_connections_and_calls() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (doomed, other) = (runtime(), runtime());
    let (channel, _peer) = doomed.block_on(connect_for(1));
    let (sent, waits) = doomed.block_on(async {
        let calls = [(); 2].map(|()| channel.call::<()>("A.a", &()).start());
        settle().await;
        calls.into()
    });
    drop(doomed);
    let error = rpc(other.block_on(sent));
    assert_eq!(error.code(), Code::Unavailable);
    let error = rpc(other.block_on(waits));
    assert_eq!(error.code(), Code::Unavailable);
}
