//! Channels: dialing, backoff, retries over a new connection, and closing.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_client::{BuildError, Channel, ConnectionOptions, Phase, RetryBudget, RetryPolicy};
use farcall_discovery::{Discovery, Endpoint, Publisher};
use farcall_protocol::{Code, Execution, HeaderRef, Kind, Seq, Status};
use farcall_test_support::wait::stop_clock;
use farcall_transport::{Address, Dialer, Resolve, Resolving};
use support::{Listener, MS, S, pass, rpc, settle};
use tokio::time::{Duration, Instant};

async fn channel() -> (Channel, Listener) {
    let listener = Listener::bind().await;
    (Channel::to(&*listener.address).unwrap(), listener)
}

#[tokio::test]
async fn channel_dials_once_at_the_first_call() {
    let (channel, listener) = channel().await;
    assert!(!listener.was_dialed().await);
    assert!(!channel.is_available());
    let calls: Vec<_> = (0..50).map(|n| channel.clone().call::<i32>("A.a", &(n,)).start()).collect();
    // The calls are sent without being polled, though the channel has to dial first.
    let mut peer = listener.accept().await;
    for _ in 0..50 {
        let request = peer.request().await;
        let [n] = peer.codec().decode::<[i32; 1]>(&request.body).unwrap();
        peer.answer(request.header.seq, &n).await;
    }
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), n as i32);
    }
    assert!(!listener.was_dialed().await);
    assert!(channel.is_available());
}

#[tokio::test]
async fn deadline_of_one_call_does_not_cancel_a_shared_dial() {
    let listener = Listener::bind().await;
    let options = ConnectionOptions::default().connect_timeout(3600 * S);
    let channel = Channel::builder().to(&*listener.address).options(options).build().unwrap();
    let hasty = channel.call::<i32>("A.a", &()).timeout(60 * S).start();
    let patient = channel.call::<i32>("A.b", &()).start();
    let stream = listener.accept_mute().await;
    // The client's Option is there: it waits for the answer.
    stream.readable().await.unwrap();
    pass(60 * S).await;
    assert_error!(rpc(hasty.await), DeadlineExceeded, NotSent, Handshake, listener.address);
    let mut peer = support::Peer::accept(stream, &Default::default()).await;
    let request = peer.request().await;
    assert_eq!(&*request.header.service_method, "A.b");
    peer.answer(request.header.seq, &1).await;
    assert_eq!(patient.await.unwrap(), 1);
}

#[tokio::test]
async fn handshake_of_a_dial_times_out() {
    let (channel, listener) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    let stream = listener.accept_mute().await;
    // The client's Option is there: it waits for the answer.
    stream.readable().await.unwrap();
    pass(10 * S).await;
    assert_error!(rpc(call.await), Unavailable, NotSent, Handshake, listener.address);
}

/// Resolves no name, and counts the requests.
#[derive(Clone, Default)]
struct Unknown(Arc<AtomicUsize>);

impl Resolve for Unknown {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> Resolving<'a> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err::<Vec<SocketAddr>, _>(io::ErrorKind::NotFound.into()) })
    }
}

/// The seconds in the last parentheses of an error's message, as in `(... 1.6 s)` or `(... 950 ms)`.
fn pause_of(message: &str) -> f64 {
    let (_, time) = message.trim_end_matches(')').rsplit_once('(').expect("the message ends with a time");
    let mut words = time.rsplit(' ');
    let (unit, number) = (words.next().unwrap(), words.next().unwrap());
    let number: f64 = number.parse().unwrap();
    match unit {
        "s" => number,
        "ms" => number / 1000.0,
        other => panic!("{other} is no unit of time: {message}"),
    }
}

#[tokio::test(start_paused = true)]
async fn calls_fail_at_once_during_the_backoff_after_failed_dials() {
    let unknown = Unknown::default();
    let options = ConnectionOptions::default().dialer(Dialer::default().resolver(unknown.clone()));
    let channel = Channel::builder().to("tcp@nowhere:1").options(options).build().unwrap();
    let mut expected = 1.0;
    for dials in 1..12 {
        let error = rpc(channel.call::<()>("A.a", &()).await);
        assert_eq!((error.execution(), error.phase()), (Execution::NotSent, Phase::Resolve));
        assert_eq!(unknown.0.load(Ordering::Relaxed), dials);
        // During the backoff the resolver is not asked, and errors state when the next dial is.
        let begin = Instant::now();
        let error = rpc(channel.call::<()>("A.a", &()).await);
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(unknown.0.load(Ordering::Relaxed), dials);
        assert_error!(error, Unavailable, NotSent, Resolve, "tcp@nowhere:1");
        let seconds = pause_of(error.message());
        assert!((expected * 0.79..expected * 1.21).contains(&seconds), "{seconds} s is not {expected} s");
        tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
        expected = (expected * 1.6_f64).min(120.0);
    }
}

