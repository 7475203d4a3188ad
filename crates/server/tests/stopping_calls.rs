//! PROTOCOL.md, 3: handlers that are stopped by a cancel, a deadline, a disconnect or a panic. Each call
//! is answered once and frees its slot.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::{ClientOffer, Code, Execution, HeaderRef, Kind, Metadata};
use farcall_server::Limits;
use serde_json::json;
use support::{Raw, millis, none, secs, serve};
use tokio::time::{Instant, sleep};

const MAYBE: Execution = Execution::Maybe;

#[tokio::test(start_paused = true)]
async fn cancelled_call_is_answered_once_after_its_handler_is_dropped() {
    let server = serve(Limits::default().max_in_flight(1));
    let mut client = server.connect().await;
    for _ in 0..3 {
        let seq = client.request("T.hang", none()).await;
        client.cancel(seq).await;
        client.cancel(seq).await;
        let answer = client.response().await;
        assert_eq!(answer.seq(), seq);
        let said = answer.assert_error(Code::Cancelled, MAYBE);
        assert_eq!(said, "`T.hang` was stopped: its caller cancelled it");
        // The handler was dropped before the answer.
        assert_eq!(server.stage.alive(), 0);
    }
    assert_eq!(server.stage.begun(), 3);
    client.assert_silent().await;
    server.assert_nothing_left().await;
    assert_eq!(server.in_flight_stats(), 0);
}

#[tokio::test(start_paused = true)]
async fn finished_result_wins_over_a_later_cancel() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let seq = client.request("T.echo", json!({"text": "done"})).await;
    client.cancel(seq).await;
    assert_eq!(client.response().await.value(), "done");
    let seq = client.request("T.wait", none()).await;
    sleep(millis(1)).await;
    server.stage.gate.add_permits(1);
    sleep(millis(1)).await;
    client.cancel(seq).await;
    assert_eq!(client.response().await.value(), "done");
    client.assert_silent().await;
}

#[tokio::test(start_paused = true)]
async fn simultaneous_cancel_and_result_produce_one_answer() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for n in 0..200 {
        let seq = client.request("T.yields", json!({"n": n % 10})).await;
        for _ in 0..n % 13 {
            tokio::task::yield_now().await;
        }
        client.cancel(seq).await;
        let answer = client.response().await;
        assert_eq!(answer.seq(), seq);
        if answer.message.header.error.is_some() {
            answer.assert_error(Code::Cancelled, MAYBE);
        }
    }
    client.assert_silent().await;
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn handler_stops_at_its_callers_deadline() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let start = Instant::now();
    let seq = client.request_with("T.hang", none(), |header| header.timeout_ms = 300).await;
    let answer = client.response().await;
    assert_eq!((answer.seq(), start.elapsed().as_millis() / 10), (seq, 30));
    let said = answer.assert_error(Code::DeadlineExceeded, MAYBE);
    assert_eq!(said, "`T.hang` was stopped: it did not end within 300 ms, its caller's timeout");
    assert_eq!(server.stage.alive(), 0);
    client.assert_silent().await;
    server.assert_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn smallest_handle_timeout_applies() {
    let (of_terms, of_call) = ("`handle_timeout`", "its caller's timeout");
    for (theirs, ours, call, expected, name) in [
        (None, Some(2), 0, 2, of_terms),
        (Some(3), None, 0, 3, of_terms),
        (Some(3), Some(2), 0, 2, of_terms),
        (Some(1), Some(2), 0, 1, of_terms),
        (Some(3), Some(2), 1000, 1, of_call),
        (Some(3), Some(2), 9000, 2, of_terms),
    ] {
        let limits = ours.map_or(Limits::default(), |ours| Limits::default().handle_timeout(secs(ours)));
        let server = serve(limits);
        let terms = ClientOffer::default().handle_timeout(theirs.map(secs));
        let mut client = Raw::connect_with(&server.handle, &terms).await;
        let start = Instant::now();
        client.request_with("T.hang", none(), |header| header.timeout_ms = call).await;
        let answer = client.response().await;
        let said = answer.assert_error(Code::DeadlineExceeded, MAYBE);
        assert_eq!(start.elapsed().as_secs(), expected, "{theirs:?} {ours:?} {call}");
        assert_eq!(said, format!("`T.hang` was stopped: it did not end within {expected} s, {name}"));
    }
}

