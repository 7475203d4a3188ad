//! Extra connections of a channel: for large requests that overlap, and only for these.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use farcall_client::{Channel, ChannelBuilder, ConnectionOptions, StartedCall};
use farcall_discovery::StaticList;
use farcall_protocol::metadata::LOAD;
use farcall_protocol::{Bytes, HeaderRef, KeepAlive, Kind, MaxInFlight, Message, ServerPolicy, StreamPolicy};
use farcall_test_support::wait::until;
use support::{Listener, Peer, S, metadata, pass, settle};
use tokio::net::TcpStream;

/// The bytes of a large request without the marker of their type and length, and too few for one, whatever header they have.
const LARGE: usize = 256 * 1024 - 5;
const SMALLER: usize = LARGE - 1024;

/// Returns a channel to one address, and one that discovers it, with a connection that one call has made.
async fn channels(
    set: impl Fn(ChannelBuilder) -> ChannelBuilder,
) -> Vec<(Channel, Listener, Peer<TcpStream>)> {
    let mut channels = Vec::new();
    for discovers in [false, true] {
        let listener = Listener::bind().await;
        let builder = if discovers {
            Channel::builder().discover(StaticList::new([&*listener.address]).unwrap())
        } else {
            Channel::builder().to(&*listener.address)
        };
        let channel = set(builder).build().unwrap();
        let call = channel.call::<i32>("A.first", &()).start();
        let mut peer = listener.accept().await;
        let request = peer.request().await;
        peer.answer(request.header.seq, &1).await;
        assert_eq!(call.await.unwrap(), 1);
        channels.push((channel, listener, peer));
    }
    channels
}

/// Starts a call with this many bytes.
fn start(channel: &Channel, bytes: usize) -> StartedCall<usize> {
    channel.call::<usize>("A.len", &Bytes::from(vec![7; bytes])).start()
}

/// Answers a request of [`start`].
async fn answer(peer: &mut Peer<TcpStream>, request: &Message) {
    let body: Bytes = peer.codec().decode(&request.body).unwrap();
    peer.answer(request.header.seq, &body.len()).await;
}

/// Accepts a connection, and waits until the channel has `count` in all.
async fn accept(listener: &Listener, channel: &Channel, count: usize) -> Peer<TcpStream> {
    let peer = listener.accept().await;
    until("the connection takes calls", || connections(channel) == count).await;
    peer
}

fn connections(channel: &Channel) -> usize {
    channel.overview().endpoints.iter().map(|endpoint| endpoint.connections).sum()
}

#[tokio::test]
async fn large_requests_that_overlap_get_connections_of_their_own_within_the_limit() {
    for (channel, listener, mut usual) in channels(|builder| builder.max_connections(3)).await {
        // One after the other, and beside small ones, they share the usual connection.
        let small = start(&channel, SMALLER);
        let waits = usual.request().await;
        for _ in 0..3 {
            let call = start(&channel, LARGE);
            let request = usual.request().await;
            answer(&mut usual, &request).await;
            assert_eq!(call.await.unwrap(), LARGE);
        }
        let first = start(&channel, LARGE);
        let first_request = usual.request().await;
        let beside = start(&channel, SMALLER);
        let beside_request = usual.request().await;
        assert!(!listener.was_dialed().await);

        // The second finds no other connection yet, and causes one, which the third takes.
        let second = start(&channel, LARGE);
        let second_request = usual.request().await;
        let mut extra = accept(&listener, &channel, 2).await;
        let third = start(&channel, LARGE);
        let third_request = extra.request().await;
        assert!(!listener.was_dialed().await);

        // A fourth goes where the fewest bytes are, and causes the last connection. There is no fifth.
        let fourth = start(&channel, LARGE);
        let fourth_request = extra.request().await;
        let mut last = accept(&listener, &channel, 3).await;
        let more = [start(&channel, LARGE), start(&channel, LARGE)];
        let more_requests = [last.request().await, last.request().await];
        assert!(!listener.was_dialed().await);

        // Small ones never leave the usual one.
        let smaller = start(&channel, SMALLER);
        let smaller_request = usual.request().await;
        for request in [waits, beside_request, first_request, second_request, smaller_request] {
            answer(&mut usual, &request).await;
        }
        for request in [third_request, fourth_request] {
            answer(&mut extra, &request).await;
        }
        for request in more_requests {
            answer(&mut last, &request).await;
        }
        for call in [small, beside, smaller] {
            assert_eq!(call.await.unwrap(), SMALLER);
        }
        for call in [first, second, third, fourth].into_iter().chain(more) {
            assert_eq!(call.await.unwrap(), LARGE);
        }

        // None is under way any more.
        let alone = start(&channel, LARGE);
        let request = usual.request().await;
        answer(&mut usual, &request).await;
        assert_eq!(alone.await.unwrap(), LARGE);
        let closing = channel.close();
        for peer in [&mut usual, &mut extra, &mut last] {
            peer.expect(Kind::Goaway).await;
        }
        drop((usual, extra, last));
        closing.await.unwrap();
        assert_eq!(connections(&channel), 0);
    }
}

#[tokio::test]
async fn channel_of_one_connection_at_most_opens_no_other() {
    for max in [0, 1] {
        for (channel, listener, mut usual) in channels(|builder| builder.max_connections(max)).await {
            let _calls = [start(&channel, LARGE), start(&channel, LARGE), start(&channel, LARGE)];
            for _ in 0..3 {
                usual.request().await;
            }
            assert!(!listener.was_dialed().await);
        }
    }
}