#[tokio::test]
async fn first_redial_after_a_lost_connection_is_immediate() {
    let (channel, listener) = channel().await;
    let (connected, peer) = tokio::join!(channel.connect(), listener.accept());
    connected.unwrap();
    pass(2 * S).await;
    drop(peer);
    while channel.is_available() {
        tokio::time::sleep(MS).await;
    }
    let call = channel.call::<i32>("A.b", &()).start();
    let mut peer = listener.accept().await;
    let seq = peer.request().await.header.seq;
    assert_eq!(seq, Seq(1), "numbers start at 1");
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test]
async fn server_that_drops_every_connection_is_backed_off() {
    let (channel, listener) = channel().await;
    // No backoff ends meanwhile.
    stop_clock(async {
        for _ in 0..2 {
            let call = channel.call::<()>("A.a", &()).start();
            let mut peer = listener.accept().await;
            peer.request().await;
            drop(peer);
            let error = rpc(call.await);
            assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe));
        }
        let error = rpc(channel.call::<()>("A.a", &()).await);
        assert_error!(error, Unavailable, NotSent, Connect, listener.address);
    })
    .await;
    assert!(!listener.was_dialed().await);
    pass(1300 * MS).await;
    let call = channel.call::<i32>("A.a", &()).start();
    let mut peer = listener.accept().await;
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test]
async fn interrupted_call_is_retried_only_if_idempotent() {
    let listener = Listener::bind().await;
    let channel = Channel::to(listener.address.clone()).unwrap();
    let once = channel.call::<u64>("T.once", &()).start();
    let mut old = listener.accept().await;
    old.request().await;
    let again = channel.call::<u64>("T.again", &()).idempotent().start();
    old.request().await;
    drop(old);
    let error = rpc(once.await);
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe), "{error}");

    let serving = async {
        let mut new = listener.accept().await;
        let request = new.request().await;
        assert_eq!(request.header.service_method.as_str(), "T.again");
        assert_eq!(request.header.metadata.unwrap().get("farcall-attempt"), Some("2"));
        new.answer(request.header.seq, &7).await;
        new
    };
    let (answer, _new) = tokio::join!(again, serving);
    assert_eq!(answer.unwrap(), 7);
}

#[tokio::test]
async fn retry_that_cannot_connect_keeps_the_first_outcome() {
    let listener = Listener::bind().await;
    let channel = Channel::to(listener.address.clone()).unwrap();
    let call = channel.call::<u64>("T.again", &()).idempotent().start();
    let mut peer = listener.accept().await;
    peer.request().await;
    // The listener is gone: the second try cannot connect.
    let address = listener.address.clone();
    drop((listener, peer));
    let error = rpc(call.await);
    assert_error!(error, Unavailable, Maybe, Wait, address);
}

#[tokio::test]
async fn calls_above_a_goaway_move_to_a_new_connection() {
    let (channel, listener) = channel().await;
    let (connected, mut old) = tokio::join!(channel.connect(), listener.accept());
    connected.unwrap();
    let [kept, refused] = [(); 2].map(|()| channel.call::<i32>("A.a", &()).start());
    let first = old.request().await.header.seq;
    old.request().await;
    old.goaway(first, "draining").await;
    old.expect(Kind::Goaway).await;
    let refused = tokio::spawn(refused);
    let mut new = listener.accept().await;
    let retried = new.request().await;
    assert_eq!(retried.header.metadata.unwrap().get("farcall-attempt"), Some("2"));
    new.answer(retried.header.seq, &2).await;
    assert_eq!(refused.await.unwrap().unwrap(), 2);
    // New calls use the new connection, while the old one finishes.
    let call = channel.call::<i32>("A.b", &()).start();
    let seq = new.request().await.header.seq;
    new.answer(seq, &3).await;
    assert_eq!(call.await.unwrap(), 3);
    old.answer(first, &1).await;
    assert_eq!(kept.await.unwrap(), 1);
    assert_eq!(old.next().await, None);
}

