//! The simple interface: one path, GET and POST.

use farcall_registry::server::RegistryOptions;
use serde_json::json;

use crate::support::{Running, start};

async fn post(running: &Running, headers: &[&str], body: &str) -> crate::support::Response {
    running.send("POST /registry", headers, body).await
}

#[tokio::test]
async fn one_header_registers_a_server() {
    let running = start(RegistryOptions::default()).await;
    let empty = running.get("/registry").await;
    assert_eq!(
        (empty.status, empty.header("x-farcall-server-count"), empty.json()),
        (200, Some("0"), json!([]))
    );

    for address in ["tcp@10.0.0.2:7001", "10.0.0.10:7001", "tls@a.example:443"] {
        let answer = post(&running, &[&format!("X-Farcall-Server: {address}")], "").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        assert_eq!((&body["ttl_ms"], &body["heartbeat_ms"]), (&json!(300_000), &json!(240_000)));
        assert_eq!(body["epoch"].as_str(), answer.header("x-farcall-epoch"));
        assert_eq!(body["rev"].to_string(), answer.header("x-farcall-rev").unwrap());
    }
    let listed = running.get("/registry").await;
    let sorted = "tcp@10.0.0.10:7001,tcp@10.0.0.2:7001,tls@a.example:443";
    assert_eq!(listed.header("x-farcall-servers"), Some(sorted));
    assert_eq!(listed.header("x-farcall-server-count"), Some("3"));
    assert_eq!(listed.json(), json!(sorted.split(',').collect::<Vec<_>>()));
    // It belongs to the plain list, and to no other.
    assert_eq!(running.get("/registry?service=Arith").await.json(), json!([]));
    assert_eq!(
        running.get("/v1/services/~/instances").await.json()["instances"].as_array().unwrap().len(),
        3
    );
}

#[tokio::test]
async fn headers_and_a_json_body_without_content_type_say_the_same() {
    let running = start(RegistryOptions::default()).await;
    let headers = [
        "X-Farcall-Server: 10.0.0.1:7001",
        "X-Farcall-Service: Arith",
        "X-Farcall-Weight: 7",
        "X-Farcall-Zone: a",
        "X-Farcall-Version: 1.2",
        "X-Farcall-Ttl-Ms: 30000",
    ];
    let answer = post(&running, &headers, "").await.json();
    assert_eq!((&answer["ttl_ms"], &answer["heartbeat_ms"]), (&json!(30_000), &json!(10_000)));
    let rev = answer["rev"].clone();
    let body =
        r#"{"service":"Arith","addr":"10.0.0.1:7001","weight":7,"zone":"a","version":"1.2","ttl_ms":30000}"#;
    // The same again moves no revision.
    assert_eq!(post(&running, &[], body).await.json()["rev"], rev);
    let instance = &running.get("/v1/services/Arith/instances").await.json()["instances"][0];
    assert_eq!(
        (&instance["weight"], &instance["zone"], &instance["version"]),
        (&json!(7), &json!("a"), &json!("1.2"))
    );
    assert_eq!(instance["id"], "tcp@10.0.0.1:7001");
    assert_eq!(instance["state"], "up");
    assert!(instance.get("last_seen").is_none());
}

#[tokio::test]
async fn who_has_the_list_is_answered_304_until_it_changes() {
    let running = start(RegistryOptions::default()).await;
    post(&running, &["X-Farcall-Server: 10.0.0.1:7001"], "").await;
    let tag = running.get("/registry").await.header("etag").unwrap().to_owned();
    let known = format!("If-None-Match: {tag}");
    for request in ["GET /registry", "HEAD /registry", "GET /v1/services/~/instances"] {
        let again = running.send(request, &[&known], "").await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(tag.as_str())));
        assert!(again.header("x-farcall-epoch").is_some());
    }
    // Neither a renewal nor another service changes the ETag.
    post(&running, &["X-Farcall-Server: 10.0.0.1:7001"], "").await;
    running.put("Arith", "10.0.0.9:1").await;
    assert_eq!(running.send("GET /registry", &[&known], "").await.status, 304);
    post(&running, &["X-Farcall-Server: 10.0.0.2:7001"], "").await;
    assert_eq!(running.send("GET /registry", &[&known], "").await.status, 200);
}

