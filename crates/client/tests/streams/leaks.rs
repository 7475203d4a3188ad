//! Nothing is left of streams, whatever their callers forget.

use farcall_client::{Channel, ConnectionOptions};
use farcall_protocol::{Code, Execution, HeaderRef, Kind, Message, Seq, Status};
use tokio::io::DuplexStream;

use crate::peer::terms;
use crate::support::{Peer, connect_with, settle};

/// A generator of numbers that a test can repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Serves streams at random: items, stops, credits, responses and errors; confirms what is cancelled.
async fn serve(mut peer: Peer<DuplexStream>) {
    let mut random = Random(7);
    while let Some(Message { header, .. }) = peer.frames.next().await {
        let seq = header.seq;
        match header.kind {
            Kind::Request => {
                for number in 0..random.below(4) {
                    peer.item(seq, &number).await;
                }
                match random.below(5) {
                    0 => peer.answer(seq, &1).await,
                    1 => peer.fail(seq, Code::Internal, Execution::Done, "it broke").await,
                    2 => peer.tell(Kind::Stop, seq).await,
                    _ => {}
                }
            }
            Kind::End => peer.answer(seq, &2).await,
            Kind::Cancel => {
                let status = Status::new(Code::Cancelled, Execution::Maybe, "cancelled");
                let header = HeaderRef { error: Some(&status), ..HeaderRef::new(Kind::Response, seq) };
                peer.send(&header, bytes::Bytes::new()).await;
            }
            Kind::Item => peer.credit(seq, 1 << 20).await,
            Kind::Goaway => return,
            _ => {}
        }
        // For no call at all.
        if random.below(50) == 0 {
            peer.item(Seq(u64::from(u32::MAX)), &1).await;
        }
    }
}

#[tokio::test]
async fn streams_that_are_dropped_at_random_points_leave_nothing() {
    let (connection, peer) = connect_with(&ConnectionOptions::default(), &terms(300, 64), 256 * 1024).await;
    let serving = tokio::spawn(serve(peer));
    let channel = Channel::from(connection.clone());
    let tasks = (0..50_u64).map(|task| {
        let channel = channel.clone();
        tokio::spawn(async move {
            let mut random = Random(task + 1);
            for _ in 0..200 {
                let call = channel.call::<u64>("Feed.any", &());
                // At any point: the task may stop at each of its waits.
                let steps = random.below(6);
                let kind = random.below(3);
                let work = async move {
                    match kind {
                        0 => {
                            let mut items = call.receive::<u64>().await.unwrap();
                            for _ in 0..steps {
                                let _ = items.next().await;
                            }
                        }
                        1 => {
                            let mut sink = call.send_items::<u64>().await.unwrap();
                            for step in 0..steps {
                                let _ = sink.send(step).await;
                            }
                            if steps > 2 {
                                let _ = sink.finish().await;
                            }
                        }
                        _ => {
                            let both = call.exchange::<u64, u64>().await.unwrap();
                            let (mut sink, mut items) = both.split();
                            for step in 0..steps {
                                let _ = sink.send(step).await;
                                let _ = items.next().await;
                            }
                            if steps > 3 {
                                sink.end();
                            }
                        }
                    }
                };
                let mut work = Box::pin(work);
                for _ in 0..=random.below(12) {
                    if futures::poll!(&mut work).is_ready() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    farcall_test_support::wait::until("nothing is left", || {
        connection.held_by_streams() == (0, 0, 0) && connection.in_flight() == 0
    })
    .await;
    let metrics = channel.metrics().streams;
    assert_eq!((metrics.open, metrics.opened), (0, 10_000));
    assert!(channel.is_available(), "{connection:?}");
    // All places are free: the server may have answered some of these at once.
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(channel.call::<u64>("Feed.any", &()).receive::<u64>().await);
    }
    drop(open);
    settle().await;
    channel.close().await.unwrap();
    serving.await.unwrap();
}
