//! PROTOCOL.md, 3: what stops a handler before its end: a cancel, a deadline, a caller that has
//! gone, a panic. Each is answered once, and gives its place back.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use farcall_protocol::{ClientOffer, Code, Execution, HeaderRef, Kind, Metadata};
use farcall_server::Limits;
use serde_json::json;
use support::{Raw, millis, none, secs, serve};
use tokio::time::{Instant, sleep};

const MAYBE: Execution = Execution::Maybe;

#[tokio::test(start_paused = true)]
async fn a_cancelled_call_is_answered_once_when_its_handler_has_ended() {
    let server = serve(Limits::default().max_in_flight(1));
    let mut client = server.connect().await;
    for _ in 0..3 {
        let seq = client.request("T.hang", none()).await;
        client.cancel(seq).await;
        client.cancel(seq).await;
        let answer = client.response().await;
        assert_eq!(answer.seq(), seq);
        let said = answer.expect_error(Code::Cancelled, MAYBE);
        assert_eq!(said, "`T.hang` was stopped: its caller cancelled it");
        // Its drop ran before the answer.
        assert_eq!(server.stage.alive(), 0);
    }
    assert_eq!(server.stage.begun(), 3);
    client.expect_silence().await;
    server.expect_nothing_left().await;
    assert_eq!(server.in_flight_stats(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_result_that_was_on_its_way_outruns_the_cancel() {
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
    client.expect_silence().await;
}

#[tokio::test(start_paused = true)]
async fn a_cancel_and_a_result_at_the_same_moment_make_one_answer() {
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
            answer.expect_error(Code::Cancelled, MAYBE);
        }
    }
    client.expect_silence().await;
    server.expect_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn a_handler_is_stopped_at_its_callers_deadline() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let start = Instant::now();
    let seq = client.request_with("T.hang", none(), |header| header.timeout_ms = 300).await;
    let answer = client.response().await;
    assert_eq!((answer.seq(), start.elapsed().as_millis() / 10), (seq, 30));
    let said = answer.expect_error(Code::DeadlineExceeded, MAYBE);
    assert_eq!(said, "`T.hang` was stopped: its time ran out");
    assert_eq!(server.stage.alive(), 0);
    client.expect_silence().await;
    server.expect_nothing_left().await;
}

#[tokio::test(start_paused = true)]
async fn the_smaller_handle_timeout_holds() {
    for (theirs, ours, call, expected) in [
        (None, Some(2), 0, 2),
        (Some(3), None, 0, 3),
        (Some(3), Some(2), 0, 2),
        (Some(1), Some(2), 0, 1),
        (Some(3), Some(2), 1000, 1),
        (Some(3), Some(2), 9000, 2),
    ] {
        let limits = ours.map_or(Limits::default(), |ours| Limits::default().handle_timeout(secs(ours)));
        let server = serve(limits);
        let terms = ClientOffer { handle_timeout: theirs.map(secs), ..ClientOffer::default() };
        let mut client = Raw::connect_with(&server.handle, &terms).await;
        let start = Instant::now();
        client.request_with("T.hang", none(), |header| header.timeout_ms = call).await;
        client.response().await.expect_error(Code::DeadlineExceeded, MAYBE);
        assert_eq!(start.elapsed().as_secs(), expected, "{theirs:?} {ours:?} {call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_its_deadline_across_awaits_and_in_its_task() {
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
    // And the next call inherits nothing of it.
    let times = client.call("T.times", none()).await.value();
    assert_eq!(times, json!({"context_ms": null, "current_ms": null, "later_ms": null, "key": null}));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_gone_stops_its_handlers() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for _ in 0..5 {
        client.request("T.hang", none()).await;
    }
    sleep(millis(1)).await;
    assert_eq!((server.stage.alive(), server.handle.in_flight()), (5, 5));
    drop(client);
    server.expect_nothing_left().await;
    assert_eq!((server.handle.connections(), server.in_flight_stats()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_stream_without_goaway_means_gone() {
    use tokio::io::AsyncWriteExt;
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    client.stream.shutdown().await.unwrap();
    client.expect_end().await;
    server.expect_nothing_left().await;
    assert_eq!(server.handle.connections(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_while_the_server_drains_is_not_waited_for() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    client.request("T.hang", none()).await;
    sleep(millis(1)).await;
    server.handle.stop();
    client.expect_goaway(1, Code::Unavailable).await;
    drop(client);
    let start = Instant::now();
    server.serving.await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 0);
    assert_eq!(server.stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_internal_done_and_leaves_its_neighbours_alone() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let neighbour = client.request("T.wait", none()).await;
    for name in ["sync", "first", "later", "drop", "twice", "drop_later"] {
        let method = format!("T.panic_{name}");
        let answer = client.call(&method, none()).await;
        let said = answer.expect_error(Code::Internal, Execution::Done);
        assert_eq!(said, format!("`{method}` panicked"));
    }
    server.stage.gate.add_permits(1);
    let answer = client.response().await;
    assert_eq!((answer.seq(), answer.value()), (neighbour, json!("done")));
    server.expect_nothing_left().await;
    assert_eq!(server.in_flight_stats(), 0);
    let panics = server.handle.stats().into_iter().filter(|stats| stats.name.starts_with("T.panic"));
    assert!(panics.into_iter().all(|stats| (stats.calls, stats.errors) == (1, 1)));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_as_it_is_stopped_is_answered_all_the_same() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    let seq = client.request_with("T.panic_drop_later", none(), |header| header.timeout_ms = 1).await;
    let other = client.request("T.panic_drop_later", none()).await;
    client.cancel(other).await;
    let mut answered = Vec::new();
    for _ in 0..2 {
        let answer = client.response().await;
        answer.expect_error(Code::Internal, Execution::Done);
        answered.push(answer.seq());
    }
    answered.sort();
    assert_eq!(answered, [seq, other]);
    client.call("T.count", none()).await.value();
}

#[test]
fn a_runtime_that_ends_takes_the_calls_with_it() {
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