#[tokio::test]
async fn head_answers_like_get_without_a_body() {
    let running = start(RegistryOptions::default()).await;
    post(&running, &["X-Farcall-Server: 10.0.0.1:7001"], "").await;
    let head = running.send("HEAD /registry", &[], "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("x-farcall-servers"), Some("tcp@10.0.0.1:7001"));
}

#[tokio::test]
async fn other_methods_are_405_with_what_is_allowed() {
    let running = start(RegistryOptions::default()).await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let answer = running.send(&format!("{method} /registry"), &[], "").await;
        assert_eq!(answer.status, 405);
        assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
        assert!(answer.error().contains(method) && answer.error().contains("/registry"));
    }
}

#[tokio::test]
async fn malformed_registrations_are_400_and_change_nothing() {
    let running = start(RegistryOptions::default()).await;
    let server = "X-Farcall-Server: 10.0.0.1:7001";
    for (headers, body, part) in [
        (vec![], "", "X-Farcall-Server"),
        (vec!["X-Farcall-Server:"], "", "empty"),
        (vec!["X-Farcall-Server: 10.0.0.1:7001,10.0.0.2:7001"], "", "','"),
        (vec!["X-Farcall-Server: 10.0.0.1:7001\t10.0.0.2:7001"], "", "x-farcall-server"),
        (vec!["X-Farcall-Server: 10.0.0.1"], "", "port"),
        (vec!["X-Farcall-Server: carrier-pigeon@10.0.0.1:7001"], "", "carrier-pigeon"),
        (vec!["X-Farcall-Server: 0.0.0.0:7001"], "", "it cannot be dialed"),
        (vec!["X-Farcall-Server: [::]:7001"], "", "it cannot be dialed"),
        (vec!["X-Farcall-Server: 10.0.0.1:0"], "", "it cannot be dialed"),
        (vec![server, server], "", "more than once"),
        (vec![server, "X-Farcall-Weight: 65536"], "", "x-farcall-weight"),
        (vec![server, "X-Farcall-Weight: heavy"], "", "x-farcall-weight"),
        (vec![server, "X-Farcall-Ttl-Ms: 999"], "", "ttl_ms 999"),
        (vec![server, "X-Farcall-Ttl-Ms: 86400001"], "", "86400001"),
        (vec![server, "X-Farcall-Service: a/b"], "", "a/b"),
        (vec![server, "X-Farcall-Zone: "], "", "zone"),
        (vec!["X-Farcall-Service: Arith"], "", "X-Farcall-Server"),
        (vec![server], r#"{"addr":"10.0.0.1:7001"}"#, "both"),
        (vec![], "{", "line 1 column 1"),
        (vec![], r#"{"addr":"10.0.0.1:7001""#, "column"),
        (vec![], r#"["Arith","","10.0.0.1:1"]"#, "a list"),
        (vec![], "null", "line 1"),
        (vec![], "<html><body>It works!</body></html>", "line 1 column 1"),
        (vec![], r#"{"addr":"10.0.0.1:7001,10.0.0.2:7001"}"#, "','"),
        (vec![], r#"{"addr":"10.0.0.1:7001","id":"a\u0000b"}"#, "control"),
        (vec![], r#"{"addr":"10.0.0.1:7001","weight":-1}"#, "`-1`"),
        (vec![], r#"{"service":"Arith"}"#, "addr"),
    ] {
        let answer = post(&running, &headers, body).await;
        assert_eq!(answer.status, 400, "{headers:?} {body} {answer:?}");
        assert!(answer.error().contains(part), "{headers:?} {body}: {}", answer.error());
    }
    assert_eq!(running.registry.counts().instances, 0);
    assert_eq!(running.get("/registry").await.header("x-farcall-rev"), Some("0"));
}

#[tokio::test]
async fn list_too_long_for_a_header_is_only_in_the_body() {
    let running = start(RegistryOptions::default()).await;
    for n in 0..460 {
        let address = format!("10.0.0.1:{}", 10_000 + n);
        running.registry.register(serde_json::from_value(json!({"addr": address})).unwrap()).unwrap();
        let answer = running.get("/registry").await;
        assert!(answer.head_bytes() < 3 * 1024, "{}: a proxy that reads 4 KiB adds headers", n + 1);
    }
    let answer = running.get("/registry").await;
    assert_eq!(answer.header("x-farcall-servers"), None);
    assert_eq!(answer.header("x-farcall-servers-omitted"), Some("1"));
    assert_eq!(answer.header("x-farcall-server-count"), Some("460"));
    assert_eq!(answer.json().as_array().unwrap().len(), 460);
}

#[tokio::test]
async fn path_of_the_simple_interface_can_be_changed() {
    let running = start(RegistryOptions::default().simple_path("/_farcall_/servers")).await;
    assert_eq!(running.get("/_farcall_/servers").await.status, 200);
    assert_eq!(running.get("/registry").await.status, 404);
}
