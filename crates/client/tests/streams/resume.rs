//! Streams that go on with another call: no item is lost, and none comes twice.

use farcall_client::{ItemStream, RetryPolicy};
use farcall_protocol::{Code, Execution, Kind, Message, Seq};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::failover::Pair;
use crate::support::{MS, Peer};

/// Opens `Feed.count` from 0, to be resumed.
async fn open(pair: &Pair) -> (Peer<TcpStream>, Seq, ItemStream<u64, u64>) {
    let call = pair.channel.call::<u64>("Feed.count", &(0, 100)).receive::<u64>();
    let call = call.resume(|last| (last + 1, 100_u64));
    let opening = tokio::spawn(async move { call.await });
    let mut first = pair.accept().await;
    let (seq, begin) = counting(&mut first).await;
    assert_eq!(begin, 0);
    (first, seq, opening.await.unwrap().unwrap())
}

/// Reads a request of `Feed.count`, and returns where it begins.
async fn counting(peer: &mut Peer<TcpStream>) -> (Seq, u64) {
    let Message { header, body, .. } = peer.request().await;
    peer.expect(Kind::End).await;
    let (from, to): (u64, u64) = peer.codec().decode(&body).unwrap();
    assert_eq!(to, 100);
    (header.seq, from)
}

/// Takes all items, and the final value.
fn collect(mut numbers: ItemStream<u64, u64>) -> JoinHandle<(Vec<u64>, u64)> {
    tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(number) = numbers.next().await {
            all.push(number.unwrap());
        }
        (all, numbers.finish().await.unwrap())
    })
}

/// Serves the rest of the count.
async fn serve_rest(peer: &mut Peer<TcpStream>, seq: Seq, from: u64) {
    for number in from..100 {
        peer.item(seq, &number).await;
    }
    peer.answer(seq, &(100 - from)).await;
}

#[tokio::test]
async fn stream_goes_on_elsewhere_after_it_was_cut() {
    for answered in [false, true] {
        let pair = Pair::new(RetryPolicy::fail_over()).await;
        let (mut first, seq, numbers) = open(&pair).await;
        for number in 0..10 {
            first.item(seq, &number).await;
        }
        if answered {
            first.fail(seq, Code::Unavailable, Execution::Maybe, "it stops").await;
        } else {
            drop(first);
        }
        let collecting = collect(numbers);
        let mut second = pair.accept().await;
        let (seq, from) = counting(&mut second).await;
        assert_eq!(from, 10);
        serve_rest(&mut second, seq, from).await;
        assert_eq!(collecting.await.unwrap(), ((0..100).collect(), 90));
        assert_eq!(pair.channel.metrics().streams.resumed, 1);
    }
}

#[tokio::test]
async fn other_errors_end_a_resumable_stream() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let (mut first, seq, mut numbers) = open(&pair).await;
    first.item(seq, &0).await;
    first.fail(seq, Code::Internal, Execution::Done, "it broke").await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 0);
    assert_eq!(numbers.next().await.unwrap().unwrap_err().code(), Code::Internal);
    assert!(numbers.next().await.is_none());
}

#[tokio::test]
async fn new_stream_is_opened_before_the_old_one_is_let_go_of_while_a_server_drains() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let (mut first, old, mut numbers) = open(&pair).await;
    for number in 0..10 {
        first.item(old, &number).await;
    }
    for number in 0..5 {
        assert_eq!(numbers.next().await.unwrap().unwrap(), number);
    }
    first.goaway(old, "it stops").await;
    numbers.draining().await;
    let collecting = collect(numbers);
    let mut second = pair.accept().await;
    let (seq, from) = counting(&mut second).await;
    assert_eq!(from, 5, "what was not taken comes over the new one");
    assert_eq!(first.expect(Kind::Goaway).await.header.seq, old);
    first.assert_silent(50 * MS).await;
    second.item(seq, &5).await;
    assert_eq!(first.expect(Kind::Cancel).await.header.seq, old);
    serve_rest(&mut second, seq, 6).await;
    let (all, _) = collecting.await.unwrap();
    assert_eq!(all, (5..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn stream_that_completes_while_its_server_drains_is_not_made_again() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let (mut first, old, mut numbers) = open(&pair).await;
    first.item(old, &0).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 0);
    first.goaway(old, "it stops").await;
    numbers.draining().await;
    let collecting = collect(numbers);
    let mut second = pair.accept().await;
    let (seq, from) = counting(&mut second).await;
    assert_eq!(from, 1);
    serve_rest(&mut first, old, 1).await;
    assert_eq!(collecting.await.unwrap(), ((1..100).collect(), 99));
    assert_eq!(second.expect(Kind::Cancel).await.header.seq, seq);
}
