//! Malformed responses: the list stays, the failure is reported, and a good response ends it.

use std::time::Duration;

use farcall_registry::client::HttpDiscovery;

use crate::fake_registry::{
    FakeRegistry, Reply, Request, RunningDiscovery, SHORT_TIMEOUT, answer, discovery, json, list, not_found,
};

const LIST: &str = "/v1/services/S/instances";
const TOO_LONG: &str = "longer than 16777216 bytes";

/// A registry that has only the simple interface, with this reply.
fn simple(reply: Reply) -> impl FnMut(&Request) -> Reply + Send + 'static {
    move |request| if request.is("GET", "/registry") { reply.clone() } else { not_found() }
}

/// A registry that has the full interface without watches, with this reply to lists.
fn full(reply: Reply) -> impl FnMut(&Request) -> Reply + Send + 'static {
    move |request| {
        if request.is("GET", "/registry") {
            panic!("a registry with the full interface is asked for the simple list");
        }
        if request.is("GET", LIST) { reply.clone() } else { not_found() }
    }
}

fn head(rest: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n{rest}\r\n\r\n").into_bytes()
}

/// Discovers a list in both interfaces, has the registry answer with `reply`, and asserts that the list is unchanged,
/// that the failure has `reason`, and that a good response ends it.
async fn assert_list_unchanged(reply: Reply, reason: &str) {
    assert_list_unchanged_for(discovery, reply, reason).await;
}

/// The same, for the discoveries that `discovery` makes.
async fn assert_list_unchanged_for(discovery: fn(&str) -> HttpDiscovery, reply: Reply, reason: &str) {
    let addresses = r#"["10.0.0.1:1","10.0.0.1:2"]"#;
    let fake = FakeRegistry::new(simple(json(addresses))).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1, 2]).await;
    fake.set_script(simple(reply.clone()));
    let error = running.wait_for_failure(reason).await;
    assert!(error.contains(&format!("GET {}", fake.url())), "{error}");
    assert_eq!(running.ports(), [1, 2], "{error}");
    fake.set_script(simple(json(addresses)));
    running.wait_for_ports(&[1, 2]).await;

    let fake = FakeRegistry::new(full(json(&list("e", 1, &[1, 2])))).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()).wait(Duration::from_secs(1)));
    running.wait_for_ports(&[1, 2]).await;
    fake.set_script(full(reply));
    let error = running.wait_for_failure(reason).await;
    assert!(error.contains(&format!("GET http://{}{LIST}", fake.address)), "{error}");
    assert_eq!(running.ports(), [1, 2], "{error}");
    fake.set_script(full(json(&list("f", 1, &[2, 3]))));
    running.wait_for_ports(&[2, 3]).await;
}

#[tokio::test]
async fn html_leaves_the_list_unchanged() {
    let page = "<!doctype html><title>Sign in to the hotel's network</title>";
    assert_list_unchanged(
        answer("200 OK", "content-type: text/html\r\n", page),
        "the answer is HTML, not JSON",
    )
    .await;
}

#[tokio::test]
async fn empty_body_leaves_the_list_unchanged() {
    assert_list_unchanged(json(""), "the answer is empty").await;
    assert_list_unchanged(answer("204 No Content", "", ""), "answered 204 No Content").await;
}

