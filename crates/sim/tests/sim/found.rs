//! Faults that simulations have found, without the rest of their scenarios.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps an error")]

use std::time::Duration;

use farcall::client::RetryPolicy;
use farcall::protocol::{Code, Execution};
use farcall::{Sender, Server};
use farcall_sim::{Cluster, Sim, SimServer};
use tokio::time::{Instant, sleep};

/// Starts two servers, whose streams never have an item, and whose calls are never answered.
fn silent_servers(cluster: &Cluster) -> [SimServer; 2] {
    ["a", "b"].map(|name| {
        let describe = |_: &_| {
            let server =
                Server::builder().method("T.hang", async |(): ()| -> u64 { std::future::pending().await });
            server.stream_out("T.silent", async |(): (), out: Sender<u64>| {
                std::future::pending::<()>().await;
                drop(out);
            })
        };
        cluster.server(name, describe).unwrap()
    })
}

#[test]
fn hedged_stream_ends_at_its_deadline() {
    Sim::seed(1).run(async |cluster| {
        let servers = silent_servers(&cluster);
        let client = cluster.node("client").channel_builder();
        let channel =
            servers.iter().fold(client, |client, server| client.to(server.node().address())).build().unwrap();
        let begin = Instant::now();
        let call = channel.call::<()>("T.silent", &()).receive::<u64>().idempotent();
        let call = call.retry(RetryPolicy::hedge_after(Duration::from_millis(100)));
        let error = match call.timeout(Duration::from_secs(2)).await {
            Ok(mut items) => items.next().await.unwrap().unwrap_err(),
            Err(error) => error,
        };
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert_eq!(error.rpc().unwrap().execution(), Execution::Maybe);
        assert!(begin.elapsed() < Duration::from_millis(2100), "{:?}", begin.elapsed());
    });
}

#[test]
fn hedged_request_that_was_not_sent_does_not_hide_the_one_that_was() {
    Sim::seed(1).run(async |cluster| {
        let servers = silent_servers(&cluster);
        let client = cluster.node("client").channel_builder();
        let channel =
            servers.iter().fold(client, |client, server| client.to(server.node().address())).build().unwrap();
        // Only one of them can be reached.
        cluster.partition(&["client"], &["b"]);
        for _ in 0..10 {
            let call = channel.call::<u64>("T.hang", &()).idempotent();
            let call = call.retry(RetryPolicy::hedge_after(Duration::from_millis(100)));
            let error = call.timeout(Duration::from_secs(2)).await.unwrap_err();
            assert_eq!(error.rpc().unwrap().execution(), Execution::Maybe, "{error}");
        }
    });
}

#[test]
fn resumed_stream_does_not_say_that_nothing_was_done() {
    Sim::seed(1).run(async |cluster| {
        let [server, other] = silent_servers(&cluster);
        other.kill();
        let channel = cluster.node("client").channel_builder().to(server.node().address()).build().unwrap();
        let call = channel.call::<()>("T.silent", &()).receive::<u64>().retry(RetryPolicy::fail_fast());
        let mut items = call.timeout(Duration::from_secs(5)).resume(|_| ()).await.unwrap();
        // A second of virtual time, in which the request arrives.
        sleep(Duration::from_secs(1)).await;
        assert_eq!(server.handle().stream_metrics().open, 1);
        cluster.partition(&["client"], &["a"]);
        cluster.reset("client", "a");
        server.kill();
        let error = items.next().await.unwrap().unwrap_err();
        assert_eq!(error.rpc().unwrap().execution(), Execution::Maybe, "{error}");
    });
}

#[test]
fn resumed_stream_ends_by_its_deadline_while_no_server_is_there() {
    for seed in 0..20 {
        Sim::seed(seed).run(async |cluster| {
            let [server, other] = silent_servers(&cluster);
            let client = cluster.node("client").channel_builder().to(server.node().address());
            let channel = client.to(other.node().address()).build().unwrap();
            let (begin, limit) = (Instant::now(), Duration::from_millis(1000 + 100 * seed));
            let call = channel.call::<()>("T.silent", &()).receive::<u64>().timeout(limit);
            let mut items = call.resume(|_| ()).await.unwrap();
            server.kill();
            other.kill();
            items.next().await.unwrap().unwrap_err();
            assert!(begin.elapsed() <= limit + Duration::from_millis(5), "{:?}", begin.elapsed());
        });
    }
}
