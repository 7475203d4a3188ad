//! Other endpoints, before the first item.

use bytes::Bytes;
use farcall_client::{Channel, RetryPolicy};
use farcall_discovery::RoundRobin;
use farcall_protocol::{Code, Execution, HeaderRef, Kind, Status};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::peer::{channel, terms};
use crate::support::{Listener, MS, Peer, S, metadata, settle};

/// Two servers, and a channel that calls them in turn.
pub(crate) struct Pair {
    listeners: [Listener; 2],
    pub(crate) channel: Channel,
}

impl Pair {
    pub(crate) async fn new(policy: RetryPolicy) -> Self {
        let listeners = [Listener::bind().await, Listener::bind().await];
        let builder = Channel::builder().to(&*listeners[0].address).to(&*listeners[1].address);
        let channel = builder.balancer(RoundRobin).retry(policy).build().unwrap();
        Self { listeners, channel }
    }

    /// Accepts the connection that the channel makes next, at either of them.
    pub(crate) async fn accept(&self) -> Peer<TcpStream> {
        let stream = tokio::select! {
            stream = self.listeners[0].accept_mute() => stream,
            stream = self.listeners[1].accept_mute() => stream,
        };
        Peer::accept(stream, &terms(64 * 1024, 256)).await
    }
}

#[tokio::test]
async fn stream_that_was_refused_is_opened_elsewhere() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let call = pair.channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>();
    let opening = tokio::spawn(async move { call.await });
    let mut first = pair.accept().await;
    let seq = first.receiving().await;
    let mut numbers = opening.await.unwrap().unwrap();
    let serving = tokio::spawn(async move {
        first.fail(seq, Code::ResourceExhausted, Execution::Refused, "full").await;
        let mut second = pair.accept().await;
        let request = second.request().await;
        let attempt = request.header.metadata.as_ref().and_then(|all| all.get("farcall-attempt"));
        assert_eq!(attempt, Some("2"));
        second.item(request.header.seq, &1).await;
        second.answer(request.header.seq, &1).await;
        (first, second, pair)
    });
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    assert_eq!(numbers.finish().await.unwrap(), 1);
    serving.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refused_stream_is_made_again_when_the_server_asks_for_it() {
    let (channel, mut peer) = channel().await;
    let mut upload = channel.call::<u64>("Feed.sum", &()).send_items::<u64>().await.unwrap();
    let seq = peer.streaming().await;
    upload.send(1).await.unwrap();
    assert_eq!(peer.take::<u64>().await.0, 1);
    let refused_at = Instant::now();
    let status = Status::refused(Code::ResourceExhausted, "too many streams");
    let again = metadata(&[("farcall-retry-after-ms", "300")]);
    let response = HeaderRef::new(Kind::Response, seq);
    peer.send(&HeaderRef { error: Some(&status), metadata: Some(&again), ..response }, Bytes::new()).await;
    let request = peer.request().await;
    assert_eq!(request.header.metadata.unwrap().get("farcall-attempt"), Some("2"));
    let waited = refused_at.elapsed();
    assert!((300 * MS..=376 * MS).contains(&waited), "{waited:?}");
    assert_eq!(peer.take::<u64>().await.0, 1);
    peer.answer(request.header.seq, &1).await;
    assert_eq!(upload.finish().await.unwrap(), 1);
}

#[tokio::test]
async fn interrupted_stream_is_opened_again_only_if_it_is_idempotent() {
    for idempotent in [false, true] {
        let pair = Pair::new(RetryPolicy::fail_over()).await;
        let call = pair.channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>();
        let call = if idempotent { call.idempotent() } else { call };
        let opening = tokio::spawn(async move { call.await });
        let mut first = pair.accept().await;
        first.receiving().await;
        let mut numbers = opening.await.unwrap().unwrap();
        drop(first);
        if !idempotent {
            let error = numbers.next().await.unwrap().unwrap_err();
            assert_error!(error.rpc().unwrap(), Unavailable, Maybe, Wait);
            continue;
        }
        let serving = tokio::spawn(async move {
            let mut second = pair.accept().await;
            let seq = second.receiving().await;
            second.item(seq, &1).await;
            second.answer(seq, &1).await;
            (second, pair)
        });
        assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
        serving.await.unwrap();
    }
}

