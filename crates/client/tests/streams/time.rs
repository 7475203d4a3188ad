//! The clocks of streams.

use farcall_client::{Channel, ConnectionOptions};
use farcall_protocol::Kind;
use tokio::time::{Instant, timeout};

use crate::peer::{channel, terms};
use crate::support::{MS, Peer, S};

#[tokio::test(start_paused = true)]
async fn timeout_is_for_the_whole_call() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<()>("Feed.ticks", &()).receive::<u64>();
    let mut numbers = call.timeout(10 * S).await.unwrap();
    let request = peer.request().await;
    peer.expect(Kind::End).await;
    assert_eq!(request.header.timeout_ms, 10_000);
    let begun = Instant::now();
    peer.item(request.header.seq, &1).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    let error = numbers.next().await.unwrap().unwrap_err();
    assert_error!(error.rpc().unwrap(), DeadlineExceeded, Maybe, Wait);
    assert!((9 * S..11 * S).contains(&begun.elapsed()));
    peer.expect_behind_pings(Kind::Cancel).await;
}

#[tokio::test(start_paused = true)]
async fn first_within_ends_with_the_first_item() {
    let (channel, mut peer) = channel().await;
    for answers in [false, true] {
        let call = channel.call::<()>("Feed.ticks", &()).receive::<u64>();
        let mut numbers = call.first_within(5 * S).await.unwrap();
        let request = peer.request().await;
        peer.expect(Kind::End).await;
        let seq = request.header.seq;
        assert_eq!(request.header.timeout_ms, 0, "it is not for the whole call");
        if answers {
            peer.item(seq, &1).await;
            assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
            assert!(timeout(9 * S, numbers.next()).await.is_err());
        } else {
            let begun = Instant::now();
            let error = numbers.next().await.unwrap().unwrap_err();
            assert_error!(error.rpc().unwrap(), DeadlineExceeded, Maybe, Wait);
            assert!((4 * S..6 * S).contains(&begun.elapsed()));
            peer.expect_behind_pings(Kind::Cancel).await;
            peer.answer(seq, &()).await;
        }
        while let Ok(Some(_)) = timeout(MS, peer.next()).await {}
    }
}

#[tokio::test]
async fn default_timeout_of_a_channel_applies_until_the_first_item() {
    let listener = crate::support::Listener::bind().await;
    let channel = Channel::builder().to(&*listener.address).timeout(30 * S).build().unwrap();
    let call = channel.call::<()>("Feed.ticks", &()).receive::<u64>();
    let opening = tokio::spawn(async move { call.await });
    let mut peer = Peer::accept(listener.accept_mute().await, &terms(64 * 1024, 16)).await;
    let request = peer.request().await;
    assert_eq!(request.header.timeout_ms, 0);
    let mut numbers = opening.await.unwrap().unwrap();
    peer.item(request.header.seq, &1).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    drop(numbers);
    let silent = channel.call::<()>("Feed.ticks", &()).receive::<u64>().timeout(7 * S).await.unwrap();
    loop {
        let message = peer.next().await.unwrap();
        if message.header.kind == Kind::Request {
            assert!((6_000..=7_000).contains(&message.header.timeout_ms), "its own timeout is for all of it");
            break;
        }
    }
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn first_within_counts_the_wait_for_a_place() {
    let (connection, mut peer) =
        crate::support::connect_with(&ConnectionOptions::default(), &terms(64 * 1024, 1), 64 * 1024).await;
    let channel = Channel::from(connection);
    let _first = channel.call::<()>("Feed.ticks", &()).receive::<u64>().await.unwrap();
    peer.receiving().await;
    let second = channel.call::<()>("Feed.ticks", &()).receive::<u64>().first_within(2 * S).await;
    let error = second.unwrap_err();
    assert_error!(error.rpc().unwrap(), DeadlineExceeded, NotSent, Queue);
    peer.assert_silent(S).await;
}

#[tokio::test(start_paused = true)]
async fn gap_limits_the_wait_between_two_items() {
    let (channel, mut peer) = channel().await;
    let mut numbers = channel.call::<()>("Feed.ticks", &()).receive::<u64>().gap(2 * S).await.unwrap();
    let seq = peer.receiving().await;
    // There is no item yet.
    assert!(timeout(5 * S, numbers.next()).await.is_err());
    peer.item(seq, &1).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 1);
    // The caller does not wait.
    tokio::time::sleep(5 * S).await;
    peer.item(seq, &2).await;
    assert_eq!(numbers.next().await.unwrap().unwrap(), 2);
    let begun = Instant::now();
    let error = numbers.next().await.unwrap().unwrap_err();
    assert_error!(error.rpc().unwrap(), DeadlineExceeded, Maybe, Wait);
    assert!((2 * S..3 * S).contains(&begun.elapsed()));
    assert!(numbers.next().await.is_none());
    peer.expect_behind_pings(Kind::Cancel).await;
}
