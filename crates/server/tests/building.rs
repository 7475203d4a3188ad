//! Building a server: names, addresses, layers, statistics, reserved methods.

#![allow(clippy::unwrap_used, reason = "all of it is test code")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use farcall_protocol::{BoxError, Code, Execution, Status};
use farcall_server::{BuildError, HandlerService, Limits, Request, Response, ServeError, Server, Service};
use futures::future::{BoxFuture, FutureExt};
use serde_json::{Value, json};
use support::{Count, Nothing, Text, builder, millis, none, serve, serve_with, stage};
use tower::limit::ConcurrencyLimitLayer;
use tower_layer::Layer;

fn refused(builder: farcall_server::ServerBuilder) -> BuildError {
    builder.build().expect_err("it has a mistake")
}

#[test]
fn duplicate_method_names_are_refused() {
    let twice = Server::builder().method("A.b", async |_: Nothing| ()).method("A.b", async |_: Nothing| ());
    assert_eq!(refused(twice), BuildError::DuplicateName { name: "A.b".to_owned() });
    let in_two = Server::builder()
        .service(Service::new("A").method("b", async |_: Nothing| ()))
        .service(Service::new("A").method("c", async |_: Nothing| ()).method("b", async |_: Nothing| ()));
    assert_eq!(refused(in_two), BuildError::DuplicateName { name: "A.b".to_owned() });
}

#[test]
fn reserved_names_are_refused() {
    for name in ["farcall.mine", "farcall.more.mine"] {
        let reserved = Server::builder().without_reserved_methods().method(name, async |_: Nothing| ());
        assert!(matches!(refused(reserved), BuildError::ReservedName { .. }));
    }
    let _server = Server::builder().method("farcalls.mine", async |_: Nothing| ()).build().unwrap();
}

#[test]
fn invalid_names_are_refused() {
    for name in ["A.", ".b", "A b.c", "A.b\n", &format!("A.{}", "b".repeat(257))] {
        let bad = Server::builder().method(name, async |_: Nothing| ());
        assert!(matches!(refused(bad), BuildError::BadName { .. }), "{name}");
    }
    let none = Server::builder().method("alone", async |_: Nothing| ());
    assert_eq!(refused(none), BuildError::NoService { name: "alone".to_owned() });
    assert!(matches!(refused(Server::builder().service(Service::new(""))), BuildError::BadName { .. }));
}

#[tokio::test]
async fn missing_invalid_and_taken_addresses_are_refused() {
    let failure = |builder: farcall_server::ServerBuilder| async { builder.bind().await.unwrap_err() };
    assert!(matches!(failure(Server::builder()).await, ServeError::Build(BuildError::NoAddress)));
    let error = failure(Server::builder().listen("tcp@nowhere")).await;
    assert!(error.to_string().starts_with("address \"tcp@nowhere\": "), "{error}");
    let error = failure(Server::builder().listen("ws@127.0.0.1:0")).await;
    assert!(matches!(error, ServeError::Listen(_)), "{error}");
    let first = Server::builder().listen("tcp@127.0.0.1:0").bind().await.unwrap();
    let taken = first.addresses().next().unwrap().to_string();
    let error = failure(Server::builder().listen(&taken[..])).await;
    assert!(error.to_string().contains(&taken), "{error}");
}

/// A layer that counts, and turns away what it is told to.
#[derive(Clone)]
struct Gatekeeper {
    seen: Arc<AtomicUsize>,
}

#[derive(Clone)]
struct Guarded<S> {
    inner: S,
    seen: Arc<AtomicUsize>,
}

impl<S> Layer<S> for Gatekeeper {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, seen: Arc::clone(&self.seen) }
    }
}

impl<S> tower_service::Service<Request> for Guarded<S>
where
    S: tower_service::Service<Request, Response = Response, Error = std::convert::Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(|never| match never {})
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.seen.fetch_add(1, SeqCst);
        let denied = match request.context().metadata("manner") {
            Some("denied") => Some(Status::refused(Code::PermissionDenied, "not you").into()),
            Some("broken") => Some("the layer broke".into()),
            _ => None,
        };
        if let Some(denied) = denied {
            return async { Err(denied) }.boxed();
        }
        let late = request.context().metadata("manner") == Some("late");
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await.unwrap_or_else(|never| match never {});
            if late { Err("too late".into()) } else { Ok(answer) }
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn layer_sees_calls_of_its_services_but_not_of_reserved_methods() {
    let (all, one) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stage = stage();
    let layered = Service::new("L")
        .method("before", async |_: Nothing| ())
        .layer(Gatekeeper { seen: Arc::clone(&one) })
        .method("after", async |_: Nothing| ());
    let builder = builder(&stage).layer(Gatekeeper { seen: Arc::clone(&all) }).service(layered);
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    for method in ["L.before", "L.after", "T.count", "T.count", "farcall.health", "farcall.stats"] {
        client.call(method, none()).await.value();
    }
    assert_eq!((one.load(SeqCst), all.load(SeqCst)), (2, 4));
}

