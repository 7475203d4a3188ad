//! Calls and their answers.

use std::sync::atomic::Ordering;

use farcall_http::{Gateway, HttpOptions};
use farcall_protocol::{Code, Status};
use farcall_server::Service;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::world::{World, read};

#[tokio::test]
async fn result_is_returned_as_json() {
    let world = World::new().await;
    for (method, body, result) in [
        ("Arith.multiply", r#"{"a":6,"b":7}"#, "42"),
        ("Arith.multiply", "[6, 7]\n", "42"),
        ("Arith.divide", r#"{"a":1,"b":1,"unknown":[]}"#, "1"),
        ("Clock.zone", "", "\"UTC\""),
        ("Clock.zone", " \n", "\"UTC\""),
        ("Clock.zone", "null", "\"UTC\""),
        // A method that returns `()`, and one whose response has no body.
        ("Clock.wait", r#"{"ms":1}"#, "null"),
        ("Odd.tagged", "", "null"),
    ] {
        let answer = world.call(method, &[], body).await;
        assert_eq!((answer.status, &*answer.body), (200, result), "{method} {body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn request_content_type_is_ignored() {
    let world = World::new().await;
    for content_type in [
        "Content-Type: application/json",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: text/plain; charset=latin1",
        "X-None: none",
    ] {
        let answer = world.call("Arith.multiply", &[content_type], r#"{"a":6,"b":7}"#).await;
        assert_eq!((answer.status, &*answer.body), (200, "42"), "{content_type}");
    }
}

#[tokio::test]
async fn service_name_may_have_dots_and_path_may_be_encoded() {
    let world = World::new().await;
    for name in ["shop.v1.Probe.call", "shop%2Ev1.Probe%2ecall"] {
        let answer = world.call(name, &[], r#"{"n":1}"#).await;
        assert_eq!(answer.json()["args"], json!({"n": 1}), "{answer:?}");
    }
    let answer = world.call("Arith.%ff", &[], "").await;
    assert_eq!((answer.status, answer.error().0.as_str()), (400, "invalid_argument"));
}

#[tokio::test]
async fn error_is_an_object_with_a_matching_status() {
    let world = World::new().await;
    for (method, body, status, error) in [
        ("Arith.divide", r#"{"a":1,"b":0}"#, 422, {
            let (message, details) = ("1 cannot be divided by 0", json!({"dividend": 1}));
            json!({"code": "application", "message": message, "execution": "done", "details": details})
        }),
        ("Arith.power", "{}", 404, {
            let message = "no method `power` in service `Arith`";
            json!({"code": "unimplemented", "message": message, "execution": "refused", "details": null})
        }),
        ("Arith/multiply", "{}", 404, {
            let message = "no method `Arith/multiply`: a name is `Service.method`";
            json!({"code": "unimplemented", "message": message, "execution": "refused", "details": null})
        }),
        ("Odd.panics", "", 500, {
            let message = "`Odd.panics` panicked";
            json!({"code": "internal", "message": message, "execution": "done", "details": null})
        }),
        ("Arith.multiply", "{\"a\": 6,\n \"b\": \"x\"}", 400, {
            let message =
                "arguments of `Arith.multiply`: invalid type: string \"x\", expected i64 at line 2 column 9";
            json!({"code": "invalid_argument", "message": message, "execution": "refused", "details": null})
        }),
    ] {
        let answer = world.call(method, &[], body).await;
        assert_eq!((answer.status, answer.json()), (status, json!({ "error": error })), "{method}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
}

#[tokio::test]
async fn invalid_json_is_refused_with_its_position() {
    let world = World::new().await;
    for (body, place) in [
        ("a=6&b=7", "expected value at line 1 column 1"),
        ("{\"a\": 6,\n\"b\": }", "expected value at line 2 column 6"),
        ("{\"a\": 6", "EOF while parsing an object at line 1 column 7"),
        ("{\"a\":6,\"b\":7} x", "trailing characters at line 1 column 15"),
    ] {
        // A handler that ignores its arguments is not run, either.
        for method in ["Arith.multiply", "Odd.tagged"] {
            let answer = world.call(method, &[], body).await;
            let (code, message) = answer.error();
            assert_eq!((answer.status, code.as_str()), (400, "invalid_argument"), "{answer:?}");
            assert!(message.contains(place), "{body}: {message}");
        }
    }
    assert_eq!(world.multiplied(), 0);
}

#[tokio::test]
async fn compressed_body_is_refused_as_one() {
    let world = World::new().await;
    for (header, body) in [("Content-Encoding: gzip", "any bytes"), ("Content-Encoding: br, identity", "{}")]
    {
        let answer = world.call("Arith.multiply", &[header], body).await;
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (415, "invalid_argument"), "{answer:?}");
        assert!(message.contains("the body is compressed"), "{message}");
        assert_eq!(answer.header("accept-encoding"), Some("identity"));
    }
    let answer = world.call("Arith.multiply", &["Content-Encoding: identity"], "[6,7]").await;
    assert_eq!((answer.status, &*answer.body), (200, "42"));
    assert_eq!(world.multiplied(), 1);
}

#[tokio::test]
async fn result_that_is_no_json_is_an_error_with_its_place() {
    let world = World::new().await;
    let answer = world.call("Odd.ratio", &[], "").await;
    let (code, message) = answer.error();
    assert_eq!((answer.status, code.as_str()), (500, "internal"), "{answer:?}");
    assert!(message.contains("JSON has no number `NaN` at `[1]`"), "{message}");
}

#[tokio::test]
async fn timeout_header_sets_the_deadline() {
    let world = World::new().await;
    let answer = world.call("Clock.wait", &["Farcall-Timeout-Ms: 100"], "").await;
    let (code, _) = answer.error();
    assert_eq!((answer.status, code.as_str()), (504, "deadline_exceeded"), "{answer:?}");
    world.wait_for_waiting(0).await;

    let left = world.call("shop.v1.Probe.call", &["farcall-timeout-ms: 3600000"], "").await.json()["left_ms"]
        .as_u64();
    assert!(left.is_some_and(|left| (1_000_000..=3_600_000).contains(&left)), "{left:?}");
    assert_eq!(world.call("shop.v1.Probe.call", &[], "").await.json()["left_ms"], Value::Null);
    for wrong in ["soon", "0", "-1", "1.5", "86400001", "1, 2"] {
        let answer = world.call("Arith.multiply", &[&format!("farcall-timeout-ms: {wrong}")], "[6,7]").await;
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (400, "invalid_argument"), "{wrong}");
        assert!(message.contains("`farcall-timeout-ms`") && message.contains(wrong), "{message}");
    }
    assert_eq!(world.multiplied(), 0);
}

#[tokio::test]
async fn metadata_is_carried_in_headers_both_ways() {
    let world = World::new().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = ["Farcall-Meta-Tenant: blue", &format!("traceparent: {trace}"), "x-other: not this"];
    let answer = world.call("shop.v1.Probe.call", &headers, "").await;
    assert_eq!(answer.json()["metadata"], json!([["tenant", "blue"], ["traceparent", trace]]));

    let answer = world.call("Odd.tagged", &headers, "").await;
    assert_eq!(answer.header("farcall-meta-seen-tenant"), Some("blue"));
    assert_eq!(answer.header("farcall-meta-seen-traceparent"), Some(trace));
    assert_eq!(answer.header("farcall-meta-farcall-retry-after-ms"), Some("1500"));
    assert_eq!(answer.header("retry-after"), Some("2"), "seconds, rounded up");
}

#[tokio::test]
async fn call_is_idempotent_by_header_or_method_description() {
    let world = World::new().await;
    let idempotent = async |method, headers: &[&str]| world.call(method, headers, "").await.body;
    assert_eq!(idempotent("Odd.safe", &[]).await, "true");
    for (header, expected) in
        [("farcall-idempotent: true", true), ("farcall-idempotent: false", false), ("x-none: 1", false)]
    {
        let answer = world.call("shop.v1.Probe.call", &[header], "").await;
        assert_eq!(answer.json()["idempotent"], expected, "{header}");
    }
    let answer = world.call("Odd.safe", &["farcall-idempotent: maybe"], "").await;
    assert_eq!(answer.status, 400, "{answer:?}");
}

#[tokio::test]
async fn requests_with_one_idempotency_key_are_carried_out_once() {
    let settings = HttpOptions::default().gateway(Gateway::default());
    let world = World::of(settings, |builder| builder.once("Arith.multiply")).await;
    let multiply = async |key: &str, body| {
        world.call("Arith.multiply", &[&format!("Idempotency-Key: {key}")], body).await
    };
    for key in ["order-17", "\"order-17\""] {
        assert_eq!(multiply(key, "[6,7]").await.body, "42");
    }
    assert_eq!(world.counts.multiplied.load(Ordering::Relaxed), 1);
    let other = multiply("order-17", "[6,8]").await;
    assert_eq!((other.status, &other.json()["error"]["code"]), (400, &json!("invalid_argument")));
    assert_eq!(multiply("order-18", "[6,8]").await.body, "48");
}

#[tokio::test]
async fn handler_sees_the_callers_address() {
    let world = World::new().await;
    let peer = world.call("shop.v1.Probe.call", &[], "").await.json()["peer"].to_string();
    assert!(peer.starts_with("\"tcp@127.0.0.1:") && !peer.contains(&world.place), "{peer}");
}

#[tokio::test]
async fn client_disconnect_stops_its_handler() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let request =
        format!("POST /rpc/Clock.wait HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", world.place);
    client.write_all(request.as_bytes()).await.unwrap();
    world.wait_for_waiting(1).await;
    drop(client);
    world.wait_for_waiting(0).await;
    assert_eq!(world.call("Arith.multiply", &[], "[6,7]").await.body, "42");
}

#[tokio::test]
async fn stopping_server_finishes_the_call_and_refuses_new_ones() {
    let world = World::new().await;
    let mut client = world.connect().await;
    let request = format!(
        "POST /rpc/Clock.wait HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        world.place
    );
    client.write_all(request.as_bytes()).await.unwrap();
    world.wait_for_waiting(1).await;
    world.handle.stop();
    let refused = async {
        loop {
            let answer = world.call("Arith.multiply", &[], "[6,7]").await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let refused = timeout(PATIENCE, refused).await.unwrap();
    assert_eq!((refused.status, refused.error().0.as_str()), (503, "unavailable"), "{refused:?}");

    world.counts.release.cancel();
    let first = read(&mut client).await;
    assert_eq!((first.status, &*first.body), (200, "null"));
    timeout(PATIENCE, world.ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn other_http_methods_are_405_and_say_how_to_call() {
    let world = World::new().await;
    for (line, allowed) in [
        ("GET /rpc/Arith.multiply", "POST"),
        ("PUT /rpc/Arith.multiply", "POST"),
        ("DELETE /rpc/openapi.json", "GET, HEAD"),
        ("POST /rpc", "GET, HEAD"),
    ] {
        let answer = world.ask(line, &[], "").await;
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (405, "unimplemented"), "{line}");
        assert!(message.contains("curl -d"), "{message}");
        assert_eq!(answer.header("allow"), Some(allowed), "{line}");
    }
    assert_eq!(world.multiplied(), 0);
}

#[tokio::test]
async fn gateway_is_off_by_default_and_the_error_names_its_option() {
    let world = World::with(HttpOptions::default()).await;
    for line in
        ["POST /rpc/Arith.multiply", "GET /rpc", "GET /rpc/openapi.json", "OPTIONS /rpc/Arith.multiply"]
    {
        let answer = world.ask(line, &[], "[6,7]").await;
        let (code, message) = answer.error();
        assert_eq!((answer.status, code.as_str()), (404, "unimplemented"), "{line}");
        assert!(message.contains("`HttpOptions::gateway`"), "{message}");
    }
    assert_eq!(world.counts.multiplied.load(Ordering::SeqCst), 0);
}

/// A handler that passes the failure of a nested call on returns a status.
#[tokio::test]
async fn status_of_a_method_decides_the_http_status() {
    let status = |code: u64| Status::maybe(Code::from_number(code), "calling `Slow.method`: no answer");
    let service =
        Service::new("Status").try_method("fail", move |code: u64| async move { Err::<(), _>(status(code)) });
    let world =
        World::of(HttpOptions::default().gateway(Gateway::default()), |builder| builder.service(service))
            .await;
    for (code, http) in
        [(Code::DeadlineExceeded, 504), (Code::Unavailable, 503), (Code::InvalidArgument, 400)]
    {
        let answer = world.call("Status.fail", &[], &code.number().to_string()).await;
        assert_eq!((answer.status, answer.error().0.as_str()), (http, code.name()));
    }
}
