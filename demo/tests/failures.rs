//! Servers that are killed, stopped and stalled under load, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use std::time::{Duration, Instant};

use demo::services::{ArithClient, EchoClient};
use farcall::client::{ConnectionOptions, Phase};
use farcall::protocol::{Execution, KeepAlive};
use farcall::{Channel, Code};
use farcall_test_support::machine::lengthened;
use futures::future::join_all;
use rustix::process::Signal;

use self::support::{Demo, SOON};

/// A server on TCP and on a unix socket, and where it listens.
fn server() -> (Demo, Vec<String>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix@{}", dir.path().join("socket").display());
    let (server, addresses) = Demo::server(&["--listen", "tcp@127.0.0.1:0", "--listen", &socket]);
    (server, addresses, dir)
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_calls_on_one_connection_get_their_own_answers() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix@{}", dir.path().join("socket").display());
    let listen = ["--listen", "tcp@127.0.0.1:0", "--listen", &socket, "--max-in-flight", "8192"];
    let (_server, addresses) = Demo::server(&listen);
    for address in &addresses {
        let channel = Channel::to(&**address).unwrap();
        let (arith, echo) = (ArithClient::new(channel.clone()), EchoClient::new(channel.clone()));
        echo.sleep(0).await.unwrap();
        // The naps last until the last call has been made, so that all are in flight together.
        let naps: Vec<_> = (0..5000).map(|n| echo.sleep(4000 + n % 40).start()).collect();
        assert_eq!(channel.connection().unwrap().in_flight(), 5000);
        let products: Vec<_> = (0..3000).map(|n| arith.multiply(n, n + 1).start()).collect();
        for (n, product) in products.into_iter().enumerate() {
            assert_eq!(product.await.unwrap(), (n * (n + 1)) as i64);
        }
        for (n, nap) in naps.into_iter().enumerate() {
            assert_eq!(nap.await.unwrap(), 4000 + n as u64 % 40);
        }
        assert_eq!(channel.connection().unwrap().in_flight(), 0);
    }
}

/// Returns the time from a kill -9 to the end of the last of many calls.
async fn end_by_kill(over: usize) -> Duration {
    let (server, addresses, _dir) = server();
    let channel = Channel::to(&*addresses[over]).unwrap();
    let echo = EchoClient::new(channel.clone());
    echo.sleep(0).await.unwrap();
    let calls: Vec<_> = (0..500).map(|_| echo.sleep(600_000).start()).collect();
    // Wait until the server has started them all.
    let all_began = async || {
        let stats: Vec<farcall::protocol::describe::MethodStats> =
            channel.call("farcall.stats", &()).await.unwrap();
        stats.iter().any(|stats| stats.name == "Echo.sleep" && stats.in_flight == 500)
    };
    while !all_began().await {
        tokio::task::yield_now().await;
    }
    let killed = Instant::now();
    server.signal(Signal::KILL);
    for outcome in join_all(calls).await {
        let error = outcome.unwrap_err();
        let error = error.rpc().unwrap();
        assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe), "{error}");
        assert_eq!(
            (error.phase(), error.endpoint().unwrap().to_string()),
            (Phase::Wait, addresses[over].clone())
        );
    }
    let took = killed.elapsed();
    let error = echo.sleep(0).await.unwrap_err();
    assert_eq!(error.execution(), Execution::NotSent, "{error}");
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_killed_server_end_within_100_ms() {
    for over in 0..2 {
        // A busy machine may be late sometimes, but not every time.
        let mut measured = Vec::new();
        while !measured.iter().any(|(took, limit)| took <= limit) {
            assert!(measured.len() < 10, "{measured:?}");
            let took = end_by_kill(over).await;
            measured.push((took, lengthened(Duration::from_millis(100))));
        }
        println!("the last of 500 calls ended this long after the kill, with its limit: {measured:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_server_is_detected_by_pings() {
    let (server, addresses, _dir) = server();
    let times = KeepAlive::new(Duration::from_millis(300), Duration::from_secs(1));
    for address in &addresses {
        // The calls are idempotent and retried: a short limit for the handshake with the suspended server.
        let options = ConnectionOptions::default().keep_alive(times).connect_timeout(Duration::from_secs(1));
        let channel = Channel::builder().to(&**address).options(options).build().unwrap();
        let echo = EchoClient::new(channel.clone());
        // A live server answers pings during a long call. A machine that stands still breaks the connection.
        let deadline = Instant::now() + SOON;
        while let Err(error) = echo.sleep(3000).await {
            assert!(Instant::now() < deadline, "{error}");
        }

        let call = echo.sleep(600_000).start();
        server.signal(Signal::STOP);
        let error = call.await.unwrap_err();
        server.signal(Signal::CONT);
        let error = error.rpc().unwrap();
        assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::Maybe), "{error}");
        assert_eq!((error.phase(), error.attempts()), (Phase::Wait, 2), "{error}");
        assert_eq!(error.message(), "it did not answer a ping");
        assert_eq!(error.endpoint().unwrap().to_string(), *address);
        assert!(!channel.is_available());
        // After SIGCONT it serves again: the channel dials once its backoff is over.
        let deadline = Instant::now() + SOON;
        while let Err(error) = echo.sleep(1).await {
            assert_eq!(error.execution(), Execution::NotSent, "{error}");
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_server_finishes_its_running_calls() {
    let (server, addresses, _dir) = server();
    let echo = EchoClient::new(Channel::to(&*addresses[0]).unwrap());
    echo.sleep(0).await.unwrap();
    let channel = Channel::to(&*addresses[0]).unwrap();
    // Longer than it takes to see that all have begun.
    let naps: Vec<_> = (0..50).map(|_| echo.sleep(4000).start()).collect();
    let began = async || {
        let stats: Vec<farcall::protocol::describe::MethodStats> =
            channel.call("farcall.stats", &()).await.unwrap();
        stats.iter().any(|stats| stats.name == "Echo.sleep" && stats.in_flight == 50)
    };
    while !began().await {
        tokio::task::yield_now().await;
    }
    server.signal(Signal::TERM);
    for nap in naps {
        assert_eq!(nap.await.unwrap(), 4000);
    }
    server.ended().assert_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_a_disconnected_client_are_stopped() {
    let (_server, addresses, _dir) = server();
    let watcher = Channel::to(&*addresses[0]).unwrap();
    let in_flight = async || {
        let stats: Vec<farcall::protocol::describe::MethodStats> =
            watcher.call("farcall.stats", &()).await.unwrap();
        stats.iter().find(|stats| stats.name == "Echo.sleep").map_or(0, |stats| stats.in_flight)
    };
    let channel = Channel::to(&*addresses[1]).unwrap();
    let calls: Vec<_> = (0..100).map(|_| EchoClient::new(channel.clone()).sleep(600_000).start()).collect();
    while in_flight().await < 100 {
        tokio::task::yield_now().await;
    }
    drop((calls, channel));
    let deadline = Instant::now() + SOON;
    while in_flight().await > 0 {
        assert!(Instant::now() < deadline, "calls of a client that has gone go on");
        tokio::task::yield_now().await;
    }
}