/// Returns the attempt that a request says it is.
fn attempt_of(request: &farcall_protocol::Message) -> Option<String> {
    Some(request.header.metadata.as_ref()?.get("farcall-attempt")?.to_owned())
}

/// Says goaway to the request that comes next, and begins nothing. Returns the attempt that it says it is.
async fn leave(peer: &mut support::Peer<tokio::net::TcpStream>) -> Option<String> {
    let request = peer.request().await;
    // Longer than a connection must last for the next dial to be immediate, and than a pause before an attempt.
    pass(2 * S).await;
    peer.goaway(Seq(0), "draining").await;
    peer.expect(Kind::Goaway).await;
    pass(2 * S).await;
    attempt_of(&request)
}

#[tokio::test]
async fn call_is_tried_at_most_three_times() {
    let (channel, listener) = channel().await;
    let call = tokio::spawn(channel.call::<i32>("A.a", &()).idempotent().into_future());
    for attempt in 1..=3 {
        let mut peer = listener.accept().await;
        let request = peer.request().await;
        assert_eq!(attempt_of(&request), (attempt > 1).then(|| attempt.to_string()));
        // Longer than a connection must last for the next dial to be immediate.
        pass(2 * S).await;
    }
    let error = rpc(call.await.unwrap());
    assert_error!(error, Unavailable, Maybe, Wait, listener.address);
    assert_eq!(error.attempts(), 3);
}

#[tokio::test]
async fn goaways_that_refuse_a_call_are_no_attempts_of_it_and_cost_no_budget() {
    let listener = Listener::bind().await;
    let channel = Channel::builder().to(&*listener.address).retry_budget(RetryBudget::new(0.0, 0.0));
    let channel = channel.retry(RetryPolicy::fail_over().max_attempts(1)).build().unwrap();
    let call = tokio::spawn(channel.call::<i32>("A.a", &()).into_future());
    for attempt in 1..=6 {
        let mut peer = listener.accept().await;
        assert_eq!(leave(&mut peer).await, (attempt > 1).then(|| attempt.to_string()));
    }
    let mut peer = listener.accept().await;
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap().unwrap(), 1);
    // A call that is not to be tried again is not.
    let call = tokio::spawn(channel.call::<i32>("A.a", &()).retry(RetryPolicy::fail_fast()).into_future());
    leave(&mut peer).await;
    assert_error!(rpc(call.await.unwrap()), Unavailable, Refused, Wait, listener.address);
}

#[tokio::test]
async fn refusals_for_load_are_attempts_whatever_goaways_come_between() {
    let (channel, listener) = channel().await;
    let call = tokio::spawn(channel.call::<i32>("A.a", &()).into_future());
    for attempt in 1..=3 {
        let mut peer = listener.accept().await;
        let seq = peer.request().await.header.seq;
        let status = Status::refused(Code::ResourceExhausted, "too many calls");
        let again = support::metadata(&[("farcall-retry-after-ms", "10")]);
        let response = HeaderRef::new(Kind::Response, seq);
        peer.send(
            &HeaderRef { error: Some(&status), metadata: Some(&again), ..response },
            bytes::Bytes::new(),
        )
        .await;
        if attempt < 3 {
            leave(&mut peer).await;
        }
    }
    let error = rpc(call.await.unwrap());
    assert_error!(error, ResourceExhausted, Refused, Answer, listener.address);
    assert_eq!(error.attempts(), 5);
}

#[tokio::test]
async fn refusal_by_the_server_is_not_retried() {
    let (channel, listener) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    let mut peer = listener.accept().await;
    let seq = peer.request().await.header.seq;
    peer.fail(seq, Code::ResourceExhausted, Execution::Refused, "too much").await;
    assert_eq!(rpc(call.await).code(), Code::ResourceExhausted);
    assert!(!listener.was_dialed().await);
}

#[tokio::test]
async fn closed_channel_finishes_its_calls_and_can_dial_again() {
    let (channel, listener) = channel().await;
    for _ in 0..4 {
        let call = channel.call::<i32>("A.a", &()).start();
        let mut peer = listener.accept().await;
        let seq = peer.request().await.header.seq;
        channel.close();
        peer.expect(Kind::Goaway).await;
        peer.answer(seq, &1).await;
        assert_eq!(call.await.unwrap(), 1);
    }
}

