//! Local calls, which arrive without a connection: the same rules hold for them.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use farcall_context::Identity;
use farcall_protocol::{Code, Codec, Execution, Metadata};
use farcall_server::{AuthorizeLayer, Credential, Invocation, Limits, Response, ServerHandle, Tokens};
use serde_json::{Value, json};
use support::{builder, millis, secs, serve, serve_with, stage};
use tokio::time::{sleep, timeout};

fn invocation(method: &str, args: &Value) -> Invocation {
    Invocation::new(method, Codec::Json, Bytes::from(args.to_string()))
}

async fn invoke(handle: &ServerHandle, method: &str, args: Value) -> Response {
    handle.invoke(invocation(method, &args)).await
}

fn error(response: &Response) -> (Code, Execution) {
    let status = response.status().expect("it failed");
    (status.code, status.execution)
}

#[tokio::test(start_paused = true)]
async fn local_call_is_answered_and_counted() {
    let server = serve(Limits::default());
    let quick = invoke(&server.handle, "T.echo", json!({"text": "hello"})).await;
    assert_eq!((quick.status(), &quick.body()[..]), (None, &b"\"hello\""[..]));
    let waiting = invoke(&server.handle, "T.sleep", json!({"n": 30})).await;
    assert_eq!(&waiting.body()[..], b"30");
    let stats = server.handle.stats();
    let counted = stats.iter().filter(|stats| stats.calls == 1).map(|stats| &*stats.name);
    assert_eq!(counted.collect::<Vec<_>>(), ["T.echo", "T.sleep"]);
    assert_eq!(server.handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn local_call_errors_are_reported() {
    let server = serve(Limits::default());
    for (method, args, code) in
        [("No.such", json!({}), Code::Unimplemented), ("T.echo", json!({"text": 7}), Code::InvalidArgument)]
    {
        let response = invoke(&server.handle, method, args).await;
        assert_eq!(error(&response), (code, Execution::Refused));
    }
    assert_eq!(server.handle.overview().failed.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn dropped_local_call_stops_its_handler() {
    let server = serve(Limits::default());
    let call = invoke(&server.handle, "T.hang", json!({}));
    assert!(timeout(secs(1), call).await.is_err());
    sleep(millis(1)).await;
    assert_eq!((server.stage.begun(), server.stage.alive(), server.handle.in_flight()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn body_is_not_kept_while_its_handler_goes_on() {
    struct Body {
        _alive: Arc<()>,
    }
    impl AsRef<[u8]> for Body {
        fn as_ref(&self) -> &[u8] {
            b"{}"
        }
    }
    let server = serve(Limits::default());
    let (alive, handle) = (Arc::new(()), server.handle.clone());
    let body = Bytes::from_owner(Body { _alive: Arc::clone(&alive) });
    let call = Invocation::new("T.hang", Codec::Json, body);
    let call = tokio::spawn(async move { handle.invoke(call).await });
    sleep(millis(1)).await;
    assert_eq!((server.stage.alive(), Arc::strong_count(&alive)), (1, 1));
    call.abort();
}

#[tokio::test(start_paused = true)]
async fn local_call_stops_at_its_deadline() {
    let server = serve(Limits::default());
    let call = invocation("T.hang", &json!({})).timeout(millis(100));
    let response = server.handle.invoke(call).await;
    assert_eq!(error(&response), (Code::DeadlineExceeded, Execution::Maybe));
    assert_eq!(server.stage.alive(), 0);
}

#[tokio::test(start_paused = true)]
async fn local_calls_count_against_the_servers_limit() {
    let server = serve(Limits::default().max_in_flight_in_all(1));
    let handle = server.handle.clone();
    let first = tokio::spawn(async move { invoke(&handle, "T.hang", json!({})).await });
    sleep(millis(1)).await;
    let second = invoke(&server.handle, "T.echo", json!({"text": "x"})).await;
    assert_eq!(error(&second), (Code::ResourceExhausted, Execution::Refused));
    assert_eq!(second.status().unwrap().message, "1 calls are in flight on this server");
    let seen = server.handle.overview();
    assert_eq!((seen.calls[0].connection, &*seen.calls[0].peer), (None, "memory"));
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn local_calls_are_authenticated_and_layered() {
    let stage = stage();
    let tokens = Tokens::fixed([("ann", "the-token-of-ann"), ("bob", "the-token-of-bob")]).unwrap();
    let allow = AuthorizeLayer::deny_by_default().identity("ann", ["T.*"]);
    let server = serve_with(stage.clone(), builder(&stage).authenticate(tokens).layer(allow));
    let call = |token: Option<&str>| {
        let call = invocation("T.echo", &json!({"text": "x"}));
        match token {
            Some(token) => call.token(token),
            None => call,
        }
    };
    assert_eq!(server.handle.invoke(call(Some("the-token-of-ann"))).await.status(), None);
    for (token, code) in [
        (None, Code::Unauthenticated),
        (Some("a-token-of-nobody"), Code::Unauthenticated),
        (Some("the-token-of-bob"), Code::PermissionDenied),
    ] {
        assert_eq!(error(&server.handle.invoke(call(token)).await).0, code, "{token:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn stopping_server_finishes_local_calls_and_refuses_new_ones() {
    let server = serve(Limits::default());
    let handle = server.handle.clone();
    let running = tokio::spawn(async move { invoke(&handle, "T.sleep", json!({"n": 500})).await });
    sleep(millis(1)).await;
    server.handle.stop();
    sleep(millis(1)).await;
    let late = invoke(&server.handle, "T.echo", json!({"text": "x"})).await;
    assert_eq!(error(&late), (Code::Unavailable, Execution::Refused));
    assert_eq!(&running.await.unwrap().body()[..], b"500");
    server.handle.ended().await;
}

#[tokio::test(start_paused = true)]
async fn local_call_is_refused_if_the_server_stopped_during_authentication() {
    let stage = stage();
    let slow = |_: Credential| async {
        sleep(secs(2)).await;
        Ok(Identity::new("ann"))
    };
    let server = serve_with(stage.clone(), builder(&stage).authenticate(slow));
    let handle = server.handle.clone();
    let asked = tokio::spawn(async move { invoke(&handle, "T.hang", json!({})).await });
    sleep(millis(1)).await;
    server.handle.stop();
    server.handle.ended().await;
    let response = timeout(secs(1), asked).await.expect("it is told at once").unwrap();
    assert_eq!(error(&response), (Code::Unavailable, Execution::Refused));
    assert_eq!(server.stage.begun(), 0);
}

#[tokio::test(start_paused = true)]
async fn drain_timeout_cancels_local_calls() {
    let server = serve(Limits::default().drain_timeout(secs(1)));
    let handle = server.handle.clone();
    let running = tokio::spawn(async move { invoke(&handle, "T.hang", json!({})).await });
    sleep(millis(1)).await;
    server.handle.stop();
    let response = running.await.unwrap();
    assert_eq!(error(&response), (Code::Cancelled, Execution::Maybe));
}

#[tokio::test(start_paused = true)]
async fn metadata_of_a_local_call_reaches_the_handler() {
    let server = serve(Limits::default());
    let mut metadata = Metadata::new();
    metadata.insert("key", "value").unwrap();
    let response = server.handle.invoke(invocation("T.times", &json!({})).metadata(metadata)).await;
    let times: Value = serde_json::from_slice(&response.body()).unwrap();
    assert_eq!(times["key"], "value", "{times}");
}
