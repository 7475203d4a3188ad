//! Every limit of a server takes every value of its type, or refuses it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::time::Duration;

use farcall_protocol::{ClientOffer, Codec, HeaderRef, KeepAlive, Kind};
use farcall_server::{BuildError, Invocation, Limits, Server, ServerHandle};
use farcall_test_support::extremes::{COUNTS, TIMES, count_panics};
use support::Raw;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

type With<V> = fn(Limits, V) -> Limits;

const LIMIT_TIMES: [With<Duration>; 9] = [
    Limits::handshake_timeout,
    Limits::handle_timeout,
    Limits::frame_timeout,
    Limits::write_timeout,
    Limits::deregister_pause,
    Limits::drain_timeout,
    Limits::slow_call,
    |limits, time| limits.keep_alive(KeepAlive::default().idle(time)),
    |limits, time| limits.keep_alive(KeepAlive::default().timeout(time)),
];

const LIMIT_COUNTS: [With<usize>; 7] = [
    Limits::max_connections,
    Limits::max_connections_per_peer,
    Limits::max_frame_bytes,
    Limits::max_in_flight,
    Limits::max_in_flight_in_all,
    Limits::outbox_bytes,
    Limits::buffered_bytes,
];

/// Makes calls that end at once and later, over a connection and without one; each may fail.
async fn use_server(handle: &ServerHandle) {
    for time in TIMES {
        let invocation = Invocation::new("T.sleep", Codec::Json, "[5]".into()).timeout(time);
        let _ = handle.invoke(invocation).await;
    }
    let offer = ClientOffer::default();
    let mut stream = support::open(handle);
    // The server may close at any time.
    let _ = stream.write_all(&support::frame(&offer.encode().unwrap())).await;
    let answer = timeout(Duration::from_secs(60), support::read_option(&mut stream)).await;
    let Some(Ok(negotiated)) = answer.ok().flatten().map(|answer| offer.accept_answer(&answer)) else {
        return;
    };
    let mut client = Raw::after_handshake(stream, negotiated);
    for ms in [0_u64, 5, 20_000] {
        let seq = client.next_seq();
        let header = HeaderRef { service_method: "T.sleep", ..HeaderRef::new(Kind::Request, seq) };
        let body = client.codec().encode(&(ms,)).unwrap();
        let request = client.encode(&header, body);
        let _ = client.frames.stream.write_all(&request).await;
    }
    // A silent client for a while, and the beginning of a frame.
    sleep(Duration::from_secs(60)).await;
    let _ = client.frames.stream.write_all(&[0, 0]).await;
    sleep(Duration::from_secs(60)).await;
}

async fn use_limits(limits: Limits) {
    let sleep_for = async |(ms,): (u64,)| sleep(Duration::from_millis(ms)).await;
    let server = match Server::builder().limits(limits).method("T.sleep", sleep_for).build() {
        Ok(server) => server,
        Err(error) => return assert!(matches!(error, BuildError::ZeroLimit { .. }), "{error}"),
    };
    let handle = server.handle();
    let serving = tokio::spawn(server.serve());
    use_server(&handle).await;
    handle.stop();
    // A limit of 100 years may hold it up, but nothing is in flight.
    timeout(Duration::from_secs(3600), serving).await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn every_limit_takes_every_value() {
    let before = count_panics();
    for time in TIMES {
        for with in LIMIT_TIMES {
            use_limits(with(Limits::default(), time)).await;
        }
    }
    for count in COUNTS {
        for with in LIMIT_COUNTS {
            use_limits(with(Limits::default(), count)).await;
        }
    }
    assert_eq!(count_panics(), before);
}
