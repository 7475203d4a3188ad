//! Answers that are none: the list stays, what is wrong is said, and a good answer ends it.

use std::time::Duration;

use farcall_registry::client::HttpDiscovery;

use crate::told::{IMPATIENCE, Reply, Request, Running, Told, answer, discovery, json, list, not_found};

const LIST: &str = "/v1/services/S/instances";
const TOO_LONG: &str = "longer than 16777216 bytes";

/// A registry that has only the simple interface, and answers it so.
fn simple(reply: Reply) -> impl FnMut(&Request) -> Reply + Send + 'static {
    move |request| if request.is("GET", "/registry") { reply.clone() } else { not_found() }
}

/// A registry that has the full interface, but no watch, and answers lists so.
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

/// Learns a list in both interfaces, has the registry answer with `reply`, and sees that nothing of
/// the list is lost and the failure says `why`, and that it ends.
async fn changes_nothing(reply: Reply, why: &str) {
    changes_nothing_of(discovery, reply, why).await;
}

/// The same, for clients that are made so.
async fn changes_nothing_of(discovery: fn(&str) -> HttpDiscovery, reply: Reply, why: &str) {
    let addresses = r#"["10.0.0.1:1","10.0.0.1:2"]"#;
    let told = Told::new(simple(json(addresses))).await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1, 2]).await;
    told.tell(simple(reply.clone()));
    let said = running.until_failing(why).await;
    assert!(said.contains(&format!("GET {}", told.url())), "{said}");
    assert_eq!(running.ports(), [1, 2], "{said}");
    told.tell(simple(json(addresses)));
    running.until_ports(&[1, 2]).await;

    let told = Told::new(full(json(&list("e", 1, &[1, 2])))).await;
    let mut running = Running::of(discovery(&told.url()).wait(Duration::from_secs(1)));
    running.until_ports(&[1, 2]).await;
    told.tell(full(reply));
    let said = running.until_failing(why).await;
    assert!(said.contains(&format!("GET http://{}{LIST}", told.address)), "{said}");
    assert_eq!(running.ports(), [1, 2], "{said}");
    told.tell(full(json(&list("f", 1, &[2, 3]))));
    running.until_ports(&[2, 3]).await;
}

#[tokio::test]
async fn html_changes_nothing() {
    let page = "<!doctype html><title>Sign in to the hotel's network</title>";
    changes_nothing(answer("200 OK", "content-type: text/html\r\n", page), "the answer is HTML, not JSON")
        .await;
}

#[tokio::test]
async fn an_empty_body_changes_nothing() {
    changes_nothing(json(""), "the answer is empty").await;
    changes_nothing(answer("204 No Content", "", ""), "answered 204 No Content").await;
}

