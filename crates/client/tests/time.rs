//! The phases of a call and their limits: timeouts, deadlines, inheritance.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::error::Error as _;
use std::future::IntoFuture as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use farcall_client::{Channel, Connection, ConnectionOptions, RetryPolicy};
use farcall_context::Inherited;
use farcall_protocol::{Body, Code, Criticality, Execution, HeaderRef, Kind, Seq, ServerPolicy, Status};
use farcall_test_support::frames::refuse_handshake;
use farcall_test_support::loopback::{FullBacklog, refusing_address};
use farcall_transport::{Address, DialError, Dialer, Resolve, Resolving, Stream};
use support::{MEMORY, MS, S, channel, connect, connect_for, connect_with, metadata, pass, rpc, settle};
use tokio::time::{Duration, Instant};

/// Answers after a while, or never.
struct Slow(Duration, io::Result<Vec<SocketAddr>>);

impl Resolve for Slow {
    fn resolve<'a>(&'a self, _host: &'a str, _port: u16) -> Resolving<'a> {
        Box::pin(async {
            tokio::time::sleep(self.0).await;
            self.1.as_ref().cloned().map_err(|error| error.kind().into())
        })
    }
}

fn resolving(limit: Duration, resolver: Slow) -> ConnectionOptions {
    ConnectionOptions::default().connect_timeout(limit).dialer(Dialer::default().resolver(resolver))
}

