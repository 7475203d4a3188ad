//! Calls over a connection in memory and over real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

use std::time::Duration;

use farcall_client::{Channel, Phase};
use farcall_protocol::{Code, Execution};
use farcall_server::Server;
use farcall_test_support::wait::{pass, until};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Pair {
    a: i64,
    b: i64,
}

#[derive(Deserialize)]
struct Sleep {
    ms: u64,
}

async fn serve() -> (String, farcall_server::ServerHandle) {
    let server = Server::builder()
        .method("Arith.multiply", |pair: Pair| async move { pair.a * pair.b })
        .try_method("Arith.divide", |pair: Pair| async move {
            pair.a.checked_div(pair.b).ok_or_else(|| "division by zero".to_owned())
        })
        .method("Echo.sleep", |sleep: Sleep| async move {
            tokio::time::sleep(Duration::from_millis(sleep.ms)).await;
            sleep.ms
        })
        .listen("tcp@127.0.0.1:0")
        .bind()
        .await
        .unwrap();
    let address = server.addresses().next().unwrap().to_string();
    let handle = server.handle();
    tokio::spawn(server.serve());
    (address, handle)
}

#[tokio::test]
async fn call_by_name_returns_its_result() {
    let (address, _server) = serve().await;
    let channel = Channel::to(&*address).unwrap();
    let product: i64 = channel.call("Arith.multiply", &json!({"a": 6, "b": 7})).await.unwrap();
    assert_eq!(product, 42);
    let product: i64 = channel.call("Arith.multiply", &(6, 7)).await.unwrap();
    assert_eq!(product, 42);
}

#[tokio::test]
async fn thousands_of_concurrent_calls_get_their_own_answers() {
    let (address, _server) = serve().await;
    let channel = Channel::to(&*address).unwrap();
    let calls: Vec<_> =
        (0..5000_u64).map(|n| channel.call::<u64>("Echo.sleep", &json!({"ms": n % 50})).start()).collect();
    for (n, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), n as u64 % 50);
    }
}

#[tokio::test]
async fn deadline_ends_the_call_on_both_sides() {
    let (address, server) = serve().await;
    let channel = Channel::to(&*address).unwrap();
    let limit = Duration::from_secs(30);
    let call = channel.call::<u64>("Echo.sleep", &json!({"ms": 60_000})).timeout(limit).start();
    until("the server runs it", || server.in_flight() == 1).await;
    pass(limit).await;
    let error = call.await.unwrap_err();
    let rpc = error.rpc().unwrap();
    assert_eq!(
        (rpc.code(), rpc.execution(), rpc.phase()),
        (Code::DeadlineExceeded, Execution::Maybe, Phase::Wait)
    );
    println!("{error}");
    until("the server has stopped it", || server.in_flight() == 0).await;
}