#[tokio::test(start_paused = true)]
async fn error_of_a_layer_states_if_the_handler_was_started() {
    let stage = stage();
    let builder = builder(&stage).layer(Gatekeeper { seen: Arc::default() });
    let server = serve_with(stage, builder);
    let mut client = server.connect().await;
    for (manner, code, execution, said, begun) in [
        ("denied", Code::PermissionDenied, Execution::Refused, "not you", 0),
        ("broken", Code::Internal, Execution::Refused, "the layer broke", 0),
        ("late", Code::Internal, Execution::Maybe, "too late", 1),
    ] {
        let mut metadata = farcall_protocol::Metadata::new();
        metadata.insert("manner", manner).unwrap();
        let seq = client.next_seq();
        let header = farcall_protocol::HeaderRef {
            service_method: "T.count",
            metadata: Some(&metadata),
            ..farcall_protocol::HeaderRef::new(farcall_protocol::Kind::Request, seq)
        };
        client.send(&header, "").await;
        assert_eq!(client.response().await.assert_error(code, execution), said);
        assert_eq!(server.stage.begun(), begun);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrency_limit_layer_is_shared_by_all_methods_and_connections() {
    let stage = stage();
    let builder = builder(&stage).layer(ConcurrencyLimitLayer::new(2));
    let server = serve_with(stage, builder);
    let (mut one, mut other) = (server.connect().await, server.connect().await);
    one.request("T.wait", none()).await;
    other.request("T.wait", none()).await;
    tokio::time::sleep(millis(1)).await;
    let cancelled = one.request("T.count", none()).await;
    one.request("T.count", none()).await;
    one.assert_silent().await;
    assert_eq!(server.stage.begun(), 2);
    assert_eq!(one.call("farcall.health", none()).await.value(), json!({"status": "serving"}));
    // A call that waits for a permit can be cancelled.
    one.cancel(cancelled).await;
    assert_eq!(one.response().await.seq(), cancelled);
    server.stage.gate.add_permits(2);
    other.response().await.value();
    for _ in 0..2 {
        one.response().await.value();
    }
    server.assert_nothing_left().await;
}

/// A service is nothing but its types here: see that they can be named.
#[test]
fn layer_types_can_be_named() {
    fn is<S: tower_service::Service<Request, Response = Response>>() {}
    is::<HandlerService>();
}

#[tokio::test(start_paused = true)]
async fn statistics_count_calls_errors_and_times() {
    let server = serve(Limits::default());
    let mut client = server.connect().await;
    for n in 1..=100 {
        client.call("T.sleep", json!({"n": n})).await.value();
    }
    client.call("T.sleep", json!({"n": "x"})).await.status();
    let waiting = client.request("T.wait", none()).await;
    tokio::time::sleep(millis(1)).await;
    let stats = client.call("farcall.stats", none()).await.value();
    let of = |name: &str| -> Value {
        stats.as_array().unwrap().iter().find(|stats| stats["name"] == name).unwrap().clone()
    };
    let sleep = of("T.sleep");
    assert_eq!((&sleep["calls"], &sleep["errors"], &sleep["in_flight"]), (&json!(101), &json!(1), &json!(0)));
    for (field, ms) in [("p50_us", 50), ("p90_us", 90), ("p99_us", 99), ("max_us", 100)] {
        let us = sleep[field].as_u64().unwrap();
        assert!((ms * 980..ms * 1000 + 5000).contains(&us), "{field}: {us}");
    }
    assert_eq!((&of("T.wait")["calls"], &of("T.wait")["in_flight"]), (&json!(0), &json!(1)));
    assert!(
        stats
            .as_array()
            .unwrap()
            .iter()
            .all(|stats| !stats["name"].as_str().unwrap().starts_with("farcall."))
    );
    client.cancel(waiting).await;
    client.response().await;
    let wait = server.handle.stats().into_iter().find(|stats| stats.name == "T.wait").unwrap();
    assert_eq!((wait.calls, wait.errors, wait.in_flight), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn reserved_methods_describe_services_and_health() {
    let described = Service::new("D").doc("Described.").method("one", async |args: Text| args.text);
    let builder = Server::builder()
        .service(described)
        .method("D.two", async |args: Count| args.n)
        .method("E.three", async |_: Nothing| ());
    let server = serve_with(stage(), builder);
    let mut client = server.connect().await;
    let services = client.call("farcall.services", none()).await.value();
    assert_eq!((&services[0]["name"], &services[0]["doc"]), (&json!("D"), &json!("Described.")));
    assert_eq!(services[0]["methods"][0]["name"], "one");
    assert_eq!(services[0]["methods"][1]["name"], "two");
    assert_eq!(services[1]["name"], "E");
    assert_eq!(services.as_array().unwrap().len(), 2);
    for args in [none(), json!({"service": "D"}), json!(null)] {
        assert_eq!(client.call("farcall.health", args).await.value(), json!({"status": "serving"}));
    }
    let answer = client.call("farcall.health", json!({"service": "X"})).await;
    assert_eq!(answer.assert_error(Code::Unimplemented, Execution::Refused), "no service `X`");
    let answer = client.call("farcall.health", json!({"service": 7})).await;
    answer.assert_error(Code::InvalidArgument, Execution::Refused);
    let answer = client.call("farcall.nope", none()).await;
    let message = answer.assert_error(Code::Unimplemented, Execution::Refused);
    assert_eq!(message, "no method `nope` in service `farcall`");
}

#[tokio::test(start_paused = true)]
async fn reserved_methods_can_be_disabled() {
    let stage = stage();
    let builder = builder(&stage).without_reserved_methods();
    let server = serve_with(stage, builder);
    let answer = server.connect().await.call("farcall.health", none()).await;
    answer.assert_error(Code::Unimplemented, Execution::Refused);
}
