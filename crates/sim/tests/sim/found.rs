//! Faults that simulations have found, without the rest of their scenarios.

#![expect(clippy::unwrap_used, reason = "a test fails where it unwraps an error")]

use std::future::IntoFuture as _;
use std::time::Duration;

use farcall::client::{Channel, ConnectionOptions, RetryPolicy};
use farcall::protocol::{Code, Execution, KeepAlive};
use farcall::server::Limits;
use farcall::{Sender, Server};
use farcall_sim::{Cluster, Link, Sim, SimServer};
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

/// A server that runs one call and one stream at once on each connection, for 10 s each, and whose connections take calls
/// for two seconds: with ten callers, the last one waits for a place on ten connections that come to their end.
fn server_of_one_at_once(cluster: &Cluster, name: &str) -> SimServer {
    let describe = |_: &_| {
        let limits = Limits::default().max_in_flight(1).max_streams(1);
        let limits = limits.max_connection_age(Duration::from_secs(2)).connection_age_grace(None);
        let server = Server::builder().limits(limits);
        // Both in virtual time, as all of a simulation: longer than three connections last.
        let server = server.method("T.slow", async |(): ()| sleep(Duration::from_secs(10)).await);
        server.stream_out("T.slow_items", async |(): (), mut out: Sender<u64>| {
            let _ = out.send(7).await;
            sleep(Duration::from_secs(10)).await;
        })
    };
    cluster.server(name, describe).unwrap()
}

/// Makes ten calls at once, of which each must be answered in its first attempt or a later one.
fn answer_all_that_wait_for_places(
    endpoints: &'static [&'static str],
    call: impl AsyncFn(Channel) -> Result<(), String> + Copy + 'static,
) {
    Sim::seed(1).run(async move |cluster| {
        let servers: Vec<_> = endpoints.iter().map(|name| server_of_one_at_once(&cluster, name)).collect();
        let client = cluster.node("client").channel_builder();
        let channel =
            servers.iter().fold(client, |client, server| client.to(server.node().address())).build().unwrap();
        let calls = (0..10 * endpoints.len()).map(|_| call(channel.clone()));
        for outcome in futures::future::join_all(calls).await {
            outcome.unwrap();
        }
    });
}

#[test]
fn calls_wait_for_places_longer_than_connections_last() {
    for endpoints in [&["a"][..], &["a", "b"]] {
        answer_all_that_wait_for_places(endpoints, async |channel| {
            let call = channel.call::<()>("T.slow", &()).timeout(Duration::from_secs(60));
            call.await.map_err(|error| error.to_string())
        });
    }
}

#[test]
fn hedged_calls_wait_for_places_longer_than_connections_last() {
    answer_all_that_wait_for_places(&["a", "b"], async |channel| {
        let call = channel.call::<()>("T.slow", &()).timeout(Duration::from_secs(60)).idempotent();
        let hedged = call.retry(RetryPolicy::hedge_after(Duration::from_millis(100)));
        hedged.await.map_err(|error| error.to_string())
    });
}

#[test]
fn streams_wait_for_places_longer_than_connections_last() {
    for endpoints in [&["a"][..], &["a", "b"]] {
        answer_all_that_wait_for_places(endpoints, async |channel| {
            let call = channel.call::<()>("T.slow_items", &()).receive::<u64>();
            let mut items = call.timeout(Duration::from_secs(60)).await.map_err(|error| error.to_string())?;
            while let Some(item) = items.next().await {
                item.map_err(|error| error.to_string())?;
            }
            Ok(())
        });
    }
}

#[test]
fn broadcasts_wait_for_places_longer_than_connections_last() {
    answer_all_that_wait_for_places(&["a", "b"], async |channel| {
        let call = channel.call::<()>("T.slow", &()).timeout(Duration::from_secs(60));
        call.broadcast().await.map(drop).map_err(|error| error.to_string())
    });
}

#[test]
fn call_that_is_not_retried_waits_for_its_place_at_the_only_endpoint() {
    answer_all_that_wait_for_places(&["a"], async |channel| {
        let call = channel.call::<()>("T.slow", &()).timeout(Duration::from_secs(60));
        call.retry(RetryPolicy::fail_fast()).await.map_err(|error| error.to_string())
    });
}

#[test]
fn call_that_the_server_may_have_forgotten_is_not_repeated() {
    for (lost_after, is_repeated) in [(100, true), (130, false)] {
        Sim::seed(1).run(async move |cluster| {
            let describe = |_: &_| {
                // In virtual time: longer than the client takes the server to remember the call, 120 s.
                let pay = async |(): ()| sleep(Duration::from_secs(200)).await;
                Server::builder().method("T.pay", pay).once("T.pay")
            };
            let server = cluster.server("a", describe).unwrap();
            let channel =
                cluster.node("client").channel_builder().to(server.node().address()).build().unwrap();
            let call = channel.call::<()>("T.pay", &()).once().timeout(Duration::from_secs(600));
            let lose = async {
                // Within that time, or after it.
                sleep(Duration::from_secs(lost_after)).await;
                cluster.reset("client", "a");
            };
            let (outcome, ()) = futures::future::join(call.into_future(), lose).await;
            match outcome {
                Ok(()) => assert!(is_repeated),
                Err(error) => {
                    assert_eq!(error.rpc().unwrap().execution(), Execution::Maybe, "{error}");
                    assert!(!is_repeated, "{error}");
                }
            }
        });
    }
}

#[test]
fn large_messages_pass_a_link_that_takes_longer_for_them_than_a_peer_may_be_silent() {
    // At 10,000 bytes a second, each way takes ten seconds, of which most wait for the link.
    const LEN: usize = 100_000;
    Sim::seed(1).run(async |cluster| {
        cluster.links(Link::default().bandwidth(10_000).buffer(1000));
        let keep_alive = KeepAlive::new(Duration::from_secs(1), Duration::from_secs(2));
        let describe = move |_: &_| {
            let server = Server::builder().limits(Limits::default().keep_alive(keep_alive));
            let server = server.method("T.take", async |(text,): (String,)| text.len());
            server.method("T.give", async |(len,): (usize,)| "x".repeat(len))
        };
        let server = cluster.server("a", describe).unwrap();
        let options = ConnectionOptions::default().keep_alive(keep_alive);
        let client = cluster.node("client").channel_with(options).retry(RetryPolicy::fail_fast());
        let channel = client.to(server.node().address()).build().unwrap();
        let limit = Duration::from_secs(30);
        let taken = channel.call::<usize>("T.take", &("x".repeat(LEN),)).timeout(limit).await.unwrap();
        assert_eq!(taken, LEN);
        let given = channel.call::<String>("T.give", &(LEN,)).timeout(limit).await.unwrap();
        assert_eq!(given.len(), LEN);
    });
}
