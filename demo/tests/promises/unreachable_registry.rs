//! Promise 1, for servers: a registry that is not there, or is silent, holds none of them back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use demo::services::EchoClient;
use farcall::Channel;
use farcall_test_support::machine::lengthened;
use tokio::net::TcpListener;

use crate::processes::{Registry, Server, until};

/// Deregistering may take 2 s, draining 5 s; the rest is the machine's.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Starts a server at these registries, calls it, and stops it.
async fn start_call_and_stop(registries: &[&str]) {
    let begun = Instant::now();
    let server = Server::start("alone", registries);
    let listens = begun.elapsed();
    let echo = EchoClient::new(Channel::to(&*server.address).unwrap());
    assert_eq!(echo.whoami().await.unwrap().pid, server.pid());
    let answered = begun.elapsed();
    // It keeps answering while it tries to register.
    for _ in 0..150 {
        assert_eq!(echo.sleep(10).await, Ok(10));
    }
    let limit = lengthened(STOP_LIMIT);
    let stopped = Instant::now();
    server.stop();
    println!(
        "{registries:?}: listens after {listens:?}, answers after {answered:?}, stops in {:?}",
        stopped.elapsed()
    );
    let took = stopped.elapsed();
    assert!(took < limit.max(lengthened(STOP_LIMIT)), "{registries:?}: {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_an_absent_registry_serves_and_stops() {
    start_call_and_stop(&["http://127.0.0.1:1/registry"]).await;
    start_call_and_stop(&["etcd+http://127.0.0.1:1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_a_silent_registry_serves_and_stops() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&accepted);
    // The task ends with the test's runtime.
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    for scheme in ["http", "etcd+http"] {
        let before = accepted.load(Ordering::Relaxed);
        start_call_and_stop(&[&format!("{scheme}://{address}")]).await;
        assert!(accepted.load(Ordering::Relaxed) > before, "it has not tried to register");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_registry_does_not_block_the_others() {
    let registry = Registry::start(&["--ttl", "10s", "--heartbeat", "2s"]);
    let server =
        Server::start("a", &["http://127.0.0.1:1/registry", &registry.url(), "etcd+http://127.0.0.1:1"]);
    until("it registers where it can", async || registry.find(&server.address).await.is_some()).await;
    let address = server.stop();
    assert!(registry.find(&address).await.is_none(), "it has not deregistered");
}