#[tokio::test]
async fn truncated_list_leaves_the_list_unchanged() {
    assert_list_unchanged(json(r#"["10.0.0.1:1","10.0."#), "the answer ends early").await;
    let mut cut_off = head("content-length: 100");
    cut_off.extend_from_slice(br#"["10.0.0.1:1","10.0."#);
    assert_list_unchanged(Reply::Bytes(cut_off), "the answer broke off").await;
    let mut cut_off = head("transfer-encoding: chunked");
    cut_off.extend_from_slice(b"10\r\n[\"10.0.0.1:1\"]  \r\n");
    assert_list_unchanged(Reply::Bytes(cut_off), "the answer broke off").await;
}

#[tokio::test]
async fn other_json_leaves_the_list_unchanged() {
    for body in [r#"{"hello":"world"}"#, "null", "17", r#"{"servers":["10.0.0.1:1"]}"#] {
        assert_list_unchanged(json(body), "the answer is not what was asked for").await;
    }
}

#[tokio::test]
async fn error_statuses_leave_the_list_unchanged() {
    let broken = answer("500 Internal Server Error", "", r#"{"error":"the disk is\u001b[31m full"}"#);
    assert_list_unchanged(broken, "answered 500 Internal Server Error: the disk is\\u{1b}[31m full").await;
    let away = answer("502 Bad Gateway", "content-type: text/html\r\n", "<h1>Bad Gateway</h1>");
    assert_list_unchanged(away, "answered 502 Bad Gateway").await;
    let refused = answer("401 Unauthorized", "", r#"{"error":"a token is needed"}"#);
    assert_list_unchanged(refused, "answered 401 Unauthorized: a token is needed").await;
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = FakeRegistry::new(|_| json(r#"["10.6.6.6:6"]"#)).await;
    let location = format!("location: {}\r\n", elsewhere.url());
    let redirect = answer("302 Found", &location, "");
    assert_list_unchanged(redirect, &format!("a redirect to {}, which is not followed", elsewhere.url()))
        .await;
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn silent_registry_leaves_the_list_unchanged() {
    let impatient = |url: &str| discovery(url).timeout(SHORT_TIMEOUT);
    assert_list_unchanged_for(impatient, Reply::Hold(Vec::new()), "no answer within").await;
    let mut begun = head("content-length: 100");
    begun.extend_from_slice(br#"["10.0.0.1:1","#);
    assert_list_unchanged_for(impatient, Reply::Hold(begun), "nothing came for").await;
}

#[tokio::test]
async fn bytes_that_are_not_http_leave_the_list_unchanged() {
    assert_list_unchanged(Reply::Bytes(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), "the answer broke off").await;
    assert_list_unchanged(Reply::Reset, "the answer broke off").await;
    assert_list_unchanged(Reply::Bytes(Vec::new()), "the answer broke off").await;
}

#[tokio::test]
async fn too_long_responses_are_not_read() {
    let reply = Reply::Flood(head("content-length: 100000000"), 100_000_000);
    assert_list_unchanged(reply, TOO_LONG).await;

    // Without a length.
    let fake = FakeRegistry::new(simple(json(r#"["10.0.0.1:1"]"#))).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
    fake.set_script({
        let mut reply = Some(Reply::Flood(head("connection: close"), 100_000_000));
        simple_once(move || reply.take())
    });
    running.wait_for_failure(TOO_LONG).await;
    assert_eq!(running.ports(), [1]);
    // This includes the bytes in the sockets' buffers.
    assert!(fake.flooded() < 40_000_000, "{} bytes were read", fake.flooded());
}

/// Answers requests for the simple list with these replies, and then not at all.
fn simple_once(
    mut reply: impl FnMut() -> Option<Reply> + Send + 'static,
) -> impl FnMut(&Request) -> Reply + Send {
    move |request| {
        if request.is("GET", "/registry") { reply().unwrap_or(Reply::Hold(Vec::new())) } else { not_found() }
    }
}

#[tokio::test]
async fn one_malformed_instance_refuses_the_list() {
    let fake = FakeRegistry::new(full(json(&list("e", 1, &[1, 2])))).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1, 2]).await;
    fake.set_script(full(json(&list("e", 2, &[3, 4]).replace("10.0.0.1:4", "0.0.0.0:4"))));
    running.wait_for_failure("instance `i4`: addr `tcp@0.0.0.0:4`").await;
    assert_eq!(running.ports(), [1, 2]);
}

#[tokio::test]
async fn unreachable_registry_leaves_the_list_unchanged() {
    let fake = FakeRegistry::new(simple(json(r#"["10.0.0.1:1"]"#))).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    running.wait_for_ports(&[1]).await;
    drop(fake);
    let error = running.wait_for_failure("cannot connect: Connection refused").await;
    let since = running.last().failing.unwrap().since;
    assert!(error.contains("GET http://127.0.0.1:"), "{error}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(running.ports(), [1]);
    assert_eq!(running.last().failing.unwrap().since, since, "the begin of the failure stays");
    assert!(running.last().confirmed.unwrap() <= since);
}

#[tokio::test]
async fn registry_that_was_never_reachable_is_reported() {
    let gone = FakeRegistry::new(|_| not_found()).await;
    let url = gone.url();
    drop(gone);
    let mut running = RunningDiscovery::of(discovery(&url));
    running.wait_for_failure("cannot connect").await;
    assert!(running.last().confirmed.is_none());
}

#[tokio::test]
async fn failure_without_a_registry_names_the_path() {
    let fake = FakeRegistry::new(|_| not_found()).await;
    let mut running = RunningDiscovery::of(discovery(&fake.url()));
    let error = running.wait_for_failure("answered 404 Not Found").await;
    assert!(error.starts_with(&format!("GET {}", fake.url())), "{error}");
}