#[tokio::test]
async fn half_a_list_changes_nothing() {
    changes_nothing(json(r#"["10.0.0.1:1","10.0."#), "the answer ends early").await;
    let mut cut_off = head("content-length: 100");
    cut_off.extend_from_slice(br#"["10.0.0.1:1","10.0."#);
    changes_nothing(Reply::Bytes(cut_off), "the answer broke off").await;
    let mut cut_off = head("transfer-encoding: chunked");
    cut_off.extend_from_slice(b"10\r\n[\"10.0.0.1:1\"]  \r\n");
    changes_nothing(Reply::Bytes(cut_off), "the answer broke off").await;
}

#[tokio::test]
async fn other_json_changes_nothing() {
    for body in [r#"{"hello":"world"}"#, "null", "17", r#"{"servers":["10.0.0.1:1"]}"#] {
        changes_nothing(json(body), "the answer is not what was asked for").await;
    }
}

#[tokio::test]
async fn errors_change_nothing() {
    let broken = answer("500 Internal Server Error", "", r#"{"error":"the disk is\u001b[31m full"}"#);
    changes_nothing(broken, "answered 500 Internal Server Error: the disk is\\u{1b}[31m full").await;
    let away = answer("502 Bad Gateway", "content-type: text/html\r\n", "<h1>Bad Gateway</h1>");
    changes_nothing(away, "answered 502 Bad Gateway").await;
    let refused = answer("401 Unauthorized", "", r#"{"error":"a token is needed"}"#);
    changes_nothing(refused, "answered 401 Unauthorized: a token is needed").await;
}

#[tokio::test]
async fn a_redirect_changes_nothing_and_is_not_followed() {
    let elsewhere = Told::new(|_| json(r#"["10.6.6.6:6"]"#)).await;
    let location = format!("location: {}\r\n", elsewhere.url());
    let redirect = answer("302 Found", &location, "");
    changes_nothing(redirect, &format!("a redirect to {}, which is not followed", elsewhere.url())).await;
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn silence_changes_nothing() {
    let impatient = |url: &str| discovery(url).timeout(IMPATIENCE);
    changes_nothing_of(impatient, Reply::Hold(Vec::new()), "no answer within").await;
    let mut begun = head("content-length: 100");
    begun.extend_from_slice(br#"["10.0.0.1:1","#);
    changes_nothing_of(impatient, Reply::Hold(begun), "nothing came for").await;
}

#[tokio::test]
async fn what_is_not_http_changes_nothing() {
    changes_nothing(Reply::Bytes(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()), "the answer broke off").await;
    changes_nothing(Reply::Reset, "the answer broke off").await;
    changes_nothing(Reply::Bytes(Vec::new()), "the answer broke off").await;
}

#[tokio::test]
async fn a_hundred_megabytes_are_not_read() {
    let reply = Reply::Flood(head("content-length: 100000000"), 100_000_000);
    changes_nothing(reply, TOO_LONG).await;

    // Without saying so before.
    let told = Told::new(simple(json(r#"["10.0.0.1:1"]"#))).await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
    told.tell({
        let mut reply = Some(Reply::Flood(head("connection: close"), 100_000_000));
        simple_once(move || reply.take())
    });
    running.until_failing(TOO_LONG).await;
    assert_eq!(running.ports(), [1]);
    // What the sockets hold comes to what was read.
    assert!(told.flooded() < 40_000_000, "{} bytes were read", told.flooded());
}

/// Answers the simple list once so, and then not at all.
fn simple_once(
    mut reply: impl FnMut() -> Option<Reply> + Send + 'static,
) -> impl FnMut(&Request) -> Reply + Send {
    move |request| {
        if request.is("GET", "/registry") { reply().unwrap_or(Reply::Hold(Vec::new())) } else { not_found() }
    }
}

#[tokio::test]
async fn one_bad_instance_refuses_the_list_and_is_named() {
    let told = Told::new(full(json(&list("e", 1, &[1, 2])))).await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1, 2]).await;
    told.tell(full(json(&list("e", 2, &[3, 4]).replace("10.0.0.1:4", "0.0.0.0:4"))));
    running.until_failing("instance `i4`: addr `tcp@0.0.0.0:4`").await;
    assert_eq!(running.ports(), [1, 2]);
}

#[tokio::test]
async fn a_registry_that_is_away_changes_nothing() {
    let told = Told::new(simple(json(r#"["10.0.0.1:1"]"#))).await;
    let mut running = Running::of(discovery(&told.url()));
    running.until_ports(&[1]).await;
    drop(told);
    let said = running.until_failing("cannot connect: Connection refused").await;
    let since = running.last().failing.unwrap().since;
    assert!(said.contains("GET http://127.0.0.1:"), "{said}");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(running.ports(), [1]);
    assert_eq!(running.last().failing.unwrap().since, since, "it fails since it began to");
    assert!(running.last().confirmed.unwrap() <= since);
}

#[tokio::test]
async fn a_registry_that_was_never_there_is_said_to_be_away() {
    let gone = Told::new(|_| not_found()).await;
    let url = gone.url();
    drop(gone);
    let mut running = Running::of(discovery(&url));
    running.until_failing("cannot connect").await;
    assert!(running.last().confirmed.is_none());
}

#[tokio::test]
async fn where_no_registry_is_the_failure_names_the_path() {
    let told = Told::new(|_| not_found()).await;
    let mut running = Running::of(discovery(&told.url()));
    let said = running.until_failing("answered 404 Not Found").await;
    assert!(said.starts_with(&format!("GET {}", told.url())), "{said}");
}
