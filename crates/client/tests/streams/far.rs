//! A stream over a path with delay: how fast its window grows to what the path needs.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farcall_client::{Channel, Connection, ConnectionOptions};
use farcall_server::{Limits, Receiver, Sender, Server};
use farcall_transport::{Address, PeerAddress, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::support::{MS, S};

const KIB: usize = 1024;
/// 1 Gbit/s, in bytes a second.
const RATE: f64 = 125e6;
/// The time from a message to the answer to it.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// The time of the path's rate that waits in front of it, as in the queue of a network card.
const QUEUE: Duration = Duration::from_millis(2);

/// Connects two ends by a path with this rate and delay in either direction.
fn path() -> (Stream, Stream) {
    let ((near, near_shim), (far, far_shim)) = (duplex(256 * KIB), duplex(256 * KIB));
    let (near_in, near_out) = split(near_shim);
    let (far_in, far_out) = split(far_shim);
    carry(near_in, far_out);
    carry(far_in, near_out);
    (Stream::new(near), Stream::new(far))
}

/// Carries bytes from one end to the other.
fn carry(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    let (sent, mut arriving) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    tokio::spawn(async move {
        let mut free_at = Instant::now();
        loop {
            let mut bytes = BytesMut::with_capacity(16 * KIB);
            if from.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            free_at = free_at.max(Instant::now()) + Duration::from_secs_f64(bytes.len() as f64 / RATE);
            if sent.send((free_at + ROUND_TRIP / 2, bytes.freeze())).is_err() {
                return;
            }
            sleep_until(free_at - QUEUE).await;
        }
    });
    tokio::spawn(async move {
        while let Some((at, bytes)) = arriving.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
}

/// Connects a client and a server by the path. All windows begin with 64 KiB, and may grow to 16 MiB.
async fn connect() -> Channel {
    let limits =
        Limits::default().max_stream_window(16 * KIB * KIB).buffered_bytes_per_connection(64 * KIB * KIB);
    let server = Server::builder()
        .limits(limits)
        .stream_out("Feed.blobs", async |(): (), mut out: Sender<farcall_protocol::Bytes>| {
            let blob = farcall_protocol::Bytes::from(vec![7; 64 * KIB]);
            while out.send(blob.clone()).await.is_ok() {}
        })
        .stream_both(
            "Feed.take",
            async |(): (), mut items: Receiver<farcall_protocol::Bytes>, mut out: Sender<u64>| {
                // What has come by now and 200 ms later.
                let (mut bytes, began) = (0_u64, Instant::now());
                let mut next = began + S;
                while let Some(Ok(item)) = items.recv().await {
                    bytes += item.len() as u64;
                    if Instant::now() >= next {
                        next += 200 * MS;
                        let _ = out.send(bytes).await;
                    }
                }
            },
        )
        .build()
        .unwrap();
    let handle = server.handle();
    tokio::spawn(server.serve());
    let (near, far) = path();
    handle.serve_stream(far, PeerAddress::Memory);
    let options = ConnectionOptions::default().stream_window(64 * KIB);
    let address = Address::parse("tcp@in-memory:1").unwrap();
    Channel::from(Connection::over(near, &address, &options).await.unwrap())
}

/// Asserts that these bytes, which came in 200 ms, are 90% of the rate.
fn assert_reached(bytes: u64) {
    let share = bytes as f64 / (RATE / 5.0);
    assert!(share >= 0.9, "{:.0}% of the rate", share * 100.0);
}

#[tokio::test(start_paused = true)]
async fn download_with_50_ms_of_delay_reaches_90_percent_of_1_gbit_per_s_within_1_s_from_64_kib() {
    let channel = connect().await;
    let began = Instant::now();
    let mut blobs = channel.call::<()>("Feed.blobs", &()).receive::<farcall_protocol::Bytes>().await.unwrap();
    let mut bytes = 0;
    while began.elapsed() < S + 200 * MS {
        let blob = blobs.next().await.unwrap().unwrap();
        if began.elapsed() >= S {
            bytes += blob.len() as u64;
        }
    }
    assert_reached(bytes);
}

#[tokio::test(start_paused = true)]
async fn upload_with_50_ms_of_delay_reaches_90_percent_of_1_gbit_per_s_within_1_s_from_64_kib() {
    let channel = connect().await;
    let call = channel.call::<()>("Feed.take", &());
    let (mut sink, mut received) = call.exchange::<farcall_protocol::Bytes, u64>().await.unwrap().split();
    let sending = tokio::spawn(async move {
        let blob = farcall_protocol::Bytes::from(vec![7; 64 * KIB]);
        while let Ok(true) = sink.send(blob.clone()).await {}
    });
    let after_1_s = received.next().await.unwrap().unwrap();
    let later = received.next().await.unwrap().unwrap();
    sending.abort();
    assert_reached(later - after_1_s);
    sleep(MS).await;
}
