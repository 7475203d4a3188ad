//! `demo server` as a person, or a service manager, runs it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::time::{Duration, Instant};

use demo::services::{ArithClient, ArithError, EchoClient, TextClient};
use farcall::client::ConnectionOptions;
use farcall::{Bytes, CallError, Channel, Code};
use rustix::process::Signal;

use self::support::{Demo, SOON, within};

const ANY_PORT: [&str; 2] = ["--listen", "tcp@127.0.0.1:0"];

fn channel(address: &str) -> Channel {
    Channel::to(address).unwrap()
}

#[test]
fn server_prints_its_addresses_and_stops_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("unix@{}", dir.path().join("socket").display());
    for signal in [Signal::TERM, Signal::INT] {
        let (server, addresses) = Demo::server(&["--listen", "127.0.0.1:0", "--listen", &socket]);
        let port: u16 = addresses[0].strip_prefix("tcp@127.0.0.1:").unwrap().parse().unwrap();
        assert_ne!(port, 0);
        assert_eq!(addresses[1], socket);
        server.signal(signal);
        let ended = server.ended().assert_code(0);
        assert_eq!(ended.stdout, "");
        assert!(!dir.path().join("socket").exists());
    }
}

#[test]
fn address_in_use_is_a_one_line_failure() {
    let (_server, addresses) = Demo::server(&ANY_PORT);
    let ended = Demo::run(["server", "--listen", &addresses[0]]).assert_code(1);
    assert_eq!(
        ended.stderr,
        format!("error: listening at {}: Address already in use (os error 98)\n", addresses[0]),
    );
    assert_eq!(ended.stdout, "");
}

#[test]
fn invalid_command_line_is_a_usage_error() {
    for wrong in [
        &["server"][..],
        &["server", "--listen", "gopher@localhost:70"],
        &["server", "--listen", "127.0.0.1:0", "--handle-timeout", "soon"],
        &["server", "--listen", "127.0.0.1:0", "--max-in-flight", "0"],
    ] {
        let ended = Demo::run(wrong).assert_code(2);
        assert!(ended.stderr.starts_with("error: "), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn server_serves_its_advertised_services() {
    let (server, addresses) = Demo::server(&["--listen", "127.0.0.1:0", "--instance", "a"]);
    let channel = channel(&addresses[0]);

    let arith = ArithClient::new(channel.clone());
    assert_eq!(arith.multiply(6, -7).await, Ok(-42));
    assert_eq!(arith.divide(-7, 2).await, Ok(-3));
    let overflow = Err(CallError::Application(ArithError::Overflow));
    assert_eq!(arith.multiply(i64::MAX, 2).await, overflow);
    assert_eq!(arith.divide(i64::MIN, -1).await, overflow);
    assert_eq!(arith.divide(1, 0).await, Err(CallError::Application(ArithError::DivisionByZero)));

    let echo = EchoClient::new(channel.clone());
    assert_eq!(echo.echo(b"\0\xff".as_slice().into()).await, Ok(b"\0\xff".as_slice().into()));
    assert_eq!(echo.sleep(1).await, Ok(1));
    let who = echo.whoami().await.unwrap();
    assert_eq!((who.instance.as_str(), who.pid), ("a", server.pid() as u32));
    let start = Instant::now();
    echo.burn(20_000).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert_eq!(echo.panic("on purpose".to_owned()).await.unwrap_err().code(), Code::Internal);

    let counts = TextClient::new(channel).count("a B a".to_owned()).await.unwrap();
    assert_eq!(counts, [("a".to_owned(), 2), ("b".to_owned(), 1)].into());
}

#[tokio::test]
async fn limits_come_from_the_command_line() {
    let limits = ["--max-in-flight", "7", "--max-frame-bytes", "5000", "--handle-timeout", "50ms"];
    let (_server, addresses) = Demo::server(&[&ANY_PORT[..], &limits].concat());
    let channel = channel(&addresses[0]);
    let error = EchoClient::new(channel.clone()).sleep(60_000).await.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    let connection = channel.connection().unwrap();
    let negotiated = connection.negotiated();
    assert_eq!((negotiated.max_in_flight.get(), negotiated.send_limit.get()), (7, 5000));
    assert_eq!(negotiated.handle_timeout, Some(Duration::from_millis(50)));
}

#[tokio::test]
async fn stream_of_items_that_are_too_large_for_the_caller_is_not_complete() {
    let (_server, addresses) = Demo::server(&ANY_PORT);
    let options = ConnectionOptions::default().max_frame_bytes(5000);
    let channel = Channel::builder().to(&*addresses[0]).options(options).build().unwrap();
    let blobs = |bytes: u64| {
        let channel = channel.clone();
        async move {
            channel.call::<u64>("Feed.blobs", &(3, bytes)).receive::<Bytes>().await.unwrap().finish().await
        }
    };
    assert_eq!(blobs(4000).await, Ok(3));
    assert_eq!(blobs(6000).await.unwrap_err().code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn first_signal_drains_and_second_signal_kills() {
    let (server, addresses) = Demo::server(&ANY_PORT);
    let echo = EchoClient::new(channel(&addresses[0]));
    echo.sleep(0).await.unwrap();
    let call = echo.sleep(300).start();
    echo.sleep(0).await.unwrap(); // the call before it is under way
    server.signal(Signal::TERM);
    assert_eq!(call.await, Ok(300));
    server.ended().assert_code(0);

    let (server, addresses) = Demo::server(&ANY_PORT);
    let echo = EchoClient::new(channel(&addresses[0]));
    echo.sleep(0).await.unwrap();
    let call = echo.sleep(600_000).start();
    echo.sleep(0).await.unwrap();
    server.signal(Signal::TERM);
    let draining = || echo_is_refused(&addresses[0]);
    assert!(within(SOON, draining), "it still accepts");
    server.signal(Signal::TERM);
    assert_eq!(call.await.unwrap_err().code(), Code::Unavailable);
    server.ended().assert_code(143);
}

fn echo_is_refused(address: &str) -> bool {
    std::net::TcpStream::connect(address.strip_prefix("tcp@").unwrap()).is_err()
}

#[tokio::test]
async fn orphan_with_busy_threads_exits() {
    let orphan = ["--exit-with-parent", "--drain-timeout", "0s"];
    let (mut server, addresses) = Demo::server(&[&ANY_PORT[..], &orphan].concat());
    let echo = EchoClient::new(channel(&addresses[0]));
    echo.sleep(0).await.unwrap();
    // More than there are threads.
    let burning: Vec<_> = (0..256).map(|_| echo.burn(600_000_000).start()).collect();
    let busy = async || echo.sleep(0).timeout(Duration::from_millis(50)).await.is_err();
    while !busy().await {}
    server.close_stdin();
    assert_ne!(server.ended().code, None);
    drop(burning);
}