async fn open(address: &str, options: &ConnectionOptions) -> farcall_client::RpcError {
    Connection::open(&Address::parse(address).unwrap(), options).await.unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn resolving_times_out() {
    let begin = Instant::now();
    let error = open("tcp@nowhere:7001", &resolving(10 * S, Slow(3600 * S, Ok(vec![])))).await;
    assert_error!(error, Unavailable, NotSent, Resolve, "tcp@nowhere:7001");
    assert_eq!(begin.elapsed(), 5 * S);
}

#[tokio::test(start_paused = true)]
async fn short_connect_timeout_reports_the_silent_resolver() {
    let begin = Instant::now();
    let error = open("tcp@nowhere:7001", &resolving(2 * S, Slow(3600 * S, Ok(vec![])))).await;
    assert_error!(error, Unavailable, NotSent, Resolve, "tcp@nowhere:7001");
    assert_eq!(begin.elapsed(), 2 * S);
}

#[tokio::test(start_paused = true)]
async fn unresolvable_name_is_reported_with_its_cause() {
    let unknown = Slow(MS, Err(io::ErrorKind::NotFound.into()));
    let error = open("tcp@nowhere:7001", &resolving(2 * S, unknown)).await;
    assert_error!(error, Unavailable, NotSent, Resolve, "tcp@nowhere:7001");
    assert!(error.cause().unwrap().downcast_ref::<DialError>().is_some());
    // Its text is told already.
    assert!(error.source().is_none(), "{error}");
}

#[tokio::test]
async fn connecting_times_out() {
    let backlog = FullBacklog::bind().await;
    let dialed = Address::tcp(backlog.address);
    let address = dialed.to_string();
    let options = ConnectionOptions::default().connect_timeout(3 * S);
    let opening = tokio::spawn(async move { Connection::open(&dialed, &options).await.unwrap_err() });
    pass(3 * S).await;
    let error = opening.await.unwrap();
    assert_error!(error, Unavailable, NotSent, Connect, address);
}

#[tokio::test]
async fn refused_connection_is_reported() {
    let address = format!("tcp@{}", refusing_address());
    let error = open(&address, &ConnectionOptions::default()).await;
    assert_error!(error, Unavailable, NotSent, Connect, address);
}

#[tokio::test(start_paused = true)]
async fn handshake_times_out() {
    let (near, _far) = tokio::io::duplex(4096);
    let address = Address::parse(MEMORY).unwrap();
    let begin = Instant::now();
    let error =
        Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await.unwrap_err();
    assert_error!(error, Unavailable, NotSent, Handshake, MEMORY);
    assert_eq!(begin.elapsed(), 10 * S);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_slot_ends_at_the_deadline() {
    let (channel, mut peer) = connect_for(1).await;
    let first = channel.call::<i32>("A.a", &()).start();
    let seq = peer.request().await.header.seq;
    let begin = Instant::now();
    let error = rpc(channel.call::<()>("A.b", &()).timeout(200 * MS).await);
    assert_error!(error, DeadlineExceeded, NotSent, Queue, MEMORY);
    assert_eq!(begin.elapsed(), 200 * MS);
    peer.answer(seq, &1).await;
    assert_eq!(first.await.unwrap(), 1);
    peer.assert_silent(S).await;
    // The slot of the expired call is free.
    let second = channel.call::<i32>("A.c", &()).start();
    assert_eq!(&*peer.request().await.header.service_method, "A.c");
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn server_that_reads_nothing_hits_the_write_timeout() {
    let (connection, _peer) =
        connect_with(&ConnectionOptions::default(), &ServerPolicy::default(), 4096).await;
    let channel = Channel::from(connection);
    let begin = Instant::now();
    let begun = channel.call::<()>("A.a", &(vec![0_u8; 100_000],)).start();
    settle().await;
    let behind = channel.call::<()>("A.b", &()).start();
    let (begun, behind) = tokio::join!(begun, behind);
    assert_error!(rpc(begun), Unavailable, Maybe, Wait, MEMORY);
    // It is retried, but this channel cannot dial again.
    let behind = rpc(behind);
    assert_eq!(behind.execution(), Execution::NotSent);
    assert_eq!(begin.elapsed(), 10 * S);
}

#[tokio::test(start_paused = true)]
async fn deadline_passes_before_the_request_is_written() {
    let (connection, mut peer) =
        connect_with(&ConnectionOptions::default(), &ServerPolicy::default(), 4096).await;
    let channel = Channel::from(connection);
    let large = channel.call::<()>("A.a", &(vec![0_u8; 100_000],)).start();
    settle().await;
    // The connection's task is blocked by the write, and must still observe this deadline.
    let begin = Instant::now();
    let error = rpc(channel.call::<()>("A.b", &()).timeout(100 * MS).await);
    assert_error!(error, DeadlineExceeded, Maybe, Write, MEMORY);
    assert_eq!(begin.elapsed(), 100 * MS);
    // The rest of the outbox is still sent, followed by the cancel.
    assert_eq!(&*peer.request().await.header.service_method, "A.a");
    let late = peer.request().await;
    assert_eq!(&*late.header.service_method, "A.b");
    assert_eq!(peer.expect(Kind::Cancel).await.header.seq, late.header.seq);
    drop(large);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_outbox_space_ends_at_the_deadline() {
    let options = ConnectionOptions::default().outbox_bytes(1000);
    let (connection, mut peer) = connect_with(&options, &ServerPolicy::default(), 4096).await;
    let channel = Channel::from(connection);
    let large = channel.call::<()>("A.a", &(vec![0_u8; 100_000],)).start();
    settle().await;
    let waiting = channel.call::<()>("A.b", &(vec![0_u8; 1000],)).start();
    let error = rpc(channel.call::<()>("A.c", &()).timeout(100 * MS).await);
    assert_error!(error, DeadlineExceeded, NotSent, Write, MEMORY);
    let third = channel.call::<()>("A.d", &()).start();
    for method in ["A.a", "A.b", "A.d"] {
        assert_eq!(&*peer.request().await.header.service_method, method);
    }
    drop((large, waiting, third));
}

#[tokio::test(start_paused = true)]
async fn deadline_ends_the_wait_for_an_answer_and_cancels_the_handler() {
    let (channel, mut peer) = connect_for(1).await;
    let begin = Instant::now();
    let call = channel.call::<i32>("A.a", &()).timeout(500 * MS).start();
    let request = peer.request().await;
    assert_eq!(request.header.timeout_ms, 500);
    assert_error!(rpc(call.await), DeadlineExceeded, Maybe, Wait, MEMORY);
    assert_eq!(begin.elapsed(), 500 * MS);
    assert_eq!(peer.expect(Kind::Cancel).await.header.seq, request.header.seq);
    // The server has not answered the cancel: the slot is still taken.
    let connection = channel.connection().unwrap();
    assert_eq!(connection.in_flight(), 1);
    let next = channel.call::<i32>("A.b", &()).start();
    peer.assert_silent(S).await;
    peer.fail(request.header.seq, Code::Cancelled, Execution::Maybe, "cancelled").await;
    let second = peer.request().await;
    peer.answer(second.header.seq, &7).await;
    assert_eq!(next.await.unwrap(), 7);
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn answer_timeout_limits_the_wait_for_an_answer() {
    let (connection, mut peer) = connect(&ConnectionOptions::default().answer_timeout(300 * MS)).await;
    let channel = Channel::from(connection);
    let call = channel.call::<i32>("A.a", &()).timeout(10 * S).start();
    assert_eq!(peer.request().await.header.timeout_ms, 300);
    assert_error!(rpc(call.await), DeadlineExceeded, Maybe, Wait, MEMORY);
    peer.expect(Kind::Cancel).await;
    // A one-way request has no answer timeout.
    channel.notify("A.b", &()).await.unwrap();
    assert_eq!(peer.request().await.header.timeout_ms, 0);
}

#[tokio::test(start_paused = true)]
async fn answer_timeout_starts_when_the_request_is_sent() {
    let options = ConnectionOptions::default().answer_timeout(300 * MS);
    let terms = ServerPolicy::default().max_in_flight(farcall_protocol::MaxInFlight::new(1));
    let (connection, mut peer) = connect_with(&options, &terms, 4096).await;
    let channel = Channel::from(connection);
    let first = channel.call::<i32>("A.a", &()).start();
    let second = channel.call::<i32>("A.b", &()).start();
    let seq = peer.request().await.header.seq;
    tokio::time::sleep(200 * MS).await;
    peer.answer(seq, &1).await;
    let request = peer.request().await;
    assert_eq!(request.header.timeout_ms, 300);
    tokio::time::sleep(200 * MS).await;
    peer.answer(request.header.seq, &2).await;
    assert_eq!((first.await.unwrap(), second.await.unwrap()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn remaining_time_is_sent_rounded_up() {
    let (channel, mut peer) = channel().await;
    let calls = [Duration::from_micros(1500), MS, 10 * S]
        .map(|limit| channel.call::<()>("A.a", &()).timeout(limit).start());
    for millis in [2, 1, 10_000] {
        assert_eq!(peer.request().await.header.timeout_ms, millis);
    }
    let unlimited = channel.call::<()>("A.a", &()).start();
    settle().await;
    drop(calls);
    assert_eq!(peer.request().await.header.timeout_ms, 0);
    drop(unlimited);
}

#[tokio::test(start_paused = true)]
async fn time_waiting_for_a_slot_is_deducted_from_the_sent_timeout() {
    let (channel, mut peer) = connect_for(1).await;
    let first = channel.call::<i32>("A.a", &()).start();
    let second = channel.call::<i32>("A.b", &()).timeout(500 * MS).start();
    let seq = peer.request().await.header.seq;
    tokio::time::sleep(200 * MS).await;
    peer.answer(seq, &1).await;
    assert_eq!(peer.request().await.header.timeout_ms, 300);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn call_with_less_than_a_millisecond_left_is_not_sent() {
    let (channel, mut peer) = channel().await;
    for limit in [Duration::ZERO, Duration::from_micros(999)] {
        let error = rpc(channel.call::<()>("A.a", &()).timeout(limit).await);
        assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::NotSent));
    }
    let error = rpc(channel.call::<()>("A.a", &()).timeout(Duration::from_micros(999)).await);
    assert_error!(error, DeadlineExceeded, NotSent, Prepare);
    peer.assert_silent(S).await;
}

#[tokio::test(start_paused = true)]
async fn unlimited_timeouts_do_not_overflow() {
    let endless = Duration::MAX;
    let keep_alive = farcall_protocol::KeepAlive::new(endless, endless);
    let options = ConnectionOptions::default()
        .connect_timeout(endless)
        .write_timeout(endless)
        .answer_timeout(endless)
        .keep_alive(keep_alive);
    let (connection, mut peer) = connect_with(&options, &ServerPolicy::default(), 64).await;
    let channel = Channel::from(connection);
    let call = channel.call::<i32>("A.a", &(vec![0_u8; 1000],)).timeout(endless).start();
    tokio::time::sleep(3600 * S).await;
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &1).await;
    assert_eq!(call.await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn inherited_deadline_applies_if_it_is_earlier() {
    let (channel, mut peer) = channel().await;
    let inherited = Inherited::default().deadline(Some(Instant::now() + 300 * MS));
    let calls = inherited.scope(|| {
        [
            channel.call::<()>("A.a", &()).start(),
            channel.call::<()>("A.a", &()).timeout(100 * MS).start(),
            channel.call::<()>("A.a", &()).timeout(S).start(),
        ]
    });
    for millis in [300, 100, 300] {
        assert_eq!(peer.request().await.header.timeout_ms, millis);
    }
    let [call, ..] = calls;
    let error = rpc(call.await);
    assert_error!(error, DeadlineExceeded, Maybe, Wait, MEMORY);
    let spent = Inherited::default().deadline(Some(Instant::now()));
    let error = rpc(spent.wrap(async { channel.call::<()>("A.b", &()).await }).await);
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::NotSent));
}

#[tokio::test(start_paused = true)]
async fn inherited_metadata_excludes_protocol_keys() {
    let (channel, mut peer) = channel().await;
    let outer = metadata(&[("tenant", "a"), ("traceparent", "00-1-2-00"), ("farcall-attempt", "3")]);
    assert_eq!(outer.criticality(), Criticality::Default);
    let inherited = Inherited::default().metadata(Some(Arc::new(outer)));
    let call = inherited.scope(|| channel.call::<()>("A.a", &()).metadata("tenant", "b"));
    let call = call.metadata("k", "v").start();
    let sent = peer.request().await.header.metadata.unwrap();
    assert_eq!(*sent, metadata(&[("k", "v"), ("tenant", "b"), ("traceparent", "00-1-2-00")]));
    drop(call);
}

#[tokio::test(start_paused = true)]
async fn criticality_is_inherited_unless_the_call_sets_it() {
    let (channel, mut peer) = channel().await;
    let inherited =
        Inherited::default().metadata(Some(Arc::new(metadata(&[("farcall-criticality", "sheddable")]))));
    let (inner, set) = inherited.scope(|| {
        let set = channel.call::<()>("A.b", &()).criticality(Criticality::Critical).start();
        (channel.call::<()>("A.a", &()).start(), set)
    });
    for expected in [Criticality::Critical, Criticality::Sheddable] {
        assert_eq!(peer.request().await.header.metadata.unwrap().criticality(), expected);
    }
    drop((inner, set));
}

/// Answers the next request with a refusal that asks for another attempt after `retry_after_ms`.
async fn refuse(peer: &mut support::Peer, retry_after_ms: &str) {
    let seq = peer.request().await.header.seq;
    let status = Status::refused(Code::ResourceExhausted, "too many calls");
    let metadata = metadata(&[("farcall-retry-after-ms", retry_after_ms)]);
    let header =
        HeaderRef { error: Some(&status), metadata: Some(&metadata), ..HeaderRef::new(Kind::Response, seq) };
    peer.send(&header, bytes::Bytes::new()).await;
}

#[tokio::test(start_paused = true)]
async fn refused_call_is_made_again_when_the_server_asks_for_it() {
    let (channel, mut peer) = channel().await;
    let start = Instant::now();
    let call = tokio::spawn(channel.call::<i32>("A.a", &()).into_future());
    refuse(&mut peer, "300").await;
    let request = peer.request().await;
    assert_eq!(request.header.metadata.unwrap().get("farcall-attempt"), Some("2"));
    let waited = start.elapsed();
    assert!((300 * MS..=376 * MS).contains(&waited), "{waited:?}");
    peer.answer(request.header.seq, &1).await;
    assert_eq!(call.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn refused_call_is_not_made_again_past_its_deadline_or_its_attempts_or_if_it_is_late() {
    let (channel, mut peer) = channel().await;
    for (retry_after_ms, retry) in [
        ("300", RetryPolicy::fail_over()),
        ("300", RetryPolicy::fail_fast()),
        ("30001", RetryPolicy::fail_over()),
    ] {
        let call = channel.call::<i32>("A.a", &()).retry(retry);
        let limit =
            if retry_after_ms == "30001" || retry == RetryPolicy::fail_fast() { 3600 * S } else { 300 * MS };
        let call = tokio::spawn(call.timeout(limit).into_future());
        refuse(&mut peer, retry_after_ms).await;
        let error = rpc(call.await.unwrap());
        assert_eq!((error.code(), error.attempts()), (Code::ResourceExhausted, 1));
        assert_eq!(error.retry_after().unwrap().as_millis().to_string(), retry_after_ms);
    }
}

#[tokio::test(start_paused = true)]
async fn late_answer_to_an_expired_call_is_ignored() {
    let (channel, mut peer) = channel().await;
    let call = channel.call::<i32>("A.a", &()).timeout(10 * MS).start();
    let seq = peer.request().await.header.seq;
    peer.expect(Kind::Cancel).await;
    peer.answer(seq, &1).await;
    peer.answer(seq, &1).await;
    peer.answer(Seq(77), &1).await;
    settle().await;
    assert_eq!(rpc(call.await).code(), Code::DeadlineExceeded);
    assert_eq!(channel.connection().unwrap().in_flight(), 0);
    let next = channel.call::<i32>("A.b", &()).start();
    let seq = peer.request().await.header.seq;
    peer.answer(seq, &2).await;
    assert_eq!(next.await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn refused_handshake_reports_the_reason() {
    let terms = ServerPolicy::default().codecs(vec![farcall_protocol::Codec::Json]);
    let (near, far) = tokio::io::duplex(4096);
    let address = Address::parse(MEMORY).unwrap();
    let server = refuse_handshake(far, &terms);
    let options = ConnectionOptions::default();
    let (opened, ()) = tokio::join!(Connection::over(Stream::new(near), &address, &options), server);
    assert_error!(opened.unwrap_err(), InvalidArgument, NotSent, Handshake, MEMORY);
}

#[tokio::test(start_paused = true)]
async fn message_sent_along_with_the_handshake_is_read() {
    let (near, mut far) = tokio::io::duplex(4096);
    let address = Address::parse(MEMORY).unwrap();
    let options = ConnectionOptions::default();
    let opening = Connection::over(Stream::new(near), &address, &options);
    let server = async {
        let mut option = vec![0; 4096];
        let read = tokio::io::AsyncReadExt::read(&mut far, &mut option).await.unwrap();
        let negotiated = ServerPolicy::default().negotiate(&option[4..read]).unwrap().negotiated;
        let mut outbox = farcall_protocol::Outbox::new();
        outbox.push_frame(&ServerPolicy::encode_accept(&negotiated));
        let header = HeaderRef::new(Kind::Goaway, Seq(0));
        outbox.push(&negotiated.codec, &header, &Body::default(), negotiated.send_limit).unwrap();
        tokio::io::AsyncWriteExt::write_all_buf(&mut far, &mut outbox).await.unwrap();
        far
    };
    let (connection, _far) = tokio::join!(opening, server);
    let connection = connection.unwrap();
    settle().await;
    assert!(!connection.is_available());
}

#[tokio::test(start_paused = true)]
async fn server_that_hangs_up_during_the_handshake_is_reported() {
    let (near, far) = tokio::io::duplex(4096);
    drop(far);
    let address = Address::parse(MEMORY).unwrap();
    let error =
        Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await.unwrap_err();
    assert_error!(error, Unavailable, NotSent, Handshake, MEMORY);
    let (near, mut far) = tokio::io::duplex(4096);
    tokio::io::AsyncWriteExt::write_all(&mut far, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let error =
        Connection::over(Stream::new(near), &address, &ConnectionOptions::default()).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
}
