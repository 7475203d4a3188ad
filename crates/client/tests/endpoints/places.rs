//! Places: the calls that a server runs at once on a connection, of which a pool has several.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use farcall_client::{Channel, ItemStream, Phase};
use farcall_discovery::{ConsistentHash, RoundRobin};
use farcall_protocol::{Code, Execution};
use farcall_server::{Limits, Sender};
use farcall_test_support::wait::settle;
use tokio::task::JoinHandle;

use super::support::{Line, MS, Nothing, PATIENCE, Running, list, over, script, serve_at, until};

/// A server that runs `calls` calls and as many streams at once on each connection. `T.hold` sends an item, and then nothing.
fn serve(name: &'static str, calls: usize) -> Running {
    serve_at(name, "tcp@127.0.0.1:0", |builder| {
        let hold = async |_: Nothing, mut out: Sender<u64>| {
            let _ = out.send(7).await;
            pending::<()>().await;
        };
        let limits = Limits::default().drain_timeout(500 * MS).max_in_flight(calls).max_streams(calls);
        builder.stream_out("T.hold", hold).limits(limits)
    })
}

/// Opens a stream, and waits for its first item.
fn hold(channel: &Channel) -> JoinHandle<ItemStream<u64, ()>> {
    let call = channel.call::<()>("T.hold", &()).receive::<u64>().idempotent();
    tokio::spawn(async move {
        let mut items = call.await.unwrap();
        assert_eq!(items.next().await.unwrap().unwrap(), 7);
        items
    })
}

fn waiting_for_places(channel: &Channel) -> usize {
    channel.overview().streams.iter().filter(|stream| stream.waits_for == "place").count()
}

async fn held(streams: Vec<JoinHandle<ItemStream<u64, ()>>>) -> Vec<ItemStream<u64, ()>> {
    let mut held = Vec::new();
    for stream in streams {
        held.push(tokio::time::timeout(PATIENCE, stream).await.expect("it has a place").unwrap());
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_use_the_places_of_all_connections_to_all_endpoints() {
    let servers = [serve("a", 3), serve("b", 3), serve("c", 3)];
    let builder = over(&[&servers[0], &servers[1], &servers[2]]).balancer(RoundRobin).connections(4);
    let channel = builder.build().unwrap();
    let streams = held((0..36).map(|_| hold(&channel)).collect()).await;
    for server in &servers {
        assert_eq!(server.handle.in_flight(), 12);
    }
    // One more is for whichever place gets free first.
    let waiting = hold(&channel);
    until("it waits for a place", || waiting_for_places(&channel) == 1).await;
    let mut streams = streams.into_iter();
    drop(streams.nth(17));
    held(vec![waiting]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_use_the_places_of_all_connections() {
    let server = serve("a", 2);
    let channel = Channel::builder().to(server.address.clone()).connections(3).build().unwrap();
    let _calls: Vec<_> = (0..6).map(|_| channel.call::<String>("T.slow", &()).start()).collect();
    until("all calls run", || server.calls() == 6).await;
    let full = channel.call::<String>("T.slow", &()).timeout(50 * MS).await.unwrap_err();
    let error = full.rpc().unwrap();
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::NotSent));
    assert_eq!(error.phase(), Phase::Queue);
    assert!(error.message().contains("each of 3 connections has as many calls as"), "{error}");
    assert!(error.message().contains("Limits::max_in_flight"), "{error}");
    let _streams = held((0..6).map(|_| hold(&channel)).collect()).await;
    let full = channel.call::<()>("T.hold", &()).receive::<u64>().timeout(50 * MS).await.unwrap_err();
    let error = full.rpc().unwrap();
    assert_eq!(error.phase(), Phase::Queue);
    assert!(error.message().contains("each of 3 connections has as many streaming calls as"), "{error}");
    assert!(error.message().contains("Limits::max_streams"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_to_endpoints_with_places_before_they_wait() {
    let servers = [serve("a", 1), serve("b", 4)];
    let channel = over(&[&servers[0], &servers[1]]).balancer(RoundRobin).build().unwrap();
    let _calls: Vec<_> = (0..5).map(|_| channel.call::<String>("T.slow", &()).start()).collect();
    until("all calls run", || servers[0].calls() + servers[1].calls() == 5).await;
    // A call that waits counts nowhere as one that was made.
    let _waiting = channel.call::<String>("T.slow", &()).start();
    settle().await;
    assert_eq!(servers[0].calls() + servers[1].calls(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stream_that_waits_for_a_place_takes_that_of_a_new_endpoint() {
    let (old, new) = (serve("old", 2), serve("new", 2));
    let (tell, told) = script();
    tell.send(list(&[&old])).unwrap();
    let channel = Channel::builder().discover(told).balancer(RoundRobin).build().unwrap();
    let _streams = held((0..2).map(|_| hold(&channel)).collect()).await;
    let waiting: Vec<_> = (0..2).map(|_| hold(&channel)).collect();
    until("both wait for a place", || waiting_for_places(&channel) == 2).await;
    assert_eq!(new.handle.in_flight(), 0);
    tell.send(list(&[&old, &new])).unwrap();
    let _moved = held(waiting).await;
    assert_eq!((old.handle.in_flight(), new.handle.in_flight()), (2, 2));
    // When an endpoint leaves, those that wait for it go elsewhere.
    let waiting = hold(&channel);
    until("it waits for a place", || waiting_for_places(&channel) == 1).await;
    tell.send(Line::List(vec![new.endpoint()])).unwrap();
    old.handle.stop();
    drop(_moved);
    held(vec![waiting]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn call_with_a_key_waits_at_its_own_endpoint() {
    let servers = [serve("a", 1), serve("b", 1)];
    let channel = over(&[&servers[0], &servers[1]])
        .balancer(ConsistentHash::by_key().load_factor(100.0))
        .build()
        .unwrap();
    let _call = channel.call::<String>("T.slow", &()).key("one").start();
    until("it runs", || servers[0].calls() + servers[1].calls() == 1).await;
    let full = channel.call::<String>("T.slow", &()).key("one").timeout(100 * MS).await.unwrap_err();
    assert_eq!(full.rpc().unwrap().phase(), Phase::Queue);
    assert_eq!(servers[0].calls() + servers[1].calls(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_streams_get_places_in_the_order_of_their_calls() {
    const WAITING: usize = 8;
    let server = serve("a", 1);
    let channel = Channel::builder().to(server.address.clone()).connections(2).build().unwrap();
    let mut streams = held((0..2).map(|_| hold(&channel)).collect()).await;
    let order = Arc::<AtomicUsize>::default();
    let mut waiting = Vec::new();
    for n in 0..WAITING {
        let (call, order) = (hold(&channel), Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let stream = call.await.unwrap();
            assert_eq!(order.fetch_add(1, Ordering::SeqCst), n);
            stream
        }));
        until("it waits", || waiting_for_places(&channel) == n + 1).await;
    }
    for call in waiting {
        streams.remove(0);
        streams.push(tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap());
    }
}