#[tokio::test]
async fn large_requests_are_spread_over_the_usual_connections_first() {
    for (channel, listener, mut first) in channels(|builder| builder.connections(2).max_connections(2)).await
    {
        // The second connection is dialed at the next turn.
        let calls = [start(&channel, 1), start(&channel, 1)];
        let mut second = accept(&listener, &channel, 2).await;
        for _ in &calls {
            tokio::select! { _ = first.request() => {}, _ = second.request() => {} }
        }
        let _calls = [start(&channel, LARGE), start(&channel, LARGE)];
        first.request().await;
        second.request().await;
        // Of two with as many bytes, the first is taken.
        let _third = start(&channel, LARGE);
        first.request().await;
        assert!(!listener.was_dialed().await);
    }
}

#[tokio::test]
async fn large_requests_alone_dial_the_usual_connections_that_are_missing() {
    for (channel, listener, mut first) in channels(|builder| builder.connections(2).max_connections(3)).await
    {
        let _alone = start(&channel, LARGE);
        first.request().await;
        assert!(!listener.was_dialed().await);
        let _overlaps = start(&channel, LARGE);
        first.request().await;
        let mut second = accept(&listener, &channel, 2).await;
        let _other = start(&channel, LARGE);
        second.request().await;
        // It is one of those that take turns, and so gets small ones, too.
        let _small = [start(&channel, 1), start(&channel, 1)];
        first.request().await;
        second.request().await;
        assert!(!listener.was_dialed().await);
        let _more = start(&channel, LARGE);
        second.request().await;
        accept(&listener, &channel, 3).await;
    }
}

#[tokio::test]
async fn only_large_calls_with_one_answer_leave_the_usual_connection() {
    let listener = Listener::bind().await;
    let channel = Channel::builder().to(&*listener.address).build().unwrap();
    let policy = ServerPolicy::default().max_in_flight(MaxInFlight::new(2)).streams(StreamPolicy::default());
    let _large = [start(&channel, LARGE), start(&channel, LARGE)];
    let mut usual = Peer::accept(listener.accept_mute().await, &policy).await;
    let request = usual.request().await;
    usual.request().await;
    let _extra = Peer::accept(listener.accept_mute().await, &policy).await;
    until("the connection takes calls", || connections(&channel) == 2).await;
    // A small one waits for a place, though the other connection has some.
    let small = start(&channel, SMALLER);
    settle().await;
    answer(&mut usual, &request).await;
    let request = usual.request().await;
    answer(&mut usual, &request).await;
    assert_eq!(small.await.unwrap(), SMALLER);
    // A streaming call does not move, whatever its size.
    let stream = channel.call::<()>("A.items", &Bytes::from(vec![7; LARGE])).receive::<u64>();
    let _opening = tokio::spawn(stream.into_future());
    assert_eq!(&*usual.request().await.header.service_method, "A.items");
}

#[tokio::test]
async fn load_that_is_reported_over_an_extra_connection_counts() {
    let (channel, listener, mut usual) = channels(|builder| builder).await.pop().unwrap();
    let _on_usual = [start(&channel, LARGE), start(&channel, LARGE)];
    for _ in 0..2 {
        usual.request().await;
    }
    let mut extra = accept(&listener, &channel, 2).await;
    let call = start(&channel, LARGE);
    let request = extra.request().await;
    let is_known = || channel.overview().endpoints[0].reported_load.is_some();
    assert!(!is_known());
    let metadata = metadata(&[(LOAD, "rps=100,in_flight=1")]);
    let header =
        HeaderRef { metadata: Some(&metadata), ..HeaderRef::new(Kind::Response, request.header.seq) };
    extra.send(&header, extra.codec().encode(&LARGE).unwrap()).await;
    assert_eq!(call.await.unwrap(), LARGE);
    assert!(is_known());
}

#[tokio::test]
async fn extra_connection_closes_after_thirty_seconds_without_calls() {
    // No pings, which would be answered too late in time that passes at once.
    let set = |builder: ChannelBuilder| {
        builder.options(ConnectionOptions::default().keep_alive(KeepAlive::new(3600 * S, 3600 * S)))
    };
    for (channel, listener, mut usual) in channels(set).await {
        let _on_usual = [start(&channel, LARGE), start(&channel, LARGE)];
        for _ in 0..2 {
            usual.request().await;
        }
        let mut extra = accept(&listener, &channel, 2).await;
        // A call in flight keeps it, and the time counts from its end.
        let call = start(&channel, LARGE);
        let request = extra.request().await;
        for _ in 0..4 {
            pass(20 * S).await;
        }
        answer(&mut extra, &request).await;
        assert_eq!(call.await.unwrap(), LARGE);
        pass(20 * S).await;
        let call = start(&channel, LARGE);
        let request = extra.request().await;
        answer(&mut extra, &request).await;
        assert_eq!(call.await.unwrap(), LARGE);
        pass(20 * S).await;
        assert_eq!(connections(&channel), 2);
        pass(41 * S).await;
        extra.expect(Kind::Goaway).await;
        assert_eq!(extra.next().await.map(|message| message.header.kind), None);
        // The usual one stays, and the next large request causes another one.
        assert_eq!(connections(&channel), 1);
        let _again = start(&channel, LARGE);
        usual.request().await;
        accept(&listener, &channel, 2).await;
    }
}
