//! One-way calls, `flush` and `close`: what their outcomes say about what was written.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

#[macro_use]
mod support;

use farcall_client::{Channel, ConnectionOptions};
use farcall_protocol::{Code, Execution, Kind, ServerPolicy};
use farcall_test_support::wait::until;
use futures::FutureExt as _;
use support::{Listener, MEMORY, MS, Peer, S, connect_with, is_one_way, rpc, settle};
use tokio::time::Instant;

/// Opens a channel over a pipe that holds `buffer` bytes.
async fn channel_over(buffer: usize) -> (Channel, Peer) {
    let options = ConnectionOptions::default().write_timeout(None);
    let (connection, peer) = connect_with(&options, &ServerPolicy::default(), buffer).await;
    (Channel::from(connection), peer)
}

#[tokio::test(start_paused = true)]
async fn one_way_call_is_ready_when_it_is_written() {
    let (channel, mut peer) = channel_over(1000).await;
    let text = ("x".repeat(5000),);
    let mut large = Box::pin(channel.notify("A.large", &text));
    let mut behind = Box::pin(channel.notify("A.behind", &()));
    assert!(large.as_mut().now_or_never().is_none() && behind.as_mut().now_or_never().is_none());
    settle().await;
    assert!(large.as_mut().now_or_never().is_none() && behind.as_mut().now_or_never().is_none());
    assert!(is_one_way(&peer.request().await));
    large.await.unwrap();
    behind.await.unwrap();
    assert!(is_one_way(&peer.request().await));
}

#[tokio::test]
async fn one_way_calls_keep_their_order_though_there_are_two_connections() {
    let listener = Listener::bind().await;
    let channel = Channel::builder().to(&*listener.address).connections(2).build().unwrap();
    let _first = channel.call::<()>("A.first", &()).start();
    let mut first = listener.accept().await;
    first.request().await;
    let _more = [channel.call::<()>("A.more", &()).start(), channel.call::<()>("A.more", &()).start()];
    let second = listener.accept().await;
    until("both take calls", || channel.overview().endpoints[0].connections == 2).await;
    for n in 0..10 {
        channel.notify("A.n", &n).await.unwrap();
    }
    let mut received = Vec::new();
    while received.len() < 10 {
        let message = first.request().await;
        if is_one_way(&message) {
            received.push(first.codec().decode::<i32>(&message.body).unwrap());
        }
    }
    assert_eq!(received, Vec::from_iter(0..10));
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn one_way_call_that_is_not_written_in_time_may_have_been_sent() {
    let (channel, mut peer) = channel_over(1000).await;
    let begin = Instant::now();
    let call = channel.call::<()>("A.large", &("x".repeat(5000),)).timeout(50 * MS).notify();
    let error = call.await.unwrap_err();
    assert_error!(error, DeadlineExceeded, Maybe, Write, MEMORY);
    assert!(error.to_string().contains("the request was not written within 50 ms"), "{error}");
    assert_eq!(begin.elapsed(), 50 * MS);
    assert!(is_one_way(&peer.request().await), "it is still written, so that the stream stays whole");
}

#[tokio::test(start_paused = true)]
async fn lost_connection_tells_what_was_written_of_one_way_calls() {
    let (channel, peer) = channel_over(1000).await;
    let text = ("x".repeat(5000),);
    let mut begun = Box::pin(channel.notify("A.begun", &text));
    let mut behind = Box::pin(channel.notify("A.behind", &()));
    assert!(begun.as_mut().now_or_never().is_none() && behind.as_mut().now_or_never().is_none());
    settle().await;
    drop(peer);
    let error = begun.await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe));
    // It would go over the next connection, which this channel cannot make.
    let error = behind.await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
}

#[tokio::test(start_paused = true)]
async fn many_one_way_calls_are_written_together() {
    let (channel, mut peer) = channel_over(64 * 1024).await;
    let calls = (0..100).map(|n| {
        let channel = channel.clone();
        async move { channel.notify("A.a", &(n,)).await }
    });
    futures::future::try_join_all(calls).await.unwrap();
    for _ in 0..100 {
        assert!(is_one_way(&peer.request().await));
    }
}

#[tokio::test(start_paused = true)]
async fn flush_is_ready_when_all_is_written() {
    let (channel, mut peer) = channel_over(1000).await;
    channel.flush().await.unwrap();
    let call = channel.call::<i64>("A.large", &("x".repeat(5000),)).start();
    let mut flush = Box::pin(channel.flush());
    assert!(flush.as_mut().now_or_never().is_none());
    settle().await;
    assert!(flush.as_mut().now_or_never().is_none());
    let seq = peer.request().await.header.seq;
    flush.await.unwrap();
    peer.answer(seq, &7).await;
    assert_eq!(call.await.unwrap(), 7);

    let call = channel.call::<i64>("A.large", &("x".repeat(5000),)).start();
    let mut flush = Box::pin(channel.flush());
    assert!(flush.as_mut().now_or_never().is_none());
    drop(peer);
    let error = flush.await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe));
    rpc(call.await);
    channel.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_calls_and_for_the_server() {
    let (channel, mut peer) = channel_over(64 * 1024).await;
    let call = channel.call::<i64>("A.a", &()).start();
    let mut closing = channel.close();
    let seq = peer.request().await.header.seq;
    peer.expect(Kind::Goaway).await;
    peer.assert_silent(S).await;
    assert!((&mut closing).now_or_never().is_none(), "a call is in flight");
    peer.answer(seq, &7).await;
    assert_eq!(call.await.unwrap(), 7);
    assert!(peer.next().await.is_none(), "this side has closed");
    settle().await;
    assert!((&mut closing).now_or_never().is_none(), "the server has not");
    drop(peer);
    closing.await.unwrap();
    channel.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn close_tells_if_the_server_may_not_have_read_all() {
    // It is gone with bytes that were not written.
    let (channel, peer) = channel_over(1000).await;
    let call = channel.call::<()>("A.large", &("x".repeat(5000),)).start();
    let closing = channel.close();
    settle().await;
    drop(peer);
    let error = closing.await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe));
    rpc(call.await);

    // It never closes.
    let (channel, mut peer) = channel_over(1000).await;
    let (begin, closing) = (Instant::now(), channel.close());
    peer.expect(Kind::Goaway).await;
    let error = closing.await.unwrap_err();
    assert!(error.to_string().contains("it did not close the connection"), "{error}");
    assert_eq!(begin.elapsed(), 10 * S);
}