#[tokio::test]
async fn stream_is_not_opened_again_after_its_first_item() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let call = pair.channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>().idempotent();
    let opening = tokio::spawn(async move { call.await });
    let mut first = pair.accept().await;
    let seq = first.receiving().await;
    let mut numbers = opening.await.unwrap().unwrap();
    first.item(seq, &1).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    drop(first);
    let error = numbers.next().await.unwrap().unwrap_err();
    assert_error!(error.rpc().unwrap(), Unavailable, Maybe, Wait);
    assert_eq!(error.rpc().unwrap().attempts(), 1);
}

#[tokio::test]
async fn items_that_were_sent_are_sent_again_elsewhere() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let call = pair.channel.call::<i64>("Feed.sum", &()).send_items::<i64>();
    let opening = tokio::spawn(async move { call.await });
    let mut first = pair.accept().await;
    let seq = first.streaming().await;
    let mut sum = opening.await.unwrap().unwrap();
    for number in [1, 2, 3] {
        assert!(sum.send(number).await.unwrap());
    }
    let finish = tokio::spawn(sum.finish());
    first.take::<i64>().await;
    first.fail(seq, Code::Unavailable, Execution::Refused, "it stops").await;
    let mut second = pair.accept().await;
    let seq = second.streaming().await;
    for number in [1, 2, 3] {
        assert_eq!(second.take::<i64>().await.0, number);
    }
    second.expect(Kind::End).await;
    second.answer(seq, &6).await;
    assert_eq!(finish.await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn call_that_has_sent_more_than_64_kib_is_not_made_again() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let call = pair.channel.call::<()>("Feed.sum", &()).send_items::<farcall_protocol::Bytes>();
    let opening = tokio::spawn(async move { call.await });
    let mut first = pair.accept().await;
    let seq = first.streaming().await;
    let mut upload = opening.await.unwrap().unwrap();
    upload.send(farcall_protocol::Bytes::from(vec![0; 70_000])).await.unwrap();
    first.take::<farcall_protocol::Bytes>().await;
    first.fail(seq, Code::Unavailable, Execution::Refused, "it stops").await;
    let error = upload.finish().await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Refused));
    assert_eq!(error.rpc().unwrap().attempts(), 1);
}

#[tokio::test]
async fn endpoint_without_streams_is_passed_over() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let call = pair.channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>();
    let opening = tokio::spawn(async move { call.await });
    let stream = tokio::select! {
        stream = pair.listeners[0].accept_mute() => stream,
        stream = pair.listeners[1].accept_mute() => stream,
    };
    let _old = Peer::accept(stream, &farcall_protocol::ServerPolicy::default()).await;
    let mut second = pair.accept().await;
    second.receiving().await;
    opening.await.unwrap().unwrap();
}

#[tokio::test]
async fn hedge_opens_a_second_stream_and_takes_the_first_with_an_item() {
    let pair = Pair::new(RetryPolicy::hedge_after(20 * MS)).await;
    let call = pair.channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>().idempotent();
    let opening = tokio::spawn(async move { call.await });
    let mut first = pair.accept().await;
    let slow = first.receiving().await;
    let mut second = pair.accept().await;
    let seq = second.receiving().await;
    second.item(seq, &1).await;
    let mut numbers = opening.await.unwrap().unwrap();
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    assert_eq!(first.expect(Kind::Cancel).await.header.seq, slow);
    second.answer(seq, &1).await;
    assert_eq!(numbers.finish().await.unwrap(), 1);
}

#[tokio::test]
async fn stream_counts_in_the_load_while_it_is_open_and_its_latency_is_that_of_the_first_item() {
    let pair = Pair::new(RetryPolicy::fail_over()).await;
    let call = pair.channel.call::<u64>("Feed.count", &(1, 2)).receive::<u64>();
    let opening = tokio::spawn(async move { call.await });
    let mut first = pair.accept().await;
    let seq = first.receiving().await;
    let mut numbers = opening.await.unwrap().unwrap();
    let in_flight = || pair.channel.endpoints().iter().map(|one| one.in_flight).sum::<usize>();
    assert_eq!((in_flight(), pair.channel.metrics().latency.count()), (1, 0));
    first.item(seq, &1).await;
    numbers.next().await.unwrap().unwrap();
    farcall_test_support::wait::until("the first item is measured", || {
        pair.channel.metrics().latency.count() == 1
    })
    .await;
    assert_eq!(in_flight(), 1);
    first.answer(seq, &1).await;
    assert!(numbers.next().await.is_none());
    farcall_test_support::wait::until("the load is gone", || in_flight() == 0).await;
    assert_eq!(pair.channel.metrics().latency.count(), 1);
    settle().await;
    let _ = S;
}