#[tokio::test(start_paused = true)]
async fn handler_sees_its_deadline_across_awaits() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let mut metadata = Metadata::new();
    metadata.insert("key", "value").unwrap();
    let seq = client.next_seq();
    let header = HeaderRef {
        service_method: "T.times",
        timeout_ms: 500,
        metadata: Some(&metadata),
        ..HeaderRef::new(Kind::Request, seq)
    };
    client.send(&header, "").await;
    let times = client.response().await.value();
    assert_eq!(times["current_ms"], 500);
    for later in ["context_ms", "later_ms"] {
        assert!((485..=490).contains(&times[later].as_u64().unwrap()), "{times}");
    }
    assert_eq!(times["key"], "value");
    // The next call inherits nothing of it.
    let times = client.call("T.times", none()).await.value();
    assert_eq!(times, json!({"context_ms": null, "current_ms": null, "later_ms": null, "key": null}));
}

#[tokio::test(start_paused = true)]
async fn disconnected_caller_stops_its_handlers() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for _ in 0..5 {
        client.request("T.hang", none()).await;
    }
    sleep(millis(1)).await;
    assert_eq!((server.stage.alive(), server.handle.in_flight()), (5, 5));
    drop(client);
    server.assert_nothing_left().await;
    assert_eq!((server.handle.connections(), server.in_flight_stats()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn half_closed_stream_without_goaway_counts_as_disconnected() {
    use tokio::io::AsyncWriteExt;
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    client.frames.stream.shutdown().await.unwrap();
    client.assert_closed().await;
    server.assert_nothing_left().await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn draining_server_does_not_wait_for_a_disconnected_caller() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    sleep(millis(1)).await;
    server.handle.stop();
    client.assert_goaway(1, Code::Unavailable).await;
    drop(client);
    let start = Instant::now();
    server.serving.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(server.stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn panic_is_internal_and_done_and_affects_no_other_call() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let neighbour = client.request("T.wait", none()).await;
    let panics =
        ["sync", "first", "later", "drop", "twice", "drop_later", "read", "written", "written_later"];
    for name in panics {
        let method = format!("T.panic_{name}");
        let answer = client.call(&method, none()).await;
        let said = answer.assert_error(Code::Internal, Execution::Done);
        assert_eq!(said, format!("`{method}` panicked"));
    }
    server.stage.gate.add_permits(1);
    let answer = client.response().await;
    assert_eq!((answer.seq(), answer.value()), (neighbour, json!("done")));
    server.assert_nothing_left().await;
    assert_eq!(server.in_flight_stats(), 0);
    let panics = server.handle.stats().into_iter().filter(|stats| stats.name.starts_with("T.panic"));
    assert!(panics.into_iter().all(|stats| (stats.calls, stats.errors) == (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn handler_that_panics_while_being_dropped_is_answered() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let seq = client.request_with("T.panic_drop_later", none(), |header| header.timeout_ms = 1).await;
    let other = client.request("T.panic_drop_later", none()).await;
    client.cancel(other).await;
    let mut answered = Vec::new();
    for _ in 0..2 {
        let answer = client.response().await;
        answer.assert_error(Code::Internal, Execution::Done);
        answered.push(answer.seq());
    }
    answered.sort();
    assert_eq!(answered, [seq, other]);
    client.call("T.count", none()).await.value();
}

#[test]
fn runtime_shutdown_drops_all_calls() {
    let stage = support::stage();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let builder = support::builder(&stage);
    let handle = runtime.block_on(async { support::serve_with(stage.clone(), builder).handle });
    let handle_in = handle.clone();
    let client = runtime.block_on(async move {
        let mut client = Raw::connect(&handle_in).await;
        client.request("T.hang", none()).await;
        while handle_in.in_flight() == 0 {
            tokio::task::yield_now().await;
        }
        client
    });
    runtime.shutdown_background();
    drop(client);
    let deadline = std::time::Instant::now() + secs(20);
    while (handle.in_flight(), stage.alive(), handle.connections()) != (0, 0, 0) {
        assert!(std::time::Instant::now() < deadline, "something is left");
        std::thread::sleep(millis(1));
    }
}