#[tokio::test]
async fn channel_closed_while_dialing_can_dial_again() {
    let (channel, listener) = channel().await;
    let call = channel.call::<i32>("A.a", &()).start();
    let _mute = listener.accept_mute().await;
    settle().await;
    channel.close();
    assert_error!(rpc(call.await), Unavailable, NotSent, Connect, listener.address);
    let call = channel.call::<i32>("A.b", &()).start();
    let mut peer = listener.accept().await;
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
}

/// Panics at the first request.
struct Panics(AtomicUsize);

impl Resolve for Panics {
    fn resolve<'a>(&'a self, _host: &'a str, port: u16) -> Resolving<'a> {
        assert_ne!(self.0.fetch_add(1, Ordering::Relaxed), 0, "the first question");
        Box::pin(async move { Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]) })
    }
}

#[tokio::test]
async fn panicking_resolver_does_not_block_the_channel() {
    let listener = Listener::bind().await;
    let address = listener.address.replace("127.0.0.1", "somewhere");
    let options =
        ConnectionOptions::default().dialer(Dialer::default().resolver(Panics(AtomicUsize::new(0))));
    let channel = Channel::builder().to(&*address).options(options).build().unwrap();
    let error = rpc(channel.call::<i32>("A.a", &()).await);
    assert_eq!(error.code(), Code::Unavailable);
    assert!(
        error.to_string().contains("dialing panicked: ") && error.to_string().contains("the first question")
    );
    let call = channel.call::<i32>("A.b", &()).start();
    let mut peer = listener.accept().await;
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test]
async fn dropped_channel_cancels_its_dial() {
    let (channel, listener) = channel().await;
    drop(channel.call::<i32>("A.a", &()).start());
    let call = channel.call::<i32>("A.a", &()).start();
    let mut mute = listener.accept_mute().await;
    drop((channel, call));
    let mut option = Vec::new();
    // The stream ends after the client's Option.
    tokio::io::AsyncReadExt::read_to_end(&mut mute, &mut option).await.unwrap();
}

#[tokio::test]
async fn dropped_channel_leaves_a_connection_that_is_still_held() {
    let (channel, listener) = channel().await;
    let (connected, mut peer) = tokio::join!(channel.connect(), listener.accept());
    connected.unwrap();
    let connection = channel.connection().unwrap();
    drop(channel);
    settle().await;
    assert!(connection.is_available());
    drop(connection);
    peer.expect(Kind::Goaway).await;
}

/// A list of one endpoint, which a channel treats as any list.
struct Listed(Address);

impl Discovery for Listed {
    fn describe(&self) -> String {
        "a list".to_owned()
    }

    async fn run(self, publisher: Publisher) {
        publisher.publish(vec![Endpoint::new(self.0)]);
        std::future::pending::<()>().await;
    }
}

/// The connection ends between the dial, which the call waits for, and the call's search for a place on it.
#[tokio::test]
async fn call_whose_connection_ends_before_it_is_made_over_another() {
    for is_listed in [false, true] {
        let listener = Listener::bind().await;
        let builder = Channel::builder().retry(RetryPolicy::fail_fast());
        let builder = match is_listed {
            true => builder.discover(Listed(Address::parse(&listener.address).unwrap())),
            false => builder.to(listener.address.as_str()),
        };
        let channel = builder.build().unwrap();
        let call = tokio::spawn(channel.call::<i32>("A.a", &()).into_future());
        let mut left = listener.accept_and_leave().await;
        left.expect(Kind::Goaway).await;
        let mut peer = listener.accept().await;
        let seq = peer.request().await.header.seq;
        peer.answer(seq, &1).await;
        assert_eq!(call.await.unwrap().unwrap(), 1);
    }
}

#[tokio::test]
async fn one_way_call_is_sent_on_a_new_connection() {
    let (channel, listener) = channel().await;
    let (connected, mut peer) = tokio::join!(channel.connect(), listener.accept());
    connected.unwrap();
    peer.goaway(Seq(0), "draining").await;
    peer.expect(Kind::Goaway).await;
    let (sent, mut peer) = tokio::join!(channel.notify("A.a", &()), listener.accept());
    sent.unwrap();
    assert!(support::is_one_way(&peer.request().await));
}

#[test]
fn invalid_address_is_refused_when_the_channel_is_built() {
    assert!(matches!(Channel::to("tcp@").unwrap_err(), BuildError::Address(_)));
    assert_eq!(Channel::builder().build().unwrap_err(), BuildError::NoAddress);
}
