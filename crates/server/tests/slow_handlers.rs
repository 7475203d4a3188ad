//! ARCHITECTURE.md, "The path of a call": a handler that blocks its thread does not delay other calls. Which
//! methods count as slow is tested in paused time; where threads are blocked, only the order of answers is
//! asserted.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use farcall_protocol::{Code, Execution, HeaderRef, Kind};
use farcall_server::{Limits, OffloadRuntime, Receiver, Sender};
use farcall_test_support::wait::hold_clock;
use serde_json::json;
use support::{Count, Nothing, Raw, Running, Text, builder, millis, none, serve_with, stage};
use tokio::time::{Instant, advance};

/// A server with `T.burn`, which blocks its thread until it is let go, but only from its second
/// call on: the first burns for a moment, by which it is known to be slow.
fn with_burn(in_call: bool) -> (Running, Arc<AtomicBool>) {
    let stage = stage();
    let (go, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let burn = {
        let go = Arc::clone(&go);
        move || {
            if calls.fetch_add(1, SeqCst) == 0 {
                std::thread::sleep(millis(5));
            } else {
                while !go.load(SeqCst) {
                    std::thread::sleep(millis(1));
                }
            }
        }
    };
    let builder = builder(&stage).method("T.burn", move |_: Nothing| {
        let burn = burn.clone();
        if in_call {
            burn();
        }
        async move {
            if !in_call {
                burn();
            }
        }
    });
    (serve_with(stage, builder), go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_method_does_not_block_other_calls() {
    for in_call in [false, true] {
        let (server, go) = with_burn(in_call);
        let mut client = server.connect().await;
        client.call("T.burn", none()).await.value();
        let burning = client.request("T.burn", none()).await;
        for n in 0..50 {
            let text = n.to_string();
            assert_eq!(client.call("T.echo", json!({"text": text})).await.value(), text);
            client.call("T.sleep", json!({"n": 1})).await.value();
        }
        go.store(true, SeqCst);
        assert_eq!(client.response().await.seq(), burning);
    }
}

#[tokio::test]
async fn slow_call_cancelled_before_its_first_poll_is_refused() {
    let (server, go) = with_burn(false);
    go.store(true, SeqCst);
    let mut client = server.connect().await;
    client.call("T.burn", none()).await.value();
    // In one write, so that the connection reads the cancel before the call's own task runs.
    let seq = client.next_seq();
    let header = HeaderRef { service_method: "T.burn", ..HeaderRef::new(Kind::Request, seq) };
    let mut bytes = client.encode(&header, Bytes::new());
    bytes.extend(client.encode(&HeaderRef::new(Kind::Cancel, seq), Bytes::new()));
    client.write(&bytes).await;
    client.response().await.assert_error(Code::Cancelled, Execution::Refused);
    client.assert_silent().await;
    assert_eq!(server.handle.in_flight(), 0);
}

/// A server with `T.task`, which returns the id of the task that it runs on: the connection's, or its
/// own. Its first poll takes `n` milliseconds of paused time. That of `T.burn` takes 5 ms.
fn with_tasks(limits: Limits) -> Running {
    let stage = stage();
    let builder = builder(&stage)
        .limits(limits)
        .method("T.task", async |args: Count| {
            let id = tokio::task::id().to_string();
            if args.n > 0 {
                advance(millis(args.n)).await;
            }
            id
        })
        .method("T.burn", async |_: Nothing| advance(millis(5)).await);
    serve_with(stage, builder)
}

async fn task(client: &mut Raw, takes_ms: u64) -> String {
    client.call("T.task", json!({"n": takes_ms})).await.value().as_str().expect("text").to_owned()
}

#[tokio::test(start_paused = true)]
async fn method_that_is_quick_again_runs_inline_again() {
    let server = with_tasks(Limits::default());
    let mut client = server.connect().await;
    let connections = task(&mut client, 5).await;
    assert_ne!(task(&mut client, 0).await, connections, "it is known to be slow");
    // At most 256 quick polls in a row are required.
    for _ in 0..300 {
        if task(&mut client, 0).await == connections {
            return;
        }
    }
    panic!("slow every time");
}

#[tokio::test(start_paused = true)]
async fn stream_with_slow_polls_now_and_then_is_offloaded_for_few_others() {
    let (stage, connections) = (stage(), std::thread::current().id());
    // Returns for each item if it is on the thread of connections, before it takes as many milliseconds as the item says.
    let builder = builder(&stage).stream_both(
        "T.threads",
        move |_: Nothing, mut items: Receiver<u64>, mut out: Sender<bool>| async move {
            while let Some(Ok(takes_ms)) = items.recv().await {
                let is_there = std::thread::current().id() == connections;
                if takes_ms > 0 {
                    advance(millis(takes_ms)).await;
                }
                if out.send(is_there).await.is_err() {
                    break;
                }
            }
        },
    );
    let server = serve_with(stage, builder);
    let mut client = server.connect_streams(1024 * 1024).await;
    let seq = client.stream("T.threads", none()).await;
    let mut offloaded = Vec::new();
    for _ in 0..7 {
        // The first is suspected, the second found to be slow.
        let items = [1, 1].into_iter().chain([0; 1500]);
        let count = hold_clock(async {
            let mut count = 0;
            for takes_ms in items {
                client.item(seq, &takes_ms).await;
                let mut message = client.recv().await;
                if message.header.kind == Kind::Credit {
                    message = client.recv().await;
                }
                let is_there: bool = client.codec().decode(&message.body).unwrap();
                count += usize::from(!is_there);
            }
            count
        });
        offloaded.push(Box::pin(count).await);
    }
    // At most 24 polls, one of which may have several items, if the next has come before it ends. If the polls of a stream counted as one
    // call, twice as many would be offloaded each time: 270 at the end.
    assert!(offloaded.iter().all(|count| (1..=128).contains(count)), "{offloaded:?}");
}

#[tokio::test(start_paused = true)]
async fn calls_that_find_no_place_do_not_make_a_method_quick() {
    let server = with_tasks(Limits::default().adaptive());
    let mut client = server.connect().await;
    let connections = task(&mut client, 5).await;
    // As many as may run at first.
    let mut hanging = Vec::new();
    for _ in 0..4 {
        hanging.push(client.request("T.hang", none()).await);
    }
    // More than any number of quick calls in a row after which a method is tried on the connection's task again.
    for _ in 0..10 {
        for _ in 0..50 {
            client.request("T.task", json!({"n": 0})).await;
        }
        for _ in 0..50 {
            client.response().await.assert_error(Code::ResourceExhausted, Execution::Refused);
        }
    }
    for seq in hanging {
        client.cancel(seq).await;
        client.response().await;
    }
    assert_ne!(task(&mut client, 0).await, connections, "it is known to be slow, and was not called since");
}

#[tokio::test(start_paused = true)]
async fn call_is_not_charged_for_the_time_of_its_neighbour() {
    let server = with_tasks(Limits::default());
    let mut client = server.connect().await;
    let connections = task(&mut client, 0).await;
    let mut bytes = Vec::new();
    for method in ["T.burn", "T.task"] {
        let seq = client.next_seq();
        let header = HeaderRef { service_method: method, ..HeaderRef::new(Kind::Request, seq) };
        let body = client.codec().encode(&json!({"n": 0})).unwrap();
        bytes.extend(client.encode(&header, body));
    }
    client.write(&bytes).await;
    client.response().await.value();
    client.response().await.value();
    assert_eq!(task(&mut client, 0).await, connections, "it is not taken for slow");
}

#[tokio::test(start_paused = true)]
async fn large_arguments_make_calls_with_small_ones_no_slower() {
    let stage = stage();
    let builder = builder(&stage).method("T.size", async |args: Text| {
        let id = tokio::task::id().to_string();
        advance(Duration::from_micros(args.text.len() as u64)).await;
        id
    });
    let server = serve_with(stage, builder);
    let (mut large, mut small) = (server.connect().await, server.connect().await);
    let call = async |client: &mut Raw, len: usize| {
        client.call("T.size", json!({"text": "x".repeat(len)})).await.value()
    };
    let connections = [call(&mut large, 100_000).await, call(&mut small, 10).await];
    for _ in 0..20 {
        assert_ne!(call(&mut large, 100_000).await, connections[0], "it is known to be slow");
        assert_eq!(call(&mut small, 10).await, connections[1]);
    }
}

/// Threads that are preempted for all but a moment of each poll that takes 5 ms.
struct Preempted(AtomicU64);

impl OffloadRuntime for Preempted {
    fn cores(&self) -> usize {
        1
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn spawn_worker(&self, worker: Box<dyn FnOnce() + Send>) {
        tokio::task::spawn_blocking(worker);
    }

    fn preempted(&self) -> Duration {
        Duration::from_micros(self.0.fetch_add(4_950, SeqCst))
    }
}

#[tokio::test(start_paused = true)]
async fn poll_that_is_preempted_makes_no_method_slow() {
    let stage = stage();
    let builder = builder(&stage)
        .method("T.task", async |_: Nothing| {
            let id = tokio::task::id().to_string();
            advance(millis(5)).await;
            id
        })
        .offload_runtime(Preempted(AtomicU64::new(0)));
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    let connections = client.call("T.task", none()).await.value();
    for _ in 0..200 {
        assert_eq!(client.call("T.task", none()).await.value(), connections);
    }
}
